"""Tables at a terminal: columns stand under each other, also where characters are two columns wide."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.columns import GAP, NARROWEST, broken_at, table, width

TEXTS = st.text(st.sampled_from("ab /.申请（人é\u0301⇄ｗ"), max_size=40)


@pytest.mark.parametrize(
    ("text", "columns"),
    [("name", 4), ("申请人", 6), ("（代收）", 8), ("⇄", 1), ("e\u0301", 1), ("ｗ", 2), ("", 0), ("a\u200bb", 2)],
)
def test_a_text_is_as_wide_as_a_terminal_shows_it(text: str, columns: int) -> None:
    assert width(text) == columns


def test_columns_stand_under_each_other() -> None:
    lines = table(("ours", "zh", "theirs"), [("a", "申请人", "x"), ("bcd", "性", "y")]).splitlines()
    assert [width(line[: line.index(last)]) for line, last in zip([lines[0], *lines[2:]], "txy", strict=True)] == [
        14
    ] * 3


@settings(derandomize=True)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=4), st.integers(3 * NARROWEST + 4, 60))
def test_no_line_is_wider_than_the_room_and_nothing_is_lost(rows: list[tuple[str, str, str]], room: int) -> None:
    shown = table(("a", "b", "c"), rows, room)
    assert all(width(line) <= room for line in shown.splitlines())
    for text in (cell for row in rows for cell in row):
        assert [c for c in shown if not c.isspace()].count("申") >= text.count("申")


@settings(derandomize=True)
@given(TEXTS, st.integers(2, 30))
def test_a_broken_text_is_the_same_text_without_blanks_at_the_ends_of_lines(text: str, wide: int) -> None:
    lines = list(broken_at(text, wide))
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(width(line) <= wide for line in lines)


def test_a_table_without_room_is_not_broken() -> None:
    long = "x" * 300
    assert long in table(("a", "b"), [(long, "y")])
    assert GAP in table(("a", "b"), [("x", "y")])
