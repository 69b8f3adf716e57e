"""What the window's pages are lent for receipts and paper, in memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from gateway.domain.caller import Caller
from gateway.errors import NotFound
from gateway.submissions.papers import Noted, PaperReceived, PaperSent, PaperView
from gateway.submissions.results import ResultsView, ResultView
from gateway.submissions.service import Served, Service, ServiceView
from gateway.submissions.window_documents import SealMark, WindowDocument
from gateway.windows import DocumentType, Seal, Window

NAME = "广州市政务服务中心跨域通办收件专用章(1)"
SEAL = Seal("SEAL-1", NAME, frozenset(DocumentType), date(2026, 1, 1), date(2026, 12, 31))
ABOUT = {
    "item": {"code": "I", "name": "跨省异地就医备案"},
    "decided_by": {"region": "foshan", "name": "佛山市", "office_code": "440600"},
    "window": {"id": "GZ-01", "name": "跨域通办窗口", "centre": "广州市政务服务中心"},
    "operator": "C-0417",
    "query_url": "http://pearl.example/window/cases/1",
}


@dataclass
class FakePapers:
    """Parcels in memory."""

    held: list[PaperView] = field(default_factory=list)

    async def sent(self, _caller: Caller, _case: str, sent: PaperSent) -> Noted:
        """Keep a parcel."""
        said = sent.model_dump(exclude={"at"})
        self.held.append(PaperView(**said, sent_at=sent.at, received_at=None, received_by=None))
        return Noted(self.held[-1], replayed=False)

    async def received(self, _caller: Caller, _case: str, reference: str, received: PaperReceived) -> Noted:
        """Note that a parcel is there."""
        self.held = [
            replace(one, received_at=received.at, received_by=received.by) if one.reference == reference else one
            for one in self.held
        ]
        return Noted(self.held[-1], replayed=False)

    async def show(self, _caller: Caller, _case: str) -> list[PaperView]:
        """Return what there is."""
        return self.held


@dataclass
class FakeDocuments:
    """Documents that say what a test needs."""

    papers: FakePapers

    async def receipt(self, _caller: Caller, window: Window, case: str) -> WindowDocument:
        """Return a receipt with one material and an agent."""
        seal = window.sealed(DocumentType.COLLECTION_RECEIPT, date(2026, 3, 2))
        person = {"name": "陈小明", "document": {"type": "CN_RIC", "number": "**************900X"}}
        material = {
            "code": "ID", "name": "居民身份证", "file": "身份证.pdf", "sha256": "0" * 64,
            "form": "copy_of_sighted_original",
        }  # fmt: skip
        told: dict[str, Any] = {
            **ABOUT, "case": case, "applicant": person, "agent": {**person, "name": "代理人甲"}, "mandate": "MD-1",
            "materials": [material], "collected_at": "2026-03-02T02:00:00.000000Z",
            "statement": "本回执仅证明材料已收件。是否受理由佛山市的主管部门决定。",
        }  # fmt: skip
        return self._document(DocumentType.COLLECTION_RECEIPT, told, seal)

    async def handover(self, _caller: Caller, window: Window, case: str, reference: str) -> WindowDocument:
        """Return the list of a parcel that there is."""
        seal = window.sealed(DocumentType.HANDOVER_LIST, date(2026, 3, 2))
        for paper in self.papers.held:
            if paper.reference == reference:
                told = {
                    **ABOUT, "case": case, "way": paper.way, "carrier": paper.carrier, "tracking": paper.tracking,
                    "recipient": paper.recipient, "items": paper.items, "sent_at": paper.sent_at.isoformat(),
                }  # fmt: skip
                return self._document(DocumentType.HANDOVER_LIST, told, seal)
        raise NotFound("There is no such parcel of this case.", code="paper.not_found")

    def _document(self, kind: DocumentType, told: dict[str, Any], seal: Seal) -> WindowDocument:
        mark = SealMark(seal.id, seal.name, seal.valid_from, seal.valid_until)
        return WindowDocument(kind, told, mark, "the.jws")


@dataclass
class FakeResults:
    """One document of a decision, and a record of service."""

    served: ServiceView | None = None
    content: bytes = b"%PDF-1.4 the decision"

    def _view(self) -> ResultView:
        digest = hashlib.sha256(self.content).hexdigest()
        return ResultView("D1", "决定书.pdf", "application/pdf", len(self.content), digest, "stored")

    async def show(self, _caller: Caller, _case: str) -> ResultsView:
        """Return the one document."""
        return ResultsView("ready", [self._view()])

    async def open(self, _caller: Caller, _case: str, code: str) -> tuple[ResultView, AsyncIterator[bytes]]:
        """Return it with its bytes."""
        if code != "D1":
            raise NotFound("There is no such document of this case, or no longer.", code="result.not_found")

        async def pieces() -> AsyncIterator[bytes]:
            yield self.content[:4]
            yield self.content[4:]

        return self._view(), pieces()

    async def serve(self, _caller: Caller, _case: str, service: Service) -> Served:
        """Keep the record."""
        said = service.model_dump()
        self.served = ServiceView(**said, recorded_at=service.at)
        return Served(self.served, replayed=False)
