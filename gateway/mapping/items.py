"""Lists, item by item, and fields that may lack.

Owns: walking a list that is a list on both sides, lists of plain values among them, and naming or filling what was not
given. Leaves to the compiler: which moves an item has, and which fields may lack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gateway.errors import FieldProblem
from gateway.mapping.moves import Move, Problems, is_short_list, item_at, numbered
from gateway.mapping.paths import ITSELF, Get, Notation, Put, Step, Tree

PLAIN: Final = (Step(ITSELF),)
"""The place of a value that is a list's item itself."""


class Gap(NamedTuple):
    """A field that may lack: where it was written, whether anything was given, and what to do when not."""

    get: Get
    given: Callable[[Tree, Tree], bool]
    there: Callable[[Tree, Tree], bool]
    name: str
    put: Put
    default: Any

    def fill(self, target: Tree, at: str, problems: Problems) -> None:
        """Put the default, or name the field."""
        if self.default is None:
            problems.append(FieldProblem(item_at(at, self.name), "is missing", "required"))
        else:
            self.put(target, self.default)


@dataclass(frozen=True, slots=True)
class Items:
    """Walks a list. Items of a plain list are values: they are walked as objects with one member, ITSELF."""

    name: str
    notation: Notation
    source_plain: bool
    target_plain: bool

    def move(self, get: Get, put: Put, moves: Sequence[Move], *, required: bool) -> Move:
        """Return the move of a list that is a list on both sides."""

        def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
            items = get(source)
            if items is None:
                if required:
                    problems.append(FieldProblem(at + self.name, "is missing", "required"))
                return
            made = self.each(items, at, moves, problems)
            if made is not None:
                put(target, [item.get(ITSELF) for item in made] if self.target_plain else made)

        return move

    def each(self, items: Any, at: str, moves: Sequence[Move], problems: Problems) -> list[Tree] | None:
        """Return what the moves make of every item; None when there is no list."""
        if not is_short_list(items, at + self.name, problems):
            return None
        made: list[Tree] = [{} for _ in items]
        for item, result, place in zip(items, made, numbered(at + self.name, items, self.notation), strict=True):
            if self.source_plain:
                run_all({ITSELF: item}, result, place, moves, problems)
            elif item.__class__ is not dict:
                problems.append(FieldProblem(place, "is no object", "type"))
            else:
                run_all(item, result, place + self.notation.separator, moves, problems)
        return made


def run_all(item: Tree, result: Tree, at: str, moves: Sequence[Move], problems: Problems) -> None:
    """Run every move of one level."""
    for move in moves:
        move(item, result, at, problems)
