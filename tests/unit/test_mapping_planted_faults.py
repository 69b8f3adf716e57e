"""Faults planted in a sound pack: each is refused, with the line of the rule that is wrong and words that help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import StartRefused
from gateway.mapping import load_packs

VOCABULARY = """
[note]
zh = "通知"
en = "note"
flow = "theirs-to-ours"

[note.fields]
"""
FIELDS = {
    "id": 'type = "string", required = true', "kind": 'type = "code", values = ["person", "firm"]',
    "name": 'type = "string"', "latin": 'type = "string"', "sex": 'type = "code", table = "sex"',
    "day": 'type = "date"', "until": 'type = "date"', "at": 'type = "datetime"', "count": 'type = "integer"',
    "place": 'type = "code", digits = 6', "pages": 'type = "list"', "pages[].text": 'type = "string", required = true',
    "tags": 'type = "texts"',
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
SCHEMA = {
    "type": "object",
    "properties": {
        "bh": TEXT, "lx": TEXT, "xm": TEXT, "py": TEXT, "xb": {"type": "string", "enum": ["1", "2"]}, "rq": TEXT,
        "sj": TEXT, "sl": {"type": "integer"}, "dq": TEXT, "bq": TEXT,
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


class Planted:
    """A sound pack, to be spoiled."""

    def __init__(self, root: Path) -> None:
        self.root = root
        about = 'sensitivity = "none", zh = "字段", en = "field", meaning = "It"'
        fields = "\n".join(f'"{name}" = {{ {kind}, {about} }}' for name, kind in FIELDS.items())
        self.write("vocabulary.toml", VOCABULARY + fields + "\n")
        self.write("tables/sex.toml", SEX)
        self.write("east/note/rules.toml", RULES)
        self.write("east/note/losses.toml", LOSSES)
        self.write("east/note/schema.json", json.dumps(SCHEMA))
        self.write("east/note/examples/one.canonical.json", json.dumps(OURS))
        self.write("east/note/examples/one.region.json", json.dumps(THEIRS))

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, old
        self.write(name, text.replace(old, new))

    def refusal(self) -> list[tuple[str, str]]:
        with pytest.raises(StartRefused) as caught:
            load_packs(self.root, "east")
        return [
            (problem.field.removeprefix("mappings/east/note/"), problem.reason) for problem in caught.value.problems
        ]


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    return Planted(tmp_path / "mappings")


def test_the_pack_is_sound_before_anything_is_planted(planted: Planted) -> None:
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
}  # fmt: skip


@pytest.mark.parametrize("fault", IN_A_RULE)
def test_a_fault_in_a_rule_is_refused_at_its_line(planted: Planted, fault: str) -> None:
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
def test_a_fault_in_the_head_is_refused_at_its_line(planted: Planted, head: str, words: str) -> None:
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
def test_a_fault_between_files_is_refused_where_it_can_be_mended(planted: Planted, fault: str) -> None:
    name, old, new, where, words = ELSEWHERE[fault]
    planted.replace(name, old, new)
    refusal = planted.refusal()
    assert any(place == where and words in reason for place, reason in refusal), refusal
