"""The documents of decided cases at the simulated Foshan (README.md, "Result documents").

Owns: listing them, and handing one out in parts. Leaves to `sandbox_cases`: the cases; to `gateway.sandbox.decision`:
the document.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lxml import etree

from adapters.foshan import sandbox_rules as rules
from adapters.foshan.sandbox_cases import Cases
from adapters.foshan.sandbox_rules import Record, Rule
from adapters.foshan.sandbox_wire import E, FaultError, filled
from gateway.sandbox import decision

Work = Callable[[Record], etree._Element]


@dataclass(frozen=True, slots=True)
class ResultRoom:
    """Where the documents of decided cases are."""

    cases: Cases

    def operations(self) -> Mapping[str, tuple[Rule, Work]]:
        """Return the operations, with the rule of each request."""
        return {
            "QueryResults": (rules.RESULT_QUERY, self._list),
            "GetResult": (rules.RESULT_REQUEST, self._hand_out),
        }

    def _list(self, query: Record) -> etree._Element:
        number = query["AcceptNo"]
        body = decision.decision(number)
        row = {
            "@code": decision.CODE,
            "Name": decision.NAME,
            "MediaType": decision.MEDIA_TYPE,
            "Size": len(body),
            "Digest": {"@alg": "SHA-256", "text": hashlib.sha256(body).hexdigest()},
        }
        return filled(E.ResultList(), {"AcceptNo": number, "Document": [row] if self._is_decided(number) else []})

    def _hand_out(self, asked: Record) -> etree._Element:
        number, offset = asked["AcceptNo"], int(asked["Offset"])
        if not self._is_decided(number) or asked["Code"] != decision.CODE:
            raise FaultError("unknown-document", "Code: the case has no such document")
        if self.cases.wrong.due("result_gone"):
            raise FaultError("gone", "Code: the document is kept no longer")
        body = decision.decision(number)
        if self.cases.wrong.due("other_bytes"):
            body = decision.altered(body)
        part = body[offset : offset + int(asked["Length"])]
        numbers = {name: asked[name] for name in ("AcceptNo", "Code", "Offset")}
        return filled(E.ResultPart(), {**numbers, "Size": len(body), "Content": b64encode(part).decode()})

    def _is_decided(self, number: str) -> bool:
        cases = self.cases.notebook.entries("cases")
        found = next((case_no for case_no, case in cases.items() if case["AcceptNo"] == number), None)
        if found is None:
            raise FaultError("unknown-case", "AcceptNo: Foshan has no such case")
        return not decision.DECIDED.isdisjoint(self.cases.plan(found).done)
