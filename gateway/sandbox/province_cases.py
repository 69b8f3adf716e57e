"""The cases of a simulated province: each goes its way by itself, or as it is told to, and leaves steps behind.

Owns: courses, steps and the messages that change them, in the notebook, so that a restart goes on where it was. Leaves
to `province_authority`: the wire, and what a message must have. Written from docs/province-exchange.md; shares no code
with the gateway. The notebook holds codes, numbers and digests, never people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from gateway.sandbox.authority import Misbehaviour, Notebook

Clock = Callable[[], float]
Entry = dict[str, Any]

CHINA = timezone(timedelta(hours=8))
WAITING = "…"
"""Stands in a plan where the province waits for a supplement."""

ENDED = frozenset({"审批", "办结", "送达", "不予受理", "不属本机关职权", "撤回", "退件", "作废"})
"""Steps after which a case cannot be withdrawn."""

USUAL = ("收件", "受理", "审批", "办结")
COURSES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "course_supplement": ("asks for a material and waits for it", ("收件", "补正告知", WAITING)),
    "course_supplement_expired": ("asks for a material that never comes", ("收件", "补正告知", "补正逾期", "退件")),
    "course_tolerant": ("accepts although a material must follow", ("收件", "容缺受理", "审批", "办结")),
    "course_tolerance_breached": ("accepts, and the material never comes", ("收件", "容缺受理", "容缺逾期", "退件")),
    "course_special": (
        "opens a special procedure and closes it",
        ("收件", "受理", "特别程序", "特别程序结束", "审批", "办结"),
    ),
    "course_extended": ("takes more time for the decision", ("收件", "受理", "延期", "审批", "办结")),
    "course_refused": ("does not accept", ("收件", "不予受理")),
    "course_no_power": ("says that it has no power to decide", ("收件", "不属本机关职权")),
    "course_delivered": ("hands the result over by post", (*USUAL, "送达")),
}
"""Orders for the next case, as misbehaviour is ordered: what happens, and the steps."""

AFTER_A_SUPPLEMENT = ("补正受理", "受理", "审批", "办结")


@dataclass(frozen=True)
class Cases:
    """The books of cases, steps and messages."""

    notebook: Notebook
    wrong: Misbehaviour
    pace: float
    clock: Clock
    area: str
    _busy: set[str] = field(default_factory=set)

    # --- taking

    def open(self, number: str, task: str, materials: Sequence[str]) -> bool:
        """Take a case unless it is there; say whether it is new."""
        self.notebook.count("arrivals", number)
        if self.notebook.get("cases", number) is not None:
            return False
        course = next((name for name in COURSES if self.wrong.due(name)), "")
        count = self.notebook.count("counters", "case")
        entry = {
            "projectNo": f"{self.area}{datetime.fromtimestamp(self.clock(), CHINA):%Y%m%d}{count:06d}",
            "queryCode": f"{self.area[:2]}{count:06d}",
            "receiveTime": self.now(),
            "taskCode": task,
            "materials": list(materials),
            "plan": list(COURSES[course][1] if course else USUAL),
            "taken": [],
            "rated": [],
        }
        self.notebook.put("cases", number, entry)
        return True

    def find(self, number: str) -> Entry | None:
        """Return a case."""
        found: Entry | None = self.notebook.get("cases", number)
        return found

    def now(self) -> str:
        """Return the time as it is written in documents."""
        return f"{datetime.fromtimestamp(self.clock(), CHINA):%Y-%m-%d %H:%M:%S}"

    # --- steps

    def unfinished(self) -> list[str]:
        """Return the numbers of the cases that have a next step."""
        return [number for number, case in self.notebook.entries("cases").items() if _next(case)]

    async def proceed(self, number: str) -> None:
        """Take the remaining steps, with a pause before each but the first. One walk a case at a time."""
        if number in self._busy:
            return
        self._busy.add(number)
        try:
            while step := _next(self._case(number)):
                if step != USUAL[0]:
                    await asyncio.sleep(self.pace)
                if step := _next(self._case(number)):  # it may have been withdrawn meanwhile
                    self._take(number, step)
        finally:
            self._busy.discard(number)

    def _take(self, number: str, step: str) -> None:
        """Note the step, then that it was taken: a stop between the two repeats it under the same id."""
        case = self._case(number)
        event = self._event(number, case, step)
        for _ in range(2 if self.wrong.due("duplicate_callback") else 1):
            self.notebook.put("events", str(self.notebook.count("counters", "event")), event)
        taken, plan = [*case["taken"], step], case["plan"][1:]
        self.notebook.put("cases", number, {**case, "taken": taken, "plan": plan})

    def _case(self, number: str) -> Entry:
        return self.find(number) or {"plan": []}

    def _event(self, number: str, case: Entry, step: str) -> Entry:
        event = {
            "stepId": f"{case['projectNo']}-{len(case['taken']) + 1}",
            "applyNo": number,
            "projectNo": case["projectNo"],
            "queryCode": case["queryCode"],
            "taskState": step,
            "operTime": self.now(),
            "operId": "无" if step == "收件" else f"{self.area[:2]}0001",
        }
        return {**event, **self._more(step, case["materials"])}

    def _more(self, step: str, materials: Sequence[str]) -> Entry:
        """Return what a step says beside the usual."""
        last = datetime.fromtimestamp(self.clock(), UTC).astimezone(CHINA) + timedelta(days=20)
        limit, code = {"limitTime": f"{last:%Y-%m-%d}"}, materials[-1] if materials else "OTHER"
        said: Mapping[str, Entry] = {
            "补正告知": {
                "operResume": "材料需要补正",
                "materialList": [{"materialCode": code, "requirement": "请重新提交", "isPaper": "否"}],
                "lawBasis": "《中华人民共和国行政许可法》第三十二条",
                **limit,
            },
            "容缺受理": {"materialList": [{"materialCode": code, "isPaper": "否"}], **limit},
            "特别程序": {"operResume": "专家评审", "limitDay": "20", "limitType": "工作日"},
            "延期": {"operResume": "案情复杂", "limitDay": "10", "limitType": "工作日", **limit},
            "不予受理": {
                "operResume": "申请事项不符合受理条件",
                "lawBasis": "《中华人民共和国行政许可法》第三十二条",
                "remedyWay": "可在六十日内申请行政复议",
            },
            "不属本机关职权": {"operResume": "请向有关行政机关申请", "remedyWay": "可在六十日内申请行政复议"},
            "办结": {"resultType": "办结", "resultResume": "已办结", "resultCertificateIdentifier": "无"},
            "送达": {"sendWay": "post"},
        }
        return said.get(step, {})

    def after(self, cursor: int, limit: int) -> tuple[list[Entry], int]:
        """Return the steps that follow a cursor, in order, and the number of the last one."""
        found: list[Entry] = []
        last = int(self.notebook.get("counters", "event") or 0)
        for number in range(cursor + 1, last + 1):
            event = self.notebook.get("events", str(number))
            if event is not None:  # a stop between counting and writing leaves a number without a step
                found.append(event)
                cursor = number
            if len(found) == limit:
                break
        return found, cursor

    # --- messages

    def supplement(self, number: str, *, complete: bool) -> bool:
        """Take a supplement; say whether the case is at a place for it."""
        case = self._case(number)
        waits = case["plan"][:1] == [WAITING]
        if waits and complete:
            self.notebook.put("cases", number, {**case, "plan": list(AFTER_A_SUPPLEMENT)})
        may_follow = "容缺受理" in case.get("taken", ()) and not ENDED.intersection(case["taken"])
        return waits or may_follow

    def withdraw(self, number: str) -> bool:
        """End a case; say whether it could be."""
        case = self._case(number)
        if ENDED.intersection(case["taken"]):
            return False
        self.notebook.put("cases", number, {**case, "plan": ["撤回"]})
        return True

    def rate(self, number: str, role: str) -> bool:
        """Take the rating of a role; say whether it was the first."""
        case = self._case(number)
        if role in case["rated"]:
            return False
        self.notebook.put("cases", number, {**case, "rated": [*case["rated"], role]})
        return True


def _next(case: Mapping[str, Any]) -> str | None:
    plan = case["plan"]
    return plan[0] if plan and plan[0] != WAITING else None
