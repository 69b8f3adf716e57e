"""What operators see: figures, readiness, and logs that name nobody."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from gateway.app import utc_now
from gateway.background import without_end
from gateway.domain.region import RegionNames, place_of
from gateway.identity.health import Health
from gateway.identity.switches import ClosedRegions
from gateway.mapping.library import PackSet
from gateway.ports import Adapter
from gateway.regions import Region, RegionLimits
from gateway.sandbox.layout import Choices, Layout, simulated_regions
from gateway.sandbox.neighbourhood import free_ports, start
from gateway.sandbox.tour import Tour
from gateway.storage import Store, open_store
from gateway.storage.sqlite import READERS
from gateway.submissions.delivery import DeliveryWorker, Timing
from gateway.telemetry import Metrics
from gateway.web.ops import handlers as ops
from tests.flows.flow_support import PRIVATE, World, eventually, neighbourhood, prepare
from tests.support.few_regions import THREE

pytestmark = pytest.mark.asyncio(loop_scope="session")

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def figures(world: World) -> Figures:
    """Return every sample of /metrics."""
    answer = await world.send("GET", "/metrics", url=world.admin_url)
    assert answer.status == 200
    families = text_string_to_metric_families(answer.body.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def labelled(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


# --- figures -----------------------------------------------------------------------------------------------------


async def test_a_submission_is_counted_at_every_step(world: World) -> None:
    """Request, call, attempt and events: a broken step shows as one figure that stands still."""
    before = await figures(world)
    submission_id = await world.file("guangdong")
    await world.until(submission_id, "COMPLETED")
    after = await figures(world)
    steps = {
        labelled("pearl_request_seconds_count", route="/v1/submissions", method="POST", status="201"): 1,
        labelled("pearl_request_seconds_count", route="/callbacks/{region}/{rest}", method="POST", status="200"): 4,
        labelled("pearl_region_call_seconds_count", region="guangdong", capability="submit", outcome="ok"): 1,
        labelled("pearl_delivery_attempts_total", region="guangdong", outcome="delivered"): 1,
        labelled("pearl_status_events_total", region="guangdong", outcome="recorded"): 4,
    }
    # At least: a case of an earlier test may still be on its way.
    assert {step: min(after[step] - before.get(step, 0), number) for step, number in steps.items()} == steps
    assert after[labelled("pearl_region_up", region="guangdong")] == 1


async def test_a_delivery_that_waits_shows_with_its_age(world: World) -> None:
    """The oldest unsettled delivery is the figure that wakes somebody up."""
    failed = labelled(
        "pearl_region_call_seconds_count", region="guangdong", capability="submit", outcome="region.unreachable"
    )
    before = (await figures(world)).get(failed, 0)
    world.authorities["guangdong"].order("down")
    submission_id = await world.file("guangdong")

    async def waiting() -> bool | None:
        seen = await figures(world)
        states = ("pending", "sending", "in_doubt")
        queue = sum(seen[labelled("pearl_delivery_queue", region="guangdong", state=state)] for state in states)
        age = seen[labelled("pearl_delivery_oldest_seconds", region="guangdong")]
        return (queue >= 1 and age > 0.2 and seen.get(failed, 0) > before) or None

    await eventually(waiting)
    world.authorities["guangdong"].behave()
    await world.until(submission_id, "COMPLETED")

    async def empty() -> bool | None:
        return (await figures(world))[labelled("pearl_delivery_oldest_seconds", region="guangdong")] == 0 or None

    await eventually(empty)


async def test_a_strangers_addresses_do_not_become_labels(world: World) -> None:
    """Labels are route templates and known words: a scanner must not fill the memory of Prometheus."""
    for path in ("/wp-admin", "/callbacks/nowhere/x", "/v1/submissions/44010619900101900X"):
        await world.send("GET", path)
        await world.send("POST", path)
    text = (await world.send("GET", "/metrics", url=world.admin_url)).body.decode()
    assert "wp-admin" not in text
    assert "nowhere" not in text
    assert [value for value in PRIVATE if value in text] == []


# --- health ------------------------------------------------------------------------------------------------------


async def test_readiness_names_every_region(world: World) -> None:
    """One line each; the first is the gateway itself."""
    shown = await world.send("GET", "/readyz", url=world.admin_url)
    lines = shown.body.decode().splitlines()
    assert shown.status == 200
    assert lines[0] == "gateway: ready"
    assert [line.split(":")[0] for line in lines[1:]] == [f"region {region}" for region in simulated_regions()]


async def test_liveness_asks_nobody(world: World) -> None:
    """A process whose regions are away must not be restarted for it."""
    shown = await world.send("GET", "/livez", url=world.admin_url)
    assert (shown.status, shown.body) == (200, b"ok\n")


async def test_the_admin_addresses_are_not_public(world: World) -> None:
    """Figures are for operators."""
    for path in ("/metrics", "/readyz", "/livez"):
        assert (await world.send("GET", path)).status == 404


async def test_a_gateway_that_is_going_away_says_so_and_still_lives(tmp_path: Path) -> None:
    """A load balancer takes it out; nothing kills it while it finishes."""
    async with neighbourhood(prepare(tmp_path, regions=THREE)) as world:
        assert world.gateway is not None
        world.gateway.stop_accepting()
        shown = await world.send("GET", "/readyz", url=world.admin_url)
        assert (shown.status, shown.body.splitlines()[0]) == (503, b"gateway: shutting down")
        assert (await world.send("GET", "/livez", url=world.admin_url)).status == 200


# --- when things go wrong ----------------------------------------------------------------------------------------


@asynccontextmanager
async def admin(store: Store) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """Serve the admin listener over this store."""
    app = web.Application()
    health = Health({}, ClosedRegions(store, utc_now), utc_now, timedelta(days=1))
    app.add_routes(ops.routes(store, {}, Metrics(CollectorRegistry()), utc_now, lambda: True, health))
    async with TestClient(TestServer(app)) as client:
        yield client


async def seen_by_monitoring(store: Store) -> tuple[int, str, int, str]:
    """Return status and text of /metrics and of /readyz, asked for at once, and no later than monitoring waits."""

    async def look(client: TestClient[web.Request, web.Application], path: str) -> tuple[int, str]:
        async with client.get(path) as answer:
            return answer.status, await answer.text()

    async with admin(store) as client, asyncio.timeout(8):
        figures_shown, ready = await asyncio.gather(look(client, "/metrics"), look(client, "/readyz"))
    return *figures_shown, *ready


async def test_figures_stay_to_be_had_while_the_store_is_away(sqlite_url: str) -> None:
    """They are what an operator needs most just then."""
    store = await open_store(sqlite_url)
    status, text, ready, _ = await seen_by_monitoring(store)
    assert (status, ready, "pearl_store_up 1.0" in text) == (200, 200, True)
    await store.close()
    status, text, ready, why = await seen_by_monitoring(store)
    assert (status, ready, "pearl_store_up 0.0" in text) == (200, 503, True)
    assert why.startswith("gateway: store: ")


async def test_a_store_that_never_answers_keeps_no_monitoring_waiting(sqlite_url: str) -> None:
    """A scrape that times out shows nothing at all, and a load balancer must hear 503, not silence."""
    store, release = await open_store(sqlite_url), threading.Event()
    busy = [asyncio.create_task(store.read(lambda _: release.wait())) for _ in range(READERS)]
    try:
        status, text, ready, why = await seen_by_monitoring(store)
    finally:
        release.set()
        await asyncio.gather(*busy)
        await store.close()
    assert (status, ready, "pearl_store_up 0.0" in text) == (200, 503, True)
    assert "store: no answer within" in why


async def test_background_work_that_a_bug_ends_begins_again() -> None:
    """Otherwise every delivery would wait for a restart that nobody knows to be needed."""
    stopping, begun = asyncio.Event(), 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise ZeroDivisionError
        stopping.set()

    with capture_logs() as said:
        await asyncio.wait_for(without_end("delivery", work, stopping), 10)
    assert begun == 2
    assert [(line["log_level"], line["work"]) for line in said] == [("error", "delivery")]


@pytest.mark.parametrize("regions", [(), ("foshan", "hongkong")], ids=["no region", "regions of sign-on only"])
async def test_a_deployment_without_submissions_has_a_worker_that_waits(regions: tuple[str, ...]) -> None:
    """A worker that ended at once would be begun again and again, and fill the log with it."""
    worker, stopping, begun = idle_worker(regions), asyncio.Event(), 0

    async def run() -> None:
        nonlocal begun
        begun += 1
        await worker.run()

    with capture_logs() as said:
        running = asyncio.create_task(without_end("delivery", run, stopping))
        done, _ = await asyncio.wait([running], timeout=1.5)  # longer than the pause before work begins again
        assert (done, begun) == (set(), 1)
        stopping.set()
        worker.stop()
        await asyncio.wait_for(running, 10)
    assert (begun, said) == (1, [])


def idle_worker(regions: tuple[str, ...]) -> DeliveryWorker:
    """Return a worker for regions that take no submissions. It has neither store nor attempts: it needs none."""
    limits = RegionLimits(concurrency=1, requests_per_second=1, timeout_seconds=1, settle_seconds=1)
    names = RegionNames("佛山市", "佛山市", "Foshan", "Foshan")
    served = {
        name: Region(
            id=name, place=place_of("440600"), names=names, limits=limits, assurance={}, certificate_words={},
            adapter=Adapter(), packs=PackSet.of(name, {}),
        )
        for name in regions
    }  # fmt: skip
    second = timedelta(seconds=1)
    return DeliveryWorker(
        store=None,  # type: ignore[arg-type] # using it would be the mistake
        attempts=None,  # type: ignore[arg-type] # the same
        regions=served, lines={}, timing=Timing(second, second, second), clock=utc_now,
    )  # fmt: skip


# --- logs --------------------------------------------------------------------------------------------------------


class Eavesdropper:
    """Hears what the outsiders of the tour send and get: tokens, codes, assertions, passwords."""

    NAMES = frozenset(
        {"access_token", "id_token", "client_assertion", "code", "code_verifier", "password", "state", "nonce"}
    )

    def __init__(self) -> None:
        self.heard: set[str] = set()
        self.trace = aiohttp.TraceConfig()
        self.trace.on_request_chunk_sent.append(self._sent)
        self.trace.on_request_end.append(self._answered)

    async def _sent(self, _session: object, _context: object, sent: aiohttp.TraceRequestChunkSentParams) -> None:
        if sent.chunk[:1] != b"{":
            self._keep(parse_qsl(sent.chunk.decode("utf-8", "replace")))

    async def _answered(self, _session: object, _context: object, end: aiohttp.TraceRequestEndParams) -> None:
        self._keep(parse_qsl(urlsplit(end.response.headers.get("Location", "")).query))
        self.heard |= {cookie.value for cookie in end.response.cookies.values() if len(cookie.value) > 20}
        if end.response.content_type == "application/json":
            self._keep((name, value) for name, value in json.loads(await end.response.read()).items())

    def _keep(self, pairs: object) -> None:
        for name, value in pairs:  # type: ignore[attr-defined] # pairs of any kind
            if name in self.NAMES and isinstance(value, str) and len(value) > 14:
                self.heard.add(value)


def secrets_in(layout: Layout) -> set[str]:
    """Return every minted secret, as it stands and as somebody might print it."""
    found: set[str] = set()
    for path in sorted((layout.folder / "keys").rglob("*")):
        if path.is_file() and not path.name.endswith((".pub.pem", ".cert.pem", ".jwks.json")):
            raw = path.read_bytes()
            found |= {raw.hex(), base64.b64encode(raw).decode()}
            lines = raw.decode("ascii", "replace").splitlines()
            found |= {line for line in lines if len(line) > 20 and "----" not in line}
    return found


@pytest.fixture
async def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, set[str], set[str]]:
    """Take the whole tour with the log at its loudest; give the log, what was heard, and the secrets."""
    monkeypatch.setenv("PEARL_LOG", "DEBUG")
    ear = Eavesdropper()
    async with start(tmp_path, free_ports(), Choices(pace=0.02)) as running:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar, trace_configs=[ear.trace]) as session:
            await Tour(running, session, lambda _line: None).take()
    return (tmp_path / "gateway.log").read_text(encoding="utf-8"), ear.heard, secrets_in(running.layout)


async def test_the_log_of_a_whole_flow_names_nobody_and_gives_nothing_away(
    told: tuple[str, set[str], set[str]],
) -> None:
    """Sign-on, submission and lookup at debug level: ids and outcomes, no people, tokens, codes or secrets."""
    log, heard, secrets = told
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert {"request", "ready", "step"} <= set(events)
    assert len(heard) >= 8
    assert len(secrets) >= 8
    people = {*PRIVATE, "黄文员", "440106198806150019", "sandbox-citizen", "citizen@example.invalid", "GD000000000001"}
    assert [value for value in sorted(people) if value in log] == []
    assert [value[:12] for value in sorted(heard) if value in log] == []
    assert [value[:4] for value in sorted(secrets) if value in log] == []
