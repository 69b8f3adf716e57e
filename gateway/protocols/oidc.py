"""OpenID Connect upstream: a relying party that believes what was agreed and nothing else.

Owns: the code flow with PKCE, state, nonce and RFC 9207's `iss`; client authentication; userinfo; step-up by `acr`; the
end of a session in both directions (RP-Initiated Logout 1.0, Back-Channel Logout 1.0). Leaves to `oidc_trust` addresses
and keys, to `oidc_tokens` what a token must say, to mapping packs what stands in the claims, and to the core that the
state comes back to the browser that began and that an assertion is accepted once.

Sources: OpenID Connect Core 1.0; RFC 9700 (best current practice); the README of each region that uses it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, quote_plus

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jwt
from joserfc.jwk import ECKey, Key, RSAKey
from yarl import URL

from gateway.crypto.jose import instant
from gateway.errors import InvalidRequest, NotOffered, SignOnFailed
from gateway.ports import (
    Callback,
    Kit,
    SignOnRedirect,
    SignOnReturn,
    SignOnStart,
    SignOutNotice,
    SignOutStart,
    UpstreamIdentity,
)
from gateway.protocols.oidc_tokens import Expected, is_id, once_only, read_id_token, read_logout_token
from gateway.protocols.oidc_trust import Trust, read_pins
from gateway.protocols.wire import Answer, Wire, quotable, refuse_start, secret_bytes, text_secret, text_setting

ASSERTION_LIFE = timedelta(seconds=60)
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LONGEST_CODE = 2048
_LONGEST_TOKEN = 8192
_LONGEST_NOTICE = 16 * 1024

_ABOUT_US = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope"})
"""Errors of the token endpoint that no person causes (RFC 6749 §5.2): an operator must look."""
_ABOUT_THEM = frozenset({"server_error", "temporarily_unavailable"})
"""Errors of the authorization endpoint that say that the provider is ill (RFC 6749 §4.1.2.1)."""

_PROTOCOL_CLAIMS = frozenset(
    {"iss", "aud", "azp", "exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash", "auth_time", "acr", "amr"}
    | {"sid"}
)
"""Claims about the token and the session; what else stands there is about the person."""


# --- client authentication ---------------------------------------------------------------------------------------


class ClientProof(Protocol):
    """How we prove at the token endpoint who we are (OpenID Connect Core 1.0 §9)."""

    def sign(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return headers and form fields for one request."""
        ...


@dataclass(frozen=True, slots=True)
class SharedSecret:
    """`client_secret_basic` (RFC 6749 §2.3.1)."""

    client_id: str
    secret: str

    def sign(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the header; id and secret are form-encoded before they are joined."""
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.secret)}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, {}


@dataclass(frozen=True, slots=True)
class SignedAssertion:
    """`private_key_jwt` (RFC 7523): the issuer is the only audience, so that nobody else can use it."""

    client_id: str
    issuer: str
    key: Key
    algorithm: str
    kit: Kit

    def sign(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the form fields with a fresh assertion."""
        now = self.kit.clock()
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.issuer,
            "jti": _random(self.kit),
            "iat": int(now.timestamp()),
            "exp": int((now + ASSERTION_LIFE).timestamp()),
        }
        header = {"alg": self.algorithm, "kid": self.key.thumbprint()}
        assertion = jwt.encode(header, claims, self.key, algorithms=[self.algorithm])
        return {}, {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": assertion}


def _random(kit: Kit) -> str:
    """Return 64 characters that nobody can guess; enough for a verifier (RFC 7636 §4.1)."""
    return hashlib.sha256(kit.random_token().encode()).hexdigest()


# --- client ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Manner:
    """How a provider is spoken to beyond the standard.

    `says_issuer`: it always names itself in its answers (RFC 9207), so that one without a name is refused.
    `takes_claims`: it reads the parameter `claims`, by which a level can be demanded and not only wished for
    (Core §5.5.1.1).
    """

    scope: str
    says_issuer: bool
    takes_claims: bool


@dataclass(frozen=True, slots=True)
class OidcClient:
    """One provider, as it is configured. `redirect_uri` is the only address that a person may come back to."""

    kit: Kit
    wire: Wire
    trust: Trust
    proof: ClientProof
    manner: Manner

    @property
    def redirect_uri(self) -> str:
        """Each provider has its own (RFC 9700 §4.4.2.2), registered there character by character."""
        return f"{self.kit.public_url}/sign-in/{self.kit.region}/callback"

    async def post(self, url: URL, fields: Mapping[str, str]) -> Answer:
        """Send a form with the client's proof. Raises RegionError."""
        headers, proof = self.proof.sign()
        headers |= {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        return await self.wire.exchange("POST", url, headers=headers, body=_form({**fields, **proof}).encode())

    def failed(self, text: str, detail: str = "") -> SignOnFailed:
        """Return the error for a sign-on that the person may start again."""
        return SignOnFailed(f"{text}; start the sign-on again", detail=detail, region=self.wire.region)


def _form(fields: Mapping[str, str]) -> str:
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())


def _with_query(url: URL, fields: Mapping[str, str]) -> str:
    """Return an address with fields added to the query that it may have (RFC 6749 §3.1)."""
    return f"{url}{'&' if url.raw_query_string else '?'}{_form(fields)}"


# --- sign-on -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OnBehalf:
    """Where it stands that somebody signed on for a legal person (法人).

    `organisation` is the claim with its record, `role` the one that says as what, in one of the words of `roles`
    (theirs → `handler` 经办人 or `legal_representative` 法定代表人).
    """

    organisation: str
    role: str
    roles: Mapping[str, str]


class OidcSignOn:
    """The code flow. `on_behalf` is None where a region signs nobody on for a legal person."""

    def __init__(self, client: OidcClient, on_behalf: OnBehalf | None = None) -> None:
        self._client = client
        self._on_behalf = on_behalf

    async def begin(self, start: SignOnStart) -> SignOnRedirect:
        """Return the provider's address with a fresh challenge. Raises SignOnFailed or RegionError."""
        client = self._client
        if start.redirect_uri != client.redirect_uri:
            raise client.failed("this is not the address to which the identity provider may send anybody back")
        endpoints = await client.trust.endpoints()
        verifier = _random(client.kit)
        memory = {
            "verifier": verifier,
            "nonce": start.nonce,
            "levels": " ".join(start.levels),
            "fresh": "yes" if start.fresh else "",
            "began": str(int(client.kit.clock().timestamp())),
        }
        return SignOnRedirect(_with_query(endpoints.authorization, self._request(start, verifier)), memory)

    def _request(self, start: SignOnStart, verifier: str) -> dict[str, str]:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self._client.trust.pins.client_id,
            "redirect_uri": self._client.redirect_uri,
            "scope": self._client.manner.scope,
            "state": start.state,
            "nonce": start.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "ui_locales": start.language,
        }
        return query | self._wishes(start)

    def _wishes(self, start: SignOnStart) -> dict[str, str]:
        """Return what asks for a level and for a proof made now.

        A level is asked for in one way only: `claims` can demand an `acr` (Core §5.5.1.1), `acr_values` only wishes
        (§3.1.2.1), and a certified provider lets the wish replace the demand. Either lists the levels by preference.
        """
        wishes: dict[str, str] = {}
        words = _by_preference(start)
        if start.levels and self._client.manner.takes_claims:
            demanded = {"id_token": {"acr": {"essential": True, "values": words}}}
            wishes["claims"] = orjson.dumps(demanded).decode()
        elif words:
            wishes["acr_values"] = " ".join(words)
        if start.fresh:
            wishes |= {"prompt": "login", "max_age": "0"}
        return wishes

    async def complete(self, back: SignOnReturn) -> UpstreamIdentity:
        """Exchange the code, verify what comes of it, and ask for the person. Raises SignOnFailed or RegionError."""
        self._check_return(back)
        endpoints = await self._client.trust.endpoints()
        access_token, id_token = await self._redeem(endpoints.token, back)
        expected = _expected(back.memory, access_token)
        claims = await read_id_token(self._client.trust, id_token, expected, self._client.kit.clock())
        told = await self._userinfo(endpoints.userinfo, access_token, claims["sub"]) if endpoints.userinfo else {}
        return self._identity(id_token, claims, {**told, **claims})

    def _check_return(self, back: SignOnReturn) -> None:
        """Check who answers before anything is done with the answer (RFC 9207 §2.4), and that there is a code."""
        client, query = self._client, back.query
        if back.redirect_uri != client.redirect_uri or not back.memory.get("verifier") or not back.memory.get("nonce"):
            raise client.failed("this sign-on did not begin here")
        named = query.get("iss")
        if (client.manner.says_issuer and named is None) or named not in (None, client.trust.pins.issuer):
            raise client.failed("the answer is not the identity provider's", "iss")
        if "error" in query:
            raise self._declined(query["error"])
        if not 0 < len(query.get("code", "")) <= _LONGEST_CODE:
            raise client.failed("the identity provider sent no code back")

    def _declined(self, error: str) -> Exception:
        if error in _ABOUT_THEM:
            return self._client.wire.unreachable("cannot sign anybody on at the moment", error)
        return self._client.failed("the identity provider did not sign you on", quotable(error))

    async def _redeem(self, token_endpoint: URL, back: SignOnReturn) -> tuple[str, str]:
        fields = {
            "grant_type": "authorization_code",
            "code": back.query["code"],
            "redirect_uri": self._client.redirect_uri,
            "code_verifier": back.memory["verifier"],
        }
        answer = await self._client.post(token_endpoint, fields)
        document = self._client.wire.json_object(answer.body)
        if answer.status in (400, 401) and "error" in document:
            raise self._refusal(str(document["error"]))
        access_token, id_token = document.get("access_token"), document.get("id_token")
        usable = is_token(access_token) and is_token(id_token) and str(document.get("token_type")).lower() == "bearer"
        if answer.status != 200 or not usable:
            raise self._client.wire.uncertain("sent an answer that cannot be read", f"HTTP {answer.status}, tokens")
        return str(access_token), str(id_token)

    def _refusal(self, error: str) -> Exception:
        if error in _ABOUT_US:
            what = "does not take the gateway for its client; an operator must look"
            return self._client.wire.unreachable(what, error)
        return self._client.failed("the identity provider did not accept the code", quotable(error))

    async def _userinfo(self, url: URL, access_token: str, subject: str) -> dict[str, Any]:
        """Ask for the claims of this very subject (Core §5.3.4)."""
        headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/json"}
        answer = await self._client.wire.exchange("GET", url, headers=headers)
        if answer.status != 200:
            raise self._client.wire.uncertain("gave an unexpected answer", f"HTTP {answer.status} for userinfo")
        told = self._client.wire.json_object(answer.body)
        if told.get("sub") != subject:
            raise self._client.failed("the identity provider's assertion was not accepted", "userinfo: sub is another")
        return told

    def _identity(self, id_token: str, claims: Mapping[str, Any], all_claims: Mapping[str, Any]) -> UpstreamIdentity:
        """Say in the region's words who this is. What the ID token says is signed and has the last word."""
        organisation, role, person = self._parted(all_claims)
        return UpstreamIdentity(
            subject=claims["sub"],
            claims={name: value for name, value in person.items() if name not in _PROTOCOL_CLAIMS},
            method=" ".join(str(way) for way in claims.get("amr") or ()),
            level=claims.get("acr", ""),
            organisation=organisation,
            role=role,
            authenticated_at=instant(claims, "auth_time"),
            assertion=id_token.encode(),
            once=once_only("id-token", id_token, claims),
            session_ref=claims["sid"] if is_id(claims.get("sid")) else "",
            kept={"id_token": id_token},
        )

    def _parted(self, claims: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str, Mapping[str, Any]]:
        """Return the legal person, the role in our word, and what is left: the person's own claims.

        A role that nobody agreed on is no role: it might give somebody the say of a legal representative.
        """
        where = self._on_behalf
        if where is None or where.organisation not in claims:
            return None, "", claims
        organisation, role = claims[where.organisation], where.roles.get(str(claims.get(where.role)))
        if not isinstance(organisation, dict) or role is None:
            raise self._client.wire.uncertain("signed somebody on for a legal person in no role that is known", "role")
        return organisation, role, {n: v for n, v in claims.items() if n not in (where.organisation, where.role)}


def _by_preference(start: SignOnStart) -> list[str]:
    """Return the levels to ask for: those that the service would like, and after them the others that would do."""
    liked = [word for word in start.preferred if not start.levels or word in start.levels]
    return [*liked, *(word for word in start.levels if word not in liked)]


def _expected(memory: Mapping[str, str], access_token: str) -> Expected:
    return Expected(
        nonce=memory["nonce"],
        access_token=access_token,
        levels=memory.get("levels", "").split(),
        fresh=bool(memory.get("fresh")),
        began=datetime.fromtimestamp(int(memory["began"]), UTC),
    )


def is_token(value: object) -> bool:
    """Say whether something can travel as a token: visible ASCII (RFC 6750 §2.1), and not endlessly much."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= _LONGEST_TOKEN
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


# --- sign-out ----------------------------------------------------------------------------------------------------


class OidcSignOut:
    """The end of a session, begun here or there."""

    def __init__(self, client: OidcClient) -> None:
        self._client = client

    async def end(self, start: SignOutStart) -> SignOnRedirect | None:
        """Return where the browser ends the provider's session. Raises RegionError; NotOffered where it cannot."""
        endpoint = (await self._client.trust.endpoints()).end_session
        if endpoint is None:
            raise NotOffered("This provider publishes no end of its session.", region=self._client.wire.region)
        query = {
            "id_token_hint": start.kept.get("id_token", ""),
            "client_id": self._client.trust.pins.client_id,
            "post_logout_redirect_uri": start.redirect_uri,
            "state": start.state,
            "ui_locales": start.language,
        }
        return SignOnRedirect(_with_query(endpoint, {name: value for name, value in query.items() if value}))

    async def ended(self, notice: Callback) -> SignOutNotice:
        """Verify a back-channel logout. Raises InvalidRequest, ForgedCallback, ReplayedCallback or RegionUnreachable.

        The last one when the provider's keys cannot be had just now: it sends its notice again.
        """
        token = _logout_token(notice)
        return await read_logout_token(self._client.trust, token, notice.received_at)


def _logout_token(notice: Callback) -> str:
    """Return the one token of the form (Back-Channel Logout 1.0 §2.5). Raises InvalidRequest."""
    kind = notice.headers.get("content-type", "").partition(";")[0].strip().lower()
    if notice.method != "POST" or kind != "application/x-www-form-urlencoded" or len(notice.body) > _LONGEST_NOTICE:
        raise InvalidRequest("a logout notice is a POST with a form")
    try:
        fields = parse_qsl(notice.body.decode("ascii"), max_num_fields=20)
    except ValueError:
        raise InvalidRequest("a logout notice is a POST with a form") from None
    tokens = [value for name, value in fields if name == "logout_token"]
    if len(tokens) != 1:
        raise InvalidRequest("a logout notice holds one logout_token")
    return tokens[0]


# --- opening -----------------------------------------------------------------------------------------------------


def open_client(kit: Kit) -> OidcClient:
    """Compose the client from settings and secrets; makes no network call. Raises StartRefused.

    Settings: what `oidc_trust.read_pins` reads; `scope`; `client_authentication` (`private_key_jwt` with the secret
    `client_key`, or `client_secret_basic` with `client_secret`); `issuer_in_answers` and `claims_parameter`, true or
    false.
    """
    wire = Wire(kit)
    pins = read_pins(kit, wire)
    manner = Manner(text_setting(kit, "scope"), _flag(kit, "issuer_in_answers"), _flag(kit, "claims_parameter"))
    return OidcClient(kit, wire, Trust(wire, pins, kit), open_proof(kit, pins.client_id, pins.issuer), manner)


def _flag(kit: Kit, name: str) -> bool:
    value = kit.settings.get(name)
    if not isinstance(value, bool):
        raise refuse_start(kit, f"settings.{name}", "must be true or false")
    return value


def open_proof(kit: Kit, client_id: str, issuer: str) -> ClientProof:
    """Return how we prove who we are, as setting `client_authentication` says. Raises StartRefused."""
    match text_setting(kit, "client_authentication"):
        case "private_key_jwt":
            key, algorithm = _client_key(kit)
            return SignedAssertion(client_id, issuer, key, algorithm, kit)
        case "client_secret_basic":
            return SharedSecret(client_id, text_secret(kit, "client_secret"))
        case _:
            reason = "must be private_key_jwt or client_secret_basic"
            raise refuse_start(kit, "settings.client_authentication", reason)


def _client_key(kit: Kit) -> tuple[Key, str]:
    """Return our key and its algorithm: ES256 for P-256, PS256 for RSA of 2048 bits or more."""
    pem = secret_bytes(kit, "client_key")
    try:
        native = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        native = None
    if isinstance(native, EllipticCurvePrivateKey) and native.curve.name == "secp256r1":
        return ECKey.import_key(pem), "ES256"
    if isinstance(native, RSAPrivateKey) and native.key_size >= 2048:
        return RSAKey.import_key(pem), "PS256"
    raise refuse_start(kit, "secrets.client_key", "must be a private key, P-256 or RSA of 2048 bits or more, PEM")
