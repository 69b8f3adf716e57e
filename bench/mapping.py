"""How fast the mapping engine converts, and whether it keeps anything.

JSON: guangdong/organisation (over forty fields, three shareholders) both ways, schema and character checks included,
against a function written by hand that does the same mapping. XML: a case of Foshan of 7 KB, from bytes to a validated
canonical document, against xmlschema's `to_dict`, which validates and gives a dictionary. The two sides of a pair take
turns in short rounds, and the median of the rounds' ratios counts, because other work disturbs a shared machine.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import xmlschema

from bench import hand_written
from bench.report import report, row
from gateway.mapping import Pack
from gateway.mapping.packs import packs_of, read_ground
from gateway.mapping.source import read_files

MAPPINGS = Path(__file__).parents[1] / "mappings"
ROUNDS = 15
ROUND_SECONDS = 0.25
XML_BYTES = 7_000
COMPILE_SECONDS = 1.0
MILLION = 1_000_000
WARM_UP = 50_000

Work = Callable[[], Any]


def per_second(work: Work) -> float:
    """Return how often the work is done in a second, over one round."""
    count, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < ROUND_SECONDS:
        for _ in range(20):
            work()
        count += 20
    return count / spent


def duel(name: str, ours: Work, theirs: Work, bar: float) -> dict[str, Any]:
    """Measure two works in turns; the median ratio counts."""
    rounds = [(per_second(ours), per_second(theirs)) for _ in range(ROUNDS)]
    middle = sorted(rounds, key=lambda pair: pair[0] / pair[1])[ROUNDS // 2]
    return row(name, *middle, "/s", bar, at_least=True)


def pair_of(message: str, example: str) -> tuple[dict[str, Any], bytes]:
    """Return an example: ours, and theirs as bytes."""
    folder = MAPPINGS / message / "examples"
    theirs = next(path for path in folder.glob(f"{example}.region.*"))
    return orjson.loads((folder / f"{example}.canonical.json").read_bytes()), theirs.read_bytes()


def json_duel(pack: Pack) -> dict[str, Any]:
    """Both directions of one JSON pack, against the same by hand."""
    ours, raw = pair_of("guangdong/organisation", "enterprise")
    theirs = orjson.loads(raw)
    if hand_written.to_canonical(theirs) != pack.to_canonical(theirs) or not same(
        hand_written.to_region(ours), pack.to_region(ours)
    ):
        raise AssertionError("the two do not do the same")

    def engine() -> None:
        pack.to_canonical(theirs)
        pack.to_region(ours)

    def by_hand() -> None:
        hand_written.to_canonical(theirs)
        hand_written.to_region(ours)

    return duel("JSON, 40 fields and 3 shareholders, both ways, against Python by hand", engine, by_hand, 0.4)


def same(one: dict[str, Any], other: Any) -> bool:
    """Compare two documents; the order of extra attributes says nothing."""
    return {**one, "attributes": sorted(one["attributes"])} == {**other, "attributes": sorted(other["attributes"])}


def xml_duel(pack: Pack) -> dict[str, Any]:
    """Bytes to canonical, against the library that describes the schema."""
    ours, _ = pair_of("foshan/submission", "person-at-a-window")
    document = grown(pack, ours)
    schema = xmlschema.XMLSchema10(str(MAPPINGS / "foshan/submission/schema.xsd"), defuse="always")
    name = f"XML of {len(document)} bytes to a validated canonical document, against xmlschema to_dict"
    return duel(name, lambda: pack.to_canonical(document), lambda: schema.to_dict(document.decode()), 15)


def grown(pack: Pack, ours: dict[str, Any]) -> bytes:
    """Return a document of the wanted size: the same case with more form fields and materials."""
    form, materials = dict(ours["form"]), list(ours["materials"])
    for number in range(1, 1_000):
        document = pack.to_region({**ours, "form": form, "materials": materials})
        if not isinstance(document, bytes):
            raise TypeError("Foshan speaks XML")
        if len(document) >= XML_BYTES:
            return document
        form[f"field{number}"] = f"填写的内容 {number}"
        materials.append({**ours["materials"][0], "code": f"M{number}"})
    raise AssertionError("it never grew")


def compile_all() -> dict[str, Any]:
    """All packs of all regions, read, compiled and tried with their examples; the limit is absolute."""
    seconds = []
    count = 0
    for _ in range(3):
        begun = time.perf_counter()
        ground = read_ground(read_files(MAPPINGS))
        count = sum(len(packs_of(ground, region)) for region in ground.files.regions())
        seconds.append(time.perf_counter() - begun)
    name = f"all {count} packs read, compiled and tried with their examples, against the limit"
    return row(name, min(seconds), COMPILE_SECONDS, "s", 1.0)


def megabytes() -> float:
    """Return this process's resident memory in MB (VmRSS)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1024


def memory(pack: Pack) -> dict[str, Any]:
    """A million different documents, there and back: what is resident at the end, against after the warm-up."""
    ours = orjson.loads((MAPPINGS / "guangdong/receipt/examples/received.canonical.json").read_bytes())

    def convert(numbers: Iterator[int]) -> float:
        for number in numbers:
            pack.to_canonical(pack.to_region({**ours, "submission_id": f"S{number}", "number": f"N{number}"}))
        gc.collect()
        return megabytes()

    warm = convert(iter(range(WARM_UP)))
    return row(
        "resident after a million documents, against after the first",
        convert(iter(range(WARM_UP, MILLION))),
        warm,
        "MB",
        1.02,
    )


def main() -> None:
    """Measure, print, write bench/results/mapping.json."""
    ground = read_ground(read_files(MAPPINGS))
    guangdong, foshan = packs_of(ground, "guangdong"), packs_of(ground, "foshan")
    results = [
        json_duel(guangdong["organisation"]),
        xml_duel(foshan["submission"]),
        compile_all(),
        memory(guangdong["receipt"]),
    ]
    sys.exit(0 if report("mapping", results) else 1)


if __name__ == "__main__":
    main()
