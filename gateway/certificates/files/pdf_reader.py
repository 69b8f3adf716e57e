"""pyHanko's reader with an end: how often objects may be asked for while one file is looked at.

Owns: the count. A file of a kilobyte can be a net of objects through which there are more ways than anybody can walk
(fields whose children are one field twice, thirty times over); pyHanko walks them all. Every step of such a walk asks
for an object, also one that is known, and so the walk ends here.
"""

from __future__ import annotations

from typing import Any

from pyhanko.pdf_utils.reader import HistoricalResolver, PdfFileReader

MAX_LOOKS = 20_000
"""How often an object may be asked for. A certificate of one page needs six looks, each further seal some fifty."""


class TooManyLooks(Exception):
    """The file is a net, and no document."""


class _Count:
    def __init__(self) -> None:
        self._left = MAX_LOOKS

    def one(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise TooManyLooks


class BoundedReader(PdfFileReader):
    """Reads a file, and says TooManyLooks instead of going on for ever."""

    def __init__(self, stream: Any) -> None:
        self.count = _Count()
        super().__init__(stream, strict=True)

    def get_object(self, *args: Any, **kwargs: Any) -> Any:
        """Return an object, and count."""
        self.count.one()
        return super().get_object(*args, **kwargs)  # type: ignore[no-untyped-call]  # pyHanko gives it no types

    def get_historical_resolver(self, revision: int) -> HistoricalResolver:
        """Return an earlier revision of the file, which counts with it."""
        known = self._historical_resolver_cache.get(revision)
        if known is None:
            known = self._historical_resolver_cache[revision] = _BoundedHistory(self, revision)
        return known


class _BoundedHistory(HistoricalResolver):
    """An earlier revision. It has a cache of its own, in front of which the looks are counted."""

    reader: BoundedReader

    def get_object(self, *args: Any, **kwargs: Any) -> Any:
        self.reader.count.one()
        return super().get_object(*args, **kwargs)
