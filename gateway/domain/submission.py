"""The life of a case (办件) as a state machine: pure, no I/O.

Owns: the states, who may enter them, and which step follows which. Leaves to `gateway.submissions`: storing events,
delivering, and what to do about an event that cannot be (it is recorded as a conflict, never dropped).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where a case is. Collection (收件) is not acceptance (受理): only the handling region accepts or decides."""

    COLLECTED = "COLLECTED"  # 收件: form and identity checked, receipt issued, stored here
    FORWARDED = "FORWARDED"  # handed to the handling region
    DELIVERY_FAILED = "DELIVERY_FAILED"  # retries ended; a person must look
    RECEIVED = "RECEIVED"  # the handling region acknowledged
    SUPPLEMENT_NOTICE = "SUPPLEMENT_NOTICE"  # 一次性补正告知
    ACCEPTED = "ACCEPTED"  # 受理
    NOT_ACCEPTED = "NOT_ACCEPTED"  # 不予受理
    SPECIAL = "SPECIAL"  # 特殊程序: the clock stands
    DECIDED = "DECIDED"  # 准予 / 不予
    COMPLETED = "COMPLETED"  # 办结
    DELIVERED = "DELIVERED"  # 送达


class Holder(StrEnum):
    """Whose turn it is, for the clerk's question "who holds it now"."""

    GATEWAY = "gateway"
    HANDLING = "handling_region"
    APPLICANT = "applicant"
    NOBODY = "nobody"


_NEXT: Mapping[State, frozenset[State]] = {
    State.COLLECTED: frozenset({State.FORWARDED, State.DELIVERY_FAILED}),
    State.DELIVERY_FAILED: frozenset({State.FORWARDED}),
    State.FORWARDED: frozenset({State.RECEIVED, State.SUPPLEMENT_NOTICE, State.ACCEPTED, State.NOT_ACCEPTED}),
    State.RECEIVED: frozenset({State.SUPPLEMENT_NOTICE, State.ACCEPTED, State.NOT_ACCEPTED}),
    State.SUPPLEMENT_NOTICE: frozenset({State.RECEIVED, State.ACCEPTED, State.NOT_ACCEPTED}),
    State.ACCEPTED: frozenset({State.SPECIAL, State.DECIDED, State.COMPLETED}),
    State.SPECIAL: frozenset({State.ACCEPTED}),
    State.DECIDED: frozenset({State.COMPLETED}),
    State.COMPLETED: frozenset({State.DELIVERED}),
    State.NOT_ACCEPTED: frozenset({State.DELIVERED}),
    State.DELIVERED: frozenset(),
}

HANDLING_ONLY = frozenset(
    {
        State.RECEIVED,
        State.SUPPLEMENT_NOTICE,
        State.ACCEPTED,
        State.NOT_ACCEPTED,
        State.SPECIAL,
        State.DECIDED,
        State.COMPLETED,
    }
)
"""States that only the region with jurisdiction may enter (不改变原有办理事权)."""

_HOLDERS: Mapping[State, Holder] = {
    State.COLLECTED: Holder.GATEWAY,
    State.DELIVERY_FAILED: Holder.GATEWAY,
    State.SUPPLEMENT_NOTICE: Holder.APPLICANT,
    State.NOT_ACCEPTED: Holder.NOBODY,
    State.COMPLETED: Holder.NOBODY,
    State.DELIVERED: Holder.NOBODY,
}

REGION_WORDS: Mapping[str, State] = {
    "RECEIVED": State.RECEIVED,
    "SUPPLEMENT_NOTICE": State.SUPPLEMENT_NOTICE,
    "ACCEPTED": State.ACCEPTED,
    "NOT_ACCEPTED": State.NOT_ACCEPTED,
    "SPECIAL": State.SPECIAL,
    "RESUMED": State.ACCEPTED,  # the special procedure has ended: the case is an accepted one again
    "DECIDED": State.DECIDED,
    "COMPLETED": State.COMPLETED,
    "DELIVERED": State.DELIVERED,
}
"""The words of the canonical event (mappings/vocabulary.toml) → the state that they lead to."""


def may_follow(now: State, then: State) -> bool:
    """Say whether `then` is a step from `now`."""
    return then in _NEXT[now]


def leads_to(now: State, then: State) -> bool:
    """Say whether `then` can be reached from `now` by any number of steps: an event may have overtaken others."""
    seen: set[State] = set()
    front = {now}
    while front:
        front = {after for state in front for after in _NEXT[state]} - seen
        seen |= front
        if then in front:
            return True
    return False


def holder(state: State) -> Holder:
    """Return whose turn it is in that state."""
    return _HOLDERS.get(state, Holder.HANDLING)
