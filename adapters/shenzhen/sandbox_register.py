"""Certificates and items of the simulated authority of Shenzhen, made of the sandbox's seed.

Owns: the batch look-up, name and number held against each other, how a certificate is written, and the catalogue page
by page. Leaves to `sandbox_issued` single certificates; to `sandbox_messages` the shape of a query. Written from
README.md; shares nothing with `adapter.py`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from adapters.shenzhen.sandbox_messages import WORDS, Batch, Query
from gateway.sandbox.exchange_documents import read
from gateway.sandbox.exchange_wire import Asked, Document, Door, Refusal
from gateway.sandbox.issued import UNKNOWN_STATUS
from gateway.sandbox.issued import Register as IssuedRegister

_BEIJING = timezone(timedelta(hours=8))
_LAST_CHANGE = datetime(2026, 1, 1, tzinfo=_BEIJING)
_MOST = 50

_AUTHORISATION = "CNS"
"""What the number of an authorisation begins with."""

_HOLDERS = {"CN_RIC": "111", "USCC": "001", "PASSPORT": "414", "HM_PERMIT": "516", "TW_PERMIT": "511", "FPR": "553"}
STATES = {"VALID": "01", "SUSPENDED": "02", "REVOKED": "03", "CANCELLED": "04", "EXPIRED": "05", "MOVED": "06"}
_MODES = {"online": "ONLINE", "window": "WINDOW", "collect": "PROXY"}
_UNITS = {"G": "WORKDAY", "Z": "DAY"}


class Register:
    """What Shenzhen issued, and what it handles; seed rows of other regions are not its own."""

    def __init__(self, issued: IssuedRegister, items: Sequence[Mapping[str, Any]], door: Door) -> None:
        self._issued = issued
        self._items = sorted((_item(row) for row in items), key=lambda item: str(item["taskCode"]))
        self._door = door

    # --- certificates ---

    async def answer(self, asked: Asked) -> Document:
        """Answer a batch, one result for each query, in their order."""
        batch = read(Batch, await self._door.document(asked), WORDS)
        return {"results": [self._result(query) for query in batch.queries]}

    def _result(self, query: Query) -> Document:
        if self._issued.wrong.due("unknown_status"):
            return {"status": UNKNOWN_STATUS, "message": "?"}
        if not query.is_whole():
            return {"status": "12", "message": "a mandatory member is empty"}
        if not is_authorised(query.attributes):
            return {"status": "14", "message": "the authorisation is not known"}
        wanted = query.certificate
        rows = [
            row
            for row in self._issued.all()
            if wanted.certificate_type in ("", row["type_code"]) and wanted.certificate_name in ("", row["type_name"])
        ]
        if not rows:
            return {"status": "13", "message": "this type is not issued here"}
        found = [certificate(self._issued.told(row)) for row in rows if _is_of(row, query)]
        return (
            {"status": "00", "message": "ok", "certificates": found} if found else {"status": "10", "message": "none"}
        )

    # --- items ---

    async def items_page(self, asked: Asked) -> Document:
        """Return the items behind a key. Raises Refusal for a page of another size than agreed."""
        after, size = asked.request.query.get("after", ""), asked.request.query.get("size", "")
        if not size.isascii() or not size.isdigit() or not 0 < int(size) <= _MOST:
            raise Refusal(422, "REFUSED", "size", [{"field": "size", "reason": f"is a number from 1 to {_MOST}"}])
        return {"items": [item for item in self._items if item["taskCode"] > after][: int(size)]}


def is_authorised(attributes: Sequence[str]) -> bool:
    """Where an authorisation of the holder is named, it must be a number that the gateway gives out."""
    given = [text.partition("=")[2] for text in attributes if text.startswith("authorizationNo=")]
    return all(number.startswith(_AUTHORISATION) for number in given if number != "-1")


def _is_of(row: Mapping[str, Any], query: Query) -> bool:
    holder = query.holder
    return (
        _plain(row["holder_name"]) == _plain(holder.certificate_holder)
        and _HOLDERS.get(row["holder_id_type"], "999") == holder.certificate_holder_type
        and row["holder_id_number"] == holder.certificate_holder_code
    )


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _day(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=_BEIJING).timestamp()) * 1000


def certificate(row: Mapping[str, Any]) -> Document:
    """Return a certificate as it is written in answers."""
    written: Document = {
        "certificateIdentifier": row["identifier"],
        "certificateName": row["type_name"],
        "certificateNumber": row["number"],
        "certificateType": row["type_code"],
        "issueDept": row["issuer_name"],
        "issueDeptCode": row["issuer_code"],
        "issueDate": _day(row["issued_on"]),
        "certificateValidateStart": _day(row["valid_from"]),
        "holder": {
            "certificateHolder": row["holder_name"],
            "certificateHolderType": _HOLDERS.get(row["holder_id_type"], "999"),
            "certificateHolderCode": row["holder_id_number"],
        },
        "certificateState": STATES.get(row["state"].upper(), "99"),
    }
    if "valid_to" in row:
        written["certificateValidateEnd"] = _day(row["valid_to"])
    if row.get("replaced_by"):
        written["replacedBy"] = row["replaced_by"]
    if row.get("surface"):
        written["surface"] = [{"name": name, "value": value} for name, value in row["surface"].items()]
    return written


def _item(row: Mapping[str, Any]) -> Document:
    office = next(each for each in row["office"] if each["region"] == "shenzhen")
    names = {"zhHans": row["name"]["zh-CN"], "zhHant": row["name"].get("zh-HK"), "en": row["name"].get("en")}
    return {
        "taskCode": row["code"],
        "taskVersion": "1",
        "taskName": {language: name for language, name in names.items() if name},
        "regionCode": f"{office['code']:0<12}",
        "orgName": "深圳市测试局",
        "orgCode": row["code"][:18],
        "handleModes": [_MODES[mode] for mode in row["modes"] if mode in _MODES],
        "authLevel": row["min_assurance"].removeprefix("A"),
        "tolerant": any(each.get("deferrable", False) for each in row["material"]),
        "suspended": False,
        "promiseLimit": {"days": office["promised_days"], "unit": _UNITS[office["limit_unit"]]},
        "legalLimit": {"days": office["statutory_days"], "unit": _UNITS[office["limit_unit"]]},
        "materials": [_material(each) for each in row["material"]],
        "formFields": [_field(each) for each in row["field"]],
        "updateTime": int(_LAST_CHANGE.timestamp()) * 1000,
    }


def _material(row: Mapping[str, Any]) -> Document:
    material: Document = {
        "materialCode": row["code"],
        "materialName": row["name"]["zh-CN"],
        "necessary": bool(row.get("required", False)),
        "deferrable": bool(row.get("deferrable", False)),
    }
    return {**material, "certTypeCode": row["certificate_type"]} if "certificate_type" in row else material


def _field(row: Mapping[str, Any]) -> Document:
    field: Document = {
        "fieldCode": row["id"],
        "fieldLabel": row["label"]["zh-CN"],
        "required": bool(row.get("required", False)),
    }
    choices = [label["zh-CN"] for label in row.get("choices", {}).values()]
    return {**field, "options": choices} if choices else field
