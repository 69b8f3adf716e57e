"""Submissions from the agency's POST to the region's result, whatever the region does in between."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.evidence.record import digest_of
from gateway.storage.tables import consents, deliveries, event_conflicts, submissions
from tests.flows.flow_support import PURPOSE, SLIP, SUBMIT_AT, World, eventually, neighbourhood, prepare
from tests.support.few_regions import THREE

pytestmark = pytest.mark.asyncio(loop_scope="session")

REGIONS = ("foshan", "guangdong", "hongkong")
FROM_REGION = ["RECEIVED", "ACCEPTED", "DECIDED", "COMPLETED"]
NUMBERS = {"foshan": r"FS\d{12}", "guangdong": r"440000\d{18}", "hongkong": r"HK\d{10}"}


def said_by(case: dict[str, Any], source: str) -> list[str]:
    return [entry["state"] for entry in case["timeline"] if (entry["source"], entry["kind"]) == (source, "step")]


async def taken(world: World, region: str, submission_id: str) -> tuple[int, int]:
    """Return how many cases the authority opened for a submission, and how many messages of it arrived."""
    books = await world.ledger(region)
    return sum(key == submission_id for key in books["cases"]), int(books["arrivals"].get(submission_id, 0))


async def settled(world: World, submission_id: str) -> dict[str, Any]:
    """Wait until the delivery row is settled, and return the case: an event may be faster than our own commit."""

    async def look() -> dict[str, Any] | None:
        case = await world.case(submission_id)
        return case if case["delivery"]["state"] in {"delivered", "dead"} and "FORWARDED" in str(case) else None

    return await eventually(look)


# --- the way through ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", [*REGIONS, "hunan", "shenzhen", "macau"])  # for all that share its exchange
async def test_an_application_reaches_its_region_and_its_result_comes_back(world: World, region: str) -> None:
    """The second of the gateway's three jobs, in every wire format that is built."""
    submission_id = await world.file(region)
    await world.until(submission_id, "COMPLETED")
    case = await settled(world, submission_id)
    assert case["timeline"][0]["state"] == "COLLECTED"
    assert said_by(case, "gateway") == ["COLLECTED", "FORWARDED"]
    assert said_by(case, region) == FROM_REGION
    steps = [entry["seq"] for entry in case["timeline"] if entry["kind"] == "step"]
    assert steps == [1, 2, 3, 4, 5, 6]  # facts may follow: documents that were fetched
    assert case["holder"] == "nobody"
    clocks = {clock["name"]: clock["state"] for clock in case["clocks"]}
    assert clocks.keys() >= {"collection", "acceptance", "decision_promised", "decision_statutory"}
    assert set(clocks.values()) == {"met"}
    assert case["delivery"] == {"state": "delivered", "attempts": 1, "code": "ok", "text": None}
    assert await taken(world, region, submission_id) == (1, 1)


@pytest.mark.parametrize("region", REGIONS)
async def test_the_regions_own_number_is_kept_with_the_case(world: World, region: str) -> None:
    """A citizen who calls the region is asked for the region's number, not for ours."""
    submission_id = await world.file(region)
    case = await world.until(submission_id, "COMPLETED")
    (numbers,) = case["region_numbers"]
    assert numbers["region"] == region
    assert re.fullmatch(NUMBERS[region], numbers["number"])
    assert (numbers["short_number"] is not None) is (region == "guangdong")


async def test_a_clerk_sees_masked_people_and_the_database_sees_none(world: World) -> None:
    """Domain rule P9, and encryption at rest: a name or a number stands in no readable column."""
    submission_id = await world.file("guangdong")
    case = await world.case(submission_id)
    assert case["applicant"] == {"name": "陈**", "document_number": "**************900X"}
    (row,) = await world.rows(submissions, id=submission_id)
    readable = {name: value for name, value in row.items() if name != "body"}
    assert "陈小明" not in str(readable)
    assert "44010619900101900X" not in str(readable)
    assert "陈小明".encode() not in row["body"]


async def test_what_a_region_says_of_a_case_is_sealed(world: World) -> None:
    """A remark (审批意见) is free text in which a region may name anybody."""
    applicant = {**(await world.application("guangdong"))["applicant"], "name": "不予受理"}
    submission_id = await world.file("guangdong", applicant=applicant)
    case = await world.until(submission_id, "NOT_ACCEPTED")
    said = [str(value) for value in case["timeline"][-1]["detail"].values()]
    kept = (await world.timeline(submission_id))[-1]["detail"]
    assert any("不予受理" in value for value in said)
    assert [value for value in (*said, "不予受理", "reason") if value.encode() in kept] == []


async def test_the_consent_behind_a_transfer_is_kept_with_the_case(world: World) -> None:
    """Domain rule P3: the consent can be shown later, with recipient, purpose, fields and term.

    It is the one that carries the transfer: another that the person once gave does not take its place.
    """
    right = (await world.application("hongkong"))["consents"][0]
    lapsed = {**right, "purpose": "Marketing", "expires_at": "2026-01-02T00:00:00Z", "evidence": "signed form 6"}
    submission_id = await world.file("hongkong", consents=[lapsed, right])
    (kept,) = await world.rows(consents, case_no=submission_id)
    assert kept["id"].startswith("CNS")
    assert (kept["recipient"], kept["purpose"], kept["legal_basis"]) == ("hongkong", PURPOSE, "statutory duty")
    assert "applicant.document" in kept["fields"]
    assert "form.service" in kept["fields"]
    assert (kept["recorded_by"], kept["evidence"]) == ("demo-agency", "signed form 7")
    assert kept["basis"] == "GBA-SC-HK GBA-SANDBOX-2026-0001"


async def test_a_case_of_another_client_does_not_exist(world: World) -> None:
    """An agency learns nothing of another's cases, not even that there is one."""
    submission_id = await world.file("foshan")
    refusal = await world.refused(
        lambda: world.ask("GET", f"/v1/submissions/{submission_id}", client="other-agency"), submission_id
    )
    assert (refusal.status, refusal.code) == (404, "submission.not_found")
    unknown = await world.refused(lambda: world.ask("GET", "/v1/submissions/KY-NOT-THERE"), "KY-NOT-THERE")
    assert {**unknown.problem, "instance": ""} == {**refusal.problem, "instance": ""}


# --- business idempotency ----------------------------------------------------------------------------------------


async def test_the_same_application_again_gets_the_same_receipt(world: World) -> None:
    """A caller that lost our answer sends again; that must not make a second case, now or a year later."""
    body = await world.application("foshan")
    first = await world.ask("POST", "/v1/submissions", body)
    await world.until(first.json()["id"], "COMPLETED")
    again = await world.ask("POST", "/v1/submissions", body)
    assert (first.status, first.json()["replayed"]) == (201, False)
    assert (again.status, again.json()["replayed"]) == (200, True)
    assert again.json() == {**first.json(), "replayed": True, "state": "COMPLETED"}
    assert again.headers["Location"] == first.headers["Location"]
    assert await taken(world, "foshan", first.json()["id"]) == (1, 1)


async def test_another_application_under_the_same_reference_is_a_conflict(world: World) -> None:
    """The refusal names the submission that holds the reference, so that the caller can look at it."""
    body = await world.application("guangdong")
    first = await world.ask("POST", "/v1/submissions", body)
    other = {**body, "form": {**body["form"], "hospital": "别的医院"}}
    refusal = await world.refused(lambda: world.ask("POST", "/v1/submissions", other), "别的医院")
    assert (refusal.status, refusal.code) == (409, "submission.reference_conflict")
    assert refusal.fields == {"reference"}
    assert first.json()["id"] in refusal.problem["detail"]


async def test_one_reference_means_one_submission_for_each_client(world: World) -> None:
    """References are the caller's own; two agencies may count alike."""
    body = await world.application("foshan")
    other = await world.application("foshan", client="other-agency", reference=body["reference"])
    first = await world.ask("POST", "/v1/submissions", body)
    second = await world.ask("POST", "/v1/submissions", other, client="other-agency")
    assert (first.status, second.status) == (201, 201)
    assert first.json()["id"] != second.json()["id"]


async def test_twenty_identical_posts_at_once_make_one_submission(world: World) -> None:
    """Exactly one of them is new; all get the same receipt."""
    body = await world.application("guangdong")
    await world.token()
    answers = await asyncio.gather(*(world.ask("POST", "/v1/submissions", body) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [200] * 19 + [201]
    ids = {answer.json()["id"] for answer in answers}
    assert len(ids) == 1
    assert len(await world.rows(submissions, client_reference=body["reference"])) == 1
    assert len(await world.rows(deliveries, submission_id=ids.pop())) == 1


# --- regions that misbehave --------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("mode", ["down", "garbage", "lost_answer"])
async def test_a_region_that_fails_once_still_takes_the_case_exactly_once(world: World, region: str, mode: str) -> None:
    """The outcome of the first attempt is unknown to us; the region is asked before anything is sent again.

    Only lost_answer takes the case without telling us.
    """
    world.authorities[region].trap(SUBMIT_AT[region], mode)
    await _once_in_spite_of_a_failure(world, region, "reconciled" if mode == "lost_answer" else "sent")


async def test_regions_that_are_too_slow_still_take_their_cases_exactly_once(world: World) -> None:
    """All three at once: a region that lets us wait costs the others nothing."""
    for region in REGIONS:
        world.authorities[region].trap(SUBMIT_AT[region], "slow", seconds=2.5)
    await asyncio.gather(*(_once_in_spite_of_a_failure(world, region, "sent") for region in REGIONS))


async def _once_in_spite_of_a_failure(world: World, region: str, told: str) -> None:
    submission_id = await world.file(region)
    await world.until(submission_id, "COMPLETED")
    case = await settled(world, submission_id)
    assert said_by(case, region) == FROM_REGION
    assert await taken(world, region, submission_id) == (1, 1)
    attempts = await world.evidence_of(submission_id, "submission.deliver")
    assert [(row["outcome"], row["reason"]) for row in attempts] == [("failed", "region.uncertain"), ("done", told)]


@pytest.mark.parametrize("region", REGIONS)
async def test_an_event_that_is_sent_twice_stands_once_in_the_timeline(world: World, region: str) -> None:
    """Regions repeat themselves; the pair of region and event id counts once and makes no conflict."""
    world.authorities[region].order("duplicate_callback", 4)
    submission_id = await world.file(region)
    case = await world.until(submission_id, "COMPLETED")
    assert said_by(case, region) == FROM_REGION
    assert await world.rows(event_conflicts, submission_id=submission_id) == []
    assert await taken(world, region, submission_id) == (1, 1)


@pytest.mark.parametrize("region", REGIONS)
async def test_an_upload_that_fails_is_no_doubt_about_the_case(world: World, region: str) -> None:
    """Before the message itself has left, a failure means: send again at once, with nothing to ask."""
    upload = {"foshan": "#UploadMaterial", "guangdong": "/materials/", "hongkong": "/documents/upload"}[region]
    world.authorities[region].trap(upload, "garbage")
    submission_id = await world.file(region)
    await world.until(submission_id, "COMPLETED")
    attempts = await world.evidence_of(submission_id, "submission.deliver")
    assert [(row["outcome"], row["reason"]) for row in attempts] == [("failed", "region.unreachable"), ("done", "sent")]
    assert await taken(world, region, submission_id) == (1, 1)


@pytest.mark.parametrize("region", REGIONS)
async def test_a_case_that_the_region_does_not_accept_ends_with_its_reason(world: World, region: str) -> None:
    """Not accepted (不予受理) is the region's decision about the case, not a failure of the delivery."""
    applicant = {**(await world.application(region))["applicant"], "name": "不予受理"}
    submission_id = await world.file(region, applicant=applicant)
    case = await world.until(submission_id, "NOT_ACCEPTED")
    assert said_by(case, region) == ["RECEIVED", "NOT_ACCEPTED"]
    assert case["holder"] == "nobody"
    reason = case["timeline"][-1]["detail"]["reason"]
    assert "不予受理" in reason


# --- evidence of what left ---------------------------------------------------------------------------------------


async def test_what_is_sent_is_written_down_before_the_region_answers(world: World) -> None:
    """If we died while it has not answered, this row would be all that is known of what left us."""
    world.authorities["foshan"].trap(SUBMIT_AT["foshan"], "slow", seconds=2.5)
    submission_id = await world.file("foshan")

    async def leaving() -> list[dict[str, Any]]:
        return await world.evidence_of(submission_id, "submission.send")

    (row,) = await eventually(leaving)
    assert await world.evidence_of(submission_id, "submission.deliver") == []
    assert (row["outcome"], row["reason"], row["answered_at"]) == ("done", "leaving", None)
    assert row["parts"]["document"]["size"] > 0
    assert re.fullmatch(r"[0-9a-f]{64}", row["parts"]["document"]["sha256"])
    material = row["parts"]["material.ID"]
    digest = hashlib.sha256(SLIP).hexdigest().encode()
    assert digest_of(digest, bytes.fromhex(material["salt"])) == material
    await settled(world, submission_id)
    attempts = await world.evidence_of(submission_id, "submission.deliver")
    assert [(row["outcome"], row["reason"]) for row in attempts] == [("failed", "region.uncertain"), ("done", "sent")]
    assert len(await leaving()) == 2


@pytest.mark.parametrize("region", REGIONS)
async def test_a_lost_answer_leaves_one_message_and_two_outcomes_on_record(world: World, region: str) -> None:
    """Sent, then in doubt, then found at the region: the rows tell it in that order, each with its digest."""
    world.authorities[region].trap(SUBMIT_AT[region], "lost_answer")
    submission_id = await world.file(region)
    await settled(world, submission_id)
    (sent,) = await world.evidence_of(submission_id, "submission.send")
    failed, found = await world.evidence_of(submission_id, "submission.deliver")
    assert sent["recorded_at"] < failed["recorded_at"] < found["recorded_at"]
    assert (failed["outcome"], found["outcome"], found["reason"]) == ("failed", "done", "reconciled")
    assert (set(failed["parts"]), set(found["parts"])) == (set(), {"receipt"})
    assert "document" in sent["parts"]


async def test_a_case_in_doubt_at_a_region_that_cannot_be_asked_waits_for_a_person(world: World) -> None:
    """Macau took it, and its answer was lost: to send it again, or to leave it, would both be a guess."""
    world.authorities["macau"].trap(SUBMIT_AT["macau"], "lost_answer")
    submission_id = await world.file("macau")

    async def waits() -> dict[str, Any] | None:
        case = await world.case(submission_id)
        return case if case["delivery"]["state"] == "dead" else None

    case = await eventually(waits)
    assert case["delivery"]["code"] == "region.cannot_be_asked"
    assert await taken(world, "macau", submission_id) == (1, 1)


# --- refused by the region, out of attempts, out of reach --------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="session")
async def impatient(tmp_path: Path) -> AsyncIterator[World]:
    """A gateway that gives up after three attempts, whose breaker opens early, and a Guangdong that knows no item."""
    changes = {
        "breaker_failures = 1000": "breaker_failures = 3\nattempts = 3",
        "breaker_seconds = 1": "breaker_seconds = 2",
    }
    async with neighbourhood(prepare(tmp_path, changes=changes, items={"guangdong": []}, regions=THREE)) as world:
        yield world


async def test_a_message_that_the_region_refuses_is_not_sent_again(impatient: World) -> None:
    """A definite no is final: the case waits for a person, with the region's reason and without the applicant."""
    submission_id = await impatient.file("guangdong")
    case = await impatient.until(submission_id, "DELIVERY_FAILED")
    assert (case["delivery"]["state"], case["delivery"]["attempts"]) == ("dead", 1)
    assert case["delivery"]["code"] == "region.refused"
    assert case["timeline"][-1]["detail"]["code"] == "region.refused"
    assert "guangdong refused the message" in case["timeline"][-1]["detail"]["reason"]
    assert case["holder"] == "gateway"
    assert await taken(impatient, "guangdong", submission_id) == (0, 0)
    attempts = await impatient.evidence_of(submission_id, "submission.deliver")
    assert [(row["outcome"], row["reason"]) for row in attempts] == [("failed", "region.refused")]


async def test_a_region_that_is_away_is_left_alone_while_the_others_serve(impatient: World) -> None:
    """The breaker of one region opens, /readyz says so, and the next region's case goes through meanwhile."""
    impatient.authorities["foshan"].order("down")
    waiting = await impatient.file("foshan")

    async def degraded() -> str | None:
        shown = await impatient.send("GET", "/readyz", url=impatient.admin_url)
        assert shown.status == 200
        return shown.body.decode() if b"region foshan: degraded" in shown.body else None

    shown = await eventually(degraded)
    assert "gateway: ready" in shown
    assert "region hongkong: ok" in shown
    served = await impatient.file("hongkong")
    await impatient.until(served, "COMPLETED")
    impatient.authorities["foshan"].behave()
    await impatient.until(waiting, "COMPLETED", "DELIVERY_FAILED")


async def test_after_the_last_uncertain_outcome_a_delivery_waits_for_a_person(impatient: World) -> None:
    """The count stands in the row, so "three times" never becomes endless; each of them is evidence."""
    for _ in range(3):
        impatient.authorities["hongkong"].trap(SUBMIT_AT["hongkong"], "garbage")
    submission_id = await impatient.file("hongkong")
    case = await impatient.until(submission_id, "DELIVERY_FAILED")
    assert (case["delivery"]["state"], case["delivery"]["code"]) == ("dead", "region.uncertain")
    assert case["timeline"][-1]["detail"]["code"] == "region.uncertain"
    attempts = await impatient.evidence_of(submission_id, "submission.deliver")
    assert [(row["outcome"], row["reason"]) for row in attempts] == [("failed", "region.uncertain")] * 3
    assert await taken(impatient, "hongkong", submission_id) == (0, 0)


async def test_an_outage_of_a_region_uses_no_attempt_up(impatient: World) -> None:
    """What certainly was not taken is sent until it is; a case does not die of a region's maintenance."""
    for _ in range(5):
        impatient.authorities["foshan"].trap("#UploadMaterial", "down")
    submission_id = await impatient.file("foshan")
    await impatient.until(submission_id, "COMPLETED")
    assert impatient.authorities["foshan"].traps == []
    assert await taken(impatient, "foshan", submission_id) == (1, 1)
