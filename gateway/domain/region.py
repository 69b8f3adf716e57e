"""Regions and the borders between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Zone(StrEnum):
    """A legal territory for personal data: crossing from one to another is a transfer abroad (PIPL art. 38-39)."""

    MAINLAND = "mainland"
    HONGKONG = "hongkong"
    MACAU = "macau"


GBA_CITIES = frozenset({"440100", "440300", "440400", "440600", "440700", "441200", "441300", "441900", "442000"})
"""The nine mainland cities of the Greater Bay Area (粤港澳大湾区). Qingyuan is not one of them."""


@dataclass(frozen=True, slots=True)
class Place:
    """One side of a transfer: a GB/T 2260 code and the zone that it lies in."""

    code: str
    zone: Zone

    @property
    def in_gba(self) -> bool:
        """Say whether the GBA standard contracts can cover this mainland place (the city counts, not the province)."""
        return self.code[:4] + "00" in GBA_CITIES


def place_of(code: str) -> Place:
    """Return the place for a code of 6 to 12 digits; 81 is Hong Kong, 82 Macau, the rest the mainland."""
    zones = {"81": Zone.HONGKONG, "82": Zone.MACAU}
    return Place(code[:6], zones.get(code[:2], Zone.MAINLAND))


@dataclass(frozen=True, slots=True)
class RegionNames:
    """A region's name in the four languages that its pages are shown in."""

    zh_hans: str
    zh_hant: str
    en: str
    pt: str

    def of(self, language: str) -> str:
        """Return the name for a language tag; Simplified Chinese where the language is not one of the four."""
        by_language: Mapping[str, str] = {"en": self.en, "pt": self.pt, "zh-HK": self.zh_hant, "zh-Hant": self.zh_hant}
        return by_language.get(language, self.zh_hans)
