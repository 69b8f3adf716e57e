"""The load of the drill: an agency that files cases and, as any sane one, sends again when the line breaks.

Owns: what was promised to it. A case is promised when a receipt came; the same reference is sent until one does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from bench.drill.town import PLACES
from gateway.sandbox.layout import Layout
from gateway.sandbox.tour import SLIP, SUBMISSION, TourError, agency_token

AGAIN = frozenset({401, 429, 500, 502, 503, 504})
"""Answers after which an agency sends the same again; 401 because a token ends. Every other refusal ends the drill."""


class PromiseError(Exception):
    """The gateway answered what it never may; the text says what."""


@dataclass(slots=True)
class Agency:
    """One agency. `promised` is reference → number and place, for every receipt that came."""

    layouts: Sequence[Layout]
    session: aiohttp.ClientSession
    chance: random.Random
    promised: dict[str, tuple[str, str]] = field(default_factory=dict)
    asked_again: int = 0
    _token: str = ""

    async def file_until(self, over: asyncio.Event) -> None:
        """File one case after another until the drill is over; finish the one that was begun."""
        while not over.is_set():
            await self._file(f"{self.chance.getrandbits(64):016x}", self.chance.choice(PLACES))

    async def _file(self, reference: str, place: str) -> None:
        """Send one application until there is a receipt. One that has a receipt always gets the same."""
        while True:
            layout = self.chance.choice(self.layouts)
            try:
                answer = await self._send(layout, reference, place)
            except (aiohttp.ClientError, TimeoutError):
                answer = None  # dead just now, or it died while it answered
            if answer is not None:
                self._believe(reference, place, answer)
                return
            self.asked_again += 1
            await asyncio.sleep(0.05)  # a gateway that is being started again tells nobody

    def _believe(self, reference: str, place: str, receipt: Mapping[str, Any]) -> None:
        earlier = self.promised.setdefault(reference, (receipt["id"], place))
        if earlier[0] != receipt["id"]:
            raise PromiseError(f"one application has two numbers: {earlier[0]} and {receipt['id']}")

    async def _send(self, layout: Layout, reference: str, place: str) -> Mapping[str, Any] | None:
        url = layout.ports.public_url
        if not self._token and not await self._authenticate(layout):
            return None
        headers = {"Authorization": f"Bearer {self._token}"}
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
        if answer.status >= 300:
            raise PromiseError(f"{answer.status}: {body}")
        return body
