"""The languages that people are spoken to in, and the nearest one where a wish cannot be met exactly.

Owns: the four language tags (BCP 47) and the order in which one stands in for another. Leaves the texts to others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

LANGUAGES: Final[Sequence[str]] = ("zh-CN", "zh-HK", "en", "pt")
"""Simplified Chinese, Traditional Chinese as Hong Kong writes it, English, Portuguese as Macau writes it."""

_TRADITIONAL = frozenset({"hant", "hk", "mo", "tw"})
_STAND_INS: Mapping[str, Sequence[str]] = {
    "zh-CN": ("zh-CN", "zh-HK", "en", "pt"),
    "zh-HK": ("zh-HK", "zh-CN", "en", "pt"),
    "en": ("en", "zh-CN", "zh-HK", "pt"),
    "pt": ("pt", "en", "zh-CN", "zh-HK"),
}


def nearest(tag: str) -> str | None:
    """Return the language that serves whoever wishes for this tag, None when none does.

    Chinese of Hong Kong, Macau and Taiwan, or marked Hant, is written in traditional characters, all other Chinese in
    simplified ones; a script that is named (Hans) outweighs the place.
    """
    primary, *subtags = tag.lower().split("-")
    if primary != "zh":
        return primary if primary in LANGUAGES else None
    traditional = "hans" not in subtags and not _TRADITIONAL.isdisjoint(subtags)
    return "zh-HK" if traditional else "zh-CN"


def said_in(texts: Mapping[str, str], language: str) -> tuple[str, str]:
    """Return the language of the text that comes nearest to a wish, and the text; two empty strings without texts.

    A person must be told, in whatever words there are; which words they are must be said to a screen reader.
    """
    order = (*_STAND_INS.get(nearest(language) or "", LANGUAGES), *sorted(texts))
    return next(((tag, texts[tag]) for tag in order if tag in texts), ("", ""))
