"""Files belong to one case, and go when their time has come: wholly, once, and with a line in the evidence."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import insert, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.submission import State
from gateway.errors import Conflict, InvalidRequest, Unavailable
from gateway.storage import Store
from gateway.storage.blobs import Blobs
from gateway.storage.tables import blobs as blob_table
from gateway.storage.tables import evidence, submissions
from gateway.submissions import disposal as disposing
from gateway.submissions.checks import size_problems
from gateway.submissions.disposal import Disposal, Terms
from gateway.submissions.materials import Blob, Materials
from gateway.submissions.uploads import Piece, Uploads, Wish
from gateway.telemetry import Metrics
from tests.support.clock import ManualClock
from tests.support.uploads import AGENCY, LIMIT, PDF, append, breaking, files_in, upload, uploads_over, whole

TERMS = Terms(unfinished=timedelta(hours=24), orphan=timedelta(hours=72), retention=timedelta(days=30))
DAY = 86400


def disposal_over(store: Store, blobs: Blobs, clock: ManualClock) -> Disposal:
    return Disposal(store=store, blobs=blobs, clock=clock, terms=TERMS, metrics=Metrics(CollectorRegistry()))


@pytest.fixture
def disposal(sqlite_store: Store, blobs: Blobs, clock: ManualClock) -> Disposal:
    return disposal_over(sqlite_store, blobs, clock)


async def case_with(store: Store, materials: Materials, clock: ManualClock, case: str, *blobs: Blob) -> dict[str, str]:
    """Write a case that has these files."""
    row = {
        "id": case, "client_id": "agency", "item_code": "i", "client_reference": case, "digest": "",
        "state": "ACCEPTED",
        "mode": "online", "channel": "api", "origin_code": "440100", "handling_region": "foshan",
        "handling_code": "440600", "applicant_ref": "", "body": b"", "mapping_version": "", "last_seq": 1,
        "created_at": clock(), "updated_at": clock(),
    }  # fmt: skip

    def unit(tx: Any) -> dict[str, str]:
        tx.execute(insert(submissions).values(row))
        return materials.belong(tx, case, blobs)

    return await store.write(unit)


async def state_of(store: Store, blob_id: str) -> str | None:
    query = select(blob_table.c.state).where(blob_table.c.id == blob_id)
    return await store.read(lambda tx: tx.execute(query).scalar_one_or_none())


async def rows_of_evidence(store: Store) -> list[dict[str, Any]]:
    query = select(evidence.c.what).where(evidence.c.action == "materials.delete").order_by(evidence.c.recorded_at)
    return await store.read(lambda tx: [row.what for row in tx.execute(query)])


async def set_state(store: Store, case: str, state: State, clock: ManualClock) -> None:
    changed = update(submissions).where(submissions.c.id == case).values(state=state, updated_at=clock())
    await store.write(lambda tx: tx.execute(changed))


# --- belonging -----------------------------------------------------------------------------------------------------


async def test_the_same_bytes_in_one_case_are_kept_once(
    sqlite_store: Store, uploads: Uploads, materials: Materials, clock: ManualClock, disposal: Disposal, folder: Path
) -> None:
    one, two, other = [await upload(uploads, content) for content in (PDF, PDF, PDF + b"x")]
    kept = await case_with(sqlite_store, materials, clock, "C1", one, two, other, one)
    assert kept == {one.id: one.id, two.id: one.id, other.id: other.id}
    await disposal.tidy()
    assert [path.split("/")[0] for path in files_in(folder)] == sorted([one.id, other.id])
    assert await whole(materials.open(kept[two.id])) == PDF
    assert (await materials.show(AGENCY, two.id)).sha256 == one.sha256, "a repeated application still finds it"


async def test_a_file_that_came_later_is_the_one_that_the_case_has_already(
    sqlite_store: Store, uploads: Uploads, materials: Materials, clock: ManualClock
) -> None:
    one = await upload(uploads, PDF)
    await case_with(sqlite_store, materials, clock, "C1", one)
    later = await upload(uploads, PDF)
    assert await sqlite_store.write(lambda tx: materials.belong(tx, "C1", [later, one])) == {
        later.id: one.id,
        one.id: one.id,
    }


async def test_a_file_of_one_case_cannot_be_had_by_another_nor_deleted(
    sqlite_store: Store, uploads: Uploads, materials: Materials, clock: ManualClock
) -> None:
    blob = await upload(uploads, PDF)
    await case_with(sqlite_store, materials, clock, "C1", blob)
    with pytest.raises(InvalidRequest) as refused:
        await case_with(sqlite_store, materials, clock, "C2", blob)
    assert [problem.code for problem in refused.value.problems] == ["blob_used"]
    with pytest.raises(Conflict):
        await uploads.drop(AGENCY, blob.id)
    assert (await materials.show(AGENCY, blob.id)).case == "C1"


async def test_the_files_of_a_case_are_bounded_together(
    sqlite_store: Store, uploads: Uploads, blobs: Blobs, sealer: Sealer, clock: ManualClock
) -> None:
    """Two of the same bytes count once."""
    materials = Materials(sqlite_store, blobs, sealer, 2 * len(PDF))
    same, again = [await upload(uploads, PDF) for _ in range(2)]
    larger = await upload(uploads, PDF + b"x")
    await case_with(sqlite_store, materials, clock, "C1", same, again)
    with pytest.raises(InvalidRequest) as refused:
        await sqlite_store.write(lambda tx: materials.belong(tx, "C1", [larger]))
    [problem] = refused.value.problems
    assert (problem.code, "limits.case_bytes" in problem.reason) == ("case_limit", True)
    assert (await materials.show(AGENCY, larger.id)).case is None


def test_a_file_that_is_too_large_for_the_region_is_named_with_the_limit() -> None:
    [problem] = size_problems([10, 11], "foshan", 10)
    assert (problem.field, problem.code) == ("materials.1.blob", "region_limit")
    assert problem.reason == "has 11 bytes; region foshan takes files of 10 bytes at most"


# --- going ---------------------------------------------------------------------------------------------------------


async def test_an_unfinished_upload_ends_after_its_time(
    sqlite_store: Store, uploads: Uploads, clock: ManualClock, disposal: Disposal, folder: Path
) -> None:
    begun = await uploads.begin(AGENCY, Wish("a", "application/pdf"))
    await append(uploads, begun.id, 0, PDF)
    clock.advance(DAY - 1)
    await disposal.tidy()
    assert await state_of(sqlite_store, begun.id) == "open"
    clock.advance(1)
    await disposal.tidy()
    assert await state_of(sqlite_store, begun.id) is None
    assert files_in(folder) == []


async def test_a_file_in_one_request_is_given_up_soon_after_its_process_has_died(
    sqlite_store: Store, uploads: Uploads, clock: ManualClock, disposal: Disposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows its id, so nobody can go on; while it is there it counts as unfinished."""

    async def died(*_: object) -> None:
        """Clean up nothing."""

    monkeypatch.setattr(Uploads, "_abandon", died)
    with pytest.raises(ConnectionResetError):
        await uploads.take(
            AGENCY, Wish("a", "application/pdf"), Piece(0, breaking(PDF, ConnectionResetError()), last=True)
        )
    [blob_id] = await sqlite_store.read(lambda tx: list(tx.execute(select(blob_table.c.id)).scalars()))
    clock.advance(300)
    await disposal.tidy()
    assert await state_of(sqlite_store, blob_id) == "open"
    clock.advance(400)
    await disposal.tidy()
    assert await state_of(sqlite_store, blob_id) is None


async def test_a_file_that_no_case_has_goes_and_one_of_an_open_case_stays(
    sqlite_store: Store, uploads: Uploads, materials: Materials, clock: ManualClock, disposal: Disposal, folder: Path
) -> None:
    orphan, used = await upload(uploads, PDF), await upload(uploads, PDF + b"used")
    await case_with(sqlite_store, materials, clock, "C1", used)
    clock.advance(400 * DAY)
    await disposal.tidy()
    assert [await state_of(sqlite_store, blob.id) for blob in (orphan, used)] == [None, "stored"]
    assert await whole(materials.open(used.id)) == PDF + b"used"
    assert await rows_of_evidence(sqlite_store) == [
        {"files": 1, "bytes": len(PDF), "why": {"orphan": 1}, "cases": []}
    ]  # fmt: skip


async def test_a_file_that_a_draft_holds_stays_until_the_term_of_the_draft_is_over(
    sqlite_store: Store, uploads: Uploads, clock: ManualClock, disposal: Disposal, folder: Path
) -> None:
    kept = await upload(uploads, PDF)
    held = update(blob_table).values(held_until=clock() + timedelta(days=14))
    await sqlite_store.write(lambda tx: tx.execute(held).rowcount)
    states = []
    for days in (13, 1):
        clock.advance(days * DAY)
        await disposal.tidy()
        states.append(await state_of(sqlite_store, kept.id))
    assert (states, files_in(folder)) == (["stored", None], [])


@pytest.mark.parametrize("end", [State.COMPLETED, State.NOT_ACCEPTED, State.WITHDRAWN])
async def test_the_files_of_a_case_go_some_time_after_its_end_and_their_digests_stay(
    end: State, sqlite_store: Store, uploads: Uploads, materials: Materials, clock: ManualClock, disposal: Disposal,
    folder: Path,
) -> None:  # fmt: skip
    blob = await upload(uploads, PDF)
    await case_with(sqlite_store, materials, clock, "C1", blob)
    clock.advance(400 * DAY)
    await set_state(sqlite_store, "C1", end, clock)
    clock.advance(30 * DAY - 1)
    await disposal.tidy()
    assert await state_of(sqlite_store, blob.id) == "stored"
    clock.advance(1)
    await disposal.tidy()
    assert files_in(folder) == []
    left = await materials.show(AGENCY, blob.id)
    assert (left.state, left.case, left.sha256, left.name) == ("deleted", "C1", blob.sha256, "")
    with pytest.raises(Unavailable):
        await whole(materials.open(blob.id))
    assert await rows_of_evidence(sqlite_store) == [
        {"files": 1, "bytes": len(PDF), "why": {"retention": 1}, "cases": ["C1"]}
    ]  # fmt: skip


async def test_a_deletion_that_was_broken_off_is_finished_by_the_next_look_and_told_once(
    sqlite_store: Store, uploads: Uploads, blobs: Blobs, clock: ManualClock, disposal: Disposal, folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The process dies after the mark, then after the bytes are gone; two replicas may look at the same time."""
    blob = await upload(uploads, PDF)
    clock.advance(4 * DAY)
    for place in ("_deleted", "_note"):
        with monkeypatch.context() as patch:
            patch.setattr(Disposal, place, _death)
            with pytest.raises(_Death):
                await disposal.tidy()
        assert await state_of(sqlite_store, blob.id) == "deleting"
        assert not await rows_of_evidence(sqlite_store)
    assert files_in(folder) == []
    for replica in (disposal_over(sqlite_store, blobs, clock), disposal):
        await replica.tidy()
    assert await state_of(sqlite_store, blob.id) is None
    assert len(await rows_of_evidence(sqlite_store)) == 1


class _Death(Exception):
    """What ends a process, as far as a test can."""


def _death(*_: object) -> Any:
    raise _Death


async def test_files_that_cannot_be_deleted_now_are_deleted_later(
    sqlite_store: Store, uploads: Uploads, blobs: Blobs, clock: ManualClock, disposal: Disposal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    blob = await upload(uploads, PDF)
    clock.advance(4 * DAY)

    async def away(_blobs: Blobs, _blob_id: str) -> None:
        raise Unavailable("The place for files does not answer just now.")

    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "drop_all", away)
        await disposal.tidy()
    assert await state_of(sqlite_store, blob.id) == "deleting"
    await disposal.tidy()
    assert await state_of(sqlite_store, blob.id) is None


async def test_many_files_go_in_batches_each_with_its_evidence(
    sqlite_store: Store, uploads: Uploads, clock: ManualClock, disposal: Disposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disposing, "BATCH", 2)
    for _ in range(5):
        await upload(uploads, PDF)
    clock.advance(4 * DAY)
    await disposal.tidy()
    assert [row["files"] for row in await rows_of_evidence(sqlite_store)] == [2, 2, 1]
    assert orjson.dumps(await sqlite_store.read(disposing.figures)) == b"{}"


async def test_either_engine_finds_what_is_due(store: Store, blobs: Blobs, sealer: Sealer, clock: ManualClock) -> None:
    """One of each kind is due, and one of each is not."""
    uploads, materials = uploads_over(store, blobs, sealer, clock), Materials(store, blobs, sealer, LIMIT)
    begun = await uploads.begin(AGENCY, Wish("a", "application/pdf"))
    orphan, ended, running, twin = [await upload(uploads, PDF + name) for name in (b"1", b"2", b"3", b"3")]
    await case_with(store, materials, clock, "C1", ended)
    await case_with(store, materials, clock, "C2", running, twin)
    await set_state(store, "C1", State.COMPLETED, clock)
    clock.advance(31 * DAY)
    fresh, going = await upload(uploads, PDF), await uploads.begin(AGENCY, Wish("b", "application/pdf"))
    await disposal_over(store, blobs, clock).tidy()
    left = [await state_of(store, one.id) for one in (begun, orphan, ended, twin, running, fresh, going)]
    assert left == [None, None, "deleted", "deleted", "stored", "stored", "open"]
    [row] = await rows_of_evidence(store)
    assert row["why"] == {"unfinished": 1, "orphan": 1, "retention": 1, "twin": 1}
    assert row["cases"] == ["C1", "C2"]
