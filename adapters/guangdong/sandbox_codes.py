"""City codes (城市码) of the simulated authority of Guangdong: a person shows one, and it is resolved once.

Owns: codes that rotate, in memory only: one person has one code at a time, for a minute. Leaves to
`sandbox_signature`: who may ask. Source: README.md, "City codes". `POST /control/codes` stands for the phone on which
a person shows the code.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from adapters.guangdong.sandbox_accounts import level_of, moment, subject_of
from adapters.guangdong.sandbox_signature import Clock
from gateway.sandbox.authority import MISBEHAVIOUR

CODE_LIFE = 60
"""Seconds for which a code is good."""

ANSWER_LIFE = 300
"""Seconds for which what a code was resolved to may be relied on."""

PREFIX = "HMM:"
SHOWN_IN = "3"
"""The method behind a shown code: the app in which people carry it (粤省事)."""

MODES: Mapping[str, str] = {
    "code_answer_to_another_question": "answers a city code with what belongs to another question",
    "code_answer_without_a_person": "resolves a city code to nobody",
    "code_answer_that_is_over": "resolves a city code to something that ended yesterday",
    "code_answer_without_end": "resolves a city code to something that holds for a hundred years",
    "code_repeated_in_the_refusal": "refuses a city code and repeats it in its reason",
    "code_of_an_unknown_level": "resolves a city code at a level that nobody knows",
}
"""What this authority can do wrong with city codes."""

_ASKED = ("qqbh", "csm", "sxbm", "sydw", "syyt")


@dataclass(frozen=True, slots=True)
class CodeIssuer:
    """Shows and resolves the codes of the accounts of the seed."""

    people: Sequence[Mapping[str, Any]]
    clock: Clock
    shown: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Code → account, and until when it is good (Unix seconds)."""

    def routes(self) -> list[web.RouteDef]:
        """Return the route of README.md, "City codes", and the one that stands for a phone."""
        return [
            web.post("/ebus/pearl/v1/citycodes/resolve", self._resolve),
            web.post("/control/codes", self._show),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        """Show the code of an account; the one that it showed before is good no more."""
        account = str((await _object(request)).get("account"))
        if not any(one["account"] == account for one in self.people):
            return web.json_response({"error": "no such account"}, status=404)
        for old in [code for code, (holder, until) in self.shown.items() if holder == account or until < self.clock()]:
            del self.shown[old]
        code = f"{PREFIX}{secrets.token_urlsafe(24)}"
        self.shown[code] = (account, self.clock() + CODE_LIFE)
        return web.json_response({"code": code, "expires_in": CODE_LIFE})

    async def _resolve(self, request: web.Request) -> web.Response:
        asked = await _object(request)
        wrong = request.app[MISBEHAVIOUR]
        missing = [name for name in _ASKED if not isinstance(asked.get(name), str) or not asked[name]]
        if missing:
            errors = [{"field": name, "reason": "missing"} for name in missing]
            return _refused("mandatory field empty", errors)
        if wrong.due("code_repeated_in_the_refusal"):
            reason = f"no such code: {asked['csm']}"
            return _refused(reason, [{"field": asked["csm"], "reason": reason}])
        account, until = self.shown.pop(asked["csm"], ("", 0.0))
        if until < self.clock():
            return _refused("the code is unknown, used or over", [])
        person = next(one for one in self.people if one["account"] == account)
        return web.json_response({"code": "200", "message": "ok", "data": self._data(asked, person, request)})

    def _data(self, asked: Mapping[str, str], person: Mapping[str, Any], request: web.Request) -> dict[str, str]:
        wrong, until = request.app[MISBEHAVIOUR], self.clock() + ANSWER_LIFE
        data = {"qqbh": asked["qqbh"], "yhbs": subject_of(person), "rzdj": level_of(person, SHOWN_IN)}
        if wrong.due("code_answer_to_another_question"):
            data["qqbh"] = "0" * 32
        if wrong.due("code_answer_without_a_person"):
            data["yhbs"] = ""
        if wrong.due("code_of_an_unknown_level"):
            data["rzdj"] = "L9"
        if wrong.due("code_answer_that_is_over"):
            until = self.clock() - 86_400
        if wrong.due("code_answer_without_end"):
            until = self.clock() + 100 * 365 * 86_400
        return data | {"yxqz": moment(until)}


async def _object(request: web.Request) -> Mapping[str, Any]:
    """Return the JSON object of a request; an empty one where it is none."""
    try:
        read = await request.json()
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _refused(message: str, errors: Sequence[Mapping[str, str]]) -> web.Response:
    return web.json_response({"code": "422", "message": message, "errors": list(errors)}, status=422)
