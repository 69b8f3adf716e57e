"""City codes in the core: references on both stores, good once under contention; issuers that answer badly; routing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, insert, select

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.domain.identity import Assurance
from gateway.domain.sensitive import Sensitive
from gateway.edge import check
from gateway.errors import (
    FieldProblem,
    InvalidRequest,
    NotFound,
    NotPermitted,
    RegionClosed,
    RegionError,
    RegionRefused,
    RegionUncertain,
    RegionUnreachable,
)
from gateway.identity.codes import REFERENCE_LIFE, CodeAnswer, CodeRequest, CodeRouter
from gateway.identity.records import digest
from gateway.identity.subject_references import (
    NewReference,
    Referred,
    forget_references,
    keep_reference,
    new_reference,
    redeem_reference,
)
from gateway.policy.grants import Capability, Grant, Grants
from gateway.ports import Adapter, CodeQuestion, ResolvedCode
from gateway.storage import Store, open_store
from gateway.storage.tables import evidence, region_switches, subject_references
from tests.support.clock import ManualClock

pytestmark = pytest.mark.usefixtures("unblocked")

CODE = "HMM:4TqJx_a-one-time-code"
CALLER = Caller("agency", "测试机构", "11440100MBT40100XX", "440100", frozenset({"codes"}))
OTHER = replace(CALLER, client_id="other-agency")
GRANT = Grant.model_validate(
    {
        "client": "agency",
        "capability": "codes.resolve",
        "items": ["ITEM-1"],
        "purposes": ["cross-region-service"],
        "regions": ["guangdong"],
    }
)


def request(**changes: Any) -> CodeRequest:
    asked = {
        "code": CODE,
        "operator": "T0001",
        "item": "ITEM-1",
        "purpose_code": "cross-region-service",
        "purpose": "Collecting papers",
        "legal_basis": "statutory duty",
    }
    return check(CodeRequest, {**asked, **changes})


@dataclass
class Issuer:
    """A region that resolves codes as the test says."""

    clock: ManualClock
    answer: ResolvedCode | RegionError | None = None
    asked: list[CodeQuestion] = field(default_factory=list)
    id: str = "guangdong"
    code_prefixes: tuple[str, ...] = ("HMM:",)
    closed: bool = False
    meanwhile: Store | None = None
    """Where the region is closed while the issuer is being asked."""

    @property
    def adapter(self) -> Adapter:
        return Adapter(codes=self)

    @property
    def assurance(self) -> dict[str, Assurance]:
        return {"L2": Assurance.A2}

    async def resolve(self, question: CodeQuestion) -> ResolvedCode:
        self.asked.append(question)
        if self.meanwhile is not None:
            await self.meanwhile.write(close)
        if isinstance(self.answer, RegionError):
            raise self.answer
        return self.answer or ResolvedCode("UC-1", "L2", self.clock() + timedelta(minutes=1))


@pytest.fixture
def issuer(clock: ManualClock) -> Issuer:
    return Issuer(clock)


@pytest.fixture
def router(store: Store, sealer: Sealer, clock: ManualClock, issuer: Issuer) -> CodeRouter:
    async def refuse_closed(region: str) -> None:
        if issuer.closed:
            raise RegionClosed("closed", region=region)

    return CodeRouter(
        store=store,
        regions=[issuer],
        grants=Grants({1: GRANT}),
        sealer=sealer,
        clock=clock,
        refuse_closed=refuse_closed,
    )


def close(tx: Connection) -> None:
    """Turn the switch of the region, as another replica may at any moment."""
    values = {"closed": True, "reason": "test", "changed_by": "operator:x", "changed_at": datetime.now(UTC)}
    tx.execute(insert(region_switches).values(region="guangdong", **values))


async def rows(store: Store, table: Any) -> list[dict[str, Any]]:
    return await store.read(lambda tx: [dict(row) for row in tx.execute(select(table)).mappings()])


async def redeem(store: Store, sealer: Sealer, clock: ManualClock, reference: str, client: str = "agency") -> Referred:
    return await store.write(
        lambda tx: redeem_reference(tx, sealer, reference=reference, client_id=client, now=clock())
    )


# --- references --------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def replicas(store: Store, store_url: str) -> AsyncIterator[list[Store]]:
    """Return the stores of two replicas. SQLite belongs to one process: there, both are the same."""
    other = store if store_url.startswith("sqlite") else await open_store(store_url)
    yield [store, other]
    if other is not store:
        await other.close()


def a_reference(clock: ManualClock, **changes: Any) -> NewReference:
    new = NewReference(
        new_reference(), "agency", "guangdong", Sensitive("UC-1"), Assurance.A2, clock() + timedelta(minutes=5)
    )
    return replace(new, **changes)


async def test_of_eight_redemptions_at_once_one_succeeds(
    replicas: list[Store], sealer: Sealer, clock: ManualClock
) -> None:
    """On two replicas. `used_at IS NULL` in the one UPDATE of `redeem_reference` decides."""
    new = a_reference(clock)
    await replicas[0].write(lambda tx: keep_reference(tx, sealer, new))
    attempts = [redeem(replicas[number % 2], sealer, clock, new.reference) for number in range(8)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    won = [outcome for outcome in outcomes if isinstance(outcome, Referred)]
    assert won == [Referred("guangdong", Sensitive("UC-1"), Assurance.A2)]
    assert sum(isinstance(outcome, NotFound) for outcome in outcomes) == 7


async def test_a_reference_serves_only_the_client_that_it_was_made_for(
    store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    """`client_id` in the UPDATE; another one's attempt uses nothing up, or it could spoil the business of the first."""
    new = a_reference(clock)
    await store.write(lambda tx: keep_reference(tx, sealer, new))
    with pytest.raises(NotFound):
        await redeem(store, sealer, clock, new.reference, "other-agency")
    assert (await redeem(store, sealer, clock, new.reference)).subject.reveal() == "UC-1"


async def test_a_reference_is_good_briefly(store: Store, sealer: Sealer, clock: ManualClock) -> None:
    """`expires_at` in the UPDATE; the janitor only tidies up."""
    new = a_reference(clock)
    await store.write(lambda tx: keep_reference(tx, sealer, new))
    clock.advance(300)
    with pytest.raises(NotFound):
        await redeem(store, sealer, clock, new.reference)
    assert await store.write(lambda tx: forget_references(tx, clock())) == 1
    assert await rows(store, subject_references) == []


@pytest.mark.parametrize("guess", ["", "SR", "x" * 10_000, "SR\x00", "\ud800", "'; DROP TABLE subject_references; --"])
async def test_a_reference_that_was_never_made_opens_nothing(
    store: Store, sealer: Sealer, clock: ManualClock, guess: str
) -> None:
    with pytest.raises(NotFound) as refused:
        await redeem(store, sealer, clock, guess)
    assert refused.value.stable_code == "code.reference"


async def test_what_is_kept_tells_neither_the_person_nor_the_reference(
    store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    """Whoever reads the table can neither redeem anything nor say whom it is about; and a row moved does not open."""
    one, other = a_reference(clock), a_reference(clock, subject=Sensitive("UC-2"))
    for new in (one, other):
        await store.write(lambda tx, new=new: keep_reference(tx, sealer, new))  # type: ignore[misc] # the loop's value
    kept = await rows(store, subject_references)
    assert {row["reference_hash"] for row in kept} == {digest(one.reference), digest(other.reference)}
    assert not [row for row in kept if one.reference in repr(row) or "UC-1" in repr(row)]
    assert len({row["subject"] for row in kept}) == 2


# --- the router --------------------------------------------------------------------------------------------------


async def resolved(router: CodeRouter, **changes: Any) -> CodeAnswer:
    return await router.resolve(CALLER, request(**changes))


async def test_a_code_becomes_a_reference_that_says_nothing_of_the_person(
    router: CodeRouter, issuer: Issuer, store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    answer = await resolved(router)
    assert (answer.issuer, answer.assurance) == ("guangdong", Assurance.A2)
    assert answer.expires_at == clock() + timedelta(minutes=1), "not longer than the issuer says"
    assert issuer.asked == [CodeQuestion(CODE, "Collecting papers", "ITEM-1", "测试机构")]
    assert "UC-1" not in repr(answer)
    (row,) = await rows(store, evidence)
    assert (row["id"], row["action"], row["outcome"]) == (answer.evidence, "code.resolve", "done")
    assert row["what"]["reference"] == digest(answer.subject_reference)
    assert row["who"]["operator"] == "T0001"
    assert row["purpose"] == "cross-region-service: Collecting papers"
    assert None not in (row["forwarded_at"], row["answered_at"])
    assert (await redeem(store, sealer, clock, answer.subject_reference)).subject.reveal() == "UC-1"


async def test_a_reference_does_not_live_as_long_as_an_issuer_may_wish(
    router: CodeRouter, issuer: Issuer, clock: ManualClock
) -> None:
    """`min` in `_reference`."""
    issuer.answer = ResolvedCode("UC-1", "L2", clock() + timedelta(days=36500))
    assert (await resolved(router)).expires_at == clock() + REFERENCE_LIFE


async def test_a_level_that_nobody_knows_is_none(router: CodeRouter, issuer: Issuer, clock: ManualClock) -> None:
    issuer.answer = ResolvedCode("UC-1", "L9", clock() + timedelta(minutes=1))
    assert (await resolved(router)).assurance is Assurance.A0


@pytest.mark.parametrize(("subject", "seconds"), [("", 60), ("x" * 257, 60), ("UC-1", 0), ("UC-1", -60)])
async def test_an_answer_without_a_person_or_from_the_past_makes_no_reference(
    router: CodeRouter, issuer: Issuer, store: Store, clock: ManualClock, subject: str, seconds: int
) -> None:
    """The check in `_reference`."""
    issuer.answer = ResolvedCode(subject, "L2", clock() + timedelta(seconds=seconds))
    with pytest.raises(RegionUncertain):
        await resolved(router)
    assert await rows(store, subject_references) == []
    (row,) = await rows(store, evidence)
    assert (row["outcome"], row["reason"]) == ("failed", "region.uncertain")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RegionRefused(f"no such code {CODE}", detail=CODE, problems=[FieldProblem(CODE, CODE)]), "refused"),
        (RegionUnreachable("guangdong cannot be reached"), "failed"),
        (RegionUncertain("guangdong did not answer in time"), "failed"),
    ],
)
async def test_whatever_the_issuer_says_the_code_is_repeated_nowhere(
    router: CodeRouter, issuer: Issuer, store: Store, error: RegionError, outcome: str
) -> None:
    """`_asked` leaves the issuer's own words behind."""
    issuer.answer = error
    with pytest.raises(type(error)) as caught:
        await resolved(router)
    raised = caught.value
    said = (raised.public, raised.detail, raised.problems, raised.__cause__)
    assert CODE not in repr(said)
    (row,) = await rows(store, evidence)
    assert (row["id"], row["outcome"], row["reason"]) == (raised.evidence, outcome, raised.stable_code)
    assert CODE not in repr(row)
    assert digest(CODE) not in repr(row)


@pytest.mark.parametrize("code", ["XYZ:unknown-issuer", "hmm:lower-case", "HMM", "HMM.12345678"])
async def test_a_code_of_nobody_here_is_asked_of_nobody(router: CodeRouter, issuer: Issuer, code: str) -> None:
    if len(code) < 8:
        with pytest.raises(InvalidRequest):
            request(code=code)
        return
    with pytest.raises(InvalidRequest) as refused:
        await resolved(router, code=code)
    assert [problem.field for problem in refused.value.problems] == ["code"]
    assert code not in f"{refused.value.public} {refused.value.problems}"
    assert issuer.asked == []


@pytest.mark.parametrize(
    "code",
    [
        "",
        "HMM:123",
        "x" * 513,
        "HMM:with blank",
        "HMM:\u4e2d\u6587-code",
        "HMM:line\nend",
        "HMM:12345678\n",
        7,
        None,
        ["HMM:12345678"],
    ],
)
def test_what_no_scanner_reads_is_no_code(code: Any) -> None:
    """`PresentedCode`; and the refusal does not repeat it."""
    with pytest.raises(InvalidRequest) as refused:
        request(code=code)
    assert [problem.field for problem in refused.value.problems] == ["code"]
    assert not isinstance(code, str) or not code or code not in str(refused.value.problems)


def test_a_code_is_not_printed_with_what_holds_it() -> None:
    """A traceback or a log line may print either."""
    assert CODE not in repr(request())
    assert CODE not in repr(CodeQuestion(CODE, "p", "i", "o"))


@pytest.mark.parametrize("changes", [{"item": "ITEM-2"}, {"purpose_code": "another"}])
async def test_without_a_grant_the_issuer_is_not_asked(
    router: CodeRouter, issuer: Issuer, store: Store, changes: dict[str, str]
) -> None:
    """`_may`: client, item, purpose and region. The code stays unused."""
    with pytest.raises(NotPermitted):
        await resolved(router, **changes)
    with pytest.raises(NotPermitted):
        await router.resolve(OTHER, request())
    assert issuer.asked == []
    assert {row["reason"] for row in await rows(store, evidence)} == {"policy.no_grant"}


async def test_a_closed_region_names_nobody_and_is_not_asked(router: CodeRouter, issuer: Issuer, store: Store) -> None:
    """`_refuse_closed` in `resolve`: the code stays unused."""
    issuer.closed = True
    with pytest.raises(RegionClosed):
        await resolved(router)
    assert issuer.asked == []
    (row,) = await rows(store, evidence)
    assert (row["outcome"], row["reason"]) == ("refused", "region.closed")


async def test_a_region_that_is_closed_while_it_is_asked_names_nobody(
    router: CodeRouter, issuer: Issuer, store: Store
) -> None:
    """`_refuse_closed` in `keep_reference`: the transaction decides, not the look before it."""
    issuer.meanwhile = store
    with pytest.raises(RegionClosed) as refused:
        await resolved(router)
    assert await rows(store, subject_references) == []
    (row,) = await rows(store, evidence)
    assert (row["id"], row["reason"]) == (refused.value.evidence, "region.closed")


async def test_references_of_a_region_that_was_closed_since_open_nothing(
    store: Store, sealer: Sealer, clock: ManualClock
) -> None:
    """`_refuse_closed` in `redeem_reference`; and the reference is not used up by the attempt."""
    new = a_reference(clock)
    await store.write(lambda tx: keep_reference(tx, sealer, new))
    await store.write(close)
    with pytest.raises(RegionClosed):
        await redeem(store, sealer, clock, new.reference)
    (row,) = await rows(store, subject_references)
    assert row["used_at"] is None


def test_the_grant_has_no_certificate_types() -> None:
    assert GRANT.capability is Capability.RESOLVE_CODES
