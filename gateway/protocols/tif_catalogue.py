"""The TIF profile: the items (政务服务事项) that the authority handles, page by page.

Owns: walking the pages, and refusing a list that does not hold what it announces. Leaves to `tif`: signatures and what
a status means; to mapping packs: an item. The address is our reading (adapters/guangdong/README.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.ports import RegionDocument
from gateway.protocols.tif import TifClient

ITEMS_A_PAGE = 100
"""How many items are asked for at once."""

MAX_ITEMS = 50_000
"""How many items a list may announce; a longer one counts as unreadable."""


class TifCatalogue:
    """The list of items under one address."""

    def __init__(self, client: TifClient, path: str) -> None:
        self._client = client
        self._path = path

    async def items(self) -> Sequence[RegionDocument]:
        """Return every item, from as many pages as it takes. Raises RegionError.

        Half a list would look as if the other items were gone: a page that cannot be read, is missing or announces
        another total than the first one makes the whole unreadable.
        """
        found, total = await self._page(1)
        number = 1
        while len(found) < total:
            number += 1
            more, said = await self._page(number)
            if said != total or not more:
                raise self._client.wire.uncertain("sent a list of items that does not fit together", f"page {number}")
            found += more
        if len(found) != total:
            raise self._client.wire.uncertain("sent a list of items that does not fit together", "total")
        return found

    async def _page(self, number: int) -> tuple[list[RegionDocument], int]:
        query = {"pageNo": str(number), "pageSize": str(ITEMS_A_PAGE)}
        data = self._client.data(await self._client.call("GET", self._path, query=query))
        total, rows = _count(data.get("total")), data.get("rows")
        if total is None or not isinstance(rows, list) or any(not isinstance(row, dict) for row in rows):
            raise self._client.wire.uncertain("sent a list of items that cannot be read", f"page {number}")
        return rows, total


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_ITEMS else None
