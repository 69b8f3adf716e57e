"""CorpID (數碼企業身份) at the simulated authority of Hong Kong: for which company a person acts, and as what.

Owns: the exchange of a ticket, and the profile of a company in its three groups. Leaves to `sandbox_sign_on` the page
and the person, to `sandbox_wire` signatures and encryption.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.hongkong.sandbox_messages import CorpProfileRequest, CorpTokenRequest, read
from adapters.hongkong.sandbox_sign_on import FIELDS, Grant, SignOn, Vouchers
from adapters.hongkong.sandbox_wire import BAD_CODE, REFUSED, Clock, Refusal

TOKEN_LIFETIME = 600  # s


class Corporate:
    """The two requests of CorpID."""

    def __init__(self, sign_on: SignOn, clock: Clock) -> None:
        self._sign_on = sign_on
        self._tokens: Vouchers[Grant] = Vouchers(lambda: secrets.token_urlsafe(32), TOKEN_LIFETIME, clock)

    def token(self, plain: bytes) -> dict[str, Any]:
        """Answer `corp/getToken`. Raises Refusal: D40004 for a ticket unknown, used, expired or another person's."""
        asked = read(CorpTokenRequest, plain)
        grant, person = self._sign_on.tickets.redeem(asked.ticket), self._sign_on.tokens.read(asked.access_token)
        if grant is None or person is None or not grant.person["open_id"] == person.person["open_id"] == asked.open_id:
            raise Refusal(BAD_CODE)
        return {
            "corpAccessToken": self._tokens.issue(grant),
            "corpID": grant.person["company"]["corp_id"],
            "openID": grant.person["open_id"],
            "expiresIn": TOKEN_LIFETIME * 1000,
        }

    def profile(self, plain: bytes) -> dict[str, Any]:
        """Answer `corp/profiles` with the fields asked for, by group."""
        asked = read(CorpProfileRequest, plain)
        grant = self._tokens.read(asked.access_token)
        if grant is None or grant.person["open_id"] != asked.open_id:
            raise Refusal(REFUSED, [{"field": "accessToken", "reason": "is unknown, expired or another person's"}])
        if grant.person["company"]["corp_id"] != asked.corp_id:
            raise Refusal(REFUSED, [{"field": "corpID", "reason": "does not belong to the access token"}])
        groups = _groups(grant.person)
        wanted: Mapping[str, Sequence[str]] = {
            "corpProfileFields": asked.corp_profile_fields,
            "corpUserProfileFields": asked.corp_user_profile_fields,
            "eCorpFields": asked.e_corp_fields,
        }
        return {
            group: {name: groups[group][name] for name in names if name in groups[group]}
            for group, names in wanted.items()
        }


def _groups(person: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    company: Mapping[str, Any] = person["company"]
    return {
        "corpProfileFields": {
            "corpID": company["corp_id"],
            "brn": company["brn"],
            "corpNameEN": company["name_en"],
            "corpNameTC": company["name_tc"],
            "corpAddr": company["address"],
        },
        "corpUserProfileFields": {
            "openID": person["open_id"],
            "corpRole": company["role"],
            **FIELDS["enName"](person),
            **FIELDS["chName"](person),
        },
        "eCorpFields": {
            "corpTypeEN": company["type"],
            "corpStatusEN": company["status"],
            "dateOfReg": company["registered"],
        },
    }
