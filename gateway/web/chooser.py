"""The chooser of regions: what it shows of each region, in which order, and which ones a search leaves.

Owns: names, marks and addresses of the list, and how a search compares. Leaves to `gateway.identity` which regions may
serve a service and how they are, to `sign_on` the HTTP, to the template the words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from gateway.domain.region import Zone
from gateway.identity.clients import Client
from gateway.identity.discovery import ENDPOINTS
from gateway.identity.health import State
from gateway.identity.upstream import SignOnRegion

LONGEST_SEARCH = 60
SEARCH_FROM = 6
"""As many regions are easily overlooked: from here on there is a search."""
_PINYIN = {Zone.HONGKONG: "xianggang", Zone.MACAU: "aomen"}
"""Pinyin of regions whose English name is not Pinyin."""
_CODE = 2
"""Digits of a GB/T 2260 code that name a province: fewer name nothing."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One region of the list. `own_name` is its Chinese name where the page is not Chinese, `own_tag` its language."""

    id: str
    name: str
    own_name: str
    own_tag: str
    code: str
    url: str
    last: bool
    health: State
    keys: frozenset[str]

    @property
    def open(self) -> bool:
        """Say whether there is a way through it: what is closed is no link."""
        return self.health != "closed"

    def matches(self, wanted: str) -> bool:
        """Say whether a search means this region: a part of a name, or a GB/T 2260 code of it or of a place in it."""
        if wanted.isdigit():
            within = self.code.rstrip("0")
            return len(wanted) >= _CODE and (self.code.startswith(wanted) or wanted.startswith(within))
        return any(wanted in key for key in self.keys)


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong at a region. `again` is None where trying again leads nowhere."""

    name: str
    why: str
    again: Choice | None
    reference: str


def choices(
    regions: Sequence[SignOnRegion], health: Mapping[str, State], interaction_id: str, last: str | None, language: str
) -> list[Choice]:
    """Return the regions as the list shows them: the one chosen last time first, else in the operator's order."""
    ordered = sorted(regions, key=lambda region: region.id != last)
    return [_choice(region, health[region.id], interaction_id, last, language) for region in ordered]


def _choice(region: SignOnRegion, health: State, interaction_id: str, last: str | None, language: str) -> Choice:
    names, mainland = region.names, region.place.zone is Zone.MAINLAND
    own_name, own_tag = (names.zh_hans, "zh-Hans") if mainland else (names.zh_hant, "zh-Hant")
    spellings = (names.zh_hans, names.zh_hant, names.en, names.pt, region.id, _PINYIN.get(region.place.zone, ""))
    return Choice(
        id=region.id,
        name=names.of(language),
        own_name="" if language.startswith("zh") else own_name,
        own_tag=own_tag,
        code=region.place.code,
        url=f"/sign-in/{region.id}?{urlencode({'interaction': interaction_id})}",
        last=region.id == last,
        health=health,
        keys=frozenset(folded(spelling) for spelling in spellings if spelling),
    )


def chooser(shown: Sequence[Choice], client: Client | None, interaction_id: str, search: str) -> dict[str, Any]:
    """Return what the template shows."""
    wanted = folded(search[:LONGEST_SEARCH])
    found = [choice for choice in shown if choice.matches(wanted)] if wanted else shown
    return {
        "choices": found,
        "all": len(shown),
        "search": search[:LONGEST_SEARCH].strip() if wanted else "",
        "searchable": len(shown) >= SEARCH_FROM,
        "client": client,
        "interaction": interaction_id,
        "everything": f"?{urlencode({'interaction': interaction_id})}",
        "cancel": f"{ENDPOINTS['authorization_endpoint']}/cancel?{urlencode({'interaction': interaction_id})}",
    }


def folded(text: str) -> str:
    """Return a text as a search compares it: without case, accents, width, blanks and hyphens."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(sign for sign in plain if sign.isalnum() and not unicodedata.combining(sign))
