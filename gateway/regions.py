"""adapters/<id> and mappings/<id> become a `Region`, or a refusal that lists every problem.

Owns: reading region.toml, loading the adapter of an *enabled* region by id at run time, and checking that declaration,
adapter, mappings and deployment agree, at the start and whenever the mappings are read again. A folder that is not
enabled is not looked at: a stray folder is no trust relation. Opening makes no network call.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from gateway.config import Config, Problems, RegionSettings, Settings, parse, read_secret, read_toml
from gateway.domain.identity import Assurance
from gateway.domain.region import Place, RegionNames, Zone
from gateway.errors import FieldProblem, StartRefused
from gateway.mapping.library import Library, Packs, PackSet, read_sets
from gateway.mapping.packs import Notice, Pack, unnoticed
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
    issued: bool = False
    notices: bool = False
    sign_out: bool = False
    codes: bool = False
    catalogue: bool = False
    messages: bool = False
    pickups: bool = False
    results: bool = False


class RegionLimits(Settings):
    """`[limits]`: how hard we may press, and how long we wait (seconds)."""

    concurrency: int = Field(gt=0)
    requests_per_second: float = Field(gt=0)
    timeout_seconds: float = Field(gt=0)
    settle_seconds: float = Field(ge=0)
    poll_seconds: float | None = Field(None, gt=0)
    material_bytes: int = Field(32 * 1024 * 1024, gt=0)
    """The largest file that the region takes; a larger one is refused at intake."""


class Secret(Settings):
    """One entry of `[secrets]`: what it is for, and its form."""

    description: str
    kind: Literal["text", "pem"]


class CertificateDeclaration(Settings):
    """`[certificates]`: the region's status codes → our words."""

    status: dict[str, Literal[
        "found", "not_found", "not_permitted", "type_unknown", "match", "no_match", "no_consent", "refused",
        "revoked", "expired", "restricted", "superseded",
    ]] = Field(default_factory=dict)  # fmt: skip
    code_prefixes: list[Annotated[str, Field(pattern=r"^[0-9A-Z][0-9A-Z:._-]{1,15}$")]] = Field(default_factory=list)
    """What the shown codes (亮证码) of this region's certificates begin with."""


class CodeDeclaration(Settings):
    """`[codes]`: what a presented city code (城市码) of this region begins with; it leads to the issuer."""

    prefixes: list[Annotated[str, Field(pattern=r"^[0-9A-Z][0-9A-Z:._-]{1,15}$")]] = Field(default_factory=list)


class Manifest(Settings):
    """region.toml as a whole."""

    id: str
    mappings: str = ""
    """The folder of mappings/ that holds the packs, where it is another than the id: several regions may share one."""
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
    codes: CodeDeclaration = CodeDeclaration()
    quirks: list[str] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Region:
    """One enabled region, ready for use.

    `certificate_words` translates its certificate status codes into ours. `packs` are the mapping packs in use, each
    time that somebody looks; `folder` is where in mappings/ they are. `code_prefixes` are those of its city codes.
    """

    id: str
    place: Place
    names: RegionNames
    limits: RegionLimits
    assurance: Mapping[str, Assurance]
    certificate_words: Mapping[str, str]
    adapter: Adapter
    packs: Packs
    folder: str = ""
    code_prefixes: tuple[str, ...] = ()
    shown_prefixes: tuple[str, ...] = ()
    """What the codes begin with under which its certificates are shown."""

    def tells(self, operation: str) -> bool:
        """Say whether it tells this of a certificate that is named: `data`, `file`, `code` or `dispute`."""
        return self.adapter.issued is not None and operation in self.adapter.issued.operations

    def pack(self, message: str) -> Pack:
        """Return the mapping pack of a message, for an exchange that needs no other. Raises NotOffered."""
        return self.packs.now().need(message)

    def takes(self, kind: str) -> bool:
        """Say whether its wire carries this kind of message about a case."""
        return self.adapter.messages is not None and kind in self.adapter.messages.kinds


class ReadSets(Protocol):
    """Reads the packs of regions (region → folder), as `gateway.mapping.library.read_sets` does."""

    def __call__(
        self, root: Path, folders: Mapping[str, str], *, notice: Notice = unnoticed
    ) -> tuple[dict[str, PackSet], list[FieldProblem]]:
        """Return the set of every region whose packs are sound, and everything that is not."""
        ...


MakeKit = Callable[[Manifest, RegionSettings], Kit]
Guard = Callable[[Manifest, Adapter], Adapter]

PACKS_OF: Mapping[str, tuple[str, ...]] = {
    "sign_on": ("person",),
    "submissions": ("submission", "receipt"),
    "callbacks": ("event",),
    "feed": ("event",),
    "certificates": ("certificate-query",),
    "issued": (),
    "notices": ("certificate-notice",),
    "sign_out": (),
    "codes": (),
    "catalogue": ("item",),
    "messages": (),
    "results": (),
    "pickups": ("submission",),
}
"""The mapping packs without which a capability cannot be offered."""


def read_manifests(config: Config) -> dict[str, Manifest]:
    """Read region.toml of every enabled region. Raises StartRefused with all problems of all regions."""
    problems = Problems()
    manifests = _manifests(config, problems)
    problems.refuse()
    return manifests


def _manifests(config: Config, problems: Problems) -> dict[str, Manifest]:
    manifests: dict[str, Manifest] = {}
    for region_id, chosen in config.regions.items():
        with problems.collect():
            manifests[region_id] = _manifest(config, region_id)
            problems.found.extend(_disagreements(manifests[region_id], chosen))
    problems.found.extend(_ambiguous_codes(manifests))
    return manifests


def open_regions(
    config: Config, make_kit: MakeKit, guard: Guard, notice: Notice = unnoticed, read: ReadSets = read_sets
) -> dict[str, Region]:
    """Return every enabled region, ready for use. Raises StartRefused with all problems of all regions.

    `notice` is told of every code of theirs that no table knows. The packs stay as `read` returns them here;
    `following` makes them follow a library.
    """
    problems = Problems()
    manifests = _manifests(config, problems)
    sound = not problems.found
    folders = {region: _folder(region, manifests) for region in config.regions}
    sets, found = read(config.path(config.mappings), folders, notice=notice)
    problems.found.extend(found)
    regions: dict[str, Region] = {}
    for region in sets if sound else ():
        with problems.collect():
            regions[region] = _open(config, manifests[region], sets[region], make_kit, guard)
    problems.refuse()
    return regions


def following(regions: Mapping[str, Region], library: Library) -> dict[str, Region]:
    """Return the regions with packs that are, whenever somebody looks, those that the library has in use."""
    return {region.id: replace(region, packs=library.live(region.id)) for region in regions.values()}


def read_again(
    root: Path, regions: Mapping[str, Region], library: Library, notice: Notice = unnoticed
) -> dict[str, PackSet]:
    """Read the mappings folder as it is now, for regions that are open. Raises StartRefused with everything wrong.

    No capability may lose a pack that it needs.
    """
    folders = {region.id: region.folder or region.id for region in regions.values()}
    sets, found = read_sets(root, folders, notice=notice, earlier=library.current)
    problems = Problems()
    problems.found.extend(found)
    for region in (regions[name] for name in sets):
        needs = [*_needs(_offered(region.adapter), region.certificate_words), *_spoken(region.adapter)]
        problems.found.extend(_missing(region.id, folders[region.id], needs, sets[region.id]))
    problems.refuse()
    return sets


def _manifest(config: Config, region_id: str) -> Manifest:
    path = config.path(config.adapters) / region_id / "region.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.parent.name for p in config.path(config.adapters).glob("*/region.toml")))
        reason = f"there is no adapters/{region_id}/region.toml; regions that can be enabled: {known}"
        raise StartRefused("region", problems=[FieldProblem(f"regions.{region_id}", reason)])
    manifest = parse(Manifest, read_toml(path), f"adapters/{region_id}/region.toml")
    if manifest.id != region_id:
        reason = f"declares id {manifest.id!r}, but its folder is {region_id!r}"
        raise StartRefused("region", problems=[FieldProblem(f"adapters/{region_id}/region.toml: id", reason)])
    return manifest


def _folder(region: str, manifests: Mapping[str, Manifest]) -> str:
    """Return where in mappings/ a region's packs are, even while its region.toml cannot be read."""
    return region if region not in manifests else manifests[region].mappings or region


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


def _ambiguous_codes(manifests: Mapping[str, Manifest]) -> Iterator[FieldProblem]:
    """Say where it would not be plain whose a city code is: a prefix that begins like another leads to two issuers."""
    known = sorted((prefix, region) for region, manifest in manifests.items() for prefix in manifest.codes.prefixes)
    for (prefix, region), (other, elsewhere) in pairwise(known):  # sorted: what begins alike is next to each other
        if other.startswith(prefix):
            reason = f"{other!r} begins like {prefix!r} of region {region}; a code must lead to one issuer"
            yield FieldProblem(f"adapters/{elsewhere}: codes.prefixes", reason)


def _open(config: Config, manifest: Manifest, packs: PackSet, make_kit: MakeKit, guard: Guard) -> Region:
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
        folder=manifest.mappings,
        code_prefixes=tuple(manifest.codes.prefixes),
        shown_prefixes=tuple(manifest.certificates.code_prefixes),
    )


def _undeclared(manifest: Manifest, adapter: Adapter, packs: PackSet) -> Iterator[FieldProblem]:
    """Say where declaration, adapter and mappings do not fit each other."""
    said = manifest.capabilities.model_dump()
    for capability, declared in said.items():
        if declared != (getattr(adapter, capability) is not None):
            wrong = "declared but not offered by adapter.py" if declared else "offered by adapter.py but not declared"
            yield FieldProblem(f"adapters/{manifest.id}: {capability}", wrong)
    if manifest.capabilities.codes != bool(manifest.codes.prefixes):
        reason = "goes together with the capability `codes`: without a prefix no code leads here"
        yield FieldProblem(f"adapters/{manifest.id}: codes.prefixes", reason)
    needs = [
        *_needs({name for name, declared in said.items() if declared}, manifest.certificates.status),
        *_spoken(adapter),
    ]
    yield from _missing(manifest.id, manifest.mappings or manifest.id, needs, packs)


def _needs(capabilities: Container[str], certificate_words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield capability and message for every pack without which a capability cannot be offered."""
    for capability, messages in PACKS_OF.items():
        if capability in capabilities:
            yield from ((capability, message) for message in messages)
    if "certificates" in capabilities and "found" in certificate_words.values():
        yield "certificates", "certificate"


_PACKS_OF_ISSUED: Mapping[str, tuple[str, ...]] = {
    "data": ("certificate-request", "certificate"),
    "code": ("certificate-request", "certificate"),
    "file": ("certificate-request",),
    "dispute": ("certificate-dispute",),
}
"""The packs without which what an issuer tells of a named certificate cannot be asked."""


def _spoken(adapter: Adapter) -> Iterator[tuple[str, str]]:
    """Yield a pack for every kind of message about a case that the region takes, and for what it tells of one name."""
    if adapter.messages is not None:
        yield from (("messages", kind) for kind in sorted(adapter.messages.kinds))
    if adapter.issued is not None:
        needed = {pack for operation in adapter.issued.operations for pack in _PACKS_OF_ISSUED[operation]}
        yield from (("issued", pack) for pack in sorted(needed))


def _missing(region: str, folder: str, needs: Iterable[tuple[str, str]], packs: PackSet) -> Iterator[FieldProblem]:
    for capability, message in needs:
        if message not in packs:
            reason = f"needs mappings/{folder}/{message}/, which is missing"
            yield FieldProblem(f"adapters/{region}: {capability}", reason)


def _offered(adapter: Adapter) -> set[str]:
    """Return the capabilities that an adapter has: those that it declares, since the start checked it."""
    return {capability for capability in PACKS_OF if getattr(adapter, capability) is not None}


def limits_of(config: Config, manifest: Manifest) -> RegionLimits:
    """Return the region's limits, as the deployment may have changed them. Raises StartRefused."""
    chosen = config.regions[manifest.id].limits
    return parse(RegionLimits, {**manifest.limits.model_dump(), **chosen}, f"regions.{manifest.id}.limits")


def _load_adapter(config: Config, region_id: str) -> OpenAdapter:
    """Load adapters/<id>/adapter.py by path and return its `open_adapter`."""
    module = _module(f"adapters.{region_id}.adapter", config.path(config.adapters) / region_id / "adapter.py")
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
