"""What the simulated authority of Hong Kong says with each step of a case (README.md, "Status events").

Owns: the region's word for a step, and what goes with it. Leaves to `sandbox_cases`: when a step is taken, and who
hears of it. What it says is the same for every case and names nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

WORDS: Mapping[str, str] = {
    "RECEIVED": "RECEIVED",
    "ACCEPTED": "ACCEPTED",
    "NOT_ACCEPTED": "REJECTED",
    "ACCEPTED_TOLERANT": "ACCEPTED_PENDING_DOCUMENTS",
    "NOT_WITHIN_POWER": "OUT_OF_JURISDICTION",
    "SUPPLEMENT_NOTICE": "SUPPLEMENT_REQUIRED",
    "SUPPLEMENTED": "SUPPLEMENT_RECEIVED",
    "SUPPLEMENT_EXPIRED": "SUPPLEMENT_OVERDUE",
    "SPECIAL": "SUSPENDED",
    "RESUMED": "RESUMED",
    "EXTENDED": "EXTENDED",
    "TOLERANCE_BREACHED": "DOCUMENTS_NOT_PROVIDED",
    "DECIDED": "DECIDED",
    "COMPLETED": "COMPLETED",
    "DELIVERED": "DELIVERED",
    "WITHDRAWN": "WITHDRAWN",
    "RETURNED": "RETURNED",
    "VOID": "VOIDED",
}
"""A step → `status`."""

_SAYS: Mapping[str, Mapping[str, Any]] = {
    "ACCEPTED": {"officer": "HK-0023"},
    "REJECTED": {
        "officer": "HK-0023",
        "remarks": "不予受理:不屬本部門職權範圍",
        "legalBasis": "《測試條例》第2條",
        "appeal": "可於28日內提出上訴",
    },
    "ACCEPTED_PENDING_DOCUMENTS": {"officer": "HK-0023", "remarks": "可於限期前補交文件"},
    "OUT_OF_JURISDICTION": {"officer": "HK-0023", "remarks": "不屬本部門職權範圍", "appeal": "請向有關部門申請"},
    "SUPPLEMENT_REQUIRED": {"officer": "HK-0023", "remarks": "文件不齊", "legalBasis": "《測試條例》第1條"},
    "SUPPLEMENT_OVERDUE": {"remarks": "逾期未補"},
    "SUSPENDED": {"officer": "HK-0031", "remarks": "專家評審", "limit": {"days": 30, "unit": "WORKING_DAY"}},
    "RESUMED": {"officer": "HK-0031"},
    "EXTENDED": {"officer": "HK-0031", "remarks": "延長", "limit": {"days": 10, "unit": "WORKING_DAY"}},
    "DOCUMENTS_NOT_PROVIDED": {"remarks": "限期內未補交"},
    "DECIDED": {"officer": "HK-0031", "result": {"code": "APPROVED", "text": "批准"}},
    "COMPLETED": {"officer": "HK-0031", "remarks": "個案已辦結"},
    "DELIVERED": {"officer": "HK-0031", "deliveryWay": "COUNTER"},
    "WITHDRAWN": {"remarks": "申請人撤回"},
    "RETURNED": {"officer": "HK-0023", "remarks": "退回申請人", "result": {"code": "RETURNED", "text": "退回"}},
    "VOIDED": {"officer": "HK-0031", "remarks": "作廢", "result": {"code": "VOID", "text": "作廢"}},
}
_DUE: Mapping[str, timedelta] = {
    "SUPPLEMENT_REQUIRED": timedelta(days=21),
    "ACCEPTED_PENDING_DOCUMENTS": timedelta(days=28),
    "EXTENDED": timedelta(days=14),
}
_WISHES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "SUPPLEMENT_REQUIRED": ("asked_for", {"remarks": "請提供清晰的掃描件", "original": False}),
    "ACCEPTED_PENDING_DOCUMENTS": ("to_follow", {"remarks": "可於限期前補交"}),
}
"""A word → where the page of a case has the codes of what is wanted, and what is said of each."""


def said(word: str, case: Mapping[str, Sequence[str]], today: datetime) -> dict[str, Any]:
    """Return what a step says beyond its numbers; of the case, only the codes of documents are looked at."""
    event = dict(_SAYS.get(word, {}))
    if word in _DUE:
        event["dueOn"] = (today + _DUE[word]).date().isoformat()
    where, wish = _WISHES.get(word, ("", {}))
    if wanted := case.get(where):
        event["documentsRequired"] = [{"code": each, **wish} for each in wanted]
    return event
