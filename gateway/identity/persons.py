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


def _organisation(person: Document) -> dict[str, Any]:
    """Return for whom the person signed on (法人), and as what."""
    organisation = person.get("organisation") or {}
    document = organisation.get("document") or {}
    said = {
        "name": organisation.get("name"),
        "document": {name: document[name] for name in ("type", "number") if document.get(name)} or None,
        "role": person.get("role"),
    }
    return {"organisation": {name: value for name, value in said.items() if value} or None}


LINKED = "linked_accounts"
"""The claim that names a person's accounts in other regions. It stands in no session: `links` are asked each time."""

CLAIMS: Mapping[str, Callable[[Document], dict[str, Any]]] = {
    "profile": _profile,
    "document": _document,
    "organisation": _organisation,
    "phone": lambda person: {"phone_number": person.get("mobile")},
    "email": lambda person: {"email": person.get("email")},
}
"""Scope → what it reads. `document` (证件) and `organisation` (法人) are ours."""

CLAIMS_BY_SCOPE: Mapping[str, tuple[str, ...]] = {
    "profile": ("name", "name_latin", "gender", "birthdate"),
    "document": ("document",),
    "organisation": ("organisation",),
    "phone": ("phone_number",),
    "email": ("email",),
    "linked": (LINKED,),
}
"""Scope → the claims that it asks for (OpenID Connect Core §5.4)."""

CLAIM_NAMES = tuple(name for names in CLAIMS_BY_SCOPE.values() for name in names)
IDENTITY_SCOPES = frozenset({"openid", *CLAIMS_BY_SCOPE})
"""Scopes that a person's sign-on can grant. All other scopes belong to the API and to client_credentials."""


def chosen_claims(person: Sensitive[Document], names: Collection[str]) -> dict[str, Any]:
    """Return these claims of a person; what the region did not say is left out."""
    if not names:
        return {}
    said: dict[str, Any] = {}
    for read in CLAIMS.values():
        said.update(read(person.reveal()))
    return {name: value for name, value in said.items() if name in names and value is not None}


def claims_of_scopes(scopes: Collection[str]) -> list[str]:
    """Return the names of the claims that these scopes ask for."""
    return [name for scope, names in CLAIMS_BY_SCOPE.items() if scope in scopes for name in names]


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
