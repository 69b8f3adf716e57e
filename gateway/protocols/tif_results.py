"""The TIF profile: the documents that came out of a case (办理结果), listed and fetched.

Owns: their two addresses. Leaves to `tif`: signatures and what a status means; to the core: size, digest, what may be
in a file. All of it is our reading (adapters/guangdong/README.md).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from gateway.ports import ResultDocument
from gateway.protocols.listed import result_document
from gateway.protocols.tif import TifClient


class TifResults:
    """Documents of cases, under the region's own number."""

    in_pieces = False

    def __init__(self, client: TifClient, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    async def list(self, number: str) -> Sequence[ResultDocument]:
        """Return what the authority has for this case. Raises RegionError."""
        data = self._client.data(await self._client.call("GET", self._path(number)))
        rows = data.get("jgwj")
        if data.get("sblsh") != number or not isinstance(rows, list):
            raise self._client.wire.uncertain("sent an answer that cannot be read", "sblsh or jgwj")
        return [self._document(row) for row in rows]

    async def open(self, number: str, document: ResultDocument) -> AsyncGenerator[bytes, None]:
        """Begin to fetch one document. Raises RegionError."""
        path = f"{self._path(number)}/{quote(document.code, safe='')}"
        return await self._client.fetch(path, document.size)

    def _path(self, number: str) -> str:
        return f"{self._prefix}/results/{quote(number, safe='')}"

    def _document(self, row: Any) -> ResultDocument:
        known: Mapping[str, Any] = row if isinstance(row, dict) else {}
        try:
            return result_document(*(known.get(key) for key in ("wjbm", "wjmc", "wjlx", "wjdx", "wjzy")))
        except ValueError as wrong:
            raise self._client.wire.uncertain("sent an answer that cannot be read", str(wrong)) from None
