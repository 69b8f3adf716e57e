"""What the programs of tests/interop in Python share: a small web server, and one JSON object a line each way."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A request: `query` and `body` as they came."""

    method: str
    path: str
    query: str
    authorization: str
    body: str


@dataclass(frozen=True)
class Told:
    """An answer."""

    body: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/html; charset=utf-8"})


def to(location: str) -> Told:
    """Send the browser on."""
    return Told("", 303, {"Location": location})


def as_json(value: Any, status: int = 200) -> Told:
    """Answer a program."""
    return Told(value if isinstance(value, str) else json.dumps(value), status, {"Content-Type": "application/json"})


def form(action: str, **fields: str) -> Told:
    """Return a page with a form; a field without a value is for the person."""
    inputs = "".join(f'<input name="{escape(name)}" value="{escape(value)}">' for name, value in fields.items())
    return Told(f'<!doctype html><title>Sign on</title><form method="post" action="{escape(action)}">{inputs}</form>')


def listen(page: Callable[[Asked], Told]) -> str:
    """Serve at a port of the system's choice until the program ends; return the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            asked = Asked(self.command, path, query, self.headers.get("Authorization", ""), body)
            try:
                told = page(asked)
            except Exception:  # noqa: BLE001 - whatever it is, the browser is refused
                traceback.print_exc()
                told = Told("<!doctype html><p>Refused.</p>", 400)
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(told.body.encode())

        do_POST = do_GET  # noqa: N815 - as above

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def obey(tasks: Mapping[str, Callable[..., Any]]) -> None:
    """Do what the lines of the standard input say until it ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"done": tasks[asked.pop("task")](**asked)}
        except Exception:  # noqa: BLE001 - whatever it is, the test hears of it
            answer = {"refused": traceback.format_exc()}
        print(json.dumps(answer), flush=True)  # noqa: T201 - the answer
