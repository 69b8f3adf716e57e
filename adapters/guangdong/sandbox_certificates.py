"""Certificate data by holder at the simulated authority of Guangdong (README.md, "Certificates").

Owns: the GB/T 36906-like operation GetCertificateDataByHolder over the seed, and the authority's codes for holders'
documents and certificate states. Leaves to others: signatures, and what a state means to whoever asks.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from adapters.guangdong.sandbox_signature import same

_MANDATORY = (
    "CertificateTypeCode",
    "CertificateType",
    "CertificateHolder",
    "CertificateHolderCode",
    "CertificateHolderCodeType",
    "UseFor",
    "orgName",
    "username",
    "itemName",
    "itemCode",
    "businessCode",
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

_STATES = {"valid": "01", "suspended": "02", "revoked": "03", "cancelled": "04", "expired": "05", "moved": "06"}
_DAYS = {"issued_on": "ZZBFRQ", "valid_from": "ZZYXQQSRQ", "valid_to": "ZZYXQJZRQ"}


class _UnanswerableError(Exception):
    """The question cannot be answered: status and message of the envelope's head."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class CertificateDesk:
    """Answers questions about the certificates that Guangdong has issued."""

    rows: Sequence[Mapping[str, Any]]

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of README.md, "Certificates"."""
        return [web.post("/elssp/v1/GetCertificateDataByHolder", self._by_holder)]

    async def _by_holder(self, request: web.Request) -> web.Response:
        try:
            data = self._find(_question(await request.read()))
        except _UnanswerableError as refusal:
            return _envelope(refusal.status, str(refusal), [])
        return _envelope("0", "", data) if data else _envelope("10", "no matching certificate", [])

    def _find(self, question: Mapping[str, str]) -> list[dict[str, str]]:
        if question["CertificateHolderCodeType"] not in _HOLDER_TYPES.values():
            raise _UnanswerableError("103", "holder-code type invalid")
        of_type = [row for row in self.rows if row["type_code"] == question["CertificateTypeCode"]]
        if not of_type:
            raise _UnanswerableError("13", "type unknown")
        return [_certificate(row) for row in of_type if _is_held_by(row, question)]


def _question(body: bytes) -> dict[str, str]:
    """Read the request. Raises _UnanswerableError (12) naming every mandatory parameter that is empty."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _UnanswerableError("12", "the body is not JSON") from error
    if not isinstance(found, dict):
        raise _UnanswerableError("12", "the body is not an object")
    question = {name: found.get(name) for name in _MANDATORY}
    empty = [name for name, value in question.items() if not isinstance(value, str) or not value.strip()]
    if empty:
        raise _UnanswerableError("12", f"mandatory parameter empty: {', '.join(empty)}")
    if len(str(question["UseFor"])) > _LONGEST_PURPOSE:
        raise _UnanswerableError("12", f"UseFor has more than {_LONGEST_PURPOSE} characters")
    return {name: str(value) for name, value in question.items()}


def _is_held_by(row: Mapping[str, Any], question: Mapping[str, str]) -> bool:
    """Name, number and type of number must all fit: a number alone opens nothing."""
    return (
        _holder_code(row) == question["CertificateHolderCodeType"]
        and same(row["holder_id_number"], question["CertificateHolderCode"])
        and _plain(row["holder_name"]) == _plain(question["CertificateHolder"])
    )


def _holder_code(row: Mapping[str, Any]) -> str:
    return _HOLDER_TYPES.get(row["holder_id_type"], "999")


def _plain(name: str) -> str:
    """Return the name as it is compared: NFKC, no spaces, one kind of middle dot, one case."""
    flat = unicodedata.normalize("NFKC", name).translate(str.maketrans("•・．", "···"))
    return "".join(flat.split()).casefold()


def _certificate(row: Mapping[str, Any]) -> dict[str, str]:
    certificate = {
        "ZZBS": row["identifier"],
        "ZZMC": row["type_name"],
        "ZZBH": row["number"],
        "ZZLXDM": row["type_code"],
        "ZZBFJG": row["issuer_name"],
        "ZZBFJGDM": row["issuer_code"],
        "CZZT": row["holder_name"],
        "CZZTDM": row["holder_id_number"],
        "CZZTDMLXDM": _holder_code(row),
        "ZZZT": _STATES.get(row["state"], "99"),
    }
    certificate |= {wire: str(row[name]).replace("-", "") for name, wire in _DAYS.items() if row.get(name)}
    if row.get("replaced_by"):
        certificate["GLZZBS"] = row["replaced_by"]
    return certificate


def _envelope(status: str, message: str, data: list[dict[str, str]]) -> web.Response:
    return web.json_response({"head": {"status": status, "message": message}, "data": data})
