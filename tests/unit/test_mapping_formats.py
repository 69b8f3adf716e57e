"""JSON, XML, forms and CSV: what a schema is read as, what each format carries there and back, and hostile input."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from gateway.mapping.charsets import charset_named
from gateway.mapping.converters import Wrong
from gateway.mapping.formats import open_form
from gateway.mapping.forms import Form, Leaf
from gateway.mapping.json_form import JsonForm
from gateway.mapping.limits import (
    MAX_DEPTH,
    MAX_DOCUMENT_BYTES,
    MAX_EXPLAINED_BYTES,
    MAX_FIELDS,
    MAX_FILE_BYTES,
    MAX_ITEMS,
    MAX_PROBLEMS,
)
from gateway.mapping.source import Faults, Files, TomlFile
from gateway.mapping.text_forms import Csv, FormFields
from gateway.mapping.xml_form import XmlForm

LAW = settings(max_examples=150, derandomize=True, deadline=None)

SCHEMA = b"""{"type": "object", "required": ["bh"], "properties": {
  "xm": {"type": "string", "title": "\xe5\xa7\x93\xe5\x90\x8d", "maxLength": 20},
  "bh": {"type": "string", "minLength": 1},
  "xb": {"enum": ["1", "2"]}}}"""
LISTS = SCHEMA.replace(b'"xb":', b'"bq": {"type": "array", "items": {"type": "string"}}, "xb":')
RECORDS = b'{"type": "object", "properties": {"rows": {"type": "array", "items": ' + SCHEMA + b"}}}"

XS = 'xmlns:xs="http://www.w3.org/2001/XMLSchema"'
NOTE = f"""<xs:schema {XS}><xs:element name="Note"><xs:complexType><xs:sequence>
<xs:element name="Name" type="xs:string"><xs:annotation><xs:documentation>姓名</xs:documentation></xs:annotation>
</xs:element><xs:element name="Sex" type="Sex" minOccurs="0"/>
<xs:element name="Tag" type="xs:string" minOccurs="0" maxOccurs="unbounded"/>
<xs:element name="Sum" minOccurs="0"><xs:complexType><xs:simpleContent><xs:extension base="xs:string">
<xs:attribute name="alg"/></xs:extension></xs:simpleContent></xs:complexType></xs:element></xs:sequence>
<xs:attribute name="kind" use="required"/><xs:attribute name="v" type="xs:string" fixed="2"/>
</xs:complexType></xs:element><xs:simpleType name="Sex">
<xs:annotation><xs:documentation>GB/T 2261.1</xs:documentation></xs:annotation><xs:restriction base="xs:string">
<xs:enumeration value="1"/><xs:enumeration value="2"/></xs:restriction></xs:simpleType></xs:schema>"""
TREE = {"@kind": "1", "Name": "测试", "Sex": "2", "Tag": ["a", "b"], "Sum": {"@alg": "x", "#text": "y"}}


def refusal(call: Callable[[], object]) -> Wrong:
    with pytest.raises(Wrong) as caught:
        call()
    return caught.value


def opened(head: Mapping[str, Any], **files: bytes) -> tuple[Form | None, list[tuple[str, str]]]:
    """Open the form of a pack whose rules begin with `head`; names of files have `_` for the dot."""
    raw = "".join(f"{key} = {orjson.dumps(value).decode()}\n" for key, value in head.items()).encode()
    contents = {f"east/note/{name.replace('_', '.')}": content for name, content in files.items()}
    faults = Faults("mappings")
    form = open_form(
        Files("mappings", contents), "east/note", TomlFile("east/note/rules.toml", raw, dict(head)), faults
    )
    return form, [(problem.field, problem.reason) for problem in faults.problems]


def codes(problems: list[Any]) -> dict[str, str]:
    return {problem.field: problem.code for problem in problems}


# --- which format ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "file", "kind"),
    [
        ({}, {"schema_json": SCHEMA}, JsonForm),
        ({}, {"schema_xsd": NOTE.encode()}, XmlForm),
        ({"format": "form"}, {"schema_json": SCHEMA}, FormFields),
        ({"format": "csv"}, {"schema_json": SCHEMA}, Csv),
    ],
)
def test_schema_and_head_decide_the_format_and_the_character_set(
    head: dict[str, Any], file: dict[str, bytes], kind: type
) -> None:
    plain, faults = opened(head, **file)
    other, more = opened({**head, "charset": "gb18030-2022"}, **file)
    assert faults + more == []
    assert plain is not None
    assert other is not None
    assert (plain.__class__, other.__class__) == (kind, kind)
    assert (plain.charset, other.charset) == ("utf-8", "gb18030-2022")


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        ({"x": 1, "format": "from"}, (":2", 'format = "from" is not known; did you mean form?')),
        ({"format": "yaml"}, (":1", 'format = "yaml" is not known: form or csv; without it the schema decides')),
        ({"format": ["csv"]}, (":1", "format is a text")),
        ({"charset": "gb18031"}, (":1", 'charset = "gb18031" is not known; did you mean gb18030?')),
        ({"charset": 936}, (":1", "charset is a text")),
    ],
)
def test_a_wrong_head_is_told_with_its_line(head: dict[str, Any], fault: tuple[str, str]) -> None:
    form, faults = opened(head, schema_json=SCHEMA)
    assert form is None
    assert faults == [(f"mappings/east/note/rules.toml{fault[0]}", fault[1])]


def test_both_faults_of_a_head_are_told_at_once() -> None:
    assert len(opened({"format": "from", "charset": "gb"}, schema_json=SCHEMA)[1]) == 2


def test_a_form_goes_with_a_json_schema_only() -> None:
    _, faults = opened({"format": "csv"}, schema_xsd=NOTE.encode())
    assert faults == [
        ("mappings/east/note/schema.xsd", 'does not go with format = "csv", which needs schema.json'),
    ]


def test_a_file_beside_the_schema_that_is_too_large_is_told() -> None:
    form, faults = opened({}, schema_xsd=NOTE.encode(), types_xsd=b"x" * (MAX_FILE_BYTES + 1))
    assert form is None
    assert [place for place, _ in faults] == ["mappings/east/note/types.xsd"]


# --- JSON: what the schema knows ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "leaves"),
    [
        ({"type": "string"}, {"a": Leaf("string")}),
        ({"type": "integer", "title": "岁", "description": "years"}, {"a": Leaf("integer", words="岁 years")}),
        ({"type": ["string", "null"]}, {"a": Leaf("string")}),
        ({"type": ["string", "integer"]}, {"a": Leaf("")}),
        ({"enum": ["1", "2", None]}, {"a": Leaf("", ("1", "2"))}),
        ({"enum": ["1", "2"]}, {"a": Leaf("string", ("1", "2"))}),
        ({"const": "x"}, {"a": Leaf("string", ("x",))}),
        ({"type": "integer", "enum": [1, 2]}, {"a": Leaf("integer", ("1", "2"))}),
        ({}, {"a": Leaf()}),
        (True, {"a": Leaf()}),
        ({"type": "object"}, {"a": Leaf("object")}),
        ({"type": "object", "properties": {}}, {"a": Leaf("object")}),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"a": Leaf("object")}),
        ({"type": "array", "items": {"type": "number"}}, {"a[]": Leaf("number")}),
        ({"type": "array"}, {"a[]": Leaf()}),
        ({"items": True}, {"a[]": Leaf()}),
        ({"items": {"items": {"type": "string"}}}, {"a[]": Leaf()}),
        ({"items": {"properties": {"b": {}}, "required": ["b"]}}, {"a[].b": Leaf(required=True)}),
        ({"$ref": "#/$defs/text", "title": "own"}, {"a": Leaf("string", words="own shared")}),
        ({"allOf": [{"$ref": "#/$defs/pair"}], "properties": {"z": {}}}, {"a.y": Leaf(required=True), "a.z": Leaf()}),
        ({"oneOf": [{"$ref": "#/$defs/pair"}, {"properties": {"z": {}}}]}, {"a.y": Leaf(), "a.z": Leaf()}),
        ({"allOf": [{"type": "string"}]}, {"a": Leaf("string")}),
    ],
)
def test_the_places_of_a_json_schema_are_known(schema: Any, leaves: dict[str, Leaf]) -> None:
    shared = {
        "text": {"type": "string", "description": "shared"},
        "pair": {"required": ["y"], "properties": {"y": {}}},
    }
    assert dict(JsonForm(orjson.dumps({"$defs": shared, "properties": {"a": schema}})).leaves) == leaves


def test_what_is_required_is_known() -> None:
    leaves = JsonForm(SCHEMA).leaves
    assert [name for name, leaf in leaves.items() if leaf.required] == ["bh"]


def chain(levels: int, link: Callable[[str], Any]) -> bytes:
    """A schema whose types lead to each other, several times at each level."""
    shared = {f"d{level}": link(f"#/$defs/d{level + 1}") for level in range(levels)}
    return orjson.dumps({"$defs": {**shared, f"d{levels}": {}}, "properties": {"a": {"$ref": "#/$defs/d0"}}})


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (b"{", "is not JSON (line 1)"),
        (b"[]", "is no JSON object"),
        (b'{"properties": {"a.b": {}}}', 'has a property "a.b"'),
        (b'{"properties": {"a[]": {}}}', 'has a property "a[]"'),
        (b'{"properties": {"": {}}}', 'has a property ""'),
        (b'{"$ref": "https://example.com/x.json"}', "is no JSON Schema"),
        (b'{"$ref": "other.json"}', "is no JSON Schema"),
        (b'{"type": "strin"}', "is no JSON Schema"),
        (chain(1, lambda _: {"properties": {"x": {"$ref": "#/$defs/d0"}}}), "refers to itself"),
        (chain(1, lambda _: {"$ref": "#/$defs/d0"}), "refers to itself"),
        (chain(12, lambda to: {"properties": {f"p{n}": {"$ref": to} for n in range(9)}}), "has more than"),
        (chain(12, lambda to: {"allOf": [{"$ref": to}] * 9}), "has more than"),
    ],
)
def test_a_json_schema_that_cannot_be_used_is_refused(schema: bytes, words: str) -> None:
    """Also one whose few lines stand for billions of places."""
    assert words in refusal(lambda: JsonForm(schema)).reason


# --- JSON: hostile documents -------------------------------------------------------------------------------------


def deep(levels: int) -> dict[str, Any]:
    """An object in an object in an object, built without recursion."""
    found: dict[str, Any] = {}
    for _ in range(levels - 1):
        found = {"x": found}
    return found


JUNK = [
    deep(MAX_DEPTH + 1),
    deep(100_000),
    {"x": [[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]},
    {"x": float("inf")},
    {"x": [float("nan")]},
    {"x": 10**400},
    {"x": 2**53},
    {"x": "\ud800"},
    {"\ud800": "x"},
    {1: "x"},
    {"x": b"bytes"},
    {"x": object()},
    {"x": "x" * MAX_DOCUMENT_BYTES},
    [],
    None,
    b"{}",
]


@pytest.mark.parametrize("document", JUNK, ids=range(len(JUNK)))
def test_json_that_is_none_or_beyond_the_limits_is_refused(document: Any) -> None:
    assert "x" * 100 not in refusal(lambda: JsonForm(b"{}").read(document)).reason


def test_the_reason_tells_depth_from_junk() -> None:
    form = JsonForm(b"{}")
    assert refusal(lambda: form.read(deep(MAX_DEPTH + 1))).code == "too_deep"
    assert refusal(lambda: form.read(deep(100_000))).code == "too_deep"
    assert refusal(lambda: form.read({"x": b""})).reason == "is not JSON"


def depth(node: Any) -> int:
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@LAW
@given(
    st.dictionaries(
        st.text("ab[{", max_size=2),
        st.recursive(
            st.none() | st.text("[{}]n", max_size=9) | st.just("null"),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a", max_size=1), inner),
            max_leaves=30,
        ),
        max_size=3,
    ),
    st.integers(0, MAX_DEPTH),
)
def test_exactly_what_is_too_deep_is_refused(document: dict[str, Any], around: int) -> None:
    """Brackets in texts are no depth, and many brackets side by side are none either."""
    for _ in range(around):
        document = {"x": document}
    form = JsonForm(b"{}")
    if depth(document) > MAX_DEPTH:
        assert refusal(lambda: form.read(document)).code == "too_deep"
    else:
        assert form.read(document) == (document, [])


@pytest.mark.parametrize("raw", [b'{"x": 1e400}', b'{"x": NaN}', b'{"x": "\\ud800"}', b"[" * 100_000, b'{"a":' * 9_999])
def test_an_example_that_is_no_json_is_refused(raw: bytes) -> None:
    assert "is not JSON (line 1)" in refusal(lambda: JsonForm(b"{}").example(raw)).reason


def test_no_document_makes_us_name_a_million_faults() -> None:
    form = JsonForm(b'{"additionalProperties": {"type": "string"}}')
    assert len(form.read({f"k{n}": n for n in range(MAX_PROBLEMS + 5)})[1]) == MAX_PROBLEMS
    large = {"text": "x" * MAX_EXPLAINED_BYTES, **{f"k{n}": n for n in range(5)}}
    assert codes(form.read(large)[1]) == {"k0": "schema"}


# --- XML: what the schema knows ----------------------------------------------------------------------------------


def xsd(content: str, more: str = "") -> bytes:
    inner = f"<xs:complexType>{content}</xs:complexType>"
    return f'<xs:schema {XS}><xs:element name="M">{inner}</xs:element>{more}</xs:schema>'.encode()


def test_the_places_of_an_xml_schema_are_known() -> None:
    assert dict(XmlForm(NOTE.encode()).leaves) == {
        "@kind": Leaf("string", required=True),
        "@v": Leaf("string", ("2",)),
        "Name": Leaf("string", required=True, words="姓名"),
        "Sex": Leaf("string", ("1", "2"), words="GB/T 2261.1"),
        "Tag[]": Leaf("string"),
        "Sum": Leaf("string"),
        "Sum/@alg": Leaf("string"),
    }


A, B = '<xs:element name="a" type="xs:string"/>', '<xs:element name="b" type="xs:string"/>'


def a(more: str) -> str:
    """The element `a` with another attribute."""
    return A.replace("/>", f" {more}/>")


@pytest.mark.parametrize(
    ("content", "leaves"),
    [
        (f"<xs:sequence>{A}</xs:sequence>", {"a": True}),
        (f'<xs:sequence minOccurs="0">{A}</xs:sequence>', {"a": False}),
        (f'<xs:sequence maxOccurs="3">{A}{B}</xs:sequence>', {"a[]": True, "b[]": True}),
        (f"<xs:sequence>{A}{B}{A}</xs:sequence>", {"a[]": True, "b": True}),
        (f"<xs:choice>{A}{B}</xs:choice>", {"a": False, "b": False}),
        (f"<xs:choice><xs:sequence>{A}{B}</xs:sequence>{B}</xs:choice>", {"a": False, "b": True}),
        (f'<xs:choice maxOccurs="unbounded">{A}{B}</xs:choice>', {"a[]": False, "b[]": False}),
        (f"<xs:all>{A}{B}</xs:all>", {"a": True, "b": True}),
        ("<xs:sequence>" + a('minOccurs="0" maxOccurs="0"') + B + "</xs:sequence>", {"b": True}),
        (f'<xs:sequence>{A}<xs:any namespace="##other" processContents="lax"/></xs:sequence>', {"a": True}),
        (f'<xs:sequence>{A}</xs:sequence><xs:attribute name="k"/><xs:anyAttribute/>', {"@k": False, "a": True}),
    ],
)
def test_how_often_an_element_may_stand_follows_from_all_that_is_around_it(
    content: str, leaves: dict[str, bool]
) -> None:
    """A repeated group repeats what is in it; what only one branch of a choice has is not required."""
    assert {place: leaf.required for place, leaf in XmlForm(xsd(content)).leaves.items()} == leaves


VERSION = 'xmlns:v="http://www.w3.org/2007/XMLSchema-versioning" v:minVersion="1.1"'


def doubling_groups(levels: int) -> bytes:
    """A schema of a few lines in which one element stands 2^levels times."""
    groups = (
        f'<xs:group name="g{n}"><xs:sequence>{f"""<xs:group ref="g{n + 1}"/>""" * 2}</xs:sequence></xs:group>'
        for n in range(levels)
    )
    last = f'<xs:group name="g{levels}"><xs:sequence>{A}</xs:sequence></xs:group>'
    return xsd('<xs:group ref="g0"/>', "".join([*groups, last]))


def branching_types(levels: int) -> bytes:
    """A schema of a few lines in which there are 9^levels places."""
    types = (
        f'<xs:complexType name="t{n}"><xs:sequence>'
        + "".join(f'<xs:element name="e{m}" type="t{n + 1}"/>' for m in range(9))
        + "</xs:sequence></xs:complexType>"
        for n in range(levels)
    )
    last = f'<xs:complexType name="t{levels}"/>'
    return xsd('<xs:sequence><xs:element name="e" type="t0"/></xs:sequence>', "".join([*types, last]))


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (b"<xs:schema", "is not well-formed XML"),
        (b"<!DOCTYPE x>" + NOTE.encode(), "has a DOCTYPE"),
        (NOTE.replace('type="Sex"', 'type="Nowhere"').encode(), "is no XML Schema 1.0: unknown type 'Nowhere'"),
        (xsd("", '<xs:element name="Other"/>'), "exactly one global element"),
        (xsd(f'<xs:sequence>{A}<xs:element ref="M" minOccurs="0"/></xs:sequence>'), "holds itself"),
        (xsd(f'<xs:sequence>{A}</xs:sequence><xs:assert test="a"/>'), "has xs:assert, which is XML Schema 1.1"),
        (xsd("").replace(b"<xs:schema", b"<xs:schema " + VERSION.encode(), 1), "is XML Schema 1.1"),
        (xsd("<xs:sequence>" + a('substitutionGroup="x"') + "</xs:sequence>"), "has a substitutionGroup"),
        (xsd("<xs:sequence>" + a('maxOccurs="21"') + "</xs:sequence>"), "maxOccurs above 20"),
        (xsd(f"<xs:sequence>{A}<xs:any/></xs:sequence>", '<xs:element name="a"/>'), "exactly one global element"),
        (doubling_groups(14), "is no XML Schema 1.0"),
        (branching_types(6), "has more than 10000 places"),
    ],
)
def test_an_xml_schema_that_cannot_be_used_is_refused(schema: bytes, words: str) -> None:
    """Also one whose few lines stand for billions of places."""
    assert words in refusal(lambda: XmlForm(schema)).reason


# --- XML: several files and namespaces ---------------------------------------------------------------------------

CASE = f"""<xs:schema {XS} targetNamespace="urn:a" xmlns="urn:a" xmlns:b="urn:b" elementFormDefault="qualified">
<xs:import namespace="urn:b" schemaLocation="b.xsd"/><xs:include schemaLocation="types.xsd"/>
<xs:element name="Case"><xs:complexType><xs:sequence><xs:element name="No" type="Number"/>
<xs:element ref="b:Person"/></xs:sequence><xs:attribute ref="b:kind"/></xs:complexType></xs:element></xs:schema>"""
PERSON = f"""<xs:schema {XS} targetNamespace="urn:b" xmlns="urn:b" xmlns:a="urn:a" elementFormDefault="qualified">
<xs:import namespace="urn:a" schemaLocation="schema.xsd"/><xs:attribute name="kind" type="xs:string"/>
<xs:element name="Person"><xs:complexType><xs:sequence><xs:element name="Name" type="xs:string"/>
<xs:element name="No" type="a:Number"/></xs:sequence></xs:complexType></xs:element></xs:schema>"""
TYPES = f"""<xs:schema {XS}><xs:simpleType name="Number"><xs:restriction base="xs:string"><xs:maxLength value="5"/>
</xs:restriction></xs:simpleType></xs:schema>"""
BESIDE = {"b.xsd": PERSON.encode(), "types.xsd": TYPES.encode(), "unused.xsd": b"<not a schema"}
FULL = {"@kind": "x", "No": "1", "Person": {"Name": "测试", "No": "2"}}


def test_elements_and_attributes_of_several_namespaces_go_both_ways() -> None:
    form = XmlForm(CASE.encode(), BESIDE)
    assert list(form.leaves) == ["@kind", "No", "Person/Name", "Person/No"]
    document, problems = form.write(FULL)
    assert isinstance(document, bytes)
    assert problems == []
    tags = [element.tag for element in etree.fromstring(document).iter()]
    assert tags == ["{urn:a}Case", "{urn:a}No", "{urn:b}Person", "{urn:b}Name", "{urn:b}No"]
    assert form.read(document) == (FULL, [])


def test_a_document_may_have_its_own_prefixes_and_its_faults_are_still_found() -> None:
    form = XmlForm(CASE.encode(), BESIDE)
    document = b'<q:Case xmlns:q="urn:a" xmlns:z="urn:b"><q:No>123456</q:No><z:Person><z:Name/></z:Person></q:Case>'
    assert codes(form.read(document)[1]) == {"No": "schema", "Person/No": "required"}


def test_the_imported_files_are_part_of_the_version() -> None:
    first = XmlForm(CASE.encode(), BESIDE).raw
    assert XmlForm(CASE.encode(), {**BESIDE, "types.xsd": TYPES.replace("5", "6").encode()}).raw != first
    assert XmlForm(CASE.encode(), {**BESIDE, "unused.xsd": b""}).raw == first


def test_elements_without_namespace_inside_one_are_written_without() -> None:
    """With a namespace for everything below, they would come back as other elements."""
    form = XmlForm(CASE.replace(' elementFormDefault="qualified"', "").encode(), BESIDE)
    document, problems = form.write(FULL)
    assert problems == []
    assert form.read(document) == (FULL, [])


@pytest.mark.parametrize(
    "location",
    [
        "../b.xsd",
        "/etc/b.xsd",
        "file:///etc/b.xsd",
        "http://localhost/b.xsd",
        "folder/b.xsd",
        "b.xsd#x",
        "%62.xsd",
        "b.xml",
        "..xsd",
        "",
    ],
)
@pytest.mark.parametrize("kind", ["import", "include"])
def test_a_schema_reaches_for_nothing_outside_its_folder(kind: str, location: str) -> None:
    old = "b.xsd" if kind == "import" else "types.xsd"
    schema = CASE.replace(f'"{old}"', f'"{location}"').encode()
    assert f"xs:{kind} that names no file of the same folder" in refusal(lambda: XmlForm(schema, BESIDE)).reason


def test_a_file_that_lies_on_the_disk_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what belongs to the pack is part of its version."""
    (tmp_path / "types.xsd").write_text(TYPES)
    monkeypatch.chdir(tmp_path)
    found = refusal(lambda: XmlForm(CASE.encode(), {"b.xsd": PERSON.encode(), "typs.xsd": TYPES.encode()}))
    assert found.reason == "has an xs:include of types.xsd, which is missing; did you mean typs.xsd?"


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("b.xsd", '"a:Number"', '"a:Nimber"', "is no XML Schema 1.0"),
        ("b.xsd", "urn:b", "urn:c", "is no XML Schema 1.0"),
        ("b.xsd", "</xs:schema>", "", "b.xsd: is not well-formed XML"),
        ("b.xsd", "<xs:schema", "<!DOCTYPE x><xs:schema", "b.xsd: has a DOCTYPE"),
        ("types.xsd", "<xs:simpleType", '<xs:include schemaLocation="../x.xsd"/><xs:simpleType', "types.xsd: has an"),
        ("types.xsd", "<xs:restriction", "<xs:assertion/><xs:restriction", "types.xsd: has xs:assertion"),
    ],
)
def test_a_fault_in_an_imported_file_is_told(name: str, old: str, new: str, words: str) -> None:
    spoiled = BESIDE[name].decode().replace(old, new, 2 if old == "urn:b" else 1).encode()
    assert refusal(lambda: XmlForm(CASE.encode(), {**BESIDE, name: spoiled})).reason.startswith(words)


@pytest.mark.parametrize("kind", ["redefine", "override"])
def test_a_schema_does_not_change_the_types_of_another(kind: str) -> None:
    schema = CASE.replace("xs:include", f"xs:{kind}").encode()
    assert f"has xs:{kind}" in refusal(lambda: XmlForm(schema, BESIDE)).reason


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("</xs:sequence>", '<xs:element name="Person"/></xs:sequence>', "Case holds two Person"),
        ("</xs:complexType>", '<xs:attribute name="kind"/></xs:complexType>', "Case holds two @kind"),
    ],
)
def test_names_that_differ_by_namespace_alone_are_refused(old: str, new: str, words: str) -> None:
    """A place has no namespace, so that it could mean either."""
    assert words in refusal(lambda: XmlForm(CASE.replace(old, new).encode(), BESIDE)).reason


# --- XML: character sets -----------------------------------------------------------------------------------------

CHARSETS = ["utf-8", "gb18030", "gb18030-2005", "gb18030-2022", "big5-hkscs"]


@pytest.mark.parametrize("charset", CHARSETS)
def test_a_document_is_written_in_the_region_s_character_set_and_says_so(charset: str) -> None:
    form = XmlForm(NOTE.encode(), {}, charset)
    tree = {**TREE, "Name": "測試 <&> \r"}
    document, problems = form.write(tree)
    assert isinstance(document, bytes)
    assert problems == []
    assert "測試".encode(charset_named(charset).codec) in document
    assert (b"<?xml" in document) == (charset != "utf-8")
    assert form.read(document) == (tree, [])
    laid_out = form.file(document)
    assert form.same(document, form.example(laid_out))
    assert laid_out.count(b"\n") > document.count(b"\n")


@pytest.mark.parametrize("edition", ["2005", "2022"])
def test_the_edition_decides_the_bytes_of_a_name_and_not_the_machine(edition: str) -> None:
    form = XmlForm(NOTE.encode(), {}, f"gb18030-{edition}")
    document, _ = form.write({**TREE, "Name": "\u9fb4"})
    assert isinstance(document, bytes)
    assert bytes.fromhex("FE59" if edition == "2022" else "82359037") in document
    assert form.read(document)[0]["Name"] == "\u9fb4"


@LAW
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=20))
def test_what_the_character_set_holds_comes_back_from_xml(text: str) -> None:
    form = XmlForm(NOTE.encode(), {}, "gb18030-2022")
    tree = {**TREE, "@kind": text, "Name": text}
    assert form.read(form.write(tree)[0]) == (tree, [])


@pytest.mark.parametrize(("charset", "text"), [("gb18030", "\u9fb4"), ("big5", "简")])
def test_a_foreign_character_is_refused_and_not_written_as_a_number(charset: str, text: str) -> None:
    document, problems = XmlForm(NOTE.encode(), {}, charset).write({**TREE, "Name": text})
    assert document == b""
    assert codes(problems) == {"document": "charset"}
    assert f"U+{ord(text):04X}" in problems[0].reason


@pytest.mark.parametrize(
    "head",
    [
        "",
        '<?xml version="1.0"?>',
        "<?xml version='1.0' encoding='gb18030'?>\n",
        '<?xml version="1.0" encoding = "GB18030" standalone="yes"?>',
    ],
)
def test_a_declaration_may_agree_or_say_nothing(head: str) -> None:
    form = XmlForm(NOTE.encode(), {}, "gb18030")
    assert form.read(f'{head}<Note kind="1"><Name>测试</Name></Note>'.encode("gb18030"))[0]["Name"] == "测试"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ('<?xml version="1.0" encoding="UTF-8"?><Note kind="1"><Name>a</Name></Note>'.encode("gb18030"), "charset"),
        ('<?xml version="1.0" encoding="GBK"?><Note kind="1"><Name>测</Name></Note>'.encode("gb18030"), "charset"),
        ('<?xml version="1.0" encoding="Big5"?><Note kind="1"><Name>測</Name></Note>'.encode("big5"), "charset"),
        ('<Note kind="1"><Name>测</Name></Note>'.encode("utf-16"), "charset"),
        ('\ufeff<Note kind="1"><Name>a</Name></Note>'.encode(), "charset"),
        (b'<Note kind="1"><Name>\xfe\x59</Name></Note>', "charset"),
        (b'<Note kind="1"><Name>\xff</Name></Note>', "charset"),
        (b'<?xml version="1.0" encoding="GB18030" encoding="UTF-8"?><Note/>', "syntax"),
        (b' <?xml version="1.0" encoding="GB18030"?><Note/>', "syntax"),
    ],
)
def test_bytes_of_another_character_set_are_refused(raw: bytes, code: str) -> None:
    """Read as if they were ours they would give another name, and nobody would notice."""
    found = refusal(lambda: XmlForm(NOTE.encode(), {}, "gb18030").read(raw))
    assert found.code == code
    assert "测" not in found.reason


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "gb18030"])
def test_a_region_with_utf8_may_declare_what_it_sends(encoding: str) -> None:
    """What a document of XML says of itself is enough, as long as the pack says nothing else."""
    label = encoding.removesuffix("-sig")
    raw = f'<?xml version="1.0" encoding="{label}"?><Note kind="1"><Name>é</Name></Note>'.encode(encoding)
    assert XmlForm(NOTE.encode()).read(raw)[0]["Name"] == "é"


# --- XML: documents ----------------------------------------------------------------------------------------------


def test_a_missing_attribute_is_named() -> None:
    assert codes(XmlForm(NOTE.encode()).read(b"<Note><Name>a</Name></Note>")[1]) == {"@kind": "required"}


def test_faults_are_named_by_place_and_without_values() -> None:
    document = b'<Note kind="1" v="secret"><Name>a</Name><Sex>secret</Sex><Tag/><Tag>x<secret z="secret"/></Tag></Note>'
    _, problems = XmlForm(NOTE.encode()).read(document)
    assert codes(problems) == {"@v": "schema", "Sex": "schema", "Tag[2]": "schema"}
    assert "secret" not in str(problems)


def test_what_xml_cannot_carry_is_a_problem_when_it_is_written() -> None:
    document, problems = XmlForm(NOTE.encode()).write({**TREE, "Name": "a\0b"})
    assert (document, codes(problems)) == (b"", {"document": "invalid"})


@pytest.mark.parametrize("pattern", ["(a{1,1000}){1,1000}", "(.*a){50}"])
def test_a_pattern_that_costs_too_much_ends_in_a_problem(pattern: str) -> None:
    """libxml2 gives up, which is no way to say yes."""
    kind = f'<xs:restriction base="xs:string"><xs:pattern value="{pattern}"/></xs:restriction>'
    element = f'<xs:element name="a"><xs:simpleType>{kind}</xs:simpleType></xs:element>'
    _, problems = XmlForm(xsd(f"<xs:sequence>{element}</xs:sequence>")).read(f"<M><a>{'a' * 40}!</a></M>".encode())
    assert codes(problems) == {"document": "schema"}


BOMB = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
TRICKS = {
    "internal entity": '<!DOCTYPE Note [<!ENTITY x "boo">]><Note kind="1"><Name>&x;</Name></Note>',
    "billion laughs": f'<!DOCTYPE Note [<!ENTITY e0 "ha">{BOMB}]><Note kind="1"><Name>&e9;</Name></Note>',
    "external entity": '<!DOCTYPE Note [<!ENTITY x SYSTEM "file:///etc/passwd">]><Note><Name>&x;</Name></Note>',
    "external subset": '<!DOCTYPE Note SYSTEM "http://localhost/x.dtd"><Note kind="1"><Name>a</Name></Note>',
    "parameter entity": '<!DOCTYPE Note [<!ENTITY % x SYSTEM "file:///etc/passwd">%x;]><Note kind="1"/>',
    "default attribute": '<!DOCTYPE Note [<!ATTLIST Note kind CDATA "1">]><Note><Name>a</Name></Note>',
}


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "cp037"])
def test_a_document_type_is_refused_in_whatever_encoding_it_hides(trick: str, encoding: str) -> None:
    head = {"utf-8": "", "cp037": '<?xml version="1.0" encoding="IBM037"?>'}.get(encoding, "\ufeff")
    raw = (head.replace("\ufeff", "" if encoding == "utf-16" else "\ufeff") + TRICKS[trick]).encode(encoding)
    assert refusal(lambda: XmlForm(NOTE.encode()).read(raw)).code in {"doctype", "syntax"}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_document_type_is_refused_in_a_character_set_of_the_region(trick: str) -> None:
    raw = f'<?xml version="1.0" encoding="GB18030"?>{TRICKS[trick]}'.encode("gb18030")
    assert refusal(lambda: XmlForm(NOTE.encode(), {}, "gb18030").read(raw)).code == "doctype"


def note(*lines: str, attributes: str = 'kind="1"') -> bytes:
    return f"<Note {attributes}><Name>a</Name>{''.join(lines)}</Note>".encode()


@pytest.mark.parametrize("charset", ["utf-8", "gb18030"])
@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"<a>" * 100_000, "syntax"),
        (b"<a>" * 100_000 + b"</a>" * 100_000, "syntax"),
        (note("<a>" * 100_000, "</a>" * 100_000), "syntax"),
        (note("&x;"), "syntax"),
        (note("&#0;"), "syntax"),
        (note("&#xD800;"), "syntax"),
        (note("\0"), "syntax"),
        (note(attributes='kind="1" kind="2"'), "syntax"),
        (note(attributes='kind="1" x:y="2"'), "syntax"),
        (note("<Tag>" + "x" * MAX_DOCUMENT_BYTES + "</Tag>"), "too_long"),
        (note("<Tag/>" * (MAX_ITEMS + 1)), "too_long"),
        (note("<Sex>3</Sex>" * (MAX_ITEMS + 1)), "too_long"),
        (b"", "syntax"),
        (b"\xff\xfe\x00", ""),
        (b"<Note/>" * 2, "syntax"),
        (b"<Other/>", "invalid"),
        (b"<Note xmlns='urn:x'/>", "invalid"),
        ({"Note": {}}, "type"),
        ("<Note/>", "type"),
    ],
)  # fmt: skip
def test_hostile_xml_is_refused(document: Any, code: str, charset: str) -> None:
    found = refusal(lambda: XmlForm(NOTE.encode(), {}, charset).read(document))
    assert not code or found.code == code


XSI = 'xmlns:i="http://www.w3.org/2001/XMLSchema-instance"'


@pytest.mark.parametrize(
    "attributes",
    [
        'i:type="xs:string" xmlns:xs="http://www.w3.org/2001/XMLSchema"',
        'i:nil="true"',
        'i:schemaLocation="urn:x file:///etc/passwd http://www.w3.org/2001/XMLSchema http://localhost/x.xsd"',
        'i:noNamespaceSchemaLocation="http://localhost/x.xsd"',
        "".join(f'a{n}="" ' for n in range(300_000)),
        "".join(f'xmlns:a{n}="u{n}" ' for n in range(100_000)),
    ],
    ids=["type", "nil", "schemaLocation", "noNamespaceSchemaLocation", "attributes", "namespaces"],
)
def test_attributes_that_the_schema_does_not_know_change_nothing(attributes: str) -> None:
    """Neither what a document is judged by, nor how long that takes."""
    form = XmlForm(NOTE.encode())
    plain = {"@kind": "1", "Name": "a", "Tag": []}
    assert form.read(note(attributes=f'kind="1" {XSI} {attributes}')) == (plain, [])
    inside = note(f"<Sex {XSI} {attributes}>1</Sex>")
    assert form.read(inside) == ({**plain, "Sex": "1"}, [])


def test_no_document_makes_us_name_a_million_faults_of_xml() -> None:
    form = XmlForm(xsd('<xs:sequence><xs:element name="s" type="xs:int" maxOccurs="unbounded"/></xs:sequence>'))
    assert len(form.read(b"<M>" + b"<s>x</s>" * MAX_ITEMS + b"</M>")[1]) == MAX_PROBLEMS


# --- form fields -------------------------------------------------------------------------------------------------


def test_form_fields_are_read_and_written() -> None:
    form = FormFields(LISTS, "gb18030")
    assert {place: leaf.kind for place, leaf in form.leaves.items()} == {
        "xm": "string",
        "bh": "string",
        "bq[]": "string",
        "xb": "string",
    }
    tree = {"bh": "A 1&=+%", "xm": "测试", "bq": ["一", "", "b"]}
    document, problems = form.write(tree)
    assert problems == []
    assert document == b"bh=A+1%26%3D%2B%25&xm=%B2%E2%CA%D4&bq=%D2%BB&bq=&bq=b"
    assert form.read(document) == (tree, [])


def test_an_example_of_a_form_has_a_line_for_each_field() -> None:
    form = FormFields(LISTS)
    assert form.file(b"bh=1&xm=a") == b"bh=1&\nxm=a\n"
    assert form.example(b"bh=1&\r\nxm=a\r\n") == b"bh=1&xm=a"


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (b"xm=%E6%B5%8B&bq=a&bq=b", True),
        (b"bq=a&xm=%e6%b5%8b&bq=b&", True),
        (b"bq=b&bq=a&xm=%E6%B5%8B", False),
        (b"bq=a&bq=b", False),
        (b"bq=a&bq=b&xm=%E6%B5%8B&x=", False),
    ],
)
def test_forms_are_the_same_when_their_fields_are(other: bytes, *, same: bool) -> None:
    assert FormFields(LISTS).same(b"xm=%E6%B5%8B&bq=a&bq=b", other) is same


@pytest.mark.parametrize("charset", ["utf-8", "gb18030-2022", "big5-hkscs"])
@LAW
@given(data=st.data())
def test_every_form_comes_back(charset: str, data: st.DataObject) -> None:
    """As our reader has it, and as the one of the standard library."""
    held = charset_named(charset)
    text = st.text("測試 &=+%;~*\r\n\t嘅aé", max_size=8).map(lambda t: "".join(c for c in t if not held.lacks(c)))
    filled = text.filter(bool)
    optional = {"xm": filled, "xb": st.sampled_from("12"), "bq": st.lists(text, min_size=1, max_size=4)}
    tree = data.draw(st.fixed_dictionaries({"bh": filled}, optional=optional))
    form = FormFields(LISTS, charset)
    document, problems = form.write(tree)
    assert isinstance(document, bytes)
    assert problems == []
    assert form.read(document) == (tree, [])
    flat = [(name, item) for name, value in tree.items() for item in (value if name == "bq" else [value])]
    assert parse_qsl(document.decode("ascii"), keep_blank_values=True, encoding=held.codec) == flat


@pytest.mark.parametrize(
    ("document", "problems"),
    [
        (b"bh=1&bh=2", {"bh": "repeated"}),
        (b"bh=1&bh=1", {"bh": "repeated"}),
        (b"xm=a", {"bh": "required"}),
        (b"bh=1&xb=3", {"xb": "schema"}),
        (b"bh=", {"bh": "schema"}),
        (b"bh=1&xm=%FF", {"xm": "charset"}),
        (b"bh=1&xm=%FE%59", {"xm": "charset"}),
        (b"bh=%00", {"bh": "invalid"}),
        (b"bh=1&bq=%B2", {"bq": "charset"}),
        (b"", {"bh": "required"}),
    ],
)
def test_wrong_fields_of_a_form_are_named(document: bytes, problems: dict[str, str]) -> None:
    assert codes(FormFields(LISTS, "gb18030").read(document)[1]) == problems


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"bh=%", "syntax"),
        (b"bh=%4", "syntax"),
        (b"bh=%G1", "syntax"),
        (b"%zz=1", "syntax"),
        (b"bh=a b", "syntax"),
        (b"bh=1\r\nxm=2", "syntax"),
        (b"bh=\0", "syntax"),
        (b"%FF=1", "charset"),
        (b"%00=1", "invalid"),
        (b"a=1&" * MAX_FIELDS, "too_long"),
        (b"&" * MAX_DOCUMENT_BYTES, "too_long"),
        (b"bh=" + b"x" * MAX_DOCUMENT_BYTES, "too_long"),
        ({"bh": "1"}, "type"),
        ("bh=1", "type"),
    ],
)
def test_what_is_no_form_is_refused(document: Any, code: str) -> None:
    assert refusal(lambda: FormFields(LISTS, "gb18030").read(document)).code == code


@pytest.mark.parametrize("document", [b"bh=1&mm=secret", b"bh=1&mm=%FF&mm=2", b"&&bh=1&", b"bh=1&xm=&xb="])
def test_fields_that_nobody_knows_and_empty_ones_are_left_out(document: bytes) -> None:
    assert FormFields(LISTS, "gb18030").read(document) == ({"bh": "1"}, [])


def test_a_foreign_character_in_a_form_is_named_by_its_field() -> None:
    _, problems = FormFields(LISTS, "big5").write({"bh": "1", "xm": "简", "bq": ["简"]})
    assert codes(problems) == {"xm": "charset", "bq": "charset"}


# --- CSV ---------------------------------------------------------------------------------------------------------


def test_csv_of_one_record_is_read_and_written() -> None:
    form = Csv(SCHEMA, "gb18030")
    tree = {"xm": '测,"试"', "bh": "1\r\n2"}
    document, problems = form.write(tree)
    assert problems == []
    assert document == 'xm,bh,xb\r\n"测,""试""","1\r\n2",\r\n'.encode("gb18030")
    assert form.read(document) == (tree, [])
    assert form.same(document, form.example(form.file(document)))


def test_csv_of_many_records_is_read_and_written() -> None:
    form = Csv(RECORDS)
    assert list(form.leaves) == ["rows[].xm", "rows[].bh", "rows[].xb"]
    tree = {"rows": [{"bh": "1", "xb": "1"}, {"xm": "测", "bh": "2"}]}
    document, problems = form.write(tree)
    assert (document, problems) == ("xm,bh,xb\r\n,1,1\r\n测,2,\r\n".encode(), [])
    assert form.read(document) == (tree, [])
    assert form.read(b"xm,bh\r\n") == ({"rows": []}, [])


@pytest.mark.parametrize("charset", ["utf-8", "gb18030-2022"])
@LAW
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["xm", "bh"]), st.text("测é,\"'\r\n \t;=", min_size=1, max_size=6)))
)
def test_every_csv_comes_back(charset: str, rows: list[dict[str, str]]) -> None:
    """As our reader has it, and as the one of the standard library."""
    form = Csv(RECORDS.replace(b'"required": ["bh"], ', b""), charset)
    document, problems = form.write({"rows": rows})
    assert isinstance(document, bytes)
    assert problems == []
    assert form.read(document) == ({"rows": rows}, [])
    text = io.StringIO(document.decode(charset_named(charset).codec), newline="")
    assert [{k: v for k, v in row.items() if v} for row in csv.DictReader(text)] == rows


@pytest.mark.parametrize(
    "raw",
    [
        b"xm,bh\r\na,1\r\n",
        b"bh,xm\n1,a\n",
        b'"bh","xm"\r\n"1","a"',
        b"\xef\xbb\xbfbh,xm\n1,a",
        b"password,xm,x y,bh\nsecret,a,,1\n",
        b"xm,bh,xb\na,1,\n",
    ],
)
def test_the_layout_of_csv_does_not_count_and_unknown_columns_are_ignored(raw: bytes) -> None:
    assert Csv(SCHEMA).read(raw) == ({"xm": "a", "bh": "1"}, [])


@pytest.mark.parametrize(("other", "same"), [(b"bh,xm\n1,a", True), (b"xm,bh\na,2", False), (b"xm,bh\n", False)])
def test_csv_is_the_same_when_its_records_are(other: bytes, *, same: bool) -> None:
    assert Csv(SCHEMA).same(b'xm,bh\r\n"a",1\r\n', other) is same


@pytest.mark.parametrize(
    ("schema", "document", "problems"),
    [
        (SCHEMA, b"xm,bh\na,\n", {"bh": "schema"}),
        (SCHEMA, b"xm\na\n", {"bh": "required"}),
        (SCHEMA, b"bh,xb\n1,3\n", {"xb": "schema"}),
        (RECORDS, b"bh,xb\n1,1\n2,3\n,1\n", {"rows[1].xb": "schema", "rows[2].bh": "schema"}),
    ],
)
def test_wrong_columns_are_named_by_their_place(schema: bytes, document: bytes, problems: dict[str, str]) -> None:
    assert codes(Csv(schema).read(document)[1]) == problems


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "has no header line"),
        (b"\xef\xbb\xbf", "has no header line"),
        (b"Chan,1\r\n", "has no header line"),
        (b"bh,xm,bh\n1,a,2\n", "has a column twice"),
        (b"bh,x,x\n1,a,2\n", "has a column twice"),
        (b"bh,xm\n1\n", "fewer fields than columns in record 1"),
        (b"bh,xm\n1,a,b\n", "fewer fields than columns in record 1"),
        (b"bh,xm\n\n1,a\n", "fewer fields than columns in record 1"),
        (b"bh,xm\n", "has not exactly one record"),
        (b"bh,xm\n1,a\n2,b\n", "has not exactly one record"),
        (b'bh\n"1\n', "is no CSV (line 2)"),
        (b'bh\n"1"2\n', "is no CSV (line 2)"),
        (b"bh\n" + b"x" * 200_000, "is no CSV (line 2)"),
        (b"bh\n1\0\n", "holds NUL"),
        (b"bh\n\xff\n", "is no utf-8 text (byte 3)"),
        ("bh\n测\n".encode("gb18030"), "is no utf-8 text (byte 3)"),
        ("bh\n1\n".encode("utf-16"), "is no utf-8 text (byte 0)"),
        (b"bh\n" + b"1\n" * (MAX_ITEMS + 1), f"has more than {MAX_ITEMS} records"),
        (b"bh" + b"".join(b",x%d" % n for n in range(MAX_FIELDS)), "has a column twice, or more than"),
        (b"x" * (MAX_DOCUMENT_BYTES + 1), "is larger than"),
        ({"bh": "1"}, "is no CSV"),
        ("bh\n1\n", "is no CSV"),
    ],
)
def test_what_is_no_csv_is_refused(document: Any, words: str) -> None:
    reason = refusal(lambda: Csv(SCHEMA).read(document)).reason
    assert words in reason
    assert "Chan" not in reason


def test_a_foreign_character_in_csv_is_refused() -> None:
    document, problems = Csv(SCHEMA, "big5").write({"bh": "简"})
    assert (document, codes(problems)) == (b"", {"document": "charset"})


def test_no_cell_of_a_spreadsheet_is_changed() -> None:
    """Whoever opens the file in one sees a formula; the register that reads it does not."""
    form = Csv(SCHEMA)
    assert form.read(form.write({"bh": "=1+1"})[0]) == ({"bh": "=1+1"}, [])


@pytest.mark.parametrize("kind", [FormFields, Csv])
@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (b"{", "is not JSON"),
        (SCHEMA.replace(b'"string", "minLength"', b'"integer", "minLength"'), "bh is no text"),
        (b'{"properties": {"a": {"properties": {"b": {"type": "string"}}}}}', "a.b is no"),
        (b'{"properties": {"a": {"items": {"properties": {"b": {"items": {}}}}}}}', "is no"),
        (b'{"properties": {"a": {"type": "object"}}}', "a is no text"),
        ('{"properties": {"简": {}}}'.encode(), "holds U+7B80, which big5 cannot write"),
    ],
)
def test_a_schema_that_does_not_fit_the_format_is_refused(
    kind: type[FormFields | Csv], schema: bytes, words: str
) -> None:
    assert words in refusal(lambda: kind(schema, "big5")).reason


@pytest.mark.parametrize("schema", [LISTS, b'{"type": "object"}', RECORDS.replace(b'"rows": {', b'"x": {}, "rows": {')])
def test_csv_holds_records_of_texts_and_nothing_else(schema: bytes) -> None:
    assert "CSV holds records of texts, of one or of many" in refusal(lambda: Csv(schema)).reason
