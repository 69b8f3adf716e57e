"""Certificates that cases rest on (免证办): what stands for which material, what it is worth, and since when.

Owns: the rows of `case_certificates`: written with the case, shown with it, taken for asking again by one statement,
and made due at once when their issuer tells of a change. The identifier is sealed; a keyed reference finds it. Leaves
to `certified`: what proves a certificate. To `rechecks`: asking again, and what follows. Everything here is part of the
caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, and_, func, insert, select, tuple_, update

from gateway.certificates.states import in_line, noticed_since
from gateway.crypto.at_rest import References, Sealer
from gateway.domain.certificate import Standing
from gateway.storage.tables import CERTIFICATE_DUE, case_certificates
from gateway.submissions.certified import Proof
from gateway.submissions.story import exact

CHANGED, UNCONFIRMED = "certificate.changed", "certificate.unconfirmed"
"""Facts: a certificate that the case rests on is worth something else; nobody can say what it is worth any more."""
STALE = "stale"
"""Why nothing was learnt, of a proof that is too old: this was told."""
EARLY = 0.9
"""The share of its limit after which a proof is renewed: it does not grow too old while its issuer is asked."""
_C = case_certificates.c
_WRITTEN = insert(case_certificates)


@dataclass(frozen=True, slots=True)
class CertifiedView:
    """A material that a certificate stands for, as whoever follows the case sees it; no identifier.

    `standing` is the issuer's last word, of `verified_at`; from `good_until` on it is too old to be decided upon.
    `needed`: the certificate stands for the material no more, so that it is needed, or another certificate.
    """

    code: str
    type: str
    issuer: str
    standing: str
    verified_at: datetime
    good_until: datetime
    evidence: str
    needed: bool


@dataclass(frozen=True, slots=True)
class Recognised:
    """One certificate of a case, as it is asked about; `attempt` and `owner` fence what comes of that.

    `sealed` holds what `opened` returns: it is opened one by one, so that a lost key holds up one and no other.
    """

    submission_id: str
    position: int
    code: str
    kind: str
    issuer: str
    capability: str
    sealed: bytes = field(repr=False)
    standing: Standing
    verified_at: datetime
    good_until: datetime
    evidence_id: str
    followed: bool
    failures: int
    last_code: str | None
    noticed_at: datetime | None
    owner: str | None
    attempt: int

    def holds(self, now: datetime) -> bool:
        """Say whether it was confirmed lately enough to rest on, and nobody has told of a change since."""
        return self.standing is Standing.VALID and self.is_known(now)

    def is_known(self, now: datetime) -> bool:
        """Say whether its standing is the issuer's last word, and not too old."""
        return now < self.good_until and self.noticed_at is None


@dataclass(frozen=True, slots=True)
class Said:
    """What a question about a certificate says of it and of why it is asked; what is sealed."""

    identifier: str
    operator: str
    purpose: str
    legal_basis: str


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a certificate is asked about again with: the purpose in words, and its legal basis."""

    purpose: str
    legal_basis: str


def keep(
    tx: Connection,
    sealer: Sealer,
    references: References,
    submission_id: str,
    proofs: Sequence[tuple[Proof, timedelta]],
    grounds: Grounds,
    now: datetime,
) -> None:
    """Write what a case rests on, each with how old its proof may be.

    What its issuer has told of since it was asked is due at once: the case does not go out on the answer of before.
    """
    known = [references.of("certificate", proof.certified.identifier) for proof, _ in proofs]
    in_line(tx, known)
    changed = [
        noticed_since(tx, reference, proof.issuer, proof.asked_at)
        for reference, (proof, _) in zip(known, proofs, strict=True)
    ]
    rows = [
        {
            "submission_id": submission_id,
            "position": position,
            "code": proof.certified.code,
            "type_code": proof.kind,
            "issuer": proof.issuer,
            "capability": str(proof.capability),
            "reference": known[position],
            "body": _sealed(sealer, submission_id, position, proof, grounds),
            "standing": str(Standing.VALID),
            "verified_at": proof.verified_at,
            "good_until": proof.verified_at + limit,
            "evidence_id": proof.certified.lookup,
            "followed": True,
            "failures": 0,
            "noticed_at": now if changed[position] else None,
            "due": now if changed[position] else proof.verified_at + limit * EARLY,
            "attempt": 0,
        }
        for position, (proof, limit) in enumerate(proofs)
    ]
    if rows:
        tx.execute(_WRITTEN, rows)


def of_case(tx: Connection, submission_id: str) -> list[Recognised]:
    """Return the certificates of a case."""
    return [_read(row) for row in _rows(tx, submission_id)]


def shown(tx: Connection, submission_id: str) -> list[CertifiedView]:
    """Return what may be seen of the certificates of a case."""
    return [
        CertifiedView(
            row["code"], row["type_code"], row["issuer"], row["standing"], row["verified_at"], row["good_until"],
            row["evidence_id"], row["standing"] != Standing.VALID,
        )
        for row in _rows(tx, submission_id)
    ]  # fmt: skip


def unconfirmed(tx: Connection, submission_id: str, at: datetime) -> list[str]:
    """Return the materials whose certificate nobody had confirmed at that time: too old, or changed before it."""
    found = _rows(tx, submission_id)
    return sorted({row["code"] for row in found if _is_open(row, at)})


def _is_open(row: Mapping[str, Any], at: datetime) -> bool:
    changed = row["changed_at"]
    if row["standing"] != Standing.VALID and changed is not None:
        return bool(changed <= at)
    noticed_at = row["noticed_at"]
    return bool(row["good_until"] < at) or (noticed_at is not None and bool(noticed_at <= at))


def noticed(tx: Connection, reference: str, issuer: str, now: datetime) -> None:
    """Have every open case that rests on this certificate of this issuer ask now; what is under way counts no more."""
    rests = update(case_certificates).where(_C.reference == reference, _C.issuer == issuer, CERTIFICATE_DUE)
    tx.execute(rests.values(due=now, noticed_at=now, owner=None, attempt=_C.attempt + 1))


# --- taking ----------------------------------------------------------------------------------------------------------


def issuers_due(tx: Connection, now: datetime) -> list[str]:
    """Return whom there is something to be asked."""
    return list(tx.execute(select(_C.issuer).where(_C.due <= now, CERTIFICATE_DUE).distinct()).scalars())


def claim(
    tx: Connection, *, issuer: str, owner: str, now: datetime, lease: timedelta, limit: int,
    stale: bool = False,
) -> list[Recognised]:  # fmt: skip
    """Take what is to be asked of an issuer, in one statement; what another replica is taking is left alone.

    `stale`: only that of which nobody was told that it is too old.
    """
    due = select(_C.submission_id, _C.position).where(_C.issuer == issuer, _C.due <= now, CERTIFICATE_DUE)
    if stale:
        due = due.where(_C.good_until <= now, _C.last_code.is_distinct_from(STALE))
    taken = due.order_by(_C.due).limit(limit).with_for_update(skip_locked=True).cte("taken")
    mine = tuple_(_C.submission_id, _C.position).in_(select(taken.c.submission_id, taken.c.position))
    values = {"due": now + lease, "owner": owner, "attempt": _C.attempt + 1}
    claimed = update(case_certificates).where(mine, _C.due <= now).values(values).returning(case_certificates)
    return [_read(dict(row)) for row in tx.execute(claimed).mappings()]


def settle(tx: Connection, one: Recognised, values: Mapping[str, Any]) -> bool:
    """Write what came of asking. Return False when a notice or another replica has come between."""
    mine = and_(
        _C.submission_id == one.submission_id,
        _C.position == one.position,
        _C.owner.is_not_distinct_from(one.owner),
        _C.attempt == one.attempt,
    )
    written = update(case_certificates).where(mine).values({**values, "owner": None, "attempt": _C.attempt + 1})
    return tx.execute(written).rowcount == 1


def overdue(tx: Connection, now: datetime) -> dict[str, int]:
    """Return how many certificates of open cases nobody has confirmed in time, by issuer."""
    query = select(_C.issuer, func.count()).where(CERTIFICATE_DUE, _C.good_until < now).group_by(_C.issuer)
    return {row[0]: row[1] for row in tx.execute(query)}


# --- reading ---------------------------------------------------------------------------------------------------------


def for_the_file(tx: Connection, sealer: Sealer, submission_id: str) -> list[dict[str, Any]]:
    """Return the certificates of a case as its file keeps them, identifiers in clear."""
    return [
        {
            "code": one.code, "type": one.kind, "issuer": one.issuer, "identifier": opened(sealer, one).identifier,
            "standing": str(one.standing), "verified_at": exact(one.verified_at), "evidence": one.evidence_id,
        }
        for one in of_case(tx, submission_id)
    ]  # fmt: skip


def _rows(tx: Connection, submission_id: str) -> list[Mapping[str, Any]]:
    query = select(case_certificates).where(_C.submission_id == submission_id).order_by(_C.position)
    return [{str(name): value for name, value in row.items()} for row in tx.execute(query).mappings()]


def opened(sealer: Sealer, one: Recognised) -> Said:
    """Return what a question about it says. Raises Unavailable when no key opens it."""
    return Said(**orjson.loads(sealer.open(one.sealed, _context(one.submission_id, one.position))))


def _read(row: Mapping[str, Any]) -> Recognised:
    return Recognised(
        submission_id=row["submission_id"],
        position=row["position"],
        code=row["code"],
        kind=row["type_code"],
        issuer=row["issuer"],
        capability=row["capability"],
        sealed=row["body"],
        standing=Standing(row["standing"]),
        verified_at=row["verified_at"],
        good_until=row["good_until"],
        evidence_id=row["evidence_id"],
        followed=row["followed"],
        failures=row["failures"],
        last_code=row["last_code"],
        noticed_at=row["noticed_at"],
        owner=row["owner"],
        attempt=row["attempt"],
    )


def _sealed(sealer: Sealer, submission_id: str, position: int, proof: Proof, grounds: Grounds) -> bytes:
    said = Said(proof.certified.identifier, proof.operator, grounds.purpose, grounds.legal_basis)
    return sealer.seal(orjson.dumps(said), _context(submission_id, position))


def _context(submission_id: str, position: int) -> str:
    return f"case_certificates.body:{submission_id}:{position}"
