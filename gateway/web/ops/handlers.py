"""/metrics, /livez, /readyz.

Owns: what an operator's monitoring reads. `livez` says that the process turns; `readyz` that it can do its work, with
one line per region: a region that is away makes it degraded, not unready, because the others still serve. So does a
place for files that is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from sqlalchemy import Connection

from gateway.certificates import dispute_rows
from gateway.errors import GatewayError
from gateway.identity.health import Health
from gateway.lines import Line
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.migrations import newest
from gateway.storage.store import insert_into
from gateway.storage.tables import nonces
from gateway.submissions import conflicts, disposal, errands, queue, ratings, recognised, rules_kept, timekeeping
from gateway.telemetry import Metrics

_WORDS = {
    "closed": "closed by the operator",
    "stale": "degraded: its keys have not been confirmed for too long, nobody signs on with them",
    "resting": "degraded: calls fail, left alone for a moment",
}
_PATIENCE = 3.0
"""Seconds that /readyz and /metrics wait for the store: fewer than Prometheus waits for them."""


def routes(
    store: Store,
    lines: Mapping[str, Line],
    metrics: Metrics,
    clock: Clock,
    accepting: Callable[[], bool],
    health: Health,
    refused: Callable[[], str | None] = lambda: None,
    files: Callable[[], Awaitable[str | None]] | None = None,
) -> list[web.RouteDef]:
    """Return the routes of the admin listener. `accepting` is False once the shutdown has begun.

    `refused` tells why a write was refused a moment ago, if one was; `files` why the place for files does not answer.
    """

    async def show_metrics(_request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_PATIENCE):
                figures, due = await store.read(lambda tx: (queue.figures(tx, clock()), timekeeping.figures(tx)))
                metrics.materials(await store.read(disposal.figures))
                metrics.case_errands(await store.read(errands.figures))
                metrics.certificate_disputes(await store.read(dispute_rows.figures))
                metrics.rating_corrections(await store.read(lambda tx: ratings.figures(tx, clock())))
                metrics.event_conflicts(await store.read(conflicts.count_waiting))
                metrics.rules_broken(await store.read(rules_kept.figures))
                metrics.certificates_unconfirmed(await store.read(lambda tx: recognised.overdue(tx, clock())))
        except (GatewayError, TimeoutError):
            metrics.store_up(False)  # the other figures are what an operator needs most just now
        else:
            metrics.store_up(refused() is None)
            metrics.case_clocks(due)
            for region in lines.keys() | figures.keys():  # a disabled region's deliveries are still there
                counts, oldest = figures.get(region, ({}, 0.0))
                metrics.queue(region, {**dict.fromkeys((*queue.UNSETTLED, "dead"), 0), **counts}, oldest)
            await _note_sign_on(metrics, health)
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        trouble: str | None = "shutting down"
        told: Sequence[str] = ()
        if accepting():
            trouble, told = await asyncio.gather(_trouble(store, refused, clock), _files_lines(files))
        lines_of_text = [f"gateway: {trouble or 'ready'}", *told]
        for region, line in sorted(lines.items()):
            state = "degraded: calls fail, left alone for a moment" if line.resting() else "ok"
            lines_of_text.append(f"region {region}: {state}")
        lines_of_text += [] if trouble else await _sign_on_lines(health)
        return web.Response(text="\n".join(lines_of_text) + "\n", status=503 if trouble else 200)

    return [web.get("/metrics", show_metrics), web.get("/livez", livez), web.get("/readyz", readyz)]


async def _files_lines(files: Callable[[], Awaitable[str | None]] | None) -> list[str]:
    """Return a line when the place for files is away: meanwhile everything is served that needs no file."""
    if files is None:
        return []
    try:
        async with asyncio.timeout(_PATIENCE):
            trouble = await files()
    except TimeoutError:
        trouble = f"no answer within {_PATIENCE:.0f} s"
    return [f"files: degraded: {trouble}"] if trouble else []


async def _note_sign_on(metrics: Metrics, health: Health) -> None:
    """Set the figures of sign-on, region by region."""
    for region in health.regions:
        metrics.region_closed(region, await health.of(region) == "closed")
        age = health.trust_age(region)
        if age is not None:
            metrics.trust_age(region, age)


async def _sign_on_lines(health: Health) -> list[str]:
    """Return a line for each region through which nobody can sign on, with the reason; the rest go without saying."""
    states = {region: await health.of(region) for region in health.regions}
    return [f"sign-on {region}: {_WORDS[state]}" for region, state in states.items() if state in _WORDS]


async def _trouble(store: Store, refused: Callable[[], str | None], clock: Clock) -> str | None:
    """Return what keeps the gateway from working, if anything does.

    A store that can be read and not written is of no use: nothing is accepted that is not written down.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            revision = await store.revision()
            if revision == newest():
                await store.write(partial(_try_to_write, now=clock()))
    except GatewayError as error:
        return f"store: {error.public}"
    except TimeoutError:
        return f"store: no answer within {_PATIENCE:.0f} s"
    if revision != newest():
        return f"store: schema is at {revision}, this release needs {newest()}; run `pearl db upgrade`"
    told = refused()
    return f"store: {told}" if told else None


def _try_to_write(tx: Connection, now: datetime) -> None:
    """Write one row, always the same one."""
    row = {"scope": "readiness", "value": "", "expires_at": now}
    kept = insert_into(tx, nonces).values(row)
    tx.execute(kept.on_conflict_do_update(index_elements=["scope", "value"], set_={"expires_at": now}))
