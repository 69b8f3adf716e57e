"""`pearl mappings list|reload|rollback`: what the running gateway uses; take the files as they are now; go back.

Owns: asking the admin listener of the gateway that the configuration describes. Leaves to `gateway.web.ops.mappings`:
the answers. No key is read: whoever reaches the listener may ask.
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

from gateway.cli.refusals import refusals_in_words
from gateway.config import Config, Listen, parse, read_toml
from gateway.errors import FieldProblem, StartRefused, Unavailable

_PATIENCE = aiohttp.ClientTimeout(total=60)
"""A reload compiles everything anew and waits for one that is under way."""
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - an address to avoid, not to listen at
_SHORT = 12

_config = click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), default="pearl.toml", show_default=True,
    help="The configuration file.",
)  # fmt: skip


@click.command("list")
@_config
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@refusals_in_words
def list_(config: Path, as_json: bool) -> None:
    """List which version of the mappings each region is spoken to with, and which one came before."""
    told = _asked(config, "GET", "/ops/mappings")
    click.echo(json.dumps(told["regions"], ensure_ascii=False, indent=2) if as_json else _listed(told))


@click.command("reload")
@_config
@refusals_in_words
def reload_(config: Path) -> None:
    """Have the running gateway take the mapping files as they are now; when anything is wrong, nothing changes."""
    click.echo(_changes(_asked(config, "POST", "/ops/mappings/reload")))


@click.command("rollback")
@_config
@refusals_in_words
def rollback(config: Path) -> None:
    """Have the running gateway go back to the mappings before the last change. The files stay as they are."""
    click.echo(_changes(_asked(config, "POST", "/ops/mappings/rollback")))


LIVE_COMMANDS: tuple[click.Command, ...] = (list_, reload_, rollback)
"""Commands of the group `pearl mappings` that ask a running gateway."""


# --- asking ------------------------------------------------------------------------------------------------------


def _asked(config: Path, method: str, path: str) -> Mapping[str, Any]:
    """Return the gateway's answer. When it refuses, print why, everything that is wrong, and exit with 1."""
    status, told = asyncio.run(_answer(_admin(config).with_path(path), method))
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


async def _answer(url: URL, method: str) -> tuple[int, Mapping[str, Any]]:
    """Ask, and return status and answer. Raises Unavailable when nobody is there."""
    body = {"operator": getpass.getuser()} if method == "POST" else None
    try:
        async with aiohttp.ClientSession(timeout=_PATIENCE) as session, session.request(method, url, json=body) as got:
            return got.status, await got.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
        text = f"The gateway does not answer at {url.origin()} ({type(error).__name__}). Is it running with this file?"
        raise Unavailable(text) from error


# --- telling -----------------------------------------------------------------------------------------------------


def _refusal(told: Mapping[str, Any]) -> str:
    """Return a problem document in words: everything that is wrong, a line each."""
    problems = [
        f"  {number}. {one['field']}: {one['reason']}" for number, one in enumerate(told.get("problems", ()), 1)
    ]
    return "\n".join([f"{told['code']}: {told['detail']}", *problems])


def _listed(told: Mapping[str, Any]) -> str:
    return "\n".join(_line(region) for region in told["regions"])


def _line(region: Mapping[str, Any]) -> str:
    packs = ", ".join(region["packs"])
    before = region["previous"]["version"][:_SHORT] if region["previous"] else "–"
    version, since = region["version"][:_SHORT], region["since"][:19]
    return f"{region['region']:<12} {version}  since {since}Z  before: {before:<{_SHORT}}  {packs}"


def _changes(told: Mapping[str, Any]) -> str:
    lines = [
        f"{one['region']}/{one['message']}: {_version(one['before'])} → {_version(one['after'])}"
        for one in told["changes"]
    ]
    return "\n".join(lines) or "Nothing has changed."


def _version(version: str | None) -> str:
    return version[:_SHORT] if version else "none"
