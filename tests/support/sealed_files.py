"""One world of seals for tests of certificate files, with a good certificate in it, and the register that knows it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.certificates.files.registry import Registry, load_seals
from gateway.certificates.files.verdict import FileVerdict
from gateway.certificates.files.verifier import verify
from gateway.sandbox.sealed_files import Certificate, SealedFiles
from gateway.sandbox.sealed_files.hostile import HostileFiles

NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
TYPE = "11100000000013127D001"
OWNER, SECOND_OWNER = "11440000MBT400007D", "11440100MBT40100XX"
CERTIFICATE = Certificate(
    identifier=f"1.2.156.3005.2.{TYPE}.{OWNER}.SBX000000000101.001.W",
    type_code=TYPE,
    type_name="中华人民共和国居民身份证",
    holder="陈小明",
    fields={"公民身份号码": "44010619900101900X", "住址": "广州市天河区（沙箱）"},
)


@dataclass(frozen=True, repr=False)
class SealedWorld:
    """A world, and who believes it."""

    files: SealedFiles
    registry: Registry
    hostile: HostileFiles

    def verdict(self, data: bytes) -> FileVerdict:
        """Return the verdict on a file an hour after it was sealed."""
        return verify(data, self.registry, NOW + timedelta(hours=1))


def sealed_world(folder: Path) -> SealedWorld:
    """Mint a world with two owners."""
    files = SealedFiles("guangdong", NOW)
    files.add_owner(OWNER, "广东省公安厅（沙箱）", [TYPE])
    files.add_owner(SECOND_OWNER, "广州市政务服务和数据管理局（沙箱）", [TYPE[:18] + "*"])
    registry = load_seals(files.write_register(folder), regions={"guangdong"}, types={TYPE})
    return SealedWorld(files, registry, HostileFiles(files, CERTIFICATE, OWNER))


def moved(registry: Registry, region: str) -> Registry:
    """Return the register as it is when all its seals and anchors are another region's."""
    seals = {name: replace(seal, region=region) for name, seal in registry.seals.items()}
    return replace(registry, seals=seals, regions=dict.fromkeys(registry.regions, frozenset({region})))
