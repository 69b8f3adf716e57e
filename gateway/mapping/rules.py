"""Rule files: which field of ours stands where in a region's format.

Owns: reading `rules.toml` into checked `Rule` objects, with the line of each fault. Leaves to
`gateway.mapping.compiler`: turning them into closures; to `mappings/README.md`: explaining the language to people.

A rule is a line `"ours" = "theirs"`, or `"ours" = { at = "theirs", … }` where more has to be said. It holds both
ways unless it is marked with a direction and the reason for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.mapping import converters
from gateway.mapping.converters import Converter, Wrong
from gateway.mapping.forms import Form
from gateway.mapping.limits import MAX_DEPTH
from gateway.mapping.paths import OURS, Place, list_heads, split
from gateway.mapping.source import Faults, TomlFile, are_texts, closest
from gateway.mapping.tables import Column, Table, Tables
from gateway.mapping.vocabulary import DIRECTIONS, Field, Message

_HEADINGS: Final = ("absent", "rules", "fixed")
_RULE_KEYS: Final = ("at", "or", "as", "table", "by", "default", "required", "constant", "direction", "reason")
_RULE_TEXTS: Final = ("at", "or", "as", "table", "by", "direction", "reason")
_ENTRIES: Final = "entries:"


@dataclass(frozen=True, slots=True)
class Entries:
    """Where a list of {name, value} objects keeps the two: the keys inside one item."""

    name: Place
    value: Place


@dataclass(frozen=True, slots=True)
class Rule:
    """One checked rule. Paths are absolute; `ours` and `at` are their written forms, for messages.

    `entries` goes with a list of form fields. `also_at` is read when `theirs` is empty. Where several of our codes
    share one of theirs, `by_shape` is the look-up that tells them apart by the number at `by_place`.
    """

    field: Field
    at: str
    ours: Place
    theirs: Place
    converter: Converter
    entries: Entries | None = None
    also_at: Place = ()
    column: Column | None = None
    by_shape: Callable[[Any, Any], str] | None = None
    by_place: Place = ()
    required: bool = False
    default: Any = None
    constant: Any = None
    direction: str = ""
    line: int | None = None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """A rule file, read: the rules in order, fixed values of theirs, texts that mean "nothing", tables used.

    `named` are the fields that the file names, also those whose rule has a fault.
    """

    rules: tuple[Rule, ...]
    fixed: tuple[tuple[Place, str], ...]
    absent: tuple[str, ...]
    tables: tuple[str, ...]
    named: frozenset[str]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a rule file is read against."""

    message: Message
    tables: Tables
    form: Form
    faults: Faults


def theirs_of(path: str, form: Form) -> Place:
    """Split a path of theirs and end it where the value sits (in XML, the text of the element)."""
    return form.end_at_value(split(path, form.notation))


def read_rules(source: TomlFile, setting: Setting) -> RuleSet:
    """Return the rules of a file; whatever is wrong goes into the faults, and such rules are left out."""
    reader = _Reader(source, setting)
    reader.headings()
    rules = tuple(reader.rules())
    reader.overlaps(rules)
    reader.lists(rules)
    return RuleSet(
        rules=rules,
        fixed=tuple(reader.fixed(rules)),
        absent=reader.absent(),
        tables=tuple(sorted(reader.tables)),
        named=frozenset(source.table("rules")),
    )


class _Reader:
    """Reads one file. A class because every step needs the same file, setting and list of faults."""

    def __init__(self, source: TomlFile, setting: Setting) -> None:
        self._source = source
        self._setting = setting
        self._form = setting.form
        self.tables: set[str] = set()

    def headings(self) -> None:
        for key in sorted(self._source.data.keys() - set(_HEADINGS)):
            self._source_fault(f"{key} is not known{closest(key, _HEADINGS)}", key, "")
        if not self._source.table("rules"):
            self._setting.faults.add(self._source.path, "has no [rules]")

    def absent(self) -> tuple[str, ...]:
        texts = self._source.data.get("absent", [])
        if are_texts(texts):
            return tuple(texts)
        self._source_fault("absent is a list of texts that mean nothing was given", "absent", "")
        return ()

    def rules(self) -> Iterator[Rule]:
        for ours, written in self._source.table("rules").items():
            try:
                yield self._rule(ours, {"at": written} if isinstance(written, str) else written)
            except Wrong as wrong:
                self._source_fault(f"{ours}: {wrong.reason}", ours, "rules")

    def fixed(self, rules: Sequence[Rule]) -> Iterator[tuple[Place, str]]:
        for at, value in self._source.table("fixed").items():
            try:
                yield self._fixed(at, value, rules), value
            except Wrong as wrong:
                self._source_fault(f"{at}: {wrong.reason}", at, "fixed")

    def _fixed(self, at: str, value: Any, rules: Sequence[Rule]) -> Place:
        self._exists(at)
        if not isinstance(value, str):
            raise Wrong("a fixed value is a text")
        if at in {rule.at for rule in rules}:
            raise Wrong("a rule fills this place already")
        place = theirs_of(at, self._form)
        filled = {head for rule in rules if not rule.entries for head in list_heads(rule.theirs)}
        if not set(list_heads(place)) <= filled:
            raise Wrong("no rule fills the list that it is in")
        return place

    def overlaps(self, rules: Sequence[Rule]) -> None:
        """Refuse two rules for one place of theirs in the same direction."""
        seen: dict[tuple[str, str], Rule] = {}
        for rule in (rule for rule in rules if rule.at):
            for direction in [rule.direction] if rule.direction else DIRECTIONS:
                first = seen.setdefault((rule.at, direction), rule)
                if first is not rule:
                    reason = f"{rule.field.name}: {rule.at} already carries {first.field.name} (line {first.line})"
                    self._setting.faults.add(self._source.path, reason, rule.line)
                    break

    def lists(self, rules: Sequence[Rule]) -> None:
        """Refuse rules that would fill one list from two, or two from one."""
        pairs: dict[tuple[str, Place], Place] = {}
        for rule in rules:
            heads = [*list_heads(rule.ours), *([rule.ours] if rule.entries else [])]
            for ours, theirs in zip(heads, list_heads(rule.theirs), strict=True):
                forth, back = pairs.setdefault(("ours", ours), theirs), pairs.setdefault(("theirs", theirs), ours)
                if (forth, back) != (theirs, ours):
                    reason = f"{rule.field.name}: one list of ours goes with one list of theirs"
                    self._setting.faults.add(self._source.path, reason, rule.line)

    def _rule(self, ours: str, written: Any) -> Rule:
        field = self._field(ours, written)
        if "constant" in written:
            return self._constant(field, written)
        at = self._place(written.get("at"))
        entries = self._entries(field, at, written)
        used = self._table(field, written)
        column = used[1] if used else None
        rule = Rule(
            field=field,
            at=at,
            ours=split(ours, OURS),
            theirs=split(at, self._form.notation) if entries else theirs_of(at, self._form),
            converter=converters.TEXT if entries else self._converter(field, written, column),
            column=column,
            entries=entries,
            also_at=theirs_of(self._place(written["or"]), self._form) if "or" in written else (),
            by_shape=self._by_shape(used, written),
            by_place=self._by_place(written),
            required=self._required(field, written),
            default=written.get("default"),
            direction=self._direction(written),
            line=self._source.line_of(ours, "rules"),
        )
        _check_default(rule)
        return _same_lists(rule)

    def _field(self, ours: str, written: Any) -> Field:
        known = self._setting.message.fields
        if not isinstance(written, dict) or (not ("at" in written or "constant" in written) and ours not in known):
            raise Wrong('a rule is "ours" = "theirs" or "ours" = { at = "theirs", … }; names with dots stand in quotes')
        if ours not in known:
            raise Wrong(f"is not in vocabulary.toml under {self._setting.message.name}{closest(ours, known)}")
        for key in sorted(written.keys() - set(_RULE_KEYS)):
            raise Wrong(f"{key} is not known in a rule{closest(key, _RULE_KEYS)}")
        for key in _RULE_TEXTS:
            if not isinstance(written.get(key, ""), str):
                raise Wrong(f"{key} is a text")
        return known[ours]

    def _constant(self, field: Field, written: Mapping[str, Any]) -> Rule:
        value = written["constant"]
        if set(written) != {"constant"}:
            raise Wrong("a constant stands alone: it has no place in their format")
        if field.type == "code":
            value = converters.closed(self._codes(field)).say(value)
        elif field.type != "string" or not isinstance(value, str):
            raise Wrong("a constant is a text or a code")
        line = self._source.line_of(field.name, "rules")
        ours = split(field.name, OURS)
        return Rule(field, "", ours, (), converters.TEXT, required=field.required, constant=value, line=line)

    def _codes(self, field: Field) -> tuple[str, ...]:
        return field.values or (self._setting.tables[field.table].codes if field.table in self._setting.tables else ())

    def _place(self, at: Any) -> str:
        if not isinstance(at, str) or not at:
            raise Wrong('needs at = "…", the place in their format')
        if len(split(at, self._form.notation)) > MAX_DEPTH:
            raise Wrong(f"{at} is deeper than {MAX_DEPTH} levels")
        if not at.endswith("[]"):
            self._exists(at)
        return at

    def _exists(self, at: str) -> None:
        if at not in self._form.leaves:
            hint = closest(at, self._form.leaves)
            raise Wrong(f"{at} is no place for a value in {self._form.schema_name}{hint}", "unknown_place")

    def _converter(self, field: Field, written: Mapping[str, Any], column: Column | None) -> Converter:
        if column:
            return converters.of_column(column)
        textual = self._form.textual
        if "as" not in written:
            return converters.plain(field, textual=textual)
        try:
            return converters.named(written["as"], field, textual=textual)
        except Wrong as wrong:
            if wrong.code != "unknown_converter":
                raise
            raise Wrong(f'as = "{written["as"]}" is not known{closest(written["as"], converters.NAMES)}') from None

    def _table(self, field: Field, written: Mapping[str, Any]) -> tuple[Table, Column] | None:
        """Return the table and column that a rule names, and note that the pack uses it."""
        if "table" not in written:
            return None
        name, _, column = written["table"].partition(".")
        table = self._setting.tables.get(name)
        if table is None:
            raise Wrong(f"there is no table {name}{closest(name, self._setting.tables)}")
        if column not in table.columns:
            raise Wrong(f"table {name} has no column {column}{closest(column, table.columns)}")
        if field.table != name:
            raise Wrong(f"the vocabulary wants table {field.table} here" if field.table else "is not a code of a table")
        self.tables.add(name)
        return table, table.columns[column]

    def _by_shape(
        self, used: tuple[Table, Column] | None, written: Mapping[str, Any]
    ) -> Callable[[Any, Any], str] | None:
        if used is None:
            if "by" in written:
                raise Wrong("by goes with a table")
            return None
        if "by" in written:
            return converters.hear_by_shape(*used)
        shared = sorted(code for code, ours in used[1].reads.items() if len(ours) > 1)
        if shared:
            raise Wrong(f'{", ".join(shared)} stands for several of our codes: add by = "<field with the number>"')
        return None

    def _by_place(self, written: Mapping[str, Any]) -> Place:
        if "by" not in written:
            return ()
        rules = self._source.table("rules")
        other = rules.get(written["by"])
        if other is None:
            raise Wrong(f"by = {written['by']} has no rule in this file{closest(written['by'], rules)}")
        return theirs_of(self._place(other.get("at") if isinstance(other, dict) else other), self._form)

    def _entries(self, field: Field, at: str, written: Mapping[str, Any]) -> Entries | None:
        kind: str = written.get("as", "")
        if field.type != "entries" or not kind.startswith(_ENTRIES):
            if at.endswith("[]"):
                raise Wrong(f"{at} is a list: name a place inside its items")
            return None
        name, _, value = kind.removeprefix(_ENTRIES).partition(",")
        separator = self._form.notation.separator
        inside = [at if part == "." else f"{at}{separator}{part}" for part in (name, value)]
        for place in inside:
            self._exists(place)
        depth = len(split(at, self._form.notation))
        ends = [theirs_of(place, self._form)[depth:] for place in inside]
        return Entries(ends[0], ends[1])

    def _required(self, field: Field, written: Mapping[str, Any]) -> bool:
        if written.get("required", True) is not True:
            raise Wrong("required is true or left out: what the vocabulary requires cannot become optional")
        return field.required or "required" in written

    def _direction(self, written: Mapping[str, Any]) -> str:
        direction: str = written.get("direction", "")
        reason = written.get("reason", "")
        if direction and direction not in DIRECTIONS:
            raise Wrong(f"direction is one of {', '.join(DIRECTIONS)}")
        if bool(direction) != bool(reason):
            raise Wrong("a one-way rule needs both direction and reason")
        return direction

    def _source_fault(self, reason: str, key: str, section: str) -> None:
        self._setting.faults.add(self._source.path, reason, self._source.line_of(key, section))


def _check_default(rule: Rule) -> None:
    """A default is a value of ours, so that their way of writing it can be found."""
    if rule.default is None:
        return
    try:
        rule.converter.say(rule.default)
    except Wrong as wrong:
        raise Wrong(f"default {wrong.reason}") from None


def _same_lists(rule: Rule) -> Rule:
    """Both sides must lie in as many lists, and every other place that the rule reads in the same ones."""
    ours, theirs = list_heads(rule.ours), list_heads(rule.theirs)
    if len(ours) != len(theirs) - bool(rule.entries):
        raise Wrong(f"{rule.field.name} and {rule.at} must have the same number of lists []")
    if any(other and list_heads(other) != theirs for other in (rule.also_at, rule.by_place)):
        raise Wrong(f"the other place that it reads must be in the same list as {rule.at}")
    return rule
