"""adapters/<id> and mappings/<id> become a `Region`, or a refusal that lists every problem.

Owns: reading region.toml, loading the adapter of an *enabled* region by id at run time, and checking that declaration,
adapter, mappings and deployment agree. A folder that is not enabled is not looked at: a stray folder is no trust
relation. Opening makes no network call.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import Field

from gateway.config import Config, Problems, RegionSettings, Settings, parse, read_secret, read_toml
from gateway.domain.identity import Assurance
from gateway.domain.region import Place, RegionNames, Zone
from gateway.errors import FieldProblem, NotOffered, StartRefused
from gateway.mapping import Pack, load_packs
from gateway.ports import Adapter, Kit, OpenAdapter


class Names(Settings):
    """`[names]` of region.toml."""

    zh_hans: str = Field(alias="zh-Hans")
    zh_hant: str = Field(alias="zh-Hant")
    en: str
    pt: str


class Capabilities(Settings):
    """`[capabilities]`: what this region offers. What is not said is not offered."""

    sign_on: bool = False
    submissions: bool = False
    callbacks: bool = False
    feed: bool = False
    certificates: bool = False


class RegionLimits(Settings):
    """`[limits]`: how hard we may press, and how long we wait (seconds)."""

    concurrency: int = Field(gt=0)
    requests_per_second: float = Field(gt=0)
    timeout_seconds: float = Field(gt=0)
    settle_seconds: float = Field(ge=0)
    poll_seconds: float | None = Field(None, gt=0)


class Secret(Settings):
    """One entry of `[secrets]`: what it is for, and its form."""

    description: str
    kind: Literal["text", "pem"]


class CertificateDeclaration(Settings):
    """`[certificates]`: the region's status codes → our words."""

    status: dict[str, Literal[
        "found", "not_found", "not_permitted", "type_unknown", "match", "no_match", "no_consent", "refused"
    ]] = Field(default_factory=dict)  # fmt: skip


class Manifest(Settings):
    """region.toml as a whole."""

    id: str
    code: str = Field(pattern=r"^\d{6}$")
    zone: Zone
    names: Names
    capabilities: Capabilities
    settings: dict[str, Any] = Field(default_factory=dict)
    required: list[str] = Field(default_factory=list)
    secrets: dict[str, Secret] = Field(default_factory=dict)
    limits: RegionLimits
    assurance: dict[str, Literal["A0", "A1", "A2", "A3"]] = Field(default_factory=dict)
    certificates: CertificateDeclaration = CertificateDeclaration()
    quirks: list[str] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Region:
    """One enabled region, ready for use. `certificate_words` translates its certificate status codes into ours."""

    id: str
    place: Place
    names: RegionNames
    limits: RegionLimits
    assurance: Mapping[str, Assurance]
    certificate_words: Mapping[str, str]
    adapter: Adapter
    packs: Mapping[str, Pack]

    def pack(self, message: str) -> Pack:
        """Return the mapping pack of a message. Raises NotOffered."""
        if message not in self.packs:
            raise NotOffered(f"Region {self.id} exchanges no {message} documents.", region=self.id)
        return self.packs[message]


MakeKit = Callable[[Manifest, RegionSettings], Kit]
Guard = Callable[[Manifest, Adapter], Adapter]

PACKS_OF: Mapping[str, tuple[str, ...]] = {
    "sign_on": ("person",),
    "submissions": ("submission", "receipt"),
    "callbacks": ("event",),
    "feed": ("event",),
    "certificates": ("certificate-query",),
}
"""The mapping packs without which a capability cannot be offered."""


def read_manifests(config: Config) -> dict[str, Manifest]:
    """Read region.toml of every enabled region. Raises StartRefused with all problems of all regions."""
    problems = Problems()
    manifests: dict[str, Manifest] = {}
    for region_id, chosen in config.regions.items():
        with problems.collect():
            manifests[region_id] = _manifest(config, region_id)
            problems.found.extend(_disagreements(manifests[region_id], chosen))
    problems.refuse()
    return manifests


def open_regions(config: Config, make_kit: MakeKit, guard: Guard) -> dict[str, Region]:
    """Return every enabled region, ready for use. Raises StartRefused with all problems of all regions."""
    problems = Problems()
    manifests: dict[str, Manifest] = {}
    with problems.collect():
        manifests = read_manifests(config)
    regions: dict[str, Region] = {}
    for region_id in config.regions:
        packs: Mapping[str, Pack] | None = None
        with problems.collect():
            packs = load_packs(config.mappings, region_id)
        if region_id in manifests and packs is not None:
            with problems.collect():
                regions[region_id] = _open(config, manifests[region_id], packs, make_kit, guard)
    problems.refuse()
    return regions


def _manifest(config: Config, region_id: str) -> Manifest:
    path = config.adapters / region_id / "region.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.parent.name for p in config.adapters.glob("*/region.toml")))
        reason = f"there is no adapters/{region_id}/region.toml; regions that can be enabled: {known}"
        raise StartRefused("region", problems=[FieldProblem(f"regions.{region_id}", reason)])
    manifest = parse(Manifest, read_toml(path), f"adapters/{region_id}/region.toml")
    if manifest.id != region_id:
        reason = f"declares id {manifest.id!r}, but its folder is {region_id!r}"
        raise StartRefused("region", problems=[FieldProblem(f"adapters/{region_id}/region.toml: id", reason)])
    return manifest


def _disagreements(manifest: Manifest, chosen: RegionSettings) -> Iterator[FieldProblem]:
    """Say where the deployment's settings and the region's declaration do not fit."""
    place = f"regions.{manifest.id}"
    given = {**manifest.settings, **chosen.settings}
    for name in manifest.required:
        if name not in given:
            yield FieldProblem(f"{place}.settings.{name}", "is required by region.toml")
    for name in chosen.settings.keys() - manifest.settings.keys() - set(manifest.required):
        yield FieldProblem(f"{place}.settings.{name}", "is not a setting of this region; look at the spelling")
    for name, secret in manifest.secrets.items():
        if name not in chosen.secrets:
            yield FieldProblem(f"{place}.secrets.{name}", f"is required ({secret.description})")
    for name in chosen.secrets.keys() - manifest.secrets.keys():
        yield FieldProblem(f"{place}.secrets.{name}", "is not a secret of this region; look at the spelling")


def _open(config: Config, manifest: Manifest, packs: Mapping[str, Pack], make_kit: MakeKit, guard: Guard) -> Region:
    open_adapter = _load_adapter(config, manifest.id)
    try:
        adapter = open_adapter(make_kit(manifest, config.regions[manifest.id]))
    except (KeyError, TypeError, ValueError) as error:
        reason = f"its adapter refuses these settings or secrets: {type(error).__name__}: {error}"
        raise StartRefused("region", problems=[FieldProblem(f"regions.{manifest.id}", reason)]) from error
    wrong = list(_undeclared(manifest, adapter, packs))
    if wrong:
        raise StartRefused("region", problems=wrong)
    names = manifest.names
    return Region(
        id=manifest.id,
        place=Place(manifest.code, manifest.zone),
        names=RegionNames(names.zh_hans, names.zh_hant, names.en, names.pt),
        limits=limits_of(config, manifest),
        assurance={level: Assurance[rung] for level, rung in manifest.assurance.items()},
        certificate_words=manifest.certificates.status,
        adapter=guard(manifest, adapter),
        packs=packs,
    )


def _undeclared(manifest: Manifest, adapter: Adapter, packs: Mapping[str, Pack]) -> Iterator[FieldProblem]:
    """Say where declaration, adapter and mappings do not fit each other."""
    for capability, declared in manifest.capabilities.model_dump().items():
        place = f"adapters/{manifest.id}: {capability}"
        if declared != (getattr(adapter, capability) is not None):
            said = "declared but not offered by adapter.py" if declared else "offered by adapter.py but not declared"
            yield FieldProblem(place, said)
        for message in PACKS_OF.get(capability, ()) if declared else ():
            if message not in packs:
                yield FieldProblem(place, f"needs mappings/{manifest.id}/{message}/, which is missing")


def limits_of(config: Config, manifest: Manifest) -> RegionLimits:
    """Return the region's limits, as the deployment may have changed them. Raises StartRefused."""
    chosen = config.regions[manifest.id].limits
    return parse(RegionLimits, {**manifest.limits.model_dump(), **chosen}, f"regions.{manifest.id}.limits")


def _load_adapter(config: Config, region_id: str) -> OpenAdapter:
    """Load adapters/<id>/adapter.py by path and return its `open_adapter`."""
    module = _module(f"adapters.{region_id}.adapter", config.adapters / region_id / "adapter.py")
    opener = getattr(module, "open_adapter", None)
    if not callable(opener):
        reason = "must define open_adapter(kit: Kit) -> Adapter"
        raise StartRefused("region", problems=[FieldProblem(f"adapters/{region_id}/adapter.py", reason)])
    typed: OpenAdapter = opener
    return typed


def _module(name: str, path: Path) -> ModuleType:
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(path):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise StartRefused("region", problems=[FieldProblem(str(path), "is missing")])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        del sys.modules[name]
        raise StartRefused("region", problems=[FieldProblem(str(path), f"cannot be imported: {error}")]) from error
    return module


def secret_reader(config: Config, manifest: Manifest, chosen: RegionSettings) -> Callable[[str], bytes]:
    """Return the function through which an adapter reads the secrets that its region.toml declares, and no other."""

    def secret(name: str) -> bytes:
        value = read_secret(config, chosen.secrets[name], f"regions.{manifest.id}.secrets.{name}")
        return value.strip() if manifest.secrets[name].kind == "text" else value

    return secret
