"""What the sandbox writes into its folder: keys, the gateway's configuration and its data files.

Owns: turning seeds and each region's sandbox.toml into a deployment that could as well have been written by hand.
Everything lies under one folder; deleting it starts afresh, and nothing in it is ever committed.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.config import HOUSE
from gateway.minting import Mint
from gateway.sandbox.authority import AuthoritySettings
from gateway.sandbox.seal_makers import mint_seals

SEED = Path(__file__).parent / "seed"
DATA_FILES = {
    "items.toml": "items.toml",
    "grants.toml": "grants.toml",
    "windows.toml": "windows.toml",
    "transfers.toml": "transfers.toml",
    "recognition.toml": "recognition.toml",
    "certificate-types.toml": "certificates.toml",
    "clients.toml": "clients.toml",
    "working-days.toml": "working-days.toml",
}
"""Seed file → its name in the sandbox's folder."""
DELIVERY = {"lease_seconds": 20, "first_delay_seconds": 0.5, "breaker_seconds": 3}
"""Shorter than a city would choose, so that a person sees a retry happen."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens on loopback. `authorities` maps region ids to ports."""

    public: int
    admin: int
    authorities: Mapping[str, int]

    @property
    def public_url(self) -> str:
        """The gateway's public address."""
        return f"http://127.0.0.1:{self.public}"

    @property
    def admin_url(self) -> str:
        """The gateway's admin address."""
        return f"http://127.0.0.1:{self.admin}"

    def authority_url(self, region: str) -> str:
        """A simulated authority's address."""
        return f"http://127.0.0.1:{self.authorities[region]}"


@dataclass(frozen=True, slots=True)
class Layout:
    """A folder that is ready: the gateway's configuration file, and what each authority is given."""

    folder: Path
    config: Path
    ports: Ports
    authorities: Sequence[AuthoritySettings]
    people: Sequence[Mapping[str, Any]]


def simulated_regions() -> list[str]:
    """Return the ids of the regions that have a simulated authority."""
    return sorted(path.parent.name for path in (HOUSE / "adapters").glob("*/sandbox.toml"))


@dataclass(frozen=True, slots=True)
class Choices:
    """What may differ between sandboxes. `pace` is the authorities' pause between steps of a case in seconds.

    `store_password` is a reference (`env:…`, `file:…`), never the password. `keep` leaves files that are there already
    as they are. `delivery` and `limits` overlay the configuration's table and the limits of every region; `extra` is
    TOML that is added at the end.
    """

    store_url: str = "sqlite:///pearl.db"
    store_password: str | None = None
    environment: str = "sandbox"
    host: str = "127.0.0.1"
    pace: float = 0.3
    keep: bool = False
    delivery: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    extra: str = ""


def lay_out(folder: Path, ports: Ports, choices: Choices = Choices()) -> Layout:
    """Mint, write and return everything. What is minted already stays."""
    folder = folder.resolve()
    regions = sorted(ports.authorities)
    wishes = {region: _toml(HOUSE / "adapters" / region / "sandbox.toml") for region in regions}
    _mint(folder, wishes)
    files = {name: (SEED / seed).read_text(encoding="utf-8") for seed, name in DATA_FILES.items()}
    files["pearl.toml"] = _config(ports, wishes, choices) + choices.extra
    for name, text in files.items():
        if not (choices.keep and (folder / name).exists()):
            (folder / name).write_text(text.replace("{regions}", json.dumps(regions)), encoding="utf-8")
    people = _toml(SEED / "people.toml")["person"]
    certificates = _toml(SEED / "certificates.toml")["certificate"]
    old = [region for region, wish in wishes.items() if wish.get("seals") == "GM/T 0031-2014"]
    seals = mint_seals(folder, regions, certificates, datetime.now(UTC), old)
    given = [
        replace(_authority(folder, ports, region, wishes[region], choices.pace), people=people,
                certificates=certificates, seal=seals[region])
        for region in regions
    ]  # fmt: skip
    return Layout(folder, folder / "pearl.toml", ports, given, people)


def _mint(folder: Path, wishes: Mapping[str, Mapping[str, Any]]) -> None:
    own = Mint(folder / "keys")
    mint_own_keys(own)
    own.client_keys("demo-agency")
    own.client_keys("demo-portal")
    for region, wish in wishes.items():
        mint = Mint(folder / "keys" / region)
        for name, kind in wish["mint"].items():
            _mint_one(mint, name, kind)


def mint_own_keys(mint: Mint) -> None:
    """Mint the keys that every gateway needs: token signing, data at rest, references to people."""
    mint.ec_key("signing.pem")
    mint.random("at-rest.key", 32)
    mint.random("references.key", 32)


def _mint_one(mint: Mint, name: str, kind: str) -> None:
    word, _, subject = kind.partition(":")
    match word:
        case "text":
            mint.text(name)
        case "hex":
            mint.hex(name, int(subject))
        case "rsa":
            mint.rsa_pair(name)
        case "ec":
            mint.ec_pair(name)
        case "ed25519":
            mint.ed25519_pair(name)
        case "rsa-certificate":
            mint.rsa_certificate(name, subject)
        case "sm2":
            mint.sm2_pair(name)
        case "sm2-pins":
            mint.sm2_pins(name, subject.split(","))
        case "certificate":
            mint.certificate(name, subject)
        case _:
            raise ValueError(f"sandbox.toml: [mint] {name}: unknown kind {kind!r}")


def _config(ports: Ports, wishes: Mapping[str, Mapping[str, Any]], choices: Choices) -> str:
    """Return pearl.toml as a person would write it."""
    lines = [
        "# Written by the sandbox; docs/operations.md explains every setting.",
        f'public_url = "{ports.public_url}"',
        f'environment = "{choices.environment}"',
        "",
        "[listen]",
        f'public_host = "{choices.host}"',
        f'admin_host = "{choices.host}"',
        f"public_port = {ports.public}",
        f"admin_port = {ports.admin}",
        "",
        "[store]",
        f'url = "{choices.store_url}"',
        *([f'password = "{choices.store_password}"'] if choices.store_password else []),
        'blobs = "blobs"',
        "",
        "[keys]",
        'signing = ["file:keys/signing.pem"]',
        'at_rest = ["file:keys/at-rest.key"]',
        'references = "file:keys/references.key"',
        "",
        "[delivery]",
        *_values({**DELIVERY, **choices.delivery}),
        "",
        "[elssp]",
        'purpose_code = "cross-region-service"',
        'holder_role = "applicant"',
        "",
    ]
    for region, wish in wishes.items():
        lines += _region(region, wish["gateway"], ports.authority_url(region), choices.limits)
    return "\n".join(lines)


def _region(region: str, wish: Mapping[str, Any], authority: str, limits: Mapping[str, float]) -> list[str]:
    settings = {name: _filled(value, authority) for name, value in wish["settings"].items()}
    secrets = {name: f"file:keys/{region}/{file}" for name, file in wish["secrets"].items()}
    tables = {"settings": settings, "secrets": secrets, "limits": {**wish.get("limits", {}), **limits}}
    lines: list[str] = []
    for table, values in tables.items():
        lines += [f"[regions.{region}.{table}]", *_values(values), ""]
    return lines


def _values(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {json.dumps(value)}" for name, value in values.items()]


def _filled(value: Any, authority: str) -> Any:
    return value.replace("{authority}", authority) if isinstance(value, str) else value


def _authority(
    folder: Path,
    ports: Ports,
    region: str,
    wish: Mapping[str, Any],
    pace: float,
) -> AuthoritySettings:
    keys = folder / "keys" / region
    secrets = {name: (keys / file).read_bytes() for name, file in wish["authority"]["secrets"].items()}
    own_url, items = ports.authority_url(region), _items(region)
    values = {name: str(_filled(value, own_url)).encode() for name, value in wish["authority"]["values"].items()}
    return AuthoritySettings(
        region=region,
        gateway_url=ports.public_url,
        state=folder / "authorities" / f"{region}.db",
        secrets={**secrets, **values, "item_codes": json.dumps([item["code"] for item in items]).encode()},
        people=(),
        certificates=(),
        pace=pace,
        items=items,
    )


def _items(region: str) -> list[Mapping[str, Any]]:
    """Return the seeded items that a region handles."""
    items = _toml(SEED / "items.toml")["item"]
    return [item for item in items if any(office["region"] == region for office in item["office"])]


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def start_afresh(folder: Path) -> None:
    """Delete everything that a sandbox left behind."""
    shutil.rmtree(folder, ignore_errors=True)
