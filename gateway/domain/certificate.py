"""Electronic certificates (电子证照): the answer to a lookup, per certificate.

Owns: the closed list of answers and how the states of issuers lead to it. Leaves to `gateway.certificates`: asking.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Standing(StrEnum):
    """What the gateway answers about one certificate. `UNVERIFIABLE` is never shown as `NOT_FOUND`."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    RESTRICTED = "restricted"
    NOT_FOUND = "not_found"
    UNVERIFIABLE = "unverifiable"
    MATCH = "match"  # of regions that answer only yes or no
    NO_MATCH = "no_match"


_OF_ISSUER: Mapping[str, Standing] = {
    "VALID": Standing.VALID,
    "RESTRICTED": Standing.RESTRICTED,
    "REVOKED": Standing.REVOKED,
    "EXPIRED": Standing.EXPIRED,
    "MOVED": Standing.SUPERSEDED,
}


def standing(state: str, *, replaced_by: str | None, valid_until: str | None, today: str) -> Standing:
    """Judge one certificate from its canonical `state`, its successor and its last valid day (`yyyy-MM-dd`).

    A state that the issuer itself cannot name ("OTHER") is restricted: a person must ask the issuer.
    """
    if replaced_by:
        return Standing.SUPERSEDED
    judged = _OF_ISSUER.get(state, Standing.RESTRICTED)
    if judged is Standing.VALID and valid_until is not None and valid_until < today:
        return Standing.EXPIRED
    return judged
