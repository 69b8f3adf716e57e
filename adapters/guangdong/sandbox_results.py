"""Documents of decided cases at the simulated authority of Guangdong (README.md, "Result documents").

Owns: listing and handing out. Leaves to `sandbox_cases`: the cases; to `gateway.sandbox.decision`: the document.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from adapters.guangdong.sandbox_cases import refusal
from gateway.sandbox import decision
from gateway.sandbox.authority import Misbehaviour, Notebook
from gateway.sandbox.courses import Plan


@dataclass(frozen=True, slots=True)
class ResultRoom:
    """Where the documents of decided cases are."""

    notebook: Notebook
    misbehaviour: Misbehaviour

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of README.md, "Result documents"."""
        root = "/ebus/pearl/v1/results/{sblsh}"
        return [web.get(root, self._list), web.get(root + "/{code}", self._hand_out)]

    async def _list(self, request: web.Request) -> web.Response:
        number = request.match_info["sblsh"]
        decided = self._is_decided(number)
        if decided is None:
            return refusal(404, "no such case here")
        rows = [_row(number)] if decided else []
        return web.json_response({"code": "200", "message": "ok", "data": {"sblsh": number, "jgwj": rows}})

    async def _hand_out(self, request: web.Request) -> web.Response:
        number, code = request.match_info["sblsh"], request.match_info["code"]
        if not self._is_decided(number) or code != decision.CODE:
            return refusal(404, "no such document here")
        if self.misbehaviour.due("result_gone"):
            return refusal(410, "the document is kept no longer")
        body = decision.decision(number)
        if self.misbehaviour.due("other_bytes"):
            body = decision.altered(body)
        return web.Response(body=body, content_type=decision.MEDIA_TYPE)

    def _is_decided(self, number: str) -> bool | None:
        """Say whether a case has come to its decision; None when there is no such case."""
        found = [case for case in self.notebook.entries("cases").values() if case["sblsh"] == number]
        return None if not found else not decision.DECIDED.isdisjoint(Plan.read(found[0]["plan"]).done)


def _row(number: str) -> dict[str, Any]:
    body = decision.decision(number)
    return {
        "wjbm": decision.CODE,
        "wjmc": decision.NAME,
        "wjlx": decision.MEDIA_TYPE,
        "wjdx": len(body),
        "wjzy": hashlib.sha256(body).hexdigest(),
    }
