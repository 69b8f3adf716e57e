"""What sign-on needs of a region, and nothing else of it.

Owns: a narrow view of an enabled region, so that this package does not depend on how regions are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gateway.domain.identity import Assurance
from gateway.domain.region import Place, RegionNames
from gateway.ports import Adapter, RegionDocument

PERSON = "person"
"""The mapping pack of a region's claims."""


ORGANISATION = "organisation"
"""The mapping pack of the organisation (法人) that a person signed on for."""


class PersonPack(Protocol):
    """A mapping pack, towards us."""

    @property
    def version(self) -> str:
        """The hash of everything that it is made of."""
        ...

    def to_canonical(self, document: RegionDocument, /) -> dict[str, Any]:
        """Return the canonical document. Raises MappingFailed."""
        ...


class SignOnRegion(Protocol):
    """An enabled region as sign-on sees it."""

    @property
    def id(self) -> str:
        """The region's id."""
        ...

    @property
    def names(self) -> RegionNames:
        """Its names for the chooser."""
        ...

    @property
    def place(self) -> Place:
        """Where it lies, and under whose law."""
        ...

    @property
    def adapter(self) -> Adapter:
        """What it offers."""
        ...

    @property
    def packs(self) -> Mapping[str, PersonPack]:
        """Its mapping packs by message."""
        ...

    @property
    def assurance(self) -> Mapping[str, Assurance]:
        """Its own words for levels → our ladder. A word that is not listed is A0."""
        ...


def words_for(region: SignOnRegion, least: Assurance) -> Sequence[str]:
    """Return the region's own words for levels that reach `least`, from the least to the best; none for A0."""
    reaching = [(rung, word) for word, rung in region.assurance.items() if rung >= least]
    return [word for _rung, word in sorted(reaching)] if least > Assurance.A0 else []


def reaches(region: SignOnRegion, least: Assurance | None) -> bool:
    """Say whether a sign-on of a region can reach a level; None is out of reach."""
    return least is not None and highest_assurance(region) >= least


def highest_assurance(region: SignOnRegion) -> Assurance:
    """Return the best level that a sign-on at this region can reach."""
    return max(region.assurance.values(), default=Assurance.A0)
