"""Borders: whether a case may still leave its legal territory when it is handed over (domain rules P3, P4 and P6).

Owns: judging a stored case by the rules of its filing, with the consents that are recorded for it and the bases that
are registered, on the day of the hand-over: it may have waited for days, and the consent is over or taken back by then.
Leaves to `policy.transfer`: the rules. To `parcels`: reading the rows, with the case, in one statement. To `attempt`:
what becomes of a case that may not leave. The right of the agency to file (its grant) counts on the day of filing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping, and_

from gateway.domain.region import place_of
from gateway.policy.transfer import Basis, ConsentGiven, Transfer, require
from gateway.ports import Clock
from gateway.storage.tables import consents, submissions

NO_CONSENT = "transfer.no_consent"
"""The stable code of rule P3: what was handed in may go only by a new consent, and that is a new application."""
SUPPLEMENT, WITHDRAWAL = "supplement", "withdrawal"
_CONSENT = ("id", "recipient", "purpose", "fields", "given_at", "expires_at", "revoked_at")
_CASE = ("origin_code", "handling_code", "handling_region", "item_code", "created_at")
ASKED = (
    *(submissions.c[name].label(f"case_{name}") for name in _CASE),
    *(consents.c[name].label(f"consent_{name}") for name in _CONSENT),
)
"""What must be read of a case and its consents, a row for each, the oldest first: one row without any."""
RECORDED = and_(consents.c.case_no == submissions.c.id, consents.c.recorded_by == submissions.c.client_id)
"""Which consents are those of a case: recorded by whoever filed it, for nobody else can vouch for its applicant."""
Rows = Sequence[RowMapping]


class Borders:
    """Says of stored cases whether they may be handed over now. `bases` are those of transfers.toml."""

    def __init__(self, bases: tuple[Basis, ...], clock: Clock) -> None:
        self._bases = bases
        self._clock = clock

    def require_case(self, rows: Rows, body: Mapping[str, Any]) -> None:
        """Let a case pass with all that was filed. Raises NotPermitted (`transfer.…`)."""
        document = body.get("applicant", {}).get("document", {}).get("type")
        self._require(rows, fields_of(body), body.get("consent"), document)

    def require_message(self, rows: Rows, kind: str, body: Mapping[str, Any]) -> None:
        """Let a message about the case pass. Raises NotPermitted (`transfer.…`).

        A supplement needs a consent that names what it sends; what people say of the case (a rating, a complaint), one
        to this recipient that is in force. A withdrawal always passes: it is how a person ends the case there.
        """
        if kind != WITHDRAWAL:
            self._require(rows, _more_fields(body) if kind == SUPPLEMENT else (), None, None)

    def _require(self, rows: Rows, fields: Sequence[str], rests_on: str | None, document: str | None) -> None:
        case, given = rows[0], [_consent(row) for row in rows if row["consent_id"] is not None]
        origin, target = place_of(case["case_origin_code"]), place_of(case["case_handling_code"])
        if origin.zone is target.zone:
            return
        purpose = next((one.purpose for one in given if rests_on in (None, one.id)), "")
        transfer = Transfer(
            origin=origin,
            target=target,
            target_region=case["case_handling_region"],
            target_recipient=case["case_handling_region"],
            document_type=document,
            fields=fields,
            purpose=purpose,
            consents=given,
            bases=self._bases,
            now=max(self._clock(), case["case_created_at"]),  # by the clock of this replica it may not be filed yet
            item=case["case_item_code"],
        )
        require(transfer)


def fields_of(body: Mapping[str, Any]) -> list[str]:
    """Return the canonical names of the personal fields that a stored case sends: those of its application."""
    named = [f"applicant.{name}" for name in body.get("applicant", {}) if name != "kind"]
    return [*named, *_more_fields(body)]


def _more_fields(body: Mapping[str, Any]) -> list[str]:
    lists = [name for name in ("materials", "certified", "deferred") if body.get(name)]
    return [*(f"form.{name}" for name in body.get("form", {})), *lists]


def _consent(row: RowMapping) -> ConsentGiven:
    known = {name: row[f"consent_{name}"] for name in _CONSENT}
    return ConsentGiven(**{**known, "fields": frozenset(known["fields"])})
