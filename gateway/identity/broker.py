"""The way through a person's own region: send them there, take back what the region says, make a session of it.

Owns: the binding of a sign-on to one browser, one region and one use, and the translation of the region's words.
Leaves to the adapter the region's wire, to `service` what the service that asked is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.identity import Assurance
from gateway.errors import GatewayError, MappingFailed, NotFound, NotOffered, RegionClosed, RegionError, SignOnFailed
from gateway.evidence.record import Exchange, new_evidence_id
from gateway.identity import records
from gateway.identity.health import Health
from gateway.identity.persons import PersonVault
from gateway.identity.records import Interaction, Session, new_handle
from gateway.identity.upstream import ORGANISATION, PERSON, SignOnRegion, highest_assurance, words_for
from gateway.mapping.unknown import is_unknown
from gateway.ports import Clock, IdentityProvider, OnceOnly, SignOnReturn, SignOnStart, UpstreamIdentity
from gateway.storage import Store
from gateway.telemetry import Metrics

OLDEST_PROOF = timedelta(hours=12)
"""How long ago a proof may have been made whose time the region does not state: for so long may a region let its own
session count, where it does state the time (`MAX_SESSION` in `gateway.protocols.saml`)."""

LOST = "This sign-on has ended or began in another browser. Please go back to the service and start again."


class Interrupted(Exception):
    """The region did not bring the sign-on to its end; the interaction lives on, so the person may choose again."""

    def __init__(self, interaction: Interaction, region: str, cause: GatewayError) -> None:
        super().__init__(cause.stable_code)
        self.interaction = interaction
        self.region = region
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Arrival:
    """A person who came back from a region, with nothing stored yet.

    `handle` is for the browser's session cookie, `used` is what of the region's answer may be accepted only once, and
    `evidence` is the chain of this sign-on: the digest of the assertion, the version of the mapping, the outcome.
    """

    interaction: Interaction
    session: Session
    handle: str
    used: OnceOnly | None
    evidence: Exchange


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where we are, and how long a session lasts."""

    public_url: str
    session_life: timedelta


class Broker:
    """Leads a person through a region's sign-on."""

    def __init__(
        self,
        settings: BrokerSettings,
        regions: Mapping[str, SignOnRegion],
        store: Store,
        sealer: Sealer,
        references: References,
        clock: Clock,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._settings = settings
        self._regions = regions
        self._store = store
        self._sealer = sealer
        self._vault = PersonVault(sealer)
        self._references = references
        self._clock = clock
        self._metrics = metrics
        self._health = health

    # --- choosing

    def choices(self, least: Assurance) -> Sequence[SignOnRegion]:
        """Return the regions that offer sign-on and can reach this level."""
        return [region for region in self._offering() if highest_assurance(region) >= least]

    def region(self, region_id: str) -> SignOnRegion:
        """Return an enabled region."""
        return self._regions[region_id]

    def find_region(self, region_id: str) -> SignOnRegion | None:
        """Return an enabled region that offers sign-on; None when there is none of that id."""
        return next((region for region in self._offering() if region.id == region_id), None)

    def known(self, region_id: str) -> str:
        """Return the id of an enabled region, empty for any other text."""
        return region_id if region_id in self._regions else ""

    def reachable(self) -> Assurance:
        """Return the best level that any region can give."""
        return max((highest_assurance(region) for region in self._offering()), default=Assurance.A0)

    def _offering(self) -> Sequence[SignOnRegion]:
        return [region for region in self._regions.values() if region.adapter.sign_on is not None]

    async def interaction(self, interaction_id: str, browser: str) -> Interaction:
        """Return the sign-on under way in this browser. Raises SignOnFailed when there is none."""
        find = partial(records.find_interaction, interaction_id=interaction_id, browser=browser, now=self._clock())
        found = await self._store.read(find) if records.is_handle(interaction_id) else None
        if found is None:
            raise SignOnFailed(LOST, code="signon.lost")
        return found

    def metadata(self, region_id: str) -> bytes:
        """Return our metadata for a region's identity provider. Raises NotFound where there are none."""
        region = self._regions.get(region_id)
        if region is None or region.adapter.metadata is None:
            raise NotFound("There are no metadata for this region.")
        return region.adapter.metadata()

    # --- there

    async def begin(
        self,
        region_id: str,
        interaction: Interaction,
        language: str,
        *,
        least: Assurance,
        prefer: Assurance,
        fresh: bool,
    ) -> str:
        """Return the address at the region to send the browser to. Raises Interrupted.

        `least` is the level that the service needs, `prefer` the one that it would like, `fresh` says that the person
        must prove it now: the region is told all of it.
        """
        provider = await self._provider(region_id, interaction)
        levels, liked = (words_for(self._regions[region_id], level) for level in (least, prefer))
        start = SignOnStart(new_handle(), new_handle(), self._callback_url(region_id), language, levels, fresh, liked)
        try:
            redirect = await provider.begin(start)
        except (SignOnFailed, RegionError) as error:
            raise self._interrupted(interaction, region_id, error) from error
        memory = self._sealer.seal(orjson.dumps(dict(redirect.memory)), _place(interaction.id))
        note = partial(
            records.send_upstream, interaction_id=interaction.id, region=region_id, state=start.state, memory=memory
        )
        await self._store.write(note)
        self._metrics.sign_on(region_id, "started")
        return redirect.url

    # --- and back

    async def complete(
        self, region_id: str, query: Mapping[str, str], browser: str, *, posted: bool = False
    ) -> Arrival:
        """Return who came back from a region, and by which sign-on. Nothing is stored yet but that the state is used.

        The state is used up first: it must be this browser's and this region's, so an answer that one region gave
        can never be taken for another's (mix-up, RFC 9700 §4.4). Raises SignOnFailed or Interrupted.
        """
        received_at = self._clock()
        interaction = await self._take(_state(query), region_id, browser)
        provider = await self._provider(region_id, interaction)
        memory = orjson.loads(self._sealer.open(interaction.memory or b"", _place(interaction.id)))
        try:
            identity = await provider.complete(SignOnReturn(query, memory, self._callback_url(region_id), posted))
            self._health.refuse_stale(region_id)
            claims = self._canonical(region_id, identity)
        except (SignOnFailed, RegionError, MappingFailed) as error:
            raise self._interrupted(interaction, region_id, error) from error
        arrival = self._arrival(interaction, region_id, identity, claims, received_at)
        self._metrics.sign_on(region_id, "done")
        return arrival

    def _canonical(self, region_id: str, identity: UpstreamIdentity) -> Mapping[str, Any]:
        """Return the person as our vocabulary says it, with the organisation (法人) that is signed on for, if any."""
        packs = self._regions[region_id].packs
        claims = _known(region_id, packs[PERSON].to_canonical(identity.claims))
        if identity.organisation is None:
            return claims
        organisation = packs[ORGANISATION].to_canonical(identity.organisation)
        return {**claims, "organisation": organisation, "role": identity.role}

    async def _take(self, state: str, region_id: str, browser: str) -> Interaction:
        take = partial(records.take_state, state=state, region=region_id, browser=browser, now=self._clock())
        interaction = await self._store.write(take)
        if interaction is None:
            if region_id in self._regions:
                self._metrics.sign_on(region_id, "signon.lost")
            raise SignOnFailed(LOST, code="signon.lost", region=region_id)
        return interaction

    def _arrival(
        self,
        interaction: Interaction,
        region_id: str,
        identity: UpstreamIdentity,
        claims: Mapping[str, Any],
        received_at: datetime,
    ) -> Arrival:
        handle = new_handle()
        session = self._session(region_id, identity, claims, handle)
        evidence = Exchange(
            action="sign_on",
            outcome="done",
            reason="",
            who={"client": interaction.client_id},
            what={
                "region": region_id,
                "session": session.id,
                "assurance": session.assurance.name,
                "level": identity.level[:64],
                "mapping": self._regions[region_id].packs[PERSON].version,
            },
            purpose="",
            received_at=received_at,
            answered_at=self._clock(),
            parts={"assertion": identity.assertion} if identity.assertion else {},
        )
        return Arrival(interaction, session, handle, self._used(region_id, identity), evidence)

    def _used(self, region_id: str, identity: UpstreamIdentity) -> OnceOnly | None:
        """Return what to remember of an assertion: of fixed size, whatever a region calls it."""
        if identity.once is None:
            return None
        return OnceOnly(self._references.of("once", region_id, identity.once.value), identity.once.expires_at)

    def _session(self, region_id: str, identity: UpstreamIdentity, claims: Mapping[str, Any], handle: str) -> Session:
        now, session_id, of = self._clock(), records.new_session_id(), self._references.of
        kept = orjson.dumps(dict(identity.kept))
        return Session(
            id=session_id,
            handle_hash=records.digest(handle),
            region=region_id,
            subject_ref=of(region_id, identity.subject),
            assurance=self._regions[region_id].assurance.get(identity.level, Assurance.A0),
            method=identity.method[:64],
            person=self._vault.seal(session_id, subject_of(identity, claims), claims),
            authenticated_at=_proved_at(identity, now),
            expires_at=now + self._settings.session_life,
            last_used_at=now,
            evidence_id=new_evidence_id(),
            upstream_ref=of("upstream", region_id, identity.session_ref) if identity.session_ref else None,
            kept=self._sealer.seal(kept, kept_place(session_id)) if identity.kept else None,
        )

    async def _provider(self, region_id: str, interaction: Interaction) -> IdentityProvider:
        """Return a region's sign-on as it is enabled now: one that was switched off meanwhile signs nobody on."""
        region = self._regions.get(region_id)
        if region is None or region.adapter.sign_on is None:
            raise Interrupted(interaction, region_id, NotOffered("There is no sign-on through this region."))
        try:
            await self._health.refuse_closed(region_id)
        except RegionClosed as error:
            raise self._interrupted(interaction, region_id, error) from error
        return region.adapter.sign_on

    def _interrupted(self, interaction: Interaction, region_id: str, cause: GatewayError) -> Interrupted:
        self._metrics.sign_on(region_id, cause.stable_code)
        return Interrupted(interaction, region_id, cause)

    def _callback_url(self, region_id: str) -> str:
        """Each region has its own address to return to."""
        return f"{self._settings.public_url}/sign-in/{region_id}/callback"


def subject_of(identity: UpstreamIdentity, claims: Mapping[str, Any]) -> str:
    """Return under what a person is known here. Who signs on for an organisation is, to a service, not the same one."""
    document = (claims.get("organisation") or {}).get("document") or {}
    return f"{identity.subject}\x1f{document.get('number', '')}" if "organisation" in claims else identity.subject


def _proved_at(identity: UpstreamIdentity, now: datetime) -> datetime:
    """Return when the person proved it; the earliest time that it can have been where the region states none.

    Taking it for made now would let a session of the region's own, perhaps somebody else's at this machine, pass for a
    fresh proof. As it is, whoever wants a fresh one asks the region for it, and then the region must state the time.
    """
    if identity.authenticated_at is None:
        return now - OLDEST_PROOF
    return min(identity.authenticated_at, now)


def kept_place(session_id: str) -> str:
    """Return the place that what an adapter keeps for a session's end is sealed for."""
    return f"sign_on_sessions.kept:{session_id}"


def _state(query: Mapping[str, str]) -> str:
    """Return the state that came back; SAML calls it RelayState (SAML Bindings §3.5.3)."""
    return query.get("state") or query.get("RelayState", "")


def _known(region_id: str, claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what can be relied on. Raises SignOnFailed when nobody can say whether this is a person at all.

    A kind of document that nobody here knows is no document: its number could be taken for another kind's.
    """
    if is_unknown(claims.get("kind")):
        text = "The region signed on a kind of user that this gateway does not know."
        raise SignOnFailed(text, code="signon.unknown_kind", region=region_id)
    document = claims.get("document") or {}
    return {name: value for name, value in claims.items() if name != "document" or not is_unknown(document.get("type"))}


def _place(interaction_id: str) -> str:
    return f"sign_on_interactions.memory:{interaction_id}"
