"""`pearl mappings new`: the beginning of a pack, which is never taken for a finished one."""

from __future__ import annotations

import json
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import StartRefused
from gateway.mapping import load_packs
from gateway.mapping.formats import open_form
from gateway.mapping.source import Faults, Files, TomlFile, read_files
from gateway.mapping.tools.draft import quoted
from gateway.mapping.tools.folder import UNCONFIRMED
from gateway.mapping.tools.likeness import initials, same_chinese, same_initials, same_words, tokens
from gateway.mapping.tools.scaffold import Order, Scaffold, scaffold
from gateway.mapping.tools.specimens import Specimens
from tests.support.mapping_folder import EAST_SCHEMA, WEST_SCHEMA, MappingFolder

MAPPINGS = Path(__file__).parents[2] / "mappings"
PACKS = sorted((path.parent.parent.name, path.parent.name) for path in MAPPINGS.glob("*/*/rules.toml"))

NORTH = """{"type": "object", "required": ["noteNo", "holderName"], "properties": {
  "noteNo": {"type": "string", "title": "编号"},
  "holderName": {"type": "string", "title": "姓名"},
  "xb": {"enum": ["1", "2"], "title": "性別"},
  "issueDate": {"type": "string", "title": "颁发日期 yyyyMMdd"},
  "pages": {"type": "array", "items": {"type": "object", "properties": {"text": {"type": "string"}}}},
  "\\"odd\\" name": {"type": "string"}}}"""


@pytest.fixture
def folder(tmp_path: Path) -> MappingFolder:
    return MappingFolder(tmp_path / "mappings")


def begun(folder: MappingFolder, schema: str = NORTH, suffix: str = ".json", *options: str) -> str:
    """Begin north/note and return what the command says."""
    file = folder.root.parent / f"format{suffix}"
    file.write_text(schema, encoding="utf-8")
    result = folder.pearl("new", "north", "note", "--schema", str(file), *options)
    assert result.exit_code == 0, result.output
    return result.stdout


def written(folder: MappingFolder) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads(folder.read("north/note/rules.toml"))["rules"]
    return found


# --- the command -------------------------------------------------------------------------------------------------


def test_rules_are_proposed_by_names_words_codes_and_what_the_schema_takes(folder: MappingFolder) -> None:
    begun(folder)
    rules = written(folder)
    assert rules["id"] == "noteNo"
    assert rules["holder.name"] == "holderName"
    assert rules["issued_on"] == {"at": "issueDate", "as": "date:yyyyMMdd"}
    assert rules["pages[].text"] == "pages[].text"


def test_every_proposal_says_why_and_how_sure_it_is(folder: MappingFolder) -> None:
    begun(folder)
    lines = [line for line in folder.read("north/note/rules.toml").splitlines() if line.startswith('"')]
    assert lines
    assert all(" likely (" in line or " nearly certain (" in line for line in lines)
    assert any("their words are 姓名" in line for line in lines)


def test_what_is_doubtful_stands_as_a_comment(folder: MappingFolder) -> None:
    """Two codes alone fit many lists, and a place that nothing fits is left to a person."""
    begun(folder)
    comments = [line for line in folder.read("north/note/rules.toml").splitlines() if line.startswith("# ")]
    assert any(
        line.startswith('# "holder.sex" = { at = "xb", table = ') and "To be decided" in line for line in comments
    )
    assert any('= "\\"odd\\" name"' in line for line in comments)
    assert any(line.startswith('# "remark" = ""') for line in comments)


def test_a_doubt_comes_before_its_reasons_and_each_reason_once(folder: MappingFolder) -> None:
    """A comment that grows too long is cut off at its end, and what is to be decided must not be."""
    begun(folder)
    line = next(line for line in folder.read("north/note/rules.toml").splitlines() if '"holder.sex"' in line)
    comment = line.partition("}  # ")[2]
    assert comment.startswith("To be decided: so few codes: is it sex.east? 性别: ")
    assert comment.count("the codes are those of sex.east") == 1


def test_the_beginning_is_refused_and_the_refusal_names_what_is_to_be_decided(folder: MappingFolder) -> None:
    """A gateway must not take guesses for a pack that somebody has read."""
    said = begun(folder)
    check = folder.pearl("check", "north")
    assert check.exit_code == 1
    faults = check.stdout.splitlines()[:-1]
    assert any("remark has no rule" in line for line in faults)
    assert any('"odd" name of theirs is read by no rule' in line for line in faults)
    assert "mappings/north/note/examples/first.region.json: is missing" in faults
    assert all(f"  {line}" in said for line in faults)
    with pytest.raises(StartRefused):
        load_packs(folder.root, "north")


def test_losses_are_proposed_with_a_reason_that_says_it_is_unconfirmed(folder: MappingFolder) -> None:
    begun(folder)
    text = folder.read("north/note/losses.toml")
    assert tomllib.loads(text) == {}
    taken = "\n".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ") and "=" in line)
    losses = tomllib.loads(
        "\n".join(f"[[loss]]\n{line}" if line.startswith("field") else line for line in taken.splitlines())
    )
    assert {loss["reason"] for loss in losses["loss"]} == {UNCONFIRMED}
    assert {"remark", '"odd" name'} <= {loss["field"] for loss in losses["loss"]}


def test_somebody_who_decides_everything_gets_a_pack(folder: MappingFolder) -> None:
    """What is proposed must be on the way to a sound pack, not beside it."""
    begun(folder)
    pack = folder.root / "north/note"
    rules = folder.read("north/note/rules.toml").replace('# "holder.sex"', '"holder.sex"')
    folder.write("north/note/rules.toml", rules)
    losses = folder.read("north/note/losses.toml").split("\n\n")
    kept = [entry for entry in losses if 'field = "remark"' in entry or "odd" in entry]
    folder.write("north/note/losses.toml", re.sub("^# ", "", "\n".join(kept), flags=re.MULTILINE))
    proposed = pack / "examples/first.region.json.proposed"
    region = json.loads(proposed.read_text(encoding="utf-8"))
    canonical = json.loads(folder.read("north/note/examples/first.canonical.json"))
    canonical["holder"]["sex"] = "M"
    folder.write("north/note/examples/first.theirs-to-ours.region.json", json.dumps({**region, "xb": "1"}))
    folder.write("north/note/examples/first.theirs-to-ours.canonical.json", json.dumps(canonical))
    (pack / "examples/first.canonical.json").unlink()
    check = folder.pearl("check", "north")
    assert check.exit_code == 0, check.stdout
    assert "losses.toml:1: remark: its reason is not confirmed by the region yet" in check.stdout


def test_an_xml_schema_is_begun_in_the_order_of_its_elements(folder: MappingFolder) -> None:
    begun(folder, WEST_SCHEMA, ".xsd")
    places = [rule["at"] if isinstance(rule, dict) else rule for rule in written(folder).values()]
    order = ["Number", "Holder/Name", "Holder/@sex", "Issued", "Page[]", "Remark"]
    assert [place for place in order if place in places] == places
    assert len(places) > 2
    assert (folder.root / "north/note/schema.xsd").exists()


def test_a_list_that_has_no_list_there_is_proposed_as_a_joined_text(folder: MappingFolder) -> None:
    schema = json.loads(NORTH)
    schema["properties"]["pages"] = {"type": "string", "title": "文字 ;;"}
    begun(folder, json.dumps(schema))
    assert written(folder)["pages[].text"] == {"at": "pages", "join": ";;"}


def test_schemas_that_an_xml_schema_takes_in_come_along(folder: MappingFolder) -> None:
    (folder.root.parent / "parts.xsd").write_text(
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:simpleType name="Text">'
        '<xs:restriction base="xs:string"/></xs:simpleType></xs:schema>',
        encoding="utf-8",
    )
    schema = WEST_SCHEMA.replace(
        '<xs:element name="Note">', '<xs:include schemaLocation="parts.xsd"/><xs:element name="Note">'
    )
    begun(folder, schema.replace('name="Number" type="xs:string"', 'name="Number" type="Text"'), ".xsd")
    assert (folder.root / "north/note/parts.xsd").exists()


def test_format_and_charset_stand_at_the_head(folder: MappingFolder) -> None:
    schema = '{"type": "object", "properties": {"bh": {"type": "string"}, "xm": {"type": "string"}}}'
    begun(folder, schema, ".json", "--format", "form", "--charset", "gb18030")
    head = tomllib.loads(folder.read("north/note/rules.toml"))
    assert (head["format"], head["charset"]) == ("form", "gb18030")
    assert (folder.root / "north/note/examples/first.region.form.proposed").exists()


def test_a_pack_that_is_there_is_not_begun_again(folder: MappingFolder) -> None:
    file = folder.write("format.json", EAST_SCHEMA)
    before = folder.read("east/note/rules.toml")
    result = folder.pearl("new", "east", "note", "--schema", str(file))
    assert result.exit_code == 2
    assert "is there already" in result.stderr
    assert folder.read("east/note/rules.toml") == before


@pytest.mark.parametrize(
    ("region", "message", "words"),
    [
        ("north", "nite", "did you mean note?"),
        ("../north", "note", "no name of a region"),
        ("tables", "note", "no name of a region"),
    ],
)
def test_wrong_names_are_refused_before_anything_is_written(
    folder: MappingFolder, region: str, message: str, words: str
) -> None:
    file = folder.root.parent / "format.json"
    file.write_text(EAST_SCHEMA, encoding="utf-8")
    result = folder.pearl("new", region, message, "--schema", str(file))
    assert result.exit_code == 2
    assert words in result.stderr or "is there already" in result.stderr
    assert sorted(path.name for path in folder.root.iterdir()) == ["east", "tables", "vocabulary.toml", "west"]


def test_a_schema_that_cannot_be_used_is_refused_with_the_reason(folder: MappingFolder) -> None:
    file = folder.root.parent / "format.json"
    file.write_text('{"type": 5}', encoding="utf-8")
    result = folder.pearl("new", "north", "note", "--schema", str(file))
    assert result.exit_code == 1
    assert "schema.json" in result.stderr
    assert not (folder.root / "north").exists()


# --- on the packs of the product -----------------------------------------------------------------------------------


@cache
def begun_again(region: str, message: str) -> Scaffold:
    """Begin a pack of the product anew from its schema, as if its region were not there."""
    files = read_files(MAPPINGS)
    own = f"{region}/{message}/"
    schemas = {
        path.removeprefix(own): raw
        for path, raw in files.contents.items()
        if path.startswith(own) and "/" not in path[len(own) :]
    }
    rules = tomllib.loads(schemas["rules.toml"].decode())
    kept = {path: raw for path, raw in files.contents.items() if not path.startswith(f"{region}/")}
    is_xml = "schema.xsd" in schemas
    beside = {name: raw for name, raw in schemas.items() if name.endswith(".xsd") and name != "schema.xsd"}
    head: dict[str, str] = {key: rules[key] for key in ("format", "charset") if key in rules}
    schema = schemas["schema.xsd" if is_xml else "schema.json"]
    return scaffold(Files("mappings", kept), Order(region, message, schema, is_xml, beside, head))


@pytest.mark.parametrize(("region", "message"), PACKS)
def test_any_schema_can_be_begun_and_is_refused_until_somebody_decides(region: str, message: str) -> None:
    found = begun_again(region, message)
    assert found.open
    texts = {path: raw.decode() for path, raw in found.files.items() if path.endswith(".toml")}
    assert all(isinstance(tomllib.loads(text), dict) for text in texts.values())
    json.loads(found.files[f"{region}/{message}/examples/first.canonical.json"])


def test_most_of_what_stands_as_a_rule_is_what_the_engineers_found() -> None:
    """The guesses are worth reading: on our own packs, more than nine in ten of those that stand are right."""
    right = wrong = 0
    for region in sorted({region for region, _ in PACKS}):
        for message, pack in load_packs(MAPPINGS, region).items():
            places = {(rule.field.name, place) for rule in pack.rules.rules for place in rule.at.split(", ")}
            sure = [one for one in begun_again(region, message).proposals if one.is_sure]
            right += sum((one.field.name, one.place) in places for one in sure)
            wrong += sum((one.field.name, one.place) not in places for one in sure)
    assert right > 100
    assert wrong * 10 < right


# --- the pieces --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chinese", "letters"),
    [
        ("申请人名称", "sqrmc"),
        ("证件号码", "zjhm"),
        ("行政区划代码", "xzqhdm"),
        ("材料清单", "clqd"),
        ("A类", "al"),
        ("〇", ""),
    ],
)
def test_initials_of_pinyin_are_known_without_a_dictionary(chinese: str, letters: str) -> None:
    assert initials(chinese) == letters


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("applicant.docNo", ["applicant", "document", "number"]),
        ("IdNumber", ["document", "number"]),
        ("XMLHttpCode", ["xml", "http", "code"]),
        ("número_de_série", ["number", "de", "serie"]),
    ],
)
def test_names_come_apart_into_words_that_we_know(name: str, words: list[str]) -> None:
    assert tokens(name) == words


def test_likeness_is_greatest_for_the_same_and_nothing_for_strangers() -> None:
    assert same_chinese("申請人名稱", "申请人名称") == 1
    assert same_chinese("颁发日期", "手机号码") == 0
    assert same_initials("sqrmc", "申请人名称") == 1
    assert same_initials("abc", "申请人名称") == 0
    assert same_words("Applicant/Name", ["applicant", "name"], ("applicant.name",)) == 1
    assert same_words("Colour", ["applicant", "name"], ("applicant.name",)) == 0


@settings(derandomize=True)
@given(st.text())
def test_any_text_can_stand_in_a_rule_file(text: str) -> None:
    """Places are names of foreign formats: quotes, line ends and marks that nobody sees."""
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert tomllib.loads(f"{quoted(text)} = {quoted(text)}") == {text: text}


@pytest.mark.parametrize("schema", [EAST_SCHEMA, NORTH])
def test_a_document_is_found_that_the_schema_takes(schema: str) -> None:
    faults = Faults("")
    form = open_form(Files("", {"x/schema.json": schema.encode()}), "x", TomlFile("rules.toml", b"", {}), faults)
    assert form
    specimens = Specimens(form)
    assert specimens.document is not None
    assert specimens.values.keys() == form.leaves.keys()


def test_a_place_that_takes_nothing_is_left_out() -> None:
    schema = (
        '{"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string", "pattern": "^zebra$"}}}'
    )
    form = open_form(Files("", {"x/schema.json": schema.encode()}), "x", TomlFile("rules.toml", b"", {}), Faults(""))
    assert form
    specimens = Specimens(form)
    assert specimens.values.keys() == {"a"}
    assert not specimens.accepts("b", "zebra")
    assert specimens.accepts("a", "anything")
