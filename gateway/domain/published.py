"""What regions publish of their items, compared with what was approved: pure, no I/O, no clock.

Owns: a published entry (mappings/vocabulary.toml, `[item]`) as paths and values, the difference of two entries, which
paths matter for routing and why, and what becomes of an item at an office when its entry changes. Leaves to
`gateway.items`: fetching, keeping and approving.

Elements of a list are known by their code, not by their place: an entry whose materials come in another order says the
same. `apply(diff(a, b), a)` is `b`, for the flat forms of any two entries.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

import orjson

from gateway.domain.item import Item

Document = Mapping[str, Any]
"""A published entry in our own words."""
Flat = Mapping[str, Any]
"""Path (`materials[ID].required`) → a text, number, truth value or list of plain texts. What is empty is not there."""


class ItemState(StrEnum):
    """What an item is at one office, after what its region publishes."""

    OPEN = "open"  # published as it was approved, as far as routing goes
    NEW = "new"  # published, and unknown to our file: listed, never routed
    CHANGED = "changed"  # 变更: differs from what was approved, or was away meanwhile
    SUSPENDED = "suspended"  # 暂停: nobody may apply for it there now
    GONE = "gone"  # 取消: it was published, and is no more


BLOCKING = frozenset({ItemState.CHANGED, ItemState.SUSPENDED, ItemState.GONE})
"""States in which nothing is routed to the office."""

# --- which changes matter ------------------------------------------------------------------------------------------

MATTERS: Mapping[str, str] = {
    "code": "it is the name of the item in every message",
    "local_code": "the region may know the item by it alone",
    "region": "another place decides",
    "department.code": "another authority decides",
    "situations[].code": "a case names its situation by it",
    "audiences[].kind": "others may apply than before",
    "modes[].code": "it is handed in in other ways",
    "regions[].code": "windows of other regions may take it",
    "min_assurance": "the applicant must be known more or less surely",
    "tolerance": "materials may or may not follow later",
    "suspended": "nobody may apply while it is true",
    "promised.days": "the clock of the case runs by it",
    "promised.unit": "the clock of the case runs by it",
    "statutory.days": "the clock of the case runs by it",
    "statutory.unit": "the clock of the case runs by it",
    "fee.charged": "the applicant must be told of a fee before applying",
    "materials[].code": "something else has to be handed in",
    "materials[].kind": "it has to be handed in in another form",
    "materials[].required": "what must be handed in changes",
    "materials[].deferrable": "what may follow later changes",
    "materials[].certificate_type": "another certificate satisfies it",
    "fields[].code": "the form asks for something else",
    "fields[].required": "what must be filled in changes",
    "fields[].choices": "what may be chosen changes",
}
"""Path → why a change of it stops routing until a person has looked."""

RECORDED = frozenset(
    {
        "version", "name", "name_hant", "name_en", "name_pt", "keywords", "kind", "level", "department.name",
        "situations[].name", "online_depth", "visits", "fee.amount", "fee.currency", "materials[].name",
        "materials[].copies", "fields[].name", "legal_bases", "hotlines", "guide", "result", "valid_from",
        "valid_until",
    }
)  # fmt: skip
"""Paths whose change is told and stops nothing: words for people, and how it is classified. The days of validity stop
the item by themselves when it is outside of them. A path that stands in neither table matters."""

UNTOLD = frozenset({"updated_at"})
"""When the region last touched the entry says nothing of what is in it."""

_KEY = re.compile(r"\[[^\]]*\]")


def matters(path: str) -> bool:
    """Say whether a change at this path stops routing. What nobody has decided about does."""
    return general(path) not in RECORDED | UNTOLD


def general(path: str) -> str:
    """Return the path as the vocabulary writes it: `materials[ID].name` is `materials[].name`."""
    return _KEY.sub("[]", path)


# --- entries as paths and values -----------------------------------------------------------------------------------

_ESCAPES = str.maketrans({mark: f"%{ord(mark):02X}" for mark in "%.[]#~"})
_KEYS = ("code", "kind")
"""By what the elements of a list are known: their code, or the kind of applicant."""


def flat(document: Document) -> dict[str, Any]:
    """Return every value of an entry under its path."""
    return dict(_walk("", document))


def _walk(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _walk(f"{path}.{name.translate(_ESCAPES)}" if path else name.translate(_ESCAPES), inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from _elements(path, value)
    elif value is not None:
        yield path, value


def _elements(path: str, values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    if not all(isinstance(value, Mapping) for value in values):
        yield path, list(values)
        return
    seen: dict[str, int] = {}
    for position, value in enumerate(values):
        name = _name(value, position)
        seen[name] = seen.get(name, 0) + 1
        label = name if seen[name] == 1 else f"{name}~{seen[name]}"
        yield from _walk(f"{path}[{label}]", value)


def _name(element: Mapping[str, Any], position: int) -> str:
    known = (element[key] for key in _KEYS if isinstance(element.get(key), str))
    return next((name.translate(_ESCAPES) for name in known), f"#{position}")


def digest(document: Document) -> str:
    """Return what an entry is approved by: hex SHA-256 of all that it says but when it was last touched."""
    said = {path: value for path, value in flat(document).items() if path not in UNTOLD}
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


# --- differences ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """One path that says something else than before; None stands for nothing."""

    path: str
    old: Any
    new: Any

    @property
    def matters(self) -> bool:
        """Say whether it stops routing."""
        return matters(self.path)

    @property
    def why(self) -> str:
        """Return why it matters; empty when it does not."""
        return MATTERS.get(general(self.path), "nobody has decided what it means") if self.matters else ""


def diff(old: Flat, new: Flat) -> list[Change]:
    """Return what changed, in the order of the paths; when the entry was last touched is no change."""
    paths = sorted((old.keys() | new.keys()) - UNTOLD)
    changes = (Change(path, old.get(path), new.get(path)) for path in paths)
    return [change for change in changes if not _same(change.old, change.new)]


def _same(one: Any, other: Any) -> bool:
    """Compare as JSON does: 1 and true are two things."""
    return orjson.dumps(one) == orjson.dumps(other)


def apply(changes: Iterable[Change], to: Flat) -> dict[str, Any]:
    """Return an entry with these changes made."""
    changed = {**to, **{change.path: change.new for change in changes}}
    return {path: value for path, value in changed.items() if value is not None}


# --- what becomes of an item at an office --------------------------------------------------------------------------


def state_after(
    before: ItemState | None, approved: Document, published: Document | None, today: date
) -> tuple[ItemState, list[str]]:
    """Return the state of an item at an office that our file knows, and the paths that matter.

    An item that was suspended, gone or changed is open again only by an approval, even when it is published as it was
    approved: what happened meanwhile is for a person to judge.
    """
    if published is None:
        return ItemState.GONE, []
    paths = [change.path for change in diff(flat(approved), flat(published)) if change.matters]
    if is_suspended(published, today):
        return ItemState.SUSPENDED, paths
    return (ItemState.CHANGED if paths or before in BLOCKING else ItemState.OPEN), paths


def is_suspended(published: Document, today: date) -> bool:
    """Say whether an entry is out of force: suspended, not yet valid, or valid no more (both days count)."""
    day = today.isoformat()
    begins, ends = published.get("valid_from"), published.get("valid_until")
    return bool(published.get("suspended")) or (begins or day) > day or (ends or day) < day


# --- our file, in the words of an entry ----------------------------------------------------------------------------

_SAID_BY_THE_FILE = (
    "modes[].code", "min_assurance", "promised.days", "promised.unit", "statutory.days", "statutory.unit",
    "materials[].code", "materials[].required", "materials[].deferrable", "materials[].certificate_type",
    "fields[].code", "fields[].required",
)  # fmt: skip


def as_published(item: Item, region: str) -> Document:
    """Return what our own file says of an item at an office, as far as an entry says the same things."""
    office = item.office(region)
    limits = {} if office is None else {
        "promised": {"days": office.promised_days, "unit": office.limit_unit},
        "statutory": {"days": office.statutory_days, "unit": office.limit_unit},
    }  # fmt: skip
    return {
        **limits,
        "modes": [{"code": mode} for mode in item.modes],
        "min_assurance": item.min_assurance.name,
        "materials": [
            {"code": m.code, "required": m.required, "deferrable": m.deferrable, "certificate_type": m.certificate_type}
            for m in item.materials
        ],
        "fields": [{"code": field.id, "required": field.required} for field in item.fields],
    }


def unlike_the_file(item: Item, region: str, published: Document) -> list[Change]:
    """Return where an entry says something else than our file; what the entry leaves out is no contradiction."""
    ours, theirs = flat(as_published(item, region)), flat(published)
    told = {path: value for path, value in theirs.items() if general(path) in _SAID_BY_THE_FILE}
    lists = {general(path).partition("[]")[0] for path in told if "[" in path}
    compared = {path: value for path, value in ours.items() if path in told or path.partition("[")[0] in lists}
    return [change for change in diff(compared, told) if not (change.new is None and change.old is False)]
