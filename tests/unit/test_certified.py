"""免证办: a certificate stands for a material only when the caller's own lookup has proved it, and then for good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.item import MaterialRule
from gateway.errors import InvalidRequest
from gateway.evidence import Exchange, record
from gateway.evidence.record import who_is
from gateway.storage import Store
from gateway.storage.tables import evidence, submissions
from gateway.submissions.parcels import open_body
from gateway.submissions.rules_kept import RulesKept, figures
from tests.support.cases import REGION
from tests.support.clock import ManualClock
from tests.support.followups import APPLICANT, ASKED, Desk
from tests.support.intake import CALLER, SamePack

KIND, CARD = "11100000000013127D001", "1.2.156.3005.2.11100000000013127D001.1.2.3.X"
_CARD = MaterialRule("CARD", {"zh-CN": "身份证", "en": "Card"}, True, False, KIND, ("ecert", "scan"))
ITEM = replace(ASKED, materials=[_CARD, *ASKED.materials[:2]])


@pytest.fixture
def desk(sqlite_store: Store, sealer: Sealer, references: References, clock: ManualClock) -> Desk:
    desk = Desk(sqlite_store, sealer, references, clock, item=ITEM)
    desk.events.followers = (*desk.events.followers, RulesKept(desk.events).watch)
    return desk


async def looked_up(desk: Desk, **changes: Any) -> str:
    """Return the evidence of a lookup as `CertificateLookup` writes it; `changes` make it prove something else."""
    holder = {"name": "李芳", "document": APPLICANT["document"]}
    known: dict[str, Any] = {
        "action": "certificate.lookup", "outcome": "done", "reason": "valid", "who": who_is(CALLER),
        "purpose": "handling: 核验身份", "received_at": desk.clock(),
        "what": {"case": "A-1", "item": ITEM.code, "type": KIND, "region": "guangdong"},
        "parts": {"holder": orjson.dumps(changes.pop("holder", holder)), "identifier.0": CARD.encode()},
    }  # fmt: skip
    exchange = Exchange(**{**known, **changes})
    return await desk.store.write(lambda tx: record(tx, exchange, now=desk.clock()))


async def file(desk: Desk, lookup: str, reference: str = "A-1", **changes: str) -> str:
    certificate = {"code": "CARD", "identifier": CARD, "lookup": lookup, **changes}
    receipt = await desk.file(reference, materials=[], certificates=[certificate])
    return receipt.submission_id


async def test_a_certificate_that_was_found_valid_stands_for_the_material(desk: Desk) -> None:
    """Which lookup proved it is in the evidence of the case."""
    lookup = await looked_up(desk)
    case = await file(desk, lookup)
    query = select(submissions.c.body).where(submissions.c.id == case)
    body = open_body(desk.sealer, case, await desk.store.read(lambda tx: tx.execute(query).scalar_one()))
    assert body["certified"] == [{"code": "CARD", "identifier": CARD}]
    kept = select(evidence.c.what).where(evidence.c.action == "submission.accept")
    assert (await desk.store.read(lambda tx: tx.execute(kept).scalar_one()))["lookups"] == [lookup]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"who": {"client": "another"}}, "is no lookup of yours"),
        ({"action": "submission.accept"}, "is no lookup of yours"),
        ({"what": {"case": "A-2", "item": ITEM.code, "type": KIND}}, "another item, case"),
        ({"what": {"case": "A-1", "item": "other", "type": KIND}}, "another item, case"),
        ({"what": {"case": "A-1", "item": ITEM.code, "type": "other"}}, "another item, case"),
        ({"purpose": "marketing: 推广"}, "another purpose"),
        ({"reason": "expired"}, "but expired"),
        ({"reason": "unverifiable"}, "but unverifiable"),
        ({"holder": {"name": "王五", "document": APPLICANT["document"]}}, "another holder"),
    ],
)
async def test_a_lookup_proves_nothing_but_what_it_was_for(desk: Desk, changes: dict[str, Any], said: str) -> None:
    lookup = await looked_up(desk, **changes)
    with pytest.raises(InvalidRequest) as refused:
        await file(desk, lookup)
    (problem,) = refused.value.problems
    assert (problem.field, problem.code) == ("certificates.0.lookup", "not_proved")
    assert said in problem.reason
    assert "李芳" not in problem.reason


async def test_a_lookup_of_yesterday_or_of_another_certificate_proves_nothing(desk: Desk) -> None:
    lookup = await looked_up(desk)
    with pytest.raises(InvalidRequest):
        await file(desk, lookup, identifier="another")
    desk.clock.advance(86_401)
    with pytest.raises(InvalidRequest):
        await file(desk, lookup)


async def test_only_a_material_that_a_certificate_can_stand_for_is_certified(desk: Desk) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await file(desk, await looked_up(desk), code="PROOF")
    assert [problem.code for problem in refused.value.problems] == ["not_certifiable"]


async def test_a_place_that_is_not_told_of_certificates_wants_the_material_itself(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard: however well it is proved, the material would only be missing there, and a notice would ask for it."""
    lookup = await looked_up(desk)
    monkeypatch.setattr(SamePack, "lost", frozenset({"certified[].code"}))
    with pytest.raises(InvalidRequest) as refused:
        await file(desk, lookup)
    [problem] = refused.value.problems
    assert (problem.field, problem.code) == ("certificates", "not_certifiable")


async def test_asking_for_the_paper_of_what_was_proved_is_a_violation_and_stops_nothing(desk: Desk) -> None:
    case = await file(desk, await looked_up(desk))
    await desk.handed_over(case)
    await desk.says(case, "SUPPLEMENT_NOTICE", materials=[{"code": "CARD", "paper": True}, {"code": "PROOF"}])
    await desk.says(case, "SUPPLEMENTED")
    assert await desk.store.read(figures) == {("certificate_free", REGION, "agency"): 1}
    entry = next(e for e in (await desk.cases.show(CALLER, case)).timeline if e.kind == "policy.violation")
    assert entry.detail["materials"] == ["CARD"]
    assert await desk.state(case) == "SUPPLEMENTED"
