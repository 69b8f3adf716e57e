"""`pearl mappings check, test, explain, loss, diff, try`: what a domain expert is told, on a small folder and ours."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from lxml import etree, html

from gateway.mapping import converters, load_packs
from gateway.mapping.tools.words import AS_IT_IS, conversion, notes
from gateway.mapping.vocabulary import Field
from tests.support.mapping_folder import MappingFolder, pearl

MAPPINGS = Path(__file__).parents[2] / "mappings"
REGIONS = sorted(path.name for path in MAPPINGS.iterdir() if path.is_dir() and path.name != "tables")


@pytest.fixture
def folder(tmp_path: Path) -> MappingFolder:
    return MappingFolder(tmp_path / "mappings")


# --- check and test ----------------------------------------------------------------------------------------------


def test_a_sound_folder_is_summed_up_in_one_line(folder: MappingFolder) -> None:
    """Otherwise the refusals below would prove nothing."""
    result = folder.pearl("check")
    assert result.exit_code == 0
    assert re.fullmatch(r"2 regions, 2 packs, 4 examples tried, \d+ ms: nothing is wrong\.\n", result.stdout)


def test_faults_of_all_regions_are_told_at_once_with_file_line_and_the_nearest_name(folder: MappingFolder) -> None:
    """Whoever mends one fault wants to know of the others before the next try."""
    folder.replace("east/note/rules.toml", '"holder.name"', '"holder.nam"')
    folder.replace("west/note/rules.toml", '"Remark"', '"Remarks"')
    result = folder.pearl("check")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("mappings/east/note/rules.toml:4: holder.nam: is not in vocabulary.toml under note")
    assert lines[0].endswith("; did you mean holder.name?")
    assert any(line.startswith("mappings/west/note/rules.toml:8: remark: Remarks is no place") for line in lines)
    assert lines[-1] == f"{len(lines) - 1} faults"


def test_a_check_of_some_regions_says_nothing_of_others(folder: MappingFolder) -> None:
    folder.replace("west/note/rules.toml", '"Remark"', '"Remarks"')
    assert folder.pearl("check", "east").exit_code == 0
    assert folder.pearl("check", "west").exit_code == 1


def test_faults_for_programs_have_place_and_reason(folder: MappingFolder) -> None:
    folder.replace("east/note/rules.toml", 'id = "bh"', 'id = "bhh"')
    result = folder.pearl("check", "--json")
    assert result.exit_code == 1
    assert {"place": "mappings/east/note/rules.toml:3", "reason": json.loads(result.stdout)[0]["reason"]} in json.loads(
        result.stdout
    )
    assert json.loads(folder.pearl("check", "--json", "west").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("check", "eats"), "did you mean east?"),
        (("check", "tables"), "there are east, west"),
        (("explain", "east", "nodes"), "did you mean note?"),
        (("explain", "east"), "Name a region and a message"),
        (("explain", "--all"), "--all --html FILE"),
        (("loss", "north"), "there are east, west"),
    ],
)
def test_a_wrong_name_is_a_wrong_argument_and_the_right_ones_are_told(
    folder: MappingFolder, arguments: tuple[str, ...], hint: str
) -> None:
    result = folder.pearl(*arguments)
    assert result.exit_code == 2
    assert hint in result.stderr


def test_a_folder_that_is_none_is_refused_by_its_path(tmp_path: Path) -> None:
    result = pearl("check", "--mappings", str(tmp_path / "nowhere"))
    assert result.exit_code == 2
    assert "is no folder" in result.stderr


def test_the_proof_tells_how_many_documents_it_was_made_with(folder: MappingFolder) -> None:
    result = folder.pearl("test", "--documents", "5")
    assert result.exit_code == 0
    count, _, words = result.stdout.partition(" ")
    assert int(count) > 2
    assert words.startswith("documents went there and back.\n")
    assert "nothing is wrong" in result.stdout


def test_the_proof_is_not_made_with_packs_that_have_faults(folder: MappingFolder) -> None:
    folder.replace("east/note/rules.toml", 'id = "bh"', 'id = "bhh"')
    result = folder.pearl("test")
    assert result.exit_code == 1
    assert "there and back" not in result.stdout


def test_the_packs_of_the_product_are_sound() -> None:
    result = pearl("test", "--documents", "1")
    assert result.exit_code == 0, result.stdout
    assert f"{len(REGIONS)} regions" in result.stdout


# --- explain -----------------------------------------------------------------------------------------------------


def test_a_message_is_shown_side_by_side_with_its_losses(folder: MappingFolder) -> None:
    result = folder.pearl("explain", "east", "note")
    assert result.exit_code == 0
    rows = [re.split(r"\s{2,}", line) for line in result.stdout.splitlines()]
    assert ["holder.name*", "姓名", "text (personal)", "⇄", "xm", "as it is"] in rows
    assert ["issued_on", "颁发日期", "date", "⇄", "rq", "date written yyyyMMdd"] in rows
    assert ["remark", "备注", "text (sensitive)", "✗"] in rows
    assert ["←", "sj", "all of it", "We do not ask when it was written."] in rows
    assert "East: what the office answers." in result.stdout


def test_the_conversion_is_told_in_chinese_when_that_is_asked_for(folder: MappingFolder) -> None:
    shown = folder.pearl("explain", "east", "note", "--language", "zh-CN").stdout
    assert "日期，写作 yyyyMMdd" in shown
    assert "date written" not in shown


def field(kind: str) -> Field:
    return Field("x", kind, required=False, sensitivity="none", zh="某", en="x", meaning="x")


@pytest.mark.parametrize("name", [*converters.NAMES, "script:hant-hk", "datetime:yyyy-MM-dd HH:mm@+00:00"])
def test_every_conversion_of_the_language_is_said_in_both_languages(name: str) -> None:
    """A word that the book cannot say would stand there as it is in the rule file."""
    said = conversion({"at": "x", "as": name}, field("string"))
    assert name not in {said.zh, said.en}
    assert said != AS_IT_IS
    assert re.search("[\u4e00-\u9fff]", said.zh)


@pytest.mark.parametrize(
    ("written", "english"),
    [
        ({"at": "x", "table": "sex.east"}, "code table sex, column east"),
        ({"at": "x", "table": "d.e", "by": "n"}, "code table d, column e, told apart by the shape of n"),
        ({"at": "x", "join": ";;"}, "the items joined with “;;” into one text"),
        ({"at": ["x", "y"], "split": ", "}, "our text divided at “,␣”, one part to each place"),
        ({"at": "x", "split": "-", "part": 1}, "part 1 of their text, divided by “-”"),
        ({"constant": "person"}, "always person on our side"),
        ({"at": "x"}, "as it is"),
        ({"at": "x", "as": "something:new"}, "something:new"),
    ],
)
def test_what_a_rule_does_is_said_in_words(written: dict[str, object], english: str) -> None:
    assert conversion(written, field("string")).en == english


@pytest.mark.parametrize(
    ("written", "english"),
    [
        ({"when": {"kind": ["a", "b"], "open": True}}, "only when kind is a or b and open is true"),
        ({"or": ["y", "z"]}, "when it is empty, y, z is read"),
        ({"else": "y"}, "when we have none, y stands in"),
        ({"default": "y"}, "taken to be y when they leave it out"),
        ({"required": True}, "required by this region"),
    ],
)
def test_what_else_a_rule_says_is_a_note(written: dict[str, object], english: str) -> None:
    assert [note.en for note in notes({"at": "x", **written}, field("string"))] == [english]


# --- the book ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The book of all packs of the product."""
    path = tmp_path_factory.mktemp("book") / "book.html"
    result = pearl("explain", "--all", "--html", str(path))
    assert result.exit_code == 0, result.output
    return path.read_text(encoding="utf-8")


def test_the_book_needs_nothing_but_itself(book: str) -> None:
    """It is mailed around and opened where there is no network."""
    page = html.fromstring(book)
    assert page.xpath("//script | //link | //img | //iframe | //object | //embed | //@onclick | //@src") == []
    assert not re.search(r"url\(|@import", book)
    assert all(target.startswith("#") for target in page.xpath("//@href"))
    assert "default-src 'none'" in page.xpath("string(//meta[@http-equiv='Content-Security-Policy']/@content)")


def test_every_pack_has_a_chapter_that_the_contents_lead_to(book: str) -> None:
    page = html.fromstring(book)
    anchors = page.xpath("//@id")
    assert len(anchors) == len(set(anchors))
    links = {target.removeprefix("#") for target in page.xpath("//nav//@href")}
    packs = {f"{region}-{message}" for region in REGIONS for message in load_packs(MAPPINGS, region)}
    assert packs <= links <= set(anchors)


@pytest.mark.parametrize("region", REGIONS)
def test_the_book_shows_every_rule_and_every_loss(book: str, region: str) -> None:
    page = html.fromstring(book)
    for message, pack in load_packs(MAPPINGS, region).items():
        (chapter,) = page.xpath(f"//article[@aria-labelledby='{region}-{message}']")
        shown = {code.text_content() for code in chapter.iter("code")}
        assert {rule.at for rule in pack.rules.rules if rule.at} <= shown
        assert {rule.field.name for rule in pack.rules.rules} <= shown
        told = re.sub(r"\s+", " ", chapter.text_content())
        assert all(loss.reason in told for loss in pack.losses)


def test_the_book_can_be_read_aloud(book: str) -> None:
    """Headings go down one step at a time, cells of headings have a scope, and texts say their language."""
    page = html.fromstring(book)
    levels = [int(heading.tag[1]) for heading in page.xpath("//h1|//h2|//h3|//h4|//h5")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.xpath("//th[not(@scope)]") == []
    assert page.get("lang") == "zh-CN"
    assert all(span.get("lang") for span in page.xpath("//span[@class='zh' or @class='en']"))


def test_what_a_pack_says_cannot_become_markup(folder: MappingFolder, tmp_path: Path) -> None:
    """Schemas and examples come from partners."""
    folder.replace("east/note/schema.json", '"title": "姓名"', '"title": "<script>alert(1)</script>"')
    path = tmp_path / "page.html"
    assert folder.pearl("explain", "east", "note", "--html", str(path)).exit_code == 0
    page = html.fromstring(path.read_text(encoding="utf-8"))
    assert page.xpath("//script") == []
    assert "<script>alert(1)</script>" in page.text_content()


def test_the_page_of_one_message_shows_codes_and_examples(folder: MappingFolder, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    folder.pearl("explain", "west", "note", "--html", str(path))
    text = html.fromstring(path.read_text(encoding="utf-8")).text_content()
    for expected in ("sex.west", "测试乙", "敏感信息", "sensitive", '<Holder sex="女">', "West: the Note of the feed."):
        assert expected in text


# --- loss --------------------------------------------------------------------------------------------------------


def test_losses_are_told_for_both_sides_with_their_reasons(folder: MappingFolder) -> None:
    rows = json.loads(folder.pearl("loss", "--json").stdout)
    assert [(row["region"], row["side"], row["name"], row["what"]) for row in rows] == [
        ("east", "ours", "remark", "all"),
        ("east", "theirs", "sj", "all"),
    ]
    assert "The office says nothing else." in folder.pearl("loss").stdout


def test_the_matrix_shows_which_region_carries_what(folder: MappingFolder) -> None:
    (matrix,) = json.loads(folder.pearl("loss", "--matrix", "--json").stdout)
    assert matrix["message"] == "note"
    assert matrix["fields"]["remark"] == {"east": "✗", "west": "⇄"}
    assert matrix["fields"]["holder.name"] == {"east": "⇄", "west": "⇄"}
    assert "pages" not in matrix["fields"]


def test_a_field_that_is_lost_in_part_is_marked(folder: MappingFolder) -> None:
    folder.replace("tables/sex.toml", 'F = { zh = "女", en = "female", east = "2"', 'F = { zh = "女", en = "female"')
    folder.replace("east/note/schema.json", '["1", "2"]', '["1"]')
    loss = '[[loss]]\nfield = "holder.sex"\ndirection = "ours-to-theirs"\nvalues = ["F"]\nreason = "They keep no F."\n'
    folder.write("east/note/losses.toml", folder.read("east/note/losses.toml") + loss)
    (matrix,) = json.loads(folder.pearl("loss", "--matrix", "--json").stdout)
    assert matrix["fields"]["holder.sex"] == {"east": "⇄~", "west": "⇄"}
    assert "codes or parts get lost" in folder.pearl("loss", "--matrix").stdout


# --- diff --------------------------------------------------------------------------------------------------------


def changed(folder: MappingFolder) -> MappingFolder:
    """Return a copy in which east writes dates otherwise, in its rules, its schema and its example."""
    new = folder.copy("mappings-new")
    new.replace("east/note/rules.toml", 'as = "date:yyyyMMdd"', 'as = "date:yyyy-MM-dd"')
    new.replace("east/note/schema.json", "^[0-9]{8}$", "^[0-9-]{10}$")
    new.replace("east/note/examples/one.region.json", '"20260301"', '"2026-03-01"')
    return new


def test_two_folders_that_are_the_same_differ_in_nothing(folder: MappingFolder) -> None:
    result = pearl("diff", str(folder.root), str(folder.copy("same").root))
    assert result.exit_code == 0
    assert result.stdout == "Nothing changes.\n"


def test_a_changed_rule_is_told_in_words_with_what_the_examples_become(folder: MappingFolder) -> None:
    lines = pearl("diff", str(folder.root), str(changed(folder).root)).stdout.splitlines()
    rule = "  rule issued_on changed: ⇄ rq: date written yyyyMMdd → ⇄ rq: date written yyyy-MM-dd"
    assert rule in lines
    assert '  rq changed: "20260301" → "2026-03-01"' in lines
    assert any(line.endswith("one.region.json: newly refused") for line in lines)
    assert not any(line.startswith("west") for line in lines)


def test_changes_of_tables_losses_schema_vocabulary_and_versions_are_told(folder: MappingFolder) -> None:
    new = folder.copy("mappings-new")
    new.replace("tables/sex.toml", 'west = "男"', 'west = ["男", "M"]')
    new.replace("west/note/rules.toml", 'remark = "Remark"\n', "")
    loss = '[[loss]]\nfield = "{}"\ndirection = "theirs-to-ours"\nreason = "Not ours to read."\n'
    merged = loss.format("holder.sex") + 'values = ["M"]\n'
    new.write("west/note/losses.toml", loss.format("remark") + loss.format("Remark") + merged)
    new.replace("west/note/examples/one.canonical.json", ', "remark": "x"', "")
    new.replace("west/note/examples/one.region.xml", "<Remark>x</Remark>", "")
    new.replace(
        "east/note/schema.json", '"sj": {"type": "string"}', '"sj": {"type": "string"}, "zt": {"type": "string"}'
    )
    new.write("east/note/losses.toml", new.read("east/note/losses.toml") + loss.format("zt"))
    new.replace("vocabulary.toml", 'remark = { type = "string", sensitivity = "sensitive"',
                'remark = { type = "string", sensitivity = "personal"')  # fmt: skip
    result = pearl("diff", str(folder.root), str(new.root))
    assert result.exit_code == 0, result.stderr
    text = result.stdout
    assert "tables/sex.toml: M: west: 男 → 男, M (concerns west/note)" in text
    assert "  rule remark removed: ⇄ Remark: as it is" in text
    assert "  loss ← remark added: Not ours to read." in text
    assert "  loss ← holder.sex (M) added: Not ours to read." in text
    assert "  schema zt added: string" in text
    assert "vocabulary.toml: note: remark changed: string, sensitive → string, personal" in text
    assert re.search(r"^west/note: [0-9a-f]{12} → [0-9a-f]{12}$", text, re.MULTILINE)
    assert "remark vanished" in text


def test_packs_that_only_share_a_table_that_changes_are_told_in_one_line(folder: MappingFolder) -> None:
    """Nobody finds the one pack that changes among twenty that have only another version."""
    new = folder.copy("mappings-new")
    new.replace("tables/sex.toml", 'east = "digits"', 'east = "the digits"')
    new.replace("west/note/rules.toml", "# West: the Note of the feed.", "# West: a Note of the feed.")
    lines = pearl("diff", str(folder.root), str(new.root)).stdout.splitlines()
    assert len(lines) == 2
    assert re.fullmatch("west/note: [0-9a-f]{12} → [0-9a-f]{12}", lines[0])
    assert lines[1] == "Another version, but only for the tables or the vocabulary that they share: east/note"


def test_a_pack_that_comes_or_goes_is_told_as_such(folder: MappingFolder) -> None:
    new = folder.copy("mappings-new")
    for path in sorted((new.root / "west").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    found = json.loads(pearl("diff", "--json", str(folder.root), str(new.root)).stdout)
    assert [(pack["region"], bool(pack["before"]), bool(pack["after"])) for pack in found["packs"]] == [
        ("west", True, False)
    ]
    assert found["documents"] == []


def test_folders_with_faults_are_not_compared(folder: MappingFolder) -> None:
    new = folder.copy("mappings-new")
    new.replace("east/note/rules.toml", 'id = "bh"', 'id = "bhh"')
    result = pearl("diff", str(folder.root), str(new.root))
    assert result.exit_code == 1
    assert "mappings-new/east/note/rules.toml:3" in result.stderr


# --- try ---------------------------------------------------------------------------------------------------------


def test_a_document_goes_there_and_what_does_not_come_back_is_told_with_its_reason(folder: MappingFolder) -> None:
    file = folder.root / "east/note/examples/one.canonical.json"
    result = folder.pearl("try", "east", "note", str(file))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["rq"] == "20260301"
    assert 'remark vanished: "x" → nothing (declared: The office says nothing else.)' in result.stderr


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ('{"bh": "1", "xm": "测试甲"}', '"holder"'),
        ('{"id": "1", "holder": {"name": "测试甲"}}', '"xm"'),
    ],
)
def test_the_side_of_a_document_is_told_by_what_is_in_it(folder: MappingFolder, document: str, expected: str) -> None:
    result = folder.pearl("try", "east", "note", "-", stdin=document)
    assert result.exit_code == 0
    assert expected in result.stdout


def test_a_document_of_an_xml_region_goes_both_ways(folder: MappingFolder) -> None:
    heard = folder.pearl("try", "west", "note", "-", stdin=folder.read("west/note/examples/one.region.xml"))
    assert json.loads(heard.stdout)["holder"] == {"name": "测试乙", "sex": "F"}
    assert heard.stderr == "There and back, nothing is different.\n"
    said = folder.pearl("try", "west", "note", "-", stdin=heard.stdout)
    assert etree.fromstring(said.stdout.encode()).findtext("Holder/Name") == "测试乙"


def test_a_document_that_could_be_either_needs_to_be_told(folder: MappingFolder) -> None:
    asked = folder.pearl("try", "east", "note", "-", stdin='{"something": "else"}')
    assert asked.exit_code == 2
    assert "--to-region or --to-canonical" in asked.stderr
    told = folder.pearl("try", "east", "note", "-", "--to-canonical", stdin='{"something": "else"}')
    assert told.exit_code == 1


def test_problems_are_listed_by_place_and_never_by_value(folder: MappingFolder) -> None:
    document = '{"bh": "1", "xm": "秘密", "rq": "2026-13-99"}'
    result = folder.pearl("try", "east", "note", "-", "--to-canonical", stdin=document)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert re.search(r"^  rq: ", result.stderr, re.MULTILINE)
    assert "2026-13-99" not in result.stderr


@pytest.mark.parametrize(("region", "words"), [("east", "cannot be read"), ("west", "cannot be read")])
def test_what_is_no_document_at_all_is_refused_in_words(folder: MappingFolder, region: str, words: str) -> None:
    result = folder.pearl("try", region, "note", "-", "--to-canonical", stdin="{<")
    assert result.exit_code == 2
    assert words in result.stderr
