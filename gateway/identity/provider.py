"""The OpenID Provider's protocol: Authlib's grants, run synchronously over one request's memory.

Owns: which grants there are and how ours differ from Authlib's defaults: PKCE with S256 for every client, exact
redirect URIs, `iss` on every answer, tokens from our own signer. Leaves all reading and writing to `service`: it puts
what a grant may need into `Work` before, and stores what a grant left there after. No hook here touches the store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import (
    AuthorizationCodeMixin,
    AuthorizationServer,
    ClientMixin,
    InvalidRequestError,
    InvalidScopeError,
    UnsupportedResponseTypeError,
)
from authlib.oauth2.rfc6749.errors import InvalidClientError
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, ClientCredentialsGrant
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7636.challenge import compare_s256_code_challenge
from authlib.oauth2.rfc9207 import IssuerParameter
from authlib.oidc.core.grants import OpenIDCode
from authlib.oidc.core.util import create_half_hash

from gateway.config import SignOnSettings
from gateway.crypto.at_rest import References
from gateway.crypto.jose import UnreadableToken, UnverifiedToken, verified_claims
from gateway.crypto.signing import Signer
from gateway.domain.identity import Assurance
from gateway.identity.assertion import ClientAssertion
from gateway.identity.clients import Client
from gateway.identity.persons import IDENTITY_SCOPES, PersonVault
from gateway.identity.records import Code, Session, digest, new_handle
from gateway.identity.requests import Form, ProtocolRequest, Wishes, read_wishes, unmet
from gateway.identity.tokens import AccessTokens, SignOnContext, new_token_id

_S256 = re.compile(r"[A-Za-z0-9_-]{43}")
CLIENT_METHODS = ("private_key_jwt", "none")


@dataclass(frozen=True, slots=True)
class ProviderParts:
    """What the provider is made of. `reachable` is the best level that any enabled region's sign-on can give."""

    issuer: str
    clients: Mapping[str, Client]
    settings: SignOnSettings
    signer: Signer
    tokens: AccessTokens
    references: References
    vault: PersonVault
    reachable: Assurance

    def pairwise(self, client_id: str, session: Session) -> str:
        """Return the `sub` under which this client knows the person: no two clients see the same (Core §8.1)."""
        subject, _claims = self.vault.open(session.id, session.person)
        return self.references.of(client_id, session.region, subject)

    def sid(self, client_id: str, session: Session) -> str:
        """Return the session's name for this client; pairwise too, or it would join what `sub` keeps apart."""
        return self.references.of("sid", client_id, session.id)


@dataclass(slots=True)
class Work:
    """One request's memory. Before: the present, the browser's session, the code just used up. After: the new code."""

    now: datetime
    session: Session | None = None
    code: Code | None = None
    token_id: str = field(default_factory=new_token_id)
    new_code: Code | None = None


@dataclass(slots=True)
class Answer:
    """What Authlib decided. `location` is set when the browser is to be sent back to the service."""

    status: int
    body: Any
    location: str | None = None


@dataclass(frozen=True, slots=True)
class SignOnNeeded:
    """The request is good, but a person must sign on first."""

    client: Client
    wishes: Wishes


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
        """Return when the person signed on."""
        return int(self.session.authenticated_at.timestamp())

    def get_acr(self) -> str:
        """Return the level promised with the code."""
        return self.code.acr

    def get_amr(self) -> list[str]:
        """Return the region's word for the method."""
        return [self.session.method]


# --- grants and extensions -----------------------------------------------------------------------------------------


class _Authenticated:
    """The client was authenticated before the code was used up; the grant takes it from the request."""

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


class ClientGrant(_Authenticated, ClientCredentialsGrant):  # type: ignore[misc] # Authlib ships no types
    """The client credentials grant; only clients that hold a key are registered for it."""


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
        if server.wishes.least() > server.parts.reachable:
            raise unmet("No region that is connected here can give the demanded acr.")
        client_id = grant.request.client.get_client_id()
        if "id_token_hint" in form.data:
            server.wishes = server.wishes.only_by(_hinted(server.parts, form.data["id_token_hint"], client_id))
        grant.request.user = server.work.session if server.may_answer(client_id) else None


def _hinted(parts: ProviderParts, hint: str, client_id: str) -> str:
    """Return the `sub` of an ID token that this client got from us, expired or not (Core §3.1.2.1)."""
    try:
        claims = verified_claims(hint, parts.signer.key_set(), algorithms=[parts.signer.algorithm], types=["jwt"])
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
        server, code = grant_server(request), request.authorization_code
        parts, client_id = server.parts, request.client.get_client_id()
        issued = int(server.work.now.timestamp())
        claims = {
            "iss": parts.issuer,
            "sub": parts.pairwise(client_id, code.session),
            "aud": client_id,
            "azp": client_id,
            "iat": issued,
            "exp": issued + parts.settings.id_token_seconds,
            "sid": parts.sid(client_id, code.session),
            "at_hash": create_half_hash(token["access_token"], parts.signer.algorithm).decode(),
            **self.get_authorization_code_claims(code),
        }
        return parts.signer.sign(claims, typ="JWT")


def grant_server(request: Any) -> Exchange:
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


class Exchange(AuthorizationServer):  # type: ignore[misc] # Authlib ships no types
    """One request at the authorization or token endpoint."""

    def __init__(self, parts: ProviderParts, work: Work, *, for_person: bool) -> None:
        """`for_person` keeps apart what a sign-on can grant and what the API's scopes are."""
        super().__init__()
        self.parts = parts
        self.work = work
        self._for_person = for_person
        self.wishes: Wishes
        self.assertion = ClientAssertion(parts.issuer, work.now)
        self.register_client_auth_method(self.assertion.CLIENT_AUTH_METHOD, self.assertion)
        self.register_grant(CodeGrant, [RequestRules(), IdTokens()])
        self.register_grant(ClientGrant)
        self.register_token_generator("default", BearerTokenGenerator(self._access_token, None, self._lifetime))

    # --- what the service calls

    def authorize(self, form: Form) -> Answer | SignOnNeeded:
        """Check an authorization request, and answer it at once if the session in `Work` may."""
        request = self.create_oauth2_request(ProtocolRequest("GET", form))
        try:
            grant = self._grant_for(request)
        except OAuth2Error as error:
            answer: Answer = self.handle_error_response(request, error)
            return answer
        if grant.prompt is not None or request.user is None:
            return SignOnNeeded(request.client.client, self.wishes)
        given: Answer = self.create_authorization_response(request, grant_user=request.user, grant=grant)
        return given

    def identify(self, request: ProtocolRequest) -> Answer | None:
        """Authenticate the client of a token request; an Answer is the refusal."""
        try:
            request.client = self.authenticate_client(request, CLIENT_METHODS)
        except OAuth2Error as error:
            answer: Answer = self.handle_error_response(request, error)
            return answer
        return None

    def refuse(self, form: Form, error: OAuth2Error) -> Answer:
        """Send the browser back with an error; without a location if the redirect URI is registered no more."""
        request = self.create_oauth2_request(ProtocolRequest("GET", form))
        client = self.query_client(form.client_id)
        if client is not None and client.check_redirect_uri(form.redirect_uri):
            error.redirect_uri, error.state = form.redirect_uri, form.state
        answer: Answer = self.handle_error_response(request, error)
        return answer

    def _grant_for(self, request: ProtocolRequest) -> Any:
        client = self.query_client(request.payload.client_id)
        if request.payload.response_type != "code":
            # Authlib's refusal repeats what was sent, and fails itself when that is not plain ASCII.
            if client is None:
                raise InvalidClientError("The client is not registered here.")
            uri = CodeGrant.validate_authorization_redirect_uri(request, client)
            error = UnsupportedResponseTypeError("other", redirect_uri=uri)
            error.state = request.payload.state
            raise error
        return self.get_consent_grant(request, end_user=None)

    def may_answer(self, client_id: str) -> bool:
        """Say whether the session in `Work` may answer: sure enough, fresh enough, and of the right person."""
        session, wishes = self.work.session, self.wishes
        if session is None or not wishes.met_by(session, self.work.now):
            return False
        return wishes.subjects is None or self.parts.pairwise(client_id, session) in wishes.subjects

    # --- what Authlib asks of an integration

    def query_client(self, client_id: str | None) -> OAuthClient | None:
        """Return a registered client, with the scopes that it may get by this grant."""
        client = self.parts.clients.get(client_id or "")
        if client is None:
            return None
        personal = client.scopes & IDENTITY_SCOPES
        return OAuthClient(client, personal if self._for_person else client.scopes - personal)

    def create_oauth2_request(self, request: ProtocolRequest) -> ProtocolRequest:
        """Tie our request to this exchange."""
        request.exchange = self
        return request

    def save_token(self, _token: Mapping[str, Any], _request: Any) -> None:
        """Nothing is stored: a token carries its own proof, and what ends it early is the row of its code."""

    def send_signal(self, *_args: Any, **_kwargs: Any) -> None:
        """Nobody listens: what happened is plain from the answer."""

    def handle_response(self, status: int, body: Any, headers: Any) -> Answer:
        """Return an answer of ours; one that sends the browser away says who it is from."""
        answer = Answer(status, body, dict(headers).get("Location"))
        OurIssuer(self.parts.issuer).add_issuer_parameter(self, answer)
        return answer

    # --- tokens

    def _lifetime(self, _client: OAuthClient, _grant_type: str) -> int:
        """Return `expires_in` for the token under way, in seconds."""
        now = self.work.now
        return int((self.parts.tokens.expiry(now, self._context()) - now).total_seconds())

    def _access_token(self, client: OAuthClient, grant_type: str, user: Session | None, scope: str) -> str:
        client_id = client.get_client_id()
        person = self._context() if grant_type == "authorization_code" else None
        subject = self.parts.pairwise(client_id, user) if user else client_id
        return self.parts.tokens.issue(
            client_id=client_id,
            subject=subject,
            scopes=scope.split(),
            token_id=self.work.token_id,
            person=person,
        )

    def _context(self) -> SignOnContext | None:
        session, code = self.work.session, self.work.code
        if session is None or code is None:
            return None
        return SignOnContext(
            self.parts.sid(code.client_id, session), code.acr, session.authenticated_at, session.expires_at
        )
