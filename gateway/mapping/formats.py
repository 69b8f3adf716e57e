"""Which format a pack speaks: its schema file decides, and the head of its rules.

Owns: choosing and opening the `Form`. Leaves to the forms: reading and writing documents.
"""

from __future__ import annotations

from typing import Final

from gateway.mapping.converters import Wrong
from gateway.mapping.forms import Form
from gateway.mapping.json_form import JsonForm
from gateway.mapping.source import Faults, Files, TomlFile, read_bytes
from gateway.mapping.xml_form import XmlForm

JSON_SCHEMA: Final = "schema.json"
XML_SCHEMA: Final = "schema.xsd"


def open_form(files: Files, folder: str, rules: TomlFile, faults: Faults) -> Form | None:
    """Return the form of a pack; whatever is wrong with it goes into `faults`."""
    found = [f"{folder}/{name}" for name in (JSON_SCHEMA, XML_SCHEMA) if f"{folder}/{name}" in files.contents]
    if len(found) != 1:
        faults.add(folder, f"needs either {JSON_SCHEMA} or {XML_SCHEMA}")
        return None
    raw = read_bytes(files, found[0], faults)
    try:
        return None if raw is None else _form(found[0], raw, rules)
    except Wrong as wrong:
        faults.add(found[0], wrong.reason)
        return None


def _form(path: str, raw: bytes, _rules: TomlFile) -> Form:
    return JsonForm(raw) if path.endswith(JSON_SCHEMA) else XmlForm(raw)
