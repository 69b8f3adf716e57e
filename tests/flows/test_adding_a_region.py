"""The worked chapter of docs/adding-a-region.md, done exactly as it is written.

What the chapter tells a reader to write is written, what it tells them to type is typed, and what it shows must come
out. A chapter that is not tried teaches what was true once.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from gateway.cli.main import main

HOUSE = Path(__file__).parents[2]
CHAPTER = HOUSE / "docs" / "adding-a-region.md"
HEADING = "## Worked: from a foreign XSD to a green pack"
_BLOCK = re.compile(r"^```(?P<kind>\w+)(?: (?P<about>[^\n]+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^(?P<key>\w+) += \{ …, (?P<added>.+) \}$")
_CHANGING = re.compile(r"\d+ ms|, [0-9a-f]{12}$", re.MULTILINE)
"""Times and versions, which are others each day."""


class Step(NamedTuple):
    """One block of the chapter: a file to write, lines to add to one, a command, or what a command prints."""

    kind: str
    about: str
    text: str


def steps() -> list[Step]:
    text = CHAPTER.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    return [Step(block["kind"], block["about"] or "", block["text"]) for block in _BLOCK.finditer(text)]


def add(path: Path, text: str) -> None:
    """Add what stands behind the dots to the rows of a table, and lines to its section."""
    content = path.read_text(encoding="utf-8")
    section = ""
    for line in filter(None, text.splitlines()):
        row = _ROW.match(line)
        if line.startswith("["):
            section = line
        elif row:
            content, count = re.subn(
                rf"^({row['key']} .*) \}}$", rf"\1, {row['added']} }}", content, flags=re.MULTILINE
            )
            assert count == 1, line
        else:
            assert content.count(f"{section}\n") == 1
            content = content.replace(f"{section}\n", f"{section}\n{line}\n")
    path.write_text(content, encoding="utf-8")


def typed(command: str) -> str:
    program, *arguments = shlex.split(command)
    assert program == "pearl"
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output


def lasting(text: str) -> str:
    return _CHANGING.sub("…", "\n".join(line.rstrip() for line in text.strip().splitlines()))


def test_the_chapter_is_done_exactly_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(HOUSE / "mappings", tmp_path / "mappings")
    monkeypatch.chdir(tmp_path)
    printed: list[str] = []
    for step in steps():
        if step.kind == "sh":
            printed = [typed(line) for line in step.text.splitlines()]
        elif step.kind == "text":
            assert "\n".join(map(lasting, printed)) == lasting(step.text)
        elif step.about.startswith("add to "):
            add(tmp_path / step.about.removeprefix("add to "), step.text)
        else:
            path = tmp_path / step.about
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text, encoding="utf-8")
    assert (tmp_path / "zhuhai.html").stat().st_size > 0


def test_the_chapter_has_steps_of_every_kind() -> None:
    """Were its heading or its blocks written otherwise, the test above would have nothing to do."""
    kinds = [step.kind for step in steps()]
    assert kinds.count("sh") == kinds.count("text") >= 6
    assert {"xml", "toml", "json"} <= set(kinds)
