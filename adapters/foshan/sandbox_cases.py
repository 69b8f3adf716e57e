"""The cases of the simulated Foshan: what becomes of one after its receipt, and the events that it leaves behind.

Owns: the city's words for a step and what goes with it, taking the steps one after the other, and the one sequence of
events that is polled. Leaves to others: what comes in (`sandbox`, `sandbox_messages`), and the wire. The notebook
holds codes and digests, never people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from adapters.foshan.sandbox_wire import local
from gateway.sandbox.authority import Misbehaviour, Notebook, in_background
from gateway.sandbox.courses import Plan

Clock = Callable[[], datetime]

CODES: Mapping[str, str] = {
    "RECEIVED": "10",
    "ACCEPTED": "20",
    "NOT_ACCEPTED": "21",
    "ACCEPTED_TOLERANT": "22",
    "NOT_WITHIN_POWER": "23",
    "SUPPLEMENT_NOTICE": "30",
    "SUPPLEMENTED": "31",
    "SUPPLEMENT_EXPIRED": "32",
    "SPECIAL": "40",
    "RESUMED": "41",
    "EXTENDED": "42",
    "TOLERANCE_BREACHED": "43",
    "DECIDED": "50",
    "COMPLETED": "60",
    "DELIVERED": "70",
    "WITHDRAWN": "80",
    "RETURNED": "81",
    "VOID": "82",
}
"""A step → `Status`."""

_OFFICER = "FS0001"
_SILENT = ("10", "32", "43", "80")
"""Steps that nobody takes: they come by themselves, or from the applicant."""

_SAYS: Mapping[str, Mapping[str, Any]] = {
    "21": {
        "Reason": "不予受理：申请事项不符合受理条件",
        "Basis": "《行政许可法》第三十二条",
        "Remedy": "六十日内可申请行政复议，六个月内可提起行政诉讼",
    },
    "22": {"Reason": "容缺受理"},
    "23": {"Reason": "不属于本机关职权范围", "Remedy": "请向有权机关申请"},
    "30": {"Reason": "材料不齐", "Basis": "《行政许可法》第三十二条"},
    "32": {"Reason": "逾期未补正"},
    "40": {"Reason": "专家评审", "Limit": {"Days": 30, "Unit": "G"}},
    "42": {"Reason": "经负责人批准延长", "Limit": {"Days": 10, "Unit": "G"}, "Basis": "《行政许可法》第四十二条"},
    "43": {"Reason": "承诺期限内未补交"},
    "60": {"Result": {"Code": "6", "Text": "办结"}},
    "70": {"Way": "WINDOW"},
    "80": {"Reason": "申请人撤回"},
    "81": {"Reason": "退回申请人", "Result": {"Code": "1", "Text": "退回办结"}},
    "82": {"Reason": "作废", "Result": {"Code": "2", "Text": "作废办结"}},
}
_DUE: Mapping[str, timedelta] = {"30": timedelta(days=15), "22": timedelta(days=20), "42": timedelta(days=14)}
_WISHES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "30": ("asked_for", {"Reason": "请提供清晰的原件扫描件", "Paper": "false"}),
    "22": ("to_follow", {"Reason": "可在承诺期限内补交"}),
}
"""A `Status` → where a case has the codes of the materials that it asks for, and what it says of each."""
_ORDER = ("Operator", "Reason", "DueOn", "Limit", "Materials", "Basis", "Remedy", "Way", "Result")


@dataclass(frozen=True, slots=True)
class Cases:
    """The cases after their receipt: each goes its way by itself and leaves events behind."""

    notebook: Notebook
    wrong: Misbehaviour
    pace: float
    clock: Clock
    busy: set[str] = field(default_factory=set)

    def unfinished(self) -> list[str]:
        """Return the numbers of the cases that have a next step."""
        return [case_no for case_no in self.notebook.entries("cases") if self.plan(case_no).next]

    def go_on(self, app: web.Application, case_no: str) -> None:
        """Take the case on in the background, unless somebody is at it already."""
        if case_no not in self.busy:
            self.busy.add(case_no)
            in_background(app, self._proceed(case_no))

    def plan(self, case_no: str) -> Plan:
        """Return what the case has behind and before it."""
        return Plan.read(self._page(case_no).get("plan"))

    def replan(self, case_no: str, plan: Plan, **changes: Any) -> None:
        """Write down how the case goes on from now."""
        self.notebook.put("cases", case_no, {**self._page(case_no), "plan": plan.written(), **changes})

    async def _proceed(self, case_no: str) -> None:
        """Take the steps that can be taken now, with a pause before each but the first."""
        try:
            while self.plan(case_no).next:
                if self.plan(case_no).taken:
                    await asyncio.sleep(self.pace)  # the authority's own pace between two steps
                self._take(case_no)
        finally:
            self.busy.discard(case_no)

    def _take(self, case_no: str) -> None:
        # The event first: a stop between the two repeats it under the same EventId instead of losing it. What was said
        # during the pause may have changed which step it is.
        case, plan = self._page(case_no), self.plan(case_no)
        code = CODES[str(plan.next)]
        event = _event(case_no, case, code, self.clock())
        self._note(event)
        if self.wrong.due("duplicate_callback"):
            self._note(event)
        self.replan(case_no, plan.step(), state=code)

    def _page(self, case_no: str) -> dict[str, Any]:
        page: dict[str, Any] = self.notebook.get("cases", case_no) or {}
        return page

    def _note(self, event: Mapping[str, Any]) -> None:
        self.notebook.put("events", str(self.notebook.count("counters", "event")), event)

    def after(self, cursor: int, limit: int) -> list[tuple[int, Mapping[str, Any]]]:
        """Return the events that follow the cursor, in order, with their numbers."""
        found: list[tuple[int, Mapping[str, Any]]] = []
        last = int(self.notebook.get("counters", "event") or 0)
        for number in range(cursor + 1, last + 1):
            event = self.notebook.get("events", str(number))
            if event is not None:  # a stop between counting and writing leaves a number without an event
                found.append((number, event))
            if len(found) == limit:
                break
        return found


def _event(case_no: str, case: Mapping[str, Any], code: str, now: datetime) -> dict[str, Any]:
    event = {
        "EventId": f"{case['AcceptNo']}-{code}",
        "CaseNo": case_no,
        "AcceptNo": case["AcceptNo"],
        "Status": code,
        "OccurredAt": local(now),
    }
    said = _said(code, case, now)
    return event | {name: said[name] for name in _ORDER if name in said}


def _said(code: str, case: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return what a step says beyond its numbers."""
    said: dict[str, Any] = {**({} if code in _SILENT else {"Operator": _OFFICER}), **_SAYS.get(code, {})}
    if code in _DUE:
        said["DueOn"] = local(now + _DUE[code])[:10]
    where, wish = _WISHES.get(code, ("", {}))
    if wanted := case.get(where):
        said["Materials"] = {"Material": [{"@code": each, **wish} for each in wanted]}
    return said
