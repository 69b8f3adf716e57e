"""The endpoints that clients call with their credentials: token, pushed requests, introspection, revocation.

Owns: proving the client, using up in one transaction whatever serves once (assertion, proof, code, refresh token), and
the answers. Leaves to `provider` what a grant decides and a token says, to `exchanges` who may act for whom.
Sources: RFC 6749 §3.2, RFC 9126 (pushed requests), RFC 7662 (introspection), RFC 7009 (revocation).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidClientError, InvalidRequestError, InvalidScopeError
from authlib.oauth2.rfc7636.challenge import compare_s256_code_challenge
from sqlalchemy import Connection

from gateway.domain.mandate import Mandate
from gateway.errors import NotAuthenticated
from gateway.evidence import Exchange as Evidence
from gateway.evidence import record
from gateway.identity import families, records
from gateway.identity.assertion import unverified_subject
from gateway.identity.authorization import REQUEST_URI
from gateway.identity.clients import TOKEN_EXCHANGE, Client
from gateway.identity.exchanges import Exchanges
from gateway.identity.families import NewRefresh, Standing
from gateway.identity.proofs import Presented, Proofs, Proved
from gateway.identity.provider import API_GRANTS, Answer, ClientsAsked, Exchange, FindClient, ProviderParts, Work
from gateway.identity.records import Code, UsedAssertion, new_handle
from gateway.identity.refusals import Refusals
from gateway.identity.requests import KEPT, Form, ProtocolRequest
from gateway.identity.standing import stands
from gateway.identity.verified import VerifiedTokens
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.nonces import spend

PUSHED_LIFE = timedelta(seconds=60)
"""How long a pushed request may wait for the browser (RFC 9126 §2.2; FAPI 2.0 §5.3.2.2 allows less than 600 s)."""
PUSHABLE = frozenset({*KEPT, "prompt", "acr_values", "ui_locales", "login_hint", "display", "request", "registration"})
"""Parameters of an authorization request, those that are refused among them."""
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """An endpoint's answer: status, JSON body (RFC 6749 §5) and further headers."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Known:
    """A request whose client has proved itself: what must still be used up, and what tokens will be bound to."""

    client: Client
    exchange: Exchange
    request: ProtocolRequest
    proved: Proved


@dataclass(frozen=True, slots=True)
class _Settled:
    """What a transaction used up. `refusal` says what was used before, and then nothing else was touched."""

    refusal: OAuth2Error | None = None
    code: Code | None = None
    standing: Standing | None = None
    mandate: Mandate | None = None


class TokenEndpoints:
    """Answers clients."""

    def __init__(
        self,
        parts: ProviderParts,
        find: FindClient,
        proofs: Proofs,
        exchanges: Exchanges,
        verified: VerifiedTokens,
        store: Store,
        clock: Clock,
        refusals: Refusals,
    ) -> None:
        self._parts = parts
        self._find = find
        self._proofs = proofs
        self._exchanges = exchanges
        self._verified = verified
        self._store = store
        self._clock = clock
        self._refusals = refusals

    # --- what is asked; what of it is refused becomes evidence

    async def token(self, form: Mapping[str, str], presented: Presented) -> TokenAnswer:
        """Answer a token request. Also the way by which the gateway's own pages redeem their codes."""
        return await self._noted("token.issue", form, self._token(form, presented))

    async def push(self, form: Mapping[str, str], presented: Presented) -> TokenAnswer:
        """Take an authorization request by the back channel and give it a name (RFC 9126)."""
        return await self._noted("token.push", form, self._push(form, presented))

    async def introspect(self, form: Mapping[str, str], presented: Presented) -> TokenAnswer:
        """Say what a token is worth now (RFC 7662). Whatever may not be told is `{"active": false}`."""
        return await self._noted("token.introspect", form, self._introspect(form, presented))

    async def revoke(self, form: Mapping[str, str], presented: Presented) -> TokenAnswer:
        """End a token of this client; the answer is the same whether there was one (RFC 7009 §2.2)."""
        return await self._noted("token.revoke", form, self._revoke(form, presented))

    async def _noted(self, action: str, form: Mapping[str, str], answering: Awaitable[TokenAnswer]) -> TokenAnswer:
        answer = await answering
        if "error" in answer.body:
            client = await self._find(_named(form))
            await self._refusals.of_client(action, client.id if client else "", str(answer.body["error"]))
        return answer

    # --- /oauth2/token

    async def _token(self, form: Mapping[str, str], presented: Presented) -> TokenAnswer:
        known = await self._identified(form, presented, issues=True)
        if isinstance(known, Answer):
            return self._answered(known)
        work, exchange = known.exchange.work, known.exchange
        new = NewRefresh(new_handle(), timedelta(seconds=self._parts.settings.refresh_token_seconds))
        unit = partial(self._settle, form=dict(form), known=known, refresh=new)
        settled = await self._store.write(unit)
        if settled.refusal is not None:
            return self._answered(exchange.refused(known.request, settled.refusal))
        if settled.standing is not None:
            work.code, work.family, work.session = settled.code, settled.standing.family, settled.standing.session
            work.binding, work.mandate = settled.standing.family.binding, settled.mandate
            work.refresh = _handed_out(form, known.client, new)
        return self._answered(exchange.create_token_response(known.request))

    def _settle(self, tx: Connection, form: Mapping[str, str], known: _Known, refresh: NewRefresh) -> _Settled:
        """Use up everything that this request may use once; what was used before refuses it."""
        refusal = _spent(tx, known)
        if refusal is not None:
            return _Settled(refusal)
        work, client = known.exchange.work, known.client
        if not self._parts.asked.stands(tx, client.id):
            return _Settled(InvalidClientError("This client is not registered any more.", status_code=401))
        match form.get("grant_type"):
            case "authorization_code":
                return self._redeem(tx, form, known, refresh)
            case "refresh_token":
                return self._refresh(tx, form, known, refresh)
            case value if value == TOKEN_EXCHANGE:
                exchanged = self._exchanges.settle(tx, form, client, work)
                if exchanged is None:
                    return _Settled()
                record(tx, _issued(exchanged.standing), now=work.now)
                return _Settled(standing=exchanged.standing, mandate=exchanged.mandate)
        return _Settled()

    def _redeem(self, tx: Connection, form: Mapping[str, str], known: _Known, refresh: NewRefresh) -> _Settled:
        work, client = known.exchange.work, known.client
        code, uri = form.get("code", ""), form.get("redirect_uri", "")
        found = families.redeem_code(tx, code, client.id, uri, work.binding, work.now)
        if found is None:
            return _Settled()
        refusal = _unproved(found.code, form.get("code_verifier", ""), work.binding or {})
        if refusal is not None:
            families.revoke_family(tx, found.standing.family.id, work.now)
            return _Settled(refusal)
        if "refresh_token" in client.grant_types:
            families.keep_refresh(tx, found.standing.family, refresh, work.now)
        return _Settled(code=found.code, standing=found.standing)

    def _refresh(self, tx: Connection, form: Mapping[str, str], known: _Known, refresh: NewRefresh) -> _Settled:
        """Refuse what cannot be had before the token is used up: a client whose request lacks something may mend it."""
        work, client, token = known.exchange.work, known.client, form.get("refresh_token", "")
        standing = families.hold_refresh(tx, token, client.id, work.now)
        if standing is not None:
            refusal = _unbound(tx, standing, client, work) or _too_much(standing, form)
            if refusal is not None:
                return _Settled(refusal)
        if client.profile != "fapi2":  # also one that was used before, which ends its family
            standing = families.rotate_refresh(tx, token, client.id, refresh, work.now)
        if standing is None:
            return _Settled()
        family = replace(standing.family, binding=work.binding)
        return _Settled(standing=replace(standing, family=family))

    # --- /oauth2/par

    async def _push(self, form: Mapping[str, str], presented: Presented) -> TokenAnswer:
        known = await self._identified(form, presented)
        if isinstance(known, Answer):
            return self._answered(known)
        asked = {name: value for name, value in form.items() if name in PUSHABLE and value}
        asked["client_id"] = known.client.id  # it has proved which client it is
        unfit = self._pushable(form, asked, known)
        if known.proved.jkt:
            asked["dpop_jkt"] = known.proved.jkt
        handle = new_handle()
        keep = partial(_push, known=known, unfit=unfit, handle=handle, asked=asked)
        refusal = await self._store.write(keep)
        if refusal is not None:
            return self._answered(known.exchange.refused(known.request, refusal))
        body = {"request_uri": REQUEST_URI + handle, "expires_in": int(PUSHED_LIFE.total_seconds())}
        return TokenAnswer(201, body, known.proved.headers)

    def _pushable(self, form: Mapping[str, str], asked: Mapping[str, str], known: _Known) -> OAuth2Error | None:
        """Check the request as the authorization endpoint will, so that the client hears of a mistake at once."""
        if "request_uri" in form:
            return InvalidRequestError("request_uri itself cannot be pushed.")
        if known.proved.jkt and asked.get("dpop_jkt", known.proved.jkt) != known.proved.jkt:
            return InvalidRequestError("dpop_jkt is not the key that the DPoP header proves.")
        return known.exchange.check(Form(asked.items()))

    # --- /oauth2/introspect and /oauth2/revoke

    async def _introspect(self, form: Mapping[str, str], presented: Presented) -> TokenAnswer:
        known = await self._identified(form, presented)
        if isinstance(known, Answer):
            return self._answered(known)
        claims = self._ours(form.get("token", ""))
        refusal, found = await self._store.write(partial(self._introspected, form=form, claims=claims, known=known))
        if refusal is not None:
            return self._answered(known.exchange.refused(known.request, refusal))
        return TokenAnswer(200, found or {"active": False}, known.proved.headers)

    def _ours(self, token: str) -> Mapping[str, Any] | None:
        """Return the claims of an access token that we signed; None for any other text."""
        if records.is_handle(token):
            return None
        try:
            claims = self._verified.signed(token) or self._parts.tokens.verify(token)
        except NotAuthenticated:
            return None
        self._verified.remember_signed(token, claims)
        return claims

    def _introspected(
        self, tx: Connection, form: Mapping[str, str], claims: Mapping[str, Any] | None, known: _Known
    ) -> tuple[OAuth2Error | None, dict[str, Any] | None]:
        """Use up what proves the client, and say what the token is worth: the refusal, or what may be told."""
        refusal = _spent(tx, known)
        if refusal is None and "token" not in form:
            refusal = InvalidRequestError("The parameter token is missing.")
        if refusal is None and known.client.authentication == "none":
            refusal = InvalidClientError("A public client may not introspect tokens.", status_code=401)
        if refusal is not None:
            return refusal, None
        client, now = known.client, self._clock()
        if claims is None:
            return None, _refresh_worth(tx, form["token"], client, now)
        return None, _worth(tx, claims, client, self._parts.asked, now)

    async def _revoke(self, form: Mapping[str, str], presented: Presented) -> TokenAnswer:
        known = await self._identified(form, presented)
        if isinstance(known, Answer):
            return self._answered(known)
        refusal = await self._store.write(partial(_spent, known=known))
        if refusal is None and "token" not in form:
            refusal = InvalidRequestError("The parameter token is missing.")
        if refusal is not None:
            return self._answered(known.exchange.refused(known.request, refusal))
        await self._end(form["token"], known.client)
        return TokenAnswer(200, {}, known.proved.headers)

    async def _end(self, token: str, client: Client) -> None:
        now = self._clock()
        if records.is_handle(token):
            await self._store.write(partial(families.revoke_refresh, token=token, client_id=client.id, now=now))
            return
        try:
            claims = self._parts.tokens.verify(token)
        except NotAuthenticated:
            return
        if claims["client_id"] == client.id:
            expires = datetime.fromtimestamp(claims["exp"], now.tzinfo)
            await self._store.write(partial(families.revoke_token, token_id=claims["jti"], expires_at=expires))

    # --- shared

    async def _identified(
        self, form: Mapping[str, str], presented: Presented, *, issues: bool = False
    ) -> _Known | Answer:
        """Prove who calls, and, where tokens are issued, what they are to be bound to. An Answer is the refusal."""
        named = _named(form)
        client = await self._find(named) if named else None
        work = Work(self._clock(), client=client, certificate=presented.certificate)
        exchange = Exchange(self._parts, work, for_person=form.get("grant_type") not in API_GRANTS)
        request = exchange.create_oauth2_request(ProtocolRequest("POST", Form(form.items()), presented.headers))
        refusal = exchange.identify(request)
        if refusal is not None:
            return refusal
        try:
            proved = self._proofs.prove(presented, request.client.client, work.now, issues=issues)
        except OAuth2Error as error:
            return exchange.refused(request, error)
        work.binding = proved.binding
        return _Known(request.client.client, exchange, request, proved)

    def _answered(self, answer: Answer) -> TokenAnswer:
        return TokenAnswer(answer.status, answer.body, answer.headers)


def _issued(standing: Standing) -> Evidence:
    """Return the evidence of an exchange: the last link from the region's assertion to its tokens.

    A family that comes of a code needs no row of its own: `sign_on.answer` names the code, and the grant with it.
    """
    family, session = standing.family, standing.session
    what = {"sign_on": session.evidence_id, "grant": family.id, "scope": family.scope}
    if family.mandate_id is not None:
        what["mandate"] = family.mandate_id
    return Evidence(
        action="token.issue",
        outcome="done",
        reason="",
        who={"client": family.client_id},
        what={**what, "act": family.actor, "bound": sorted(family.binding or ())},
        purpose="",
        received_at=family.created_at,
    )


class InvalidGrant(OAuth2Error):  # type: ignore[misc] # Authlib ships no types
    """A grant that is not good, in words of ours (RFC 6749 §5.2)."""

    error = "invalid_grant"


def _unproved(code: Code, verifier: str, binding: Mapping[str, str]) -> OAuth2Error | None:
    """Say why whoever brings a code is not who asked for it: no verifier of its challenge, or another DPoP key.

    Authlib looks at the verifier again, but after family and refresh token are written.
    """
    if not _VERIFIER.fullmatch(verifier):
        return InvalidRequestError("code_verifier is missing, or is none (RFC 7636 section 4.1).")
    if not compare_s256_code_challenge(verifier, code.challenge):
        return InvalidGrant("code_verifier is not that of the code_challenge.")
    if code.jkt is not None and code.jkt != binding.get("jkt"):
        return InvalidGrant("The code was asked for with another DPoP key (dpop_jkt).")
    return None


def _named(form: Mapping[str, str]) -> str:
    """Return the client that a request names, whether it has proved it or not."""
    return unverified_subject(form.get("client_assertion", "")) or form.get("client_id", "")


def _handed_out(form: Mapping[str, str], client: Client, new: NewRefresh) -> str | None:
    """Return the refresh token for the answer: the new one, or for a client without rotation the one it has."""
    if "refresh_token" not in client.grant_types or form.get("grant_type") == TOKEN_EXCHANGE:
        return None
    if form.get("grant_type") == "refresh_token" and client.profile == "fapi2":
        return form.get("refresh_token")
    return new.handle


# --- units -----------------------------------------------------------------------------------------------------------


def _spent(tx: Connection, known: _Known) -> OAuth2Error | None:
    """Use up the client's assertion and the DPoP proof; return the refusal of one that was used before."""
    used: UsedAssertion | None = known.exchange.assertion.used
    if used is not None and not records.use_assertion(tx, used):
        return OAuth2Error("The jti was used before.", error="invalid_client", status_code=401)
    proof = known.proved.proof
    if proof is not None and not spend(tx, "dpop", proof.jti_key, proof.expires_at):
        return OAuth2Error("The DPoP proof was used before.", error="invalid_dpop_proof", status_code=400)
    return None


def _push(
    tx: Connection, known: _Known, unfit: OAuth2Error | None, handle: str, asked: Mapping[str, str]
) -> OAuth2Error | None:
    """Use up what proves the client, and keep what it pushed unless that is unfit; return the refusal."""
    refusal = _spent(tx, known) or unfit
    if refusal is None:
        records.keep_pushed(tx, handle, known.client.id, asked, known.exchange.work.now + PUSHED_LIFE)
    return refusal


def _worth(
    tx: Connection, claims: Mapping[str, Any], client: Client, asked: ClientsAsked, now: datetime
) -> dict[str, Any] | None:
    """Return what a client may know of an access token. The store is asked each time: here no answer is old."""
    if claims["client_id"] != client.id and "introspection" not in client.scopes:
        return None
    if "grant_id" in claims:  # what rests on a sign-on ended with its family when the client was disabled
        live = stands(tx, claims, now)
    else:
        live = asked.honours(tx, claims["client_id"], claims["jti"], claims["iat"])
    if not live:
        return None
    return {**claims, "active": True, "token_type": "DPoP" if "jkt" in claims.get("cnf", {}) else "Bearer"}


def _unbound(tx: Connection, standing: Standing, client: Client, work: Work) -> OAuth2Error | None:
    """Return why a refresh is refused that does not prove the key its tokens are bound to.

    A public client's token in the hands of somebody with another key was stolen, so its family ends.
    """
    if client.authentication == "none" and standing.family.binding != work.binding:
        families.revoke_family(tx, standing.family.id, work.now)
        return InvalidGrant("The refresh token is bound to another key.")
    if standing.family.binding and not work.binding:
        return InvalidGrant("The refresh token's tokens are bound; prove a key with this request too.")
    return None


def _too_much(standing: Standing, form: Mapping[str, str]) -> OAuth2Error | None:
    """Return the refusal of a client that wants more than was granted to it (RFC 6749 §6)."""
    if set(form.get("scope", "").split()) <= set(standing.family.scope.split()):
        return None
    return InvalidScopeError("scope holds what was not granted with this refresh token.")


def _refresh_worth(tx: Connection, token: str, client: Client, now: datetime) -> dict[str, Any] | None:
    standing = families.hold_refresh(tx, token, client.id, now)
    if standing is None:
        return None
    family = standing.family
    expires = int(family.expires_at.timestamp())
    return {"active": True, "client_id": family.client_id, "scope": family.scope, "exp": expires, "acr": family.acr}
