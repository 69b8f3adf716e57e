"""Neighbouring single values of one object, moved in one go.

Owns: the hot path. Lines that read from the same object and write into the same object need not walk there each, and
most values are plain texts, which need no call. What is special about a line (conditions, alternatives, views, lists)
stays with the compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.mapping.converters import TEXT, Convert, Wrong
from gateway.mapping.limits import MAX_TEXT
from gateway.mapping.moves import Move, Problems, note
from gateway.mapping.paths import Place, Tree, getter, putter


def reserved_text() -> Wrong:
    """Return what to raise for a value that the region would not read as a value."""
    return Wrong("is what means that nothing was given in this format", "reserved")


class Single(NamedTuple):
    """One line of a block: the key that it reads, the key that it writes, the conversion, and its name in messages."""

    key: str
    out: str
    convert: Convert
    name: str


class Silent(NamedTuple):
    """Texts that mean "nothing given": those of the source are passed over, those of the target are refused."""

    absent: frozenset[str]
    reserved: frozenset[str]


def block(lines: Sequence[Single], ends: tuple[Place, Place], silent: Silent, apart: Sequence[Move]) -> Move:
    """Return the move of lines that read from one object and write into one; `ends` are the places of the two.

    `apart` are the same lines as moves of their own, for a source that has no object there.
    """
    source, target = ends
    steps = [(line.key, line.out, None if line.convert is TEXT.say else line.convert, line.name) for line in lines]
    fill = _filler(steps, silent)
    around = getter(source) if source else None
    get_target, put_target = (getter(target), putter(target)) if target else (None, None)

    def move(tree: Tree, made: Tree, at: str, problems: Problems) -> None:
        node = around(tree) if around else tree
        if node is None:
            return
        if node.__class__ is not dict:
            for one in apart:
                one(tree, made, at, problems)
            return
        if get_target is None or put_target is None:
            fill(node, made, at, problems)
            return
        into = get_target(made)
        if into is not None:
            fill(node, into, at, problems)
            return
        into = {}
        fill(node, into, at, problems)
        if into:
            put_target(made, into)

    return move


def _filler(steps: Sequence[tuple[str, str, Convert | None, str]], silent: Silent) -> Move:
    absent, reserved = silent
    special = absent | reserved

    def fill(node: Tree, into: Tree, at: str, problems: Problems) -> None:
        get = node.get
        for key, out, convert, name in steps:
            value = get(key)
            if value is None:
                continue
            if value.__class__ is str:
                if value in special:
                    if value in absent:
                        continue
                elif convert is None and len(value) <= MAX_TEXT and value.isprintable():
                    into[out] = value
                    continue
            try:
                converted = (convert or TEXT.say)(value)
                if reserved and converted in reserved:
                    raise reserved_text()
                into[out] = converted
            except Wrong as wrong:
                note(problems, at + name, wrong)

    return fill
