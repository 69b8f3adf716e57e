"""Work that goes on beside the requests: deliveries, logouts, feeds, clocks, forgetting, reloads when a signal asks.

Owns: starting it, beginning again when a bug ended it, and letting it finish on the way out. Leaves the work itself to
the objects that are handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy import Connection

from gateway.certificates.dispute_rows import forget as forget_disputes
from gateway.certificates.freshness import forget as forget_freshness
from gateway.certificates.links import forget as forget_links
from gateway.certificates.notices import forget as forget_notices
from gateway.certificates.timeliness import forget as forget_looked_for
from gateway.crypto.at_rest import Sealer
from gateway.errors import GatewayError
from gateway.identity.logout_records import forget_finished
from gateway.identity.logout_worker import LogoutWorker
from gateway.identity.records import forget_expired
from gateway.identity.refusals import Refusals
from gateway.identity.returns import forget_expired as forget_returns
from gateway.identity.subject_references import forget_references
from gateway.ports import Clock
from gateway.regions import Region
from gateway.storage import Store
from gateway.submissions.delivery import DeliveryWorker
from gateway.submissions.disposal import Disposal
from gateway.submissions.drafts import forget as forget_drafts
from gateway.submissions.inbox import Inbox
from gateway.versions import Versions
from gateway.waiting import wait
from gateway.web.window.sessions import forget_expired as forget_window_sessions

log = structlog.get_logger("background")

JANITOR_SECONDS = 60.0
LAST_LOOK_SECONDS = 0.5
"""How long a look into a feed may go on when the process ends: what it would have read is still there afterwards."""
Work = Callable[[], Coroutine[None, None, None]]
Feeds = Sequence[Work]


@asynccontextmanager
async def in_background(
    worker: DeliveryWorker,
    logouts: LogoutWorker,
    feeds: Feeds,
    janitor: Work,
    stopping: asyncio.Event,
    more: Mapping[str, Work] = {},
) -> AsyncIterator[None]:
    """Run worker, feeds, janitor and `more` beside the requests; on the way out, let attempts under way finish."""
    works = {
        "delivery": worker.run,
        "logout": logouts.run,
        "janitor": janitor,
        **{f"feed {i}": feed for i, feed in enumerate(feeds)},
        **more,
    }
    tasks = [asyncio.create_task(without_end(name, work, stopping)) for name, work in works.items()]
    try:
        yield
    finally:
        stopping.set()
        worker.stop()
        logouts.stop()
        _, late = await asyncio.wait(tasks, timeout=worker.patience_seconds + LAST_LOOK_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def without_end(name: str, work: Work, stopping: asyncio.Event) -> None:
    """Run work that ends only with the process. If a bug ends it, say so loudly and begin again."""
    while not stopping.is_set():
        try:
            await work()
        except Exception:
            log.exception("background work ended unexpectedly", work=name)
        await wait(stopping, 1)


def feed_readers(inbox: Inbox, regions: Mapping[str, Region], stopping: asyncio.Event) -> Feeds:
    """Return one endless reader per region whose events are polled."""
    polled = [region for region in regions.values() if region.adapter.feed is not None]
    return [partial(inbox.poll_forever, region, stopping) for region in polled]


def _forget(tx: Connection, now: datetime, disputes: timedelta) -> None:
    forget_expired(tx, now)
    forget_returns(tx, now)
    forget_references(tx, now)
    forget_finished(tx, now)
    forget_window_sessions(tx, now)
    forget_looked_for(tx, now)
    forget_freshness(tx, now)
    forget_disputes(tx, now - disputes)
    forget_links(tx, now)
    forget_notices(tx, now)


def janitor_of(
    store: Store,
    versions: Versions,
    refusals: Refusals,
    clock: Clock,
    stopping: asyncio.Event,
    disposal: Disposal,
    disputes: timedelta,
    sealer: Sealer,
) -> Work:
    """Return the endless work of forgetting what has expired: interactions, sessions, codes, nonces, mappings, files.

    Reported errors in certificates go so long (`disputes`) after their end. It also writes down what of refusals was
    only counted.
    """

    async def sweep() -> None:
        while not stopping.is_set():
            try:
                await store.write(partial(_forget, now=clock(), disputes=disputes))
                await store.write(partial(forget_drafts, sealer=sealer, now=clock()))
                await versions.tidy()
                await refusals.write_counted()
                await disposal.tidy()
            except GatewayError as error:
                log.warning("nothing forgotten", code=error.stable_code, detail=error.detail)
            await wait(stopping, JANITOR_SECONDS)

    return sweep


@asynccontextmanager
async def reloading(versions: Versions, reread: Work, asked: asyncio.Event) -> AsyncIterator[None]:
    """Read the mappings again whenever it is asked for, and what `reread` reads, which keeps what it has on errors.

    What is asked for meanwhile is done once more afterwards.
    """

    async def reload() -> None:
        while await asked.wait():
            asked.clear()
            try:
                await reread()
                await versions.reload({"signal": "SIGHUP"})
            except GatewayError as error:  # everything that is wrong stands in the log already
                log.warning("not reloaded", code=error.stable_code, detail=error.detail)
            except Exception:
                log.exception("reload ended unexpectedly")

    task = asyncio.create_task(reload())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
