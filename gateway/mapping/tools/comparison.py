"""Two mappings folders held against each other: rules, code tables, losses, schemas, and what the examples become.

Owns: the changes as data, in words. Leaves to `replay`: contrasting documents; to the caller: printing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.mapping.forms import Leaf
from gateway.mapping.losses import Loss
from gateway.mapping.packs import Pack
from gateway.mapping.rules import Rule
from gateway.mapping.tools.folder import Opened
from gateway.mapping.tools.replay import Contrast, Recorded, Verdict, contrast
from gateway.mapping.tools.words import ARROWS, conversion, notes
from gateway.mapping.vocabulary import DIRECTIONS, OURS_TO_THEIRS, Field, Message


class Change(NamedTuple):
    """One change of a pack. `about` is rule, loss, schema or head; `what` is added, removed or changed."""

    about: str
    what: str
    name: str
    before: str = ""
    after: str = ""


class PackChange(NamedTuple):
    """What becomes of one pack. A version is empty when that folder has no such pack.

    `only_shared`: its own rules and schema are the same; only tables or the vocabulary give it another version.
    """

    region: str
    message: str
    before: str
    after: str
    changes: tuple[Change, ...]
    only_shared: bool


class TableChange(NamedTuple):
    """One cell of a code table that changes, and the packs that use its column."""

    table: str
    column: str
    code: str
    before: str
    after: str
    packs: tuple[str, ...]


class FieldChange(NamedTuple):
    """One field of the vocabulary that changes."""

    message: str
    name: str
    what: str
    detail: str = ""


class Comparison(NamedTuple):
    """Everything that changes between two folders."""

    packs: tuple[PackChange, ...]
    tables: tuple[TableChange, ...]
    fields: tuple[FieldChange, ...]
    documents: tuple[Contrast, ...]

    @property
    def is_empty(self) -> bool:
        """Return whether nothing changes."""
        return not any(self)


def compare_folders(old: Opened, new: Opened) -> Comparison:
    """Return everything that changes from one folder to the other."""
    return Comparison(
        tuple(_pack_changes(old, new)),
        tuple(_table_changes(old, new)),
        tuple(_field_changes(old, new)),
        tuple(_document_changes(old, new)),
    )


# --- packs -------------------------------------------------------------------------------------------------------


def _pack_changes(old: Opened, new: Opened) -> Iterator[PackChange]:
    for region, message in _names(old, new):
        before, after = _pack(old, region, message), _pack(new, region, message)
        changes = tuple(_changes(before, after)) if before and after else ()
        versions = before.version if before else "", after.version if after else ""
        if changes or versions[0] != versions[1]:
            only_shared = bool(before and after and not changes and _own(before) == _own(after))
            yield PackChange(region, message, *versions, changes, only_shared)


def _names(old: Opened, new: Opened) -> list[tuple[str, str]]:
    return list(dict.fromkeys((pack.region, pack.message) for opened in (old, new) for pack in opened.all()))


def _pack(opened: Opened, region: str, message: str) -> Pack | None:
    return opened.packs.get(region, {}).get(message)


def _own(pack: Pack) -> tuple[bytes, bytes]:
    return _rules_file(pack), pack.form.raw


def _changes(old: Pack, new: Pack) -> Iterator[Change]:
    yield from _by_name("head", _head(old), _head(new))
    yield from _rule_changes(old.rules.rules, new.rules.rules)
    yield from _by_name("loss", _losses(old.losses), _losses(new.losses))
    yield from _by_name("schema", _places(old), _places(new))


def _by_name(about: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for name, text in old.items():
        if name not in new:
            yield Change(about, "removed", name, before=text)
        elif new[name] != text:
            yield Change(about, "changed", name, text, new[name])
    yield from (Change(about, "added", name, after=text) for name, text in new.items() if name not in old)


def _head(pack: Pack) -> dict[str, str]:
    source = tomllib.loads(_rules_file(pack).decode())
    head = {"format": pack.form.suffix.removeprefix(".region."), "charset": pack.form.charset}
    fixed = {f"fixed {place}": str(value) for place, value in source.get("fixed", {}).items()}
    return {**head, "absent": ", ".join(pack.rules.absent), **fixed}


def _rules_file(pack: Pack) -> bytes:
    return next(raw for path, raw in pack.files.contents.items() if path.endswith("/rules.toml"))


def _rule_changes(old: Sequence[Rule], new: Sequence[Rule]) -> Iterator[Change]:
    """Compare the rules of each field; one that leaves and one that comes are one change."""
    for name in dict.fromkeys(rule.field.name for rule in (*old, *new)):
        gone, come = _apart(*([in_words(rule) for rule in rules if rule.field.name == name] for rules in (old, new)))
        if len(gone) == len(come) == 1:
            yield Change("rule", "changed", name, gone[0], come[0])
            continue
        yield from (Change("rule", "removed", name, before=text) for text in gone)
        yield from (Change("rule", "added", name, after=text) for text in come)


def _apart(old: list[str], new: list[str]) -> tuple[list[str], list[str]]:
    return [text for text in old if text not in new], [text for text in new if text not in old]


def in_words(rule: Rule) -> str:
    """Return a rule in one line of English."""
    more = [note.en for note in notes(rule.written, rule.field)]
    reason = [f"reason: {rule.written['reason']}"] if "reason" in rule.written else []
    parts = [conversion(rule.written, rule.field).en, *more, *reason]
    return f"{ARROWS[rule.direction]} {rule.at or '(no place)'}: {'; '.join(parts)}"


def _losses(losses: Iterable[Loss]) -> dict[str, str]:
    return {_loss_name(loss): loss.reason for loss in losses}


def _loss_name(loss: Loss) -> str:
    narrowed = f" ({', '.join(loss.values)})" if loss.values else f" ({loss.part})" if loss.part else ""
    return f"{ARROWS[loss.direction]} {loss.field}{narrowed}"


def _places(pack: Pack) -> dict[str, str]:
    return {place: _leaf(leaf) for place, leaf in pack.form.leaves.items()}


def _leaf(leaf: Leaf) -> str:
    codes = f", one of {', '.join(leaf.codes)}" if leaf.codes else ""
    return f"{leaf.kind or 'anything'}{', required' if leaf.required else ''}{codes}"


# --- tables and vocabulary ---------------------------------------------------------------------------------------


def _table_changes(old: Opened, new: Opened) -> Iterator[TableChange]:
    cells, others = _cells(old), _cells(new)
    for key in dict.fromkeys((*cells, *others)):
        before, after = cells.get(key, ""), others.get(key, "")
        if before != after:
            table, column, code = key
            yield TableChange(table, column, code, before, after, tuple(_users(table, column, old, new)))


def _cells(opened: Opened) -> dict[tuple[str, str, str], str]:
    """Return every cell as text, by table, column and code; shapes count as a column."""
    found: dict[tuple[str, str, str], str] = {}
    for path in opened.files.below("tables"):
        table = path.removeprefix("tables/").removesuffix(".toml")
        for code, row in tomllib.loads(opened.files.contents[path].decode())["codes"].items():
            found |= {(table, column, code): _cell(cell) for column, cell in row.items()}
    return found


def _cell(cell: Any) -> str:
    return ", ".join(cell) if isinstance(cell, list) else str(cell)


def _users(table: str, column: str, old: Opened, new: Opened) -> Iterator[str]:
    """Name the packs that a cell concerns: shapes and new codes concern every pack that uses the table."""
    for region, message in _names(old, new):
        packs = [pack for pack in (_pack(old, region, message), _pack(new, region, message)) if pack]
        columns = {rule.column.name for pack in packs for rule in pack.rules.rules if rule.column}
        if f"{table}.{column}" in columns or (column == "shapes" and any(n.startswith(f"{table}.") for n in columns)):
            yield f"{region}/{message}"


def _field_changes(old: Opened, new: Opened) -> Iterator[FieldChange]:
    for name in dict.fromkeys((*old.ground.vocabulary, *new.ground.vocabulary)):
        before, after = (_fields(opened.ground.vocabulary.get(name)) for opened in (old, new))
        for change in _by_name("field", before, after):
            detail = f"{change.before} → {change.after}" if change.what == "changed" else change.before or change.after
            yield FieldChange(name, change.name, change.what, detail)


def _fields(message: Message | None) -> dict[str, str]:
    return {name: _field(field) for name, field in message.fields.items()} if message else {}


def _field(field: Field) -> str:
    codes = f", one of {', '.join(field.values)}" if field.values else f", table {field.table}" if field.table else ""
    return f"{field.type}, {field.sensitivity}{', required' if field.required else ''}{codes}"


# --- documents ---------------------------------------------------------------------------------------------------


def _document_changes(old: Opened, new: Opened) -> Iterator[Contrast]:
    """Run every example of either folder through both, and yield those that come out otherwise."""
    for recorded in _examples(old, new):
        found = contrast(old.packs, new.packs, recorded)
        if found.verdict not in {Verdict.SAME, Verdict.STILL_REFUSED}:
            yield found


def _examples(old: Opened, new: Opened) -> Iterator[Recorded]:
    for region, message in _names(old, new):
        if not (_pack(old, region, message) and _pack(new, region, message)):
            continue  # a pack that comes or goes is told as such
        found: dict[tuple[str, bytes], Recorded] = {}
        for opened in (old, new):
            found |= {(one.direction, _raw(one)): one for one in _of_pack(opened, opened.packs[region][message])}
        yield from found.values()


def _raw(recorded: Recorded) -> bytes:
    return recorded.document if isinstance(recorded.document, bytes) else b""


def _of_pack(opened: Opened, pack: Pack) -> Iterator[Recorded]:
    for name, ours, theirs in opened.examples(pack):
        for direction, path in zip(DIRECTIONS, (ours, theirs), strict=True):
            other = DIRECTIONS[direction == OURS_TO_THEIRS]
            if not name.endswith(f".{other}"):
                place, raw = f"{opened.files.name}/{path}", opened.files.contents[path]
                yield Recorded(place, pack.region, pack.message, direction, raw)
