"""What is said of a case later, at the simulated Foshan: supplements, withdrawals, ratings and complaints.

Owns: taking each message once, what it does to its case, and QueryMessage. Leaves the rules of the elements to
`sandbox_rules.py`, the course of a case to `sandbox_cases.py`. The notebook holds numbers, kinds and digests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web
from lxml import etree

from adapters.foshan import sandbox_rules as rules
from adapters.foshan.sandbox_cases import Cases, Clock
from adapters.foshan.sandbox_rules import Record, Rule
from adapters.foshan.sandbox_wire import E, FaultError, local
from gateway.sandbox.authority import Notebook

Work = Callable[[Record], etree._Element]


def check_uploads(notebook: Notebook, record: Record) -> None:
    """Hold every listed material against what was uploaded for its case. Raises FaultError naming all that is wrong."""
    problems = []
    for place, material in enumerate(record["Materials"]["Material"], start=1):
        kept = notebook.get("materials", f"{record['CaseNo']}/{material['Digest']['text'].lower()}")
        if kept is None:
            problems.append(f"Material[{place}]: not uploaded for this case")
        elif kept != {"size": int(material["Size"]), "media_type": material["MediaType"]}:
            problems.append(f"Material[{place}]: Size or MediaType is not that of the upload")
    if problems:
        raise FaultError("digest", "; ".join(problems[: rules.MOST_PROBLEMS]))


@dataclass(frozen=True, slots=True)
class Mailroom:
    """Where messages about cases are handed in, and where one can ask for them."""

    app: web.Application
    cases: Cases
    clock: Clock

    def operations(self) -> Mapping[str, tuple[Rule, Work]]:
        """Return the operations of README.md that concern messages, with the rule of each request."""
        acts: Mapping[str, tuple[Rule, Callable[[Record], None]]] = {
            "SubmitSupplement": (rules.SUPPLEMENT, self._supplement),
            "SubmitWithdrawal": (rules.WITHDRAWAL, self._withdraw),
            "SubmitRating": (rules.RATING, self._rate),
            "SubmitComplaint": (rules.COMPLAINT, lambda _complaint: None),
        }
        taking = {name: (rule, self._taking(rule.name.lower(), act)) for name, (rule, act) in acts.items()}
        return {**taking, "QueryMessage": (rules.MESSAGE_QUERY, self._query)}

    def _taking(self, kind: str, act: Callable[[Record], None]) -> Work:
        def take(message: Record) -> etree._Element:
            """Do what the message says, the first time it comes; answer the same each time."""
            book, number = self.cases.notebook, message["MessageNo"]
            if book.get("messages", number) is None:
                self._check_case(message)
                act(message)
                book.put("messages", number, self._page(kind, message))
                self.cases.go_on(self.app, message["CaseNo"])
            book.count("arrivals", number)
            return self._receipt(number)

        return take

    def _page(self, kind: str, message: Record) -> dict[str, str]:
        content = json.dumps(message, sort_keys=True, ensure_ascii=False).encode()
        return {
            "kind": kind,
            "CaseNo": message["CaseNo"],
            "ReceivedAt": local(self.clock()),
            "digest": hashlib.sha256(content).hexdigest(),
        }

    def _check_case(self, message: Record) -> None:
        case = self.cases.notebook.get("cases", message["CaseNo"])
        if case is None or case["AcceptNo"] != message["AcceptNo"]:
            raise FaultError("unknown-case", "CaseNo, AcceptNo: Foshan has no such case")

    def _supplement(self, message: Record) -> None:
        plan = self.cases.plan(message["CaseNo"])
        if not plan.waits:
            raise FaultError("state", "nothing was asked for, or it is no longer waited for")
        check_uploads(self.cases.notebook, message)
        if message["Complete"] == "true":
            self.cases.replan(message["CaseNo"], plan.supplemented())

    def _withdraw(self, message: Record) -> None:
        plan = self.cases.plan(message["CaseNo"])
        if not plan.may_be_withdrawn:
            raise FaultError("state", "the case is decided or has ended")
        self.cases.replan(message["CaseNo"], plan.withdrawn())

    def _rate(self, message: Record) -> None:
        case_no, role = message["CaseNo"], message["Role"]
        plan, rated = self.cases.plan(case_no), (self.cases.notebook.get("cases", case_no) or {}).get("rated", [])
        if not plan.is_completed:
            raise FaultError("state", "there is nothing to rate before the case is completed")
        if role in rated:
            raise FaultError("state", "Role: this one was rated already")
        self.cases.replan(case_no, plan, rated=[*rated, role])

    def _query(self, query: Record) -> etree._Element:
        return self._receipt(query["MessageNo"])

    def _receipt(self, number: str) -> etree._Element:
        page = self.cases.notebook.get("messages", number)
        if page is None:
            return E.NoSuchMessage(E.MessageNo(number))
        return E.MessageReceipt(E.MessageNo(number), E.CaseNo(page["CaseNo"]), E.ReceivedAt(page["ReceivedAt"]))
