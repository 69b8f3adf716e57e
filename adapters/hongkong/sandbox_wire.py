"""The envelope of the simulated authority of Hong Kong: who may speak to it, and how content is hidden on the way.

Owns: the header signature, time tolerance and nonces, content encryption under the CEK (content encryption key), the
keys handed out under the KEK (key encryption key), result codes and the shape of an answer. Leaves to the other
`sandbox_*` modules: what a message says. Written from README.md alone; shares nothing with `adapter.py`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote
from uuid import uuid4

from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from gateway.sandbox.authority import Misbehaviour

Clock = Callable[[], float]
"""Seconds since 1970, UTC."""

Work = Callable[[bytes], Mapping[str, Any]]
"""Reads a decrypted request and returns the content of the answer, or raises Refusal."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HOSTILE: Mapping[str, str] = {
    "hostile_signature_never_right": "answers D20006 to whatever is signed",
    "hostile_key_of_another_client": "hands out a content key that is wrapped for another client",
    "hostile_key_that_is_not_used": "hands out a content key under which it neither reads nor writes",
    "hostile_key_that_is_over": "hands out a content key whose time is over",
    "hostile_key_always_expired": "answers D30002 to whatever is sent",
    "hostile_tampered_content": "changes a byte of the sealed content on its way",
    "hostile_wrong_tag": "changes the tag of the sealed content",
    "hostile_short_iv": "says that the IV has another length",
    "hostile_plain_content": "answers with content that is not sealed",
    "hostile_replayed_answer": "answers the exchange of a code with the answer to an earlier one",
}
"""Attacks on the envelope that this authority knows."""

METHOD = "HmacSHA256"
TOLERANCE = 300_000  # ms, both ways
IV_LENGTH = 12
TAG_LENGTH = 16

SUCCESS = "M00000"
BAD_SIGNATURE = "D20006"
NO_CEK = "D30002"
NOT_DECRYPTED = "D30004"
BAD_CODE = "D40004"
NO_CASE = "D40400"
GONE = "D41000"
REFUSED = "D42200"
INTERNAL = "D50000"

_MESSAGES: Mapping[str, str] = {
    SUCCESS: "SUCCESS",
    BAD_SIGNATURE: "the signature, its time or its nonce is not valid",
    NO_CEK: "the content encryption key is missing or expired",
    NOT_DECRYPTED: "the content could not be decrypted",
    BAD_CODE: "the code is not valid for this client",
    NO_CASE: "no such case",
    GONE: "the document is kept no longer",
    REFUSED: "refused",
    INTERNAL: "internal error",
}


class Refusal(Exception):
    """A result code other than success, with its errors: field → reason."""

    def __init__(self, code: str, errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(code)
        self.code = code
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Client:
    """The one client that is registered here: its id and the secret that it shares with the authority."""

    id: str
    secret: bytes = field(repr=False)

    def signature(self, timestamp: str, nonce: str, body: bytes) -> str:
        """Return the signature of a message, base64, not yet URL-encoded."""
        head = f"{self.id}{METHOD}{timestamp}{nonce}".encode("utf-8", "surrogateescape")
        return b64encode(hmac.new(self.secret, head + body, hashlib.sha256).digest()).decode()

    def headers(self, body: bytes, now: float) -> dict[str, str]:
        """Return the headers of a message of our own, with a nonce never used before."""
        timestamp, nonce = str(int(now * 1000)), secrets.token_hex(18)
        signature = quote(self.signature(timestamp, nonce, body), safe="")
        return {
            "clientID": self.id,
            "signatureMethod": METHOD,
            "timestamp": timestamp,
            "nonce": nonce,
            "signature": signature,
        }


class Gatekeeper:
    """Lets a message in when it is signed, of this time, and new."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._young: set[str] = set()
        self._old: set[str] = set()
        self._since = 0

    def check(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raise Refusal (D20006) unless the message may come in; its nonce is used up when it may."""
        nonce = headers.get("nonce", "").lower()
        if not (self._signed(headers, body) and self._timely(headers["timestamp"]) and self._new(nonce)):
            raise Refusal(BAD_SIGNATURE)

    def _signed(self, headers: Mapping[str, str], body: bytes) -> bool:
        timestamp, nonce = headers.get("timestamp", ""), headers.get("nonce", "")
        given = unquote(headers.get("signature", ""))  # plain base64 has no percent sign: it passes unchanged
        return (
            headers.get("clientID") == self._client.id
            and headers.get("signatureMethod") == METHOD
            and re.fullmatch("[0-9]{13}", timestamp) is not None
            and re.fullmatch("[0-9a-fA-F]{36}", nonce) is not None
            and hmac.compare_digest(
                given.encode("utf-8", "surrogateescape"), self._client.signature(timestamp, nonce, body).encode()
            )
        )

    def _timely(self, timestamp: str) -> bool:
        return abs(int(self._clock() * 1000) - int(timestamp)) <= TOLERANCE

    def _new(self, nonce: str) -> bool:
        """Remember a nonce for at least twice the tolerance: longer than its message could still be timely."""
        now = int(self._clock() * 1000)
        if now - self._since > 2 * TOLERANCE:
            self._old, self._young, self._since = self._young, set(), now
        if nonce in self._young or nonce in self._old:
            return False
        self._young.add(nonce)
        return True


def seal(key: bytes, plain: bytes, iv: bytes) -> str:
    """Encrypt: base64(uint32_be(12) ‖ IV ‖ AES-256-GCM ciphertext ‖ tag), no AAD."""
    return b64encode(len(iv).to_bytes(4, "big") + iv + AESGCM(key).encrypt(iv, plain, None)).decode()


def seal_json(key: bytes, value: Mapping[str, Any]) -> str:
    """Encrypt a document under a fresh IV."""
    return seal(key, json.dumps(value, ensure_ascii=False).encode(), os.urandom(IV_LENGTH))


def unseal(key: bytes, content: str) -> bytes:
    """Decrypt what `seal` made. Raises Refusal (D30004) for anything else."""
    try:
        box = b64decode(content, validate=True)
        if len(box) < 4 + IV_LENGTH + TAG_LENGTH or int.from_bytes(box[:4], "big") != IV_LENGTH:
            raise Refusal(NOT_DECRYPTED)
        return AESGCM(key).decrypt(box[4 : 4 + IV_LENGTH], box[4 + IV_LENGTH :], None)
    except (ValueError, InvalidTag) as error:
        raise Refusal(NOT_DECRYPTED) from error


def kek(pem: bytes) -> RSAPublicKey:
    """Read the client's KEK. Raises ValueError unless it is an RSA key of 2048 bits."""
    key = load_pem_public_key(pem)
    if not isinstance(key, RSAPublicKey) or key.key_size != 2048:
        raise ValueError("kek_public_key is not an RSA-2048 public key")
    return key


def wrap(key: RSAPublicKey, cek: bytes) -> str:
    """Encrypt a CEK under the KEK: base64 of RSA PKCS#1 v1.5, as the profile demands."""
    return b64encode(key.encrypt(cek, PKCS1v15())).decode()


@dataclass(frozen=True, slots=True)
class _Cek:
    key: bytes = field(repr=False)
    issued: int  # ms
    expires: int  # ms


class KeyRing:
    """The CEKs of the client: the one in use and the one before it, each until it expires.

    Asking again returns the key in use until a tenth of its life is left, so that two callers do not displace each
    other's key. `lifetime` is in seconds.
    """

    def __init__(self, public: RSAPublicKey, lifetime: float, clock: Clock) -> None:
        self._public = public
        self._lifetime = int(lifetime * 1000)
        self._clock = clock
        self._keys: list[_Cek] = []

    def hand_out(self) -> dict[str, Any]:
        """Return the content of a `getKey` answer."""
        cek = self._current()
        return {
            "secretKey": wrap(self._public, cek.key),
            "pubKey": b64encode(self._public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode(),
            "issueAt": cek.issued,
            "expiresIn": cek.expires - cek.issued,
        }

    def wrapped(self, cek: bytes) -> str:
        """Return any key as the client could unwrap it."""
        return wrap(self._public, cek)

    def open(self, content: str) -> tuple[bytes, bytes]:
        """Return key and plain text. Raises Refusal: D30002 without a living key, D30004 when no key fits."""
        now = self._now()
        for cek in reversed(self._keys):
            try:
                plain = unseal(cek.key, content)
            except Refusal:
                continue  # the other key may fit; when none does, the end of this method says why
            if cek.expires <= now:
                raise Refusal(NO_CEK)
            return cek.key, plain
        raise Refusal(NOT_DECRYPTED if any(cek.expires > now for cek in self._keys) else NO_CEK)

    def _current(self) -> _Cek:
        now = self._now()
        if not self._keys or self._keys[-1].expires - now <= self._lifetime // 10:
            self._keys = [*self._keys[-1:], _Cek(os.urandom(32), now, now + self._lifetime)]
        return self._keys[-1]

    def _now(self) -> int:
        return int(self._clock() * 1000)


class Door:
    """Every server-to-server request comes in here: signature, then key, then content, then the work itself."""

    def __init__(self, gatekeeper: Gatekeeper, keys: KeyRing, wrong: Misbehaviour) -> None:
        self._gatekeeper = gatekeeper
        self._keys = keys
        self._wrong = wrong
        self._first: dict[str, Mapping[str, Any]] = {}

    async def get_key(self, request: web.Request) -> web.Response:
        """Answer `getKey`: the one request whose content, either way, is not encrypted."""
        body = await request.read()
        try:
            self._gatekeeper.check(request.headers, body)
        except Refusal as refusal:
            return _answer(refusal.code)
        return _answer(SUCCESS, self._handed_out())

    def _handed_out(self) -> dict[str, Any]:
        given = self._keys.hand_out()
        if self._wrong.due("hostile_key_of_another_client"):
            elsewhere = generate_private_key(public_exponent=65537, key_size=2048).public_key()
            given["secretKey"] = wrap(elsewhere, os.urandom(32))
        if self._wrong.due("hostile_key_that_is_not_used"):
            given["secretKey"] = self._keys.wrapped(os.urandom(32))
        if self._wrong.due("hostile_key_that_is_over"):
            given["expiresIn"] = 0
        return given

    def to(self, work: Work) -> Handler:
        """Return a handler that does the work behind signature and encryption."""

        async def handle(request: web.Request) -> web.Response:
            body = await request.read()
            try:
                self._gatekeeper.check(request.headers, body)
                self._refuse_everything()
                key, plain = self._keys.open(_content(body))
            except Refusal as refusal:
                return _answer(refusal.code)
            return self._sent(request.path, _done(work, key, plain), key)

        return handle

    def _refuse_everything(self) -> None:
        for mode, code in {
            "hostile_signature_never_right": BAD_SIGNATURE,
            "hostile_key_always_expired": NO_CEK,
        }.items():
            if self._wrong.due(mode):
                raise Refusal(code)

    def _sent(self, path: str, answer: dict[str, Any], key: bytes) -> web.Response:
        """Return the answer, or what an attacker makes of it. The first of each kind is kept to be sent again."""
        if answer["code"] != SUCCESS:
            return web.json_response(answer)
        first = self._first.setdefault(path, dict(answer))
        if path.endswith("/auth/getToken") and self._wrong.due("hostile_replayed_answer"):
            return web.json_response(first)
        for mode, tamper in _TAMPERING.items():
            if self._wrong.due(mode):
                answer["content"] = tamper(answer["content"], key)
        return web.json_response(answer)


def _changed(content: str, at: int) -> str:
    box = bytearray(b64decode(content))
    box[at] ^= 1
    return b64encode(bytes(box)).decode()


_TAMPERING: Mapping[str, Callable[[str, bytes], Any]] = {
    "hostile_tampered_content": lambda content, _key: _changed(content, 4 + IV_LENGTH),
    "hostile_wrong_tag": lambda content, _key: _changed(content, -1),
    "hostile_short_iv": lambda content, _key: _changed(content, 3),
    "hostile_plain_content": lambda content, key: json.loads(unseal(key, content)),
}
"""What happens to the content of an answer on its way."""


def _done(work: Work, key: bytes, plain: bytes) -> dict[str, Any]:
    try:
        return _envelope(SUCCESS, seal_json(key, work(plain)))
    except Refusal as refusal:
        return _envelope(refusal.code, seal_json(key, {"errors": list(refusal.errors)}))
    except sqlite3.Error:
        logging.getLogger(__name__).exception("the notebook failed")
        return _envelope(INTERNAL)


def _content(body: bytes) -> str:
    """Return X of `{"content": X}`; a body of another shape is content that cannot be decrypted."""
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(NOT_DECRYPTED) from error
    content = envelope.get("content") if isinstance(envelope, dict) else None
    if not isinstance(content, str):
        raise Refusal(NOT_DECRYPTED)
    return content


def _answer(code: str, content: Mapping[str, Any] | str | None = None) -> web.Response:
    return web.json_response(_envelope(code, content))


def _envelope(code: str, content: Mapping[str, Any] | str | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = {"txID": uuid4().hex, "code": code, "message": _MESSAGES[code]}
    return answer if content is None else {**answer, "content": content}
