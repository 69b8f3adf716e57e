"""The SOAP exchange profile: the documents that came out of a case (办理结果), listed and fetched in parts.

Owns: the two operations. A document comes as signed parts of `PART` bytes, so that each fits into a bounded answer, and
only one is in memory. Leaves to `soap`: envelopes, signatures and faults; to the core: size, digest, what may be in a
file. All of it is our reading (adapters/foshan/README.md).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from lxml import etree

from gateway.ports import ResultDocument
from gateway.protocols.listed import result_document, whole
from gateway.protocols.soap import SoapClient

PART = 512 << 10
"""Bytes of a document that are asked for at once: in base64 they stay below what an answer may have."""


class SoapResults:
    """QueryResults and GetResult, under the region's own number of the case."""

    in_pieces = True

    def __init__(self, client: SoapClient) -> None:
        self._client = client

    async def list(self, number: str) -> Sequence[ResultDocument]:
        """Return what the authority has for this case. Raises RegionError."""
        client = self._client
        answer = await client.call("QueryResults", client.element("ResultQuery", AcceptNo=number), "ResultList")
        if client.text(answer, "AcceptNo") != number:
            raise client.wire.uncertain("answered for another case", "AcceptNo differs")
        return [described(client, each) for each in answer.findall(client.name("Document"))]

    async def open(self, number: str, document: ResultDocument) -> AsyncGenerator[bytes, None]:
        """Begin to fetch one document. Raises RegionError."""
        parts = Parts(self._client, "GetResult", ("ResultRequest", "ResultPart"), {"AcceptNo": number}, document)
        return await parts.begin()


def described(client: SoapClient, element: etree._Element) -> ResultDocument:
    """Return a document as an answer describes it. Raises RegionUncertain."""
    name, media_type, size, digest = (client.text(element, child) for child in ("Name", "MediaType", "Size", "Digest"))
    try:
        return result_document(element.get("code"), name, media_type, whole(size), digest)
    except ValueError as wrong:
        raise client.wire.uncertain("sent a list that cannot be read", str(wrong)) from None


@dataclass(frozen=True, slots=True)
class Parts:
    """One document that comes as signed parts. `elements` are those of question and answer; `about` both repeat."""

    client: SoapClient
    operation: str
    elements: tuple[str, str]
    about: Mapping[str, str]
    document: ResultDocument

    async def begin(self) -> AsyncGenerator[bytes, None]:
        """Fetch the first part; what is returned yields it and the others. Raises RegionError."""
        return self._all(await self._part(0))

    async def _all(self, part: bytes) -> AsyncGenerator[bytes, None]:
        offset = 0
        while True:
            yield part
            offset += len(part)
            if offset >= self.document.size:
                return
            part = await self._part(offset)

    async def _part(self, offset: int) -> bytes:
        """Return the bytes from an offset on: so many as were asked for, or none of them count. Raises RegionError."""
        client, length = self.client, min(PART, self.document.size - offset)
        asked = {**self.about, "Code": self.document.code, "Offset": str(offset)}
        question = client.element(self.elements[0], **asked, Length=str(length))
        answer = await client.call(self.operation, question, self.elements[1])
        if any(client.text(answer, name) != said for name, said in asked.items()):
            raise client.wire.uncertain("answered with another part than the one asked for", f"offset {offset}")
        content = _decoded(client.text(answer, "Content"))
        sizes = (client.text(answer, "Size"), None if content is None else len(content))
        if content is None or sizes != (str(self.document.size), length):
            raise client.wire.uncertain("sent another file than the one announced", f"its size differs at {offset}")
        return content


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
