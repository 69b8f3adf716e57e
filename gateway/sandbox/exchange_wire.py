"""The wire of a simulated signed REST exchange: tokens, signatures over messages, refusals, signed callbacks.

Owns: who may speak to the exchange, what of a message is believed, and how an answer or a callback is signed. Leaves to
`exchange_authority` what is said. A second, independent reading of docs/signed-rest.md: it shares no code with the
gateway, and puts its JWS together by hand (RFC 7515 §3, RFC 7518 §3.4) where the gateway uses a library.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import secrets
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from gateway.sandbox.authority import AuthoritySettings, Misbehaviour

Clock = Callable[[], float]
"""Unix seconds."""
Document = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Public = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

HEADER = "X-Exchange-Signature"
TOLERANCE = 300  # s
TOKEN_LIFE = 300  # s
LARGEST_BODY = 4 << 20
LARGEST_FILE = 2 << 30
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

MODES: Mapping[str, str] = {
    "wrong_signature": "signs answers with a key that nobody knows",
    "unsigned": "does not sign its answers",
    "other_request": "binds its answers to another request",
    "altered_answer": "changes an answer after it was signed",
    "hour_back": "dates its answers an hour back",
    "token_forgotten": "no longer knows the access tokens that it gave out",
    "no_token": "gives out no access token",
    "forged_callback": "sends a callback twice, first signed with a key that nobody knows",
}
"""What it can be asked to do wrong, beside what every authority can."""

_log = logging.getLogger(__name__)


class Refusal(Exception):
    """A no of the exchange: HTTP status, code, and what is wrong field by field."""

    def __init__(self, status: int, code: str, message: str = "", errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(code)
        self.status = status
        self.document = {"code": code, "message": message or code, **({"errors": list(errors)} if errors else {})}


# --- keys and signatures -----------------------------------------------------------------------------------------


def _encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return the id of a key on P-256 (RFC 7638 §3.2)."""
    numbers = key.public_numbers()
    x, y = (_encoded(number.to_bytes(32)) for number in (numbers.x, numbers.y))
    return _encoded(hashlib.sha256(f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'.encode()).digest())


def signed(key: ec.EllipticCurvePrivateKey, typ: str, claims: Mapping[str, Any]) -> str:
    """Return a compact JWS (ES256)."""
    header = {"alg": "ES256", "typ": typ, "kid": thumbprint(key.public_key())}
    said = ".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
    r, s = decode_dss_signature(key.sign(said.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{said}.{_encoded(r.to_bytes(32) + s.to_bytes(32))}"


def read_signed(token: str, key: Public, typ: str | None) -> Document:
    """Return the claims of a compact JWS that this key made. Raises ValueError. `typ` None: any."""
    said, _, signature = token.rpartition(".")
    header, _, payload = said.partition(".")
    about, claims = json.loads(_decoded(header)), json.loads(_decoded(payload))
    if not isinstance(about, dict) or not isinstance(claims, dict) or (typ is not None and about.get("typ") != typ):
        raise ValueError("another kind of token")
    try:
        _verify(key, _decoded(signature), said.encode(), about.get("alg"))
    except InvalidSignature:
        raise ValueError("the signature does not fit") from None
    return claims


def _verify(
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, signature: bytes, said: bytes, algorithm: object
) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        if algorithm != "PS256":
            raise ValueError("the algorithm is PS256")
        pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
        key.verify(signature, said, pss, hashes.SHA256())
        return
    if algorithm != "ES256" or len(signature) != 64:
        raise ValueError("the algorithm is ES256")
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    key.verify(der, said, ec.ECDSA(hashes.SHA256()))


@dataclass(frozen=True, slots=True)
class Keys:
    """What the exchange holds: its own private keys, and ours in public."""

    own: ec.EllipticCurvePrivateKey
    webhook: Ed25519PrivateKey
    client: Public
    signing: ec.EllipticCurvePublicKey


def read_keys(settings: AuthoritySettings) -> Keys:
    """Read `peer_key`, `webhook_key` (its own), `client_key`, `request_key` (ours). Raises KeyError or ValueError."""
    own = load_pem_private_key(settings.secrets["peer_key"], None)
    webhook = load_pem_private_key(settings.secrets["webhook_key"], None)
    client = load_pem_public_key(settings.secrets["client_key"])
    signing = load_pem_public_key(settings.secrets["request_key"])
    if not isinstance(own, ec.EllipticCurvePrivateKey) or not isinstance(webhook, Ed25519PrivateKey):
        raise ValueError("peer_key must be on P-256, and webhook_key on Ed25519")  # noqa: TRY004 - as for wrong bytes
    if not isinstance(client, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise ValueError("client_key must be on P-256, or RSA")  # noqa: TRY004 - as for wrong bytes
    if not isinstance(signing, ec.EllipticCurvePublicKey):
        raise ValueError("request_key must be on P-256")  # noqa: TRY004 - as for wrong bytes
    return Keys(own, webhook, client, signing)


# --- the door ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Party:
    """The one client that is registered here, and for whom its proofs are meant."""

    id: str
    issuer: str


@dataclass(slots=True)
class Asked:
    """A request whose signature was verified; its body has still to be read, and is held against `digest` then."""

    request: web.Request
    digest: str

    async def pieces(self, largest: int) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises Refusal at its end when it is not what was signed."""
        seen, size = hashlib.sha256(), 0
        async for piece in self.request.content.iter_any():
            size += len(piece)
            if size > largest:
                raise Refusal(413, "TOO_LARGE", f"more than {largest} bytes")
            seen.update(piece)
            yield piece
        if seen.hexdigest() != self.digest:
            raise Refusal(403, "SIGNATURE", "the body is not the one that was signed")

    async def body(self) -> bytes:
        """Return the whole body of a message. Raises Refusal."""
        return b"".join([piece async for piece in self.pieces(LARGEST_BODY)])


@dataclass(frozen=True, slots=True)
class Paper:
    """An answer that is a file: `body` is signed, and `sent` goes out. Who is honest sends what was signed."""

    body: bytes
    media_type: str
    sent: bytes


Work = Callable[[Asked], Awaitable[Document | Paper]]


@dataclass(slots=True)
class Door:
    """Every request comes in here: token, then signature, then the work itself; every answer leaves signed."""

    keys: Keys
    party: Party
    wrong: Misbehaviour
    clock: Clock
    wrapped: bool
    tokens: dict[str, float] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)
    """What serves once: ids of requests and of assertions, until when they could come again."""

    # --- tokens ---

    async def give_token(self, request: web.Request) -> web.Response:
        """`POST /oauth2/token`."""
        form = await request.post()
        if self.wrong.due("no_token"):
            return web.json_response({"error": "unauthorized_client"}, status=400)
        if form.get("grant_type") != "client_credentials" or form.get("scope") != "exchange":
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        if form.get("client_assertion_type") != ASSERTION or not self._proves(str(form.get("client_assertion"))):
            return web.json_response({"error": "invalid_client"}, status=401)
        token = secrets.token_urlsafe(32)
        self.tokens[token] = self.clock() + TOKEN_LIFE
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE})

    def _proves(self, assertion: str) -> bool:
        now = self.clock()
        try:
            claims = read_signed(assertion, self.keys.client, None)
            ahead = float(claims["exp"]) - now
        except (ValueError, KeyError, TypeError):
            return False
        said = (claims.get("iss"), claims.get("sub"), claims.get("aud"))
        return (
            said == (self.party.id, self.party.id, self.party.issuer)
            and -30 <= ahead <= 330
            and self._first_time(str(claims.get("jti", "")))
        )

    def _first_time(self, name: str) -> bool:
        now = self.clock()
        for old in [key for key, until in self.used.items() if until < now]:
            del self.used[old]
        if not name or name in self.used:
            return False
        self.used[name] = now + 2 * TOLERANCE
        return True

    def _knows(self, request: web.Request) -> bool:
        if self.wrong.due("token_forgotten"):
            self.tokens.clear()
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        return kind == "Bearer" and self.tokens.get(token, 0.0) > self.clock()

    # --- messages ---

    def to(self, work: Work) -> Handler:
        """Return a handler that does the work behind token and signature."""

        async def handle(request: web.Request) -> web.Response:
            if not self._knows(request):
                return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
            try:
                done = await work(self._verified(request))
                if isinstance(done, Paper):
                    return self._signed(request, 200, done)
                status, document = 200, {"data": done} if self.wrapped else done
            except Refusal as refusal:
                status, document = refusal.status, refusal.document
            except (web.RequestPayloadError, aiohttp.ClientError):
                status, document = 422, {"code": "REFUSED", "message": "the body breaks off"}
            except sqlite3.Error as error:
                _log.error("the notebook failed: %s", type(error).__name__)  # its text may name people
                status, document = 500, {"code": "INTERNAL", "message": "this side could not do its work"}
            return self._answer(request, status, document)

        return handle

    def _verified(self, request: web.Request) -> Asked:
        try:
            claims = read_signed(request.headers.get(HEADER, ""), self.keys.signing, "exchange-request+jwt")
            sent_at, digest = float(claims["iat"]), str(claims["sha256"])
        except (ValueError, KeyError, TypeError):
            raise Refusal(403, "SIGNATURE", "the signature does not fit the agreed key") from None
        said = (claims.get("iss"), claims.get("htm"), claims.get("htu"))
        if said != (self.party.id, request.method, request.raw_path):
            raise Refusal(403, "SIGNATURE", "the signature is over another request")
        if abs(self.clock() - sent_at) > TOLERANCE:
            raise Refusal(403, "STALE", "the request is out of time")
        if not self._first_time(str(claims.get("jti", ""))):
            raise Refusal(403, "REPLAYED", "the request came before")
        return Asked(request, digest)

    def _answer(self, request: web.Request, status: int, document: Document) -> web.Response:
        body = json.dumps(document, ensure_ascii=False).encode()
        return self._signed(request, status, Paper(body, "application/json", body))

    def _signed(self, request: web.Request, status: int, paper: Paper) -> web.Response:
        claims = {
            "rid": "0" * 32 if self.wrong.due("other_request") else _request_id(request),
            "iat": int(self.clock()) - (3600 if self.wrong.due("hour_back") else 0),
            "status": status,
            "sha256": hashlib.sha256(paper.body).hexdigest(),
        }
        key = ec.generate_private_key(ec.SECP256R1()) if self.wrong.due("wrong_signature") else self.keys.own
        headers = {} if self.wrong.due("unsigned") else {HEADER: signed(key, "exchange-answer+jwt", claims)}
        sent = paper.sent + (b" " if self.wrong.due("altered_answer") else b"")
        return web.Response(body=sent, status=status, headers=headers, content_type=paper.media_type)

    async def document(self, asked: Asked) -> Document:
        """Return the document that a request holds. Raises Refusal."""
        if asked.request.content_type != "application/json":
            raise Refusal(422, "REFUSED", "application/json is wanted")
        try:
            read = json.loads(await asked.body())
        except (ValueError, RecursionError):
            raise Refusal(422, "REFUSED", "the body is not JSON") from None
        inner = read.get("data") if self.wrapped and isinstance(read, dict) else read
        if not isinstance(inner, dict):
            raise Refusal(422, "REFUSED", "an object is wanted")
        return inner


def _request_id(request: web.Request) -> str:
    """Return the id of a request as somebody wrote it: an answer names it whether it was believed or not."""
    try:
        claims = json.loads(_decoded(request.headers.get(HEADER, "").split(".")[1]))
        return str(claims["jti"])[:64]
    except (ValueError, KeyError, TypeError, IndexError):
        return ""


# --- callbacks ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Courier:
    """Sends signed callbacks to the gateway; `started` and `stopped` are for the application's signals."""

    url: str
    key: Ed25519PrivateKey
    wrong: Misbehaviour
    clock: Clock
    session: aiohttp.ClientSession | None = None

    async def start(self, _app: web.Application) -> None:
        """Open the way to the gateway."""
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))

    async def stop(self, _app: web.Application) -> None:
        """Close it; to be called when no background work is left."""
        if self.session is not None:
            await self.session.close()

    async def send(self, body: bytes) -> bool:
        """Send once, under an id of its own, and say whether the gateway took it."""
        if self.wrong.due("forged_callback"):
            await self._post(body, Ed25519PrivateKey.generate())
        return await self._post(body, self.key)

    async def _post(self, body: bytes, key: Ed25519PrivateKey) -> bool:
        if self.session is None:
            raise RuntimeError("the courier was not started")
        sending, moment = f"msg_{secrets.token_hex(12)}", str(int(self.clock()))
        signature = base64.b64encode(key.sign(f"{sending}.{moment}.".encode() + body)).decode()
        headers = {
            "Content-Type": "application/json",
            "webhook-id": sending,
            "webhook-timestamp": moment,
            "webhook-signature": f"v1a,{signature}",
        }
        try:
            async with self.session.post(self.url, data=body, headers=headers, allow_redirects=False) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError) as error:
            _log.warning("a callback was not delivered: %s", type(error).__name__)
            return False
