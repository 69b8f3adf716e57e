"""The end of a session, as a saga: one transaction ends it here, and everybody else is told, each with a result.

Owns: `begin`, the one function that ends sessions; who the parties are and what must be said to them; a region's own
word that a session has ended; the browser's way over a region. Leaves to `logout_requests` what a service may ask for,
to `logout_worker` the telling, to `logout_records` the rows. What ends is named by conditions on the row of the
session, so that one session, those of one person and those of one region go the same way.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson
import structlog
from sqlalchemy import ColumnElement, Connection, RowMapping

from gateway.config import LogoutSettings
from gateway.crypto.at_rest import Sealer
from gateway.errors import GatewayError, NotOffered, RegionRefused, RegionUncertain, ReplayedCallback, Unavailable
from gateway.evidence import Exchange, record
from gateway.identity import logout_records as rows
from gateway.identity.logout_records import Logout, Party, State
from gateway.identity.provider import FindClient, ProviderParts
from gateway.identity.records import Session, digest, new_handle, session_of
from gateway.identity.upstream import SignOnRegion
from gateway.ports import Callback, Clock, SignOnRedirect, SignOut, SignOutNotice, SignOutStart
from gateway.storage import Store
from gateway.storage.nonces import spend
from gateway.storage.tables import sign_on_sessions
from gateway.telemetry import Metrics

AT_THE_REGION = timedelta(minutes=10)
"""How long the browser may be away at a region's sign-out."""
_STATE_PARTS = 2

log = structlog.get_logger("logout")


@dataclass(frozen=True, slots=True)
class Order:
    """Which sessions are to end, and on whose word.

    `handle` is what the browser holds that may see how it went, "" for none. `tell_region` is off where the region
    said it itself, or is not to be talked to. `in_browser`: a browser stands by that can be sent to the region, so its
    party waits for that first.
    """

    which: tuple[ColumnElement[bool], ...]
    begun_by: str
    handle: str = ""
    return_to: str | None = None
    tell_region: bool = True
    in_browser: bool = False


@dataclass(frozen=True, slots=True)
class Begun:
    """A logout that has begun: the session serves no more, and its parties are on record."""

    logout: Logout
    region: str
    parties: Sequence[Party]


class Logouts:
    """Ends sessions, and knows who must hear of it."""

    def __init__(
        self,
        settings: LogoutSettings,
        parts: ProviderParts,
        find: FindClient,
        regions: Mapping[str, SignOnRegion],
        store: Store,
        sealer: Sealer,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.settings = settings
        self._parts = parts
        self._find = find
        self._regions = regions
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self._metrics = metrics
        self.nudge: Callable[[], None] = _nobody
        """Called after a logout began; the worker puts its own here."""

    # --- ending ------------------------------------------------------------------------------------------------------

    def begin(self, tx: Connection, order: Order, now: datetime) -> Sequence[Begun]:
        """End the sessions, revoke all that services got by them, and write down who must be told. One transaction.

        A session that is over already is not among them: whoever ended it began its logout.
        """
        ended = rows.end_sessions(tx, now, *order.which)
        holders = rows.revoke_families(tx, [row["id"] for row in ended], now)
        begun = [self._begun(row, holders.get(row["id"], ()), order, now) for row in ended]
        rows.keep(tx, [one.logout for one in begun], [party for one in begun for party in one.parties])
        for one in begun:
            record(tx, _ended(one, now), now=now)
        return begun

    async def end(self, order: Order) -> Sequence[Begun]:
        """Begin by itself, in a transaction of its own."""
        begun = await self._store.write(partial(self.begin, order=order, now=self._clock()))
        self.nudge()
        return begun

    async def end_by_handle(self, handle: str, begun_by: str) -> None:
        """End the session that a browser holds."""
        await self.end(Order(held_by(handle), begun_by))

    def begin_earlier(self, handle: str | None, tx: Connection, now: datetime) -> None:
        """End the session that a browser held until somebody signed on anew in it.

        The region is not told: it may be the same person, whose session there goes on.
        """
        if handle is not None:
            self.begin(tx, Order(held_by(handle), "person", tell_region=False), now)

    def _begun(self, row: RowMapping, holders: Sequence[str], order: Order, now: datetime) -> Begun:
        logout_id, session = rows.new_logout_id(), session_of(row)
        parties = [self._client(logout_id, client_id, session, now) for client_id in holders]
        if order.tell_region:
            parties.append(self._region(logout_id, row, order, now))
        pending = any(party.state == rows.PENDING for party in parties)
        handle_hash = digest(order.handle or new_handle())
        end = None if pending else now
        logout = Logout(logout_id, handle_hash, session.id, order.begun_by[:64], order.return_to, now, end)
        return Begun(logout, session.region, parties)

    def _client(self, logout_id: str, client_id: str, session: Session, now: datetime) -> Party:
        """Return the party that a client is, whether or not it can be told: that is seen when it is told."""
        name = f"client:{client_id}"
        try:
            sub, sid = self._parts.pairwise(client_id, session), self._parts.sid(client_id, session)
        except Unavailable:  # the key is gone: nobody can say who it was, and the session must end all the same
            return _settled(logout_id, name, "failed", "logout.unnamed", now)
        return self._waiting(logout_id, name, {"sub": sub, "sid": sid}, now)

    def _region(self, logout_id: str, row: RowMapping, order: Order, now: datetime) -> Party:
        name = f"region:{row['region']}"
        if self._sign_out(row["region"]) is None:
            return _settled(logout_id, name, "not_offered", "logout.not_offered", now)
        try:
            kept = self._kept(row["id"], row["kept"])
        except Unavailable:
            return _settled(logout_id, name, "failed", "logout.unnamed", now)
        due = now + timedelta(seconds=self.settings.lease_seconds) if order.in_browser else now
        return self._waiting(logout_id, name, {"kept": kept}, due)

    def _waiting(self, logout_id: str, party: str, message: Mapping[str, Any], due: datetime) -> Party:
        sealed = self._sealer.seal(orjson.dumps(message), _place(logout_id, party))
        return Party(logout_id, party, rows.PENDING, message=sealed, due=due)

    def _kept(self, session_id: str, kept: bytes | None) -> Mapping[str, str]:
        """Return what the adapter kept of a sign-on. Raises Unavailable when the key is gone."""
        if kept is None:
            return {}
        opened: Mapping[str, str] = orjson.loads(self._sealer.open(kept, f"sign_on_sessions.kept:{session_id}"))
        return opened

    def message_of(self, party: Party) -> Mapping[str, Any]:
        """Return what must be said to a party. Raises Unavailable when the key is gone."""
        sealed = party.message or b""
        opened: Mapping[str, Any] = orjson.loads(self._sealer.open(sealed, _place(party.logout_id, party.party)))
        return opened

    # --- a region's own session --------------------------------------------------------------------------------------

    def _sign_out(self, region_id: str) -> SignOut | None:
        region = self._regions.get(region_id)
        return None if region is None else region.adapter.sign_out

    async def end_at_region(self, party: Party, language: str) -> SignOnRedirect | None:
        """Have a region end its session. Returns where the browser must go for it, if it must. Raises GatewayError."""
        sign_out = self._sign_out(party.name)
        if sign_out is None:
            raise NotOffered("This region does not offer the end of its session.", region=party.name)
        start = SignOutStart(
            kept=self.message_of(party).get("kept", {}),
            state=self._state(party.logout_id, party.name),
            redirect_uri=f"{self._parts.issuer}/sign-in/{party.name}/signed-out",
            language=language,
        )
        try:
            async with asyncio.timeout(self.settings.timeout_seconds):
                return await sign_out.end(start)
        except TimeoutError:
            raise RegionUncertain("The region's sign-out did not answer in time.", region=party.name) from None

    async def by_browser(self, begun: Begun, language: str) -> str | None:
        """Return the address at the region that the browser must visit; None when there is nothing to visit.

        What goes wrong here is no reason to keep the person: the worker tries again behind its back.
        """
        claim = partial(
            rows.claim_one, logout_id=begun.logout.id, party=f"region:{begun.region}", now=self._clock(),
            lease=timedelta(seconds=self.settings.lease_seconds), attempts=self.settings.attempts,
        )  # fmt: skip
        party = await self._store.write(claim)
        if party is None:
            return None
        try:
            redirect = await self.end_at_region(party, language)
        except GatewayError as error:
            await self.failed(party, error)
            return None
        if redirect is None:
            await self.settled(party, "done", "ok")
            return None
        until = self._clock() + AT_THE_REGION
        sent = await self._store.write(partial(rows.send_browser, party=party, until=until))
        return redirect.url if sent else None

    async def come_back(self, region: str, state: str) -> Logout | None:
        """Take a browser back from a region's sign-out, once; None when this state is none of ours or was seen.

        The state is an authenticated name of the logout: it needs no row of its own, and nobody else can make one.
        """
        parts = state.split(".")
        if len(parts) != _STATE_PARTS or not hmac.compare_digest(
            state.encode("utf-8", "replace"), self._state(parts[0], region).encode("utf-8", "replace")
        ):
            return None
        take = partial(rows.come_back, logout_id=parts[0], region=region, now=self._clock())
        logout = await self._store.write(take)
        if logout is not None:
            self._metrics.logout_party("region", "done")
        return logout

    def _state(self, logout_id: str, region: str) -> str:
        """67 characters: SAML's RelayState may have 80 bytes."""
        return f"{logout_id}.{self._parts.references.of('logout.state', logout_id, region)}"

    # --- what came of a party ----------------------------------------------------------------------------------------

    async def settled(self, party: Party, state: State, code: str) -> None:
        """Write the result of a party; nothing when somebody else holds it by now."""
        unit = partial(rows.settle, party=party, state=state, code=code, now=self._clock())
        if await self._store.write(unit):
            self._metrics.logout_party(party.kind, state)
            log.info("party told", logout=party.logout_id, party=party.party, state=state, code=code)

    async def failed(self, party: Party, error: GatewayError) -> None:
        """Try again later, or give up when the answer was definite or this was the last attempt."""
        if isinstance(error, NotOffered):
            await self.settled(party, "not_offered", "logout.not_offered")
        elif isinstance(error, RegionRefused) or not error.retryable or party.attempts >= self.settings.attempts:
            await self.settled(party, "failed", error.stable_code)
        else:
            due = self._clock() + self._delay(party.attempts)
            await self._store.write(partial(rows.try_again, party=party, code=error.stable_code, due=due))
            self._metrics.logout_party(party.kind, "retried")

    def _delay(self, attempt: int) -> timedelta:
        """Double the wait each time, up to the longest."""
        first, longest = self.settings.first_delay_seconds, self.settings.longest_delay_seconds
        return timedelta(seconds=min(first * 2 ** min(attempt - 1, 30), longest))

    # --- a region's own word -----------------------------------------------------------------------------------------

    async def announced(self, region_id: str, notice: Callback) -> int:
        """Take a region's word that a session, or all of a person, has ended there; return how many ended here.

        Raises NotOffered, ForgedCallback, ReplayedCallback or InvalidRequest. The notice's id is used up in the
        transaction that ends the sessions, so that it counts once.
        """
        sign_out = self._sign_out(region_id)
        if sign_out is None:
            raise NotOffered("This region announces no end of a session.", region=region_id)
        heard = await sign_out.ended(notice)
        unit = partial(self._announced, region_id=region_id, heard=heard, notice=notice)
        begun = await self._store.write(unit)
        self.nudge()
        return len(begun)

    def _announced(self, tx: Connection, region_id: str, heard: SignOutNotice, notice: Callback) -> Sequence[Begun]:
        now = self._clock()
        if heard.once is not None:
            value = hashlib.sha256(heard.once.value.encode("utf-8", "surrogatepass")).hexdigest()
            if not spend(tx, f"region_logout:{region_id}", value, heard.once.expires_at):
                raise ReplayedCallback("This notice was taken before.", region=region_id)
        order = Order(self._named_by(region_id, heard), f"region:{region_id}", tell_region=False)
        begun = self.begin(tx, order, now)
        record(tx, _heard(region_id, notice, len(begun)), now=now)
        return begun

    def _named_by(self, region_id: str, heard: SignOutNotice) -> tuple[ColumnElement[bool], ...]:
        """One session where the region names one, else all of the person (OpenID Connect Back-Channel Logout §2.4)."""
        sessions, references = sign_on_sessions.c, self._parts.references
        ours = sessions.region == region_id
        if heard.session_ref:
            return ours, sessions.upstream_ref == references.of("upstream", region_id, heard.session_ref)
        return ours, sessions.subject_ref == references.of(region_id, heard.subject)

    # --- looking -----------------------------------------------------------------------------------------------------

    async def result(self, logout_id: str, handle: str) -> tuple[Logout, Sequence[Party]] | None:
        """Return a logout and its parties, for the browser that began it; None for any other."""
        return await self._store.read(partial(rows.find, logout_id=logout_id, handle=handle))

    async def name_of(self, party: Party, language: str) -> str:
        """Return a party's name for people."""
        if party.kind == "client":
            client = await self._find(party.name)
            return client.name if client else party.name
        return self.region_name(party.name, language)

    def region_name(self, region_id: str, language: str) -> str:
        """Return a region's name for people."""
        region = self._regions.get(region_id)
        return region.names.of(language) if region else region_id


def held_by(handle: str) -> tuple[ColumnElement[bool]]:
    """Return the condition for the session that a browser holds."""
    return (sign_on_sessions.c.handle_hash == digest(handle),)


def _nobody() -> None:
    """Nobody listens: what is due is found at the next look."""


def _settled(logout_id: str, party: str, state: State, code: str, now: datetime) -> Party:
    return Party(logout_id, party, state, last_code=code, settled_at=now)


def _place(logout_id: str, party: str) -> str:
    return f"logout_parties.message:{logout_id}:{party}"


def _ended(begun: Begun, now: datetime) -> Exchange:
    parties = {party.party: party.state for party in begun.parties}
    return Exchange(
        action="sign_on.logout",
        outcome="done",
        reason="ok",
        who={"begun_by": begun.logout.begun_by},
        what={"logout": begun.logout.id, "region": begun.region, "parties": parties},
        purpose="logout",
        received_at=now,
    )


def _heard(region_id: str, notice: Callback, ended: int) -> Exchange:
    return Exchange(
        action="sign_on.region_logout",
        outcome="done",
        reason="ok",
        who={"region": region_id},
        what={"sessions": ended},
        purpose="logout",
        received_at=notice.received_at,
        parts={"notice": notice.body},
    )
