"""Which version of the mappings reads an event: the one that its case began with, as soon as that case is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.errors import FieldProblem, MappingFailed
from gateway.mapping.library import PackSet
from gateway.mapping.packs import Pack
from gateway.ports import RegionDocument
from gateway.regions import Region
from gateway.storage import Store
from gateway.submissions.readings import NOTHING_KEPT, EventReader, Reading
from gateway.versions import UNPINNED
from tests.support.cases import REGION, add_case, number
from tests.support.clock import ManualClock


@dataclass(frozen=True)
class Form:
    """A pack that reads events whose state has this name. Its own name is its version, and part of what it reads."""

    version: str

    def to_canonical(self, document: RegionDocument) -> Mapping[str, Any]:
        if isinstance(document, dict) and self.version in document:
            return {**document, "state": document[self.version], "read_by": self.version}
        raise MappingFailed("unreadable", problems=[FieldProblem(self.version, "is required")])


def form(name: str) -> PackSet:
    """Return the set with this pack for events. Two sets may share a pack: what follows a dash is the set's alone."""
    return PackSet(REGION, name, cast("Mapping[str, Pack]", {"event": Form(name.partition("-")[0])}))


@dataclass
class Kept:
    """The sets on record, the last one first."""

    sets: Sequence[PackSet] = ()
    asked: list[str] = field(default_factory=list)

    async def find(self, _region: str, version: str) -> PackSet | None:
        self.asked.append(version)
        return next((packs for packs in self.sets if packs.version == version), None)

    async def on_record(self, _region: str, limit: int) -> Sequence[str]:
        return [packs.version for packs in self.sets][:limit]


class Desk:
    """A region's events, cases of ours, and a reader."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store, self.clock = store, clock
        self.kept = Kept()

    async def case(self, sequence: int, version: str) -> str:
        case = number(sequence, self.clock())
        await self.store.write(lambda tx: add_case(tx, case, self.clock(), mapping_version=version))
        return case

    async def read(self, in_use: PackSet, *documents: Mapping[str, Any], region: str = REGION) -> list[Reading]:
        place = cast("Region", SimpleNamespace(id=region, packs=in_use))
        return await EventReader(self.store, self.kept).read(place, [dict(one) for one in documents])

    async def reader_of(self, in_use: PackSet, document: Mapping[str, Any]) -> str | None:
        """Return which pack's reading counts, None for none."""
        (reading,) = await self.read(in_use, document)
        return None if reading.event is None else str(reading.event["read_by"])


@pytest.fixture
def desk(store: Store, clock: ManualClock, unblocked: None) -> Desk:
    return Desk(store, clock)


def said(case: str, **states: str) -> dict[str, Any]:
    """Return an event as a region sends it: the state under the names that its form, or forms, have for it."""
    return {"event_id": "e1", "submission_id": case, **states}


async def test_an_event_of_a_case_that_began_with_what_is_in_use_is_read_once(desk: Desk) -> None:
    """The rule: nothing is looked up but the case's own row."""
    case = await desk.case(1, "new")
    assert await desk.reader_of(form("new"), said(case, new="RECEIVED")) == "new"
    assert desk.kept.asked == []


async def test_an_event_is_read_with_what_its_case_began_with(desk: Desk) -> None:
    """Both could read it, and might understand it differently: only one of them is what the case was agreed in."""
    desk.kept.sets = [form("new"), form("old")]
    case = await desk.case(1, "old")
    assert await desk.reader_of(form("new"), said(case, new="RECEIVED", old="ACCEPTED")) == "old"


async def test_an_event_in_an_old_form_is_read_by_the_version_of_its_case(desk: Desk) -> None:
    """The one in use cannot even tell which case it is about."""
    desk.kept.sets = [form("newer"), form("old"), form("oldest")]
    case = await desk.case(1, "old")
    assert await desk.reader_of(form("new"), said(case, old="RECEIVED")) == "old"


async def test_an_event_in_an_old_form_of_a_case_that_began_with_another_is_not_guessed_at(desk: Desk) -> None:
    """That a version can read it is no proof that it was meant in it."""
    desk.kept.sets = [form("newer"), form("old")]
    case = await desk.case(1, "newer")
    (reading,) = await desk.read(form("new"), said(case, old="RECEIVED"))
    assert reading.event is None
    assert [problem.field for problem in reading.problems] == ["new"], "what is wrong is said of the version in use"


async def test_an_event_in_an_old_form_of_an_unknown_case_is_not_guessed_at(desk: Desk) -> None:
    desk.kept.sets = [form("old")]
    assert await desk.reader_of(form("new"), said("nobody's", old="RECEIVED")) is None


async def test_an_event_of_a_case_that_is_pinned_to_nothing_is_read_by_whatever_reads_it(desk: Desk) -> None:
    """It was ordered again and found at its region after all: nobody wrote down in which form."""
    desk.kept.sets = [form("old")]
    case = await desk.case(1, UNPINNED)
    assert await desk.reader_of(form("new"), said(case, old="RECEIVED")) == "old"
    assert await desk.reader_of(form("new"), said(case, new="RECEIVED")) == "new"


async def test_a_region_that_speaks_the_new_form_of_an_old_case_is_understood(desk: Desk) -> None:
    desk.kept.sets = [form("old")]
    case = await desk.case(1, "old")
    assert await desk.reader_of(form("new"), said(case, new="RECEIVED")) == "new"


@pytest.mark.parametrize(
    ("old", "new", "reader"),
    [
        ("unknown:77", "ACCEPTED", "new"),
        ("unknown:77", "unknown:77", "old"),
        ("ACCEPTED", "unknown:77", "old"),
    ],
)
async def test_a_code_that_was_put_into_the_tables_since_is_known_of_old_cases_too(
    desk: Desk, old: str, new: str, reader: str
) -> None:
    """The case that met the code is why somebody put it there."""
    desk.kept.sets = [form("old")]
    case = await desk.case(1, "old")
    assert await desk.reader_of(form("new"), said(case, old=old, new=new)) == reader


async def test_a_version_that_is_on_no_record_gives_way_to_the_one_in_use(desk: Desk) -> None:
    case = await desk.case(1, "lost")
    assert await desk.reader_of(form("new"), said(case, new="RECEIVED")) == "new"
    assert await desk.reader_of(form("new"), said(case, lost="RECEIVED")) is None


async def test_a_case_of_another_region_tells_nothing_about_the_version(desk: Desk) -> None:
    """What becomes of such an event is for the timeline to refuse; it is read as the region's events are now."""
    desk.kept.sets = [form("old")]
    case = await desk.case(1, "old")
    (reading,) = await desk.read(form("new"), said(case, new="RECEIVED", old="ACCEPTED"), region="guangdong")
    assert reading.event is not None
    assert reading.event["read_by"] == "new"


async def test_sets_that_read_events_alike_are_not_tried_again(desk: Desk) -> None:
    """Most reloads change some other pack."""
    desk.kept.sets = [form("new-2"), form("new-1"), form("old")]
    case = await desk.case(1, "new-1")
    assert await desk.reader_of(form("new-2"), said(case, new="RECEIVED")) == "new"
    assert await desk.reader_of(form("new-2"), said(case, old="RECEIVED")) is None


async def test_every_event_of_a_page_is_read_for_itself(desk: Desk) -> None:
    """In their order; one that cannot be read hides none of the others."""
    desk.kept.sets = [form("old")]
    cases = [await desk.case(1, "old"), await desk.case(2, "new")]
    page = [
        said(cases[0], old="A"),
        said(cases[1], other="B"),
        said(cases[1], new="C"),
        said(cases[0], new="D", old="E"),
    ]
    readings = await desk.read(form("new"), *page)
    assert [r.event["state"] if r.event else None for r in readings] == ["A", None, "C", "E"]
    assert all(reading.raw.startswith(b'{"event_id"') for reading in readings)


async def test_where_nothing_is_kept_the_version_in_use_reads_everything(desk: Desk) -> None:
    reader = EventReader(desk.store, NOTHING_KEPT)
    place = cast("Region", SimpleNamespace(id=REGION, packs=form("new")))
    case = await desk.case(1, "old")
    first, second = await reader.read(place, [said(case, new="RECEIVED"), said(case, old="RECEIVED")])
    assert first.event is not None
    assert second.event is None
