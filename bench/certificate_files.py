"""How long the verification of a certificate file takes: an OFD of a megabyte, a small one, and a PDF.

The bar is a time and no ratio: verification stands in the way of a person at a window. So "theirs" is the bar itself.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.report import report, row
from gateway.certificates.files.registry import Registry, load_seals
from gateway.certificates.files.verifier import verify
from gateway.sandbox.sealed_files import Certificate, SealedFiles

ROUNDS = 60
LARGE = 1 << 20
BAR_MS = 20.0
"""Milliseconds that an OFD of a megabyte may take."""
NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
OWNER, TYPE = "11440000MBT400007D", "11100000000013127D001"
CERTIFICATE = Certificate(
    f"1.2.156.3005.2.{TYPE}.{OWNER}.SBX000000000101.001.W", TYPE, "中华人民共和国居民身份证", "陈小明", {"编号": "1"}
)


def milliseconds(data: bytes, registry: Registry) -> float:
    """Return the median time of a verdict. Refuses to measure one that is not genuine."""
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        verdict = verify(data, registry, NOW)
        times.append(1000 * (time.perf_counter() - begin))
        if not verdict.genuine:
            raise SystemExit(f"not genuine: {verdict}")
    return statistics.median(times)


def results() -> list[dict[str, Any]]:
    """Mint the files, measure, and return the rows."""
    world = SealedFiles("guangdong", NOW)
    world.add_owner(OWNER, "广东省公安厅（沙箱）", [TYPE])
    with tempfile.TemporaryDirectory() as folder:
        registry = load_seals(world.write_register(Path(folder)), regions={"guangdong"}, types={TYPE})
    scan = b"\xff\xd8\xff" + os.urandom(LARGE)
    files = [
        ("verify an OFD of 1 MB (GB/T 38540)", world.sealed_ofd(CERTIFICATE, OWNER, scan=scan), BAR_MS),
        ("verify an OFD of 1 MB (GM/T 0031)", world.sealed_ofd(CERTIFICATE, OWNER, scan=scan, old=True), BAR_MS),
        ("verify an OFD of 5 KB", world.sealed_ofd(CERTIFICATE, OWNER), None),
        ("verify a PDF of 31 KB (PAdES)", world.sealed_pdf(CERTIFICATE, OWNER), None),
    ]
    return [
        row(name, milliseconds(data, registry), BAR_MS, "ms", 1.0 if bar else None) for name, data, bar in files
    ]  # fmt: skip


def main() -> None:
    """Measure, print, write bench/results/certificate_files.json."""
    sys.exit(0 if report("certificate_files", results()) else 1)


if __name__ == "__main__":
    main()
