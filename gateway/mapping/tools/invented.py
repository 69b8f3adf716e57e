"""Documents that nobody wrote, for the proof of a pack.

Owns: hypothesis strategies for our documents, from the vocabulary, and for theirs, from the schema. What a region's
schema takes for a field is found out by trying: where it refuses an odd text, the values of the pack's own examples are
used. Leaves to `generated`: the laws.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import orjson
from hypothesis import strategies as st

from gateway.errors import MappingFailed
from gateway.mapping.charsets import charset_named
from gateway.mapping.packs import Pack
from gateway.mapping.paths import ITSELF, OURS, OWN_TEXT, Place, Step, split
from gateway.mapping.rules import Rule, theirs_of
from gateway.mapping.tables import Table, Tables
from gateway.mapping.vocabulary import OURS_TO_THEIRS, Field

_ODD: Final = (
    "a",
    "Z",
    "0",
    "9",
    " ",
    "&",
    "<",
    '"',
    "'",
    "=",
    ";",
    ",",
    "|",
    "-",
    "\n",
    "测",
    "試",
    "·",
    "é",
    "𠀋",
    "（",
)
"""Characters that formats stumble over."""

_PLAIN_TEXT: Final = ("a", "Z", "0", "9", "测", "试", "市", " ")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LISTED: Final = 3


@dataclass
class Inventor:
    """Makes documents of one pack up. `seen` are the values of every field in the pack's examples."""

    pack: Pack
    tables: Tables
    seen: dict[str, list[Any]] = field(default_factory=dict)
    theirs_seen: dict[str, list[Any]] = field(default_factory=dict)
    odd: tuple[str, ...] = ()
    tame: frozenset[str] = frozenset()
    rules: dict[str, list[Rule]] = field(default_factory=dict)

    @classmethod
    def of(cls, pack: Pack, tables: Tables) -> Inventor:
        """Return the inventor of a pack, after a look at its examples."""
        charset = charset_named(pack.form.charset)
        made = cls(pack, tables, odd=tuple(char for char in _ODD if not charset.lacks(char)))
        for rule in pack.rules.rules:
            made.rules.setdefault(rule.field.name, []).append(rule)
        examples = list(made._examples())
        for ours, theirs in examples:
            _gather(ours, "", made.seen, ".")
            _gather(theirs, "", made.theirs_seen, pack.form.notation.separator)
        made.tame = frozenset(made._shaped([ours for ours, _ in examples]))
        return made

    def _examples(self) -> Iterator[tuple[dict[str, Any], Any]]:
        contents, suffix = self.pack.files.contents, self.pack.form.suffix
        for path, raw in sorted(contents.items()):
            if "/examples/" in path and path.endswith(".canonical.json"):
                theirs = contents[path.removesuffix(".canonical.json") + suffix]
                yield orjson.loads(raw), self.pack.form.read(self.pack.form.example(theirs))[0]

    def _shaped(self, examples: Sequence[dict[str, Any]]) -> Iterator[str]:
        """The text fields for which the region takes no odd text: found out by putting one into an example."""
        for name, known in self.pack.about.fields.items():
            if known.type in {"string", "texts", "integer", "money", "decimal"} or known.digits:
                tried = (one for one in examples if _replaced(copy.deepcopy(one), name, _ODD_VALUES[known.type]))
                sayable = [one for one in tried if self._said(one)]
                if sayable and not any(self._takes(one, name, known) for one in sayable[:_LISTED]):
                    yield name

    def _takes(self, example: dict[str, Any], name: str, known: Field) -> bool:
        changed = copy.deepcopy(example)
        _replaced(changed, name, _ODD_VALUES[known.type])
        return self._said(changed)

    def _said(self, document: dict[str, Any]) -> bool:
        try:
            self.pack.to_region(document)
        except MappingFailed:
            return False
        return True

    # --- ours ---

    def ours(self) -> st.SearchStrategy[dict[str, Any]]:
        """Return documents of ours, made from the vocabulary."""

        @st.composite
        def documents(draw: st.DrawFn) -> dict[str, Any]:
            document: dict[str, Any] = self._members(draw, "")
            self._fit_numbers(draw, document, "")
            self._leave_out_the_unplaced(document, "")
            return document

        return documents()

    def _members(self, draw: st.DrawFn, prefix: str) -> dict[str, Any]:
        """The fields below a prefix ("" or "materials[]."), optional ones now and then."""
        made: dict[str, Any] = {}
        absent: set[str] = set()
        for name, known in self.pack.about.fields.items():
            rest = name.removeprefix(prefix)
            if not name.startswith(prefix) or "[]" in rest or any(name.startswith(f"{one}.") for one in absent):
                continue
            needed = known.required or any(rule.required for rule in self.rules.get(name, ()))
            if not needed and draw(st.booleans()):
                absent.add(name)
                continue
            if known.type == "object":
                continue
            _put(made, rest, self._list(draw, name) if known.type == "list" else draw(self._value(name, known)))
        return made

    def _list(self, draw: st.DrawFn, name: str) -> list[Any]:
        return [self._members(draw, f"{name}[].") for _ in range(draw(st.integers(1, _LISTED)))]

    def _value(self, name: str, known: Field) -> st.SearchStrategy[Any]:
        constants = [rule.constant for rule in self.rules.get(name, ()) if rule.constant is not None]
        if constants:
            return st.sampled_from(constants)
        if known.type == "code" and not known.digits:
            return st.sampled_from(self._codes(known))
        seen = self.seen.get(name, [])
        if name in self.tame and seen:
            return st.sampled_from(seen)
        wild = _WILD[known.type](self, known)
        return st.one_of(st.sampled_from(seen), wild) if seen else wild

    def _codes(self, known: Field) -> list[str]:
        """The codes of a field that the region can say."""
        codes = known.values or self.tables[known.table].codes
        lost = {
            code
            for loss in self.pack.losses
            if loss.field == known.name and loss.direction == OURS_TO_THEIRS
            for code in loss.values
        }
        return [code for code in codes if code not in lost] or list(codes)

    def words(self) -> st.SearchStrategy[str]:
        """Return texts: mostly plain ones, some odd."""
        plain = st.text(st.sampled_from(_PLAIN_TEXT), min_size=1, max_size=8).filter(str.strip)
        return st.one_of(plain, plain, plain, st.text(st.sampled_from(self.odd), min_size=1, max_size=6))

    def _fit_numbers(self, draw: st.DrawFn, node: dict[str, Any], prefix: str) -> None:
        """Give numbers the shape of their kind, where the shape tells the kind."""
        for name, rules in self.rules.items():
            by = next((rule.written["by"] for rule in rules if rule.by_shape), "")
            rest = name.removeprefix(prefix)
            if not by or not name.startswith(prefix) or "[]" in rest:
                continue
            code, table = _get(node, rest), self.tables[rules[0].field.table]
            shape = next(iter(_telling(table, rules, code)), "")
            if shape and _get(node, by.removeprefix(prefix)) is not None:
                _put(node, by.removeprefix(prefix), draw(_of_shape(shape)))
        for key, value in node.items():
            if isinstance(value, list):
                for item in value:
                    if isinstance(item, dict):
                        self._fit_numbers(draw, item, f"{prefix}{key}[].")

    def _leave_out_the_unplaced(self, node: dict[str, Any], prefix: str) -> None:
        """Take fields out that have no place in this case."""
        for name, rules in self.rules.items():
            rest = name.removeprefix(prefix)
            if name.startswith(prefix) and "[]" not in rest and rules and all(rule.when for rule in rules):
                asked = [rule.when for rule in rules if rule.when]
                if not any(_get(node, one.name.removeprefix(prefix)) in one.values for one in asked):
                    _drop(node, rest)

    # --- theirs ---

    def theirs(self) -> st.SearchStrategy[Any]:
        """Return documents of theirs, made from the places of the schema; some will not fit it."""
        form = self.pack.form
        places = [(leaf, theirs_of(path, form), path) for path, leaf in form.leaves.items()]

        @st.composite
        def documents(draw: st.DrawFn) -> Any:
            tree: dict[str, Any] = {}
            counts: dict[Place, int] = {}
            for leaf, place, path in places:
                if leaf.required or draw(st.integers(0, 3)):
                    self._plant(draw, tree, place, counts, self._theirs_value(path))
            return form.write(tree)[0]

        return documents()

    def _theirs_value(self, path: str) -> st.SearchStrategy[Any]:
        leaf = self.pack.form.leaves[path]
        seen = self.theirs_seen.get(path, [])
        kinds: list[st.SearchStrategy[Any]] = [st.sampled_from(seen)] * 3 if seen else []
        columns = [rule.column for rule in self.pack.rules.rules if rule.at == path and rule.column]
        read = sorted({code for column in columns for code in column.reads})
        numbers = leaf.kind in {"integer", "number"}
        if read and not numbers:
            kinds.append(st.sampled_from(read))
        kinds.append(st.sampled_from(leaf.codes) if leaf.codes and not numbers else _OF_KIND[leaf.kind](self))
        return st.one_of(kinds)

    def _plant(
        self, draw: st.DrawFn, node: Any, place: Place, counts: dict[Place, int], value: st.SearchStrategy[Any]
    ) -> None:
        """Put values at a place; a list on the way gets as many items as the first place inside it was given."""
        for index, step in enumerate(place):
            if step.many:
                count = counts.setdefault(place[: index + 1], draw(st.integers(1, 2)))
                items = node.setdefault(step.key, [{} for _ in range(count)])
                rest = place[index + 1 :]
                if rest == (Step(ITSELF),):
                    node[step.key] = [draw(value) for _ in range(count)]
                    return
                for item in items:
                    self._plant(draw, item, rest, counts, value)
                return
            if index == len(place) - 1:
                node[step.key] = draw(value)
                return
            node = node.setdefault(step.key, {})


# --- values --------------------------------------------------------------------------------------------------------

_ODD_VALUES: Final[Mapping[str, Any]] = {
    "string": "测试 Z9", "texts": ["测试 Z9"], "integer": 987_654_321, "money": 123_456_789, "decimal": "98765.4321",
    "code": "987654",
}  # fmt: skip


def _days() -> st.SearchStrategy[str]:
    return st.dates(date(1900, 1, 1), date(2200, 1, 1)).map(date.isoformat)


def _moments() -> st.SearchStrategy[str]:
    whole = st.integers(0, 4_102_444_800)
    parts = st.one_of(st.just(0), st.just(0), st.integers(1, 999_999))
    return st.builds(lambda s, m: _written(_EPOCH + timedelta(seconds=s, microseconds=m)), whole, parts)


def _written(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _decimals() -> st.SearchStrategy[str]:
    return st.integers(-(10**9), 10**9).map(lambda n: _shortest(n))


def _shortest(thousandths: int) -> str:
    written = f"{thousandths / 1000:.3f}".rstrip("0").rstrip(".")
    return "0" if written == "-0" else written


_WILD: Final[Mapping[str, Any]] = {
    "string": lambda inventor, _known: inventor.words(),
    "texts": lambda inventor, _known: st.lists(inventor.words(), min_size=1, max_size=_LISTED),
    "integer": lambda _inventor, _known: st.integers(0, 10**9),
    "money": lambda _inventor, _known: st.integers(0, 10**12),
    "decimal": lambda _inventor, _known: _decimals(),
    "boolean": lambda _inventor, _known: st.booleans(),
    "date": lambda _inventor, _known: _days(),
    "datetime": lambda _inventor, _known: _moments(),
    "entries": lambda inventor, _known: st.dictionaries(inventor.words(), inventor.words(), max_size=_LISTED),
    "code": lambda _inventor, known: st.text(
        st.sampled_from("123456789"), min_size=known.digits, max_size=known.digits
    ),
}

_OF_KIND: Final[Mapping[str, Any]] = {
    "string": lambda inventor: inventor.words(),
    "": lambda inventor: inventor.words(),
    "integer": lambda _inventor: st.integers(-1, 2_000_000_000_000),
    "number": lambda _inventor: st.one_of(st.integers(0, 10**6), st.sampled_from([0.5, 12.25, 99.99])),
    "boolean": lambda _inventor: st.booleans(),
    "object": lambda inventor: st.dictionaries(inventor.words(), inventor.words(), max_size=2),
}


def _telling(table: Table, rules: Sequence[Rule], code: Any) -> Iterator[str]:
    """The shapes of a code that tell it from the others that share its code on their side."""
    for rule in rules:
        theirs = rule.column.writes.get(code) if rule.column else None
        if theirs is None or rule.column is None:
            continue
        among = rule.column.reads.get(theirs, ())
        for shape in table.shapes.get(code, ()) if len(among) > 1 else ():
            if table.told_apart(among, shape.translate({35: "1", 64: "A", 42: "1"})) == code:
                yield shape


def _of_shape(shape: str) -> st.SearchStrategy[str]:
    kinds = {"#": "0123456789", "*": "0123456789", "@": "ABCXYZ"}
    return st.tuples(*(st.sampled_from(kinds.get(mark, mark)) for mark in shape)).map("".join)


# --- trees ---------------------------------------------------------------------------------------------------------


def _gather(node: Any, at: str, seen: dict[str, list[Any]], separator: str) -> None:
    """Collect the values of every place, lists written with []."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            inner = at if key == OWN_TEXT else f"{at}{separator}{key}" if at else key
            _gather(value, inner, seen, separator)
        if OWN_TEXT not in node:
            seen.setdefault(at, []).append(node)
    elif isinstance(node, list):
        for item in node:
            _gather(item, f"{at}[]", seen, separator)
        seen.setdefault(at, []).append(node)
    elif node is not None:
        seen.setdefault(at, []).append(node)


def _get(node: Any, path: str) -> Any:
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _put(node: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        node = node.setdefault(key, {})
    node[last] = value


def _drop(node: dict[str, Any], path: str) -> None:
    *parents, last = path.split(".")
    for key in parents:
        node = node.get(key, {})
    node.pop(last, None)


def _replaced(document: Any, name: str, value: Any) -> bool:
    """Put a value in place of the first one of a field; return whether there was one."""
    node = document
    place = split(name, OURS)
    for step in place[:-1]:
        node = node.get(step.key) if isinstance(node, dict) else None
        if step.many:
            node = node[0] if node else None
    last = place[-1].key
    if not isinstance(node, dict) or last not in node:
        return False
    node[last] = value
    return True
