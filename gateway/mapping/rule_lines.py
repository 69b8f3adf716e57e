"""Rules with their places relative to the list item around: what the compiler works on.

Owns: `Line` and `Fixed`, and stepping into a list with them. Leaves to the compiler: what becomes of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gateway.mapping.paths import Place, list_heads
from gateway.mapping.rules import Rule


@dataclass(frozen=True, slots=True)
class Fixed:
    """A value of theirs that is always the same; `place` is relative to the list item around."""

    place: Place
    value: Any

    def inside(self, head: Place) -> bool:
        """Return whether it lies in the list of that path."""
        return self.place[: len(head)] == head


@dataclass(frozen=True, slots=True)
class Line:
    """A rule with its places relative to the list item around."""

    rule: Rule
    ours: Place
    theirs: Place
    pieces: tuple[Place, ...]
    also: tuple[Place, ...]
    instead: tuple[Place, ...]
    numbers: tuple[Place, ...]
    when: Place

    @property
    def heads(self) -> tuple[Place, Place]:
        """The lists that this line lies in, on both sides; nothing when it lies in none.

        A list that is one text there has none on their side, and the list of form fields lies around nothing.
        """
        ours, theirs = list_heads(self.ours), list_heads(self.theirs)
        listed = self.rule.entries is not None and self.rule.entries.how in {"list", "pairs"}
        joined = bool(self.rule.join) and len(ours) == 1
        return ours[0] if ours else (), theirs[0] if len(theirs) > listed and not joined else ()

    def inside(self, heads: tuple[Place, Place]) -> Line:
        """Return the line as an item of these lists sees it."""
        ours, theirs = map(len, heads)
        return replace(
            self,
            ours=self.ours[ours:],
            theirs=self.theirs[theirs:],
            pieces=tuple(place[theirs:] for place in self.pieces),
            also=tuple(place[theirs:] for place in self.also),
            instead=tuple(place[ours:] for place in self.instead),
            numbers=tuple(place[theirs:] for place in self.numbers),
            when=self.when[ours:],
        )


def line_of(rule: Rule) -> Line:
    """Return a rule as the whole document sees it."""
    when = rule.when.place if rule.when else ()
    return Line(rule, rule.ours, rule.theirs, rule.pieces, rule.also_at, rule.instead, rule.by_places, when)
