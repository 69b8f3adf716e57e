"""Simplified and traditional Chinese, by OpenCC.

Owns: which dictionaries serve which script. Leaves to `gateway.mapping.rules`: that another rule carries the original,
because no conversion brings it back (乾 and 干, 余 and 餘 fall together).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from opencc import OpenCC

from gateway.mapping.values import Converter, Losses, text, unknown_name
from gateway.mapping.vocabulary import DIRECTIONS

_DICTIONARIES: Final = {"hans": "t2s", "hant": "s2t", "hant-hk": "s2hk"}
_SCRIPT: Final[Losses] = frozenset((direction, "script") for direction in DIRECTIONS)

NAMES: Final = tuple(f"script:{name}" for name in _DICTIONARIES)


class _Dictionary:
    """One direction of conversion. Loaded (some hundredths of a second) for the first text, after each time of rest."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loaded: OpenCC | None = None

    def convert(self, value: str) -> str:
        """Return a text in the other script."""
        if self._loaded is None:
            # Without the "tofu risk" dictionaries: the table of 2013 (通用规范汉字表) simplifies by analogy within
            # itself only, and most fonts lack what they would make of the rest.
            self._loaded = OpenCC(self._name, include_tofu_risk_dictionaries=False)
        return str(self._loaded.convert(value))

    def rest(self) -> None:
        """Let go of the memory until the next text."""
        self._loaded = None


_dictionary = cache(_Dictionary)
"""The dictionaries are constant: the packs of all regions share them."""


def rest() -> None:
    """Let go of all dictionaries: those of traditional Chinese hold 40 MB, and only a case for Macau needs them."""
    for name in _DICTIONARIES.values():
        _dictionary(name).rest()


def of_script(name: str) -> Converter:
    """Return the converter that stands after `script:`.

    It reads as it writes, for a second conversion changes little.
    """
    if name not in _DICTIONARIES:
        raise unknown_name()
    dictionary = _dictionary(_DICTIONARIES[name])

    def convert(value: Any) -> str:
        return text(dictionary.convert(text(value)))

    return Converter(convert, convert, loses=_SCRIPT)
