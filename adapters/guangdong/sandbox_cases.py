"""Materials, cases and their progress at the simulated authority of Guangdong (README.md, "Submissions" and "Status").

Owns: the intake of materials and cases, each case once, and the course of a case, pushed as signed events until they
are acknowledged; all of it in the notebook, so that a restart goes on where it stopped. Leaves to others: what a case
must look like (`sandbox_case`), what a step says (`sandbox_steps`), what is said of a case later (`sandbox_messages`),
and signatures. The notebook holds numbers and digests, never a person's data.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from adapters.guangdong.sandbox_case import Case, Known, read_record
from adapters.guangdong.sandbox_signature import Clock, signed_headers
from adapters.guangdong.sandbox_steps import CODES, said
from gateway.sandbox.authority import Misbehaviour, Notebook, in_background
from gateway.sandbox.courses import REFUSED, Plan, ordered
from gateway.sandbox.left_out import BOOK

BEIJING = timezone(timedelta(hours=8))
REPEATS = 5
"""How often an event is sent again after its first sending was not acknowledged."""

USUAL_PACE = 0.3
"""The pace (`AuthoritySettings.pace`) at which the pause between two sendings is the README's one second."""

_LISTS = {"deferred": "rqcl", "certified": "mzcl"}
_REPLY = ("wwbh", "sblsh", "sblsh_short", "jssj")
_log = logging.getLogger(__name__)


def beijing(clock: Clock) -> datetime:
    """Return now in Beijing."""
    return datetime.fromtimestamp(clock(), BEIJING)


@dataclass(slots=True)
class Courier:
    """Moves cases along their course and pushes each step to the gateway. `pace` is in seconds."""

    gateway_url: str
    token: bytes
    pace: float
    notebook: Notebook
    misbehaviour: Misbehaviour
    clock: Clock
    session: aiohttp.ClientSession | None = None
    busy: set[str] = field(default_factory=set)

    async def start(self, app: web.Application) -> None:
        """Open the way to the gateway and go on with every case that is not finished."""
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        for wwbh in self.notebook.entries("cases"):
            self.go_on(app, wwbh)

    async def stop(self, _app: web.Application) -> None:
        """Close the way to the gateway; to be called when no background work is left."""
        if self.session is not None:
            await self.session.close()

    def go_on(self, app: web.Application, wwbh: str) -> None:
        """Take the case on in the background, unless somebody is at it already."""
        if wwbh not in self.busy:
            self.busy.add(wwbh)
            in_background(app, self._carry_through(wwbh))

    def plan(self, wwbh: str) -> Plan:
        """Return what the case has behind and before it."""
        return Plan.read(self._page(wwbh).get("plan"))

    def replan(self, wwbh: str, plan: Plan, **changes: Any) -> None:
        """Write down how the case goes on from now."""
        self.notebook.put("cases", wwbh, {**self._page(wwbh), "plan": plan.written(), **changes})

    async def _carry_through(self, wwbh: str) -> None:
        """Take the case from where it stands as far as it goes now, one event after the other."""
        try:
            for number in range(1, self.plan(wwbh).taken + 1):
                await self._deliver(self.notebook.get("events", self._event_id(wwbh, number)))
            while self.plan(wwbh).next:
                await asyncio.sleep(self.pace)  # the authority's own pace between two steps
                await self._deliver(self._enter(wwbh))
        finally:
            self.busy.discard(wwbh)

    def _event_id(self, wwbh: str, number: int) -> str:
        return f"{self._page(wwbh)['sblsh']}-{number:02d}"

    def _page(self, wwbh: str) -> dict[str, Any]:
        page: dict[str, Any] = self.notebook.get("cases", wwbh) or {}
        return page

    def _enter(self, wwbh: str) -> dict[str, Any]:
        """Write the step down before telling anybody. What was said meanwhile may have changed which one it is."""
        case, plan = self._page(wwbh), self.plan(wwbh)
        step, plan = str(plan.next), plan.step()
        numbers = {name: case[name] for name in ("wwbh", "sblsh", "sblsh_short")}
        told = said(step, case, beijing(self.clock))
        event = {"sjbh": self._event_id(wwbh, plan.taken), **numbers, **told}
        entry = self._write({"event": event, "acknowledged": False, "sendings": 0})
        self.replan(wwbh, plan, state=CODES[step])
        return entry

    def _write(self, entry: dict[str, Any]) -> dict[str, Any]:
        self.notebook.put("events", entry["event"]["sjbh"], entry)
        return entry

    async def _deliver(self, entry: dict[str, Any] | None) -> None:
        if entry is None or _is_closed(entry):
            return
        while not _is_closed(entry):
            if entry["sendings"]:
                await asyncio.sleep(self.pace / USUAL_PACE)  # between two sendings of one event
            entry["acknowledged"] = await self._send(entry["event"])
            entry["sendings"] += 1
            self._write(entry)
        if entry["acknowledged"] and self.misbehaviour.due("duplicate_callback"):
            await self._send(entry["event"])

    async def _send(self, event: dict[str, Any]) -> bool:
        """Send once, with a nonce of its own, and say whether the gateway took it (2xx)."""
        if self.session is None:
            raise RuntimeError("the courier was not started")
        url = URL(self.gateway_url.rstrip("/") + "/callbacks/guangdong/events")
        body = json.dumps(event, ensure_ascii=False).encode()
        headers = signed_headers(self.token, "gd-authority", self.clock(), "POST", url.raw_path, body)
        headers["Content-Type"] = "application/json"
        try:
            async with self.session.post(url, data=body, headers=headers, allow_redirects=False) as reply:
                return 200 <= reply.status < 300
        except (aiohttp.ClientError, TimeoutError) as error:
            _log.warning("event %s was not delivered: %s", event["sjbh"], type(error).__name__)
            return False


def _is_closed(entry: dict[str, Any]) -> bool:
    return bool(entry["acknowledged"] or entry["sendings"] > REPEATS)


@dataclass(frozen=True, slots=True)
class Intake:
    """Where materials and cases are handed in. `items` are those handled here, `register` the certificates issued."""

    items: Mapping[str, Mapping[str, Any]]
    register: Sequence[Mapping[str, Any]]
    notebook: Notebook
    courier: Courier
    clock: Clock

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of README.md, "Submissions"."""
        root = "/ebus/pearl/v1"
        return [
            web.put(f"{root}/materials/{{digest}}", self._take_material),
            web.post(f"{root}/cases", self._take_case),
            web.get(f"{root}/cases/{{wwbh}}", self._show_case),
        ]

    async def _take_material(self, request: web.Request) -> web.Response:
        body, digest = await request.read(), request.match_info["digest"]
        if hashlib.sha256(body).hexdigest() != digest:
            return refusal(422, "the digest does not fit the bytes")
        # Digest and size are all that a case is later held against, so the bytes themselves are not kept.
        self.notebook.put("materials", digest, len(body))
        return web.json_response({"code": "200", "data": {"wjzy": digest}})

    async def _take_case(self, request: web.Request) -> web.Response:
        body = await request.read()
        case = read_record(Case, body, self.known(request.headers.get("x-pearl-submission-id")))
        wrong = self._wrongly_left_out(case) if isinstance(case, Case) else case
        if wrong or not isinstance(case, Case):
            return refusal(422, "the case cannot be taken", errors=wrong)
        entry = self.notebook.get("cases", case.wwbh)
        if entry is None:
            entry = self._open(case, body)
            self.courier.go_on(request.app, case.wwbh)
        self.notebook.count("arrivals", case.wwbh)
        return _case_reply(entry)

    def _wrongly_left_out(self, case: Case) -> list[dict[str, str]]:
        today = beijing(self.clock).date()
        faults = case.left_out.faults(self.items[case.sxbm], case.given, self.register, today)
        return [{"field": f"{_LISTS[fault.group]}[{fault.place}]", "reason": fault.reason} for fault in faults]

    async def _show_case(self, request: web.Request) -> web.Response:
        entry = self.notebook.get("cases", request.match_info["wwbh"])
        return refusal(404, "no such case here") if entry is None else _case_reply(entry)

    def known(self, number: str | None) -> Known:
        """Return what a record is held against; `number` is what the header says of it."""
        return Known(self.items.keys(), self._material_size, beijing(self.clock).date(), number)

    def _material_size(self, digest: str) -> int | None:
        size: int | None = self.notebook.get("materials", digest)
        return size

    def _open(self, case: Case, body: bytes) -> dict[str, Any]:
        now, number = beijing(self.clock), self.notebook.count("counters", "cases")
        entry = {
            "wwbh": case.wwbh,
            "sblsh": f"440000{now:%Y%m%d}{number:010d}",
            "sblsh_short": f"GD{number:08d}",
            "jssj": f"{now:%Y%m%d%H%M%S}",
            "state": "TAKEN",
            "plan": Plan(REFUSED if case.asks_for_refusal else ordered(self.courier.misbehaviour)).written(),
            "asked_for": case.left_out.asked_for(case.given),
            "to_follow": case.left_out.to_follow(case.given),
            "digest": hashlib.sha256(body).hexdigest(),
        }
        self.notebook.put(BOOK, case.wwbh, case.left_out.written())
        self.notebook.put("cases", case.wwbh, entry)
        return entry


def _case_reply(entry: dict[str, Any]) -> web.Response:
    return web.json_response({"code": "200", "message": "ok", "data": {name: entry[name] for name in _REPLY}})


def refusal(status: int, message: str, **more: Any) -> web.Response:
    """Return a no, with what is wrong."""
    return web.json_response({"code": str(status), "message": message, **more}, status=status)
