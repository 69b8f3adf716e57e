"""One message of one region in a scratch folder: fields, schema, rules, losses and an example, to try or to spoil."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import MappingFailed, StartRefused
from gateway.mapping import Pack, load_packs
from gateway.mapping.packs import packs_of, read_ground, unnoticed
from gateway.mapping.source import read_files

HEAD = '[note]\nzh = "通知"\nen = "note"\nflow = "theirs-to-ours"\n\n[note.fields]\n'
ABOUT = 'sensitivity = "none", zh = "字段", en = "field", meaning = "It"'


@dataclass(frozen=True)
class OneMessage:
    """What a pack is made of.

    `fields` are kinds by name: `string`, `string!` for a required one, `code values = ["a"]` with what else is said. A
    schema that is a text is an XSD. `example` is the same message, ours and theirs; `tables` are files by name.
    """

    fields: Mapping[str, str]
    schema: Mapping[str, Any] | str
    rules: str
    example: tuple[Mapping[str, Any], Any]
    losses: str = ""
    tables: Mapping[str, str] = field(default_factory=dict)

    def at(self, root: Path) -> Scratch:
        """Write it to disk."""
        scratch = Scratch(root)
        scratch.write("vocabulary.toml", HEAD + "\n".join(_field(*item) for item in self.fields.items()) + "\n")
        for name, text in self.tables.items():
            scratch.write(f"tables/{name}.toml", text)
        scratch.write("east/note/rules.toml", self.rules)
        scratch.write("east/note/losses.toml", self.losses)
        scratch.write(f"east/note/schema.{'xsd' if isinstance(self.schema, str) else 'json'}", _text(self.schema))
        scratch.write("east/note/examples/one.canonical.json", _text(self.example[0]))
        scratch.write(f"east/note/examples/one.region.{self._suffix}", _text(self.example[1]))
        return scratch

    @property
    def _suffix(self) -> str:
        if isinstance(self.schema, str):
            return "xml"
        return next((name for name in ("form", "csv") if f'format = "{name}"' in self.rules), "json")


@dataclass(frozen=True)
class Scratch:
    """The folder on disk."""

    root: Path

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        """Change a text that stands in a file once."""
        text = (self.root / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, old
        self.write(name, text.replace(old, new))

    def pack(self, notice: Callable[[str, str, str], None] = unnoticed) -> Pack:
        """Load it; `notice` is told of codes that nobody knows."""
        return packs_of(read_ground(read_files(self.root)), "east", notice=notice)["note"]

    def refusal(self) -> list[tuple[str, str]]:
        """Load, expect a refusal, and return (file and line, reason) of every fault; without the folder of the pack."""
        with pytest.raises(StartRefused) as caught:
            load_packs(self.root, "east")
        start = f"{self.root.name}/east/note/"
        return [(problem.field.removeprefix(start), problem.reason) for problem in caught.value.problems]


def refused(convert: Callable[[Any], Any], document: Any) -> dict[str, str]:
    """Convert, expect a refusal, and return the reasons by place."""
    with pytest.raises(MappingFailed) as failure:
        convert(document)
    return {problem.field: problem.reason for problem in failure.value.problems}


def _field(name: str, spec: str) -> str:
    kind, _, more = spec.partition(" ")
    parts = [f'type = "{kind.rstrip("!")}"', ABOUT, *(["required = true"] if kind.endswith("!") else [])]
    return f'"{name}" = {{ {", ".join([*parts, *([more] if more else [])])} }}'


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content)
