"""Certificates that are named, at the simulated authority of Guangdong (README.md, "One certificate").

Owns: the operations by identifier and by shown code, files that are authorised and then fetched once, reports of
errors, and a notice as it is pushed. Leaves to `gateway.sandbox.issued`: what there is and what has become of it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from aiohttp import web

from adapters.guangdong.sandbox_cases import refusal
from adapters.guangdong.sandbox_certificates import (
    FRAME,
    STATES,
    UnanswerableError,
    answered,
    certificate,
    question,
)
from adapters.guangdong.sandbox_signature import Clock, signed_headers
from gateway.sandbox.issued import MEDIA_TYPE, Change, Compose, Letter, Register

FILE_LIFE = 60
"""Seconds for which an authorised file can be fetched."""

_BEIJING = timezone(timedelta(hours=8))
_NO_FILE = {"expired": ("22", "expired"), "suspended": ("23", "restricted in use")}
_REPLIES = {"open": "0", "corrected": "1", "rejected": "2"}


@dataclass(frozen=True, slots=True)
class IssuedDesk:
    """Answers for single certificates."""

    register: Register
    clock: Clock
    authorised: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    """`auth_code` → the file, and until when it can be fetched (Unix seconds)."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of README.md, "One certificate"."""
        root = "/elssp/v1"
        return [
            web.post(f"{root}/GetCertificateDataByCertificateID", self._by_identifier),
            web.post(f"{root}/GetCertificateDataByQRCode", self._by_code),
            web.post(f"{root}/GetCertificateFileByCertificateID", self._authorise),
            web.get(f"{root}/files/{{auth_code}}", self._hand_out),
            web.post(f"{root}/SubmitCertificateObjection", self._dispute),
            web.get(f"{root}/objections/{{slbh}}", self._reply),
        ]

    async def _by_identifier(self, request: web.Request) -> web.Response:
        body = await request.read()

        def find() -> list[dict[str, Any]]:
            row = self.register.named(question(body, ("CertificateID", *FRAME))["CertificateID"])
            return [] if row is None else [certificate(row)]

        return answered(self.register, find)

    async def _by_code(self, request: web.Request) -> web.Response:
        body = await request.read()

        def find() -> list[dict[str, Any]]:
            row = self.register.shown(question(body, ("QRCode", *FRAME))["QRCode"])
            return [] if row is None else [certificate(row)]

        return answered(self.register, find)

    async def _authorise(self, request: web.Request) -> web.Response:
        body = await request.read()

        def find() -> list[dict[str, Any]]:
            row = self.register.named(question(body, ("CertificateID", *FRAME))["CertificateID"])
            return [] if row is None else [self._authorisation(row)]

        return answered(self.register, find)

    def _authorisation(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return where the file is to be had. Raises UnanswerableError for one that is not in force."""
        worth = self.register.worth(row, datetime.fromtimestamp(self.clock(), _BEIJING).date())
        if worth != "valid":
            raise UnanswerableError(*_NO_FILE.get(worth, ("21", "revoked, cancelled or replaced")))
        content, code = self.register.file(row), secrets.token_hex(16)
        self.authorised[code] = (content, self.clock() + FILE_LIFE)
        return {
            "ZZBS": row["identifier"],
            "auth_code": code,
            "wjlx": MEDIA_TYPE,
            "wjdx": len(content),
            "wjzy": hashlib.sha256(content).hexdigest(),
        }

    async def _hand_out(self, request: web.Request) -> web.Response:
        content, until = self.authorised.pop(request.match_info["auth_code"], (b"", 0.0))
        if until < self.clock():
            return refusal(410, "the authorisation was used, or is over")
        return web.Response(body=content, content_type=MEDIA_TYPE)

    async def _dispute(self, request: web.Request) -> web.Response:
        names = ("yybh", "CertificateID", "yysm", *FRAME)
        try:
            said = question(await request.read(), names)
        except UnanswerableError as wrong:
            return refusal(422, str(wrong))
        number = self.register.dispute(said["yybh"], said["CertificateID"])
        if number is None:
            return refusal(422, "no such certificate here")
        received = f"{datetime.fromtimestamp(self.clock(), _BEIJING):%Y%m%d%H%M%S}"
        return _told({"yybh": said["yybh"], "slbh": number, "jssj": received})

    async def _reply(self, request: web.Request) -> web.Response:
        number = request.match_info["slbh"]
        reply = self.register.reply(number)
        if reply is None:
            return refusal(404, "no such report here")
        return _told({"slbh": number, "clzt": _REPLIES[reply[0]], "clyj": reply[1]})


def _told(data: dict[str, Any]) -> web.Response:
    return web.json_response({"code": "200", "message": "ok", "data": data})


def composer(token: bytes, clock: Clock) -> Compose:
    """Return what writes and signs a notice; a forged one is signed with another token."""

    def compose(change: Change, forged: bool) -> Letter:
        document = {
            "tzbh": change.number,
            "ZZBS": change.identifier,
            "ZZZT": STATES.get(change.state, "99"),
            "bgsj": f"{datetime.fromtimestamp(change.at, _BEIJING):%Y%m%d%H%M%S}",
            **({"GLZZBS": change.replaced_by} if change.replaced_by else {}),
        }
        body, secret = json.dumps(document).encode(), b"somebody else" if forged else token
        path = "/callbacks/guangdong/certificates"
        headers = signed_headers(secret, "gd-authority", clock(), "POST", path, body)
        return Letter("certificates", body, {**headers, "Content-Type": "application/json"})

    return compose
