"""What the simulated authority of Guangdong says with each step of a case (README.md, "Status events").

Owns: the province's word for a step, and what goes with it. Leaves to `sandbox_cases`: when a step is taken, and who
hears of it. What it says is the same for every case and names nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

CODES: Mapping[str, str] = {
    "RECEIVED": "SB",
    "ACCEPTED": "SL1",
    "NOT_ACCEPTED": "SL0",
    "ACCEPTED_TOLERANT": "SL2",
    "NOT_WITHIN_POWER": "SL3",
    "SUPPLEMENT_NOTICE": "BZGZ",
    "SUPPLEMENTED": "BZSL",
    "SUPPLEMENT_EXPIRED": "BZYQ",
    "SPECIAL": "TBCXSQ",
    "RESUMED": "TBCXJG",
    "EXTENDED": "YQBL",
    "TOLERANCE_BREACHED": "RQYQ",
    "DECIDED": "SPCL",
    "COMPLETED": "BJ",
    "DELIVERED": "LQDJ",
    "WITHDRAWN": "CH",
    "RETURNED": "TJ",
    "VOID": "ZF",
}
"""A step → `ztdm`."""

_TIMES: Mapping[str, str] = {
    "BZGZ": "bzgzsj",
    "BZSL": "bzsj",
    "TBCXSQ": "tbcxksrq",
    "TBCXJG": "tbcxjsrq",
    "LQDJ": "lqsj",
}
"""A type of record → the field in which its own time stands a second time."""

_DETAILS: Mapping[str, Mapping[str, Any]] = {
    "SL1": {"blrgh": "GD0007"},
    "SL0": {
        "blrgh": "GD0007",
        "bz": "不予受理",
        "flyj": "《行政许可法》第三十二条",
        "jjtj": "六十日内可申请行政复议，六个月内可提起行政诉讼",
    },
    "SL2": {"blrgh": "GD0007", "bz": "容缺受理"},
    "SL3": {"blrgh": "GD0007", "bz": "不属于本机关职权范围", "jjtj": "请向有权机关申请"},
    "BZGZ": {"blrgh": "GD0007", "bz": "材料不齐", "flyj": "《行政许可法》第三十二条"},
    "BZSL": {"blrgh": "GD0007"},
    "BZYQ": {"bz": "逾期未补正"},
    "TBCXSQ": {"blrgh": "GD0012", "bz": "专家评审", "tbcxsx": 30, "tbcxsxdw": "G"},
    "TBCXJG": {"blrgh": "GD0012"},
    "YQBL": {
        "blrgh": "GD0012",
        "bz": "经负责人批准延长",
        "tbcxsx": 10,
        "tbcxsxdw": "G",
        "flyj": "《行政许可法》第四十二条",
    },
    "RQYQ": {"bz": "承诺期限内未补交"},
    "SPCL": {"blrgh": "GD0012"},
    "BJ": {"bjjgdm": "6", "bjjgms": "办结"},
    "LQDJ": {"lqfs": "0"},
    "CH": {"bz": "申请人撤回"},
    "TJ": {"bz": "退回申请人", "bjjgdm": "1", "bjjgms": "退回办结"},
    "ZF": {"bz": "作废", "bjjgdm": "2", "bjjgms": "作废办结"},
}
_DUE: Mapping[str, timedelta] = {"BZGZ": timedelta(days=15), "SL2": timedelta(days=20), "YQBL": timedelta(days=14)}
"""A type of record → how long from now until the day that it sets."""

_WISHES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "BZGZ": ("asked_for", {"bzyq": "请提供清晰的原件扫描件", "sfzz": "0"}),
    "SL2": ("to_follow", {"bzyq": "可在承诺期限内补交"}),
}
"""A type of record → where a case has the codes of the materials that it asks for, and what it says of each."""


def said(step: str, case: Mapping[str, Sequence[str]], now: datetime) -> dict[str, Any]:
    """Return what a step says beyond the numbers of its case, of which only the codes of materials are looked at."""
    code, moment = CODES[step], f"{now:%Y%m%d%H%M%S}"
    event: dict[str, Any] = {"ztdm": code, "fssj": moment, **_DETAILS.get(code, {})}
    if code in _TIMES:
        event[_TIMES[code]] = moment
    if code in _DUE:
        event["blsx"] = f"{now + _DUE[code]:%Y%m%d}"
    where, wish = _WISHES.get(code, ("", {}))
    if wanted := case.get(where):
        event["bzclqd"] = [{"clbm": each, **wish} for each in wanted]
    return event
