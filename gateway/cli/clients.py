"""`pearl clients …`: what an agency's engineer needs at a terminal."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import click
from joserfc import jwt
from joserfc.jwk import ECKey


@click.group()
def clients() -> None:
    """Registered clients."""


@clients.command()
@click.argument("client_id")
@click.option("--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True, help="PEM, P-256.")
@click.option("--audience", required=True, help="The gateway's public address (its issuer).")
def assertion(client_id: str, key: Path, audience: str) -> None:
    """Print a client assertion (private_key_jwt, RFC 7523) that is good once, for one minute."""
    loaded = ECKey.import_key(key.read_bytes())
    now = int(time.time())  # a command at a terminal: its time is the wall clock's
    who = {"iss": client_id, "sub": client_id, "aud": audience}
    claims = {**who, "jti": secrets.token_urlsafe(24), "iat": now, "exp": now + 60}
    header = {"alg": "ES256", "kid": loaded.thumbprint()}
    click.echo(jwt.encode(header, claims, loaded, algorithms=["ES256"]))
