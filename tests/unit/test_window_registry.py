"""windows.toml: who sits at which window, and what a wrong file is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import StartRefused
from gateway.windows import load_windows

GOOD = """
[[window]]
id = "GZ-01"
name = { zh-CN = "跨域通办窗口", en = "Cross-region window" }
centre = "广州市政务服务中心"
organisation = "广州市政务服务数据管理局"
organisation_code = "11440100MBT40100XX"
code = "440100"
regions = ["foshan", "hongkong"]
items = ["ITEM-1"]

[[window.clerk]]
id = "C-0417"
region = "guangdong"
subject = "clerk-subject"
"""
REGIONS = {"guangdong", "foshan", "hongkong"}


def write(folder: Path, text: str) -> Path:
    path = folder / "windows.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_clerk_is_found_by_region_and_subject_and_speaks_for_the_window(tmp_path: Path) -> None:
    """The person is known by (region, subject) alone; what runs in their name carries staff id and window."""
    registry = load_windows(write(tmp_path, GOOD), regions=REGIONS, items={"ITEM-1"})
    found = registry.of_person("guangdong", "clerk-subject")
    assert found is not None
    window, clerk = found
    caller = window.caller(clerk)
    assert (caller.client_id, caller.operator, caller.window_id) == ("pearl-window", "C-0417", "GZ-01")
    assert caller.origin_code == "440100"
    assert window.takes("ITEM-1")
    assert not window.takes("ITEM-2")
    assert window.takes_for("foshan")
    assert not window.takes_for("guangdong")


def test_the_same_subject_at_another_region_is_somebody_else(tmp_path: Path) -> None:
    """Subjects are unique within a region only."""
    registry = load_windows(write(tmp_path, GOOD), regions=REGIONS, items={"ITEM-1"})
    assert registry.of_person("hongkong", "clerk-subject") is None


def test_a_star_lets_a_window_take_every_item(tmp_path: Path) -> None:
    text = GOOD.replace('items = ["ITEM-1"]', 'items = "*"')
    registry = load_windows(write(tmp_path, text), regions=REGIONS, items=set())
    found = registry.of_person("guangdong", "clerk-subject")
    assert found is not None
    assert found[0].takes("anything")


def test_everything_wrong_in_the_file_is_told_at_once(tmp_path: Path) -> None:
    """Whoever starts the gateway mends the file once, not once per mistake."""
    text = (GOOD + GOOD).replace('"foshan"', '"atlantis"').replace("40100XX", "40100XY").replace('"440100"', '"44"')
    with pytest.raises(StartRefused) as refused:
        load_windows(write(tmp_path, text), regions=REGIONS, items=set())
    told = str(refused.value)
    for word in ("atlantis", "organisation_code", "window.0.code", "ITEM-1", "window GZ-01", "clerk guangdong/"):
        assert word in told


def test_a_clerk_of_a_region_that_is_not_enabled_refuses_the_start(tmp_path: Path) -> None:
    """Such a clerk could never sign on; better to hear it now."""
    with pytest.raises(StartRefused, match="clerk C-0417"):
        load_windows(write(tmp_path, GOOD), regions={"foshan", "hongkong"}, items={"ITEM-1"})


def test_an_unknown_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="look at the spelling"):
        load_windows(write(tmp_path, GOOD.replace("centre =", "center =")), regions=REGIONS, items={"ITEM-1"})
