"""The signed REST exchange: JSON over HTTP, OAuth 2.0 client credentials, a JWS over every message, pinned keys.

Owns: the access token (RFC 6749 §4.4) and how long it is used, the signature over a message and the check of one over
an answer, what an answer says of the outcome, uploading files of any size as they come. Leaves to
`signed_rest_services` what is said; to mapping packs what stands in a document; to the core retries.
Source: docs/signed-rest.md, with what a real connection must confirm.

A signature is a small JWT (RFC 7519) that names the digest of the body, so that a file of two gigabytes is signed
without being read twice or held. An answer counts only when it is signed, and for the request that was made; one that
is not is `RegionUncertain`, whatever its status says.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet
from yarl import URL

from gateway.crypto.jose import UnreadableToken, UnverifiedToken, instant, verified_claims
from gateway.errors import FieldProblem, RegionRefused
from gateway.ports import Kit, Material, RegionDocument, ResultDocument
from gateway.protocols.oidc import ClientProof, open_proof
from gateway.protocols.wire import (
    Answer,
    Wire,
    as_object,
    check_media_type,
    field_problems,
    nothing_taken_yet,
    quotable,
    refuse_start,
    text_setting,
)

HEADER = "X-Exchange-Signature"
"""Where the signature of a message stands, in requests and in answers."""

TOLERANCE = timedelta(seconds=300)
"""How far a message's time may be from our clock, both ways."""

TOKEN_MARGIN = timedelta(seconds=30)
"""How long before its end an access token is no longer used, so that it does not run out on the way."""

LARGEST_MATERIAL = 2 << 30
"""Bytes of a single file that the exchange takes (2 GiB)."""

ASKED_FOR = 8 << 20
"""Bytes from which on a file is asked for before it is sent: after a failure it need not travel again."""

EMPTY = hashlib.sha256(b"").hexdigest()

_REQUEST, _ANSWER = "exchange-request+jwt", "exchange-answer+jwt"
_LONGEST_TOKEN = 8192
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)
_OPERATOR = frozenset({"SIGNATURE", "STALE", "REPLAYED"})
"""Codes by which our message was not even read: certainly not taken, and an operator's business."""


# --- access token ------------------------------------------------------------------------------------------------


class AccessToken:
    """Our token at the exchange: fetched once for everybody who needs it, used until shortly before its end."""

    def __init__(self, wire: Wire, proof: ClientProof, kit: Kit) -> None:
        self._wire = wire
        self._proof = proof
        self._clock = kit.clock
        self._lock = asyncio.Lock()
        self._held: tuple[str, datetime] | None = None

    async def current(self) -> str:
        """Return a token that is good now. Raises RegionUnreachable or RegionUncertain."""
        async with self._lock:
            if self._held is None or self._held[1] <= self._clock():
                self._held = await self._fetch()
            return self._held[0]

    def drop(self, token: str) -> None:
        """Forget a token that the exchange does not take, unless another has taken its place already."""
        if self._held is not None and self._held[0] == token:
            self._held = None

    async def _fetch(self) -> tuple[str, datetime]:
        headers, fields = self._proof.sign()
        form = URL.build(query={"grant_type": "client_credentials", "scope": "exchange", **fields}).raw_query_string
        known = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        asked_at = self._clock()
        answer = await self._wire.exchange("POST", self._wire.url("/oauth2/token"), headers=known, body=form.encode())
        given = self._wire.json_object(answer.body)
        if answer.status in (400, 401):
            what = "gives us no access token; an operator must look at client_id and client_key"
            raise self._wire.unreachable(what, f"HTTP {answer.status} {quotable(given.get('error'))}")
        token, seconds = given.get("access_token"), given.get("expires_in")
        usable = isinstance(token, str) and 0 < len(token) <= _LONGEST_TOKEN and token.isascii() and token.isprintable()
        if answer.status != 200 or not usable or str(given.get("token_type")).lower() != "bearer":
            raise self._wire.uncertain("handed out no usable access token", f"HTTP {answer.status}")
        lasts = seconds if isinstance(seconds, int) and 0 < seconds < 10**8 else 0  # without a word: this once
        return str(token), asked_at + timedelta(seconds=lasts) - TOKEN_MARGIN


# --- signatures --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are there, the key that we sign with, and the exchange's keys: pinned, nothing is looked up."""

    client_id: str
    key: ECKey
    peers: KeySet
    kit: Kit

    def sign(self, method: str, target: str, digest: str) -> tuple[str, str]:
        """Return the id of a request, and the signature over it. `target` is path and query as sent."""
        request_id = hashlib.sha256(self.kit.random_token().encode()).hexdigest()[:32]
        claims = {
            "iss": self.client_id,
            "jti": request_id,
            "iat": int(self.kit.clock().timestamp()),
            "htm": method,
            "htu": target,
            "sha256": digest,
        }
        header = {"alg": "ES256", "typ": _REQUEST, "kid": self.key.thumbprint()}
        return request_id, jwt.encode(header, claims, self.key, algorithms=["ES256"])

    def verify(self, answer: Answer, request_id: str, digest: str | None) -> str:
        """Refuse an answer that is not the exchange's, not to this request, or out of time. Raises UnreadableToken.

        `digest` is that of its body, as it came or, of a file that is still to come, as it must be; None where nobody
        has said it before. Returns the digest that was signed.
        """
        signature = answer.headers.get(HEADER.lower(), "")
        try:
            claims = verified_claims(signature, self.peers, algorithms={"ES256"}, types={_ANSWER})
        except UnverifiedToken as wrong:
            raise UnreadableToken(str(wrong)) from None
        said = instant(claims, "iat")
        if claims.get("rid") != request_id:
            raise UnreadableToken("the answer is for another request")
        signed = claims.get("sha256")
        if claims.get("status") != answer.status or not isinstance(signed, str) or signed != (digest or signed):
            raise UnreadableToken("the signature is over another answer")
        if said is None or abs(self.kit.clock() - said) > TOLERANCE:
            raise UnreadableToken("the answer is out of time")
        return signed


# --- client ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """A verified answer: what it brought, or the code of a no that the caller said it understands."""

    document: dict[str, Any]
    code: str = ""


@dataclass(frozen=True, slots=True)
class SignedFile:
    """A file on its way, of which nothing was said before: the exchange signed this digest for it."""

    media_type: str
    size: int
    sha256: str
    body: AsyncGenerator[bytes, None]


@dataclass(frozen=True, slots=True)
class _Content:
    """What a request carries: bytes at hand, or a file that is opened for each attempt."""

    media_type: str = ""
    body: bytes = b""
    material: Material | None = None

    @property
    def digest(self) -> str:
        return self.material.sha256 if self.material else hashlib.sha256(self.body).hexdigest()


_Got = tuple[Answer, AsyncGenerator[bytes, None] | None]
"""An answer, and the bytes of the file when it is one."""
_Send = Callable[[Mapping[str, str], str], Awaitable[_Got]]
"""Sends once, under these headers and this id of the request."""


class RestClient:
    """Sends one signed message at a time and returns its verified answer."""

    def __init__(
        self, wire: Wire, token: AccessToken, credentials: Credentials, *, wrapped: bool, asks: bool = True
    ) -> None:
        """`wrapped`: documents stand under `data`, both ways; otherwise a body is a document.

        `asks`: the exchange has questions for what it holds.
        """
        self.wire = wire
        self.asks = asks
        self._token = token
        self._credentials = credentials
        self._wrapped = wrapped

    async def ask(self, path: str, query: Mapping[str, str] | None = None, understood: tuple[str, ...] = ()) -> Reply:
        """Ask a question. `understood` are the codes of a no that the caller can tell apart. Raises RegionError."""
        answer = await self._exchange("GET", self.wire.url(path, query), _Content(), {})
        return self._judge(answer, understood, None)

    async def fetch(self, path: str, document: ResultDocument) -> AsyncGenerator[bytes, None]:
        """Ask for a file, and return its bytes as they come. Raises RegionError.

        The signature stands before the file and names its digest, so that none of its bytes is taken for another's.
        """
        url = self.wire.url(path)

        async def get(headers: Mapping[str, str], request_id: str) -> _Got:
            def is_file(head: Answer) -> bool:
                return head.status == 200 and bool(self._verified(head, request_id, document.sha256))

            return await self.wire.download(url, headers=headers, size=document.size, is_file=is_file)

        answer, content = await self._under_token("GET", url, _Content(), get)
        if content is None:
            self._judge(answer, (), None)
            raise self.wire.uncertain("gave an unexpected answer", f"HTTP {answer.status}")
        return content

    async def order(self, path: str, document: RegionDocument) -> SignedFile | Reply:
        """Ask for a file by a document that says which; a reply says why there is none. Raises RegionError.

        As with `fetch`, the signature stands before the file; what it names is the digest of whatever comes.
        """
        sent, url = as_object(document), self.wire.url(path)
        asked = _Content("application/json", self._written(sent))
        signed: list[str] = []

        async def post(headers: Mapping[str, str], request_id: str) -> _Got:
            def is_file(head: Answer) -> bool:
                if head.status != 200 or _media_type(head) == "application/json":
                    return False
                signed[:] = [self._signed_digest(head, request_id, None)]
                return True

            known = {**headers, "Content-Type": asked.media_type}
            return await self.wire.download(
                url, headers=known, size=None, method="POST", body=asked.body, is_file=is_file
            )  # fmt: skip

        answer, content = await self._under_token("POST", url, asked, post)
        if content is None:
            return self._judge(answer, (), sent)
        return SignedFile(_media_type(answer), int(answer.headers["content-length"]), signed[0], content)

    async def tell(self, path: str, document: RegionDocument, key: str = "") -> Reply:
        """Hand a document over; `key` is the idempotency key, under which it is taken once. Raises RegionError."""
        sent = as_object(document)
        content = _Content("application/json", self._written(sent))
        headers = {"Idempotency-Key": key} if key else {}
        answer = await self._exchange("POST", self.wire.url(path), content, headers)
        return self._judge(answer, (), sent)

    def _written(self, document: Mapping[str, Any]) -> bytes:
        return orjson.dumps({"data": document} if self._wrapped else document)

    async def upload(self, path: str, material: Material) -> None:
        """Bring a file there as it comes from its store, unless it is there already. Raises RegionError.

        A step before the message itself: whatever fails here, the message was not taken.
        """
        self._check(material)
        with nothing_taken_yet(self.wire.region):
            if material.size >= ASKED_FOR and await self._is_there(path):
                return
            content = _Content(material.media_type, material=material)
            answer = await self._exchange("PUT", self.wire.url(path), content, {})
            said = self._judge(answer, (), None).document.get("sha256")
            if said != material.sha256:
                what = "acknowledged another file than the one sent"
                raise self.wire.uncertain(what, f"material {material.code}")

    async def _is_there(self, path: str) -> bool:
        return self.asks and not (await self.ask(path, None, ("NO_SUCH_MATERIAL",))).code

    def _check(self, material: Material) -> None:
        check_media_type(material, self.wire.region)
        if material.size > LARGEST_MATERIAL:
            problem = FieldProblem(
                f"materials.{material.code}", f"is larger than {LARGEST_MATERIAL} bytes", "too_large"
            )
            text = f"{self.wire.region} takes materials of at most {LARGEST_MATERIAL >> 30} GiB"
            raise RegionRefused(text, problems=[problem], region=self.wire.region)

    async def _exchange(self, method: str, url: URL, content: _Content, headers: Mapping[str, str]) -> Answer:
        """Make one exchange under a token."""

        async def send(signed: Mapping[str, str], _request_id: str) -> _Got:
            return await self._send(method, url, content, {**headers, **signed}), None

        return (await self._under_token(method, url, content, send))[0]

    async def _under_token(self, method: str, url: URL, content: _Content, send: _Send) -> _Got:
        """Send under a token; once more under a new one when the exchange does not take the old one."""
        for last in (False, True):
            with nothing_taken_yet(self.wire.region):
                token = await self._token.current()
            request_id, signature = self._credentials.sign(method, self._target(url), content.digest)
            answer, file = await send({"Authorization": f"Bearer {token}", HEADER: signature}, request_id)
            if file is not None:
                return answer, file
            if not _token_refused(answer):
                return self._verified(answer, request_id, hashlib.sha256(answer.body).hexdigest()), None
            self._token.drop(token)
            if last:
                break
        what = "does not take the access token that it gave us; an operator must look"
        raise self.wire.unreachable(what, "HTTP 401 with a fresh token")

    def _target(self, url: URL) -> str:
        """Return path and query behind the base address, as they stand in the request."""
        return url.raw_path_qs.removeprefix(URL(self.wire.base_url, encoded=True).raw_path.rstrip("/"))

    async def _send(self, method: str, url: URL, content: _Content, headers: Mapping[str, str]) -> Answer:
        known = {**headers, "Content-Type": content.media_type} if content.media_type else headers
        file = content.material
        if file is None:
            return await self.wire.exchange(method, url, headers=known, body=content.body or None)
        return await self.wire.stream(method, url, headers=known, content=file.open(), size=file.size)

    def _verified(self, answer: Answer, request_id: str, digest: str) -> Answer:
        self._signed_digest(answer, request_id, digest)
        return answer

    def _signed_digest(self, answer: Answer, request_id: str, digest: str | None) -> str:
        try:
            return self._credentials.verify(answer, request_id, digest)
        except UnreadableToken as wrong:
            detail = f"HTTP {answer.status}: {wrong}"
            raise self.wire.uncertain("sent an answer that cannot be trusted", detail) from None

    def _judge(self, answer: Answer, understood: tuple[str, ...], sent: RegionDocument | None) -> Reply:
        """Tell a yes, a definite no and an unknown outcome apart. The answer is verified: all of it is the region's."""
        document = self.wire.json_object(answer.body)
        if answer.status == 200:
            return Reply(self._unwrapped(document))
        code = str(document.get("code", ""))
        if code in understood and answer.status == 404:
            return Reply({}, code)
        if code in _OPERATOR:
            detail = f"{code}: check signing_key, client_id and our clock"
            raise self.wire.unreachable("did not accept our signature; an operator must look", detail)
        if 400 <= answer.status < 500:
            reason = ": ".join(part for part in (quotable(code), quotable(document.get("message"), sent)) if part)
            raise self.wire.refused(reason, field_problems(document.get("errors"), sent), f"HTTP {answer.status}")
        raise self.wire.uncertain("failed while it handled the message", f"HTTP {answer.status} {quotable(code)}")

    def _unwrapped(self, document: dict[str, Any]) -> dict[str, Any]:
        inner = document.get("data") if self._wrapped else document
        if not isinstance(inner, dict):
            raise self.wire.uncertain("sent an answer that cannot be read", "no data")
        return inner


def _media_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def _token_refused(answer: Answer) -> bool:
    """Say whether the token was refused (RFC 6750 §3): by whatever stands in front, before the message was read."""
    return answer.status == 401 and answer.headers.get("www-authenticate", "").lower().startswith("bearer")


# --- opening -----------------------------------------------------------------------------------------------------


def exchange_kit(kit: Kit) -> Kit:
    """Return the kit for the exchange of a region that signs people on elsewhere, under other addresses and names.

    Settings `exchange_base_url`, `exchange_client_id` and `exchange_issuer` take the place of those without the word.
    Raises StartRefused.
    """
    own = {name: text_setting(kit, f"exchange_{name}") for name in ("base_url", "client_id", "issuer")}
    return replace(kit, settings={**kit.settings, **own})


def open_client(kit: Kit, *, wrapped: bool, asks: bool = True) -> RestClient:
    """Compose the client; makes no network call. Raises StartRefused.

    Settings `base_url`, `client_id`, `issuer` (for whom our proof is meant) and `client_authentication`
    (`private_key_jwt` with the secret `client_key`, or `client_secret_basic` with `client_secret`); secrets
    `signing_key` (ours) and `peer_key` (theirs, one or more).
    """
    wire, client_id = Wire(kit), text_setting(kit, "client_id")
    token = AccessToken(wire, open_proof(kit, client_id, text_setting(kit, "issuer")), kit)
    credentials = Credentials(client_id, _signing_key(kit), _peers(kit), kit)
    return RestClient(wire, token, credentials, wrapped=wrapped, asks=asks)


def _signing_key(kit: Kit) -> ECKey:
    pem = kit.secret("signing_key")
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        reason = "must be a private key on curve P-256, PEM, without a pass phrase"
        raise refuse_start(kit, "secrets.signing_key", reason)
    return ECKey.import_key(pem)


def _peers(kit: Kit) -> KeySet:
    keys: list[Key] = []
    for pem, key in public_keys(kit, "peer_key"):
        if not isinstance(key, EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise refuse_start(kit, "secrets.peer_key", "must hold public keys on curve P-256 only")
        pinned = ECKey.import_key(pem)
        pinned.ensure_kid()
        keys.append(pinned)
    return KeySet(keys)


def webhook_keys(kit: Kit) -> list[Ed25519PublicKey]:
    """Return the keys of secret `webhook_key`, by which callbacks are verified. Raises StartRefused."""
    keys = [key for _, key in public_keys(kit, "webhook_key")]
    fit = [key for key in keys if isinstance(key, Ed25519PublicKey)]
    if len(fit) < len(keys):
        raise refuse_start(kit, "secrets.webhook_key", "must hold public keys on Ed25519 only")
    return fit


def public_keys(kit: Kit, name: str) -> list[tuple[bytes, PublicKeyTypes]]:
    """Return the public keys of a secret: one, or two while one takes over from the other. Raises StartRefused."""
    pems = _PEM.findall(kit.secret(name))
    try:
        keys = [(pem, load_pem_public_key(pem)) for pem in pems]
    except (ValueError, UnsupportedAlgorithm):
        keys = []
    if not keys:
        raise refuse_start(kit, f"secrets.{name}", "must hold one or more public keys, PEM")
    return keys
