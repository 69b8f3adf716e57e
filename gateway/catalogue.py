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
from gateway.domain.item import DueRule, FormField, Item, MaterialRule, Office, Part
from gateway.domain.languages import said_in

Kind = Literal["paper", "scan", "ecert", "promise"]
Names = Annotated[dict[Literal["zh-CN", "zh-HK", "en", "pt"], str], Field(min_length=1)]


class FieldEntry(Settings):
    """`[[item.field]]`."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")
    label: Names
    kind: Literal["text", "date", "region", "number", "choice"] = "text"
    required: bool = False
    sensitivity: Literal["none", "personal", "sensitive"] = "none"
    may_cross: bool = True
    choices: dict[str, Names] = Field(default_factory=dict)
    source: Literal["form", "idp", "ecert"] = "form"
    claim: Literal["name", "name_latin", "sex", "birth_date", "mobile", "email"] | None = None
    """What the sign-on calls it; of a field that is from there."""


class MaterialEntry(Settings):
    """`[[item.material]]`."""

    code: str = Field(pattern=r"^[A-Z0-9_-]{1,64}$")
    name: Names
    required: bool = False
    deferrable: bool = False
    certificate_type: str | None = None
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("scan",)
    due_rule: Literal["before_decision"] | Annotated[int, Field(ge=1, le=365)] | None = None
    """Working days after acceptance; of a deferrable material, before the decision unless said otherwise."""


class OfficeEntry(Settings):
    """`[[item.office]]`: limits in days; unit G working days, Z calendar days."""

    region: str
    code: str
    promised_days: int = Field(ge=0)
    statutory_days: int = Field(ge=0)
    limit_unit: Literal["G", "Z"] = "G"


class PartEntry(Settings):
    """`[[item.part]]`: what one place does of an item that several handle together."""

    code: str = Field(pattern=r"^[A-Z0-9_-]{1,64}$")
    name: Names
    regions: list[str] = Field(min_length=1)
    after: list[str] = Field(default_factory=list)
    promised_days: int = Field(ge=0)
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
    tolerance: bool = False
    part: list[PartEntry] = Field(default_factory=list)


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
        yield from _wrong_field(field)
    for material in entry.material:
        yield from _wrong_material(material, entry)
    yield from _wrong_parts(entry, regions)
    lists: tuple[list[str], ...] = (
        [str(mode) for mode in entry.modes],
        [field.id for field in entry.field],
        [material.code for material in entry.material],
        [office.region for office in entry.office],
        [part.code for part in entry.part],
    )
    for names in lists:
        yield from (f"{name} stands more than once" for name in {n for n in names if names.count(n) > 1})


def _wrong_field(field: FieldEntry) -> Iterator[str]:
    if (field.kind == "choice") != bool(field.choices):
        yield f"field {field.id}: choices belong to kind `choice`, and only there"
    if (field.source == "idp") != (field.claim is not None):
        yield f"field {field.id}: claim belongs to source `idp`, and only there"


def _wrong_material(material: MaterialEntry, entry: ItemEntry) -> Iterator[str]:
    if material.deferrable and not entry.tolerance:
        yield f"material {material.code}: deferrable belongs to an item with tolerance = true"
    if material.due_rule is not None and not material.deferrable:
        yield f"material {material.code}: due_rule belongs to a deferrable material"
    if material.kinds == ("ecert",) and material.certificate_type is None:
        yield f"material {material.code}: nothing but a certificate will do, so certificate_type must say which"


def _wrong_parts(entry: ItemEntry, regions: frozenset[str]) -> Iterator[str]:
    """Say what is wrong with the parts. One may come only after those that stand before it: so none waits for ever."""
    before: set[str] = set()
    for part in entry.part:
        for region in part.regions:
            if region not in regions:
                yield f"part {part.code}: {region!r} is no enabled region; enabled: {', '.join(sorted(regions))}"
        yield from (
            f"part {part.code}: {name} is no part that stands before it" for name in part.after if name not in before
        )
        before.add(part.code)


def _item(entry: ItemEntry) -> Item:
    return Item(
        code=entry.code,
        name=_names(entry.name),
        domain=entry.domain,
        modes=tuple(entry.modes),
        min_assurance=Assurance[entry.min_assurance],
        fields=tuple(_field(field) for field in entry.field),
        materials=tuple(map(_material, entry.material)),
        offices=tuple(Office(o.region, o.code, o.promised_days, o.statutory_days, o.limit_unit) for o in entry.office),
        tolerance=entry.tolerance,
        parts=tuple(
            Part(p.code, _names(p.name), tuple(p.regions), tuple(p.after), p.promised_days, p.limit_unit)
            for p in entry.part
        ),
    )


def _material(entry: MaterialEntry) -> MaterialRule:
    due: DueRule | None = (entry.due_rule or "before_decision") if entry.deferrable else None
    return MaterialRule(
        code=entry.code,
        name=_names(entry.name),
        required=entry.required,
        deferrable=entry.deferrable,
        certificate_type=entry.certificate_type,
        kinds=entry.kinds,
        due_rule=due,
    )


def _field(entry: FieldEntry) -> FormField:
    return FormField(
        id=entry.id,
        label=_names(entry.label),
        kind=entry.kind,
        required=entry.required,
        sensitivity=entry.sensitivity,
        may_cross=entry.may_cross,
        choices={choice: _names(label) for choice, label in entry.choices.items()},
        source=entry.source,
        claim=entry.claim,
    )


def _names(names: Names) -> Mapping[str, str]:
    """Give Chinese and English a text, the nearest that there is and never nothing. Others as they are."""
    texts = {str(language): text for language, text in names.items()}
    return {**texts, **{language: said_in(texts, language)[1] for language in ("zh-CN", "en")}}
