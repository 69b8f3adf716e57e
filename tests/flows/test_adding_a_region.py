"""The worked chapter of docs/adding-a-region.md, done exactly as it is written.

What the chapter tells a reader to write is written, what it tells them to type is typed, and what it shows must come
out. A chapter that is not tried teaches what was true once.
"""

from __future__ import annotations

import html
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from gateway.cli.main import main

HOUSE = Path(__file__).parents[2]
CHAPTER = HOUSE / "docs" / "adding-a-region.md"
HEADING = "## Worked: from a foreign XSD to a green pack"
NEIGHBOURS = ("guangdong", "foshan", "hongkong")
"""The regions beside which the chapter is done, so that one that is added changes nothing in it."""

_BLOCK = re.compile(r"^```(?P<kind>\w+)(?: (?P<about>[^\n]+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^(?P<key>\w+) = \{ …, (?P<added>.+) \}$")
_CHANGING = re.compile(r"\d+ ms|\d+ KiB|\b[0-9a-f]{12}$", re.MULTILINE)
"""Times, sizes and versions, which are others each day."""
_ANYTHING = "…"
"""A line of what is shown that stands for any number of lines."""


class Step(NamedTuple):
    """One block of the chapter: what to type, what it prints, or what to do with a file."""

    kind: str
    about: str
    text: str


def steps() -> list[Step]:
    text = CHAPTER.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    return [Step(block["kind"], block["about"] or "", block["text"]) for block in _BLOCK.finditer(text)]


# --- what a reader does ------------------------------------------------------------------------------------------


def typed(command: str) -> str:
    """Type a command and return what it prints; `pearl` runs in this process, which saves starting it."""
    program, *arguments = shlex.split(command)
    if program != "pearl":
        subprocess.run([program, *arguments], check=True)
        return ""
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def add(path: Path, text: str) -> None:
    """Add what stands behind the dots to the rows of a table, and other lines to their section."""
    content, section = path.read_text(encoding="utf-8"), ""
    for line in filter(None, text.splitlines()):
        row = _ROW.match(line)
        if line.startswith("["):
            section = line
            assert f"\n{section}\n" in content
        elif row:
            assert section == "[codes]"
            content = once(rf"^({row['key']} .*) \}}$", rf"\1, {row['added']} }}", content)
        else:
            content = once(rf"^{re.escape(section)}$", f"{section}\n{line}", content)
    write(path, content)


def change(path: Path, text: str) -> None:
    """Put the lines with `+` in the place of those with `-`."""
    lines = text.splitlines(keepends=True)
    old, new = ("".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
    content = path.read_text(encoding="utf-8")
    assert old
    assert content.count(old) == 1
    write(path, content.replace(old, new))


def once(pattern: str, instead: str, content: str) -> str:
    changed, count = re.subn(pattern, instead, content, flags=re.MULTILINE)
    assert count == 1, pattern
    return changed


# --- what a reader sees ------------------------------------------------------------------------------------------


def see(path: Path, text: str) -> None:
    """Find these lines in a file, in this order; of a page, what a browser shows."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        content = html.unescape(re.sub(r"<[^>]+>", "\n", content))
    there = iter([line.strip() for line in content.splitlines()])
    assert [line for line in map(str.strip, text.splitlines()) if line not in there] == []


def lasting(text: str) -> Iterator[str]:
    return (_CHANGING.sub("(changing)", line.rstrip()) for line in text.strip().splitlines())


def is_shown(printed: str, shown: str) -> bool:
    """Say whether this was printed, line by line."""
    lines = [".*" if line == _ANYTHING else re.escape(line) for line in lasting(shown)]
    return re.fullmatch("\n".join(lines), "\n".join(lasting(printed)), re.DOTALL) is not None


FILES: Mapping[str, Callable[[Path, str], None]] = {"stands in ": see, "add to ": add, "": write}
"""What a reader does with a file, by the words before its name."""


def do(step: Step, folder: Path) -> None:
    """Do what a block with the name of a file says."""
    words = next(words for words in FILES if step.about.startswith(words))
    path = folder / step.about.removeprefix(words)
    (change if step.kind == "diff" else FILES[words])(path, step.text)


# --- the chapter -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of what the chapter needs, as the folder that one works in."""
    shutil.copytree(HOUSE / "docs" / "worked-example", tmp_path / "docs" / "worked-example")
    shutil.copytree(HOUSE / "mappings" / "tables", tmp_path / "mappings" / "tables")
    shutil.copy(HOUSE / "mappings" / "vocabulary.toml", tmp_path / "mappings")
    for region in NEIGHBOURS:
        shutil.copytree(HOUSE / "mappings" / region, tmp_path / "mappings" / region)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_chapter_is_done_exactly_as_it_is_written(folder: Path) -> None:
    """Whoever follows it for a real region must not meet a step that is no more."""
    printed = ""
    for step in steps():
        if step.about:
            do(step, folder)
        elif step.kind == "sh":
            assert not printed, "what a command prints is shown"
            printed = "".join(map(typed, step.text.splitlines()))
        else:
            assert is_shown(printed, step.text), f"{step.text}\n--- and not ---\n{printed}"
            printed = ""
    assert not printed


def test_the_chapter_has_steps_of_every_kind() -> None:
    """Were its heading or its blocks written otherwise, the test above would have nothing to do."""
    told = [(step.kind, step.about.rpartition(" ")[0]) for step in steps()]
    assert told.count(("text", "")) >= 10
    assert {"sh", "xml", "toml", "json", "diff"} <= {kind for kind, _ in told}
    assert {"add to", "stands in"} <= {words for _, words in told}
    typed_words = " ".join(step.text for step in steps() if step.kind == "sh")
    for tool in ("new", "check", "test", "try", "explain", "loss", "diff"):
        assert f"pearl mappings {tool} " in typed_words


def test_a_block_with_a_line_too_few_is_noticed() -> None:
    """What is shown is compared line by line, and dots leave out no more than they stand for."""
    assert is_shown("one\ntwo\nthree in 5 ms\n", "one\n…\nthree in 7 ms\n")
    assert is_shown("one\ntwo\n", "one\ntwo\n")
    assert not is_shown("one\ntwo\n", "one\n")
    assert not is_shown("one\ntwo\n", "two\n…\n")
