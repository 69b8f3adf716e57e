"""How a region may write a value of ours: the part of a proposed rule besides its place.

Owns: choosing `as`, `table` and `by` by asking the schema which writings it takes, and by its words. Leaves to
`proposals`: which place it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as made_by
from typing import Any, Final

from gateway.mapping import converters
from gateway.mapping.converters import Wrong
from gateway.mapping.forms import Form, Leaf
from gateway.mapping.tables import Column, Tables
from gateway.mapping.tools.specimens import Specimens
from gateway.mapping.vocabulary import Field, Message

_WAYS: Final[Mapping[str, Sequence[str]]] = {
    "date": (
        "date:yyyy-MM-dd", "date:yyyyMMdd", "date:yyyy/MM/dd", "date:dd/MM/yyyy", "date:yyyy年MM月dd日",
        "date:epoch-ms",
    ),
    "datetime": (
        "datetime:yyyy-MM-dd HH:mm:ss", "datetime:yyyyMMddHHmmss", "datetime:rfc3339+08:00", "datetime:rfc3339Z",
        "datetime:yyyy/MM/dd HH:mm:ss", "datetime:yyyyMMddHHmmssSSS", "datetime:epoch-ms", "datetime:epoch-s",
    ),
    "money": ("money:yuan-text", "money:yuan", "money:cents"),
    "decimal": ("decimal:text", "decimal:number"),
    "integer": ("", "integer:text"),
}  # fmt: skip
"""The writings that are tried for a type, the commonest first; "" is the plain one."""

_VALUES: Final[Mapping[str, Sequence[Any]]] = {
    "date": ("2024-02-29",),
    "datetime": ("2024-02-29T04:00:00Z",),
    "money": (1250, 100),
    "decimal": ("0.25", "1"),
    "integer": (1, 12),
    "code": ("440600",),
}
"""Values of ours that the writings are tried with."""

_SPOKEN: Final[Mapping[str, Sequence[str]]] = {
    "money:cents": ("分", "cent"),
    "money:yuan": ("元", "yuan"),
    "money:yuan-text": ("元", "yuan"),
    "datetime:epoch-ms": ("毫秒", "millisecond", "13位", "timestamp", "时间戳"),
    "datetime:epoch-s": ("秒数", "10位"),
    "date:epoch-ms": ("毫秒", "millisecond", "时间戳"),
}
"""What their words say of a writing that has no pattern."""

REGION_DIGITS: Final = 6
"""Digits of a region code (GB/T 2260) on our side."""

_REGIONS: Final = ("region:6", "region:9", "region:12")
TELLING: Final = 3
"""So many codes are enough to know a code list by."""

_HEARD: Final = "their words say how"
_ALONE: Final = "the schema takes nothing else"
_SEPARATORS: Final = (";;", "；；", "|", ";", "；")
"""What stands between the items of a joined list, the commonest first."""

_SPELLINGS: Final = (("1", "0"), ("Y", "N"), ("是", "否"), ("true", "false"), ("T", "F"))


@dataclass(frozen=True, slots=True)
class Writing:
    """What stands in a rule besides the place, why, and what is doubtful about it (nothing, when it may stand)."""

    keys: Mapping[str, str] = made_by(default_factory=dict)
    why: str = ""
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Writer:
    """Finds writings for one message of one region."""

    region: str
    message: Message
    form: Form
    tables: Tables
    specimens: Specimens

    def of(self, field: Field, place: str) -> Writing:
        """Return how a field may be written at a place."""
        writing = self._of_value(field, place)
        many = field.type == "texts" or "[]" in field.name
        return _joined(writing, self.form.leaves[place]) if many and "[]" not in place else writing

    def _of_value(self, field: Field, place: str) -> Writing:
        leaf = self.form.leaves[place]
        if field.type == "code":
            return self._code(field, place, leaf)
        if field.type == "boolean":
            return _boolean(leaf)
        return self._way(field, place, leaf) if field.type in _WAYS else Writing()

    def _way(self, field: Field, place: str, leaf: Leaf) -> Writing:
        """Try every writing of a type, and weigh those that the schema takes by its words."""
        taken = [name for name in _WAYS[field.type] if self._takes(name, field, place)]
        if not taken:
            return Writing(_as(_WAYS[field.type][0]), doubt=f"the schema takes no {field.type} that we can write")
        if "" in taken:
            return Writing()
        spoken = [name for name in taken if _is_spoken(name, leaf.words)]
        if spoken or len(taken) == 1:
            return Writing(_as((spoken or taken)[0]), why=_HEARD if spoken else _ALONE)
        others = ", ".join(taken[1:4])
        return Writing(_as(taken[0]), doubt=f"the schema takes other writings too: {others}")

    def _takes(self, name: str, field: Field, place: str) -> bool:
        textual = self.form.textual
        try:
            found = converters.named(name, field, textual=textual) if name else converters.plain(field, textual=textual)
            return all(self.specimens.accepts(place, found.say(value)) for value in _VALUES[field.type])
        except Wrong:
            return False

    def _code(self, field: Field, place: str, leaf: Leaf) -> Writing:
        if field.digits == REGION_DIGITS:
            return self._region_code(field, place, leaf)
        if field.table:
            return self._column(field, leaf)
        strange = ", ".join(code for code in leaf.codes if field.values and code not in field.values)
        return Writing(doubt=f"codes that are not ours: {strange}; a code table is needed" if strange else "")

    def _region_code(self, field: Field, place: str, leaf: Leaf) -> Writing:
        ways = [name for name in _REGIONS if self._takes(name, field, place)]
        said = [name for name in ways if f"{name.partition(':')[2]}位" in leaf.words.replace(" ", "")]
        if not ways:
            return Writing(doubt="the schema takes no region code")
        if ways == [_REGIONS[0]]:
            return Writing(why="they write six digits, as we do")
        if said or len(ways) == 1:
            return Writing(_as((said or ways)[0]), why=_HEARD if said else _ALONE)
        return Writing(_as(ways[0]), doubt="6, 9 or 12 digits? The schema takes several")

    def _column(self, field: Field, leaf: Leaf) -> Writing:
        table = self.tables[field.table]
        own = table.columns.get(self.region)
        name, share = (own.name, 1.0) if own else best_column(field, leaf, self.tables, self.region)
        if share < 1:
            needed = f"tables/{field.table}.toml needs a column {self.region}"
            return Writing({"table": f"{field.table}.{self.region}"}, why=needed)
        keys = {"table": name, **_by(table.columns[name.partition(".")[2]], field, self.message)}
        why = "the table has their column" if own else f"the codes are those of {name}"
        few = own is None and len(leaf.codes) < TELLING
        return Writing(keys, why=why, doubt=f"so few codes: is it {name}?" if few else "")


def _as(name: str) -> dict[str, str]:
    return {"as": name} if name else {}


def _is_spoken(name: str, words: str) -> bool:
    """Return whether their words hold the pattern, or what goes for it."""
    said = re.sub(r"[^0-9a-z年月日/:.\- ]", "", words.lower())
    pattern = name.partition(":")[2].lower()
    if name in _SPOKEN:
        return any(word in words for word in _SPOKEN[name])
    return bool(pattern) and re.search(rf"(?<![a-z]){re.escape(pattern)}(?![a-z: ])", said) is not None


def _joined(writing: Writing, leaf: Leaf) -> Writing:
    """Let the items of a list be one text, divided by what their words name."""
    named = next((mark for mark in _SEPARATORS if mark in leaf.words), "")
    doubt = writing.doubt or ("" if named else f"one text for a list: does {_SEPARATORS[0]} stand between its items?")
    return replace(writing, keys={**writing.keys, "join": named or _SEPARATORS[0]}, doubt=doubt)


def _boolean(leaf: Leaf) -> Writing:
    if leaf.kind == "boolean":
        return Writing()
    for yes, no in _SPELLINGS:
        if {yes, no} == set(leaf.codes):
            return Writing({"as": f"boolean:{yes}/{no}"}, why="the codes are these two")
    return Writing({"as": "boolean:1/0"}, doubt="how do they write yes and no?")


# --- codes -------------------------------------------------------------------------------------------------------


def best_column(field: Field, leaf: Leaf, tables: Tables, region: str) -> tuple[str, float]:
    """Return the column of the field's table that knows most of the codes of a place, and which share of them.

    Of several that know as many, the region's own comes first.
    """
    if not leaf.codes or field.type != "code":
        return "", 0.0
    if field.values:
        return "the vocabulary", _share(leaf, set(field.values))
    columns = tables[field.table].columns.values() if field.table in tables else ()
    shares = [(_share(leaf, set(column.reads)), column.name.endswith(f".{region}"), column.name) for column in columns]
    share, _, name = max(shares, default=(0.0, False, ""))
    return name, share


def _share(leaf: Leaf, known: set[str]) -> float:
    return len(known & set(leaf.codes)) / len(leaf.codes)


def _by(column: Column, field: Field, message: Message) -> dict[str, str]:
    shared = any(len(ours) > 1 for ours in column.reads.values())
    number = f"{field.name.rpartition('.')[0]}.number".lstrip(".")
    return {"by": number} if shared and number in message.fields else {}
