"""Faults planted in a sound pack: each is refused, with the line of the rule that is wrong and words that help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.mapping import load_packs
from tests.support.one_message import OneMessage, Scratch

FIELDS = {
    "id": "string!", "kind": 'code values = ["person", "firm"]', "name": "string", "latin": "string",
    "sex": 'code table = "sex"', "day": "date", "until": "date", "at": "datetime", "count": "integer",
    "place": "code digits = 6", "pages": "list", "pages[].text": "string!", "tags": "texts", "form": "entries",
}  # fmt: skip
SEX = """zh = "性别"
en = "sex"
source = "GB/T 2261.1"

[columns]
east = "digits"

[codes]
M = { zh = "男", en = "male", east = "1" }
F = { zh = "女", en = "female", east = "2" }
"""
TEXT: dict[str, Any] = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "bh": TEXT, "lx": TEXT, "xm": TEXT, "py": TEXT, "xb": {"type": "string", "enum": ["1", "2"]}, "rq": TEXT,
        "sj": TEXT, "sl": {"type": "integer"}, "dq": TEXT, "bq": TEXT,
        "bd": {"type": "object", "additionalProperties": TEXT},
        "ym": {"type": "array", "items": {"type": "object", "properties": {"wz": TEXT}}},
    },
}  # fmt: skip
RULES = """[rules]
id = "bh"
kind = "lx"
name = "xm"
latin = "py"
sex = { at = "xb", table = "sex.east" }
day = { at = "rq", split = "-", part = 1, as = "date:yyyyMMdd" }
until = { at = "rq", split = "-", part = 2, as = "date:yyyyMMdd" }
at = { at = "sj", as = "datetime:yyyyMMddHHmmss" }
count = "sl"
place = { at = "dq", as = "region:12" }
"pages[].text" = "ym[].wz"
tags = { at = "bq", join = ";" }
form = { at = "bd", as = "entries:object" }
"""
LOSSES = """[[loss]]
field = "at"
direction = "ours-to-theirs"
part = "fraction"
reason = "Seconds are enough."

[[loss]]
field = "place"
direction = "theirs-to-ours"
part = "subregion"
reason = "Six digits are kept."
"""
OURS = {"id": "1", "kind": "person", "name": "测试", "sex": "M", "day": "2026-03-01", "pages": [{"text": "a"}]}
THEIRS = {"bh": "1", "lx": "person", "xm": "测试", "xb": "1", "rq": "20260301", "ym": [{"wz": "a"}]}


SOUND = OneMessage(FIELDS, SCHEMA, RULES, (OURS, THEIRS), LOSSES, {"sex": SEX})


@pytest.fixture
def planted(tmp_path: Path) -> Scratch:
    """Return a sound pack, to be spoiled."""
    return SOUND.at(tmp_path / "mappings")


def test_the_pack_is_sound_before_anything_is_planted(planted: Scratch) -> None:
    """Otherwise the refusals below would prove nothing."""
    assert list(load_packs(planted.root, "east")) == ["note"]


IN_A_RULE = {
    "wrong path": ('name = "xm"', 'name = "xmm"', 4, "xmm is no place for a value in schema.json; did you mean"),
    "a text at a place for numbers": ('latin = "py"', 'latin = "sl"', 5, "sl is of type integer"),
    "a date rule on a text": ('name = "xm"', 'name = { at = "xm", as = "date:yyyyMMdd" }', 4, "is for a date"),
    "an unknown conversion": ('as = "region:12"', 'as = "region:13"', 11, "is not known; did you mean region:12"),
    "a bad pattern": ('"datetime:yyyyMMddHHmmss"', '"datetime:yyyyMMdd"', 9, "did you mean"),
    "two rules that read one field": (
        'name = "xm"\nlatin = "py"', 'name = ["xm", "py"]', 4, "is never reached when reading",
    ),
    "a second rule on a line of its own": (
        'name = "xm"\nlatin = "py"', 'name = [\n  "xm",\n  { at = "py" },\n]', 6, "is never reached when reading",
    ),
    "conditions that overlap": (
        'name = "xm"\nlatin = "py"',
        'name = [\n  { at = "xm", when = { kind = "person" } },\n'
        '  { at = "py", when = { kind = ["person", "firm"] } },\n]',
        6, "is ambiguous when reading",
    ),
    "a duplicate target": ('latin = "py"', 'latin = "xm"', 5, "xm already carries name (line 4)"),
    "a rule that is never reached": (
        'kind = "lx"\nname = "xm"', 'kind = { constant = "person" }\nname = { at = "xm", when = { kind = "firm" } }',
        4, "is never reached: kind is always person",
    ),
    "alternatives in a circle": (
        'name = "xm"\nlatin = "py"',
        'name = { at = "xm", else = "latin" }\nlatin = { at = "py", else = "name" }', 4, "else goes in a circle",
    ),
    "an alternative that is read already": ('name = "xm"', 'name = { at = "xm", or = "xm" }', 4, "is read already"),
    "a condition on nothing": ('name = "xm"', 'name = { at = "xm", when = { knd = "x" } }', 4, "did you mean kind"),
    "a condition on a text": ('name = "xm"', 'name = { at = "xm", when = { id = "x" } }', 4, "is no code"),
    "a condition with a wrong code": (
        'name = "xm"', 'name = { at = "xm", when = { kind = "persn" } }', 4, "did you mean person",
    ),
    "a condition that hangs on a condition": (
        'kind = "lx"\nname = "xm"',
        'kind = { at = "lx", when = { sex = "M" } }\nname = { at = "xm", when = { kind = "firm" } }', 4,
        "needs a rule of its own, without when",
    ),
    "a part without its sibling": ("part = 1", "part = 3", 7, "part 1 of rq has no rule"),
    "two separators for one text": ('split = "-", part = 2', 'split = "/", part = 2', 8, "another rule splits rq"),
    "a part without separator": ('split = "-", part = 2', "part = 2", 8, "goes with several places and with part"),
    "a script that pretends to go both ways": (
        'name = "xm"', 'name = { at = "xm", as = "script:hans" }', 4, "script: is one-way",
    ),
    "a list against a value": ('"ym[].wz"', '"bq"', 12, "must have the same number of lists"),
    "a constant that is no code": ('kind = "lx"', 'kind = { constant = "persn" }', 3, "did you mean person"),
    "a code of several of ours": ('as = "region:12"', 'table = "sex.east"', 11, "is not a code of a table"),
    "an unknown key": ('join = ";"', 'jion = ";"', 13, "did you mean join"),
    "a number at a place for texts": ('count = "sl"', 'count = "xm"', 10, "xm is of type string"),
    "a day at a place for numbers": (
        'day = { at = "rq", split = "-", part = 1,', 'day = { at = "sl",', 7, "sl is of type integer",
    ),
    "a second time at a place for numbers": (
        'as = "datetime:yyyyMMddHHmmss" }\ncount = "sl"', 'as = "datetime:epoch-ms" }\ncount = "sl"', 9,
        "sj is of type string",
    ),
    "the first of two rules on lines of their own": (
        'name = "xm"\nlatin = "py"', 'name = [  # two\n\n  # the first\n  "xmm",\n  { at = "py" },\n]', 7, "xmm is no",
    ),
    "a second rule behind the bracket of the first": (
        'name = "xm"\nlatin = "py"', 'name = ["xm",\n  { at = "pyy" }]', 5, "pyy is no place",
    ),
    "a second rule behind a rule over two lines": (
        'name = "xm"\nlatin = "py"',
        'name = [\n  { at = ["xm",\n    "py"], split = ", " },\n  { at = "pyy" },\n]', 7, "pyy is no place",
    ),
    "a list without rules": ('name = "xm"', "name = []", 4, "has no rule in its list"),
    "a text that is filled as a whole and in parts": ('latin = "py"', 'latin = "rq"', 7, "rq already carries latin"),
    "the same part twice": ("part = 2", "part = 1", 8, "rq part 1 already carries day (line 7)"),
    "one place for two pieces": (
        'latin = "py"', 'latin = { at = ["py", "py"], split = ", " }', 5, "at names a place twice",
    ),
    "a part without number": ("part = 1", "part = true", 7, "part = 1 to 20"),
    "a part beyond the limit": ("part = 1", "part = 21", 7, "part = 1 to 20"),
    "a condition without codes": (
        'name = "xm"', 'name = { at = "xm", when = { kind = [] } }', 4, "so that the rule never counts",
    ),
    "a condition that nothing answers when reading": (
        'kind = "lx"\nname = "xm"',
        'kind = { at = "lx", direction = "ours-to-theirs", reason = "x" }\n'
        'name = { at = "xm", when = { kind = "person" } }', 4, "no rule reads kind",
    ),
    "a condition on two fields": (
        'name = "xm"', 'name = { at = "xm", when = { kind = "person", sex = "M" } }', 4, "when is {",
    ),
    "a condition on a field outside the list": (
        '"ym[].wz"', '{ at = "ym[].wz", when = { kind = "person" } }', 12, "is not in the same object or list item",
    ),
    "an alternative of another type": ('name = "xm"', 'name = { at = "xm", else = "count" }', 4, "count is a integer"),
    "an alternative that nobody knows": ('name = "xm"', 'name = { at = "xm", else = "latn" }', 4, "did you mean latin"),
    "an alternative in another list": (
        'name = "xm"', 'name = { at = "xm", else = "pages[].text" }', 4, "is not in the same object or list item",
    ),
    "another place that does not exist": ('name = "xm"', 'name = { at = "xm", or = "pyy" }', 4, "did you mean py"),
    "another place in a list": ('name = "xm"', 'name = { at = "xm", or = "ym[].wz" }', 4, "must be in the same list"),
    "a script without the original": (
        'name = "xm"', 'name = { at = "xm", as = "script:hans", direction = "ours-to-theirs", reason = "x" }', 4,
        "no other rule carries the original",
    ),
    "a script of a place that nothing else reads": (
        'name = "xm"', 'name = { at = "xm", as = "script:hans", direction = "theirs-to-ours", reason = "x" }', 4,
        "no other rule carries the original",
    ),
    "a direction without reason": (
        'name = "xm"', 'name = { at = "xm", direction = "ours-to-theirs" }', 4, "needs both direction and reason",
    ),
    "entries for a text": ('name = "xm"', 'name = { at = "xm", as = "entries:object" }', 4, "is for entries"),
    "entries in a text": ('at = "bd", as = "entries:object"', 'at = "bd", as = "entries:json"', 14, "cannot hold them"),
    "entries without conversion": ('{ at = "bd", as = "entries:object" }', '"bd"', 14, "needs as ="),
    "a joined text that is no list of ours": ('name = "xm"', 'name = { at = "xm", join = ";" }', 4, "same number of"),
    "a list that is not joined": ('{ at = "bq", join = ";" }', '"bq"', 13, "must have the same number of lists"),
    "a constant with a place": ('kind = "lx"', 'kind = { constant = "person", at = "lx" }', 3, "stands alone"),
    "a constant number": ('count = "sl"', "count = { constant = 5 }", 10, "a constant is a text or a code"),
    "a constant number for a text": ('name = "xm"', "name = { constant = 5 }", 4, "a constant is a text or a code"),
    "a default that is no code": ('kind = "lx"', 'kind = { at = "lx", default = "x" }', 3, "default is not a code"),
    "a default of another type": ('name = "xm"', 'name = { at = "xm", default = 5 }', 4, "default is not text"),
    "a zone that is none": ("HHmmss", "HHmmss@+25:00", 9, "is no time zone"),
    "a table that nobody knows": ("sex.east", "sx.east", 6, "did you mean sex"),
    "a column that nobody knows": ("sex.east", "sex.eats", 6, "did you mean east"),
    "a number of no rule": ('table = "sex.east"', 'table = "sex.east", by = "idd"', 6, "did you mean id"),
    "a number without table": ('name = "xm"', 'name = { at = "xm", by = "id" }', 4, "by goes with a table"),
    "a fixed text at a place for numbers": ('count = "sl"', '[fixed]\nsl = "1"', 11, "is of type integer"),
    "a fixed value at a place that is filled": (
        'form = { at = "bd", as = "entries:object" }\n', '[fixed]\nxm = "1"\n', 15, "a rule fills this place already",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", IN_A_RULE)
def test_a_fault_in_a_rule_is_refused_at_its_line(planted: Scratch, fault: str) -> None:
    old, new, line, words = IN_A_RULE[fault]
    planted.replace("east/note/rules.toml", old, new)
    refusal = planted.refusal()
    assert any(place == f"rules.toml:{line}" and words in reason for place, reason in refusal), refusal


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ('charset = "gb18031"', "gb18030"),
        ('charset = "latin1"', "latin1"),
        ('format = "yaml"', "yaml"),
        ('absent = "-1"', "absent is a list of texts"),
    ],
)
def test_a_fault_in_the_head_is_refused_at_its_line(planted: Scratch, head: str, words: str) -> None:
    planted.write("east/note/rules.toml", f"{head}\n{RULES}")
    refusal = planted.refusal()
    assert any(place == "rules.toml:1" and words in reason for place, reason in refusal), refusal


ELSEWHERE = {
    "a code of the schema that the table lacks": (
        "east/note/schema.json", '"enum": ["1", "2"]', '"enum": ["1", "2", "9"]', "losses.toml",
        "sex: 9 has no counterpart (theirs-to-ours)",
    ),
    "a code of the table that the schema forbids": (
        "east/note/schema.json", '"enum": ["1", "2"]', '"enum": ["1"]', "rules.toml:6",
        "which schema.json does not allow",
    ),
    "a code of ours that the table lacks": (
        "tables/sex.toml", ', east = "2"', "", "losses.toml", "sex: F has no counterpart (ours-to-theirs)",
    ),
    "an ambiguous inverse": (
        "tables/sex.toml", 'east = "2"', 'east = "1"', "rules.toml:6", "1 stands for several of our codes: add by",
    ),
    "codes that become the same": (
        "tables/sex.toml", 'east = "2"', 'east = ["2", "3"]', "losses.toml", "sex: 3 has no counterpart",
    ),
    "a place that nothing reads": (
        "east/note/schema.json", '"bh": {"type": "string"}', '"bh": {"type": "string"}, "zz": {"type": "string"}',
        "losses.toml", "zz of theirs is read by no rule",
    ),
    "a field without rule": (
        "east/note/rules.toml", 'count = "sl"\n', "", "losses.toml", "count has no rule, and no [[loss]]",
    ),
    "a part that is not declared": (
        "east/note/losses.toml", 'part = "fraction"\n', "", "losses.toml", "at: the fraction is lost (ours-to-theirs)",
    ),
    "a loss that does not occur": (
        "east/note/losses.toml", 'field = "place"', 'field = "name"', "losses.toml:7",
        "name: its subregion is declared lost, but nothing of it is lost",
    ),
    "another part that is not declared": (
        "east/note/losses.toml", 'part = "subregion"\n', "", "losses.toml", "place: the subregion is lost (theirs",
    ),
    "a stand-in that is not declared": (
        "east/note/rules.toml", 'name = "xm"', 'name = { at = "xm", else = "latin" }', "losses.toml",
        "name: the stand-in is lost (ours-to-theirs)",
    ),
    "codes that a constant loses": (
        "east/note/rules.toml", 'kind = "lx"', 'kind = { constant = "person" }', "losses.toml",
        "kind: firm has no counterpart (ours-to-theirs)",
    ),
    "a loss of nothing known": (
        "east/note/losses.toml", 'field = "place"', 'field = "plce"', "losses.toml:7",
        "plce is no field; did you mean place",
    ),
    "an example that comes out otherwise": (
        "east/note/examples/one.region.json", '"xb": "1"', '"xb": "2"', "examples/one.canonical.json",
        "is not what the rules make of one.region.json: sex",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", ELSEWHERE)
def test_a_fault_between_files_is_refused_where_it_can_be_mended(planted: Scratch, fault: str) -> None:
    name, old, new, where, words = ELSEWHERE[fault]
    planted.replace(name, old, new)
    refusal = planted.refusal()
    assert any(place == where and words in reason for place, reason in refusal), refusal


NEEDLESS = {
    "a field": ("name", "ours-to-theirs", "", "name: it is declared lost"),
    "a place": ("xm", "theirs-to-ours", "", "xm: it is declared lost"),
    "a code of ours": ("sex", "ours-to-theirs", 'values = ["M"]', "sex: M is declared lost"),
    "a code of theirs": ("sex", "theirs-to-ours", 'values = ["2"]', "sex: 2 is declared lost"),
    "a code that nobody knows": ("sex", "theirs-to-ours", 'values = ["7"]', "sex: 7 is declared lost"),
    "a fraction, the other way": ("at", "theirs-to-ours", 'part = "fraction"', "at: its fraction is declared lost"),
    "a time of day": ("day", "theirs-to-ours", 'part = "time"', "day: its time is declared lost"),
    "digits of a region": ("place", "ours-to-theirs", 'part = "subregion"', "place: its subregion is declared lost"),
    "a stand-in": ("name", "ours-to-theirs", 'part = "stand-in"', "name: its stand-in is declared lost"),
}


@pytest.mark.parametrize("loss", NEEDLESS)
def test_a_loss_that_does_not_occur_is_refused_at_its_line(planted: Scratch, loss: str) -> None:
    """A list of losses that cries wolf is not read."""
    field, direction, more, words = NEEDLESS[loss]
    entry = f'\n[[loss]]\nfield = "{field}"\ndirection = "{direction}"\n{more}\nreason = "x"\n'
    planted.write("east/note/losses.toml", LOSSES + entry)
    assert planted.refusal() == [("losses.toml:13", f"{words}, but nothing of it is lost")]


def test_a_time_of_day_that_is_read_into_a_day_is_declared(planted: Scratch) -> None:
    """Milliseconds that are not midnight would be cut."""
    planted.replace("east/note/schema.json", '"rq": {"type": "string"}', '"rq": {"type": "integer"}')
    planted.replace(
        "east/note/rules.toml", '"rq", split = "-", part = 1, as = "date:yyyyMMdd" }', '"rq", as = "date:epoch-ms" }'
    )
    planted.replace("east/note/rules.toml", 'until = { at = "rq", split = "-", part = 2, as = "date:yyyyMMdd" }\n', "")
    assert any(reason.startswith("day: the time is lost (theirs-to-ours)") for _, reason in planted.refusal())


def test_codes_of_theirs_that_become_one_of_ours_are_declared(planted: Scratch) -> None:
    """The first of them is what we say; the others do not come back."""
    planted.replace("tables/sex.toml", 'east = "2"', 'east = ["2", "3"]')
    planted.replace("east/note/schema.json", '"enum": ["1", "2"]', '"enum": ["1", "2", "3"]')
    words = "sex: 3 has no counterpart (theirs-to-ours), and no [[loss]] with values says so"
    assert planted.refusal() == [("losses.toml", words)]


def test_a_fixed_value_does_not_stand_where_a_piece_is_written(planted: Scratch) -> None:
    rules = RULES.replace('name = "xm"\nlatin = "py"', 'latin = { at = ["xm", "py"], split = ", " }')
    planted.write("east/note/rules.toml", rules + '[fixed]\nxm = "a"\n')
    assert ("rules.toml:15", "xm: a rule fills this place already") in planted.refusal()


def test_a_list_is_not_written_as_a_whole_and_as_pairs(planted: Scratch) -> None:
    """The second would overwrite the first."""
    words = {"type": "array", "items": TEXT}
    planted.write("east/note/schema.json", json.dumps(SCHEMA | {"properties": SCHEMA["properties"] | {"bq": words}}))
    planted.replace("east/note/rules.toml", '{ at = "bq", join = ";" }', '"bq[]"')
    planted.replace("east/note/rules.toml", 'latin = "py"', 'latin = "bq[=].latin"')
    assert ("rules.toml:13", "tags: bq[] latin already carries latin (line 5)") in planted.refusal()
