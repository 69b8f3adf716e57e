"""Materials that an electronic certificate stands for (免证办): accepted only when a question of the filer's proved it.

Owns: reading the evidence of that question, which says who asked, about whom, for what, and what the issuer answered;
its salted digests prove holder and identifier, though neither is kept. A lookup, a reading and a verification prove
alike. Leaves to `gateway.certificates`: asking. To `recognised`: what is kept of it, and that it is asked about again.
To `rules_kept`: what is final from then on. Part of the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, select

from gateway.certificates.types import RECHECKED, CertificateType
from gateway.domain.caller import Caller
from gateway.domain.certificate import Standing
from gateway.domain.certificate_identifier import CertificateIdentifier
from gateway.domain.item import Item, MaterialRule
from gateway.errors import FieldProblem
from gateway.evidence.record import HOLDER_PART, IDENTIFIER_PART, digest_of
from gateway.policy.grants import Capability
from gateway.storage.tables import evidence
from gateway.submissions.application import Application, CertifiedMaterial

_CAPABILITIES: Mapping[str, Capability] = {
    str(capability).replace("certificates.", "certificate."): capability
    for capability in (
        Capability.LOOK_UP_CERTIFICATES, Capability.READ_CERTIFICATES, Capability.VERIFY_CERTIFICATES,
    )
}  # fmt: skip
"""The questions that prove something, by the action of their evidence, and by which capability they were asked."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What proves that a certificate stands for a material: who issued it, and when that one said that it is valid.

    `operator` is who asked; `capability` that of the grant by which it was asked; `asked_at` when: a change of which
    the issuer has told since then is not in the answer.
    """

    certified: CertifiedMaterial
    kind: str
    issuer: str
    capability: Capability
    operator: str
    asked_at: datetime
    verified_at: datetime


class Unproved(Exception):
    """Says why a question proves nothing here, in words for whoever filed."""


def rechecked_after(types: Mapping[str, CertificateType], kind: str) -> timedelta:
    """Return how old the proof of a certificate of this type may be."""
    return types[kind].rechecked if kind in types else timedelta(seconds=RECHECKED)


def proofs_of(
    tx: Connection,
    caller: Caller,
    application: Application,
    item: Item,
    types: Mapping[str, CertificateType],
    now: datetime,
) -> tuple[list[Proof], list[FieldProblem]]:
    """Return what proves the materials that a certificate stands for, and what is wrong with the others."""
    rules = {rule.code: rule for rule in item.materials}
    proofs: list[Proof] = []
    problems: list[FieldProblem] = []
    for position, certified in enumerate(application.certificates):
        field, kind = f"certificates.{position}", _kind_for(rules.get(certified.code))
        if kind is None:
            reason = "is no material that a certificate can stand for"
            problems.append(FieldProblem(f"{field}.code", reason, "not_certifiable"))
            continue
        try:
            row = _question(tx, caller, certified.lookup)
            proofs.append(_proof(row, application, certified, kind, now - rechecked_after(types, kind)))
        except Unproved as why:
            problems.append(FieldProblem(f"{field}.lookup", str(why), "not_proved"))
    return proofs, problems


def _kind_for(rule: MaterialRule | None) -> str | None:
    return rule.certificate_type if rule is not None and "ecert" in rule.kinds else None


def _question(tx: Connection, caller: Caller, evidence_id: str) -> Mapping[str, Any]:
    """Return the evidence of a question of this caller's. A question of somebody else is none."""
    found = tx.execute(select(evidence).where(evidence.c.id == evidence_id)).mappings().one_or_none()
    if found is None or found["action"] not in _CAPABILITIES or not _is_mine(found["who"], caller):
        raise Unproved("is no lookup of yours, nor a reading or a verification; POST /v1/certificates/lookup first")
    return dict(found)


def _proof(
    row: Mapping[str, Any], application: Application, certified: CertifiedMaterial, kind: str, oldest: datetime
) -> Proof:
    """Return what a question proves. Raises Unproved."""
    for lacks in (_about, _standing, _claims):
        if why := next(lacks(row, application, certified, kind), None):
            raise Unproved(why)
    verified_at = row["answered_at"] or row["received_at"]
    if verified_at < oldest:
        raise Unproved("is older than a certificate of this type allows (a day, mostly); ask for the certificate again")
    position = _found(row, application, certified)
    issuers = row["what"].get("found") or row["what"]["region"].split(",")
    return Proof(
        certified, kind, issuers[position] if position < len(issuers) else issuers[0], _CAPABILITIES[row["action"]],
        row["who"].get("operator", ""), min(row["received_at"], row["forwarded_at"] or row["received_at"]), verified_at,
    )  # fmt: skip


def _about(row: Mapping[str, Any], application: Application, certified: CertifiedMaterial, kind: str) -> Iterator[str]:
    what, wanted = row["what"], {"item": application.item, "case": application.reference}
    types = str(what.get("type", "")).split(",")
    if any(what.get(name) != value for name, value in wanted.items()) or not _is_of(kind, types, certified):
        yield "was for another item, case (the reference of this application) or type of certificate"
    if row["purpose"].partition(": ")[0] != application.purpose_code:
        yield "was for another purpose"


def _is_of(kind: str, types: Sequence[str], certified: CertifiedMaterial) -> bool:
    """Say whether a question was about this type; of one about several the identifier tells which it found."""
    if kind not in types or len(types) == 1:
        return kind in types
    try:
        return CertificateIdentifier.parse(certified.identifier).type_code == kind
    except ValueError:
        return False


def _standing(row: Mapping[str, Any], *_others: Any) -> Iterator[str]:
    if Standing.VALID not in row["reason"].split(","):
        yield f"did not find the certificate valid, but {row['reason']}"


def _claims(row: Mapping[str, Any], *_others: Any) -> Iterator[str]:
    wrong = sorted(name for name, match in (row["what"].get("claims") or {}).items() if match != "match")
    if wrong:
        yield f"found that the certificate says something else than was claimed of: {', '.join(wrong)}"
    if "remembered" in row["what"]:
        yield "repeats a standing that was remembered; name the holder, and the issuer is asked"


def _found(row: Mapping[str, Any], application: Application, certified: CertifiedMaterial) -> int:
    """Return which of the certificates that were found is this one, and this applicant's. Raises Unproved."""
    parts = row["parts"]
    holder = {"name": application.applicant.name, "document": application.applicant.document.model_dump(mode="json")}
    said = orjson.dumps(holder)
    if "holder" in parts and not _proves(parts["holder"], said):
        raise Unproved("was about another holder")
    numbers = (name.removeprefix(IDENTIFIER_PART) for name in parts if name.startswith(IDENTIFIER_PART))
    identifier = certified.identifier.encode()
    number = next((one for one in numbers if _proves(parts[f"{IDENTIFIER_PART}{one}"], identifier)), None)
    if number is None:
        raise Unproved("found another certificate")
    if "holder" not in parts and not _proves(parts.get(f"{HOLDER_PART}{number}"), said):
        raise Unproved("found a certificate of another holder")
    return int(number)


def _is_mine(who: Mapping[str, str], caller: Caller) -> bool:
    return (who.get("client"), who.get("window")) == (caller.client_id, caller.window_id)


def _proves(kept: Mapping[str, Any] | None, part: bytes) -> bool:
    """Say whether a salted digest is that of this part."""
    return kept is not None and digest_of(part, bytes.fromhex(kept["salt"]))["sha256"] == kept["sha256"]
