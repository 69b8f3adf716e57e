"""Webhooks: the stream of events, pushed to an agency's own address, signed, in order, until it has taken each.

Owns: who is pushed what, the signature (Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`),
trying again, and giving up. Leaves to `stream`: the events, which are the very ones that are polled. Addresses come
from an operator, never from a caller, so nobody can have us call where they like.

Each webhook has a place in the stream of its own, which moves when an event was taken (2xx). What comes is therefore in
order and complete; after a crash an event may come twice, under the same `webhook-id`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson
import structlog
from sqlalchemy import Connection, and_, exists, func, or_, select, update
from yarl import URL

from gateway.crypto.at_rest import Sealer
from gateway.errors import Conflict, FieldProblem, GatewayError, InvalidRequest, NotFound
from gateway.evidence import Exchange, record
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.tables import clients, submission_events, webhooks
from gateway.submissions.retry import RetryPolicy
from gateway.submissions.stream import Page, Stream, check_reached, position_of
from gateway.telemetry import Metrics
from gateway.waiting import wait

log = structlog.get_logger("webhooks")

KIND = "case.event"
FIRST, LONGEST = timedelta(seconds=1), timedelta(hours=1)
"""The wait after the first failure, which doubles, and the longest."""
_BACK_OFF = RetryPolicy(attempts=1, first=FIRST, longest=LONGEST)
"""Only its waits are used: how often is not counted here, but for how long."""
GIVEN_UP = timedelta(days=5)
"""A webhook that took nothing for so long is disabled; the events stay in the stream."""
BOTH_SIGN = timedelta(hours=24)
"""How long the old secret signs too, after it was changed."""
TIMEOUT = 10.0
LEASE = timedelta(seconds=60)
UNTIL = LEASE - timedelta(seconds=2 * TIMEOUT)
"""How long one turn begins pushes: the last one ends, and is written down, before anybody else may take the address."""
AT_ONCE = 20
"""Events that are pushed to one address before the next has its turn."""
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Target:
    """A webhook that this worker pushes to until its lease ends."""

    id: str
    client_id: str
    url: str
    secrets: Sequence[bytes]
    position: int
    failures: int
    failing_since: datetime | None
    claimed_at: datetime


class WebhookWorker:
    """Pushes events to every address that has not taken them yet."""

    def __init__(
        self,
        store: Store,
        stream: Stream,
        sealer: Sealer,
        session: aiohttp.ClientSession,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._stream = stream
        self._sealer = sealer
        self._session = session
        self._clock = clock
        self._metrics = metrics
        self._owner = secrets.token_hex(8)
        self._stopping = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        """Push until told to stop. One address that hangs does not hold up the others."""
        self._stopping = stopping
        running: dict[str, asyncio.Task[None]] = {}
        while not stopping.is_set():
            for target in await self._claim():
                running[target.id] = asyncio.create_task(self.push(target))
            running = {name: task for name, task in running.items() if not task.done()}
            await wait(stopping, LOOK_SECONDS)
        await asyncio.gather(*running.values(), return_exceptions=True)  # none takes longer than its time-out

    async def _claim(self) -> list[Target]:
        try:
            return await self._store.write(partial(_claim, sealer=self._sealer, owner=self._owner, now=self._clock()))
        except GatewayError as error:  # the store is away: events wait, and so do we
            log.warning("cannot claim webhooks", code=error.stable_code, detail=error.detail)
            return []

    async def push(self, target: Target) -> None:
        """Push what the address has not taken, one event after another, until it refuses one."""
        try:
            page = await self._stream.page(target.client_id, str(target.position), AT_ONCE)
            taken, code = await self._pushed(target, page)
            await self._store.write(partial(self._settle, target=target, taken=taken, code=code))
        except GatewayError as error:  # the store is away: the lease runs out, and the same comes again
            log.warning("webhook not settled", webhook=target.id, code=error.stable_code, detail=error.detail)

    async def _pushed(self, target: Target, page: Page) -> tuple[int, str]:
        """Return the place of the last event that was taken, and why no more was ("ok" when all were in time)."""
        taken, ends = target.position, target.claimed_at + UNTIL
        for event in page.events:
            if self._clock() >= ends or self._stopping.is_set():  # it goes on in its next turn, or elsewhere
                break
            code = await self._post(target, event)
            self._metrics.webhook(code)
            if code != "ok":
                return taken, code
            taken = position_of(event["cursor"])
        return taken, "ok"

    async def _post(self, target: Target, event: Mapping[str, Any]) -> str:
        """Post one event. No redirect is followed, and nothing of the answer is read but its status."""
        body = orjson.dumps({"type": KIND, "timestamp": event["recorded_at"], "data": event})
        headers = signed(target.secrets, str(event["id"]), self._clock(), body)
        headers["Content-Type"] = "application/json"
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        try:
            async with self._session.post(
                target.url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                status = answer.status
                answer.close()  # with whatever body there may be, however long
        except TimeoutError:
            return "webhook.timeout"
        except (aiohttp.ClientError, OSError, ValueError):
            return "webhook.unreachable"
        if status == HTTPStatus.GONE:
            return "webhook.gone"
        return "ok" if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES else f"webhook.status_{status}"

    def _settle(self, tx: Connection, *, target: Target, taken: int, code: str) -> None:
        """Write how far the address is, and when it is its turn again. Only whoever holds the lease may."""
        now = self._clock()
        failed = code != "ok"
        since = (target.failing_since or now) if failed else None
        failures = (target.failures + 1 if taken == target.position else 1) if failed else 0
        given_up = code == "webhook.gone" or (since is not None and now - since >= GIVEN_UP)
        values = {
            "position": taken,
            "failures": failures,
            "failing_since": since,
            "last_code": code,
            "due": now + _BACK_OFF.delay(failures, random.random) if failed else now,
            "owner": None,
            "lease_until": None,
            **({"disabled_at": now} if given_up else {}),
        }
        c = webhooks.c
        mine = and_(c.id == target.id, c.owner == self._owner, c.position == target.position)
        settled = tx.execute(update(webhooks).where(mine).values(values)).rowcount == 1
        if settled and given_up:
            _note(tx, "webhook.give_up", target.id, target.client_id, {"worker": self._owner}, code, now)


def _claim(tx: Connection, *, sealer: Sealer, owner: str, now: datetime) -> list[Target]:
    """Take the webhooks that have something to push, and are due. Those of a client that is disabled wait."""
    c, e = webhooks.c, submission_events.c
    ahead = exists().where(e.client_id == c.client_id, e.position > c.position)
    free = or_(c.lease_until.is_(None), c.lease_until < now)
    stopped = exists().where(clients.c.id == c.client_id, clients.c.disabled_at.is_not(None))
    due = select(webhooks).where(c.disabled_at.is_(None), c.due <= now, free, ahead, ~stopped)
    rows = tx.execute(due.with_for_update(skip_locked=True, of=webhooks)).mappings().all()
    for row in rows:
        held = update(webhooks).where(c.id == row["id"]).values(owner=owner, lease_until=now + LEASE)
        tx.execute(held)
    return [_target(sealer, dict(row), now) for row in rows]


def _target(sealer: Sealer, row: Mapping[str, Any], now: datetime) -> Target:
    known = [sealer.open(row["secret"], _context(row["id"]))]
    if row["old_secret"] is not None and row["old_until"] is not None and now < row["old_until"]:
        known.append(sealer.open(row["old_secret"], _context(row["id"])))
    return Target(
        row["id"], row["client_id"], row["url"], known, row["position"], row["failures"], row["failing_since"],
        now,
    )  # fmt: skip


def signed(keys: Sequence[bytes], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the headers of Standard Webhooks 1.0: HMAC-SHA256 over id, time and body, once for each secret."""
    stamp = str(int(at.timestamp()))
    said = b".".join((message_id.encode(), stamp.encode(), body))
    marks = [base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode() for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(f"v1,{mark}" for mark in marks),
    }


# --- keeping them --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Minted:
    """A webhook's secret, which is shown once. `text` is in the form of Standard Webhooks: `whsec_` and base64."""

    webhook_id: str
    text: str


class Webhooks:
    """Adds, lists, changes and ends webhooks; everything is part of the caller's transaction."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def add(self, tx: Connection, client_id: str, url: str, *, by: str, reason: str, now: datetime) -> Minted:
        """Add one, which gets what happens from now on.

        Raises InvalidRequest for an address that is none, Conflict for one to which this client's events go already.
        """
        check_address(url)
        _check_new(tx, client_id, url)
        webhook_id, key = "WH" + secrets.token_hex(12), secrets.token_bytes(32)
        last = select(func.max(submission_events.c.position))
        row = {
            "id": webhook_id,
            "client_id": client_id,
            "url": url,
            "secret": self._sealer.seal(key, _context(webhook_id)),
            "position": tx.execute(last).scalar() or 0,
            "due": now,
            "failures": 0,
            "created_at": now,
        }
        tx.execute(webhooks.insert().values(row))
        _note(tx, "webhook.add", webhook_id, client_id, {"operator": by}, reason, now)
        return Minted(webhook_id, _shown(key))

    def rotate(self, tx: Connection, webhook_id: str, *, by: str, reason: str, now: datetime) -> Minted:
        """Give one a new secret; the old one signs too for a day. Raises NotFound."""
        row = find(tx, webhook_id)
        key = secrets.token_bytes(32)
        values = {
            "old_secret": row["secret"],
            "old_until": now + BOTH_SIGN,
            "secret": self._sealer.seal(key, _context(webhook_id)),
        }
        tx.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(values))
        _note(tx, "webhook.rotate", webhook_id, row["client_id"], {"operator": by}, reason, now)
        return Minted(webhook_id, _shown(key))

    def switch(self, tx: Connection, webhook_id: str, *, on: bool, by: str, reason: str, now: datetime) -> None:
        """Enable or disable one. What happened meanwhile is pushed afterwards. Raises NotFound."""
        row = find(tx, webhook_id)
        off: dict[str, Any] = {"disabled_at": now}
        values = {"disabled_at": None, "failures": 0, "failing_since": None, "due": now} if on else off
        tx.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(values))
        action = "webhook.enable" if on else "webhook.disable"
        _note(tx, action, webhook_id, row["client_id"], {"operator": by}, reason, now)


def replay(tx: Connection, webhook_id: str, client_id: str, cursor: str, who: Mapping[str, str], now: datetime) -> None:
    """Push again what came after a cursor. Raises NotFound for a webhook of somebody else, InvalidRequest."""
    after = position_of(cursor)
    check_reached(tx, after)
    c = webhooks.c
    mine = and_(c.id == webhook_id, c.client_id == client_id)
    again = {"position": after, "due": now, "owner": None, "lease_until": None, "failures": 0, "failing_since": None}
    if tx.execute(update(webhooks).where(mine).values(again)).rowcount == 0:
        raise _unknown(webhook_id)
    _note(tx, "webhook.replay", webhook_id, client_id, who, f"after {after}", now)


def find(tx: Connection, webhook_id: str) -> dict[str, Any]:
    """Return one. Raises NotFound."""
    row = tx.execute(select(webhooks).where(webhooks.c.id == webhook_id)).mappings().first()
    if row is None:
        raise _unknown(webhook_id)
    return dict(row)


def listed(tx: Connection, client_id: str | None = None) -> list[dict[str, Any]]:
    """Return webhooks, of one client or of all: no secret."""
    c = webhooks.c
    columns = (
        c.id,
        c.client_id,
        c.url,
        c.position,
        c.failures,
        c.failing_since,
        c.last_code,
        c.created_at,
        c.disabled_at,
    )
    query = select(*columns).order_by(c.created_at)
    rows = tx.execute(query if client_id is None else query.where(c.client_id == client_id)).mappings()
    return [{str(name): value for name, value in row.items()} for row in rows]


def check_address(text: str) -> None:
    """Refuse an address that is not https; plain http is for this machine alone. Raises InvalidRequest."""
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme == "https" and url.host and url.user is None:
        return
    if url.scheme == "http" and url.host and _is_here(url.host):
        return
    problem = FieldProblem("url", "must be https://… without a user name; http only for this machine", "url")
    raise InvalidRequest("The address is not one that events may be pushed to.", problems=[problem])


def _check_new(tx: Connection, client_id: str, url: str) -> None:
    """Refuse a second webhook to one address: every event would come there twice. Raises Conflict."""
    for row in listed(tx, client_id):
        if URL(row["url"]) == URL(url):
            order = "enable` pushes there again" if row["disabled_at"] else "rotate` gives it a new secret"
            text = f"Webhook {row['id']} of {client_id} has this address already; `pearl webhooks {order}."
            raise Conflict(text, code="webhook.same_address")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


def _unknown(webhook_id: str) -> NotFound:
    return NotFound(f"There is no webhook {webhook_id}.", code="webhook.not_found")


def _context(webhook_id: str) -> str:
    return f"webhooks.secret:{webhook_id}"


def _note(
    tx: Connection, action: str, webhook_id: str, client_id: str, who: Mapping[str, str], reason: str, now: datetime
) -> None:
    exchange = Exchange(
        action=action,
        outcome="failed" if action == "webhook.give_up" else "done",
        reason=reason,
        who=dict(who),
        what={"webhook": webhook_id, "client": client_id},
        purpose="operation",
        received_at=now,
    )
    record(tx, exchange, now=now)
