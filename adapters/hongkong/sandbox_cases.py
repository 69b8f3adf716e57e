"""Cases (個案) at the simulated authority of Hong Kong: documents, submission, progress and the events pushed back.

Owns: the notebook's books `documents`, `cases`, `arrivals` and `events`, and the way of a case. Leaves to
`sandbox_messages`: what a case must look like. No book holds personal data: a case is kept as its number, its state
and the digest of what was submitted.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from adapters.hongkong.sandbox_messages import Case, CaseQuery, Register, Upload, read
from adapters.hongkong.sandbox_wire import NO_CASE, SUCCESS, Client, Clock, Refusal, seal_json, wrap
from gateway.sandbox.authority import MISBEHAVIOUR, NOTEBOOK, AuthoritySettings, in_background

REPEATS = 5  # of an event that was not acknowledged
REPEAT_PAUSE = 1.0  # s, at the usual pace
USUAL_PACE = 0.3  # s
CALLBACK_TIMEOUT = 10  # s
REJECTION_MARK = "不予受理"
"""An applicant with this in the name is rejected: a way to see a rejection."""

_WAY = ("RECEIVED", "ACCEPTED", "DECIDED", "COMPLETED")
_WAY_OUT = ("RECEIVED", "REJECTED")

_SAYS: Mapping[str, Mapping[str, Any]] = {
    "RECEIVED": {},
    "ACCEPTED": {"officer": "HK-0023"},
    "REJECTED": {"officer": "HK-0023", "remarks": "不予受理:不屬本部門職權範圍"},
    "DECIDED": {"officer": "HK-0031", "result": {"code": "APPROVED", "text": "批准"}},
    "COMPLETED": {"officer": "HK-0031", "remarks": "個案已辦結"},
}


class Callbacks:
    """Sends events to the gateway, each under a key of its own."""

    def __init__(self, gateway_url: str, client: Client, kek: RSAPublicKey, clock: Clock) -> None:
        self._url = f"{gateway_url.rstrip('/')}/callbacks/hongkong/events"
        self._client = client
        self._kek = kek
        self._clock = clock

    async def send(self, event: Mapping[str, Any]) -> bool:
        """Send the event once, with a new nonce. Return whether the gateway acknowledged it."""
        cek = os.urandom(32)
        body = json.dumps({"content": seal_json(cek, event), "secretKey": wrap(self._kek, cek)}).encode()
        headers = {"Content-Type": "application/json", **self._client.headers(body, self._clock())}
        timeout = aiohttp.ClientTimeout(total=CALLBACK_TIMEOUT)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self._url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                return response.status == 200 and _acknowledges(await response.read())
        except (aiohttp.ClientError, TimeoutError):
            return False  # the caller writes down that nobody acknowledged, and repeats


def _acknowledges(body: bytes) -> bool:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and answer.get("code") == SUCCESS


class Cases:
    """Takes cases, and brings each to its end by itself."""

    def __init__(self, app: web.Application, settings: AuthoritySettings, callbacks: Callbacks, clock: Clock) -> None:
        self._app = app
        self._book = app[NOTEBOOK]
        self._misbehaviour = app[MISBEHAVIOUR]
        self._pace = settings.pace
        self._callbacks = callbacks
        self._clock = clock
        self._register = Register(frozenset(json.loads(settings.secrets["item_codes"])), self._document_size)

    def upload(self, plain: bytes) -> dict[str, Any]:
        """Keep that a document was uploaded; nobody here reads it, so its bytes are not kept."""
        upload = read(Upload, plain)
        self._book.put("documents", upload.sha256, len(upload.data))
        return {"sha256": upload.sha256}

    def submit(self, plain: bytes) -> dict[str, Any]:
        """Take a case, or answer as before when it was taken already."""
        case = read(Case, plain, self._register)
        self._book.count("arrivals", case.ref_no)
        if self._book.get("cases", case.ref_no) is None:
            self._book.put("cases", case.ref_no, self._opened(case))
            in_background(self._app, self._proceed(case.ref_no))
        return self._receipt(case.ref_no)

    def query(self, plain: bytes) -> dict[str, Any]:
        """Answer what `submit` answered. Raises Refusal (D40400) for a case never taken."""
        return self._receipt(read(CaseQuery, plain).ref_no)

    async def resume(self, _: web.Application) -> None:
        """Go on with the cases that a stop of this program interrupted."""
        for ref_no, case in self._book.entries("cases").items():
            if not case["finished"]:
                in_background(self._app, self._proceed(ref_no))

    def _document_size(self, digest: str) -> int | None:
        size = self._book.get("documents", digest)
        return None if size is None else int(size)

    def _opened(self, case: Case) -> dict[str, Any]:
        content = case.model_dump(by_alias=True, exclude_none=True)
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return {
            "caseNo": f"HK{self._book.count('numbers', 'case'):010d}",
            "state": "SUBMITTED",
            "digest": hashlib.sha256(canonical.encode()).hexdigest(),
            "receivedAt": self._now(),
            "serviceCode": case.service_code,
            "rejected": REJECTION_MARK in case.applicant.name,
            "finished": False,
        }

    def _receipt(self, ref_no: str) -> dict[str, Any]:
        case = self._case(ref_no)
        return {"refNo": ref_no, "caseNo": case["caseNo"], "receivedAt": case["receivedAt"]}

    def _case(self, ref_no: str) -> dict[str, Any]:
        case: dict[str, Any] | None = self._book.get("cases", ref_no)
        if case is None:
            raise Refusal(NO_CASE)
        return case

    async def _proceed(self, ref_no: str) -> None:
        case = self._case(ref_no)
        for number, status in enumerate(_WAY_OUT if case["rejected"] else _WAY, 1):
            event_id = f"{case['caseNo']}-{number}"
            entry = self._book.get("events", event_id)
            if entry is None:
                await asyncio.sleep(self._pace)
                entry = self._write_event(event_id, ref_no, status)
            if not _settled(entry):
                await self._push(event_id, entry)
        self._change(ref_no, finished=True)

    def _write_event(self, event_id: str, ref_no: str, status: str) -> dict[str, Any]:
        """Write the event before it is sent: whatever happens next, it keeps its id."""
        self._change(ref_no, state=status)
        event = {
            "eventID": event_id,
            "refNo": ref_no,
            "caseNo": self._case(ref_no)["caseNo"],
            "status": status,
            "occurredAt": self._now(),
            **_SAYS[status],
        }
        entry = {"event": event, "acknowledged": False, "sent": 0}
        self._book.put("events", event_id, entry)
        return entry

    async def _push(self, event_id: str, entry: dict[str, Any]) -> None:
        twice = self._misbehaviour.due("duplicate_callback")
        while not _settled(entry):
            if entry["sent"]:
                await asyncio.sleep(REPEAT_PAUSE * self._pace / USUAL_PACE)
            entry["sent"] += 1
            self._book.put("events", event_id, entry)
            entry["acknowledged"] = await self._callbacks.send(entry["event"])
            self._book.put("events", event_id, entry)
        if twice:
            await self._callbacks.send(entry["event"])  # the fault that was asked for

    def _change(self, ref_no: str, **changes: Any) -> None:
        self._book.put("cases", ref_no, {**self._case(ref_no), **changes})

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _settled(entry: Mapping[str, Any]) -> bool:
    """An event is settled when it is acknowledged, or was sent once and repeated as often as the profile says."""
    return bool(entry["acknowledged"]) or entry["sent"] > REPEATS
