"""Rules into closures: one for ours → theirs, one for theirs → ours.

Owns: walking objects and lists, leaving out what was not given, and naming every wrong field at once. Leaves to
`gateway.mapping.converters`: single values; to the forms: bytes and schemas. Nothing is interpreted while a document
is converted: every path, converter and message is bound when the pack is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.errors import FieldProblem
from gateway.mapping.converters import Convert, Wrong, text
from gateway.mapping.limits import MAX_ITEMS
from gateway.mapping.paths import BROKEN, OURS, Get, Notation, Place, Put, Tree, getter, label, list_head, putter
from gateway.mapping.rules import Rule, RuleSet
from gateway.mapping.vocabulary import OURS_TO_THEIRS, THEIRS_TO_OURS, Message

Problems = list[FieldProblem]
Move = Callable[[Tree, Tree, str, Problems], None]
"""One compiled step: from a tree into another, given the label of the list item around and the list of problems."""

_NAME_IN_MESSAGE: Final = 64
"""Characters of a form field's name that a message repeats."""

Translate = Callable[[Tree], tuple[Tree, Problems]]


@dataclass(frozen=True, slots=True)
class Translator:
    """Both directions of one pack. Each reads a tree, fills a new one and returns every problem it met."""

    say: Translate
    hear: Translate


def compile_rules(rules: RuleSet, message: Message, theirs: Notation) -> Translator:
    """Return the two closures of a rule file that was read without faults."""
    lines = [_Line(rule, rule.ours, rule.theirs, rule.also_at, rule.by_place) for rule in rules.rules]
    fixed = [_Fixed(place, value) for place, value in rules.fixed]
    out = _Direction(OURS_TO_THEIRS, message, OURS, theirs, frozenset({""}))
    back = _Direction(THEIRS_TO_OURS, message, theirs, OURS, frozenset({"", *rules.absent}))
    return Translator(_runner(out.moves(lines, fixed)), _runner(back.moves(lines, fixed)))


def _runner(moves: Sequence[Move]) -> Translate:
    def run(source: Tree) -> tuple[Tree, Problems]:
        target: Tree = {}
        problems: Problems = []
        for move in moves:
            move(source, target, "", problems)
        return target, problems

    return run


@dataclass(frozen=True, slots=True)
class _Fixed:
    """A value of theirs that is always the same; `place` is relative to the list item around."""

    place: Place
    value: str

    def inside(self, head: Place) -> bool:
        return self.place[: len(head)] == head


@dataclass(frozen=True, slots=True)
class _Line:
    """A rule with its places relative to the list item around."""

    rule: Rule
    ours: Place
    theirs: Place
    also: Place
    number: Place

    @property
    def heads(self) -> tuple[Place, Place]:
        """The lists that this line lies in, on both sides; nothing when it lies in none."""
        return list_head(self.ours), () if self.rule.entries else list_head(self.theirs)

    def inside(self, heads: tuple[Place, Place]) -> _Line:
        ours, theirs = map(len, heads)
        return _Line(self.rule, self.ours[ours:], self.theirs[theirs:], self.also[theirs:], self.number[theirs:])


@dataclass(frozen=True, slots=True)
class _Direction:
    """Compiles for one direction.

    `source` and `target` are the notations of the two sides; `absent` are the texts of the source that mean
    "nothing given".
    """

    name: str
    message: Message
    source: Notation
    target: Notation
    absent: frozenset[str]

    @property
    def _outward(self) -> bool:
        return self.name == OURS_TO_THEIRS

    def moves(self, lines: Iterable[_Line], fixed: Sequence[_Fixed]) -> list[Move]:
        """Compile one level: values in file order, lists where their first line stands, gaps last."""
        active = [line for line in lines if line.rule.direction in {"", self.name}]
        groups: dict[Any, list[_Line]] = {}
        for line in active:
            groups.setdefault(line.heads if any(line.heads) else line.rule.field.name, []).append(line)
        made = [self._group(group, fixed) for group in groups.values()]
        made += [self._fix(item) for item in fixed if not list_head(item.place)]
        return made + [self._gap(line) for line in active if self._may_lack(line)]

    def _group(self, group: Sequence[_Line], fixed: Sequence[_Fixed]) -> Move:
        heads = group[0].heads
        return self._list(heads, group, fixed) if any(heads) else self._one(group[0])

    def _label(self, line: _Line) -> str:
        return label(line.ours if self._outward else line.theirs, self.source)

    # --- single values ---

    def _one(self, line: _Line) -> Move:
        rule = line.rule
        if rule.constant is not None:
            return self._check_constant(line) if self._outward else self._give_constant(line)
        if rule.entries:
            return _Entries(line, self._label(line), self.source).move(outward=self._outward)
        if self._outward:
            return self._value(line, getter(line.ours), putter(line.theirs), rule.converter.say)
        if rule.by_shape:
            return self._told_apart(line, rule.by_shape)
        return self._value(line, self._reading(line), putter(line.ours), rule.converter.hear)

    def _value(self, line: _Line, get: Get, put: Put, convert: Convert) -> Move:
        name, absent = self._label(line), self._absent(line)

        def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
            value = get(source)
            if value is None or (value.__class__ is str and value in absent):
                return
            if value is BROKEN:
                problems.append(FieldProblem(at + name, "lies inside something that is no object", "type"))
                return
            try:
                put(target, convert(value))
            except Wrong as wrong:
                problems.append(FieldProblem(at + name, wrong.reason, wrong.code))

        return move

    def _absent(self, line: _Line) -> frozenset[str]:
        return self.absent - {""} if line.rule.field.empty else self.absent

    def _reading(self, line: _Line) -> Get:
        """Read their place, or the other one that the rule names when the first is empty."""
        first, absent = getter(line.theirs), self._absent(line)
        if not line.also:
            return first
        second = getter(line.also)

        def get(source: Tree) -> Any:
            value = first(source)
            return second(source) if value is None or (value.__class__ is str and value in absent) else value

        return get

    def _told_apart(self, line: _Line, by_shape: Callable[[Any, Any], str]) -> Move:
        code, number, absent = getter(line.theirs), getter(line.number), self._absent(line)

        def both(source: Tree) -> Any:
            value = code(source)
            nothing = value is None or value is BROKEN or (value.__class__ is str and value in absent)
            return (value if value is BROKEN else None) if nothing else (value, number(source))

        return self._value(line, both, putter(line.ours), lambda pair: by_shape(*pair))

    # --- constants ---

    def _check_constant(self, line: _Line) -> Move:
        get, name, constant = getter(line.ours), self._label(line), line.rule.constant

        def move(source: Tree, _target: Tree, at: str, problems: Problems) -> None:
            value = get(source)
            if value is not None and value != constant:
                problems.append(FieldProblem(at + name, f"can only be {constant} in this format", "unknown_code"))

        return move

    def _give_constant(self, line: _Line) -> Move:
        put, constant = putter(line.ours), line.rule.constant
        return lambda _source, target, _at, _problems: put(target, constant)

    def _fix(self, fixed: _Fixed) -> Move:
        return self._write_fixed(fixed) if self._outward else self._check_fixed(fixed)

    def _write_fixed(self, fixed: _Fixed) -> Move:
        """Write it where the object around it is written, so that an optional object does not appear by itself."""
        put, value = putter(fixed.place), fixed.value
        if len(fixed.place) == 1:
            return lambda _source, target, _at, _problems: put(target, value)
        around = getter(fixed.place[:-1])

        def move(_source: Tree, target: Tree, _at: str, _problems: Problems) -> None:
            if around(target) is not None:
                put(target, value)

        return move

    def _check_fixed(self, fixed: _Fixed) -> Move:
        get, name, expected = getter(fixed.place), label(fixed.place, self.source), fixed.value

        def move(source: Tree, _target: Tree, at: str, problems: Problems) -> None:
            value = get(source)
            if value is not None and value != expected:
                problems.append(FieldProblem(at + name, f"can only be {expected}", "fixed"))

        return move

    # --- what was not given ---

    def _may_lack(self, line: _Line) -> bool:
        """Whether the line needs a look after its level is done."""
        rule = line.rule
        if any(line.heads) or (rule.constant is not None and not self._outward):
            return False
        return rule.required or (rule.default is not None and not self._outward)

    def _gap(self, line: _Line) -> Move:
        """Fill a default in, or name a required field that is missing.

        A field inside an optional object is missing only when the rest of that object is there.
        """
        get, absent, name = (
            getter(line.ours) if self._outward else self._reading(line),
            self._absent(line),
            self._label(line),
        )
        there, put = self._object_there(line), putter(line.ours)
        default = None if self._outward else line.rule.default

        def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
            value = get(source)
            if not (value is None or (value.__class__ is str and value in absent)) or not there(source, target):
                return
            if default is None:
                problems.append(FieldProblem(at + name, "is missing", "required"))
            else:
                put(target, default)

        return move

    def _object_there(self, line: _Line) -> Callable[[Tree, Tree], bool]:
        name = self.message.optional_object(line.rule.field.name)
        if not name:
            return lambda _source, _target: True
        depth = len(name.rpartition("[].")[2].split("."))
        get = getter(line.ours[:depth])
        if self._outward:
            return lambda source, _target: get(source) is not None
        return lambda _source, target: get(target) is not None

    # --- lists ---

    def _list(self, heads: tuple[Place, Place], group: Sequence[_Line], fixed: Sequence[_Fixed]) -> Move:
        ours, theirs = heads
        inner = [replace(item, place=item.place[len(theirs) :]) for item in fixed if item.inside(theirs)]
        moves = self.moves([line.inside(heads) for line in group], inner)
        source, target = (ours, theirs) if self._outward else (theirs, ours)
        name = group[0].rule.field.name
        required = self.message.list_is_required(name[: name.index("[]")])
        return self._each(getter(source), putter(target), label(source, self.source), moves, required=required)

    def _each(self, get: Get, put: Put, name: str, moves: Sequence[Move], *, required: bool) -> Move:
        def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
            items = get(source)
            if items is None:
                if required:
                    problems.append(FieldProblem(at + name, "is missing", "required"))
            elif is_short_list(items, at + name, problems):
                made: list[Tree] = [{} for _ in items]
                put(target, made)
                for item, result, place in zip(items, made, _numbered(at + name, items, self.source), strict=True):
                    _item(item, result, place, moves, self.source.separator, problems)

        return move


def _item(item: Any, result: Tree, place: str, moves: Sequence[Move], separator: str, problems: Problems) -> None:
    if item.__class__ is not dict:
        problems.append(FieldProblem(place, "is no object", "type"))
        return
    for move in moves:
        move(item, result, place + separator, problems)


def _numbered(name: str, items: Sequence[Any], notation: Notation) -> Iterable[str]:
    return (f"{name}[{number}]" for number in range(notation.first, notation.first + len(items)))


def is_short_list(items: Any, name: str, problems: Problems) -> bool:
    """Return whether this is a list within the limit; otherwise say so in `problems`."""
    if items.__class__ is not list:
        problems.append(FieldProblem(name, "is no list", "type"))
        return False
    if len(items) > MAX_ITEMS:
        problems.append(FieldProblem(name, f"has more than {MAX_ITEMS} items", "too_long"))
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Entries:
    """An object of ours, name → text, that is a list of {name, value} objects on their side."""

    line: _Line
    label: str
    notation: Notation

    def move(self, *, outward: bool) -> Move:
        return self._say() if outward else self._hear()

    def _say(self) -> Move:
        get, put = getter(self.line.ours), putter(self.line.theirs)
        put_name, put_value = self._ends(putter)

        def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
            entries = get(source)
            if entries is None or not self._is_object(entries, at, problems):
                return
            made: list[Tree] = []
            for name, value in entries.items():
                item: Tree = {}
                made.append(item)
                place = at + self.label
                try:
                    put_name(item, text(name))
                    place = f"{place}.{name[:_NAME_IN_MESSAGE]}"
                    put_value(item, text(value))
                except Wrong as wrong:
                    problems.append(FieldProblem(place, wrong.reason, wrong.code))
            put(target, made)

        return move

    def _hear(self) -> Move:
        get, put = getter(self.line.theirs), putter(self.line.ours)

        def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
            items = get(source)
            if items is None or not is_short_list(items, at + self.label, problems):
                return
            found: Tree = {}
            put(target, found)
            for item, place in zip(items, _numbered(at + self.label, items, self.notation), strict=True):
                self._hear_one(item, found, place, problems)

        return move

    def _hear_one(self, item: Any, found: Tree, place: str, problems: Problems) -> None:
        get_name, get_value = self._ends(getter)
        try:
            if item.__class__ is not dict:
                raise Wrong("is no object", "type")  # noqa: TRY301 - one place turns a fault into a problem
            name, value = text(get_name(item)), text(get_value(item))
        except Wrong as wrong:
            problems.append(FieldProblem(place, wrong.reason, wrong.code))
            return
        if name in found:
            problems.append(FieldProblem(place, "has a name that was given before", "repeated"))
        found[name] = value

    def _ends(self, make: Callable[[Place], Any]) -> tuple[Any, Any]:
        entries = self.line.rule.entries
        return (make(entries.name), make(entries.value)) if entries else (None, None)

    def _is_object(self, entries: Any, at: str, problems: Problems) -> bool:
        if entries.__class__ is not dict:
            problems.append(FieldProblem(at + self.label, "is no object", "type"))
            return False
        if len(entries) > MAX_ITEMS:
            problems.append(FieldProblem(at + self.label, f"has more than {MAX_ITEMS} entries", "too_long"))
            return False
        return True
