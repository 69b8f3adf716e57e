"""The cases of a simulated province: each goes its way by itself, or as it is told to, and leaves steps behind.

Owns: what is said with each step, and keeping cases in the notebook, so that a restart goes on where it was. Leaves to
`courses` which steps there are; to `province_authority`: the wire, and what a message must have. Written from
docs/province-exchange.md; shares no code with the gateway. The notebook holds codes and numbers, never people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from gateway.sandbox.authority import Misbehaviour, Notebook
from gateway.sandbox.courses import Plan, ordered

Clock = Callable[[], float]
Entry = dict[str, Any]

CHINA = timezone(timedelta(hours=8))
WORDS: Mapping[str, str] = {
    "RECEIVED": "收件",
    "ACCEPTED": "受理",
    "NOT_ACCEPTED": "不予受理",
    "NOT_WITHIN_POWER": "不属本机关职权",
    "SUPPLEMENT_NOTICE": "补正告知",
    "SUPPLEMENTED": "补正受理",
    "SUPPLEMENT_EXPIRED": "补正逾期",
    "ACCEPTED_TOLERANT": "容缺受理",
    "TOLERANCE_BREACHED": "容缺逾期",
    "SPECIAL": "特别程序",
    "RESUMED": "特别程序结束",
    "EXTENDED": "延期",
    "DECIDED": "审批",
    "COMPLETED": "办结",
    "DELIVERED": "送达",
    "WITHDRAWN": "撤回",
    "RETURNED": "退件",
    "VOID": "作废",
}
"""A step of `gateway.sandbox.courses` → `taskState`."""


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

    def open(self, number: str, task: str, asked_for: Sequence[str], to_follow: Sequence[str]) -> bool:
        """Take a case unless it is there; say whether it is new.

        The codes are those of what a notice would ask for, and of what may follow a tolerant acceptance.
        """
        self.notebook.count("arrivals", number)
        if self.notebook.get("cases", number) is not None:
            return False
        count = self.notebook.count("counters", "case")
        entry = {
            "projectNo": f"{self.area}{datetime.fromtimestamp(self.clock(), CHINA):%Y%m%d}{count:06d}",
            "queryCode": f"{self.area[:2]}{count:06d}",
            "receiveTime": self.now(),
            "taskCode": task,
            "asked_for": list(asked_for),
            "to_follow": list(to_follow),
            "plan": Plan(ordered(self.wrong)).written(),
            "rated": [],
        }
        self.notebook.put("cases", number, entry)
        return True

    def find(self, number: str) -> Entry | None:
        """Return a case."""
        found: Entry | None = self.notebook.get("cases", number)
        return found

    def done(self, project: str) -> Sequence[str] | None:
        """Return the steps that were taken in a case, by the province's own number; None when there is none."""
        cases = self.notebook.entries("cases").values()
        return next((Plan.read(case["plan"]).done for case in cases if case["projectNo"] == project), None)

    def now(self) -> str:
        """Return the time as it is written in documents."""
        return f"{datetime.fromtimestamp(self.clock(), CHINA):%Y-%m-%d %H:%M:%S}"

    # --- steps

    def unfinished(self) -> list[str]:
        """Return the numbers of the cases that have a next step."""
        return [number for number in self.notebook.entries("cases") if self._plan(number).next]

    async def proceed(self, number: str) -> None:
        """Take the remaining steps, with a pause before each but the first. One walk a case at a time."""
        if number in self._busy:
            return
        self._busy.add(number)
        try:
            while self._plan(number).next:
                if self._plan(number).taken:
                    await asyncio.sleep(self.pace)  # the authority's own pace between two steps
                if step := self._plan(number).next:  # it may have been withdrawn meanwhile
                    self._take(number, step)
        finally:
            self._busy.discard(number)

    def _take(self, number: str, step: str) -> None:
        """Note the step, then that it was taken: a stop between the two repeats it under the same id."""
        plan = self._plan(number)
        event = self._event(number, self._case(number), plan, step)
        for _ in range(2 if self.wrong.due("duplicate_callback") else 1):
            self.notebook.put("events", str(self.notebook.count("counters", "event")), event)
        self._keep(number, plan.step())

    def _case(self, number: str) -> Entry:
        return self.find(number) or {"plan": None, "rated": []}

    def _plan(self, number: str) -> Plan:
        return Plan.read(self._case(number)["plan"])

    def _keep(self, number: str, plan: Plan) -> None:
        self.notebook.put("cases", number, {**self._case(number), "plan": plan.written()})

    def _event(self, number: str, case: Entry, plan: Plan, step: str) -> Entry:
        event = {
            "stepId": f"{case['projectNo']}-{plan.taken + 1}",
            "applyNo": number,
            "projectNo": case["projectNo"],
            "queryCode": case["queryCode"],
            "taskState": WORDS[step],
            "operTime": self.now(),
            "operId": "无" if step == "RECEIVED" else f"{self.area[:2]}0001",
        }
        return {**event, **self._more(step, case)}

    def _more(self, step: str, case: Entry) -> Entry:
        """Return what a step says beside the usual."""
        last = datetime.fromtimestamp(self.clock(), CHINA) + timedelta(days=20)
        limit = {"limitTime": f"{last:%Y-%m-%d}"}
        wanted = _listed(case["asked_for"], requirement="请重新提交", isPaper="否")
        later = _listed(case["to_follow"], isPaper="否")
        said: Mapping[str, Entry] = {
            "SUPPLEMENT_NOTICE": {
                "operResume": "材料需要补正",
                **wanted,
                "lawBasis": "《中华人民共和国行政许可法》第三十二条",
                **limit,
            },
            "ACCEPTED_TOLERANT": {**later, **limit},
            "SPECIAL": {"operResume": "专家评审", "limitDay": "20", "limitType": "工作日"},
            "EXTENDED": {"operResume": "案情复杂", "limitDay": "10", "limitType": "工作日", **limit},
            "NOT_ACCEPTED": {
                "operResume": "申请事项不符合受理条件",
                "lawBasis": "《中华人民共和国行政许可法》第三十二条",
                "remedyWay": "可在六十日内申请行政复议",
            },
            "NOT_WITHIN_POWER": {"operResume": "请向有关行政机关申请", "remedyWay": "可在六十日内申请行政复议"},
            "COMPLETED": {"resultType": "办结", "resultResume": "已办结", "resultCertificateIdentifier": "无"},
            "DELIVERED": {"sendWay": "邮寄送达"},
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
        """Take a supplement; say whether the case waits for one."""
        plan = self._plan(number)
        if plan.waits and complete:
            self._keep(number, plan.supplemented())
        return plan.waits

    def withdraw(self, number: str) -> bool:
        """End a case; say whether it could be."""
        plan = self._plan(number)
        if plan.may_be_withdrawn:
            self._keep(number, plan.withdrawn())
        return plan.may_be_withdrawn

    def rate(self, number: str, role: str) -> bool:
        """Take the rating of a role; say whether it was the first."""
        case = self._case(number)
        if role in case["rated"]:
            return False
        self.notebook.put("cases", number, {**case, "rated": [*case["rated"], role]})
        return True


def _listed(codes: Sequence[str], **said: str) -> Entry:
    """Return a list of materials with the same said of each; nothing where there are none."""
    return {"materialList": [{"materialCode": code, **said} for code in codes]} if codes else {}
