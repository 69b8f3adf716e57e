"""items.toml: what an item may say, and everything that is wrong with it in one go."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.catalogue import load_items
from gateway.domain.clocks import limits_of
from gateway.domain.item import Item
from gateway.errors import StartRefused

CODE = "11440100MBT40100XX3442011899001"
REGIONS = frozenset({"guangdong", "foshan"})
HEAD = f"""
[[item]]
code = "{CODE}"
name = {{ zh-CN = "跨省异地就医备案" }}
domain = "医疗保障"
modes = ["online", "collect"]
min_assurance = "A2"
office = [{{ region = "foshan", code = "440600", promised_days = 0, statutory_days = 2 }}]
"""
NAME = 'name = { zh-CN = "某" }'


def loaded(folder: Path, more: str) -> Item:
    path = folder / "items.toml"
    path.write_text(HEAD + more, encoding="utf-8")
    return load_items(path, REGIONS)[CODE]


def test_a_deferrable_material_is_due_before_the_decision_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    item = loaded(
        tmp_path,
        f"""tolerance = true
material = [
  {{ code = "A", {NAME}, deferrable = true }},
  {{ code = "B", {NAME}, deferrable = true, due_rule = 5, kinds = ["scan", "promise"] }},
  {{ code = "C", {NAME} }},
]""",
    )
    assert [(m.code, m.due_rule, m.kinds) for m in item.materials] == [
        ("A", "before_decision", ("scan",)), ("B", 5, ("scan", "promise")), ("C", None, ("scan",)),
    ]  # fmt: skip


def test_modes_keep_their_order_and_parts_come_after_those_before_them(tmp_path: Path) -> None:
    item = loaded(
        tmp_path,
        f"""
part = [
  {{ code = "OUT", {NAME}, regions = ["guangdong"], promised_days = 3 }},
  {{ code = "IN", {NAME}, regions = ["foshan"], after = ["OUT"], promised_days = 5, limit_unit = "Z" }},
]""",
    )
    assert item.modes == ("online", "collect")
    assert [(p.code, p.regions, p.after, p.promised_days, p.limit_unit) for p in item.parts] == [
        ("OUT", ("guangdong",), (), 3, "G"), ("IN", ("foshan",), ("OUT",), 5, "Z"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (f'material = [{{ code = "A", {NAME}, deferrable = true }}]', "belongs to an item with tolerance = true"),
        (f'material = [{{ code = "A", {NAME}, due_rule = 5 }}]', "due_rule belongs to a deferrable material"),
        (f'material = [{{ code = "A", {NAME}, kinds = ["ecert"] }}]', "certificate_type must say which"),
        (f'material = [{{ code = "A", {NAME} }}, {{ code = "A", {NAME} }}]', "A stands more than once"),
        ('field = [{ id = "a", label = { zh-CN = "某" }, source = "idp" }]', "claim belongs to source `idp`"),
        ('field = [{ id = "a", label = { zh-CN = "某" }, claim = "mobile" }]', "claim belongs to source `idp`"),
        (f'part = [{{ code = "A", {NAME}, regions = ["hunan"], promised_days = 1 }}]', "'hunan' is no enabled region"),
        (f'part = [{{ code = "A", {NAME}, regions = ["foshan"], after = ["A"], promised_days = 1 }}]',
         "A is no part that stands before it"),
    ],
)  # fmt: skip
def test_an_item_that_contradicts_itself_refuses_the_start(tmp_path: Path, more: str, reason: str) -> None:
    with pytest.raises(StartRefused) as refused:
        loaded(tmp_path, more)
    assert [problem for problem in refused.value.problems if reason in problem.reason], str(refused.value)


def test_the_clock_of_a_case_runs_by_the_due_rules_of_its_item(tmp_path: Path) -> None:
    item = loaded(
        tmp_path,
        f"""tolerance = true
material = [
  {{ code = "A", {NAME}, deferrable = true, due_rule = 5 }},
  {{ code = "B", {NAME}, deferrable = true }},
]""",
    )
    limits = limits_of(item, "foshan")
    assert limits is not None
    assert limits.tolerance == {"A": 5}
    assert limits_of(item, "guangdong") is None
