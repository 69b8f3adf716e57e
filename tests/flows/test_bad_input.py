"""Bad input over real HTTP: refused with the field and the reason, recorded once, and nothing else happens.

`World.refused` checks what every refusal promises; the tests say what is particular to each.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.guangdong import sandbox_signature
from adapters.hongkong import sandbox_wire
from gateway.domain.identifiers import case_number
from gateway.storage.tables import event_conflicts, evidence, feed_cursors, submissions
from tests.flows.flow_support import (
    AGENCY,
    CITIZEN,
    CROSSING,
    NEWBORN,
    SLIP,
    TRAVELLER,
    Answer,
    World,
    consent,
    eventually,
    personal_fields,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

Body = dict[str, Any]
Change = Callable[[Body], Body]
BAD_NUMBER = "440106199001019001"
LONG = "很长" * 400


# --- applications ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """One change that makes a right body wrong, and the refusal that it must get."""

    name: str
    change: Change
    fields: frozenset[str]
    code: str = "request.invalid"
    status: int = 422
    never: tuple[str, ...] = ()


def bad(name: str, change: Mapping[str, Any] | Change, *fields: str, **rest: Any) -> Bad:
    """Describe one bad body; a mapping replaces parts of the right one."""
    parts = {} if callable(change) else change
    made: Change = change if callable(change) else lambda body: {**body, **parts}
    return Bad(name, made, frozenset(fields), **rest)


def without(*names: str) -> Change:
    return lambda body: {name: value for name, value in body.items() if name not in names}


def applicant(**changes: Any) -> dict[str, Any]:
    return {"applicant": {**CITIZEN, **changes}}


def form(**changes: Any) -> Change:
    return lambda body: {**body, "form": {**body["form"], **changes}}


APPLICATIONS = [
    bad("types that are wrong", {"reference": 7, "form": [], "materials": "x"}, "reference", "form", "materials"),
    bad("a field that nobody knows", {"aplicant": "陈小明"}, "aplicant"),
    bad("fields that are missing", without("item", "purpose"), "item", "purpose"),
    bad("an empty object", lambda _: {}, "reference", "item", "place", "mode", "applicant", "form", "purpose_code",
        "purpose", "legal_basis"),
    bad("a list instead of an object", lambda _: [], "(body)"),  # type: ignore[arg-type, return-value] # on purpose
    bad("texts that are too long", {"reference": "r" * 65, "purpose": LONG}, "reference", "purpose", never=(LONG,)),
    bad("a text of nothing but spaces", {"purpose": "   "}, "purpose"),
    bad("a NUL and other control characters", {"reference": "a\0b", "purpose": "x\x01"}, "reference", "purpose"),
    bad("a day that does not exist", applicant(birth_date="1990-02-30"), "applicant.birth_date", never=("1990-02-30",)),
    bad("a birth in the future", applicant(birth_date="9999-01-01"), "applicant.birth_date", never=("9999-01-01",)),
    bad("a mobile number with letters", applicant(mobile="CALL-ME"), "applicant.mobile", never=("CALL-ME",)),
    bad("an unknown type of document", applicant(document={"type": "CAT_PASS", "number": "1"}),
        "applicant.document.type", never=("CAT_PASS",)),
    bad("a wrong check digit", applicant(document={"type": "CN_RIC", "number": BAD_NUMBER}),
        "applicant.document.number", never=(BAD_NUMBER,)),
    bad("an organisation with a person's document", applicant(kind="organisation"), "applicant.document.type"),
    bad("an item that is not in the catalogue", {"item": "99999"}, "item", code="submission.unknown_item",
        never=("99999",)),
    bad("a place that does not exist", {"place": "atlantis"}, "place", code="submission.place", never=("atlantis",)),
    bad("a place without power over the item", {"place": "hongkong"}, "place", code="submission.place"),
    bad("a mode that the item does not know", {"item": NEWBORN, "place": "foshan", "mode": "online", "form": {
        "baby_name": "小小", "baby_sex": "F", "birth_date": "2026-01-01", "birth_place": "440600", "birth_certificate":
        "S1", "ethnicity": "汉", "follow": "mother", "guardian_phone": "1"}, "materials": []}, "mode", "materials"),
    bad("everything that is wrong with a form", form(kind="nobody", start="tomorrow", insured_place="mars", extra="1"),
        "form.kind", "form.start", "form.insured_place", "form.extra", never=("nobody", "mars")),
    bad("an empty text in a form", form(end=""), "form.end"),
    bad("a form without its required fields", {"form": {}}, "form.insured_place", "form.destination", "form.kind",
        "form.start"),
    bad("no required material", {"materials": []}, "materials"),
    bad("a material that the item does not ask for", lambda body: {**body, "materials": [*body["materials"], {
        "code": "CAT", "blob": body["materials"][0]["blob"]}]}, "materials.1.code", never=("CAT",)),
    bad("a blob that does not exist", {"materials": [{"code": "ID", "blob": "BL404"}]}, "materials.0.blob",
        never=("BL404",)),
    bad("form and applicant and material at once", lambda body: {**body, **applicant(document={
        "type": "CN_RIC", "number": BAD_NUMBER}), "form": {}, "materials": []}, "applicant.document.number",
        "form.insured_place", "form.destination", "form.kind", "form.start", "materials", never=(BAD_NUMBER,)),
    bad("a character that the region cannot write", form(hospital="a\uffff"), "form.hospital", code="mapping.failed"),
    bad("a purpose that no grant names", {"purpose_code": "curiosity"}, code="policy.no_grant", status=403),
]  # fmt: skip


@pytest.mark.parametrize("case", APPLICATIONS, ids=lambda case: case.name)
async def test_an_application_is_refused_for(world: World, case: Bad) -> None:
    """Everything that is wrong is told in one go, by field, so that a caller mends it once."""
    body = case.change(await world.application("foshan"))
    where = "gateway" if case.code == "mapping.failed" else "caller"
    refusal = await world.refused(lambda: world.ask("POST", "/v1/submissions", body), *case.never, where=where)
    assert (refusal.status, refusal.code) == (case.status, case.code)
    assert refusal.fields == case.fields
    assert set(refusal.row["what"]["fields"]) == case.fields
    assert refusal.row["who"]["client"] == AGENCY


RAW = {
    "nothing": b"",
    "half an object": b'{"reference": ',
    "no JSON": b"reference=7",
    "not UTF-8": b'{"reference": "\xff\xfe"}',
    "a lone surrogate": b'{"reference": "\\ud800"}',
    "a NUL byte": b'{"reference": "a\0b"}',
    "not a number": b'{"reference": NaN}',
    "nested to the bottom": b"[" * 5000 + b"]" * 5000,
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW.keys())
@pytest.mark.parametrize("path", ["/v1/submissions", "/v1/certificates/lookup"])
async def test_a_body_that_is_no_json_is_refused(world: World, path: str, raw: bytes) -> None:
    """The place of the mistake is told, not what stands there."""
    refusal = await world.refused(lambda: world.ask("POST", path, raw))
    assert (refusal.status, refusal.code) == (422, "request.not_json")
    assert refusal.fields == {"(body)"}


async def test_nesting_between_what_readers_and_writers_bear_is_refused(world: World) -> None:
    """300 levels: deep enough to be read and too deep to be written, which once was a 500."""
    raw = b'{"reference": ' + b"[" * 300 + b"]" * 300 + b"}"
    refusal = await world.refused(lambda: world.ask("POST", "/v1/submissions", raw))
    assert (refusal.status, "reference" in refusal.fields) == (422, True)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "ÿ", ""])
async def test_json_under_another_name_is_refused(world: World, kind: str) -> None:
    """A page in a browser can post a form anywhere, but not application/json."""
    refusal = await world.refused(lambda: world.ask("POST", "/v1/submissions", b"{}", headers={"Content-Type": kind}))
    assert (refusal.status, refusal.code, refusal.fields) == (422, "request.media_type", {"Content-Type"})


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "nonsense"])
@pytest.mark.parametrize("path", ["/v1/submissions", "/v1/certificates/lookup", "/v1/blobs"])
async def test_a_body_that_claims_to_be_compressed_is_read_as_it_came(world: World, path: str, encoding: str) -> None:
    """What does not unpack was once a 500; what unpacks to a gigabyte is none of ours either."""
    kind = "application/pdf" if path == "/v1/blobs" else "application/json"
    headers = {"Content-Encoding": encoding, "Content-Type": kind}
    refusal = await world.refused(lambda: world.ask("POST", path, b"garbage", headers=headers))
    assert refusal.status == 422


async def test_a_json_body_above_the_limit_is_refused(world: World) -> None:
    """64 KiB here; the refusal comes before the body is parsed."""
    refusal = await world.refused(lambda: world.ask("POST", "/v1/submissions", {"x": "y" * 70_000}))
    assert (refusal.status, refusal.code) == (413, "request.too_large")


# --- uploads -----------------------------------------------------------------------------------------------------

UPLOADS: Mapping[str, tuple[bytes, Mapping[str, str], int, str, set[str]]] = {
    "a file above the limit": (SLIP + b"x" * 70_000, {}, 413, "request.too_large", set()),
    "a type that is not taken": (b"MZ", {"Content-Type": "application/x-msdownload"}, 422, "request.invalid",
                                 {"Content-Type"}),
    "a file that is not what it says": (b"MZ\x90", {}, 422, "blob.content_refused", {"Content-Type"}),
    "an empty file": (b"", {}, 422, "blob.content_refused", {"Content-Type"}),
    "a file with a script": (SLIP + b"/S /JavaScript ", {}, 422, "blob.content_refused", {"content"}),
    "a digest of something else": (SLIP, {"Content-Digest": f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"}, 422,
                                   "request.invalid", {"Content-Digest"}),
    "a digest that is none": (SLIP, {"Content-Digest": "md5=:AAAA:"}, 422, "request.invalid", {"Content-Digest"}),
    "a digest that is no base64": (SLIP, {"Content-Digest": f"sha-256=:{'=' * 44}:"}, 422, "request.invalid",
                                   {"Content-Digest"}),
}  # fmt: skip


@pytest.mark.parametrize("name", UPLOADS)
async def test_an_upload_is_refused_for(world: World, name: str) -> None:
    """The limit is named in the refusal; a digest that does not fit means: send the file again."""
    data, headers, status, code, fields = UPLOADS[name]
    typed = {"Content-Type": "application/pdf", **headers}
    refusal = await world.refused(lambda: world.ask("POST", "/v1/blobs", data, headers=typed))
    assert (refusal.status, refusal.code, refusal.fields) == (status, code, fields)
    if status == 413:
        assert "65536 bytes" in refusal.problem["detail"]


@pytest.mark.parametrize(
    "disposition",
    [
        "attachment; filename*=utf-8''%ff",
        "attachment; filename*=x-nobody-knows''%41",
        'attachment; filename="never closed',
        "nonsense; ;;",
    ],
)
async def test_a_file_name_that_cannot_be_read_costs_the_name_only(world: World, disposition: str) -> None:
    """The name is a courtesy to the clerk; the file is what counts."""
    headers = {"Content-Type": "application/pdf", "Content-Disposition": disposition}
    answer = await world.ask("POST", "/v1/blobs", SLIP, headers=headers)
    assert (answer.status, answer.json()["name"]) == (201, "unnamed")


async def test_a_file_name_in_no_charset_is_not_a_500(world: World) -> None:
    """A byte that is no UTF-8 reaches us as a lone surrogate, which nothing can store."""
    head = 'Content-Type: application/pdf\r\nContent-Disposition: attachment; filename="\udcff.pdf"\r\n'
    assert (await raw_request(world, "POST", "/v1/blobs", head, SLIP)).startswith(b"HTTP/1.1 201")


async def raw_request(world: World, method: str, path: str, head: str, body: bytes) -> bytes:
    """Send bytes that no HTTP client would send, and return the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.layout.ports.public)
    token = await world.token()
    lines = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{head}"
    length = "" if "Transfer-Encoding" in head else f"Content-Length: {len(body)}\r\n"
    writer.write(f"{lines}{length}\r\n".encode("utf-8", "surrogateescape") + body)
    await writer.drain()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("path", ["/v1/submissions", "/v1/blobs", "/oauth2/token", "/callbacks/guangdong/events"])
async def test_a_body_that_breaks_its_own_framing_is_the_callers_fault(world: World, path: str) -> None:
    """A chunk whose length is no number: the connection is of no more use, and that is all."""
    head = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    answer = await raw_request(world, "POST", path, head, b"2\r\n{}\r\nzz\r\n")
    assert answer.split(b" ")[1].startswith(b"4")


# --- materials of others, modes, borders -------------------------------------------------------------------------


async def test_the_blob_of_another_client_does_not_exist(world: World) -> None:
    """An id that leaked opens nothing, and the refusal is the same as for one that never was."""
    foreign = await world.upload("other-agency")
    body = await world.application("guangdong", materials=[{"code": "ID", "blob": foreign}])
    refusal = await world.refused(lambda: world.ask("POST", "/v1/submissions", body), foreign)
    assert (refusal.status, refusal.fields, refusal.codes) == (422, {"materials.0.blob"}, {"unknown_blob"})


async def test_a_region_outside_the_grant_is_refused(world: World) -> None:
    """Grants name regions one by one."""
    body = await world.application("guangdong", client="foshan-agency")
    refusal = await world.refused(lambda: world.ask("POST", "/v1/submissions", body, client="foshan-agency"))
    assert (refusal.status, refusal.code) == (403, "policy.no_grant")
    assert "region guangdong" in refusal.problem["detail"]
    assert "Ask the operator" in refusal.problem["detail"]


async def test_a_field_that_may_not_cross_is_left_at_home(world: World) -> None:
    """Domain rule P1: the bank account stays where it is, whatever consent there is."""
    body = await world.application("hongkong")
    body["form"] = {**body["form"], "bank_account": "6222020200112233"}
    refusal = await world.refused(lambda: world.ask("POST", "/v1/submissions", body), "6222020200112233")
    assert (refusal.fields, refusal.codes) == ({"form.bank_account"}, {"may_not_cross"})


NAMED = personal_fields(TRAVELLER, {"service": "residence"})
BORDERS: Mapping[str, tuple[list[dict[str, Any]], str]] = {
    "no consent": ([], "no consent"),
    "a consent to somebody else": ([consent("guangdong", NAMED)], "another recipient"),
    "a consent for another purpose": ([consent("hongkong", NAMED, purpose="Marketing")], "another purpose"),
    "a consent that has ended": ([consent("hongkong", NAMED, expires_at="2026-01-02T00:00:00Z")], "expired"),
    "a consent of the future": ([consent("hongkong", NAMED, given_at="2098-01-01T00:00:00Z")], "only given on"),
    "a consent to fewer fields": ([consent("hongkong", NAMED[1:])], "applicant.name"),
    "a consent that leaves the files out": (
        [consent("hongkong", [name for name in NAMED if name != "materials"])],
        "does not name materials",
    ),
}


@pytest.mark.parametrize("name", BORDERS)
async def test_nothing_crosses_the_border_with(world: World, name: str) -> None:
    """Domain rule P3 (PIPL art. 39): a separate consent with recipient, purpose, fields and term, in force now."""
    consents, words = BORDERS[name]
    body = await world.application("hongkong", consents=consents)
    refusal = await world.refused(lambda: world.ask("POST", "/v1/submissions", body), "Marketing")
    assert (refusal.status, refusal.code) == (403, "transfer.no_consent")
    assert refusal.fields == {"transfer.P3"}
    assert words in refusal.problem["detail"]
    assert "Ask the person" in refusal.problem["detail"]


async def test_nothing_crosses_the_border_without_a_registered_basis(world: World) -> None:
    """Domain rule P4: the standard contract on file is Guangzhou's; Foshan has filed none."""
    body = await world.application("hongkong", client="foshan-agency")
    refusal = await world.refused(lambda: world.ask("POST", "/v1/submissions", body, client="foshan-agency"))
    assert (refusal.code, refusal.fields) == ("transfer.no_transfer_basis", {"transfer.P4"})
    assert "from 440600 to 810000" in refusal.problem["detail"]


async def test_an_hkid_does_not_leave_hong_kong_and_every_broken_rule_is_told(world: World) -> None:
    """Domain rule P6. The agency hears of the missing basis in the same answer."""
    person = {**TRAVELLER, "document": {"type": "HKID", "number": "A1234563"}}
    body = await world.application("hongkong", client="hk-agency", applicant=person, place="guangdong")
    body["consents"] = [consent("guangdong", NAMED)]
    assert body["item"] == CROSSING
    refusal = await world.refused(lambda: world.ask("POST", "/v1/submissions", body, client="hk-agency"))
    assert refusal.status == 403
    assert refusal.fields == {"transfer.P4", "transfer.P6"}
    assert "transfer.must_stay_home" in refusal.codes


# --- lookups -----------------------------------------------------------------------------------------------------

HOLDER = {"name": CITIZEN["name"], "document": CITIZEN["document"]}
LOOKUPS = [
    bad("a number without a name", {"holder": {"document": CITIZEN["document"]}}, "holder.name"),
    bad("a name without a number", {"holder": {"name": "陈小明"}}, "holder.document"),
    bad("a number without its type", {"holder": {**HOLDER, "document": {"number": BAD_NUMBER}}}, "holder.document.type",
        never=(BAD_NUMBER,)),
    bad("an empty name", {"holder": {**HOLDER, "name": " "}}, "holder.name"),
    bad("a wrong check digit", {"holder": {**HOLDER, "document": {"type": "CN_RIC", "number": BAD_NUMBER}}},
        "holder.document.number", never=(BAD_NUMBER,)),
    bad("an unknown type of document", {"holder": {**HOLDER, "document": {"type": "CAT", "number": "1"}}},
        "holder.document.number", never=("CAT",)),
    bad("a certificate type that nobody knows", {"certificate_type": "猫证"}, "certificate_type", never=("猫证",)),
    bad("an issuer that does not issue it", {"issuer": "atlantis"}, "issuer", never=("atlantis",)),
    bad("everything at once", {"issuer": "x", "certificate_type": "猫证", "holder": {**HOLDER, "document": {
        "type": "CN_RIC", "number": BAD_NUMBER}}}, "certificate_type", "holder.document.number",
        never=(BAD_NUMBER, "猫证")),
    bad("no operator, case, item or purpose", without("operator", "case", "item", "purpose"), "operator", "case",
        "item", "purpose"),
    bad("a role that is none", {"holder_role": "neighbour"}, "holder_role", never=("neighbour",)),
    bad("a purpose of more than 200 characters", {"purpose": LONG}, "purpose", never=(LONG,)),
    bad("a control character", {"operator": "T\0"}, "operator"),
    bad("a purpose that no grant names", {"purpose_code": "curiosity"}, code="policy.no_grant", status=403),
]  # fmt: skip


@pytest.mark.parametrize("case", LOOKUPS, ids=lambda case: case.name)
async def test_a_lookup_is_refused_for(world: World, case: Bad) -> None:
    """The holder is named by name, number and type, and the five elements go with every question (domain rule P8)."""
    body = case.change(world.question())
    asked = len(world.authorities["guangdong"].seen)
    refusal = await world.refused(lambda: world.ask("POST", "/v1/certificates/lookup", body), *case.never)
    assert (refusal.status, refusal.code) == (case.status, case.code)
    assert refusal.fields == case.fields
    assert not [one for one in world.authorities["guangdong"].seen[asked:] if "GetCertificate" in one]


async def test_a_client_without_any_grant_for_lookups_is_refused(world: World) -> None:
    """The scope opens the door, the grant says what is behind it."""
    refusal = await world.refused(
        lambda: world.ask("POST", "/v1/certificates/lookup", world.question(), client="foshan-agency")
    )
    assert (refusal.status, refusal.code) == (403, "policy.no_grant")


async def test_a_holder_who_is_not_in_the_case_is_not_looked_up(world: World) -> None:
    """Domain rule P8, for cases that we know: whoever is not in it is nobody's business there."""
    case = await world.file("guangdong")
    other = {"name": "湾区示例有限公司", "document": {"type": "USCC", "number": "91440300MA5T00029H"}}
    body = world.question(holder=other, case=case)
    refusal = await world.refused(
        lambda: world.ask("POST", "/v1/certificates/lookup", body), "湾区示例有限公司", "91440300MA5T00029H"
    )
    assert (refusal.status, refusal.code) == (403, "transfer.subject_not_involved")
    assert refusal.fields == {"transfer.P8"}


# --- tokens ------------------------------------------------------------------------------------------------------


def _unsigned(world: World) -> str:
    """Return a token that says of itself that it needs no signature (RFC 8725 §3.1)."""
    claims = world.forged_token().split(".")[1]
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()
    return f"{header}.{claims}."


def _tampered(world: World) -> str:
    header, claims, signature = world.forged_token().split(".")
    said = json.loads(base64.urlsafe_b64decode(claims + "=="))
    more = base64.urlsafe_b64encode(json.dumps({**said, "client_id": "hk-agency"}).encode()).rstrip(b"=").decode()
    return f"{header}.{more}.{signature}"


TOKENS: Mapping[str, tuple[Callable[[World], str], int, str, str]] = {
    "is missing": (lambda _: "", 401, "auth.missing_token", "Authorization"),
    "is no token": (lambda _: "x", 401, "auth.invalid_token", "not a compact JWT"),
    "is as long as a novel": (lambda _: "a" * 9000, 401, "auth.invalid_token", "not a compact JWT"),
    "has expired": (lambda w: w.forged_token(exp=int(time.time()) - 1), 401, "auth.invalid_token", "expired"),
    "has no end": (lambda w: w.forged_token(exp="never"), 401, "auth.invalid_token", "no term"),
    "is by another issuer": (lambda w: w.forged_token(iss="https://evil.example"), 401, "auth.invalid_token", "issuer"),
    "is for another audience": (lambda w: w.forged_token(aud=w.url), 401, "auth.invalid_token", "audience"),
    "is not signed": (_unsigned, 401, "auth.invalid_token", "must be signed"),
    "was changed": (_tampered, 401, "auth.invalid_token", "not issued by this gateway"),
    "is the client's own assertion": (lambda w: w.assertion(AGENCY, aud=f"{w.url}/v1"), 401, "auth.invalid_token", ""),
    "is of a client that is gone": (lambda w: w.forged_token(client_id="gone"), 401, "auth.invalid_token", "any more"),
    "is a person's": (lambda w: w.forged_token(sid="s1"), 401, "auth.invalid_token", "person's sign-on"),
    "lacks the scope": (lambda w: w.forged_token(scope="certificates"), 403, "auth.insufficient_scope", "submissions"),
}


@pytest.mark.parametrize("name", TOKENS)
async def test_a_token_opens_nothing_when_it(world: World, name: str) -> None:
    """Whatever is wrong with it, the body behind it is not even read, and the token is not repeated."""
    make, status, code, words = TOKENS[name]
    body, token = await world.application("foshan"), make(world)
    never = (token,) if len(token) > 1 else ()
    refusal = await world.refused(lambda: world.ask("POST", "/v1/submissions", body, token=token), *never)
    assert (refusal.status, refusal.code) == (status, code)
    assert words in refusal.problem["detail"]
    assert refusal.row["who"].get("client", AGENCY) == AGENCY


@pytest.mark.parametrize("header", ["Basic dXNlcjpwYXNz", "Bearer", "bearer ", "Bearer\t"])
async def test_another_way_to_authenticate_is_refused(world: World, header: str) -> None:
    """One scheme, and the refusal says where a token is to be had."""
    refusal = await world.refused(lambda: world.send("GET", "/v1/items", headers={"Authorization": header}))
    assert (refusal.status, refusal.code) == (401, "auth.missing_token")
    assert "/oauth2/token" in refusal.problem["detail"]


async def test_a_token_for_one_scope_does_not_open_the_other(world: World) -> None:
    """The scope is what was asked for, not what the client could have had."""
    refusal = await world.refused(
        lambda: world.ask("POST", "/v1/certificates/lookup", world.question(), scope="submissions")
    )
    assert (refusal.status, refusal.code) == (403, "auth.insufficient_scope")


# --- addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "request.no_such_address"),
        ("GET", "/v2/items", 404, "request.no_such_address"),
        ("GET", "/v1/submissions/a/b", 404, "request.no_such_address"),
        ("POST", "/static/..%2f..%2fapp.py", 405, "request.wrong_method"),
        ("GET", "/static/..%2f..%2fapp.py", 404, "request.no_such_address"),
        ("DELETE", "/v1/submissions", 405, "request.wrong_method"),
        ("PUT", "/oauth2/token", 405, "request.wrong_method"),
        ("GET", "/callbacks/guangdong/events", 405, "request.wrong_method"),
    ],
)
async def test_an_address_that_is_not_there_says_so(
    world: World, method: str, path: str, status: int, code: str
) -> None:
    """Nobody was asked for anything, so there is no evidence; the request id leads to our log."""
    before = await world.rows(evidence, outcome="refused")
    answer = await world.send(method, path)
    problem = answer.json()
    assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
    assert problem["instance"] == f"urn:pearl:request:{answer.headers['X-Request-Id']}"
    assert ("Allow" in answer.headers) is (status == 405)
    assert path not in answer.body.decode()
    assert await world.rows(evidence, outcome="refused") == before


# --- callbacks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """A callback as a region sends it."""

    path: str
    headers: Mapping[str, str]
    body: bytes


def guangdong_message(world: World, body: bytes, *, ago: float = 0, token: bytes | None = None) -> Message:
    """Sign a callback as the province does."""
    path = "/callbacks/guangdong/events"
    secret = token or _given(world, "guangdong")["paas_token"]
    headers = sandbox_signature.signed_headers(secret, "gd-authority", time.time() - ago, "POST", path, body)
    return Message(path, {**headers, "Content-Type": "application/json"}, body)


def hongkong_message(world: World, body: bytes, *, ago: float = 0, token: bytes | None = None) -> Message:
    """Sign and seal a callback as Hong Kong does."""
    given = _given(world, "hongkong")
    client = sandbox_wire.Client(given["client_id"].decode(), token or given["client_secret"])
    key = os.urandom(32)
    sealed = sandbox_wire.seal(key, body, os.urandom(12))
    wrapped = sandbox_wire.wrap(sandbox_wire.kek(given["kek_public_key"]), key)
    envelope = json.dumps({"content": sealed, "secretKey": wrapped}).encode()
    headers = {"Content-Type": "application/json", **client.headers(envelope, time.time() - ago)}
    return Message("/callbacks/hongkong/events", headers, envelope)


def _given(world: World, region: str) -> Mapping[str, bytes]:
    return next(one.secrets for one in world.layout.authorities if one.region == region)


SENDERS = {"guangdong": guangdong_message, "hongkong": hongkong_message}
EVENTS: Mapping[str, Callable[[str, str], dict[str, Any]]] = {
    "guangdong": lambda case, state: {
        "sjbh": f"T-{os.urandom(6).hex()}", "wwbh": case, "sblsh": "440000202601010000000001",
        "sblsh_short": "GD00000001", "fssj": "20260101120000", "ztdm": state,
    },
    "hongkong": lambda case, state: {
        "eventID": f"T-{os.urandom(6).hex()}", "refNo": case, "caseNo": "HK0000000001",
        "occurredAt": 1767225600000, "status": state,
    },
}  # fmt: skip
AHEAD: Mapping[str, dict[str, Any]] = {
    "guangdong": {"fssj": "20990101120000"},
    "hongkong": {"occurredAt": 4070923200000},
}
ACCEPTED = {"guangdong": "SL1", "hongkong": "ACCEPTED"}
NOT_ACCEPTED = {"guangdong": "SL0", "hongkong": "REJECTED"}
PUSHING = pytest.mark.parametrize("region", SENDERS)


async def deliver(world: World, message: Message) -> Answer:
    return await world.send("POST", message.path, data=message.body, headers=message.headers)


def event(region: str, case: str = "KY-UNKNOWN", state: str | None = None) -> bytes:
    return json.dumps(EVENTS[region](case, state or ACCEPTED[region])).encode()


@PUSHING
async def test_a_forged_callback_is_refused(world: World, region: str) -> None:
    """Whoever does not have the region's secret moves no case."""
    message = SENDERS[region](world, event(region), token=b"guessed" * 6)
    refusal = await world.refused(lambda: deliver(world, message))
    assert (refusal.status, refusal.code) == (401, "callback.forged")
    assert refusal.row["who"] == {"region": region}


@PUSHING
async def test_a_callback_without_a_signature_names_the_headers(world: World, region: str) -> None:
    """An engineer at the region sees at once what is missing."""
    bare = Message(f"/callbacks/{region}/events", {"Content-Type": "application/json"}, b"{}")
    refusal = await world.refused(lambda: deliver(world, bare))
    assert (refusal.status, refusal.code) == (401, "callback.forged")
    assert "signature" in refusal.problem["detail"]


@PUSHING
async def test_an_altered_body_is_a_forged_callback(world: World, region: str) -> None:
    """The province's own signature does not cover the body; our digest does."""
    message = SENDERS[region](world, event(region))
    altered = Message(message.path, message.headers, message.body + b" ")
    refusal = await world.refused(lambda: deliver(world, altered))
    assert (refusal.status, refusal.code) == (401, "callback.forged")


@PUSHING
async def test_a_replayed_callback_is_refused(world: World, region: str) -> None:
    """A recording of a genuine message is worth nothing."""
    message = SENDERS[region](world, event(region))
    assert (await deliver(world, message)).status == 200
    refusal = await world.refused(lambda: deliver(world, message))
    assert (refusal.status, refusal.code, refusal.fields) == (409, "callback.replayed", {"nonce"})


@PUSHING
@pytest.mark.parametrize("ago", [4000.0, -4000.0], ids=["old", "of the future"])
async def test_a_callback_out_of_its_time_is_refused(world: World, region: str, ago: float) -> None:
    """A genuine signature of an hour ago, or of a clock that is wrong."""
    message = SENDERS[region](world, event(region), ago=ago)
    refusal = await world.refused(lambda: deliver(world, message))
    assert (refusal.status, refusal.code) == (409, "callback.replayed")


@PUSHING
@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff\xfe", b'{"a": "\\ud800"}', b"[" * 2000], ids=repr)
async def test_a_signed_body_that_is_no_object_is_refused(world: World, region: str, raw: bytes) -> None:
    """Genuine and broken: the region's engineers must hear of it, so it is not swallowed."""
    refusal = await world.refused(lambda: deliver(world, SENDERS[region](world, raw)))
    assert (refusal.status, refusal.code) == (422, "request.invalid")
    assert "signature is right" in refusal.problem["detail"]


WRONG_EVENTS: Mapping[str, dict[str, Any]] = {
    "a time that is none": {"fssj": "20269999999999", "occurredAt": 10**15},
    "a time beyond all calendars": {"fssj": "99999999999999", "occurredAt": 10**30},
    "a type that is wrong": {"fssj": 7, "occurredAt": "7"},
    "no event id": {"sjbh": None, "eventID": None},
    "an event id as long as a novel": {"sjbh": "x" * 5000, "eventID": "x" * 5000},
}


@PUSHING
@pytest.mark.parametrize("name", WRONG_EVENTS)
async def test_a_signed_event_with_a_wrong_field_names_it_in_the_regions_words(
    world: World, region: str, name: str
) -> None:
    """The region's engineers know their own field names, not ours."""
    right = EVENTS[region]("KY-UNKNOWN", ACCEPTED[region])
    wrong = {name: value for name, value in WRONG_EVENTS[name].items() if name in right}
    body = json.dumps({**right, **wrong}).encode()
    refusal = await world.refused(lambda: deliver(world, SENDERS[region](world, body)), "x" * 100)
    assert (refusal.status, refusal.code) == (422, "callback.unreadable")
    assert refusal.fields == set(wrong)


@PUSHING
async def test_a_signed_event_that_cannot_be_read_is_kept_once_however_often_it_comes(
    world: World, region: str
) -> None:
    """Refused so that the region's engineers hear of it, kept so that a person can act; they repeat what we refuse."""
    case = await world.file(region)
    await world.at_rest(case)
    before, known = await world.timeline(case), {row["id"] for row in await world.rows(event_conflicts, region=region)}
    wrong = {
        name: value for name, value in WRONG_EVENTS["a time that is none"].items() if name in EVENTS[region]("", "")
    }
    body = json.dumps({**EVENTS[region](case, ACCEPTED[region]), **wrong}).encode()
    for _ in range(3):
        refusal = await world.refused(lambda: deliver(world, SENDERS[region](world, body)), case)
        assert (refusal.status, refusal.code) == (422, "callback.unreadable")
        assert (refusal.row["action"], refusal.row["who"]) == ("status.callback", {"region": region})
    (kept,) = [row for row in await world.rows(event_conflicts, region=region) if row["id"] not in known]
    assert kept["reason"] == f"cannot be read: {next(iter(wrong))}"
    assert case.encode() not in kept["event"]
    assert await world.timeline(case) == before


@PUSHING
async def test_an_event_with_a_state_that_nobody_knows_is_taken_and_kept_for_a_person(
    world: World, region: str
) -> None:
    """A region adds a state before it tells anybody: the case goes on, and somebody hears of it."""
    case = await world.file(region)
    await world.at_rest(case)
    assert (await deliver(world, SENDERS[region](world, event(region, case, "ZZ")))).status == 200
    (kept,) = await world.rows(event_conflicts, submission_id=case)
    assert case.encode() not in kept["event"]
    assert [row["state"] for row in await world.rows(submissions, id=case)] == ["COMPLETED"]


@PUSHING
async def test_an_event_of_years_ahead_is_kept_for_a_person(world: World, region: str) -> None:
    """In the timeline it would overtake everything that follows; acknowledged, because it can be read."""
    case = await world.file(region)
    await world.at_rest(case)
    before = await world.timeline(case)
    body = json.dumps({**EVENTS[region](case, ACCEPTED[region]), **AHEAD[region]}).encode()
    assert (await deliver(world, SENDERS[region](world, body))).status == 200
    assert await world.timeline(case) == before
    (kept,) = await world.rows(event_conflicts, submission_id=case)
    assert kept["reason"] == "is dated in the future"
    assert case.encode() not in kept["event"]


async def test_a_callback_of_a_region_that_is_not_enabled_is_refused(world: World) -> None:
    """Foshan pushes nothing and Atlantis does not exist: both get the same answer, and both leave evidence."""
    for region in ("atlantis", "foshan", "%ED%A0%80", "%00"):
        message = Message(f"/callbacks/{region}/events", {}, b"{}")
        refusal = await world.refused(lambda m=message: deliver(world, m), "atlantis")  # type: ignore[misc] # bound as a default, used at once
        assert (refusal.status, refusal.code) == (404, "callback.unknown_region")


@PUSHING
async def test_a_callback_to_another_path_is_refused(world: World, region: str) -> None:
    """Hong Kong's signature does not cover the path, so there is only one."""
    message = SENDERS[region](world, event(region))
    moved = Message(f"/callbacks/{region}/other", message.headers, message.body)
    assert (await world.refused(lambda: deliver(world, moved))).status == 404


async def test_a_callback_above_the_limit_is_not_read_to_its_end(world: World) -> None:
    """Nothing of it was verified, so nothing of it is worth keeping."""
    answer = await world.send("POST", "/callbacks/guangdong/events", data=b"x" * 70_000)
    assert (answer.status, answer.json()["code"]) == (413, "request.too_large")


@PUSHING
async def test_an_event_for_a_case_that_nobody_knows_is_kept_for_a_person(world: World, region: str) -> None:
    """It is genuine, so it is acknowledged; it fits nothing, so it is a conflict."""
    sequence = int.from_bytes(os.urandom(2), "big")
    name = case_number(origin="440100", handling="440600", day=date(2020, 1, 1), sequence=sequence)
    answer = await deliver(world, SENDERS[region](world, event(region, name)))
    assert answer.status == 200
    (kept,) = await world.rows(event_conflicts, submission_id=name)
    assert (kept["region"], kept["reason"]) == (region, "there is no such submission here")


@PUSHING
async def test_a_region_cannot_move_the_case_of_another(world: World, region: str) -> None:
    """Only the place with jurisdiction decides (不改变原有办理事权)."""
    case = await world.file("foshan")
    await world.at_rest(case)
    before = await world.timeline(case)
    assert (await deliver(world, SENDERS[region](world, event(region, case)))).status == 200
    assert await world.timeline(case) == before
    (kept,) = await world.rows(event_conflicts, submission_id=case)
    assert "has no power" in kept["reason"]


@PUSHING
async def test_an_event_that_cannot_follow_is_kept_for_a_person(world: World, region: str) -> None:
    """Completed, and then not accepted: somebody at the region made a mistake, and somebody must look."""
    case = await world.file(region)
    await world.at_rest(case)
    body = event(region, case, NOT_ACCEPTED[region])
    assert (await deliver(world, SENDERS[region](world, body))).status == 200
    assert (await world.case(case))["state"] == "COMPLETED"
    (kept,) = await world.rows(event_conflicts, submission_id=case)
    assert kept["reason"].startswith("NOT_ACCEPTED c"), "cannot follow, or contradicts: some count in seconds"
    assert case.encode() not in kept["event"]


# --- the feed ----------------------------------------------------------------------------------------------------


async def test_garbage_from_a_feed_leaves_cursor_and_case_alone(world: World) -> None:
    """What cannot be read moves nothing; the next look begins where the last good one ended."""
    first = await world.file("foshan")
    await world.at_rest(first)
    foshan = world.authorities["foshan"]
    (before,) = await world.rows(feed_cursors, region="foshan")
    case = await world.case(first)
    for _ in range(3):
        foshan.trap("#QueryEvents", "garbage")

    async def sprung() -> bool | None:
        return not foshan.traps or None

    await eventually(sprung)
    (after,) = await world.rows(feed_cursors, region="foshan")
    assert after["cursor"] == before["cursor"]
    assert await world.case(first) == case
    second = await world.file("foshan")
    await world.at_rest(second)


# --- whatever else comes -----------------------------------------------------------------------------------------

ANYTHING = st.text(st.characters(codec="utf-8"), max_size=80)
HOSTILE = st.sampled_from(["\0", "\ud800", "\uffff", "%00", "'; DROP TABLE submissions; --", "{{7*7}}", "x" * 5000, "‮"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), ANYTHING, HOSTILE)
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(ANYTHING, inner, max_size=4))
)
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)
FUZZ = settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
"""The same examples in every run: a finding that comes and goes is worth little. More are a matter of one number."""


def placed(body: Any, path: list[int], value: Any) -> Any:
    """Return the body with one part, found by following `path` as far as it goes, replaced by `value`."""
    if not path or not isinstance(body, dict | list) or not body:
        return value
    if isinstance(body, list):
        at = path[0] % len(body)
        return [placed(one, path[1:], value) if i == at else one for i, one in enumerate(body)]
    name = list(body)[path[0] % len(body)]
    return {**body, name: placed(body[name], path[1:], value)}


PATHS = st.lists(st.integers(0, 20), min_size=1, max_size=4)


@given(path=PATHS, value=VALUES)
@FUZZ
async def test_no_application_makes_a_500(shared_world: World, path: list[int], value: Any) -> None:
    """A right application with one part replaced by anything that JSON can say."""
    body = placed(await shared_world.application("foshan"), path, value)
    answer = await shared_world.ask("POST", "/v1/submissions", json.dumps(body).encode())
    assert answer.status < 500, answer.body


@given(path=PATHS, value=VALUES)
@FUZZ
async def test_no_lookup_makes_a_500(shared_world: World, path: list[int], value: Any) -> None:
    """A right question with one part replaced by anything that JSON can say."""
    body = json.dumps(placed(shared_world.question(), path, value)).encode()
    answer = await shared_world.ask("POST", "/v1/certificates/lookup", body)
    assert answer.status < 500, answer.body


@given(path=st.sampled_from(["/v1/submissions", "/v1/certificates/lookup", "/v1/blobs"]), raw=st.binary(max_size=400))
@FUZZ
async def test_no_bytes_make_a_500(shared_world: World, path: str, raw: bytes) -> None:
    """Bytes that need not be anything."""
    kind = "application/pdf" if path == "/v1/blobs" else "application/json"
    answer = await shared_world.ask("POST", path, raw, headers={"Content-Type": kind})
    assert answer.status < 500, answer.body


FIELDS = ["grant_type", "scope", "code", "client_id", "client_assertion", "client_assertion_type", "redirect_uri",
          "code_verifier", "state", "nonce", "acr_values", "max_age", "prompt", "ui_locales", "claims",
          "login_hint", "code_challenge", "code_challenge_method", "request", "display"]  # fmt: skip
KNOWN_WORDS = st.sampled_from(
    ["client_credentials", "authorization_code", AGENCY, "demo-portal", "pearl-window", "code", "openid profile",
     "S256", "http://127.0.0.1:8400/callback", "none", "login", "0"]
)  # fmt: skip
PAIRS = st.lists(
    st.tuples(st.sampled_from([*FIELDS, "response_type"]), st.one_of(KNOWN_WORDS, ANYTHING)),
    max_size=12,
)


@given(pairs=PAIRS, raw=st.one_of(st.none(), st.binary(max_size=200)))
@FUZZ
async def test_no_token_request_makes_a_500(
    shared_world: World, pairs: list[tuple[str, str]], raw: bytes | None
) -> None:
    """Forms with known names and any values, and bodies that are no forms."""
    data = _form(pairs) if raw is None else raw
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await shared_world.send("POST", "/oauth2/token", data=data, headers=headers)
    assert answer.status < 500, answer.body


@given(pairs=PAIRS, post=st.booleans())
@FUZZ
async def test_no_authorization_request_makes_a_500(
    shared_world: World, pairs: list[tuple[str, str]], post: bool
) -> None:
    """A stranger's link in a person's browser, and the same as a form."""
    if post:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await shared_world.send("POST", "/oauth2/authorize", data=_form(pairs), headers=headers)
    else:
        answer = await shared_world.send("GET", f"/oauth2/authorize?{_form(pairs).decode()}")
    assert answer.status < 500, answer.body


async def test_an_unknown_client_with_a_strange_response_type_is_refused(world: World) -> None:
    """The same request with a client that is known is answered properly."""
    for strange in ("%E4%B8%AD", "%22", "%0A"):
        assert (await world.send("GET", f"/oauth2/authorize?response_type={strange}")).status == 400


def _form(pairs: list[tuple[str, str]]) -> bytes:
    return urlencode(pairs).encode()


@given(
    region=st.sampled_from(["guangdong", "hongkong", "foshan", "x"]),
    headers=st.dictionaries(
        st.sampled_from(["x-tif-paasid", "x-tif-timestamp", "x-tif-nonce", "x-tif-signature", "Content-Digest",
                         "x-pearl-digest-mac", "clientID", "signatureMethod", "timestamp", "nonce", "signature"]),
        HEADER,
    ),
    raw=st.binary(max_size=200),
)  # fmt: skip
@FUZZ
async def test_no_stranger_at_the_callbacks_makes_a_500(
    shared_world: World, region: str, headers: dict[str, str], raw: bytes
) -> None:
    """Anybody can reach that door."""
    answer = await shared_world.send("POST", f"/callbacks/{region}/events", data=raw, headers=headers)
    assert 400 <= answer.status < 500, answer.body


@given(region=st.sampled_from(sorted(SENDERS)), path=PATHS, value=VALUES)
@FUZZ
async def test_no_signed_callback_makes_a_500(shared_world: World, region: str, path: list[int], value: Any) -> None:
    """A genuine region with a bug: its signature is right, one part of its event is anything."""
    body = json.dumps(placed(EVENTS[region]("KY-UNKNOWN", ACCEPTED[region]), path, value)).encode()
    answer = await deliver(shared_world, SENDERS[region](shared_world, body))
    assert answer.status < 500, answer.body
