"""The consent page: what would go out to which service, across which border, in the person's language.

Owns: the words of the question, the digest by which the consent remembers them, and reading the answer. Leaves to
`gateway.identity` what is asked for and given, and to the template how it looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.calendar import local_day
from gateway.identity.authorization import ConsentQuestion
from gateway.identity.consents import recipient_of
from gateway.identity.disclosure import Shown
from gateway.policy.claims import Ruling, in_language, statement

CLAIM = "claim."
"""What the name of a claim's field begins with."""


def consent_page(question: ConsentQuestion, language: str) -> dict[str, Any]:
    """Return what the template shows."""
    client, decision = question.client, question.outcome.decision
    return {
        "interaction": question.interaction_id,
        "client": client,
        "purpose": in_language(client.purpose, language),
        "region": question.region.names.of(language),
        "crosses": decision.crosses,
        "claims": [_row(ruling) for ruling in decision.offered],
        "withheld": [ruling.claim for ruling in decision.withheld],
        "field": CLAIM,
        "digest": shown_page(question, language).digest,
    }


def _row(ruling: Ruling) -> dict[str, Any]:
    until = local_day(ruling.until).isoformat() if ruling.until else ""
    return {"name": ruling.claim, "essential": ruling.essential, "basis": ruling.basis, "until": until}


def agreed_claims(form: Mapping[str, str], question: ConsentQuestion) -> frozenset[str]:
    """Return the claims that the person left ticked, and the essential ones: those stand or fall with the answer."""
    essential = {ruling.claim for ruling in question.outcome.decision.offered if ruling.essential}
    return frozenset(name.removeprefix(CLAIM) for name in form if name.startswith(CLAIM)) | essential


def shown_page(question: ConsentQuestion, language: str) -> Shown:
    """Return all that the page said, as the consent keeps it."""
    known = language if language in LANGUAGES else LANGUAGES[0]
    client = question.client
    texts = {"name": client.name, "organisation": client.organisation, "privacy": client.privacy_url or ""}
    said = {**texts, "region": question.region.names.of(known)}
    return Shown(known, statement(question.outcome.decision, recipient_of(client), known, said))
