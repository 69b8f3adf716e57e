"""What the simulated province of the case exchange says in documents: its items and its certificates.

Owns: how a seeded row is written (docs/province-exchange.md), whom a certificate is for, and a no. Leaves to
`province_authority`: who asks, and what for. It shares no code with the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Entry = dict[str, Any]

_MODES = {"online": "全程网办", "collect": "代收代办", "joint": "多地联办"}
_UNITS = {"G": "工作日", "Z": "自然日"}
_HOLDER_CODES = {"CN_RIC": "111", "USCC": "001", "PASSPORT": "414", "HM_PERMIT": "516", "TW_PERMIT": "511"}
_STATES = {
    "VALID": "有效",
    "SUSPENDED": "暂扣",
    "REVOKED": "吊销",
    "CANCELLED": "注销",
    "EXPIRED": "失效",
    "MOVED": "办理转出",
}


class RefusedError(Exception):
    """A question that gets no yes: a status, and which members are wrong."""

    def __init__(self, status: str, message: str, *fields: str) -> None:
        super().__init__(status, message)
        self.status, self.message, self.fields = status, message, fields


def filled(data: object, name: str) -> bool:
    """Say whether a member is there, as a text with something in it."""
    value = data.get(name) if isinstance(data, dict) else None
    return isinstance(value, str) and bool(value.strip())


def in_catalogue(item: Mapping[str, Any], area: str) -> Entry:
    """Return a seeded item as it stands in the catalogue of the province with this area, but for who decides."""
    office = next(each for each in item["office"] if each["code"].startswith(area[:2]))
    return {
        "taskCode": item["code"],
        "taskName": item["name"]["zh-CN"],
        "areaCode": f"{office['code']}000000",
        "handleForm": ",".join(_MODES[mode] for mode in item["modes"] if mode in _MODES),
        "promiseDay": str(office["promised_days"]),
        "promiseType": _UNITS[office["limit_unit"]],
        "anticipateDay": str(office["statutory_days"]),
        "anticipateType": _UNITS[office["limit_unit"]],
        "materialList": [
            {
                "materialCode": material["code"],
                "materialName": material["name"]["zh-CN"],
                "isMust": "是" if material.get("required") else "否",
                "isLack": "是" if material.get("deferrable") else "否",
            }
            for material in item["material"]
        ],
        "updateTime": "2026-01-01 00:00:00",
    }


def is_held_by(row: Mapping[str, Any], asked: Entry) -> bool:
    """Say whether name, kind and number all fit."""
    return (row["holder_name"], _holder_code(row), row["holder_id_number"]) == (
        asked["certificateHolderName"],
        asked["certificateHolderTypeCode"],
        asked["certificateHolderCode"],
    )


def _holder_code(row: Mapping[str, Any]) -> str:
    return _HOLDER_CODES.get(row["holder_id_type"], "999")


def certificate(row: Mapping[str, Any]) -> Entry:
    """Return a seeded certificate as the answer to a look-up has it."""
    surface = [{"name": name, "value": value} for name, value in row.get("surface", {}).items()]
    return {
        "certificate_identifier": row["identifier"],
        "certificate_name": row["type_name"],
        "certificate_number": row["number"],
        "certificate_type_name_code": row["type_code"],
        "certificate_issuing_authority_name": row["issuer_name"],
        "certificate_issuing_authority_code": row["issuer_code"],
        "certificate_issuing_authority_date": row["issued_on"].replace("-", ""),
        "certificate_validate_start": row["valid_from"].replace("-", ""),
        "certificate_validate_end": row["valid_to"].replace("-", "") if row.get("valid_to") else "长期",
        "certificate_holder_name": row["holder_name"],
        "certificate_holder_type": _holder_code(row),
        "certificate_holder_code": row["holder_id_number"],
        "status": state_word(row["state"]),
        **({"surface": surface} if surface else {}),
    }


def state_word(state: str) -> str:
    """Return the province's word for a seeded state."""
    return _STATES.get(state.upper(), "其他")
