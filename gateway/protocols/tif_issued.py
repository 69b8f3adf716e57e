"""The TIF profile: one certificate that is named, its file, errors in it, and notices about it.

Owns: the operations of GB/T 36906 by identifier and by shown code; a file in two steps, authorised and then fetched;
reports of errors (异议) and their replies; pushed notices. Leaves to `tif`: signatures and envelopes; to the core: what
is in a file, and nonces. What is not of GB/T 36906 is our reading (adapters/guangdong/README.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gateway.ports import (
    Callback,
    CallbackReading,
    CertificateFile,
    CertificateReply,
    DisputeReply,
    RegionDocument,
    ResultDocument,
)
from gateway.protocols.listed import dispute_number, dispute_reply, result_document
from gateway.protocols.tif import TifCallbacks, TifClient, TifSigner, certificate_reply
from gateway.protocols.wire import as_object

_REPLIES = {"0": "open", "1": "corrected", "2": "rejected"}


class TifIssued:
    """Certificates by identifier (证照标识) and by shown code (亮证码)."""

    operations = frozenset({"data", "code", "file", "dispute"})

    def __init__(self, client: TifClient, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    async def data(self, query: RegionDocument) -> CertificateReply:
        """Ask for one certificate by its identifier. Raises RegionError."""
        return await certificate_reply(self._client, f"{self._prefix}/GetCertificateDataByCertificateID", query)

    async def code(self, query: RegionDocument) -> CertificateReply:
        """Ask what a shown code stands for. Raises RegionError."""
        return await certificate_reply(self._client, f"{self._prefix}/GetCertificateDataByQRCode", query)

    async def file(self, query: RegionDocument) -> CertificateFile | CertificateReply:
        """Have a file authorised and begin to fetch it; a reply says why there is none. Raises RegionError."""
        path = f"{self._prefix}/GetCertificateFileByCertificateID"
        reply = await certificate_reply(self._client, path, query)
        if reply.status != "0":
            return reply
        document = self._authorised(as_object(query), as_object(reply.certificates[0]))
        body = await self._client.fetch(f"{self._prefix}/files/{quote(document.code, safe='')}", document.size)
        return CertificateFile(document.media_type, document.size, document.sha256, body)

    def _authorised(self, asked: Mapping[str, Any], row: Mapping[str, Any]) -> ResultDocument:
        wire = self._client.wire
        if row.get("ZZBS") != asked.get("CertificateID"):
            raise wire.uncertain("answered with another certificate than it was asked for", "ZZBS differs")
        try:
            return result_document(row.get("auth_code"), "file", *(row.get(key) for key in ("wjlx", "wjdx", "wjzy")))
        except ValueError as wrong:
            raise wire.uncertain("sent an answer that cannot be read", str(wrong)) from None

    async def dispute(self, report: RegionDocument) -> str:
        """Report an error and return the issuer's number; again is the same report. Raises RegionError."""
        document = as_object(report)
        path = f"{self._prefix}/SubmitCertificateObjection"
        taken = self._client.data(await self._client.post(path, document), document)
        fits = taken.get("yybh") == document.get("yybh")
        return dispute_number(self._client.wire, taken.get("slbh"), fits=fits, names=("yybh", "slbh"))

    async def disputed(self, number: str) -> DisputeReply:
        """Ask what became of a report. Raises RegionError."""
        path = f"{self._prefix}/objections/{quote(number, safe='')}"
        told = self._client.data(await self._client.call("GET", path))
        reply = dispute_reply(_REPLIES, told.get("clzt"), told.get("clyj"))
        if told.get("slbh") != number or reply is None:
            raise self._client.wire.uncertain("sent an answer that cannot be read", "slbh or clzt")
        return reply


class TifNotices:
    """Notices that a certificate is worth something else from now on (证照状态变更通知), pushed as events are."""

    operations = frozenset({"certificates"})

    def __init__(self, signer: TifSigner, region: str) -> None:
        self._callbacks = TifCallbacks(signer, f"/callbacks/{region}/certificates")

    async def read(self, callback: Callback) -> CallbackReading:
        """Verify and decode one notice. The address is signed: none can be taken for a status event. Raises as it."""
        return await self._callbacks.read(callback)
