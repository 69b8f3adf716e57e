"""What a simulated authority can be told to do with its next case, and how far a case has come.

Owns: the courses that can be ordered on the control page, in words of ours (the first column of
mappings/tables/event_state.toml), and the plan of one case: the steps taken and those to come, where it waits for its
applicant, and what a supplement or a withdrawal makes of it. Leaves to `adapters/<region>/sandbox*.py`: the region's
own words, what it says with each step, and when. Like `gateway.sandbox.authority` it shares nothing with an adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.sandbox.authority import Misbehaviour

WAIT = "WAIT"
"""Stands in a plan where the authority waits until everything that it asked for is there."""

USUAL = ("RECEIVED", "ACCEPTED", "DECIDED", "COMPLETED")
REFUSED = ("RECEIVED", "NOT_ACCEPTED")

_DECIDED = ("ACCEPTED", "DECIDED", "COMPLETED")
_COURSES: Mapping[str, tuple[str, ...]] = {
    "course_supplement": ("RECEIVED", "SUPPLEMENT_NOTICE", WAIT, "SUPPLEMENTED", *_DECIDED),
    "course_supplement_expired": ("RECEIVED", "SUPPLEMENT_NOTICE", "SUPPLEMENT_EXPIRED", "RETURNED"),
    "course_tolerance": ("RECEIVED", "ACCEPTED_TOLERANT", WAIT, *_DECIDED),
    "course_tolerance_breached": ("RECEIVED", "ACCEPTED_TOLERANT", "TOLERANCE_BREACHED", "RETURNED"),
    "course_special": ("RECEIVED", "ACCEPTED", "SPECIAL", "RESUMED", "DECIDED", "COMPLETED"),
    "course_special_open": ("RECEIVED", "ACCEPTED", "SPECIAL"),
    "course_silent": ("RECEIVED",),
    "course_undecided": ("RECEIVED", "ACCEPTED"),
    "course_extended": ("RECEIVED", "ACCEPTED", "EXTENDED", "DECIDED", "COMPLETED"),
    "course_refused": REFUSED,
    "course_not_within_power": ("RECEIVED", "NOT_WITHIN_POWER"),
    "course_returned": ("RECEIVED", "RETURNED"),
    "course_void": (*USUAL, "VOID"),
    "course_delivered": (*USUAL, "DELIVERED"),
}

ORDERS: Mapping[str, str] = {
    "course_supplement": "asks the next case for a supplement, waits for all of it, then accepts",
    "course_supplement_expired": "asks the next case for a supplement, waits for none of it and returns the case",
    "course_tolerance": "accepts the next case although something is missing, and decides when it has followed",
    "course_tolerance_breached": "accepts the next case although something is missing, and returns it without",
    "course_special": "opens a special procedure in the next case, and closes it again",
    "course_special_open": "opens a special procedure in the next case, and leaves it open",
    "course_silent": "acknowledges the next case and says no more of it: every term passes",
    "course_undecided": "accepts the next case and never decides",
    "course_extended": "takes more time for the decision of the next case",
    "course_refused": "does not accept the next case",
    "course_not_within_power": "says of the next case that another authority is competent",
    "course_returned": "returns the next case",
    "course_void": "declares the result of the next case void",
    "course_delivered": "hands the result of the next case over",
}
"""Further modes for `authority_app`: each is good for the next case that comes in, as often as it was ordered."""

_OVER = frozenset(
    {"DECIDED", "COMPLETED", "DELIVERED", "NOT_ACCEPTED", "NOT_WITHIN_POWER", "WITHDRAWN", "RETURNED", "VOID"}
)
"""Steps after which an applicant can withdraw no more."""


def ordered(wrong: Misbehaviour) -> tuple[str, ...]:
    """Return the steps of a case that comes in now: those that were ordered, or the usual ones."""
    return next((steps for name, steps in _COURSES.items() if wrong.due(name)), USUAL)


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of one case, of which the first `taken` have been taken."""

    steps: tuple[str, ...]
    taken: int = 0

    @classmethod
    def read(cls, written: Mapping[str, Any] | None) -> Plan:
        """Read what `written` made of a plan; a page without one has no step left."""
        return cls(()) if written is None else cls(tuple(written["steps"]), int(written["taken"]))

    def written(self) -> dict[str, Any]:
        """Return the plan for the notebook."""
        return {"steps": list(self.steps), "taken": self.taken}

    @property
    def next(self) -> str | None:
        """The step to take now; None at the end, and while the applicant is waited for."""
        step = self.steps[self.taken] if self.taken < len(self.steps) else None
        return None if step == WAIT else step

    @property
    def done(self) -> Sequence[str]:
        """The steps that were taken."""
        return self.steps[: self.taken]

    @property
    def waits(self) -> bool:
        """Whether the applicant is waited for."""
        return self.steps[self.taken : self.taken + 1] == (WAIT,)

    @property
    def may_be_withdrawn(self) -> bool:
        """Whether nothing is decided yet."""
        return not _OVER.intersection(self.done)

    @property
    def is_completed(self) -> bool:
        """Whether there is something to rate."""
        return "COMPLETED" in self.done

    def step(self) -> Plan:
        """Return the plan after its next step."""
        return replace(self, taken=self.taken + 1)

    def supplemented(self) -> Plan:
        """Return the plan when all that was waited for is there."""
        return replace(self, steps=(*self.done, *self.steps[self.taken + 1 :])) if self.waits else self

    def withdrawn(self) -> Plan:
        """Return the plan when its applicant has withdrawn."""
        return replace(self, steps=(*self.done, "WITHDRAWN"))
