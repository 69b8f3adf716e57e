"""What every conversion of a single value is made of: `Converter`, `Wrong`, and the text that any format can carry.

Owns: refusing text that not every format carries. Leaves to `gateway.mapping.dates`, `amounts`, `codes` and `scripts`:
the conversions; to `gateway.mapping.converters`: choosing among them. Every failure is a `Wrong` whose reason never
holds the value, because reasons reach callers and logs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.mapping.limits import MAX_TEXT

_CARRIED: Final = re.compile("[\t\n\r\x20-\ud7ff\uf900-\ufffd\U00010000-\U000effff]*")
"""What XML 1.0 §2.2 can carry, without private use; the same in every format, so that all carry the same.

Private-use characters (U+E000-U+F8FF, planes 15 and 16) are known to the sender's own font alone: elsewhere a name
with one has a hole or is another name.
"""

_SPACE: Final = " \t\r\n"
"""What XML Schema calls white space: around a number or a boolean it says nothing."""


class Wrong(Exception):
    """A value cannot be converted. The reason never repeats the value."""

    def __init__(self, reason: str, code: str = "invalid") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


Convert = Callable[[Any], Any]
Losses = frozenset[tuple[str, str]]
"""Parts of a value that do not survive, each as (direction, part)."""


@dataclass(frozen=True, slots=True)
class Converter:
    """One conversion and its inverse. Both raise Wrong.

    `writes` is the JSON kind of what `say` returns: string, integer, number, boolean. `loses` names the parts of a
    value that do not survive, each with the direction in which it is lost.
    """

    say: Convert
    hear: Convert
    writes: str = "string"
    loses: Losses = frozenset()


def text(value: Any) -> str:
    """Return a text as it is, or raise Wrong for anything that not every format can carry."""
    # Nearly every text is printable, which is quick to see and leaves nothing to refuse.
    if value.__class__ is str and len(value) <= MAX_TEXT and value.isprintable():
        return value
    return _judged(value)


def _judged(value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong("is not text", "type")
    if len(value) > MAX_TEXT:
        raise Wrong(f"is longer than {MAX_TEXT} characters", "too_long")
    if _CARRIED.fullmatch(value):
        return value
    if any(map(_is_private, value)):
        raise Wrong("holds a private-use character, which only the sender's own font knows", "private_use")
    raise Wrong("holds a character that cannot be carried (control character or half of a pair)")


def _is_private(character: str) -> bool:
    return "\ue000" <= character <= "\uf8ff" or character >= "\U000f0000"


def trimmed(value: Any) -> str:
    """Return a text without the white space around it, for what is written in characters but is no text."""
    return text(value).strip(_SPACE)


def are_digits(written: str) -> bool:
    """Return whether a text is made of ASCII digits alone, and of one at least."""
    return written.isascii() and written.isdigit()


def digits(value: Any, count: int, shape: str) -> str:
    """Return a text of exactly `count` digits as it is; `shape` says in the reason what was wanted."""
    written = text(value)
    if not (len(written) == count and are_digits(written)):
        raise Wrong(f"is not written {shape}")
    return written


TEXT: Final = Converter(text, text)


def chosen(name: str, among: Mapping[str, Converter]) -> Converter:
    """Return the converter of that name, or raise Wrong as for a name that nobody knows."""
    if name not in among:
        raise unknown_name()
    return among[name]


def unknown_name() -> Wrong:
    """Return what to raise when a rule names a conversion that does not exist."""
    return Wrong("unknown", "unknown_converter")
