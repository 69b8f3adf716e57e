"""The front page: every long-lived object of the gateway is constructed here, top to bottom.

Owns: the order of construction, and taking everything down again in the opposite order. Nothing is built elsewhere and
nothing reaches for what it was not given.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import aiohttp
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from gateway.certificates.lookup import CertificateLookup
from gateway.config import Config, Problems, RegionSettings, read_secret
from gateway.crypto.at_rest import References, Sealer
from gateway.crypto.signing import Es256Signer
from gateway.data import Data, load_data
from gateway.domain.calendar import local_day
from gateway.domain.caller import Caller
from gateway.errors import GatewayError, StartRefused
from gateway.identity.records import forget_expired
from gateway.identity.service import IdentityService
from gateway.lines import Line, guard
from gateway.ports import Adapter, Clock, Kit
from gateway.regions import Manifest, Region, limits_of, open_regions, secret_reader
from gateway.storage import Store, open_store
from gateway.storage.blobs import Blobs, open_blob_store
from gateway.storage.migrations import newest
from gateway.submissions.attempt import Attempts, StepObserver, unobserved
from gateway.submissions.cases import Cases
from gateway.submissions.delivery import DeliveryWorker, Timing
from gateway.submissions.events import EventLog
from gateway.submissions.inbox import Inbox
from gateway.submissions.intake import Intake
from gateway.submissions.materials import Materials
from gateway.submissions.parcels import Parcels
from gateway.submissions.retry import RetryPolicy
from gateway.telemetry import Metrics
from gateway.waiting import wait
from gateway.web import middlewares, routes
from gateway.web.api.handlers import ApiServices
from gateway.web.ops import handlers as ops
from gateway.web.pages import Pages
from gateway.web.window.refusals import error_page
from gateway.web.window.services import WindowServices
from gateway.web.window.sessions import forget_expired as forget_window_sessions

log = structlog.get_logger("app")

JANITOR_SECONDS = 60.0
LAST_LOOK_SECONDS = 0.5
"""How long a look into a feed may go on when the process ends: what it would have read is still there afterwards."""
Work = Callable[[], Coroutine[None, None, None]]
Feeds = Sequence[Work]


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The running whole: one application per listener, and what the operator's signals reach."""

    public: web.Application
    admin: web.Application
    worker: DeliveryWorker
    stopping: asyncio.Event

    def stop_accepting(self) -> None:
        """Say in /readyz that this process is going away, and claim no more deliveries."""
        self.stopping.set()
        self.worker.stop()


@asynccontextmanager
async def build_app(
    config: Config, *, clock: Clock = utc_now, observe: StepObserver = unobserved
) -> AsyncIterator[Gateway]:
    """Build the gateway, run it for the length of the `async with`, and take it down in the opposite order.

    `observe` is told of every step of a delivery. Raises StartRefused that lists everything that is wrong.
    """
    async with AsyncExitStack() as down:
        metrics = Metrics(CollectorRegistry())
        sealer, references, signer = own_keys(config)
        session = await down.enter_async_context(_session())
        data, regions, lines = data_and_regions(config, session, clock, metrics)

        store = await open_store(store_url(config))
        down.push_async_callback(store.close)
        await _prepare(store, config)

        materials = Materials(
            store, Blobs(open_blob_store(config.store.blobs, config.folder), sealer), sealer, clock,
            config.limits.upload_bytes,
        )  # fmt: skip
        events = EventLog(sealer)
        inbox = Inbox(store, regions, events, clock, metrics)
        attempts = Attempts(
            store=store, parcels=Parcels(store, sealer, materials), events=events, retry=_retry(config),
            clock=clock, metrics=metrics, observe=observe,
        )  # fmt: skip
        worker = DeliveryWorker(
            store=store, regions=regions, lines=lines, attempts=attempts, timing=_timing(config), clock=clock
        )  # fmt: skip
        intake = Intake(
            store=store, items=data.items, regions=regions, grants=data.grants, bases=data.bases,
            materials=materials, events=events, sealer=sealer, references=references, clock=clock,
            nudge=worker.nudge,
        )  # fmt: skip
        cases = Cases(store, sealer)
        certificates = CertificateLookup(
            store=store, types=data.types, regions=regions, grants=data.grants, bases=data.bases,
            references=references, clock=clock,
        )  # fmt: skip
        identity = IdentityService(
            config, data.clients, regions, store, sealer, references, signer, clock, metrics
        )  # fmt: skip

        agencies = ApiServices(
            authenticate=_authenticator(identity), items=data.items, types=data.types, grants=data.grants,
            intake=intake, cases=cases, materials=materials, certificates=certificates, store=store, clock=clock,
        )  # fmt: skip
        clerks = WindowServices(
            items=data.items,
            visible=lambda caller: data.grants.visible_items(caller.client_id, data.items.values(), local_day(clock())),
            region_names={region.id: region.names for region in regions.values()},
            submit=intake.accept, upload=materials.upload, show=cases.show, recent=cases.recent,
            redeem=identity.redeem, who_signed_on=identity.who_signed_on, end_sign_on=identity.end_session,
            jwks=signer.key_set,
            store=store, sealer=sealer, clock=clock, windows=data.windows, issuer=config.public_url,
        )  # fmt: skip

        https = config.public_url.startswith("https://")
        pages = Pages(secure=https)
        stopping = asyncio.Event()
        public = web.Application(
            middlewares=middlewares.edge(metrics, error_page(pages), https=https),
            client_max_size=config.limits.body_bytes,
        )
        public.add_routes(
            routes.public(
                identity=identity, agencies=agencies, clerks=clerks, inbox=inbox, pages=pages,
                limits=config.limits, clock=clock,
            )
        )  # fmt: skip
        admin = web.Application()
        admin.add_routes(ops.routes(store, lines, metrics, clock, lambda: not stopping.is_set()))

        feeds, janitor = _feeds(inbox, regions, stopping), _janitor(store, clock, stopping)
        await down.enter_async_context(_background(worker, feeds, janitor, stopping))
        yield Gateway(public, admin, worker, stopping)


# --- the pieces ----------------------------------------------------------------------------------------------------


def own_keys(config: Config) -> tuple[Sealer, References, Es256Signer]:
    """Read the gateway's own keys. Raises StartRefused."""
    keys = config.keys
    try:
        sealer = Sealer(*(read_secret(config, reference, "keys.at_rest") for reference in keys.at_rest))
        references = References(read_secret(config, keys.references, "keys.references"))
        signer = Es256Signer([read_secret(config, reference, "keys.signing") for reference in keys.signing])
    except ValueError as error:
        problems = Problems()
        problems.add("keys", str(error))
        raise StartRefused("The gateway refuses to start.", problems=problems.found) from error
    return sealer, references, signer


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    """The one outgoing HTTP session: no cookies, since no region's protocol knows any."""
    connector = aiohttp.TCPConnector(limit=200, limit_per_host=32)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


def data_and_regions(
    config: Config, session: aiohttp.ClientSession, clock: Clock, metrics: Metrics
) -> tuple[Data, Mapping[str, Region], Mapping[str, Line]]:
    """Load data files, regions and mappings; whatever is wrong with any of them is told together."""
    problems = Problems()
    lines: dict[str, Line] = {}

    def kit(manifest: Manifest, chosen: RegionSettings) -> Kit:
        seconds = limits_of(config, manifest).timeout_seconds
        return Kit(
            region=manifest.id,
            session=session,
            clock=clock,
            log=structlog.get_logger("region").bind(region=manifest.id),
            settings={**manifest.settings, **chosen.settings},
            secret=secret_reader(config, manifest, chosen),
            public_url=config.public_url,
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=seconds / 2),
            random_token=secrets.token_urlsafe,
        )

    def behind_line(manifest: Manifest, adapter: Adapter) -> Adapter:
        limits = limits_of(config, manifest)
        lines[manifest.id] = Line(
            manifest.id,
            metrics,
            concurrency=limits.concurrency,
            per_second=limits.requests_per_second,
            failures=config.delivery.breaker_failures,
            rest_seconds=config.delivery.breaker_seconds,
        )
        return guard(lines[manifest.id], adapter)

    data: Data | None = None
    regions: Mapping[str, Region] = {}
    with problems.collect():
        data = load_data(config)
    with problems.collect():
        regions = open_regions(config, kit, behind_line)
    problems.refuse()
    if data is None:
        raise AssertionError("no problem was found, so the data is there")
    return data, regions, lines


def store_url(config: Config) -> str:
    """Return the store's address: a relative SQLite path starts at the configuration, a password has its own file."""
    prefix, url = "sqlite:///", config.store.url
    if url.startswith(prefix):
        return f"{prefix}{config.folder / url.removeprefix(prefix)}"
    if config.store.password is None:
        return url
    password = read_secret(config, config.store.password, "store.password").decode().strip()
    return make_url(url).set(password=password).render_as_string(hide_password=False)


async def _prepare(store: Store, config: Config) -> None:
    """Migrate in the sandbox; elsewhere only look, because an operator decides when a schema changes."""
    if config.environment == "sandbox":
        await store.migrate()
    found = await store.revision()
    if found != newest():
        problems = Problems()
        problems.add("store", f"the schema is at {found}, this release needs {newest()}; run `pearl db upgrade`")
        problems.refuse()


def _retry(config: Config) -> RetryPolicy:
    delivery = config.delivery
    return RetryPolicy(
        attempts=delivery.attempts,
        first=timedelta(seconds=delivery.first_delay_seconds),
        longest=timedelta(seconds=delivery.longest_delay_seconds),
        patience=timedelta(seconds=delivery.patience_seconds),
    )


def _timing(config: Config) -> Timing:
    return Timing(
        lease=timedelta(seconds=config.delivery.lease_seconds),
        poll=timedelta(seconds=config.delivery.poll_seconds),
        shutdown=timedelta(seconds=config.limits.shutdown_seconds),
    )


def _authenticator(identity: IdentityService) -> Callable[[str], Awaitable[Caller]]:
    """Return the function that turns a bearer token into the agency that it was issued to."""

    async def authenticate(token: str) -> Caller:
        return identity.tokens.caller_of(identity.tokens.verify(token))

    return authenticate


# --- background ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _background(
    worker: DeliveryWorker, feeds: Feeds, janitor: Work, stopping: asyncio.Event
) -> AsyncIterator[None]:
    """Run worker, feeds and janitor beside the requests; on the way out, let the attempts under way finish."""
    works = {"delivery": worker.run, "janitor": janitor, **{f"feed {i}": feed for i, feed in enumerate(feeds)}}
    tasks = [asyncio.create_task(_without_end(name, work, stopping)) for name, work in works.items()]
    try:
        yield
    finally:
        stopping.set()
        worker.stop()
        _, late = await asyncio.wait(tasks, timeout=worker.patience_seconds + LAST_LOOK_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _without_end(name: str, work: Work, stopping: asyncio.Event) -> None:
    """Run work that ends only with the process. If a bug ends it, say so loudly and begin again."""
    while not stopping.is_set():
        try:
            await work()
        except Exception:
            log.exception("background work ended unexpectedly", work=name)
        await wait(stopping, 1)


def _feeds(inbox: Inbox, regions: Mapping[str, Region], stopping: asyncio.Event) -> Feeds:
    """Return one endless reader per region whose events are polled."""
    polled = [region for region in regions.values() if region.adapter.feed is not None]
    return [partial(inbox.poll_forever, region, stopping) for region in polled]


def _forget(tx: Connection, now: datetime) -> None:
    forget_expired(tx, now)
    forget_window_sessions(tx, now)


def _janitor(store: Store, clock: Clock, stopping: asyncio.Event) -> Work:
    """Return the endless work of forgetting what has expired: interactions, sessions, codes, nonces."""

    async def sweep() -> None:
        while not stopping.is_set():
            try:
                await store.write(partial(_forget, now=clock()))
            except GatewayError as error:
                log.warning("nothing forgotten", code=error.stable_code, detail=error.detail)
            await wait(stopping, JANITOR_SECONDS)

    return sweep
