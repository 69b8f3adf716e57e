"""The iAM Smart (智方便) profile: HMAC-signed headers, content under a key that the authority hands out.

Owns: the header signature, the content encryption (CEK under KEK) with its cache, and cases, callbacks and matching in
that envelope. Leaves to `iamsmart_sign_on` the sign-on of a relying party, to `iamsmart_messages` what is said of
a case later, to mapping packs what stands in a document. Source: adapters/hongkong/README.md, which lists what a real
connection must confirm.

Result codes become outcomes in one table (`IamSmartClient._judge`). A refused signature (D20006) and a message that
the authority could not decrypt (D30002 twice, D30004) are `RegionUnreachable`: certainly not taken, an operator's
problem. D50000 is `RegionUncertain`: the authority failed while it held the message.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.errors import ForgedCallback, InvalidRequest, RegionUnreachable
from gateway.ports import (
    Callback,
    CallbackReading,
    CertificateReply,
    Clock,
    Kit,
    Material,
    RegionDocument,
    SubmissionOrder,
)
from gateway.protocols.wire import (
    Answer,
    Wire,
    as_object,
    bare_word,
    callback_headers,
    callback_object,
    check_path,
    check_posted,
    check_time,
    field_problems,
    nothing_taken_yet,
    quotable,
    read_material,
    refuse_start,
    secret_bytes,
    text_setting,
    unix_time,
)

TOLERANCE = timedelta(seconds=300)
"""How far a time stamp may be from our clock, both ways."""

KEY_MARGIN = timedelta(seconds=30)
"""How long before its end a content key is no longer used, so that a message does not outlive its key on the way."""

_SIGNED_HEADERS = ("clientid", "signaturemethod", "timestamp", "nonce", "signature")
_METHOD = "HmacSHA256"
_NONCE = re.compile(r"[0-9a-fA-F]{36}")
_IV_BYTES = 12
_TAG_BYTES = 16
_CEK_BYTES = 32

RandomBytes = Callable[[int], bytes]


# --- signature and content ---------------------------------------------------------------------------------------


def header_signature(secret: bytes, client_id: str, timestamp: str, nonce: str, body: bytes) -> str:
    """Return `base64(HMAC-SHA256(secret, clientID + "HmacSHA256" + timestamp + nonce + body))`, not yet URL-encoded."""
    message = f"{client_id}{_METHOD}{timestamp}{nonce}".encode() + body
    return base64.b64encode(hmac.new(secret, message, hashlib.sha256).digest()).decode()


def seal_content(key: bytes, plain: bytes, iv: bytes) -> str:
    """Return `base64(uint32_be(12) ‖ IV ‖ AES-256-GCM ciphertext ‖ tag)`. An IV must never be used twice with a key."""
    sealed = len(iv).to_bytes(4, "big") + iv + AESGCM(key).encrypt(iv, plain, None)
    return base64.b64encode(sealed).decode()


def open_content(key: bytes, content: object) -> bytes:
    """Return the plain bytes of `seal_content`. Raises ValueError."""
    raw = _from_base64(content)
    if len(raw) < 4 + _IV_BYTES + _TAG_BYTES or int.from_bytes(raw[:4], "big") != _IV_BYTES:
        raise ValueError("not in the form of sealed content")
    try:
        return AESGCM(key).decrypt(raw[4 : 4 + _IV_BYTES], raw[4 + _IV_BYTES :], None)
    except InvalidTag:
        raise ValueError("does not decrypt under the key in use") from None


def open_key(kek: RSAPrivateKey, wrapped: object) -> bytes:
    """Return the content key (CEK) that was wrapped under our public key (KEK), 32 bytes. Raises ValueError."""
    key = kek.decrypt(_from_base64(wrapped), PKCS1v15())
    if len(key) != _CEK_BYTES:
        raise ValueError("the content key has not 32 bytes")
    return key


def _from_base64(text: object) -> bytes:
    if not isinstance(text, str) or not text.isascii():
        raise ValueError("not base64 text")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("not base64 text") from None


@dataclass(frozen=True, slots=True)
class IamSmartSigner:
    """Signs our messages and checks the authority's, both under our client id and secret."""

    client_id: str
    secret: bytes
    clock: Clock
    random_token: Callable[[], str]

    def headers(self, body: bytes) -> dict[str, str]:
        """Return the five headers for one message."""
        timestamp = str(int(self.clock().timestamp() * 1000))
        nonce = hashlib.sha256(self.random_token().encode()).hexdigest()[:36]
        signature = header_signature(self.secret, self.client_id, timestamp, nonce, body)
        return {
            "clientID": self.client_id,
            "signatureMethod": _METHOD,
            "timestamp": timestamp,
            "nonce": nonce,
            "signature": quote(signature, safe=""),
        }

    def verify(self, callback: Callback) -> tuple[str, str]:
        """Check origin and integrity of a callback; return its nonce and time stamp. Raises ForgedCallback.

        The signature may be URL-encoded or plain: base64 has no `%`, so decoding a plain one changes nothing.
        """
        client_id, method, timestamp, nonce, signature = callback_headers(callback, _SIGNED_HEADERS)
        if client_id != self.client_id or method != _METHOD or not _NONCE.fullmatch(nonce):
            raise ForgedCallback("clientID, signatureMethod or nonce (36 hex characters) is not as agreed")
        expected = header_signature(self.secret, client_id, timestamp, nonce, callback.body)
        if not hmac.compare_digest(expected.encode(), unquote(signature).encode()):
            raise ForgedCallback("the callback does not verify: signature")
        return nonce, timestamp


# --- content key -------------------------------------------------------------------------------------------------


class KeyCache:
    """Keeps the content key until shortly before its end; many who need one at once cause one fetch."""

    def __init__(self, fetch: Callable[[], Awaitable[tuple[bytes, datetime]]], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = asyncio.Lock()
        self._held: tuple[bytes, datetime] | None = None

    async def current(self) -> bytes:
        """Return a key that is good now. Raises whatever fetching raises."""
        async with self._lock:
            if self._held is None or self._held[1] <= self._clock():
                self._held = await self._fetch()
            return self._held[0]

    def drop(self, key: bytes) -> None:
        """Forget a key that the authority no longer knows, unless another has taken its place already."""
        if self._held is not None and self._held[0] == key:
            self._held = None


# --- client ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """A readable answer with a code that the caller said it understands.

    `plain` are the exact bytes of the content, `sealed` the content as it came: under a fresh IV each time, so that two
    answers that are alike in it are one answer, sent again.
    """

    code: str
    content: dict[str, Any]
    plain: bytes = b""
    sealed: str = ""


class IamSmartClient:
    """Sends signed and sealed messages and reads what a result code means."""

    def __init__(
        self, wire: Wire, signer: IamSmartSigner, kek: RSAPrivateKey, random_bytes: RandomBytes = os.urandom
    ) -> None:
        self.wire = wire
        self.signer = signer
        self.kek = kek
        self._random_bytes = random_bytes
        self._keys = KeyCache(self._fetch_key, signer.clock)

    async def post(self, path: str, document: dict[str, Any], understood: tuple[str, ...] = ("M00000",)) -> Reply:
        """Send a document and return its reply; on D30002 once more under a new key. Raises RegionError."""
        plain = orjson.dumps(document)
        for last in (False, True):
            with nothing_taken_yet(self.wire.region):
                key = await self._keys.current()
            answer = await self._send(path, await asyncio.to_thread(self._seal, key, plain))
            if answer.get("code") != "D30002" or last:
                break
            self._keys.drop(key)
        return self._judge(answer, key, understood, document)

    def _seal(self, key: bytes, plain: bytes) -> bytes:
        return orjson.dumps({"content": seal_content(key, plain, self._random_bytes(_IV_BYTES))})

    async def _send(self, path: str, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", **self.signer.headers(body)}
        answer: Answer = await self.wire.exchange("POST", self.wire.url(path), headers=headers, body=body or None)
        if answer.status != 200:
            raise self.wire.uncertain("gave an unexpected answer", f"HTTP {answer.status}")
        return self.wire.json_object(answer.body)

    async def _fetch_key(self) -> tuple[bytes, datetime]:
        answer = await self._send("/api/v1/security/getKey", b"")
        if answer.get("code") == "D20006":
            raise self._not_taken("D20006")
        content = answer.get("content")
        given = content if answer.get("code") == "M00000" and isinstance(content, dict) else {}
        lasts = given.get("expiresIn")
        try:
            key = open_key(self.kek, given.get("secretKey"))
        except ValueError as wrong:
            raise self.wire.uncertain("handed out no usable content key", f"{answer.get('code')}: {wrong}") from None
        if not isinstance(lasts, int) or not 0 < lasts < 10**12:
            raise self.wire.uncertain("handed out no usable content key", "expiresIn")
        return key, self.signer.clock() + timedelta(milliseconds=lasts) - KEY_MARGIN

    def _judge(self, answer: dict[str, Any], key: bytes, understood: tuple[str, ...], sent: dict[str, Any]) -> Reply:
        code = str(answer.get("code"))
        if code in understood:
            return self._content(code, answer, key) if code == "M00000" else Reply(code, {})
        if code in ("D20006", "D30002", "D30004"):
            self._keys.drop(key)
            raise self._not_taken(code)
        if code == "D42200":
            problems = field_problems(self._errors(answer, key), sent)
            raise self.wire.refused(quotable(answer.get("message"), sent), problems, code)
        raise self.wire.uncertain("gave an unexpected answer", f"code {quotable(code)}")

    def _not_taken(self, code: str) -> RegionUnreachable:
        what = {"D20006": "check client_id, client_secret and our clock"}.get(code, "check kek_private_key")
        return self.wire.unreachable("could not read our message; an operator must look", f"{code}: {what}")

    def _content(self, code: str, answer: dict[str, Any], key: bytes) -> Reply:
        try:
            plain = open_content(key, answer.get("content"))
        except ValueError as wrong:
            raise self.wire.uncertain("sent an answer that cannot be read", f"content {wrong}") from None
        return Reply(code, self.wire.json_object(plain), plain, str(answer.get("content")))

    def _errors(self, answer: dict[str, Any], key: bytes) -> object:
        """Return the fields of a refusal; a no stays a no when they cannot be read."""
        try:
            content = orjson.loads(open_content(key, answer.get("content")))
        except ValueError:
            return None
        return content.get("errors") if isinstance(content, dict) else None


# --- submissions -------------------------------------------------------------------------------------------------


class IamSmartSubmissions:
    """Cases and their documents."""

    def __init__(self, client: IamSmartClient) -> None:
        self._client = client

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        """Upload what is needed, then hand the case over. Raises RegionError."""
        with nothing_taken_yet(self._client.wire.region):
            for material in order.materials:
                await upload(self._client, material)
        reply = await self._client.post("/api/v1/cases/submit", as_object(order.document))
        return self._receipt(reply, order.submission_id)

    async def ask(self, submission_id: str) -> RegionDocument | None:
        """Return the receipt of a case, or None when the region says that it has none. Raises RegionError."""
        reply = await self._client.post("/api/v1/cases/query", {"refNo": submission_id}, ("M00000", "D40400"))
        return None if reply.code == "D40400" else self._receipt(reply, submission_id)

    def _receipt(self, reply: Reply, submission_id: str) -> dict[str, Any]:
        if reply.content.get("refNo") != submission_id:
            raise self._client.wire.uncertain("answered for another submission", "refNo differs")
        return reply.content


async def upload(client: IamSmartClient, material: Material) -> None:
    """Hand one file over, which cases and supplements then name by its digest. Raises RegionError."""
    content = await read_material(material, client.wire.region)
    data = await asyncio.to_thread(lambda: base64.b64encode(content).decode())
    document = {"sha256": material.sha256, "mimeType": material.media_type, "data": data}
    reply = await client.post("/api/v1/documents/upload", document)
    if str(reply.content.get("sha256")).lower() != material.sha256:
        raise client.wire.uncertain("acknowledged another file than the one sent", f"material {material.code}")


# --- status events -----------------------------------------------------------------------------------------------


class IamSmartCallbacks:
    """Status events that the authority pushes, each under a content key of its own."""

    def __init__(self, signer: IamSmartSigner, kek: RSAPrivateKey, path: str) -> None:
        self._signer = signer
        self._kek = kek
        self._path = path

    async def read(self, callback: Callback) -> CallbackReading:
        """Verify and decode one event. Raises NotFound, ForgedCallback, ReplayedCallback or InvalidRequest."""
        check_path(callback, self._path)
        nonce, timestamp = self._signer.verify(callback)
        said = unix_time(timestamp, per_second=1000)
        if said is None:
            raise ForgedCallback("timestamp must be Unix time in milliseconds")
        expires = check_time(said, callback, TOLERANCE)
        check_posted(callback)
        return CallbackReading((self._event(callback.body),), {"code": "M00000"}, nonce, expires)

    def _event(self, body: bytes) -> dict[str, Any]:
        envelope = callback_object(body)
        try:
            plain = open_content(open_key(self._kek, envelope.get("secretKey")), envelope.get("content"))
        except ValueError as wrong:
            text = "the signature is right, but the content does not open under the key sent with it"
            raise InvalidRequest(text, detail=str(wrong)) from None
        return callback_object(plain)


# --- certificates ------------------------------------------------------------------------------------------------


class IamSmartMatching:
    """Certificate matching by consent: yes or no, never a value."""

    def __init__(self, client: IamSmartClient) -> None:
        self._client = client

    async def lookup(self, query: RegionDocument) -> CertificateReply:
        """Ask whether what is claimed fits what the issuer holds. Raises RegionError; also for an answer with a value.

        What else stands in an answer is not quoted anywhere: it would be what nobody here may know.
        """
        reply = await self._client.post("/api/v1/certificates/match", as_object(query))
        result = bare_word(self._client.wire, reply.content, {"checkedAt"}, "result")
        if not isinstance(reply.content.get("checkedAt", 0), int):
            raise self._client.wire.uncertain("said more than it may, and nothing of it is taken", "checkedAt")
        return CertificateReply(result)


# --- opening -----------------------------------------------------------------------------------------------------


def open_client(kit: Kit) -> IamSmartClient:
    """Compose the client from settings `base_url`, `client_id` and secrets `client_secret`, `kek_private_key`.

    Raises StartRefused.
    """
    secret = secret_bytes(kit, "client_secret")
    signer = IamSmartSigner(text_setting(kit, "client_id"), secret, kit.clock, kit.random_token)
    return IamSmartClient(Wire(kit), signer, _load_kek(kit))


def _load_kek(kit: Kit) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(kit.secret("kek_private_key"), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey) or key.key_size < 2048:
        raise refuse_start(kit, "secrets.kek_private_key", "must be an RSA private key of 2048 bits or more, PEM")
    return key
