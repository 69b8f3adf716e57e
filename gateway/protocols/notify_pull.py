"""The notify-then-pull profile: a front-end exchange machine is told a number, and fetches the case from here.

Owns: the operations: notices and the question whether the machine holds one, the reports that are polled, messages
about a case, documents of decisions, certificate questions and their answers, files of the catalogue; and the pulls
that come in. Leaves to `notify_pull_wire`: sealing and what a code says. To `notify_pull_issued`: single certificates
that are named. To mapping packs: what stands in a document.
To the core: what may be pulled, by which machine and for how long. Source: adapters/qingyuan/README.md.

A notice that was acknowledged is a delivery: the machine holds the number and comes by itself. That it has the case it
says later, in a report.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime

from lxml import etree

from gateway.crypto.sm4 import StreamSeal
from gateway.errors import (
    BodyTooLarge,
    ForgedCallback,
    GatewayError,
    InvalidRequest,
    NotFound,
    NotOffered,
    NotPermitted,
    PickupOver,
    ReplayedCallback,
)
from gateway.ports import (
    Callback,
    CaseMessage,
    CertificateReply,
    FeedPage,
    Material,
    Pickup,
    PickupAnswer,
    RegionDocument,
    ResultDocument,
    SubmissionOrder,
)
from gateway.protocols.listed import result_document, whole
from gateway.protocols.notify_pull_wire import (
    DONE,
    NOT_THERE,
    NOT_YET,
    TOLERANCE,
    BadMessage,
    Channel,
    PullClient,
    document_of,
    made,
    nonce_in,
    open_client,
    read_form,
    text_of,
    written,
)
from gateway.protocols.wire import as_xml, check_path, check_posted, check_time, quotable, unix_time

__all__ = [
    "PullCatalogue",
    "PullCertificates",
    "PullFeed",
    "PullMessages",
    "PullPickups",
    "PullResults",
    "PullSubmissions",
    "open_client",
]

REPORTS_A_PAGE = 200
"""How many status reports are asked for at once; the machine allows no more."""
FILES_A_PAGE = 20
"""How many files of the catalogue are asked for at once; the machine allows no more."""
MOST_PAGES = 500
"""After so many pages of the catalogue we stop believing that it ends."""

_CASE, _SUPPLEMENT = "3", "1"
"""EXPRESSTYPE of a notice: a case that waits for acceptance, a supplement."""
_SENT_WHOLE = {"withdrawal": "sendWithdrawal", "rating": "sendEvaluation"}
"""Kinds of messages that are sent as they are → operation."""
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


# --- submissions ---------------------------------------------------------------------------------------------------


class PullSubmissions:
    """Notices of cases: sendApplyNO and queryApplyNO."""

    def __init__(self, client: PullClient) -> None:
        self._client = client

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        """Tell the machine that the case is here; the receipt is its word for the notice. Raises RegionError."""
        document = as_xml(order.document)
        case = document_of(document)
        item = case.find("SX")
        notice = made(
            "SBTZ",
            WWBH=order.submission_id,
            EXPRESSTYPE=_CASE,
            SXBM="" if item is None else item.get("SXBM", ""),
            XZQHDM=text_of(case, "GXDXZQHDM"),
            CLSL=str(len(order.materials)),
        )
        return self._receipt(await self._client.call("sendApplyNO", notice, "JSHZ", document), order.submission_id)

    async def ask(self, submission_id: str) -> RegionDocument | None:
        """Return the receipt of a notice, or None when the machine says that it holds none. Raises RegionError."""
        found = await self._client.find("queryApplyNO", made("SBCX", WWBH=submission_id), "JSHZ")
        return None if found is None else self._receipt(found, submission_id)

    def _receipt(self, receipt: etree._Element, submission_id: str) -> bytes:
        if text_of(receipt, "WWBH") != submission_id:
            raise self._client.wire.uncertain("answered for another submission", "WWBH differs")
        return written(receipt)


class PullMessages:
    """What is said of a case later: a supplement is announced and then pulled, the rest is sent as it is."""

    kinds = frozenset({"supplement", "withdrawal", "rating"})

    def __init__(self, client: PullClient) -> None:
        self._client = client

    async def send(self, message: CaseMessage) -> None:
        """Hand the message over, or its notice. Raises RegionError; NotOffered for a kind that the wire has not."""
        if message.kind == "supplement":
            answer = await self._client.call("sendApplyNO", _notice_of(message), "XXHZ", as_xml(message.document))
        elif operation := _SENT_WHOLE.get(message.kind):
            answer = await self._client.call(operation, as_xml(message.document), "XXHZ")
        else:
            raise NotOffered(f"{self._client.wire.region} takes no message of this kind.")
        self._check_own(answer, message)

    async def holds(self, message: CaseMessage) -> bool:
        """Say whether the machine has this message, or the notice of it. Raises RegionError."""
        question = made("XXCX", WWBH=message.submission_id, XXBH=message.message_id)
        found = await self._client.find("queryMessage", question, "XXHZ")
        if found is not None:
            self._check_own(found, message)
        return found is not None

    def _check_own(self, answer: etree._Element, message: CaseMessage) -> None:
        if (text_of(answer, "WWBH"), text_of(answer, "XXBH")) != (message.submission_id, message.message_id):
            raise self._client.wire.uncertain("answered for another message", "WWBH or XXBH differs")


def _notice_of(message: CaseMessage) -> etree._Element:
    return made(
        "SBTZ",
        WWBH=message.submission_id,
        EXPRESSTYPE=_SUPPLEMENT,
        XXBH=message.message_id,
        CLSL=str(len(message.materials)),
    )


# --- pages ---------------------------------------------------------------------------------------------------------


class _Pages:
    """What lies at the machine as one numbered sequence."""

    def __init__(self, client: PullClient, operation: str, question: str, answer: str, item: str, size: int) -> None:
        self._client = client
        self._operation = operation
        self._question = question
        self._answer = answer
        self._item = item
        self._size = size

    async def after(self, number: str) -> tuple[list[str], str]:
        """Return the texts that follow a number, in order, and the number to ask with next. Raises RegionError."""
        question = made(self._question, XH=number or "0", TS=str(self._size))
        page = await self._client.call(self._operation, question, self._answer)
        following = text_of(page, "XYG")
        if not _DIGITS.fullmatch(following) or int(following) < int(number or "0"):
            raise self._client.wire.uncertain("sent a list that cannot be read", "XYG")
        return [each.text or "" for each in page.findall(self._item)], following


class PullFeed:
    """getNotice: one sequence of status reports, asked for from a number on."""

    def __init__(self, client: PullClient) -> None:
        self._pages = _Pages(client, "getNotice", "TZCX", "TZLB", "TZ", REPORTS_A_PAGE)

    async def poll(self, cursor: str) -> FeedPage:
        """Return the reports after a cursor ("" is the beginning), oldest first. Raises RegionError."""
        reports, following = await self._pages.after(cursor)
        return FeedPage([report.encode("gb18030") for report in reports], following)


class PullCatalogue:
    """getItemFile: the files of the machine, one item each."""

    def __init__(self, client: PullClient) -> None:
        self._client = client
        self._pages = _Pages(client, "getItemFile", "SXCX", "SXLB", "SXWJ", FILES_A_PAGE)

    async def items(self) -> Sequence[RegionDocument]:
        """Return every file, page by page until one is empty. Raises RegionError."""
        found: list[RegionDocument] = []
        number = ""
        for _ in range(MOST_PAGES):
            files, following = await self._pages.after(number)
            if not files:
                return found
            if following == (number or "0"):
                break
            found += [self._file(text) for text in files]
            number = following
        raise self._client.wire.uncertain("sent a catalogue that does not end", f"{len(found)} files")

    def _file(self, text: str) -> bytes:
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (ValueError, binascii.Error):
            raise self._client.wire.uncertain("sent a file that cannot be read", "SXWJ is not base64") from None


# --- results -------------------------------------------------------------------------------------------------------


class PullResults:
    """getResultList and getResultFile: documents that came out of a case (办理结果), under the machine's number."""

    in_pieces = False

    def __init__(self, client: PullClient) -> None:
        self._client = client

    async def list(self, number: str) -> Sequence[ResultDocument]:
        """Return what the machine has for this case. Raises RegionError."""
        found = await self._client.find("getResultList", made("JGCX", SBLSH=number), "JGLB")
        if found is None:
            raise self._client.wire.refused("it holds no such case")
        if text_of(found, "SBLSH") != number:
            raise self._client.wire.uncertain("answered for another case", "SBLSH differs")
        return [self._document(row) for row in found.findall("JGWJ")]

    async def open(self, number: str, document: ResultDocument) -> AsyncGenerator[bytes, None]:
        """Begin to fetch one document. Raises RegionError; also at the end of its bytes, when the seal is wrong."""
        asked = made("JGTQ", SBLSH=number, WJBM=document.code)
        return await self._client.fetch("getResultFile", asked, document.size)

    def _document(self, row: etree._Element) -> ResultDocument:
        code, media_type, size, digest = (row.get(name) for name in ("WJBM", "WJLX", "WJDX", "WJZY"))
        try:
            return result_document(code, (row.text or "").strip(), media_type, whole(size), digest)
        except ValueError as wrong:
            raise self._client.wire.uncertain("sent a list of documents that cannot be read", str(wrong)) from None


# --- certificates --------------------------------------------------------------------------------------------------


class PullCertificates:
    """postLicenseQuery and getLicenseData: the question is left at the machine, and its answer asked for."""

    def __init__(self, client: PullClient) -> None:
        self._client = client

    async def lookup(self, query: RegionDocument) -> CertificateReply:
        """Ask the issuer; the status is its own word. No answer within the time-out is RegionUncertain."""
        sent = as_xml(query)
        return certificate_reply(self._client, (await answered(self._client, "postLicenseQuery", sent))[1], sent)


async def answered(client: PullClient, operation: str, sent: bytes) -> tuple[str, etree._Element]:
    """Leave a question for a certificate, and ask for its answer until it is there: number and answer of the question.

    Raises RegionError; RegionUncertain when the answer does not come within the time-out.
    """
    number = text_of(await client.call(operation, sent, "CXHZ"), "CXBH")
    try:
        async with asyncio.timeout(client.patience):
            return number, await _answer(client, made("CXJG", CXBH=number))
    except TimeoutError:
        raise client.wire.uncertain("did not answer in time", "the question is left at the machine") from None


async def _answer(client: PullClient, question: etree._Element) -> etree._Element:
    while True:
        told = await client.ask("getLicenseData", question)
        if told.code != NOT_YET:
            break
        await asyncio.sleep(client.pause)  # the answer is polled for, until the time-out
    if told.code != DONE or told.content.tag != "ZZJG":
        reason = "does not know the question that it took" if told.code == NOT_THERE else "gave another answer"
        raise client.wire.uncertain(reason, f"code {told.code}")
    return told.content


def certificate_reply(client: PullClient, answer: etree._Element, sent: bytes) -> CertificateReply:
    """Return what an answer says of certificates. Raises RegionUncertain for one that cannot be read."""
    status = text_of(answer, "ZT")
    found = [written(certificate) for certificate in answer.findall("ZZ")]
    if not status or (status == "0" and not found):
        raise client.wire.uncertain("sent an answer that cannot be read", "ZT and ZZ do not fit")
    return CertificateReply(status, quotable(text_of(answer, "XX"), sent), found)


# --- pickups -------------------------------------------------------------------------------------------------------

_APPLICATION, _MATERIAL = "getApplyInfo", "getMaterial"
_CODES: Sequence[tuple[type[GatewayError], str]] = (
    (ForgedCallback, "401"),
    (ReplayedCallback, "409"),
    (PickupOver, "410"),
    (NotPermitted, "410"),  # it may not leave any more: a consent is over
    (NotFound, "404"),
    (InvalidRequest, "400"),
    (BodyTooLarge, "400"),
)
"""What an error of ours is on this wire; what is not listed is 500: ask again later."""


class PullPickups:
    """getApplyInfo and getMaterial: what the machine asks of us."""

    operations = frozenset({_APPLICATION, _MATERIAL})

    def __init__(self, channel: Channel, region: str) -> None:
        self._channel = channel
        self._prefix = f"/callbacks/{region}"

    async def read(self, pull: Callback) -> Pickup:
        """Verify the seal, then the time, then read. Raises ForgedCallback, ReplayedCallback or InvalidRequest."""
        operation = _operation(pull)
        check_path(pull, f"{self._prefix}/{operation}")
        try:
            request = read_form(pull.body)
            document = self._channel.open_request(operation, request)
        except BadMessage as wrong:
            raise ForgedCallback("The pull does not verify.", detail=str(wrong)) from None
        said = unix_time(request.timestamp, per_second=1000)
        if said is None:
            raise InvalidRequest("The seal is right, but the timestamp is no time.")
        expires = check_time(said, pull, TOLERANCE)
        check_posted(pull)
        return _pickup(operation, document, request.nonce, expires)

    def document(self, pull: Callback, document: RegionDocument) -> PickupAnswer:
        """Return the document, sealed for this pull."""
        return self._told(pull, DONE, as_xml(document))

    def material(self, pull: Callback, material: Material) -> PickupAnswer:
        """Return the file, sealed while it is read."""
        seal = self._channel.stream(_operation(pull), nonce_in(pull.body))
        return PickupAnswer("application/octet-stream", _sealed(seal, material), StreamSeal.size(material.size))

    def refusal(self, pull: Callback, error: GatewayError) -> PickupAnswer:
        """Return the refusal, sealed for this pull, with the error's code and public text."""
        code = next((code for kind, code in _CODES if isinstance(error, kind)), "500")
        content = etree.Element("CW", DM=error.stable_code)
        content.text = error.public
        return self._told(pull, code, written(content))

    def _told(self, pull: Callback, code: str, document: bytes) -> PickupAnswer:
        body = self._channel.answer(_operation(pull), nonce_in(pull.body), code, document)
        return PickupAnswer("text/xml; charset=GB18030", _whole(body), len(body))


def _operation(pull: Callback) -> str:
    return pull.path.rpartition("/")[2]


def _pickup(operation: str, document: bytes, nonce: str, expires: datetime) -> Pickup:
    """Read what a verified request asks for. Raises InvalidRequest."""
    try:
        asked = document_of(document)
    except ValueError as wrong:
        raise InvalidRequest(f"The seal is right, but the document cannot be read: {wrong}.") from None
    case, digest, code = (text_of(asked, name) for name in ("WWBH", "WJZY", "CLBM"))
    wants_material = operation == _MATERIAL
    if asked.tag != ("CLTQ" if wants_material else "TQ") or not case:
        raise InvalidRequest("The document is not one of this operation, or names no case.")
    if wants_material != bool(digest or code) or (digest and not _SHA256.fullmatch(digest.lower())):
        raise InvalidRequest("A material is named by WJZY, 64 hexadecimal digits, or by CLBM.")
    return Pickup(
        submission_id=case,
        nonce=nonce,
        nonce_expires=expires,
        message_id=text_of(asked, "XXBH"),
        material_sha256=digest.lower(),
        material_code=code,
    )


async def _whole(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


async def _sealed(seal: StreamSeal, material: Material) -> AsyncGenerator[bytes, None]:
    """Seal a file piece by piece, on a thread: a large one would hold up everything else.

    The vector goes with the first piece, so that a file which cannot be read is known before anything is said.
    """
    head = seal.iv
    async for piece in material.open():
        yield head + await asyncio.to_thread(seal.update, piece)
        head = b""
    yield head + await asyncio.to_thread(seal.finish)
