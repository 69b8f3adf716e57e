"""The load of the drill: an agency that files cases and, as any sane one, sends again when the line breaks.

Owns: what was promised to it. A case is promised when a receipt came; the same reference is sent until one does.
"""

from __future__ import annotations

import asyncio
import random
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

TOO_EARLY = 409
"""The region does not have the case yet."""
COMPLAIN = 0.5
"""How often an agency complains after it has filed a case."""


class PromiseError(Exception):
    """The gateway answered what it never may; the text says what."""


@dataclass(slots=True)
class Agency:
    """One agency.

    `promised` is reference → number and place, for every receipt that came; `said` is reference → message id, for every
    complaint that was taken.
    """

    layouts: Sequence[Layout]
    session: aiohttp.ClientSession
    chance: random.Random
    promised: dict[str, tuple[str, str]] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    asked_again: int = 0
    _token: str = ""

    async def file_until(self, over: asyncio.Event) -> None:
        """File one case after another until the drill is over, and complain now and then; finish what was begun."""
        while not over.is_set():
            reference, place = f"{self.chance.getrandbits(64):016x}", self.chance.choice(PLACES)
            self._believe(reference, place, await self._insist(partial(self._send, reference=reference, place=place)))
            if self.chance.random() < COMPLAIN:
                await self._complain(self.chance.choice(list(self.promised.values()))[0])

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

    async def _complain(self, case: str) -> None:
        """Complain about a case; not at all when its region does not have it yet."""
        reference = f"c{self.chance.getrandbits(60):015x}"
        body = {"reference": reference, "text": "等得太久"}

        async def call(layout: Layout) -> Mapping[str, Any] | None:
            if not self._token and not await self._authenticate(layout):
                return None
            url = f"{layout.ports.public_url}/v1/submissions/{case}/complaints"
            return await self._json(await self.session.post(url, json=body, headers=self._headers()))

        answer = await self._insist(call)
        if "message_id" in answer:
            self.said[reference] = answer["message_id"]

    def _believe(self, reference: str, place: str, receipt: Mapping[str, Any]) -> None:
        earlier = self.promised.setdefault(reference, (receipt["id"], place))
        if earlier[0] != receipt["id"]:
            raise PromiseError(f"one application has two numbers: {earlier[0]} and {receipt['id']}")

    async def _send(self, layout: Layout, *, reference: str, place: str) -> Mapping[str, Any] | None:
        url = layout.ports.public_url
        if not self._token and not await self._authenticate(layout):
            return None
        headers = self._headers()
        items = await self._json(await self.session.get(f"{url}/v1/items", headers=headers))
        if items is None:
            return None
        pdf = {**headers, "Content-Type": "application/pdf"}
        blob = await self._json(await self.session.post(f"{url}/v1/blobs", data=SLIP, headers=pdf))
        if blob is None:
            return None
        body = {
            **SUBMISSION, "place": place, "reference": reference, "item": items["items"][0]["code"],
            "materials": [{"code": "ID", "blob": blob["id"]}],
        }  # fmt: skip
        return await self._json(await self.session.post(f"{url}/v1/submissions", json=body, headers=headers))

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
        if answer.status == TOO_EARLY:
            return {}
        if answer.status >= 300:
            raise PromiseError(f"{answer.status}: {body}")
        return body
