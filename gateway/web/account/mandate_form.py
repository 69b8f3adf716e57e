"""From a person's form to a mandate: what is missing or wrong in it, and the mandate to make.

Owns: the form's field names and the checks that can be made on the page. Leaves to `gateway.domain.mandate` the rules.
A problem's field is the name of an input; its code is what the page has words for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from gateway.domain.calendar import LOCAL, local_day
from gateway.domain.identifiers import DOCUMENT_TYPES
from gateway.domain.mandate import Mandate, Party, Relation, SignedOn
from gateway.errors import FieldProblem
from gateway.identity.mandates import new_mandate_id
from gateway.web.account.visitors import Form, Visitor

RELATIONS: Sequence[Relation] = (Relation.FAMILY, Relation.FRIEND, Relation.AGENCY)
"""What a person can choose: guardians are recorded by a window, staff by their organisation."""
TERM = timedelta(days=30)
"""The term that an empty form proposes: short, because most matters are."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Read:
    """A form as it was read: the mandate, or what is wrong with the inputs."""

    mandate: Mandate | None
    problems: list[FieldProblem]


def proposed(today: date) -> dict[str, str]:
    """Return the texts of an empty form."""
    return {
        "agent.document.type": "CN_RIC",
        "valid_from": today.isoformat(),
        "valid_until": (today + TERM).isoformat(),
    }


def read_mandate(form: Form, visitor: Visitor, principal: Party, now: datetime) -> Read:
    """Return the mandate that this form gives. It serves from the first day's midnight to the last day's end."""
    problems = list(_problems(form))
    first, last = _date(form.text("valid_from")), _date(form.text("valid_until"))
    if problems or first is None or last is None:
        return Read(None, problems)
    session, today = visitor.session, local_day(now)
    mandate = Mandate(
        id=new_mandate_id(),
        principal=principal,
        agent=Party(form.text("agent.document.type"), _number(form), form.text("agent.name")),
        relation=Relation(form.text("relation")),
        items=frozenset(form.every("items")),
        valid_from=now if first == today else _midnight(first),
        valid_until=_midnight(last + timedelta(days=1)),
        consent=SignedOn(session.region, visitor.subject, session.assurance, session.authenticated_at),
        recorded_by="principal",
        created_at=now,
    )
    return Read(mandate, [])


def _problems(form: Form) -> Iterator[FieldProblem]:
    if form.text("agent.document.type") not in DOCUMENT_TYPES:
        yield FieldProblem("agent.document.type", "is required", "choice")
    for name, longest in (("agent.name", 200), ("agent.document.number", 64)):
        if not form.text(name):
            yield FieldProblem(name, "is required", "required")
        elif len(form.text(name)) > longest or not form.text(name).isprintable():
            yield FieldProblem(name, "is too long, or holds characters that cannot be seen", "format")
    if form.text("relation") not in RELATIONS:
        yield FieldProblem("relation", "is required", "choice")
    if not form.every("items"):
        yield FieldProblem("items", "is required", "items")
    for name in ("valid_from", "valid_until"):
        if _date(form.text(name)) is None:
            yield FieldProblem(name, "is not a date", "date")
    if not form.text("agreed"):
        yield FieldProblem("agreed", "is required", "agreed")


def on_the_page(problems: Sequence[FieldProblem]) -> list[FieldProblem]:
    """Return problems that the rules found, with their fields turned into names of inputs."""
    renamed = {"agent": "agent.document.number", "consent": "agreed", "principal": "agreed"}
    return [FieldProblem(renamed.get(one.field, one.field), one.reason, one.code) for one in problems]


def _number(form: Form) -> str:
    """Return the number as our documents write it: capitals, without blanks and brackets."""
    return re.sub(r"[\s()（）]", "", form.text("agent.document.number")).upper()


def _date(text: str) -> date | None:
    try:
        found = date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None
    return found if found is not None and 2000 <= found.year < 9000 else None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), LOCAL).astimezone(UTC)
