"""A simulated OpenID Provider, for authorities whose sign-on is one.

Owns: authorization code flow with PKCE, client authentication, userinfo, discovery, the provider's own session, both
directions of logout, as the standards describe them; and the attacks on them that can be asked for. Leaves to a
region's sandbox everything that is the region's: addresses, methods and levels, the claims of a person, the words of
the page.

It stands here, and not twice in two regions, because the standard is not a region's. It is written from the standards
and shares nothing with the gateway's client.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key

from gateway.sandbox.authority import MISBEHAVIOUR, AuthoritySettings, authority_app, in_background
from gateway.sandbox.openid_page import SignInPage, Words, html, nearest, sign_in_page, sign_out_page
from gateway.sandbox.openid_tokens import ATTACKS, TokenPress

Person = Mapping[str, Any]
Clock = Callable[[], float]

CODE_LIFE = 60
"""Seconds for which a code is good."""
TOKEN_LIFE = 600
"""Seconds for which an access token is good."""
SESSION_LIFE = 3600
"""Seconds for which the provider remembers a browser."""

_COOKIE = "op_session"
_CARRIED = (
    "response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge", "code_challenge_method",
    "ui_locales", "acr_values", "claims", "prompt", "max_age",
)  # fmt: skip

ON_THE_WAY: Mapping[str, str] = {
    "hostile_iss_mixup": "answers the browser in the name of another provider (iss)",
    "hostile_no_iss": "answers the browser without saying who answers (iss)",
    "hostile_other_subject": "tells of another person than the ID token does (userinfo)",
    "hostile_no_id_token": "answers the code with an access token alone",
    "hostile_flood": "answers the code with megabytes",
}
"""Attacks outside of the ID token."""

IN_DISCOVERY: Mapping[str, str] = {
    "hostile_discovered_issuer": "describes itself in its metadata as another issuer",
    "hostile_discovered_address": "names another host in its metadata, where codes would go",
}
"""Attacks of a provider that is found by discovery."""


@dataclass(frozen=True, slots=True)
class Method:
    """One way to sign on: the level and the methods that it is told as, and the fields that it needs to be right."""

    level: str
    ways: Sequence[str]
    needs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the provider listens, under its issuer's path."""

    authorize: str
    token: str
    userinfo: str
    jwks: str
    end_session: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What is a region's own in its provider. The first method has the least level, and the usual one has a better.

    `claims` tells of a person, `business` (None where there is no such thing) of the legal person that somebody signs
    on for. `demands`: the parameter `claims` is read, and a level that it demands is kept to.
    """

    paths: Paths
    methods: Mapping[str, Method]
    usual: str
    words: Sequence[Words]
    claims: Callable[[Person], dict[str, Any]]
    business: Callable[[Person], dict[str, Any]] | None = None
    says_issuer: bool = False
    demands: bool = False
    discovery: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """Who signed on in this browser, how and when (Unix seconds)."""

    id: str
    person: Person
    method: str
    for_business: bool
    at: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What a code or an access token stands for, and until when."""

    session: Session
    request: Mapping[str, str]
    until: float


class _RefusedError(Exception):
    """The request cannot be served; the text is the error code of OAuth 2.0."""


@dataclass(slots=True)
class Provider:
    """The provider with its one client, the gateway."""

    settings: AuthoritySettings
    profile: Profile
    press: TokenPress
    prove: Callable[[web.Request, Mapping[str, str]], bool]
    clock: Clock
    codes: dict[str, Grant] = field(default_factory=dict)
    tokens: dict[str, Grant] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)

    # --- addresses -------------------------------------------------------------------------------------------------

    def routes(self) -> list[web.RouteDef]:
        """Return the provider's routes."""
        paths = self.profile.paths
        routes = [
            web.get(paths.authorize, self.show),
            web.post(paths.authorize, self.sign_in),
            web.post(paths.token, self.token),
            web.get(paths.userinfo, self.userinfo),
            web.get(paths.jwks, self.jwks),
            web.get(paths.end_session, self.end_session),
            web.post(paths.end_session, self.sign_out),
        ]
        discovery = web.get(f"{self._issuer_path()}/.well-known/openid-configuration", self.metadata)
        return [*routes, discovery] if self.profile.discovery else routes

    def _issuer_path(self) -> str:
        return "/".join(["", *self.press.issuer.split("/")[3:]]).rstrip("/")

    def _ours(self, place: str) -> str:
        return f"{self.settings.gateway_url}/sign-in/{self.settings.region}/{place}"

    async def metadata(self, request: web.Request) -> web.Response:
        """Describe the provider (OpenID Connect Discovery 1.0 §3)."""
        origin, paths = "/".join(self.press.issuer.split("/")[:3]), self.profile.paths
        token_origin = "https://attacker.invalid" if _due(request, "hostile_discovered_address") else origin
        document = {
            "issuer": "https://other.invalid" if _due(request, "hostile_discovered_issuer") else self.press.issuer,
            "authorization_endpoint": origin + paths.authorize,
            "token_endpoint": token_origin + paths.token,
            "userinfo_endpoint": origin + paths.userinfo,
            "jwks_uri": origin + paths.jwks,
            "end_session_endpoint": origin + paths.end_session,
            "response_types_supported": ["code"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": [self.press.algorithm, "none"],
            "authorization_response_iss_parameter_supported": self.profile.says_issuer,
        }
        return web.json_response(document)

    async def jwks(self, _request: web.Request) -> web.Response:
        """Publish the keys."""
        return web.json_response(self.press.key_set())

    # --- the browser -----------------------------------------------------------------------------------------------

    async def show(self, request: web.Request) -> web.Response:
        """Show the sign-in page."""
        return self._page(request, dict(request.query))

    def _page(self, request: web.Request, asked: Mapping[str, str], *, wrong: bool = False) -> web.Response:
        words = nearest(self.profile.words, asked.get("ui_locales", ""))
        if asked.get("client_id") != self.press.client_id or asked.get("redirect_uri") != self._ours("callback"):
            return html(words, "<p>client_id, redirect_uri: ?</p>", 400)  # never send anybody to a stranger
        try:
            self._check(asked)
            methods = self._methods(asked)
        except _RefusedError as refusal:
            return self._back(request, asked, error=str(refusal))
        session = self._session(request, asked)
        usual = self.profile.usual if self.profile.usual in methods else methods[0]
        carried = {name: asked[name] for name in _CARRIED if name in asked}
        account = str(session.person["account"]) if session else ""
        return sign_in_page(SignInPage(self.profile.paths.authorize, carried, methods, usual, account, wrong), words)

    def _check(self, asked: Mapping[str, str]) -> None:
        """Check what every request needs; PKCE is not optional here (RFC 9700 §2.1.1)."""
        right = (
            asked.get("response_type") == "code"
            and "openid" in asked.get("scope", "").split()
            and asked.get("code_challenge_method") == "S256"
            and len(asked.get("code_challenge", "")) == 43
            and len(asked.get("state", "")) > 0
            and len(asked.get("nonce", "")) > 0
        )
        if not right:
            raise _RefusedError("invalid_request")

    def _methods(self, asked: Mapping[str, str]) -> list[str]:
        """Return the methods that the request leaves: all, or those of a level that it demands."""
        demanded = _demanded(asked.get("claims", "")) if self.profile.demands else []
        names = [n for n, method in self.profile.methods.items() if not demanded or method.level in demanded]
        if not names:
            raise _RefusedError("unmet_authentication_requirements")
        return names

    def _session(self, request: web.Request, asked: Mapping[str, str]) -> Session | None:
        """Return the browser's session if it may serve this request."""
        session = self.sessions.get(request.cookies.get(_COOKIE, ""))
        if session is None or "login" in asked.get("prompt", "").split():
            return None
        oldest = min(SESSION_LIFE, int(asked["max_age"]) if asked.get("max_age", "").isdigit() else SESSION_LIFE)
        young = self.clock() - session.at <= oldest
        return session if young and session.method in self._methods(asked) else None

    async def sign_in(self, request: web.Request) -> web.Response:
        """Take the form, and send the browser back with a code."""
        form = dict(parse_qsl((await request.read()).decode("utf-8", "replace"), max_num_fields=40))
        session = self._session(request, form) if form.get("go_on") else self._signed_on(form)
        page = self._page(request, form, wrong=session is None)
        if session is None or page.status != 200:
            return page
        if session.method not in self._methods(form):
            return self._back(request, form, error="unmet_authentication_requirements")
        self.sessions[session.id] = session
        code = self._issue(self.codes, Grant(session, form, self.clock() + CODE_LIFE))
        answer = self._back(request, form, code=code)
        answer.set_cookie(_COOKIE, session.id, max_age=SESSION_LIFE, httponly=True, samesite="Lax", path="/")
        return answer

    def _signed_on(self, form: Mapping[str, str]) -> Session | None:
        """Return a new session when account, method and everything that the method needs are right."""
        method = self.profile.methods.get(form.get("method", ""))
        person = next((one for one in self._people() if _same(one["account"], form.get("account", ""))), None)
        business = form.get("for_business") == "yes"
        if person is None or method is None or (business and "business" not in person):
            return None
        if not all(_same(person[name], form.get(name, "")) for name in method.needs):
            return None
        return Session(secrets.token_urlsafe(16), person, form["method"], business, int(self.clock()))

    def _people(self) -> list[Person]:
        return [row for row in self.settings.people if row.get("region") == self.settings.region]

    def _back(self, request: web.Request, asked: Mapping[str, str], **answer: str) -> web.Response:
        if self.profile.says_issuer and not _due(request, "hostile_no_iss"):
            answer["iss"] = self.press.issuer
        if _due(request, "hostile_iss_mixup"):
            answer["iss"] = "https://another-issuer.invalid"
        query = urlencode({**answer, "state": asked.get("state", "")})
        location = f"{self._ours('callback')}?{query}"
        return web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})

    def _issue(self, book: dict[str, Grant], grant: Grant) -> str:
        for old in [name for name, one in book.items() if one.until < self.clock()]:
            del book[old]
        ticket = secrets.token_urlsafe(32)
        book[ticket] = grant
        return ticket

    # --- the client ------------------------------------------------------------------------------------------------

    async def token(self, request: web.Request) -> web.Response:
        """Exchange a code for tokens (Core §3.1.3)."""
        form = dict(parse_qsl((await request.read()).decode("utf-8", "replace"), max_num_fields=20))
        if not self.prove(request, form):
            return _error("invalid_client", 401)
        try:
            grant = self._redeem(form)
        except _RefusedError as refusal:
            return _error(str(refusal), 400)
        if _due(request, "hostile_flood"):
            return web.json_response({"access_token": "x" * (2 << 20)})
        access = self._issue(self.tokens, Grant(grant.session, grant.request, self.clock() + TOKEN_LIFE))
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": TOKEN_LIFE}
        if not _due(request, "hostile_no_id_token"):
            answer["id_token"] = self._id_token(request, grant, access)
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    def _redeem(self, form: Mapping[str, str]) -> Grant:
        if form.get("grant_type") != "authorization_code":
            raise _RefusedError("unsupported_grant_type")
        grant = self.codes.pop(form.get("code", ""), None)  # used up even if the rest does not fit
        if grant is None or grant.until < self.clock() or form.get("redirect_uri") != grant.request["redirect_uri"]:
            raise _RefusedError("invalid_grant")
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if not _same(challenge, grant.request["code_challenge"]):
            raise _RefusedError("invalid_grant")
        return grant

    def _id_token(self, request: web.Request, grant: Grant, access_token: str) -> str:
        session, method = grant.session, self.profile.methods[grant.session.method]
        about = {
            "sub": session.person["subject"],
            "nonce": grant.request["nonce"],
            "auth_time": session.at,
            "acr": method.level,
            "amr": list(method.ways),
            "sid": session.id,
        }
        attack = next((mode for mode in ATTACKS if _due(request, mode)), "")
        return self.press.id_token(about, access_token, int(self.clock()), attack)

    async def userinfo(self, request: web.Request) -> web.Response:
        """Tell of the person (Core §5.3)."""
        kind, _, access = request.headers.get("Authorization", "").partition(" ")
        grant = self.tokens.get(access)
        if kind.lower() != "bearer" or grant is None or grant.until < self.clock():
            return _error("invalid_token", 401)
        person = grant.session.person
        told = {"sub": person["subject"], **self.profile.claims(person)}
        if grant.session.for_business and self.profile.business:
            told |= self.profile.business(person)
        if _due(request, "hostile_other_subject"):
            told["sub"] = "somebody-else"
        return web.json_response(told, headers={"Cache-Control": "no-store"})

    # --- the end ---------------------------------------------------------------------------------------------------

    async def end_session(self, request: web.Request) -> web.Response:
        """End a session because the client asks (RP-Initiated Logout 1.0 §2); without a hint, ask the person."""
        asked = request.query
        words = nearest(self.profile.words, asked.get("ui_locales", ""))
        hint = self._hinted(asked.get("id_token_hint", ""))
        if hint is None:
            return sign_out_page(self.profile.paths.end_session, words)
        self.sessions.pop(str(hint.get("sid")), None)
        if asked.get("post_logout_redirect_uri") != self._ours("signed-out"):
            return html(words, f"<p>{words.signed_out}</p>")
        location = f"{self._ours('signed-out')}?{urlencode({'state': asked.get('state', '')})}"
        return web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})

    def _hinted(self, token: str) -> dict[str, Any] | None:
        """Return the claims of an ID token that was ours, however old."""
        try:
            claims = jwt.decode(token, self.press.key, algorithms=[self.press.algorithm]).claims
        except (JoseError, ValueError):
            return None
        return claims if claims.get("aud") == self.press.client_id else None

    async def sign_out(self, request: web.Request) -> web.Response:
        """End this browser's session because the person wishes it, and tell the client behind its back."""
        session = self.sessions.pop(request.cookies.get(_COOKIE, ""), None)
        if session is not None:
            in_background(request.app, self._announce(session))
        words = self.profile.words[0]
        return html(words, f"<p>{words.signed_out}</p>")

    async def _announce(self, session: Session) -> None:
        """Send the logout token (Back-Channel Logout 1.0 §2.5); a client that cannot be reached is let be."""
        token = self.press.logout_token(str(session.person["subject"]), session.id, int(self.clock()))
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as client:
                await client.post(self._ours("logout"), data={"logout_token": token})
        except (aiohttp.ClientError, TimeoutError):
            return


# --- client authentication ---------------------------------------------------------------------------------------


def proved_by_secret(client_id: str, secret: str) -> Callable[[web.Request, Mapping[str, str]], bool]:
    """Return the check of `client_secret_basic` (RFC 6749 §2.3.1)."""

    def check(request: web.Request, _form: Mapping[str, str]) -> bool:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        try:
            name, _, word = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            return False
        return kind.lower() == "basic" and _same(name, client_id) and _same(unquote_plus(word), secret)

    return check


def proved_by_key(
    client_id: str, pem: bytes, issuer: str, clock: Clock
) -> Callable[[web.Request, Mapping[str, str]], bool]:
    """Return the check of `private_key_jwt` (Core §9): PS256, for us alone, five minutes at most, once."""
    key, seen = import_key(pem, "RSA"), dict[str, float]()

    def check(_request: web.Request, form: Mapping[str, str]) -> bool:
        if form.get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer":
            return False
        try:
            claims = jwt.decode(form.get("client_assertion", ""), key, algorithms=["PS256"]).claims
            ends, name = float(claims["exp"]), str(claims["jti"])
        except (JoseError, ValueError, TypeError, KeyError):
            return False
        parties = (claims.get("iss"), claims.get("sub"), claims.get("aud")) == (client_id, client_id, issuer)
        fresh = clock() < ends <= clock() + 300 and name not in seen
        seen[name] = ends
        return parties and fresh

    return check


# --- opening -----------------------------------------------------------------------------------------------------


def open_provider(settings: AuthoritySettings, profile: Profile, clock: Clock = time.time) -> web.Application:
    """Return the authority with its provider.

    Secrets: `issuer`, `client_id`, `signing_key` (PEM; ES256 for P-256, PS256 for RSA), and either `client_secret` or
    `client_key` (the gateway's public key, PEM). Raises KeyError for a missing one.
    """
    given = settings.secrets
    issuer, client_id = given["issuer"].decode(), given["client_id"].decode()
    attacks = {**ATTACKS, **ON_THE_WAY, **(IN_DISCOVERY if profile.discovery else {})}
    if not profile.says_issuer:
        del attacks["hostile_no_iss"]  # it never says who answers
    key, algorithm = _signing_key(given["signing_key"])
    least = next(iter(profile.methods.values())).level
    press = TokenPress(issuer, client_id, key, algorithm, least)
    if "client_key" in given:
        prove = proved_by_key(client_id, given["client_key"], issuer, clock)
    else:
        prove = proved_by_secret(client_id, given["client_secret"].decode())
    app = authority_app(settings, attacks)
    app.add_routes(Provider(settings, profile, press, prove, clock).routes())
    return app


def _signing_key(pem: bytes) -> tuple[Key, str]:
    is_rsa = isinstance(load_pem_private_key(pem, None), RSAPrivateKey)
    return (import_key(pem, "RSA"), "PS256") if is_rsa else (import_key(pem, "EC"), "ES256")


def _demanded(claims: str) -> list[str]:
    """Return the levels that the parameter `claims` demands of the ID token (Core §5.5.1.1)."""
    try:
        asked = json.loads(claims)["id_token"]["acr"]
        return [str(level) for level in asked["values"]] if asked.get("essential") is True else []
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _due(request: web.Request, mode: str) -> bool:
    return request.app[MISBEHAVIOUR].due(mode)


def _same(one: object, other: str) -> bool:
    return hmac.compare_digest(str(one).encode(), other.encode())


def _error(code: str, status: int) -> web.Response:
    headers = {"Cache-Control": "no-store"} | ({"WWW-Authenticate": "Basic"} if status == 401 else {})
    return web.json_response({"error": code}, status=status, headers=headers)
