"""Cases at the simulated Qingyuan after their notice: pulled by the machine itself, then on their way, step by step.

Owns: when the machine pulls, how often it tries, the steps of a case and the reports that it leaves behind for whoever
polls; all of it in the notebook, so that a restart goes on where it stopped. Leaves pulling to `sandbox_pulls.py`,
rules to `sandbox_rules.py`. The notebook holds numbers and digests, never people.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

from lxml import etree

from adapters.qingyuan import sandbox_rules as rules
from adapters.qingyuan.sandbox_pulls import Puller, PullFailedError
from adapters.qingyuan.sandbox_rules import Record, SchemaError
from gateway.sandbox.authority import Misbehaviour, Notebook
from gateway.sandbox.courses import REFUSED, Plan, ordered
from gateway.sandbox.left_out import BOOK

CHINA = timezone(timedelta(hours=8))
CODES: Mapping[str, str] = {
    "RECEIVED": "3",
    "ACCEPTED": "0",
    "SUPPLEMENT_NOTICE": "1",
    "NOT_ACCEPTED": "4",
    "SPECIAL": "5",
    "RESUMED": "6",
    "DECIDED": "7",
    "COMPLETED": "8",
    "DELIVERED": "9",
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
"""The steps of a case → EXPRESSTYPE of the report."""
REFUSING_NAME = "不予受理"
"""An applicant whose name contains this is not accepted."""
_RETURNED = ("RECEIVED", "RETURNED")
_LONGEST_PAUSE = 5.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Cases:
    """The cases and messages of the machine. `pace` is in seconds; `start` runs work in the background."""

    notebook: Notebook
    wrong: Misbehaviour
    pace: float
    clock: Callable[[], datetime]
    puller: Puller
    start: Callable[[Awaitable[None]], None]
    items: Mapping[str, Mapping[str, Any]]
    """Code of an item that the city handles → what is known of it."""
    register: Sequence[Mapping[str, Any]]
    """The certificates that the city issued."""
    _busy: set[str] = field(default_factory=set)

    # --- notices ---------------------------------------------------------------------------------------------------

    def announce(self, notice: Record) -> Record:
        """Take the notice of a case, once; return the case's page."""
        case = notice["WWBH"]
        self.notebook.count("arrivals", case)
        if self.page(case) is None:
            number = self.notebook.count("counters", "case")
            page = {
                "SBLSH": f"441800{self.clock().astimezone(CHINA):%Y%m%d}{number:06d}",
                "SBLSH_SHORT": f"QY{number:06d}",
                "JSSJ": self.now(),
                "SXBM": notice["SXBM"],
                "CLSL": int(notice["CLSL"]),
                "state": "",
                "pulled": False,
                "plan": Plan(ordered(self.wrong)).written(),
            }
            self.notebook.put("cases", case, page)
            self.go_on(case)
        return self.page(case) or {}

    def take_message(self, kind: str, message: Record, digest: str = "") -> Record:
        """Take a message about a case, or the notice of a supplement, once; return the message's page."""
        key = message["XXBH"]
        self.notebook.count("arrivals", key)
        if self.notebook.get("messages", key) is None:
            page = {"WWBH": message["WWBH"], "kind": kind, "JSSJ": self.now(), "digest": digest, "pulled": False}
            self.notebook.put("messages", key, page)
            if kind == "supplement":
                self.start(self._fetch_supplement(message["WWBH"], key))
            elif kind == "withdrawal":
                self._withdraw(message["WWBH"])
        return dict(self.notebook.get("messages", key) or {})

    def plan(self, case: str) -> Plan:
        """Return the steps of a case, and how far it is."""
        return Plan.read((self.page(case) or {}).get("plan"))

    def page(self, case: str) -> Record | None:
        """Return what is known of a case."""
        return self.notebook.get("cases", case)

    def is_known(self, key: str) -> bool:
        """Say whether a message of this number was taken."""
        return self.notebook.get("messages", key) is not None

    def now(self) -> str:
        """Return the time as the documents write it."""
        return f"{self.clock().astimezone(CHINA):%Y-%m-%d %H:%M:%S}"

    def resume(self) -> None:
        """Go on with everything that has a next step, after a restart."""
        for case in self.notebook.entries("cases"):
            self.go_on(case)
        for key, page in self.notebook.entries("messages").items():
            if page["kind"] == "supplement" and not page["pulled"]:
                self.start(self._fetch_supplement(page["WWBH"], key))

    # --- the course --------------------------------------------------------------------------------------------------

    def go_on(self, case: str) -> None:
        """Let the case proceed by itself, unless it does already."""
        if case not in self._busy:
            self._busy.add(case)
            self.start(self._proceed(case))

    async def _proceed(self, case: str) -> None:
        try:
            await self._until_pulled(lambda: self._pull_case(case), lambda: self._needs_no_pull(case))
            while self.plan(case).next:
                if self.plan(case).done:
                    await asyncio.sleep(self.pace)  # the authority's own pace between two steps
                if step := self.plan(case).next:  # a withdrawal may have come meanwhile
                    self._take(case, step)
        finally:
            self._busy.discard(case)

    def _take(self, case: str, step: str) -> None:
        # The report first: a stop between the two repeats it under the same number instead of losing it.
        page, plan = self.page(case) or {}, self.plan(case)
        report = self._report(case, page, step, len(plan.done))
        self._note(report)
        if self.wrong.due("duplicate_callback"):
            self._note(report)
        self.notebook.put("cases", case, {**page, "state": step, "plan": plan.step().written()})

    def _change(self, case: str, **values: Any) -> None:
        self.notebook.put("cases", case, {**(self.page(case) or {}), **values})

    def _withdraw(self, case: str) -> None:
        if self.plan(case).may_be_withdrawn:
            self._change(case, plan=self.plan(case).withdrawn().written())
            self.go_on(case)

    # --- reports -----------------------------------------------------------------------------------------------------

    def _report(self, case: str, page: Record, step: str, number: int) -> str:
        now = self.clock().astimezone(CHINA)
        fields = {
            "SJBH": f"{page['SBLSH']}-{number:02d}",
            "WWBH": case,
            "SBLSH": page["SBLSH"],
            "SBLSH_SHORT": page["SBLSH_SHORT"],
            "SXBM": page["SXBM"],
            "EXPRESSTYPE": CODES[step],
            "FSSJ": f"{now:%Y%m%d%H%M%S}",
            "BLRGH": "" if step == "RECEIVED" else "QY0001",
            **_details(step, page, now),
        }
        return "&".join(f"{name}={quote(value.encode('gb18030'), safe='')}" for name, value in fields.items())

    def _note(self, report: str) -> None:
        self.notebook.put("events", str(self.notebook.count("counters", "event")), report)

    def reports_after(self, number: int, limit: int) -> list[tuple[int, str]]:
        """Return the reports that follow a number, in order, with their numbers."""
        last = int(self.notebook.get("counters", "event") or 0)
        found = ((each, self.notebook.get("events", str(each))) for each in range(number + 1, last + 1))
        return [(each, report) for each, report in found if report is not None][:limit]

    # --- pulling -----------------------------------------------------------------------------------------------------

    def _needs_no_pull(self, case: str) -> bool:
        """Say whether the case is here, or was withdrawn before it was."""
        return (self.page(case) or {})["pulled"] or self.plan(case).next == "WITHDRAWN"

    async def _pull_case(self, case: str) -> None:
        document = await self.puller.document(case)
        try:
            record = self._record(case, document)
        except SchemaError as wrong:  # what is not as agreed is returned to where it came from
            _log.info("returned: %s", wrong)
            self._pulled(case, document, plan=Plan(_RETURNED).written())
            return
        files, left_out = rules.listed(record), rules.left_out(record)
        for file in files:
            await self.puller.material(case, file)
            self.notebook.put("materials", f"{case}/{file.sha256}", {"size": file.size})
        plan = Plan(REFUSED) if REFUSING_NAME in record["SQR"]["SQRMC"] else self.plan(case)
        given = [file.code for file in files]
        wanted = {"wanted": left_out.asked_for(given), "to_follow": left_out.to_follow(given)}
        self.notebook.put(BOOK, case, left_out.written())
        self._pulled(case, document, plan=plan.written(), **wanted)

    def _pulled(self, case: str, document: etree._Element, **values: Any) -> None:
        digest = hashlib.sha256(etree.tostring(document)).hexdigest()
        if not self._needs_no_pull(case):
            self._change(case, digest=digest, pulled=True, **values)

    def _record(self, case: str, document: etree._Element) -> Record:
        """Return the case as it was read. Raises SchemaError for whatever is wrong with it."""
        page, record = self.page(case) or {}, rules.read(document, rules.APPLICATION)
        given = [file.code for file in rules.listed(record)]
        if (record["WWBH"], record["SX"]["@SXBM"], len(given)) != (case, page["SXBM"], page["CLSL"]):
            raise SchemaError("another case than the notice said")
        item, today = self.items[page["SXBM"]], self.clock().astimezone(CHINA).date()
        faults = [*rules.left_out(record).faults(item, given, self.register, today)]
        if faults:
            raise SchemaError("; ".join(f"{fault.group} {fault.place}: {fault.reason}" for fault in faults))
        return record

    async def _fetch_supplement(self, case: str, key: str) -> None:
        await self._until_pulled(lambda: self._pull_supplement(case, key), lambda: False)

    async def _pull_supplement(self, case: str, key: str) -> None:
        document = await self.puller.document(case, key)
        try:
            record = rules.read(document, rules.SUPPLEMENT)
        except SchemaError as wrong:
            _log.info("supplement is not as agreed: %s", wrong)
            return
        for file in rules.listed(record):
            await self.puller.material(case, file, key)
            self.notebook.put("materials", f"{case}/{file.sha256}", {"size": file.size})
        self.notebook.put("messages", key, {**(self.notebook.get("messages", key) or {}), "pulled": True})
        if record["SFQB"] == "1":
            self._supplemented(case)

    def _supplemented(self, case: str) -> None:
        if self.plan(case).waits:
            self._change(case, plan=self.plan(case).supplemented().written())
            self.go_on(case)

    async def _until_pulled(self, pull: Callable[[], Awaitable[None]], is_over: Callable[[], bool]) -> None:
        """Try until it is done, or the gateway says that it is too late; with a growing pause."""
        pause = max(self.pace, 0.01)
        while not is_over():
            if self.wrong.due("late_pull"):
                await asyncio.sleep(self.wrong.seconds)  # the fault that was asked for
            if await self._tried(pull):
                return
            await asyncio.sleep(pause)  # the machine comes when it likes
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _tried(self, pull: Callable[[], Awaitable[None]]) -> bool:
        """Try once; return whether there is nothing more to try."""
        if self.wrong.active.get("no_pull"):
            return False
        try:
            await pull()
            if self.wrong.due("double_pull"):
                await pull()
        except PullFailedError as failure:
            _log.info("not pulled: %s", failure)
            return failure.code == "410"
        return True


def _materials(codes: Sequence[str], wish: str) -> dict[str, str]:
    """Return what a report says of the materials that are wanted, side by side."""
    each = {"BZCLMC": "材料", "BZCLYQ": wish, "BZCLZZ": "0"}
    said = {"BZCLBM": ";;".join(codes), **{name: ";;".join([text] * len(codes)) for name, text in each.items()}}
    return said if codes else {}


def _details(step: str, page: Record, now: datetime) -> dict[str, str]:
    """Return what a report says beyond its step."""
    due = f"{now + timedelta(days=10):%Y%m%d}"
    law = "《中华人民共和国行政许可法》第三十二条"
    known = {
        "SUPPLEMENT_NOTICE": {
            "BZ": "请一次补齐",
            **_materials(page.get("wanted", ()), "缺签名"),
            "QX": due,
            "FLYJ": law,
        },
        "NOT_ACCEPTED": {"BZ": "申请事项不符合受理条件", "FLYJ": law, "JJTJ": "可在六十日内申请行政复议"},
        "NOT_WITHIN_POWER": {"BZ": "不属于本机关职权", "FLYJ": law},
        "SPECIAL": {"BZ": "专家评审", "TBCXSX": "20", "TBCXSXDW": "G"},
        "COMPLETED": {"BJJGDM": "6", "BJJGMS": "办结"},
        "DELIVERED": {"LQFS": "window"},
        "ACCEPTED_TOLERANT": {"BZ": "容缺受理", **_materials(page.get("to_follow", ()), "限期补交"), "QX": due},
        "EXTENDED": {"BZ": "经批准延期", "TBCXSX": "10", "TBCXSXDW": "G", "QX": due},
        "WITHDRAWN": {"BZ": "申请人撤回"},
        "RETURNED": {"BZ": "退回", "ZFHTHYY": "不符合要求"},
        "VOID": {"BZ": "作废", "BJJGDM": "2", "BJJGMS": "作废办结"},
    }
    return known.get(step, {})
