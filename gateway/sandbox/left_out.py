"""What a simulated authority makes of materials that are not in a case: promised to follow, or certified.

Owns: holding what follows later (容缺) and what an electronic certificate stands for (免证办) against the item and the
authority's own register, what it asks for from then on, and what is kept of both. Leaves to each authority: its own
words, and what it does with a case of which something is wrong. Like `gateway.sandbox.courses` it shares nothing with
an adapter. What is kept are codes and digests: a promise and an identifier may tell of people.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

BOOK = "left_out"
"""The book of the notebook, by our number of the case."""

LONGEST_PROMISE, LONGEST_IDENTIFIER = 500, 128
"""Characters; that of an identifier (ZZBS) is GB/T 36903's."""

_ROOT = "1.2.156.3005.2."
_SIGNS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: in which list (`deferred` or `certified`), at which place (from 0), and why."""

    group: str
    place: int
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a case does without: pairs of a material's code and the promise, or the identifier of the certificate."""

    deferred: Pairs = ()
    certified: Pairs = ()

    def faults(
        self, item: Mapping[str, Any], given: Sequence[str], register: Sequence[Mapping[str, Any]], today: date
    ) -> Iterator[Fault]:
        """Yield what is wrong. `item` is a seeded one, `given` what is in the case, `register` what was issued here."""
        rules = {material["code"]: material for material in item["material"]}
        codes = [*given, *(code for code, _ in (*self.deferred, *self.certified))]
        for group, pairs in (("deferred", self.deferred), ("certified", self.certified)):
            for place, (code, said) in enumerate(pairs):
                rule = rules.get(code, {})
                why = _not_deferrable(rule, said) if group == "deferred" else _not_proved(rule, said, register, today)
                why = "the material is named twice" if codes.count(code) > 1 else why
                if why:
                    yield Fault(group, place, why)

    def written(self) -> dict[str, Any]:
        """Return what is kept: codes, with digests (SHA-256) of what was said."""
        return {"deferred": _digests(self.deferred), "certified": _digests(self.certified)}

    def asked_for(self, given: Sequence[str]) -> list[str]:
        """Return what a notice asks for: the first material of the case, never one that a certificate stands for."""
        final = {code for code, _ in self.certified}
        return [code for code in (*given, "ID") if code not in final][:1]

    def to_follow(self, given: Sequence[str]) -> list[str]:
        """Return what a tolerant acceptance (容缺受理) waits for: what was promised, or what a notice would ask for."""
        return [code for code, _ in self.deferred] or self.asked_for(given)


def _digests(pairs: Pairs) -> dict[str, str]:
    return {code: hashlib.sha256(said.encode()).hexdigest() for code, said in pairs}


def _not_deferrable(rule: Mapping[str, Any], promise: str) -> str | None:
    if not rule.get("deferrable"):
        return "the material may not follow later"
    return None if promise.strip() and len(promise) <= LONGEST_PROMISE else "a promise is wanted"


def _not_proved(
    rule: Mapping[str, Any], identifier: str, register: Sequence[Mapping[str, Any]], today: date
) -> str | None:
    if "ecert" not in rule.get("kinds", ()):
        return "no certificate can stand for the material"
    if not (identifier.strip() and len(identifier) <= LONGEST_IDENTIFIER and _is_whole(identifier)):
        return "not the identifier of a certificate, or a wrong check character"
    if not all(_is_valid(row, today) for row in register if row["identifier"] == identifier):
        return "the certificate is not valid"
    return None


def _is_valid(row: Mapping[str, Any], today: date) -> bool:
    return str(row["state"]).lower() == "valid" and str(row.get("valid_to") or "9999") >= today.isoformat()


def _is_whole(identifier: str) -> bool:
    """Check form and check character of a ZZBS (GB/T 36904; ISO/IEC 7064 MOD 37,36); other systems have other forms."""
    if not identifier.startswith(_ROOT):
        return True
    parts = identifier.removeprefix(_ROOT).split(".")
    if len(parts) != 5 or not all(part and set(part) <= set(_SIGNS) for part in parts):
        return False
    product = 36
    for sign in "".join(parts[:4]):
        product = (product + _SIGNS.index(sign)) % 36 or 36
        product = product * 2 % 37
    return _SIGNS[(37 - product) % 36] == parts[4]
