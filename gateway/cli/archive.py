"""`pearl archive verify`: whether an archive package is what the gateway signed.

Owns: arguments, and what is printed. Leaves to `gateway.submissions.archive_package`: checking, which needs no database
and no gateway.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from joserfc.jwk import KeySet

from gateway.cli.refusals import refusals_in_words
from gateway.errors import FieldProblem, StartRefused
from gateway.submissions.archive_package import Verdict
from gateway.submissions.archive_package import verify as check


@click.group()
def archive() -> None:
    """Archive packages of cases."""


@archive.command("verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--key", "key", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JWK set with the gateway's public keys: what /oauth2/jwks answered, kept by you.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
@refusals_in_words
def verify(context: click.Context, file: Path, key: Path, as_json: bool) -> None:
    """Check a package against public keys alone; the exit code is 1 when it does not hold."""
    verdict = check(file, _keys(key))
    click.echo(json.dumps({**asdict(verdict), "holds": verdict.holds}, indent=2) if as_json else _said(verdict))
    context.exit(0 if verdict.holds else 1)


def _keys(path: Path) -> KeySet:
    try:
        return KeySet.import_key_set(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, OSError):
        problem = FieldProblem(str(path), "is no JWK set (RFC 7517) with public keys")
        raise StartRefused("The key cannot be read.", problems=[problem]) from None


def _said(verdict: Verdict) -> str:
    if not verdict.holds:
        return "\n".join(["This package does not hold:", *(f"  {problem}" for problem in verdict.problems)])
    at = "" if verdict.signed_at is None else f" at {datetime.fromtimestamp(verdict.signed_at, UTC):%Y-%m-%d %H:%M:%SZ}"
    return (
        f"Case {verdict.case} holds: {verdict.parts} entries and a chain of {verdict.events} events, "
        f"signed by {verdict.issuer} with key {verdict.key}{at}."
    )
