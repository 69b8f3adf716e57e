"""Consents on record: what was agreed to counts until it ends, and one that is taken back ends what was got by it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.domain.region import place_of
from gateway.identity import consents
from gateway.identity.clients import Client
from gateway.identity.consents import Answer, Receipt, declined, recipient_of
from gateway.identity.families import find_standing, redeem_code
from gateway.identity.records import digest
from gateway.policy.claims import Recipient
from gateway.storage import Store, open_store
from gateway.storage.tables import (
    authorization_codes,
    evidence,
    sign_on_consents,
    sign_on_sessions,
    token_families,
)
from tests.support.clock import ManualClock

TERM = timedelta(days=180)
PORTAL = Recipient("portal", place_of("440100"), frozenset({"name", "phone_number"}), purpose={"en": "To book"})
ANSWER = Answer(
    subject_ref="p1",
    region="hongkong",
    recipient=PORTAL,
    claims=frozenset({"name"}),
    declined=frozenset({"phone_number"}),
    crosses=True,
    language="zh-HK",
    statement=b"what was shown",
)


async def give(store: Store, clock: ManualClock, answer: Answer = ANSWER) -> Receipt:
    return await store.write(partial(consents.give, answer=answer, expires_at=clock() + TERM, now=clock()))


async def live(store: Store, clock: ManualClock, **changes: str) -> Sequence[Receipt]:
    whose: dict[str, Any] = {"client_id": "portal", "subject_ref": "p1", "region": "hongkong", **changes}
    return await store.read(partial(consents.live, **whose, now=clock()))


async def test_an_answer_is_kept_and_its_receipt_says_all_of_it(store: Store, clock: ManualClock) -> None:
    receipt = await give(store, clock)
    assert list(await live(store, clock)) == [receipt]
    said = receipt.document()
    assert (said["claims"], said["declined"], said["recipient"]) == (["name"], ["phone_number"], "portal@440100")
    assert said["shown_sha256"] == hashlib.sha256(b"what was shown").hexdigest()
    assert said["purpose"].startswith("cross-boundary:")
    assert "p1" not in str(said)


async def test_what_is_kept_carries_the_transfer_that_was_shown(store: Store, clock: ManualClock) -> None:
    """What the gate takes is just what was recorded: recipient, purpose, claims and term."""
    given = (await give(store, clock)).given()
    assert (given.recipient, given.purpose) == (PORTAL.key, PORTAL.purpose_key(crosses=True))
    assert (given.fields, given.expires_at) == (frozenset({"name"}), clock() + TERM)


@pytest.mark.parametrize(
    "changes",
    [{"client_id": "other"}, {"subject_ref": "p2"}, {"region": "macau"}],
    ids=lambda changes: next(iter(changes)),
)
async def test_a_consent_counts_for_its_own_client_person_and_region_only(
    store: Store, clock: ManualClock, changes: dict[str, str]
) -> None:
    await give(store, clock)
    assert list(await live(store, clock, **changes)) == []


async def test_a_consent_ends_with_its_term(store: Store, clock: ManualClock) -> None:
    await give(store, clock)
    clock.advance(TERM.total_seconds() - 1)
    assert await live(store, clock)
    clock.advance(1)
    assert list(await live(store, clock)) == []


async def test_a_newer_answer_takes_the_place_of_an_older_one(store: Store, clock: ManualClock) -> None:
    """Who now says no to the telephone must not be held to the yes of last week."""
    await give(store, clock, replace(ANSWER, claims=frozenset({"name", "phone_number"}), declined=frozenset()))
    clock.advance(1)
    newer = await give(store, clock)
    assert list(await live(store, clock)) == [newer]
    history = await store.read(partial(consents.of_person, subject_ref="p1", region="hongkong"))
    assert [one.revoked_at is None for one in history] == [True, False]


@pytest.mark.parametrize(
    ("changes", "covered"),
    [
        ({}, True),
        ({"claims": ["name", "phone_number"]}, False),
        ({"crosses": False}, False),
        ({"recipient": replace(PORTAL, place=place_of("440300"))}, False),
        ({"recipient": replace(PORTAL, purpose={"en": "To advertise"})}, False),
        ({"recipient": replace(PORTAL, contact="new@portal.test")}, True),
    ],
)
async def test_a_consent_covers_what_it_names_and_nothing_else(
    store: Store, clock: ManualClock, changes: dict[str, Any], covered: bool
) -> None:
    await give(store, clock)
    asked = {"recipient": PORTAL, "claims": ["name"], "crosses": True, **changes}
    found = await store.read(partial(consents.covering, subject_ref="p1", region="hongkong", now=clock(), **asked))
    assert (found is not None) == covered


async def test_what_was_declined_is_remembered_for_the_same_purpose(store: Store, clock: ManualClock) -> None:
    receipts = [await give(store, clock)]
    assert declined(receipts, PORTAL, crosses=True) == {"phone_number"}
    assert declined(receipts, PORTAL, crosses=False) == frozenset()
    assert declined(receipts, replace(PORTAL, purpose={"en": "Else"}), crosses=True) == frozenset()


# --- taking it back ----------------------------------------------------------------------------------------------


def session_of(tx: Connection, client_id: str, subject_ref: str, clock: ManualClock) -> None:
    """Give a client a token family and a code from a session of a person."""
    now, later, name = clock(), clock() + timedelta(hours=1), f"{client_id}-{subject_ref}"
    session = {"id": name, "handle_hash": name, "region": "hongkong", "subject_ref": subject_ref, "assurance": 2,
               "method": "m", "person": b"x", "evidence_id": "", "authenticated_at": now, "last_used_at": now,
               "expires_at": later}  # fmt: skip
    shared = {"client_id": client_id, "session_id": name, "scope": "openid", "claims": {}, "acr": "A2",
              "expires_at": later}  # fmt: skip
    tx.execute(insert(sign_on_sessions).values(session))
    tx.execute(insert(token_families).values(id=name, created_at=now, **shared))
    code = {"code_hash": digest(name), "redirect_uri": "https://service.test/back", "challenge": "c"}
    tx.execute(insert(authorization_codes).values(**code, **shared))


async def test_a_consent_that_is_taken_back_ends_what_was_got_by_it_and_nothing_else(
    store: Store, clock: ManualClock
) -> None:
    """P11. Guarded by the two statements of `_end_grants`."""
    for client_id, subject_ref in (("portal", "p1"), ("portal", "p2"), ("other", "p1")):
        await store.write(partial(session_of, client_id=client_id, subject_ref=subject_ref, clock=clock))
    receipt = await give(store, clock)
    taken = partial(consents.revoke, consent_id=receipt.id, subject_ref="p1", now=clock())
    assert (await store.write(taken)) == replace(receipt, revoked_at=clock())
    assert list(await live(store, clock)) == []

    def ended(tx: Connection) -> tuple[set[str], set[str]]:
        families, codes = token_families.c, authorization_codes.c
        return (
            set(tx.execute(select(families.id).where(families.revoked_at.is_not(None))).scalars()),
            set(tx.execute(select(codes.code_hash).where(codes.used_at.is_not(None))).scalars()),
        )

    assert await store.read(ended) == ({"portal-p1"}, {digest("portal-p1")})
    assert await store.write(taken) is None


async def test_a_consent_that_is_taken_back_ends_what_is_being_redeemed_meanwhile(
    postgres_url: str, clock: ManualClock
) -> None:
    """One replica redeems a code while another takes the consent back: the family that comes of it must not be missed.

    Guarded by the order of the two statements of `_end_grants`. SQLite has one writer, so nothing happens meanwhile.
    """
    store = await open_store(postgres_url)
    await store.write(partial(session_of, client_id="portal", subject_ref="p1", clock=clock))
    receipt = await give(store, clock)
    redeem = partial(
        redeem_code, code="portal-p1", client_id="portal", redirect_uri="https://service.test/back", binding=None,
        now=clock(),
    )  # fmt: skip
    engine = create_async_engine(postgres_url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as redeeming, asyncio.timeout(20):
        redeemed = await redeeming.run_sync(redeem)
        assert redeemed is not None
        taking = asyncio.create_task(
            store.write(partial(consents.revoke, consent_id=receipt.id, subject_ref="p1", now=clock()))
        )
        async with engine.connect() as watching:
            while not (await watching.execute(text("SELECT 1 FROM pg_locks WHERE NOT granted"))).all():
                await asyncio.sleep(0.01)  # a database tells nobody that one waits: asking is the only way
    await taking
    await engine.dispose()
    family = redeemed.standing.family.id
    assert await store.read(partial(find_standing, family_id=family, now=clock())) is None
    await store.close()


@pytest.mark.parametrize(("claims", "ended"), [({"name"}, True), ({"name", "phone_number"}, False)])
async def test_a_narrower_answer_ends_what_was_got_by_the_wider_one(
    store: Store, clock: ManualClock, claims: set[str], ended: bool
) -> None:
    """A claim that is left out now was taken back; an answer as wide as before takes nothing. Guarded in `give`."""
    wide = frozenset({"name", "phone_number"})
    await store.write(partial(session_of, client_id="portal", subject_ref="p1", clock=clock))
    await give(store, clock, replace(ANSWER, claims=wide, declined=frozenset()))
    await give(store, clock, replace(ANSWER, claims=frozenset(claims), declined=wide - claims))
    families = select(token_families.c.revoked_at)
    (revoked_at,) = await store.read(lambda tx: tx.execute(families).scalars().all())
    assert (revoked_at is not None) is ended


async def test_nobody_takes_back_anothers_consent(store: Store, clock: ManualClock) -> None:
    """Guarded by `subject_ref` in the statement: an id that leaked is no right."""
    receipt = await give(store, clock)
    theirs = partial(consents.revoke, consent_id=receipt.id, subject_ref="p2", now=clock())
    assert await store.write(theirs) is None
    assert await live(store, clock)


async def test_giving_and_taking_back_are_evidence_without_the_text(store: Store, clock: ManualClock) -> None:
    receipt = await give(store, clock)
    clock.advance(1)
    await store.write(partial(consents.revoke, consent_id=receipt.id, subject_ref="p1", now=clock()))

    def rows(tx: Connection) -> list[Any]:
        return list(tx.execute(select(evidence).order_by(evidence.c.recorded_at)))

    first, second = await store.read(rows)
    assert (first.action, second.action) == ("consent.give", "consent.revoke")
    assert (first.who, first.what["consent"], first.what["claims"]) == ({"client": "portal"}, receipt.id, ["name"])
    assert first.parts["statement"]["size"] == len(ANSWER.statement)


async def test_two_answers_one_after_the_other_leave_one_that_counts(store: Store, clock: ManualClock) -> None:
    """Two tabs: the last word is the person's word, and the first stays on record."""
    await give(store, clock)
    await give(store, clock, replace(ANSWER, claims=frozenset({"phone_number"}), declined=frozenset({"name"})))
    assert len(await live(store, clock)) == 1

    def kept(tx: Connection) -> int:
        return len(tx.execute(select(sign_on_consents.c.id)).all())

    assert await store.read(kept) == 2


# --- the client as the gate knows it -----------------------------------------------------------------------------


def test_a_client_may_ask_for_what_its_registered_scopes_open() -> None:
    client = Client(
        id="portal", name="Portal", organisation="Bureau", organisation_code="11440100696927671X", origin_code="810000",
        redirect_uris=(), grant_types=frozenset(), scopes=frozenset({"openid", "phone", "submissions"}),
        authentication="none", keys=None, consent="trusted", contact="c", purpose={"en": "p"}, legal_basis="l",
    )  # fmt: skip
    assert recipient_of(client) == Recipient(
        "portal", place_of("810000"), frozenset({"phone_number"}), trusted=True, contact="c", purpose={"en": "p"},
        legal_basis="l",
    )  # fmt: skip
