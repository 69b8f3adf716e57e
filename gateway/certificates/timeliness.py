"""Whether a certificate was there in time (签发及时): late is what somebody looked for in vain once it was issued.

Owns: the rule. A certificate is late when its holder's certificate of this type was looked for in vain at its issuer on
or after the day of issue that it bears. It is judged once, when it is found for the first time, and only for `KEPT`
after that day: longer nobody remembers what was looked for. A certificate of longer ago costs nothing; neither table
holds more than keyed references. Leaves to `freshness`: counting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, select

from gateway.certificates.asking import Told
from gateway.certificates.freshness import Issue
from gateway.crypto.at_rest import References
from gateway.domain.calendar import local_day
from gateway.domain.certificate import Standing
from gateway.storage.store import insert_into
from gateway.storage.tables import certificate_misses, certificate_seen

KEPT = timedelta(days=30)
"""How long it is kept that a certificate was looked for in vain."""


@dataclass(frozen=True, slots=True)
class Timeliness:
    """Judges what issuers told."""

    references: References

    def note(self, tx: Connection, told: Sequence[Told], now: datetime) -> list[Issue]:
        """Write what was looked for in vain, and judge what was found; part of the transaction of the evidence.

        One statement for all misses, one for each certificate of the last weeks, none for any other.
        """
        missed = {row["reference"]: row for one in told for row in self._misses(one, now)}
        if missed:
            written = insert_into(tx, certificate_misses).values([missed[key] for key in sorted(missed)])
            later = {"missed_at": written.excluded.missed_at}
            tx.execute(written.on_conflict_do_update(index_elements=["reference"], set_=later))
        return [issue for one in told for issue in self._issues(tx, one, now)]

    def _misses(self, told: Told, now: datetime) -> Iterator[dict[str, Any]]:
        question = told.question
        if question.holder is None or question.identifier is not None or question.code is not None:
            return
        if any(answer.standing is Standing.NOT_FOUND for answer in told.answers):
            document = question.holder.document.model_dump()
            yield {
                "reference": self._looked_for(document, question.kind.code, question.region.id),
                "region": question.region.id,
                "type_code": question.kind.code,
                "missed_at": now,
            }

    def _issues(self, tx: Connection, told: Told, now: datetime) -> Iterator[Issue]:
        for answer in told.answers:
            if answer.certificate is None or (issued_on := _lately(answer.certificate, now)) is None:
                continue
            kind, region = told.question.kind.code, told.question.region.id
            if not self._is_new(tx, str(answer.certificate["identifier"]), now):
                continue
            missed_at = self._missed_at(tx, self._looked_for(answer.certificate["holder"]["document"], kind, region))
            yield Issue(region, kind, timely=missed_at is None or local_day(missed_at) < issued_on)

    def _is_new(self, tx: Connection, identifier: str, now: datetime) -> bool:
        row = {"reference": self.references.of("certificate", identifier), "seen_at": now}
        return tx.execute(insert_into(tx, certificate_seen).values(row).on_conflict_do_nothing()).rowcount == 1

    def _missed_at(self, tx: Connection, reference: str) -> datetime | None:
        c = certificate_misses.c
        missed: datetime | None = tx.execute(select(c.missed_at).where(c.reference == reference)).scalar_one_or_none()
        return missed

    def _looked_for(self, document: Mapping[str, Any], kind: str, region: str) -> str:
        number = str(document["number"]).strip().upper()
        return self.references.of("certificate-of", str(document["type"]), number, kind, region)


def _lately(certificate: Mapping[str, Any], now: datetime) -> date | None:
    """Return the day of issue, if it is one about which it can be told whether the certificate came late."""
    try:
        issued_on = date.fromisoformat(str(certificate.get("issued_on")))
    except ValueError:  # an issuer's own record is what it is
        return None
    today = local_day(now)
    return issued_on if today - KEPT <= issued_on <= today else None


def forget(tx: Connection, now: datetime) -> None:
    """Delete what no certificate can be judged by any more."""
    tx.execute(delete(certificate_misses).where(certificate_misses.c.missed_at < now - KEPT))
    # A day more than the certificates are judged for: one that is seen on its day of issue is judged until then.
    tx.execute(delete(certificate_seen).where(certificate_seen.c.seen_at < now - KEPT - timedelta(days=2)))
