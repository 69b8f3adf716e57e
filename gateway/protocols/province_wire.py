"""The wire of the case exchange: signed questions and answers in the envelope of Fujian's style, and bare materials.

Owns: the envelope, what a signature must cover, both ways, and what a status says of the outcome. Leaves to
`gateway.protocols.province`: the operations; to `province_suites`: the signatures themselves. Source:
docs/province-exchange.md, which says what a real connection must confirm.

An answer that does not verify is `RegionUncertain`: nobody knows who sent it, so it is no word of the region's. A
province that does not accept our signature (status 11) is `RegionUnreachable`: certainly not taken, an operator must
look, and after the repair the same message goes through.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import orjson
from yarl import URL

from gateway.errors import FieldProblem, ForgedCallback, RegionRefused
from gateway.ports import Callback, Clock, Material, RegionDocument, ResultDocument
from gateway.protocols.province_suites import LENGTH, Suite
from gateway.protocols.wire import (
    Answer,
    Wire,
    callback_headers,
    check_media_type,
    field_problems,
    quotable,
    unix_time,
)

PROFILE = "PEARL-PROVINCE-1"
"""Stands at the head of everything that is signed, so that no signature serves another purpose."""

SYSTEM = "泛珠通办网关"
TOLERANCE = timedelta(seconds=120)
"""How far a time may be from our clock, both ways."""

MAX_MATERIAL = 2 << 30
"""The largest material, in bytes (2 GiB). It is streamed: this is the provinces' limit and not ours."""

OK, NONE = "0", "10"
_CALLER, _BUSY = "11", "50"
_NO = frozenset({"12", "13", "14", "15", "17", "18", "19", "100"})
"""Statuses that are a definite no."""

_SIGNED_HEADERS = ("x-pearl-key", "x-pearl-time", "x-pearl-nonce", "x-pearl-digest", "x-pearl-sign")
_MAX_HEADER = 256
_NONCE = re.compile(r"[0-9a-f]{32}", re.ASCII)


class UnverifiedError(ValueError):
    """An answer proves nothing; the text says why and holds nothing that came from outside."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What we are to the province, and where it answers under its base address."""

    grant_code: str
    key_id: str
    department: str
    service: str
    materials: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A verified answer."""

    status: str
    message: object
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Question:
    """What an answer must be the answer to."""

    method: str
    path: str
    nonce: str


class ProvinceWire:
    """Sends signed questions and files; takes nothing that the province's pinned key has not signed in answer."""

    def __init__(self, wire: Wire, caller: Caller, suite: Suite, clock: Clock, random_token: Callable[[], str]) -> None:
        self.wire = wire
        self._caller = caller
        self._suite = suite
        self._clock = clock
        self._random_token = random_token

    async def ask(self, service: str, interface: str, data: Mapping[str, Any]) -> Reply:
        """Send one question and return the verified answer to it, whatever it says. Raises RegionError."""
        head = {
            "servicecode": service,
            "interfaceName": interface,
            "grantcode": self._caller.grant_code,
            "systemName": SYSTEM,
            "deptCode": self._caller.department,
        }
        body = orjson.dumps({"head": head, "data": data})
        url = self.wire.url(self._caller.service)
        headers, nonce = self._signed("POST", url, hashlib.sha256(body).hexdigest())
        headers["Content-Type"] = "application/json"
        answer = await self.wire.exchange("POST", url, headers=headers, body=body)
        return self._verified(answer, "POST", url, nonce)

    async def upload(self, number: str, material: Material) -> None:
        """Stream one file; its digest is known beforehand, so nothing of it is kept here. Raises RegionError."""
        _check_size(material, self.wire.region)
        check_media_type(material, self.wire.region)
        path = f"{self._caller.materials}/{quote(number, safe='')}/{material.sha256}"
        url = self.wire.url(path)
        headers, nonce = self._signed("PUT", url, material.sha256)
        headers["Content-Type"] = material.media_type
        answer = await self.wire.stream("PUT", url, headers=headers, content=material.open(), size=material.size)
        data = self.told(self._verified(answer, "PUT", url, nonce))
        if (data.get("digest"), data.get("size")) != (material.sha256, str(material.size)):
            raise self.wire.uncertain("acknowledged another file than the one sent", f"material {material.code}")

    async def download(self, number: str, document: ResultDocument) -> AsyncGenerator[bytes, None]:
        """Begin to fetch one file that was listed. Raises RegionError.

        The digest that the province has signed tells the file from a refusal: it stands before the first byte.
        """
        url = self.wire.url(f"{self._caller.materials}/{quote(number, safe='')}/{quote(document.code, safe='')}")
        headers, nonce = self._signed("GET", url, hashlib.sha256().hexdigest())

        def is_file(head: Answer) -> bool:
            if head.status != 200 or head.headers.get("x-pearl-digest") != document.sha256:
                return False
            with self._verifying(head):
                self._authentic(head, document.sha256, _Question("GET", url.raw_path, nonce))
            return True

        answer, content = await self.wire.download(url, headers=headers, size=document.size, is_file=is_file)
        if content is None:
            self.found(self._verified(answer, "GET", url, nonce), "no such document")
            raise self.wire.uncertain("gave an unexpected answer", "neither the file nor a refusal")
        return content

    def found(self, reply: Reply, otherwise: str) -> Mapping[str, Any]:
        """Return the data of a yes; that there is nothing such is a definite no. Raises as `told`."""
        if reply.status == NONE:
            raise self.wire.refused(otherwise, detail=f"status {NONE}")
        return self.told(reply)

    def told(self, reply: Reply, sent: RegionDocument | None = None) -> Mapping[str, Any]:
        """Return the data of a yes. Raises RegionRefused, RegionUnreachable or RegionUncertain."""
        if reply.status == OK:
            return reply.data
        self.check_caller(reply)
        if reply.status in _NO:
            problems = field_problems(reply.data.get("fieldList"), self._sent(sent))
            raise self.wire.refused(self.words(reply, sent), problems, f"status {reply.status}")
        raise self.wire.uncertain("gave an unexpected answer", f"status {quotable(reply.status)}")

    def words(self, reply: Reply, sent: RegionDocument | None = None) -> str:
        """Return what the province says, as far as it may be shown: without the person, and without our grant code."""
        return quotable(reply.message, self._sent(sent))

    def _sent(self, document: RegionDocument | None) -> dict[str, Any]:
        """Return everything of ours that an answer might repeat."""
        return {"grantcode": self._caller.grant_code, "data": document}

    def listed(self, data: Mapping[str, Any]) -> list[RegionDocument]:
        """Return the entries of an answer's `dataList`. Raises RegionUncertain."""
        listed = data.get("dataList")
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            raise self.wire.uncertain("sent an answer that cannot be read", "no dataList")
        return listed

    def noticed(self, callback: Callback) -> tuple[str, datetime]:
        """Check that what was pushed to us is the province's; return its nonce, and when it was sent.

        Raises ForgedCallback.
        """
        key_id, said, nonce, digest, sign = callback_headers(callback, _SIGNED_HEADERS)
        moment = unix_time(said, per_second=1000)
        if moment is None or not _NONCE.fullmatch(nonce):
            raise ForgedCallback("X-Pearl-Time must be Unix time in milliseconds, X-Pearl-Nonce 32 hex digits")
        if not hmac.compare_digest(hashlib.sha256(callback.body).hexdigest().encode(), digest.encode()):
            raise ForgedCallback("the notice's body is not what was signed")
        lines = ("NOTICE", callback.method, callback.path, key_id, said, nonce, digest)
        try:
            self._suite.verify(key_id, _text(lines), _signature(sign), callback.received_at)
        except ValueError as wrong:
            raise ForgedCallback(f"the notice does not verify: {wrong}") from None
        return nonce, moment

    def check_caller(self, reply: Reply) -> None:
        """Raise RegionUnreachable for an answer that says that nothing was taken, now or from us."""
        if reply.status == _BUSY:
            raise self.wire.unreachable("is busy and did not take the message", f"status {_BUSY}")
        if reply.status == _CALLER:
            what = "does not accept our grant code, key, signature or clock; an operator must look"
            raise self.wire.unreachable(what, f"status {_CALLER}")

    # --- signatures

    def _signed(self, method: str, url: URL, digest: str) -> tuple[dict[str, str], str]:
        """Return the headers of a question, and the nonce that its answer must repeat."""
        nonce = hashlib.sha256(self._random_token().encode()).hexdigest()[:32]
        said = str(int(self._clock().timestamp() * 1000))
        caller = self._caller
        lines = ("REQUEST", method, url.raw_path, caller.key_id, caller.grant_code, said, nonce, digest)
        sign = base64.b64encode(self._suite.sign(_text(lines))).decode()
        values = (caller.key_id, said, nonce, digest, sign)
        return {name.title(): value for name, value in zip(_SIGNED_HEADERS, values, strict=True)}, nonce

    def _verified(self, answer: Answer, method: str, url: URL, nonce: str) -> Reply:
        """Verify first, then parse. Raises RegionUncertain."""
        with self._verifying(answer):
            if answer.status != 200:
                raise UnverifiedError("no answer of the province's")
            digest = hashlib.sha256(answer.body).hexdigest()
            self._authentic(answer, digest, _Question(method, url.raw_path, nonce))
            return _reply(answer.body)

    @contextmanager
    def _verifying(self, answer: Answer) -> Iterator[None]:
        try:
            yield
        except ValueError as wrong:
            detail = f"HTTP {answer.status}: {wrong}"
            raise self.wire.uncertain("sent an answer that does not verify", detail) from None

    def _authentic(self, answer: Answer, body: str, question: _Question) -> None:
        """Check that an answer is the province's, to this question and of now. `body` is the digest of its body.

        Raises ValueError.
        """
        values = [answer.headers.get(name, "") for name in _SIGNED_HEADERS]
        if any(not 0 < len(value) <= _MAX_HEADER for value in values):
            raise UnverifiedError("not signed")
        key_id, said, told, digest, sign = values
        if told != question.nonce:
            raise UnverifiedError("an answer to another question")
        if not hmac.compare_digest(body.encode(), digest.encode()):
            raise UnverifiedError("its body is not what was signed")
        lines = ("ANSWER", question.method, question.path, key_id, said, question.nonce, digest)
        self._suite.verify(key_id, _text(lines), _signature(sign), self._clock())
        moment = unix_time(said, per_second=1000)
        if moment is None or abs(self._clock() - moment) > TOLERANCE:
            raise UnverifiedError("its time is not now; compare the clocks")


def _text(lines: tuple[str, ...]) -> bytes:
    return (f"{PROFILE} " + "\n".join(lines)).encode()


def _signature(sign: str) -> bytes:
    try:
        signature = base64.b64decode(sign, validate=True)
    except (binascii.Error, ValueError):
        signature = b""
    if len(signature) != LENGTH:
        raise UnverifiedError("the signature is not r and s in base64")
    return signature


def _reply(body: bytes) -> Reply:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    head, data = (document.get("head"), document.get("data")) if isinstance(document, dict) else (None, None)
    if not isinstance(head, dict) or not isinstance(head.get("status"), str):
        raise UnverifiedError("no head with a status")
    return Reply(head["status"], head.get("message"), data if isinstance(data, dict) else {})


def _check_size(material: Material, region: str) -> None:
    if material.size > MAX_MATERIAL:
        problem = FieldProblem(f"materials.{material.code}", f"is larger than {MAX_MATERIAL} bytes", "too_large")
        text = f"{region} takes materials of at most {MAX_MATERIAL >> 30} GiB"
        raise RegionRefused(text, problems=[problem], region=region)
