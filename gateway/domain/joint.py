"""A case that several offices handle together (多地联办): where it stands by where its parts stand. Pure, no I/O.

Owns: the state of the whole by its parts, which parts must wait for which, and what a part is called among the
references of its agency. Leaves to `gateway.submissions.joint`:
parts as cases of their own, and keeping the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.identifiers import case_number_problem
from gateway.domain.item import Item
from gateway.domain.submission import ENDS, State

MODE = "joint"
"""The mode of the whole; its parts keep theirs."""

S = State
_TURNS = (S.DELIVERY_FAILED, S.SUPPLEMENT_NOTICE, S.SUPPLEMENT_EXPIRED, S.TOLERANCE_BREACHED)
"""Where somebody must do something: that is shown before any progress of other parts."""
_PROGRESS = (
    S.DRAFT, S.COLLECTED, S.FORWARDED, S.RECEIVED, S.SUPPLEMENTED, S.ACCEPTED_TOLERANT, S.ACCEPTED, S.SPECIAL,
    S.EXTENDED, S.DECIDED,
)  # fmt: skip
"""From the least advanced to the most: the whole is only as far as its slowest part."""
_ENDED = (S.NOT_ACCEPTED, S.NOT_WITHIN_POWER, S.VOID, S.RETURNED, S.WITHDRAWN, S.COMPLETED, S.DELIVERED)
"""How the whole has ended: one part that was refused shows, and it is complete only when all are."""
DONE = frozenset({S.COMPLETED, S.DELIVERED})


@dataclass(frozen=True, slots=True)
class PartStanding:
    """One part: its code in the catalogue (empty without one), where it stands, and whether it waits for others."""

    code: str
    state: State
    waiting: bool = False


def state_of(parts: Iterable[PartStanding]) -> State:
    """Return where the whole stands. Raises ValueError without parts.

    It ends when every part has ended, and not before. A part that waits for others says nothing of the progress of the
    whole while one of them is at work.
    """
    known = list(parts)
    open_ = [part for part in known if part.state not in ENDS]
    states = {part.state for part in open_ if not part.waiting} or {part.state for part in open_}
    order = (*_TURNS, *_PROGRESS) if states else _ENDED
    here = states or {part.state for part in known}
    found = next((state for state in order if state in here), None)
    if found is None:
        raise ValueError("a case has at least one part")
    return found


def part_reference(whole: str, position: int) -> str:
    """Return the reference of a part, in the place of a caller's own: number of the whole, and position from 1."""
    return f"{whole}/{position}"


def is_part_reference(text: str) -> bool:
    """Say whether a text is the reference that some part has, or may have one day."""
    whole, slash, position = text.rpartition("/")
    return bool(slash) and position.isdecimal() and case_number_problem(whole) is None


def waits_for(item: Item | None, code: str) -> frozenset[str]:
    """Return the codes of the parts that must be done before this one."""
    part = next((part for part in item.parts if part.code == code), None) if item else None
    return frozenset(part.after) if part else frozenset()


def released(item: Item | None, parts: Mapping[str, Sequence[State]], code: str) -> bool | None:
    """Say whether a part that waits may go: True; None: not yet; False: never, for one before it was not done.

    `parts` are the states of the parts by code.
    """
    before = [state for name in waits_for(item, code) for state in parts.get(name, ())]
    if any(state in ENDS - DONE for state in before):
        return False
    return True if all(state in DONE for state in before) else None
