"""Paths to values, on our side and on theirs, and reaching along them.

Owns: splitting and writing paths, `Notation` (the way each side writes one), and the closures that get and put a
value in a tree. Leaves to the forms: which paths exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

Tree = dict[str, Any]
"""A document without its format: objects, lists, and values at the ends."""

OWN_TEXT: Final = "#text"
"""The key under which the tree of an XML element keeps the element's own text."""

ITSELF: Final = ""
"""The key of an item that is no object but a value: lists of plain values are walked like lists of objects."""

VIEW: Final = "\0"
"""How the key of a view begins: a text or a list of texts that the rules see as an object (`gateway.mapping.views`)."""

PAIRS: Final = "[=]"
"""How a step ends whose list of "key=value" texts is seen as an object."""

BROKEN: Final = object()
"""What a getter gives when the path runs through something that is no object."""


class Notation(NamedTuple):
    """How paths are written: what stands between steps, and which number the first item of a list has."""

    separator: str
    first: int


class Step(NamedTuple):
    """One step of a path; `many` marks a list, written with `[]`."""

    key: str
    many: bool = False


Place = tuple[Step, ...]
Get = Callable[[Tree], Any]
Put = Callable[[Tree, Any], None]

OURS: Final = Notation(".", 0)
"""How canonical paths are written: `materials[0].name`."""


def split(path: str, notation: Notation) -> Place:
    """Split a written path: `materials[].name` in ours, `Materials/Material[]/@code` in XML."""
    return tuple(Step(part.removesuffix("[]"), part.endswith("[]")) for part in path.split(notation.separator))


def label(place: Iterable[Step], notation: Notation) -> str:
    """Write a path for a message: without list marks, which get their numbers later."""
    keys = (step.key.removeprefix(VIEW) for step in place if step.key not in {OWN_TEXT, ITSELF})
    return notation.separator.join(keys)


def list_heads(place: Place) -> list[Place]:
    """Return the path up to and including each of its lists, the outermost first."""
    return [place[:end] for end, step in enumerate(place, start=1) if step.many]


def list_head(place: Place) -> Place:
    """Return the path up to and including its first list, or nothing when it has none."""
    return next(iter(list_heads(place)), ())


def getter(place: Place) -> Get:
    """Return a closure that gives the value at a path, None where nothing stands, BROKEN where no object does."""
    *parents, last = [step.key for step in place]
    if not parents:
        return lambda tree: tree.get(last)
    if len(parents) == 1:
        return _getter_in_object(parents[0], last)

    def get(tree: Tree) -> Any:
        node: Any = tree
        for key in parents:
            node = node.get(key)
            if node is None:
                return None
            if node.__class__ is not dict:
                return BROKEN
        return node.get(last)

    return get


def _getter_in_object(key: str, last: str) -> Get:
    def get(tree: Tree) -> Any:
        node = tree.get(key)
        if node is None:
            return None
        return node.get(last) if node.__class__ is dict else BROKEN

    return get


def putter(place: Place) -> Put:
    """Return a closure that sets the value at a path and makes the objects on the way."""
    *parents, last = [step.key for step in place]
    if not parents:
        return lambda tree, value: tree.__setitem__(last, value)

    def put(tree: Tree, value: Any) -> None:
        node = tree
        for key in parents:
            inner = node.get(key)
            if inner is None:
                inner = node[key] = {}
            node = inner
        node[last] = value

    return put
