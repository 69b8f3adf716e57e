"""Files of a mapping folder, and what is wrong with them.

Owns: reading one TOML file with the line of each key, and `Faults`, the list of everything that is wrong in a folder.
Leaves to the callers: what the keys mean. tomllib gives no positions, so that lines are found by a second look at
the text; a line that cannot be found is left out rather than guessed.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.errors import FieldProblem, StartRefused
from gateway.mapping.limits import MAX_FILE_BYTES


@dataclass
class Faults:
    """Everything that is wrong under one mappings folder, in the order of discovery."""

    root: Path
    problems: list[FieldProblem] = field(default_factory=list)

    def add(self, path: Path, reason: str, line: int | None = None) -> None:
        """Note one fault of a file below the root, with its line where that is known."""
        place = f"{self.root.name}/{path.relative_to(self.root).as_posix()}"
        self.problems.append(FieldProblem(f"{place}:{line}" if line else place, reason))

    def refuse(self) -> None:
        """Raise StartRefused with every fault noted so far; return when there is none."""
        if self.problems:
            raise StartRefused("The mapping packs have faults", problems=self.problems)


@dataclass(frozen=True)
class TomlFile:
    """One TOML file as data, with its bytes (for the version hash) and its lines (for messages)."""

    path: Path
    raw: bytes
    data: Mapping[str, Any]

    def line_of(self, key: str, section: str = "") -> int | None:
        """Return the line where `key` stands in `[section]`, counted from 1."""
        current = ""
        for number, line in enumerate(self.raw.decode().splitlines(), start=1):
            text = line.strip()
            if text.startswith("["):
                current = text.partition("#")[0].strip(" []")
            elif current == section and _key(text) == key:
                return number
        return None

    def line_of_table(self, name: str, count: int) -> int | None:
        """Return the line of the `count`-th (from 0) `[[name]]`."""
        lines = [
            n for n, t in enumerate(self.raw.decode().splitlines(), start=1) if t.strip().startswith(f"[[{name}]]")
        ]
        return lines[count] if count < len(lines) else None

    def table(self, name: str) -> dict[str, Any]:
        """Return the table `name`, or an empty one when it is missing or no table at all."""
        found = self.data.get(name, {})
        return found if isinstance(found, dict) else {}


def read_bytes(path: Path, faults: Faults) -> bytes | None:
    """Return the bytes of a file, or note why not and return None."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        faults.add(path, f"cannot be read: {error.strerror}")
        return None
    if len(raw) > MAX_FILE_BYTES:
        faults.add(path, f"is larger than {MAX_FILE_BYTES} bytes")
        return None
    return raw


def read_toml(path: Path, faults: Faults) -> TomlFile | None:
    """Return the file's data, or note why not and return None."""
    raw = read_bytes(path, faults)
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


def _line_in(message: str) -> int | None:
    """The line number in a message of tomllib, which ends in "(at line 3, column 5)"."""
    digits = message.rpartition("at line ")[2].partition(",")[0]
    return int(digits) if digits.isdigit() else None
