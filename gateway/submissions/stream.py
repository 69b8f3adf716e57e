"""The stream of events: one order over all cases, of which each client reads its own, polled, as it comes, or pushed.

Owns: giving every event a place in the stream, and reading a client's events after a cursor. Leaves to `events`:
writing them. To `gateway.web.api.events` and `webhooks`: the ways out, which give the very same.

Transactions commit in another order than they were begun in, so a number drawn while an event is written would let a
reader overlook one that is committed later under a smaller number. Places are therefore given afterwards, to events
that everybody can see, by one replica at a time: a cursor never steps over anything. Within a case the places follow
its own numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection, bindparam, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.submission import State, holder
from gateway.errors import FieldProblem, GatewayError, InvalidRequest
from gateway.storage import Store
from gateway.storage.store import insert_into
from gateway.storage.tables import NO_POSITION, stream_heads, submission_events
from gateway.submissions.story import SALT, exact, open_detail
from gateway.waiting import wait

log = structlog.get_logger("stream")

EVENTS = "events"
AT_ONCE = 1000
"""Events that are given their places in one transaction."""
MOST = 200
"""Events in one answer."""
LOOK_SECONDS = 0.25
"""How long an event waits for its place at most, and a reader for an event that another replica placed."""


@dataclass(frozen=True, slots=True)
class Page:
    """Events after a cursor, in their order, and the cursor to go on with. `more` says that there are more already."""

    events: Sequence[Mapping[str, Any]]
    next: str
    more: bool


class Stream:
    """The stream of events of all cases."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer
        self._placed = asyncio.Event()
        self.is_over = False
        """The process ends: nobody waits for events here any more."""

    # --- places ------------------------------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event) -> None:
        """Give places until told to stop; trouble with the store is logged, and the next look comes as usual."""
        while not stopping.is_set():
            try:
                await self.place()
            except GatewayError as error:
                log.warning("no places given", code=error.stable_code, detail=error.detail)
            await wait(stopping, LOOK_SECONDS)
        self.is_over = True
        self._placed.set()

    async def place(self) -> int:
        """Give a place to every event that has none. Return to how many."""
        total = 0
        while await self._store.read(_is_waiting):
            placed = await self._store.write(_place)
            if placed == 0:  # another replica was faster
                break
            total += placed
        if total:
            self._placed.set()
            self._placed = asyncio.Event()
        return total

    # --- reading -----------------------------------------------------------------------------------------------

    async def page(self, client_id: str, cursor: str, limit: int = MOST) -> Page:
        """Return a client's events after a cursor ("" or "0" is the beginning). Raises InvalidRequest."""
        after = position_of(cursor)
        read = partial(self._read, client_id=client_id, after=after, limit=min(max(limit, 1), MOST))
        page = await self._store.read(read)
        if after and not page.events:
            await self._store.read(partial(check_reached, after=after))
        return page

    async def await_page(self, client_id: str, cursor: str, limit: int, seconds: float) -> Page:
        """Return a client's events after a cursor as soon as there are any, an empty page after so many seconds.

        When the process ends, an empty page comes at once. Raises InvalidRequest.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        read = partial(self._read, client_id=client_id, after=position_of(cursor), limit=min(max(limit, 1), MOST))
        placed, page = self._placed, await self.page(client_id, cursor, limit)
        while True:
            left = deadline - asyncio.get_running_loop().time()
            if page.events or left <= 0 or self.is_over:
                return page
            await wait(placed, min(left, LOOK_SECONDS))  # another replica's places wake nobody here
            placed, page = self._placed, await self._store.read(read)

    def _read(self, tx: Connection, *, client_id: str, after: int, limit: int) -> Page:
        c = submission_events.c
        query = select(submission_events).where(c.client_id == client_id, c.position > after)
        rows = tx.execute(query.order_by(c.position).limit(limit + 1)).mappings().all()
        shown = rows[:limit]
        events = [told(self._sealer, dict(row)) for row in shown]
        return Page(events, str(shown[-1]["position"] if shown else after), len(rows) > limit)


def position_of(cursor: str) -> int:
    """Return the place in the stream that a cursor stands for. Raises InvalidRequest."""
    if cursor == "":
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        problem = FieldProblem("after", "is no cursor of this stream; begin with none", "cursor")
        raise InvalidRequest("The cursor cannot be read.", problems=[problem])
    return int(cursor)


class CursorAhead(InvalidRequest):
    """A cursor that stands behind the last event of the stream: what happened meanwhile would never be told."""

    code = "events.cursor_ahead"
    title = "The stream has not come as far as this cursor"


def check_reached(tx: Connection, after: int) -> None:
    """Refuse a place in the stream that no event has yet. Raises CursorAhead."""
    head = tx.execute(select(stream_heads.c.position).where(stream_heads.c.name == EVENTS)).scalar() or 0
    if after > head:
        problem = FieldProblem("after", f"is {after}; the last event so far has the cursor {head}", "cursor_ahead")
        raise CursorAhead("Go on with a cursor that this stream gave you.", problems=[problem])


def told(sealer: Sealer, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event as clients get it, whichever way: with all that its hash covers, and the salt of its digest."""
    detail = open_detail(sealer, row["submission_id"], row["seq"], row["detail"], salt=True)
    return {
        "id": f"{row['submission_id']}-{row['seq']}",
        "cursor": str(row["position"]),
        "submission_id": row["submission_id"],
        "seq": row["seq"],
        "kind": row["kind"],
        "state": row["state"],
        "word": row["word"],
        "effect": row["effect"],
        "case_state": row["case_state"],
        "holder": holder(State(row["case_state"])),
        "source": row["source"],
        "region_event_id": row["region_event_id"],
        "occurred_at": exact(row["occurred_at"]),
        "recorded_at": exact(row["recorded_at"]),
        "salt": detail.pop(SALT, ""),
        "detail": detail,
        "hash": row["hash"],
    }


def _is_waiting(tx: Connection) -> bool:
    return tx.execute(select(submission_events.c.seq).where(NO_POSITION).limit(1)).first() is not None


def _place(tx: Connection) -> int:
    """Give places to the events that are without one now, behind all others. Return to how many."""
    last = _held(tx)
    c = submission_events.c
    waiting = select(c.submission_id, c.seq).where(NO_POSITION).order_by(c.recorded_at, c.submission_id, c.seq)
    rows = tx.execute(waiting.limit(AT_ONCE)).all()
    if not rows:
        return 0
    this = update(submission_events).where(c.submission_id == bindparam("case"), c.seq == bindparam("number"))
    places = [{"case": case, "number": seq, "place": last + n} for n, (case, seq) in enumerate(rows, start=1)]
    tx.execute(this.values(position=bindparam("place")), places)
    ours = stream_heads.c.name == EVENTS
    tx.execute(update(stream_heads).where(ours).values(position=last + len(rows)))
    return len(rows)


def _held(tx: Connection) -> int:
    """Return the last place that was given, and hold it, so that one replica at a time gives places."""
    begun = insert_into(tx, stream_heads).values({"name": EVENTS, "position": 0})
    tx.execute(begun.on_conflict_do_nothing())
    query = select(stream_heads.c.position).where(stream_heads.c.name == EVENTS).with_for_update()
    return int(tx.execute(query).scalar_one())
