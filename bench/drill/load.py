"""The load of the drill: an agency that files cases and, as any sane one, sends again when the line breaks.

Owns: what was promised to it. A case is promised when a receipt came; the same reference is sent until one does.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp

from bench.drill.town import PLACES
from gateway.sandbox.layout import Layout
from gateway.sandbox.tour import SLIP, SUBMISSION, TourError, agency_token

AGAIN = frozenset({401, 429, 500, 502, 503, 504})
"""Answers after which an agency sends the same again; 401 because a token ends. Every other refusal ends the drill."""

NOT_NOW = 409
"""The case is not where this can be said: its region does not have it yet, asked for nothing, or has ended it."""
LATER = 8
"""Something is said of each case, when so many others were filed after it: it has come some way by then."""
LOOKS = 3
"""How many cases are looked at after each that is filed; one that has not come far enough is looked at again."""
WITHDRAW = 0.3
"""How often a case that is accepted and not decided is withdrawn."""
RATE = 0.6
"""How often a case that has come to its end is rated, and not complained of."""
NO_COMPLAINTS = frozenset({"qingyuan"})
"""Where the wire carries none."""


class PromiseError(Exception):
    """The gateway answered what it never may; the text says what."""


@dataclass(frozen=True, slots=True)
class Said:
    """A message that was taken: its id, its case, and what kind it is."""

    message: str
    case: str
    kind: str


@dataclass(slots=True)
class Agency:
    """One agency.

    `promised` is reference → number and place, for every receipt that came; `said` is reference → what was said, for
    every message about a case that was taken.
    """

    layouts: Sequence[Layout]
    session: aiohttp.ClientSession
    chance: random.Random
    promised: dict[str, tuple[str, str]] = field(default_factory=dict)
    said: dict[str, Said] = field(default_factory=dict)
    asked_again: int = 0
    _unsaid: deque[tuple[str, str]] = field(default_factory=deque)
    _token: str = ""

    async def file_until(self, over: asyncio.Event) -> None:
        """File one case after another until the drill is over, and say something of one; finish what was begun."""
        while not over.is_set():
            reference, place = f"{self.chance.getrandbits(64):016x}", self.chance.choice(PLACES)
            self._believe(reference, place, await self._insist(partial(self._send, reference=reference, place=place)))
            self._unsaid.append((self.promised[reference][0], place))
            for _ in range(min(LOOKS, len(self._unsaid) - LATER)):
                await self._say(*self._unsaid.popleft())

    async def _say(self, case: str, place: str) -> None:
        """Say what there is to say of a case as it stands now."""
        shown = await self._insist(partial(self._ask, "GET", f"submissions/{case}", None))
        reference = f"c{self.chance.getrandbits(60):015x}"
        if "supplement" in shown["can"]:
            await self._tell(case, "supplements", {"reference": reference, "materials": await self._wanted(shown)})
        elif shown["state"] == "ACCEPTED" and "withdrawal" in shown["can"] and self.chance.random() < WITHDRAW:
            await self._tell(case, "withdrawal", {"reference": reference, "reason": "另有安排"})
        elif shown["state"] != "COMPLETED":
            self._unsaid.append((case, place))  # it has not come far enough
        elif place in NO_COMPLAINTS or self.chance.random() < RATE:
            rating = {"reference": reference, "role": "handling", "score": 5, "channel": "pc"}
            await self._tell(case, "ratings", rating)
        else:
            await self._tell(case, "complaints", {"reference": reference, "text": "等得太久"})

    async def _wanted(self, shown: Mapping[str, Any]) -> list[dict[str, str]]:
        """Upload what a notice asks for."""
        codes = [each["code"] for each in shown["supplement"]["materials"] if not each["given"]] or ["ID"]
        return [{"code": code, "blob": (await self._insist(self._upload))["id"]} for code in codes]

    async def _tell(self, case: str, kind: str, body: Mapping[str, Any]) -> None:
        """Say it until it is taken; not at all when this is not the moment."""
        answer = await self._insist(partial(self._ask, "POST", f"submissions/{case}/{kind}", body))
        if kind == "ratings" and answer:  # the answer is the rating; what carries it stands with the case
            shown = await self._insist(partial(self._ask, "GET", f"submissions/{case}", None))
            answer = {"message_id": next(each["id"] for each in shown["messages"] if each["kind"] == "rating")}
        if answer.get("message_id"):
            self.said[body["reference"]] = Said(answer["message_id"], case, kind)

    async def _insist(self, call: Callable[[Layout], Awaitable[Mapping[str, Any] | None]]) -> Mapping[str, Any]:
        """Send the same until there is an answer that counts."""
        while True:
            try:
                answer = await call(self.chance.choice(self.layouts))
            except (aiohttp.ClientError, TimeoutError):
                answer = None  # dead just now, or it died while it answered
            if answer is not None:
                return answer
            self.asked_again += 1
            await asyncio.sleep(0.05)  # a gateway that is being started again tells nobody

    def _believe(self, reference: str, place: str, receipt: Mapping[str, Any]) -> None:
        earlier = self.promised.setdefault(reference, (receipt["id"], place))
        if earlier[0] != receipt["id"]:
            raise PromiseError(f"one application has two numbers: {earlier[0]} and {receipt['id']}")

    async def _send(self, layout: Layout, *, reference: str, place: str) -> Mapping[str, Any] | None:
        items = await self._ask("GET", "items", None, layout)
        blob = None if items is None else await self._upload(layout)
        if items is None or blob is None:
            return None
        body = {
            **SUBMISSION, "place": place, "reference": reference, "item": items["items"][0]["code"],
            "materials": [{"code": "ID", "blob": blob["id"]}],
        }  # fmt: skip
        return await self._ask("POST", "submissions", body, layout)

    async def _upload(self, layout: Layout) -> Mapping[str, Any] | None:
        return await self._ask("POST", "blobs", SLIP, layout)

    async def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | bytes | None, layout: Layout
    ) -> Mapping[str, Any] | None:
        """Ask one gateway; None when the same is to be asked again."""
        if not self._token and not await self._authenticate(layout):
            return None
        url, headers = f"{layout.ports.public_url}/v1/{path}", self._headers()
        if isinstance(body, bytes):
            pdf = {**headers, "Content-Type": "application/pdf"}
            return await self._json(await self.session.request(method, url, data=body, headers=pdf))
        return await self._json(await self.session.request(method, url, json=body, headers=headers))

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    async def _authenticate(self, layout: Layout) -> bool:
        try:
            self._token = await agency_token(self.session, layout.ports.public_url, layout.folder)
        except TourError:  # it is going down
            return False
        return True

    async def _json(self, answer: aiohttp.ClientResponse) -> Mapping[str, Any] | None:
        if answer.status in AGAIN:
            self._token = "" if answer.status == 401 else self._token
            return None
        body: Mapping[str, Any] = await answer.json(content_type=None)
        if answer.status == NOT_NOW:
            return {}
        if answer.status >= 300:
            raise PromiseError(f"{answer.status}: {body}")
        return body
