"""What a session keeps of a person, sealed, and which of it a service may read.

Owns: the sealed form and the claims by scope (OpenID Connect Core §5.4). Leaves to mapping packs how a region's claims
became the canonical document.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import orjson

from gateway.crypto.at_rest import Sealer
from gateway.domain.sensitive import Sensitive

Document = Mapping[str, Any]
_GENDERS: Mapping[str, str] = {"M": "male", "F": "female"}


def _profile(person: Document) -> dict[str, Any]:
    return {
        "name": person.get("name"),
        "name_latin": person.get("name_latin"),
        "gender": _GENDERS.get(str(person.get("sex"))),
        "birthdate": person.get("birth_date"),
    }


def _document(person: Document) -> dict[str, Any]:
    document = person.get("document") or {}
    return {"document": {name: document[name] for name in ("type", "number") if document.get(name)} or None}


CLAIMS_BY_SCOPE: Mapping[str, Callable[[Document], dict[str, Any]]] = {
    "profile": _profile,
    "document": _document,
    "phone": lambda person: {"phone_number": person.get("mobile")},
    "email": lambda person: {"email": person.get("email")},
}
"""Scope → claims. `document` (证件) is ours: type and number of the identity document."""

CLAIM_NAMES = ("name", "name_latin", "gender", "birthdate", "document", "phone_number", "email")
IDENTITY_SCOPES = frozenset({"openid", *CLAIMS_BY_SCOPE})
"""Scopes that a person's sign-on can grant. All other scopes belong to the API and to client_credentials."""


def claims_of(person: Sensitive[Document], scopes: Collection[str]) -> dict[str, Any]:
    """Return the claims that these scopes open; what the region did not say is left out."""
    claims: dict[str, Any] = {}
    for scope, read in CLAIMS_BY_SCOPE.items():
        if scope in scopes:
            claims.update(read(person.reveal()))
    return {name: value for name, value in claims.items() if value is not None}


class PersonVault:
    """Seals what a session knows of its person, bound to that session."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal(self, session_id: str, subject: str, claims: Document) -> bytes:
        """Return the sealed person."""
        return self._sealer.seal(orjson.dumps({"subject": subject, "claims": claims}), _place(session_id))

    def open(self, session_id: str, sealed: bytes) -> tuple[str, Sensitive[Document]]:
        """Return the region's subject and the canonical claims. Raises Unavailable when the key is gone."""
        kept = orjson.loads(self._sealer.open(sealed, _place(session_id)))
        return kept["subject"], Sensitive(kept["claims"])


def _place(session_id: str) -> str:
    return f"sign_on_sessions.person:{session_id}"
