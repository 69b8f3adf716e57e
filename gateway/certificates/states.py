"""What certificates were worth a moment ago: standings, and nothing else, for minutes, in the memory of this process.

Owns: how long a standing may be remembered, and that a notice of its issuer ends that at once, whichever replica hears
it: every use of a remembered standing looks for a younger notice in the transaction that records it. Certificates and
files are never kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, func, select

from gateway.certificates.answers import CertificateAnswer
from gateway.domain.certificate import Standing
from gateway.storage.tables import certificate_notices

MOST = 20_000
"""Standings that are remembered; beyond it the one that was used longest ago goes."""
LASTING = frozenset({Standing.VALID, Standing.EXPIRED, Standing.REVOKED, Standing.SUPERSEDED, Standing.RESTRICTED})
"""What may be remembered: an issuer that found nothing, or was not heard, is asked again."""
_C = certificate_notices.c
_NOTICE = select(_C.noticed_at).where(
    _C.reference == bindparam("of"), _C.region == bindparam("by"), _C.noticed_at >= bindparam("since")
)
"""Built once: building a statement costs more than running it."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A standing, who was asked and said it when, and the evidence of that."""

    issuer: str
    standing: Standing
    replaced_by: str | None
    asked_at: datetime
    answered_at: datetime
    evidence_id: str

    def answer(self) -> CertificateAnswer:
        """Return it as an answer; the time is that of the issuer's word."""
        certificate: Mapping[str, str] | None = {"replaced_by": self.replaced_by} if self.replaced_by else None
        return CertificateAnswer(self.issuer, self.standing, certificate=certificate, answered_at=self.answered_at)


class States:
    """Standings by identifier."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: OrderedDict[str, Remembered] = OrderedDict()

    def remember(self, identifier: str, answer: CertificateAnswer, asked_at: datetime, evidence_id: str) -> None:
        """Keep what an issuer that was asked then said of a certificate, if it may be kept."""
        if answer.standing not in LASTING or answer.answered_at is None:
            return
        replaced_by = answer.certificate.get("replaced_by") if answer.certificate else None
        self._known[identifier] = Remembered(
            answer.issuer, answer.standing, replaced_by, asked_at, answer.answered_at, evidence_id
        )  # fmt: skip
        self._known.move_to_end(identifier)
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def recall(self, identifier: str, now: datetime, age: timedelta) -> Remembered | None:
        """Return what is known of a certificate and no older than this; a clock that went back makes it too old."""
        known = self._known.get(identifier)
        if known is None or not timedelta(0) <= now - known.answered_at <= age or not age:
            return None
        self._known.move_to_end(identifier)
        return known

    def forget(self, identifier: str, issuer: str) -> None:
        """Forget what this issuer said of a certificate: it has told that the certificate changed."""
        known = self._known.get(identifier)
        if known is not None and known.issuer == issuer:
            del self._known[identifier]


def noticed_since(tx: Connection, reference: str, issuer: str, since: datetime) -> bool:
    """Say whether the issuer has told of a change of this certificate (its keyed reference) since then."""
    return tx.execute(_NOTICE, {"of": reference, "by": issuer, "since": since}).first() is not None


def in_line(tx: Connection, references: Iterable[str]) -> None:
    """Have notices and filings about these certificates wait for one another, until the transaction ends.

    Whichever comes second sees the first: a notice the case that rests on the certificate, a filing the notice.
    """
    if tx.dialect.name == "postgresql":  # SQLite has one writer anyway
        for reference in sorted(references):  # in one order, so that no two wait for each other
            tx.execute(select(func.pg_advisory_xact_lock(int(reference[:15], 16))))
