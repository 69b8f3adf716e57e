"""What every benchmark prints and writes."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def row(name: str, own: float, their: float, unit: str, bar: float | None, *, at_least: bool = False) -> dict[str, Any]:
    """Return one result; without a bar it is there to be read, and holds.

    The ratio is ours to theirs; it must not exceed the bar, or, with `at_least`, must reach it.
    """
    ratio = own / their
    holds = bar is None or (ratio >= bar if at_least else ratio <= bar)
    return {
        "name": name, "ours": round(own, 3), "theirs": round(their, 3), "unit": unit, "ratio": round(ratio, 3),
        "bar": bar, "holds": holds,
    }  # fmt: skip


def report(name: str, results: list[dict[str, Any]]) -> bool:
    """Print the results, write results/<name>.json, and return whether all bars hold."""
    machine = {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine, "results": results}, indent=2)
    (RESULTS / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
    for result in results:
        verdict = "holds" if result["holds"] else "MISSED"
        print(
            f"{result['name']}: {result['ours']} {result['unit']} against {result['theirs']}, "
            f"ratio {result['ratio']}, bar {result['bar']}: {verdict}"
        )
    return all(result["holds"] for result in results)
