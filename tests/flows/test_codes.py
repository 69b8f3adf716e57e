"""City codes through the running gateway: shown on a phone, scanned at a counter, resolved by their issuer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from gateway.app import utc_now
from gateway.errors import NotFound
from gateway.identity.records import digest
from gateway.identity.subject_references import redeem_reference
from gateway.opening import own_keys
from gateway.storage.tables import evidence, metadata, subject_references
from tests.flows.flow_support import AGENCY, Answer, World

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOLDER = "UCGD000000000001"


async def shown(world: World, account: str = "citizen") -> str:
    """Have a person show a code, as on a phone."""
    sent = {"account": account}
    async with world.http.post(f"{world.layout.ports.authority_url('guangdong')}/control/codes", json=sent) as answer:
        assert answer.status == 200
        return str((await answer.json())["code"])


def question(code: str) -> dict[str, Any]:
    return {
        "code": code,
        "operator": "T0001",
        "item": "11440100MBT40100XX3442011899001",
        "purpose_code": "cross-region-service",
        "purpose": "Identity check at the counter",
        "legal_basis": "statutory duty",
    }


async def present(world: World, shown_code: str, *, scope: str = "codes", **changes: Any) -> Answer:
    body = {**question(shown_code), **changes}
    return await world.ask("POST", "/v1/codes/resolve", body, scope=scope)


async def everything_kept(world: World) -> str:
    """Return every row of the store as text."""
    return repr([await world.rows(table) for table in metadata.sorted_tables])


async def test_a_shown_code_becomes_a_reference_to_its_holder(world: World) -> None:
    code = await shown(world)
    answer = await present(world, code)
    assert answer.status == 200, answer.body
    found = answer.json()
    assert set(found) == {"subject_reference", "issuer", "assurance", "expires_at", "evidence"}
    assert (found["issuer"], found["assurance"]) == ("guangdong", "A2")
    assert HOLDER not in answer.body.decode()
    assert answer.headers["Cache-Control"] == "no-store"
    (row,) = await world.rows(subject_references, reference_hash=digest(found["subject_reference"]))
    assert (row["client_id"], row["region"], row["used_at"]) == (AGENCY, "guangdong", None)
    (proof,) = await world.rows(evidence, id=found["evidence"])
    assert (proof["action"], proof["outcome"], proof["who"]["operator"]) == ("code.resolve", "done", "T0001")


async def test_the_reference_is_redeemed_once_by_the_client_that_got_it(world: World) -> None:
    reference = (await present(world, await shown(world))).json()["subject_reference"]
    sealer = own_keys(world.config)[0]

    async def redeem(client: str) -> str:
        found = await world.store.write(
            lambda tx: redeem_reference(tx, sealer, reference=reference, client_id=client, now=utc_now())
        )
        return found.subject.reveal()

    with pytest.raises(NotFound):
        await redeem("other-agency")
    outcomes = await asyncio.gather(*(redeem(AGENCY) for _ in range(8)), return_exceptions=True)
    assert [outcome for outcome in outcomes if isinstance(outcome, str)] == [HOLDER]


async def test_a_code_serves_once_and_the_issuer_says_so(world: World) -> None:
    """A photograph of somebody's screen comes too late."""
    code = await shown(world)
    assert (await present(world, code)).status == 200
    refusal = await world.refused(lambda: present(world, code), code, code.partition(":")[2], where="region")
    assert (refusal.status, refusal.code, refusal.problem["region"]) == (422, "region.refused", "guangdong")
    assert refusal.row["what"]["region"] == "guangdong"


async def test_the_same_code_shown_at_eight_counters_at_once_opens_one(world: World) -> None:
    code = await shown(world)
    answers = await asyncio.gather(*(present(world, code) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [200] + [422] * 7


async def test_a_code_that_was_shown_before_is_good_no_more(world: World) -> None:
    first, second = await shown(world), await shown(world)
    assert (await present(world, first)).status == 422
    assert (await present(world, second)).status == 200


async def test_the_code_is_kept_nowhere_and_said_nowhere(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """No row, no log line, no answer holds it, nor its plain hash, whether it was resolved or not."""
    used, unused, odd = await shown(world), await shown(world, "clerk"), "HMM:no such code at all"
    with structlog.testing.capture_logs() as said:
        answers = [await present(world, used), await present(world, used), await present(world, odd)]
        answers.append(await present(world, unused, purpose_code="another"))
    kept = await everything_kept(world)
    for code in (used, unused, odd):
        for trace in (code, code.partition(":")[2], digest(code)):
            assert trace not in kept
            assert trace not in repr(said) + caplog.text
            assert not [answer for answer in answers if trace in answer.body.decode()]
    assert HOLDER not in kept
    assert [answer.status for answer in answers] == [200, 422, 422, 403]


# --- refused before the issuer is asked ----------------------------------------------------------------------------


async def test_a_code_of_nobody_here_is_refused_and_leaves_evidence(world: World) -> None:
    refusal = await world.refused(lambda: present(world, "XYZ:0123456789"), "XYZ:0123456789")
    assert (refusal.status, refusal.code, refusal.fields) == (422, "request.invalid", {"code"})
    assert refusal.row["action"] == "code.resolve"


async def test_without_grant_or_scope_the_issuer_is_not_asked(world: World) -> None:
    """And the code stays good: who may not ask uses nothing up."""
    code, asked = await shown(world), len(world.authorities["guangdong"].seen)
    lacking = await world.refused(lambda: present(world, code, purpose_code="another"), code)
    assert (lacking.status, lacking.code) == (403, "policy.no_grant")
    scope = await world.refused(lambda: present(world, code, scope="submissions"), code)
    assert (scope.status, scope.code) == (403, "auth.insufficient_scope")
    token = await world.refused(lambda: world.ask("POST", "/v1/codes/resolve", question(code), token=""), code)
    assert (token.status, token.code) == (401, "auth.missing_token")
    assert len(world.authorities["guangdong"].seen) == asked
    assert (await present(world, code)).status == 200


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"code": "HMM:" + "x" * 600}, "code"),
        ({"code": "HMM:<script>alert(1)</script>"}, "code"),
        ({"code": None}, "code"),
        ({"purpose": "x" * 201}, "purpose"),
        ({"purpose": " "}, "purpose"),
        ({"operator": ""}, "operator"),
        ({"item": "\x00"}, "item"),
        ({"legal_basis": None}, "legal_basis"),
        ({"subject": "somebody"}, "subject"),
    ],
)
async def test_a_request_that_is_not_right_names_the_field(world: World, changes: dict[str, Any], field: str) -> None:
    refusal = await world.refused(lambda: present(world, "HMM:0123456789", **changes), "<script>")
    assert (refusal.status, refusal.fields) == (422, {field})


# --- issuers that fail or lie --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "status", "code"),
    [
        ("down", 502, "region.uncertain"),
        ("garbage", 502, "region.uncertain"),
        ("lost_answer", 502, "region.uncertain"),
        ("code_answer_to_another_question", 502, "region.uncertain"),
        ("code_answer_without_a_person", 502, "region.uncertain"),
        ("code_answer_that_is_over", 502, "region.uncertain"),
        ("code_repeated_in_the_refusal", 422, "region.refused"),
    ],
)
async def test_an_issuer_that_fails_or_lies_makes_no_reference(world: World, mode: str, status: int, code: str) -> None:
    """A problem document with where the fault lies, an evidence row, and nothing of the code in either."""
    shown_code, before = await shown(world), len(await world.rows(subject_references))
    world.authorities["guangdong"].trap("citycodes/resolve", mode)
    answer = await present(world, shown_code)
    assert (answer.status, answer.json()["code"], answer.json()["where"]) == (status, code, "region")
    assert shown_code.partition(":")[2] not in answer.body.decode()
    (row,) = await world.rows(evidence, id=answer.json()["instance"].rpartition(":")[2])
    assert (row["action"], row["reason"]) == ("code.resolve", code)
    assert shown_code.partition(":")[2] not in repr(row)
    assert len(await world.rows(subject_references)) == before


async def test_an_issuer_may_neither_prolong_a_reference_nor_raise_a_level(world: World) -> None:
    authority = world.authorities["guangdong"]
    authority.order("code_answer_without_end", 1)
    endless = (await present(world, await shown(world))).json()
    (row,) = await world.rows(subject_references, reference_hash=digest(endless["subject_reference"]))
    assert (row["expires_at"] - utc_now()).total_seconds() <= 300
    authority.order("code_of_an_unknown_level", 1)
    assert (await present(world, await shown(world))).json()["assurance"] == "A0"
