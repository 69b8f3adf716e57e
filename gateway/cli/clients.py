"""`pearl clients …`: the registered clients, and what an agency's engineer needs at a terminal.

Owns: arguments, what is printed, and minting a key pair whose private half is written once and never shown. Leaves the
rules to `gateway.identity.clients` and the keeping to `gateway.identity.registry`.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import re
import secrets
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from gateway.app import utc_now
from gateway.cli.columns import table
from gateway.cli.refusals import refusals_in_words
from gateway.config import Config, read_toml
from gateway.data import read_config
from gateway.errors import FieldProblem, InvalidRequest, StartRefused
from gateway.identity.client_keys import END, ended, read_jwks
from gateway.identity.clients import GRANT_TYPES, ClientEntry, Surroundings, checked
from gateway.identity.registry import By, ClientRegistry, Registered
from gateway.opening import opened_store, require_schema
from gateway.waiting import new_event_loop

T = TypeVar("T")
Path_ = click.Path(path_type=Path)
Existing = click.Path(exists=True, dir_okay=False, path_type=Path)
_TOML = re.compile(r"""[\[{"']|(true|false)$""")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}

config_option = click.option(
    "--config", type=Existing, default="pearl.toml", show_default=True, help="The configuration file."
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")
set_option = click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any field; the value as in TOML, or plain text."
)
mint_option = click.option(
    "--mint-key", type=Path_, help="Mint a P-256 key pair; write the private key here, once, for the client alone."
)


def _reason(default: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    text = "Why; it becomes evidence."
    return click.option("--reason", default=default, required=default is None, show_default=True, help=text)


@click.group()
def clients() -> None:
    """Registered clients."""


# --- looking -----------------------------------------------------------------------------------------------------


@clients.command("list")
@config_option
@json_option
@refusals_in_words
def list_(config: Path, as_json: bool) -> None:
    """List the registered clients."""
    rows = [_line(one) for one in _with_registry(read_config(config), lambda registry: registry.all())]
    shown = table(list(_HEADINGS), [[str(row[name]) for name in _HEADINGS] for row in rows])
    click.echo(json.dumps(rows, ensure_ascii=False, indent=2) if as_json else shown)


_HEADINGS = ("id", "state", "version", "authentication", "profile", "name")


def _line(one: Registered) -> dict[str, Any]:
    entry = one.entry
    named = {name: getattr(entry, name) for name in ("id", "name", "authentication", "profile", "organisation")}
    return {**named, "state": _state(one), "version": one.version, "grant_types": entry.grant_types}


def _state(one: Registered) -> str:
    return "enabled" if one.disabled_at is None else "disabled"


@clients.command()
@click.argument("client_id")
@config_option
@json_option
@refusals_in_words
def show(client_id: str, config: Path, as_json: bool) -> None:
    """Show one client: its registration, its public keys and when they end."""
    _print(_with_registry(read_config(config), lambda registry: registry.show(client_id)), as_json)


def _print(one: Registered, as_json: bool) -> None:
    """Show a registration; there is nothing secret in it."""
    if as_json:
        times = {name: _when(getattr(one, name)) for name in ("created_at", "changed_at", "disabled_at")}
        whole = {"id": one.entry.id, "version": one.version, **times, "registration": one.entry.registration()}
        click.echo(json.dumps(whole, ensure_ascii=False, indent=2))
        return
    click.echo(table(["field", "value"], list(_fields(one))))


def _fields(one: Registered) -> Iterator[tuple[str, str]]:
    for name, value in one.entry.registration().items():
        if name != "jwks":
            yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    now = utc_now()
    for key in one.entry.public_keys():
        end = datetime.fromtimestamp(key[END], UTC).isoformat() if END in key else ""
        yield (
            "key",
            f"{key['kid']}  {key['kty']}" + (f"  {'ended' if ended(key, now) else 'until'} {end}" if end else ""),
        )
    yield "state", f"{_state(one)}, version {one.version}, changed {_when(one.changed_at)}"


def _when(time_: datetime | None) -> str | None:
    return None if time_ is None else time_.isoformat()


# --- changing ----------------------------------------------------------------------------------------------------


@clients.command()
@config_option
@click.option("--file", "file", type=Existing, help="A TOML file with the fields, as in clients.toml.")
@click.option("--id", "id_", help="1 to 64 letters, digits, dots, hyphens, underscores.")
@click.option("--name", help="For people.")
@click.option("--organisation", help="Who it is.")
@click.option("--organisation-code", help="Its USCC (GB 32100).")
@click.option("--origin-code", help="GB/T 2260 code of the place that it speaks for.")
@click.option("--redirect-uri", "redirect_uris", multiple=True, help="Where a sign-on may return to.")
@click.option("--grant-type", "grant_types", multiple=True, type=click.Choice(GRANT_TYPES), help="What it may ask for.")
@click.option("--scope", "scopes", multiple=True, help="What tokens may open.")
@click.option("--authentication", help="How it proves itself.")
@click.option("--jwks-file", type=Existing, help="Its public keys (JSON).")
@set_option
@mint_option
@_reason("registered by pearl clients add")
@json_option
@refusals_in_words
def add(
    config: Path, file: Path | None, sets: tuple[str, ...], mint_key: Path | None, reason: str, as_json: bool,
    **named: Any,
) -> None:  # fmt: skip
    """Register a client, from a file, from options, or from both; an option goes before the file."""
    settings = read_config(config)
    given = {name.rstrip("_"): value for name, value in named.items() if value not in (None, ())}
    jwks_file = given.pop("jwks_file", None)
    data = {**(_read_entry(file) if file else {}), **_plain(given), **_settings(sets)}
    if jwks_file is not None:
        data["jwks_file"] = str(jwks_file.resolve())
    with _minted(mint_key) as jwk:
        if jwk is not None:
            data = {**data, "jwks": {"keys": [jwk]}, "authentication": data.get("authentication", "private_key_jwt")}
        entry = _entry(data, settings, file.parent if file else Path())
        done = _with_registry(settings, lambda registry: registry.register(entry, _by(reason)))
    _done(done, as_json, "Registered", mint_key)


@clients.command()
@click.argument("client_id")
@config_option
@set_option
@click.option("--unset", multiple=True, metavar="KEY", help="Take a field back to its default.")
@_reason()
@json_option
@refusals_in_words
def change(
    client_id: str, config: Path, sets: tuple[str, ...], unset: tuple[str, ...], reason: str, as_json: bool
) -> None:
    """Change fields of a client; all others stay."""
    settings = read_config(config)

    async def work(registry: ClientRegistry) -> Registered:
        before = await registry.show(client_id)
        data = {**before.entry.registration(), **_settings(sets)}
        kept = {name: value for name, value in data.items() if name not in unset}
        if kept.get("id") != client_id:
            raise InvalidRequest("A client keeps its id; register another one instead.")
        return await registry.change(_entry(kept, settings, Path()), before.version, _by(reason))

    _done(_with_registry(settings, work), as_json, "Changed")


@clients.command()
@click.argument("client_id")
@config_option
@mint_option
@click.option("--jwk", type=Existing, help="The new public key (JSON: a key, or a set of one).")
@click.option(
    "--overlap", default="7d", show_default=True, help="How long the keys of today still serve: 30m, 12h, 7d."
)
@click.option("--retire", metavar="KID", help="Take this key out now, instead of adding one.")
@_reason("key roll-over")
@json_option
@refusals_in_words
def rotate(
    client_id: str, config: Path, mint_key: Path | None, jwk: Path | None, overlap: str, retire: str | None,
    reason: str, as_json: bool,
) -> None:  # fmt: skip
    """Add a key, beside which the keys of today serve for the overlap; or take one out now."""
    if sum(given is not None for given in (mint_key, jwk, retire)) != 1:
        raise click.UsageError("Give exactly one of --mint-key, --jwk and --retire.")
    settings, span = read_config(config), _span(overlap)
    if retire is not None:
        done = _with_registry(settings, lambda registry: registry.retire_key(client_id, retire, _by(reason)))
    else:
        with _minted(mint_key) as made:
            new = made or _one_key(jwk or Path())
            done = _with_registry(settings, lambda r: r.rotate_keys(client_id, new, span, _by(reason)))
    _done(done, as_json, "Rotated", mint_key)


@clients.command()
@click.argument("client_id")
@config_option
@_reason()
@json_option
@refusals_in_words
def disable(client_id: str, config: Path, reason: str, as_json: bool) -> None:
    """Shut a client out now: its tokens, codes and pushed requests end with it."""
    work = _with_registry(read_config(config), lambda registry: registry.disable(client_id, _by(reason)))
    _done(work, as_json, "Disabled")


@clients.command()
@click.argument("client_id")
@config_option
@_reason()
@json_option
@refusals_in_words
def enable(client_id: str, config: Path, reason: str, as_json: bool) -> None:
    """Let a client in again; what it had before stays ended."""
    work = _with_registry(read_config(config), lambda registry: registry.enable(client_id, _by(reason)))
    _done(work, as_json, "Enabled")


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


# --- the pieces --------------------------------------------------------------------------------------------------


def _by(reason: str) -> By:
    return By(getpass.getuser(), reason)


def _done(one: Registered, as_json: bool, word: str, key: Path | None = None) -> None:
    if as_json:
        _print(one, as_json)
        return
    click.echo(f"{word}: {one.entry.id}, version {one.version}.")
    if key is not None:
        click.echo(f"Private key: {key}. Hand it to the client; the gateway keeps the public half alone.")


def _read_entry(file: Path) -> Mapping[str, Any]:
    """Return the fields of a file: bare, or under one `[[client]]` as in clients.toml."""
    data = read_toml(file)
    if "client" not in data:
        return data
    listed = data["client"]
    if len(data) != 1 or not isinstance(listed, list) or len(listed) != 1:
        raise InvalidRequest(f"{file} must hold one client: its fields, or one [[client]].")
    only: Mapping[str, Any] = listed[0]
    return only


def _plain(named: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}


def _settings(sets: Sequence[str]) -> dict[str, Any]:
    """Return what `--set` gave: a list, a table, a quoted text, true or false as TOML has it; else the text itself.

    A number stays a text: the fields hold codes, and none holds a number.
    """
    found: dict[str, Any] = {}
    for one in sets:
        name, sign, value = one.partition("=")
        if not sign:
            raise click.UsageError(f"--set {one}: write KEY=VALUE")
        try:
            found[name] = tomllib.loads(f"value = {value}")["value"] if _TOML.match(value) else value
        except tomllib.TOMLDecodeError as error:
            raise click.UsageError(f"--set {name}: {error}") from None
    return found


def _entry(data: Mapping[str, Any], config: Config, folder: Path) -> ClientEntry:
    """Return a registration that keeps every rule. Raises StartRefused that lists all that it breaks."""
    with _refused_in_words():
        return checked(data, f"client {data.get('id', '')}".strip(), Surroundings.of(config), folder)


@contextmanager
def _refused_in_words() -> Iterator[None]:
    try:
        yield
    except StartRefused as refused:
        raise StartRefused("The client is not taken; nothing was changed.", problems=refused.problems) from None


def _one_key(path: Path) -> Mapping[str, Any]:
    data = read_jwks(path, "--jwk")
    listed = data.get("keys", [data]) if isinstance(data, dict) else data
    if not isinstance(listed, list) or len(listed) != 1 or not isinstance(listed[0], dict):
        raise StartRefused("The key is not taken.", problems=[FieldProblem(str(path), "must hold one public key")])
    only: Mapping[str, Any] = listed[0]
    return only


def _span(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,4})([mhd])", text)
    if match is None:
        raise click.UsageError(f"--overlap {text}: write a number and m, h or d, as in 30m, 12h, 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


@contextmanager
def _minted(path: Path | None) -> Iterator[Mapping[str, Any] | None]:
    """Mint a key pair, write the private half where only its owner reads, and give the public half.

    The file comes first: a registered key that nobody holds would shut the client out. If the client is not taken, the
    file goes again. One that is there already is never overwritten.
    """
    if path is None:
        yield None
        return
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        reason = (
            "is there already; it is not overwritten" if isinstance(error, FileExistsError) else str(error.strerror)
        )
        raise StartRefused("No key is minted.", problems=[FieldProblem(str(path), reason)]) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    public = ECKey.import_key(pem)
    try:
        yield {**public.as_dict(private=False), "kid": public.thumbprint(), "alg": "ES256", "use": "sig"}
    except BaseException:
        path.unlink()
        raise


def _with_registry(config: Config, work: Callable[[ClientRegistry], Awaitable[T]]) -> T:
    """Open the store, do the work, close it. Raises StartRefused when the schema is another release's."""

    async def run() -> T:
        async with _registry(config) as registry:
            with _refused_in_words():
                return await work(registry)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(run())


@asynccontextmanager
async def _registry(config: Config) -> AsyncIterator[ClientRegistry]:
    async with opened_store(config) as store:
        await require_schema(store)
        yield ClientRegistry(store, utc_now, Surroundings.of(config))
