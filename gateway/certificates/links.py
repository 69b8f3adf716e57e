"""Addresses that serve a certificate's file once (一次性下载地址): what a link stands for, until it is spent.

Owns: the token (256 bits, of which only the hash is kept), and that one statement spends it, on whichever replica. What
is kept is the question, sealed, never a file: the issuer is asked when the link is used. A link serves the client that
asked for it and nobody else, for a few minutes. Leaves to `handing`: who may ask.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, delete

from gateway.crypto.at_rest import Sealer
from gateway.errors import NotFound
from gateway.storage.tables import certificate_links

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_C = certificate_links.c


def new_token() -> str:
    """Return a token: 256 random bits."""
    return secrets.token_urlsafe(32)


def put(
    tx: Connection, sealer: Sealer, token: str, client_id: str, question: Mapping[str, Any], expires_at: datetime
) -> None:
    """Write what a link stands for."""
    name = _hash(token)
    sealed = sealer.seal(orjson.dumps(dict(question)), _context(name))
    row = {"token_hash": name, "client_id": client_id, "body": sealed, "expires_at": expires_at}
    tx.execute(certificate_links.insert().values(row))


def spend(tx: Connection, sealer: Sealer, token: str, client_id: str, now: datetime) -> dict[str, Any]:
    """Return what a link stands for; it is gone with that. Raises NotFound for one that is spent, over or another's."""
    name = _hash(token) if _TOKEN.fullmatch(token) else ""
    mine = delete(certificate_links).where(_C.token_hash == name, _C.client_id == client_id, _C.expires_at > now)
    sealed = tx.execute(mine.returning(_C.body)).scalar_one_or_none()
    if sealed is None:
        raise NotFound("This link is spent, over, or not yours; ask for another.", code="certificate.link_over")
    question: dict[str, Any] = orjson.loads(sealer.open(sealed, _context(name)))
    return question


def forget(tx: Connection, now: datetime) -> None:
    """Delete the links that are over."""
    tx.execute(delete(certificate_links).where(_C.expires_at <= now))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _context(token_hash: str) -> str:
    return f"certificate_links.body:{token_hash}"
