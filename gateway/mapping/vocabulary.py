"""The names on our side: which fields each message has, of which type, and how sensitive they are.

Owns: reading `mappings/vocabulary.toml`. Leaves to `gateway.mapping.rules`: which of these fields a region carries.
A field that is not in the vocabulary does not exist for any pack.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.mapping.limits import MAX_DIGITS
from gateway.mapping.source import Faults, Files, TomlFile, are_texts, closest, read_toml

OURS_TO_THEIRS: Final = "ours-to-theirs"
THEIRS_TO_OURS: Final = "theirs-to-ours"
DIRECTIONS: Final = (OURS_TO_THEIRS, THEIRS_TO_OURS)

FILE: Final = "vocabulary.toml"

TYPES: Final = (
    "string", "integer", "decimal", "money", "boolean", "date", "datetime", "code", "texts",
    "list", "object", "entries",
)  # fmt: skip
SENSITIVITIES: Final = ("none", "personal", "sensitive")

_MESSAGE_KEYS: Final = ("zh", "en", "flow", "fields")
_FIELD_TEXTS: Final = ("zh", "en", "meaning")
_SOUND: Final[Mapping[str, Callable[[Any], bool]]] = {
    "required": lambda value: isinstance(value, bool),
    "empty": lambda value: isinstance(value, bool),
    "source": lambda value: isinstance(value, str),
    "table": lambda value: isinstance(value, str),
    "values": are_texts,
    "digits": lambda value: isinstance(value, int) and 1 <= value <= MAX_DIGITS,
}
_FIELD_KEYS: Final = ("type", "sensitivity", *_FIELD_TEXTS, *_SOUND)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a canonical document.

    `required` counts inside the nearest optional object. `values` are the codes of a closed list, `table` the code
    table that lists them instead, `digits` the exact number of decimal digits of an open one. `empty` says that an
    empty text is a value; elsewhere it means "nothing given". `source` is the standard that the field comes from.
    """

    name: str
    type: str
    required: bool
    sensitivity: str
    zh: str
    en: str
    meaning: str
    source: str = ""
    values: tuple[str, ...] = ()
    table: str = ""
    digits: int = 0
    empty: bool = False

    @property
    def holds_value(self) -> bool:
        """Whether a rule can name it: lists and objects are carried by the rules of their members."""
        return self.type not in {"list", "object"}


@dataclass(frozen=True, slots=True)
class Message:
    """One kind of canonical document. `flow` is the direction in which it travels in service."""

    name: str
    zh: str
    en: str
    flow: str
    fields: Mapping[str, Field]

    def optional_object(self, name: str) -> str:
        """Return the nearest optional object around a field inside the same list item, or ""."""
        parent = name
        while "." in parent:
            parent = parent.rpartition(".")[0]
            if parent.endswith("[]"):
                return ""
            found = self.fields.get(parent)
            if found and found.type == "object" and not found.required:
                return parent
        return ""

    def list_is_required(self, head: str) -> bool:
        """Return whether the list named by `materials[]` must be there."""
        found = self.fields.get(head.removesuffix("[]"))
        return found is not None and found.required


Vocabulary = Mapping[str, Message]


def read_vocabulary(files: Files, tables: Container[str], faults: Faults) -> Vocabulary:
    """Return the messages of `vocabulary.toml`; what is wrong with it goes into `faults`."""
    source = read_toml(files, FILE, faults)
    if source is None:
        return {}
    found = {name: _message(name, source, faults) for name in source.data}
    for message in found.values():
        for field in message.fields.values():
            if field.table and field.table not in tables:
                line = source.line_of(field.name, f"{message.name}.fields")
                faults.add(FILE, f"{message.name}: {field.name}: there is no table {field.table}", line)
    return found


def _message(name: str, source: TomlFile, faults: Faults) -> Message:
    body = source.table(name)
    for key in body.keys() - set(_MESSAGE_KEYS):
        faults.add(source.path, f"{name}: {key} is not known{closest(key, _MESSAGE_KEYS)}", source.line_of(key, name))
    if body.get("flow") not in DIRECTIONS:
        faults.add(source.path, f"{name}: flow is one of {', '.join(DIRECTIONS)}", source.line_of("flow", name))
    entries = body.get("fields")
    if not isinstance(entries, dict):
        faults.add(source.path, f"{name}: needs [{name}.fields]")
        entries = {}
    fields = {key: _field(name, key, entry, source, faults) for key, entry in entries.items()}
    sound = {key: field for key, field in fields.items() if field}
    return Message(name, str(body.get("zh", "")), str(body.get("en", "")), str(body.get("flow", "")), sound)


def _field(message: str, name: str, entry: Any, source: TomlFile, faults: Faults) -> Field | None:
    reasons = _field_faults(entry)
    for reason in reasons:
        faults.add(source.path, f"{message}: {name}: {reason}", source.line_of(name, f"{message}.fields"))
    if reasons:
        return None
    return Field(
        name=name, **{**entry, "required": entry.get("required", False), "values": tuple(entry.get("values", ()))}
    )


def _field_faults(entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return ["is not a table; a name with dots stands in quotes"]
    reasons = [f"{key} is not known{closest(key, _FIELD_KEYS)}" for key in sorted(entry.keys() - set(_FIELD_KEYS))]
    reasons += [f"{key} is missing" for key in _FIELD_TEXTS if not _is_filled(entry.get(key))]
    if entry.get("type") not in TYPES:
        reasons.append(f"type is one of {', '.join(TYPES)}")
    if entry.get("sensitivity") not in SENSITIVITIES:
        reasons.append(f"sensitivity is one of {', '.join(SENSITIVITIES)}")
    reasons += [f"{key} is wrong" for key, sound in _SOUND.items() if key in entry and not sound(entry[key])]
    if entry.get("type") == "code" and not ({"values", "table", "digits"} & entry.keys()):
        reasons.append("a code needs values, a table or a number of digits")
    return reasons


def _is_filled(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
