"""What callers, regions and operators see while the store cannot take anything, and what is there when it can again.

A disk that is full, a file that may only be read or cannot be opened, a PostgreSQL that is stopped, a place for files
that is gone: each is real where it can be, and what SQLite or PostgreSQL says comes from them. Whoever asks gets 503
with `Retry-After`, `/readyz` says why, nothing half is written, and whatever got a 2xx is there afterwards.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, select

from gateway import app
from gateway.config import Config
from gateway.errors import Unavailable
from gateway.opening import opened_store
from gateway.storage import Store, noticing, open_store
from gateway.storage.store import AWAY, FULL, READ_ONLY
from gateway.storage.tables import deliveries, metadata, nonces, submission_events, submission_materials, submissions
from tests.flows.flow_support import (
    AGENCY,
    SLIP,
    Answer,
    World,
    eventually,
    neighbourhood,
    prepare,
)
from tests.flows.test_bad_input import deliver, event, guangdong_message
from tests.flows.test_operations import seen_by_monitoring
from tests.support.databases import PostgresServer, postgres_server
from tests.support.few_regions import THREE
from tests.support.window import FOSHAN, PDF, browser, filled

pytestmark = pytest.mark.asyncio(loop_scope="session")

HERE = ("foshan", "guangdong", "hongkong", "qingyuan")
"""Callbacks, a feed that is polled, sealed callbacks, pulls: the ways in which regions reach the store."""

SHORT_LEASE = {"lease_seconds = 20": "lease_seconds = 1"}
"""What could not be written down is asked about when the lease of its attempt has run out."""


# --- a store that can be broken ------------------------------------------------------------------------------------


@dataclass
class Breakable:
    """The store of a gateway, with what happens in it before a unit."""

    inner: Store
    before_writes: Callable[[Connection], object] | None = None
    before_reads: Callable[[Connection], object] | None = None
    from_write: int = 0
    """How many writes still succeed; reads do so until then."""

    async def write(self, unit: Callable[[Connection], Any]) -> Any:
        if self.from_write:
            self.from_write -= 1
            return await self.inner.write(unit)
        return await self.inner.write(_after(self.before_writes, unit))

    async def read(self, unit: Callable[[Connection], Any]) -> Any:
        return await self.inner.read(unit if self.from_write else _after(self.before_reads, unit))

    async def migrate(self) -> None:
        await self.inner.migrate()

    async def revision(self) -> str | None:
        await self.read(lambda _tx: None)
        return await self.inner.revision()

    async def close(self) -> None:
        self.before_writes = self.before_reads = None
        await self.inner.close()


def _after(
    first: Callable[[Connection], object] | None, unit: Callable[[Connection], Any]
) -> Callable[[Connection], Any]:
    def both(tx: Connection) -> Any:
        if first is not None:
            first(tx)
        return unit(tx)

    return both if first is not None else unit


def _fills_the_disk(tx: Connection) -> None:
    """Need more pages than the file may have: what SQLite says of a disk that is full."""
    tx.exec_driver_sql("PRAGMA max_page_count=1").close()  # no fewer than there are
    tx.execute(nonces.insert().values(scope="test", value="x" * 1_000_000, expires_at=app.utc_now()))


def _may_only_read(tx: Connection) -> None:
    tx.exec_driver_sql("PRAGMA query_only=ON").close()
    try:
        tx.execute(nonces.delete())  # what a unit only reads would go through
    finally:  # a connection that may only read could not even begin to mend it
        tx.exec_driver_sql("PRAGMA query_only=OFF").close()


def _cannot_open(tx: Connection) -> None:
    tx.exec_driver_sql("ATTACH '/nowhere/at/all.db' AS gone").close()


@dataclass(frozen=True)
class Fault:
    """One way in which SQLite fails, and what is told of it."""

    writes: Callable[[Connection], object]
    told: str
    reads: Callable[[Connection], object] | None = None


FAULTS: Mapping[str, Fault] = {
    "full": Fault(_fills_the_disk, FULL),
    "read-only": Fault(_may_only_read, READ_ONLY),
    "gone": Fault(_cannot_open, AWAY, _cannot_open),
}


def _mended(tx: Connection) -> None:
    tx.exec_driver_sql("PRAGMA max_page_count=1073741823").close()


@dataclass
class Town:
    """A neighbourhood whose gateway has a store that can be broken."""

    world: World
    store: Breakable

    @asynccontextmanager
    async def broken(self, fault: Fault) -> AsyncIterator[None]:
        """Break the store; nothing at all is written meanwhile."""
        self.store.before_writes, self.store.before_reads = fault.writes, fault.reads
        with pytest.raises(Unavailable):  # behind what was under way
            await self.store.write(lambda _tx: None)
        before = await everything(self.world)
        yield
        after = await everything(self.world)
        assert [name for name in after if after[name] != before[name]] == []
        await self.mend()

    async def mend(self) -> None:
        """Have the store work again."""
        self.store.before_writes = self.store.before_reads = None
        await eventually(self._mended)

    async def _mended(self) -> bool | None:
        with suppress(Unavailable):  # a last write that fails takes along whoever shares its commit
            await self.store.inner.write(_mended)
            return True
        return None

    async def ready(self) -> tuple[int, str]:
        """Return what a load balancer is told."""
        shown = await self.world.send("GET", "/readyz", url=self.world.admin_url)
        return shown.status, shown.body.decode().splitlines()[0]


async def everything(world: World) -> Mapping[str, Any]:
    """Return all that is in the database, table by table, and the names of the files beside it."""

    def rows(tx: Connection) -> Mapping[str, Any]:
        return {table.name: sorted(map(repr, tx.execute(select(table)))) for table in metadata.sorted_tables}

    blobs = world.config.folder / "blobs"
    return {**await world.store.read(rows), "files": sorted(str(path) for path in blobs.rglob("*"))}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """Run a neighbourhood once for all tests on SQLite."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noticing, "REMEMBERED", 0.2)
        made: list[Breakable] = []

        @asynccontextmanager
        async def breakable(config: Config) -> AsyncIterator[Breakable]:
            async with opened_store(config) as store:
                made.append(Breakable(store))
                yield made[-1]

        patch.setattr(app, "opened_store", breakable)
        async with neighbourhood(prepare(tmp_path_factory.mktemp("town"), regions=HERE, changes=SHORT_LEASE)) as world:
            yield Town(world, made[0])


@pytest_asyncio.fixture(loop_scope="session")
async def town(running: Town) -> AsyncIterator[Town]:
    """Lend the neighbourhood to one test, and mend what it has broken."""
    yield running
    await running.mend()
    for authority in running.world.authorities.values():
        authority.behave()


# --- what is told meanwhile ----------------------------------------------------------------------------------------


def refuses_for_now(answer: Answer, told: str) -> None:
    """Hold an answer to what is promised: 503, when to try again, and why, without the inside of the store."""
    assert answer.status == 503, answer.body
    assert int(answer.headers["Retry-After"]) > 0
    if answer.headers["Content-Type"].startswith("application/problem+json"):
        problem = answer.json()
        assert (problem["code"], problem["retryable"], problem["detail"]) == ("gateway.unavailable", True, told)
    assert b"sqlite" not in answer.body.lower()


@dataclass
class Doors:
    """Everything that can be asked of the gateway about submissions, each prepared so that it would be taken."""

    asks: dict[str, Callable[[], Awaitable[Answer]]] = field(default_factory=dict)
    reads: dict[str, Callable[[], Awaitable[Answer]]] = field(default_factory=dict)


async def doors(world: World) -> Doors:
    """Prepare one request for each door."""
    guangdong = world.authorities["guangdong"]
    guangdong.order("course_supplement", 2)
    asked, unwanted, done = [await world.file(region) for region in ("guangdong", "guangdong", "foshan")]
    await world.until(asked, "SUPPLEMENT_NOTICE")
    await world.until(unwanted, "SUPPLEMENT_NOTICE")
    await world.until(done, "COMPLETED")
    number = secrets.token_hex(8)
    application = await world.application("hongkong", reference=number)
    supplement = {"reference": number, "materials": [{"code": "ID", "blob": await world.upload()}]}
    withdrawal = {"reference": number, "reason": "no longer needed"}
    rating = {"reference": number, "role": "handling", "score": 5, "channel": "pc"}
    call = guangdong_message(world, event("guangdong", asked, "SLX"))
    return Doors(
        asks={
            "submission": partial(world.ask, "POST", "/v1/submissions", application),
            "file": partial(world.ask, "POST", "/v1/blobs", SLIP, headers={"Content-Type": "application/pdf"}),
            "supplement": partial(world.ask, "POST", f"/v1/submissions/{asked}/supplements", supplement),
            "withdrawal": partial(world.ask, "POST", f"/v1/submissions/{unwanted}/withdrawal", withdrawal),
            "rating": partial(world.ask, "POST", f"/v1/submissions/{done}/ratings", rating),
            "callback": partial(deliver, world, call),
            "token": partial(token, world),
        },
        reads={
            "case": partial(world.ask, "GET", f"/v1/submissions/{asked}"),
            "events": partial(world.ask, "GET", "/v1/events"),
            "webhooks": partial(world.ask, "GET", "/v1/webhooks"),
            "window": partial(world.send, "GET", "/window", headers={"Cookie": "pearl_window=" + "x" * 43}),
        },
    )


async def token(world: World) -> Answer:
    """Ask for a token, which uses up an assertion."""
    form = {
        "grant_type": "client_credentials",
        "scope": "submissions",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": world.assertion(AGENCY),
    }
    return await world.send("POST", "/oauth2/token", data=form)


@pytest.mark.parametrize("name", FAULTS)
async def test_what_cannot_be_written_down_is_refused_for_now_and_taken_later(town: Town, name: str) -> None:
    """Every door says 503 and when to come again; the very same request is taken once the store works again.

    A callback too: had it spent its nonce, it would be a replay. Nothing at all is written meanwhile (`broken`).
    """
    fault, prepared = FAULTS[name], await doors(town.world)
    async with town.broken(fault):
        for ask in prepared.asks.values():
            refuses_for_now(await ask(), fault.told)
        for read in prepared.reads.values():
            if fault.reads:
                refuses_for_now(await read(), fault.told)
            else:
                assert (await read()).status == 200, "what can be read is shown"
        assert await town.ready() == (503, f"gateway: store: {fault.told}")
    answers = {what: (await ask()).status for what, ask in prepared.asks.items()}
    assert answers == {**dict.fromkeys(answers, 201), "withdrawal": 202, "callback": 200, "token": 200}
    await eventually(partial(is_ready, town))


async def is_ready(town: Town) -> bool | None:
    return (await town.ready()) == (200, "gateway: ready") or None


async def test_readiness_remembers_a_refused_write_for_a_moment(town: Town) -> None:
    """A disk that is full takes the one row that readiness writes, and not the case that a caller hands in."""
    application = await town.world.application("foshan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noticing, "REMEMBERED", 60.0)
        async with town.broken(FAULTS["full"]):
            refuses_for_now(await town.world.ask("POST", "/v1/submissions", application), FULL)
        assert await town.ready() == (503, f"gateway: store: {FULL}")
        assert b"pearl_store_up 0.0" in (await town.world.send("GET", "/metrics", url=town.world.admin_url)).body
    await eventually(partial(is_ready, town))
    assert b"pearl_store_up 1.0" in (await town.world.send("GET", "/metrics", url=town.world.admin_url)).body


async def test_readiness_finds_out_by_itself_that_nothing_can_be_written(sqlite_url: str) -> None:
    """A replica that was just started on a database that failed over has refused nobody yet."""
    store = await open_store(sqlite_url)
    await store.write(lambda tx: tx.exec_driver_sql("PRAGMA query_only=ON").close())
    _, _, status, text = await seen_by_monitoring(store)
    await store.close()
    assert (status, text.splitlines()[0]) == (503, f"gateway: store: {READ_ONLY}")


async def test_a_clerk_is_shown_a_page_that_says_so(tmp_path: Path) -> None:
    """The form of the window: a page and not a document, with the header that programs in between understand."""
    async with browser(tmp_path) as clerk:
        await clerk.sign_on()
        texts = filled(await clerk.open_form(FOSHAN))
        clerk.fakes.refusal = Unavailable(FULL)
        shown = await clerk.post(FOSHAN, texts, [("material.ID", "card.pdf", PDF)])
        assert (shown.status, shown.retry_after) == (503, "5")
        assert "<html" in shown.page
        clerk.fakes.refusal = None
        assert (await clerk.post(FOSHAN, texts, [("material.ID", "card.pdf", PDF)])).status == 303


# --- what is there afterwards --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["full", "gone"])
async def test_a_store_that_fails_under_load_keeps_what_it_took_and_nothing_half(town: Town, name: str) -> None:
    """Each of many requests at once gets 201 or 503; the first are whole, of the others there is nothing."""
    world = town.world
    applications = [await world.application(HERE[n % 3]) for n in range(18)]
    town.store.from_write = 9
    fault = FAULTS[name]
    town.store.before_writes, town.store.before_reads = fault.writes, fault.reads
    two_at_once = asyncio.Semaphore(2)  # one that fails takes along whoever shares its commit

    async def hand_in(application: Mapping[str, Any]) -> Answer:
        async with two_at_once:
            return await world.ask("POST", "/v1/submissions", application)

    answers = await asyncio.gather(*map(hand_in, applications))
    town.store.from_write = 0
    await asyncio.sleep(0.15)  # the workers go on meanwhile: one look and more
    await town.mend()
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {201, 503}
    taken = {answer.json()["id"] for answer in answers if answer.status == 201}
    assert await whole_cases(world, [each["reference"] for each in applications]) == taken
    again = await asyncio.gather(*(world.ask("POST", "/v1/submissions", each) for each in applications))
    assert [answer.status for answer in again] == [200 if status == 201 else 201 for status in statuses]
    cases = [answer.json()["id"] for answer in again]
    assert len(set(cases)) == len(applications)
    await all_arrive_once(world, dict(zip(cases, (each["place"] for each in applications), strict=True)))


async def whole_cases(world: World, references: list[str]) -> set[str]:
    """Return the cases under these references; each has its delivery, its first event and its file, or it is half."""
    cases = {row["id"] for row in await world.rows(submissions) if row["client_reference"] in references}
    for table in (deliveries, submission_materials):
        rows = [row["submission_id"] for row in await world.rows(table)]
        assert [case for case in cases if rows.count(case) != 1] == [], table.name
    first = {row["submission_id"] for row in await world.rows(submission_events, seq=1)}
    assert cases <= first
    return cases


async def all_arrive_once(world: World, places: Mapping[str, str]) -> None:
    """Wait for the cases to be completed, and hold them against the books of the authorities: one case each."""
    for case, place in places.items():
        shown = await world.until(case, "COMPLETED")
        assert [entry["seq"] for entry in shown["timeline"]] == list(range(1, len(shown["timeline"]) + 1))
        assert [key for key in (await world.ledger(place))["cases"] if key == case] == [case]


@pytest.mark.parametrize("name", ["full", "gone"])
async def test_a_store_that_fails_while_regions_are_at_work_loses_no_word_of_theirs(
    town: Town, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody was told that we have the receipts, steps and pulls that came meanwhile, so they come again.

    What had left before is asked about before it is sent again. The authorities do not give up here: they do after six
    sendings, which at this pace is sooner than a slow machine has its store back.
    """
    world, fault = town.world, FAULTS[name]
    for repeating in ("adapters.guangdong.sandbox_cases.REPEATS", "gateway.sandbox.exchange_authority.REPEATS"):
        monkeypatch.setattr(repeating, 10_000)
    places = {await world.file(place): place for place in HERE}
    async with town.broken(fault):
        await asyncio.sleep(0.3)  # what happens meanwhile is the question: the authorities' pace is 20 ms
    await all_arrive_once(world, places)
    for case, place in places.items():
        await eventually(partial(all_was_said, world, case, place))


async def all_was_said(world: World, case: str, place: str) -> bool | None:
    """Say whether each step of the region is there, once; what was refused may come after what was not."""
    said = sorted(row["state"] for row in await world.timeline(case) if row["source"] == place)
    return said == ["ACCEPTED", "COMPLETED", "DECIDED", "RECEIVED"] or None


async def test_a_place_for_files_that_is_gone_stops_files_and_nothing_else(town: Town) -> None:
    """A case without a new file is taken; one whose file cannot be read is not sent half, and goes out later."""
    world = town.world
    before = await world.application("foshan")
    blobs = world.config.folder / "blobs"
    away = blobs.rename(blobs.with_name("blobs-away"))
    blobs.write_text("a file where a folder should be")
    try:
        pdf = {"Content-Type": "application/pdf"}
        answer = await world.ask("POST", "/v1/blobs", SLIP, headers=pdf)
        refuses_for_now(answer, "The file cannot be stored just now.")
        filed = await world.ask("POST", "/v1/submissions", before)
        assert filed.status == 201
        case = filed.json()["id"]
        await eventually(partial(was_put_off, world, case))
        assert case not in (await world.ledger("foshan"))["cases"]
    finally:
        blobs.unlink()
        away.rename(blobs)
    await all_arrive_once(world, {case: "foshan"})


async def was_put_off(world: World, case: str) -> bool | None:
    [row] = await world.rows(deliveries, submission_id=case)
    return (row["state"], row["last_code"]) == ("pending", "gateway.unavailable") or None


# --- PostgreSQL ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """Run a server that nobody else needs."""
    with postgres_server() as server:
        yield server


async def test_a_postgresql_that_stops_and_comes_back_has_lost_nothing(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    """Killed in the middle of requests, started again: every 201 is there, and the gateway goes on by itself."""
    url = own_postgres.url(own_postgres.create()).replace(":@", "@")  # without the password that there is not
    changes = {'url = "sqlite:///pearl.db"': f'url = "{url}"', **SHORT_LEASE}
    layout = prepare(tmp_path, regions=THREE, changes=changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noticing, "REMEMBERED", 0.2)
        async with neighbourhood(layout) as world:
            applications = [await world.application("foshan") for _ in range(12)]
            asking = [asyncio.create_task(world.ask("POST", "/v1/submissions", each)) for each in applications]
            await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(own_postgres.stop)
            answers = await asyncio.gather(*asking)
            assert {answer.status for answer in answers} <= {201, 503}
            for ask in (partial(world.ask, "POST", "/v1/submissions", applications[0]), partial(token, world)):
                refuses_for_now(await ask(), AWAY)
            shown = await world.send("GET", "/readyz", url=world.admin_url)
            assert (shown.status, shown.body.decode().splitlines()[0]) == (503, f"gateway: store: {AWAY}")
            await asyncio.to_thread(own_postgres.start)
            await eventually(partial(answers_again, world))
            taken = {answer.json()["id"] for answer in answers if answer.status == 201}
            assert taken <= await whole_cases(world, [each["reference"] for each in applications])
            again = [await world.ask("POST", "/v1/submissions", each) for each in applications]
            cases = {answer.json()["id"] for answer in again}
            assert taken <= cases
            assert len(cases) == len(applications)
            await all_arrive_once(world, dict.fromkeys(cases, "foshan"))


async def answers_again(world: World) -> bool | None:
    return (await world.send("GET", "/readyz", url=world.admin_url)).status == 200 or None


@pytest.mark.parametrize(
    ("state", "told"),
    [("57P03", AWAY), ("53300", AWAY), ("28P01", AWAY), ("3D000", AWAY), ("53100", FULL), ("", AWAY)],
    ids=["starting", "no connection left", "another password", "no such database", "full", "hangs up"],
)
async def test_a_postgresql_that_lets_nobody_in_is_told_as_unavailable(state: str, told: str) -> None:
    """While it starts, has no room, was given another password, or was dropped: none is a fault of the request."""

    async def turn_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        if state:
            said = b"SFATAL\0VFATAL\0C" + state.encode() + b"\0Mno\0\0"
            writer.write(b"E" + struct.pack("!I", len(said) + 4) + said)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(turn_away, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = await open_store(f"postgresql://pearl@127.0.0.1:{port}/pearl?ssl=disable")
        with pytest.raises(Unavailable) as refused:
            await store.read(lambda _tx: None)
        await store.close()
    assert refused.value.public == told
