"""Refused sign-ons and refused requests of clients as evidence: who, at what, why; never a secret, never a person.

Owns: the rows, and their bound: of one kind so many a minute are written each by itself, the others are counted, and
the count is written when that minute is over. Leaves to `authorization` and `token_endpoint` the refusals themselves.
Nothing here stands on the way of a request that succeeds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from gateway.errors import GatewayError, SignOnFailed
from gateway.evidence import Exchange, record
from gateway.evidence.record import Outcome
from gateway.identity.broker import Interrupted
from gateway.ports import Clock
from gateway.storage import Store

EACH = 20
"""Refusals of one kind in one minute that get a row each; a flood of them fills no table."""
MINUTE = timedelta(minutes=1)
NO_REFUSAL = frozenset({"use_dpop_nonce"})
"""Errors by which a client is only told how to ask."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One kind of refusal. `client_id` and `region` are empty unless they are registered and enabled here.

    There are only so many kinds: every part of one is a word of ours.
    """

    action: str
    reason: str
    client_id: str = ""
    region: str = ""
    outcome: Outcome = "refused"


@dataclass(slots=True)
class Attempt:
    """A sign-on under way: what is known of it, in case that it is refused.

    `answered` is the error that the service gets although the person signed on.
    """

    region: str
    client_id: str = ""
    answered: str = ""


class Refusals:
    """Writes refusals down. Each process counts its own."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._since = clock()
        self._counted: dict[Refusal, int] = {}

    async def of_client(self, action: str, client_id: str, error: str) -> None:
        """Note that a client got an error of OAuth for an answer."""
        if error not in NO_REFUSAL:
            await self._note(Refusal(action, error, client_id=client_id))

    @asynccontextmanager
    async def of_sign_on(self, region: str) -> AsyncIterator[Attempt]:
        """Watch over a sign-on: whatever ends it is noted, and raised again."""
        attempt = Attempt(region)
        try:
            yield attempt
        except Interrupted as interrupted:
            attempt.client_id = interrupted.interaction.client_id
            await self._note(_ended(attempt, interrupted.cause))
            raise
        except SignOnFailed as error:
            await self._note(_ended(attempt, error))
            raise
        if attempt.answered:
            await self._note(Refusal("sign_on.answer", attempt.answered, attempt.client_id, attempt.region))

    async def write_counted(self) -> None:
        """Write what was counted and not written, if its minute is over. The janitor asks for it."""
        now = self._clock()
        await self._write([], self._over(now), now)

    async def _note(self, refusal: Refusal) -> None:
        now = self._clock()
        over = self._over(now)
        count = self._counted[refusal] = self._counted.get(refusal, 0) + 1
        await self._write([(refusal, 1)] if count <= EACH else [], over, now)

    def _over(self, now: datetime) -> list[tuple[Refusal, int]]:
        """Return how many of each kind the minute that is over left out, and begin a new one."""
        if timedelta() <= now - self._since < MINUTE:
            return []
        left_out = [(refusal, count - EACH) for refusal, count in self._counted.items() if count > EACH]
        self._since, self._counted = now, {}
        return left_out

    async def _write(self, new: list[tuple[Refusal, int]], counted: list[tuple[Refusal, int]], now: datetime) -> None:
        if new or counted:
            await self._store.write(partial(_keep, refusals=[*counted, *new], now=now))


def _ended(attempt: Attempt, cause: GatewayError) -> Refusal:
    """Return the refusal that an error is; what may succeed later has failed and was not refused."""
    outcome: Outcome = "failed" if cause.retryable else "refused"
    return Refusal("sign_on", cause.stable_code, attempt.client_id, attempt.region, outcome)


def _keep(tx: Connection, refusals: Sequence[tuple[Refusal, int]], now: datetime) -> None:
    for refusal, times in refusals:
        record(tx, _row(refusal, times, now), now=now)


def _row(refusal: Refusal, times: int, now: datetime) -> Exchange:
    return Exchange(
        action=refusal.action,
        outcome=refusal.outcome,
        reason=refusal.reason,
        who={"client": refusal.client_id} if refusal.client_id else {},
        what={"times": times, **({"region": refusal.region} if refusal.region else {})},
        purpose="",
        received_at=now,
    )
