"""Rules into closures: one for ours → theirs, one for theirs → ours.

Owns: walking objects and lists, leaving out what was not given, conditions and alternatives, and naming every wrong
field at once. Leaves to `gateway.mapping.converters`: single values; to `views`, `joined` and `entries`: lists and
texts that stand for objects; to the forms: bytes and schemas. Nothing is interpreted while a document is converted:
every path, converter and message is bound when the pack is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

from gateway.errors import FieldProblem
from gateway.mapping.blocks import Silent, Single, block, reserved_text
from gateway.mapping.charsets import Charset, charset_named
from gateway.mapping.converters import UNKNOWN, Convert, Wrong
from gateway.mapping.entries import entries_move
from gateway.mapping.forms import Form
from gateway.mapping.items import PLAIN, Gap, Items
from gateway.mapping.joined import Column, hear_joined, say_joined
from gateway.mapping.moves import Move, Problems, Translate, Translator, item_at, note
from gateway.mapping.paths import (
    BROKEN,
    ITSELF,
    OURS,
    VIEW,
    Get,
    Notation,
    Place,
    Put,
    Step,
    Tree,
    getter,
    label,
    list_head,
    putter,
)
from gateway.mapping.pieces import piece_getter, piece_putter
from gateway.mapping.rule_lines import Fixed, Line, line_of
from gateway.mapping.rules import Rule, RuleSet
from gateway.mapping.views import View
from gateway.mapping.vocabulary import OURS_TO_THEIRS, THEIRS_TO_OURS, Message

Notice = Callable[[str], None]
"""Is told the name of each field whose code nobody knows."""

Holds = Callable[[Tree], bool]

_INSIDE: Final = "lies inside something that is no object"
_UTF8: Final = "utf-8"


def compile_rules(rules: RuleSet, message: Message, form: Form, notice: Notice) -> Translator:
    """Return the two closures of a rule file that was read without faults."""
    lines = [line_of(rule) for rule in rules.rules]
    fixed = [Fixed(place, value) for place, value in rules.fixed]
    charset = None if form.charset == _UTF8 else charset_named(form.charset)
    absent = ("", *rules.absent)
    out = _Direction(OURS_TO_THEIRS, OURS, form.notation, ("",), absent[1:], charset, message, rules.views, notice)
    back = _Direction(THEIRS_TO_OURS, form.notation, OURS, absent, (), None, message, rules.views, notice)
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
class _Direction:
    """Compiles for one direction.

    `source` and `target` are the notations of the two sides; `absent` are the texts of the source that mean "nothing
    given", `reserved` those of the target, which no value may be; `charset` is checked on what is said, if it cannot
    hold everything.
    """

    name: str
    source: Notation
    target: Notation
    absent: tuple[str, ...]
    reserved: tuple[str, ...]
    charset: Charset | None
    message: Message
    views: Any
    notice: Notice

    @property
    def _outward(self) -> bool:
        return self.name == OURS_TO_THEIRS

    # --- one level: the document itself, or one item of a list ---

    def moves(self, lines: Iterable[Line], fixed: Sequence[Fixed]) -> list[Move]:
        """Compile one level: values in file order, lists where their first line stands, gaps last.

        When reading, rules with a condition come after the others, which give the field that the condition asks for.
        """
        active = [line for line in lines if line.rule.runs(self.name)]
        if not self._outward:
            active.sort(key=lambda line: line.rule.when is not None)
        groups: dict[Any, list[Line]] = {}
        for line in active:
            groups.setdefault(line.heads if any(line.heads) else line.rule.field.name, []).append(line)
        made = list(self._compiled(list(groups.values()), fixed))
        made += [self._fix(item) for item in fixed if not list_head(item.place)]
        made += self._gaps(list(groups.values()))
        return self._seen(made, active)

    def _compiled(self, groups: Sequence[Sequence[Line]], fixed: Sequence[Fixed]) -> Iterator[Move]:
        """Compile the groups in order; neighbours that are plain values of the same two objects go in one block."""
        silent = Silent(frozenset(self.absent), frozenset(self.reserved))
        for ends, neighbours in self._neighbours(groups):
            if ends is None:
                yield from (self._group(group, fixed) for group in neighbours)
            else:
                lines = [group[0] for group in neighbours]
                apart = [self._one(line) for line in lines]
                yield block([self._single(line) for line in lines], ends, silent, apart)

    def _neighbours(self, groups: Sequence[Sequence[Line]]) -> Iterable[tuple[Any, Iterable[Sequence[Line]]]]:
        """Gather what goes between the same two objects: neighbours only, where what is written keeps its order."""
        if self._outward and self.target != OURS:
            return groupby(groups, key=self._ends)
        gathered: dict[Any, list[Sequence[Line]]] = {}
        for number, group in enumerate(groups):
            ends = self._ends(group)
            gathered.setdefault(number if ends is None else ends, []).append(group)
        return ((None if isinstance(ends, int) else ends, group) for ends, group in gathered.items())

    def _ends(self, group: Sequence[Line]) -> tuple[Place, Place] | None:
        """Return the objects that a plain value is read from and written into; None for anything else."""
        line, rule = group[0], group[0].rule
        odd = (
            rule.constant, rule.entries, rule.when, rule.pieces, rule.join or None, line.rule.field.empty or None,
            (line.instead or None) if self._outward else (line.also or rule.by_shape or None),
        )  # fmt: skip
        steps = (*line.ours, *line.theirs)
        if len(group) > 1 or any(line.heads) or any(item is not None and item != () for item in odd):
            return None
        if any(step.key == ITSELF for step in steps):
            return None
        source, target = (line.ours, line.theirs) if self._outward else (line.theirs, line.ours)
        return source[:-1], target[:-1]

    def _single(self, line: Line) -> Single:
        rule = line.rule
        source, target = (line.ours, line.theirs) if self._outward else (line.theirs, line.ours)
        convert = self._held(rule.converter.say) if self._outward else self._noticed(rule, rule.converter.hear)
        return Single(source[-1].key, target[-1].key, convert, self._label(line))

    def _group(self, group: Sequence[Line], fixed: Sequence[Fixed]) -> Move:
        heads = group[0].heads
        if any(heads):
            return self._list(heads, group, fixed) if heads[1] else self._joined(heads[0], group)
        return self._one(group[0]) if len(group) == 1 and not group[0].when else self._chosen(group)

    def _label(self, line: Line) -> str:
        return label(line.ours if self._outward else line.theirs, self.source)

    # --- views ---

    def _seen(self, moves: list[Move], lines: Sequence[Line]) -> list[Move]:
        """Lay the views of this level over the source, or fold them into the target."""
        places = [place[:1] for line in lines for place in (line.theirs, *line.also, *line.numbers)]
        keys = {step.key for first in places for step in first if step.key.startswith(VIEW)}
        if not keys:
            return moves
        wrap = self._folded if self._outward else self._unfolded
        for key in sorted(keys):
            moves = [wrap(self.views[key], moves)]
        return moves

    def _unfolded(self, view: View, moves: Sequence[Move]) -> Move:
        get, name = getter(view.place), label(view.place, self.source)

        def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
            raw = get(source)
            seen = source
            if raw is not None and raw != "":
                try:
                    seen = {**source, view.key: view.open(raw)}
                except Wrong as wrong:
                    note(problems, at + name, wrong)
            for inner in moves:
                inner(seen, target, at, problems)

        return move

    def _folded(self, view: View, moves: Sequence[Move]) -> Move:
        put, name = putter(view.place), label(view.place, self.target)

        def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
            for inner in moves:
                inner(source, target, at, problems)
            seen = target.pop(view.key, None)
            if seen:
                try:
                    put(target, self._whole(view.close(seen)))
                except Wrong as wrong:
                    note(problems, at + name, wrong)

        return move

    # --- single values ---

    def _one(self, line: Line) -> Move:
        rule = line.rule
        if rule.constant is not None:
            return self._check_constant(line) if self._outward else self._give_constant(line)
        if rule.entries:
            place, said = (line.ours, line.theirs), self._said
            return entries_move(rule.entries, place, self._label(line), self.source, said, outward=self._outward)
        if self._outward:
            return self._value(line, self._ours(line), self._writing(line), self._checked(rule.converter.say))
        if rule.by_shape:
            return self._told_apart(line, rule.by_shape)
        return self._value(line, self._theirs(line), putter(line.ours), self._noticed(rule, rule.converter.hear))

    def _writing(self, line: Line) -> Put:
        if not line.pieces:
            return putter(line.theirs)
        return piece_putter([putter(place) for place in line.pieces], line.rule.split, self._whole)

    def _value(self, line: Line, get: Get, put: Put, convert: Convert) -> Move:
        name, absent = self._label(line), self._absent(line)

        def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
            try:
                value = get(source)
                if value is None or (value.__class__ is str and value in absent):
                    return
                if value is BROKEN:
                    raise Wrong(_INSIDE, "type")  # noqa: TRY301 - one place turns a fault into a problem
                put(target, convert(value))
            except Wrong as wrong:
                note(problems, item_at(at, name), wrong)

        return move

    def _absent(self, line: Line) -> tuple[str, ...]:
        return self.absent[1:] if line.rule.field.empty else self.absent

    def _ours(self, line: Line) -> Get:
        """Read our field, or the first one that stands in for it."""
        return self._first_of([line.ours, *line.instead], ("",))

    def _theirs(self, line: Line) -> Get:
        """Read their place, or the first other one that the rule names when it is empty."""
        if line.pieces:
            return piece_getter([getter(place) for place in line.pieces], line.rule.split)
        return self._first_of([line.theirs, *line.also], self._absent(line))

    def _first_of(self, places: Sequence[Place], absent: tuple[str, ...]) -> Get:
        first, *others = [getter(place) for place in places]
        if not others:
            return first

        def get(source: Tree) -> Any:
            value = first(source)
            for other in others:
                if value is not None and not (value.__class__ is str and value in absent):
                    break
                value = other(source)
            return value

        return get

    def _told_apart(self, line: Line, by_shape: Callable[[Any, Any], str]) -> Move:
        absent = self._absent(line)
        code, number = self._theirs(line), self._first_of(line.numbers, absent)

        reads = line.rule.column.reads if line.rule.column else {}
        alone = {theirs: ours[0] for theirs, ours in reads.items() if len(ours) == 1}

        def both(source: Tree) -> Any:
            value = code(source)
            nothing = value is None or value is BROKEN or (value.__class__ is str and value in absent)
            return (value if value is BROKEN else None) if nothing else (value, number(source))

        apart = self._value(line, both, putter(line.ours), self._noticed(line.rule, lambda pair: by_shape(*pair)))
        put = putter(line.ours)

        def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
            value = code(source)
            found = alone.get(value) if value.__class__ is str else None
            if found is not None and value not in absent:
                put(target, found)
            else:
                apart(source, target, at, problems)

        return move

    def _noticed(self, rule: Rule, convert: Convert) -> Convert:
        """Tell of codes that nobody knows."""
        if rule.field.type != "code":
            return convert
        name, notice = rule.field.name, self.notice
        reads = rule.column.reads if rule.column else {}
        known = {theirs: ours[0] for theirs, ours in reads.items() if len(ours) == 1}

        def hear(value: Any) -> Any:
            found = known.get(value) if value.__class__ is str else None
            if found is not None:
                return found
            code = convert(value)
            if code.startswith(UNKNOWN):
                notice(name)
            return code

        return hear

    def _checked(self, convert: Convert) -> Convert:
        """Refuse what the region could not read back as it was."""
        return (lambda value: self._whole(convert(value))) if self.charset or self.reserved else convert

    def _held(self, convert: Convert) -> Convert:
        """Refuse characters that the region's character set cannot hold."""
        return convert if self.charset is None else lambda value: self._said(convert(value))

    def _whole(self, value: Any) -> Any:
        """Return what fills a place of theirs, if it does not mean "nothing given" there."""
        if value.__class__ is str and value in self.reserved:
            raise reserved_text()
        return self._said(value)

    def _said(self, value: Any) -> Any:
        if self.charset is not None:
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    self.charset.check(text)
        return value

    # --- several rules for one field, conditions ---

    def _chosen(self, group: Sequence[Line]) -> Move:
        """Run the rules whose condition holds. A value of ours that none of them takes is refused, never dropped."""
        lines = [(self._holds(line), self._one(line)) for line in group]
        refuse = self._without_place(group[0]) if self._outward and all(line.when for line in group) else None

        def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
            known = source if self._outward else target
            taken = False
            for holds, one in lines:
                if holds is None or holds(known):
                    one(source, target, at, problems)
                    taken = True
            if refuse and not taken:
                refuse(source, target, at, problems)

        return move

    def _holds(self, line: Line) -> Holds | None:
        if line.rule.when is None:
            return None
        get, values = getter(line.when), line.rule.when.values
        return lambda tree: get(tree) in values

    def _without_place(self, line: Line) -> Move:
        get, name = getter(line.ours), self._label(line)
        asked = label(line.when, OURS)

        def move(source: Tree, _target: Tree, at: str, problems: Problems) -> None:
            value = get(source)
            if value is not None and value != "":
                reason = f"has no place in this format with this {asked}"
                problems.append(FieldProblem(item_at(at, name), reason, "no_place"))

        return move

    # --- constants ---

    def _check_constant(self, line: Line) -> Move:
        get, name, constant = getter(line.ours), self._label(line), line.rule.constant

        def move(source: Tree, _target: Tree, at: str, problems: Problems) -> None:
            value = get(source)
            if value is not None and value != constant:
                problems.append(FieldProblem(at + name, f"can only be {constant} in this format", "unknown_code"))

        return move

    def _give_constant(self, line: Line) -> Move:
        put, constant = putter(line.ours), line.rule.constant
        return lambda _source, target, _at, _problems: put(target, constant)

    def _fix(self, fixed: Fixed) -> Move:
        return self._write_fixed(fixed) if self._outward else self._check_fixed(fixed)

    def _write_fixed(self, fixed: Fixed) -> Move:
        """Write it where the object around it is written, so that an optional object does not appear by itself."""
        put, value = putter(fixed.place), fixed.value
        if len(fixed.place) == 1:
            return lambda _source, target, _at, _problems: put(target, value)
        around = getter(fixed.place[:-1])

        def move(_source: Tree, target: Tree, _at: str, _problems: Problems) -> None:
            if around(target) is not None:
                put(target, value)

        return move

    def _check_fixed(self, fixed: Fixed) -> Move:
        get, name, expected = getter(fixed.place), label(fixed.place, self.source), fixed.value

        def move(source: Tree, _target: Tree, at: str, problems: Problems) -> None:
            value = get(source)
            if value is not None and value != expected:
                problems.append(FieldProblem(at + name, f"can only be {expected}", "fixed"))

        return move

    # --- what was not given ---

    def _gaps(self, groups: Sequence[Sequence[Line]]) -> list[Move]:
        """Fill defaults in, and name required fields that are missing.

        A field inside an optional object is missing only when the rest of that object is there.
        """
        gaps = [self._gap(group) for group in groups if self._may_lack(group)]

        def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
            for gap in gaps:
                if gap.get(target) is None and not gap.given(source, target) and gap.there(source, target):
                    gap.fill(target, at, problems)

        return [move] if gaps else []

    def _may_lack(self, group: Sequence[Line]) -> bool:
        line = group[0]
        given_anyway = line.rule.constant is not None and not self._outward
        if any(line.heads) or given_anyway:
            return False
        required = any(one.rule.required for one in group) or line.ours == PLAIN
        return required or (not self._outward and any(one.rule.default is not None for one in group))

    def _gap(self, group: Sequence[Line]) -> Gap:
        line = group[0]
        defaults = [one.rule.default for one in group if one.rule.default is not None and not self._outward]
        target = line.theirs if self._outward else line.ours
        return Gap(
            get=getter(target) if target else lambda _tree: None,
            given=self._given(group),
            there=self._object_there(line),
            name=self._label(line),
            put=putter(line.ours),
            default=defaults[0] if defaults else None,
        )

    def _given(self, group: Sequence[Line]) -> Callable[[Tree, Tree], bool]:
        """Return the look whether any rule of the field has something to read, right or wrong."""
        absent = self._absent(group[0])
        reads = [(None if self._outward else self._holds(line), self._looked_at(line)) for line in group]

        def given(source: Tree, target: Tree) -> bool:
            for holds, get in reads:
                value = get(source)
                nothing = value is None or (value.__class__ is str and value in absent)
                if not nothing and (holds is None or holds(target)):
                    return True
            return False

        return given

    def _looked_at(self, line: Line) -> Get:
        """Return the getter of whatever stands there first, right or wrong."""
        if self._outward:
            return self._ours(line)
        return self._first_of(line.pieces or [line.theirs, *line.also], self._absent(line))

    def _object_there(self, line: Line) -> Callable[[Tree, Tree], bool]:
        name = self.message.optional_object(line.rule.field.name)
        if not name:
            return lambda _source, _target: True
        depth = len(name.rpartition("[].")[2].split("."))
        get = getter(line.ours[:depth])
        if self._outward:
            return lambda source, _target: get(source) is not None
        return lambda _source, target: get(target) is not None

    # --- lists ---

    def _list(self, heads: tuple[Place, Place], group: Sequence[Line], fixed: Sequence[Fixed]) -> Move:
        ours, theirs = heads
        inner = [replace(item, place=item.place[len(theirs) :]) for item in fixed if item.inside(theirs)]
        lines = [line.inside(heads) for line in group]
        source, target = (ours, theirs) if self._outward else (theirs, ours)
        plain = [any((line.ours if side else line.theirs) == PLAIN for line in lines) for side in (True, False)]
        source_plain, target_plain = plain if self._outward else reversed(plain)
        items = Items(label(source, self.source), self.source, source_plain, target_plain)
        return items.move(getter(source), putter(target), self.moves(lines, inner), required=self._list_required(group))

    def _list_required(self, group: Sequence[Line]) -> bool:
        name = group[0].rule.field.name
        head = name[: name.index("[]")] if "[]" in name else name
        return self.message.list_is_required(head)

    def _joined(self, ours: Place, group: Sequence[Line]) -> Move:
        """One list of ours that is one text of theirs for each of its members."""
        lines = [line.inside((ours, ())) for line in group]
        notation = self.target if self._outward else self.source
        columns = [Column(line.theirs, line.rule.join, label(line.theirs, notation)) for line in lines]
        inner = [replace(line, theirs=(Step(str(number)),)) for number, line in enumerate(lines)]
        plain, required = lines[0].ours == PLAIN, self._list_required(group)
        moves, name = self.moves(inner, []), label(ours, OURS)
        if self._outward:
            return say_joined(getter(ours), columns, moves, Items(name, OURS, plain, target_plain=False), self._whole)
        return hear_joined(putter(ours), columns, moves, self.absent, plain=plain, required=required)
