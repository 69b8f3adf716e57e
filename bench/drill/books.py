"""Comparing the books after a drill: what the agency was promised, what the authorities hold, what our store says.

Owns: the counts, and which of them must be nought. Reads the store as it is, without the gateway's services.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs

from sqlalchemy import Connection, select

from bench.drill.load import Agency
from bench.drill.town import PLACES, Town, books_of
from gateway.storage import open_store
from gateway.storage.tables import (
    deliveries,
    event_conflicts,
    region_numbers,
    submission_events,
    submissions,
)
from gateway.submissions.queue import UNSETTLED

FORWARDED = "FORWARDED"
ONCE = frozenset({"SUPPLEMENTED", "WITHDRAWN"})
"""Steps that a message brings about, and that a case of the drill takes once: by our word, and by its authority's."""
_ITSELF = deliveries.c.message_id.is_(None)
WRONG = (
    "lost",
    "messages_lost",
    "messages_strange",
    "messages_doubled",
    "strange",
    "doubled",
    "in_doubt",
    "events_lost",
    "gaps",
)


@dataclass(slots=True)
class Tally:
    """What a drill found in one town. What `wrong` names must be nought."""

    town: str
    accepted: int = 0
    delivered: int = 0
    parked: int = 0
    """Given up, for a person: a definite no, or out of attempts."""
    in_doubt: int = 0
    """Neither resolved nor parked in the end."""
    lost: int = 0
    """Accepted, and neither at its authority nor parked."""
    messages: int = 0
    """What was said of cases: supplements, withdrawals, ratings, complaints."""
    messages_lost: int = 0
    """Taken, and neither at their authority nor parked."""
    messages_strange: int = 0
    """At an authority, and in no book of ours."""
    messages_doubled: int = 0
    """In effect twice: two of one reference, or a step that it brings about taken twice."""
    strange: int = 0
    """At an authority, and in no book of ours."""
    doubled: int = 0
    """In effect twice: a case with two numbers of the region or handed over twice, an application with two cases."""
    resent: int = 0
    """Messages that arrived again at an authority, which is allowed and has no effect."""
    events: int = 0
    events_lost: int = 0
    """Reported by an authority that is polled, and in no timeline and no conflict."""
    gaps: int = 0
    """Timelines with a number missing, or events without a place in the stream."""
    asked_again: int = 0
    done: Mapping[str, int] = field(default_factory=dict)

    @property
    def wrong(self) -> Mapping[str, int]:
        """What must be nought."""
        return {name: getattr(self, name) for name in WRONG}

    def lines(self) -> Sequence[str]:
        """Return it for a person."""
        told = {name: value for name, value in asdict(self).items() if name not in ("town", "done")}
        return [
            f"{self.town}: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items()),
            f"{self.town}: " + ", ".join(f"{name} {number}" for name, number in sorted(self.done.items())),
        ]


async def compare(around: Town, agency: Agency, store_url: str) -> Tally:
    """Hold the books against each other."""
    store = await open_store(store_url)
    try:
        ours = await store.read(_ours)
    finally:
        await store.close()
    theirs = {place: books_of(around.authorities[place]) for place in PLACES}
    return tally(around, agency, ours, theirs)


def _ours(tx: Connection) -> Mapping[str, Any]:
    c, e = deliveries.c, submission_events.c
    ordered = select(e.submission_id, e.seq, e.kind, e.state, e.source, e.region_event_id, e.position)
    return {
        "cases": {row[0]: row[1] for row in tx.execute(select(submissions.c.id, submissions.c.client_reference))},
        "deliveries": {row[0]: row[1] for row in tx.execute(select(c.submission_id, c.state).where(_ITSELF))},
        "messages": {
            row[0]: row[1]
            for row in tx.execute(select(c.message_id, c.state).where(deliveries.c.message_id.is_not(None)))
        },
        "numbers": Counter(tx.execute(select(region_numbers.c.submission_id)).scalars()),
        "events": tx.execute(ordered.order_by(e.submission_id, e.seq)).all(),
        "conflicts": set(tx.execute(select(event_conflicts.c.region_event_id)).scalars()),
    }


def tally(around: Town, agency: Agency, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Tally:
    """Count what agrees and what does not."""
    states: Mapping[str, str] = ours["deliveries"]
    held = {case for place in PLACES for case in theirs[place]["cases"]}
    promised = {case for case, _ in agency.promised.values()}
    parked = {case for case, state in states.items() if state == "dead"}
    there = {message for place in PLACES for message in theirs[place]["messages"]}
    given_up = {message for message, state in ours["messages"].items() if state == "dead"}
    return Tally(
        town=around.name,
        accepted=len(promised),
        delivered=sum(state == "delivered" for state in states.values()),
        parked=len(parked),
        in_doubt=sum(state in UNSETTLED for state in (*states.values(), *ours["messages"].values())),
        messages=len(agency.said),
        messages_lost=len({said.message for said in agency.said.values()} - (there | given_up)),
        messages_strange=len(there - set(ours["messages"])),
        messages_doubled=_messages_doubled(agency, ours),
        lost=len(promised - (held | parked)) + len(promised - set(ours["cases"])),
        strange=len(held - set(ours["cases"])),
        doubled=_doubled(agency, ours),
        resent=sum(int(n) - 1 for place in PLACES for n in theirs[place]["arrivals"].values()),
        events=len(ours["events"]),
        events_lost=_events_lost(ours, theirs),
        gaps=_gaps(ours["events"]),
        asked_again=agency.asked_again,
        done={**around.counts, **Counter(said.kind for said in agency.said.values())},
    )


def _doubled(agency: Agency, ours: Mapping[str, Any]) -> int:
    references = Counter(ours["cases"].values())
    forwarded = Counter(row.submission_id for row in ours["events"] if row.kind == "step" and row.state == FORWARDED)
    apart = len(agency.promised) - len({case for case, _ in agency.promised.values()})
    return apart + sum(
        sum(count > 1 for count in counter.values()) for counter in (references, forwarded, ours["numbers"])
    )


def _messages_doubled(agency: Agency, ours: Mapping[str, Any]) -> int:
    """Count messages that our store has beside those that the agency was told of, and steps that one brings about once.

    The agency asks under one reference until it is answered, so it knows the number of all that it said.
    """
    told = {said.message for said in agency.said.values()}
    apart = len(agency.said) - len(told) + len(set(ours["messages"]) - told)
    caused = [row for row in ours["events"] if row.kind == "step" and row.state in ONCE]
    steps = Counter((row.submission_id, row.state, row.source) for row in caused)
    return apart + sum(count > 1 for count in steps.values())


def _events_lost(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> int:
    """Count what was reported and nobody here has: all that the feeds hold, all that we acknowledged to Guangdong.

    Guangdong gives a report up after some tries; one that we never took is not lost here.
    """
    heard = {row.region_event_id for row in ours["events"]} | ours["conflicts"]
    return len({event for place, read in REPORTED.items() for event in read(theirs[place]["events"])} - heard)


REPORTED: Mapping[str, Callable[[Mapping[str, Any]], Iterable[str]]] = {
    "foshan": lambda book: (event["EventId"] for event in book.values()),
    "guangdong": lambda book: (entry["event"]["sjbh"] for entry in book.values() if entry["acknowledged"]),
    "hunan": lambda book: (event["stepId"] for event in book.values()),
    "qingyuan": lambda book: (parse_qs(report)["SJBH"][0] for report in book.values()),
}
"""How an authority numbers what it reports, in its own book."""


def _gaps(events: Sequence[Any]) -> int:
    jumps: int = sum(b.seq != a.seq + 1 for a, b in pairwise(events) if a.submission_id == b.submission_id)
    return jumps + sum(row.position is None for row in events)
