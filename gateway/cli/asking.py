"""Asking a running gateway: what commands say to the admin listener of the gateway that a configuration describes.

Owns: finding the listener, one request, and a refusal in words. No key is read: whoever reaches the listener may ask.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import click
from yarl import URL

from gateway.config import Config, Listen, parse, read_toml
from gateway.errors import FieldProblem, StartRefused, Unavailable

_PATIENCE = aiohttp.ClientTimeout(total=60)
"""A reload compiles everything anew and waits for one that is under way."""
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - an address to avoid, not to listen at


def asked(config: Path, method: str, path: str, more: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """Return the gateway's answer. When it refuses, print why, everything that is wrong, and exit with 1.

    A POST names the operator; `more` joins its body.
    """
    body = {"operator": getpass.getuser(), **(more or {})} if method == "POST" else None
    status, told = asyncio.run(_answer(_admin(config).with_path(path), method, body))
    if status != HTTPStatus.OK:
        click.echo(_refusal(told), err=True)
        sys.exit(1)
    return told


def _admin(config: Path) -> URL:
    """Return the address of the admin listener. Raises StartRefused."""
    listen = parse(Config, {**read_toml(config), "folder": config.resolve().parent}, str(config)).listen
    if not listen.admin_port:
        reason = "is 0, which takes any free port: nobody can tell where the gateway listens"
        raise StartRefused("The gateway cannot be asked.", problems=[FieldProblem("listen.admin_port", reason)])
    return _url(listen)


def _url(listen: Listen) -> URL:
    host = _EVERYWHERE.get(listen.admin_host, listen.admin_host)
    return URL.build(scheme="http", host=host, port=listen.admin_port)


async def _answer(url: URL, method: str, body: Mapping[str, Any] | None) -> tuple[int, Mapping[str, Any]]:
    """Ask, and return status and answer. Raises Unavailable when nobody is there."""
    try:
        async with aiohttp.ClientSession(timeout=_PATIENCE) as session, session.request(method, url, json=body) as got:
            return got.status, await got.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
        text = f"The gateway does not answer at {url.origin()} ({type(error).__name__}). Is it running with this file?"
        raise Unavailable(text) from error


def _refusal(told: Mapping[str, Any]) -> str:
    """Return a problem document in words: everything that is wrong, a line each."""
    problems = [
        f"  {number}. {one['field']}: {one['reason']}" for number, one in enumerate(told.get("problems", ()), 1)
    ]
    return "\n".join([f"{told['code']}: {told['detail']}", *problems])
