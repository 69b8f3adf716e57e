"""Rule files: which field of ours stands where in a region's format.

Owns: reading `rules.toml` into checked `Rule` objects, with the line of each fault. Leaves to
`gateway.mapping.rule_checks`: how rules stand to each other; to `gateway.mapping.compiler`: turning them into closures;
to `mappings/README.md`: explaining the language to people.

A rule is a line `"ours" = "theirs"`, or `"ours" = { at = "theirs", … }` where more has to be said, or a list of such
rules. It holds both ways unless it is marked with a direction and the reason for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.mapping import converters, views
from gateway.mapping.converters import Converter, Wrong
from gateway.mapping.forms import Form, Leaf
from gateway.mapping.limits import MAX_DEPTH
from gateway.mapping.paths import ITSELF, OURS, PAIRS, Place, Step, list_heads, split
from gateway.mapping.rule_checks import check_rules
from gateway.mapping.source import Faults, TomlFile, are_texts, closest
from gateway.mapping.tables import Column, Table, Tables
from gateway.mapping.views import View
from gateway.mapping.vocabulary import DIRECTIONS, OURS_TO_THEIRS, Field, Message

HEADINGS: Final = ("format", "charset", "absent", "rules", "fixed")
RULE_TEXTS: Final = ("as", "table", "by", "join", "split", "else", "direction", "reason")
RULE_KEYS: Final = ("at", "or", *RULE_TEXTS, "part", "when", "default", "required", "constant")
_ENTRIES: Final = "entries:"
_OBJECT: Final = "entries:object"
_JSON: Final = "entries:json"
_SCRIPT: Final = "script:"
_MAX_PARTS: Final = 20


@dataclass(frozen=True, slots=True)
class Entries:
    """How a region writes our object of name → text.

    `how` is list (of objects that keep the two at `name` and `value`), pairs (texts "name=text"), object or json.
    """

    how: str
    name: Place = ()
    value: Place = ()


@dataclass(frozen=True, slots=True)
class When:
    """The rule counts only when our field `name` (at `place`) holds one of `values`."""

    name: str
    place: Place
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One checked rule.

    Paths are absolute; `at` is the written place of theirs, for messages; `written` is the rule as it stands in the
    file. `pieces` are the places of theirs that one text of ours is split into; `also_at` are read when `theirs` is
    empty; `instead` are the fields of ours that are said when ours is empty. Where several of our codes share one of
    theirs, `by_shape` is the look-up that tells them apart by the number at the first filled one of `by_places`. `join`
    is the separator of a list that is one text on their side.
    """

    field: Field
    at: str
    ours: Place
    theirs: Place
    converter: Converter
    written: Mapping[str, Any]
    entries: Entries | None = None
    pieces: tuple[Place, ...] = ()
    also_at: tuple[Place, ...] = ()
    instead: tuple[Place, ...] = ()
    column: Column | None = None
    by_shape: Callable[[Any, Any], str] | None = None
    by_places: tuple[Place, ...] = ()
    join: str = ""
    split: str = ""
    part: int = 0
    when: When | None = None
    required: bool = False
    default: Any = None
    constant: Any = None
    direction: str = ""
    line: int | None = None

    def runs(self, direction: str) -> bool:
        """Return whether the rule holds in a direction."""
        return self.direction in {"", direction}


@dataclass(frozen=True, slots=True)
class RuleSet:
    """A rule file, read.

    The rules in order, fixed values of theirs (and their places as written), texts that mean "nothing", tables used,
    and the views through which some rules see their places. `named` are the fields that the file names, also those
    whose rule has a fault.
    """

    rules: tuple[Rule, ...]
    fixed: tuple[tuple[Place, Any], ...]
    fixed_at: tuple[str, ...]
    absent: tuple[str, ...]
    tables: tuple[str, ...]
    views: Mapping[str, View]
    named: frozenset[str]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a rule file is read against."""

    message: Message
    tables: Tables
    form: Form
    faults: Faults


def theirs_of(path: str, form: Form) -> Place:
    """Split a path of theirs and end it where the value sits.

    In XML, that is the text of the element; in a list of plain values, the item itself.
    """
    place = split(path, form.notation)
    ended = form.end_at_value(place)
    return (*ended, Step(ITSELF)) if ended[-1].many else ended


def ours_of(field: Field) -> Place:
    """Split a path of ours; a list of plain texts ends at the item itself."""
    place = split(field.name, OURS)
    return (*place[:-1], Step(place[-1].key, many=True), Step(ITSELF)) if field.type == "texts" else place


def read_rules(source: TomlFile, setting: Setting) -> RuleSet:
    """Return the rules of a file; whatever is wrong goes into the faults, and such rules are left out."""
    reader = _Reader(source, setting)
    reader.headings()
    rules = tuple(_numbered_parts(list(reader.rules()), reader.views))
    check_rules(rules, source, setting)
    return RuleSet(
        rules=rules,
        fixed=tuple(reader.fixed(rules)),
        fixed_at=tuple(source.table("fixed")),
        absent=reader.absent(),
        tables=tuple(sorted(reader.tables)),
        views=reader.views,
        named=frozenset(source.table("rules")),
    )


def _numbered_parts(rules: list[Rule], seen: dict[str, View]) -> list[Rule]:
    """Tell every view of a text of several parts how many parts there are, now that all rules are read."""
    for rule in rules:
        if rule.part:
            key = rule.theirs[-2].key
            seen[key] = replace(seen[key], parts=max(rule.part, seen[key].parts))
    return rules


class _Reader:
    """Reads one file. A class because every step needs the same file, setting and list of faults."""

    def __init__(self, source: TomlFile, setting: Setting) -> None:
        self._source = source
        self._setting = setting
        self._form = setting.form
        self.tables: set[str] = set()
        self.views: dict[str, View] = {}

    def headings(self) -> None:
        for key in sorted(self._source.data.keys() - set(HEADINGS)):
            self._fault(f"{key} is not known{closest(key, HEADINGS)}", key, "")
        if not self._source.table("rules"):
            self._setting.faults.add(self._source.path, "has no [rules]")

    def absent(self) -> tuple[str, ...]:
        texts = self._source.data.get("absent", [])
        if are_texts(texts):
            return tuple(texts)
        self._fault("absent is a list of texts that mean nothing was given", "absent", "")
        return ()

    def rules(self) -> Iterator[Rule]:
        for ours, written in self._source.table("rules").items():
            if written == []:
                self._fault(f"{ours}: has no rule in its list", ours, "rules")
            for count, one in enumerate(written if isinstance(written, list) else [written]):
                line = self._source.line_of_item(ours, "rules", count)
                try:
                    yield self._rule(ours, {"at": one} if isinstance(one, str) else one, line)
                except Wrong as wrong:
                    self._setting.faults.add(self._source.path, f"{ours}: {wrong.reason}", line)

    # --- fixed values ---

    def fixed(self, rules: tuple[Rule, ...]) -> Iterator[tuple[Place, Any]]:
        for at, value in self._source.table("fixed").items():
            try:
                yield self._fixed(at, value, rules), value
            except Wrong as wrong:
                self._fault(f"{at}: {wrong.reason}", at, "fixed")

    def _fixed(self, at: str, value: Any, rules: tuple[Rule, ...]) -> Place:
        kind = self._leaf(at).kind
        written = {str: "string", int: "integer", bool: "boolean"}.get(value.__class__)
        if written is None or kind not in {"", written}:
            raise Wrong(f"a fixed value here is of type {kind or 'string'}")
        if at in {place for rule in rules for place in rule.at.split(", ")}:
            raise Wrong("a rule fills this place already")
        place = theirs_of(at, self._form)
        filled = {head for rule in rules if not rule.entries for head in list_heads(rule.theirs)}
        if not set(list_heads(place)) <= filled:
            raise Wrong("no rule fills the list that it is in")
        return place

    # --- one rule ---

    def _rule(self, ours: str, written: Any, line: int | None) -> Rule:
        field = self._field(ours, written)
        if "constant" in written:
            return self._constant(field, written, line)
        entries = self._entries(field, written)
        used = self._table(field, written)
        theirs, pieces = self._places(written, entries)
        rule = Rule(
            field=field,
            at=", ".join(self._at(written)),
            ours=ours_of(field),
            theirs=theirs,
            converter=converters.TEXT if entries else self._converter(field, written, used, theirs),
            written=written,
            entries=entries,
            pieces=pieces,
            also_at=tuple(self._place(path) for path in _texts("or", written.get("or", []))),
            instead=tuple(ours_of(self._setting.message.fields[name]) for name in self._instead(ours, written)),
            column=used[1] if used else None,
            by_shape=self._by_shape(used, written),
            by_places=self._by_places(written),
            join=written.get("join", ""),
            split=written.get("split", ""),
            part=written.get("part", 0),
            when=self._when(field, written),
            required=self._required(field, written) or theirs[-1].key == ITSELF,
            default=written.get("default"),
            direction=self._direction(written),
            line=line,
        )
        _check_default(rule)
        return _same_lists(rule)

    def _field(self, ours: str, written: Any) -> Field:
        known = self._setting.message.fields
        if not isinstance(written, dict) or (not ("at" in written or "constant" in written) and ours not in known):
            raise Wrong('a rule is "ours" = "theirs" or "ours" = { at = "theirs", … }; names with dots stand in quotes')
        if ours not in known:
            raise Wrong(f"is not in vocabulary.toml under {self._setting.message.name}{closest(ours, known)}")
        for key in sorted(written.keys() - set(RULE_KEYS)):
            raise Wrong(f"{key} is not known in a rule{closest(key, RULE_KEYS)}")
        for key in RULE_TEXTS:
            if key in written and (not isinstance(written[key], str) or not written[key]):
                raise Wrong(f"{key} is a text")
        return known[ours]

    def _constant(self, field: Field, written: Mapping[str, Any], line: int | None) -> Rule:
        value = written["constant"]
        if set(written) != {"constant"}:
            raise Wrong("a constant stands alone: it has no place in their format")
        if field.type == "code":
            self._check_code(field, value)
        elif field.type != "string" or not isinstance(value, str):
            raise Wrong("a constant is a text or a code")
        ours = split(field.name, OURS)
        return Rule(
            field, "", ours, (), converters.TEXT, written, required=field.required, constant=value, line=line
        )  # fmt: skip

    def codes(self, field: Field) -> tuple[str, ...]:
        return field.values or (self._setting.tables[field.table].codes if field.table in self._setting.tables else ())

    def _check_code(self, field: Field, value: Any) -> None:
        if field.digits:
            converters.plain(field, textual=True).say(value)
            return
        known = self.codes(field)
        if value not in known:
            hint = closest(value, known) if isinstance(value, str) else ""
            raise Wrong(f"{value} is not a code of the vocabulary for {field.name}{hint}")

    # --- places ---

    def _at(self, written: Mapping[str, Any]) -> list[str]:
        return _texts("at", written.get("at", []))

    def _places(self, written: Mapping[str, Any], entries: Entries | None) -> tuple[Place, tuple[Place, ...]]:
        """Return the place of theirs, and, for one text of ours that is several of theirs, all of them."""
        paths = self._at(written)
        if not paths:
            raise Wrong('needs at = "…", the place in their format')
        if entries:
            self._entries_place(paths, entries)
            return split(paths[0], self._form.notation), ()
        places = tuple(self._place(path) for path in paths)
        if len(places) > 1 or "part" in written or "split" in written:
            return self._divided(paths, places, written)
        return places[0], ()

    def _entries_place(self, paths: list[str], entries: Entries) -> None:
        if len(paths) != 1:
            raise Wrong("entries stand at one place")
        if entries.how != "list":
            leaf = self._leaf(paths[0])
            wanted = {"pairs": "string", "object": "object", "json": "string"}[entries.how]
            if leaf.kind not in {"", wanted} or (entries.how == "pairs") != paths[0].endswith("[]"):
                raise Wrong(f"{paths[0]} cannot hold them in {self._form.schema_name}", "type")

    def _divided(
        self, paths: list[str], places: tuple[Place, ...], written: Mapping[str, Any]
    ) -> tuple[Place, tuple[Place, ...]]:
        part = written.get("part")
        if "split" not in written:
            raise Wrong('split = "…", the text between the parts, goes with several places and with part')
        if len(set(places)) < len(places):
            raise Wrong("at names a place twice")
        if len(places) > 1 and part is None:
            return places[0], places
        if len(places) > 1 or part.__class__ is not int or not 1 <= part <= _MAX_PARTS:
            raise Wrong(f'split goes with at = ["…", "…"], or with part = 1 to {_MAX_PARTS}')
        head = places[0][: sum(map(len, list_heads(places[0])[-1:]))]
        step = views.step_of(paths[0].rpartition("[]")[2].lstrip(self._form.notation.separator))
        known = self.views.setdefault(step.key, View(step.key, places[0][len(head) :], written["split"]))
        if known.separator != written["split"]:
            raise Wrong(f'another rule splits {paths[0]} at "{known.separator}"')
        return (*head, step, views.part_step(part)), ()

    def _place(self, at: str) -> Place:
        """Return a place that holds one value, which the schema must know."""
        if len(split(at, self._form.notation)) > MAX_DEPTH:
            raise Wrong(f"{at} is deeper than {MAX_DEPTH} levels")
        around, pairs, name = at.rpartition(f"{PAIRS}{self._form.notation.separator}")
        if pairs:
            return self._pair_place(around, name)
        self._leaf(at)
        return theirs_of(at, self._form)

    def _pair_place(self, around: str, name: str) -> Place:
        self._leaf(f"{around}[]")
        if self._form.textual:
            raise Wrong(f"{PAIRS} is for JSON")
        place = split(around, self._form.notation)
        head = place[: sum(map(len, list_heads(place)[-1:]))]
        view = views.pairs(around.rpartition("[]")[2].lstrip(self._form.notation.separator), place[len(head) :])
        known = self.views.setdefault(view.key, view)
        if name not in known.names:
            self.views[view.key] = replace(known, names=(*known.names, name))
        return (*head, Step(view.key), Step(name))

    def _leaf(self, at: str) -> Leaf:
        leaf = self._form.leaves.get(at)
        if leaf is None:
            hint = closest(at, self._form.leaves)
            raise Wrong(f"{at} is no place for a value in {self._form.schema_name}{hint}", "unknown_place")
        return leaf

    # --- conversions ---

    def _converter(
        self, field: Field, written: Mapping[str, Any], used: tuple[Table, Column] | None, theirs: Place
    ) -> Converter:
        in_text = any(key in written for key in ("join", "split")) or any(PAIRS in step.key for step in theirs)
        textual = self._form.textual or in_text
        converter = converters.of_column(used[1]) if used else self._named(field, written, textual=textual)
        if written.get("as", "").startswith(_SCRIPT) and "direction" not in written:
            raise Wrong("script: is one-way, because it cannot be undone: give direction and reason")
        return converter if textual else self._fitting(converter, self._at(written)[0], used)

    def _fitting(self, converter: Converter, at: str, used: tuple[Table, Column] | None) -> Converter:
        """Return the converter, or one that writes codes as numbers where the schema wants numbers."""
        kind = self._leaf(at).kind
        if kind in {"", converter.writes} or (kind, converter.writes) == ("number", "integer"):
            return converter
        if kind == "integer" and used and all(str(int(c)) == c for c in used[1].writes.values() if c.isdecimal()):
            return replace(converter, say=lambda value: int(converter.say(value)), writes="integer")
        raise Wrong(f"{at} is of type {kind} in {self._form.schema_name}, and this rule writes a {converter.writes}")

    def _named(self, field: Field, written: Mapping[str, Any], *, textual: bool) -> Converter:
        if "as" not in written:
            return converters.plain(field, textual=textual)
        try:
            return converters.named(written["as"], field, textual=textual)
        except Wrong as wrong:
            if wrong.code != "unknown_converter":
                raise
            if written["as"].startswith(_ENTRIES):
                raise Wrong(f"entries: is for entries, and {field.name} is a {field.type}") from None
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
        if field.table != name and not (field.values and set(field.values) == set(table.codes)):
            raise Wrong(f"the vocabulary wants table {field.table} here" if field.table else "is not a code of a table")
        if "as" in written:
            raise Wrong("as does not go with a table: the table says how it is written")
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
        if shared and written.get("direction") != OURS_TO_THEIRS:
            raise Wrong(f'{", ".join(shared)} stands for several of our codes: add by = "<field with the number>"')
        return None

    def _by_places(self, written: Mapping[str, Any]) -> tuple[Place, ...]:
        """Return the places to read the number from: those of its rule in the same case."""
        if "by" not in written:
            return ()
        rules = self._source.table("rules")
        other = rules.get(written["by"])
        if other is None:
            raise Wrong(f"by = {written['by']} has no rule in this file{closest(written['by'], rules)}")
        listed = [
            {"at": one} if isinstance(one, str) else one for one in (other if isinstance(other, list) else [other])
        ]
        same = [one for one in listed if isinstance(one, dict) and one.get("when") in (None, written.get("when"))]
        if not same or not isinstance(same[0].get("at"), str):
            raise Wrong(f"by = {written['by']} has no single place in their format")
        return tuple(self._place(at) for at in [same[0]["at"], *_texts("or", same[0].get("or", []))])

    def _entries(self, field: Field, written: Mapping[str, Any]) -> Entries | None:
        kind: str = written.get("as", "")
        at = written.get("at", "")
        if field.type != "entries" or not kind.startswith(_ENTRIES):
            return None
        if kind in {_OBJECT, _JSON}:
            return Entries(kind.removeprefix(_ENTRIES))
        if kind == f"{_ENTRIES}=":
            return Entries("pairs")
        name, _, value = kind.removeprefix(_ENTRIES).partition(",")
        separator = self._form.notation.separator
        inside = [str(at) if part == "." else f"{at}{separator}{part}" for part in (name, value)]
        for place in inside:
            self._leaf(place)
        depth = len(split(str(at), self._form.notation))
        ends = [theirs_of(place, self._form)[depth:] for place in inside]
        return Entries("list", ends[0], ends[1])

    # --- conditions and alternatives ---

    def _when(self, field: Field, written: Mapping[str, Any]) -> When | None:
        given = written.get("when")
        if given is None:
            return None
        if not isinstance(given, dict) or len(given) != 1:
            raise Wrong('when is { "<field of ours>" = <a code, a list of codes, true or false> }')
        name, values = next(iter(given.items()))
        known = self._setting.message.fields
        if name not in known:
            raise Wrong(
                f"when: {name} is not in vocabulary.toml under {self._setting.message.name}{closest(name, known)}"
            )
        if list_heads(split(name, OURS)) != list_heads(split(field.name, OURS)):
            raise Wrong(f"when: {name} is not in the same object or list item")
        return When(
            name, split(name, OURS), self._values(known[name], values if isinstance(values, list) else [values])
        )

    def _values(self, field: Field, values: list[Any]) -> tuple[Any, ...]:
        if not values:
            raise Wrong(f"when: {field.name} is given no code, so that the rule never counts")
        if field.type == "boolean" and all(isinstance(value, bool) for value in values):
            return tuple(values)
        if field.type != "code":
            raise Wrong(f"when: {field.name} is no code, and neither true nor false")
        for value in values:
            self._check_code(field, value)
        return tuple(values)

    def _instead(self, ours: str, written: Mapping[str, Any]) -> list[str]:
        """Return the fields that are said when ours is empty: `else`, then the `else` of that one, and so on."""
        rules, fields = self._source.table("rules"), self._setting.message.fields
        chain, name = [ours], written.get("else", "")
        while name:
            if name not in fields:
                raise Wrong(f"else: {name} is not in vocabulary.toml{closest(name, fields)}")
            if name in chain:
                raise Wrong(f"else goes in a circle: {' → '.join([*chain, name])}")
            if list_heads(split(name, OURS)) != list_heads(split(ours, OURS)):
                raise Wrong(f"else: {name} is not in the same object or list item")
            wanted, found = fields[ours].type, fields[name].type
            if found != wanted:
                raise Wrong(f"else: {name} is a {found}, and {ours} is a {wanted}")
            chain.append(name)
            then = rules.get(name)
            name = then.get("else", "") if isinstance(then, dict) else ""
        return chain[1:]

    # --- the rest ---

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

    def _fault(self, reason: str, key: str, section: str) -> None:
        self._setting.faults.add(self._source.path, reason, self._source.line_of(key, section))


def _texts(key: str, value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not are_texts(texts) or not all(texts):
        raise Wrong(f"{key} is a place, or a list of places")
    return list(texts)


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
    listed = rule.entries is not None and rule.entries.how in {"list", "pairs"}
    if len(ours) - bool(rule.join) != len(theirs) - listed:
        raise Wrong(f"{rule.field.name} and {rule.at} must have the same number of lists []")
    others = [*rule.pieces, *rule.also_at, *rule.by_places]
    if any(list_heads(other) != theirs for other in others):
        raise Wrong(f"the other places that it reads must be in the same list as {rule.at}")
    return rule
