"""What a compiled rule is: a move of something from one tree into another.

Owns: the types of moves and of the two finished directions, naming items, and limits of lists. Leaves to the compiler
and to the modules beside it: making moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.errors import FieldProblem
from gateway.mapping.converters import Wrong
from gateway.mapping.limits import MAX_ITEMS
from gateway.mapping.paths import Notation, Tree

Problems = list[FieldProblem]
Move = Callable[[Tree, Tree, str, Problems], None]
"""One compiled step: from a tree into another, given the label of the list item around and the list of problems."""

Translate = Callable[[Tree], tuple[Tree, Problems]]


@dataclass(frozen=True, slots=True)
class Translator:
    """Both directions of one pack. Each reads a tree, fills a new one and returns every problem it met."""

    say: Translate
    hear: Translate


def note(problems: Problems, name: str, wrong: Wrong) -> None:
    """Add what a conversion refused to the problems."""
    problems.append(FieldProblem(name, wrong.reason, wrong.code))


def item_at(at: str, name: str) -> str:
    """Return the label of a member; an item of a plain list has no member, and its own label is the place."""
    return at + name if name else at.rstrip("./")


def numbered(name: str, items: Sequence[Any], notation: Notation) -> Iterable[str]:
    """Return the label of every item of a list."""
    return (f"{name}[{number}]" for number in range(notation.first, notation.first + len(items)))


def is_short_list(items: Any, name: str, problems: Problems) -> bool:
    """Return whether this is a list within the limit; otherwise say so in `problems`."""
    if items.__class__ is not list:
        problems.append(FieldProblem(name, "is no list", "type"))
        return False
    if len(items) > MAX_ITEMS:
        problems.append(FieldProblem(name, f"has more than {MAX_ITEMS} items", "too_long"))
        return False
    return True
