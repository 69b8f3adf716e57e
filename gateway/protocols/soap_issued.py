"""The SOAP exchange profile: one certificate that is named, its file in parts, and errors in it.

Owns: the operations by identifier and by shown code, and those of reports (异议). Leaves to `soap`: envelopes,
signatures and faults; to `soap_results`: a file in parts; to the core: what is in it. The exchange pushes nothing, so
there are no notices. All of it is our reading (adapters/foshan/README.md).
"""

from __future__ import annotations

from lxml import etree

from gateway.ports import CertificateFile, CertificateReply, DisputeReply, RegionDocument, ResultDocument
from gateway.protocols.listed import dispute_number, dispute_reply
from gateway.protocols.soap import SoapClient, certificate_reply
from gateway.protocols.soap_results import Parts, described
from gateway.protocols.wire import as_xml, parse_xml, quotable

_REPLIES = {"OPEN": "open", "CORRECTED": "corrected", "REJECTED": "rejected"}


class SoapIssued:
    """Certificates by identifier (证照标识) and by shown code (亮证码)."""

    operations = frozenset({"data", "code", "file", "dispute"})

    def __init__(self, client: SoapClient) -> None:
        self._client = client

    async def data(self, query: RegionDocument) -> CertificateReply:
        """Ask for one certificate by its identifier. Raises RegionError."""
        return await certificate_reply(self._client, "GetCertificateDataByCertificateID", query)

    async def code(self, query: RegionDocument) -> CertificateReply:
        """Ask what a shown code stands for. Raises RegionError."""
        return await certificate_reply(self._client, "GetCertificateDataByCode", query)

    async def file(self, query: RegionDocument) -> CertificateFile | CertificateReply:
        """Have a file described and begin to fetch it; a reply says why there is none. Raises RegionError."""
        client, sent = self._client, as_xml(query)
        reply = await client.call("GetCertificateFileByCertificateID", sent, "CertificateFileReply")
        status = client.text(reply, "Status").strip()
        if status != "0":
            return self._none(status, client.text(reply, "Message"), sent)
        document = self._described(reply, sent)
        elements = ("CertificateFileRequest", "CertificateFilePart")
        body = await Parts(client, "GetCertificateFilePart", elements, {}, document).begin()
        return CertificateFile(document.media_type, document.size, document.sha256, body)

    def _none(self, status: str, message: str, sent: bytes) -> CertificateReply:
        if not status:
            raise self._client.wire.uncertain("sent an answer that cannot be read", "no Status")
        return CertificateReply(status, quotable(message, sent))

    def _described(self, reply: etree._Element, sent: bytes) -> ResultDocument:
        client, document = self._client, reply.find(self._client.name("Document"))
        if document is None or client.text(reply, "Identifier") != self._said(sent, "Identifier"):
            raise client.wire.uncertain("answered with another certificate than it was asked for", "Identifier differs")
        return described(client, document)

    def _said(self, sent: bytes, name: str) -> str:
        """Return what our own document says."""
        return self._client.text(parse_xml(sent), name)

    async def dispute(self, report: RegionDocument) -> str:
        """Report an error and return the issuer's number; again is the same report. Raises RegionError."""
        sent = as_xml(report)
        receipt = await self._client.call("SubmitCertificateDispute", sent, "DisputeReceipt")
        number = self._client.text(receipt, "DisputeNo")
        fits = self._client.text(receipt, "Ticket") == self._said(sent, "Ticket")
        return dispute_number(self._client.wire, number, fits=fits, names=("Ticket", "DisputeNo"))

    async def disputed(self, number: str) -> DisputeReply:
        """Ask what became of a report. Raises RegionError."""
        client = self._client
        query = client.element("DisputeQuery", DisputeNo=number)
        answer = await client.call("QueryCertificateDispute", query, "DisputeState", "NoSuchDispute")
        if client.text(answer, "DisputeNo") != number:
            raise client.wire.uncertain("answered for another report", "DisputeNo differs")
        if answer.tag == client.name("NoSuchDispute"):
            raise client.wire.refused("no such report")
        reply = dispute_reply(_REPLIES, client.text(answer, "State"), client.text(answer, "Text"))
        if reply is None:
            raise client.wire.uncertain("sent an answer that cannot be read", "State")
        return reply
