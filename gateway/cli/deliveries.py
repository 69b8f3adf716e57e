"""`pearl deliveries …`: what is under way, and what waits for a person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from gateway.app import utc_now
from gateway.config import Config
from gateway.errors import FieldProblem, InvalidRequest, NotFound
from gateway.evidence import Exchange, record
from gateway.opening import opened_store
from gateway.submissions import queue

LONGEST_REASON = 128
"""Characters that a row of evidence has room for."""


async def unsettled(config: Config, limit: int) -> list[dict[str, Any]]:
    """Return the deliveries that are not settled, oldest first."""
    async with opened_store(config) as store:
        return await store.read(lambda tx: queue.unsettled(tx, limit))


async def retry(config: Config, submission_ids: Sequence[str], reason: str, operator: str) -> None:
    """Try dead deliveries again; each is asked about first.

    Raises NotFound and InvalidRequest, and then nothing was changed.
    """
    if not 1 <= len(reason) <= LONGEST_REASON:
        raise InvalidRequest(f"The reason must have 1 to {LONGEST_REASON} characters.")
    async with opened_store(config) as store:
        await store.write(lambda tx: _retry(tx, submission_ids, reason, operator, utc_now()))


def _retry(tx: Connection, submission_ids: Sequence[str], reason: str, operator: str, now: datetime) -> None:
    regions = {submission_id: queue.revive(tx, submission_id, now) for submission_id in dict.fromkeys(submission_ids)}
    problems = [FieldProblem(one, "is no dead delivery") for one, region in regions.items() if region is None]
    if problems:
        names = ", ".join(problem.field for problem in problems)
        raise NotFound(f"Not dead, so nothing was changed: {names}. `pearl deliveries list` shows what is.")
    for submission_id, region in regions.items():
        exchange = Exchange(
            action="delivery.retry",
            outcome="done",
            reason=reason,
            who={"operator": operator},
            what={"case": submission_id, "region": region},
            purpose="operation",
            received_at=now,
        )
        record(tx, exchange, now=now)
