"""The OpenID Provider's protocol: one request at the authorization or token endpoint, decided in memory.

Owns: which grants there are, what an answer looks like, and what the tokens say. Leaves to `grants` the grants
themselves, and all reading and writing to the endpoints (`authorization`, `token_endpoint`): they put what a grant may
need into `Work` before, and store what a grant left there after. No hook here touches the store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, get_args

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AuthorizationServer, UnsupportedResponseTypeError
from authlib.oauth2.rfc6749.errors import InvalidClientError
from authlib.oidc.core.errors import LoginRequiredError
from sqlalchemy import Connection

from gateway.config import SignOnSettings
from gateway.crypto.at_rest import References
from gateway.crypto.signing import Signer
from gateway.domain.calendar import local_day
from gateway.domain.identity import Assurance
from gateway.domain.mandate import Mandate
from gateway.evidence import Exchange as Evidence
from gateway.identity.assertion import ClientAssertion
from gateway.identity.certificate_auth import CertificateAuth, Method
from gateway.identity.clients import TOKEN_EXCHANGE, Client
from gateway.identity.delegation import mandate_claim, principal_subject
from gateway.identity.families import Family
from gateway.identity.grants import (
    ClientGrant,
    CodeGrant,
    ExchangeGrant,
    IdTokens,
    OAuthClient,
    OurIssuer,
    RefreshGrant,
    RequestRules,
    Tokens,
)
from gateway.identity.mtls import Authorities, PresentedCertificate
from gateway.identity.persons import IDENTITY_SCOPES, PersonVault
from gateway.identity.proofs import NONCE_HEADER
from gateway.identity.records import Code, Session
from gateway.identity.requests import Form, ProtocolRequest, Wishes
from gateway.identity.tokens import AccessTokens, SignOnContext, new_token_id
from gateway.policy.recognition import SIGN_ON, Ask, Decision, PersonKind, Recognition

API_GRANTS = frozenset({"client_credentials", TOKEN_EXCHANGE})
"""Grants whose tokens open the API and not a person's claims."""

FindClient = Callable[[str], Awaitable[Client | None]]
"""Finds a registered client by its id; None when there is none, or when it is disabled."""


@dataclass(frozen=True, slots=True)
class ClientsAsked:
    """What a unit asks of a client in the store itself, where what is in memory may be two seconds old.

    `stands` is for a unit that gives a client something, and holds it enabled until that commits. `honours` is told
    the id of a token that stands for the client alone, and when it was issued (epoch s).
    """

    stands: Callable[[Connection, str], bool]
    honours: Callable[[Connection, str, str, int], bool]


@dataclass(frozen=True, slots=True)
class ProviderParts:
    """What the provider is made of. `reachable` is the best level that any enabled region's sign-on can give."""

    issuer: str
    settings: SignOnSettings
    signer: Signer
    tokens: AccessTokens
    references: References
    vault: PersonVault
    reachable: Assurance
    recognition: Recognition
    authorities: Authorities
    methods: Sequence[str]
    """How clients may prove themselves here: certificates only where the listener sees any."""
    asked: ClientsAsked

    def recognised(self, client: Client, session: Session, now: datetime) -> Decision:
        """Say whether a person's sign-on counts for this client, by which line of the matrix, and if not, why."""
        _subject, person = self.vault.open(session.id, session.person)
        kind = PersonKind.ORGANISATION if "organisation" in person.reveal() else PersonKind.PERSON
        return self.counts(client, session.region, session.assurance, kind, now)

    def counts(self, client: Client, region: str, level: Assurance, kind: PersonKind, now: datetime) -> Decision:
        """Say whether such a sign-on of the region counts for this client, by which line, and if not, why."""
        service, day = client.service or client.id, local_day(now)
        return self.recognition.decide(Ask(region, level, service, SIGN_ON, kind, day))

    @property
    def algorithms(self) -> Sequence[str]:
        """The algorithms that we sign with."""
        return self.signer.algorithms

    def id_token_algorithm(self, client: Client) -> str:
        """Return the algorithm of this client's ID tokens."""
        return client.id_token_signed_response_alg

    def sign_id_token(self, client: Client, claims: Mapping[str, Any]) -> str:
        """Return a signed ID token. Raises Unavailable when no key signs with the client's algorithm."""
        return self.signer.sign(claims, typ="JWT", algorithm=self.id_token_algorithm(client))

    def sign_logout_token(self, client: Client, claims: Mapping[str, Any]) -> str:
        """Return a signed logout token; the key is that of the client's ID tokens (Back-Channel Logout 1.0 §2.4)."""
        return self.signer.sign(claims, typ="logout+jwt", algorithm=self.id_token_algorithm(client))

    def pairwise(self, client_id: str, session: Session) -> str:
        """Return the `sub` under which this client knows the person: no two clients see the same (Core §8.1)."""
        subject, _claims = self.vault.open(session.id, session.person)
        return self.references.of(client_id, session.region, subject)

    def sid(self, client_id: str, session: Session) -> str:
        """Return the session's name for this client; pairwise too, or it would join what `sub` keeps apart."""
        return self.references.of("sid", client_id, session.id)


@dataclass(slots=True)
class Work:
    """One request's memory.

    Before: the present, the client that it names and the certificate that this one showed, the browser's session, and
    what was just used up. `binding` is what the tokens will be bound to, `refresh` the refresh token to hand out,
    `claims` those that a new code may carry.
    `since` says when the sign-on began that the session has just come of. After: the new code, and what
    it rests on: `recognised` says by which line of the matrix the session counts.
    """

    now: datetime
    client: Client | None = None
    certificate: PresentedCertificate | None = None
    session: Session | None = None
    code: Code | None = None
    family: Family | None = None
    mandate: Mandate | None = None
    binding: Mapping[str, str] | None = None
    refresh: str | None = None
    claims: Mapping[str, Sequence[str]] = field(default_factory=dict)
    since: datetime | None = None
    token_id: str = field(default_factory=new_token_id)
    new_code: Code | None = None
    evidence: Evidence | None = None
    recognised: Decision | None = None


@dataclass(slots=True)
class Answer:
    """What Authlib decided. `location` is set when the browser is to be sent back to the service."""

    status: int
    body: Any
    location: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SignOnNeeded:
    """The request is good, but a person must sign on first."""

    client: Client
    wishes: Wishes


ClaimsChosen = Mapping[str, Sequence[str]]
"""Where claims go (`userinfo`, `id_token`) → their names."""


@dataclass(frozen=True, slots=True)
class SessionFound:
    """The request is good and the session would do: what is left is to decide which claims go out.

    `request` and `grant` are Authlib's, checked and waiting for `Exchange.answer`.
    """

    client: Client
    session: Session
    wishes: Wishes
    scope: str
    request: Any
    grant: Any


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
        for method in get_args(Method):
            by_certificate = CertificateAuth(method, work.certificate, parts.authorities, work.now)
            self.register_client_auth_method(method, by_certificate)
        self.register_grant(CodeGrant, [RequestRules(), IdTokens()])
        self.register_grant(RefreshGrant)
        self.register_grant(ClientGrant)
        self.register_grant(ExchangeGrant)
        self.register_token_generator("default", Tokens(self))

    # --- what the endpoints call

    def authorize(self, form: Form) -> Answer | SignOnNeeded | SessionFound:
        """Check an authorization request: refused (Answer), or a person must sign on, or the session may answer."""
        request = self.create_oauth2_request(ProtocolRequest("GET", form))
        try:
            grant = self._grant_for(request)
        except OAuth2Error as error:
            answer: Answer = self.handle_error_response(request, error)
            return answer
        if request.user is None or grant.prompt in {"login", "select_account"}:
            return SignOnNeeded(request.client.client, self.wishes)
        return SessionFound(
            request.client.client, request.user, self.wishes, request.payload.scope or "", request, grant
        )

    def check(self, form: Form) -> OAuth2Error | None:
        """Check an authorization request by itself, whoever will answer it; return what is wrong with it."""
        try:
            self._grant_for(self.create_oauth2_request(ProtocolRequest("GET", form)))
        except LoginRequiredError:
            return None  # prompt=none: whether a person is there, the browser will tell
        except OAuth2Error as error:
            error.redirect_uri = None  # the client hears of it here, and no browser is sent anywhere
            return error
        return None

    def answer(self, found: SessionFound, claims: ClaimsChosen) -> Answer:
        """Issue a code with which these claims may go out; it is left in `Work`.

        `authorize` has checked the request, in this very exchange; by `create_authorization_response` of the server
        Authlib would check all of it again.
        """
        self.work.claims = claims
        sent = found.grant.create_authorization_response(found.request.payload.redirect_uri, found.session)
        given: Answer = self.handle_response(*sent)
        return given

    def identify(self, request: ProtocolRequest) -> Answer | None:
        """Authenticate the client of a token request; an Answer is the refusal."""
        try:
            request.client = self.authenticate_client(request, self.parts.methods)
        except OAuth2Error as error:
            return self.refused(request, error)
        return None

    def refused(self, request: ProtocolRequest, error: OAuth2Error) -> Answer:
        """Return the answer that a protocol error is."""
        answer: Answer = self.handle_error_response(request, error)
        return answer

    def refuse(self, form: Form, error: OAuth2Error) -> Answer:
        """Send the browser back with an error; without a location if the redirect URI is registered no more."""
        request = self.create_oauth2_request(ProtocolRequest("GET", form))
        client = self.query_client(form.client_id)
        if client is not None and client.check_redirect_uri(form.redirect_uri):
            error.redirect_uri, error.state = form.redirect_uri, form.state
        return self.refused(request, error)

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
        """Say whether the session in `Work` may answer: recognised, sure and fresh enough, and of the right person."""
        session, wishes, client = self.work.session, self.wishes, self.work.client
        if session is None or client is None or not wishes.met_by(session, self.work.now, self.work.since):
            return False
        self.work.recognised = self.parts.recognised(client, session, self.work.now)
        if not self.work.recognised.allowed:
            return False
        return wishes.subjects is None or self.parts.pairwise(client_id, session) in wishes.subjects

    # --- what Authlib asks of an integration

    def query_client(self, client_id: str | None) -> OAuthClient | None:
        """Return the client that was loaded for this request, with the scopes that it may get by this grant."""
        client = self.work.client
        if client is None or client.id != client_id:
            return None
        personal = client.scopes & IDENTITY_SCOPES
        return OAuthClient(client, personal if self._for_person else client.scopes - personal)

    def create_oauth2_request(self, request: ProtocolRequest) -> ProtocolRequest:
        """Tie our request to this exchange."""
        request.exchange = self
        return request

    def save_token(self, _token: Mapping[str, Any], _request: Any) -> None:
        """Nothing is stored: a token carries its own proof, and what ends it early is the row of its family."""

    def send_signal(self, *_args: Any, **_kwargs: Any) -> None:
        """Nobody listens: what happened is plain from the answer."""

    def handle_response(self, status: int, body: Any, headers: Any) -> Answer:
        """Return an answer of ours; one that sends the browser away says who it is from."""
        given = dict(headers)
        more = {name: given[name] for name in (NONCE_HEADER, "WWW-Authenticate") if name in given}
        answer = Answer(status, body, given.get("Location"), more)
        OurIssuer(self.parts.issuer).add_issuer_parameter(self, answer)
        return answer

    # --- tokens

    def lifetime(self, _client: OAuthClient, _grant_type: str) -> int:
        """Return `expires_in` for the token under way, in seconds."""
        now = self.work.now
        return int((self.parts.tokens.expiry(now, self._context()) - now).total_seconds())

    def refresh_token(self, **_about: Any) -> str | None:
        """Return the refresh token that was stored for this answer, if there is one."""
        return self.work.refresh

    def access_token(self, client: OAuthClient, grant_type: str, user: Session | None, scope: str) -> str:
        """Return the signed access token."""
        client_id = client.get_client_id()
        return self.parts.tokens.issue(
            client_id=client_id,
            subject=self._subject_of(client_id, user),
            scopes=scope.split(),
            token_id=self.work.token_id,
            person=None if grant_type == "client_credentials" else self._context(),
            binding=self.work.binding,
        )

    def _subject_of(self, client_id: str, user: Session | None) -> str:
        """Return whom the token is about: the client itself, the person, or the principal of the person's mandate."""
        if user is None:
            return client_id
        mandate = self.work.mandate
        if mandate is not None:
            return principal_subject(mandate, client_id, self.parts.references)
        return self.parts.pairwise(client_id, user)

    def _mandate_claim(self, mandate: Mandate, client_id: str) -> Mapping[str, Any]:
        return mandate_claim(mandate, client_id, self.parts.references, issuer=self.parts.issuer)

    def _context(self) -> SignOnContext | None:
        session, family, mandate = self.work.session, self.work.family, self.work.mandate
        if session is None or family is None:
            return None
        return SignOnContext(
            sid=self.parts.sid(family.client_id, session),
            acr=family.acr,
            authenticated_at=session.authenticated_at,
            not_after=family.expires_at,
            grant_id=family.id,
            actor=family.actor,
            mandate=None if mandate is None else self._mandate_claim(mandate, family.client_id),
        )
