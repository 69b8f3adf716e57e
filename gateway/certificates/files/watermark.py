"""What is written on a copy that is made for one use (加注件), and where on the page.

Owns: the words, and their places in a page of any size. Leaves to `copy_pdf` and `copy_ofd`: writing them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.certificates.files.registry import CHINA

ACROSS, BELOW = 20, 56
"""Widths of Chinese characters after which a line across the page, and one at its foot, is broken."""
LINES_ACROSS = 2
ANGLE = 30
"""Degrees by which the lines across the page rise."""


@dataclass(frozen=True, slots=True)
class Use:
    """The one use that a copy is made for: why, for whom, in which case, by whom, when, and until when."""

    purpose: str
    organisation: str
    case: str
    maker: str
    made_at: datetime
    expires_at: datetime

    def metadata(self, original: str) -> dict[str, str]:
        """Return the elements of GB/T 36903 for copies, and the SHA-256 of the original."""
        return {
            "certificate_copy_creation_time": self.made_at.astimezone(CHINA).isoformat(timespec="seconds"),
            "certificate_copy_creator": plain(self.maker),
            "certificate_copy_cause": plain(f"{self.purpose}（{self.organisation}，{self.case}）"),
            "certificate_copy_expiring_time": self.expires_at.astimezone(CHINA).isoformat(timespec="seconds"),
            "certificate_copy_original_sha256": original,
        }

    def across(self) -> Sequence[str]:
        """Return what stands across the page: two lines each of whom it is for and why. The foot has all of it."""
        texts = (plain(f"仅供{self.organisation}"), plain(f"办理{self.purpose}使用"))
        return [line for text in texts for line in _cut(_broken(text, ACROSS))]

    def below(self, original: str) -> Sequence[str]:
        """Return what stands at the foot of the page."""
        texts = (
            f"加注件（副本），不具原件效力。仅供{self.organisation}办理“{self.purpose}”使用，他用无效。",
            f"案件 {self.case}，制作者 {self.maker}",
            f"制作时间 {_minute(self.made_at)}，有效期截止 {_minute(self.expires_at)}",
            f"原件 SHA-256 {original}",
        )
        return [line for text in texts for line in _broken(plain(text), BELOW)]


@dataclass(frozen=True, slots=True)
class Mark:
    """One line: its text, where its baseline begins (from the left and from the top), its size, and how it rises."""

    text: str
    x: float
    y: float
    size: float
    angle: int


def marks(use: Use, original: str, width: float, height: float) -> list[Mark]:
    """Return all lines for a page, in the unit of its measures."""
    return [*_across(use.across(), width, height), *_below(use.below(original), width, height)]


def _across(lines: Sequence[str], width: float, height: float) -> Iterator[Mark]:
    size = width * 0.8 / ACROSS
    for third in (1, 3, 5):
        for number, line in enumerate(lines):
            long = ems(line) * size
            x, y = (
                (width - long * 0.866) / 2 + number * size * 0.75,
                height * 0.9 * third / 6 + long / 4 + number * size * 1.3,
            )
            yield Mark(line, x, y, size, ANGLE)


def _below(lines: Sequence[str], width: float, height: float) -> Iterator[Mark]:
    size = width * 0.9 / BELOW
    begin = height - size * 1.5 * len(lines)
    for number, line in enumerate(lines):
        yield Mark(line, width * 0.05, begin + size * 1.5 * number, size, 0)


def ems(text: str) -> float:
    """Return how wide a text is in widths of a Chinese character."""
    return sum(map(em, text))


def em(character: str) -> float:
    """Return the width of one character."""
    return 1.0 if unicodedata.east_asian_width(character) in "WFA" else 0.5


def plain(text: str) -> str:
    """Return a text that fits on a line and into XML, without what cannot be seen."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _broken(text: str, limit: int) -> list[str]:
    lines, line = [], ""
    for character in text:
        if ems(line) + em(character) > limit:
            lines.append(line)
            line = ""
        line += character
    return [*lines, line]


def _cut(lines: Sequence[str]) -> Sequence[str]:
    return lines if len(lines) <= LINES_ACROSS else [*lines[: LINES_ACROSS - 1], lines[LINES_ACROSS - 1][:-1] + "…"]


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(CHINA):%Y-%m-%d %H:%M}"
