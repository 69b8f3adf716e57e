"""Certificates that are named, at the simulated authority of Shenzhen (README.md, "One certificate").

Owns: questions by identifier and by shown code, files, reports of errors and their replies, and a notice as it is
pushed. Leaves to `gateway.sandbox.issued` what there is and what has become of it; to `sandbox_register` how a
certificate is written. Shares nothing with `adapter.py`.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.shenzhen.sandbox_messages import WORDS, Dispute, Named
from adapters.shenzhen.sandbox_register import STATES, certificate, is_authorised
from gateway.sandbox.exchange_documents import read
from gateway.sandbox.exchange_wire import Asked, Clock, Document, Door, Paper, Refusal
from gateway.sandbox.issued import MEDIA_TYPE, UNKNOWN_STATUS, Change, Compose, Letter, Register, Row

_BEIJING = timezone(timedelta(hours=8))
_NO_FILE = {"expired": ("22", "expired"), "suspended": ("23", "restricted in use"), "superseded": ("24", "replaced")}
_REPLIES = {"open": "0", "corrected": "1", "rejected": "2"}


class _Status(Exception):
    """What is answered in place of a certificate or its file: a status, and words."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(status)
        self.document: Document = {"status": status, "message": message}


@dataclass(frozen=True, slots=True)
class IssuedDesk:
    """Answers for single certificates."""

    register: Register
    door: Door
    clock: Clock

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of README.md, "One certificate"."""
        place, to = "/v1/certificates", self.door.to
        return [
            web.post(f"{place}/data", to(self._by_identifier)),
            web.post(f"{place}/shown", to(self._by_code)),
            web.post(f"{place}/file", to(self._file)),
            web.post(f"{place}/disputes", to(self._dispute)),
            web.get(f"{place}/disputes/{{number}}", to(self._reply)),
        ]

    async def _by_identifier(self, asked: Asked) -> Document:
        return await self._answer(asked, self._named)

    async def _by_code(self, asked: Asked) -> Document:
        return await self._answer(asked, self._shown)

    async def _answer(self, asked: Asked, find: Callable[[Named], Row | None]) -> Document:
        try:
            row = find(await self._read(asked))
        except _Status as told:
            return told.document
        if row is None:
            return {"status": "10", "message": "none"}
        return {"status": "00", "message": "ok", "certificates": [certificate(row)]}

    async def _read(self, asked: Asked) -> Named:
        """Return a question that may be answered. Raises Refusal or _Status."""
        question = read(Named, await self.door.document(asked), WORDS)
        if self.register.wrong.due("unknown_status"):
            raise _Status(UNKNOWN_STATUS, "?")
        if not question.is_whole():
            raise _Status("12", "a mandatory member is empty")
        if not is_authorised(question.attributes):
            raise _Status("14", "the authorisation is not known")
        return question

    def _named(self, question: Named) -> Row | None:
        if question.certificate_identifier is None:
            raise _Status("12", "certificateIdentifier is wanted")
        return self.register.named(question.certificate_identifier)

    def _shown(self, question: Named) -> Row | None:
        if question.certificate_code is None:
            raise _Status("12", "certificateCode is wanted")
        return self.register.shown(question.certificate_code)

    async def _file(self, asked: Asked) -> Document | Paper:
        """Hand a file out; its signature stands in the head. One that is not in force has none to be handed out."""
        try:
            row = self._named(await self._read(asked))
        except _Status as told:
            return told.document
        if row is None:
            return {"status": "10", "message": "none"}
        worth = self.register.worth(row, datetime.fromtimestamp(self.clock(), _BEIJING).date())
        if worth != "valid":
            status, message = _NO_FILE.get(worth, ("21", "revoked or cancelled"))
            return {"status": status, "message": message}
        content = self.register.file(row)
        return Paper(content, MEDIA_TYPE, content)

    async def _dispute(self, asked: Asked) -> Document:
        said = read(Dispute, await self.door.document(asked), WORDS)
        if asked.request.headers.get("Idempotency-Key") != said.dispute_no:
            raise Refusal(422, "REFUSED", "Idempotency-Key and the document name different things")
        number = self.register.dispute(said.dispute_no, said.certificate_identifier)
        if number is None:
            errors = [{"field": "certificateIdentifier", "reason": "is not a certificate of this city"}]
            raise Refusal(422, "REFUSED", "the certificate is unknown", errors)
        return {"disputeNo": said.dispute_no, "acceptNo": number, "acceptTime": int(self.clock() * 1000)}

    async def _reply(self, asked: Asked) -> Document:
        number = asked.request.match_info["number"]
        reply = self.register.reply(number)
        if reply is None:
            raise Refusal(404, "NO_SUCH_DISPUTE")
        text = {"disputeReply": reply[1]} if reply[1] else {}
        return {"acceptNo": number, "disputeState": _REPLIES[reply[0]], **text}


def composer(key: Ed25519PrivateKey, clock: Clock) -> Compose:
    """Return what writes and signs a notice; a forged one is signed with a key that nobody knows."""

    def compose(change: Change, forged: bool) -> Letter:
        row = {
            "changeNo": change.number,
            "certificateIdentifier": change.identifier,
            "certificateState": STATES.get(change.state.upper(), "99"),
            "changeTime": int(change.at * 1000),
            **({"replacedBy": change.replaced_by} if change.replaced_by else {}),
        }
        body = json.dumps({"data": [row]}).encode()
        sending, moment = f"msg_{secrets.token_hex(12)}", str(int(clock()))
        signer = Ed25519PrivateKey.generate() if forged else key
        signature = base64.b64encode(signer.sign(f"{sending}.{moment}.".encode() + body)).decode()
        headers = {"webhook-id": sending, "webhook-timestamp": moment, "webhook-signature": f"v1a,{signature}"}
        return Letter("certificates", body, {**headers, "Content-Type": "application/json"})

    return compose
