"""The simulated authority of Hong Kong (香港特別行政區): iAM Smart profile, cases, and certificates by match.

Owns: `build_authority`, and the matching of certificates. Leaves to `sandbox_wire` the envelope, to
`sandbox_messages` the shape of requests, to `sandbox_sign_on` and `sandbox_cases` the rest of the work. An independent
reading of README.md: it shares no code with `adapter.py`.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from aiohttp import web

from adapters.hongkong.sandbox_cases import Callbacks, Cases
from adapters.hongkong.sandbox_corporate import Corporate
from adapters.hongkong.sandbox_later import Later
from adapters.hongkong.sandbox_messages import MatchRequest, read
from adapters.hongkong.sandbox_results import ResultRoom
from adapters.hongkong.sandbox_sign_on import HOSTILE as SIGN_ON_ATTACKS
from adapters.hongkong.sandbox_sign_on import SignOn
from adapters.hongkong.sandbox_wire import HOSTILE as WIRE_ATTACKS
from adapters.hongkong.sandbox_wire import Client, Clock, Door, Gatekeeper, KeyRing, kek
from gateway.sandbox import decision
from gateway.sandbox.authority import MISBEHAVIOUR, NOTEBOOK, AuthoritySettings, Misbehaviour, authority_app
from gateway.sandbox.courses import ORDERS
from gateway.sandbox.issued import OF_MATCHING

CEK_LIFETIME = 600.0  # s, unless the secret `cek_lifetime_seconds` says otherwise
CONSENT_MARK = "CNS"
HONG_KONG_TIME = timezone(timedelta(hours=8))

_ON_THIS_WIRE: Mapping[str, str] = {"HM_PERMIT": "HRP", "HK_BRN": "BRN"}
"""Names of document types that differ between the seed and this wire."""


def build_authority(settings: AuthoritySettings, clock: Clock = time.time) -> web.Application:
    """Return the authority as an application. `clock` gives seconds since 1970.

    Secrets: `client_id`, `client_secret`, `kek_public_key` (PEM), `item_codes` (JSON list), and optionally
    `cek_lifetime_seconds`. Raises KeyError for a missing secret and ValueError for a key that is not RSA-2048.
    """
    app = authority_app(settings, modes={**ORDERS, **decision.MODES, **OF_MATCHING, **SIGN_ON_ATTACKS, **WIRE_ATTACKS})
    wrong = app[MISBEHAVIOUR]
    client = Client(settings.secrets["client_id"].decode(), settings.secrets["client_secret"])
    public = kek(settings.secrets["kek_public_key"])
    lifetime = float(settings.secrets.get("cek_lifetime_seconds", CEK_LIFETIME))
    door = Door(Gatekeeper(client, clock), KeyRing(public, lifetime, clock), wrong)
    sign_on = SignOn(settings, client.id, clock, wrong)
    corporate = Corporate(sign_on, clock)
    cases = Cases(app, settings, Callbacks(settings.gateway_url, client, public, clock), clock)
    certificates = Certificates(settings, clock, wrong)
    later = Later(app[NOTEBOOK], cases).works()
    results = ResultRoom(app[NOTEBOOK], wrong).works()
    app.add_routes(web.post(f"/api/v1/cases/{path}", door.to(work)) for path, work in {**later, **results}.items())
    app.add_routes(
        [
            web.get("/api/v1/auth/getQR", sign_on.page),
            web.post("/api/v1/auth/getQR", sign_on.sign_in),
            web.post("/api/v1/security/getKey", door.get_key),
            web.post("/api/v1/auth/getToken", door.to(sign_on.token)),
            web.post("/api/v1/profiles", door.to(sign_on.profile)),
            web.post("/api/v1/corp/getToken", door.to(corporate.token)),
            web.post("/api/v1/corp/profiles", door.to(corporate.profile)),
            web.post("/api/v1/documents/upload", door.to(cases.upload)),
            web.post("/api/v1/cases/submit", door.to(cases.submit)),
            web.post("/api/v1/cases/query", door.to(cases.query)),
            web.post("/api/v1/certificates/match", door.to(certificates.match)),
        ]
    )
    app.on_startup.append(cases.resume)
    return app


class Certificates:
    """Says whether a person holds a certificate now: match or no match, never a value."""

    def __init__(self, settings: AuthoritySettings, clock: Clock, wrong: Misbehaviour) -> None:
        self._rows = [row for row in settings.certificates if row.get("region") == "hongkong"]
        self._clock = clock
        self._wrong = wrong

    def match(self, plain: bytes) -> dict[str, Any]:
        """Answer `certificates/match`."""
        told = {"certificate": self._rows[0]} if self._wrong.due("values_told") else {}
        return {"result": self._result(read(MatchRequest, plain)), "checkedAt": int(self._clock() * 1000), **told}

    def _result(self, asked: MatchRequest) -> str:
        """Consent comes first: without it not even the type is looked at."""
        if not asked.consent_id.startswith(CONSENT_MARK):
            return "NO_CONSENT"
        of_type = self._of_type(asked)
        if not of_type:
            return "TYPE_UNKNOWN"
        today = datetime.fromtimestamp(self._clock(), HONG_KONG_TIME).date().isoformat()
        return "MATCH" if any(_held(row, asked) and _in_force(row, today) for row in of_type) else "NO_MATCH"

    def _of_type(self, asked: MatchRequest) -> list[Mapping[str, Any]]:
        """Find by code; by name only where the code is not one of ours."""
        by_code = [row for row in self._rows if row["type_code"] == asked.cert_type]
        return by_code or [row for row in self._rows if row["type_name"] == asked.cert_type_name]


def _held(row: Mapping[str, Any], asked: MatchRequest) -> bool:
    kind = _ON_THIS_WIRE.get(row["holder_id_type"], row["holder_id_type"])
    return bool(
        kind == asked.doc_type
        and _number(kind, row["holder_id_number"]) == _number(kind, asked.doc_no)
        and _name(row["holder_name"]) == _name(asked.holder_name)
    )


def _in_force(row: Mapping[str, Any], today: str) -> bool:
    first, last = str(row["valid_from"]), str(row.get("valid_to") or today)
    return row["state"] == "VALID" and first <= today <= last


def _number(kind: str, number: str) -> str:
    """A home return permit (回鄉證) is its first nine characters: the two that may follow count re-issues."""
    return number[:9] if kind == "HRP" else number


def _name(name: str) -> str:
    """Names compare without case, spaces and punctuation; all middle dots go with the punctuation."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", name)).casefold()
