"""Form fields: our object of name → text, in the ways that regions write such a thing.

Owns: lists of {name, value} objects, lists of "name=text", objects, and texts that hold an object in JSON. Leaves to
the compiler: where they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import orjson

from gateway.errors import FieldProblem
from gateway.mapping.converters import Wrong, text
from gateway.mapping.limits import MAX_ITEMS, MAX_TEXT
from gateway.mapping.moves import Move, Problems, is_short_list, note
from gateway.mapping.paths import BROKEN, Notation, Place, Tree, getter, putter

if TYPE_CHECKING:
    from gateway.mapping.rules import Entries

_NAME_IN_MESSAGE: Final = 64
"""Characters of a form field's name that a message repeats."""

Said = Callable[[Any], Any]


def entries_move(
    entries: Entries, places: tuple[Place, Place], name: str, notation: Notation, said: Said, *, outward: bool
) -> Move:
    """Return the move of an object of ours. `places` are ours and theirs; `said` checks a text of ours."""
    ours, theirs = places
    if outward:
        return _say(entries, (ours, theirs), name, said)
    return _hear(entries, (theirs, ours), name, notation)


# --- ours to theirs ------------------------------------------------------------------------------------------------


def _say(entries: Entries, places: tuple[Place, Place], name: str, said: Said) -> Move:
    get, put = getter(places[0]), putter(places[1])
    written = _writer(entries)

    def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
        found = get(source)
        if found is None or not _is_object(found, at + name, problems):
            return
        checked = list(_checked(found, at + name, entries, said, problems))
        put(target, written(checked))

    return move


def _checked(found: Tree, place: str, entries: Entries, said: Said, problems: Problems) -> Iterator[tuple[str, str]]:
    for name, value in found.items():
        at = place
        try:
            key = said(text(name))
            if entries.how == "pairs" and "=" in key:
                raise Wrong('has a name that holds "="')  # noqa: TRY301 - one place turns a fault into a problem
            at = f"{place}.{name[:_NAME_IN_MESSAGE]}"
            yield key, said(text(value))
        except Wrong as wrong:
            note(problems, at, wrong)


def _writer(entries: Entries) -> Callable[[Iterable[tuple[str, str]]], Any]:
    if entries.how == "pairs":
        return lambda pairs: [f"{name}={value}" for name, value in pairs]
    if entries.how == "object":
        return dict
    if entries.how == "json":
        return lambda pairs: orjson.dumps(dict(pairs)).decode()
    put_name, put_value = putter(entries.name), putter(entries.value)

    def items(pairs: Iterable[tuple[str, str]]) -> list[Tree]:
        made: list[Tree] = []
        for name, value in pairs:
            item: Tree = {}
            put_name(item, name)
            put_value(item, value)
            made.append(item)
        return made

    return items


# --- theirs to ours ------------------------------------------------------------------------------------------------


def _hear(entries: Entries, places: tuple[Place, Place], name: str, notation: Notation) -> Move:
    get, put = getter(places[0]), putter(places[1])
    read = _reader(entries, notation)

    def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
        raw = get(source)
        if raw is None or (entries.how == "json" and raw == ""):
            return
        if raw is BROKEN:
            problems.append(FieldProblem(at + name, "lies inside something that is no object", "type"))
            return
        found: Tree = {}
        put(target, found)
        for key, value, number in read(raw, at + name, problems):
            if key.__class__ is str and value.__class__ is str and key not in found and _usual(key, value):
                found[key] = value
            else:
                _take(key, value, _place(at + name, number, notation), found, problems)

    return move


def _usual(key: str, value: str) -> bool:
    return key.isprintable() and value.isprintable() and len(key) <= MAX_TEXT and len(value) <= MAX_TEXT


def _place(place: str, number: int | str, notation: Notation) -> str:
    """Name one entry: an item by its number, a member by its name."""
    if isinstance(number, int):
        return f"{place}[{number + notation.first}]"
    return f"{place}.{number[:_NAME_IN_MESSAGE]}"


def _take(key: Any, value: Any, place: str, found: Tree, problems: Problems) -> None:
    try:
        key, value = text(key), text(value)
    except Wrong as wrong:
        note(problems, place, wrong)
        return
    if key in found:
        problems.append(FieldProblem(place, "has a name that was given before", "repeated"))
    found[key] = value


Triples = Iterator[tuple[Any, Any, int | str]]


def _reader(entries: Entries, notation: Notation) -> Callable[[Any, str, Problems], Triples]:
    """Return the function that gives name, text, and number or name of each entry."""
    if entries.how == "json":
        return lambda raw, place, problems: _of_object(_parsed(raw, place, problems), place, problems)
    if entries.how == "object":
        return _of_object
    one = _pair if entries.how == "pairs" else _object_reader(entries)

    def items(raw: Any, place: str, problems: Problems) -> Triples:
        if not is_short_list(raw, place, problems):
            return
        for number, item in enumerate(raw):
            try:
                name, value = one(item)
            except Wrong as wrong:
                note(problems, _place(place, number, notation), wrong)
            else:
                yield name, value, number

    return items


def _pair(item: Any) -> tuple[Any, Any]:
    name, equals, value = text(item).partition("=")
    if not equals:
        raise Wrong('is not "name=text"')
    return name, value


def _object_reader(entries: Entries) -> Callable[[Any], tuple[Any, Any]]:
    get_name, get_value = getter(entries.name), getter(entries.value)

    def one(item: Any) -> tuple[Any, Any]:
        if item.__class__ is not dict:
            raise Wrong("is no object", "type")
        return get_name(item), get_value(item)

    return one


def _of_object(raw: Any, place: str, problems: Problems) -> Triples:
    if _is_object(raw, place, problems):
        for name, value in raw.items():
            yield name, value, str(name)


def _parsed(raw: Any, place: str, problems: Problems) -> Any:
    try:
        return orjson.loads(text(raw))
    except Wrong as wrong:
        note(problems, place, wrong)
    except orjson.JSONDecodeError:
        problems.append(FieldProblem(place, "holds no JSON", "syntax"))
    return {}


def _is_object(found: Any, place: str, problems: Problems) -> bool:
    if found.__class__ is not dict:
        problems.append(FieldProblem(place, "is no object", "type"))
        return False
    if len(found) > MAX_ITEMS:
        problems.append(FieldProblem(place, f"has more than {MAX_ITEMS} entries", "too_long"))
        return False
    return True
