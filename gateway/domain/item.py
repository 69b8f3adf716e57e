"""Items (政务服务事项): what can be applied for, where, with which fields and materials.

Owns: the shape of an item and the JSON Schema of its form. Leaves to `gateway.catalogue`: where items come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gateway.domain.identity import Assurance

Names = Mapping[str, str]
"""Language tag (`zh-CN`, `en`) → text."""
DueRule = Literal["before_decision"] | int
"""When a material that may follow is due (补齐期限): before the decision, or so many working days after acceptance."""


@dataclass(frozen=True, slots=True)
class FormField:
    """One field of an item's form.

    `sensitivity` is one of mappings/vocabulary.toml: none, personal, sensitive. `may_cross` says whether the field may
    leave its legal territory (rule P1). `source` (字段来源) is where its value can be had: typed in (form), from the
    sign-on (idp) or from an electronic certificate (ecert). `claim` is what the sign-on calls it, of a field from there
    (the message `person` of mappings/vocabulary.toml).
    """

    id: str
    label: Names
    kind: str  # text, date, region, number, choice
    required: bool
    sensitivity: str
    may_cross: bool
    choices: Mapping[str, Names]
    source: str = "form"
    claim: str | None = None

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of one value; every value travels as a string."""
        shapes: Mapping[str, dict[str, Any]] = {
            "date": {"format": "date", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
            "region": {"pattern": r"^\d{6,12}$"},
            "number": {"pattern": r"^-?\d{1,15}(\.\d{1,4})?$"},
            "choice": {"enum": list(self.choices)},
        }
        base = {"type": "string", "minLength": 1, "maxLength": 500, "title": self.label["zh-CN"]}
        return {**base, **shapes.get(self.kind, {})}


@dataclass(frozen=True, slots=True)
class MaterialRule:
    """One material (申请材料) that an item asks for.

    `deferrable` is 容缺: it may follow later, and `due_rule` says until when. `certificate_type` is the type of the
    electronic certificate that satisfies it. `kinds` (材料类型) are the forms in which it may be handed in: the
    original (paper), a file (scan), an electronic certificate (ecert), or a signed promise (promise, 告知承诺).
    """

    code: str
    name: Names
    required: bool
    deferrable: bool
    certificate_type: str | None
    kinds: Sequence[str] = ("scan",)
    due_rule: DueRule | None = None

    def takes_file(self, *, original_sighted: bool) -> bool:
        """Say whether a file will do. For an original it does where somebody has seen that; a promise may be a file."""
        return "scan" in self.kinds or "promise" in self.kinds or ("paper" in self.kinds and original_sighted)


@dataclass(frozen=True, slots=True)
class Office:
    """A place that has power over the item: region id, its GB/T 2260 code, and time limits with their unit.

    `limit_unit` is `G` working days or `Z` calendar days; `promised` ≤ `statutory`.
    """

    region: str
    code: str
    promised_days: int
    statutory_days: int
    limit_unit: str


@dataclass(frozen=True, slots=True)
class Part:
    """A sub-case (子办件) of an item that several places handle together (多地联办).

    `regions` are those whose offices may take it; which one does, the form of the case says. `after` are the codes of
    the parts that must be done before. `limit_unit` is as for an office.
    """

    code: str
    name: Names
    regions: Sequence[str]
    after: Sequence[str]
    promised_days: int
    limit_unit: str


@dataclass(frozen=True, slots=True)
class Item:
    """An item as clerks and agencies see it. `code` is the implementing code (GB/T 39554.1, 31 or 33 characters).

    `modes` stand in the order in which they are preferred. `tolerance` says whether it is accepted while a deferrable
    material is missing (容缺受理).
    """

    code: str
    name: Names
    domain: str
    modes: Sequence[str]  # online, collect
    min_assurance: Assurance
    fields: Sequence[FormField]
    materials: Sequence[MaterialRule]
    offices: Sequence[Office]
    tolerance: bool = False
    parts: Sequence[Part] = ()

    def office(self, region: str) -> Office | None:
        """Return the office in that region, or None when it has no power over this item."""
        return next((office for office in self.offices if office.region == region), None)

    def form_schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of this item's form."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "additionalProperties": False,
            "properties": {field.id: field.json_schema() for field in self.fields},
            "required": [field.id for field in self.fields if field.required],
        }
