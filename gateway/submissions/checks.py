"""What an application must satisfy before anything is stored: every problem is found, not only the first.

Owns: the rules that need the item but no database. Leaves to `policy`: who may, and what may cross which border. To
`intake`: the order of it all. No reason repeats a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any, Protocol

import jsonschema_rs

from gateway.domain.caller import Caller
from gateway.domain.identifiers import DOCUMENT_TYPES, document_problem
from gateway.domain.identity import Assurance
from gateway.domain.item import Item, Office
from gateway.domain.joint import is_part_reference
from gateway.domain.region import place_of
from gateway.errors import FieldProblem
from gateway.submissions.application import Application, PartyNamed

_ORGANISATION_DOCUMENTS = frozenset({"USCC", "HK_BRN"})
_HOW = {"paper": "the original, seen at a window", "ecert": "an electronic certificate, under `certificates`"}


class FormChecker:
    """Checks forms against the items' JSON Schemas, compiled once."""

    def __init__(self, items: Mapping[str, Item]) -> None:
        self._validators = {
            code: jsonschema_rs.Draft202012Validator(item.form_schema(), validate_formats=True)
            for code, item in items.items()
        }

    def problems(self, item: Item, form: Mapping[str, str]) -> Iterator[FieldProblem]:
        """Yield one problem per wrong field of the form."""
        for error in self._validators[item.code].iter_errors(dict(form)):
            path = ".".join(str(part) for part in error.instance_path)
            yield from _of_schema(path, error.kind)

    def correction_problems(self, item: Item | None, form: Mapping[str, str]) -> Iterator[FieldProblem]:
        """Yield one problem per wrong field of a correction, which need not name every field that is required."""
        if item is None and form:
            yield FieldProblem("form", "cannot be checked: the item is in the catalogue no more", "unknown_item")
        elif item is not None:
            yield from (problem for problem in self.problems(item, form) if problem.code != "missing")


def _of_schema(path: str, kind: Any) -> Iterator[FieldProblem]:
    """Put a schema error in words that repeat no value."""
    match kind.name:
        case "required":
            yield FieldProblem(f"form.{kind.property}", "is required", "missing")
        case "additionalProperties":
            for name in kind.unexpected:
                yield FieldProblem(f"form.{name}", "is not a field of this item", "unknown_field")
        case "enum":
            yield FieldProblem(f"form.{path}", f"must be one of {', '.join(map(str, kind.options))}", "choice")
        case "pattern" | "format":
            yield FieldProblem(f"form.{path}", "does not have the form that the item's schema asks for", "format")
        case "minLength" | "maxLength":
            yield FieldProblem(f"form.{path}", "must have 1 to 500 characters", "length")
        case other:
            yield FieldProblem(f"form.{path}" if path else "form", f"breaks the item's schema ({other})", other)


def reference_problems(application: Application) -> Iterator[FieldProblem]:
    """Check that a caller's own reference can be no part's: parts have theirs in the same space of names."""
    if is_part_reference(application.reference):
        yield FieldProblem(
            "reference", "has the form of a part's (a case number, / and a number); choose another", "reserved"
        )


def applicant_problems(application: Application, today: date) -> Iterator[FieldProblem]:
    """Check birth date and document: known type, fits the kind of applicant, right check digit (typed by a user)."""
    born = application.applicant.birth_date
    if born is not None and born > today:
        yield FieldProblem("applicant.birth_date", "lies in the future", "future")
    document = application.applicant.document
    if document.type not in DOCUMENT_TYPES:
        known = ", ".join(DOCUMENT_TYPES)
        yield FieldProblem("applicant.document.type", f"is not known; known: {known}", "unknown_document_type")
        return
    organisation = application.applicant.kind == "organisation"
    if organisation != (document.type in _ORGANISATION_DOCUMENTS):
        reason = "does not belong to this kind of applicant"
        yield FieldProblem("applicant.document.type", reason, "document_type_of_other_kind")
    if problem := document_problem(document.type, document.number, today=today):
        yield FieldProblem("applicant.document.number", problem, "check_digit")


class Filed(Protocol):
    """What somebody may hand in for somebody else: an application, or a message about a case."""

    @property
    def agent(self) -> PartyNamed | None:
        """Who files."""
        ...

    @property
    def mandate(self) -> str | None:
        """By which mandate."""
        ...


def agent_problems(filed: Filed, today: date) -> Iterator[FieldProblem]:
    """Check that an agent and a mandate come together, and that the agent's document is well formed."""
    agent, mandate = filed.agent, filed.mandate
    if agent is not None and mandate is None:
        yield FieldProblem("mandate", "is required when an agent files for the applicant", "missing")
    if agent is None and mandate is not None:
        yield FieldProblem("agent", "is required with a mandate: name who files", "missing")
    if agent is None:
        return
    if problem := document_problem(agent.document.type, agent.document.number, today=today):
        yield FieldProblem("agent.document.number", problem, "check_digit")
    if agent.document.type not in _ORGANISATION_DOCUMENTS and agent.name is None:
        yield FieldProblem("agent.name", "is required for a person", "missing")


def acting_problems(caller: Caller, application: Application) -> Iterator[FieldProblem]:
    """Check that a system which acts for a person who signed on acts for the applicant, or for the agent who files.

    A token that stands for one person can never file for another (RFC 8693 §4.1).
    """
    if caller.acting is None:
        return
    field, party = ("agent", application.agent) if application.agent else ("applicant", application.applicant)
    if not caller.acting.is_for(party.document.type, party.document.number):
        yield FieldProblem(f"{field}.document", "is not that of the person who signed on", "another_person")
    if caller.acting.mandate is not None and application.mandate != caller.acting.mandate:
        yield FieldProblem("mandate", "must be the one that the access token was issued for", "another_mandate")
    if application.mode != "online":
        yield FieldProblem("mode", "must be online when the person signed on; nobody was at a window", "mode")


def mode_problems(application: Application, item: Item, assurance: Assurance) -> Iterator[FieldProblem]:
    """Check that the item can be handled this way, and that we are sure enough of the person."""
    if application.mode not in item.modes:
        yield FieldProblem("mode", f"must be one of {', '.join(item.modes)} for this item", "mode")
    if assurance < item.min_assurance:
        reason = f"this item needs assurance {item.min_assurance.name}; the identity check reached {assurance.name}"
        yield FieldProblem("mode", reason, "assurance")


def material_problems(application: Application, item: Item) -> Iterator[FieldProblem]:
    """Check the list of materials against the item's rules."""
    rules = {rule.code: rule for rule in item.materials}
    for position, material in enumerate(application.materials):
        if material.code not in rules:
            known = ", ".join(rules)
            yield FieldProblem(f"materials.{position}.code", f"is not asked for; this item knows: {known}", "unknown")
        elif not rules[material.code].takes_file(original_sighted=material.original_sighted is True):
            ways = "; ".join(_HOW[kind] for kind in rules[material.code].kinds)
            yield FieldProblem(f"materials.{position}.code", f"is not taken as a file, but as: {ways}", "not_a_file")
    given = {file.code for file in application.materials} | {proof.code for proof in application.certificates}
    promised = {deferred.code for deferred in application.deferred}
    for rule in item.materials:
        if not rule.required or rule.code in given:
            continue
        if not rule.deferrable:
            yield FieldProblem("materials", f"{rule.code} is required", "missing_material")
        elif rule.code not in promised:
            reason = f"{rule.code} is left out: hand it in, or name it here with the applicant's promise"
            yield FieldProblem("deferred", reason, "missing_promise")
    yield from _deferred_problems(application, {code for code, rule in rules.items() if rule.deferrable}, given)


def _deferred_problems(application: Application, may_follow: set[str], given: set[str]) -> Iterator[FieldProblem]:
    """Check that only what the item lets follow is deferred (容缺), and nothing that is here."""
    for position, deferred in enumerate(application.deferred):
        if deferred.code not in may_follow:
            reason = f"may not follow later; may follow: {', '.join(sorted(may_follow)) or 'nothing'}"
            yield FieldProblem(f"deferred.{position}.code", reason, "not_deferrable")
        elif deferred.code in given:
            yield FieldProblem(f"deferred.{position}.code", "is handed in already", "not_missing")


def crossing_problems(application: Application, item: Item, office: Office, origin_code: str) -> Iterator[FieldProblem]:
    """Check that no form field leaves its legal territory that may not (domain rule P1)."""
    if place_of(origin_code).zone is place_of(office.code).zone:
        return
    for field in item.fields:
        if not field.may_cross and field.id in application.form:
            yield FieldProblem(f"form.{field.id}", "may not leave its legal territory; leave it out", "may_not_cross")


def size_problems(sizes: Iterable[int], region: str, limit: int) -> Iterator[FieldProblem]:
    """Check the sizes of an application's files, in bytes, against the largest that the region takes."""
    for position, size in enumerate(sizes):
        if size > limit:
            reason = f"has {size} bytes; region {region} takes files of {limit} bytes at most"
            yield FieldProblem(f"materials.{position}.blob", reason, "region_limit")
