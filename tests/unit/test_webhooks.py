"""Webhooks: the very stream that is polled, signed, in order, each event until it was taken."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry
from sqlalchemy import select, update

from gateway.crypto.at_rest import Sealer
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.storage import Store
from gateway.storage.tables import clients, evidence
from gateway.submissions import webhooks
from gateway.submissions.events import EventLog
from gateway.submissions.stream import Stream
from gateway.submissions.webhooks import Minted, Webhooks, WebhookWorker, check_address, signed
from gateway.telemetry import Metrics
from tests.support.cases import REGION, said
from tests.support.clock import ManualClock
from tests.unit.test_stream import open_cases

WHY = {"by": "op-1", "reason": "agreed"}


class Agency:
    """An agency's own address, which answers as it is told: the last status repeats."""

    def __init__(self) -> None:
        self.statuses = [200]
        self.slow: Callable[[], None] = lambda: None
        self.heard: list[tuple[dict[str, str], bytes]] = []
        app = web.Application()
        app.router.add_post("/hook", self._take)
        self.server = TestServer(app)

    async def _take(self, request: web.Request) -> web.Response:
        self.heard.append((dict(request.headers), await request.read()))
        self.slow()
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    def numbers(self) -> list[int]:
        return [orjson.loads(body)["data"]["seq"] for _, body in self.heard]


class Desk:
    """One case with three events, an agency, and a worker."""

    def __init__(self, store: Store, sealer: Sealer, clock: ManualClock, session: aiohttp.ClientSession) -> None:
        self.store, self.sealer, self.clock = store, sealer, clock
        self.agency = Agency()
        self.stream = Stream(store, sealer)
        self.desk = Webhooks(sealer)
        metrics = Metrics(CollectorRegistry())
        self.worker = WebhookWorker(store, self.stream, sealer, session, clock, metrics)

    async def open(self) -> Minted:
        await self.agency.server.start_server()
        [self.case] = await open_cases(self.store, self.sealer, self.clock)
        url = str(self.agency.server.make_url("/hook"))
        minted = await self.store.write(lambda tx: self.desk.add(tx, "agency", url, **WHY, now=self.clock()))
        await self.happen("RECEIVED", "ACCEPTED")
        return minted

    async def happen(self, *words: str) -> None:
        log = EventLog(self.sealer)
        for word in words:
            self.clock.advance(1)
            event = said(self.case, f"e-{word}", word, self.clock())
            await self.store.write(lambda tx, event=event: log.from_region(tx, REGION, event, self.clock()))  # type: ignore[misc] # bound at once
        await self.stream.place()

    async def work(self) -> None:
        """Let the worker push once what is due."""
        for target in await self.worker._claim():
            await self.worker.push(target)

    async def row(self) -> dict[str, Any]:
        [row] = await self.store.read(webhooks.listed)
        return row


@pytest_asyncio.fixture
async def desk(sqlite_store: Store, sealer: Sealer, clock: ManualClock) -> AsyncIterator[Desk]:
    async with aiohttp.ClientSession() as session:
        made = Desk(sqlite_store, sealer, clock, session)
        yield made
        await made.agency.server.close()


async def test_an_address_gets_the_very_events_that_are_polled_in_their_order(desk: Desk) -> None:
    await desk.open()
    await desk.work()
    polled = (await desk.stream.page("agency", "")).events
    assert [orjson.loads(body)["data"] for _, body in desk.agency.heard] == polled
    await desk.work()
    assert desk.agency.numbers() == [1, 2, 3], "what was taken does not come again"


async def test_every_push_is_signed_over_id_time_and_body(desk: Desk) -> None:
    """As any library of Standard Webhooks checks it."""
    minted = await desk.open()
    await desk.work()
    key = base64.b64decode(minted.text.removeprefix("whsec_"))
    for headers, body in desk.agency.heard:
        said = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        mark = base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{mark}"
    assert len({headers["webhook-id"] for headers, _ in desk.agency.heard}) == len(desk.agency.heard)


def test_the_signature_is_the_one_of_the_standards_own_example(clock: ManualClock) -> None:
    """Source: Standard Webhooks 1.0, the test vector of its libraries."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = clock().fromtimestamp(1614265330, tz=clock().tzinfo)
    headers = signed([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", [500, 404, 302, 429])
async def test_an_event_that_was_not_taken_comes_again_before_those_behind_it(desk: Desk, status: int) -> None:
    """A redirect is no address that an operator agreed to: it is not followed."""
    desk.agency.statuses = [200, status, 200]
    await desk.open()
    await desk.work()
    assert desk.agency.numbers() == [1, 2]
    await desk.work()
    assert desk.agency.numbers() == [1, 2], "not before its time"
    desk.clock.advance(2)
    await desk.work()
    assert desk.agency.numbers() == [1, 2, 2, 3]
    ids = [headers["webhook-id"] for headers, _ in desk.agency.heard]
    assert ids[1] == ids[2], "the same event has the same id"
    assert (await desk.row())["failures"] == 0


async def test_an_address_that_takes_nothing_for_days_is_disabled_and_can_go_on_where_it_was(desk: Desk) -> None:
    desk.agency.statuses = [503]
    await desk.open()
    while (await desk.row())["disabled_at"] is None:
        await desk.work()
        desk.clock.advance(3600)
    row = await desk.row()
    assert row["disabled_at"] - row["failing_since"] >= webhooks.GIVEN_UP
    calls = len(desk.agency.heard)
    await desk.work()
    assert len(desk.agency.heard) == calls
    desk.agency.statuses = [200]
    await desk.store.write(lambda tx: desk.desk.switch(tx, row["id"], on=True, **WHY, now=desk.clock()))
    await desk.work()
    assert desk.agency.numbers()[calls:] == [1, 2, 3]
    actions = await desk.store.read(lambda tx: tx.execute(select(evidence.c.action)).scalars().all())
    assert list(actions) == ["webhook.add", "webhook.give_up", "webhook.enable"]


async def test_an_address_that_is_gone_is_not_called_again(desk: Desk) -> None:
    desk.agency.statuses = [410]
    await desk.open()
    await desk.work()
    assert (await desk.row())["disabled_at"] is not None
    assert len(desk.agency.heard) == 1


async def test_an_address_that_cannot_be_reached_is_tried_later(desk: Desk) -> None:
    await desk.open()
    await desk.agency.server.close()
    await desk.work()
    assert (await desk.row())["last_code"] == "webhook.unreachable"


async def test_an_agency_has_the_events_after_a_cursor_pushed_again(desk: Desk) -> None:
    minted = await desk.open()
    await desk.work()
    first = (await desk.stream.page("agency", "", 1)).next
    again = (minted.webhook_id, "agency", first, {"client": "agency"}, desk.clock())
    await desk.store.write(lambda tx: webhooks.replay(tx, *again))
    await desk.work()
    assert desk.agency.numbers() == [1, 2, 3, 2, 3]
    with pytest.raises(NotFound):
        await desk.store.write(lambda tx: webhooks.replay(tx, minted.webhook_id, "another", "", {}, desk.clock()))


async def test_a_replay_to_a_place_that_the_stream_has_not_come_to_silences_nothing(desk: Desk) -> None:
    minted = await desk.open()
    ahead = (minted.webhook_id, "agency", "4", {"client": "agency"}, desk.clock())
    with pytest.raises(InvalidRequest) as refused:
        await desk.store.write(lambda tx: webhooks.replay(tx, *ahead))
    assert refused.value.stable_code == "events.cursor_ahead"
    await desk.work()
    assert desk.agency.numbers() == [1, 2, 3]


async def test_an_address_gets_every_event_of_an_agency_once_and_not_by_two_webhooks(desk: Desk) -> None:
    """The refusal names the first, and how it is had to push again when it was disabled."""
    minted = await desk.open()
    url = (await desk.row())["url"]

    async def add(client: str) -> Minted:
        return await desk.store.write(lambda tx: desk.desk.add(tx, client, url, **WHY, now=desk.clock()))

    with pytest.raises(Conflict, match=f"{minted.webhook_id}.*rotate") as refused:
        await add("agency")
    assert refused.value.stable_code == "webhook.same_address"
    await desk.store.write(lambda tx: desk.desk.switch(tx, minted.webhook_id, on=False, **WHY, now=desk.clock()))
    with pytest.raises(Conflict, match=f"{minted.webhook_id}.*enable"):
        await add("agency")
    await add("agency/window")


async def test_two_workers_do_not_push_to_one_address_at_once(desk: Desk) -> None:
    await desk.open()
    assert len(await desk.worker._claim()) == 1
    assert await desk.worker._claim() == []
    desk.clock.advance(webhooks.LEASE.total_seconds() + 1)
    assert len(await desk.worker._claim()) == 1


async def test_a_slow_address_keeps_its_order_because_a_turn_ends_before_the_lease_does(desk: Desk) -> None:
    """Another worker may take the address when the lease is over: then nothing of this turn may be under way."""
    await desk.open()
    await desk.happen("SPECIAL", "RESUMED", "EXTENDED", "DECIDED", "COMPLETED")
    begun = desk.clock()
    late: list[bool] = []

    def almost_a_timeout() -> None:
        late.append(desk.clock() + timedelta(seconds=webhooks.TIMEOUT) >= begun + webhooks.LEASE)
        desk.clock.advance(webhooks.TIMEOUT - 1)

    desk.agency.slow = almost_a_timeout
    await desk.work()
    assert not any(late)
    taken = len(desk.agency.numbers())
    assert 0 < taken < 8
    await desk.work()
    assert desk.agency.numbers() == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_a_process_that_ends_pushes_no_more_than_it_is_pushing(desk: Desk) -> None:
    await desk.open()
    desk.agency.slow = desk.worker._stopping.set
    await desk.work()
    assert (desk.agency.numbers(), (await desk.row())["position"]) == ([1], 1)


async def test_nothing_is_pushed_for_a_client_that_was_disabled_until_it_is_enabled_again(desk: Desk) -> None:
    await desk.open()
    client = {"id": "agency", "registration": {}, "version": 1, "created_at": desk.clock(), "changed_at": desk.clock()}
    off = clients.insert().values({**client, "disabled_at": desk.clock()})
    await desk.store.write(lambda tx: tx.execute(off).rowcount)
    await desk.work()
    assert desk.agency.numbers() == []
    on = update(clients).values(disabled_at=None)
    await desk.store.write(lambda tx: tx.execute(on).rowcount)
    await desk.work()
    assert desk.agency.numbers() == [1, 2, 3]


async def test_for_a_day_the_old_secret_signs_too(desk: Desk) -> None:
    old = await desk.open()
    new = await desk.store.write(lambda tx: desk.desk.rotate(tx, old.webhook_id, **WHY, now=desk.clock()))
    await desk.work()
    headers, _ = desk.agency.heard[0]
    assert len(headers["webhook-signature"].split(" ")) == 2
    assert new.text != old.text
    desk.clock.advance(24 * 3600)
    await desk.happen("DECIDED")
    await desk.work()
    headers, _ = desk.agency.heard[-1]
    assert len(headers["webhook-signature"].split(" ")) == 1


async def test_what_a_list_shows_holds_no_secret(desk: Desk) -> None:
    await desk.open()
    assert not {"secret", "old_secret"} & (await desk.row()).keys()


@pytest.mark.parametrize("url", ["https://agency.example/hook", "http://127.0.0.1:8080/x", "http://localhost/x"])
def test_an_address_may_be_https_or_on_this_machine(url: str) -> None:
    check_address(url)


@pytest.mark.parametrize(
    "url", ["http://agency.example/x", "ftp://a/x", "https://user:pw@a/x", "https://", "//a", "", "http://10.0.0.1/"]
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        check_address(url)
