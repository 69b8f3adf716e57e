"""Linking (账号关联): a person ties a sign-on of Hong Kong or Macau to an account of a mainland region.

Owns: the table `identity_links`, and every condition of a link: an agreement in the person's own language, two sign-ons
in one browser within ten minutes, and a mainland account that its region has bound to a home-return permit (回乡证) or
a residence permit of the other territory. Leaves to `broker` the sign-ons themselves, to the account pages the texts,
to `provider` how a service that wants a mainland account is answered through a link.

The linking key is proved and never copied: the mainland region says that the account is bound to the permit, Hong Kong
or Macau says that this is its user, and the one browser is what joins the two. The number is kept as a keyed reference.
Neither side's attributes reach the other. An e-mail address or a telephone number never links anything.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, and_, func, or_, select, update

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.calendar import local_day
from gateway.domain.identity import Assurance
from gateway.domain.mandate import Party, is_child
from gateway.domain.region import Place, Zone
from gateway.errors import GatewayError, NotFound, NotPermitted, Unavailable
from gateway.evidence import Exchange, record
from gateway.evidence.record import refusal
from gateway.identity import records
from gateway.identity.persons import PersonVault
from gateway.identity.records import Interaction, Session, new_handle
from gateway.identity.requests import Hints, proved_since
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.store import insert_into
from gateway.storage.tables import identity_links, sign_on_sessions

KIND = "link"
"""The kind of an interaction whose second sign-on makes a link."""
CLIENT_ID = "pearl-account"
WITHIN = timedelta(minutes=10)
"""How old the first sign-on may be when a link is begun, and how far the two may lie apart."""
LEAST = Assurance.A2
"""How sure both sign-ons must be: a link outlives them."""
LINKS_PAGE = "/account/links"

_HOME: Mapping[str, Mapping[str, Zone]] = {
    "HM_PERMIT": {"H": Zone.HONGKONG, "M": Zone.MACAU},
    "HM_RESID": {"810000": Zone.HONGKONG, "820000": Zone.MACAU},
}
"""Documents that a mainland account may be bound to, and how their numbers begin for each territory (§2.4, §2.5)."""

_ACR = {"essential": True, "values": [level.acr for level in Assurance if level >= LEAST]}
_PROVED_NOW: Mapping[str, str] = {
    "claims": json.dumps({"id_token": {"acr": _ACR}}),
    **Hints(fresh=True, prefer=LEAST).kept(),
}
"""What the second region is asked for, in the words of an authorization request: surely enough, and proved now."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the person agreed to: the language of the text, and its digest (SHA-256, hex)."""

    language: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a link: the region, its subject, and how sure the sign-on was that proved it."""

    region: str
    ref: str
    subject: str
    level: Assurance


@dataclass(frozen=True, slots=True)
class Link:
    """A link. `mainland` proved the linking key, `abroad` is the sign-on of Hong Kong or Macau."""

    id: str
    mainland: Side
    abroad: Side
    document_type: str
    agreement: Agreement
    made_at: datetime
    ended_at: datetime | None = None

    def other_side(self, region: str, ref: str) -> Side:
        """Return the end that is not this one."""
        return self.abroad if (self.mainland.region, self.mainland.ref) == (region, ref) else self.mainland


@dataclass(frozen=True, slots=True)
class _SignOn:
    """One of the two sign-ons, opened."""

    side: Side
    claims: Mapping[str, Any]
    at: datetime


Also = Callable[[Connection], bool]
"""What must be written with the outcome (an assertion that serves once); False: it was used before."""


class Linking:
    """Begins, makes, shows and ends links. `places` are the regions that offer sign-on, by id."""

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        references: References,
        clock: Clock,
        places: Mapping[str, Place],
        interaction_life: timedelta,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._vault = PersonVault(sealer)
        self._references = references
        self._clock = clock
        self._places = places
        self._life = interaction_life

    # --- beginning

    def partners(self, region: str) -> list[str]:
        """Return the regions that a sign-on of this one can be linked with: those across the border of the mainland."""
        here = self._places.get(region)
        if here is None:
            return []
        mainland = here.zone is Zone.MAINLAND
        return [other for other, place in self._places.items() if (place.zone is Zone.MAINLAND) is not mainland]

    def is_fresh(self, session: Session) -> bool:
        """Say whether this sign-on is recent enough to begin a link with."""
        return self._clock() - session.authenticated_at <= WITHIN

    async def begin(self, session: Session, browser: str, region: str, agreement: Agreement) -> Interaction:
        """Open the interaction whose sign-on at `region`, in this browser, will make the link.

        Raises NotPermitted (`link.…`) when this session cannot be linked in that way.
        """
        try:
            self._may_begin(session, region)
        except GatewayError as error:
            raise await self._refused(error, session.region, session.subject_ref, region, self._clock()) from None
        interaction = Interaction(
            id=new_handle(),
            handle_hash=records.digest(browser),
            client_id=CLIENT_ID,
            request={**_PROVED_NOW, "region": region, "language": agreement.language, "agreed": agreement.sha256},
            expires_at=self._clock() + self._life,
            kind=KIND,
            session_id=session.id,
        )
        await self._store.write(partial(records.keep_interaction, interaction=interaction))
        return interaction

    def _may_begin(self, session: Session, region: str) -> None:
        if region not in self.partners(session.region):
            text = "A sign-on is linked across the border of the mainland, with a region that offers sign-on."
            raise NotPermitted(text, code="link.same_side")
        if not self.is_fresh(session):
            raise _stale()
        self._sure_enough(session.assurance)

    # --- the second sign-on is back

    async def finish(self, interaction: Interaction, second: Session, *, also: Also | None = None) -> str:
        """Make the link, or record why not; return where to send the browser either way.

        `second` is the sign-on that has just taken place; it is not kept, and the browser keeps its first session.
        `also` runs first in the same transaction, for what the sign-on itself must store. The interaction ends whatever
        the outcome: each pair of sign-ons is tried once.
        """
        received_at = self._clock()
        try:
            await self._store.write(partial(self._finish, interaction=interaction, second=second, also=also))
        except GatewayError as error:
            await self._store.write(partial(_give_up, interaction=interaction, also=also))
            await self._refused(error, second.region, second.subject_ref, interaction.request["region"], received_at)
            return f"{LINKS_PAGE}?outcome={error.stable_code}"
        return f"{LINKS_PAGE}?outcome=linked"

    def _finish(self, tx: Connection, interaction: Interaction, second: Session, also: Also | None) -> None:
        now = self._clock()
        if not records.end_interaction(tx, interaction.id) or (also is not None and not also(tx)):
            raise NotPermitted("This linking was finished already, or took too long.", code="link.over")
        first = self._first(tx, interaction, now)
        if second.region != interaction.request["region"]:
            text = "The second sign-on took place at another region than the one that was agreed to."
            raise NotPermitted(text, code="link.other_region")
        if not proved_since(second, interaction.expires_at - self._life):
            raise _stale()  # the region let an older sign-on of its own count, perhaps somebody else's at this machine
        there = self._opened(second.id, second.region, second.subject_ref, second.assurance, second.person)
        link, key = self._link(first, _SignOn(*there, second.authenticated_at), interaction, now)
        self._keep(tx, link, key)
        record(tx, self._made(link, interaction, now), now=now)

    def _first(self, tx: Connection, interaction: Interaction, now: datetime) -> _SignOn:
        """Return the first sign-on, whose session must live still: whoever signed out meanwhile links nothing."""
        c = sign_on_sessions.c
        live = (c.id == interaction.session_id, c.expires_at > now, c.ended_at.is_(None))
        row = tx.execute(select(sign_on_sessions).where(*live)).mappings().one_or_none()
        if row is None:
            raise NotPermitted("The first sign-on has ended meanwhile; begin again.", code="link.session_over")
        side, claims = self._opened(
            row["id"], row["region"], row["subject_ref"], Assurance(row["assurance"]), row["person"]
        )
        return _SignOn(side, claims, row["authenticated_at"])

    def _opened(
        self, session_id: str, region: str, ref: str, level: Assurance, person: bytes
    ) -> tuple[Side, Mapping[str, Any]]:
        subject, claims = self._vault.open(session_id, person)
        return Side(region, ref, subject, level), claims.reveal()

    def _link(self, one: _SignOn, two: _SignOn, interaction: Interaction, now: datetime) -> tuple[Link, str]:
        """Return the link and the reference of its key, when these two sign-ons may be linked."""
        mainland, abroad = self._sides(one, two)
        if abs(one.at - two.at) > WITHIN:
            raise _stale()
        for sign_on in (one, two):
            self._sure_enough(sign_on.side.level)
            _is_adult_person(sign_on.claims, local_day(now))
        kind, number = self._proved(mainland, abroad)
        agreement = Agreement(interaction.request["language"], interaction.request["agreed"])
        link = Link("LK" + secrets.token_hex(16), mainland.side, abroad.side, kind, agreement, now)
        return link, self._references.of("link", kind, number)

    def _sides(self, one: _SignOn, two: _SignOn) -> tuple[_SignOn, _SignOn]:
        """Return the mainland's sign-on first. A region that was switched off meanwhile links nothing."""
        if two.side.region not in self.partners(one.side.region):
            raise NotPermitted("These two regions cannot be linked.", code="link.same_side")
        return (one, two) if self._places[one.side.region].zone is Zone.MAINLAND else (two, one)

    def _proved(self, mainland: _SignOn, abroad: _SignOn) -> tuple[str, str]:
        """Return type and number of the permit that the mainland region says the account is bound to."""
        document = mainland.claims.get("document") or {}
        kind, number = str(document.get("type", "")), str(document.get("number", ""))
        begins = next((zone for prefix, zone in _HOME.get(kind, {}).items() if number.startswith(prefix)), None)
        if begins is None:
            text = (
                "The mainland account is not bound to a home-return permit or a residence permit; bind it there first."
            )
            raise NotPermitted(text, code="link.unproved")
        if begins is not self._places[abroad.side.region].zone:
            text = "The permit of the mainland account belongs to a resident of the other territory."
            raise NotPermitted(text, code="link.other_territory")
        return Party(kind, number).key

    def _sure_enough(self, level: Assurance) -> None:
        if level < LEAST:
            raise NotPermitted(f"Both sign-ons need a method of {LEAST.name} or better.", code="link.weak")

    def _keep(self, tx: Connection, link: Link, key: str) -> None:
        """Store the link unless one of its ends, or its key, is linked otherwise.

        The unique indexes over live links decide, so of any number of parallel attempts one succeeds. That one permit
        leads to one sign-on abroad, through whichever mainland regions, no index can say: such attempts wait in line.
        """
        if tx.dialect.name == "postgresql":  # SQLite has one writer anyway
            tx.execute(select(func.pg_advisory_xact_lock(int(key[:15], 16))))
        c = identity_links.c
        astray = or_(c.other_region != link.abroad.region, c.other_ref != link.abroad.ref)
        if tx.execute(select(c.id).where(c.key_ref == key, c.ended_at.is_(None), astray)).first() is not None:
            raise _taken()
        kept = insert_into(tx, identity_links).values(self._row(link, key)).on_conflict_do_nothing().returning(c.id)
        if tx.execute(kept).one_or_none() is None:
            raise _exists() if self._same(tx, link) else _taken()

    def _row(self, link: Link, key: str) -> dict[str, Any]:
        sides = {"mainland": asdict(link.mainland), "abroad": asdict(link.abroad)}
        body = {**sides, "document_type": link.document_type, "agreement": asdict(link.agreement)}
        return {
            "id": link.id,
            "one_region": link.mainland.region,
            "one_ref": link.mainland.ref,
            "other_region": link.abroad.region,
            "other_ref": link.abroad.ref,
            "key_ref": key,
            "body": self._sealer.seal(orjson.dumps(body), _place(link.id)),
            "made_at": link.made_at,
        }

    def _same(self, tx: Connection, link: Link) -> bool:
        c = identity_links.c
        ends = and_(_is_one(link.mainland.region, link.mainland.ref), _is_other(link.abroad.region, link.abroad.ref))
        return tx.execute(select(c.id).where(ends, c.ended_at.is_(None))).first() is not None

    # --- looking and ending

    async def links_of(self, region: str, ref: str) -> Sequence[Link]:
        """Return the live links of a person who is signed on, newest first."""
        return await self._store.read(partial(self._live, region=region, ref=ref))

    async def end(self, link_id: str, region: str, ref: str) -> None:
        """End a link, from either side and at any time. Raises NotFound (`link.unknown`) for one of somebody else."""
        now = self._clock()
        try:
            await self._store.write(partial(self._end, link_id=link_id, region=region, ref=ref))
        except GatewayError as error:
            raise await self._refused(error, region, ref, "", now, action="link.end") from None

    def _end(self, tx: Connection, link_id: str, region: str, ref: str) -> None:
        c, now = identity_links.c, self._clock()
        mine = or_(_is_one(region, ref), _is_other(region, ref))
        ended = update(identity_links).where(c.id == link_id, mine, c.ended_at.is_(None)).values(ended_at=now)
        if tx.execute(ended.returning(c.id)).one_or_none() is None:
            raise NotFound("There is no such link of yours.", code="link.unknown")
        done = Exchange("link.end", "done", "ended", _who(region, ref), {"link": link_id}, "linking", now)
        record(tx, done, now=now)

    def linked_subjects(self, tx: Connection, region: str, subject_ref: str) -> list[Side]:
        """Return whom else this sign-on stands for: the other end of each live link, with the level proved at linking.

        For a service that asks for an account of one of those regions. The level that may be promised is
        `answering_level` of the session and of that end. Nothing but region and subject goes over. Which of them count
        for that service just now is up to `linked`.
        """
        return [link.other_side(region, subject_ref) for link in self._live(tx, region, subject_ref)]

    def _live(self, tx: Connection, region: str, ref: str) -> list[Link]:
        c = identity_links.c
        mine = or_(_is_one(region, ref), _is_other(region, ref))
        query = select(identity_links).where(mine, c.ended_at.is_(None)).order_by(c.made_at.desc(), c.id)
        return [self._link_of(row) for row in tx.execute(query).mappings()]

    def _link_of(self, row: RowMapping) -> Link:
        body = orjson.loads(self._sealer.open(row["body"], _place(row["id"])))
        mainland, abroad = _side(body["mainland"]), _side(body["abroad"])
        if (mainland.ref, abroad.ref) != (row["one_ref"], row["other_ref"]):
            raise Unavailable("Stored data cannot be opened.", detail=f"link {row['id']} is not what was made")
        return Link(
            id=row["id"],
            mainland=mainland,
            abroad=abroad,
            document_type=body["document_type"],
            agreement=Agreement(**body["agreement"]),
            made_at=row["made_at"],
            ended_at=row["ended_at"],
        )

    # --- evidence

    def _made(self, link: Link, interaction: Interaction, now: datetime) -> Exchange:
        return Exchange(
            action="link.make",
            outcome="done",
            reason="consent given",
            who=_who(link.mainland.region, link.mainland.ref),
            what={
                "link": link.id,
                "mainland": link.mainland.region,
                "abroad": link.abroad.region,
                "abroad_person": link.abroad.ref,
                "document_type": link.document_type,
                "agreement": asdict(link.agreement),
                "first_session": interaction.session_id,
            },
            purpose="linking",
            received_at=now,
        )

    async def _refused(
        self,
        error: GatewayError,
        region: str,
        ref: str,
        wanted: str,
        received_at: datetime,
        *,
        action: str = "link.make",
    ) -> GatewayError:
        exchange = refusal(
            error, action=action, who=_who(region, ref), what={"region": region, "with": wanted}, purpose="linking",
            received_at=received_at,
        )  # fmt: skip
        error.evidence = await self._store.write(lambda tx: record(tx, exchange, now=self._clock()))
        return error


def _give_up(tx: Connection, interaction: Interaction, also: Also | None) -> None:
    """Use up what a refused attempt used: the interaction, and the assertion of its second sign-on."""
    if records.end_interaction(tx, interaction.id) and also is not None:
        also(tx)


def answering_level(session: Assurance, linked: Side) -> Assurance:
    """Return the level that a linked sign-on may promise for the other end: the lower of the two, never the better."""
    return min(session, linked.level)


def _is_adult_person(claims: Mapping[str, Any], today: date) -> None:
    if claims.get("kind") == "organisation" or claims.get("organisation"):
        raise NotPermitted("Only accounts of persons are linked, not of organisations.", code="link.organisation")
    told, document = claims.get("birth_date"), claims.get("document") or {}
    born = Party(str(document.get("type", "")), str(document.get("number", ""))).born()
    if is_child(date.fromisoformat(told) if told else born, today):
        raise NotPermitted("A child under 14 links nothing; a guardian decides (PIPL art. 31).", code="link.child")


def _side(said: Mapping[str, Any]) -> Side:
    return Side(said["region"], said["ref"], said["subject"], Assurance(said["level"]))


def _is_one(region: str, ref: str) -> Any:
    return and_(identity_links.c.one_region == region, identity_links.c.one_ref == ref)


def _is_other(region: str, ref: str) -> Any:
    return and_(identity_links.c.other_region == region, identity_links.c.other_ref == ref)


def _who(region: str, ref: str) -> dict[str, str]:
    return {"person": ref, "region": region}


def _place(link_id: str) -> str:
    return f"identity_links.body:{link_id}"


def _stale() -> NotPermitted:
    return NotPermitted(
        "The two sign-ons must lie within ten minutes; sign on anew and begin again.", code="link.stale"
    )


def _taken() -> NotPermitted:
    text = "One of the two accounts, or the permit, is linked to somebody else. End that link first."
    return NotPermitted(text, code="link.taken")


def _exists() -> NotPermitted:
    return NotPermitted("These two accounts are linked already.", code="link.exists")
