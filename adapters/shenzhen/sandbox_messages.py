"""What each document to the simulated authority of Shenzhen must look like, member by member.

Owns: the documents of README.md as strict models, and the list of everything that is wrong with one. Leaves to
`gateway.sandbox.exchange_authority` what is done with one that is right. A reason never repeats the value that it
complains about; an unknown member is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from stdnum.cn import uscc
from stdnum.iso7064 import mod_11_2

from gateway.sandbox.exchange_authority import CaseSaid, File, MessageSaid
from gateway.sandbox.exchange_documents import Model, read, wrong
from gateway.sandbox.exchange_wire import Document, Refusal
from gateway.sandbox.left_out import LeftOut

WORDS = "the document is not as agreed"
"""What a refused document is told."""


def _attribute(text: str) -> str:
    """A `key=value` text; a birthday and a sex have their form."""
    name, mark, value = text.partition("=")
    if not name or not mark:
        raise wrong("is not key=value")
    if name == "birthday" and value != "-1":
        try:
            date.fromisoformat(value)
        except ValueError:
            raise wrong("is no day") from None
    if name == "sex" and value not in ("1", "2", "-1"):
        raise wrong("is no code of GB/T 2261.1")
    return text


Text = Annotated[str, Field(min_length=1, max_length=512)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
Short = Annotated[str, Field(min_length=1, max_length=64)]
Moment = Annotated[int, Field(ge=10**12, lt=10**13)]
Region = Annotated[str, Field(pattern=r"^[0-9]{12}$")]
Attributes = Annotated[list[Annotated[str, AfterValidator(_attribute)]], Field(max_length=50)]
Form = Annotated[dict[Short, Annotated[str, Field(max_length=20_000)]], Field(max_length=500)]
PersonDocument = Literal["111", "414", "511", "516", "553", "999"]
OrganisationDocument = Literal["001", "099"]


def _resident(shape: str) -> Callable[[str], bool]:
    """A number of 18 characters that ends in an ISO 7064 MOD 11-2 check character (GB 11643)."""
    return lambda number: re.fullmatch(shape, number) is not None and bool(mod_11_2.is_valid(number))


_NUMBERS: Mapping[str, Callable[[str], bool]] = {
    "111": _resident("[1-7][0-9]{16}[0-9X]"),
    "999": _resident("8[123]0000[0-9]{11}[0-9X]"),
    "001": lambda number: bool(re.fullmatch("[0-9A-Z]{18}", number)) and uscc.is_valid(number),
}


def number_fits(kind: str, number: str) -> bool:
    """Say whether a number of this kind of document can be one: form and check digit, where it has one."""
    fits = _NUMBERS.get(kind)
    return fits(number) if fits else re.fullmatch(r"[A-Z0-9()/-]{4,30}", number) is not None


# --- cases -------------------------------------------------------------------------------------------------------


class Item(Model):
    """Which item is applied for; one of the two codes must be there."""

    item_code: Short | None = None
    task_handle_item: Short | None = None
    item_name: Text
    situation_code: Short | None = None


class Source(Model):
    """Where a case comes from."""

    region_code: Region
    window_no: Short | None = None
    user_code: Short | None = None


class Person(Model):
    """A natural person."""

    person_name: Text
    certificate_type: PersonDocument
    certificate_number: Text
    mobile: Short | None = None

    @model_validator(mode="after")
    def _number(self) -> Person:
        if not number_fits(self.certificate_type, self.certificate_number):
            raise wrong("certificateNumber is not a number of its type")
        return self


class Enterprise(Model):
    """An organisation."""

    org_name: Text
    org_code_type: OrganisationDocument
    org_code: Text
    contact_phone: Short | None = None

    @model_validator(mode="after")
    def _number(self) -> Enterprise:
        if not number_fits(self.org_code_type, self.org_code):
            raise wrong("orgCode is not a number of its type")
        return self


class Applicant(Model):
    """Who applies: a person or an organisation, as the type says."""

    applicant_type: Literal["1", "2", "3"]
    person: Person | None = None
    enterprise: Enterprise | None = None
    attributes: Attributes = Field(default_factory=list)

    @model_validator(mode="after")
    def _one(self) -> Applicant:
        if (self.applicant_type == "1") != (self.person is not None) or (self.person is None) == (
            self.enterprise is None
        ):
            raise wrong("person or enterprise, as applicantType says")
        return self

    @property
    def name(self) -> str:
        """The name of whoever it is."""
        return self.person.person_name if self.person else self.enterprise.org_name if self.enterprise else ""


class Material(Model):
    """A file, which was uploaded before."""

    material_code: Short
    material_name: Text
    file_type: Annotated[str, Field(pattern=r"^[a-z]+/[A-Za-z0-9.+-]+$")]
    file_size: int = Field(ge=0)
    file_digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    digest_type: Literal["SHA256"]


Materials = Annotated[list[Material], Field(max_length=200)]


class Promise(Model):
    """A material that follows later (容缺), and the promise that it will."""

    material_code: Short
    promise_content: Text


class Certified(Model):
    """A material that an electronic certificate stands for (免证办), by the certificate's identifier (GB/T 36904)."""

    material_code: Short
    certificate_identifier: Text


class Case(Model):
    """The document of `POST /v1/cases`."""

    source_no: Id
    item: Item
    biz_source: Literal["01", "02", "08", "09"]
    apply_time: Moment
    region_code: Annotated[str, Field(pattern="^4403[0-9]{8}$")]
    source: Source
    applicant: Applicant
    form_data: Form
    material_names: str | None = None
    material_list: Materials
    promise_list: Annotated[list[Promise], Field(max_length=50)] = Field(default_factory=list)
    certificate_list: Annotated[list[Certified], Field(max_length=50)] = Field(default_factory=list)
    attributes: Attributes = Field(default_factory=list)

    @property
    def left_out(self) -> LeftOut:
        """What the case does without."""
        promised = [(one.material_code, one.promise_content) for one in self.promise_list]
        return LeftOut(promised, [(one.material_code, one.certificate_identifier) for one in self.certificate_list])


def read_case(document: Document, items: Set[str]) -> CaseSaid:
    """Read a case. Raises Refusal."""
    case = read(Case, document, WORDS)
    code = case.item.item_code or case.item.task_handle_item or ""
    if code not in items:
        errors = [{"field": "item.itemCode", "reason": "is not an item that is handled here"}]
        raise Refusal(422, "REFUSED", "the item is unknown", errors)
    return CaseSaid(case.source_no, case.applicant.name, code, _files(case.material_list), case.left_out)


def _files(materials: list[Material]) -> list[File]:
    return [
        File(each.material_code, each.file_digest, each.file_size, each.file_type, f"materialList.{place}.fileDigest")
        for place, each in enumerate(materials)
    ]


# --- messages ----------------------------------------------------------------------------------------------------


class Origin(Model):
    """Where a supplement was handed in."""

    window_no: Short | None = None
    user_code: Short | None = None


class Supplement(Model):
    """What is handed in later."""

    supplement_no: Id
    source_no: Id
    project_no: Short
    supplement_time: Moment
    source: Origin | None = None
    form_data: Form = Field(default_factory=dict)
    material_list: Materials
    all_supplied: bool


class Withdrawal(Model):
    """The applicant's wish to end the case."""

    withdraw_no: Id
    source_no: Id
    project_no: Short
    withdraw_time: Moment
    withdraw_reason: Annotated[str, Field(min_length=1, max_length=2000)]
    user_code: Short | None = None


class Rating(Model):
    """How content somebody is (好差评)."""

    assess_no: Id
    source_no: Id
    project_no: Short
    item_code: Short
    assess_role: Literal["collecting", "handling"]
    satisfaction: int = Field(ge=1, le=5)
    eval_detail: list[Short] = Field(default_factory=list)
    writing_evaluation: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    assess_channel: Literal["pc", "mobile", "qr", "hall", "sms", "kiosk", "hotline"]
    assess_time: Moment
    is_default: bool


class Complaint(Model):
    """What somebody complains of."""

    complaint_no: Id
    source_no: Id
    project_no: Short
    content: Annotated[str, Field(min_length=1, max_length=2000)]
    complaint_time: Moment
    contact: Annotated[str, Field(min_length=1, max_length=256)] | None = None


def _supplement(document: Document) -> MessageSaid:
    said = read(Supplement, document, WORDS)
    files = _files(said.material_list)
    return MessageSaid(said.supplement_no, said.source_no, said.project_no, files, complete=said.all_supplied)


def _withdrawal(document: Document) -> MessageSaid:
    said = read(Withdrawal, document, WORDS)
    return MessageSaid(said.withdraw_no, said.source_no, said.project_no)


def _rating(document: Document) -> MessageSaid:
    said = read(Rating, document, WORDS)
    return MessageSaid(said.assess_no, said.source_no, said.project_no, role=said.assess_role)


def _complaint(document: Document) -> MessageSaid:
    said = read(Complaint, document, WORDS)
    return MessageSaid(said.complaint_no, said.source_no, said.project_no)


MESSAGES: Mapping[str, Callable[[Document], MessageSaid]] = {
    "supplements": _supplement,
    "withdrawals": _withdrawal,
    "ratings": _rating,
    "complaints": _complaint,
}
"""Where a message is handed in → how it is read."""


# --- certificates ------------------------------------------------------------------------------------------------


class CertificateNamed(Model):
    """Which type of certificate."""

    certificate_type: str
    certificate_name: str


class Holder(Model):
    """Whose certificate: name and number must both fit."""

    certificate_holder: str
    certificate_holder_type: str
    certificate_holder_code: str


class Business(Model):
    """What it is needed for."""

    org_name: str
    user_name: str | None = None
    user_code: str | None = None
    item_code: str | None = None
    task_handle_item: str | None = None
    item_name: str
    project_no: str

    def is_whole(self) -> bool:
        """Say whether everything that must be named is named."""
        by, item = self.user_name or self.user_code, self.item_code or self.task_handle_item
        texts = (self.org_name, by, item, self.item_name, self.project_no)
        return all(text is not None and text.strip() for text in texts)


class Query(Model):
    """One entry of `queries`."""

    certificate: CertificateNamed
    holder: Holder
    use_cause: Annotated[str, Field(max_length=200)]
    business: Business
    attributes: Attributes = Field(default_factory=list)

    def is_whole(self) -> bool:
        """Say whether everything that must be named is named."""
        wanted = self.certificate.certificate_type or self.certificate.certificate_name
        texts = [*self.holder.model_dump().values(), self.use_cause, wanted]
        return self.business.is_whole() and all(text.strip() for text in texts)


class Batch(Model):
    """The document of `POST /v1/certificates/query`."""

    queries: Annotated[list[Query], Field(min_length=1, max_length=20)]


class Named(Model):
    """A question about one certificate: by its identifier, or by a code that its holder shows."""

    certificate_identifier: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    certificate_code: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    use_cause: Annotated[str, Field(max_length=200)]
    business: Business
    attributes: Attributes = Field(default_factory=list)

    def is_whole(self) -> bool:
        """Say whether everything that must be named is named."""
        return bool(self.use_cause.strip()) and self.business.is_whole()


class Dispute(Model):
    """The report of an error in a certificate (异议)."""

    dispute_no: Id
    certificate_identifier: Annotated[str, Field(min_length=1, max_length=128)]
    dispute_item: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    dispute_content: Annotated[str, Field(min_length=1, max_length=2000)]
    use_cause: Annotated[str, Field(min_length=1, max_length=200)]
    business: Business
