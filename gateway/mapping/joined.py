"""A list of ours that is text on their side: "身份证;;户口簿".

Owns: joining the members of a list into one text for each, side by side, and taking them apart, so that both ways undo
each other. Leaves to the compiler: the moves of one item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from gateway.errors import FieldProblem
from gateway.mapping.converters import Wrong, text
from gateway.mapping.limits import MAX_ITEMS
from gateway.mapping.moves import Move, Problems, note
from gateway.mapping.paths import ITSELF, Get, Place, Put, Tree, getter, putter


class Column(NamedTuple):
    """Where the values of one member stand, joined; items are numbered objects whose n-th key is the n-th column."""

    place: Place
    separator: str
    label: str


class Walk(Protocol):
    """Walks our list and returns one object for every item."""

    @property
    def name(self) -> str:
        """The written name of the list."""
        ...

    def each(self, items: Any, at: str, moves: Sequence[Move], problems: Problems) -> list[Tree] | None:
        """Return what the moves make of every item; None when there is no list."""
        ...


def say_joined(
    get: Get, columns: Sequence[Column], moves: Sequence[Move], walk: Walk, said: Callable[[Any], Any]
) -> Move:
    """Return the move that joins. An empty list says nothing."""
    puts = [putter(column.place) for column in columns]

    def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
        items = get(source)
        made = walk.each(items, at, moves, problems) if items is not None else None
        if not made:
            return
        if not all(made):
            problems.append(FieldProblem(at + walk.name, "has an item without anything to join", "required"))
            return
        for number, (column, put) in enumerate(zip(columns, puts, strict=True)):
            try:
                values = [item.get(str(number), "") for item in made]
                if any(values):
                    put(target, said(_join(values, column)))
            except Wrong as wrong:
                note(problems, at + walk.name, wrong)

    return move


def _join(values: Sequence[str], column: Column) -> str:
    joined = column.separator.join(values)
    if joined.split(column.separator) != list(values):  # also "a;" before ";;": the cut would fall one mark too early
        raise Wrong(f'holds an item with "{column.separator}", which separates the items of {column.label}')
    return joined


def hear_joined(
    put: Put, columns: Sequence[Column], moves: Sequence[Move], absent: Sequence[str], *, plain: bool, required: bool
) -> Move:
    """Return the move that takes apart. Columns that are given must have as many items as each other.

    `absent` are the texts that mean "nothing given".
    """
    gets = [getter(column.place) for column in columns]

    def move(source: Tree, target: Tree, at: str, problems: Problems) -> None:
        try:
            split = [_split(get(source), column, absent, at) for get, column in zip(gets, columns, strict=True)]
        except _Misfit as misfit:
            note(problems, misfit.place, misfit)
            return
        counts = {len(values) for values in split if values}
        if not counts and not required:
            return
        if len(counts) > 1:
            names = ", ".join(column.label for column in columns)
            problems.append(FieldProblem(at + columns[0].label, f"{names} have different numbers of items"))
            return
        put(target, _items(split, max(counts, default=0), columns, moves, at, problems, plain=plain))

    return move


class _Misfit(Wrong):
    """A joined text that cannot be taken apart, with its place."""

    def __init__(self, place: str, wrong: Wrong) -> None:
        super().__init__(wrong.reason, wrong.code)
        self.place = place


def _split(value: Any, column: Column, absent: Sequence[str], at: str) -> list[str]:
    if value is None or value in absent:
        return []
    try:
        items = text(value).split(column.separator)
    except Wrong as wrong:
        raise _Misfit(at + column.label, wrong) from None
    if len(items) > MAX_ITEMS:
        raise _Misfit(at + column.label, Wrong(f"has more than {MAX_ITEMS} items", "too_long"))
    return items


def _items(
    split: Sequence[list[str]], count: int, columns: Sequence[Column], moves: Sequence[Move], at: str,
    problems: Problems, *, plain: bool,
) -> list[Any]:  # fmt: skip
    """Return the items of ours that the columns make, numbered in messages by their place in the text."""
    made: list[Any] = []
    for number in range(count):
        source = {str(key): values[number] for key, values in enumerate(split) if values}
        target: Tree = {}
        own: Problems = []
        for move in moves:
            move(source, target, "", own)
        problems.extend(_named(problem, number, columns, at) for problem in own)
        made.append(target.get(ITSELF) if plain else target)
    return made


def _named(problem: FieldProblem, number: int, columns: Sequence[Column], at: str) -> FieldProblem:
    """Name a problem by its column and the number of the item, counted from 1 as people do in a text."""
    key = problem.field
    column = columns[int(key)].label if key.isdigit() else key
    return FieldProblem(f"{at}{column} item {number + 1}", problem.reason, problem.code)
