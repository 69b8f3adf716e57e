"""Chinese letters as outlines, for what must be seen wherever a copy is opened.

Owns: outlines of the characters that were asked for, from Noto Sans CJK SC (SIL Open Font License 1.1). Opening the
font takes 0.2 s and some 60 MB for that long, so outlines are kept and the font is not. A character that the font does
not have is its box for missing ones.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fontTools.pens.basePen import BasePen
from fontTools.ttLib import TTFont
from noto_cjk_sans_otc import FONT_PATH

SIMPLIFIED = 2
"""The number of Noto Sans CJK SC in the collection."""
KEPT = 4096
"""Outlines that are kept, some 500 bytes each: more than the texts of a day need."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Glyph:
    """An outline in the operators of PDF (ISO 32000-2 §8.5), a thousand units to the em, and how wide it is."""

    outline: str
    width: int


class Glyphs:
    """Hands out outlines. Safe to be asked by several threads."""

    def __init__(self) -> None:
        self._known: dict[str, Glyph] = {}
        self._lock = threading.Lock()

    def of(self, characters: Iterable[str]) -> Mapping[str, Glyph]:
        """Return the outline of every character."""
        wanted = set(characters)
        with self._lock:
            missing = wanted - self._known.keys()
            if missing:
                if len(self._known) + len(missing) > KEPT:
                    self._known.clear()
                    missing = wanted
                self._known.update(_drawn(missing))
            return {character: self._known[character] for character in wanted}


def _drawn(characters: Iterable[str]) -> dict[str, Glyph]:
    with TTFont(str(FONT_PATH), fontNumber=SIMPLIFIED, lazy=True) as font:
        names, shapes = font.getBestCmap(), font.getGlyphSet()
        found = {}
        for character in characters:
            name = names.get(ord(character), ".notdef")
            pen = _Pen(shapes)
            shapes[name].draw(pen)
            found[character] = Glyph(" ".join(pen.operators), round(shapes[name].width))
        return found


class _Pen(BasePen):  # type: ignore[misc]  # fontTools ships no types
    """Writes down what it draws."""

    def __init__(self, shapes: Any) -> None:
        super().__init__(shapes)
        self.operators: list[str] = []

    def _moveTo(self, pt: Point) -> None:  # noqa: N802 - the name is fontTools'
        self.operators.append(f"{pt[0]:g} {pt[1]:g} m")

    def _lineTo(self, pt: Point) -> None:  # noqa: N802 - as above
        self.operators.append(f"{pt[0]:g} {pt[1]:g} l")

    def _curveToOne(self, pt1: Point, pt2: Point, pt3: Point) -> None:  # noqa: N802 - as above
        numbers = " ".join(f"{number:g}" for number in (*pt1, *pt2, *pt3))
        self.operators.append(f"{numbers} c")

    def _closePath(self) -> None:  # noqa: N802 - as above
        self.operators.append("h")
