"""From hand-over to decision through the running gateway: what is asked for, withdrawn, and handled in parts."""

from __future__ import annotations

import secrets
from typing import Any

import orjson
import pytest

from tests.flows.flow_support import CITIZEN, World, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

PENSION = "11440100MBT40100XX3442011899002"
"""Transfer of insurance: two places handle it, one after the other."""


async def asked_for(world: World, region: str) -> tuple[str, dict[str, Any]]:
    world.authorities[region].order("course_supplement", 1)
    case = await world.file(region)
    return case, await world.until(case, "SUPPLEMENT_NOTICE")


async def supplement(world: World, case: str, *codes: str, reference: str = "S1") -> Any:
    materials = [{"code": code, "blob": await world.upload()} for code in codes]
    body = {"reference": reference, "materials": materials}
    return await world.ask("POST", f"/v1/submissions/{case}/supplements", body)


@pytest.mark.parametrize("region", ["guangdong", "foshan"])
async def test_what_a_region_asks_for_is_handed_in_and_the_case_goes_on(world: World, region: str) -> None:
    """The notice, what it names, the supplement over the region's wire, and the region's own word for it."""
    case, shown = await asked_for(world, region)
    wanted = [material["code"] for material in shown["supplement"]["materials"]]
    assert wanted
    assert (shown["supplement"]["why"], shown["supplement"]["due_on"] is not None) == ("notice", True)
    assert "supplement" in shown["can"]
    answer = await supplement(world, case, *wanted)
    assert (answer.status, answer.json()["complete"], answer.json()["missing"]) == (201, True, [])
    done = await world.until(case, "COMPLETED")
    assert done["supplement"] is None
    told = [entry["kind"] for entry in done["timeline"]]
    assert "supplement.handed_in" in told
    assert "SUPPLEMENTED" in [entry["state"] for entry in done["timeline"]]
    (message,) = [message for message in done["messages"] if message["kind"] == "supplement"]
    assert message["state"] == "delivered"


async def test_a_case_is_withdrawn_by_its_regions_own_word(world: World) -> None:
    world.authorities["foshan"].order("course_silent", 1)
    case = await world.file("foshan")
    await world.until(case, "RECEIVED")
    body = {"reference": "W1", "reason": "本人已在原籍办理"}
    answer = await world.ask("POST", f"/v1/submissions/{case}/withdrawal", body)
    assert (answer.status, answer.json()["asked"]) == (202, True)
    ended = await world.until(case, "WITHDRAWN")
    assert {entry["source"] for entry in ended["timeline"] if entry["state"] == "WITHDRAWN"} == {"foshan"}
    again = await world.ask("POST", f"/v1/submissions/{case}/withdrawal", body)
    assert (again.status, again.json()["replayed"]) == (202, True)


async def test_two_places_handle_a_case_one_after_the_other(world: World) -> None:
    """One application, two receipts, one whole: the second place hears of it when the first is done."""
    files = [{"code": code, "blob": await world.upload()} for code in ("ID", "APPLICATION")]
    body = {
        "reference": secrets.token_hex(8), "item": PENSION, "place": "guangdong", "mode": "collect",
        "applicant": CITIZEN, "materials": files,
        "form": {"from_agency": "440000", "to_agency": "440600", "periods": "2015-2026", "contact": "13800000001"},
        "purpose_code": "cross-region-service", "purpose": "Transfer of insurance", "legal_basis": "statutory duty",
        "parts": [{"place": "guangdong", "part": "TRANSFER-OUT"}, {"place": "foshan", "part": "TRANSFER-IN"}],
    }  # fmt: skip
    answer = await world.ask("POST", "/v1/submissions", body)
    assert answer.status == 201, answer.body
    whole = await world.until(answer.json()["id"], "COMPLETED")
    assert [(part["place"], part["state"]) for part in whole["parts"]] == [
        ("guangdong", "COMPLETED"),
        ("foshan", "COMPLETED"),
    ]
    first, second = [await world.case(part["id"]) for part in whole["parts"]]
    assert first["whole"] == second["whole"] == whole["id"]
    assert {number["region"] for number in second["region_numbers"]} == {"foshan"}
    ended = next(entry for entry in first["timeline"] if entry["state"] == "COMPLETED")
    left = next(entry for entry in second["timeline"] if entry["state"] == "FORWARDED")
    assert left["recorded_at"] >= ended["recorded_at"]
    assert "collection" in {clock["name"] for clock in second["clocks"]}
    assert whole["clocks"] == []


async def test_nothing_is_handed_in_that_nobody_asked_for(world: World) -> None:
    case = await world.file("foshan")
    await world.until(case, "COMPLETED")
    answer = await supplement(world, case, "ID")
    assert (answer.status, answer.json()["code"]) == (409, "submission.not_asked")


async def test_a_certificate_that_was_looked_up_stands_for_the_paper(world: World) -> None:
    """The lookup, its evidence, and an application without the paper: nothing of the certificate was kept between."""
    application = await world.application("guangdong", materials=[])
    question = world.question(case=application["reference"], purpose=application["purpose"])
    found = (await world.ask("POST", "/v1/certificates/lookup", question)).json()
    (answer,) = found["answers"]
    named = {"code": "ID", "identifier": answer["certificate"]["identifier"], "lookup": found["evidence"]}
    filed = await world.ask("POST", "/v1/submissions", {**application, "certificates": [named]})
    assert filed.status == 201, filed.body
    case = await world.until(filed.json()["id"], "COMPLETED")
    assert case["timeline"][0]["detail"]["certified"] == ["ID"]
    other = {**application, "reference": "another", "certificates": [named]}
    refused = await world.ask("POST", "/v1/submissions", other)
    assert (refused.status, refused.json()["problems"][0]["code"]) == (422, "not_proved")


async def test_a_case_hears_of_it_when_a_certificate_that_it_rests_on_is_revoked(world: World) -> None:
    """The issuer's notice has it asked about at once; the case is elsewhere, and goes on."""
    application = await world.application("foshan", materials=[])
    question = world.question(case=application["reference"], purpose=application["purpose"])
    found = (await world.ask("POST", "/v1/certificates/lookup", question)).json()
    identifier = found["answers"][0]["certificate"]["identifier"]
    named = {"code": "ID", "identifier": identifier, "lookup": found["evidence"]}
    world.authorities["foshan"].order("course_silent", 1)
    filed = await world.ask("POST", "/v1/submissions", {**application, "certificates": [named]})
    case = (await world.until(filed.json()["id"], "RECEIVED"))["id"]

    async def worth(state: str) -> dict[str, Any]:
        desk = world.layout.ports.authority_url("guangdong")
        said = orjson.dumps({"identifier": identifier, "state": state})
        assert (await world.send("POST", "/control/certificates", data=said, url=desk)).json()["told"] == [200]

        async def look() -> dict[str, Any] | None:
            shown = await world.case(case)
            return shown if shown["certified"][0]["standing"] == state else None

        return await eventually(look)

    revoked = await worth("revoked")
    assert (revoked["state"], revoked["certified"][0]["needed"]) == ("RECEIVED", True)
    again = await worth("valid")
    told = [entry["detail"]["standing"] for entry in again["timeline"] if entry["kind"] == "certificate.changed"]
    assert told == ["revoked", "valid"]
    assert [row["reason"] for row in await world.evidence_of(case, "certificate.recheck")] == ["revoked", "valid"]


@pytest.mark.parametrize(
    ("action", "body", "fields"),
    [
        ("supplements", {}, {"reference"}),
        ("supplements", {"reference": "x" * 65, "materials": [{"code": "ID"}]}, {"reference", "materials.0.blob"}),
        ("supplements", {"reference": "S", "form": {"start": 1}, "other": 1}, {"form.start", "other"}),
        ("supplements", {"reference": "S", "complete": "maybe", "consents": [{}]}, None),
        ("withdrawal", {"reference": "W", "reason": ""}, {"reason"}),
        ("withdrawal", {"reference": "W", "reason": "a\u0000b"}, {"reason"}),
        ("withdrawal", [], {"(body)"}),
        ("return", {"reason": "x" * 501}, {"reason"}),
        ("return", {"reason": None, "reference": "R"}, {"reason", "reference"}),
    ],
)
async def test_a_body_that_is_not_right_is_refused_by_its_fields(
    world: World, action: str, body: Any, fields: set[str] | None
) -> None:
    case = await world.file("foshan")
    refusal = await world.refused(lambda: world.ask("POST", f"/v1/submissions/{case}/{action}", body))
    assert (refusal.status, refusal.code) == (422, "request.invalid")
    assert fields is None or refusal.fields == fields


@pytest.mark.parametrize("action", ["supplements", "withdrawal", "return", "ratings", "complaints"])
@pytest.mark.parametrize("name", ["KY44010044060020261123000001L", "%00", "..%2F..", "x" * 300])
async def test_a_case_that_is_not_there_is_not_found_whatever_its_name(world: World, action: str, name: str) -> None:
    bodies = {
        "supplements": {"reference": "S", "form": {"start": "2026-01-01"}},
        "withdrawal": {"reference": "W", "reason": "r"}, "return": {"reason": "r"},
        "ratings": {"reference": "R", "role": "handling", "score": 5, "channel": "pc"},
        "complaints": {"reference": "C", "text": "t"},
    }  # fmt: skip
    refusal = await world.refused(lambda: world.ask("POST", f"/v1/submissions/{name}/{action}", bodies[action]))
    assert (refusal.status, refusal.code) == (404, "submission.not_found")
