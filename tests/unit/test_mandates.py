"""Mandates as they are kept, on both stores: who finds them, how they end, and what evidence is left."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.util import await_only

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.identity import Assurance
from gateway.domain.mandate import OnPaper, Party, SignedOn, Use
from gateway.errors import GatewayError, InvalidRequest, NotFound, NotPermitted, Unavailable
from gateway.identity.mandates import MandateRecords, Mandates, new_mandate_id
from gateway.storage import Store, open_store
from gateway.storage.tables import evidence, sign_on_sessions, token_families
from gateway.storage.tables import mandates as table
from tests.support.clock import ManualClock
from tests.support.mandates import AGENT, ITEM, NOON, OTHER_ITEM, PRINCIPAL, STRANGER, WHO, a_mandate, mandates

PAPER = OnPaper("F-7", "C-0417", "GZ-01", ("resident identity card",))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def service(store: Store, sealer: Sealer, references: References, clock: ManualClock) -> Mandates:
    return mandates(store, sealer, references, clock)


async def rows(store: Store, **wanted: str) -> list[dict[str, Any]]:
    """Return evidence rows with these values, in the order of recording."""
    query = select(evidence).where(*(evidence.c[name] == value for name, value in wanted.items()))
    found = await store.read(lambda tx: [dict(row) for row in tx.execute(query).mappings()])
    return sorted(found, key=lambda row: row["recorded_at"])


async def refusal(asking: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await asking
    return caught.value


# --- keeping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("consent", [PAPER, SignedOn("guangdong", "GD1", Assurance.A3, NOON, "EV1")], ids=["p", "s"])
async def test_what_was_kept_comes_back_as_it_was(service: Mandates, consent: OnPaper | SignedOn) -> None:
    made = await service.make(a_mandate(consent=consent), who=WHO)
    assert await service.find(made.id) == a_mandate(consent=consent)


async def test_the_database_names_nobody(service: Mandates, store: Store) -> None:
    """People stand only in the sealed body; even a reader of every column learns references and no more."""
    await service.make(a_mandate(), who=WHO)

    def everything(tx: Connection) -> bytes:
        cells = [cell for one in (table, evidence) for row in tx.execute(select(one)) for cell in row]
        return b"|".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in cells)

    seen = await store.read(everything)
    private = (PRINCIPAL.name, PRINCIPAL.number, AGENT.name, AGENT.number, "GD000000000001")
    assert [word for word in private if word.encode() in seen] == []


async def test_a_mandate_is_found_by_principal_and_by_agent_and_by_nobody_else(service: Mandates) -> None:
    made = await service.make(a_mandate(), who=WHO)
    assert [m.id for m in await service.given_by(PRINCIPAL)] == [made.id]
    assert [m.id for m in await service.received_by(AGENT)] == [made.id]
    for party in (STRANGER, replace(AGENT, name="别人"), replace(PRINCIPAL, document_type="PASSPORT")):
        assert [*await service.given_by(party), *await service.received_by(party)] == []


async def test_a_permit_that_was_issued_anew_finds_the_mandates_of_the_old_one(service: Mandates) -> None:
    """Domain §2.4: the number is for life, the two digits behind it count the cards."""
    await service.make(a_mandate(principal=Party("HM_PERMIT", "H0000000101", "陈大文")), who=WHO)
    assert len(await service.given_by(Party("HM_PERMIT", "H00000001", "陈大文"))) == 1


async def test_a_mandate_that_may_not_be_is_refused_with_everything_that_is_wrong(
    service: Mandates, store: Store
) -> None:
    wrong = a_mandate(items=frozenset({"*"}), valid_until=NOON)
    error = await refusal(service.make(wrong, who=WHO))
    assert isinstance(error, InvalidRequest)
    assert error.stable_code == "delegation.invalid"
    assert {problem.field for problem in error.problems} == {"items", "valid_until"}
    assert await service.find(wrong.id) is None
    assert [row["id"] for row in await rows(store, action="mandate.make", outcome="refused")] == [error.evidence]


async def test_the_consent_of_a_signed_on_principal_names_its_evidence(service: Mandates, store: Store) -> None:
    """Who doubts a mandate starts from the row of the moment at which it was given."""
    made = await service.make(a_mandate(), who=WHO)
    (row,) = await rows(store, action="mandate.make", outcome="done")
    assert isinstance(made.consent, SignedOn)
    assert made.consent.evidence_id == row["id"]
    assert (row["what"]["mandate"], row["what"]["items"], row["who"]) == (made.id, [ITEM], WHO)


# --- using ---------------------------------------------------------------------------------------------------------


async def test_a_use_is_checked_and_recorded(service: Mandates, store: Store, clock: ManualClock) -> None:
    made = await service.make(a_mandate(), who=WHO)
    found = await service.require(made.id, agent=AGENT, item=ITEM, on=clock(), principal=PRINCIPAL, who=WHO)
    assert found.principal == PRINCIPAL
    (row,) = await rows(store, action="mandate.use")
    assert (row["outcome"], row["what"]) == ("done", {"mandate": made.id, "item": ITEM})


async def test_a_use_that_is_not_served_says_why_and_leaves_evidence(service: Mandates, store: Store) -> None:
    made = await service.make(a_mandate(), who=WHO)
    late = NOON + timedelta(days=31)
    error = await refusal(service.require(made.id, agent=STRANGER, item=OTHER_ITEM, on=late, who=WHO))
    assert isinstance(error, NotPermitted)
    assert error.stable_code == "delegation.expired"
    assert [problem.code for problem in error.problems] == [
        "delegation.expired", "delegation.other_item", "delegation.other_agent",
    ]  # fmt: skip
    (row,) = await rows(store, action="mandate.use")
    assert (row["outcome"], row["reason"], row["id"]) == ("refused", "delegation.expired", error.evidence)


async def test_a_mandate_that_nobody_knows_serves_nobody(service: Mandates, store: Store) -> None:
    error = await refusal(service.require(new_mandate_id(), agent=AGENT, item=ITEM, on=NOON, who=WHO))
    assert error.stable_code == "delegation.not_found"
    assert len(await rows(store, action="mandate.use", outcome="refused")) == 1


# --- revoking ------------------------------------------------------------------------------------------------------


async def test_a_revocation_counts_from_the_very_next_use_even_through_another_service(
    service: Mandates, store: Store, sealer: Sealer, references: References, clock: ManualClock
) -> None:
    """Guarded by `lacks` over the row as it is now: another replica holds no copy that would have to expire."""
    replica = mandates(store, sealer, references, clock)
    made = await service.make(a_mandate(), who=WHO)
    await replica.require(made.id, agent=AGENT, item=ITEM, on=clock(), who=WHO)
    await service.revoke(made.id, by="principal", who=WHO, party=PRINCIPAL)
    error = await refusal(replica.require(made.id, agent=AGENT, item=ITEM, on=clock(), who=WHO))
    assert error.stable_code == "delegation.revoked"


async def test_a_revocation_ends_the_tokens_that_rest_on_the_mandate_and_no_others(
    service: Mandates, store: Store
) -> None:
    """Guarded in `MandateRecords.revoke`: an agent's token must not outlive what it was issued on."""
    made = await service.make(a_mandate(), who=WHO)
    session = {
        "id": "S1", "handle_hash": "h", "region": "guangdong", "subject_ref": "r", "assurance": 2, "method": "m",
        "person": b"", "evidence_id": "", "authenticated_at": NOON, "last_used_at": NOON,
        "expires_at": NOON + timedelta(hours=1),
    }  # fmt: skip
    family = {
        "client_id": "c", "session_id": "S1", "scope": "", "claims": {}, "acr": "", "created_at": NOON,
        "expires_at": NOON + timedelta(hours=1),
    }  # fmt: skip

    def keep(tx: Connection) -> None:
        tx.execute(sign_on_sessions.insert().values(session))
        tx.execute(token_families.insert().values(id="by-mandate", mandate_id=made.id, **family))
        tx.execute(token_families.insert().values(id="alone", mandate_id=None, **family))

    await store.write(keep)
    await service.revoke(made.id, by="principal", who=WHO, party=PRINCIPAL)
    ended = select(token_families.c.id).where(token_families.c.revoked_at.is_not(None))
    assert await store.read(lambda tx: list(tx.execute(ended).scalars())) == ["by-mandate"]


async def test_a_mandate_serves_its_own_agent_in_an_exchange_and_nobody_elses(
    service: Mandates, store: Store, clock: ManualClock
) -> None:
    """The item is not known yet, the agent is: whoever signed on as somebody else gets no token by it."""
    made = await service.make(a_mandate(), who=WHO)

    async def serves(mandate_id: str, agent: Party) -> bool:
        return await store.read(lambda tx: service.serving(tx, mandate_id, agent)) is not None

    assert await serves(made.id, AGENT)
    assert not await serves(made.id, STRANGER)
    assert not await serves(made.id, replace(AGENT, name="别人"))
    assert not await serves(new_mandate_id(), AGENT)
    clock.advance(31 * 24 * 3600)
    assert not await serves(made.id, AGENT)


@pytest.mark.parametrize("party", [PRINCIPAL, AGENT], ids=["principal", "agent"])
async def test_either_side_may_end_a_mandate(service: Mandates, party: Party) -> None:
    """An agent may give it back: nobody has to act for somebody else."""
    made = await service.make(a_mandate(), who=WHO)
    ended = await service.revoke(made.id, by="x", who=WHO, party=party)
    assert ended.revocation is not None
    assert (ended.revocation.at, ended.revocation.by) == (NOON, "x")


async def test_nobody_else_ends_a_mandate_or_learns_that_it_is_there(service: Mandates, store: Store) -> None:
    made = await service.make(a_mandate(), who=WHO)
    told = []
    for party, mandate_id in ((STRANGER, made.id), (replace(PRINCIPAL, name="别人"), made.id), (PRINCIPAL, "MDx")):
        error = await refusal(service.revoke(mandate_id, by="x", who=WHO, party=party))
        assert isinstance(error, NotFound)
        told.append((error.stable_code, error.public))
    assert len(set(told)) == 1
    assert len(await rows(store, action="mandate.revoke", outcome="refused")) == 3
    found = await service.find(made.id)
    assert found is not None
    assert found.revocation is None


async def test_of_eight_revocations_at_once_one_is_recorded(service: Mandates, store: Store) -> None:
    """Guarded by `revoked_at IS NULL` in the statement: the first one's time and author stay."""
    made = await service.make(a_mandate(), who=WHO)
    asked = (service.revoke(made.id, by=f"by-{n}", who=WHO, party=PRINCIPAL) for n in range(8))
    ended = await asyncio.gather(*asked)
    (row,) = await rows(store, action="mandate.revoke")
    assert {mandate.revocation.by for mandate in ended if mandate.revocation} == {row["what"]["by"]}


async def test_what_is_accepted_while_it_is_revoked_has_one_order(
    service: Mandates, store: Store, clock: ManualClock
) -> None:
    """Acceptance holds the row: either it comes first and the revocation waits, or it sees the revocation."""
    made = await service.make(a_mandate(), who=WHO)

    def accept(tx: Connection) -> str:
        try:
            service.check(tx, made.id, Use(AGENT, ITEM, clock()), hold=True)
        except NotPermitted:
            return "refused"
        return "accepted"

    work = [store.write(accept) for _ in range(6)]
    outcomes = await asyncio.gather(
        *work[:3], service.revoke(made.id, by="principal", who=WHO, party=PRINCIPAL), *work[3:]
    )
    assert {outcome for outcome in outcomes if isinstance(outcome, str)} <= {"accepted", "refused"}
    assert await store.write(accept) == "refused"


async def test_a_mandate_in_use_cannot_be_revoked_until_what_uses_it_is_stored(
    postgres_url: str, sealer: Sealer, references: References, clock: ManualClock
) -> None:
    """Guarded by `hold`: without the lock, replicas could accept a case after the revocation had been answered.

    SQLite has one writer, so there it cannot happen. The other replica asks for the row without waiting.
    """
    one, other = await open_store(postgres_url), await open_store(postgres_url)
    service = mandates(one, sealer, references, clock)
    made = await service.make(a_mandate(), who=WHO)
    wanted = select(table.c.id).where(table.c.id == made.id).with_for_update(nowait=True)

    def take(tx: Connection) -> None:
        tx.execute(wanted)

    def accept(tx: Connection) -> str:
        service.check(tx, made.id, Use(AGENT, ITEM, clock()), hold=True)
        try:
            await_only(other.write(take))  # the unit runs on the loop, in a greenlet
        except Unavailable:
            return "held"
        return "free"

    try:
        assert await one.write(accept) == "held"
        await other.write(take)
    finally:
        await one.close()
        await other.close()


@pytest.mark.parametrize(
    "change",
    [{"items": [ITEM, OTHER_ITEM]}, {"valid_until": NOON + timedelta(days=300)}, {"relation": "agency"}],
    ids=lambda change: next(iter(change)),
)
async def test_a_row_that_was_widened_by_hand_serves_nothing(
    service: Mandates, store: Store, change: dict[str, Any]
) -> None:
    """Guarded by the comparison with the sealed body in `_mandate`: what the principal agreed to cannot be edited."""
    made = await service.make(a_mandate(), who=WHO)
    await store.write(lambda tx: tx.execute(table.update().where(table.c.id == made.id).values(**change)).rowcount)
    error = await refusal(service.require(made.id, agent=AGENT, item=ITEM, on=NOON, who=WHO))
    assert error.stable_code == "gateway.unavailable"


async def test_a_body_that_is_moved_to_another_row_does_not_open(
    service: Mandates, store: Store, sealer: Sealer, references: References
) -> None:
    """Who may write to the database cannot lend one person's mandate to another."""
    one = await service.make(a_mandate(), who=WHO)
    two = await service.make(a_mandate(id=new_mandate_id(), agent=STRANGER), who=WHO)

    def swap(tx: Connection) -> None:
        body = select(table.c.body).where(table.c.id == one.id)
        moved = tx.execute(body).scalar_one()
        tx.execute(table.update().where(table.c.id == two.id).values(body=moved))

    await store.write(swap)
    error = await refusal(store.read(lambda tx: MandateRecords(sealer, references).find(tx, two.id)))
    assert error.stable_code == "gateway.unavailable"
