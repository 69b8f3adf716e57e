"""Sessions that somebody holds something of, put into a store without going the whole way of a sign-on."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.identity import Assurance
from gateway.identity.persons import PersonVault
from gateway.identity.records import Session, digest, keep_session, new_session_id
from gateway.storage.tables import token_families

HOUR = timedelta(hours=1)


def a_session(
    tx: Connection, sealer: Sealer, references: References, now: datetime, *clients: str, region: str = "guangdong",
    handle: str = "", subject: str = "gd-1", life: timedelta = HOUR,
) -> Session:  # fmt: skip
    """Store a live session of which these clients hold a family each, and return it."""
    session_id = new_session_id()
    session = Session(
        id=session_id,
        handle_hash=digest(handle or secrets.token_urlsafe(32)),
        region=region,
        subject_ref=references.of(region, subject),
        assurance=Assurance.A2,
        method="YSS",
        person=PersonVault(sealer).seal(session_id, subject, {}),
        authenticated_at=now,
        expires_at=now + life,
        last_used_at=now,
    )
    keep_session(tx, session)
    for client in clients:
        family = {
            "id": secrets.token_hex(16), "client_id": client, "session_id": session_id, "scope": "openid", "claims": {},
            "acr": "urn:pearl:assurance:A2", "created_at": now, "expires_at": now + life,
        }  # fmt: skip
        tx.execute(insert(token_families).values(family))
    return session
