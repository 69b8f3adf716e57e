"""Sign-on as the rest of the gateway sees it: one object, wired once, that the handlers and the window call.

Owns: construction, and nothing else. Leaves browsers to `authorization`, clients to `token_endpoint`, access tokens to
`resources`, the regions to `broker`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from aiohttp import ClientSession

from gateway.config import Config, Listen, LogoutSettings
from gateway.crypto.at_rest import References, Sealer
from gateway.crypto.signing import Signer
from gateway.domain.identity import SignedOnPerson
from gateway.errors import SignOnFailed
from gateway.identity.authorization import Authorization, FinishLink
from gateway.identity.broker import Broker, BrokerSettings
from gateway.identity.disclosure import Disclosure
from gateway.identity.discovery import metadata
from gateway.identity.dpop import DpopNonces
from gateway.identity.exchanges import Exchanges
from gateway.identity.health import Health, never_resting
from gateway.identity.linked import LinkedAccounts, Links
from gateway.identity.logout import Logouts
from gateway.identity.logout_requests import LogoutRequests
from gateway.identity.logout_worker import LogoutWorker
from gateway.identity.mandates import Mandates
from gateway.identity.mtls import Authorities
from gateway.identity.persons import PersonVault
from gateway.identity.proofs import Presented, Proofs
from gateway.identity.provider import ClientsAsked, FindClient, ProviderParts
from gateway.identity.refusals import Refusals
from gateway.identity.resources import Resources
from gateway.identity.returns import Returns
from gateway.identity.switches import ClosedRegions, RegionSwitches
from gateway.identity.token_endpoint import TokenEndpoints
from gateway.identity.tokens import AccessTokens
from gateway.identity.upstream import SignOnRegion
from gateway.identity.verified import VerifiedTokens
from gateway.policy.claims import ClaimsGate
from gateway.policy.recognition import Recognition
from gateway.policy.transfer import Basis
from gateway.ports import Clock
from gateway.storage import Store
from gateway.telemetry import Metrics


def client_methods(listen: Listen) -> list[str]:
    """Return how clients can prove themselves at this listener. By name only where an authority is configured."""
    sees_certificates = listen.tls_certificate is not None or bool(listen.proxies)
    named = ["tls_client_auth"] if sees_certificates and listen.client_ca is not None else []
    by_key = ["self_signed_tls_client_auth"] if sees_certificates else []
    return ["private_key_jwt", *named, *by_key, "none"]


class IdentityService:
    """The OpenID Provider and the broker together."""

    def __init__(
        self,
        *,
        config: Config,
        find: FindClient,
        asked: ClientsAsked,
        recognition: Recognition,
        bases: Sequence[Basis],
        regions: Mapping[str, SignOnRegion],
        store: Store,
        sealer: Sealer,
        references: References,
        signer: Signer,
        clock: Clock,
        metrics: Metrics,
        authorities: Authorities,
        verified: VerifiedTokens,
        finish_link: FinishLink | None = None,
        mandates: Mandates | None = None,
        links: Links | None = None,
        resting: Callable[[str], bool] = never_resting,
    ) -> None:
        self._find = find
        self._store = store
        self._clock = clock
        self._signer = signer
        self.issuer = config.public_url
        self.nonces = DpopNonces(references)
        closed, stale = ClosedRegions(store, clock), timedelta(seconds=config.sign_on.stale_trust_seconds)
        self.health = Health(regions, closed, clock, stale, resting)
        settings = BrokerSettings(config.public_url, timedelta(seconds=config.sign_on.session_seconds))
        self.broker = Broker(settings, regions, store, sealer, references, clock, metrics, self.health)
        lifetime = timedelta(seconds=config.sign_on.access_token_seconds)
        tokens = AccessTokens(config.public_url, signer, clock, lifetime)
        self.parts = ProviderParts(
            issuer=self.issuer,
            settings=config.sign_on,
            signer=signer,
            tokens=tokens,
            references=references,
            vault=PersonVault(sealer),
            reachable=self.broker.reachable(),
            recognition=recognition,
            authorities=authorities,
            methods=client_methods(config.listen),
            asked=asked,
        )
        self.returns = Returns(store, sealer, clock)
        proofs = Proofs(self.nonces)
        self.logouts = Logouts(config.logout, self.parts, find, regions, store, sealer, clock, metrics)
        self.logout_requests = LogoutRequests(self.parts, find, self.logouts, store, clock)
        self.switches = RegionSwitches(self.health.regions, closed, store, self.logouts, clock)
        gate = ClaimsGate(bases, timedelta(days=config.sign_on.consent_days))
        linked = LinkedAccounts(links, self.health.regions, self.parts)
        disclosure = Disclosure(gate, regions, self.parts.vault, store, linked)
        self.refusals = Refusals(store, clock)
        self.browser = Authorization(
            self.parts, find, self.broker, disclosure, store, clock, self.logouts, self.refusals, finish_link
        )
        self.clients = TokenEndpoints(
            self.parts, find, proofs, Exchanges(self.parts, mandates), verified, store, clock, self.refusals
        )
        self.resources = Resources(self.parts, find, proofs, verified, store, clock, linked)

    def logout_worker(self, settings: LogoutSettings, session: ClientSession) -> LogoutWorker:
        """Return the worker that tells services and regions of the end of sessions."""
        return LogoutWorker(settings, self.parts, self._find, self.logouts, self._store, session, self._clock)

    # --- published

    def discovery(self, languages: Sequence[str]) -> dict[str, Any]:
        """Return the discovery document."""
        parts = self.parts
        return metadata(self.issuer, parts.algorithms, languages, parts.reachable, parts.methods)

    def jwks(self) -> dict[str, Any]:
        """Return the public keys that verify ID tokens and access tokens."""
        return self._signer.public_jwks()

    # --- for the gateway's own pages

    async def redeem(self, form: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the token endpoint's answer to a public client inside this process. Raises SignOnFailed."""
        answer = await self.clients.token(form, Presented())
        if answer.status != 200:
            raise SignOnFailed("The sign-on could not be completed; please start again.", detail=str(answer.body))
        return answer.body

    async def who_signed_on(self, token: str) -> SignedOnPerson:
        """Return the person behind a token that `redeem` returned. Raises NotAuthenticated."""
        return await self.resources.who_signed_on(token)

    async def end_session(self, handle: str | None, begun_by: str = "person") -> None:
        """End the session that a browser holds, with all that services got by it. None ends nothing."""
        if handle is not None:
            await self.logouts.end_by_handle(handle, begun_by)
