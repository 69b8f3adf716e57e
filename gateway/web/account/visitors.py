"""Who is looking at the account pages: the person behind the session, and the forms that they send.

Owns: opening what the session knows of its person, the CSRF token of each form, and reading small forms. Leaves to
`pages`: what is shown.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from gateway.crypto.at_rest import References
from gateway.domain.mandate import Party
from gateway.domain.sensitive import Sensitive, mask_name, mask_number
from gateway.errors import BodyTooLarge, InvalidRequest, NotPermitted
from gateway.identity.persons import PersonVault
from gateway.identity.records import Session

MOST_FIELDS = 200
LONGEST_FORM = 64 * 1024


@dataclass(frozen=True, slots=True)
class Visitor:
    """A signed-on person, for the length of one request. `csrf` stands in every form that this session is shown."""

    session: Session
    subject: str
    claims: Sensitive[Mapping[str, Any]]
    csrf: str

    @property
    def organisation(self) -> bool:
        """Say whether this is an organisation's account (法人账号): the pages here are for persons."""
        claims = self.claims.reveal()
        return claims.get("kind") == "organisation" or bool(claims.get("organisation"))

    @property
    def party(self) -> Party | None:
        """Return the person as mandates name one; None where the region tells no document."""
        claims = self.claims.reveal()
        document = claims.get("document") or {}
        if self.organisation or not document.get("type") or not document.get("number") or not claims.get("name"):
            return None
        return Party(str(document["type"]), str(document["number"]), str(claims["name"]))

    @property
    def born(self) -> date | None:
        """Return the day of birth where the region tells it."""
        told = self.claims.reveal().get("birth_date")
        return date.fromisoformat(told) if told else None

    @property
    def masked(self) -> dict[str, str]:
        """Return the person as these pages show them (domain rule P9): a page over a shoulder tells little."""
        claims = self.claims.reveal()
        document = claims.get("document") or {}
        return {
            "name": mask_name(str(claims.get("name") or "")),
            "document_type": str(document.get("type") or ""),
            "document_number": mask_number(str(document.get("number") or "")),
        }


def visitor_of(session: Session, handle: str, vault: PersonVault, references: References) -> Visitor:
    """Open a session. The CSRF token is made of the browser's own handle, which no other site knows."""
    subject, claims = vault.open(session.id, session.person)
    return Visitor(session, subject, claims, references.of("account.csrf", handle))


@dataclass(frozen=True, slots=True)
class Form:
    """A small form: texts by name, and the values of names that may stand more than once."""

    pairs: list[tuple[str, str]] = field(default_factory=list)

    def text(self, name: str) -> str:
        """Return a text without the blanks around it, "" when there is none."""
        return next((value.strip() for key, value in self.pairs if key == name), "")

    def every(self, name: str) -> list[str]:
        """Return every value of a name."""
        return [value for key, value in self.pairs if key == name]

    @property
    def texts(self) -> dict[str, str]:
        """Return the texts, to show them again."""
        return {name: self.text(name) for name, _ in self.pairs}


async def read_form(request: web.Request, visitor: Visitor) -> Form:
    """Read a form of this session's. Raises NotPermitted (`account.csrf`), InvalidRequest or BodyTooLarge."""
    if (request.content_length or 0) > LONGEST_FORM:
        raise BodyTooLarge("This form is larger than any of ours.")
    body = await request.content.read(LONGEST_FORM + 1)
    while len(body) <= LONGEST_FORM and (more := await request.content.read(LONGEST_FORM + 1 - len(body))):
        body += more
    if len(body) > LONGEST_FORM:
        raise BodyTooLarge("This form is larger than any of ours.")
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise InvalidRequest("The form could not be read.", code="account.malformed_form") from None
    form = Form(pairs)
    if not hmac.compare_digest(visitor.csrf.encode(), form.text("csrf").encode()):
        text = "This form does not come from a page of this session; open it anew."
        raise NotPermitted(text, code="account.csrf")
    return form
