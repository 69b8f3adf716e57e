"""What the simulated authority of Guangdong demands of a case (办件): every field of README.md, "Submissions".

Owns: the record's fields, their check digits (GB 11643, GB 32100) and the list of everything wrong with a record.
Leaves to others: keeping cases, answering, moving them on, and the records of what is said later (`sandbox_messages`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Literal, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from gateway.sandbox.left_out import LeftOut

Text = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"\S")]
Region = Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
Moment = Annotated[str, AfterValidator(lambda text: _moment(text))]
"""Beijing's wall time, yyyyMMddHHmmss."""

Phone = Annotated[str, StringConstraints(pattern=r"^\+?[0-9][0-9 -]{5,20}$")]

_RIC_FORM = re.compile(r"[0-9]{17}[0-9X]")
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_FORM = re.compile(rf"[0-9]{{8}}[{_USCC_ALPHABET}]{{10}}")
_PASSPORT_FORM = re.compile(r"[A-Z0-9]{5,20}")
_OTHER_FORM = re.compile(r"[A-Z0-9()/-]{4,30}")
_KINDS_OF = {"0": ("10", "20", "40"), "1": ("49", "80")}
"""Applicant type (sqrlx) → the document types (sqrzjlx) that such an applicant has."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a case is held against: our items, the materials we have (digest → size in bytes), today, and the header."""

    items: Set[str]
    material_size: Callable[[str], int | None]
    today: date
    submission_id: str | None


class Record(BaseModel):
    """A record as it comes in: nothing but its fields, each of its own type."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _never_null(cls, value: object) -> object:
        if value is None:
            raise ValueError("null is no value: leave an optional field out")
        return value


R = TypeVar("R", bound=Record)


class FormField(Record):
    """One field of the form (表单信息)."""

    bdxbm: Text
    bdxz: Annotated[str, StringConstraints(max_length=20_000)]


class Material(Record):
    """One material (材料信息), uploaded before: its size in bytes and SHA-256 must be those of what we have."""

    clbm: Text
    clmc: Text
    wjlx: Text
    wjdx: int
    wjzy: Digest

    @field_validator("wjzy")
    @classmethod
    def _uploaded(cls, value: str, info: ValidationInfo) -> str:
        size = _known(info).material_size(value)
        if size is None:
            raise ValueError("material was not uploaded")
        if info.data.get("wjdx", size) != size:
            raise ValueError(f"the uploaded material has {size} bytes, not wjdx")
        return value


class Deferred(Record):
    """A material that follows later (容缺材料), and the promise that it will."""

    clbm: Text
    cnnr: Text


class Certified(Record):
    """A material that an electronic certificate stands for (免证材料), by the certificate's identifier (GB/T 36904)."""

    clbm: Text
    zzbs: Text


class Case(Record):
    """A case as it is filed. Optional fields are left out, never null."""

    wwbh: Identifier
    sxbm: Text
    sxmc: Text
    qxbm: Text | None = None
    sqrlx: Literal["0", "1"]
    sqrmc: Text
    sqrzjlx: Literal["10", "20", "40", "49", "80"]
    sqrzjhm: Text
    sqrxb: Literal["1", "2"] | None = None
    csrq: str | None = None
    lxrsj: Phone | None = None
    sbsj: Moment
    tjfs: Literal["0", "1"]
    xzqhdm: Region
    gxdxzqhdm: Region
    ckbh: Text | None = None
    blrgh: Text | None = None
    bdxx: list[FormField]
    clxx: list[Material]
    rqcl: list[Deferred] = []
    mzcl: list[Certified] = []

    @property
    def given(self) -> list[str]:
        """The codes of the materials that are there."""
        return [material.clbm for material in self.clxx]

    @property
    def left_out(self) -> LeftOut:
        """What the case does without."""
        deferred = [(one.clbm, one.cnnr) for one in self.rqcl]
        return LeftOut(deferred, [(one.clbm, one.zzbs) for one in self.mzcl])

    @property
    def asks_for_refusal(self) -> bool:
        """Whether the applicant's name says that this case shall not be accepted: how a test orders a refusal."""
        return "不予受理" in self.sqrmc

    @field_validator("wwbh")
    @classmethod
    def _same_as_header(cls, value: str, info: ValidationInfo) -> str:
        if _known(info).submission_id != value:
            raise ValueError("differs from the header x-pearl-submission-id")
        return value

    @field_validator("sxbm")
    @classmethod
    def _known_item(cls, value: str, info: ValidationInfo) -> str:
        if value not in _known(info).items:
            raise ValueError("unknown item")
        return value

    @field_validator("sqrzjlx")
    @classmethod
    def _fits_applicant(cls, value: str, info: ValidationInfo) -> str:
        if value not in _KINDS_OF.get(info.data.get("sqrlx", ""), (value,)):
            raise ValueError("no such document for an applicant of this sqrlx")
        return value

    @field_validator("sqrzjhm")
    @classmethod
    def _document_number(cls, value: str, info: ValidationInfo) -> str:
        kind = info.data.get("sqrzjlx")
        if kind is not None and not document_fits(kind, value, _known(info).today):
            raise ValueError("not a number of this document type, or a wrong check digit")
        return value

    @field_validator("csrq")
    @classmethod
    def _day(cls, value: str, info: ValidationInfo) -> str:
        if not past_day(value, _known(info).today):
            raise ValueError("not a past day as yyyyMMdd")
        return value


def read_record(kind: type[R], body: bytes, known: Known) -> R | list[dict[str, str]]:
    """Return the record, or everything that is wrong with it as `{"field", "reason"}`; reasons quote no values."""
    try:
        return kind.model_validate_json(body, context=known)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return [{"field": _path(one["loc"]), "reason": one["msg"].removeprefix("Value error, ")} for one in found]


def _moment(text: str) -> str:
    if not (re.fullmatch(r"[0-9]{14}", text) and parsed(text, "%Y%m%d%H%M%S")):
        raise ValueError("not a time as yyyyMMddHHmmss")
    return text


def document_fits(kind: str, number: str, today: date) -> bool:
    """Say whether a document number can be one of the type `sqrzjlx` (10 身份证, 20 护照, 49 社会信用代码)."""
    if kind == "10":
        return ric_fits(number, today)
    if kind == "49":
        return uscc_fits(number)
    if kind == "40" and _RIC_FORM.fullmatch(number):  # residence permits share the identity card's layout
        return ric_fits(number, today)
    return bool((_PASSPORT_FORM if kind == "20" else _OTHER_FORM).fullmatch(number))


def ric_fits(number: str, today: date) -> bool:
    """Check a citizen's number (公民身份号码): form, a past day of birth, ISO 7064 MOD 11-2 (GB 11643)."""
    if not _RIC_FORM.fullmatch(number) or not past_day(number[6:14], today):
        return False
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(number[:17]))
    return "10X98765432"[total % 11] == number[17]


def uscc_fits(number: str) -> bool:
    """Check a unified social credit code (统一社会信用代码): form and check character (GB 32100)."""
    if not _USCC_FORM.fullmatch(number):
        return False
    total = sum(_USCC_ALPHABET.index(sign) * pow(3, place, 31) for place, sign in enumerate(number[:17]))
    return _USCC_ALPHABET[-total % 31] == number[17]


def past_day(text: str, today: date) -> bool:
    """Say whether the text is a day (yyyyMMdd) not after today."""
    day = parsed(text, "%Y%m%d") if re.fullmatch(r"[0-9]{8}", text) else None
    return day is not None and day.date() <= today


def parsed(text: str, form: str) -> datetime | None:
    """Return the wall time in a text of this form, or None."""
    try:
        return datetime.strptime(text, form)  # noqa: DTZ007 - the wire has Beijing wall time; only its form matters here
    except ValueError:
        return None


def _known(info: ValidationInfo) -> Known:
    return cast("Known", info.context)  # `read_case` is the only place that validates


def _path(location: tuple[int | str, ...]) -> str:
    """Write ("clxx", 0, "wjzy") as clxx[0].wjzy; a body that is no JSON has the path `body`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".") or "body"
