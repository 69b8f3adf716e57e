"""Which format a pack speaks: its schema file decides, and the head of its rules.

Owns: choosing and opening the `Form`. Leaves to the forms: reading and writing documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Final

from gateway.mapping.charsets import UTF8, charset_named
from gateway.mapping.converters import Wrong
from gateway.mapping.forms import Form
from gateway.mapping.json_form import JsonForm
from gateway.mapping.source import Faults, Files, TomlFile, closest, read_bytes
from gateway.mapping.text_forms import Csv, FormFields
from gateway.mapping.xml_form import XmlForm

JSON_SCHEMA: Final = "schema.json"
XML_SCHEMA: Final = "schema.xsd"

_FORMATS: Final[Mapping[str, Callable[[bytes, str], Form]]] = {"form": FormFields, "csv": Csv}
"""The formats that a rule file names, because a schema of names and texts fits each."""


def open_form(files: Files, folder: str, rules: TomlFile, faults: Faults) -> Form | None:
    """Return the form of a pack; whatever is wrong with it goes into `faults`."""
    head = _Head(rules, faults)
    found = [f"{folder}/{name}" for name in (JSON_SCHEMA, XML_SCHEMA) if f"{folder}/{name}" in files.contents]
    if len(found) != 1:
        faults.add(folder, f"needs either {JSON_SCHEMA} or {XML_SCHEMA}")
        return None
    others = [path for path in files.below(folder) if path.endswith(".xsd") and path != found[0]]
    raws = {PurePosixPath(path).name: read_bytes(files, path, faults) for path in [*found, *others]}
    known = {name: raw for name, raw in raws.items() if raw is not None}
    if not head.sound or len(known) < len(raws):
        return None
    try:
        return head.form(known)
    except Wrong as wrong:
        faults.add(found[0], wrong.reason)
        return None


class _Head:
    """What stands above the rules about the format. Faults are told with their lines; then it is not `sound`."""

    def __init__(self, rules: TomlFile, faults: Faults) -> None:
        self._rules = rules
        self._faults = faults
        self.sound = True
        self.format = self._read("format", "", self._check_format)
        self.charset = self._read("charset", UTF8, charset_named)

    def form(self, files: Mapping[str, bytes]) -> Form:
        """Open the form over the schema. Raises Wrong."""
        if XML_SCHEMA not in files:
            return _FORMATS.get(self.format, JsonForm)(files[JSON_SCHEMA], self.charset)
        if self.format:
            raise Wrong(f'does not go with format = "{self.format}", which needs {JSON_SCHEMA}')
        siblings = {name: raw for name, raw in files.items() if name != XML_SCHEMA}
        return XmlForm(files[XML_SCHEMA], siblings, self.charset)

    def _read(self, key: str, default: str, check: Callable[[str], object]) -> str:
        found = self._rules.data.get(key, default)
        try:
            if not isinstance(found, str):
                raise Wrong(f"{key} is a text")  # noqa: TRY301 - one place turns a fault into a line
            if key in self._rules.data:
                check(found)
        except Wrong as wrong:
            self.sound = False
            self._faults.add(self._rules.path, wrong.reason, self._rules.line_of(key))
            return default
        return found

    def _check_format(self, name: str) -> None:
        if name not in _FORMATS:
            hint = closest(name, _FORMATS) or ": form or csv; without it the schema decides"
            raise Wrong(f'format = "{name}" is not known{hint}')
