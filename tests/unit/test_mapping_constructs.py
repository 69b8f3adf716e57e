"""The constructs of the rule language, one by one, in both directions, and what each refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import MappingFailed
from gateway.mapping import Pack
from tests.support.one_message import OneMessage, refused

FIELDS = {
    "id": "string!", "kind": 'code! values = ["person", "firm"]', "name": "string", "latin": "string",
    "alias": "string",
    "hans": "string", "since": "date", "until": "date", "tags": "texts", "papers": "list!", "papers[].name": "string!",
    "papers[].code": "string", "places": "list", "places[].code": "code! digits = 6", "mobile": "string",
    "extra": "string", "form": "entries", "inner": "entries", "pairs": "entries", "boss": "string", "capital": "money",
    "active": "boolean", "ratio": "decimal", "moment": "datetime", "boxes": "list", "boxes[].things": "list",
    "boxes[].things[].word": "string!",
}  # fmt: skip
TEXT = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["bh"],
    "properties": {
        "bh": TEXT, "lx": TEXT, "grxm": TEXT, "dwmc": TEXT, "jt": TEXT, "xing": TEXT, "ming": TEXT, "yxqx": TEXT,
        "bq": {"type": "array", "items": TEXT}, "clmc": TEXT, "clbm": TEXT, "qh": {"type": "array", "items": TEXT},
        "ext": {"type": "array", "items": TEXT}, "f": {"type": "object", "additionalProperties": TEXT}, "f2": TEXT,
        "f3": {"type": "array", "items": TEXT}, "fr": TEXT, "zb": {"type": "number"}, "zt": TEXT,
        "bl": {"type": "number"}, "sj": {"type": "integer"},
        "hz": {"type": "array", "items": {"type": "object", "properties": {
            "dx": {"type": "array", "items": {"type": "object", "properties": {"c": TEXT}}}}}},
    },
}  # fmt: skip
RULES = """charset = "gb18030"
absent = ["-1"]

[rules]
id = "bh"
kind = "lx"
name = [
  { at = "grxm", when = { kind = "person" } },
  { at = "dwmc", when = { kind = "firm" } },
]
alias = "jt"
hans = { at = "jt", as = "script:hans", direction = "theirs-to-ours", reason = "For matching only." }
latin = { at = ["xing", "ming"], split = ", " }
since = { at = "yxqx", split = "-", part = 1, as = "date:yyyyMMdd" }
until = { at = "yxqx", split = "-", part = 2, as = "date:yyyyMMdd" }
tags = "bq[]"
"papers[].name" = { at = "clmc", join = ";;" }
"papers[].code" = { at = "clbm", join = ";;" }
"places[].code" = { at = "qh[]", as = "region:12" }
mobile = "ext[=].mobile"
extra = "ext[=].extra"
form = { at = "f", as = "entries:object" }
inner = { at = "f2", as = "entries:json" }
pairs = { at = "f3[]", as = "entries:=" }
boss = { at = "fr", else = "name" }
capital = { at = "zb", as = "money:yuan" }
active = { at = "zt", as = "boolean:Y,y/N" }
ratio = { at = "bl", as = "decimal:number" }
moment = { at = "sj", as = "datetime:epoch-ms" }
"boxes[].things[].word" = "hz[].dx[].c"
"""
LOSSES = """[[loss]]
field = "boss"
direction = "ours-to-theirs"
part = "stand-in"
reason = "Without a boss, the name stands there."

[[loss]]
field = "places[].code"
direction = "theirs-to-ours"
part = "subregion"
reason = "Six digits are kept."

[[loss]]
field = "moment"
direction = "ours-to-theirs"
part = "fraction"
reason = "Milliseconds are enough."
"""
OURS: dict[str, Any] = {
    "id": "1", "kind": "firm", "name": "测试公司", "latin": "CHAN, Tai Man", "since": "2020-01-01",
    "tags": ["a", "b"], "papers": [{"name": "身份证", "code": "1"}, {"name": "户口簿"}], "places": [{"code": "440600"}],
    "mobile": "1=2", "form": {"a": "1", "b": ""}, "inner": {"a": "1"}, "pairs": {"a": "1=3"}, "boss": "测试甲",
    "capital": 1250, "active": True, "ratio": "0.25", "moment": "2026-03-10T01:30:00Z",
    "boxes": [{"things": [{"word": "x"}, {"word": "y"}]}, {"things": [{"word": "z"}]}],
}  # fmt: skip
THEIRS: dict[str, Any] = {
    "bh": "1", "lx": "firm", "dwmc": "测试公司", "xing": "CHAN", "ming": "Tai Man", "yxqx": "20200101",
    "bq": ["a", "b"],
    "clmc": "身份证;;户口簿", "clbm": "1;;", "qh": ["440600000000"], "ext": ["mobile=1=2"], "f": {"a": "1", "b": ""},
    "f2": '{"a":"1"}', "f3": ["a=1=3"], "fr": "测试甲", "zb": 12.5, "zt": "Y", "bl": 0.25, "sj": 1773106200000,
    "hz": [{"dx": [{"c": "x"}, {"c": "y"}]}, {"dx": [{"c": "z"}]}],
}  # fmt: skip
LEAST: dict[str, Any] = {"id": "1", "kind": "person", "name": "n", "papers": []}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return OneMessage(FIELDS, SCHEMA, RULES, (OURS, THEIRS), LOSSES).at(tmp_path_factory.mktemp("mappings")).pack()


def test_every_construct_says_and_hears(pack: Pack) -> None:
    """Loading has tried it; here it stands to be read."""
    assert pack.to_region(OURS) == THEIRS
    assert pack.to_canonical(THEIRS) == OURS


@pytest.mark.parametrize(
    ("more", "place", "words"),
    [
        ({"kind": None}, "name", "has no place in this format with this kind"),
        ({"form": {"a": "\u9fb4"}}, "form.a", "U+9FB4"),
        ({"papers": [{"name": "\u9fb4"}]}, "papers[0].name", "U+9FB4"),
        ({"name": "\ue000"}, "name", "private-use"),
        ({"since": "2020-01-01", "until": "2021-02-29"}, "until", "is not a day"),
        ({"latin": "CHAN, "}, "latin", "has nothing before or after"),
        ({"tags": [""]}, "tags[0]", "is missing"),
        ({"papers": [{"name": "a;;b"}]}, "papers", "separates the items of clmc"),
        ({"papers": [{"name": "a;"}, {"name": "b"}]}, "papers", "separates the items of clmc"),
        ({"mobile": "-1"}, "mobile", "means that nothing was given"),
        ({"name": "-1"}, "name", "means that nothing was given"),
        ({"name": "\u9fb4"}, "name", "U+9FB4"),
        ({"form": {"\u9fb4": "x"}}, "form", "U+9FB4"),
        ({"form": {"a": "\ue000"}}, "form.a", "private-use"),
        ({"pairs": {"a=b": "1"}}, "pairs", 'holds "="'),
        ({"kind": "other"}, "kind", "is not a code"),
        ({"ratio": "0.250"}, "ratio", "shortest form"),
        ({"capital": 12.5}, "capital", "is not an integer"),
        ({"since": "2026-02-30"}, "since", "is not a day"),
        ({"places": [{}]}, "places[0].code", "is missing"),
        ({"boxes": [{"things": [{"word": "x"}, {}]}]}, "boxes[0].things[1].word", "is missing"),
    ],
)
def test_what_cannot_be_said_is_refused_by_its_place(pack: Pack, more: dict[str, Any], place: str, words: str) -> None:
    found = refused(pack.to_region, {**LEAST, **more})
    assert words in found[place], found


@pytest.mark.parametrize(
    ("more", "place", "words"),
    [
        ({"ext": ["mobile"]}, "ext", '"key=value"'),
        ({"ext": ["mobile=1", "mobile=2"]}, "ext", "holds a key twice"),
        ({"yxqx": "2020-x"}, "yxqx.part 1", "is not written yyyyMMdd"),
        ({"clmc": "a;;b", "clbm": "1"}, "clmc", "have different numbers of items"),
        ({"f2": "[]"}, "f2", "is no object"),
        ({"f3": ["a"]}, "f3[0]", '"name=text"'),
        ({"f3": ["a=1", "a=2"]}, "f3[1]", "was given before"),
        ({"zb": 1.234}, "zb", "more than two decimals"),
        ({"zt": "yes"}, "zt", "is none of the spellings"),
        ({"hz": [{"dx": [{"c": "x"}, {}]}]}, "hz[0].dx[1].c", "is missing"),
    ],
)
def test_what_cannot_be_heard_is_refused_by_its_place(pack: Pack, more: dict[str, Any], place: str, words: str) -> None:
    found = refused(pack.to_canonical, {"bh": "1", "lx": "person", "grxm": "n", **more})
    assert words in found[place], found


def test_a_condition_chooses_the_place(pack: Pack) -> None:
    said = pack.to_region({**LEAST, "boss": "b"})
    assert isinstance(said, dict)
    assert (said["grxm"], "dwmc" in said) == ("n", False)


def test_a_stand_in_is_said_when_there_is_nothing(pack: Pack) -> None:
    said = pack.to_region(LEAST)
    assert isinstance(said, dict)
    assert said["fr"] == "n"


def test_the_simplified_name_is_for_matching_and_the_name_stays(pack: Pack) -> None:
    heard = pack.to_canonical({"bh": "1", "lx": "person", "grxm": "n", "jt": "陳"})
    assert (heard["alias"], heard["hans"]) == ("陳", "陈")


def test_texts_that_mean_nothing_are_passed_over(pack: Pack) -> None:
    heard = pack.to_canonical({"bh": "1", "lx": "person", "grxm": "n", "ext": ["mobile=-1"], "clmc": "", "fr": "-1"})
    assert heard == LEAST


WORDS = st.text(st.sampled_from("ab;,-= 测"), min_size=1, max_size=6)


def test_joined_split_and_paired_texts_come_back_or_are_refused(pack: Pack) -> None:
    """Separators stand in the values too: never is one taken for the other."""

    @given(names=st.lists(WORDS, min_size=1, max_size=4), latin=WORDS, mobile=WORDS)
    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    def law(names: list[str], latin: str, mobile: str) -> None:
        ours = {**LEAST, "papers": [{"name": name} for name in names], "latin": latin, "mobile": mobile, "boss": "b"}
        try:
            said = pack.to_region(ours)
        except MappingFailed:
            return
        assert pack.to_canonical(said) == ours

    law()


@pytest.mark.parametrize("empty", ["", None])
def test_what_is_empty_was_not_given(pack: Pack, empty: str | None) -> None:
    """An empty text is no name, whichever side it comes from."""
    assert pack.to_region({**LEAST, "boss": "b", "latin": empty, "mobile": empty, "until": empty}) == {
        "bh": "1", "lx": "person", "grxm": "n", "fr": "b",
    }  # fmt: skip
    heard = pack.to_canonical({"bh": "1", "lx": "person", "grxm": "n", "xing": "", "ming": "", "yxqx": "", "f2": ""})
    assert heard == LEAST


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [({"until": "2021-01-01"}, "-20210101"), ({"since": "2020-01-01", "until": "2021-01-01"}, "20200101-20210101")],
)
def test_every_part_has_its_own_field_also_when_the_first_lacks(pack: Pack, ours: dict[str, Any], theirs: str) -> None:
    said = pack.to_region({**LEAST, **ours, "boss": "b"})
    assert isinstance(said, dict)
    assert said["yxqx"] == theirs
    assert pack.to_canonical(said) == {**LEAST, **ours, "boss": "b"}


# --- the same constructs in XML --------------------------------------------------------------------------------------

XSD = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
<xs:element name="Note"><xs:complexType><xs:sequence>
  <xs:element name="Number" type="xs:string"/>
  <xs:element name="Holder" minOccurs="0"><xs:complexType><xs:sequence>
    <xs:element name="Name" type="xs:string" minOccurs="0"/><xs:element name="Alias" type="xs:string" minOccurs="0"/>
    <xs:element name="Mark" minOccurs="0"><xs:complexType><xs:simpleContent><xs:extension base="xs:string">
      <xs:attribute name="alg" type="xs:string"/></xs:extension></xs:simpleContent></xs:complexType></xs:element>
  </xs:sequence><xs:attribute name="sex" type="xs:string"/></xs:complexType></xs:element>
  <xs:element name="Box" minOccurs="0" maxOccurs="unbounded"><xs:complexType><xs:sequence>
    <xs:element name="Thing" type="xs:string" minOccurs="0" maxOccurs="unbounded"/>
  </xs:sequence></xs:complexType></xs:element>
  <xs:element name="Tag" type="xs:string" minOccurs="0" maxOccurs="unbounded"/>
  <xs:element name="Papers" type="xs:string" minOccurs="0"/>
  <xs:element name="Field" minOccurs="0" maxOccurs="unbounded"><xs:complexType><xs:simpleContent>
    <xs:extension base="xs:string"><xs:attribute name="name" type="xs:string"/></xs:extension>
  </xs:simpleContent></xs:complexType></xs:element>
  <xs:element name="Kind" type="xs:string" minOccurs="0"/><xs:element name="Card" type="xs:string" minOccurs="0"/>
  <xs:element name="Level" type="xs:string" minOccurs="0"/>
</xs:sequence></xs:complexType></xs:element></xs:schema>"""
CARDS = """zh = "证件"
en = "card"
source = "invented"

[columns]
east = "digits"

[codes]
A = { zh = "甲", en = "a", east = "40", shapes = ["@########"] }
B = { zh = "乙", en = "b", east = "40", shapes = ["81####"] }
C = { zh = "丙", en = "c", east = ["10", "11"] }
"""
XML_FIELDS = {
    "id": "string!", "name": "string", "sex": "string", "mark": "string", "boxes": "list", "boxes[].things": "list",
    "boxes[].things[].word": "string!", "tags": "texts", "papers": "texts", "form": "entries",
    "card.kind": 'code table = "card"', "card.number": "string", "card": "object", "level": "string",
    "realm": 'code values = ["east", "west"]', "secret": "string",
}  # fmt: skip
XML_RULES = """absent = ["无"]
[rules]
id = "Number"
name = { at = "Holder/Name", or = "Holder/Alias", required = true }
sex = "Holder/@sex"
mark = "Holder/Mark"
"boxes[].things[].word" = "Box[]/Thing[]"
tags = "Tag[]"
papers = { at = "Papers", join = ";" }
form = { at = "Field[]", as = "entries:@name,." }
"card.kind" = { at = "Kind", table = "card.east", by = "card.number" }
"card.number" = "Card"
level = { at = "Level", default = "1" }
realm = { constant = "east" }

[fixed]
"Holder/Mark/@alg" = "SM3"
"""
XML_LOSSES = """[[loss]]
field = "card.kind"
direction = "theirs-to-ours"
values = ["11"]
reason = "An older spelling."

[[loss]]
field = "realm"
direction = "ours-to-theirs"
values = ["west"]
reason = "It is in the east."

[[loss]]
field = "secret"
direction = "ours-to-theirs"
reason = "They have no place for it."
"""
XML_OURS: dict[str, Any] = {
    "id": "1", "name": "测试甲", "sex": "F", "mark": "ff", "boxes": [{"things": [{"word": "x"}, {"word": "y"}]}],
    "tags": ["a", "b"], "papers": ["c", "d"], "form": {"p": "1", "q": ""}, "card": {"kind": "B", "number": "810000"},
    "level": "2", "realm": "east",
}  # fmt: skip
XML_THEIRS = """<Note><Number>1</Number><Holder sex="F"><Name>测试甲</Name><Mark alg="SM3">ff</Mark></Holder>
<Box><Thing>x</Thing><Thing>y</Thing></Box><Tag>a</Tag><Tag>b</Tag><Papers>c;d</Papers>
<Field name="p">1</Field><Field name="q"></Field><Kind>40</Kind><Card>810000</Card><Level>2</Level></Note>"""
XML = OneMessage(XML_FIELDS, XSD, XML_RULES, (XML_OURS, XML_THEIRS), XML_LOSSES, {"card": CARDS})


@pytest.fixture
def told() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
def xml(tmp_path: Path, told: list[tuple[str, str, str]]) -> Pack:
    return XML.at(tmp_path / "mappings").pack(lambda *what: told.append(what))


def heard_of(xml: Pack, body: str) -> dict[str, Any]:
    return xml.to_canonical(f"<Note><Number>1</Number>{body}</Note>".encode())


def test_every_construct_says_and_hears_in_xml(xml: Pack) -> None:
    """Elements, attributes, an element's own text, lists in lists, plain lists, a joined text and entries."""
    said = xml.to_region(XML_OURS)
    assert isinstance(said, bytes)
    assert said.decode() == XML_THEIRS.replace("\n", "")
    assert xml.to_canonical(XML_THEIRS.encode()) == XML_OURS


@pytest.mark.parametrize(
    ("holder", "name"),
    [
        ("<Name>a</Name><Alias>b</Alias>", "a"),
        ("<Name/><Alias>b</Alias>", "b"),
        ("<Name>无</Name><Alias>b</Alias>", "b"),
        ("<Alias>b</Alias>", "b"),
    ],
)
def test_another_place_is_read_when_the_first_is_empty(xml: Pack, holder: str, name: str) -> None:
    heard = heard_of(xml, f"<Holder>{holder}</Holder>")
    assert heard["name"] == name


def test_a_default_is_taken_and_a_constant_given_where_they_say_nothing(xml: Pack) -> None:
    heard = heard_of(xml, "<Holder><Name>a</Name></Holder>")
    assert heard == {"id": "1", "name": "a", "level": "1", "realm": "east", "boxes": [], "tags": [], "form": {}}


@pytest.mark.parametrize(
    ("more", "place", "words"),
    [
        ({"name": None}, "name", "is missing"),
        ({"name": "无"}, "name", "means that nothing was given"),
        ({"realm": "west"}, "realm", "can only be east"),
        ({"tags": ["a", ""]}, "tags[1]", "is missing"),
        ({"papers": ["a;b"]}, "papers", "separates the items"),
        ({"boxes": [{"things": [{"word": "a"}]}, {"things": [{}]}]}, "boxes[1].things[0].word", "is missing"),
        ({"card": {"kind": "unknown:77"}}, "card.kind", "without counterpart"),
        ({"form": {"p": "\ue000"}}, "form.p", "private-use"),
    ],
)
def test_what_xml_cannot_say_is_refused_by_its_place(xml: Pack, more: dict[str, Any], place: str, words: str) -> None:
    found = refused(xml.to_region, {**XML_OURS, **more})
    assert words in found[place], found


def test_a_demand_of_the_region_holds_when_reading_too(xml: Pack) -> None:
    found = refused(xml.to_canonical, b"<Note><Number>1</Number></Note>")
    assert found == {"Holder/Name": "is missing"}


def test_a_fixed_value_appears_with_its_object_and_nothing_else_is_taken_for_it(xml: Pack) -> None:
    said = xml.to_region({**XML_OURS, "mark": None})
    assert isinstance(said, bytes)
    assert b"alg" not in said
    body = XML_THEIRS.replace("SM3", "MD5").encode()
    assert refused(xml.to_canonical, body) == {"Holder/Mark/@alg": "can only be SM3"}


@pytest.mark.parametrize(
    ("kind", "number", "ours", "unknown"),
    [
        ("40", "H12345678", "A", 0),
        ("40", "810000", "B", 0),
        ("40", "nothing like it", "unknown:40", 1),
        ("10", "whatever", "C", 0),
        ("11", "whatever", "C", 0),
        ("77", "810000", "unknown:77", 1),
    ],
)
def test_a_number_tells_codes_apart_and_what_nobody_knows_is_kept_and_told(
    xml: Pack, told: list[tuple[str, str, str]], kind: str, number: str, ours: str, unknown: int
) -> None:
    """Otherwise the case would stop for a code, or go on with a guess about a person."""
    heard = heard_of(xml, f"<Holder><Name>a</Name></Holder><Kind>{kind}</Kind><Card>{number}</Card>")
    assert heard["card"] == {"kind": ours, "number": number}
    assert told == [("east", "note", "card.kind")] * unknown


def test_what_no_rule_lists_does_not_pass(xml: Pack) -> None:
    said = xml.to_region({**XML_OURS, "secret": "do not tell"})
    assert isinstance(said, bytes)
    assert b"tell" not in said


# --- names and texts: forms and CSV ----------------------------------------------------------------------------------

FLAT_FIELDS = {
    "id": "string!", "holder": "object", "holder.name": "string", "count": "integer", "active": "boolean",
    "capital": "money", "tags": "texts", "shares": "decimal",
}  # fmt: skip
FLAT_RULES = """charset = "gb18030"
[rules]
id = "bh"
"holder.name" = "xm"
count = "sl"
active = "zt"
capital = { at = "zb", as = "money:yuan" }
tags = { at = "bq", join = "," }
shares = { at = "gf", as = "decimal:number" }
"""
FLAT_SCHEMA = {"type": "object", "required": ["bh"], "properties": dict.fromkeys(
    ["bh", "xm", "sl", "zt", "zb", "bq", "gf"], TEXT)}  # fmt: skip
FLAT_OURS = {
    "id": "1", "holder": {"name": "测试"}, "count": 2, "active": True, "capital": 1250, "tags": ["a", "b"],
    "shares": "0.25",
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "theirs"),
    [
        ("form", "bh=1&xm=%B2%E2%CA%D4&sl=2&zt=true&zb=12.50&bq=a%2Cb&gf=0.25"),
        ("csv", 'bh,xm,sl,zt,zb,bq,gf\r\n1,测试,2,true,12.50,"a,b",0.25\r\n'),
    ],
)
def test_objects_and_numbers_become_texts_side_by_side_and_come_back(tmp_path: Path, form: str, theirs: str) -> None:
    """In these formats a text goes without saying."""
    message = OneMessage(FLAT_FIELDS, FLAT_SCHEMA, f'format = "{form}"\n{FLAT_RULES}', (FLAT_OURS, theirs))
    scratch = message.at(tmp_path / "mappings")
    raw = theirs.encode("gb18030")
    (scratch.root / f"east/note/examples/one.region.{form}").write_bytes(raw)
    pack = scratch.pack()
    assert pack.form.same(pack.to_region(FLAT_OURS), raw)
    assert pack.to_canonical(raw) == FLAT_OURS
    assert "U+9FB4" in refused(pack.to_region, {"id": "1", "holder": {"name": "\u9fb4"}})["holder.name"]


def test_csv_of_several_records_is_a_list(tmp_path: Path) -> None:
    row = {"type": "object", "properties": {"xm": TEXT, "sl": TEXT}}
    schema = {"type": "object", "properties": {"rows": {"type": "array", "items": row}}}
    rules = 'format = "csv"\n[rules]\n"pages[].name" = "rows[].xm"\n"pages[].count" = "rows[].sl"\n'
    ours = {"pages": [{"name": "a", "count": 1}, {"name": "b"}]}
    fields = {"pages": "list", "pages[].name": "string!", "pages[].count": "integer"}
    pack = OneMessage(fields, schema, rules, (ours, "xm,sl\r\na,1\r\nb,\r\n")).at(tmp_path / "mappings").pack()
    assert pack.to_region(ours) == b"xm,sl\r\na,1\r\nb,\r\n"
    assert refused(pack.to_canonical, b"xm,sl\r\na,1\r\n,2\r\n") == {"rows[1].xm": "is missing"}


# --- rules with conditions, one way, and entries as a list -----------------------------------------------------------

MORE_FIELDS = {"id": "string!", "yes": "boolean", "name": "string", "form": "entries", "count": "integer"}
MORE_SCHEMA = {"type": "object", "properties": {
    "bh": TEXT, "zt": {"type": "boolean"}, "a": TEXT, "b": TEXT, "t": TEXT, "sl": {"type": "integer"},
    "attrs": {"type": "array", "items": {"type": "object", "properties": {"k": TEXT, "v": TEXT}}}}}  # fmt: skip
MORE_RULES = """[rules]
id = "bh"
yes = "zt"
name = [
  { at = "a", when = { yes = true } },
  { at = "b", when = { yes = false } },
  { at = "t", as = "script:hant", direction = "ours-to-theirs", reason = "For finding." },
]
form = { at = "attrs[]", as = "entries:k,v" }
count = { at = "sl", direction = "theirs-to-ours", reason = "They count." }
"""
MORE_OURS = {"id": "1", "yes": True, "name": "陈", "form": {"p": "1"}}
MORE_THEIRS = {"bh": "1", "zt": True, "a": "陈", "t": "陳", "attrs": [{"k": "p", "v": "1"}]}


@pytest.fixture
def more(tmp_path: Path) -> Pack:
    return OneMessage(MORE_FIELDS, MORE_SCHEMA, MORE_RULES, (MORE_OURS, MORE_THEIRS)).at(tmp_path / "mappings").pack()


def test_a_name_goes_as_it_is_and_in_another_script_and_comes_back_as_it_was(more: Pack) -> None:
    assert more.to_region(MORE_OURS) == MORE_THEIRS
    assert more.to_canonical({**MORE_THEIRS, "t": "另"}) == MORE_OURS


def test_yes_and_no_choose_the_place_and_neither_has_none(more: Pack) -> None:
    said = more.to_region({**MORE_OURS, "yes": False})
    assert isinstance(said, dict)
    assert (said["b"], "a" in said) == ("陈", False)
    assert more.to_canonical(said)["name"] == "陈"


def test_a_rule_of_one_way_is_silent_the_other_way(more: Pack) -> None:
    said = more.to_region({**MORE_OURS, "count": 2})
    assert isinstance(said, dict)
    assert "sl" not in said
    assert more.to_canonical({**MORE_THEIRS, "sl": 2})["count"] == 2


@pytest.mark.parametrize(
    ("attrs", "place", "words"),
    [
        ([{"k": "p", "v": "1"}, {"k": "p", "v": "2"}], "attrs[1]", "was given before"),
        ([{"v": "1"}], "attrs[0]", "is not text"),
        ([5], "attrs[0]", "does not fit the schema (type)"),
    ],
)
def test_entries_that_are_none_are_refused_by_their_number(more: Pack, attrs: Any, place: str, words: str) -> None:
    found = refused(more.to_canonical, {**MORE_THEIRS, "attrs": attrs})
    assert words in found[place], found


def test_entries_come_back_whatever_their_names_or_are_refused(pack: Pack) -> None:
    """In all spellings side by side; a name that holds the mark between name and text is refused."""
    names = st.dictionaries(WORDS, st.text(st.sampled_from('a=;"\\测'), max_size=4), max_size=3)

    @given(form=names, inner=names, pairs=names)
    @settings(max_examples=50, deadline=None, derandomize=True, database=None)
    def law(form: dict[str, str], inner: dict[str, str], pairs: dict[str, str]) -> None:
        ours = {**LEAST, "form": form, "inner": inner, "pairs": pairs, "boss": "b"}
        if any("=" in name for name in pairs):
            assert 'holds "="' in refused(pack.to_region, ours)["pairs"]
        else:
            assert pack.to_canonical(pack.to_region(ours)) == ours

    law()


def test_parts_come_back_whatever_days_they_hold(pack: Pack) -> None:
    @given(since=st.none() | st.dates(), until=st.none() | st.dates())
    @settings(max_examples=50, deadline=None, derandomize=True, database=None)
    def law(since: Any, until: Any) -> None:
        days = {"since": since, "until": until}
        ours = {**LEAST, "boss": "b"} | {name: day.isoformat() for name, day in days.items() if day}
        assert pack.to_canonical(pack.to_region(ours)) == ours

    law()
