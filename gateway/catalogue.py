"""The items that this gateway takes: read from a data file, checked as a whole.

Owns: the file's shape and its agreement with the enabled regions. Leaves to `policy.grants` who may use which item.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from gateway.config import Problems, Settings, parse, read_toml
from gateway.domain.identifiers import item_code_problem, region_code_problem
from gateway.domain.identity import Assurance
from gateway.domain.item import FormField, Item, MaterialRule, Office
from gateway.domain.languages import said_in

Names = Annotated[dict[Literal["zh-CN", "zh-HK", "en", "pt"], str], Field(min_length=1)]


class FieldEntry(Settings):
    """`[[item.field]]`."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")
    label: Names
    kind: Literal["text", "date", "region", "number", "choice"] = "text"
    required: bool = False
    sensitive: bool = False
    may_cross: bool = True
    choices: dict[str, Names] = Field(default_factory=dict)


class MaterialEntry(Settings):
    """`[[item.material]]`."""

    code: str = Field(pattern=r"^[A-Z0-9_-]{1,64}$")
    name: Names
    required: bool = False
    deferrable: bool = False
    certificate_type: str | None = None


class OfficeEntry(Settings):
    """`[[item.office]]`: limits in days; unit G working days, Z calendar days."""

    region: str
    code: str
    promised_days: int = Field(ge=0)
    statutory_days: int = Field(ge=0)
    limit_unit: Literal["G", "Z"] = "G"


class ItemEntry(Settings):
    """`[[item]]`."""

    code: str
    name: Names
    domain: str
    modes: list[Literal["online", "collect"]] = Field(min_length=1)
    min_assurance: Literal["A0", "A1", "A2", "A3"]
    field: list[FieldEntry] = Field(default_factory=list)
    material: list[MaterialEntry] = Field(default_factory=list)
    office: list[OfficeEntry] = Field(min_length=1)


class CatalogueFile(Settings):
    """The file as a whole."""

    item: list[ItemEntry]


def load_items(path: Path, regions: frozenset[str]) -> dict[str, Item]:
    """Return the items by code. Raises StartRefused with every problem of the file."""
    entries = parse(CatalogueFile, read_toml(path), path.name).item
    problems = Problems()
    for number, entry in enumerate(entries):
        for reason in _wrong(entry, regions):
            problems.add(f"{path.name}: item.{number}", reason)
    codes = [entry.code for entry in entries]
    for code in {code for code in codes if codes.count(code) > 1}:
        problems.add(f"{path.name}: item", f"{code} stands more than once")
    problems.refuse()
    return {entry.code: _item(entry) for entry in entries}


def _wrong(entry: ItemEntry, regions: frozenset[str]) -> Iterator[str]:
    if problem := item_code_problem(entry.code):
        yield f"code {problem}"
    for office in entry.office:
        if office.region not in regions:
            yield f"office {office.region!r} is no enabled region; enabled: {', '.join(sorted(regions))}"
        if problem := region_code_problem(office.code):
            yield f"office code {problem}"
        if office.promised_days > office.statutory_days:
            yield f"office {office.region}: the promised limit is longer than the statutory one"
    for field in entry.field:
        if (field.kind == "choice") != bool(field.choices):
            yield f"field {field.id}: choices belong to kind `choice`, and only there"
    for names in ([f.id for f in entry.field], [m.code for m in entry.material], [o.region for o in entry.office]):
        yield from (f"{name} stands more than once" for name in {n for n in names if names.count(n) > 1})


def _item(entry: ItemEntry) -> Item:
    return Item(
        code=entry.code,
        name=_names(entry.name),
        domain=entry.domain,
        modes=tuple(entry.modes),
        min_assurance=Assurance[entry.min_assurance],
        fields=tuple(_field(field) for field in entry.field),
        materials=tuple(
            MaterialRule(m.code, _names(m.name), m.required, m.deferrable, m.certificate_type) for m in entry.material
        ),
        offices=tuple(Office(o.region, o.code, o.promised_days, o.statutory_days, o.limit_unit) for o in entry.office),
    )


def _field(entry: FieldEntry) -> FormField:
    return FormField(
        id=entry.id,
        label=_names(entry.label),
        kind=entry.kind,
        required=entry.required,
        sensitive=entry.sensitive,
        may_cross=entry.may_cross,
        choices={choice: _names(label) for choice, label in entry.choices.items()},
    )


def _names(names: Names) -> Mapping[str, str]:
    """Give both languages of the window a text, the nearest that there is and never nothing. Others as they are."""
    texts = {str(language): text for language, text in names.items()}
    return {**texts, **{language: said_in(texts, language)[1] for language in ("zh-CN", "en")}}
