"""Letters of a PDF that is written by hand: a Type 3 font of the outlines that it needs (ISO 32000-2 §9.6.4).

Owns: outlines from Noto Sans CJK SC (SIL Open Font License 1.1), so that a certificate of the sandbox can be read where
no Chinese font is installed. Opening the font takes 0.2 s; what was drawn is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fontTools.pens.recordingPen import DecomposingRecordingPen
from fontTools.ttLib import TTFont
from noto_cjk_sans_otc import FONT_PATH

MOST = 255
"""Different letters that one certificate may have."""
_SIMPLIFIED = 2
_OPERATORS = {"moveTo": "m", "lineTo": "l", "curveTo": "c", "closePath": "h", "endPath": ""}


@dataclass(frozen=True)
class Letter:
    """One character, how wide it is in thousandths of an em, and what draws it."""

    character: str
    width: int
    outline: str

    @property
    def procedure(self) -> str:
        """Return the glyph description."""
        return f"{self.width} 0 -500 -500 2000 1500 d1 {self.outline} f"


class Letters:
    """Draws letters, each once."""

    def __init__(self) -> None:
        self._known: dict[str, Letter] = {}

    def of(self, lines: Sequence[str]) -> list[Letter]:
        """Return the letters of some lines, each once, in order. Raises ValueError for too many."""
        wanted = sorted(set("".join(lines)))
        if len(wanted) > MOST:
            raise ValueError(f"a certificate of the sandbox has at most {MOST} different letters")
        missing = [character for character in wanted if character not in self._known]
        if missing:
            with TTFont(str(FONT_PATH), fontNumber=_SIMPLIFIED, lazy=True) as font:
                names, shapes = font.getBestCmap(), font.getGlyphSet()
                for character in missing:
                    self._known[character] = _drawn(character, shapes, names.get(ord(character), ".notdef"))
        return [self._known[character] for character in wanted]


def _drawn(character: str, shapes: Any, name: str) -> Letter:
    pen = DecomposingRecordingPen(shapes)
    shapes[name].draw(pen)
    steps = (" ".join([*(f"{x:g} {y:g}" for x, y in points), _OPERATORS[operation]]) for operation, points in pen.value)
    return Letter(character, round(shapes[name].width), " ".join(steps))
