"""Delegation through the real gateway: a window records a mandate, an agent files by it, and it ends at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from gateway.storage.tables import evidence, mandates
from gateway.submissions.application import Application
from gateway.submissions.intake import digest_of
from tests.flows.flow_support import AGENCY, CITIZEN, FILING, NEWBORN, Refusal, World

pytestmark = pytest.mark.asyncio(loop_scope="session")

OTHER_CARD = {"type": "CN_RIC", "number": "11010519491231002X"}
AGENT = {"name": "黄文员", "document": {"type": "CN_RIC", "number": "440106198806150019"}}
PRINCIPAL = {"name": CITIZEN["name"], "document": CITIZEN["document"]}
SCOPE = "mandates"
PRIVATE = ("黄文员", "440106198806150019")


def paper(**changes: Any) -> dict[str, Any]:
    """Return a mandate on paper that is right."""
    now = datetime.now(UTC)
    return {
        "principal": PRINCIPAL,
        "agent": AGENT,
        "relation": "family",
        "items": [FILING],
        "valid_from": (now - timedelta(hours=1)).isoformat(),
        "valid_until": (now + timedelta(days=30)).isoformat(),
        "form": "F-2026-7",
        "clerk": "C-0417",
        "window": "GZ-01",
        "sighted": ["resident identity cards of both"],
        "purpose_code": "cross-region-service",
        **changes,
    }


async def recorded(world: World, **changes: Any) -> str:
    """Record a mandate and return its id."""
    answer = await world.ask("POST", "/v1/mandates", paper(**changes), scope=SCOPE)
    assert answer.status == 201, answer.body
    return str(answer.json()["id"])


async def revoked(world: World, mandate: str) -> dict[str, Any]:
    answer = await world.ask(
        "POST", f"/v1/mandates/{mandate}/revoke", {"form": "F-2026-8", "clerk": "C-0417"}, scope=SCOPE
    )
    assert answer.status == 200, answer.body
    said: dict[str, Any] = answer.json()
    return said


async def refused_filing(world: World, **changes: Any) -> Refusal:
    body = await world.application("guangdong", **changes)
    return await world.refused(lambda: world.ask("POST", "/v1/submissions", body), *PRIVATE)


# --- recording -----------------------------------------------------------------------------------------------------


async def test_a_window_records_a_mandate_and_sees_it_masked(world: World) -> None:
    mandate = await recorded(world)
    answer = await world.ask("GET", f"/v1/mandates/{mandate}", scope=SCOPE)
    said = answer.json()
    assert (said["serves"], said["lacks"], said["items"], said["revoked_at"]) == (True, [], [FILING], None)
    assert said["principal"] == {"name": "陈**", "document": {"type": "CN_RIC", "number": "**************900X"}}
    assert [word for word in (*PRIVATE, CITIZEN["name"]) if str(word) in answer.body.decode()] == []
    (row,) = [row for row in await world.rows(evidence, action="mandate.make") if row["what"].get("mandate") == mandate]
    assert (row["who"]["client"], row["who"]["operator"], row["who"]["window"]) == (AGENCY, "C-0417", "GZ-01")


async def test_another_agency_neither_sees_nor_ends_it(world: World) -> None:
    """`other-agency` has no scope for it either: the refusal names the scope, and nothing of the mandate."""
    mandate = await recorded(world)
    for method, path in (("GET", f"/v1/mandates/{mandate}"), ("POST", f"/v1/mandates/{mandate}/revoke")):
        refusal = await world.refused(lambda m=method, p=path: world.ask(m, p, {}, client="other-agency"))  # type: ignore[misc] # bound at once
        assert refusal.code == "auth.insufficient_scope"
    answer = await world.ask("GET", f"/v1/mandates/{mandate}", scope=SCOPE)
    assert answer.json()["serves"] is True


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"items": ["*"]}, "delegation.invalid", "items"),
        ({"items": []}, "request.invalid", "items"),
        ({"valid_until": "2099-01-01T00:00:00Z"}, "delegation.invalid", "valid_until"),
        ({"valid_until": "tomorrow"}, "request.invalid", "valid_until"),
        ({"sighted": []}, "request.invalid", "sighted"),
        ({"relation": "neighbour"}, "request.invalid", "relation"),
        ({"agent": PRINCIPAL}, "delegation.invalid", "agent"),
        ({"agent": {"document": AGENT["document"]}}, "delegation.invalid", "agent.name"),
        ({"purpose_code": "another"}, "policy.no_grant", None),
    ],
)
async def test_a_mandate_that_may_not_be_is_refused(
    world: World, changes: dict[str, Any], code: str, field: str | None
) -> None:
    kept = len(await world.rows(mandates))
    refusal = await world.refused(lambda: world.ask("POST", "/v1/mandates", paper(**changes), scope=SCOPE), *PRIVATE)
    assert refusal.code == code
    assert field is None or field in refusal.fields
    assert len(await world.rows(mandates)) == kept


async def test_a_mandate_that_is_not_there_is_not_found(world: World) -> None:
    refusal = await world.refused(lambda: world.ask("GET", "/v1/mandates/MD0", scope=SCOPE))
    assert (refusal.status, refusal.code) == (404, "delegation.unknown")


# --- filing --------------------------------------------------------------------------------------------------------


async def test_an_agent_files_for_the_principal_and_the_case_says_by_which_mandate(world: World) -> None:
    mandate = await recorded(world)
    case = await world.file("guangdong", agent=AGENT, mandate=mandate)
    (row,) = await world.evidence_of(case, "submission.accept")
    assert row["what"]["mandate"] == mandate
    assert "agent" in row["parts"]
    shown = await world.case(case)
    assert shown["timeline"][0]["detail"]["mandate"] == mandate


async def test_the_region_gets_the_applicant_and_never_the_agent_in_that_place(world: World) -> None:
    """An agent never stands for the applicant: what is handed over is the principal's application."""
    case = await world.file("guangdong", agent=AGENT, mandate=await recorded(world))
    await world.until(case, "RECEIVED", "ACCEPTED", "DECIDED", "COMPLETED", "DELIVERED")
    books = repr(await world.ledger("guangdong"))
    assert case in books
    assert [word for word in PRIVATE if word in books] == []


async def test_a_filing_that_is_sent_again_after_the_revocation_gets_its_receipt(world: World) -> None:
    """It was accepted under a live mandate; asking again is no new use."""
    mandate = await recorded(world)
    body = await world.application("guangdong", agent=AGENT, mandate=mandate)
    first = await world.ask("POST", "/v1/submissions", body)
    await revoked(world, mandate)
    again = await world.ask("POST", "/v1/submissions", body)
    assert (first.status, again.status) == (201, 200)
    assert again.json()["id"] == first.json()["id"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"agent": {**AGENT, "name": "别人"}}, "delegation.other_agent"),
        ({"agent": {**AGENT, "document": OTHER_CARD}}, "delegation.other_agent"),
        ({"applicant": {**CITIZEN, "name": "别人"}}, "delegation.other_principal"),
        ({"mandate": "MD" + "0" * 32}, "delegation.not_found"),
    ],
)  # fmt: skip
async def test_a_mandate_serves_only_its_own_agent_and_principal(
    world: World, changes: Mapping[str, Any], code: str
) -> None:
    """Guarded by `Intake._may_act`."""
    mandate = await recorded(world)
    refusal = await refused_filing(world, **{"agent": AGENT, "mandate": mandate, **changes})
    assert (refusal.status, refusal.code) == (403, code)


async def test_a_mandate_for_another_item_serves_nothing_here(world: World) -> None:
    refusal = await refused_filing(world, agent=AGENT, mandate=await recorded(world, items=[NEWBORN]))
    assert refusal.code == "delegation.other_item"


async def test_a_mandate_that_begins_later_does_not_serve_yet(world: World) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    refusal = await refused_filing(world, agent=AGENT, mandate=await recorded(world, valid_from=later.isoformat()))
    assert refusal.code == "delegation.not_yet"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"agent": AGENT}, "mandate"),
        ({"mandate": "MD1"}, "agent"),
        ({"agent": {"document": AGENT["document"]}, "mandate": "MD1"}, "agent.name"),
        ({"agent": {**AGENT, "document": {"type": "CN_RIC", "number": "440106198806150018"}}, "mandate": "MD1"},
         "agent.document.number"),
    ],
)  # fmt: skip
async def test_agent_and_mandate_come_together_and_whole(world: World, changes: Mapping[str, Any], field: str) -> None:
    refusal = await refused_filing(world, **changes)
    assert (refusal.code, refusal.fields) == ("request.invalid", {field})


async def test_a_revocation_counts_for_the_next_filing_and_for_all_that_follow(world: World) -> None:
    mandate = await recorded(world)
    await world.file("guangdong", agent=AGENT, mandate=mandate)
    said = await revoked(world, mandate)
    assert (said["serves"], said["lacks"]) == (False, ["revoked"])
    refusal = await refused_filing(world, agent=AGENT, mandate=mandate)
    assert refusal.code == "delegation.revoked"
    assert refusal.row["what"]["mandate"] == mandate


async def test_filings_that_race_a_revocation_are_accepted_before_it_or_refused(world: World) -> None:
    """Nothing lies between: an accepted case was committed under a live mandate, as its evidence shows."""
    mandate = await recorded(world)
    bodies = [await world.application("guangdong", agent=AGENT, mandate=mandate) for _ in range(6)]
    sent = [world.ask("POST", "/v1/submissions", body) for body in bodies]
    ending = world.ask("POST", f"/v1/mandates/{mandate}/revoke", {"form": "F", "clerk": "C"}, scope=SCOPE)
    answers = await asyncio.gather(*sent[:3], ending, *sent[3:])
    outcomes = [(answer.status, answer.json().get("code")) for answer in (*answers[:3], *answers[4:])]
    assert set(outcomes) <= {(201, None), (403, "delegation.revoked")}
    assert (await refused_filing(world, agent=AGENT, mandate=mandate)).code == "delegation.revoked"


# --- certificates --------------------------------------------------------------------------------------------------


async def test_an_agent_looks_the_principals_certificate_up_by_the_mandate(world: World) -> None:
    mandate = await recorded(world)
    body = world.question(holder_role="principal", agent=AGENT, mandate=mandate)
    answer = await world.ask("POST", "/v1/certificates/lookup", body)
    assert answer.status == 200, answer.body
    rows = await world.rows(evidence, id=answer.json()["evidence"])
    assert rows[0]["what"]["mandate"] == mandate


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "request.invalid"),
        ({"agent": AGENT}, "request.invalid"),
        ({"holder_role": "applicant", "agent": AGENT, "mandate": "MD1"}, "request.invalid"),
        ({"agent": {**AGENT, "name": "别人"}, "mandate": "RIGHT"}, "delegation.other_agent"),
        ({"agent": AGENT, "mandate": "REVOKED"}, "delegation.revoked"),
        ({"agent": AGENT, "mandate": "RIGHT", "item": {"code": NEWBORN, "name": "出生登记"}}, "delegation.other_item"),
    ],
)
async def test_a_principal_is_nobody_without_a_live_mandate(
    world: World, changes: Mapping[str, Any], code: str
) -> None:
    """Domain rule P8; guarded by `CertificateLookup._principal`. Before, `principal` was taken at the caller's word."""
    body = world.question(holder_role="principal")
    body.update(changes)
    if body.get("mandate") in {"RIGHT", "REVOKED"}:
        ended = body["mandate"] == "REVOKED"
        body["mandate"] = await recorded(world)
        if ended:
            await revoked(world, body["mandate"])
    refusal = await world.refused(lambda: world.ask("POST", "/v1/certificates/lookup", body), *PRIVATE)
    assert refusal.code == code


# --- business idempotency ------------------------------------------------------------------------------------------


async def test_whoever_files_for_oneself_says_what_was_said_before_agents_could_file() -> None:
    """Guarded in `digest_of`: what an earlier release has stored is still the same application when sent again."""
    said = {
        "reference": "r", "item": FILING, "place": "guangdong", "mode": "online", "applicant": CITIZEN, "form": {},
        "purpose_code": "p", "purpose": "p", "legal_basis": "l",
    }  # fmt: skip
    application = Application.model_validate(said)
    whole = application.model_dump(mode="json")
    known = ("applicant", "consents", "form", "item", "legal_basis", "materials", "mode", "place", "purpose")
    earlier = {name: whole[name] for name in (*known, "purpose_code", "reference")}
    expected = hashlib.sha256(orjson.dumps(earlier, option=orjson.OPT_SORT_KEYS)).hexdigest()
    assert digest_of(application, {}) == expected
    by_agent = Application.model_validate({**said, "agent": AGENT, "mandate": "MD1"})
    assert digest_of(by_agent, {}) != expected
