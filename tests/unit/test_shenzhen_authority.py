"""The simulated Shenzhen refuses what a strict authority would refuse, does its work once, and lets cases live.

The client here is a third reading of docs/signed-rest.md and adapters/shenzhen/README.md: it shares no code with the
authority or the adapter.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from adapters.shenzhen.sandbox import build_authority
from gateway.sandbox.authority import MISBEHAVIOUR, NOTEBOOK, AuthoritySettings

NOON = 1_773_115_200.0
ITEM = "11440100MBT40100XX3442011899001"
HEADER = "X-Exchange-Signature"
FILE = b"%PDF-1.7 synthetic"
DIGEST = hashlib.sha256(FILE).hexdigest()
CERTIFICATE = {
    "region": "shenzhen", "type_code": "11100000MB0143028R002", "type_name": "食品经营许可证", "identifier": "1.2.156",
    "number": "SBX1", "issuer_name": "深圳市测试局", "issuer_code": "11440300MBT4030010", "issued_on": "2024-03-01",
    "valid_from": "2024-03-01", "holder_name": "湾区示例有限公司", "holder_id_type": "USCC",
    "holder_id_number": "91440300MA5T00029H", "state": "revoked",
}  # fmt: skip
SEEDED = {
    "code": ITEM, "name": {"zh-CN": "跨省异地就医备案", "en": "Filing"}, "modes": ["online"], "min_assurance": "A2",
    "field": [{"id": "kind", "label": {"zh-CN": "类型"}, "choices": {"a": {"zh-CN": "甲"}}}],
    "material": [{"code": "ID", "name": {"zh-CN": "身份证"}, "required": True}],
    "office": [{"region": "shenzhen", "code": "440300", "promised_days": 0, "statutory_days": 2, "limit_unit": "G"}],
}  # fmt: skip


def pems(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> tuple[bytes, bytes]:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


OURS, CLIENT, THEIRS = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
WEBHOOK = Ed25519PrivateKey.generate()


@dataclass(slots=True)
class Door:
    """Stands where the gateway stands: verifies callbacks and keeps their events; refuses the next `refusals`."""

    events: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    refusals: int = 0
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        sending = request.headers["webhook-id"]
        signed = f"{sending}.{request.headers['webhook-timestamp']}.".encode() + body
        signature = base64.b64decode(request.headers["webhook-signature"].removeprefix("v1a,"))
        WEBHOOK.public_key().verify(signature, signed)
        self.ids.append(sending)
        if self.refusals:
            self.refusals -= 1
            return web.Response(status=503)
        async with self.arrived:
            self.events += json.loads(body)["data"]
            self.arrived.notify_all()
        return web.json_response({"code": "OK"})

    async def until(self, state: str) -> list[str]:
        """Return the states that were reported so far, once this one was."""
        async with asyncio.timeout(5), self.arrived:
            await self.arrived.wait_for(lambda: state in self.states())
        return self.states()

    def states(self) -> list[str]:
        return [event["handle"]["handleState"] for event in self.events]


@dataclass(slots=True)
class Shenzhen:
    """The authority, and a client that speaks to it."""

    client: TestClient[web.Request, web.Application]
    door: Door
    token: str = ""
    count: int = 0

    @property
    def app(self) -> web.Application:
        app = self.client.server.app  # type: ignore[attr-defined]  # TestServer has it, its base class has not
        assert isinstance(app, web.Application)
        return app

    def told(self, mode: str) -> None:
        self.app[MISBEHAVIOUR].order(mode, 1)

    async def get_token(self, **change: Any) -> ClientResponse:
        self.count += 1
        claims = {"iss": "pearl", "sub": "pearl", "aud": "sz", "exp": int(NOON) + 60, "jti": f"a{self.count}"}
        key = ECKey.import_key(pems(CLIENT)[0])
        assertion = jwt.encode({"alg": "ES256"}, {**claims, **change}, key, algorithms=["ES256"])
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        form = {
            "grant_type": "client_credentials",
            "scope": "exchange",
            "client_assertion_type": kind,
            "client_assertion": assertion,
        }
        return await self.client.post("/oauth2/token", data=form)

    def signed(self, method: str, path: str, body: bytes, **change: Any) -> str:
        self.count += 1
        claims = {"iss": "pearl", "jti": f"r{self.count}", "iat": int(NOON), "htm": method, "htu": path}
        digest = hashlib.sha256(body).hexdigest()
        key = ECKey.import_key(pems(change.pop("key", OURS))[0])
        header = {"alg": "ES256", "typ": "exchange-request+jwt"}
        return jwt.encode(header, {**claims, "sha256": digest, **change}, key, algorithms=["ES256"])

    async def send(self, method: str, path: str, body: bytes, signature: str, **headers: str) -> tuple[int, Any]:
        """Send as it is, check that the answer is signed and for this request, and return status and document."""
        if not self.token:
            self.token = (await (await self.get_token()).json())["access_token"]
        known = {"Authorization": f"Bearer {self.token}", HEADER: signature, **headers}
        async with self.client.request(method, path, data=body or None, headers=known) as answer:
            content = await answer.read()
            if answer.status == 401:
                return 401, None
            said = jwt.decode(answer.headers[HEADER], ECKey.import_key(pems(THEIRS)[1]), algorithms=["ES256"]).claims
            assert (said["status"], said["sha256"]) == (answer.status, hashlib.sha256(content).hexdigest())
            return answer.status, json.loads(content) if answer.content_type == "application/json" else content

    async def tell(self, path: str, document: dict[str, Any], key: str) -> tuple[int, Any]:
        body = json.dumps({"data": document}).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        return await self.send("POST", path, body, self.signed("POST", path, body), **headers)

    async def ask(self, path: str) -> tuple[int, Any]:
        return await self.send("GET", path, b"", self.signed("GET", path, b""))

    async def upload(self, case: str = "KY1", body: bytes = FILE) -> tuple[int, Any]:
        path = f"/v1/cases/{case}/materials/{DIGEST}"
        return await self.send("PUT", path, body, self.signed("PUT", path, FILE), **{"Content-Type": "application/pdf"})

    async def file(self, **change: Any) -> dict[str, Any]:
        """Upload the file and hand the case over; return its receipt."""
        await self.upload()
        status, answer = await self.tell("/v1/cases", {**CASE, **change}, "KY1")
        assert status == 200, answer
        receipt: dict[str, Any] = answer["data"]
        return receipt


CASE: dict[str, Any] = {
    "sourceNo": "KY1",
    "item": {"itemCode": ITEM, "itemName": "跨省异地就医备案"},
    "bizSource": "02",
    "applyTime": 1_773_115_200_000,
    "regionCode": "440300000000",
    "source": {"regionCode": "440100000000", "windowNo": "GZ-07"},
    "applicant": {
        "applicantType": "1",
        "person": {"personName": "陈小明", "certificateType": "111", "certificateNumber": "44010619900101900X"},
        "attributes": ["sex=2", "birthday=1990-01-01"],
    },
    "formData": {"destination": "广州市"},
    "materialList": [
        {
            "materialCode": "ID",
            "materialName": "身份证",
            "fileType": "application/pdf",
            "fileSize": len(FILE),
            "fileDigest": DIGEST,
            "digestType": "SHA256",
        }
    ],
}


@pytest.fixture
async def shenzhen(tmp_path: Path) -> AsyncIterator[Shenzhen]:
    door = Door()
    gateway = web.Application()
    gateway.router.add_post("/callbacks/shenzhen/events", door.take)
    async with TestServer(gateway) as server:
        app = build_authority(settings(tmp_path, str(server.make_url("/"))), lambda: NOON)
        async with TestClient(TestServer(app)) as client:
            yield Shenzhen(client, door)


def settings(folder: Path, gateway_url: str) -> AuthoritySettings:
    secrets = {
        "client_key": pems(CLIENT)[1], "request_key": pems(OURS)[1], "peer_key": pems(THEIRS)[0],
        "webhook_key": pems(WEBHOOK)[0], "client_id": b"pearl", "issuer": b"sz",
        "item_codes": json.dumps([ITEM]).encode(),
    }  # fmt: skip
    return AuthoritySettings(
        region="shenzhen", gateway_url=gateway_url, state=folder / "shenzhen.db", secrets=secrets, people=[],
        certificates=[CERTIFICATE], pace=0, items=[SEEDED],
    )  # fmt: skip


# --- who may speak -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"aud": "elsewhere"}, {"sub": "other"}, {"exp": int(NOON) - 60}, {"exp": int(NOON) + 3600}, {"jti": ""}],
)
async def test_a_proof_that_is_not_as_agreed_gets_no_token(shenzhen: Shenzhen, change: dict[str, Any]) -> None:
    assert (await shenzhen.get_token(**change)).status == 401


async def test_a_proof_serves_once(shenzhen: Shenzhen) -> None:
    assert (await shenzhen.get_token(jti="once")).status == 200
    assert (await shenzhen.get_token(jti="once")).status == 401


async def test_a_token_that_was_never_given_out_is_refused_before_anything_is_read(shenzhen: Shenzhen) -> None:
    shenzhen.token = "made-up"
    assert await shenzhen.ask("/v1/cases/KY1") == (401, None)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"htm": "GET"}, "SIGNATURE"),
        ({"htu": "/v1/cases/KY2"}, "SIGNATURE"),
        ({"sha256": "0" * 64}, "SIGNATURE"),
        ({"iss": "other"}, "SIGNATURE"),
        ({"key": CLIENT}, "SIGNATURE"),
        ({"iat": int(NOON) - 301}, "STALE"),
        ({"jti": ""}, "REPLAYED"),
    ],
)
async def test_a_request_that_is_not_signed_as_agreed_takes_nothing(
    shenzhen: Shenzhen, change: dict[str, Any], code: str
) -> None:
    body = json.dumps({"data": {**CASE, "materialList": []}}).encode()
    signature = shenzhen.signed("POST", "/v1/cases", body, **change)
    headers = {"Content-Type": "application/json", "Idempotency-Key": "KY1"}
    status, answer = await shenzhen.send("POST", "/v1/cases", body, signature, **headers)
    assert (status, answer["code"]) == (403, code)
    assert shenzhen.app[NOTEBOOK].entries("cases") == {}


async def test_a_request_serves_once(shenzhen: Shenzhen) -> None:
    signature = shenzhen.signed("GET", "/v1/cases/KY1", b"")
    assert (await shenzhen.send("GET", "/v1/cases/KY1", b"", signature))[0] == 404
    assert (await shenzhen.send("GET", "/v1/cases/KY1", b"", signature))[1]["code"] == "REPLAYED"


# --- files and cases ---------------------------------------------------------------------------------------------


async def test_other_bytes_than_were_signed_are_not_kept(shenzhen: Shenzhen) -> None:
    status, answer = await shenzhen.upload(body=FILE + b" ")
    assert (status, answer["code"]) == (403, "SIGNATURE")
    assert (await shenzhen.ask(f"/v1/cases/KY1/materials/{DIGEST}"))[1]["code"] == "NO_SUCH_MATERIAL"
    assert (await shenzhen.upload())[0] == 200
    assert (await shenzhen.ask(f"/v1/cases/KY1/materials/{DIGEST}"))[0] == 200


async def test_a_case_is_taken_once_whatever_comes_again(shenzhen: Shenzhen) -> None:
    first = await shenzhen.file()
    assert await shenzhen.file(formData={}) == first
    assert (await shenzhen.ask("/v1/cases/KY1"))[1]["data"] == first
    assert len(shenzhen.app[NOTEBOOK].entries("cases")) == 1


def wrong(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(case: dict[str, Any]) -> None:
        *way, last = path.split(".")
        for step in way:
            case = case[int(step)] if isinstance(case, list) else case[step]
        case[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        wrong("item.itemCode", "11440300MBT403005C3442011899099"),
        wrong("unknown", "x"),
        wrong("regionCode", "440600000000"),
        wrong("applyTime", 1_773_115_200),
        wrong("applicant.person.certificateNumber", "440106199001019000"),
        wrong("applicant.applicantType", "2"),
        wrong("applicant.attributes", ["birthday=1990-02-30"]),
        wrong("materialList.0.fileSize", 1),
        wrong("materialList.0.fileDigest", "0" * 64),
        wrong("sourceNo", "KY2"),
    ],
)  # fmt: skip
async def test_a_case_with_anything_wrong_in_it_is_refused(
    shenzhen: Shenzhen, change: Callable[[dict[str, Any]], None]
) -> None:
    await shenzhen.upload()
    case = json.loads(json.dumps(CASE))
    change(case)
    status, answer = await shenzhen.tell("/v1/cases", case, "KY1")
    assert (status, answer["code"]) == (422, "REFUSED")
    assert "440106199001019000" not in json.dumps(answer)
    assert shenzhen.app[NOTEBOOK].entries("cases") == {}


# --- the life of a case ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("course", "states"),
    [
        ("", ["01", "02", "07", "08"]),
        ("course_refused", ["01", "03"]),
        ("course_not_within_power", ["01", "11"]),
        ("course_returned", ["01", "17"]),
        ("course_special", ["01", "02", "05", "06", "07", "08"]),
        ("course_extended", ["01", "02", "14", "07", "08"]),
    ],
)
async def test_a_case_goes_the_way_that_was_ordered(shenzhen: Shenzhen, course: str, states: list[str]) -> None:
    if course:
        shenzhen.told(course)
    await shenzhen.file()
    assert await shenzhen.door.until(states[-1]) == states
    assert len({event["eventId"] for event in shenzhen.door.events}) == len(states)


async def test_a_step_that_nobody_acknowledged_comes_again_under_another_sending(shenzhen: Shenzhen) -> None:
    shenzhen.door.refusals = 2
    await shenzhen.file()
    assert await shenzhen.door.until("08") == ["01", "02", "07", "08"]
    assert len(set(shenzhen.door.ids)) == len(shenzhen.door.ids) == 6


async def test_a_case_goes_on_after_a_restart(tmp_path: Path) -> None:
    """What the authority knows is in its notebook: nothing is forgotten, and no event gets another id."""
    door, gateway = Door(refusals=10**6), web.Application()
    gateway.router.add_post("/callbacks/shenzhen/events", door.take)
    async with TestServer(gateway) as server:
        given = settings(tmp_path, str(server.make_url("/")))
        async with TestClient(TestServer(build_authority(given, lambda: NOON))) as client:
            await Shenzhen(client, door).file()
        door.refusals = 0
        async with TestClient(TestServer(build_authority(given, lambda: NOON))):
            assert (await door.until("08"))[-1] == "08"
    assert len({event["eventId"] for event in door.events}) == len(door.events)


def supplement(receipt: dict[str, Any], *, number: str = "m-1", complete: bool = True, **change: Any) -> dict[str, Any]:
    case = {"supplementNo": number, "sourceNo": "KY1", "projectNo": receipt["projectNo"]}
    return {**case, "supplementTime": 1_773_115_200_000, "materialList": [], "allSupplied": complete, **change}


async def test_a_case_waits_until_all_that_was_asked_for_is_there(shenzhen: Shenzhen) -> None:
    shenzhen.told("course_supplement")
    receipt = await shenzhen.file()
    assert await shenzhen.door.until("04") == ["01", "04"]
    notice = shenzhen.door.events[-1]["handle"]
    assert [wanted["materialCode"] for wanted in notice["materials"]] == ["ID"]
    assert notice["deadline"] % 86_400_000 == 16 * 3_600_000  # midnight in Beijing
    path = "/v1/cases/KY1/supplements"
    assert (await shenzhen.tell(path, supplement(receipt, complete=False), "m-1"))[0] == 200
    assert shenzhen.door.states() == ["01", "04"]
    assert (await shenzhen.tell(path, supplement(receipt, number="m-2"), "m-2"))[0] == 200
    assert await shenzhen.door.until("08") == ["01", "04", "12", "02", "07", "08"]
    assert (await shenzhen.tell(path, supplement(receipt, number="m-2"), "m-2"))[0] == 200, "a repeat is no news"
    assert (await shenzhen.tell(path, supplement(receipt, number="m-3"), "m-3"))[1]["code"] == "NOT_NOW"


async def test_a_message_names_its_case_and_files_that_are_there(shenzhen: Shenzhen) -> None:
    shenzhen.told("course_supplement")
    receipt = await shenzhen.file()
    await shenzhen.door.until("04")
    path = "/v1/cases/KY1/supplements"
    absent = [{**CASE["materialList"][0], "fileDigest": "0" * 64}]
    for change in ({"projectNo": "1"}, {"sourceNo": "KY2"}, {"materialList": absent}, {"more": "x"}):
        status, _ = await shenzhen.tell(path, supplement(receipt, **change), "m-1")
        assert status == 422
    assert (await shenzhen.ask(f"{path}/m-1"))[1]["code"] == "NO_SUCH_MESSAGE"


async def test_a_case_is_withdrawn_until_it_is_decided(shenzhen: Shenzhen) -> None:
    shenzhen.told("course_tolerance")
    receipt = await shenzhen.file()
    await shenzhen.door.until("10")
    wish = {"withdrawNo": "w-1", "sourceNo": "KY1", "projectNo": receipt["projectNo"]}
    wish |= {"withdrawTime": 1_773_115_200_000, "withdrawReason": "不再需要"}
    assert (await shenzhen.tell("/v1/cases/KY1/withdrawals", wish, "w-1"))[1] == {"data": {"messageNo": "w-1"}}
    assert await shenzhen.door.until("16") == ["01", "10", "16"]
    again = {**wish, "withdrawNo": "w-2"}
    assert (await shenzhen.tell("/v1/cases/KY1/withdrawals", again, "w-2"))[1]["code"] == "NOT_NOW"
    assert (await shenzhen.ask("/v1/cases/KY1/withdrawals/w-1"))[0] == 200


async def test_a_completed_case_is_rated_once_for_each_role(shenzhen: Shenzhen) -> None:
    receipt = await shenzhen.file()
    await shenzhen.door.until("08")
    rating = {"assessNo": "a-1", "sourceNo": "KY1", "projectNo": receipt["projectNo"], "itemCode": ITEM}
    rating |= {"satisfaction": 5, "assessChannel": "pc", "assessTime": 1_773_115_200_000, "isDefault": False}
    path, codes = "/v1/cases/KY1/ratings", []
    for number, role in enumerate(("handling", "collecting", "handling")):
        said = {**rating, "assessNo": f"a-{number}", "assessRole": role}
        codes.append((await shenzhen.tell(path, said, f"a-{number}"))[0])
    assert codes == [200, 200, 409]


# --- documents of a decision ---------------------------------------------------------------------------------------


async def test_documents_are_there_once_the_case_is_decided_and_are_what_was_listed(shenzhen: Shenzhen) -> None:
    """Each is signed under the digest of the list, so that nothing on the way can put another in its place."""
    number = (await shenzhen.file())["projectNo"]
    await shenzhen.door.until("08")
    status, answer = await shenzhen.ask(f"/v1/results/{number}")
    [row] = answer["data"]["documents"]
    assert (status, answer["data"]["number"]) == (200, number)
    path = f"/v1/results/{number}/{row['code']}"
    status, document = await shenzhen.ask(path)
    assert (status, len(document), hashlib.sha256(document).hexdigest()) == (200, row["size"], row["sha256"])
    shenzhen.told("result_gone")
    status, answer = await shenzhen.ask(path)
    assert (status, answer["code"]) == (410, "GONE")
    status, answer = await shenzhen.ask(f"/v1/results/{number}/JD02")
    assert (status, answer["code"]) == (404, "NO_SUCH_RESULT")


async def test_before_the_decision_there_are_no_documents(shenzhen: Shenzhen) -> None:
    shenzhen.told("course_supplement")
    number = (await shenzhen.file())["projectNo"]
    await shenzhen.door.until("04")
    status, answer = await shenzhen.ask(f"/v1/results/{number}")
    assert (status, answer["data"]["documents"]) == (200, [])
    assert (await shenzhen.ask(f"/v1/results/{number}/JD01"))[0] == 404
    status, answer = await shenzhen.ask("/v1/results/4403")
    assert (status, answer["code"]) == (404, "NO_SUCH_CASE")


# --- certificates and items --------------------------------------------------------------------------------------


def query(**change: str) -> dict[str, Any]:
    holder = {"certificateHolder": "湾区示例有限公司", "certificateHolderType": "001"}
    return {
        "certificate": {"certificateType": "11100000MB0143028R002", "certificateName": "食品经营许可证"},
        "holder": {**holder, "certificateHolderCode": "91440300MA5T00029H", **change},
        "useCause": "核验",
        "business": {"orgName": "单位", "userName": "W1", "itemCode": ITEM, "itemName": "事项", "projectNo": "KY1"},
    }


async def test_a_batch_is_answered_query_by_query_in_its_order(shenzhen: Shenzhen) -> None:
    queries = [query(certificateHolder="别人"), query(), query(certificateHolderCode="")]
    _, answer = await shenzhen.tell("/v1/certificates/query", {"queries": queries}, "")
    results = answer["data"]["results"]
    assert [result["status"] for result in results] == ["10", "00", "12"]
    assert [found["certificateState"] for found in results[1]["certificates"]] == ["03"]


NAMED = {name: value for name, value in query().items() if name in {"useCause", "business"}}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"certificateIdentifier": "1.2.156"}, "00"),
        ({"certificateIdentifier": "1.2.157"}, "10"),
        ({"certificateCode": "SZLZ-1"}, "12"),
        ({"certificateIdentifier": "1.2.156", "useCause": " "}, "12"),
        ({"certificateIdentifier": "1.2.156", "business": {**NAMED["business"], "projectNo": ""}}, "12"),
        ({"certificateIdentifier": "1.2.156", "attributes": ["authorizationNo=X1"]}, "14"),
    ],
)
async def test_one_certificate_is_told_of_whoever_says_what_it_is_needed_for(
    shenzhen: Shenzhen, change: dict[str, Any], status: str
) -> None:
    code, answer = await shenzhen.tell("/v1/certificates/data", {**NAMED, **change}, "")
    assert (code, answer["data"]["status"]) == (200, status)


async def test_there_is_no_file_of_what_is_not_in_force(shenzhen: Shenzhen) -> None:
    asked = {**NAMED, "certificateIdentifier": "1.2.156"}
    _, answer = await shenzhen.tell("/v1/certificates/file", asked, "")
    assert answer["data"]["status"] == "21"
    async with shenzhen.client.post("/control/certificates", json={"identifier": "1.2.156", "state": "valid"}) as done:
        assert done.status == 200
    status, content = await shenzhen.tell("/v1/certificates/file", asked, "")  # `send` holds it against the signature
    assert (status, b"1.2.156" in content) == (200, True)


async def test_a_report_of_an_error_is_taken_once_and_not_under_another_number(shenzhen: Shenzhen) -> None:
    report = {**NAMED, "disputeNo": "D1", "certificateIdentifier": "1.2.156", "disputeContent": "名称有误"}
    first, again = [await shenzhen.tell("/v1/certificates/disputes", report, "D1") for _ in range(2)]
    assert first[1]["data"]["acceptNo"] == again[1]["data"]["acceptNo"]
    assert (await shenzhen.tell("/v1/certificates/disputes", report, "D2"))[0] == 422
    assert (await shenzhen.tell("/v1/certificates/disputes", {**report, "holder": "x"}, "D1"))[0] == 422
    assert "名称有误" not in json.dumps(shenzhen.app[NOTEBOOK].entries("disputes"), ensure_ascii=False)


async def test_items_come_behind_the_key_that_is_named(shenzhen: Shenzhen) -> None:
    _, answer = await shenzhen.ask("/v1/items?after=&size=50")
    assert [item["taskCode"] for item in answer["data"]["items"]] == [ITEM]
    assert (await shenzhen.ask(f"/v1/items?after={ITEM}&size=50"))[1]["data"] == {"items": []}
    assert (await shenzhen.ask("/v1/items?after=&size=51"))[0] == 422


# --- wrong on request --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["wrong_signature", "unsigned", "altered_answer"])
async def test_it_can_be_asked_for_answers_that_do_not_verify(shenzhen: Shenzhen, mode: str) -> None:
    await shenzhen.ask("/v1/cases/KY1")
    shenzhen.told(mode)
    with pytest.raises((AssertionError, KeyError, JoseError)):
        await shenzhen.ask("/v1/cases/KY1")
    assert (await shenzhen.ask("/v1/cases/KY1"))[0] == 404
