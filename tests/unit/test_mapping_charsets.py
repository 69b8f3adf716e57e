"""Character sets of regions: what each holds comes back as it was, and everything else is refused by its number."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mapping.charsets import CHARSETS, Charset, charset_named
from gateway.mapping.converters import Wrong

LAW = settings(max_examples=300, derandomize=True, deadline=None)

CHANGED = {
    "\ufe10": ("A6D9", "84318236", "\ue78d"),
    "\ufe12": ("A6DA", "84318238", "\ue78e"),
    "\ufe11": ("A6DB", "84318237", "\ue78f"),
    "\ufe13": ("A6DC", "84318239", "\ue790"),
    "\ufe14": ("A6DD", "84318330", "\ue791"),
    "\ufe15": ("A6DE", "84318331", "\ue792"),
    "\ufe16": ("A6DF", "84318332", "\ue793"),
    "\ufe17": ("A6EC", "84318333", "\ue794"),
    "\ufe18": ("A6ED", "84318334", "\ue795"),
    "\ufe19": ("A6F3", "84318335", "\ue796"),
    "\u9fb4": ("FE59", "82359037", "\ue81e"),
    "\u9fb5": ("FE61", "82359038", "\ue826"),
    "\u9fb6": ("FE66", "82359039", "\ue82b"),
    "\u9fb7": ("FE67", "82359130", "\ue82c"),
    "\u9fb8": ("FE6D", "82359131", "\ue832"),
    "\u9fb9": ("FE7E", "82359132", "\ue843"),
    "\u9fba": ("FE90", "82359133", "\ue854"),
    "\u9fbb": ("FEA0", "82359134", "\ue864"),
}
"""What 2022 changed: the character, its code since then, its code of 2005, and what had the shorter code in 2005."""

FIRST = {"\u1e3f": ("A8BC", "8135F437", "\ue7c7")}
"""What 2005 changed, in the same form."""

EVERYTHING = [chr(number) for number in range(0x110000) if not 0xD800 <= number < 0xE000]
PLACES_CHANGED = {char for real, (_, _, private) in {**CHANGED, **FIRST}.items() for char in (real, private)}


def refusal(charset: Charset, text: str) -> str:
    with pytest.raises(Wrong) as caught:
        charset.encode(text)
    assert caught.value.code == "charset"
    return caught.value.reason


@pytest.mark.parametrize("name", CHARSETS)
@LAW
@given(text=st.text(st.characters() | st.sampled_from("測試文字陳嘅 aZ9·\u1e3f\u9fb4\ufe12"), max_size=40))
def test_a_text_that_is_held_comes_back_and_another_is_refused_for_its_first_foreign_character(
    name: str, text: str
) -> None:
    """There is no third way: nothing is changed, left out or replaced by a question mark."""
    charset = charset_named(name)
    lacking = charset.lacks(text)
    if lacking:
        assert f"U+{ord(lacking):04X}," in refusal(charset, text)
        assert not charset.lacks(text[: text.index(lacking)])
    else:
        assert charset.decode(charset.encode(text)) == text


@pytest.mark.parametrize(("name", "count"), [("big5", 13_834), ("big5-hkscs", 18_514)])
def test_every_single_character_that_big5_holds_comes_back(name: str, count: int) -> None:
    """The law above sees a few of them; a name may hold any."""
    charset = charset_named(name)
    held = [char for char in EVERYTHING[:0x30000] if not charset.lacks(char)]
    assert len(held) == count
    assert [charset.decode(charset.encode(char)) for char in held] == held


@pytest.mark.parametrize("name", ["utf-8", "gb18030-2005", "gb18030-2022"])
def test_gb18030_of_a_known_edition_holds_every_character(name: str) -> None:
    charset = charset_named(name)
    text = "".join(EVERYTHING)
    assert charset.decode(charset.encode(text)) == text


def test_gb18030_of_an_unknown_edition_holds_all_but_what_changed_places() -> None:
    charset = charset_named("gb18030")
    assert {char for char in EVERYTHING if charset.lacks(char)} == PLACES_CHANGED
    rest = "".join(char for char in EVERYTHING if char not in PLACES_CHANGED)
    assert charset.decode(charset.encode(rest)) == rest


@pytest.mark.parametrize(("char", "since", "before", "private"), [(char, *codes) for char, codes in CHANGED.items()])
def test_each_edition_has_its_own_code_for_the_eighteen(char: str, since: str, before: str, private: str) -> None:
    old, new = charset_named("gb18030-2005"), charset_named("gb18030-2022")
    assert (old.encode(char).hex().upper(), new.encode(char).hex().upper()) == (before, since)
    assert (old.decode(bytes.fromhex(since)), new.decode(bytes.fromhex(since))) == (private, char)
    assert (old.decode(bytes.fromhex(before)), new.decode(bytes.fromhex(before))) == (char, private)


@pytest.mark.parametrize("name", ["gb18030-2005", "gb18030-2022"])
def test_what_changed_in_2005_is_the_same_in_both_editions(name: str) -> None:
    charset = charset_named(name)
    for char, (since, before, private) in FIRST.items():
        assert charset.encode(char + private).hex().upper() == since + before
        assert charset.decode(bytes.fromhex(since + before)) == char + private


def test_what_no_edition_changed_has_the_same_code_in_all() -> None:
    text = "测试 繁體 \u4dae \U00020087 \ue816 \u20ac"
    assert len({charset_named(name).encode(text) for name in CHARSETS if name.startswith("gb")}) == 1


@pytest.mark.parametrize(("char", "codes"), [(char, codes[:2]) for char, codes in {**CHANGED, **FIRST}.items()])
def test_an_unknown_edition_refuses_what_could_be_either_in_both_directions(char: str, codes: tuple[str, str]) -> None:
    """Guessing would put another person's name into the file."""
    charset = charset_named("gb18030")
    assert refusal(charset, f"测试{char}") == (
        f"holds U+{ord(char):04X}, which gb18030 cannot write: it differs between its editions"
    )
    for code in codes:
        with pytest.raises(Wrong, match=r"a code of gb18030 \(byte 5\) that differs between its editions"):
            charset.decode("测试".encode("gb18030") + b"a" + bytes.fromhex(code))


@pytest.mark.parametrize(
    ("name", "raw", "offset"),
    [
        ("utf-8", b"ab\xff", 2),
        ("utf-8", "测".encode()[:2], 0),
        ("utf-8", b"a\xed\xa0\x80", 1),
        ("gb18030", "测试".encode("gb18030")[:3], 2),
        ("gb18030-2022", b"\x81\x30\x81", 0),
        ("gb18030-2005", b"abc\xff", 3),
        ("big5", b"\x80", 0),
        ("big5", "測試".encode("big5") + b"\xa4", 4),
        ("big5-hkscs", b"a\x87\x7f", 1),
    ],
)
def test_bytes_that_are_no_text_are_refused_by_their_place_and_without_themselves(
    name: str, raw: bytes, offset: int
) -> None:
    with pytest.raises(Wrong) as caught:
        charset_named(name).decode(raw)
    assert (caught.value.reason, caught.value.code) == (f"is no {name} text (byte {offset})", "charset")


@pytest.mark.parametrize("name", CHARSETS)
def test_half_a_pair_is_refused_everywhere(name: str) -> None:
    assert "U+D800" in refusal(charset_named(name), "a\ud800")


@pytest.mark.parametrize(
    ("name", "text", "foreign"), [("big5", "陳嘅", "U+5605"), ("big5", "陈", "U+9648"), ("big5-hkscs", "简", "U+7B80")]
)
def test_a_refusal_names_the_character_and_nothing_of_the_text(name: str, text: str, foreign: str) -> None:
    reason = refusal(charset_named(name), text)
    assert reason == f"holds {foreign}, which {name} cannot write"


def test_the_supplementary_set_of_hong_kong_holds_what_big5_does_not() -> None:
    """Also the letters of two characters, which have one code together."""
    text = "嘅啲\u00ca\u0304"
    charset = charset_named("big5-hkscs")
    assert charset.decode(charset.encode(text)) == text
    assert charset.lacks("a\u0304") == "\u0304"


def test_a_character_that_does_not_come_back_is_not_held() -> None:
    """Python's cp950 writes the yen sign as the wide one, and so would change a text."""
    charset = Charset("cp950", "cp950")
    assert charset.lacks("陳¥") == "¥"
    assert charset.lacks("陳") == ""


@pytest.mark.parametrize("name", CHARSETS)
@pytest.mark.parametrize("text", ["", "Chan Tai Man", "測試"])
def test_checking_says_nothing_of_what_is_held(name: str, text: str) -> None:
    charset_named(name).check(text)


@pytest.mark.parametrize(("name", "text"), [("gb18030", "\u9fb4"), ("big5", "简"), ("big5-hkscs", "简")])
def test_checking_refuses_what_encoding_refuses(name: str, text: str) -> None:
    charset = charset_named(name)
    with pytest.raises(Wrong, match=re.escape(refusal(charset, text))):
        charset.check(text)


@pytest.mark.parametrize(
    ("name", "meant"), [("gb18031", "gb18030"), ("GBK18030", "gb18030"), ("big5-hksc", "big5-hkscs")]
)
def test_a_name_that_is_not_known_is_refused_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(Wrong, match=rf'charset = "{name}" is not known; did you mean {meant}'):
        charset_named(name)
