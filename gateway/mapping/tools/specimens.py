"""Values that a region's schema takes: found by asking the schema itself, whatever its format.

Owns: a document with something at every place, and trying values in it. Leaves to the form: judging.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final

from gateway.mapping.converters import Wrong
from gateway.mapping.forms import Form, Leaf
from gateway.mapping.paths import OURS, Notation, Place, Tree, split
from gateway.mapping.tools.documents import without_numbers
from gateway.ports import RegionDocument

_TEXTS: Final = (
    "测试", "1", "20240229", "2024-02-29", "2024-02-29 12:00:00", "20240229120000", "2024-02-29T12:00:00+08:00",
    "29/02/2024", "2024年02月29日", "440600", "440600000", "440600000000", "0", "12.50", "true", "13800000000",
    "44010619900101900X", "91440101MA5T00010Q", "a@example.org", "application/pdf", "A", "AB", "CN", "1709179200000",
    "2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6", "KY440100440600202603100000038", "{}", "",
)  # fmt: skip
"""What texts of government forms look like; the numbers are of invented people."""

_LONGEST: Final = 20
"""Digits of the longest number that is tried where a pattern wants so many."""

_NUMBERS: Final = (1, 0, 12, 440600, 20240229, 1709179200, 1709179200000, 12.5, 0.25)


class Specimens:
    """A document of one form with something at every place that the schema lets stand there."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._left = {place: _candidates(leaf) for place, leaf in form.leaves.items()}
        self._chosen = {place: next(values) for place, values in self._left.items()}
        self._settle()

    @property
    def document(self) -> RegionDocument | None:
        """Return the document, or None when nothing was found that the schema takes."""
        document, faults = self._judged(self._chosen)
        return None if faults or document is None else document

    @property
    def values(self) -> dict[str, Any]:
        """Return what stands at each place."""
        return dict(self._chosen)

    def accepts(self, place: str, value: Any) -> bool:
        """Return whether the schema takes a value at a place."""
        if place not in self._chosen:
            return False
        return place not in self._judged({**self._chosen, place: value})[1]

    def put(self, place: str, value: Any) -> bool:
        """Let a value stand at a place, if the schema takes it there."""
        accepted = self.accepts(place, value)
        if accepted:
            self._chosen[place] = value
        return accepted

    def _settle(self) -> None:
        """Try the next value at every place that is refused; a place that takes none of them is left out."""
        for _ in range(len(_TEXTS) + _LONGEST + len(_NUMBERS) + len(self._chosen)):
            refused = self._judged(self._chosen)[1] & self._chosen.keys()
            if not refused:
                return
            for place in refused:
                following = next(self._left[place], None)
                if following is None:
                    del self._chosen[place]
                else:
                    self._chosen[place] = following

    def _judged(self, values: dict[str, Any]) -> tuple[RegionDocument | None, set[str]]:
        """Return the document with these values, and the places that the schema finds wrong."""
        try:
            document, faults = self._form.write(grown(values, self._form))
        except (Wrong, KeyError, TypeError, ValueError):  # values of the wrong kind: a form may be unable to write them
            return None, set(values)
        return document, {without_numbers(fault.field) for fault in faults}


def _candidates(leaf: Leaf) -> Iterator[Any]:
    if leaf.codes:
        yield from leaf.codes
    if leaf.kind in {"", "string"}:
        yield from (*_TEXTS, *("1" * count for count in range(2, _LONGEST)))
    if leaf.kind in {"", "integer", "number"}:
        yield from _NUMBERS
    if leaf.kind in {"", "boolean"}:
        yield from (True, False)
    if leaf.kind in {"", "object"}:
        yield {}


def grown(values: dict[str, Any], form: Form) -> Tree:
    """Return a tree with these values at their places; every list has one item."""
    tree: Tree = {}
    for at, value in values.items():
        _put(tree, form.end_at_value(split(at, form.notation)), copy.copy(value))
    return tree


def grown_of_ours(values: dict[str, Any]) -> Tree:
    """Return a canonical document with these values; every list has one item."""
    tree: Tree = {}
    for at, value in values.items():
        _put(tree, split(at, OURS), value)
    return tree


def _put(tree: Tree, place: Place, value: Any) -> None:
    *around, last = place
    for step in around:
        inner = tree.setdefault(step.key, [{}] if step.many else {})
        tree = inner[0] if isinstance(inner, list) else inner
    tree[last.key] = [value] if last.many else value


def parts(place: str, notation: Notation) -> list[str]:
    """Return the lists that a place lies in, as written: `a[].b[].c` gives `a[]` and `a[].b[]`."""
    steps = place.split(notation.separator)
    return [notation.separator.join(steps[:end]) for end in range(1, len(steps)) if steps[end - 1].endswith("[]")]
