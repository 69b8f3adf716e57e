"""The case exchange of the provinces: certificates by holder, by identifier and by shown code, and notices about them.

Owns: the operations of `certificateShare`, what their answers must say, and the push of a changed state. Leaves to
`province_wire`: envelope, signatures and status words; to mapping packs: what stands in the documents; to the core:
what is in a file, and nonces. Source: docs/province-exchange.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.errors import InvalidRequest
from gateway.ports import (
    Callback,
    CallbackReading,
    CertificateFile,
    CertificateReply,
    DisputeReply,
    RegionDocument,
    ResultDocument,
)
from gateway.protocols.listed import dispute_number, dispute_reply, result_document, whole
from gateway.protocols.province_wire import OK, TOLERANCE, ProvinceWire
from gateway.protocols.wire import as_object, callback_object, check_path, check_posted, check_time

CERTIFICATES = "certificateShare"
"""`servicecode`."""

LEGAL_PERSON = "001"
"""`certificateHolderTypeCode` of a legal person (GB/T 36903)."""

OPERATIONS = frozenset({"data", "code", "file", "dispute"})
"""What a province may tell of one certificate; `[settings.cases]` says which of it this one does."""

NOTICE = "sendStateNotice"
FILES = "certificates"
"""Stands in the address of a file where the number of a case stands for its documents."""

_FILE = ("fileCode", "fileName", "fileType", "fileSize", "fileDigest")
_REPLIES = {"核查中": "open", "已更正": "corrected", "无误": "rejected"}


async def certificate_reply(wire: ProvinceWire, interface: str, query: RegionDocument) -> CertificateReply:
    """Ask an issuer; the status is its own word. Raises RegionError."""
    document = as_object(query)
    reply = await wire.ask(CERTIFICATES, interface, document)
    wire.check_caller(reply)
    found = wire.listed(reply.data) if reply.status == OK else []
    if reply.status == OK and not found:
        raise wire.wire.uncertain("sent an answer that cannot be read", "status and data do not fit")
    return CertificateReply(reply.status, wire.words(reply, document), found)


class ProvinceCertificates:
    """Look-ups by holder, in the style of Fujian's certificate service."""

    def __init__(self, wire: ProvinceWire) -> None:
        self._wire = wire

    async def lookup(self, query: RegionDocument) -> CertificateReply:
        """Ask the issuer; the status is its own word. Raises RegionError."""
        legal = as_object(query).get("certificateHolderTypeCode") == LEGAL_PERSON
        return await certificate_reply(
            self._wire, "getLegalPersonListByHolder" if legal else "getPersonListByHolder", query
        )


class ProvinceIssued:
    """Certificates by identifier (证照标识) and by shown code (亮证码), their files and errors in them."""

    def __init__(self, wire: ProvinceWire, operations: Iterable[str]) -> None:
        self.operations = frozenset(operations)
        self._wire = wire

    async def data(self, query: RegionDocument) -> CertificateReply:
        """Ask for one certificate by its identifier. Raises RegionError."""
        return await certificate_reply(self._wire, "getCertificateByIdentifier", query)

    async def code(self, query: RegionDocument) -> CertificateReply:
        """Ask what a shown code stands for. Raises RegionError."""
        return await certificate_reply(self._wire, "getCertificateByShowCode", query)

    async def file(self, query: RegionDocument) -> CertificateFile | CertificateReply:
        """Have a file listed and begin to fetch it; a reply says why there is none. Raises RegionError.

        The signature in the head of the file is over the listed digest, and stands before its first byte.
        """
        reply = await certificate_reply(self._wire, "getCertificateFile", query)
        if reply.status != OK:
            return reply
        document = self._listed(as_object(query), as_object(reply.certificates[0]))
        body = await self._wire.download(FILES, document)
        return CertificateFile(document.media_type, document.size, document.sha256, body)

    def _listed(self, asked: Mapping[str, Any], row: Mapping[str, Any]) -> ResultDocument:
        wire = self._wire.wire
        if row.get("certificateIdentifier") != asked.get("certificateIdentifier"):
            raise wire.uncertain("answered with another certificate than it was asked for", "the identifier differs")
        try:
            code, name, media_type, size, digest = (row.get(member) for member in _FILE)
            return result_document(code, name, media_type, whole(size), digest)
        except ValueError as wrong:
            raise wire.uncertain("sent an answer that cannot be read", str(wrong)) from None

    async def dispute(self, report: RegionDocument) -> str:
        """Report an error and return the issuer's number; again is the same report. Raises RegionError."""
        document = as_object(report)
        taken = self._wire.told(await self._wire.ask(CERTIFICATES, "sendObjection", document), document)
        fits = taken.get("objectionNo") == document.get("objectionNo")
        return dispute_number(self._wire.wire, taken.get("acceptNo"), fits=fits, names=("objectionNo", "acceptNo"))

    async def disputed(self, number: str) -> DisputeReply:
        """Ask what became of a report. Raises RegionError."""
        reply = await self._wire.ask(CERTIFICATES, "queryObjection", {"acceptNo": number})
        told = self._wire.found(reply, "no such report")
        became = dispute_reply(_REPLIES, told.get("handleState"), told.get("handleOpinion"))
        if told.get("acceptNo") != number or became is None:
            raise self._wire.wire.uncertain("sent an answer that cannot be read", "acceptNo or handleState")
        return became


class ProvinceNotices:
    """Notices that a certificate is worth something else from now on (证照状态变更通知), pushed to us and signed."""

    operations = frozenset({"certificates"})

    def __init__(self, wire: ProvinceWire, region: str) -> None:
        self._wire = wire
        self._path = f"/callbacks/{region}/certificates"

    async def read(self, callback: Callback) -> CallbackReading:
        """Verify and decode one notice. Raises NotFound, ForgedCallback, ReplayedCallback or InvalidRequest."""
        check_path(callback, self._path)
        nonce, said = self._wire.noticed(callback)
        expires = check_time(said, callback, TOLERANCE)
        check_posted(callback)
        document = callback_object(callback.body)
        head, data = document.get("head"), document.get("data")
        if not isinstance(head, dict) or head.get("interfaceName") != NOTICE or not isinstance(data, dict):
            raise InvalidRequest(f"the signature is right, but the body is no {NOTICE}")
        return CallbackReading((data,), {"head": {"status": OK, "message": "成功"}, "data": {}}, nonce, expires)
