"""What each request to the simulated authority of Hong Kong must look like, field by field.

Owns: the decrypted messages as strict models, and the list of everything that is wrong with one. Leaves to the other
`sandbox_*` modules: what is done with a message that is right. An unknown field is an error: nothing passes unlisted.
A reason never repeats the value that it complains about.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError
from stdnum.cn import uscc
from stdnum.iso7064 import mod_11_2

from adapters.hongkong.sandbox_wire import REFUSED, Refusal


@dataclass(frozen=True, slots=True)
class Register:
    """What a case is checked against: the items (事項) offered, and the size of an uploaded document or None."""

    items: Mapping[str, Mapping[str, Any]]
    document_size: Callable[[str], int | None]


class Message(BaseModel):
    """A decrypted request."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)


M = TypeVar("M", bound=Message)


def read(kind: type[M], plain: bytes, register: Register | None = None) -> M:
    """Return the message. Raises Refusal (D42200) that lists every error at once."""
    try:
        return kind.model_validate_json(plain, context=register)
    except ValidationError as problems:
        raise Refusal(REFUSED, [_error(problem) for problem in problems.errors()]) from problems


def _error(problem: Any) -> dict[str, str]:
    return {"field": ".".join(str(part) for part in problem["loc"]), "reason": problem["msg"]}


def _wrong(reason: str) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{reason}", {"reason": reason})


def _day(text: str) -> str:
    if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text) or not _exists(date.fromisoformat, text):
        raise _wrong("is not a day in the form yyyy-MM-dd")
    return text


def _moment(text: str) -> str:
    shape = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
    if not re.fullmatch(shape, text) or not _exists(datetime.fromisoformat, text):
        raise _wrong("is not a time in the form of RFC 3339")
    return text


def _exists(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        raise _wrong("is neither text nor number nor true or false")
    return value


Text = Annotated[str, Field(min_length=1, max_length=500)]
Words = Annotated[str, Field(min_length=1, max_length=2000)]
Short = Annotated[str, Field(min_length=1, max_length=64)]
RefNo = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
MimeType = Annotated[str, Field(pattern=r"^[a-z]+/[A-Za-z0-9.+-]+$")]
Region = Annotated[str, Field(pattern="^[0-9]{6}$")]
Day = Annotated[str, AfterValidator(_day)]
Moment = Annotated[str, AfterValidator(_moment)]
SelfDeclared = Literal[
    "prefix", "maritalStatus", "homeTelNumber", "officeTelNumber", "mobileNumber", "emailAddress",
    "residentialAddress", "postalAddress", "educationLevel",
]  # fmt: skip
DocumentType = Literal["CN_RIC", "PASSPORT", "HRP", "HM_RESID", "TW_PERMIT", "FPR", "USCC", "BRN"]

CORPORATE_DOCUMENTS = frozenset({"USCC", "BRN"})


def _resident(shape: str) -> Callable[[str], bool]:
    """Identity number of 18 characters: GB 11643, birth day and ISO 7064 MOD 11-2 check character."""
    return lambda number: (
        re.fullmatch(shape, number) is not None
        and _exists(lambda day: datetime.strptime(day, "%Y%m%d"), number[6:14])  # noqa: DTZ007  a day has no zone
        and mod_11_2.is_valid(number)
    )


def _shaped(shape: str) -> Callable[[str], bool]:
    return lambda number: re.fullmatch(shape, number) is not None


def _permanent_resident(number: str) -> bool:
    """Foreign permanent resident card: 18 characters since 2023, 15 before."""
    return bool(re.fullmatch("[A-Z]{3}[0-9]{12}", number)) or (
        bool(re.fullmatch("9[0-9]{16}[0-9X]", number)) and mod_11_2.is_valid(number)
    )


_NUMBERS: Mapping[str, Callable[[str], bool]] = {
    "CN_RIC": _resident("[1-6][0-9]{16}[0-9X]"),
    "PASSPORT": _shaped("[A-Z0-9]{5,20}"),
    "HRP": _shaped("[HM]([A-Z][0-9]{7}|[0-9]{8})([0-9]{2})?"),
    "HM_RESID": _resident("8[123]0000[0-9]{11}[0-9X]"),
    "TW_PERMIT": _shaped(r"[0-9]{8}|[0-9]{10}\([A-Z]\)"),
    "FPR": _permanent_resident,
    "USCC": lambda number: bool(re.fullmatch("[0-9A-Z]{18}", number)) and uscc.is_valid(number),
    "BRN": _shaped("[0-9]{8}"),
}


def _number_of_type(number: str, info: ValidationInfo) -> str:
    kind = info.data.get("doc_type")  # absent when the type itself is wrong: then only that is reported
    if kind is not None and not _NUMBERS[kind](number):
        raise _wrong(f"is not a number of type {kind}")
    return number


class TokenRequest(Message):
    """`/api/v1/auth/getToken`."""

    code: str
    grant_type: Literal["authorization_code"]


class ProfileRequest(Message):
    """`/api/v1/profiles`."""

    access_token: str
    open_id: str = Field(alias="openID")
    profile_fields: list[Literal["idNo", "enName", "chName", "birthDate", "gender"]] = Field(min_length=1)
    eme_fields: list[SelfDeclared] = Field(default_factory=list, alias="eMEFields")


class CorpTokenRequest(Message):
    """`/api/v1/corp/getToken`."""

    ticket: str
    access_token: str
    open_id: str = Field(alias="openID")


class CorpProfileRequest(Message):
    """`/api/v1/corp/profiles`."""

    access_token: str
    open_id: str = Field(alias="openID")
    corp_id: str = Field(alias="corpID")
    corp_profile_fields: list[Literal["corpID", "brn", "corpNameEN", "corpNameTC", "corpAddr"]]
    corp_user_profile_fields: list[Literal["openID", "enName", "chName", "corpRole", "mobileNumber"]]
    e_corp_fields: list[Literal["corpTypeEN", "corpTel", "corpStatusEN", "placeOfIncorp", "dateOfReg"]]


class Upload(Message):
    """`/api/v1/documents/upload`: the bytes of `data` have the digest `sha256`."""

    sha256: Digest
    mime_type: MimeType
    data: bytes = Field(min_length=1)

    @field_validator("data", mode="before")
    @classmethod
    def _decoded(cls, value: Any, info: ValidationInfo) -> bytes:
        try:
            data = b64decode(value, validate=True)
        except (TypeError, ValueError) as error:
            raise _wrong("is not base64") from error
        if sha256(data).hexdigest() != info.data.get("sha256", ""):
            raise _wrong("does not have the digest given")
        return data


class Applicant(Message):
    """Who applies."""

    type: Literal["INDIVIDUAL", "CORPORATE"]
    name: Text
    doc_type: DocumentType
    doc_no: Text
    birth_date: Day | None = None
    gender: Literal["M", "F"] | None = None
    mobile: Annotated[str, Field(pattern=r"^\+?[0-9][0-9 -]{4,19}$")] | None = None

    @field_validator("doc_type")
    @classmethod
    def _of_the_applicant(cls, kind: str, info: ValidationInfo) -> str:
        if "type" in info.data and (info.data["type"] == "CORPORATE") != (kind in CORPORATE_DOCUMENTS):
            raise _wrong("does not fit the type of applicant")
        return kind

    _number = field_validator("doc_no")(_number_of_type)


class FormField(Message):
    """One field of the form."""

    name: Text
    value: Annotated[Any, AfterValidator(_scalar)]


class Document(Message):
    """One document of the case; its content must have been uploaded."""

    code: Text
    name: Text
    mime_type: MimeType
    size: int = Field(gt=0)
    sha256: Digest

    @field_validator("sha256")
    @classmethod
    def _uploaded(cls, digest: str, info: ValidationInfo) -> str:
        size = _register(info).document_size(digest)
        if size is None:
            raise _wrong("has not been uploaded")
        if info.data.get("size", size) != size:
            raise _wrong("was uploaded with another size")
        return digest


class Pending(Message):
    """A document that follows later, and the undertaking that it will."""

    code: Text
    undertaking: Text


class Case(Message):
    """`/api/v1/cases/submit`."""

    ref_no: RefNo
    service_code: Text
    service_name: Text
    submit_time: Moment
    channel: Literal["COUNTER", "ONLINE"]
    origin_region: Region
    handling_region: Annotated[str, Field(pattern="^81[0-9]{4}$")]
    counter: Short | None = None
    officer: Short | None = None
    applicant: Applicant
    form_fields: list[FormField] = Field(max_length=500)
    documents: list[Document] = Field(max_length=200)
    documents_to_follow: list[Pending] = Field(default_factory=list, max_length=50)
    consent_ref: Short | None = None

    @field_validator("service_code")
    @classmethod
    def _offered(cls, code: str, info: ValidationInfo) -> str:
        if code not in _register(info).items:
            raise _wrong("is not an item that is handled here")
        return code

    @field_validator("form_fields")
    @classmethod
    def _named_once(cls, fields: list[FormField]) -> list[FormField]:
        if len({field.name for field in fields}) != len(fields):
            raise _wrong("gives a field twice")
        return fields


class CaseQuery(Message):
    """`/api/v1/cases/query`."""

    ref_no: str


class DocumentsQuery(Message):
    """`/api/v1/cases/documents`."""

    case_no: Short


class DocumentPiece(Message):
    """`/api/v1/cases/documents/download`."""

    case_no: Short
    code: Short
    offset: int = Field(ge=0)


class CaseMessage(Message):
    """What every message about a case has: its own number, and the two numbers of its case."""

    message_id: RefNo = Field(alias="messageID")
    ref_no: RefNo
    case_no: Short


class Supplement(CaseMessage):
    """`/api/v1/cases/supplement`."""

    submit_time: Moment
    counter: Short | None = None
    officer: Short | None = None
    form_fields: list[FormField] = Field(default_factory=list, max_length=500)
    documents: list[Document] = Field(max_length=200)
    complete: bool


class Withdrawal(CaseMessage):
    """`/api/v1/cases/withdraw`."""

    request_time: Moment
    reason: Words
    officer: Short | None = None


class Complaint(CaseMessage):
    """`/api/v1/cases/complain`."""

    text: Words
    made_time: Moment
    contact: Text | None = None


class MessageQuery(Message):
    """`/api/v1/cases/messages/query`."""

    message_id: str = Field(alias="messageID")


class Requester(Message):
    """On whose behalf a certificate is matched: organisation, person, item and case."""

    org_name: Text
    user_name: Text
    item_name: Text
    item_code: Text
    case_no: Text


class MatchRequest(Message):
    """`/api/v1/certificates/match`."""

    consent_id: str = Field(alias="consentID")
    cert_type: Text
    cert_type_name: str
    holder_name: Text
    doc_type: DocumentType
    doc_no: Text
    purpose: Annotated[str, Field(min_length=1, max_length=200)]
    requester: Requester

    _number = field_validator("doc_no")(_number_of_type)


def _register(info: ValidationInfo) -> Register:
    if not isinstance(info.context, Register):
        raise TypeError("a case is read with a register")
    return info.context
