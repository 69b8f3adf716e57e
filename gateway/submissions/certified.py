"""Materials that an electronic certificate stands for (免证办): accepted only when a lookup of ours has proved it.

Owns: reading the evidence of that lookup, which says who asked, about whom, for what, and what the issuer answered; its
salted digests prove holder and identifier, though neither is kept. Leaves to `gateway.certificates`: looking up. To
`rules_kept`: what is final from then on. Part of the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, select

from gateway.domain.caller import Caller
from gateway.domain.certificate import Standing
from gateway.domain.item import Item
from gateway.errors import FieldProblem
from gateway.evidence.record import IDENTIFIER_PART, digest_of
from gateway.storage.tables import evidence
from gateway.submissions.application import Application, CertifiedMaterial

FRESH = timedelta(days=1)
"""How old a lookup may be: a certificate can be revoked on any day."""


def certified_problems(
    tx: Connection, caller: Caller, application: Application, item: Item, now: datetime
) -> Iterator[FieldProblem]:
    """Yield what is wrong with the materials that a certificate stands for."""
    rules = {rule.code: rule for rule in item.materials}
    for position, certified in enumerate(application.certificates):
        field, rule = f"certificates.{position}", rules.get(certified.code)
        if rule is None or rule.certificate_type is None or "ecert" not in rule.kinds:
            yield FieldProblem(f"{field}.code", "is no material that a certificate can stand for", "not_certifiable")
        elif why := _unproved(tx, caller, application, certified, rule.certificate_type, now):
            yield FieldProblem(f"{field}.lookup", why, "not_proved")


def _unproved(
    tx: Connection, caller: Caller, application: Application, certified: CertifiedMaterial, kind: str, now: datetime
) -> str | None:
    """Say why a lookup proves nothing here; None when it does. A lookup of somebody else is no lookup."""
    found = tx.execute(select(evidence).where(evidence.c.id == certified.lookup)).mappings().one_or_none()
    row: Mapping[str, Any] = {} if found is None else dict(found)
    if not row or row["action"] != "certificate.lookup" or not _is_mine(row["who"], caller):
        return "is no lookup of yours; POST /v1/certificates/lookup first"
    wanted = {"item": application.item, "case": application.reference, "type": kind}
    if any(row["what"].get(name) != value for name, value in wanted.items()):
        return "was for another item, case (the reference of this application) or type of certificate"
    if row["purpose"].partition(": ")[0] != application.purpose_code:
        return "was for another purpose"
    if Standing.VALID not in row["reason"].split(","):
        return f"did not find the certificate valid, but {row['reason']}"
    if now - row["received_at"] > FRESH:
        return "is more than a day old; look the certificate up again"
    holder = {"name": application.applicant.name, "document": application.applicant.document.model_dump(mode="json")}
    if not _proves(row["parts"].get("holder"), orjson.dumps(holder)):
        return "was about another holder"
    named = [part for name, part in row["parts"].items() if name.startswith(IDENTIFIER_PART)]
    if not any(_proves(part, certified.identifier.encode()) for part in named):
        return "found another certificate"
    return None


def _is_mine(who: Mapping[str, str], caller: Caller) -> bool:
    return (who.get("client"), who.get("window")) == (caller.client_id, caller.window_id)


def _proves(kept: Mapping[str, Any] | None, part: bytes) -> bool:
    """Say whether a salted digest is that of this part."""
    return kept is not None and digest_of(part, bytes.fromhex(kept["salt"]))["sha256"] == kept["sha256"]
