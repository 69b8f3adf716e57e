"""One frozen Config from one TOML file.

Owns: the shape of the configuration, references to secrets (`file:…`, `env:…`), and reporting every problem at once.
Leaves to `gateway.app`: what is built from it. Nothing here has a default that weakens anything: a missing secret, an
unknown key or a wrong type refuses the start.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from gateway.errors import FieldProblem, StartRefused

HOUSE = Path(__file__).resolve().parent.parent
"""Where `adapters/` and `mappings/` lie unless the configuration says otherwise."""

M = TypeVar("M", bound=BaseModel)

_CLEAR = re.compile("http://", re.IGNORECASE)
_OFFICE = re.compile(r"\d{6}(\d{6})?", re.ASCII)
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/|$)", re.IGNORECASE)


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is a mistake that is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _secret_reference(value: str) -> str:
    if not value.startswith(("file:", "env:")):
        raise ValueError("must be file:<path> or env:<NAME>; a secret does not stand in the configuration itself")
    return value


SecretReference = Annotated[str, AfterValidator(_secret_reference)]


def _http_base(value: str) -> str:
    if not value.startswith(("http://", "https://")) or value.endswith("/"):
        raise ValueError("must be an http:// or https:// address without a final slash")
    return value


BaseUrl = Annotated[str, AfterValidator(_http_base)]


class Listen(Settings):
    """Where the two listeners bind. Port 0 takes a free one. TLS is on when certificate and key are given.

    `client_ca` names authorities whose client certificates prove a client by its name; `client_certificates` holds
    self-signed ones, so that TLS lets them in. `proxies` are the networks whose peers may say in a header which
    certificate a client showed them.
    """

    public_host: str = "127.0.0.1"
    public_port: int = Field(8080, ge=0, le=65535)
    admin_host: str = "127.0.0.1"
    admin_port: int = Field(9090, ge=0, le=65535)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    client_certificates: Path | None = None
    proxies: tuple[IPvAnyNetwork, ...] = ()

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together; with one of them TLS would be off")
        if self.client_certificates is not None and self.tls_certificate is None:
            raise ValueError("client_certificates is for TLS that ends here, and needs tls_certificate and tls_key")
        if self.client_ca is not None and self.tls_certificate is None and not self.proxies:
            raise ValueError("client_ca needs tls_certificate and tls_key, or proxies that pass certificates on")
        return self

    @field_validator("proxies")
    @classmethod
    def _not_everybody(cls, proxies: tuple[IPvAnyNetwork, ...]) -> tuple[IPvAnyNetwork, ...]:
        if any(network.prefixlen == 0 for network in proxies):
            raise ValueError("must not name the whole Internet: whoever is in it may say who it is")
        return proxies


class StoreSettings(Settings):
    """The database and the place for blobs (a folder, or `s3://bucket/prefix`)."""

    url: str
    blobs: str
    password: SecretReference | None = None
    """The database's password; it does not stand in the address, where every log and every error would show it."""

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str) -> str:
        if not url.startswith(("sqlite:///", "postgresql://")):
            raise ValueError("must be sqlite:///… or postgresql://…")
        try:
            parts = make_url(url)
        except (ArgumentError, ValueError):  # their texts may quote the address
            raise ValueError("cannot be read as an address of a database") from None
        if parts.password is not None or "password" in parts.query:
            raise ValueError("must not hold the password; set store.password to file:… or env:…")
        return url


class Keys(Settings):
    """The gateway's own keys, newest first: `signing` PEM, `upcoming` as well, not signing yet; `at_rest` 32 bytes."""

    signing: list[SecretReference] = Field(min_length=1)
    upcoming: tuple[SecretReference, ...] = ()
    at_rest: list[SecretReference] = Field(min_length=1)
    references: SecretReference


class Limits(Settings):
    """What a caller may send. Sizes in bytes, times in seconds."""

    body_bytes: int = Field(1024 * 1024, gt=0)
    upload_bytes: int = Field(32 * 1024 * 1024, gt=0, le=16 * 1024**3)
    """One file. A region may take less, see `material_bytes` of its limits."""
    case_bytes: int = Field(256 * 1024 * 1024, gt=0)
    """All files of one case."""
    unfinished_bytes: int = Field(1024**3, gt=0)
    """All unfinished uploads of one client."""
    unused_bytes: int = Field(10 * 1024**3, gt=0)
    unused_files: int = Field(10_000, gt=0)
    """All files of one client that no case has, unfinished ones too."""
    callback_bytes: int = Field(1024 * 1024, gt=0)
    header_bytes: int = Field(16 * 1024, gt=0)
    shutdown_seconds: float = Field(10, gt=0)


class MaterialSettings(Settings):
    """For how long files are kept, and what is not handed in yet."""

    unfinished_hours: float = Field(24, gt=0)
    """Uploads that are begun and not finished."""
    orphan_hours: float = Field(72, gt=0)
    """Files that no submission refers to, since they were complete."""
    retention_days: float = Field(30, ge=0)
    """Files of a case, since it came to its end."""
    draft_days: float = Field(14, gt=0, le=366)
    """Drafts of a window with their files, since they were saved last."""


class DeliverySettings(Settings):
    """How deliveries are tried. A worker renews its lease while it is at work; a dead one's runs out."""

    lease_seconds: float = Field(30, ge=1)
    poll_seconds: float = Field(0.25, gt=0)
    first_delay_seconds: float = Field(1, gt=0)
    longest_delay_seconds: float = Field(600, gt=0)
    attempts: int = Field(12, gt=0)
    """Uncertain outcomes of one delivery, after which a person must look."""
    patience_seconds: float = Field(3 * 24 * 3600, gt=0)
    """How old a case may grow while its region cannot be reached, before a person must look."""
    pickup_seconds: float = Field(30 * 24 * 3600, gt=0)
    """How long after its notice was acknowledged a region that pulls may still pull a case."""
    breaker_failures: int = Field(5, gt=0)
    breaker_seconds: float = Field(15, gt=0)


class SignOnSettings(Settings):
    """Lifetimes in seconds (codes 60 s, sessions bounded absolutely); those of mandates and consents in days."""

    interaction_seconds: int = Field(600, gt=0)
    code_seconds: int = Field(60, gt=0, le=60)
    id_token_seconds: int = Field(300, gt=0)
    access_token_seconds: int = Field(600, gt=0)
    session_seconds: int = Field(3600, gt=0)
    """How long a session lasts at the most, and with it every token that came of it."""
    idle_seconds: int = Field(1800, gt=0)
    """How long a browser may stay away before its session answers for it no more."""
    refresh_token_seconds: int = Field(3600, gt=0)
    mandate_days: int = Field(365, gt=0, le=3650)
    consent_days: int = Field(180, gt=0, le=3650)
    """How long a person's consent to giving claims to a service counts."""
    stale_trust_seconds: int = Field(86400, gt=0)
    """How long ago a region's keys may have been confirmed at most for people to sign on through it."""


class LogoutSettings(Settings):
    """How services and regions are told that a session has ended. A party that does not answer is tried again."""

    attempts: int = Field(10, gt=0, le=50)
    first_delay_seconds: float = Field(2, gt=0)
    longest_delay_seconds: float = Field(900, gt=0)
    timeout_seconds: float = Field(5, gt=0)
    lease_seconds: float = Field(30, ge=1)
    poll_seconds: float = Field(1, gt=0)

    @model_validator(mode="after")
    def _leased_for_longer_than_an_attempt(self) -> Self:
        if self.lease_seconds <= self.timeout_seconds:
            raise ValueError(
                "lease_seconds must be more than timeout_seconds, or two would tell the same party at once"
            )
        return self


class ItemSettings(Settings):
    """How often regions are asked which items they publish, in seconds; each time a tenth sooner or later by chance."""

    pull_seconds: float = Field(3600, ge=1)
    retry_seconds: float = Field(300, ge=1)
    """After a pull that failed."""


class CertificateSettings(Settings):
    """How certificates are asked about. Times in seconds."""

    deadline_seconds: float = Field(8, gt=0, le=60)
    """For all issuers of one request together; whoever has not answered by then is named."""
    head_start_seconds: float = Field(1, ge=0)
    """What the region where the holder is at home has of that to itself."""
    most_issuers: int = Field(32, gt=0, le=200)
    """Issuers that may be asked for one request."""
    file_bytes: int = Field(16 * 1024 * 1024, gt=0, le=16 * 1024 * 1024)
    """The largest file of a certificate that is handed out or verified; each is held in memory."""
    file_seconds: float = Field(60, gt=0)
    """How long an issuer may take over a file, and a caller."""
    files_at_once: int = Field(4, gt=0, le=64)
    """Files that are handed out at the same time."""
    link_seconds: float = Field(300, gt=0, le=600)
    """How long an address that serves a file once is good for."""
    copy_days: float = Field(30, gt=0, le=366)
    """Until when a copy for one use says that it is good, in days from now."""
    dispute_seconds: float = Field(86_400, ge=60)
    """How long after one question what became of a reported error the next one is asked."""
    dispute_days: float = Field(365, ge=1)
    """How long a reported error is kept after its end."""


class ElsspSettings(Settings):
    """What systems that ask in the form of GB/T 36906 need not say with each question (docs/gbt36906.md)."""

    purpose_code: str | None = Field(None, min_length=1, max_length=64)
    """`PurposeCode`: one of the purposes that grants name."""
    holder_role: Literal["applicant", "party"] | None = None
    """`HolderRole`: how the holder takes part in the case."""


class ArchiveSystem(Settings):
    """An archive system (档案管理系统): packages are PUT to `<url>/<case>`, with the token as Bearer."""

    url: BaseUrl
    token: SecretReference | None = None


class ArchiveSettings(Settings):
    """Who gets the archive packages of cases that have ended, and how long after that, in seconds."""

    after_seconds: float = Field(24 * 3600, ge=0)
    timeout_seconds: float = Field(120, gt=0)
    systems: dict[str, ArchiveSystem] = Field(default_factory=dict)
    """By the GB/T 2260 code of the office that decides, or by region id."""


class Files(Settings):
    """Data files beside the configuration: who may call and what for, items, windows, certificates, working days."""

    clients: Path = Path("clients.toml")
    grants: Path = Path("grants.toml")
    items: Path = Path("items.toml")
    windows: Path = Path("windows.toml")
    certificates: Path = Path("certificates.toml")
    seals: Path = Path("seals.toml")
    """May be missing: then no seal is known."""
    transfers: Path = Path("transfers.toml")
    recognition: Path = Path("recognition.toml")
    calendar: Path = Path("working-days.toml")


class RegionSettings(Settings):
    """An enabled region: its settings, where its secrets are, and limits that differ from those in region.toml."""

    settings: dict[str, str | int | float | bool] = Field(default_factory=dict)
    secrets: dict[str, SecretReference] = Field(default_factory=dict)
    limits: dict[str, float] = Field(default_factory=dict)


class Config(Settings):
    """Everything a deployment decides."""

    public_url: BaseUrl
    environment: Literal["sandbox", "production"] = "production"
    listen: Listen = Listen()
    store: StoreSettings
    keys: Keys
    limits: Limits = Limits()
    materials: MaterialSettings = MaterialSettings()
    delivery: DeliverySettings = DeliverySettings()
    sign_on: SignOnSettings = SignOnSettings()
    logout: LogoutSettings = LogoutSettings()
    items: ItemSettings = ItemSettings()
    archive: ArchiveSettings = ArchiveSettings()
    certificates: CertificateSettings = CertificateSettings()
    elssp: ElsspSettings = ElsspSettings()
    files: Files = Files()
    regions: dict[str, RegionSettings] = Field(min_length=1)
    adapters: Path = HOUSE / "adapters"
    mappings: Path = HOUSE / "mappings"
    folder: Path = Path()
    """The folder of the configuration file: relative paths start there."""

    @model_validator(mode="after")
    def _in_the_open_only_on_this_machine(self) -> Self:
        """Outside the sandbox nothing may travel in clear: cookies, codes and tokens would."""
        named = {"public_url": self.public_url}
        for region, chosen in self.regions.items():
            named |= {f"regions.{region}.settings.{key}": str(value) for key, value in chosen.settings.items()}
        named |= {f"archive.systems.{place}.url": system.url for place, system in self.archive.systems.items()}
        clear = [place for place, url in named.items() if _CLEAR.match(url) and not _LOOPBACK.match(url)]
        if self.environment == "production" and clear:
            raise ValueError(f"{', '.join(clear)} must be https:// (http:// only for this machine)")
        return self

    @model_validator(mode="after")
    def _archives_of_somebody(self) -> Self:
        odd = [key for key in self.archive.systems if key not in self.regions and not _OFFICE.fullmatch(key)]
        if odd:
            raise ValueError(f"archive.systems: {', '.join(odd)} is neither an enabled region nor a code of an office")
        return self

    def path(self, relative: Path) -> Path:
        """Resolve a path of this configuration."""
        return self.folder / relative


class Problems:
    """Collects what is wrong, so that the person who starts the gateway hears everything in one go."""

    def __init__(self) -> None:
        self.found: list[FieldProblem] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Take over the problems of a StartRefused and go on."""
        try:
            yield
        except StartRefused as refused:
            self.found.extend(refused.problems)

    def add(self, field: str, reason: str) -> None:
        """Note one problem."""
        self.found.append(FieldProblem(field, reason))

    def refuse(self) -> None:
        """Raise StartRefused when anything was noted."""
        if self.found:
            raise StartRefused("The gateway refuses to start.", problems=self.found)


def load_config(path: Path) -> Config:
    """Read and check the configuration file. Raises StartRefused that lists every problem."""
    data = read_toml(path)
    config = parse(Config, {**data, "folder": path.resolve().parent}, str(path))
    problems = Problems()
    for name, reference in _references(config):
        with problems.collect():
            read_secret(config, reference, name)
    problems.refuse()
    return config


def _references(config: Config) -> Iterator[tuple[str, str]]:
    yield from ((f"keys.signing.{i}", ref) for i, ref in enumerate(config.keys.signing))
    yield from ((f"keys.upcoming.{i}", ref) for i, ref in enumerate(config.keys.upcoming))
    yield from ((f"keys.at_rest.{i}", ref) for i, ref in enumerate(config.keys.at_rest))
    yield "keys.references", config.keys.references
    if config.store.password is not None:
        yield "store.password", config.store.password
    for region, settings in config.regions.items():
        yield from ((f"regions.{region}.secrets.{name}", ref) for name, ref in settings.secrets.items())


def read_secret(config: Config, reference: str, name: str) -> bytes:
    """Return what a reference stands for. Raises StartRefused that names the reference's place, never its value."""
    kind, _, target = reference.partition(":")
    try:
        value = os.environb[target.encode()] if kind == "env" else config.path(Path(target)).read_bytes()
    except KeyError:
        raise StartRefused("secret", problems=[FieldProblem(name, f"the variable {target} is not set")]) from None
    except OSError as error:
        reason = f"{target} cannot be read ({error.strerror}); `pearl init` mints development keys"
        raise StartRefused("secret", problems=[FieldProblem(name, reason)]) from None
    if not value:
        raise StartRefused("secret", problems=[FieldProblem(name, f"{target} is empty")])
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's content. Raises StartRefused with the place of a mistake."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartRefused("file", problems=[FieldProblem(str(path), f"cannot be read: {error.strerror}")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartRefused("file", problems=[FieldProblem(str(path), f"is not TOML: {error}")]) from None


def parse(model: type[M], data: Any, where: str) -> M:
    """Check data against a model. Raises StartRefused with one problem per error, all errors."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_problem(where, detail) for detail in error.errors(include_input=False, include_url=False)]
        raise StartRefused("settings", problems=problems) from None


def _problem(where: str, detail: ErrorDetails) -> FieldProblem:
    place = ".".join(str(part) for part in detail["loc"])
    reasons: dict[str, Callable[[], str]] = {
        "extra_forbidden": lambda: "is not a known setting; look at the spelling",
        "missing": lambda: "is required",
    }
    reason = reasons.get(detail["type"], lambda: detail["msg"].removeprefix("Value error, "))()
    return FieldProblem(f"{where}: {place}" if place else where, reason)
