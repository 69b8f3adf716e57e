"""The signature that the simulated authority of Guangdong puts on its messages and demands on those of others.

Owns: the five headers of README.md ("Signature on every REST message"), clock tolerance, and single use of a nonce.
Leaves to others: what a message says, and sign-on, which is authenticated by the client's secret instead.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

Clock = Callable[[], float]

TOLERANCE = 180
"""Seconds by which a message's time stamp may differ from our clock, either way."""

_TIMESTAMP = re.compile(r"[0-9]{10}")
# The README asks for twelve random digits and has six in its vector: only the alphabet and the dash are demanded.
_NONCE = re.compile(r"[0-9A-Fa-f]{6,20}-[0-9A-Fa-f]{6,64}")
_HEADERS = ("x-tif-paasid", "x-tif-timestamp", "x-tif-nonce", "x-tif-signature", "content-digest", "x-pearl-digest-mac")
_UNSIGNED = ("/tif/sso/", "/control")


class MessageError(Exception):
    """The message is not by whom it claims to be, not as it was sent, not of now, or not the first of its kind."""


def tif_signature(token: bytes, timestamp: str, nonce: str) -> str:
    """Return the x-tif signature: hex(SHA-256(timestamp + token + nonce + timestamp))."""
    return hashlib.sha256(timestamp.encode() + token + nonce.encode() + timestamp.encode()).hexdigest()


def content_digest(body: bytes) -> str:
    """Return the value of the Content-Digest field of these bytes (RFC 9530 section 2)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def digest_mac(token: bytes, timestamp: str, nonce: str, method: str, path: str, digest: str) -> str:
    """Return the code that ties the digest of the body, method and path to the time stamp and nonce."""
    text = "\n".join((timestamp, nonce, method, path, digest))
    return hmac.new(token, text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def signed_headers(token: bytes, paasid: str, now: float, method: str, path: str, body: bytes) -> dict[str, str]:
    """Return the headers of a message that we send at `now` (Unix seconds), with a nonce of its own."""
    timestamp, nonce = str(int(now)), f"{int(now * 1000):x}-{secrets.token_hex(6)}"
    digest = content_digest(body)
    return {
        "x-tif-paasid": paasid,
        "x-tif-timestamp": timestamp,
        "x-tif-nonce": nonce,
        "x-tif-signature": tif_signature(token, timestamp, nonce),
        "Content-Digest": digest,
        "x-pearl-digest-mac": digest_mac(token, timestamp, nonce, method, path, digest),
    }


def same(one: str, other: str) -> bool:
    """Compare in constant time; the text may hold anything that a peer can send."""
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))


@dataclass(slots=True)
class Nonces:
    """Which nonces were used, in two generations: each is remembered for at least as long as it could be replayed."""

    since: float = 0.0
    current: set[str] = field(default_factory=set)
    previous: set[str] = field(default_factory=set)

    def use(self, nonce: str, now: float) -> bool:
        """Say whether this is the nonce's first use, and remember it."""
        if now - self.since > 2 * TOLERANCE:
            self.previous, self.current, self.since = self.current, set(), now
        if nonce in self.current or nonce in self.previous:
            return False
        self.current.add(nonce)
        return True


@dataclass(frozen=True, slots=True)
class Gatekeeper:
    """Admits the signed messages of the one caller that the authority knows."""

    paasid: str
    token: bytes
    clock: Clock
    nonces: Nonces = field(default_factory=Nonces)

    def admit(self, request: web.Request, body: bytes) -> None:
        """Return if the message may be acted on. Raises MessageError, saying why not."""
        values = _values(request)
        self._check_origin(values)
        self._check_content(values, request, body)
        self._check_moment(values)

    def _check_origin(self, values: dict[str, str]) -> None:
        if not same(values["x-tif-paasid"], self.paasid):
            raise MessageError("x-tif-paasid is not known")
        expected = tif_signature(self.token, values["x-tif-timestamp"], values["x-tif-nonce"])
        if not same(values["x-tif-signature"].lower(), expected):
            raise MessageError("x-tif-signature does not fit")

    def _check_content(self, values: dict[str, str], request: web.Request, body: bytes) -> None:
        digest, path = values["content-digest"], request.raw_path.partition("?")[0]
        if not same(digest, content_digest(body)):
            raise MessageError("Content-Digest does not fit the body")
        timestamp, nonce = values["x-tif-timestamp"], values["x-tif-nonce"]
        expected = digest_mac(self.token, timestamp, nonce, request.method, path, digest)
        if not same(values["x-pearl-digest-mac"].lower(), expected):
            raise MessageError("x-pearl-digest-mac does not fit")

    def _check_moment(self, values: dict[str, str]) -> None:
        now = self.clock()
        if abs(now - int(values["x-tif-timestamp"])) > TOLERANCE:
            raise MessageError(f"x-tif-timestamp is more than {TOLERANCE} s away from our clock")
        if not self.nonces.use(values["x-tif-nonce"].lower(), now):
            raise MessageError("x-tif-nonce was used before")


def _values(request: web.Request) -> dict[str, str]:
    values = {name: request.headers.getall(name, []) for name in _HEADERS}
    wrong = [name for name, found in values.items() if len(found) != 1]
    if wrong:
        raise MessageError(f"needed exactly once: {', '.join(wrong)}")
    single = {name: found[0] for name, found in values.items()}
    if not _TIMESTAMP.fullmatch(single["x-tif-timestamp"]) or not _NONCE.fullmatch(single["x-tif-nonce"]):
        raise MessageError("x-tif-timestamp or x-tif-nonce is not in the agreed form")
    return single


def only_signed(gatekeeper: Gatekeeper) -> Middleware:
    """Return the middleware that answers 401 to what is not signed; sign-on and the control page are exempt."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(_UNSIGNED):
            return await handler(request)
        try:
            gatekeeper.admit(request, await request.read())
        except MessageError as refusal:
            return web.json_response({"code": "401", "message": str(refusal)}, status=401)
        return await handler(request)

    return check
