"""Whole documents through the packs of the product: wrong ones, hostile ones, and text that must survive."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from lxml import etree

from gateway.errors import MappingFailed
from gateway.mapping import Pack, load_packs
from gateway.mapping.limits import MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_ITEMS
from gateway.mapping.packs import packs_of, read_ground
from gateway.mapping.source import read_files

ROOT = Path(__file__).parents[2] / "mappings"
NS = "urn:gov:foshan:exchange:v1"


@pytest.fixture(scope="module")
def guangdong() -> Mapping[str, Pack]:
    return load_packs(ROOT, "guangdong")


@pytest.fixture(scope="module")
def foshan() -> Mapping[str, Pack]:
    return load_packs(ROOT, "foshan")


@pytest.fixture(scope="module")
def hongkong() -> Mapping[str, Pack]:
    return load_packs(ROOT, "hongkong")


@pytest.fixture
def case() -> dict[str, Any]:
    """A submission with everything in it."""
    found: dict[str, Any] = example("foshan/submission/examples/person-at-a-window.canonical.json")
    return found


def example(path: str) -> Any:
    return orjson.loads((ROOT / path).read_bytes())


def problems(failure: pytest.ExceptionInfo[MappingFailed]) -> dict[str, str]:
    return {problem.field: problem.code for problem in failure.value.problems}


def event(*lines: str) -> bytes:
    usual = ["<EventId>E</EventId>", "<CaseNo>C</CaseNo>", "<AcceptNo>A</AcceptNo>", "<Status>20</Status>"]
    inner = "".join([*usual, "<OccurredAt>2026-03-30T10:00:00+08:00</OccurredAt>", *lines])
    return f'<Event xmlns="{NS}">{inner}</Event>'.encode()


# --- saying ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", ["guangdong", "foshan", "hongkong"])
def test_every_wrong_field_is_named_at_once_by_our_name_and_without_its_value(
    region: str, case: dict[str, Any]
) -> None:
    secret = "440106-not-a-date"
    case["applicant"]["birth_date"] = secret
    case["applicant"]["sex"] = "X"
    case["applicant"]["document"].pop("number")
    case["materials"][1]["size"] = "big"
    case["form"]["remark"] = 5
    with pytest.raises(MappingFailed) as failure:
        load_packs(ROOT, region)["submission"].to_region(case)
    assert problems(failure) == {
        "applicant.birth_date": "invalid",
        "applicant.sex": "unknown_code",
        "applicant.document.number": "required",
        "materials[1].size": "type",
        "form.remark": "type",
    }
    assert secret not in f"{failure.value} {failure.value.problems}"
    assert failure.value.region == region


@pytest.mark.parametrize("region", ["guangdong", "foshan", "hongkong"])
def test_what_only_their_schema_refuses_is_named_by_our_name(region: str, case: dict[str, Any]) -> None:
    """The digest is text to the vocabulary; that it is 64 hex digits is known to the schema alone."""
    case["materials"][1]["sha256"] = "ABC"
    with pytest.raises(MappingFailed) as failure:
        load_packs(ROOT, region)["submission"].to_region(case)
    assert problems(failure) == {"materials[1].sha256": "schema"}


@pytest.mark.parametrize("region", ["guangdong", "foshan", "hongkong"])
@pytest.mark.parametrize("field", ["applicant", "materials", "form", "item"])
@pytest.mark.parametrize("value", ["text", 5, ["x"], [[]]])
def test_a_document_of_the_wrong_build_is_refused_and_never_raises_anything_else(
    region: str, field: str, value: Any, case: dict[str, Any]
) -> None:
    case[field] = value
    with pytest.raises(MappingFailed) as failure:
        load_packs(ROOT, region)["submission"].to_region(case)
    assert all(name.startswith(field) for name in problems(failure))


def test_a_document_type_without_counterpart_is_a_problem_and_not_a_guess(
    guangdong: Mapping[str, Pack], case: dict[str, Any]
) -> None:
    """A Hong Kong identity card number must not slip into a mainland case as "other"."""
    case["applicant"]["document"] = {"type": "HKID", "number": "A1234563"}
    with pytest.raises(MappingFailed) as failure:
        guangdong["submission"].to_region(case)
    assert problems(failure) == {"applicant.document.type": "unknown_code"}


def test_what_no_rule_lists_does_not_pass(guangdong: Mapping[str, Pack], case: dict[str, Any]) -> None:
    case["applicant"]["password"] = case["secret"] = "let me through"
    assert "let me through" not in str(guangdong["submission"].to_region(case))


def test_a_region_may_demand_what_the_vocabulary_leaves_open(hongkong: Mapping[str, Pack]) -> None:
    """Nothing is asked in Hong Kong without the holder's consent."""
    query = example("hongkong/certificate-query/examples/person.canonical.json")
    del query["consent"]
    with pytest.raises(MappingFailed) as failure:
        hongkong["certificate-query"].to_region(query)
    assert problems(failure) == {"consent": "required"}


def test_the_length_of_the_purpose_is_the_regions_to_limit(foshan: Mapping[str, Pack]) -> None:
    query = example("foshan/certificate-query/examples/person.canonical.json")
    query["purpose"] = "用" * 201
    with pytest.raises(MappingFailed) as failure:
        foshan["certificate-query"].to_region(query)
    assert problems(failure) == {"purpose": "schema"}


@pytest.mark.parametrize("region", ["guangdong", "foshan", "hongkong"])
@pytest.mark.parametrize("field", ["materials", "form"])
def test_a_list_beyond_the_limit_is_refused(region: str, field: str, case: dict[str, Any]) -> None:
    case["materials"] = case["materials"][:1] * (MAX_ITEMS + (field == "materials"))
    case["form"] = {str(n): "x" for n in range(MAX_ITEMS + (field == "form"))}
    with pytest.raises(MappingFailed) as failure:
        load_packs(ROOT, region)["submission"].to_region(case)
    assert problems(failure) == {field: "too_long"}


def test_converting_leaves_the_document_alone(guangdong: Mapping[str, Pack], case: dict[str, Any]) -> None:
    before = copy.deepcopy(case)
    guangdong["submission"].to_region(case)
    assert case == before


# --- hearing -----------------------------------------------------------------------------------------------------


def test_wrong_fields_of_a_json_answer_are_named_by_their_place(guangdong: Mapping[str, Pack]) -> None:
    answer = {"sjbh": "E", "wwbh": "W", "ztdm": "XX-1", "fssj": "20261301000000", "bjjgms": "ok", "bz": 5}
    with pytest.raises(MappingFailed) as failure:
        guangdong["event"].to_canonical(answer)
    assert problems(failure) == {
        "sblsh": "required",
        "fssj": "invalid",
        "bjjgdm": "required",
        "bz": "schema",
    }
    assert "XX-1" not in f"{failure.value} {failure.value.problems}"


def test_wrong_fields_of_an_xml_answer_are_named_by_their_place(foshan: Mapping[str, Pack]) -> None:
    answer = event("<Result><Code>9-secret</Code><Text/></Result>").replace(b"2026-03-30T", b"secret")
    with pytest.raises(MappingFailed) as failure:
        foshan["event"].to_canonical(answer)
    assert problems(failure) == {"OccurredAt": "schema"}
    assert "secret" not in f"{failure.value} {failure.value.problems}"


def test_a_missing_element_is_named(foshan: Mapping[str, Pack]) -> None:
    with pytest.raises(MappingFailed) as failure:
        foshan["event"].to_canonical(event().replace(b"<AcceptNo>A</AcceptNo>", b""))
    assert problems(failure)["AcceptNo"] == "required"


def test_items_of_an_xml_list_are_counted_as_in_xpath(foshan: Mapping[str, Pack]) -> None:
    raw = (ROOT / "foshan/submission/examples/person-at-a-window.region.xml").read_bytes()
    with pytest.raises(MappingFailed) as failure:
        foshan["submission"].to_canonical(raw.replace(b"1048576", b"many"))
    assert problems(failure) == {"Materials/Material[2]/Size": "schema"}


def test_a_fixed_value_must_be_what_it_is_fixed_to(foshan: Mapping[str, Pack]) -> None:
    """A digest by another algorithm is not the digest that we compare."""
    raw = (ROOT / "foshan/submission/examples/person-at-a-window.region.xml").read_bytes()
    with pytest.raises(MappingFailed) as failure:
        foshan["submission"].to_canonical(raw.replace(b"SHA-256", b"SM3"))
    assert problems(failure) == {
        "Materials/Material[1]/Digest/@alg": "fixed",
        "Materials/Material[2]/Digest/@alg": "fixed",
    }


def test_a_name_given_twice_in_a_form_is_refused(guangdong: Mapping[str, Pack]) -> None:
    """Which of the two counts is not ours to choose."""
    theirs = example("guangdong/submission/examples/least-online.region.json")
    theirs["bdxx"] = [{"bdxbm": "a", "bdxz": "1"}, {"bdxbm": "a", "bdxz": "2"}]
    with pytest.raises(MappingFailed) as failure:
        guangdong["submission"].to_canonical(theirs)
    assert problems(failure) == {"bdxx[1]": "repeated"}


def test_a_document_number_of_no_known_shape_leaves_its_kind_unknown(guangdong: Mapping[str, Pack]) -> None:
    """40 is "other": guessing which other would make two people one."""
    claims = {"useridcode": "u", "usertype": "1", "cn": "测试", "idcardtype": "40", "idcardnumber": "军字第0001号"}
    assert guangdong["person"].to_canonical(claims)["document"]["type"] == "unknown:40"


def test_an_unknown_code_is_kept_and_told() -> None:
    """A region that adds a code must not stop the cases that carry it; somebody has to be told."""
    told: list[tuple[str, str, str]] = []
    packs = packs_of(read_ground(read_files(ROOT)), "guangdong", notice=lambda *where: told.append(where))
    answer = {"sjbh": "E", "wwbh": "W", "sblsh": "S", "ztdm": "XX-1", "fssj": "20260301000000"}
    assert packs["event"].to_canonical(answer)["state"] == "unknown:XX-1"
    assert told == [("guangdong", "event", "state")]


# --- hostile documents -------------------------------------------------------------------------------------------

DOCTYPE = b'<!DOCTYPE Event [<!ENTITY x "boo">]>'


@pytest.mark.parametrize(
    "document",
    [
        DOCTYPE + event("<Reason>&x;</Reason>"),
        DOCTYPE + event(),
        f'<?xml version="1.0" encoding="UTF-16"?>{(DOCTYPE + event()).decode()}'.encode("utf-16"),
        b'<!DOCTYPE Event SYSTEM "file:///etc/passwd">' + event(),
        event("<Reason>&undefined;</Reason>"),
        event("<Reason>"),
        event() + event(),
        b"",
        b"\xff\xfe\x00",
        b"not xml",
        b"<Event/>",
        b"<Event xmlns='urn:elsewhere'/>",
        b"<a>" * 5_000,
        event("<Reason>" + "<a>" * 300 + "</a>" * 300 + "</Reason>"),
        event(f"<Reason>{'x' * MAX_DOCUMENT_BYTES}</Reason>"),
        {"Event": {}},
        "<Event/>",
        None,
    ],
)
def test_hostile_or_broken_xml_is_refused(document: Any, foshan: Mapping[str, Pack]) -> None:
    with pytest.raises(MappingFailed):
        foshan["event"].to_canonical(document)


def test_a_document_cannot_choose_the_type_it_is_judged_by(foshan: Mapping[str, Pack]) -> None:
    raw = event().replace(b"<Status>", b'<Status xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true">')
    assert foshan["event"].to_canonical(raw)["state"] == "ACCEPTED"


def test_an_element_inside_a_text_is_refused_and_not_cut_out(foshan: Mapping[str, Pack]) -> None:
    """Dropping it would leave half the text, and the signature covered all of it."""
    with pytest.raises(MappingFailed):
        foshan["event"].to_canonical(event("<Reason>not <b>yet</b> refused</Reason>"))


def test_a_comment_does_not_cut_a_text_in_two(foshan: Mapping[str, Pack]) -> None:
    """The well-known trick against signed XML: readers that stop at the comment see another value."""
    assert foshan["event"].to_canonical(event("<Reason>not <!-- -->refused</Reason>"))["reason"] == "not refused"


def nested(levels: int) -> Any:
    return [nested(levels - 1)] if levels else []


@pytest.mark.parametrize(
    "extra",
    [nested(MAX_DEPTH), nested(800), {1: "x"}, "\ud800", 2**64, b"bytes", "x" * MAX_DOCUMENT_BYTES],
)
def test_json_beyond_the_limits_is_refused_even_where_no_rule_looks(extra: Any, guangdong: Mapping[str, Pack]) -> None:
    receipt = example("guangdong/receipt/examples/least.region.json")
    with pytest.raises(MappingFailed) as failure:
        guangdong["receipt"].to_canonical({**receipt, "extra": extra})
    assert set(problems(failure)) == {"document"}


@pytest.mark.parametrize("document", [b"{}", [], None, "text", 5])
def test_what_is_no_json_object_is_refused(document: Any, guangdong: Mapping[str, Pack]) -> None:
    with pytest.raises(MappingFailed):
        guangdong["receipt"].to_canonical(document)


# --- text --------------------------------------------------------------------------------------------------------

TEXTS = ["测试 & <甲> \"乙\" 'x'", "]]>", "繁體 ·•", "𠮷野家 𪚥", " \t\r\n ", "&amp;", "<!-- -->", "=1+1"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("region", ["guangdong", "foshan", "hongkong"])
def test_text_arrives_as_it_was_sent(text: str, region: str, case: dict[str, Any]) -> None:
    pack = load_packs(ROOT, region)["submission"]
    case["applicant"]["name"] = text
    case["origin"]["window"] = text
    case["form"] = {text: text}
    heard = pack.to_canonical(pack.to_region(case))
    assert (heard["applicant"]["name"], heard["origin"]["window"], heard["form"]) == (text, text, {text: text})


@pytest.mark.parametrize("region", ["guangdong", "foshan", "hongkong"])
def test_text_that_cannot_be_carried_is_named(region: str, case: dict[str, Any]) -> None:
    case["applicant"]["name"] = "a\0b"
    case["form"] = {"half \ud800": "x"}
    with pytest.raises(MappingFailed) as failure:
        load_packs(ROOT, region)["submission"].to_region(case)
    assert set(problems(failure)) == {"applicant.name", "form"}


def test_xml_is_written_in_the_order_of_the_schema(foshan: Mapping[str, Pack], case: dict[str, Any]) -> None:
    document = foshan["submission"].to_region(dict(reversed(case.items())))
    assert isinstance(document, bytes)
    order = [etree.QName(child).localname for child in etree.fromstring(document)]
    assert order[:5] == ["CaseNo", "ItemCode", "ItemName", "SubmitTime", "SubmitMode"]
    assert order[5:] == ["OriginRegion", "HandlingRegion", "Window", "Applicant", "Form", "Materials"]
