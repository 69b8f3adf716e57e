"""The consent page: what would go out to which service, across which border, in the person's language.

Owns: the words of the question, the digest by which the consent remembers them, and reading the answer. Leaves to
`gateway.identity` what is asked for and given, and to the template how it looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.calendar import local_day
from gateway.domain.languages import LANGUAGES
from gateway.domain.places import place_name
from gateway.identity.authorization import ConsentQuestion
from gateway.identity.consents import recipient_of
from gateway.identity.disclosure import Shown
from gateway.policy.claims import Ruling, statement
from gateway.policy.transfer import Kind

CLAIM = "claim."
"""What the name of a claim's field begins with."""


_KINDS = frozenset(kind.value for kind in Kind)


def consent_page(question: ConsentQuestion, language: str, *, changed: bool = False) -> dict[str, Any]:
    """Return what the template shows. `changed` says that it is shown anew because something in it has changed."""
    client, decision = question.client, question.outcome.decision
    return {
        "interaction": question.interaction_id,
        "client": client,
        "changed": changed,
        "region": question.region.names.of(language),
        "place": place_name(decision.target.code, language),
        "crosses": decision.crosses,
        "claims": [_row(ruling) for ruling in decision.offered],
        "withheld": [ruling.claim for ruling in decision.withheld],
        "field": CLAIM,
        "digest": shown_page(question, language).digest,
    }


def _row(ruling: Ruling) -> dict[str, Any]:
    until = local_day(ruling.until).isoformat() if ruling.until else ""
    return {"name": ruling.claim, "essential": ruling.essential, "ground": _ground(ruling.basis), "until": until}


def _ground(basis: str) -> tuple[str, str]:
    """Return the kind of a ground, for which the template has words, and the rest of it, which is said as it stands."""
    kind, _blank, reference = basis.partition(" ")
    if kind in _KINDS:
        return kind, reference
    return ("consent", "") if basis == "consent" else ("", basis)


def agreed_claims(form: Mapping[str, str], question: ConsentQuestion) -> frozenset[str]:
    """Return the claims that the person left ticked, and the essential ones: those stand or fall with the answer."""
    essential = {ruling.claim for ruling in question.outcome.decision.offered if ruling.essential}
    return frozenset(name.removeprefix(CLAIM) for name in form if name.startswith(CLAIM)) | essential


def shown_page(question: ConsentQuestion, language: str) -> Shown:
    """Return all that the page said, as the consent keeps it."""
    known = language if language in LANGUAGES else LANGUAGES[0]
    client = question.client
    texts = {"name": client.name, "organisation": client.organisation, "privacy": client.privacy_url or ""}
    places = {"region": question.region.names.of(known), "place": place_name(client.origin_code, known)}
    said = {**texts, **places}
    return Shown(known, statement(question.outcome.decision, recipient_of(client), known, said))
