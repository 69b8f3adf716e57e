"""The forms on a case's page: what a clerk says of a case that was handed in, as the services take it.

Owns: the names of their inputs, and the way back from a service's problems to them. Leaves to `gateway.submissions`:
whether it may be said, and everything after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from gateway.domain.calendar import LOCAL
from gateway.domain.item import Item
from gateway.domain.region import place_of
from gateway.edge import check
from gateway.errors import FieldProblem, InvalidRequest
from gateway.submissions.application import utc_text
from gateway.submissions.supplements import Supplement
from gateway.submissions.withdrawals import Return, Withdrawal
from gateway.web.window.application import CONSENT_LIFE, PURPOSE
from gateway.web.window.entry import Entry
from gateway.web.window.services import CaseView
from gateway.windows import Window


@dataclass(frozen=True, slots=True)
class Followup:
    """A case on its page: with its item, where that is still in the catalogue, and the window."""

    case: CaseView
    item: Item | None
    window: Window

    @property
    def crosses(self) -> bool:
        """Say whether what is handed in leaves its legal territory (PIPL art. 38-39)."""
        office = None if self.item is None else self.item.office(self.case.place)
        return office is not None and place_of(self.window.code).zone is not place_of(office.code).zone

    @property
    def wanted(self) -> Sequence[str]:
        """The codes of the materials that can be handed in now: what is asked for, or any where none is named."""
        if "supplement" not in self.case.can or self.case.supplement is None:
            return ()
        named = [wanted.code for wanted in self.case.supplement.materials]
        return named or [rule.code for rule in (self.item.materials if self.item else ())]

    @property
    def names(self) -> Mapping[str, Mapping[str, str]]:
        """The names of the item's materials by code."""
        return {rule.code: rule.name for rule in self.item.materials} if self.item else {}

    @property
    def part_names(self) -> Mapping[str, Mapping[str, str]]:
        """The names of the item's parts by code."""
        return {part.code: part.name for part in self.item.parts} if self.item else {}


def supplement_of(entry: Entry, page: Followup) -> Supplement:
    """Return the supplement that a form says. Raises InvalidRequest."""
    fields = page.item.fields if page.item else ()
    form = {field.id: entry.text(f"form.{field.id}") for field in fields if entry.text(f"form.{field.id}")}
    materials = [{"code": code, "blob": held.blob} for code in page.wanted for held in entry.held.get(code, ())]
    document: dict[str, Any] = {"reference": entry.text("reference"), "form": form, "materials": materials}
    if page.crosses and entry.text("consent.evidence"):
        names = [*(f"form.{name}" for name in form), *(["materials"] if materials else [])]
        document["consents"] = [_consent(entry, page, names)]
    return check(Supplement, document)


def withdrawal_of(entry: Entry, _page: Followup) -> Withdrawal:
    """Return the withdrawal that a form says. Raises InvalidRequest."""
    return check(Withdrawal, {"reference": entry.text("reference"), "reason": entry.text("withdrawal.reason")})


def return_of(entry: Entry, _page: Followup) -> Return:
    """Return the return that a form says. Raises InvalidRequest."""
    return check(Return, {"reason": entry.text("return.reason")})


def _consent(entry: Entry, page: Followup, names: list[str]) -> dict[str, Any]:
    """Return the separate consent that the applicant has signed for this supplement (rule P3)."""
    try:
        given = datetime.combine(date.fromisoformat(entry.text("consent.signed_on")), time(), LOCAL)
    except ValueError:
        problem = FieldProblem("consent.signed_on", "is not a date", "date")
        raise InvalidRequest("Some fields are not valid; see `problems`.", problems=[problem]) from None
    return {
        "recipient": page.case.place,
        "purpose": PURPOSE,
        "fields": names,
        "given_at": utc_text(given.astimezone(UTC)),
        "expires_at": utc_text((given + CONSENT_LIFE).astimezone(UTC)),
        "evidence": entry.text("consent.evidence"),
    }


def on_the_page(problems: Sequence[FieldProblem], entry: Entry, page: Followup, action: str) -> list[FieldProblem]:
    """Return problems that a service found under the names of the inputs; `action` names the form."""
    codes = [code for code in page.wanted for _ in entry.held.get(code, ())]
    return [FieldProblem(_input(found.field, codes, action), found.reason, found.code) for found in problems]


def _input(path: str, codes: Sequence[str], action: str) -> str:
    head, _, tail = path.partition(".")
    position = tail.partition(".")[0]
    if head == "materials":
        return f"material.{codes[int(position)]}" if position.isdigit() and int(position) < len(codes) else "supplement"
    if head == "consents" or path == "transfer.P3":
        return "consent.evidence"
    return f"{action}.reason" if path == "reason" else path
