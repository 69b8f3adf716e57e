"""Character sets of regions: which characters they hold, and as which bytes.

Owns: `Charset` (encode, decode, check) for UTF-8, Big5, Big5-HKSCS and GB 18030 by edition, and finding one by name.
Leaves to the forms: what the bytes carry; to the rules engine: checking each text that it says.

GB 18030 changed twice. Codes that stood for private-use characters got the real ones, which until then had codes of
four bytes, and the two changed places: U+1E3F in 2005, eighteen more in 2022 (ten vertical forms, U+FE10 to U+FE19,
and eight ideographs, U+9FB4 to U+9FBB). Python's codec is the edition of 2000. The pairs are those of the Unicode
Technical Committee's L2/23-003R and of glibc's charmap (bug 30243). Where the edition is not known all of them are
refused, in both directions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.mapping.converters import Wrong
from gateway.mapping.source import closest

UTF8: Final = "utf-8"

_IN_2005: Final = ("\u1e3f", "\ue7c7")
"""The characters that changed places: real ones, and the private-use one for each, in the same order."""

_IN_2022: Final = (
    "\ufe10\ufe11\ufe12\ufe13\ufe14\ufe15\ufe16\ufe17\ufe18\ufe19\u9fb4\u9fb5\u9fb6\u9fb7\u9fb8\u9fb9\u9fba\u9fbb",
    "\ue78d\ue78f\ue78e\ue790\ue791\ue792\ue793\ue794\ue795\ue796\ue81e\ue826\ue82b\ue82c\ue832\ue843\ue854\ue864",
)

_UNSURE: Final = "differs between its editions"


@dataclass(frozen=True, slots=True)
class Charset:
    """One character set.

    `codec` is Python's name of it, or of the one that it nearly is. `odd` finds the characters that are not as the
    codec has them: `moved` says which of them stand in each other's place; without it nobody knows, and they are
    refused. A character is held only if its bytes give it back.
    """

    name: str
    codec: str
    odd: re.Pattern[str] | None = None
    moved: Mapping[int, int] = field(default_factory=dict)

    def encode(self, text: str) -> bytes:
        """Return the bytes of a text. Raises Wrong that names the first character that cannot be written."""
        raw, lacking = self._written(text)
        if lacking:
            why = f": it {_UNSURE}" if self._unsure(lacking) else ""
            raise Wrong(f"holds U+{ord(lacking):04X}, which {self.name} cannot write{why}", "charset")
        return raw

    def decode(self, raw: bytes) -> str:
        """Return the text of bytes. Raises Wrong with the place, counted in bytes from 0, where they are none."""
        try:
            text = raw.decode(self.codec)
        except UnicodeDecodeError as error:
            raise Wrong(f"is no {self.name} text (byte {error.start})", "charset") from None
        doubt = self._unsure(text)
        if doubt:
            offset = len(text[: doubt.start()].encode(self.codec))
            raise Wrong(f"holds a code of {self.name} (byte {offset}) that {_UNSURE}", "charset")
        return self._swapped(text)

    def check(self, text: str) -> None:
        """Raise Wrong that names the first character of a text that this character set cannot hold."""
        if not (text.isascii() or self.name == UTF8):
            self.encode(text)

    def lacks(self, text: str) -> str:
        """Return the first character of a text that this character set cannot hold, or nothing."""
        return self._written(text)[1]

    def _written(self, text: str) -> tuple[bytes, str]:
        """The bytes of a text, or the first character that is not held."""
        doubt = self._unsure(text)
        sure = self._swapped(text[: doubt.start()] if doubt else text)
        try:
            raw = sure.encode(self.codec)
        except UnicodeEncodeError as error:
            return b"", text[error.start]
        back = raw.decode(self.codec)
        if back != sure:
            pairs = zip(text, sure, back, strict=False)
            return b"", next((char for char, said, heard in pairs if said != heard), text[-1])
        return raw, doubt[0] if doubt else ""

    def _swapped(self, text: str) -> str:
        return text.translate(self.moved) if self.moved and self.odd and self.odd.search(text) else text

    def _unsure(self, text: str) -> re.Match[str] | None:
        return self.odd.search(text) if self.odd and not self.moved else None


def charset_named(name: str) -> Charset:
    """Return a character set by its name in rule files. Raises Wrong with the nearest name that is known."""
    found = _KNOWN.get(name)
    if found is None:
        raise Wrong(f'charset = "{name}" is not known{closest(name, _KNOWN)}')
    return found


def _changed(*editions: tuple[str, str]) -> dict[int, int]:
    """What `str.translate` needs to let the characters of some editions change places."""
    real, private = ("".join(chars) for chars in zip(*editions, strict=True))
    return str.maketrans(real + private, private + real)


def _all() -> Iterator[Charset]:
    first, both = _changed(_IN_2005), _changed(_IN_2005, _IN_2022)
    odd = re.compile(f"[{''.join(map(chr, both))}]")
    yield Charset(UTF8, "utf-8")
    yield Charset("gb18030", "gb18030", odd)
    yield Charset("gb18030-2005", "gb18030", odd, first)
    yield Charset("gb18030-2022", "gb18030", odd, both)
    yield Charset("big5", "big5")
    yield Charset("big5-hkscs", "big5hkscs")


_KNOWN: Final = {charset.name: charset for charset in _all()}

CHARSETS: Final = tuple(_KNOWN)
"""The names that a rule file may give."""
