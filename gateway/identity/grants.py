"""Authlib's grants as this provider runs them: over one request's memory, never touching the store.

Owns: our records in the shape that Authlib asks for, and where our rules differ from its defaults (PKCE with S256 for
every client, exact redirect URIs, one authentication method a client). Leaves to `families` every one-time decision:
it was made before a grant runs, and the grant finds the outcome in `Work`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from authlib.oauth2.rfc6749 import (
    AuthorizationCodeMixin,
    ClientMixin,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    TokenMixin,
    UnauthorizedClientError,
)
from authlib.oauth2.rfc6749.grants import (
    AuthorizationCodeGrant,
    BaseGrant,
    ClientCredentialsGrant,
    RefreshTokenGrant,
    TokenEndpointMixin,
)
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7636.challenge import compare_s256_code_challenge
from authlib.oauth2.rfc9207 import IssuerParameter
from authlib.oidc.core.grants import OpenIDCode
from authlib.oidc.core.util import create_half_hash

from gateway.crypto.jose import UnreadableToken, UnverifiedToken, verified_claims
from gateway.identity.clients import TOKEN_EXCHANGE, Client
from gateway.identity.families import Family
from gateway.identity.persons import chosen_claims
from gateway.identity.records import Code, Session, digest, new_handle
from gateway.identity.requests import read_wishes, unmet

if TYPE_CHECKING:
    from gateway.identity.provider import Exchange, ProviderParts

_S256 = re.compile(r"[A-Za-z0-9_-]{43}")
_THUMBPRINT = _S256
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a type (RFC 8693 §3)


# --- our records in the shape that Authlib asks for ----------------------------------------------------------------


class OAuthClient(ClientMixin):  # type: ignore[misc] # Authlib ships no types
    """A registered client, for one purpose: `scopes` is what it may get here."""

    def __init__(self, client: Client, scopes: frozenset[str]) -> None:
        self.client = client
        self._scopes = scopes

    def get_client_id(self) -> str:
        """Return the id."""
        return self.client.id

    def get_default_redirect_uri(self) -> None:
        """There is no default: a redirect URI is always given (RFC 9700 §4.1.3 compares exactly)."""

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """Drop unknown scopes; all that it has when none is named. None when nothing asked for is left."""
        allowed = self._scopes if scope is None else self._scopes & set(scope.split())
        return " ".join(sorted(allowed)) if allowed or scope is None else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Compare character by character."""
        return redirect_uri in self.client.redirect_uris

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        """Each client has exactly one method."""
        return method == self.client.authentication

    def check_response_type(self, response_type: str) -> bool:
        """Say whether the client may start a sign-on."""
        return response_type == "code" and self.check_grant_type("authorization_code")

    def check_grant_type(self, grant_type: str) -> bool:
        """Say whether the client may use this grant."""
        return grant_type in self.client.grant_types


class OAuthCode(AuthorizationCodeMixin):  # type: ignore[misc] # Authlib ships no types
    """A code that was just used up, with the session it stands for."""

    code_challenge_method = "S256"

    def __init__(self, code: Code, session: Session) -> None:
        self.code = code
        self.session = session
        self.code_challenge = code.challenge

    def get_redirect_uri(self) -> str:
        """Return the redirect URI of the authorization request."""
        return self.code.redirect_uri

    def get_scope(self) -> str:
        """Return the granted scope."""
        return self.code.scope

    def get_nonce(self) -> str | None:
        """Return the nonce of the authorization request."""
        return self.code.nonce

    def get_auth_time(self) -> int:
        """Return when the person proved it to the region; not before then, where the region states no time."""
        return int(self.session.authenticated_at.timestamp())

    def get_acr(self) -> str:
        """Return the level promised with the code."""
        return self.code.acr

    def get_amr(self) -> list[str]:
        """Return the region's words for the method."""
        return self.session.method.split()


class OAuthRefresh(TokenMixin):  # type: ignore[misc] # Authlib ships no types
    """A refresh token that was just used up, with the family it belongs to."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def check_client(self, client: OAuthClient) -> bool:
        """Say whether it was issued to this client."""
        return self._family.client_id == client.get_client_id()

    def get_scope(self) -> str:
        """Return the granted scope."""
        return self._family.scope


# --- grants --------------------------------------------------------------------------------------------------------


class _Authenticated:
    """The client was authenticated before anything was used up; the grant takes it from the request."""

    request: Any

    def authenticate_token_endpoint_client(self) -> Any:
        """Return the authenticated client."""
        return self.request.client


class CodeGrant(_Authenticated, AuthorizationCodeGrant):  # type: ignore[misc] # Authlib ships no types
    """The authorization code grant over `Work`."""

    @staticmethod
    def validate_authorization_redirect_uri(request: Any, client: OAuthClient) -> str:
        """Demand a registered redirect URI. Authlib's own text repeats the foreign one, and chokes on a quote."""
        uri = request.payload.redirect_uri
        if uri is None or not client.check_redirect_uri(uri):
            raise InvalidRequestError("redirect_uri must be one of those registered for the client, exactly.")
        return str(uri)

    def generate_authorization_code(self) -> str:
        """Return a fresh handle."""
        return new_handle()

    def save_authorization_code(self, code: str, request: Any) -> None:
        """Leave the code in the request's memory; `service` stores it."""
        work, settings, data = self.server.work, self.server.parts.settings, request.payload.data
        work.new_code = Code(
            code_hash=digest(code),
            client_id=request.client.get_client_id(),
            session_id=request.user.id,
            redirect_uri=data["redirect_uri"],
            scope=request.scope,
            nonce=data.get("nonce"),
            challenge=data["code_challenge"],
            acr=self.server.wishes.acr_for(request.user),
            expires_at=work.now + timedelta(seconds=settings.code_seconds),
            claims=work.claims,
            jkt=data.get("dpop_jkt"),
        )

    def query_authorization_code(self, _code: str, _client: OAuthClient) -> OAuthCode | None:
        """Return the code that one statement in the store has already used up, if it succeeded."""
        work = self.server.work
        return OAuthCode(work.code, work.session) if work.code and work.session else None

    def delete_authorization_code(self, _code: OAuthCode) -> None:
        """Nothing is left to do: the code was used up before the grant ran."""

    def authenticate_user(self, authorization_code: OAuthCode) -> Session:
        """Return the session behind the code."""
        return authorization_code.session


class RefreshGrant(_Authenticated, RefreshTokenGrant):  # type: ignore[misc] # Authlib ships no types
    """The refresh token grant over `Work`: by the time it runs the token is used up and its successor stored."""

    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, _token: str) -> OAuthRefresh | None:
        """Return the token that one statement in the store has already used up, if it succeeded."""
        family = self.server.work.family
        return None if family is None else OAuthRefresh(family)

    def authenticate_user(self, _token: OAuthRefresh) -> Session | None:
        """Return the session that the family stands on."""
        session: Session | None = self.server.work.session
        return session

    def revoke_old_credential(self, _token: OAuthRefresh) -> None:
        """Nothing is left to do: it was used up in the statement that found it."""


class ClientGrant(_Authenticated, ClientCredentialsGrant):  # type: ignore[misc] # Authlib ships no types
    """The client credentials grant; only clients that hold a key are registered for it."""


class ExchangeGrant(_Authenticated, BaseGrant, TokenEndpointMixin):  # type: ignore[misc] # Authlib ships no types
    """Token exchange (RFC 8693): an agency's system acts for a person who signed on elsewhere.

    Whether the person's token stands, and whether this client may have it, was decided before (`exchanges`). What comes
    out says who acts (`act`), is short-lived, and cannot be refreshed.
    """

    GRANT_TYPE = TOKEN_EXCHANGE

    def validate_token_request(self) -> None:
        """Check the form. Raises OAuth2Error."""
        if not self.request.client.check_grant_type(TOKEN_EXCHANGE):
            raise UnauthorizedClientError("The client is not registered for token exchange.")
        form = self.request.form
        if form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
            raise InvalidRequestError(f"requested_token_type can only be {ACCESS_TOKEN}.")
        if self.server.work.family is None:
            raise InvalidGrantError("The subject token cannot be exchanged by this client.")

    def create_token_response(self) -> tuple[int, dict[str, Any], Any]:
        """Return the new token."""
        work = self.server.work
        token = self.generate_token(user=work.session, scope=work.family.scope, include_refresh_token=False)
        return 200, {**token, "issued_token_type": ACCESS_TOKEN}, self.TOKEN_RESPONSE_HEADER


# --- extensions ----------------------------------------------------------------------------------------------------


class RequestRules(CodeChallenge):  # type: ignore[misc] # Authlib ships no types
    """PKCE with S256 and nothing else for every client, and our reading of the other parameters.

    One extension, because Authlib calls the extensions of a step in no fixed order.
    """

    DEFAULT_CODE_CHALLENGE_METHOD = "S256"
    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)
    CODE_CHALLENGE_METHODS = {"S256": compare_s256_code_challenge}  # noqa: RUF012 - overrides Authlib's own attribute

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Check the authorization request, and decide whether the browser's session may answer it."""
        server, form = grant.server, grant.request.payload
        server.wishes = read_wishes(form)
        if form.data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("PKCE is required: send code_challenge with code_challenge_method=S256.")
        if not _S256.fullmatch(form.data.get("code_challenge", "")):
            raise InvalidRequestError("code_challenge must be the SHA-256 of a verifier in base64url, 43 characters.")
        super().validate_code_challenge(grant, redirect_uri)
        if "openid" not in form.data.get("scope", "").split():
            raise InvalidScopeError("The scope openid is required.")
        if "dpop_jkt" in form.data and not _THUMBPRINT.fullmatch(form.data["dpop_jkt"]):
            raise InvalidRequestError("dpop_jkt must be the SHA-256 thumbprint of a key in base64url, 43 characters.")
        if server.parts.id_token_algorithm(grant.request.client.client) not in server.parts.algorithms:
            raise UnauthorizedClientError("This gateway has no key for the client's id_token_signed_response_alg.")
        if server.wishes.least() > server.parts.reachable:
            raise unmet("No region that is connected here can give the demanded acr.")
        client_id = grant.request.client.get_client_id()
        if "id_token_hint" in form.data:
            server.wishes = server.wishes.only_by(_hinted(server.parts, form.data["id_token_hint"], client_id))
        grant.request.user = server.work.session if server.may_answer(client_id) else None


def _hinted(parts: ProviderParts, hint: str, client_id: str) -> str:
    """Return the `sub` of an ID token that this client got from us, expired or not (Core §3.1.2.1)."""
    try:
        claims = verified_claims(hint, parts.signer.key_set(), algorithms=parts.algorithms, types=["jwt"])
    except (UnreadableToken, UnverifiedToken) as error:
        raise InvalidRequestError(f"id_token_hint is no ID token of ours: {error}.") from error
    if (claims.get("iss"), claims.get("aud")) != (parts.issuer, client_id):
        raise InvalidRequestError("id_token_hint was not issued to this client.")
    return str(claims["sub"])


class IdTokens(OpenIDCode):  # type: ignore[misc] # Authlib ships no types
    """Adds an ID token. `prompt` is checked by Authlib; signing goes through our `Signer`, which may be an HSM."""

    def exists_nonce(self, _nonce: str, _request: Any) -> bool:
        """A nonce binds the ID token to the service's own session; only the service can tell a replay."""
        return False

    def encode_id_token(self, token: Mapping[str, Any], request: Any) -> str:
        """Return the ID token (OpenID Connect Core §2, §3.1.3.6)."""
        exchange, code = _exchange_of(request), request.authorization_code
        parts, client = exchange.parts, request.client.client
        issued = int(exchange.work.now.timestamp())
        _subject, person = parts.vault.open(code.session.id, code.session.person)
        claims = {
            **chosen_claims(person, code.code.claims.get("id_token", ())),
            "iss": parts.issuer,
            "sub": parts.pairwise(client.id, code.session),
            "aud": client.id,
            "azp": client.id,
            "iat": issued,
            "exp": issued + parts.settings.id_token_seconds,
            "sid": parts.sid(client.id, code.session),
            "at_hash": create_half_hash(token["access_token"], parts.id_token_algorithm(client)).decode(),
            **self.get_authorization_code_claims(code),
        }
        return parts.sign_id_token(client, claims)


def _exchange_of(request: Any) -> Exchange:
    """Return the exchange that a request of ours belongs to."""
    exchange: Exchange = request.exchange
    return exchange


class OurIssuer(IssuerParameter):  # type: ignore[misc] # Authlib ships no types
    """RFC 9207: every authorization response says who it is from, errors included."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer

    def get_issuer(self) -> str:
        """Return our issuer."""
        return self._issuer


class Tokens(BearerTokenGenerator):  # type: ignore[misc] # Authlib ships no types
    """Authlib's generator; a token that is bound to a DPoP key says so (RFC 9449 §5)."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange.access_token, exchange.refresh_token, exchange.lifetime)
        self._work = exchange.work

    def generate(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Return the token response."""
        token: dict[str, Any] = super().generate(*args, **options)
        if token.get("refresh_token") is None:
            token.pop("refresh_token", None)
        return {**token, "token_type": "DPoP" if "jkt" in (self._work.binding or {}) else "Bearer"}
