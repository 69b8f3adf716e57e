"""Telling services and regions that a session has ended, until each has answered or was tried often enough.

Owns: claiming what is due, the logout token and its way to a service (OpenID Connect Back-Channel Logout 1.0). Leaves
to `logout` what must be said and what becomes of a party that could not be told. A worker that dies leaves a lease
that runs out; whoever comes next tries again, with a new token, because nobody knows whether the last one arrived.
"""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

import aiohttp
import structlog

from gateway.config import LogoutSettings
from gateway.errors import GatewayError, NotOffered, RegionRefused, RegionUncertain, RegionUnreachable
from gateway.identity import logout_records as rows
from gateway.identity.clients import Client
from gateway.identity.logout import Logouts
from gateway.identity.logout_records import Party
from gateway.identity.provider import FindClient, ProviderParts
from gateway.ports import Clock
from gateway.storage import Store
from gateway.waiting import wait

EVENT = "http://schemas.openid.net/event/backchannel-logout"
TOKEN_LIFE = timedelta(minutes=2)
"""§2.4 recommends two minutes at most."""
AT_ONCE = 16
"""Parties that are told at the same time, in each process."""
_TOLD = frozenset({HTTPStatus.OK, HTTPStatus.NO_CONTENT})
_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})

log = structlog.get_logger("logout")


class LogoutWorker:
    """Works the parties of all logouts off."""

    def __init__(
        self,
        settings: LogoutSettings,
        parts: ProviderParts,
        find: FindClient,
        logouts: Logouts,
        store: Store,
        session: aiohttp.ClientSession,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._find = find
        self._logouts = logouts
        self._store = store
        self._session = session
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=settings.timeout_seconds)
        self._wake = asyncio.Event()
        self._stopping = False
        logouts.nudge = self._wake.set

    def stop(self) -> None:
        """Claim nothing more. `run` ends once the attempts under way have."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Tell whoever is due, until `stop`."""
        running: set[asyncio.Task[None]] = set()
        while not self._stopping:
            self._wake.clear()
            for party in await self._claim(AT_ONCE - len(running)):
                task = asyncio.create_task(self.tell(party))
                running.add(task)
                task.add_done_callback(running.discard)
                task.add_done_callback(lambda _task: self._wake.set())
            await wait(self._wake, self._settings.poll_seconds)
        await asyncio.gather(*running, return_exceptions=True)  # none takes longer than its time-out

    async def _claim(self, room: int) -> list[Party]:
        if room <= 0:
            return []
        lease = timedelta(seconds=self._settings.lease_seconds)
        claiming = partial(rows.claim, limit=room, now=self._clock(), lease=lease, attempts=self._settings.attempts)
        try:
            return await self._store.write(claiming)
        except GatewayError as error:  # the store is away: the parties wait, and so do we
            log.warning("cannot claim logouts", code=error.stable_code, detail=error.detail)
            return []

    async def tell(self, party: Party) -> None:
        """Make one attempt and write down what came of it."""
        try:
            try:
                await (self._tell_client(party) if party.kind == "client" else self._tell_region(party))
            except GatewayError as error:
                await self._logouts.failed(party, error)
            else:
                await self._logouts.settled(party, "done", "ok")
        except Exception:  # the store is away, or a defect: the lease runs out, and the attempt counts
            log.exception("logout attempt ended unexpectedly", logout=party.logout_id, party=party.party)

    # --- regions -----------------------------------------------------------------------------------------------------

    async def _tell_region(self, party: Party) -> None:
        """Have a region end its session by itself. One that wants the browser gets none: the person is gone."""
        redirect = await self._logouts.end_at_region(party, "zh-CN")
        if redirect is not None:
            raise NotOffered("This region ends its session in the browser only.", region=party.name)

    # --- services ----------------------------------------------------------------------------------------------------

    async def _tell_client(self, party: Party) -> None:
        """Post a logout token. No redirect is followed and no answer is read but its status (§2.5, §2.8)."""
        client = await self._find(party.name)
        if client is None or client.backchannel_logout_uri is None:
            raise NotOffered("The client takes no logout tokens.")
        form = {"logout_token": self.token(party, client)}
        try:
            async with self._session.post(
                client.backchannel_logout_uri, data=form, timeout=self._timeout, allow_redirects=False
            ) as answer:
                status = answer.status
                answer.close()  # with whatever body there may be, however long
        except TimeoutError:
            raise RegionUncertain("The service did not answer in time.", code="logout.timeout") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            detail = type(error).__name__
            text = "The service cannot be reached."
            raise RegionUnreachable(text, code="logout.unreachable", detail=detail) from None
        _judge(status)

    def token(self, party: Party, client: Client) -> str:
        """Return a fresh logout token: who, which session, and no nonce (§2.4)."""
        message, now = self._logouts.message_of(party), self._clock()
        claims: dict[str, Any] = {
            "iss": self._parts.issuer,
            "aud": party.name,
            "iat": int(now.timestamp()),
            "exp": int((now + TOKEN_LIFE).timestamp()),
            "jti": secrets.token_urlsafe(16),
            "sub": message["sub"],
            "sid": message["sid"],
            "events": {EVENT: {}},
        }
        return self._parts.sign_logout_token(client, claims)


def _judge(status: int) -> None:
    """Say what a status means. Raises RegionRefused for a definite no, RegionUncertain for what may pass."""
    if status in _TOLD:
        return
    if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise RegionUncertain("The service could not do it just now.", code="logout.unavailable")
    raise RegionRefused(f"The service answered {status}.", code="logout.refused")
