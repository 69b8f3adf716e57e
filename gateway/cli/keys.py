"""`pearl keys …`: the gateway's signing keys, seen, checked and made.

Owns: arguments, what is printed, and the words that lead through a roll-over. A private key is written to one new file
that its owner alone may read, and is never shown. Leaves reading and roles to `gateway.keys`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from gateway.cli.columns import table
from gateway.cli.refusals import refusals_in_words
from gateway.config import Config, SignOnSettings, parse, read_toml
from gateway.crypto.signing import ALGORITHMS, DEFAULT, PemKey, Role
from gateway.data import read_config
from gateway.errors import FieldProblem, StartRefused
from gateway.keys import PUBLISH_AHEAD_SECONDS, ConfiguredKey, file_of, read_ring
from gateway.minting import signing_key

Existing = click.Path(exists=True, dir_okay=False, path_type=Path)
config_option = click.option(
    "--config", type=Existing, default="pearl.toml", show_default=True, help="The configuration file."
)
_HEADINGS = ("place", "kid", "algorithm", "role", "written", "from")


@click.group()
def keys() -> None:
    """The gateway's signing keys."""


@keys.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@refusals_in_words
def list_(config: Path, as_json: bool) -> None:
    """List the signing keys: which sign, which are only published, which are upcoming."""
    rows = [_line(key) for key in read_ring(read_config(config)).keys]
    shown = table(list(_HEADINGS), [[str(row[name] or "–") for name in _HEADINGS] for row in rows])
    click.echo(json.dumps(rows, indent=2) if as_json else shown)


def _line(key: ConfiguredKey) -> Mapping[str, Any]:
    written = key.written_at.date().isoformat() if key.written_at else None
    named = {"place": key.place, "kid": key.kid, "algorithm": key.key.algorithm, "role": key.role.value}
    return {**named, "written": written, "from": key.reference}


@keys.command()
@config_option
@refusals_in_words
def check(config: Path) -> None:
    """Check that every signing key can be used, and that no one else on this machine can read its file."""
    settings = read_config(config)
    found = read_ring(settings).keys
    problems = list(_open_files(settings, found))
    if problems:
        raise StartRefused("These keys are not kept well.", problems=problems)
    signing = {key.key.algorithm: key.kid for key in found if key.role is Role.SIGNS}
    click.echo(
        f"{len(found)} keys: nothing is wrong. " + ", ".join(f"{name} by {kid}" for name, kid in signing.items())
    )


def _open_files(config: Config, found: Sequence[ConfiguredKey]) -> Iterator[FieldProblem]:
    for key in found:
        file = file_of(config, key.reference)
        if file is not None and file.stat().st_mode & 0o077:
            yield FieldProblem(key.place, f"{file} can be read by others than its owner: chmod 600")


@keys.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--algorithm", type=click.Choice(ALGORITHMS), default=DEFAULT, show_default=True, help="What it will sign with."
)
@click.option(
    "--config", type=click.Path(path_type=Path), default="pearl.toml", show_default=True,
    help="Tells how long tokens live; need not be there yet.",
)  # fmt: skip
@refusals_in_words
def mint(file: Path, algorithm: str, config: Path) -> None:
    """Make a new signing key, write it to FILE, and say what to do next, and when."""
    life = _longest_life(config)
    pem = signing_key(algorithm)
    _write(file, pem)
    click.echo(f"{algorithm} {PemKey(pem).public.kid} is in {file}, which only its owner can read.\n")
    click.echo("\n".join(_steps(file, algorithm, life)))


def _longest_life(config: Path) -> int:
    """Return for how long something that a key signed is looked at again, in seconds.

    An ID token says at a logout whom it is about, for as long as the session that it came of.
    """
    chosen = read_toml(config).get("sign_on", {}) if config.exists() else {}
    settings = parse(SignOnSettings, chosen, str(config))
    return max(settings.access_token_seconds, settings.id_token_seconds, settings.session_seconds)


def _write(file: Path, pem: bytes) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        reason = f"cannot be written ({error.strerror}); a key is never written over another file"
        raise StartRefused("No key was made.", problems=[FieldProblem(str(file), reason)]) from None
    with os.fdopen(descriptor, "wb") as out:
        out.write(pem)


def _steps(file: Path, algorithm: str, life: int) -> Iterator[str]:
    yield "Next:"
    yield f'  1. Now: add "file:{file}" to keys.upcoming, and restart every replica. The key is published.'
    ahead = _minutes(PUBLISH_AHEAD_SECONDS)
    yield f"  2. After {ahead} or more: move it to the front of keys.signing, and restart every replica."
    yield f"     From then on it signs with {algorithm}; the {algorithm} key that signed before is published only."
    yield f"  3. After another {_minutes(life)} or more: take the former out, restart every replica, and destroy it."
    yield "`pearl keys list` shows the role of each key at every step."


def _minutes(seconds: int) -> str:
    minutes = -(-seconds // 60)
    return "1 minute" if minutes == 1 else f"{minutes} minutes"
