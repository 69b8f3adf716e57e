"""Tables at a terminal, aligned also where characters are two columns wide.

Owns: the width of a text on a terminal, and laying rows out. Leaves to the commands: what the cells say.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final

GAP: Final = "  "
NARROWEST: Final = 10
"""Columns of the terminal that a cell is not squeezed below."""

_NO_WIDTH: Final = frozenset({"Mn", "Me", "Cf"})
_WIDE: Final = frozenset({"W", "F"})


def width(text: str) -> int:
    """Return how many columns a text takes: 2 for wide characters (UAX #11), none for marks that combine."""
    return sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in _NO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], room: int | None = None) -> str:
    """Lay rows out under their headings. With `room`, cells are broken so that lines fit into so many columns."""
    cells = [list(headings), *(list(row) for row in rows)]
    widths = [max(width(row[number]) for row in cells) for number in range(len(headings))]
    if room is not None:
        widths = _squeezed(widths, room - len(GAP) * (len(widths) - 1))
    lines = [line for row in cells for line in _lines(row, widths)]
    height = sum(1 for _ in _lines(cells[0], widths))
    rule = GAP.join("─" * wide for wide in widths)
    return "\n".join([*lines[:height], rule, *lines[height:]])


def _squeezed(widths: Sequence[int], room: int) -> list[int]:
    """Take columns off the widest until the rest fits; nothing becomes narrower than NARROWEST."""
    squeezed = list(widths)
    while sum(squeezed) > room and max(squeezed) > NARROWEST:
        squeezed[squeezed.index(max(squeezed))] -= 1
    return squeezed


def _lines(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    broken = [list(broken_at(cell, wide)) for cell, wide in zip(row, widths, strict=True)]
    for parts in zip_longest(*broken, fillvalue=""):
        yield GAP.join(part + " " * (wide - width(part)) for part, wide in zip(parts, widths, strict=True)).rstrip()


def broken_at(text: str, wide: int) -> Iterator[str]:
    """Yield a text in lines of so many columns, broken after a blank or a slash where there is one."""
    line = ""
    for word in _words(text):
        if line and width(line) + width(word.rstrip()) > wide:
            yield line.rstrip()
            line = ""
        line += word
        while width(line.rstrip()) > wide:
            head = _head(line, wide)
            yield head
            line = line[len(head) :]
    yield line.rstrip()


def _words(text: str) -> Iterator[str]:
    """Yield the pieces that a line may end after: words, parts of paths, single wide characters."""
    word = ""
    for character in text:
        word += character
        if character in " /." or _width(character) == 2:
            yield word
            word = ""
    if word:
        yield word


def _head(text: str, wide: int) -> str:
    """Return as much of a text as fits, one character at least."""
    end = 1
    while end < len(text) and width(text[: end + 1]) <= wide:
        end += 1
    return text[:end]
