"""Sign-on as the rest of the gateway sees it: one object, wired once, that the handlers and the window call.

Owns: the order of things. Load from the store, decide in memory (`provider`), store what was decided, answer. Leaves
HTTP to `gateway.web.sign_on`, the protocol to `provider`, the regions to `broker`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from gateway.config import Config
from gateway.crypto.at_rest import References, Sealer
from gateway.crypto.signing import Signer
from gateway.domain.identity import SignedOnPerson
from gateway.errors import InvalidRequest, NotAuthenticated, NotPermitted, SignOnFailed
from gateway.identity import records
from gateway.identity.broker import LOST, Broker, BrokerSettings
from gateway.identity.clients import Client
from gateway.identity.discovery import metadata
from gateway.identity.persons import PersonVault, claims_of
from gateway.identity.provider import Answer, Exchange, ProviderParts, SignOnNeeded, Work
from gateway.identity.records import Code, Interaction, Session, UsedAssertion, new_handle
from gateway.identity.requests import KEPT, Form, ProtocolRequest, other_person, read_wishes, refused, unmet
from gateway.identity.returns import Returns
from gateway.identity.tokens import AccessTokens
from gateway.identity.upstream import SignOnRegion
from gateway.ports import Clock
from gateway.storage import Store
from gateway.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """The token endpoint's answer: status and JSON body (RFC 6749 §5)."""

    status: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SendBack:
    """Send the browser to the service. `session` is a new handle for its session cookie, when there is one."""

    url: str
    session: str | None = None


@dataclass(frozen=True, slots=True)
class ChooseRegion:
    """Let the person choose a region. `browser` is the handle for the interaction cookie."""

    interaction_id: str
    browser: str
    languages: Sequence[str]


class IdentityService:
    """The OpenID Provider and the broker together."""

    def __init__(
        self,
        config: Config,
        clients: Mapping[str, Client],
        regions: Mapping[str, SignOnRegion],
        store: Store,
        sealer: Sealer,
        references: References,
        signer: Signer,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._settings = config.sign_on
        self._store = store
        self._clock = clock
        self._signer = signer
        self._vault = PersonVault(sealer)
        broker_settings = BrokerSettings(config.public_url, timedelta(seconds=config.sign_on.session_seconds))
        self.broker = Broker(broker_settings, regions, store, sealer, references, clock, metrics)
        self.returns = Returns(store, sealer, clock)
        lifetime = timedelta(seconds=config.sign_on.access_token_seconds)
        self.tokens = AccessTokens(config.public_url, signer, clients, clock, lifetime)
        self.issuer = config.public_url
        self._parts = ProviderParts(
            issuer=self.issuer,
            clients=clients,
            settings=config.sign_on,
            signer=signer,
            tokens=self.tokens,
            references=references,
            vault=self._vault,
            reachable=self.broker.reachable(),
        )

    # --- published

    def discovery(self, languages: Sequence[str]) -> dict[str, Any]:
        """Return the discovery document."""
        return metadata(self.issuer, self._signer.algorithm, languages, self._parts.reachable)

    def jwks(self) -> dict[str, Any]:
        """Return the public keys that verify ID tokens and access tokens."""
        return self._signer.public_jwks()

    # --- the authorization endpoint

    async def authorize(
        self, pairs: Iterable[tuple[str, str]], session: str | None, browser: str | None
    ) -> SendBack | ChooseRegion:
        """Answer an authorization request at once, or open an interaction.

        `session` and `browser` are the handles from the browser's cookies. Raises InvalidRequest while there is no
        redirect URI that the browser may safely be sent back to.
        """
        form = Form(pairs)
        work = Work(self._clock(), session=await self._live_session(session))
        decision = self._exchange(work).authorize(form)
        if isinstance(decision, SignOnNeeded):
            return await self._open_interaction(form, decision.client, browser or new_handle())
        if decision.location is None:
            raise InvalidRequest(_description(decision))
        if work.new_code is not None:
            await self._store.write(partial(records.keep_code, code=work.new_code))
        return SendBack(decision.location)

    async def _open_interaction(self, form: Form, client: Client, browser: str) -> ChooseRegion:
        interaction = Interaction(
            id=new_handle(),
            handle_hash=records.digest(browser),
            client_id=client.id,
            request={name: value for name, value in form.data.items() if name in KEPT},
            expires_at=self._clock() + timedelta(seconds=self._settings.interaction_seconds),
        )
        await self._store.write(partial(records.keep_interaction, interaction=interaction))
        return ChooseRegion(interaction.id, browser, form.data.get("ui_locales", "").split()[:8])

    # --- the chooser and the way through a region

    async def choices(self, interaction_id: str, browser: str) -> tuple[Interaction, Sequence[SignOnRegion]]:
        """Return the interaction and the regions that can serve it. Raises SignOnFailed."""
        interaction = await self.broker.interaction(interaction_id, browser)
        return interaction, self.broker.choices(read_wishes(Form(interaction.request.items())).least())

    async def begin(self, region_id: str, interaction_id: str, browser: str, language: str) -> str:
        """Return the address at the region. Raises SignOnFailed or Interrupted."""
        interaction = await self.broker.interaction(interaction_id, browser)
        return await self.broker.begin(region_id, interaction, language)

    async def complete(
        self, region_id: str, query: Mapping[str, str], browser: str, earlier: str | None, *, posted: bool = False
    ) -> SendBack:
        """Finish a sign-on: session, code, and the way back to the service. Raises SignOnFailed or Interrupted.

        `earlier` is the handle of the session that this browser had until now: it ends, so that of two people at one
        machine only the second is signed on. `posted` says that the region had the browser post `query` (`returns`).
        """
        interaction, session, handle = await self.broker.complete(region_id, query, browser, posted=posted)
        form = Form(interaction.request.items())
        work = Work(self._clock(), session=session)
        decision = self._exchange(work).authorize(form)
        if isinstance(decision, SignOnNeeded):
            reached = session.assurance >= decision.wishes.least()
            error = other_person() if reached else unmet("The sign-on did not reach the demanded acr.")
            decision = self._exchange(work).refuse(form, error)
        if decision.location is None:  # the client or its redirect URI was withdrawn meanwhile
            raise SignOnFailed(_description(decision))
        finish = partial(_finish, interaction_id=interaction.id, session=session, code=work.new_code, earlier=earlier)
        if not await self._store.write(finish):
            raise SignOnFailed(LOST, code="signon.lost")
        return SendBack(decision.location, handle)

    async def cancel(self, interaction_id: str, browser: str) -> SendBack:
        """Give a sign-on up and tell the service so (access_denied). Raises SignOnFailed."""
        interaction = await self.broker.interaction(interaction_id, browser)
        await self._store.write(partial(records.end_interaction, interaction_id=interaction.id))
        form = Form(interaction.request.items())
        answer = self._exchange(Work(self._clock())).refuse(form, refused())
        if answer.location is None:
            raise SignOnFailed(_description(answer))
        return SendBack(answer.location)

    async def end_session(self, handle: str | None) -> None:
        """End the session that a browser holds, with all that services got by it. None ends nothing."""
        if handle is not None:
            await self._store.write(partial(records.end_session, handle=handle, now=self._clock()))

    # --- the token endpoint

    async def token(self, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> TokenAnswer:
        """Answer a token request. Also the way by which the clerks' window redeems its codes."""
        work = Work(self._clock())
        exchange = Exchange(self._parts, work, for_person=form.get("grant_type") != "client_credentials")
        request = exchange.create_oauth2_request(ProtocolRequest("POST", Form(form.items()), headers))
        refusal = exchange.identify(request)
        if refusal is not None:
            return _token_answer(refusal)
        client_id = request.client.get_client_id()
        use_up = partial(_use_up, form=dict(form), client_id=client_id, used=exchange.assertion.used, work=work)
        fresh, found = await self._store.write(use_up)
        if not fresh:
            return TokenAnswer(401, {"error": "invalid_client", "error_description": "The jti was used before."})
        if found is not None:
            work.code, work.session = found
        return _token_answer(exchange.create_token_response(request))

    async def redeem(self, form: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the token endpoint's answer to a public client inside this process. Raises SignOnFailed."""
        answer = await self.token(form)
        if answer.status != 200:
            raise SignOnFailed("The sign-on could not be completed; please start again.", detail=str(answer.body))
        return answer.body

    # --- who is behind a token

    async def userinfo(self, token: str) -> dict[str, Any]:
        """Return the claims that the token's scopes open. Raises NotAuthenticated or NotPermitted."""
        claims, session = await self._behind(token)
        scopes = str(claims["scope"]).split()
        if "openid" not in scopes:
            raise NotPermitted("The access token lacks the scope openid.", code="auth.insufficient_scope")
        _subject, person = self._vault.open(session.id, session.person)
        return {"sub": claims["sub"], **claims_of(person, scopes)}

    async def who_signed_on(self, token: str) -> SignedOnPerson:
        """Return the person behind a token, for callers inside this process. Raises NotAuthenticated."""
        _claims, session = await self._behind(token)
        subject, person = self._vault.open(session.id, session.person)
        return SignedOnPerson(
            session.region, subject, session.assurance, session.method, session.authenticated_at, person
        )

    async def _behind(self, token: str) -> tuple[dict[str, Any], Session]:
        claims = self.tokens.verify(token)
        if "sid" not in claims:
            raise NotAuthenticated("No person signed on for this access token; it stands for a client alone.")
        find = partial(records.session_behind, family_id=claims["jti"], now=self._clock())
        session = await self._store.read(find)
        if session is None:
            raise NotAuthenticated("The sign-on behind this access token has ended.")
        return claims, session

    # --- shared

    def _exchange(self, work: Work) -> Exchange:
        return Exchange(self._parts, work, for_person=True)

    async def _live_session(self, handle: str | None) -> Session | None:
        if handle is None:
            return None
        return await self._store.read(partial(records.find_session, handle=handle, now=self._clock()))


def _finish(tx: Connection, interaction_id: str, session: Session, code: Code | None, earlier: str | None) -> bool:
    """End the interaction and the browser's earlier session, and keep what came of it; False when it had ended."""
    if not records.end_interaction(tx, interaction_id):
        return False
    if earlier is not None:
        records.end_session(tx, earlier, session.authenticated_at)
    records.keep_session(tx, session)
    if code is not None:
        records.keep_code(tx, code)
    return True


def _use_up(
    tx: Connection, form: Mapping[str, str], client_id: str, used: UsedAssertion | None, work: Work
) -> tuple[bool, tuple[Code, Session] | None]:
    """Use up the assertion and the code of a token request: whether the assertion is fresh, and what the code was."""
    if used is not None and not records.use_assertion(tx, used):
        return False, None
    if form.get("grant_type") != "authorization_code" or "code" not in form:
        return True, None
    redirect_uri = form.get("redirect_uri", "")
    return True, records.redeem_code(tx, form["code"], client_id, redirect_uri, work.token_id, work.now)


def _token_answer(answer: Answer) -> TokenAnswer:
    return TokenAnswer(answer.status, answer.body)


def _description(answer: Answer) -> str:
    return str(answer.body.get("error_description") or answer.body.get("error"))
