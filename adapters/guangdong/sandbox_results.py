"""Documents of decided cases at the simulated authority of Guangdong (README.md, "Result documents").

Owns: one decision for every case that has come to its end, made of its number alone, so that it names nobody. Leaves to
`sandbox_cases`: the cases.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from adapters.guangdong.sandbox_cases import refusal
from gateway.sandbox.authority import Misbehaviour, Notebook

MODES = {"other_bytes": "sends a document whose bytes are not those that were listed"}
_DECIDED = ("BJ", "SL0", "SL3")
_CODE = "JD01"


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
        case = self._case(number)
        if case is None:
            return refusal(404, "no such case here")
        rows = [_row(number)] if case["state"] in _DECIDED else []
        return web.json_response({"code": "200", "message": "ok", "data": {"sblsh": number, "jgwj": rows}})

    async def _hand_out(self, request: web.Request) -> web.Response:
        number, code = request.match_info["sblsh"], request.match_info["code"]
        case = self._case(number)
        if case is None or case["state"] not in _DECIDED or code != _CODE:
            return refusal(404, "no such document here")
        body = _decision(number)
        if self.misbehaviour.due("other_bytes"):
            body = body.replace(b"PDF-1.4", b"PDF-1.5")
        return web.Response(body=body, content_type="application/pdf")

    def _case(self, number: str) -> dict[str, Any] | None:
        found = [case for case in self.notebook.entries("cases").values() if case["sblsh"] == number]
        return found[0] if found else None


def _decision(number: str) -> bytes:
    text = f"BT /F1 12 Tf 72 720 Td (Decision on case {number}) Tj ET"
    return (
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R>>endobj\n"
        f"4 0 obj<</Length {len(text)}>>stream\n{text}\nendstream endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
    ).encode()


def _row(number: str) -> dict[str, Any]:
    body = _decision(number)
    return {
        "wjbm": _CODE,
        "wjmc": "办理结果决定书.pdf",
        "wjlx": "application/pdf",
        "wjdx": len(body),
        "wjzy": hashlib.sha256(body).hexdigest(),
    }
