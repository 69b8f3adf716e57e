"""The sealed messages of a front-end exchange machine (前置机): form fields and answers in SM4-CBC with HMAC-SM3.

Owns: what a message is bound to, sealing and opening in both directions, the form and its fields, documents in GB
18030, and sending one request with what its answer's code says of the outcome, or the file that it is. Leaves to
`notify_pull`: operations and documents. Source: adapters/qingyuan/README.md (SM4, GB/T 32907; SM3, GB/T 32905), with
what a real connection must confirm.

Both sides hold the same keys. What keeps a message from being taken for another one is what its tag is bound to: who
sends it, the operation, and the nonce; an answer is bound to the nonce of its question.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl, urlencode

from lxml import etree
from yarl import URL

from gateway.crypto.sm4 import SIZES, Sealed, StreamOpen, StreamSeal, seal, sm3, unseal
from gateway.errors import RegionError
from gateway.ports import Clock, Kit
from gateway.protocols.wire import Answer, Wire, parse_xml, quotable, refuse_start, text_secret, text_setting

TOLERANCE = timedelta(seconds=300)
"""How far a message's time may be from our clock, both ways."""

FIELDS = ("appId", "timestamp", "nonce", "xmlStr", "sign")
"""The form fields of a request, each exactly once."""

_SUITE: Final = "SM4-CBC-HMAC-SM3"
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_FILE = "application/octet-stream"
_CHARSET = "gb18030"
_DECLARATION = '<?xml version="1.0" encoding="GB18030"?>\n'
_DECLARED = re.compile(r"\s*<\?xml[^>]*\?>")
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_TAG = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CODE = re.compile(r"[0-9]{3}", re.ASCII)

DONE, NOT_YET, NOT_THERE = "200", "202", "404"
"""Codes of answers that are no failure of the exchange itself."""
_REFUSALS = ("400", NOT_THERE, "410")
"""Codes of a definite no, where the caller does not tell 404 apart."""
_NOT_OURS = ("401", "409")
"""Codes that an operator must look at: keys, ids or clocks do not fit. The message was certainly not taken."""


class BadMessage(Exception):
    """A message that does not verify, or is not of the agreed form; the text names what is wrong, never a value."""


# --- documents -----------------------------------------------------------------------------------------------------


def written(element: etree._Element) -> bytes:
    """Return an element as a document of its own in GB 18030, as mapping packs write and read them."""
    text = etree.tostring(element, encoding="unicode", with_tail=False)
    return (_DECLARATION + text).encode(_CHARSET)


def document_of(data: bytes) -> etree._Element:
    """Parse a document in GB 18030 that may be hostile. Raises ValueError.

    Decoded by Python, as the mapping packs do, and not by libxml2: the two know different editions of the standard.
    """
    text = data.decode(_CHARSET)
    declared = _DECLARED.match(text)
    return parse_xml(text[declared.end() if declared else 0 :].encode())


def made(name: str, **children: str) -> etree._Element:
    """Return an element with text children in the given order."""
    element = etree.Element(name)
    for child, text in children.items():
        etree.SubElement(element, child).text = text
    return element


def text_of(element: etree._Element, child: str) -> str:
    """Return the text of a child, empty when there is none."""
    return (element.findtext(child) or "").strip()


# --- the channel ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """A request as its form fields, not verified yet."""

    app_id: str
    timestamp: str
    nonce: str
    xml: str
    sign: str


@dataclass(frozen=True, slots=True)
class Channel:
    """The keys of one machine and the two ids; `random_token` gives what is never given twice."""

    key: bytes = field(repr=False)
    own_id: str
    peer_id: str
    random_token: Callable[[], str]

    def nonce(self) -> str:
        """Return a new nonce."""
        return sm3(self.random_token().encode()).hex()[:32]

    def request(self, operation: str, nonce: str, at: datetime, document: bytes) -> bytes:
        """Return a sealed request of ours as a form body."""
        timestamp = str(int(at.timestamp() * 1000))
        sealed = self._seal(_of_request(self.own_id, operation, timestamp, nonce), document)
        values = (self.own_id, timestamp, nonce, _base64(sealed.iv + sealed.text), sealed.tag.hex())
        return urlencode(dict(zip(FIELDS, values, strict=True))).encode()

    def open_request(self, operation: str, request: Request) -> bytes:
        """Return the document of a request that the peer sealed for this operation. Raises BadMessage."""
        if request.app_id != self.peer_id or not _NONCE.fullmatch(request.nonce):
            raise BadMessage("appId or nonce")
        bound = _of_request(self.peer_id, operation, request.timestamp, request.nonce)
        return self._open(bound, request.xml, request.sign)

    def answer(self, operation: str, nonce: str, code: str, document: bytes) -> bytes:
        """Return a sealed answer of ours to the request with this nonce."""
        sealed = self._seal(_of_answer(self.own_id, operation, nonce, code), document)
        data = _base64(sealed.iv + sealed.text)
        return written(made("result", code=code, data=data, sign=sealed.tag.hex()))

    def open_answer(self, operation: str, nonce: str, body: bytes) -> tuple[str, bytes]:
        """Return code and document of the peer's answer to our request with this nonce. Raises BadMessage."""
        try:
            result = document_of(body)
        except ValueError as wrong:
            raise BadMessage(str(wrong)) from None
        if result.tag != "result" or [child.tag for child in result] != ["code", "data", "sign"]:
            raise BadMessage("not a result with code, data and sign")
        code, data, sign = (text_of(result, name) for name in ("code", "data", "sign"))
        if not _CODE.fullmatch(code):
            raise BadMessage("code")
        return code, self._open(_of_answer(self.peer_id, operation, nonce, code), data, sign)

    def stream(self, operation: str, nonce: str) -> StreamSeal:
        """Return the seal of a file that answers the request with this nonce."""
        return StreamSeal(self.key, self._iv(), _of_answer(self.own_id, operation, nonce, DONE))

    def opening(self, operation: str, nonce: str) -> StreamOpen:
        """Return what opens a file of the peer's that answers our request with this nonce."""
        return StreamOpen(self.key, _of_answer(self.peer_id, operation, nonce, DONE))

    def _seal(self, bound: bytes, plain: bytes) -> Sealed:
        return seal(_SUITE, self.key, self._iv(), plain, bound)

    def _iv(self) -> bytes:
        return sm3(self.random_token().encode())[: SIZES[_SUITE].iv]

    def _open(self, bound: bytes, data: str, sign: str) -> bytes:
        if not _TAG.fullmatch(sign):
            raise BadMessage("sign")
        size = SIZES[_SUITE].iv
        try:
            raw = base64.b64decode(data, validate=True)
            return unseal(_SUITE, self.key, Sealed(raw[:size], raw[size:], bytes.fromhex(sign)), bound)
        except (ValueError, binascii.Error):
            raise BadMessage("the seal does not verify") from None


def _is_file(head: Answer) -> bool:
    return head.headers.get("content-type", "").partition(";")[0].strip().lower() == _FILE


def _of_request(app_id: str, operation: str, timestamp: str, nonce: str) -> bytes:
    return "\n".join(("request", app_id, operation, timestamp, nonce)).encode()


def _of_answer(app_id: str, operation: str, nonce: str, code: str) -> bytes:
    return "\n".join(("answer", app_id, operation, nonce, code)).encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def read_form(body: bytes) -> Request:
    """Return the fields of a request: each once, no others. Raises BadMessage."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=len(FIELDS),
            errors="strict",
        )  # fmt: skip
    except ValueError:
        raise BadMessage("not a form") from None
    values = dict(pairs)
    if len(pairs) != len(FIELDS) or values.keys() != set(FIELDS):
        raise BadMessage("not the fields of a request")
    return Request(*(values[name] for name in FIELDS))


def nonce_in(body: bytes) -> str:
    """Return the nonce of a request whatever else it is; empty when it has none of the agreed form."""
    try:
        nonce = read_form(body).nonce
    except BadMessage:
        return ""
    return nonce if _NONCE.fullmatch(nonce) else ""


# --- client --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """A verified answer: its code (done, not yet, not there) and its document."""

    code: str
    content: etree._Element


class PullClient:
    """Sends one sealed request at a time and returns the verified answer."""

    def __init__(self, wire: Wire, channel: Channel, path: str, clock: Clock, patience: float, pause: float) -> None:
        self.wire = wire
        self.channel = channel
        self.patience = patience
        """Seconds within which an answer that has to be asked for must have come."""
        self.pause = pause
        """Seconds between two questions for it."""
        self._path = path
        self._clock = clock

    async def ask(self, operation: str, document: bytes | etree._Element, about: bytes = b"") -> Told:
        """Send a request and return what was told: done, not yet, or not there. Raises RegionError for the rest.

        `about` is the document that a notice is about: whatever a refusal quotes of it is masked.
        """
        sent = document if isinstance(document, bytes) else written(document)
        nonce = self.channel.nonce()
        body = self.channel.request(operation, nonce, self._clock(), sent)
        answer = await self.wire.exchange("POST", self._url(operation), headers=_FORM, body=body)
        return self._told(answer, operation, nonce, about or sent)

    async def fetch(self, operation: str, document: etree._Element, size: int) -> AsyncGenerator[bytes, None]:
        """Ask for a file of so many bytes, and return them as they come. Raises RegionError.

        Whatever is wrong with the seal is known at its end, so that nothing may be used before all of it has come.
        """
        sent, nonce = written(document), self.channel.nonce()
        answer, content = await self.wire.download(
            self._url(operation),
            headers=_FORM,
            size=StreamSeal.size(size),
            method="POST",
            body=self.channel.request(operation, nonce, self._clock(), sent),
            is_file=lambda head: head.status == 200 and _is_file(head),
        )
        if content is None:
            told = self._told(answer, operation, nonce, sent)
            raise self._failure(told.code, told.content, sent)
        return self._plain(content, self.channel.opening(operation, nonce), size)

    async def _plain(
        self, content: AsyncGenerator[bytes, None], opening: StreamOpen, size: int
    ) -> AsyncGenerator[bytes, None]:
        """Open a file as it comes, on a thread: a large one would hold up everything else.

        The padding hides its size from whoever only counts what is sealed.
        """
        async with aclosing(content):
            async for piece in content:
                if plain := await asyncio.to_thread(opening.update, piece):
                    size -= len(plain)
                    yield plain
        try:
            rest = opening.finish()
        except ValueError:
            raise self.wire.uncertain("sent a file that cannot be trusted", "the seal does not verify") from None
        if len(rest) != size:
            raise self.wire.uncertain("sent another file than the one announced", "its size differs")
        if rest:
            yield rest

    def _url(self, operation: str) -> URL:
        return self.wire.url(f"{self._path}/{operation}")

    def _told(self, answer: Answer, operation: str, nonce: str, about: bytes) -> Told:
        try:
            code, plain = self._opened(answer, operation, nonce)
            content = document_of(plain)
        except (BadMessage, ValueError) as wrong:
            detail = f"HTTP {answer.status}: {wrong}"
            raise self.wire.uncertain("sent an answer that cannot be trusted or read", detail) from None
        if code not in (DONE, NOT_YET, NOT_THERE):
            raise self._failure(code, content, about)
        return Told(code, content)

    def _opened(self, answer: Answer, operation: str, nonce: str) -> tuple[str, bytes]:
        if answer.status != 200:
            raise BadMessage("no answer of the machine")
        return self.channel.open_answer(operation, nonce, answer.body)

    async def call(
        self, operation: str, document: bytes | etree._Element, name: str, about: bytes = b""
    ) -> etree._Element:
        """Send a request that has one answer, the document of this name. Raises RegionError."""
        return self._named(await self.ask(operation, document, about), name)

    async def find(self, operation: str, document: bytes | etree._Element, name: str) -> etree._Element | None:
        """As `call`, with None when there is no such thing."""
        told = await self.ask(operation, document)
        return None if told.code == NOT_THERE else self._named(told, name)

    def _named(self, told: Told, name: str) -> etree._Element:
        if told.code != DONE or told.content.tag != name:
            raise self.wire.uncertain("gave another answer than the operation has", f"code {told.code}")
        return told.content

    def _failure(self, code: str, error: etree._Element, sent: bytes) -> RegionError:
        word = quotable(error.get("DM", ""))
        if code in _NOT_OURS:
            detail = f"code {code} {word}: check sm4_key, mac_key, app_id, peer_id and our clock"
            return self.wire.unreachable("did not accept our seal; an operator must look", detail)
        if code == "503":
            return self.wire.unreachable("did not take the message", f"code 503 {word}")
        if code in _REFUSALS:
            reason = ": ".join(part for part in (word, quotable(error.text, sent)) if part)
            return self.wire.refused(reason, detail=f"code {code} {word}")
        return self.wire.uncertain("failed while it handled the message", f"code {code} {word}")


# --- opening -------------------------------------------------------------------------------------------------------


def open_client(kit: Kit, path: str) -> PullClient:
    """Compose the client of a machine from its settings and secrets (adapters/qingyuan/README.md).

    Settings: `base_url`, `app_id`, `peer_id`, `answer_poll_seconds`; secrets: `sm4_key`, `mac_key`.
    Raises StartRefused.
    """
    key = _hex(kit, "sm4_key", 16) + _hex(kit, "mac_key", 32)
    channel = Channel(key, _id(kit, "app_id"), _id(kit, "peer_id"), kit.random_token)
    if channel.own_id == channel.peer_id:
        raise refuse_start(kit, "settings.peer_id", "must not be app_id: what we sent could be sent back to us")
    pause = kit.settings.get("answer_poll_seconds")
    if isinstance(pause, bool) or not isinstance(pause, int | float) or pause <= 0:
        raise refuse_start(kit, "settings.answer_poll_seconds", "must be a number of seconds above 0")
    return PullClient(Wire(kit), channel, path, kit.clock, kit.timeout.total or 60.0, pause)


def _hex(kit: Kit, name: str, size: int) -> bytes:
    try:
        key = bytes.fromhex(text_secret(kit, name))
    except ValueError:
        key = b""
    if len(key) != size:
        raise refuse_start(kit, f"secrets.{name}", f"must be {size * 2} hexadecimal digits")
    return key


def _id(kit: Kit, name: str) -> str:
    text = text_setting(kit, name)
    if not _ID.fullmatch(text):
        raise refuse_start(kit, f"settings.{name}", "must be 1 to 64 letters, digits, dots, dashes")
    return text
