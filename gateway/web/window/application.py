"""From the clerk's form to an application: what is missing or wrong in it, and the document to hand in.

Owns: the form's field names, the checks that can be made on the page, and the separate consent where data leaves its
legal territory (rule P3), one for each office beyond a border. Leaves to `gateway.submissions.intake`: the last word on
everything.

A problem's field is the name of an input; its code is what the page has words for.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from gateway.domain.calendar import LOCAL, local_day
from gateway.domain.identifiers import DOCUMENT_TYPES, document_problem, region_code_problem
from gateway.domain.item import FormField, Item, MaterialRule, Office, Part
from gateway.domain.region import place_of
from gateway.edge import check
from gateway.errors import FieldProblem
from gateway.submissions.application import Application, utc_text
from gateway.submissions.intake import sent_fields
from gateway.web.window.entry import Entry
from gateway.windows import Window

CONSENT_LIFE = timedelta(days=180)
PURPOSE_CODE = "cross-region-service"
"""What the window collects for, as grants name it (代收代办)."""
PURPOSE = "跨域通办代收代办"
"""The same in words; they stand in the consent as in the application."""
LEGAL_BASIS = "个人信息保护法第十三条第一款第三项（履行法定职责）"
"""PIPL art. 13(1)(3): a statutory duty of the organisation behind the window."""

_MOBILE = re.compile(r"\+?[0-9 -]{5,20}")
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,4})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_REFERENCE = re.compile(r"[0-9a-f]{32}")
_ORGANISATION_DOCUMENTS = frozenset({"USCC", "HK_BRN"})
_AGENT = ("agent.name", "agent.document.type", "agent.document.number", "mandate")
_OPTIONAL = ("name_latin", "birth_date", "sex", "mobile")


@dataclass(frozen=True, slots=True)
class Task:
    """One application to make: which item, at which office, from which window, and when.

    `joint`: several offices handle it together (多地联办), and `office` leads. The item has no other offices than those
    that this window takes it for.
    """

    item: Item
    office: Office
    window: Window
    now: datetime
    joint: bool = False

    @property
    def address(self) -> str:
        """The address of its form."""
        return f"/window/items/{self.item.code}/{self.office.region}" + ("/joint" if self.joint else "")

    @property
    def parts(self) -> Sequence[tuple[Part, Sequence[Office]]]:
        """The parts to find an office for, each with the offices that may take it."""
        return parts_of(self.item) if self.joint else ()

    @property
    def recipients(self) -> Sequence[Office]:
        """The offices beyond a border to which the applicant's data may go: of a joint case any that can be chosen."""
        offices = [office for _, able in self.parts for office in able] if self.joint else [self.office]
        return list({office.region: office for office in offices if self._is_beyond(office)}.values())

    def chosen(self, entry: Entry) -> Sequence[Office]:
        """Return those recipients to which this form goes."""
        regions = {entry.text(part_input(part)) for part, _ in self.parts} if self.joint else {self.office.region}
        return [office for office in self.recipients if office.region in regions]

    def _is_beyond(self, office: Office) -> bool:
        return place_of(self.window.code).zone is not place_of(office.code).zone

    @property
    def today(self) -> date:
        """The date at the window."""
        return local_day(self.now)

    @property
    def crosses(self) -> bool:
        """Say whether the applicant's data leaves its legal territory (PIPL art. 38-39), or may."""
        return bool(self.recipients)

    @property
    def fields(self) -> Sequence[FormField]:
        """The fields to ask for: one that may not cross the border is not collected for a place beyond it (P1)."""
        return [field for field in self.item.fields if field.may_cross or not self.crosses]


def parts_of(item: Item) -> Sequence[tuple[Part, Sequence[Office]]]:
    """Return the parts of an item, each with those of its offices that may take it."""
    return [(part, [office for office in item.offices if office.region in part.regions]) for part in item.parts]


def part_input(part: Part) -> str:
    """Return the name of the input that says which office takes a part."""
    return f"part.{part.code}"


def is_reference(text: str) -> bool:
    """Say whether this is a form id that we gave out."""
    return _REFERENCE.fullmatch(text) is not None


# --- checks ------------------------------------------------------------------------------------------------------


def problems_of(entry: Entry, task: Task) -> list[FieldProblem]:
    """Return everything that is wrong with the form, in the order of the page."""
    checks = (
        _applicant(entry, task.today),
        _agent(entry, task.today),
        _fields(entry, task.fields),
        _parts(entry, task),
        _consent(entry, task),
        _materials(entry, task),
    )
    return [problem for check in checks for problem in check]


def _applicant(entry: Entry, today: date) -> Iterator[FieldProblem]:
    yield from _one_of(entry, "applicant.kind", ("person", "organisation"))
    yield from _text(entry, "applicant.name", 200)
    yield from _one_of(entry, "applicant.document.type", DOCUMENT_TYPES)
    yield from _document(entry, today)
    if entry.text("applicant.name_latin"):
        yield from _text(entry, "applicant.name_latin", 200)
    if born := entry.text("applicant.birth_date"):
        yield from _born(born, today)
    if entry.text("applicant.sex"):
        yield from _one_of(entry, "applicant.sex", ("F", "M"))
    if (mobile := entry.text("applicant.mobile")) and not _MOBILE.fullmatch(mobile):
        yield FieldProblem("applicant.mobile", "is not a phone number", "mobile")
    if not entry.text("identity_checked"):
        yield FieldProblem("identity_checked", "is required", "unchecked")


def _document(entry: Entry, today: date) -> Iterator[FieldProblem]:
    kind, number = entry.text("applicant.document.type"), document_number(entry)
    if kind and (kind in _ORGANISATION_DOCUMENTS) != (entry.text("applicant.kind") == "organisation"):
        other = "does not belong to this kind of applicant"
        yield FieldProblem("applicant.document.type", other, "document_type_of_other_kind")
    if not number:
        yield FieldProblem("applicant.document.number", "is required", "required")
    elif kind in DOCUMENT_TYPES and (reason := document_problem(kind, number, today=today)):
        yield FieldProblem("applicant.document.number", reason, "document")


def _has_agent(entry: Entry) -> bool:
    return any(entry.text(name) for name in _AGENT)


def _agent(entry: Entry, today: date) -> Iterator[FieldProblem]:
    """Check an agent (代理人): all of it or nothing; the mandate itself is for the services to check."""
    if not _has_agent(entry):
        return
    kind, number = entry.text("agent.document.type"), document_number(entry, "agent")
    if kind not in _ORGANISATION_DOCUMENTS:
        yield from _text(entry, "agent.name", 200)
    yield from _one_of(entry, "agent.document.type", DOCUMENT_TYPES)
    if not number:
        yield FieldProblem("agent.document.number", "is required", "required")
    elif kind in DOCUMENT_TYPES and (reason := document_problem(kind, number, today=today)):
        yield FieldProblem("agent.document.number", reason, "document")
    yield from _text(entry, "mandate", 64)


def _born(text: str, today: date) -> Iterator[FieldProblem]:
    born = _date(text)
    if born is None:
        yield FieldProblem("applicant.birth_date", "is not a date", "date")
    elif born > today:
        yield FieldProblem("applicant.birth_date", "is in the future", "date_future")


def _fields(entry: Entry, fields: Sequence[FormField]) -> Iterator[FieldProblem]:
    for field in fields:
        name = f"form.{field.id}"
        if entry.text(name):
            yield from _text(entry, name, 500)
            yield from _kind(field, name, entry.text(name))
        elif field.required:
            yield FieldProblem(name, "is required", "required")


def _kind(field: FormField, name: str, text: str) -> Iterator[FieldProblem]:
    right = {
        "date": lambda: _date(text) is not None,
        "region": lambda: region_code_problem(text) is None,
        "number": lambda: _NUMBER.fullmatch(text) is not None,
        "choice": lambda: text in field.choices,
    }
    if field.kind in right and not right[field.kind]():
        yield FieldProblem(name, f"is not a {field.kind}", field.kind)


def _parts(entry: Entry, task: Task) -> Iterator[FieldProblem]:
    for part, able in task.parts:
        yield from _one_of(entry, part_input(part), [office.region for office in able])


def _consent(entry: Entry, task: Task) -> Iterator[FieldProblem]:
    if not task.chosen(entry):
        return
    if not entry.text("consent.given"):
        yield FieldProblem("consent.given", "is required", "consent")
    yield from _text(entry, "consent.evidence", 200)
    signed = _date(entry.text("consent.signed_on"))
    if signed is None:
        yield FieldProblem("consent.signed_on", "is not a date", "date")
    elif signed > task.today:
        yield FieldProblem("consent.signed_on", "is in the future", "date_future")
    elif _midnight(signed) + CONSENT_LIFE <= task.now:
        yield FieldProblem("consent.signed_on", "is too long ago", "consent_old")


def _materials(entry: Entry, task: Task) -> Iterator[FieldProblem]:
    for rule in task.item.materials:
        if _must_have(rule) and not entry.held.get(rule.code):
            name = f"material.{rule.code}"
            if not any(problem.field == name for problem in entry.problems):
                yield FieldProblem(name, "is required", "material")
        elif rule.required and not entry.held.get(rule.code) and not entry.text(f"deferred.{rule.code}"):
            yield FieldProblem(
                f"deferred.{rule.code}", "is required when the material follows later", "missing_promise"
            )
    for rule in task.item.materials:
        if len(entry.text(f"deferred.{rule.code}")) > 200:
            yield FieldProblem(f"deferred.{rule.code}", "has more than 200 characters", "too_long")


def _must_have(rule: MaterialRule) -> bool:
    return rule.required and not rule.deferrable


def _text(entry: Entry, name: str, longest: int) -> Iterator[FieldProblem]:
    length = len(entry.text(name))
    if length == 0:
        yield FieldProblem(name, "is required", "required")
    elif length > longest:
        yield FieldProblem(name, f"has more than {longest} characters", "too_long")


def _one_of(entry: Entry, name: str, values: Container[str]) -> Iterator[FieldProblem]:
    if entry.text(name) not in values:
        yield FieldProblem(name, "is required", "choice")


def _date(text: str) -> date | None:
    try:  # fromisoformat alone also takes weeks (2026-W01-1)
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None


# --- the document ------------------------------------------------------------------------------------------------


def document_number(entry: Entry, whose: str = "applicant") -> str:
    """Return the number as our documents write it: capitals, without blanks and without an HKID's brackets."""
    return re.sub(r"[\s()（）]", "", entry.text(f"{whose}.document.number")).upper()


def application_of(entry: Entry, task: Task) -> Application:
    """Return the application, from a form without problems. Raises InvalidRequest, with paths of the document.

    It says the same whenever the same form is sent, so a double click is one case. The consent names exactly the
    fields that the rest of it sends.
    """
    document = _document_of(entry, task)
    application = check(Application, document)
    fields, recipients = sent_fields(application), task.chosen(entry)
    consents = [_consent_data(entry, office, fields) for office in recipients]
    return check(Application, {**document, "consents": consents}) if consents else application


def _document_of(entry: Entry, task: Task) -> dict[str, Any]:
    form = {field.id: entry.text(f"form.{field.id}") for field in task.fields if entry.text(f"form.{field.id}")}
    return {
        "reference": entry.text("reference"),
        "item": task.item.code,
        "place": task.office.region,
        "mode": "collect",
        "applicant": _applicant_data(entry),
        "form": form,
        **_agent_data(entry),
        "materials": [
            {"code": code, "blob": held.blob, "original_sighted": bool(entry.text(f"sighted.{code}"))}
            for code, held in _files(entry, task.item)
        ],
        "deferred": [{"code": code, "promise": entry.text(f"deferred.{code}")} for code in _deferred(entry, task.item)],
        "parts": [{"part": part.code, "place": entry.text(part_input(part))} for part, _ in task.parts],
        "purpose_code": PURPOSE_CODE,
        "purpose": PURPOSE,
        "legal_basis": LEGAL_BASIS,
    }


def _agent_data(entry: Entry) -> dict[str, Any]:
    """Return who files for the applicant, when anything of it was typed."""
    if not _has_agent(entry):
        return {}
    name = {"name": entry.text("agent.name")} if entry.text("agent.name") else {}
    document = {"type": entry.text("agent.document.type"), "number": document_number(entry, "agent")}
    return {"agent": {**name, "document": document}, "mandate": entry.text("mandate")}


def _files(entry: Entry, item: Item) -> Iterator[tuple[str, Any]]:
    for rule in item.materials:
        for held in entry.held.get(rule.code, []):
            yield rule.code, held


def _deferred(entry: Entry, item: Item) -> list[str]:
    """Return what follows later by the applicant's promise (容缺): what was attached after all does not."""
    may_follow = [rule.code for rule in item.materials if rule.deferrable and not entry.held.get(rule.code)]
    return [code for code in may_follow if entry.text(f"deferred.{code}")]


def _applicant_data(entry: Entry) -> dict[str, Any]:
    optional = {name: entry.text(f"applicant.{name}") for name in _OPTIONAL if entry.text(f"applicant.{name}")}
    document = {"type": entry.text("applicant.document.type"), "number": document_number(entry)}
    return {
        "kind": entry.text("applicant.kind"),
        "name": entry.text("applicant.name"),
        "document": document,
        **optional,
    }


def _consent_data(entry: Entry, recipient: Office, names: list[str]) -> dict[str, Any]:
    given = _midnight(date.fromisoformat(entry.text("consent.signed_on")))
    return {
        "recipient": recipient.region,
        "purpose": PURPOSE,
        "fields": names,
        "given_at": utc_text(given.astimezone(UTC)),
        "expires_at": utc_text((given + CONSENT_LIFE).astimezone(UTC)),
        "evidence": entry.text("consent.evidence"),
    }


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), LOCAL)


# --- what the services found --------------------------------------------------------------------------------------


def on_the_page(problems: Sequence[FieldProblem], entry: Entry, task: Task) -> list[FieldProblem]:
    """Return problems that a service found, with paths of the document turned into names of inputs."""
    codes = [code for code, _ in _files(entry, task.item)]
    parts = [part_input(part) for part, _ in task.parts]
    return [FieldProblem(_input(problem.field, codes, parts), problem.reason, problem.code) for problem in problems]


_RENAMED = {
    "applicant.document": "applicant.document.number",
    "agent.document": "agent.document.number",
    "agent": "agent.name",
    "transfer.P3": "consent.given",
    "transfer.P6": "applicant.document.type",
}
_OF_A_CONSENT = {
    "given_at": "consent.signed_on", "expires_at": "consent.signed_on", "evidence": "consent.evidence",
}  # fmt: skip


def _input(path: str, codes: Sequence[str], parts: Sequence[str]) -> str:
    if path in _RENAMED:
        return _RENAMED[path]
    head, _, tail = path.partition(".")
    which, _, rest = tail.partition(".")
    if head == "consents":
        return _OF_A_CONSENT.get(rest, "consent.given")
    if head == "parts" and which.isdigit() and int(which) < len(parts):
        return parts[int(which)]
    if head != "materials" or not tail:
        return path
    known = which.isdigit() and int(which) < len(codes)
    return f"material.{codes[int(which)] if known else which}"
