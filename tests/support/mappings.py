"""A small mappings folder on disk that a test changes, and a gateway's replica that uses it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from prometheus_client import CollectorRegistry

from gateway.mapping.library import Library, PackSet, read_sets
from gateway.ports import Adapter, Clock, StatusFeed, SubmissionTarget
from gateway.regions import Region, read_again
from gateway.storage import Store
from gateway.telemetry import Metrics
from gateway.versions import Read, Versions
from tests.support.cases import REGION

VOCABULARY = """
[submission]
zh = "申办"
en = "submission"
flow = "ours-to-theirs"
[submission.fields]
id = { type = "string", required = true, sensitivity = "none", zh = "编号", en = "id", meaning = "Our number" }

[receipt]
zh = "回执"
en = "receipt"
flow = "theirs-to-ours"
[receipt.fields]
submission_id = { type = "string", required = true, sensitivity = "none", zh = "编号", en = "id", meaning = "Ours" }
number = { type = "string", required = true, sensitivity = "none", zh = "流水号", en = "number", meaning = "Theirs" }

[event]
zh = "办理状态"
en = "status event"
flow = "theirs-to-ours"
[event.fields]
event_id = { type = "string", required = true, sensitivity = "none", zh = "状态编号", en = "event", meaning = "Its id" }
submission_id = { type = "string", required = true, sensitivity = "none", zh = "编号", en = "id", meaning = "Ours" }
number = { type = "string", required = true, sensitivity = "none", zh = "流水号", en = "number", meaning = "Theirs" }
state = { type = "code", table = "state", required = true, sensitivity = "none", zh = "步", en = "to", meaning = "It" }
occurred_at = { type = "datetime", required = true, sensitivity = "none", zh = "时间", en = "time", meaning = "When" }
"""

STATES = """
zh = "办理环节"
en = "state"
source = "invented"
[columns]
foshan = "digits"
[codes]
RECEIVED = { zh = "接收", en = "received", foshan = "1" }
ACCEPTED = { zh = "受理", en = "accepted", foshan = "2" }
"""

PACKS: Mapping[str, tuple[Mapping[str, str], str, str]] = {
    "submission": ({"id": '"wwbh"'}, '{"id": "KY1"}', '{"wwbh": "KY1"}'),
    "receipt": (
        {"submission_id": '"wwbh"', "number": '"lsh"'},
        '{"submission_id": "KY1", "number": "7"}',
        '{"wwbh": "KY1", "lsh": "7"}',
    ),
    "event": (
        {
            "event_id": '"sjbh"',
            "submission_id": '"wwbh"',
            "number": '"lsh"',
            "state": '{ at = "ztdm", table = "state.foshan" }',
            "occurred_at": '{ at = "fssj", as = "datetime:rfc3339Z" }',
        },
        '{"event_id": "e1", "submission_id": "KY1", "number": "7", "state": "ACCEPTED", '
        '"occurred_at": "2026-03-02T01:00:00Z"}',
        '{"sjbh": "e1", "wwbh": "KY1", "lsh": "7", "ztdm": "2", "fssj": "2026-03-02T01:00:00Z"}',
    ),
}
"""Message → rules, and an example in both forms. All names of theirs are texts that stand nowhere else."""


class MappingFolder:
    """A mappings folder of one region with a pack for each message of a submission's life."""

    def __init__(self, root: Path, region: str = REGION) -> None:
        self.root, self.region = root, region
        self.write("vocabulary.toml", VOCABULARY)
        self.write("tables/state.toml", STATES)
        for message, (rules, ours, theirs) in PACKS.items():
            lines = "\n".join(f"{name} = {place}" for name, place in rules.items())
            properties = ", ".join(f'"{name}": {{"type": "string"}}' for name in _names(theirs))
            self.write(f"{region}/{message}/rules.toml", f"[rules]\n{lines}\n")
            self.write(f"{region}/{message}/losses.toml", "")
            self.write(f"{region}/{message}/schema.json", f'{{"type": "object", "properties": {{{properties}}}}}')
            self.write(f"{region}/{message}/examples/one.canonical.json", ours)
            self.write(f"{region}/{message}/examples/one.region.json", theirs)

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def rename(self, message: str, old: str, new: str) -> None:
        """Let the region call a field of a message otherwise: in rules, schema and examples."""
        rename(self.root / self.region / message, old, new)

    def spoil(self, message: str) -> None:
        """Break the rules of a message."""
        self.write(f"{self.region}/{message}/rules.toml", '[rules]\nid = "nowhere"\nidd = "wwbh"\n')

    def drop(self, message: str) -> None:
        """Take a message away."""
        shutil.rmtree(self.root / self.region / message)


def rename(folder: Path, old: str, new: str) -> None:
    """Replace a name in all files below a pack's folder, where it must stand."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert any(f'"{old}"' in path.read_text(encoding="utf-8") for path in files)
    for path in files:
        path.write_text(path.read_text(encoding="utf-8").replace(f'"{old}"', f'"{new}"'), encoding="utf-8")


def _names(example: str) -> list[str]:
    return list(json.loads(example))


@dataclass
class Replica:
    """One process of the gateway, as far as its mappings go: it starts with the folder as it is."""

    store: Store
    clock: Clock
    folder: MappingFolder
    read: Read | None = None
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        sets, problems = read_sets(self.folder.root, {REGION: self.folder.region})
        assert problems == []
        self.library = Library(sets, self.clock())
        adapter = Adapter(submissions=cast("SubmissionTarget", object()), feed=cast("StatusFeed", object()))
        self.region = cast(
            "Region",
            SimpleNamespace(
                id=REGION, folder=self.folder.region, adapter=adapter, certificate_words={},
                packs=self.library.live(REGION),
            ),
        )  # fmt: skip
        metrics = Metrics(self.registry)
        on_disk = partial(read_again, self.folder.root, {REGION: self.region}, self.library, metrics.unknown_code)
        self.versions = Versions(
            library=self.library, read=self.read or on_disk, store=self.store, clock=self.clock, metrics=metrics,
            notice=metrics.unknown_code,
        )  # fmt: skip

    @property
    def packs(self) -> PackSet:
        """What is in use."""
        return self.region.packs.now()

    def counted(self, name: str, **labels: str) -> float:
        """Return a figure."""
        return self.registry.get_sample_value(name, labels) or 0
