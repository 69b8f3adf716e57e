"""The constructs of the rule language, one by one, in both directions, and what each refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import MappingFailed
from gateway.mapping import Pack, load_packs

FIELDS = {
    "id": "string!", "kind": 'code! values = ["person", "firm"]', "name": "string", "latin": "string",
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


def field(name: str, spec: str) -> str:
    kind, _, more = spec.partition(" ")
    parts = [f'type = "{kind.rstrip("!")}"', 'sensitivity = "none", zh = "字段", en = "field", meaning = "It"']
    parts += ["required = true"] if kind.endswith("!") else []
    return f'"{name}" = {{ {", ".join([*parts, *([more] if more else [])])} }}'


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    root = tmp_path_factory.mktemp("mappings")
    head = '[note]\nzh = "通知"\nen = "note"\nflow = "theirs-to-ours"\n\n[note.fields]\n'
    files = {
        "vocabulary.toml": head + "\n".join(field(name, spec) for name, spec in FIELDS.items()),
        "east/note/rules.toml": RULES,
        "east/note/losses.toml": LOSSES,
        "east/note/schema.json": json.dumps(SCHEMA),
        "east/note/examples/all.canonical.json": json.dumps(OURS),
        "east/note/examples/all.region.json": json.dumps(THEIRS),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return load_packs(Path(root), "east")["note"]


def refused(pack: Pack, document: dict[str, Any], *, say: bool = True) -> dict[str, str]:
    with pytest.raises(MappingFailed) as failure:
        pack.to_region(document) if say else pack.to_canonical(document)
    return {problem.field: problem.reason for problem in failure.value.problems}


def test_every_construct_says_and_hears(pack: Pack) -> None:
    """Loading has tried it; here it stands to be read."""
    assert pack.to_region(OURS) == THEIRS
    assert pack.to_canonical(THEIRS) == OURS


@pytest.mark.parametrize(
    ("more", "place", "words"),
    [
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
    found = refused(pack, {**LEAST, **more})
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
        ({"zt": "yes"}, "zt", ""),
        ({"hz": [{"dx": [{"c": "x"}, {}]}]}, "hz[0].dx[1].c", "is missing"),
    ],
)
def test_what_cannot_be_heard_is_refused_by_its_place(pack: Pack, more: dict[str, Any], place: str, words: str) -> None:
    found = refused(pack, {"bh": "1", "lx": "person", "grxm": "n", **more}, say=False)
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
    heard = pack.to_canonical({"bh": "1", "lx": "person", "grxm": "陳", "jt": "陳"})
    assert (heard["name"], heard["hans"]) == ("陳", "陈")


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
