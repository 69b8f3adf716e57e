"""What the exchange of Macau takes and says, read once more from its README; the wire is tested with Shenzhen's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from joserfc.jwk import ECKey, RSAKey

from adapters.macau.adapter import KINDS
from adapters.macau.sandbox import build_authority
from adapters.macau.sandbox_cases import TRAITS
from gateway.sandbox.authority import NOTEBOOK, AuthoritySettings
from gateway.sandbox.exchange_wire import Refusal
from tests.unit.exchange_support import exchange_given

ITEM = "11440100MBT40100XX3442011899012"
CASE: dict[str, Any] = {
    "requestNo": "KY1",
    "service": {"code": ITEM, "nameZh": "粵港澳公共服務登記"},
    "submittedAt": "10/03/2026 09:30:00",
    "channel": "BALCAO",
    "origin": {"area": "440100", "counter": "GZ-07"},
    "destination": "820000",
    "applicant": {
        "type": "SINGULAR",
        "nameZh": "陈小明",
        "namePt": "CHEN, Xiaoming",
        "docType": "BI_RPC",
        "docNo": "44010619900101900X",
        "birthDate": "01/01/1990",
    },
    "formData": {"service": "residence"},
    "attachments": [],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    case: dict[str, Any] = json.loads(json.dumps(CASE))
    place: Any = case
    *way, last = path.split(".")
    for step in way:
        place = place[step]
    place[last] = value
    return case


def test_a_case_that_is_as_agreed_is_read() -> None:
    said = TRAITS.read_case(CASE, {ITEM})
    assert (said.id, said.name, list(said.files)) == ("KY1", "陈小明", [])


@pytest.mark.parametrize(
    "case",
    [
        changed("service.code", "MO-1"),
        changed("submittedAt", "2026-03-10T09:30:00Z"),
        changed("submittedAt", "31/02/2026 09:30:00"),
        changed("destination", "810000"),
        changed("applicant.namePt", None),
        changed("applicant.docType", "BIR"),
        changed("applicant.docType", "USCC"),
        changed("applicant.docNo", "440106199001019000"),
        changed("applicant.birthDate", "1990-01-01"),
        changed("more", "x"),
    ],
)
def test_a_case_with_anything_wrong_in_it_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        TRAITS.read_case(case, {ITEM})
    assert refused.value.document["errors"]
    assert "440106199001019000" not in json.dumps(refused.value.document)


def test_what_is_said_of_a_case_names_the_services_own_number_alone() -> None:
    page = {"id": "KY1", "number": "MO000000000001", "short": "0001", "received": 1_773_106_205.0, "asked_for": ["ID"]}
    assert TRAITS.receipt(page)["receivedAt"] == "10/03/2026 09:30:05"
    notice = TRAITS.event(page, "SUPPLEMENT_NOTICE", "e-1", 1_773_106_205.0)
    assert (notice["protocol"], notice["deadline"]) == ("MO000000000001/0001", "25/03/2026")
    assert [wanted["code"] for wanted in notice["documentsWanted"]] == ["ID"]
    wish = {"messageNo": "w-1", "requestNo": "KY1", "protocol": "MO000000000001"}
    said = TRAITS.messages["withdrawals"]({**wish, "askedAt": "11/03/2026 10:00:00", "reason": "já não é preciso"})
    assert (said.id, said.case, said.number) == ("w-1", "KY1", "MO000000000001")


def test_the_exchange_has_no_question_and_takes_no_rating(tmp_path: Path) -> None:
    """Our side says so too: what it cannot know it does not guess, and a rating stays with the collecting side."""
    app = authority(tmp_path)
    routes = {(route.method, str(route.resource and route.resource.canonical)) for route in app.router.routes()}
    assert ("POST", "/v1/cases/{case}/withdrawals") in routes
    assert not [path for method, path in routes if method == "GET" and path.startswith("/v1/")]
    assert not [path for _, path in routes if "ratings" in path]
    assert "rating" not in KINDS
    app[NOTEBOOK].close()


def authority(folder: Path) -> web.Application:
    client, signing = RSAKey.generate_key(2048), ECKey.generate_key("P-256")
    sign_on = {"client_key": client.as_pem(private=False), "signing_key": signing.as_pem(private=True)}
    secrets = {**exchange_given(), **sign_on, "client_id": b"pearl", "issuer": b"mo"}
    given = AuthoritySettings("macau", "http://127.0.0.1:1", folder / "macau.db", secrets, [], [])
    return build_authority(given)
