"""The way through a person's own region: send them there, take back what the region says, make a session of it.

Owns: the binding of a sign-on to one browser, one region and one use, and the translation of the region's words.
Leaves to the adapter the region's wire, to `service` what the service that asked is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import orjson

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.identity import Assurance
from gateway.errors import GatewayError, MappingFailed, NotFound, NotOffered, RegionError, SignOnFailed
from gateway.identity import records
from gateway.identity.persons import PersonVault
from gateway.identity.records import Interaction, Session, new_handle
from gateway.identity.upstream import PERSON, SignOnRegion, highest_assurance
from gateway.mapping.unknown import is_unknown
from gateway.ports import Clock, IdentityProvider, SignOnReturn, SignOnStart, UpstreamIdentity
from gateway.storage import Store
from gateway.telemetry import Metrics

LOST = "This sign-on has ended or began in another browser. Please go back to the service and start again."


class Interrupted(Exception):
    """The region did not bring the sign-on to its end; the interaction lives on, so the person may choose again."""

    def __init__(self, interaction: Interaction, region: str, cause: GatewayError) -> None:
        super().__init__(cause.stable_code)
        self.interaction = interaction
        self.region = region
        self.cause = cause


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
    ) -> None:
        self._settings = settings
        self._regions = regions
        self._store = store
        self._sealer = sealer
        self._vault = PersonVault(sealer)
        self._references = references
        self._clock = clock
        self._metrics = metrics

    # --- choosing

    def choices(self, least: Assurance) -> Sequence[SignOnRegion]:
        """Return the regions that offer sign-on and can reach this level."""
        offering = [region for region in self._regions.values() if region.adapter.sign_on is not None]
        return [region for region in offering if highest_assurance(region) >= least]

    def reachable(self) -> Assurance:
        """Return the best level that any region can give."""
        return max((highest_assurance(region) for region in self.choices(Assurance.A0)), default=Assurance.A0)

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

    async def begin(self, region_id: str, interaction: Interaction, language: str) -> str:
        """Return the address at the region to send the browser to. Raises Interrupted."""
        provider = self._provider(region_id, interaction)
        start = SignOnStart(new_handle(), new_handle(), self._callback_url(region_id), language)
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
    ) -> tuple[Interaction, Session, str]:
        """Return the interaction that came back, the new session (not stored yet), and the session's handle.

        The state is used up first: it must be this browser's and this region's, so an answer that one region gave
        can never be taken for another's (mix-up, RFC 9700 §4.4). Raises SignOnFailed or Interrupted.
        """
        interaction = await self._take(query.get("state", ""), region_id, browser)
        provider = self._provider(region_id, interaction)
        memory = orjson.loads(self._sealer.open(interaction.memory or b"", _place(interaction.id)))
        try:
            identity = await provider.complete(SignOnReturn(query, memory, self._callback_url(region_id), posted))
            claims = _known(region_id, self._regions[region_id].packs[PERSON].to_canonical(identity.claims))
        except (SignOnFailed, RegionError, MappingFailed) as error:
            raise self._interrupted(interaction, region_id, error) from error
        session, handle = self._session(region_id, identity, claims)
        self._metrics.sign_on(region_id, "done")
        return interaction, session, handle

    async def _take(self, state: str, region_id: str, browser: str) -> Interaction:
        take = partial(records.take_state, state=state, region=region_id, browser=browser, now=self._clock())
        interaction = await self._store.write(take)
        if interaction is None:
            if region_id in self._regions:
                self._metrics.sign_on(region_id, "signon.lost")
            raise SignOnFailed(LOST, code="signon.lost", region=region_id)
        return interaction

    def _session(self, region_id: str, identity: UpstreamIdentity, claims: Mapping[str, Any]) -> tuple[Session, str]:
        now, handle, session_id = self._clock(), new_handle(), records.new_session_id()
        session = Session(
            id=session_id,
            handle_hash=records.digest(handle),
            region=region_id,
            subject_ref=self._references.of(region_id, identity.subject),
            assurance=self._regions[region_id].assurance.get(identity.level, Assurance.A0),
            method=identity.method[:64],
            person=self._vault.seal(session_id, identity.subject, claims),
            authenticated_at=now,
            expires_at=now + self._settings.session_life,
        )
        return session, handle

    def _provider(self, region_id: str, interaction: Interaction) -> IdentityProvider:
        """Return a region's sign-on as it is enabled now: one that was switched off meanwhile signs nobody on."""
        region = self._regions.get(region_id)
        if region is None or region.adapter.sign_on is None:
            raise Interrupted(interaction, region_id, NotOffered("There is no sign-on through this region."))
        return region.adapter.sign_on

    def _interrupted(self, interaction: Interaction, region_id: str, cause: GatewayError) -> Interrupted:
        self._metrics.sign_on(region_id, cause.stable_code)
        return Interrupted(interaction, region_id, cause)

    def _callback_url(self, region_id: str) -> str:
        """Each region has its own address to return to."""
        return f"{self._settings.public_url}/sign-in/{region_id}/callback"


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
