"""Certificate data by holder at the simulated authority of Guangdong (README.md, "Certificates").

Owns: the GB/T 36906-like operation GetCertificateDataByHolder over the seed, the authority's codes for holders'
documents and certificate states, and the envelope. Leaves to `sandbox_issued`: certificates by identifier; to others:
signatures, and what a state means to whoever asks.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from adapters.guangdong.sandbox_signature import same
from gateway.sandbox.issued import UNKNOWN_STATUS, Register

FRAME = ("UseFor", "orgName", "username", "itemName", "itemCode", "businessCode")
"""What every question about certificates must name: purpose, and the five elements."""

_MANDATORY = (
    "CertificateTypeCode",
    "CertificateType",
    "CertificateHolder",
    "CertificateHolderCode",
    "CertificateHolderCodeType",
    *FRAME,
)
_LONGEST_PURPOSE = 200

_HOLDER_TYPES = {
    "CN_RIC": "111",
    "USCC": "001",
    "HM_PERMIT": "516",
    "PASSPORT": "414",
    "TW_PERMIT": "511",
    "FPR": "553",
    "HK_BRN": "099",
    "HM_RESID": "999",
    "TW_RESID": "999",
    "HKID": "999",
    "MO_BIR": "999",
}
"""Document type in the seed → code of the holder's document type (持证主体代码类型代码, GB/T 36903)."""

STATES = {"valid": "01", "suspended": "02", "revoked": "03", "cancelled": "04", "expired": "05", "moved": "06"}
_DAYS = {"issued_on": "ZZBFRQ", "valid_from": "ZZYXQQSRQ", "valid_to": "ZZYXQJZRQ"}


class UnanswerableError(Exception):
    """The question cannot be answered: status and message of the envelope's head."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class CertificateDesk:
    """Answers questions about the certificates that Guangdong has issued, by their holders."""

    register: Register

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of README.md, "Certificates"."""
        return [web.post("/elssp/v1/GetCertificateDataByHolder", self._by_holder)]

    async def _by_holder(self, request: web.Request) -> web.Response:
        body = await request.read()
        return answered(self.register, lambda: self._find(question(body, _MANDATORY)))

    def _find(self, asked: Mapping[str, str]) -> list[dict[str, Any]]:
        if asked["CertificateHolderCodeType"] not in _HOLDER_TYPES.values():
            raise UnanswerableError("103", "holder-code type invalid")
        of_type = [row for row in self.register.all() if row["type_code"] == asked["CertificateTypeCode"]]
        if not of_type:
            raise UnanswerableError("13", "type unknown")
        return [certificate(self.register.told(row)) for row in of_type if _is_held_by(row, asked)]


def answered(register: Register, find: Callable[[], list[dict[str, Any]]]) -> web.Response:
    """Return what `find` finds in the envelope, or why not."""
    if register.wrong.due("unknown_status"):
        return envelope(UNKNOWN_STATUS, "", [])
    try:
        data = find()
    except UnanswerableError as refusal:
        return envelope(refusal.status, str(refusal), [])
    return envelope("0", "", data) if data else envelope("10", "no matching certificate", [])


def question(body: bytes, mandatory: Sequence[str]) -> dict[str, str]:
    """Read a request. Raises UnanswerableError (12) naming every mandatory parameter that is empty."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnanswerableError("12", "the body is not JSON") from error
    if not isinstance(found, dict):
        raise UnanswerableError("12", "the body is not an object")
    asked = {name: found.get(name) for name in mandatory}
    empty = [name for name, value in asked.items() if not isinstance(value, str) or not value.strip()]
    if empty:
        raise UnanswerableError("12", f"mandatory parameter empty: {', '.join(empty)}")
    if len(str(asked["UseFor"])) > _LONGEST_PURPOSE:
        raise UnanswerableError("12", f"UseFor has more than {_LONGEST_PURPOSE} characters")
    return {name: str(value) for name, value in asked.items()}


def _is_held_by(row: Mapping[str, Any], asked: Mapping[str, str]) -> bool:
    """Name, number and type of number must all fit: a number alone opens nothing."""
    return (
        _holder_code(row) == asked["CertificateHolderCodeType"]
        and same(row["holder_id_number"], asked["CertificateHolderCode"])
        and _plain(row["holder_name"]) == _plain(asked["CertificateHolder"])
    )


def _holder_code(row: Mapping[str, Any]) -> str:
    return _HOLDER_TYPES.get(row["holder_id_type"], "999")


def _plain(name: str) -> str:
    """Return the name as it is compared: NFKC, no spaces, one kind of middle dot, one case."""
    flat = unicodedata.normalize("NFKC", name).translate(str.maketrans("•・．", "···"))
    return "".join(flat.split()).casefold()


def certificate(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a certificate as README.md describes it."""
    told: dict[str, Any] = {
        "ZZBS": row["identifier"],
        "ZZMC": row["type_name"],
        "ZZBH": row["number"],
        "ZZLXDM": row["type_code"],
        "ZZBFJG": row["issuer_name"],
        "ZZBFJGDM": row["issuer_code"],
        "CZZT": row["holder_name"],
        "CZZTDM": row["holder_id_number"],
        "CZZTDMLXDM": _holder_code(row),
        "ZZZT": STATES.get(row["state"], "99"),
    }
    told |= {wire: str(row[name]).replace("-", "") for name, wire in _DAYS.items() if row.get(name)}
    if row.get("replaced_by"):
        told["GLZZBS"] = row["replaced_by"]
    if row.get("surface"):
        told["extend_info"] = [{"name": name, "value": value} for name, value in row["surface"].items()]
    return told


def envelope(status: str, message: str, data: list[dict[str, Any]]) -> web.Response:
    """Return an answer about certificates."""
    return web.json_response({"head": {"status": status, "message": message}, "data": data})
