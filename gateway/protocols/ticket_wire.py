"""The wire of the ticket exchange: SM2-signed requests, answers and notices, and the SM4 envelope.

Owns: the canonical strings, what a peer's signature must cover and by which key it may be made, and opening the
envelope. Leaves to `gateway.protocols.ticket`: what the messages say. Source: docs/ticket-exchange.md, which says what
a real connection must confirm.

An answer that does not verify is `RegionUncertain`: nobody knows who sent it, so it is no word of the region's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from gateway.crypto.sm2 import CipherForm, SignatureForm, Sm2PrivateKey
from gateway.crypto.sm4 import Sealed, Suite, sm3, unseal
from gateway.crypto.sm_keys import PinnedKeys, UntrustedKeyError
from gateway.errors import ForgedCallback, InvalidRequest
from gateway.ports import Callback, Clock
from gateway.protocols.wire import Answer, Wire, callback_headers, check_time, unix_time

PROFILE = "PEARL-TICKET-1"
"""Stands at the head of everything that is signed, so that no signature serves another purpose."""

_SIGNED_HEADERS = ("x-app-id", "x-key-id", "x-timestamp", "x-nonce", "x-sign")
_MAX_SIGNATURE = 256


class UnverifiedError(ValueError):
    """A message proves nothing; the text says why and holds nothing that came from outside."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one province writes signatures and envelopes, and under which ids both sides sign."""

    signature: SignatureForm
    cipher: CipherForm
    suite: Suite
    our_id: bytes
    their_id: bytes


@dataclass(frozen=True, slots=True)
class Ours:
    """What we are to the province: our app id, and our two keys under their ids."""

    app_id: str
    signing_key_id: str
    signing_key: Sm2PrivateKey
    decryption_key_id: str
    decryption_key: Sm2PrivateKey


@dataclass(frozen=True, slots=True)
class Reply:
    """A verified answer: its code, its content (empty when nothing was told), and the exact bytes that were signed."""

    code: str
    message: object
    content: Mapping[str, Any]
    signed: bytes


@dataclass(frozen=True, slots=True)
class Notice:
    """A verified notice: its content and nonce."""

    content: Mapping[str, Any]
    nonce: str
    expires_at: datetime


class TicketWire:
    """Sends signed requests; takes nothing that the province's pinned key has not signed for us."""

    def __init__(
        self,
        wire: Wire,
        ours: Ours,
        theirs: PinnedKeys,
        dialect: Dialect,
        clock: Clock,
        random_token: Callable[[], str],
        tolerance: timedelta,
    ) -> None:
        self.wire = wire
        self.ours = ours
        self.clock = clock
        self.tolerance = tolerance
        self._theirs = theirs
        self._dialect = dialect
        self._random_token = random_token

    # --- ours

    def login_address(self, path: str, query: Mapping[str, str]) -> tuple[str, str]:
        """Return the address for the browser, signed, and the nonce in it."""
        nonce, timestamp = self._nonce(), self._now()
        stamped = {**query, "key_id": self.ours.signing_key_id, "timestamp": timestamp, "nonce": nonce}
        text = urlencode(stamped, quote_via=quote)
        url = self.wire.url(path)
        sign = self._sign("GET", url.raw_path, text, timestamp, nonce, b"")
        return f"{url}?{text}&{urlencode({'sign': sign}, quote_via=quote)}", nonce

    async def ask(self, path: str, document: Mapping[str, Any]) -> Reply:
        """Send a signed question and return the verified answer to it. Raises RegionError."""
        url, body = self.wire.url(path), orjson.dumps(document)
        nonce, timestamp = self._nonce(), self._now()
        headers = {
            "Content-Type": "application/json",
            "X-App-Id": self.ours.app_id,
            "X-Key-Id": self.ours.signing_key_id,
            "X-Timestamp": timestamp,
            "X-Nonce": nonce,
            "X-Sign": self._sign("POST", url.raw_path, "", timestamp, nonce, body),
        }
        answer = await self.wire.exchange("POST", url, headers=headers, body=body)
        try:
            return self._read(answer, url.raw_path, nonce)
        except ValueError as wrong:
            detail = f"HTTP {answer.status}: {wrong}"
            raise self.wire.uncertain("sent an answer that does not verify", detail) from None

    def _sign(self, method: str, path: str, query: str, timestamp: str, nonce: str, body: bytes) -> str:
        parts = (method, path, query, self.ours.app_id, self.ours.signing_key_id, timestamp, nonce, sm3(body).hex())
        message = "\n".join((f"{PROFILE} REQUEST", *parts)).encode()
        form = self._dialect.signature
        signature = self.ours.signing_key.sign(message, form, self._dialect.our_id)
        return base64.b64encode(signature).decode() if form == "der" else signature.hex()

    def _nonce(self) -> str:
        return sm3(self._random_token().encode()).hex()[:32]

    def _now(self) -> str:
        return str(int(self.clock().timestamp() * 1000))

    # --- theirs

    def _read(self, answer: Answer, path: str, nonce: str) -> Reply:
        """Verify first, then parse, then open. Raises ValueError."""
        missing = [name for name in _SIGNED_HEADERS if not answer.headers.get(name)]
        if missing:
            raise UnverifiedError(f"not signed: no {', '.join(missing)}")
        app_id, key_id, timestamp, told, sign = (answer.headers[name] for name in _SIGNED_HEADERS)
        if (app_id, told) != (self.ours.app_id, nonce):
            raise UnverifiedError("an answer to somebody else, or to another question")
        head = (f"{PROFILE} ANSWER", str(answer.status), path, app_id, key_id, timestamp, nonce)
        signed = self._verified(head, key_id, sign, answer.body)
        self._check_now(timestamp)
        document = _object(answer.body)
        sealed = document.get("sealed")
        content = {} if sealed is None else self._open(sealed, nonce)
        return Reply(str(document.get("code")), document.get("message"), content, signed)

    def notice(self, callback: Callback, path: str) -> Notice:
        """Verify and open a notice of the province. Raises ForgedCallback, ReplayedCallback or InvalidRequest."""
        app_id, key_id, timestamp, nonce, sign = callback_headers(callback, _SIGNED_HEADERS)
        if (app_id, callback.method, callback.path) != (self.ours.app_id, "POST", path):
            raise ForgedCallback("the notice is not for this gateway at this address")
        head = (f"{PROFILE} NOTICE", callback.method, callback.path, app_id, key_id, timestamp, nonce)
        try:
            self._verified(head, key_id, sign, callback.body)
        except ValueError as wrong:
            raise ForgedCallback("the notice does not verify", detail=str(wrong)) from None
        said = unix_time(timestamp, per_second=1000)
        if said is None:
            raise InvalidRequest("the signature is right, but X-Timestamp is no time")
        expires = check_time(said, callback, self.tolerance)
        try:
            return Notice(self._open(_object(callback.body).get("sealed"), nonce), nonce, expires)
        except ValueError as wrong:
            raise InvalidRequest("the signature is right, but the notice cannot be read", detail=str(wrong)) from None

    def _verified(self, head: tuple[str, ...], key_id: str, sign: str, body: bytes) -> bytes:
        """Return the signed bytes, if a pinned key in its term has signed exactly them. Raises ValueError."""
        try:
            key = self._theirs.key(key_id, self.clock())
        except UntrustedKeyError as wrong:
            raise UnverifiedError(str(wrong)) from None
        signed = "\n".join(head).encode() + b"\n" + body
        if not key.verify(signed, self._decoded(sign), self._dialect.signature, self._dialect.their_id):
            raise UnverifiedError("the signature is wrong")
        return signed

    def _decoded(self, sign: str) -> bytes:
        if len(sign) > _MAX_SIGNATURE:
            raise UnverifiedError("the signature is too long")
        return _base64(sign) if self._dialect.signature == "der" else bytes.fromhex(sign)

    def _check_now(self, timestamp: str) -> None:
        said = unix_time(timestamp, per_second=1000)
        if said is None or abs(self.clock() - said) > self.tolerance:
            raise UnverifiedError("its time is not now; compare the clocks")

    def _open(self, sealed: object, nonce: str) -> Mapping[str, Any]:
        """Return the content of a verified envelope. Raises ValueError: also for one that is not encrypted."""
        if not isinstance(sealed, dict):
            raise UnverifiedError("the content is not encrypted")
        if (sealed.get("suite"), sealed.get("key_id")) != (self._dialect.suite, self.ours.decryption_key_id):
            raise UnverifiedError("encrypted in another suite than agreed, or for another key")
        content_key = self.ours.decryption_key.decrypt(_base64(sealed.get("key")), self._dialect.cipher)
        parts = Sealed(*(_base64(sealed.get(name)) for name in ("iv", "text", "tag")))
        bound = f"{self.ours.app_id}\n{nonce}".encode()
        return _object(unseal(self._dialect.suite, content_key, parts, bound))


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise UnverifiedError("not a JSON object") from None
    if not isinstance(document, dict):
        raise UnverifiedError("not a JSON object")
    return document


def _base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise UnverifiedError("a part of it is missing")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UnverifiedError("a part of it is not base64") from None
