"""What the front page opens before anything can be built: keys, the outgoing session, data files, regions, the store.

Owns: telling everything that is wrong with them in one go. Leaves to `gateway.app`: building on them.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import structlog
from sqlalchemy.engine import make_url

from gateway.config import Config, Problems, RegionSettings, read_secret
from gateway.crypto.at_rest import References, Sealer
from gateway.data import Data, load_data
from gateway.errors import FieldProblem, GatewayError, StartRefused
from gateway.identity.registry import services
from gateway.keys import OwnRing, read_ring
from gateway.lines import Line, guard
from gateway.ports import Adapter, Clock, Kit
from gateway.regions import Manifest, Region, limits_of, open_regions, secret_reader
from gateway.storage import Store, open_store
from gateway.storage.blobs import Blobs
from gateway.storage.migrations import newest
from gateway.submissions.archive_push import System, Systems
from gateway.telemetry import Metrics

log = structlog.get_logger("start")

_FILES_PATIENCE = 3.0
"""Seconds for which a start waits for the place for files."""


def own_keys(config: Config) -> tuple[Sealer, References, OwnRing]:
    """Read the gateway's own keys. Raises StartRefused that names every key that is wrong."""
    problems = Problems()
    with problems.collect():
        own = read_ring(config)
    with problems.collect():
        sealer, references = _keys_of_data(config)
    problems.refuse()
    return sealer, references, own


def _keys_of_data(config: Config) -> tuple[Sealer, References]:
    keys = config.keys
    try:
        sealer = Sealer(*(read_secret(config, reference, "keys.at_rest") for reference in keys.at_rest))
        return sealer, References(read_secret(config, keys.references, "keys.references"))
    except ValueError as error:
        raise StartRefused("keys", problems=[FieldProblem("keys", str(error))]) from error


@asynccontextmanager
async def outgoing_session() -> AsyncIterator[aiohttp.ClientSession]:
    """The one outgoing HTTP session: no cookies, since no region's protocol knows any.

    It has no limit of its own: each region's line says how many calls there may be at once (`concurrency`). A limit for
    all together would let issuers that are slow keep the others waiting, and a call that got no connection in time
    would count against a region that nobody had asked.
    """
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


def data_and_regions(
    config: Config,
    session: aiohttp.ClientSession,
    clock: Clock,
    metrics: Metrics,
    registered: Mapping[str, str] | None = None,
) -> tuple[Data, Mapping[str, Region], Mapping[str, Line]]:
    """Load data files, regions and mappings; whatever is wrong with any of them is told together.

    `registered` are the clients in the database (id → service), None where nobody looked.
    """
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
        data = load_data(config, registered)
    with problems.collect():
        regions = open_regions(config, kit, behind_line, metrics.unknown_code)
    problems.refuse()
    if data is None:
        raise AssertionError("no problem was found, so the data is there")
    return data, regions, lines


def archive_systems(config: Config) -> Systems:
    """Return the archive systems with their tokens. Raises StartRefused that names every one that is wrong."""
    problems = Problems()
    known: dict[str, System] = {}
    for place, chosen in config.archive.systems.items():
        with problems.collect():
            name = f"archive.systems.{place}.token"
            token = "" if chosen.token is None else read_secret(config, chosen.token, name).decode().strip()
            known[place] = System(chosen.url, token)
    problems.refuse()
    return Systems(known)


def store_url(config: Config) -> str:
    """Return the store's address: a relative SQLite path starts at the configuration, a password has its own file."""
    prefix, url = "sqlite:///", config.store.url
    if url.startswith(prefix):
        return f"{prefix}{config.folder / url.removeprefix(prefix)}"
    if config.store.password is None:
        return url
    password = read_secret(config, config.store.password, "store.password").decode().strip()
    return make_url(url).set(password=password).render_as_string(hide_password=False)


async def registered_clients(config: Config) -> Mapping[str, str] | None:
    """Return the clients in the database before anything is built: id → service; None when it cannot be reached.

    A database that is not there yet has none, and looking does not make it.
    """
    try:
        url = make_url(store_url(config))
        if url.drivername == "sqlite" and not os.path.exists(str(url.database)):  # noqa: ASYNC240 - nobody is served yet
            return {}
        async with opened_store(config) as store:
            return await store.read(services) if await store.revision() == newest() else {}
    except GatewayError:  # whoever opens the store to work with it says what is wrong
        return None


@asynccontextmanager
async def opened_store(config: Config) -> AsyncIterator[Store]:
    """Open the store that is configured, and close it afterwards."""
    store = await open_store(store_url(config))
    try:
        yield store
    finally:
        await store.close()


async def prepare_store(store: Store, config: Config) -> None:
    """Migrate in the sandbox; elsewhere only look, because an operator decides when a schema changes."""
    if config.environment == "sandbox":
        await store.migrate()
    await require_schema(store)


async def require_schema(store: Store) -> None:
    """Raise StartRefused when the schema is not the one of this release."""
    found = await store.revision()
    if found != newest():
        problems = Problems()
        problems.add("store", f"the schema is at {found}, this release needs {newest()}; run `pearl db upgrade`")
        problems.refuse()


async def warn_of_files(blobs: Blobs) -> None:
    """Say in the log when the place for files does not answer as the gateway starts; it serves without it meanwhile."""
    try:
        async with asyncio.timeout(_FILES_PATIENCE):
            trouble = await blobs.trouble()
    except TimeoutError:
        trouble = f"no answer within {_FILES_PATIENCE:.0f} s"
    if trouble is not None:
        log.warning("the place for files is away", why=trouble)
