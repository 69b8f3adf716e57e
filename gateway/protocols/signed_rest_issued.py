"""The signed REST exchange: one certificate that is named, its file, errors in it, and notices about it.

Owns: the addresses of questions by identifier and by shown code, of a certificate's file, of reports of errors (异议)
and their replies; pushed notices. Leaves to `signed_rest` tokens, signatures and outcomes; to mapping packs what stands
in a document; to the core: digest and content of a file, and nonces. Source: docs/signed-rest.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.ports import (
    Callback,
    CallbackReading,
    CertificateFile,
    CertificateReply,
    DisputeReply,
    RegionDocument,
)
from gateway.protocols.listed import dispute_number, dispute_reply
from gateway.protocols.signed_rest import RestClient, SignedFile
from gateway.protocols.signed_rest_services import RestCallbacks, certificate_reply
from gateway.protocols.wire import as_object, quotable

_PLACE = "/v1/certificates"
_REPLIES = {"0": "open", "1": "corrected", "2": "rejected"}


class RestIssued:
    """Certificates by identifier (证照标识) and by shown code (亮证码). `ticket`: what a report calls our number."""

    operations = frozenset({"data", "code", "file", "dispute"})

    def __init__(self, client: RestClient, ticket: str) -> None:
        self._client = client
        self._ticket = ticket

    async def data(self, query: RegionDocument) -> CertificateReply:
        """Ask for one certificate by its identifier. Raises RegionError."""
        return await self._ask("data", query)

    async def code(self, query: RegionDocument) -> CertificateReply:
        """Ask what a shown code stands for. Raises RegionError."""
        return await self._ask("shown", query)

    async def _ask(self, operation: str, query: RegionDocument) -> CertificateReply:
        reply = certificate_reply(
            self._client, (await self._client.tell(f"{_PLACE}/{operation}", query)).document, query
        )  # fmt: skip
        if len(reply.certificates) > 1:
            raise self._client.wire.uncertain("sent an answer that cannot be read", "several certificates for one name")
        return reply

    async def file(self, query: RegionDocument) -> CertificateFile | CertificateReply:
        """Begin to fetch a certificate's file; a reply says why there is none. Raises RegionError."""
        got = await self._client.order(f"{_PLACE}/file", query)
        if isinstance(got, SignedFile):
            return CertificateFile(got.media_type, got.size, got.sha256, got.body)
        return certificate_reply(self._client, got.document, query)

    async def dispute(self, report: RegionDocument) -> str:
        """Report an error, and return the issuer's number of the report. Raises RegionError."""
        sent = as_object(report)
        answer = (await self._client.tell(f"{_PLACE}/disputes", sent, str(sent[self._ticket]))).document
        fits = answer.get(self._ticket) == sent[self._ticket]
        names = (self._ticket, "acceptNo")
        return dispute_number(self._client.wire, answer.get("acceptNo"), fits=fits, names=names)

    async def disputed(self, number: str) -> DisputeReply:
        """Ask what became of a report. Raises RegionError; RegionRefused for one that is not known there."""
        wire = self._client.wire
        reply = await self._client.ask(f"{_PLACE}/disputes/{quote(number, safe='')}", None, ("NO_SUCH_DISPUTE",))
        if reply.code:
            raise wire.refused("it holds no such report")
        if reply.document.get("acceptNo") != number:
            raise wire.uncertain("answered for another report", "acceptNo differs")
        told = dispute_reply(_REPLIES, reply.document.get("disputeState"), quotable(reply.document.get("disputeReply")))
        if told is None:
            raise wire.uncertain("sent an answer that cannot be read", "disputeState")
        return told


class RestNotices:
    """Notices that a certificate is worth something else, pushed and signed as status events are."""

    operations = frozenset({"certificates"})

    def __init__(self, keys: Sequence[Ed25519PublicKey], region: str) -> None:
        self._callbacks = RestCallbacks(keys, f"/callbacks/{region}/certificates", listed=True)

    async def read(self, callback: Callback) -> CallbackReading:
        """Verify and decode. Raises NotFound, ForgedCallback, ReplayedCallback or InvalidRequest."""
        return await self._callbacks.read(callback)
