"""The certificates that the simulated Foshan issued, and finding one by its type and holder.

Owns: what counts as the same name and number, and a certificate as an element. Leaves to others: the wire.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from lxml import etree

from adapters.foshan import sandbox_rules as rules
from adapters.foshan.sandbox_rules import Record
from adapters.foshan.sandbox_wire import E, filled
from gateway.sandbox import issued

_HOLDER_CODES = {
    "CN_RIC": "111",
    "USCC": "001",
    "PASSPORT": "414",
    "HM_PERMIT": "516",
    "TW_PERMIT": "511",
    "FPR": "553",
}
_STATES = frozenset({"VALID", "SUSPENDED", "REVOKED", "CANCELLED", "EXPIRED", "MOVED"})
_MANDATORY = tuple(
    child.name for child in rules.CERTIFICATE_QUERY.children if child.name not in ("TypeCode", "TypeName")
)


class Register:
    """The certificates that Foshan issued, by type and holder."""

    def __init__(self, register: issued.Register) -> None:
        self.issued = register

    def look_up(self, query: Record) -> tuple[str, str, list[Mapping[str, Any]]]:
        """Return status, message and the certificates of this type whose holder fits by name, type and number."""
        empty = [name for name in _MANDATORY if not query[name].strip()]
        if not (query["TypeCode"].strip() or query["TypeName"].strip()):
            empty.append("TypeCode or TypeName")
        if empty:
            return "12", f"必填参数为空: {', '.join(empty)}", []
        if self.issued.wrong.due("unknown_status"):
            return issued.UNKNOWN_STATUS, "", []
        of_type = [row for row in self.issued.all() if _is_of_type(row, query)]
        if not of_type:
            return "13", "证照类型不存在", []
        found = [self.issued.told(row) for row in of_type if _is_held_by(row, query)]
        return ("0", "成功", found) if found else ("10", "没有符合条件的证照", [])


def _is_of_type(row: Mapping[str, Any], query: Record) -> bool:
    return query["TypeCode"] in ("", row["type_code"]) and query["TypeName"] in ("", row["type_name"])


def _is_held_by(row: Mapping[str, Any], query: Record) -> bool:
    return (
        _plain_name(row["holder_name"]) == _plain_name(query["HolderName"])
        and _holder_code(row) == query["HolderIdType"]
        and _plain_number(row["holder_id_number"]) == _plain_number(query["HolderIdNumber"])
    )


def _holder_code(row: Mapping[str, Any]) -> str:
    return _HOLDER_CODES.get(row["holder_id_type"], "999")


def _plain_number(number: str) -> str:
    """Return a number for comparing only: upper case, and a permit (来往内地通行证) without its count of re-issues."""
    upper = number.strip().upper()
    return upper[:9] if upper[:1] in ("H", "M") and len(upper) == 11 else upper


def _plain_name(name: str) -> str:
    """Return a name for comparing only: NFKC, no spaces, one kind of middle dot."""
    return "".join(unicodedata.normalize("NFKC", name).split()).translate(_DOTS).casefold()


_DOTS = str.maketrans(dict.fromkeys("•‧・．.", "·"))


def certificate_reply(status: str, message: str, rows: Iterable[Mapping[str, Any]]) -> etree._Element:
    """Return the answer to a question about certificates."""
    return E.CertificateReply(E.Status(status), E.Message(message), *(certificate(row) for row in rows))


def certificate(row: Mapping[str, Any]) -> etree._Element:
    """Return a certificate as the answer carries it."""
    state = str(row["state"]).upper()
    surface = [{"Name": name, "Value": value} for name, value in row.get("surface", {}).items()]
    return filled(
        E.Certificate(),
        {
            "Identifier": row["identifier"],
            "Name": row["type_name"],
            "Number": row["number"],
            "TypeCode": row["type_code"],
            "Issuer": {"@code": row["issuer_code"], "text": row["issuer_name"]},
            "IssueDate": row["issued_on"],
            "ValidFrom": row["valid_from"],
            **({"ValidTo": row["valid_to"]} if row.get("valid_to") else {}),
            "HolderName": row["holder_name"],
            "HolderIdType": _holder_code(row),
            "HolderIdNumber": row["holder_id_number"],
            "State": state if state in _STATES else "OTHER",
            **({"ReplacedBy": row["replaced_by"]} if row.get("replaced_by") else {}),
            **({"Surface": {"Field": surface}} if surface else {}),
        },
    )
