"""Two documents held against each other, place by place, whatever their format.

Owns: flattening a tree into places with values, and the kinds of difference. Leaves to the forms: reading documents;
to the callers: whether a value may be shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from gateway.mapping.forms import Form
from gateway.mapping.paths import OURS, OWN_TEXT, Notation
from gateway.ports import RegionDocument

WHOLE: Final = "document"
"""The place of a difference that no single place shows."""

_NUMBER: Final = re.compile(r"\[\d+\]")


class Difference(NamedTuple):
    """One place at which two documents part. `kind` is appeared, vanished, changed, or order for the whole."""

    place: str
    kind: str
    before: Any = None
    after: Any = None


def places(tree: Mapping[str, Any], notation: Notation = OURS) -> dict[str, Any]:
    """Return every value of a tree by its place, list items numbered; an empty object or list is a value."""
    return dict(_walk(tree, "", notation))


def compare(before: Mapping[str, Any], after: Mapping[str, Any], notation: Notation = OURS) -> list[Difference]:
    """Return where two trees part, in the order of the first."""
    return list(_parted(places(before, notation), places(after, notation)))


def compare_documents(before: RegionDocument, form: Form, after: RegionDocument, other: Form) -> list[Difference]:
    """Return where two documents part that were written in two forms of one message, each read in its own."""
    found = list(_parted(*(places(f.read(d)[0], f.notation) for d, f in ((before, form), (after, other)))))
    if not found and form.suffix == other.suffix and not form.same(before, after):
        return [Difference(WHOLE, "order")]
    return found


def without_numbers(place: str) -> str:
    """Return a place as rules write it: `materials[].name`."""
    return _NUMBER.sub("[]", place)


def values_at(tree: Mapping[str, Any], at: str, notation: Notation) -> list[Any]:
    """Return every value at a place as rules write it; a list that is named itself gives its items."""
    found = [(without_numbers(place), value) for place, value in _walk(tree, "", notation)]
    return [value for place, value in found if place in {at, f"{at}[]"} and value not in (None, [], {})]


def _walk(node: Any, at: str, notation: Notation) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and (node or not at):
        for key, inner in node.items():
            place = at if key == OWN_TEXT else f"{at}{notation.separator if at else ''}{key}"
            yield from _walk(inner, place, notation)
    elif isinstance(node, list) and node:
        for number, inner in enumerate(node, start=notation.first):
            yield from _walk(inner, f"{at}[{number}]", notation)
    else:
        yield at, node


def _parted(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for place, value in before.items():
        if place not in after:
            yield Difference(place, "vanished", before=value)
        elif after[place] != value or type(after[place]) is not type(value):
            yield Difference(place, "changed", value, after[place])
    yield from (Difference(place, "appeared", after=after[place]) for place in after if place not in before)
