"""The documents of a decision: fetched once, held against what was listed, handed to the filer, gone with the case."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, select, update

from gateway.crypto.at_rest import Sealer
from gateway.errors import NotFound, RegionUncertain, RegionUnreachable
from gateway.ports import ResultDocument
from gateway.storage import Store
from gateway.storage.blobs import Blobs
from gateway.storage.places import open_blob_store
from gateway.storage.tables import blobs as blob_table
from gateway.storage.tables import case_errands, submission_events, submissions
from gateway.submissions import errands
from gateway.submissions.disposal import Disposal, Terms
from gateway.submissions.errands import Errands
from gateway.submissions.materials import Materials
from gateway.submissions.results import RESULTS, ResultDesk, ResultFetch, ResultsDue
from gateway.submissions.retry import RetryPolicy
from gateway.submissions.story import retold
from gateway.telemetry import Metrics
from tests.support.afterwards import AGENCY, STRANGER, Finished, region_that
from tests.support.cases import said
from tests.support.clock import ManualClock
from tests.support.uploads import LIMIT, uploads_over

DECISION = b"%PDF-1.4\n% the decision\n%%EOF\n"
LICENCE = b"%PDF-1.4\n% the licence that came out of it\n%%EOF\n"


def listed(code: str, content: bytes, media_type: str = "application/pdf") -> ResultDocument:
    return ResultDocument(code, f"{code}.pdf", media_type, len(content), hashlib.sha256(content).hexdigest())


@dataclass
class Cabinet:
    """A region's documents; `trouble` is raised by the next openings, one after another."""

    in_pieces: ClassVar[bool] = False
    files: dict[str, bytes] = field(default_factory=lambda: {"D1": DECISION, "L1": LICENCE})
    sent: dict[str, bytes] = field(default_factory=dict)
    trouble: list[Exception] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    async def list(self, number: str) -> Sequence[ResultDocument]:
        assert number == "FS-1"
        return [listed(code, content) for code, content in self.files.items()]

    async def open(self, _number: str, document: ResultDocument) -> AsyncGenerator[bytes, None]:
        self.opened.append(document.code)
        if self.trouble:
            raise self.trouble.pop(0)
        return self._pieces({**self.files, **self.sent}[document.code])

    async def _pieces(self, content: bytes) -> AsyncGenerator[bytes, None]:
        for begin in range(0, len(content), 7):
            yield content[begin : begin + 7]


class Room:
    """A case at a region with a cabinet, and one replica that runs errands."""

    def __init__(self, store: Store, sealer: Sealer, clock: ManualClock, folder: Path) -> None:
        self.cabinet = Cabinet()
        self.done = Finished(store, sealer, clock, region=region_that(results=self.cabinet))
        self.blobs = Blobs(open_blob_store("blobs", folder), sealer)
        self.materials = Materials(store, self.blobs, sealer, LIMIT)
        self.desk = ResultDesk(store, sealer, self.materials)
        self.store, self.clock = store, clock
        self.errands = self.replica()

    def replica(self) -> Errands:
        uploads = uploads_over(self.store, self.blobs, self.done.sealer, self.clock)
        note = self.done.events.note
        fetch = ResultFetch(
            store=self.store, regions=self.done.regions, uploads=uploads, note=note, clock=self.clock
        )  # fmt: skip
        retry = RetryPolicy(12, timedelta(seconds=1), timedelta(seconds=2), timedelta(hours=1))
        return Errands(store=self.store, runners={RESULTS: fetch}, retry=retry, note=note, clock=self.clock)

    async def order(self) -> None:
        def unit(tx: Connection) -> None:
            now = self.clock()
            errands.put(tx, submission_id=self.done.case, kind=RESULTS, region="foshan", now=now, due=now)

        await self.store.write(unit)

    async def run(self) -> None:
        self.clock.advance(5)
        await self.errands.turn()

    async def errand(self) -> tuple[str, str | None]:
        row = await self.store.read(lambda tx: tx.execute(select(case_errands)).one())
        return row.state, row.last_code


@pytest_asyncio.fixture
async def room(sqlite_store: Store, sealer: Sealer, clock: ManualClock, tmp_path: Path) -> Room:
    """Return a room whose case was decided, with the errand written."""
    made = Room(sqlite_store, sealer, clock, tmp_path)
    await made.done.open()
    await made.order()
    return made


async def content_of(room: Room, code: str) -> bytes:
    _, stream = await room.desk.open(AGENCY, room.done.case, code)
    return b"".join([piece async for piece in stream])


async def test_documents_are_fetched_and_handed_to_whoever_filed_the_case(room: Room, tmp_path: Path) -> None:
    assert (await room.desk.show(AGENCY, room.done.case)).state == "pending"
    await room.run()
    shown = await room.desk.show(AGENCY, room.done.case)
    assert (shown.state, [document.code for document in shown.documents]) == ("ready", ["D1", "L1"])
    assert shown.documents[0].sha256 == hashlib.sha256(DECISION).hexdigest()
    assert await content_of(room, "D1") == DECISION
    assert await room.done.facts() == [("results.ready", {"codes": ["D1", "L1"]})]
    kept = [path.read_bytes() for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert len(kept) == 2
    assert not any(b"decision" in content for content in kept), "sealed before it reaches the disk"


async def test_nobody_else_sees_them(room: Room) -> None:
    await room.run()
    with pytest.raises(NotFound):
        await room.desk.show(STRANGER, room.done.case)
    with pytest.raises(NotFound):
        await room.desk.open(STRANGER, room.done.case, "D1")
    with pytest.raises(NotFound):
        await room.desk.open(AGENCY, room.done.case, "nothing")


async def test_what_fails_is_fetched_again_and_what_is_here_is_not(room: Room) -> None:
    """The first document arrives, the second does not; the next attempt asks for the second alone."""
    room.cabinet.trouble = [RegionUnreachable("away")]
    await room.run()
    assert await room.errand() == ("open", "region.unreachable")
    await room.run()
    room.cabinet.trouble = [RegionUncertain("again")]
    await room.run()
    assert await room.errand() == ("done", "ok")
    assert room.cabinet.opened == ["D1", "D1", "L1"]
    assert [kind for kind, _ in await room.done.facts()] == ["results.ready"]


async def test_other_bytes_than_were_listed_are_never_handed_out(room: Room) -> None:
    room.cabinet.sent = {"D1": DECISION.replace(b"decision", b"decisiom")}
    await room.run()
    assert (await room.desk.show(AGENCY, room.done.case)).documents == []
    assert await room.errand() == ("open", "region.uncertain")
    room.cabinet.sent = {}
    await room.run()
    assert await content_of(room, "D1") == DECISION


async def test_a_file_that_may_not_be_taken_waits_for_a_person(room: Room) -> None:
    room.cabinet.files = {"D1": b"MZ\x90\x00 a program that calls itself a document"}
    await room.run()
    assert await room.errand() == ("dead", "region.refused")
    assert (await room.desk.show(AGENCY, room.done.case)).state == "failed"
    assert [kind for kind, _ in await room.done.facts()] == ["results.failed"]
    room.cabinet.files = {"D1": DECISION}
    assert await room.store.write(lambda tx: errands.again(tx, room.done.case, RESULTS, room.clock()))
    await room.run()
    assert await content_of(room, "D1") == DECISION


async def test_a_region_that_stays_away_is_given_up_after_the_patience(room: Room) -> None:
    room.cabinet.trouble = [RegionUnreachable("away")] * 10
    await room.run()
    room.clock.advance(3600)
    await room.run()
    assert await room.errand() == ("dead", "region.unreachable")


async def test_two_replicas_fetch_a_document_once(room: Room) -> None:
    """One is held up until its lease is over; another does the work; what the first brings then changes nothing."""
    slow = room.replica()
    [taken] = await room.store.write(lambda tx: errands.claim(tx, kind=RESULTS, owner="slow", now=room.clock()))
    finish = await slow._runners[RESULTS].run(taken)
    room.clock.advance(errands.LEASE.total_seconds() + 1)
    await room.run()
    await room.store.write(lambda tx: slow._settle(tx, taken, finish))
    assert [kind for kind, _ in await room.done.facts()] == ["results.ready"]
    of_the_case = select(blob_table.c.id).where(blob_table.c.case_id == room.done.case)
    assert len(await room.store.read(lambda tx: tx.execute(of_the_case).all())) == 2


async def test_documents_go_with_the_case_and_their_digest_stays(room: Room) -> None:
    await room.run()
    day = timedelta(days=1)
    disposal = Disposal(
        store=room.store, blobs=room.blobs, clock=room.clock, terms=Terms(day, day, day),
        metrics=Metrics(CollectorRegistry()),
    )  # fmt: skip
    await disposal.tidy()
    assert await content_of(room, "D1") == DECISION
    room.clock.advance(2 * day.total_seconds())
    await disposal.tidy()
    shown = await room.desk.show(AGENCY, room.done.case)
    assert [(document.state, bool(document.sha256)) for document in shown.documents] == [("deleted", True)] * 2
    with pytest.raises(NotFound):
        await room.desk.open(AGENCY, room.done.case, "D1")


@pytest.mark.parametrize(("state", "due"), [("ACCEPTED", False), ("COMPLETED", True), ("NOT_ACCEPTED", True)])
async def test_the_errand_is_written_with_the_step_that_decides(room: Room, state: str, due: bool) -> None:
    follower = ResultsDue(room.done.regions)

    def unit(tx: Connection) -> int:
        tx.execute(case_errands.delete())
        story = retold(room.done.sealer, tx, room.done.case)
        assert story is not None
        room.done.events.followers = (follower.keep,)
        first = room.clock.advance(1)
        tx.execute(update(submission_events).values(state="FORWARDED", case_state="FORWARDED"))
        tx.execute(update(submissions).values(state="FORWARDED"))
        room.done.events.from_region(tx, "foshan", said(room.done.case, "E-1", state, first), first)
        return len(tx.execute(select(case_errands)).all())

    assert await room.store.write(unit) == int(due)
