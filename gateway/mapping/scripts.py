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


def of_script(name: str) -> Converter:
    """Return the converter that stands after `script:`. It reads as it writes, for a second conversion changes little.

    The dictionaries are loaded when a rule first asks for them.
    """
    if name not in _DICTIONARIES:
        raise unknown_name()
    opencc = _opencc(_DICTIONARIES[name])

    def convert(value: Any) -> str:
        return text(opencc.convert(text(value)))

    return Converter(convert, convert, loses=_SCRIPT)


@cache  # the dictionaries are constant and take milliseconds to load: the packs of all regions share them
def _opencc(dictionary: str) -> OpenCC:
    # Without the "tofu risk" dictionaries: the table of 2013 (通用规范汉字表) simplifies by analogy within itself only,
    # and most fonts lack what they would make of the rest.
    return OpenCC(dictionary, include_tofu_risk_dictionaries=False)
