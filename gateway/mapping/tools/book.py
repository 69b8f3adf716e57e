"""The mapping book as data: one chapter for each message of a region, ours and theirs side by side.

Owns: what a chapter holds. Leaves to `words`: the sentences; to `page` and `gateway.cli`: how it looks.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.mapping.charsets import charset_named
from gateway.mapping.forms import Form, Leaf
from gateway.mapping.losses import Loss
from gateway.mapping.packs import Pack
from gateway.mapping.paths import OURS, Notation
from gateway.mapping.rules import Rule
from gateway.mapping.tools.documents import values_at
from gateway.mapping.tools.folder import Opened
from gateway.mapping.tools.words import ARROWS, Words, conversion, notes
from gateway.mapping.vocabulary import DIRECTIONS, Field, Message

LOST: Final = "✗"
"""The sign of a field that goes neither way."""

_FORMATS: Final = {".region.json": "JSON", ".region.xml": "XML", ".region.form": "form fields", ".region.csv": "CSV"}


@dataclass(frozen=True, slots=True)
class Row:
    """One rule, or a field that no rule carries: then `place` is empty and `arrow` is LOST.

    `words` are their own for the place; `reason` is why a rule goes one way. `sample` is a value of ours and the same
    of theirs, from the pack's examples; both are empty when there is none.
    """

    field: Field
    arrow: str
    place: str
    words: str
    how: Words
    notes: tuple[Words, ...] = ()
    reason: str = ""
    losses: tuple[Loss, ...] = ()
    sample: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class CodeTable:
    """A code table as one pack uses it: a row holds our code, its names, and their codes, the first of them written."""

    name: str
    words: Words
    column: str
    rows: tuple[tuple[str, Words, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """One example: our half and theirs, as texts. `direction` is empty when it holds both ways."""

    name: str
    direction: str
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """One message of one region.

    `intro` is what stands at the top of the rule file; `unread` are the places of theirs that no rule reads, each with
    their own words for it and the reason; `fixed` are places that always hold the same text.
    """

    region: str
    message: Message
    version: str
    format: str
    charset: str
    intro: str
    absent: tuple[str, ...]
    rows: tuple[Row, ...]
    fixed: tuple[tuple[str, str], ...]
    unread: tuple[tuple[str, Leaf, str], ...]
    losses: tuple[Loss, ...]
    tables: tuple[CodeTable, ...]
    examples: tuple[Pair, ...]

    @property
    def anchor(self) -> str:
        """Return the name that links lead to."""
        return f"{self.region}-{self.message.name}"


def chapters(opened: Opened) -> list[Chapter]:
    """Return a chapter for every pack."""
    return [chapter(opened, pack) for pack in opened.all()]


def chapter(opened: Opened, pack: Pack) -> Chapter:
    """Return the chapter of one pack."""
    source = opened.source(pack)
    return Chapter(
        region=pack.region,
        message=pack.about,
        version=pack.version,
        format=_FORMATS.get(pack.form.suffix, pack.form.suffix),
        charset=pack.form.charset,
        intro=_intro(source.raw.decode()),
        absent=pack.rules.absent,
        rows=tuple(_Rows(pack, _samples(opened, pack)).all()),
        fixed=tuple(source.table("fixed").items()),
        unread=tuple(_unread(pack)),
        losses=pack.losses,
        tables=tuple(_tables(opened, pack)),
        examples=tuple(_examples(opened, pack)),
    )


def _intro(text: str) -> str:
    """Return the comment at the top of a rule file."""
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return " ".join(lines)


# --- rows --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Samples:
    """The examples of a pack as trees, ours beside theirs, to take values from."""

    pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
    notation: Notation

    def of(self, rule: Rule) -> tuple[str, str]:
        """Return the first pair of values, one of each side, that a rule carries."""
        place = rule.at.partition(", ")[0]
        for ours, theirs in self.pairs:
            own, other = values_at(ours, rule.field.name, OURS), values_at(theirs, place, self.notation)
            if own and other:
                return ", ".join(map(_shown, own if rule.join else own[:1])), _shown(other[0])
        return "", ""


def _samples(opened: Opened, pack: Pack) -> _Samples:
    pairs = [(orjson.loads(opened.files.contents[ours]), _tree(opened, pack, theirs))
             for name, ours, theirs in _fullest_first(opened, pack) if not _one_way(name)]  # fmt: skip
    return _Samples(pairs, pack.form.notation)


def _fullest_first(opened: Opened, pack: Pack) -> list[tuple[str, str, str]]:
    """Return the examples, the longest first, so that most samples are of one invented person."""
    return sorted(opened.examples(pack), key=lambda example: -len(opened.files.contents[example[1]]))


def _tree(opened: Opened, pack: Pack, path: str) -> Mapping[str, Any]:
    return pack.form.read(pack.form.example(opened.files.contents[path]))[0]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


@dataclass(frozen=True, slots=True)
class _Rows:
    """Makes the rows of one pack, in the order of the vocabulary, so that regions can be read beside each other."""

    pack: Pack
    samples: _Samples

    def all(self) -> Iterator[Row]:
        """Yield a row for every rule, and one for every field that has none."""
        for field in self.pack.about.fields.values():
            own = [rule for rule in self.pack.rules.rules if rule.field.name == field.name]
            yield from (self._row(rule) for rule in own)
            if not own and field.holds_value:
                yield Row(field, LOST, "", "", Words("", ""), losses=self._losses(field))

    def _row(self, rule: Rule) -> Row:
        leaf = self.pack.form.leaves.get(rule.at)
        return Row(
            field=rule.field,
            arrow=ARROWS[rule.direction],
            place=rule.at,
            words=leaf.words if leaf else "",
            how=conversion(rule.written, rule.field),
            notes=tuple(notes(rule.written, rule.field)),
            reason=str(rule.written.get("reason", "")),
            losses=self._losses(rule.field),
            sample=self.samples.of(rule),
        )

    def _losses(self, field: Field) -> tuple[Loss, ...]:
        return tuple(loss for loss in self.pack.losses if loss.field == field.name)


# --- what stands beside the rules --------------------------------------------------------------------------------


def _unread(pack: Pack) -> Iterator[tuple[str, Leaf, str]]:
    for loss in pack.losses:
        if loss.field not in pack.about.fields and loss.field in pack.form.leaves:
            yield loss.field, pack.form.leaves[loss.field], loss.reason


def _tables(opened: Opened, pack: Pack) -> Iterator[CodeTable]:
    for name in dict.fromkeys(str(rule.written["table"]) for rule in pack.rules.rules if rule.column):
        table, _, column = name.partition(".")
        data = tomllib.loads(opened.files.contents[f"tables/{table}.toml"].decode())
        rows = tuple(_code(code, row, column) for code, row in data["codes"].items())
        yield CodeTable(name, Words(data.get("zh", table), data.get("en", table)), data["columns"][column], rows)


def _code(code: str, row: Mapping[str, Any], column: str) -> tuple[str, Words, tuple[str, ...]]:
    cell = row.get(column, [])
    return code, Words(row.get("zh", ""), row.get("en", "")), tuple(cell if isinstance(cell, list) else [cell])


def _examples(opened: Opened, pack: Pack) -> Iterator[Pair]:
    for name, ours, theirs in opened.examples(pack):
        contents = opened.files.contents
        yield Pair(name, _one_way(name), contents[ours].decode().strip(), text_of(contents[theirs], pack.form).strip())


def _one_way(name: str) -> str:
    return next((direction for direction in DIRECTIONS if name.endswith(f".{direction}")), "")


def text_of(raw: bytes, form: Form) -> str:
    """Return a region's document as text, for people."""
    return charset_named(form.charset).decode(raw)
