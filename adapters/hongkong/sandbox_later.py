"""What is said of a case later, at the simulated authority of Hong Kong (README.md, "Messages about a case").

Owns: the notebook's book `messages`: taking each message once, and what it does to its case. Leaves to
`sandbox_messages`: what a message must look like; to `sandbox_cases`: the course of a case. The book holds no personal
data: a message is kept as its number, its kind and its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from adapters.hongkong.sandbox_cases import Cases
from adapters.hongkong.sandbox_messages import CaseMessage, Complaint, MessageQuery, Supplement, Withdrawal, read
from adapters.hongkong.sandbox_wire import NO_CASE, REFUSED, Refusal
from gateway.sandbox.authority import Notebook

Work = Callable[[bytes], dict[str, Any]]
_KINDS: Mapping[str, type[CaseMessage]] = {"supplement": Supplement, "withdraw": Withdrawal, "complain": Complaint}


class Later:
    """Takes messages about cases, and answers for those that it took."""

    def __init__(self, book: Notebook, cases: Cases) -> None:
        self._book = book
        self._cases = cases

    def works(self) -> dict[str, Work]:
        """Return what is done at each path below `/api/v1/cases/`."""
        return {**{path: self._taking(kind) for path, kind in _KINDS.items()}, "messages/query": self._query}

    def _taking(self, kind: type[CaseMessage]) -> Work:
        def take(plain: bytes) -> dict[str, Any]:
            """Do what the message says, the first time it comes; answer the same each time."""
            message = read(kind, plain, self._cases.register)
            if self._book.get("messages", message.message_id) is None:
                self._act(message)
                self._book.put("messages", message.message_id, self._page(message, plain))
                self._cases.go_on(message.ref_no)
            self._book.count("arrivals", message.message_id)
            return self._receipt(message.message_id)

        return take

    def _page(self, message: CaseMessage, plain: bytes) -> dict[str, Any]:
        return {
            "kind": type(message).__name__.lower(),
            "refNo": message.ref_no,
            "receivedAt": self._cases.now(),
            "digest": hashlib.sha256(plain).hexdigest(),
        }

    def _act(self, message: CaseMessage) -> None:
        self._check_case(message)
        match message:
            case Supplement():
                self._supplement(message)
            case Withdrawal():
                self._withdraw(message)

    def _check_case(self, message: CaseMessage) -> None:
        try:
            right = self._cases.case(message.ref_no)["caseNo"] == message.case_no
        except Refusal:
            right = False
        if not right:
            raise _refused("refNo", "is not the case of this caseNo")

    def _supplement(self, message: Supplement) -> None:
        plan = self._cases.plan(message.ref_no)
        if not plan.waits:
            raise _refused("refNo", "nothing was asked for, or it is no longer waited for")
        if message.complete:
            self._cases.replan(message.ref_no, plan.supplemented())

    def _withdraw(self, message: Withdrawal) -> None:
        plan = self._cases.plan(message.ref_no)
        if not plan.may_be_withdrawn:
            raise _refused("refNo", "the case is decided or has ended")
        self._cases.replan(message.ref_no, plan.withdrawn())

    def _query(self, plain: bytes) -> dict[str, Any]:
        return self._receipt(read(MessageQuery, plain).message_id)

    def _receipt(self, message_id: str) -> dict[str, Any]:
        page = self._book.get("messages", message_id)
        if page is None:
            raise Refusal(NO_CASE)
        return {"messageID": message_id, "receivedAt": page["receivedAt"]}


def _refused(field: str, reason: str) -> Refusal:
    return Refusal(REFUSED, [{"field": field, "reason": reason}])
