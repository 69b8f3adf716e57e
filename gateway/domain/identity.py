"""Persons as the gateway knows them for the length of a sign-on, and how sure it is of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from gateway.domain.sensitive import Sensitive


class Assurance(IntEnum):
    """The internal ladder (认证等级) into which every region's levels are translated.

    A0 unverified; A1 name and number matched; A2 online real-person check or trusted app; A3 in person, digital
    certificate, or biometric with chip. The level describes the method of the current session.
    """

    A0 = 0
    A1 = 1
    A2 = 2
    A3 = 3

    @property
    def acr(self) -> str:
        """Return the value for the `acr` claim (OpenID Connect Core §2)."""
        return f"urn:pearl:assurance:{self.name}"


@dataclass(frozen=True, slots=True)
class SignedOnPerson:
    """A person who signed on at a region: who says so, how sure, when. Identity is (region, subject) and only that."""

    region: str
    subject: str
    assurance: Assurance
    method: str
    authenticated_at: datetime
    claims: Sensitive[Mapping[str, object]]
    """Canonical `person` document (mappings/vocabulary.toml)."""
