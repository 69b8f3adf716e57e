"""Who is behind an access token: for userinfo, for the agencies' API, and for the gateway's own pages.

Owns: every check of a token that is presented: signature and term, that it was not revoked and its sign-on lives, that
whoever presents it holds what it is bound to. Leaves to `tokens` what a token says, to policy what it may be used for.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from gateway.domain.caller import Acting, Caller
from gateway.domain.identity import SignedOnPerson
from gateway.errors import NotAuthenticated, NotPermitted
from gateway.identity import families
from gateway.identity.clients import Client
from gateway.identity.delegation import MANDATE_CLAIM
from gateway.identity.dpop import JTI_SCOPE, DpopRefused, Proof
from gateway.identity.families import Standing
from gateway.identity.linked import LinkedAccounts
from gateway.identity.linking import answering_level
from gateway.identity.persons import LINKED, PersonVault, chosen_claims
from gateway.identity.proofs import NONCE_HEADER, Presented, Proofs
from gateway.identity.provider import FindClient, ProviderParts
from gateway.identity.standing import standing_claims
from gateway.identity.verified import VerifiedTokens
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.nonces import spend


class Resources:
    """Answers for access tokens."""

    def __init__(
        self,
        parts: ProviderParts,
        find: FindClient,
        proofs: Proofs,
        verified: VerifiedTokens,
        store: Store,
        clock: Clock,
        linked: LinkedAccounts,
    ) -> None:
        self._accounts = linked
        self._verified = verified
        self._parts = parts
        self._vault: PersonVault = parts.vault
        self._find = find
        self._proofs = proofs
        self._store = store
        self._clock = clock

    async def userinfo(self, presented: Presented) -> dict[str, Any]:
        """Return the claims that may go out with this token. Raises NotAuthenticated or NotPermitted."""
        claims = await self._claims(presented)
        await self._client_of(claims)
        standing = await self._standing(claims)
        if "openid" not in str(claims["scope"]).split():
            raise NotPermitted("The access token lacks the scope openid.", code="auth.insufficient_scope")
        _subject, person = self._vault.open(standing.session.id, standing.session.person)
        names = standing.family.claims.get("userinfo", ())
        linked = await self._linked(standing) if LINKED in names else {}
        return {"sub": claims["sub"], **chosen_claims(person, names), **linked}

    async def _linked(self, standing: Standing) -> dict[str, Any]:
        """Return the accounts that the person has linked, under the names by which this client knows them.

        They are asked for anew each time, so that a link which was ended is gone at once, and so is one whose region is
        closed or counts for this client no more. The level is the lower one of this sign-on and of that by which the
        account was proved.
        """
        session, client = standing.session, await self._find(standing.family.client_id)
        if client is None:
            return {}
        counting = partial(self._accounts.counting, client=client, session=session, now=self._clock())
        sides = await self._store.read(counting)
        of = self._parts.references.of
        accounts = [
            {
                "region": side.region,
                "sub": of(standing.family.client_id, side.region, side.subject),
                "acr": answering_level(session.assurance, side).acr,
            }
            for side in sides
        ]
        return {LINKED: accounts} if accounts else {}

    async def who_signed_on(self, token: str) -> SignedOnPerson:
        """Return the person behind a bearer token, for callers inside this process. Raises NotAuthenticated."""
        standing = await self._standing(self._parts.tokens.verify(token))
        return self._person(standing)

    def _person(self, standing: Standing) -> SignedOnPerson:
        session = standing.session
        subject, person = self._vault.open(session.id, session.person)
        return SignedOnPerson(
            session.region, subject, session.assurance, session.method, session.authenticated_at, person
        )

    async def authenticate(self, presented: Presented) -> Caller:
        """Return the agency's system that a token was issued to, and for whom it acts. Raises NotAuthenticated.

        A client that is disabled does not pass, however fresh its token. A token that was issued for a person's sign-on
        does not speak for the agency: it opens `/oauth2/userinfo` and nothing else. One that was exchanged does, and
        says for whom.
        """
        claims = await self._claims(presented)
        if "sid" in claims and "act" not in claims:
            text = "This access token was issued for a person's sign-on; the API takes one of client_credentials."
            raise NotAuthenticated(text)
        client = await self._client_of(claims)
        acting = None
        if "act" in claims:
            standing = await self._standing(claims)
            mandate = claims.get(MANDATE_CLAIM, {}).get("id")
            acting = Acting(self._person(standing), str(claims["sub"]), claims["grant_id"], mandate)
        return Caller(
            client_id=client.id,
            organisation=client.organisation,
            organisation_code=client.organisation_code,
            origin_code=client.origin_code,
            scopes=frozenset(str(claims.get("scope", "")).split()) & client.scopes,
            acting=acting,
        )

    async def _claims(self, presented: Presented) -> Mapping[str, Any]:
        """Return the claims of a token that stands, presented by its holder."""
        claims = await standing_claims(presented.token, self._parts.tokens, self._verified, self._store, self._clock)
        now = self._clock()
        try:
            await self._check_holder(presented, claims, now)
        except DpopRefused as refused:
            refused.headers = {NONCE_HEADER: self._proofs.nonce(now)}
            raise
        return claims

    async def _client_of(self, claims: Mapping[str, Any]) -> Client:
        """Return the client that a token was issued to. What it got before it was disabled does not come back."""
        client = await self._find(str(claims["client_id"]))
        if client is None:
            raise NotAuthenticated("The client of this access token is not registered any more.")
        if client.enabled_at is not None and claims["iat"] < int(client.enabled_at.timestamp()):
            raise NotAuthenticated("The client was disabled after this access token was issued; get a new one.")
        return client

    async def _check_holder(self, presented: Presented, claims: Mapping[str, Any], now: datetime) -> None:
        """Make sure that whoever presents the token holds what it is bound to, and proves it anew."""
        proof = self._proofs.check(presented, claims, now)
        if proof is not None and not await self._store.write(partial(_spend, proof=proof)):
            raise DpopRefused("The DPoP proof was used before.")

    async def _standing(self, claims: Mapping[str, Any]) -> Standing:
        if "grant_id" not in claims:
            raise NotAuthenticated("No person signed on for this access token; it stands for a client alone.")
        find = partial(families.find_standing, family_id=claims["grant_id"], now=self._clock())
        standing = await self._store.read(find)
        if standing is None:
            raise NotAuthenticated("The sign-on behind this access token has ended.")
        return standing


def _spend(tx: Connection, proof: Proof) -> bool:
    return spend(tx, JTI_SCOPE, proof.jti_key, proof.expires_at)
