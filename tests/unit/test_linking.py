"""Links between sign-ons, on both stores: what makes one, what does not, and who wins when many try at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.identity import Assurance
from gateway.domain.region import place_of
from gateway.errors import GatewayError, NotFound, NotPermitted
from gateway.identity import records
from gateway.identity.linking import Agreement, Linking, Side, answering_level
from gateway.identity.persons import PersonVault
from gateway.identity.records import Session
from gateway.storage import Store
from gateway.storage.tables import evidence, identity_links, sign_on_interactions, sign_on_sessions
from tests.support.clock import ManualClock
from tests.support.mandates import NOON

PERMIT = {"type": "HM_PERMIT", "number": "H00000001"}
MAINLAND = {
    "kind": "person",
    "name": "陈大文",
    "document": PERMIT,
    "mobile": "13800000009",
    "email": "same@example.invalid",
}
ABROAD = {"kind": "person", "name": "陳大文", "birth_date": "1985-05-05", "email": "same@example.invalid"}
AGREED = Agreement("zh-CN", "a" * 64)
BROWSER = records.new_handle()
PLACES = {
    "guangdong": place_of("440000"), "fujian": place_of("350000"), "hongkong": place_of("810000"),
    "macau": place_of("820000"),
}  # fmt: skip


class Desk:
    """A linking service over one store, and people who sign on."""

    def __init__(self, store: Store, sealer: Sealer, references: References, clock: ManualClock) -> None:
        self.store, self.clock, self.references = store, clock, references
        self.vault = PersonVault(sealer)
        self.service = Linking(store, sealer, references, clock, PLACES, timedelta(minutes=10))

    def session(self, region: str, subject: str, claims: Mapping[str, Any], level: Assurance = Assurance.A2) -> Session:
        """Return a sign-on that has just taken place, not kept."""
        session_id, now = records.new_session_id(), self.clock()
        return Session(
            id=session_id,
            handle_hash=records.digest(records.new_handle()),
            region=region,
            subject_ref=self.references.of(region, subject),
            assurance=level,
            method="m",
            person=self.vault.seal(session_id, subject, claims),
            authenticated_at=now,
            expires_at=now + timedelta(hours=1),
            last_used_at=now,
        )

    async def signed_on(self, *args: Any) -> Session:
        """Return a sign-on whose session is kept."""
        session = self.session(*args)
        await self.store.write(partial(records.keep_session, session=session))
        return session

    async def linked(self, first: Session, second: Session, region: str = "") -> str:
        """Go the whole way and return the outcome."""
        begun = await self.service.begin(first, BROWSER, region or second.region, AGREED)
        return outcome(await self.service.finish(begun, second))

    async def hongkong(self, subject: str = "HK1", level: Assurance = Assurance.A3, **says: Any) -> Session:
        return await self.signed_on("hongkong", subject, {**ABROAD, **says}, level)

    def guangdong(self, subject: str = "GD1", level: Assurance = Assurance.A2, **says: Any) -> Session:
        return self.session("guangdong", subject, {**MAINLAND, **says}, level)


def outcome(address: str) -> str:
    page, _, said = address.partition("?outcome=")
    assert page == "/account/links"
    return said


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def desk(store: Store, sealer: Sealer, references: References, clock: ManualClock) -> Desk:
    return Desk(store, sealer, references, clock)


async def rows(store: Store, table: Any, **wanted: Any) -> list[dict[str, Any]]:
    query = select(table).where(*(table.c[name] == value for name, value in wanted.items()))
    return await store.read(lambda tx: [dict(row) for row in tx.execute(query).mappings()])


# --- a link --------------------------------------------------------------------------------------------------------


async def test_two_sign_ons_in_one_browser_make_a_link_that_both_sides_see(desk: Desk) -> None:
    first, second = await desk.hongkong(), desk.guangdong()
    assert await desk.linked(first, second) == "linked"
    (link,) = await desk.service.links_of("hongkong", first.subject_ref)
    assert [link] == list(await desk.service.links_of("guangdong", second.subject_ref))
    assert (link.mainland.subject, link.abroad.subject, link.document_type) == ("GD1", "HK1", "HM_PERMIT")
    assert link.agreement == AGREED


async def test_it_may_begin_on_the_mainlands_side_as_well(desk: Desk) -> None:
    first = await desk.signed_on("guangdong", "GD1", MAINLAND)
    assert await desk.linked(first, desk.session("hongkong", "HK1", ABROAD)) == "linked"


@pytest.mark.parametrize(
    ("region", "document"),
    [
        ("hongkong", {"type": "HM_PERMIT", "number": "H0000000101"}),
        ("hongkong", {"type": "HM_RESID", "number": "810000199202290010"}),
        ("macau", {"type": "HM_PERMIT", "number": "M00000001"}),
        ("macau", {"type": "HM_RESID", "number": "820000198811110027"}),
    ],
)
async def test_each_territory_is_linked_by_its_own_permits(
    desk: Desk, region: str, document: Mapping[str, str]
) -> None:
    first = await desk.signed_on(region, "X1", ABROAD)
    assert await desk.linked(first, desk.guangdong(document=document)) == "linked"


async def test_a_link_leaves_evidence_of_what_was_agreed_to(desk: Desk) -> None:
    await desk.linked(await desk.hongkong(), desk.guangdong())
    (row,) = await rows(desk.store, evidence, action="link.make")
    assert (row["outcome"], row["what"]["agreement"]) == ("done", {"language": "zh-CN", "sha256": "a" * 64})


async def test_neither_sides_attributes_reach_the_other_nor_the_database(desk: Desk) -> None:
    """Domain §5.4: linking is no copying of attributes. The permit's number is kept as a keyed reference alone."""
    await desk.linked(await desk.hongkong(), desk.guangdong())
    (row,) = await rows(desk.store, identity_links)
    body = desk.service._sealer.open(row["body"], f"identity_links.body:{row['id']}")
    kept = b"|".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in [*row.values(), body])
    private = ("陈大文", "陳大文", "H00000001", "13800000009", "same@example.invalid", "1985-05-05")
    assert [word for word in private if word.encode() in kept] == []


# --- what makes none -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "code"),
    [
        ({"document": {"type": "CN_RIC", "number": "44010619900101900X"}}, "link.unproved"),
        ({"document": {"type": "PASSPORT", "number": "H00000001"}}, "link.unproved"),
        ({"document": None}, "link.unproved"),
        ({"document": {"type": "HM_PERMIT", "number": "M00000001"}}, "link.other_territory"),
        ({"document": {"type": "HM_RESID", "number": "820000198811110027"}}, "link.other_territory"),
        ({"document": {"type": "HM_PERMIT", "number": "X00000001"}}, "link.unproved"),
        ({"kind": "organisation"}, "link.organisation"),
        ({"organisation": {"name": "某公司"}}, "link.organisation"),
        ({"birth_date": "2015-01-01"}, "link.child"),
    ],
)
async def test_a_mainland_account_that_proves_no_permit_is_not_linked(
    desk: Desk, says: dict[str, Any], code: str
) -> None:
    """Guarded by `_proved`. The same e-mail address and telephone number on both sides change nothing."""
    assert await desk.linked(await desk.hongkong(), desk.guangdong(**says)) == code
    assert await rows(desk.store, identity_links) == []
    (row,) = await rows(desk.store, evidence, action="link.make")
    assert (row["outcome"], row["reason"]) == ("refused", code)


async def test_a_number_that_the_side_abroad_claims_proves_nothing(desk: Desk) -> None:
    """The key is the mainland region's word alone, whatever the other side says of itself."""
    first = await desk.hongkong(document=PERMIT)
    assert await desk.linked(first, desk.guangdong(document=None)) == "link.unproved"


@pytest.mark.parametrize("side", ["first", "second"])
async def test_a_weak_sign_on_on_either_side_links_nothing(desk: Desk, side: str) -> None:
    """Guarded by `_sure_enough`: a password alone must not open the other side's account for good."""
    weak = Assurance.A1
    if side == "first":
        with pytest.raises(NotPermitted) as refused:
            await desk.service.begin(await desk.hongkong(level=weak), BROWSER, "guangdong", AGREED)
        assert refused.value.stable_code == "link.weak"
    else:
        assert await desk.linked(await desk.hongkong(), desk.guangdong(level=weak)) == "link.weak"


async def test_a_sign_on_of_an_hour_ago_begins_no_link(desk: Desk, clock: ManualClock) -> None:
    """Guarded by `is_fresh`: whoever finds a browser signed on cannot tie it to an account of their own."""
    first = await desk.hongkong()
    clock.advance(601)
    with pytest.raises(NotPermitted) as refused:
        await desk.service.begin(first, BROWSER, "guangdong", AGREED)
    assert refused.value.stable_code == "link.stale"


async def test_two_sign_ons_far_apart_are_not_linked(desk: Desk, clock: ManualClock) -> None:
    first = await desk.hongkong()
    clock.advance(500)
    begun = await desk.service.begin(first, BROWSER, "guangdong", AGREED)
    clock.advance(300)
    assert outcome(await desk.service.finish(begun, desk.guangdong())) == "link.stale"


async def test_an_older_sign_on_at_the_second_region_links_nothing(desk: Desk, clock: ManualClock) -> None:
    """Guarded by `proved_since`: the region may have somebody else's session in this browser, and let it count."""
    second = desk.guangdong()
    clock.advance(120)
    assert await desk.linked(await desk.hongkong(), second) == "link.stale"


async def test_a_first_session_that_has_ended_links_nothing(desk: Desk, clock: ManualClock) -> None:
    """Guarded by `_first`: after a sign-out, or when somebody else signed on in this browser, it is another session."""
    first = await desk.hongkong()
    begun = await desk.service.begin(first, BROWSER, "guangdong", AGREED)
    ended = update(sign_on_sessions).where(sign_on_sessions.c.id == first.id).values(ended_at=clock())
    await desk.store.write(lambda tx: tx.execute(ended).rowcount)
    assert outcome(await desk.service.finish(begun, desk.guangdong())) == "link.session_over"


@pytest.mark.parametrize("pair", [("hongkong", "macau"), ("guangdong", "fujian"), ("hongkong", "nowhere")])
async def test_only_the_border_of_the_mainland_is_linked_across(desk: Desk, pair: tuple[str, str]) -> None:
    first = await desk.signed_on(pair[0], "X", MAINLAND)
    with pytest.raises(NotPermitted) as refused:
        await desk.service.begin(first, BROWSER, pair[1], AGREED)
    assert refused.value.stable_code == "link.same_side"
    assert (await rows(desk.store, evidence, action="link.make"))[0]["outcome"] == "refused"


async def test_another_region_than_the_one_agreed_to_is_not_linked(desk: Desk) -> None:
    """The person agreed to Guangdong; a chooser in between must not make it Fujian."""
    second = desk.session("fujian", "FJ1", MAINLAND)
    assert await desk.linked(await desk.hongkong(), second, "guangdong") == "link.other_region"


@pytest.mark.parametrize("second_is_right", [True, False])
async def test_an_interaction_is_used_once_whatever_came_of_it(desk: Desk, second_is_right: bool) -> None:
    """A refused attempt must not be repeated with other people until it works."""
    begun = await desk.service.begin(await desk.hongkong(), BROWSER, "guangdong", AGREED)
    await desk.service.finish(begun, desk.guangdong() if second_is_right else desk.guangdong(document=None))
    assert await rows(desk.store, sign_on_interactions) == []
    assert outcome(await desk.service.finish(begun, desk.guangdong("GD2"))) == "link.over"


async def test_what_may_be_accepted_once_is_asked_in_the_same_transaction(desk: Desk) -> None:
    begun = await desk.service.begin(await desk.hongkong(), BROWSER, "guangdong", AGREED)
    assert outcome(await desk.service.finish(begun, desk.guangdong(), also=lambda _tx: False)) == "link.over"
    assert await rows(desk.store, identity_links) == []


# --- uniqueness ----------------------------------------------------------------------------------------------------


async def attempts(desk: Desk, pairs: list[tuple[Session, Session]]) -> list[str]:
    """Begin all of them, then finish all of them at once."""
    begun = [await desk.service.begin(first, BROWSER, second.region, AGREED) for first, second in pairs]
    done = await asyncio.gather(*(desk.service.finish(one, pair[1]) for one, pair in zip(begun, pairs, strict=True)))
    return sorted(map(outcome, done))


async def test_of_eight_attempts_to_link_the_same_pair_one_succeeds(desk: Desk) -> None:
    first = await desk.hongkong()
    told = await attempts(desk, [(first, desk.guangdong()) for _ in range(8)])
    assert told == ["link.exists"] * 7 + ["linked"]
    assert len(await rows(desk.store, identity_links)) == 1


async def test_of_eight_people_who_claim_one_mainland_account_one_gets_it(desk: Desk) -> None:
    """Guarded by the unique index `uq_identity_links_one` over live links."""
    pairs = [(await desk.hongkong(f"HK{n}"), desk.guangdong()) for n in range(8)]
    assert await attempts(desk, pairs) == ["link.taken"] * 7 + ["linked"]
    assert len(await rows(desk.store, identity_links)) == 1


async def test_of_eight_mainland_accounts_of_one_region_one_is_linked_to_a_person(desk: Desk) -> None:
    """Guarded by the unique index `uq_identity_links_other` over live links."""
    first = await desk.hongkong()
    permits = [{"type": "HM_PERMIT", "number": f"H0000000{n}"} for n in range(8)]
    pairs = [(first, desk.guangdong(f"GD{n}", document=permit)) for n, permit in enumerate(permits)]
    assert await attempts(desk, pairs) == ["link.taken"] * 7 + ["linked"]


async def test_one_permit_leads_to_one_person_abroad_through_whichever_region(desk: Desk) -> None:
    """Guarded by the search for the key in `_keep`, which waits in line on PostgreSQL."""
    pairs = []
    for n, region in enumerate(["guangdong", "fujian"] * 4):
        pairs.append((await desk.hongkong(f"HK{n}"), desk.session(region, f"{region}-{n}", MAINLAND)))
    assert await attempts(desk, pairs) == ["link.taken"] * 7 + ["linked"]


async def test_a_person_may_link_an_account_of_each_mainland_region(desk: Desk) -> None:
    first = await desk.hongkong()
    assert await desk.linked(first, desk.guangdong()) == "linked"
    assert await desk.linked(first, desk.session("fujian", "FJ1", MAINLAND)) == "linked"


# --- ending --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["hongkong", "guangdong"])
async def test_either_side_ends_a_link_and_then_it_can_be_made_anew(desk: Desk, side: str) -> None:
    first, second = await desk.hongkong(), desk.guangdong()
    await desk.linked(first, second)
    (link,) = await desk.service.links_of("hongkong", first.subject_ref)
    ref = {"hongkong": first.subject_ref, "guangdong": second.subject_ref}[side]
    await desk.service.end(link.id, side, ref)
    assert list(await desk.service.links_of("hongkong", first.subject_ref)) == []
    assert [row["outcome"] for row in await rows(desk.store, evidence, action="link.end")] == ["done"]
    assert await desk.linked(await desk.hongkong("HK2"), desk.guangdong()) == "linked"


async def test_nobody_ends_the_link_of_somebody_else(desk: Desk) -> None:
    first, second = await desk.hongkong(), desk.guangdong()
    await desk.linked(first, second)
    (link,) = await desk.service.links_of("hongkong", first.subject_ref)
    strangers = [("hongkong", second.subject_ref), ("guangdong", first.subject_ref), ("macau", first.subject_ref)]
    for region, ref in strangers:
        with pytest.raises(NotFound) as refused:
            await desk.service.end(link.id, region, ref)
        assert refused.value.stable_code == "link.unknown"
    assert len(await desk.service.links_of("hongkong", first.subject_ref)) == 1


# --- what it gives -------------------------------------------------------------------------------------------------


async def test_a_linked_sign_on_stands_for_the_other_end_until_the_link_ends(desk: Desk) -> None:
    first, second = await desk.hongkong(), desk.guangdong()
    await desk.linked(first, second)

    def stands_for(tx: Connection) -> list[Side]:
        return desk.service.linked_subjects(tx, "hongkong", first.subject_ref)

    expected = Side("guangdong", second.subject_ref, "GD1", Assurance.A2)
    assert await desk.store.read(stands_for) == [expected]
    (link,) = await desk.service.links_of("hongkong", first.subject_ref)
    await desk.service.end(link.id, "hongkong", first.subject_ref)
    assert await desk.store.read(stands_for) == []


@pytest.mark.parametrize("session", Assurance)
@pytest.mark.parametrize("proved", Assurance)
def test_a_linked_sign_on_promises_the_lower_level_of_the_two(session: Assurance, proved: Assurance) -> None:
    level = answering_level(session, Side("guangdong", "r", "s", proved))
    assert level <= session
    assert level <= proved
    assert level in (session, proved)


async def test_a_link_whose_end_was_edited_by_hand_does_not_open(desk: Desk) -> None:
    """Guarded by the comparison with the sealed body in `_link_of`."""
    first, stranger = await desk.hongkong(), await desk.hongkong("HK2")
    await desk.linked(first, desk.guangdong())
    moved = update(identity_links).values(other_ref=stranger.subject_ref)
    await desk.store.write(lambda tx: tx.execute(moved).rowcount)
    with pytest.raises(GatewayError) as refused:
        await desk.service.links_of("hongkong", stranger.subject_ref)
    assert refused.value.stable_code == "gateway.unavailable"


async def test_a_body_moved_to_another_link_does_not_open(desk: Desk) -> None:
    """Who may write to the database cannot point somebody's sign-on to another account by swapping bodies."""
    first = await desk.hongkong()
    await desk.linked(first, desk.guangdong())
    await desk.linked(await desk.hongkong("HK2"), desk.guangdong("GD2", document={**PERMIT, "number": "H00000002"}))
    one, two = await rows(desk.store, identity_links)

    def swap(tx: Connection) -> None:
        for row, body in ((one, two["body"]), (two, one["body"])):
            tx.execute(update(identity_links).where(identity_links.c.id == row["id"]).values(body=body))

    await desk.store.write(swap)
    with pytest.raises(GatewayError) as refused:
        await desk.service.links_of("hongkong", first.subject_ref)
    assert refused.value.stable_code == "gateway.unavailable"
