"""The delivery row is the queue: claiming, settling and releasing, each one transaction.

Owns: leases and fencing, and that the messages about a case go out one after another. A claim is fenced by owner and
attempt: a worker that lost its lease can settle nothing. Leaves to `delivery`: talking to the region. To `turns`: whose
deliveries come next. A row that is found in state `sending` after its lease belongs to a worker that died: nobody
knows what the region got, so the new attempt is a doubtful one and begins with a question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Update, and_, bindparam, case, func, or_, select, update

from gateway.errors import CertificateNotAskable, CertificateUnconfirmed, RegionCannotBeAsked
from gateway.storage.tables import OUTSTANDING, deliveries, submissions
from gateway.submissions.turns import agencies_due, in_turn
from gateway.versions import UNPINNED

UNSETTLED = ("pending", "sending", "in_doubt")
WAITING = "waiting"
"""The state of a delivery that is not to go out yet: nobody claims it, and it counts for nothing (`joint`)."""
SUBMISSION = "submission"
"""The kind of delivery that hands the case itself over; the others are messages about it."""
NOT_THERE = ("region.refused", "mapping.failed", CertificateNotAskable.code, CertificateUnconfirmed.code)
"""Why a dead delivery's case is certainly not at its region: it said no, or nothing could be sent."""
_D = deliveries.c
_PIN = (
    select(submissions.c.mapping_version)
    .where(submissions.c.id == _D.submission_id)
    .scalar_subquery()
    .label("mapping_version")
)

# Built once: every attempt runs them, and building a statement costs more than running it.

_FREE = or_(_D.state.in_(("pending", "in_doubt")), and_(_D.state == "sending", _D.lease_until < bindparam("now")))
_OLDEST = (
    select(deliveries, _PIN)
    .where(_D.region == bindparam("at"), _D.client_id == bindparam("agency"), _D.due <= bindparam("now"), _FREE)
    .where(OUTSTANDING)
    .order_by(_D.due)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True, of=deliveries)
)
_TAKE = (
    update(deliveries)
    .where(_D.id.in_(bindparam("ids", expanding=True)))
    .values(
        failures=_D.failures + case((_D.state == "sending", 1), else_=0),
        attempt=_D.attempt + 1,
        state="sending",
        owner=bindparam("taker"),
        lease_until=bindparam("until"),
        due=bindparam("until"),
    )
)
_MINE = update(deliveries).where(
    _D.id == bindparam("mine"), _D.owner == bindparam("holder"), _D.attempt == bindparam("nth")
)
_NEXT = (
    select(_D.id, _D.region, _D.due)
    .where(_D.submission_id == bindparam("of_case"), _D.state.in_(UNSETTLED))
    .order_by(_D.due.is_(None), _D.created_at, _D.id)
    .limit(1)
)
"""What is under way, if anything is, also when it is younger: clocks differ. Otherwise the oldest that waits."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt that this worker may make until `lease_until`, which it renews while it is at work.

    `doubtful`: ask before sending. `lost_at` is when the lease of a worker that died ran out: it may have been sending
    until then. `mapping_version` is what the case is pinned to.
    """

    delivery_id: str
    submission_id: str
    region: str
    owner: str
    attempt: int
    doubtful: bool
    sent_at: datetime | None
    lease_until: datetime
    created_at: datetime
    failures: int
    """Uncertain outcomes before this attempt, deaths of workers included."""
    mapping_version: str
    lost_at: datetime | None = None
    kind: str = SUBMISSION
    message_id: str | None = None
    client_id: str = ""
    tried_since: datetime | None = None
    """Its region is waited for from then on; None: since it was created."""


def claim(
    tx: Connection, *, region: str, owner: str, limit: int, now: datetime, lease: timedelta, after: str = ""
) -> list[Claim]:
    """Take up to `limit` due deliveries of a region for this worker. Replicas never take the same one.

    Agencies take turns, beginning behind `after`: one that has handed in a hundred thousand cases does not keep the
    others waiting. A region in maintenance gets nothing.
    """
    taken: list[Claim] = []
    for share, agency in in_turn(agencies_due(tx, region, now), after, limit):
        taken += _claim_of(tx, region, agency, owner, min(share, limit - len(taken)), now, lease)
        if len(taken) >= limit:
            break
    return taken


def _claim_of(
    tx: Connection, region: str, agency: str, owner: str, limit: int, now: datetime, lease: timedelta
) -> list[Claim]:
    """Take up to `limit` due deliveries of one agency: the oldest first."""
    asked = {"at": region, "agency": agency, "now": now, "most": limit}
    taken = [_taken(dict(row), owner, now, lease) for row in tx.execute(_OLDEST, asked).mappings()]
    _mark(tx, [claimed.delivery_id for claimed in taken], owner, now + lease)
    return taken


def _taken(row: Mapping[str, Any], owner: str, now: datetime, lease: timedelta) -> Claim:
    lost = row["state"] == "sending"
    return Claim(
        delivery_id=row["id"],
        submission_id=row["submission_id"],
        region=row["region"],
        owner=owner,
        attempt=row["attempt"] + 1,
        doubtful=row["state"] != "pending",
        sent_at=row["sent_at"],
        lease_until=now + lease,
        created_at=row["created_at"],
        failures=row["failures"] + 1 if lost else row["failures"],
        mapping_version=row["mapping_version"],
        lost_at=row["lease_until"] if lost else None,
        kind=row["kind"],
        message_id=row["message_id"],
        client_id=row["client_id"],
        tried_since=row["tried_since"],
    )


def _mark(tx: Connection, ids: list[str], owner: str, lease_until: datetime) -> None:
    """Write down that these are taken; one that was found in state `sending` has had one more uncertain outcome."""
    if not ids:
        return
    tx.execute(_TAKE, {"ids": ids, "taker": owner, "until": lease_until})


def note_sending(tx: Connection, claimed: Claim, now: datetime) -> bool:
    """Write down that the message is about to leave, before it does. Return False when the lease was lost."""
    return _fenced(tx, claimed, {"sent_at": now})


def pin(tx: Connection, submission_id: str, version: str) -> None:
    """Pin a case to a version of the mappings."""
    tx.execute(update(submissions).where(submissions.c.id == submission_id).values(mapping_version=version))


def renew(tx: Connection, claimed: Claim, until: datetime) -> bool:
    """Keep the delivery for longer. Return False when the lease was lost."""
    return _fenced(tx, claimed, {"lease_until": until, "due": until})


def settle(tx: Connection, claimed: Claim, values: Mapping[str, Any]) -> bool:
    """Write the outcome of the attempt and end the lease. Return False when another worker holds the row now.

    A delivery without a new `due` is not tried again.
    """
    return _fenced(tx, claimed, {"due": None, **values, "lease_until": None, "owner": None})


def wake_next(tx: Connection, submission_id: str, now: datetime) -> str | None:
    """Let the next message about a case go out, if the one before it has been settled. Return its region.

    Messages wait without a `due` until the region has the case, and for each other: a withdrawal never overtakes the
    supplement that was handed in before it. The caller holds the lock of the case.
    """
    first = tx.execute(_NEXT, {"of_case": submission_id}).one_or_none()
    if first is None or first.due is not None:
        return None
    tx.execute(update(deliveries).where(_D.id == first.id).values(due=now, tried_since=now))
    return str(first.region)


def cancel_waiting(tx: Connection, submission_id: str, now: datetime) -> None:
    """Drop the messages about a case that never goes out. The caller holds the lock of the case."""
    tx.execute(_waiting(submission_id).values(state="cancelled", due=None, settled_at=now))


def redirect_waiting(tx: Connection, submission_id: str, region: str) -> None:
    """Let the messages about a case follow it to another region. The caller holds the lock of the case."""
    tx.execute(_waiting(submission_id).values(region=region))


def _waiting(submission_id: str) -> Update:
    c = deliveries.c
    return update(deliveries).where(c.submission_id == submission_id, c.state == "pending", c.kind != SUBMISSION)


def _fenced(tx: Connection, claimed: Claim, values: Mapping[str, Any]) -> bool:
    mine = {"mine": claimed.delivery_id, "holder": claimed.owner, "nth": claimed.attempt}
    return tx.execute(_MINE, {**values, **mine}).rowcount == 1


def unsettled(tx: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the deliveries that are under way or need a person, oldest first: ids, states and reasons, no person."""
    c = deliveries.c
    columns = (
        c.submission_id, c.message_id, c.kind, c.region, c.state, c.attempt, c.due, c.last_code, c.last_text,
        c.created_at,
    )  # fmt: skip
    query = select(*columns).where(c.state.in_((*UNSETTLED, "dead"))).order_by(c.created_at).limit(limit)
    return [{str(name): value for name, value in row.items()} for row in tx.execute(query).mappings()]


def revive(tx: Connection, delivery_id: str, now: datetime) -> bool:
    """Try a dead delivery again, beginning with a question. Return False when it is not dead.

    A message waits for one that is under way, like any; the caller holds the lock of the case.
    One whose region cannot be asked is sent: whoever orders that has asked the region's operators. A case that its
    region does not have goes out with the mappings that are in use then: the ones that it was pinned to may be the
    cause.
    """
    c = deliveries.c
    then = case((c.last_code == RegionCannotBeAsked.code, "pending"), else_="in_doubt")
    again = update(deliveries).where(c.id == delivery_id, c.state == "dead").values(state=then, failures=0)
    row = tx.execute(again.returning(c.submission_id, c.kind, c.last_code)).one_or_none()
    if row is None:
        return False
    if row.kind != SUBMISSION:
        wake_next(tx, row.submission_id, now)
        return True
    tx.execute(update(deliveries).where(c.id == delivery_id).values(due=now, tried_since=now))
    if row.last_code in NOT_THERE:
        pin(tx, row.submission_id, UNPINNED)
    return True


def figures(tx: Connection, now: datetime) -> dict[str, tuple[dict[str, int], float]]:
    """Return, per region, how many deliveries are unsettled or dead by state, and the age in seconds of the oldest."""
    c = deliveries.c
    query = (
        select(c.region, c.state, func.count().label("number"), func.min(c.created_at).label("oldest"))
        .where(c.state.in_((*UNSETTLED, "dead")))
        .group_by(c.region, c.state)
    )
    found: dict[str, tuple[dict[str, int], float]] = {}
    for region, state, number, oldest in tx.execute(query).all():
        counts, age = found.setdefault(region, ({}, 0.0))
        counts[state] = number
        waiting = 0.0 if state == "dead" or oldest is None else (now - oldest).total_seconds()
        found[region] = (counts, max(age, waiting))
    return found
