"""Documents of decided cases at the simulated authority of Hong Kong (README.md, "Result documents").

Owns: whose documents are handed out, and cutting one into pieces. Leaves to `sandbox_cases`: the cases.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from adapters.hongkong.sandbox_messages import DocumentPiece, DocumentsQuery, read
from adapters.hongkong.sandbox_wire import GONE, NO_CASE, REFUSED, Refusal
from gateway.sandbox import decision
from gateway.sandbox.authority import Misbehaviour, Notebook
from gateway.sandbox.courses import Plan

PIECE = 512 * 1024


class ResultRoom:
    """Where the documents of decided cases are."""

    def __init__(self, book: Notebook, wrong: Misbehaviour) -> None:
        self._book = book
        self._wrong = wrong

    def works(self) -> dict[str, Callable[[bytes], dict[str, Any]]]:
        """Return what is done at each path below `/api/v1/cases/`."""
        return {"documents": self._list, "documents/download": self._hand_out}

    def _list(self, plain: bytes) -> dict[str, Any]:
        number = read(DocumentsQuery, plain).case_no
        body = decision.decision(number)
        row = {
            "code": decision.CODE,
            "name": "決定書.pdf",
            "mimeType": decision.MEDIA_TYPE,
            "size": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        return {"caseNo": number, "documents": [row] if self._is_decided(number) else []}

    def _hand_out(self, plain: bytes) -> dict[str, Any]:
        asked = read(DocumentPiece, plain)
        if not self._is_decided(asked.case_no) or asked.code != decision.CODE:
            raise Refusal(NO_CASE)
        if self._wrong.due("result_gone"):
            raise Refusal(GONE)
        body = decision.decision(asked.case_no)
        sent = decision.altered(body) if self._wrong.due("other_bytes") else body
        piece = sent[asked.offset : asked.offset + PIECE]
        return {
            "caseNo": asked.case_no,
            "code": asked.code,
            "offset": asked.offset,
            "sha256": hashlib.sha256(body).hexdigest(),
            "data": b64encode(piece).decode(),
        }

    def _is_decided(self, number: str) -> bool:
        """Say whether there is a decision. Raises Refusal for a case that is not here, or leaves without consent."""
        page = next((page for page in self._book.entries("cases").values() if page["caseNo"] == number), None)
        if page is None:
            raise Refusal(NO_CASE)
        if not page["consented"]:
            raise Refusal(REFUSED, [{"field": "caseNo", "reason": "the applicant's consent is not known"}])
        return not decision.DECIDED.isdisjoint(Plan.read(page["plan"]).done)
