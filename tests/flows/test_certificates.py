"""Certificates looked up live where they were issued: every standing, and what is said when nobody answers."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from gateway.storage.tables import evidence
from tests.flows.flow_support import AGENCY, LOOK_UP_AT, PRIVATE, TRAVELLER, World, consent, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

LICENCE = {"certificate_type": "营业执照", "issuer": "foshan"}
DELTA_LTD = {"name": "湾区示例有限公司", "document": {"type": "USCC", "number": "91440300MA5T00029H"}}
REVOKED_LTD = {"name": "珠江示例有限公司", "document": {"type": "USCC", "number": "91440101MA5T00010Q"}}
QUALIFICATION = "11810000MBT810001X001"


def held(recipient: str, *fields: str, consent_id: str = "CNS-0001") -> dict[str, Any]:
    """Return a consent that the agency holds, under the agency's own id."""
    whole = consent(recipient, fields, purpose="Identity check for the case")
    return {"id": consent_id, **{name: value for name, value in whole.items() if name != "evidence"}}


def hongkong_question(world: World, **changes: Any) -> dict[str, Any]:
    """Return a question to Hong Kong: consent to send the particulars there, and to the answer's way back."""
    holder = {"name": TRAVELLER["name"], "document": TRAVELLER["document"]}
    consents = [held("hongkong", "holder.name", "holder.document"), held(AGENCY, "match")]
    return world.question(
        **{"certificate_type": QUALIFICATION, "holder": holder, "holder_role": "party", "consents": consents, **changes}
    )


async def look_up(world: World, question: dict[str, Any]) -> dict[str, Any]:
    answer = await world.ask("POST", "/v1/certificates/lookup", question)
    assert answer.status == 200, answer.body
    read: dict[str, Any] = answer.json()
    return read


async def standing(world: World, question: dict[str, Any]) -> str:
    (one,) = (await look_up(world, question))["answers"]
    return str(one["standing"])


# --- what an issuer can say --------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["居民身份证", "中华人民共和国居民身份证", "11100000000013127D001"])
async def test_a_certificate_in_force_is_valid(world: World, asked: str) -> None:
    """Systems ask by code, by name and by the name that people use."""
    answer = await look_up(world, world.question(certificate_type=asked))
    (one,) = answer["answers"]
    assert (one["issuer"], one["standing"]) == ("guangdong", "valid")
    assert one["certificate"]["identifier"].endswith(".SBX000000000101.001.W")
    assert one["certificate"].keys().isdisjoint({"number", "holder", "surface"})  # which it is, and no more
    assert one["certificate"]["valid_until"] == "2040-01-01"
    assert "warnings" not in one


async def test_a_certificate_past_its_day_is_expired_although_the_issuer_says_valid(world: World) -> None:
    """The issuer keeps "valid" on a driving licence that ran out in 2018; the date decides."""
    (one,) = (await look_up(world, world.question(certificate_type="驾驶证")))["answers"]
    assert one["standing"] == "expired"
    assert one["certificate"]["valid_until"] == "2018-03-04"


async def test_a_revoked_certificate_is_revoked(world: World) -> None:
    """Over SOAP, from Foshan."""
    question = world.question(**LICENCE, holder=REVOKED_LTD, holder_role="party")
    assert await standing(world, question) == "revoked"


async def test_a_certificate_without_an_end_is_valid(world: World) -> None:
    """A business licence has no last day."""
    (one,) = (await look_up(world, world.question(**LICENCE, holder=DELTA_LTD, holder_role="party")))["answers"]
    assert one["standing"] == "valid"
    assert one["certificate"].get("valid_until") is None


@pytest.mark.parametrize(
    "holder",
    [
        {"name": "别的人", "document": {"type": "CN_RIC", "number": "44010619900101900X"}},
        {"name": "陈小明", "document": {"type": "CN_RIC", "number": "440106198806150019"}},
    ],
    ids=["the number under another name", "the name with another number"],
)
async def test_name_and_number_must_both_fit(world: World, holder: dict[str, Any]) -> None:
    """A number alone opens nothing, and a guess learns nothing."""
    answer = await look_up(world, world.question(holder=holder))
    (one,) = answer["answers"]
    assert one == {"issuer": "guangdong", "standing": "not_found", "answered_at": answer["answered_at"]}


async def test_hong_kong_says_match_and_no_value(world: World) -> None:
    """Consented matching (domain §5.3): data stays at source."""
    answer = await look_up(world, hongkong_question(world))
    (one,) = answer["answers"]
    assert one == {"issuer": "hongkong", "standing": "match", "answered_at": answer["answered_at"]}


async def test_hong_kong_says_no_match_for_somebody_else(world: World) -> None:
    """No match is an answer; it is not `not_found`, because Hong Kong does not say which of the two it is."""
    somebody = {"name": "陈大文", "document": {"type": "HM_PERMIT", "number": "H00000002"}}
    assert await standing(world, hongkong_question(world, holder=somebody)) == "no_match"


async def test_without_a_consent_to_the_question_hong_kong_is_not_even_asked(world: World) -> None:
    """The holder's name and number cross the border with the question."""
    asked = len(world.authorities["hongkong"].seen)
    body = hongkong_question(world, consents=[])
    refusal = await world.refused(lambda: world.ask("POST", "/v1/certificates/lookup", body))
    assert (refusal.status, refusal.code, refusal.fields) == (403, "transfer.no_consent", {"transfer.P3"})
    assert world.authorities["hongkong"].seen[asked:] == []


@pytest.mark.parametrize(
    ("half", "missing"),
    [(held("hongkong", "holder.name", "holder.document"), AGENCY), (held(AGENCY, "match"), "hongkong")],
    ids=["for the question only", "for the answer only"],
)
async def test_with_a_consent_to_one_way_hong_kong_is_not_even_asked(
    world: World, half: dict[str, Any], missing: str
) -> None:
    """The question crosses the border to Hong Kong and the answer to the agency: two transfers, two recipients."""
    asked = len(world.authorities["hongkong"].seen)
    body = hongkong_question(world, consents=[half])
    refusal = await world.refused(lambda: world.ask("POST", "/v1/certificates/lookup", body))
    assert (refusal.status, refusal.code, refusal.fields) == (403, "transfer.no_consent", {"transfer.P3"})
    assert f"is for another recipient than {missing}" in refusal.problem["detail"]
    seen = world.authorities["hongkong"].seen[asked:]
    assert [one for one in seen if LOOK_UP_AT["hongkong"] in one] == []


async def test_a_consent_that_the_issuer_does_not_hold_makes_the_answer_unverifiable(world: World) -> None:
    """The agency says that there is a consent, Hong Kong says that there is none: nobody was looked up."""
    consents = [held("hongkong", "holder.name", "holder.document", consent_id="X1"), held(AGENCY, "match")]
    (one,) = (await look_up(world, hongkong_question(world, consents=consents)))["answers"]
    assert one["standing"] == "unverifiable"
    assert "no consent" in one["reason"]


async def test_the_issuer_is_told_the_consent_that_carries_the_question(world: World) -> None:
    """Another consent may stand first in the list; Hong Kong must be able to find the one that covers its lookup."""
    consents = [
        held(AGENCY, "match", consent_id="X1"),
        held("hongkong", "holder.name", "holder.document", consent_id="CNS-0002"),
    ]
    assert await standing(world, hongkong_question(world, consents=consents)) == "match"


# --- cases of our own --------------------------------------------------------------------------------------------


async def test_the_applicant_of_our_own_case_is_proved_by_the_case(world: World) -> None:
    """Domain rule P8: whoever filed through this gateway need not be believed, it is known."""
    case = await world.file("guangdong")
    assert await standing(world, world.question(case=case, holder_role="party")) == "valid"


async def test_the_case_of_another_client_proves_nothing_about_the_holder(world: World) -> None:
    """A case number that leaked must not open the applicant's certificates to whoever names it."""
    case = await world.file("guangdong")
    body = world.question(case=case)
    assert (await world.ask("POST", "/v1/certificates/lookup", world.question(), client="other-agency")).status == 200
    asked = len(world.authorities["guangdong"].seen)
    refusal = await world.refused(lambda: world.ask("POST", "/v1/certificates/lookup", body, client="other-agency"))
    assert (refusal.status, refusal.code) == (403, "transfer.subject_not_involved")
    assert refusal.fields == {"transfer.P8"}
    seen = world.authorities["guangdong"].seen[asked:]
    assert [one for one in seen if LOOK_UP_AT["guangdong"] in one] == []
    assert await standing(world, body) == "valid"


# --- when nobody answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", LOOK_UP_AT)
@pytest.mark.parametrize("mode", ["down", "garbage", "lost_answer"])
async def test_an_issuer_that_fails_makes_the_answer_unverifiable_and_never_not_found(
    world: World, region: str, mode: str
) -> None:
    """That there is no such certificate can cost a person a right; silence must not sound like it."""
    world.authorities[region].trap(LOOK_UP_AT[region], mode)
    await _unverifiable_once(world, region)


async def test_issuers_that_are_too_slow_make_the_answer_unverifiable(world: World) -> None:
    """All three at once: a clerk waits for the longest of them, not for the sum."""
    for region in LOOK_UP_AT:
        world.authorities[region].trap(LOOK_UP_AT[region], "slow", seconds=2.5)
    await asyncio.gather(*(_unverifiable_once(world, region) for region in LOOK_UP_AT))


async def _unverifiable_once(world: World, region: str) -> None:
    """Ask a region that fails once: no answer, evidence of that, and an answer to the next question."""
    question = {
        "guangdong": world.question(),
        "foshan": world.question(**LICENCE, holder=DELTA_LTD, holder_role="party"),
        "hongkong": hongkong_question(world),
    }[region]
    answer = await look_up(world, question)
    (one,) = answer["answers"]
    assert one["standing"] == "unverifiable"
    assert one["reason"].startswith("region.uncertain")
    assert answer["answered_at"] is None
    (row,) = await world.rows(evidence, id=answer["evidence"])
    assert (row["outcome"], row["reason"], row["answered_at"]) == ("failed", "unverifiable", None)
    assert await standing(world, question) in {"valid", "match"}


# --- evidence ----------------------------------------------------------------------------------------------------


async def test_a_lookup_leaves_evidence_with_four_times_and_no_person(world: World) -> None:
    """Who asked what for which purpose, when; of the holder and the answer only digests are kept."""
    answer = await look_up(world, world.question(case="AGENCY-CASE-77"))
    (row,) = await world.rows(evidence, id=answer["evidence"])
    times = [row[name] for name in ("received_at", "forwarded_at", "answered_at", "recorded_at")]
    assert None not in times
    assert times == sorted(times)
    assert (row["action"], row["outcome"], row["reason"]) == ("certificate.lookup", "done", "valid")
    assert row["who"]["client"] == AGENCY
    assert row["who"]["operator"] == "T0001"
    assert row["what"]["case"] == "AGENCY-CASE-77"
    assert row["what"]["region"] == "guangdong"
    assert row["purpose"] == "cross-region-service: Identity check for the case"
    assert set(row["parts"]) == {"holder", "holder.0", "answer", "identifier.0"}
    assert row["parts"]["answer"]["size"] > 0
    assert [value for value in PRIVATE if value in str(row)] == []


async def test_the_types_that_can_be_looked_up_are_listed_with_their_issuers(world: World) -> None:
    """An agency that integrates us starts here."""
    types = (await world.ask("GET", "/v1/certificate-types")).json()["types"]
    assert {one["name"]: one["issuers"] for one in types}["营业执照"] == ["foshan"]
    assert all(one["code_status"] in {"official", "sandbox"} for one in types)


# --- what is written in it, and what is claimed of it -----------------------------------------------------------------

CARD = "1.2.156.3005.2.11100000000013127D001.11440000MBT400007D.SBX000000000101.001.W"


async def test_data_tells_the_fields_that_are_wanted_and_no_other(world: World) -> None:
    question = world.question(fields=["number", "holder.name"])
    answer = await world.ask("POST", "/v1/certificates/data", question)
    (one,) = answer.json()["answers"]
    assert one["certificate"] == {"number": "44010619900101900X", "holder": {"name": "陈小明"}}


async def test_claims_are_answered_with_match_or_mismatch_and_no_value(world: World) -> None:
    """Whoever shows a card says what is on it; the issuer's values stay where they are."""
    claims = {"number": "44010619900101900X", "valid_until": "2030-01-01", "surface.血型": "A"}
    answer = await world.ask("POST", "/v1/certificates/verify", world.question(claims=claims))
    read = answer.json()
    assert (read["standing"], read["certificate"]) == ("valid", {"identifier": CARD})
    fitting = {name: match for name, match in read["claims"].items() if not name.startswith("holder.")}
    assert fitting == {"number": "match", "valid_until": "mismatch", "surface.血型": "absent"}
    assert "2040-01-01" not in answer.body.decode()


FOOD = "1.2.156.3005.2.11100000MB0143028R002.11440300MBT4030010.SBX000000000501.001.P"
HOUSE = "1.2.156.3005.2.11100000MB03271699022.11441800MBT418004B.SBX000000000501.001.2"


def nameless(world: World, **named: Any) -> dict[str, Any]:
    """Return a question that names the certificate and not its holder."""
    return world.question(certificate_type=None, holder=None, holder_role="party", **named)


@pytest.mark.parametrize(
    ("identifier", "issuer", "field", "value"),
    [(FOOD, "shenzhen", "主体业态", "餐饮服务经营者"), (HOUSE, "qingyuan", "坐落", "清远市清城区测试路1号")],
)
async def test_an_identifier_leads_to_its_issuer_and_to_what_is_printed_on_it(
    world: World, identifier: str, issuer: str, field: str, value: str
) -> None:
    answer = await world.ask("POST", "/v1/certificates/data", nameless(world, identifier=identifier))
    (one,) = answer.json()["answers"]
    assert (one["issuer"], one["standing"]) == (issuer, "valid")
    assert {"name": field, "value": value} in one["certificate"]["surface"]


LICENSED = "1.2.156.3005.2.11100000MB0143028R001.11440600MBT406003B.SBX000000000202.002.7"
HOUSEHOLD = "1.2.156.3005.2.11100000000013127D002.11350000MBT350003J.SBX000000000601.001.L"


@pytest.mark.parametrize(
    "identifier",
    [FOOD, HOUSE, CARD, LICENSED, HOUSEHOLD],
    ids=["signed digest, GB/T 38540", "sealed stream, GM/T 0031", "authorised", "PDF in signed parts", "signed head"],
)
async def test_a_file_of_either_generation_of_seals_is_handed_out_as_genuine(world: World, identifier: str) -> None:
    handed = await world.ask("POST", "/v1/certificates/file", nameless(world, identifier=identifier))
    assert (handed.status, handed.headers["Certificate-File"]) == (200, "genuine")
    assert len(handed.body) == int(handed.headers["Content-Length"])


async def test_a_shown_code_is_resolved_by_whoever_issued_it(world: World) -> None:
    code = (await _at_the_desk(world, "shown", identifier=FOOD))["code"]
    question = {**nameless(world, code=code), "certificate_type": "食品经营许可证"}
    read = (await world.ask("POST", "/v1/certificates/verify", question)).json()
    assert (read["issuer"], read["standing"], read["certificate"]) == ("shenzhen", "valid", {"identifier": FOOD})


async def test_a_notice_ends_what_is_remembered(world: World) -> None:
    """The standing is the issuer's: whoever was told of a change does not go on with what was known before."""

    async def verified(**how: int) -> dict[str, Any]:
        answer = await world.ask("POST", "/v1/certificates/verify", nameless(world, identifier=FOOD, **how))
        read: dict[str, Any] = answer.json()
        return read

    first, again = await verified(max_age=0), await verified()
    assert (first["standing"], again["standing"], again["remembered"]) == ("valid", "valid", first["evidence"])
    assert (await _at_the_desk(world, "certificates", identifier=FOOD, state="revoked"))["told"] == [200]
    revoked = await verified()
    assert (revoked["standing"], revoked.get("remembered")) == ("revoked", None)
    assert (await _at_the_desk(world, "certificates", identifier=FOOD, state="valid"))["told"] == [200]
    assert (await verified())["standing"] == "valid"


async def _at_the_desk(world: World, path: str, **said: str) -> dict[str, Any]:
    """Do something at Shenzhen's own desk."""
    url = f"{world.layout.ports.authority_url('shenzhen')}/control/{path}"
    async with aiohttp.ClientSession() as session, session.post(url, json=said) as answer:
        told: dict[str, Any] = await answer.json()
        return told


async def test_a_user_who_mistypes_an_identifier_is_told_before_anybody_is_asked(world: World) -> None:
    asked = len(world.authorities["guangdong"].seen)
    question = {**world.question(identifier=CARD[:-1] + "X"), "holder": None, "certificate_type": None}
    refusal = await world.refused(lambda: world.ask("POST", "/v1/certificates/verify", question))
    assert (refusal.status, refusal.fields) == (422, {"identifier"})
    assert len(world.authorities["guangdong"].seen) == asked


async def test_each_question_of_a_batch_stands_for_itself(world: World) -> None:
    """One that is refused says nothing of the others."""
    lookup = {"operation": "lookup", **world.question()}
    verify = {"operation": "verify", **world.question(claims={"number": "1"})}
    refused = {"operation": "data", **world.question(purpose_code="another purpose")}
    answer = await world.ask("POST", "/v1/certificates/batch", {"questions": [lookup, refused, verify]})
    first, second, third = answer.json()["answers"]
    assert first["answer"]["answers"][0]["standing"] == "valid"
    assert (second["problem"]["status"], second["problem"]["code"]) == (403, "policy.no_grant")
    assert third["answer"]["claims"]["number"] == "mismatch"
    rows = await world.rows(evidence)
    named = {first["answer"]["evidence"], second["problem"]["instance"].rpartition(":")[2], third["answer"]["evidence"]}
    assert named <= {row["id"] for row in rows}


async def test_a_batch_of_more_than_twenty_is_refused(world: World) -> None:
    body = {"questions": [{"operation": "lookup", **world.question()}] * 21}
    refusal = await world.refused(lambda: world.ask("POST", "/v1/certificates/batch", body))
    assert (refusal.status, refusal.fields) == (422, {"questions"})


# --- one certificate, and what its issuer says of it by itself -------------------------------------------------------


def named(world: World, identifier: str = CARD, **changes: Any) -> dict[str, Any]:
    return {**world.question(identifier=identifier, **changes), "holder": None, "certificate_type": None}


async def worth(world: World) -> dict[str, Any]:
    """Return what the card is worth, asked about by its identifier alone."""
    answer = await world.ask("POST", "/v1/certificates/verify", named(world))
    assert answer.status == 200, answer.body
    read: dict[str, Any] = answer.json()
    return read


async def changed(world: World, state: str, *orders: str) -> list[int]:
    """Change the card at its issuer, and return what the notices of it met at the gateway."""
    url = world.layout.ports.authority_url("guangdong")
    for mode in orders:
        await world.http.post(f"{url}/control", json={"mode": mode, "times": 1})
    async with world.http.post(f"{url}/control/certificates", json={"identifier": CARD, "state": state}) as answer:
        told: list[int] = (await answer.json())["told"]
        return told


async def test_a_notice_ends_what_is_remembered_and_forged_or_repeated_ones_do_nothing(world: World) -> None:
    """Not the age of what is remembered but the issuer's word is what ends it; each notice counts once."""
    assert [(await worth(world))["standing"] for _ in range(2)] == ["valid", "valid"]
    assert "remembered" in await worth(world)
    forged, genuine, again = await changed(world, "revoked", "forged_notice", "replayed_notice")
    assert (forged, genuine) == (401, 200)
    assert again in {401, 409}
    told = await worth(world)
    assert (told["standing"], "remembered" in told) == ("revoked", False)
    assert await changed(world, "valid") == [200]
    assert (await worth(world))["standing"] == "valid"


async def test_an_issuer_that_answers_about_another_certificate_is_not_believed(world: World) -> None:
    url = world.layout.ports.authority_url("guangdong")
    await world.http.post(f"{url}/control", json={"mode": "other_certificate", "times": 1})
    answer = (await world.ask("POST", "/v1/certificates/verify", named(world, max_age=0))).json()
    assert (answer["standing"], answer["reason"].partition(":")[0]) == ("unverifiable", "certificate.of_somebody_else")


# --- files and reported errors ---------------------------------------------------------------------------------------


async def test_a_file_is_handed_out_and_found_good_when_it_is_handed_in_again(world: World) -> None:
    """What the issuer has sealed is genuine here; it is looked at again, with the issuer's word of now, and gone."""
    handed = await world.ask("POST", "/v1/certificates/file", named(world))
    assert handed.status == 200, handed.body
    said = {name: handed.headers[name] for name in ("Certificate-Standing", "Certificate-File", "Content-Type")}
    assert said == {
        "Certificate-Standing": "valid", "Certificate-File": "genuine", "Content-Type": "application/ofd",
    }  # fmt: skip
    (row,) = await world.rows(evidence, id=handed.headers["Evidence"])
    assert (row["action"], row["what"]["file"]) == ("certificate.file", "handed out")
    headers = {"Content-Type": "application/ofd", "Content-Disposition": 'attachment; filename="card.ofd"'}
    blob = (await world.ask("POST", "/v1/blobs", handed.body, headers=headers)).json()["id"]
    body = {**named(world, file=blob), "identifier": None}
    told = (await world.ask("POST", "/v1/certificates/verify", body)).json()
    assert (told["verdict"], told["standing"], told["file"]["genuine"]) == ("good", "valid", True)
    assert (await world.ask("GET", f"/v1/blobs/{blob}")).status == 404


async def test_a_link_serves_a_copy_for_one_use_once(world: World) -> None:
    made = (await world.ask("POST", "/v1/certificates/file", named(world, link=True, copy_for="入职核验"))).json()
    first, second = [await world.ask("GET", made["link"]) for _ in range(2)]
    assert (first.status, first.headers["Certificate-File"], first.body[:2]) == (200, "copy", b"PK")
    assert (second.status, second.json()["code"]) == (404, "certificate.link_over")


async def test_the_file_of_another_certificate_is_not_handed_out(world: World) -> None:
    url = world.layout.ports.authority_url("guangdong")
    await world.http.post(f"{url}/control", json={"mode": "other_file", "times": 1})
    answer = await world.ask("POST", "/v1/certificates/file", named(world))
    assert (answer.status, answer.json()["code"]) == (502, "certificate.of_somebody_else")


async def test_an_error_is_reported_and_its_issuer_told(world: World) -> None:
    report = {**named(world, reference="R-1", statement="The house number is 12.", field="surface.address")}
    report = {name: value for name, value in report.items() if name not in {"certificate_type", "holder"}}
    made = await world.ask("POST", "/v1/certificates/disputes", report)
    assert (made.status, made.json()["state"]) == (201, "open")
    again = await world.ask("POST", "/v1/certificates/disputes", report)
    assert (again.status, again.json()["ticket"]) == (200, made.json()["ticket"])

    async def told() -> str | None:
        shown = (await world.ask("GET", made.headers["Location"])).json()
        return shown.get("number") if shown["state"] == "told" else None

    assert await eventually(told)


async def test_whose_certificate_it_is_not_learns_nothing_of_it_by_guessing(world: World) -> None:
    """With another holder than the certificate's, the holder alone is said not to fit, and no other claim."""
    stranger = {"name": "李小红", "document": {"type": "CN_RIC", "number": "430102197812319026"}}
    question = world.question(identifier=CARD, holder=stranger, claims={"number": "44010619900101900X"})
    answer = await world.ask("POST", "/v1/certificates/verify", question)
    assert answer.json()["claims"].keys() == {"holder.name", "holder.document.type", "holder.document.number"}
    assert "mismatch" in answer.json()["claims"].values()
