"""A replica that dies while it tells services of a logout loses none of them (PostgreSQL, real processes).

The first replica is killed with SIGKILL in the middle of telling one service, after it has told another. The second one
takes over when the lease has ended: the service that was told is not told again, the others are.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from joserfc import jwt
from joserfc.jwk import KeySet
from prometheus_client import CollectorRegistry
from sqlalchemy import select
from sqlalchemy.engine import URL, make_url

from gateway.app import utc_now
from gateway.config import Config, load_config
from gateway.identity.clients import Client
from gateway.identity.logout import Logouts, Order, held_by
from gateway.opening import own_keys
from gateway.sandbox.layout import Choices, Layout, lay_out
from gateway.sandbox.neighbourhood import end, free_ports, wait_until_ready
from gateway.storage import Store, open_store
from gateway.storage.tables import evidence, logout_parties, logouts
from gateway.telemetry import Metrics
from tests.flows import killed_gateway
from tests.flows.flow_support import eventually
from tests.support.forked import Forked
from tests.support.logout import a_session

PASSWORD = "PEARL_STORE_PASSWORD"
QUICK = "\n[logout]\nlease_seconds = 4\ntimeout_seconds = 3.5\nfirst_delay_seconds = 0.2\npoll_seconds = 0.1\n"
EMPTY = {"items": "item = []", "seals": "", "certificates": "type = []", "grants": "", "windows": "", "transfers": ""}
NAMES = ("heard", "hangs", "refuses")


class Services:
    """Three services: one hears, one hangs when it is told first, one has a bad moment when it is told first."""

    def __init__(self) -> None:
        self.tokens: dict[str, list[str]] = {name: [] for name in NAMES}
        self.hung = asyncio.Event()
        self._server = TestServer(self._app())

    def url(self, name: str) -> str:
        return str(self._server.make_url(f"/{name}"))

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/{name}", self._receive)
        return app

    async def _receive(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.tokens[name].append(str((await request.post())["logout_token"]))
        first = len(self.tokens[name]) == 1
        if name == "hangs" and first:
            self.hung.set()
            await asyncio.Event().wait()
        return web.Response(status=503 if name == "refuses" and first else 200)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self._server.start_server()
        try:
            yield
        finally:
            await self._server.close()


def laid_out(folder: Path, store_url: str, services: Services) -> Layout:
    """Lay out a gateway on this store, with the three services among its clients."""
    bare = make_url(store_url)
    address = URL.create(bare.drivername, bare.username, None, bare.host, bare.port, bare.database, bare.query)
    secret = None if bare.password is None else f"env:{PASSWORD}"
    choices = Choices(store_url=address.render_as_string(), store_password=secret, extra=QUICK)
    layout = lay_out(folder, free_ports(["guangdong"]), choices)  # one region: the processes start sooner
    for name, nothing in EMPTY.items():
        (folder / f"{name}.toml").write_text(nothing)
    with (folder / "clients.toml").open("a", encoding="utf-8") as clients:
        clients.writelines(registration(name, services.url(name)) for name in NAMES)
    return layout


def registration(name: str, url: str) -> str:
    return f"""
[[client]]
id = "{name}"
name = "{name}"
organisation = "测试机构（沙箱）"
organisation_code = "11440100MBT40100XX"
origin_code = "440100"
redirect_uris = ["http://127.0.0.1:1/back"]
backchannel_logout_uri = "{url}"
grant_types = ["authorization_code"]
scopes = ["openid"]
authentication = "none"
"""


async def a_process(layout: Layout, store_url: str) -> Forked:
    environment, log = {PASSWORD: str(make_url(store_url).password or "none")}, layout.folder / "gateway.log"
    process = await Forked.start(killed_gateway.main, [str(layout.config), "none", "none"], log, log, environment)
    await wait_until_ready(process, layout)
    return process


def logouts_of(config: Config, store: Store) -> Logouts:
    """Return what ends sessions as a third replica has it, which tells nobody."""
    sealer, references, _own = own_keys(config)
    names: Any = SimpleNamespace(pairwise=lambda client, session: references.of(client, session.subject_ref),
                                 sid=lambda client, session: references.of("sid", client, session.id),
                                 references=references, issuer=config.public_url)  # fmt: skip

    async def find(_client_id: str) -> Client | None:
        return None

    return Logouts(config.logout, names, find, {}, store, sealer, utc_now, Metrics(CollectorRegistry()))


async def test_a_replica_that_dies_between_two_services_leaves_both_told(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD, str(make_url(postgres_url).password or "none"))
    services, store = Services(), await open_store(postgres_url)
    async with services.running():
        layout = laid_out(tmp_path, postgres_url, services)
        process = await a_process(layout, postgres_url)
        try:
            await end_a_session(load_config(layout.config), store)
            await asyncio.wait_for(services.hung.wait(), 20)
            await eventually(lambda: settled(store, "client:heard"))
            process.kill()
            assert await process.wait() == -9
            process = await a_process(layout, postgres_url)
            rows = await eventually(lambda: all_done(store))
            await verified(layout, services)
        finally:
            await end(process)
    assert {name: len(tokens) for name, tokens in services.tokens.items()} == {"heard": 1, "hangs": 2, "refuses": 2}
    assert {row["party"]: row["attempts"] for row in rows} == {
        "client:heard": 1, "client:hangs": 2, "client:refuses": 2,
    }  # fmt: skip
    assert all(await store.read(lambda tx: tx.execute(select(logouts.c.finished_at)).scalars().all()))
    told = select(evidence.c.id).where(evidence.c.action == "sign_on.logout_party")
    assert len(await store.read(lambda tx: tx.execute(told).all())) == len(NAMES)
    await store.close()


async def end_a_session(config: Config, store: Store) -> None:
    handle = secrets.token_urlsafe(32)
    sealer, references, _own = own_keys(config)
    await store.write(lambda tx: a_session(tx, sealer, references, utc_now(), *NAMES, handle=handle))
    await logouts_of(config, store).end(Order(held_by(handle), "person", tell_region=False))


async def settled(store: Store, party: str) -> bool:
    """Say whether a party's result is on record: only then is it never told again."""
    states = select(logout_parties.c.state).where(logout_parties.c.party == party)
    return bool(await store.read(lambda tx: tx.execute(states).scalar_one()) == "done")


async def all_done(store: Store) -> list[Any] | None:
    rows = await store.read(lambda tx: tx.execute(select(logout_parties)).mappings().all())
    return list(rows) if {row["state"] for row in rows} == {"done"} else None


async def verified(layout: Layout, services: Services) -> None:
    """Verify every token by the keys that the gateway publishes: each is a new one, for the same session."""
    url = f"{layout.ports.public_url}/oauth2/jwks"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        keys = KeySet.import_key_set(await answer.json())
    for name, tokens in services.tokens.items():
        claims = [jwt.decode(token, keys, algorithms=["ES256"]).claims for token in tokens]
        assert {one["aud"] for one in claims} == {name}
        assert (len({one["sid"] for one in claims}), len({one["jti"] for one in claims})) == (1, len(claims))
