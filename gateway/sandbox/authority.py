"""Scaffolding for simulated authorities: a control page, misbehaviour on request, and a durable notebook.

Owns: what every simulated authority has in common and no real one has. Leaves to `adapters/<region>/sandbox.py`:
the authority's own protocol, which is written there from that region's README and shares no code with the adapter.
This module imports nothing else of the gateway, so that no bug can hide on both sides.

A region's sandbox module defines `build_authority(settings: AuthoritySettings) -> web.Application`.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MODES: Mapping[str, str] = {
    "down": "closes every connection without an answer, before doing anything",
    "slow": "waits before doing anything (5 s, or `seconds`)",
    "silent": "takes the question and never answers",
    "garbage": "does nothing and answers 200 with bytes that are no document",
    "lost_answer": "does the work, then closes the connection instead of answering",
    "duplicate_callback": "sends every status callback twice",
}
"""What an authority can be asked to do wrong."""


@dataclass(frozen=True, slots=True)
class AuthoritySettings:
    """All that a simulated authority is given.

    `gateway_url` is where callbacks go. `state` is a file of its own for the notebook. `pace` is the pause in seconds
    between two steps of a case. `secrets` holds shared secrets and PEM keys by the names that the region's README
    lists. `people` and `certificates` are synthetic seed rows (`gateway/sandbox/seed/`), `items` those that this region
    handles. `seal` makes a file of a certificate, of a media type, under its issuer's seal; None: it has no seal.
    """

    region: str
    gateway_url: str
    state: Path
    secrets: Mapping[str, bytes]
    people: Sequence[Mapping[str, Any]]
    certificates: Sequence[Mapping[str, Any]]
    pace: float = 0.3
    items: Sequence[Mapping[str, Any]] = ()
    seal: Callable[[Mapping[str, Any], str], bytes | None] | None = None


@dataclass(slots=True)
class Misbehaviour:
    """What the authority is doing wrong at the moment: mode → how many more times (-1: until it is cleared).

    `known` are all the modes that it can be asked for, with what happens then.
    """

    active: dict[str, int] = field(default_factory=dict)
    seconds: float = 5.0
    known: Mapping[str, str] = field(default_factory=lambda: MODES)

    def order(self, mode: str, times: int) -> None:
        """Misbehave in this way from now on. Raises ValueError for an unknown mode."""
        if mode not in self.known:
            raise ValueError(f"unknown mode {mode!r}; known: {', '.join(self.known)}")
        self.active[mode] = times

    def clear(self) -> None:
        """Behave again."""
        self.active.clear()

    def due(self, mode: str) -> bool:
        """Say whether to misbehave in this way now, and count it."""
        left = self.active.get(mode, 0)
        if left == 0:
            return False
        if left == 1:
            del self.active[mode]
        elif left > 1:
            self.active[mode] = left - 1
        return True


class Notebook:
    """A durable JSON notebook (SQLite file) with named books: what the authority knows survives its restart."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS page (book TEXT, key TEXT, value TEXT, PRIMARY KEY (book, key))")

    def get(self, book: str, key: str) -> Any | None:
        """Return the entry, or None."""
        row = self._db.execute("SELECT value FROM page WHERE book=? AND key=?", (book, key)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, book: str, key: str, value: Any) -> None:
        """Write or overwrite the entry."""
        keep_place = "INSERT INTO page VALUES (?,?,?) ON CONFLICT (book, key) DO UPDATE SET value = excluded.value"
        self._db.execute(keep_place, (book, key, json.dumps(value)))

    def entries(self, book: str) -> dict[str, Any]:
        """Return the whole book, in the order in which keys were first written."""
        rows = self._db.execute("SELECT key, value FROM page WHERE book=? ORDER BY rowid", (book,))
        return {key: json.loads(value) for key, value in rows}

    def count(self, book: str, key: str) -> int:
        """Add one to a counter and return it."""
        number = int(self.get(book, key) or 0) + 1
        self.put(book, key, number)
        return number

    def close(self) -> None:
        """Close the file."""
        self._db.close()


MISBEHAVIOUR = web.AppKey("misbehaviour", Misbehaviour)
NOTEBOOK = web.AppKey("notebook", Notebook)
TASKS = web.AppKey("tasks", set[asyncio.Task[None]])


def authority_app(settings: AuthoritySettings, modes: Mapping[str, str] | None = None) -> web.Application:
    """Return an application with the control page, misbehaviour, a notebook and a place for background work.

    `modes` are further ways to misbehave, with what happens then; the authority itself asks whether one is `due`. One
    whose name begins with `hostile_` attacks the sign-on: nobody may ever be signed on while it lasts.
    """
    app = web.Application(middlewares=[_misbehave], client_max_size=64 * 1024 * 1024)
    app[MISBEHAVIOUR] = Misbehaviour(known={**MODES, **(modes or {})})
    app[NOTEBOOK] = Notebook(settings.state)
    app[TASKS] = set()
    app.add_routes(
        [
            web.get("/control", _control_page),
            web.post("/control", _control),
            web.get("/control/ledger", _ledger),
        ]
    )
    app.on_cleanup.append(_close)
    return app


def in_background(app: web.Application, work: Awaitable[None]) -> None:
    """Run the authority's own slow work (deciding a case, calling back) beside the requests."""
    task: asyncio.Task[None] = asyncio.ensure_future(_run(work))
    app[TASKS].add(task)
    task.add_done_callback(app[TASKS].discard)


async def _run(work: Awaitable[None]) -> None:
    await work


async def _close(app: web.Application) -> None:
    tasks = app[TASKS].copy()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    app[NOTEBOOK].close()


@web.middleware
async def _misbehave(request: web.Request, handler: Handler) -> web.StreamResponse:
    wrong = request.app[MISBEHAVIOUR]
    if request.path.startswith("/control"):
        return await handler(request)
    if wrong.due("down"):
        return _hang_up(request)
    if wrong.due("slow"):
        await asyncio.sleep(wrong.seconds)  # the fault that was asked for
    if wrong.due("silent"):
        await asyncio.sleep(86_400)  # whoever asked has gone long before
    if wrong.due("garbage"):
        await request.read()
        return web.Response(body=b"\x00\xff<<not a document>>{", content_type="application/octet-stream")
    if wrong.active.get("lost_answer"):
        await handler(request)
        wrong.due("lost_answer")
        return _hang_up(request)
    return await handler(request)


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)  # never reaches the peer: the connection is gone


async def _control(request: web.Request) -> web.StreamResponse:
    """`{"mode": "down", "times": 1, "seconds": 5}`; `{"mode": "clear"}`; or the same as a form."""
    from_page = request.content_type == "application/x-www-form-urlencoded"
    try:
        order: Mapping[str, Any] = dict(await request.post()) if from_page else await request.json()
        wrong = request.app[MISBEHAVIOUR]
        if order["mode"] == "clear":
            wrong.clear()
        else:
            wrong.seconds = float(order.get("seconds", wrong.seconds))
            wrong.order(str(order["mode"]), int(order.get("times", -1)))
    except (KeyError, TypeError, ValueError) as error:
        return web.json_response({"error": str(error), "modes": dict(request.app[MISBEHAVIOUR].known)}, status=400)
    if from_page:
        raise web.HTTPSeeOther("/control")
    return web.json_response({"active": wrong.active, "seconds": wrong.seconds})


async def _ledger(request: web.Request) -> web.Response:
    """Everything the authority has in its books, for the curious and for tests."""
    books = ("cases", "arrivals", "events", "messages")
    return web.json_response({book: request.app[NOTEBOOK].entries(book) for book in books})


async def _control_page(request: web.Request) -> web.Response:
    wrong = request.app[MISBEHAVIOUR]
    rows = "".join(
        f"<tr><td><form method=post><input type=hidden name=mode value={mode}>"
        f"<label>times <input name=times value=1 size=3></label> <button>{mode}</button></form></td>"
        f"<td>{escape(text)}</td><td>{wrong.active.get(mode, 0) or ''}</td></tr>"
        for mode, text in wrong.known.items()
    )
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Authority control</title>"
        "<style>body{font:16px system-ui;margin:2rem;max-width:60rem}td{padding:.3rem 1rem}</style>"
        "<h1>Tell this authority what to do</h1><p>-1 times means until cleared.</p>"
        f"<table><tr><th>order</th><th>what happens</th><th>left</th></tr>{rows}</table>"
        "<form method=post><input type=hidden name=mode value=clear><button>behave again</button></form>"
        "<p><a href=/control/ledger>what this authority has in its books</a></p></html>"
    )
    return web.Response(text=page, content_type="text/html")
