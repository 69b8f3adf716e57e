"""Files of a mappings folder, and what is wrong with them.

Owns: `Files`, a mappings folder as it was at one moment, reading one TOML file of it with the line of each key, and
`Faults`, the list of everything that is wrong. Leaves to the callers: what the keys mean. Everything is compiled from
`Files` and nothing looks at the disk again, so that a change half written cannot be half loaded, and an old version can
be kept and compiled again. tomllib gives no positions, so that lines are found by a second look at the text; a line
that cannot be found is left out rather than guessed.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from gateway.errors import FieldProblem, StartRefused
from gateway.mapping.limits import MAX_FILE_BYTES

SUFFIXES: Final = frozenset({".toml", ".json", ".xsd", ".xml", ".form", ".csv"})
"""Kinds of file that mean something in a mappings folder; others are left alone."""

_MARKS: Final = re.compile(r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*|[\[\]{}\n]|[^\s,\[\]{}"'#]+""")
"""What a list in TOML is made of: texts, remarks, brackets, ends of lines, and other values."""


@dataclass(frozen=True)
class Files:
    """A mappings folder as it was read: its name, and the contents by path below it (`tables/sex.toml`)."""

    name: str
    contents: Mapping[str, bytes]

    def below(self, folder: str) -> list[str]:
        """Return the paths of the files in a folder, not those in folders of it, sorted."""
        prefix = f"{folder}/"
        return sorted(path for path in self.contents if path.startswith(prefix) and "/" not in path[len(prefix) :])

    def folders(self, folder: str = "") -> list[str]:
        """Return the names of the folders in a folder, sorted; without one, at the top."""
        prefix = f"{folder}/" if folder else ""
        inner = {path[len(prefix) :] for path in self.contents if path.startswith(prefix)}
        return sorted({path.partition("/")[0] for path in inner if "/" in path})

    def regions(self) -> list[str]:
        """Return the folders that hold packs: all but the tables."""
        return [name for name in self.folders() if name != "tables"]


def read_files(root: Path) -> Files:
    """Read a mappings folder as a whole. Raises StartRefused that names every file that cannot be read."""
    contents: dict[str, bytes] = {}
    problems: list[FieldProblem] = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.suffix in SUFFIXES and not any(part.startswith(".") for part in name.split("/")):
            try:
                with path.open("rb") as file:
                    contents[name] = file.read(MAX_FILE_BYTES + 1)
            except OSError as error:
                problems.append(FieldProblem(f"{root.name}/{name}", f"cannot be read: {error.strerror}"))
    if problems:
        raise StartRefused("The mapping packs cannot be read", problems=problems)
    return Files(root.name, contents)


@dataclass
class Faults:
    """Everything that is wrong in one mappings folder, in the order of discovery."""

    folder: str
    problems: list[FieldProblem] = field(default_factory=list)

    def add(self, path: str, reason: str, line: int | None = None) -> None:
        """Note one fault of a file below the folder, with its line where that is known."""
        place = f"{self.folder}/{path}"
        self.problems.append(FieldProblem(f"{place}:{line}" if line else place, reason))

    def refuse(self) -> None:
        """Raise StartRefused with every fault noted so far; return when there is none."""
        if self.problems:
            raise StartRefused("The mapping packs have faults", problems=self.problems)


@dataclass(frozen=True)
class TomlFile:
    """One TOML file as data, with its bytes (for the version hash) and its lines (for messages)."""

    path: str
    raw: bytes
    data: Mapping[str, Any]

    @cached_property
    def _lines(self) -> Mapping[tuple[str, str], int]:
        """The line of every key, by section and key; of a key that stands twice, the first."""
        found: dict[tuple[str, str], int] = {}
        current = ""
        for number, line in enumerate(self.raw.decode().splitlines(), start=1):
            text = line.strip()
            if text.startswith("["):
                current = text.partition("#")[0].strip(" []")
            else:
                found.setdefault((current, _key(text)), number)
        return found

    @cached_property
    def _lines_of_tables(self) -> Mapping[str, list[int]]:
        """The lines of every `[[name]]`, in order."""
        found: dict[str, list[int]] = {}
        for number, line in enumerate(self.raw.decode().splitlines(), start=1):
            text = line.strip()
            if text.startswith("[[") and "]]" in text:
                found.setdefault(text[2:].partition("]]")[0], []).append(number)
        return found

    def line_of(self, key: str, section: str = "") -> int | None:
        """Return the line where `key` stands in `[section]`, counted from 1."""
        return self._lines.get((section, key))

    def line_of_item(self, key: str, section: str, count: int) -> int | None:
        """Return the line of the `count`-th (from 0) item of a list under `key`; items may have lines of their own."""
        first = self.line_of(key, section)
        if first is None:
            return None
        line, *rest = self.raw.decode().splitlines()[first - 1 :]
        own = [first + below for below in _item_lines("\n".join([_after_key(line.strip()), *rest]))]
        return own[count] if count < len(own) else first

    def line_of_table(self, name: str, count: int) -> int | None:
        """Return the line of the `count`-th (from 0) `[[name]]`."""
        lines = self._lines_of_tables.get(name, ())
        return lines[count] if count < len(lines) else None

    def table(self, name: str) -> dict[str, Any]:
        """Return the table `name`, or an empty one when it is missing or no table at all."""
        found = self.data.get(name, {})
        return found if isinstance(found, dict) else {}


def read_bytes(files: Files, path: str, faults: Faults) -> bytes | None:
    """Return the bytes of a file, or note why not and return None."""
    raw = files.contents.get(path)
    if raw is None:
        faults.add(path, "is missing")
        return None
    if len(raw) > MAX_FILE_BYTES:
        faults.add(path, f"is larger than {MAX_FILE_BYTES} bytes")
        return None
    return raw


def read_toml(files: Files, path: str, faults: Faults) -> TomlFile | None:
    """Return the file's data, or note why not and return None."""
    raw = read_bytes(files, path, faults)
    if raw is None:
        return None
    try:
        return TomlFile(path, raw, tomllib.loads(raw.decode()))
    except UnicodeDecodeError:
        faults.add(path, "is not UTF-8 text")
    except tomllib.TOMLDecodeError as error:
        faults.add(path, f"is not TOML: {error}", _line_in(str(error)))
    return None


def closest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" when a known name is near enough, otherwise nothing."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def are_texts(value: Any) -> bool:
    """Return whether a value of a TOML file is a list of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _key(text: str) -> str:
    """The key of a TOML line: between quotes, or up to the equals sign."""
    if text[:1] in {'"', "'"}:
        return text[1:].partition(text[0])[0]
    return text.partition("=")[0].strip() if "=" in text else ""


def _after_key(text: str) -> str:
    """What a TOML line says of its key."""
    quoted = text[:1] in {'"', "'"}
    return (text[1:].partition(text[0])[2] if quoted else text).partition("=")[2].strip()


def _item_lines(text: str) -> Iterator[int]:
    """How many lines below its beginning each item of the list begins that a text begins with."""
    depth = below = 0
    for mark in _MARKS.findall(text if text.startswith("[") else ""):
        if mark == "\n":
            below += 1
        elif not mark.startswith("#"):
            if depth == 1 and mark != "]":
                yield below
            depth += (mark in "[{") - (mark in "]}")
            if not depth:
                return


def _line_in(message: str) -> int | None:
    """The line number in a message of tomllib, which ends in "(at line 3, column 5)"."""
    digits = message.rpartition("at line ")[2].partition(",")[0]
    return int(digits) if digits.isdigit() else None
