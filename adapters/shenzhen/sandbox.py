"""The simulated authority of Shenzhen (深圳市): a second, independent reading of README.md beside it.

Owns: `build_authority`, and what the city says with each step of a case. Leaves to `gateway.sandbox.exchange_authority`
the wire and the life of cases, to `sandbox_messages` the shape of what it is sent, to `sandbox_register` and
`sandbox_issued` certificates and items. Shares no code with `adapter.py`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from aiohttp import web

from adapters.shenzhen.sandbox_issued import IssuedDesk, composer
from adapters.shenzhen.sandbox_messages import MESSAGES, read_case
from adapters.shenzhen.sandbox_register import Register
from gateway.sandbox.authority import MISBEHAVIOUR, NOTEBOOK, AuthoritySettings, authority_app
from gateway.sandbox.exchange_authority import Traits, mount
from gateway.sandbox.exchange_wire import Clock, Document
from gateway.sandbox.issued import MODES, NoticePost
from gateway.sandbox.issued import Register as IssuedRegister

_BEIJING = timezone(timedelta(hours=8))
_DAYS = 86_400

_STATES: Mapping[str, str] = {
    "RECEIVED": "01",
    "ACCEPTED": "02",
    "NOT_ACCEPTED": "03",
    "SUPPLEMENT_NOTICE": "04",
    "SPECIAL": "05",
    "RESUMED": "06",
    "DECIDED": "07",
    "COMPLETED": "08",
    "DELIVERED": "09",
    "ACCEPTED_TOLERANT": "10",
    "NOT_WITHIN_POWER": "11",
    "SUPPLEMENTED": "12",
    "SUPPLEMENT_EXPIRED": "13",
    "EXTENDED": "14",
    "TOLERANCE_BREACHED": "15",
    "WITHDRAWN": "16",
    "RETURNED": "17",
    "VOID": "18",
}

_SAYS: Mapping[str, Mapping[str, Any]] = {
    "ACCEPTED": {"userCode": "SZ0007"},
    "NOT_ACCEPTED": {
        "userCode": "SZ0007",
        "handleExplain": "不予受理：申请事项不符合受理条件",
        "basis": "《行政许可法》第三十二条",
        "remedy": "六十日内可申请行政复议，六个月内可提起行政诉讼",
    },
    "SUPPLEMENT_NOTICE": {
        "userCode": "SZ0007",
        "handleExplain": "材料不齐，请一次性补正",
        "basis": "《行政许可法》第三十二条",
    },
    "SUPPLEMENT_EXPIRED": {"handleExplain": "逾期未补正"},
    "ACCEPTED_TOLERANT": {"userCode": "SZ0007", "handleExplain": "容缺受理"},
    "NOT_WITHIN_POWER": {"handleExplain": "不属于本机关职权范围", "remedy": "请向有权机关申请"},
    "SPECIAL": {"userCode": "SZ0012", "handleExplain": "专家评审", "limit": {"days": 30, "unit": "WORKDAY"}},
    "RESUMED": {"userCode": "SZ0012"},
    "EXTENDED": {
        "userCode": "SZ0012",
        "handleExplain": "经负责人批准延长",
        "limit": {"days": 10, "unit": "WORKDAY"},
        "basis": "《行政许可法》第四十二条",
    },
    "TOLERANCE_BREACHED": {"handleExplain": "承诺期限内未补交"},
    "DECIDED": {"userCode": "SZ0012"},
    "DELIVERED": {"serveWay": "online"},
    "WITHDRAWN": {"handleExplain": "申请人撤回"},
    "RETURNED": {"handleExplain": "退回申请人"},
    "VOID": {"handleExplain": "作废"},
}
"""What the city says with a step; the same for every case, and about nobody."""

_DUE = {"SUPPLEMENT_NOTICE": 15, "ACCEPTED_TOLERANT": 20, "EXTENDED": 14}
"""A step → days until the day that it sets."""

_ASKS: Mapping[str, Mapping[str, Any]] = {
    "SUPPLEMENT_NOTICE": {"requirement": "请提供清晰的原件扫描件", "paperNeeded": False},
    "ACCEPTED_TOLERANT": {"requirement": "可在承诺期限内补交"},
}
_WANTED = {"SUPPLEMENT_NOTICE": "asked_for", "ACCEPTED_TOLERANT": "to_follow"}
"""A step → where the page of a case has the codes of what is wanted."""
_RESULTS = {"COMPLETED": ("6", "办结"), "RETURNED": ("1", "退回办结"), "VOID": ("2", "作废办结")}


def build_authority(settings: AuthoritySettings, clock: Clock = time.time) -> web.Application:
    """Return the authority. `clock` gives Unix seconds. Raises KeyError or ValueError for wrong secrets."""
    app = authority_app(settings, MODES)
    traits = Traits(
        region="shenzhen",
        read_case=read_case,
        numbers=lambda count: _numbers(count, clock),
        receipt=_receipt,
        event=_event,
        wrapped=True,
        listed=True,
        messages=MESSAGES,
        results=True,
        lists={"deferred": "promiseList", "certified": "certificateList"},
    )
    door = mount(app, settings, traits, clock)
    issued = IssuedRegister(
        "shenzhen", settings.certificates, app[NOTEBOOK], app[MISBEHAVIOUR], "SZLZ-", seal=settings.seal
    )
    register = Register(issued, settings.items, door)
    tell = NoticePost(settings.gateway_url, settings.region, app[MISBEHAVIOUR], composer(door.keys.webhook, clock))
    app.add_routes(
        [
            web.post("/v1/certificates/query", door.to(register.answer)),
            web.get("/v1/items", door.to(register.items_page)),
            *IssuedDesk(issued, door, clock).routes(),
            *issued.control(clock, tell).routes(),
        ]
    )
    return app


def _numbers(count: int, clock: Clock) -> Document:
    day = datetime.fromtimestamp(clock(), _BEIJING)
    return {"number": f"440300{day:%Y%m%d}{count:010d}", "short": f"SZ{count:08d}"}


def _receipt(page: Mapping[str, Any]) -> Document:
    return {
        "sourceNo": page["id"],
        "projectNo": page["number"],
        "queryNo": page["short"],
        "receiveTime": int(page["received"] * 1000),
    }


def _event(page: Mapping[str, Any], step: str, event_id: str, now: float) -> Document:
    handle: Document = {"handleState": _STATES[step], "handleTime": int(now * 1000), **_SAYS.get(step, {})}
    if step in _DUE:
        handle["deadline"] = _midnight(now + _DUE[step] * _DAYS)
    if wanted := page.get(_WANTED.get(step, "")):
        handle["materials"] = [{"materialCode": code, **_ASKS[step]} for code in wanted]
    event: Document = {"eventId": event_id, "sourceNo": page["id"], "projectNo": page["number"], "handle": handle}
    if step in _RESULTS:
        code, text = _RESULTS[step]
        event["result"] = {"resultType": code, "resultExplain": text, "resultDate": int(now * 1000)}
    return event


def _midnight(moment: float) -> int:
    """Return the midnight in Beijing at which the day of a moment began, in milliseconds."""
    day = datetime.fromtimestamp(moment, _BEIJING).replace(hour=0, minute=0, second=0, microsecond=0)
    return int(day.timestamp()) * 1000
