"""Certificates that are named, at a simulated authority: found by identifier or shown code, disputed, changed, told of.

Owns: the seeded certificates of one region with what has changed since, the codes under which they are shown (亮证码),
reports of errors (异议) and what becomes of them, their files, and the order in which a notice of a change goes out.
Leaves to the authorities: how any of it is written and signed. Shares no code with the gateway. The notebook holds
identifiers, numbers, states and digests, never a person.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import aiohttp
from aiohttp import web

from gateway.sandbox.authority import Misbehaviour, Notebook

Row = Mapping[str, Any]

MODES: Mapping[str, str] = {
    "other_holder": "answers with a certificate of another holder than the one that was asked about",
    "other_certificate": "answers with another certificate than the one that was asked for",
    "other_file": "sends the file of another certificate",
    "unknown_status": "answers a question about certificates with a status that nobody knows",
    "dispute_rejected": "finds no error where one was reported",
    "forged_notice": "sends a notice about a certificate under a signature that is not its own, before the right one",
    "replayed_notice": "sends a notice about a certificate a second time, byte for byte",
}
"""What an authority can be asked to do wrong with certificates."""

OF_MATCHING: Mapping[str, str] = {
    "values_told": "says beside a match what the certificate says",
}
"""What an authority can be asked to do wrong that may answer match or no match, and nothing else."""

UNKNOWN_STATUS = "77"
"""Stands in no table."""

MEDIA_TYPE = "application/ofd"
_STATES, _SHOWN, _DISPUTES = "certificate-states", "shown-certificates", "disputes"
_ATTEMPTS = 5
"""How often a notice is sent at most."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a notice says: which certificate is worth what from when on (Unix seconds)."""

    number: str
    identifier: str
    state: str
    at: float
    replaced_by: str = ""


@dataclass(frozen=True, slots=True)
class Letter:
    """A notice as it leaves: the last step of the address, the body and its headers."""

    operation: str
    body: bytes
    headers: Mapping[str, str]


Compose = Callable[[Change, bool], Letter]
"""Writes and signs a notice anew; or signs it wrongly, when the second argument says so."""


Seal = Callable[[Row, str], bytes | None]
"""Makes a file of a certificate, of a media type; None where its issuer has no seal."""


def unsealed(row: Row, _media_type: str) -> bytes:
    """Return a file (证照文件) of a certificate without any seal: nobody will find it genuine."""
    digest = hashlib.sha256(str(row["identifier"]).encode()).hexdigest()
    return b"PK\x03\x04" + f"\n{row['identifier']}\n{digest}\n".encode() * 64


class Register:
    """The certificates that one region issued.

    `prefix` is what the codes begin with under which they are shown; `seal` makes their files, of `media_type`.
    """

    def __init__(
        self,
        region: str,
        rows: Sequence[Row],
        notebook: Notebook,
        wrong: Misbehaviour,
        prefix: str = "LZ:",
        *,
        seal: Seal | None = None,
        media_type: str = MEDIA_TYPE,
    ) -> None:
        self._rows = {row["identifier"]: row for row in rows if row.get("region") == region}
        self._region = region
        self._notebook = notebook
        self._prefix = prefix
        self._seal = seal or unsealed
        self._files: dict[str, bytes] = {}
        self.media_type = media_type
        self.wrong = wrong

    # --- finding

    def all(self) -> list[Row]:
        """Return every certificate as it stands now."""
        return [self._now(row) for row in self._rows.values()]

    def _now(self, row: Row) -> Row:
        return {**row, **(self._notebook.get(_STATES, row["identifier"]) or {})}

    def named(self, identifier: str) -> Row | None:
        """Return the certificate with this identifier; or what it was told to say instead."""
        row = self._rows.get(identifier)
        return None if row is None else self.told(self._now(row))

    def shown(self, code: str) -> Row | None:
        """Return the certificate that a code stands for."""
        identifier = self._notebook.get(_SHOWN, hashlib.sha256(code.encode()).hexdigest())
        return None if identifier is None else self.named(identifier)

    def told(self, row: Row) -> Row:
        """Return the certificate that is spoken of: this one, unless the authority was told to speak of another."""
        if self.wrong.due("other_certificate"):
            return self._other(row)
        if self.wrong.due("other_holder"):
            other = self._other(row, "holder_id_number")
            return {**row, **{name: value for name, value in other.items() if name.startswith("holder_")}}
        return row

    def _other(self, row: Row, name: str = "identifier") -> Row:
        return next(self._now(one) for one in self._rows.values() if one[name] != row[name])

    def worth(self, row: Row, today: date) -> str:
        """Return what a certificate is worth on a day: `valid`, or why not."""
        if row.get("replaced_by"):
            return "superseded"
        ended = row.get("valid_to") and row["valid_to"] < today.isoformat()
        return "expired" if ended and str(row["state"]).lower() == "valid" else str(row["state"]).lower()

    def file(self, row: Row) -> bytes:
        """Return the file of a certificate, the same each time; or that of another when it was told to."""
        meant = self._other(row) if self.wrong.due("other_file") else row
        name = meant["identifier"]
        if name not in self._files:
            self._files[name] = self._seal(meant, self.media_type) or unsealed(meant, self.media_type)
        return self._files[name]

    # --- disputes

    def dispute(self, ticket: str, identifier: str) -> str | None:
        """Take a report of an error, once per ticket of theirs; return our number, or None: no such certificate."""
        if identifier not in self._rows:
            return None
        kept = self._notebook.get(_DISPUTES, ticket)
        if kept is None:
            number = f"YY{self._notebook.count('counters', 'disputes'):010d}"
            kept = {"number": number, "identifier": identifier, "asked": 0}
            self._notebook.put(_DISPUTES, ticket, kept)
        return str(kept["number"])

    def reply(self, number: str) -> tuple[str, str] | None:
        """Return what became of a report: it is looked into the first time that somebody asks, and decided after."""
        disputes = self._notebook.entries(_DISPUTES)
        ticket = next((ticket for ticket, kept in disputes.items() if kept["number"] == number), None)
        if ticket is None:
            return None
        kept = {**disputes[ticket], "asked": disputes[ticket]["asked"] + 1}
        if kept["asked"] > 1 and "state" not in kept:
            kept["state"] = "rejected" if self.wrong.due("dispute_rejected") else "corrected"
        self._notebook.put(_DISPUTES, ticket, kept)
        words = {"corrected": "经核实已更正", "rejected": "经核实无误"}
        state = kept.get("state", "open")
        return state, words.get(state, "")

    # --- what stands for the issuer's own desk

    def show(self, identifier: str) -> str | None:
        """Return a code under which a holder shows a certificate from now on; None when there is none such."""
        if identifier not in self._rows:
            return None
        code = f"{self._prefix}{secrets.token_urlsafe(18)}"
        self._notebook.put(_SHOWN, hashlib.sha256(code.encode()).hexdigest(), identifier)
        return code

    def change(self, identifier: str, state: str, replaced_by: str, at: float) -> Change | None:
        """Let a certificate be worth something else from now on; None when there is none such."""
        if identifier not in self._rows:
            return None
        self._notebook.put(
            _STATES, identifier, {"state": state, **({"replaced_by": replaced_by} if replaced_by else {})}
        )
        number = f"TZ{self._notebook.count('counters', 'notices'):010d}"
        return Change(number, identifier, state, at, replaced_by)

    def control(self, clock: Callable[[], float], tell: Callable[[Change], Awaitable[list[int]]] | None) -> _Control:
        """Return the addresses that stand for the issuer's own desk; `tell` sends a notice out, where there are any."""
        return _Control(self, clock, tell)


@dataclass(frozen=True, slots=True)
class _Control:
    register: Register
    clock: Callable[[], float]
    tell: Callable[[Change], Awaitable[list[int]]] | None

    def routes(self) -> list[web.RouteDef]:
        """`POST /control/shown` `{"identifier"}` → `{"code"}`; `/control/certificates` `{"identifier", "state"}`."""
        return [web.post("/control/shown", self._show), web.post("/control/certificates", self._change)]

    async def _show(self, request: web.Request) -> web.Response:
        code = self.register.show(str((await _object(request)).get("identifier")))
        return _nothing_such() if code is None else web.json_response({"code": code})

    async def _change(self, request: web.Request) -> web.Response:
        """Change a state, and answer with the HTTP statuses that the notices of it met."""
        said = await _object(request)
        identifier, state = str(said.get("identifier")), str(said.get("state"))
        change = self.register.change(identifier, state, str(said.get("replaced_by") or ""), self.clock())
        if change is None:
            return _nothing_such()
        return web.json_response({"state": state, "told": [] if self.tell is None else await self.tell(change)})


@dataclass(frozen=True, slots=True)
class NoticePost:
    """Sends notices to the gateway until one is taken, or the wrong ones that were ordered."""

    gateway_url: str
    region: str
    wrong: Misbehaviour
    compose: Compose

    async def __call__(self, change: Change) -> list[int]:
        """Return the HTTP statuses of all that was sent."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            met = [await self._post(session, self.compose(change, True))] if self.wrong.due("forged_notice") else []
            for _ in range(_ATTEMPTS):
                letter = self.compose(change, False)
                met.append(await self._post(session, letter))
                if 200 <= met[-1] < 300:
                    break
            return [*met, await self._post(session, letter)] if self.wrong.due("replayed_notice") else met

    async def _post(self, session: aiohttp.ClientSession, letter: Letter) -> int:
        url = f"{self.gateway_url.rstrip('/')}/callbacks/{self.region}/{letter.operation}"
        try:
            async with session.post(url, data=letter.body, headers=letter.headers, allow_redirects=False) as reply:
                return reply.status
        except (aiohttp.ClientError, TimeoutError):
            return 0


async def _object(request: web.Request) -> Mapping[str, Any]:
    try:
        found = await request.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _nothing_such() -> web.Response:
    return web.json_response({"error": "no such certificate"}, status=404)
