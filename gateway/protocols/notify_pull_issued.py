"""The notify-then-pull profile: one certificate that is named, its file, and errors in it.

Owns: the operations by identifier, the file of a certificate, and reports of errors (异议) with their replies. Leaves
to `notify_pull`: asking for an answer until it is there; to `notify_pull_wire`: sealing; to mapping packs: what stands
in a document; to the core: what is in a file. Source: adapters/qingyuan/README.md.
"""

from __future__ import annotations

from lxml import etree

from gateway.errors import NotOffered
from gateway.ports import CertificateFile, CertificateReply, DisputeReply, RegionDocument, ResultDocument
from gateway.protocols.listed import dispute_number, dispute_reply, result_document, whole
from gateway.protocols.notify_pull import answered, certificate_reply
from gateway.protocols.notify_pull_wire import PullClient, document_of, made, text_of
from gateway.protocols.wire import as_xml, quotable

_REPLIES = {"0": "open", "1": "corrected", "2": "rejected"}


class PullIssued:
    """Certificates by identifier (证照标识): the question is left at the machine, as for a look-up."""

    operations = frozenset({"data", "file", "dispute"})

    def __init__(self, client: PullClient) -> None:
        self._client = client

    async def data(self, query: RegionDocument) -> CertificateReply:
        """Ask for one certificate by its identifier. Raises RegionError."""
        sent = as_xml(query)
        reply = certificate_reply(self._client, (await answered(self._client, "postLicenseRequest", sent))[1], sent)
        if len(reply.certificates) > 1:
            raise self._client.wire.uncertain("sent an answer that cannot be read", "several certificates for one name")
        return reply

    async def code(self, query: RegionDocument) -> CertificateReply:  # noqa: ARG002 - a port's name, never asked here
        """Refuse: the machine knows no shown codes, and `operations` says so. Raises NotOffered."""
        raise NotOffered(f"{self._client.wire.region} knows no shown codes.")

    async def file(self, query: RegionDocument) -> CertificateFile | CertificateReply:
        """Ask for a file, and begin to fetch it once the machine has it; a reply says why there is none.

        Raises RegionError; also at the end of its bytes, when the seal is wrong.
        """
        sent = as_xml(query)
        number, answer = await answered(self._client, "postLicenseFile", sent)
        if text_of(answer, "ZT") != "0":
            return certificate_reply(self._client, answer, sent)
        file = self._announced(answer, text_of(document_of(sent), "ZZBS"))
        body = await self._client.fetch("getLicenseFile", made("CXJG", CXBH=number), file.size)
        return CertificateFile(file.media_type, file.size, file.sha256, body)

    def _announced(self, answer: etree._Element, identifier: str) -> ResultDocument:
        rows = answer.findall("ZZWJ")
        if len(rows) != 1 or rows[0].get("ZZBS") != identifier:
            raise self._client.wire.uncertain("answered about another file than it was asked for", "ZZWJ or ZZBS")
        size, digest = whole(rows[0].get("WJDX")), rows[0].get("WJZY")
        try:
            return result_document("file", "file", rows[0].get("WJLX"), size, digest)
        except ValueError as wrong:
            raise self._client.wire.uncertain("announced a file that cannot be read", str(wrong)) from None

    async def dispute(self, report: RegionDocument) -> str:
        """Report an error, and return the machine's number of the report. Raises RegionError."""
        sent = as_xml(report)
        taken = await self._client.call("sendLicenseObjection", sent, "YYHZ")
        fits = text_of(taken, "YYBH") == text_of(document_of(sent), "YYBH")
        return dispute_number(self._client.wire, text_of(taken, "SLBH"), fits=fits, names=("YYBH", "SLBH"))

    async def disputed(self, number: str) -> DisputeReply:
        """Ask what became of a report. Raises RegionError; RegionRefused for one that the machine does not hold."""
        found = await self._client.find("queryLicenseObjection", made("YYCX", SLBH=number), "YYJG")
        if found is None:
            raise self._client.wire.refused("it holds no such report")
        reply = dispute_reply(_REPLIES, text_of(found, "CLZT"), quotable(text_of(found, "CLYJ")))
        if text_of(found, "SLBH") != number or reply is None:
            raise self._client.wire.uncertain("sent an answer that cannot be read", "SLBH or CLZT")
        return reply
