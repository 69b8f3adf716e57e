"""The iAM Smart (智方便) profile: the documents that came out of a case (結果文件), listed and fetched piece by piece.

Owns: their two addresses, and putting a document together: an answer is sealed as a whole, so that a file comes as the
pieces of it. Leaves to `iamsmart`: signatures, encryption and result codes; to the core: the digest, what may be in a
file. All of it is our own extension (adapters/hongkong/README.md).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from gateway.ports import ResultDocument
from gateway.protocols.iamsmart import IamSmartClient, Reply
from gateway.protocols.listed import result_document

PIECE = 512 << 10
"""The most bytes of a document that one answer brings (512 KiB): sealed, they stay within the largest answer."""

_LIST, _FETCH = "/api/v1/cases/documents", "/api/v1/cases/documents/download"
_REFUSALS: Mapping[str, str] = {"D40400": "no such case or document", "D41000": "the document is kept no longer"}


class IamSmartResults:
    """Documents of cases, under the region's own number."""

    in_pieces = True

    def __init__(self, client: IamSmartClient) -> None:
        self._client = client

    async def list(self, number: str) -> Sequence[ResultDocument]:
        """Return what the authority has for this case. Raises RegionError."""
        content = (await self._ask(_LIST, {"caseNo": number})).content
        rows = content.get("documents")
        if content.get("caseNo") != number or not isinstance(rows, list):
            raise self._unreadable("caseNo or documents")
        return [self._document(row) for row in rows]

    async def open(self, number: str, document: ResultDocument) -> AsyncGenerator[bytes, None]:
        """Fetch the first piece of a document; what is returned yields it and fetches the others. Raises RegionError.

        Each piece is an exchange of its own, with the time of one.
        """
        return self._pieces(number, document, await self._piece(number, document, 0))

    async def _pieces(self, number: str, document: ResultDocument, piece: bytes) -> AsyncGenerator[bytes, None]:
        there = len(piece)
        yield piece
        while there < document.size:
            piece = await self._piece(number, document, there)
            there += len(piece)
            yield piece

    async def _piece(self, number: str, document: ResultDocument, offset: int) -> bytes:
        """Return the bytes from a place on; an answer about another place, document or case is none to this one."""
        asked = {"caseNo": number, "code": document.code, "offset": offset}
        content = (await self._ask(_FETCH, asked)).content
        if any(content.get(name) != value for name, value in asked.items()):
            raise self._client.wire.uncertain("answered for another piece of a document", "caseNo, code or offset")
        piece, last = _decoded(content.get("data")), offset + PIECE >= document.size
        if str(content.get("sha256")).lower() != document.sha256 or len(piece) != (
            document.size - offset if last else PIECE
        ):
            raise self._client.wire.uncertain("sent another file than the one announced", "its digest or size differs")
        return piece

    async def _ask(self, path: str, asked: dict[str, Any]) -> Reply:
        reply = await self._client.post(path, asked, ("M00000", *_REFUSALS))
        if reply.code in _REFUSALS:
            raise self._client.wire.refused(_REFUSALS[reply.code], detail=reply.code)
        return reply

    def _document(self, row: Any) -> ResultDocument:
        known: Mapping[str, Any] = row if isinstance(row, dict) else {}
        try:
            return result_document(*(known.get(key) for key in ("code", "name", "mimeType", "size", "sha256")))
        except ValueError as wrong:
            raise self._unreadable(str(wrong)) from None

    def _unreadable(self, detail: str) -> Exception:
        return self._client.wire.uncertain("sent a list of documents that cannot be read", detail)


def _decoded(text: object) -> bytes:
    """Return the bytes of base64; none for what is not."""
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (ValueError, binascii.Error):
        return b""
