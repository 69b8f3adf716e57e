"""Texts and lists of texts that the rules see as objects.

Owns: `View` and its two kinds: a list of "key=value" texts (`attributes[=].mobile`), and one text of several parts
(`split = "-"`, `part = 1`). Leaves to the compiler: laying a view over a source before the rules read it, and folding
it into the target after they have written it. Leaves the values to the converters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from gateway.mapping.converters import Wrong, text
from gateway.mapping.limits import MAX_ITEMS
from gateway.mapping.paths import PAIRS, VIEW, Place, Step, Tree

_EQUALS: Final = "="


@dataclass(frozen=True, slots=True)
class View:
    """What stands at `place` (inside the list item around), seen as an object.

    `separator` and `parts` belong to a text of several parts; `names`, the keys in the order of the rules, to a list of
    pairs.
    """

    key: str
    place: Place
    separator: str = ""
    parts: int = 0
    names: tuple[str, ...] = ()

    def open(self, raw: Any) -> Tree:
        """Return the object. Raises Wrong."""
        return _open_parts(raw, self) if self.separator else _open_pairs(raw)

    def close(self, seen: Tree) -> Any:
        """Return the text or the list of texts that says the object. Raises Wrong."""
        if self.separator:
            return _close_parts(seen, self)
        return [f"{name}={seen[name]}" for name in self.names if name in seen]


def step_of(path: str) -> Step:
    """Return the step under which a view of a path stands among the keys of its list item."""
    return Step(f"{VIEW}{path}")


def pairs(path: str, place: Place) -> View:
    """Return the view of a list of "key=value" texts."""
    return View(step_of(f"{path}{PAIRS}").key, place)


def part_step(number: int) -> Step:
    """Return the step of one part of a text of several."""
    return Step(f"part {number}")


def _open_pairs(raw: Any) -> Tree:
    if raw.__class__ is not list:
        raise Wrong("is no list", "type")
    if len(raw) > MAX_ITEMS:
        raise Wrong(f"has more than {MAX_ITEMS} items", "too_long")
    found: Tree = {}
    for item in raw:
        name, equals, value = text(item).partition(_EQUALS)
        if not equals:
            raise Wrong('holds an item that is not "key=value"')
        if name in found:
            raise Wrong("holds a key twice", "repeated")
        found[name] = value
    return found


def _open_parts(raw: Any, view: View) -> Tree:
    written = text(raw).split(view.separator, view.parts - 1)
    return {part_step(number).key: part for number, part in enumerate(written, start=1)}


def _close_parts(seen: Tree, view: View) -> str:
    parts = [seen.get(part_step(number).key, "") for number in range(1, view.parts + 1)]
    if view.separator.join(parts).split(view.separator, len(parts) - 1) != parts:
        raise Wrong(f'has a part that holds "{view.separator}", which separates the parts')
    while parts and not parts[-1]:
        parts.pop()
    return view.separator.join(parts)
