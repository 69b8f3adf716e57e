"""Cases (個案) at the simulated authority of Hong Kong: documents, submission, progress and the events pushed back.

Owns: the notebook's books `documents`, `cases`, `arrivals` and `events`, and taking a case along its course. Leaves to
`sandbox_messages`: what a case must look like; to `sandbox_steps`: what a step says; to `sandbox_later`: what is said
of a case afterwards. No book holds personal data: a case is kept as its number, its state and the digest of what was
submitted.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from adapters.hongkong.sandbox_messages import Case, CaseQuery, Register, Upload, read
from adapters.hongkong.sandbox_steps import WORDS, said
from adapters.hongkong.sandbox_wire import NO_CASE, SUCCESS, Client, Clock, Refusal, seal_json, wrap
from adapters.hongkong.sandbox_wire import REFUSED as REFUSED_CODE
from gateway.sandbox.authority import MISBEHAVIOUR, NOTEBOOK, AuthoritySettings, in_background
from gateway.sandbox.courses import REFUSED, Plan, ordered
from gateway.sandbox.left_out import BOOK, LeftOut

REPEATS = 5  # of an event that was not acknowledged
REPEAT_PAUSE = 1.0  # s, at the usual pace
USUAL_PACE = 0.3  # s
CALLBACK_TIMEOUT = 10  # s
REJECTION_MARK = "不予受理"
"""An applicant with this in the name is rejected: a way to see a rejection."""

HONG_KONG_TIME = timezone(timedelta(hours=8))


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
        self._busy: set[str] = set()
        seeded = {item["code"]: item for item in settings.items}
        items = {code: seeded.get(code, {"material": ()}) for code in json.loads(settings.secrets["item_codes"])}
        self.register = Register(items, self._document_size)

    def upload(self, plain: bytes) -> dict[str, Any]:
        """Keep that a document was uploaded; nobody here reads it, so its bytes are not kept."""
        upload = read(Upload, plain)
        self._book.put("documents", upload.sha256, len(upload.data))
        return {"sha256": upload.sha256}

    def submit(self, plain: bytes) -> dict[str, Any]:
        """Take a case, or answer as before when it was taken already."""
        case = read(Case, plain, self.register)
        self._book.count("arrivals", case.ref_no)
        if self._book.get("cases", case.ref_no) is None:
            left_out = self._left_out(case)
            self._book.put(BOOK, case.ref_no, left_out.written())
            self._book.put("cases", case.ref_no, self._opened(case, left_out))
            self.go_on(case.ref_no)
        return self._receipt(case.ref_no)

    def query(self, plain: bytes) -> dict[str, Any]:
        """Answer what `submit` answered. Raises Refusal (D40400) for a case never taken."""
        return self._receipt(read(CaseQuery, plain).ref_no)

    async def resume(self, _: web.Application) -> None:
        """Go on with the cases that a stop of this program interrupted."""
        for ref_no in self._book.entries("cases"):
            self.go_on(ref_no)

    def go_on(self, ref_no: str) -> None:
        """Take the case on in the background, unless somebody is at it already."""
        if ref_no not in self._busy:
            self._busy.add(ref_no)
            in_background(self._app, self._proceed(ref_no))

    def plan(self, ref_no: str) -> Plan:
        """Return what the case has behind and before it."""
        return Plan.read(self.case(ref_no).get("plan"))

    def replan(self, ref_no: str, plan: Plan) -> None:
        """Write down how the case goes on from now."""
        self._change(ref_no, plan=plan.written())

    def _document_size(self, digest: str) -> int | None:
        size = self._book.get("documents", digest)
        return None if size is None else int(size)

    def _left_out(self, case: Case) -> LeftOut:
        """Return what the case does without. Raises Refusal (D42200) for what its item does not let follow."""
        left_out = LeftOut([(one.code, one.undertaking) for one in case.documents_to_follow])
        item, today = self.register.items[case.service_code], datetime.fromtimestamp(self._clock(), HONG_KONG_TIME)
        faults = left_out.faults(item, [document.code for document in case.documents], (), today.date())
        errors = [{"field": f"documentsToFollow.{fault.place}", "reason": fault.reason} for fault in faults]
        if errors:
            raise Refusal(REFUSED_CODE, errors)
        return left_out

    def _opened(self, case: Case, left_out: LeftOut) -> dict[str, Any]:
        given = [document.code for document in case.documents]
        content = case.model_dump(by_alias=True, exclude_none=True)
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return {
            "caseNo": f"HK{self._book.count('numbers', 'case'):010d}",
            "state": "SUBMITTED",
            "digest": hashlib.sha256(canonical.encode()).hexdigest(),
            "receivedAt": self.now(),
            "serviceCode": case.service_code,
            "plan": Plan(self._course(case)).written(),
            "asked_for": left_out.asked_for(given),
            "to_follow": left_out.to_follow(given),
            "consented": case.consent_ref is not None,
        }

    def _course(self, case: Case) -> tuple[str, ...]:
        return REFUSED if REJECTION_MARK in case.applicant.name else ordered(self._misbehaviour)

    def _receipt(self, ref_no: str) -> dict[str, Any]:
        case = self.case(ref_no)
        return {"refNo": ref_no, "caseNo": case["caseNo"], "receivedAt": case["receivedAt"]}

    def case(self, ref_no: str) -> dict[str, Any]:
        """Return the page of a case. Raises Refusal (D40400) for one that was never taken."""
        case: dict[str, Any] | None = self._book.get("cases", ref_no)
        if case is None:
            raise Refusal(NO_CASE)
        return case

    async def _proceed(self, ref_no: str) -> None:
        """Push what was not heard yet, then take the steps that can be taken now."""
        try:
            for number in range(1, self.plan(ref_no).taken + 1):
                await self._push(self._event_id(ref_no, number))
            while self.plan(ref_no).next:
                await asyncio.sleep(self._pace)  # the authority's own pace between two steps
                await self._push(self._write_event(ref_no))
        finally:
            self._busy.discard(ref_no)

    def _event_id(self, ref_no: str, number: int) -> str:
        return f"{self.case(ref_no)['caseNo']}-{number}"

    def _write_event(self, ref_no: str) -> str:
        """Write the event before it is sent: whatever happens next, it keeps its id. Return that id.

        What was said during the pause may have changed which step it is.
        """
        case, plan = self.case(ref_no), self.plan(ref_no)
        word, plan = WORDS[str(plan.next)], plan.step()
        event_id = self._event_id(ref_no, plan.taken)
        today = datetime.fromtimestamp(self._clock(), HONG_KONG_TIME)
        event = {
            "eventID": event_id,
            "refNo": ref_no,
            "caseNo": case["caseNo"],
            "status": word,
            "occurredAt": self.now(),
            **said(word, case, today),
        }
        self._book.put("events", event_id, {"event": event, "acknowledged": False, "sent": 0})
        self._change(ref_no, plan=plan.written(), state=word)
        return event_id

    async def _push(self, event_id: str) -> None:
        entry: dict[str, Any] | None = self._book.get("events", event_id)
        if entry is None or _settled(entry):
            return
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
        self._book.put("cases", ref_no, {**self.case(ref_no), **changes})

    def now(self) -> int:
        """Return the present in milliseconds since 1970."""
        return int(self._clock() * 1000)


def _settled(entry: Mapping[str, Any]) -> bool:
    """An event is settled when it is acknowledged, or was sent once and repeated as often as the profile says."""
    return bool(entry["acknowledged"]) or entry["sent"] > REPEATS
