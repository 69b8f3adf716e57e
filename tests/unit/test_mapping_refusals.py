"""Packs with faults: loading refuses, and says everything that is wrong with file and line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import StartRefused
from gateway.mapping import load_packs
from gateway.mapping.limits import MAX_FILE_BYTES

VOCABULARY = """
[note]
zh = "通知"
en = "note"
flow = "theirs-to-ours"

[note.fields]
id = { type = "string", required = true, sensitivity = "none", zh = "编号", en = "id", meaning = "Number of the note" }
"holder.name" = { type = "string", required = true, sensitivity = "personal", zh = "姓名", en = "name", meaning = "It" }
sex = { type = "code", table = "sex", sensitivity = "personal", zh = "性别", en = "sex", meaning = "Sex" }
issued_on = { type = "date", sensitivity = "none", zh = "日期", en = "day", meaning = "Day of issue" }
count = { type = "integer", sensitivity = "none", zh = "数量", en = "count", meaning = "How many" }
pages = { type = "list", sensitivity = "none", zh = "页", en = "pages", meaning = "Its pages" }
"pages[].text" = { type = "string", required = true, sensitivity = "none", zh = "文字", en = "text", meaning = "Words" }
"""

SEX = """
zh = "性别"
en = "sex"
source = "GB/T 2261.1"

[columns]
east = "digits"

[codes]
M = { zh = "男", en = "male", east = "1" }
F = { zh = "女", en = "female", east = "2" }
"""

RULES = """# A note.
[rules]
id = "bh"
"holder.name" = "xm"
sex = { at = "xb", table = "sex.east" }
issued_on = { at = "rq", as = "date:yyyyMMdd" }
count = "sl"
"pages[].text" = "ym[].wz"
"""

SCHEMA = """{"type": "object", "required": ["bh"], "properties": {
  "bh": {"type": "string"}, "xm": {"type": "string"},
  "xb": {"type": "string"}, "rq": {"type": "string"}, "sl": {"type": "integer"},
  "ym": {"type": "array", "items": {"$ref": "#/$defs/page"}}},
  "$defs": {"page": {"type": "object", "properties": {"wz": {"type": "string"}}}}}"""

OURS = """{"id": "1", "holder": {"name": "测试"}, "sex": "M", "issued_on": "2026-03-01", "count": 2,
"pages": [{"text": "a"}]}"""
THEIRS = '{"bh": "1", "xm": "测试", "xb": "1", "rq": "20260301", "sl": 2, "ym": [{"wz": "a"}]}'

XSD = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="Note"><xs:complexType><xs:sequence>
<xs:element name="bh" type="xs:string"/>{}</xs:sequence></xs:complexType></xs:element></xs:schema>"""


class Folder:
    """A small mappings folder with one sound pack, to be spoiled by a test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("vocabulary.toml", VOCABULARY)
        self.write("tables/sex.toml", SEX)
        self.write("east/note/rules.toml", RULES)
        self.write("east/note/losses.toml", "")
        self.write("east/note/schema.json", SCHEMA)
        self.write("east/note/examples/one.canonical.json", OURS)
        self.write("east/note/examples/one.region.json", THEIRS)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def refusal(self) -> list[tuple[str, str]]:
        """Load, expect a refusal, and return (file and line, reason) of every problem."""
        with pytest.raises(StartRefused) as caught:
            load_packs(self.root, "east")
        return [(problem.field, problem.reason) for problem in caught.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "mappings")


def test_a_sound_pack_loads(folder: Folder) -> None:
    """Otherwise the refusals below would prove nothing."""
    assert list(load_packs(folder.root, "east")) == ["note"]


def test_a_list_of_values_takes_a_table_of_just_these_codes(folder: Folder) -> None:
    """What the vocabulary closes stays closed: a table with another code, or without one, is another list."""
    folder.replace("vocabulary.toml", 'table = "sex"', 'values = ["F", "M"]')
    pack = load_packs(folder.root, "east")["note"]
    assert pack.to_canonical({"bh": "1", "xm": "测试", "xb": "2"})["sex"] == "F"
    assert pack.to_region({"id": "1", "holder": {"name": "测试"}, "sex": "F"}) == {"bh": "1", "xm": "测试", "xb": "2"}
    folder.replace("vocabulary.toml", '["F", "M"]', '["F", "M", "X"]')
    assert [reason for _, reason in folder.refusal()] == ["sex: is not a code of a table"]


def test_a_value_without_counterpart_in_its_table_is_a_loss_like_any_other(folder: Folder) -> None:
    folder.replace("vocabulary.toml", 'table = "sex"', 'values = ["F", "M"]')
    folder.replace("tables/sex.toml", 'en = "female", east = "2"', 'en = "female"')
    assert any("sex" in reason and "F" in reason for _, reason in folder.refusal())


def test_a_region_without_folder_has_no_packs(folder: Folder) -> None:
    assert load_packs(folder.root, "west") == {}


def test_all_faults_of_all_packs_are_told_at_once_with_file_and_line(folder: Folder) -> None:
    folder.write(
        "east/note/rules.toml",
        """absnt = ["-1"]
[rules]
id = "bhh"
"holder.nam" = "xm"
sex = { at = "xb", table = "sex.eats" }
issued_on = { at = "rq", as = "date:yyyymmdd" }
count = { at = "sl", wen = "x" }
"pages[].text" = "xm"
""",
    )
    folder.write("east/notes/rules.toml", "")
    assert folder.refusal() == [
        ("mappings/east/note/rules.toml:1", "absnt is not known; did you mean absent?"),
        ("mappings/east/note/rules.toml:3", "id: bhh is no place for a value in schema.json; did you mean bh?"),
        (
            "mappings/east/note/rules.toml:4",
            "holder.nam: is not in vocabulary.toml under note; did you mean holder.name?",
        ),
        ("mappings/east/note/rules.toml:5", "sex: table sex has no column eats; did you mean east?"),
        (
            "mappings/east/note/rules.toml:6",
            'issued_on: "date:yyyymmdd" holds mm, which a date does not have; did you mean date:yyyyMMdd?',
        ),
        ("mappings/east/note/rules.toml:7", "count: wen is not known in a rule; did you mean when?"),
        ("mappings/east/note/rules.toml:8", "pages[].text: pages[].text and xm must have the same number of lists []"),
        ("mappings/east/notes", "is no message of vocabulary.toml; did you mean note?"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('"xm"', '"bh"', 4, "already carries id (line 3)"),
        ('count = "sl"', "", None, "count has no rule"),
        ('count = "sl"', "count = 5", 7, "a rule is"),
        ('"holder.name" = "xm"', 'holder.name = "xm"', None, "names with dots stand in quotes"),
        ('count = "sl"', 'count = { as = "integer:text" }', 7, 'needs at = "…"'),
        ('count = "sl"', 'count = { at = "sl", required = false }', 7, "cannot become optional"),
        ('count = "sl"', 'count = { at = "sl", direction = "theirs-to-ours" }', 7, "needs both direction and reason"),
        ('count = "sl"', 'count = { at = "sl", direction = "out", reason = "x" }', 7, "direction is one of"),
        ('count = "sl"', 'count = { at = "sl", as = "date:yyyyMMdd" }', 7, "is for a date, and count is a integer"),
        ('count = "sl"', 'count = { at = "sl", default = "x" }', 7, "default is not an integer"),
        ('count = "sl"', 'count = { at = "sl", table = "sex.east" }', 7, "is not a code of a table"),
        ('count = "sl"', 'count = { constant = "x" }', 7, "a constant is a text or a code"),
        ('table = "sex.east"', 'table = "sx.east"', 5, "there is no table sx; did you mean sex?"),
        ('table = "sex.east"', 'table = "sex.east", by = "nobody"', 5, "has no rule in this file"),
        ('count = "sl"', "count = { at = [5] }", 7, "at is a place, or a list of places"),
        ('"ym[].wz"', '"ym[]"', 8, "ym[] is no place for a value in schema.json; did you mean ym[].wz?"),
        ("[rules]", "[rule]", None, "has no [rules]"),
        ('id = "bh"', 'id = "bh', 3, "is not TOML"),
        ('count = "sl"', 'count = "sl"\n[fixed]\n"zz" = "1"', 9, "zz is no place"),
        ('count = "sl"', 'count = "sl"\n[fixed]\nbh = "1"', 9, "a rule fills this place already"),
        ('"pages[].text" = "ym[].wz"', '[fixed]\n"ym[].wz" = "1"', 9, "no rule fills the list"),
        ('"xm"', '{ at = "xm", or = "ym[].wz" }', 4, "must be in the same list as xm"),
        ("# A note.", 'absent = "-1"', 1, "absent is a list of texts"),
    ],
)
def test_a_fault_in_a_rule_is_told_with_its_line(
    folder: Folder, old: str, new: str, line: int | None, words: str
) -> None:
    folder.replace("east/note/rules.toml", old, new)
    refusal = folder.refusal()
    assert any(words in reason for _, reason in refusal), refusal
    if line:
        assert f"mappings/east/note/rules.toml:{line}" in {place for place, _ in refusal}


@pytest.mark.parametrize(
    ("name", "old", "new", "place", "words"),
    [
        ("tables/sex.toml", 'east = "1"', 'wst = "1"', "tables/sex.toml:10", "column wst is not declared"),
        ("tables/sex.toml", 'east = "1"', "east = 1", "tables/sex.toml:10", "a text or a list of texts"),
        ("tables/sex.toml", 'east = "1"', 'east = "2"', "east/note/rules.toml:5", "stands for several of our codes"),
        ("tables/sex.toml", ', east = "2"', "", "east/note/losses.toml", "F has no counterpart"),
        ("vocabulary.toml", '"date"', '"day"', "vocabulary.toml:11", "type is one of"),
        ("vocabulary.toml", 'table = "sex"', "size = 3", "vocabulary.toml:10", "a code needs values"),
        (
            "vocabulary.toml",
            '"personal", zh = "姓名"',
            '"secret", zh = "姓名"',
            "vocabulary.toml:9",
            "sensitivity is one of",
        ),
        ("vocabulary.toml", '"theirs-to-ours"', '"both"', "vocabulary.toml:5", "flow is one of"),
        (
            "east/note/schema.json",
            '"bh": {"type": "string"}',
            '"bh": {"type": "strin"}',
            "east/note/schema.json",
            "is no JSON Schema",
        ),
        (
            "east/note/schema.json",
            "#/$defs/page",
            "https://example.com/x.json",
            "east/note/schema.json",
            "is no JSON Schema",
        ),
        ("east/note/schema.json", "{", "", "east/note/schema.json", "is not JSON (line 1)"),
        (
            "east/note/examples/one.canonical.json",
            '"M"',
            '"F"',
            "east/note/examples/one.region.json",
            "is not what the rules make of one.canonical.json: xb",
        ),
        (
            "east/note/examples/one.canonical.json",
            '"M"',
            '"F"',
            "east/note/examples/one.canonical.json",
            "is not what the rules make of one.region.json: sex",
        ),
        (
            "east/note/examples/one.region.json",
            "20260301",
            "20260231",
            "east/note/examples/one.region.json",
            "rq is not a day of the calendar",
        ),
        ("east/note/examples/one.canonical.json", "}", "", "east/note/examples/one.canonical.json", "is not JSON"),
    ],
)
def test_a_fault_elsewhere_is_told_where_it_is(
    folder: Folder, name: str, old: str, new: str, place: str, words: str
) -> None:
    folder.replace(name, old, new)
    refusal = folder.refusal()
    assert any(where.startswith(f"mappings/{place}") and words in reason for where, reason in refusal), refusal


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ('field = "cuont"\ndirection = "ours-to-theirs"\nreason = "x"', "cuont is no field; did you mean count?"),
        ('field = "count"\ndirection = "away"\nreason = "x"', "direction is one of"),
        ('field = "count"\ndirection = "ours-to-theirs"', "reason is missing"),
        (
            'field = "sex"\ndirection = "ours-to-theirs"\nreason = "x"\nvalues = ["M"]',
            "M is declared lost, but nothing of it is lost",
        ),
    ],
)
def test_a_fault_in_the_declared_losses_is_told(folder: Folder, loss: str, words: str) -> None:
    folder.write("east/note/losses.toml", f"[[loss]]\n{loss}\n")
    assert any(words in reason for _, reason in folder.refusal())


def test_a_message_that_comes_in_cannot_lose_what_we_require(folder: Folder) -> None:
    """A receipt without number would pass its examples and break whoever reads it."""
    folder.replace("east/note/rules.toml", '"holder.name" = "xm"\n', "")
    folder.write(
        "east/note/losses.toml",
        '[[loss]]\nfield = "holder.name"\ndirection = "theirs-to-ours"\nreason = "x"\n'
        '[[loss]]\nfield = "xm"\ndirection = "theirs-to-ours"\nreason = "x"\n',
    )
    assert folder.refusal() == [
        ("mappings/east/note/losses.toml", "holder.name is required of every note: it needs a rule")
    ]


def test_a_pack_without_examples_is_refused(folder: Folder) -> None:
    for path in (folder.root / "east/note/examples").iterdir():
        path.unlink()
    assert "at least one" in folder.refusal()[0][1]


def test_an_example_with_one_half_is_refused(folder: Folder) -> None:
    (folder.root / "east/note/examples/one.region.json").unlink()
    assert folder.refusal() == [("mappings/east/note/examples/one.region.json", "is missing")]


@pytest.mark.parametrize(
    "name", ["vocabulary.toml", "east/note/rules.toml", "east/note/losses.toml", "east/note/schema.json"]
)
def test_a_missing_file_is_told(folder: Folder, name: str) -> None:
    (folder.root / name).unlink()
    assert any(place.startswith("mappings/") for place, _ in folder.refusal())


def test_a_file_beyond_the_limit_is_refused(folder: Folder) -> None:
    folder.write("east/note/rules.toml", RULES + "#" * MAX_FILE_BYTES)
    assert folder.refusal() == [("mappings/east/note/rules.toml", f"is larger than {MAX_FILE_BYTES} bytes")]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("<xs:schema", "is not well-formed XML"),
        ("<note/>", "is no XML Schema 1.0"),
        (XSD.format('<xs:element name="x" type="nothing"/>'), "is no XML Schema 1.0"),
        (
            XSD.format('<xs:element name="x"/>').replace(
                "<xs:element", '<xs:include schemaLocation="/etc/x.xsd"/><xs:element', 1
            ),
            "xs:include",
        ),
        (XSD.format('<xs:element ref="Note" minOccurs="0"/>'), "holds itself"),
        (XSD.format('<xs:element name="x" maxOccurs="9999999"/>'), "maxOccurs above"),
        ("<!DOCTYPE x>" + XSD, "has a DOCTYPE"),
        (
            XSD.replace("</xs:schema>", '<xs:element name="Other"/></xs:schema>').format(""),
            "exactly one global element",
        ),
    ],
)
def test_an_xml_schema_that_cannot_be_used_is_refused(folder: Folder, schema: str, words: str) -> None:
    (folder.root / "east/note/schema.json").unlink()
    folder.write("east/note/schema.xsd", schema)
    assert any(place.endswith("schema.xsd") and words in reason for place, reason in folder.refusal())


def test_a_pack_has_one_schema(folder: Folder) -> None:
    folder.write("east/note/schema.xsd", XSD)
    assert folder.refusal() == [("mappings/east/note", "needs either schema.json or schema.xsd")]


def test_the_version_follows_rules_schema_and_tables_used(folder: Folder) -> None:
    """A case in flight is pinned to it, so it may change with nothing else."""
    first = load_packs(folder.root, "east")["note"].version
    folder.write("tables/other.toml", SEX)
    folder.write("east/note/losses.toml", "# a remark\n")
    assert load_packs(folder.root, "east")["note"].version == first
    folder.replace("tables/sex.toml", "male", "man")
    second = load_packs(folder.root, "east")["note"].version
    folder.replace("east/note/rules.toml", "# A note.", "# Another.")
    assert len({first, second, load_packs(folder.root, "east")["note"].version}) == 3


def test_a_one_way_rule_goes_one_way(folder: Folder) -> None:
    folder.replace(
        "east/note/rules.toml",
        'count = "sl"',
        'count = { at = "sl", direction = "theirs-to-ours", reason = "they count" }',
    )
    folder.write("east/note/examples/one.canonical.json", OURS)
    (folder.root / "east/note/examples/one.canonical.json").rename(
        folder.root / "east/note/examples/one.theirs-to-ours.canonical.json"
    )
    (folder.root / "east/note/examples/one.region.json").rename(
        folder.root / "east/note/examples/one.theirs-to-ours.region.json"
    )
    pack = load_packs(folder.root, "east")["note"]
    assert pack.to_canonical({"bh": "1", "xm": "x", "sl": 2, "ym": []})["count"] == 2
    assert "sl" not in pack.to_region({"id": "1", "holder": {"name": "x"}, "count": 2, "pages": []})


def test_one_list_of_theirs_is_not_filled_from_two_of_ours(folder: Folder) -> None:
    """The second would overwrite the first."""
    folder.write(
        "vocabulary.toml",
        VOCABULARY + VOCABULARY.partition("pages = {")[2].join(["plates = {", ""]).replace("pages[]", "plates[]"),
    )
    folder.replace("east/note/rules.toml", '"ym[].wz"', '"ym[].wz"\n"plates[].text" = "ym[].tp"')
    folder.replace("east/note/schema.json", '{"wz"', '{"tp": {"type": "string"}, "wz"')
    assert ("mappings/east/note/rules.toml:9", "plates[].text: one list of ours goes with one list of theirs") in (
        folder.refusal()
    )


ODD = ["5", "[]", "[1]", "{}", "true", "1979-05-27", '"x"', '""', '"..[][]"', "[[[]]]"]
FILES = ["vocabulary.toml", "tables/sex.toml", "east/note/rules.toml", "east/note/losses.toml"]


def spoiled(text: str) -> Iterator[str]:
    """A file again and again, each time with another value replaced by something that makes no sense there."""
    values = [*re.finditer(r'(?<== )("[^"]*"|true|\[[^]\n]*\])', text), *re.finditer(r"(?<== )\{.*\}", text)]
    for match in values:
        for odd in ODD:
            yield text[: match.start()] + odd + text[match.end() :]


@pytest.mark.parametrize("name", FILES)
def test_no_nonsense_in_a_file_makes_loading_fail_otherwise_than_by_a_refusal(folder: Folder, name: str) -> None:
    """A traceback tells a domain expert nothing."""
    folder.replace("tables/sex.toml", 'east = "1"', 'east = ["1", "7"]')
    folder.write(
        "east/note/losses.toml",
        '[[loss]]\nfield = "sex"\ndirection = "theirs-to-ours"\nreason = "x"\nvalues = ["7"]\n',
    )
    load_packs(folder.root, "east")
    for text in spoiled((folder.root / name).read_text()):
        folder.write(name, text)
        with contextlib.suppress(StartRefused):
            load_packs(folder.root, "east")
