"""Issuers in the formats of the real regions: their declarations, status codes and mapping packs, and no wire.

Owns: one `Profile` for each way in which certificates are spoken of, and the services over regions that say what a test
tells them. Each region stands behind a real line, so that breaker and figures are those of service. Leaves the wires to
the conformance suite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry

from gateway.certificates.search import Bounds
from gateway.certificates.services import Certificates
from gateway.certificates.types import CertificateType
from gateway.config import HOUSE, parse, read_toml
from gateway.crypto.at_rest import References, Sealer
from gateway.domain.caller import Caller
from gateway.domain.certificate_identifier import CertificateIdentifier
from gateway.domain.region import Place, RegionNames
from gateway.identity.mandates import Mandates
from gateway.lines import Line, distrust, guard
from gateway.mapping.library import PackSet
from gateway.mapping.packs import Ground, packs_of, read_ground
from gateway.mapping.source import Files
from gateway.policy.grants import OF_CERTIFICATES, Grant, Grants
from gateway.ports import (
    Adapter,
    Callback,
    CallbackReading,
    CertificateFile,
    CertificateReply,
    Clock,
    DisputeReply,
    RegionDocument,
)
from gateway.regions import Manifest, Region
from gateway.storage import Store
from gateway.telemetry import Metrics

PROFILES = ("guangdong", "foshan", "shenzhen", "qingyuan", "hongkong", "macau", "hunan")
"""One region for each set of packs; the other provinces share Hunan's."""
PROVINCES = ("fujian", "jiangxi", "hunan", "guangxi", "hainan", "sichuan", "guizhou", "yunnan")
KIND = CertificateType("11100000000013127D001", "中华人民共和国居民身份证", ("居民身份证",), "sandbox", (*PROFILES,))
CITIZEN = {"name": "陈小明", "document": {"type": "CN_RIC", "number": "44010619900101900X"}}
TRAVELLERS = {
    "hongkong": {"name": "陈大文", "document": {"type": "HM_PERMIT", "number": "H00000001"}},
    "macau": {"name": "李嘉欣", "document": {"type": "HM_PERMIT", "number": "M01234567"}},
}
PURPOSE = "Identity check for the case"
FAILURES = 3
"""Lies and failures in a row after which a region is left alone."""
AT_EASE = Bounds()
SHOWN = "TST:"
"""What the codes of every issuer here begin with."""


@cache
def manifest_of(region: str) -> Manifest:
    """Return a region's declaration."""
    return parse(Manifest, read_toml(HOUSE / "adapters" / region / "region.toml"), region)


@cache
def _ground() -> Ground:
    """Read what is said about certificates, and nothing else: the packs of a whole region take ten times as long."""
    root = HOUSE / "mappings"
    paths = (path for path in root.rglob("*") if path.is_file())
    return read_ground(
        Files(root.name, {str(one.relative_to(root)): one.read_bytes() for one in filter(_wanted, paths)})
    )


def _wanted(path: Path) -> bool:
    parts = path.relative_to(HOUSE / "mappings").parts
    return len(parts) == 1 or parts[0] == "tables" or parts[1].startswith("certificate")


@cache
def packs_for(region: str) -> PackSet:
    """Return a region's packs about certificates."""
    return PackSet.of(region, packs_of(_ground(), region, manifest_of(region).mappings))


def holder_of(region: str) -> dict[str, Any]:
    """Return somebody about whom this region can be asked."""
    return TRAVELLERS.get(region, CITIZEN)


def identifier_of(region: str) -> str:
    """Return the identifier of the certificate that the region has issued."""
    return str(CertificateIdentifier(KIND.code, f"11{manifest_of(region).code}MBT400007D", "SBX000000000777", "001"))


def certificate(region: str, **changes: Any) -> dict[str, Any]:
    """Return that certificate in our own form."""
    return {
        "identifier": identifier_of(region),
        "name": KIND.name,
        "number": "SBX777",
        "type_code": KIND.code,
        "issuer": {"name": "测试颁证机构（沙箱）", "code": "11440000MBT400007D"},
        "issued_on": "2020-01-01",
        "valid_from": "2020-01-01",
        "valid_until": "2040-01-01",
        "holder": holder_of(region),
        "state": "VALID",
        **changes,
    }


def in_their_words(region: str, **changes: Any) -> RegionDocument:
    """Return it as the region writes it."""
    return packs_for(region).need("certificate").to_region(certificate(region, **changes))


def told(region: str) -> frozenset[str]:
    """Return what the region's packs can ask about a certificate that is named."""
    packs = packs_for(region)
    asking = packs.get("certificate-request")
    if asking is None:
        return frozenset()
    codes = () if "code" in asking.lost else ("code",)
    return frozenset({"data", "file", *codes, *(("dispute",) if "certificate-dispute" in packs else ())})


@dataclass
class Issuer:
    """One region: it gives the `reply`, raises it, or with None never answers. Who asked what is written down.

    `of_files` is why it hands no file out, where that is another reply.
    """

    region: str
    reply: CertificateReply | Exception | None = None
    of_files: CertificateReply | None = None
    asked: list[str] = field(default_factory=list)

    operations = frozenset({"certificate-changed"})

    @property
    def words(self) -> Mapping[str, str]:
        """Its status codes → our words."""
        return manifest_of(self.region).certificates.status

    def says(self, word: str, *certificates: RegionDocument) -> None:
        """Have it answer with the first of its codes that means this."""
        code = next(code for code, meaning in self.words.items() if meaning == word)
        self.reply = CertificateReply(code, "", certificates)

    def has(self, **changes: Any) -> None:
        """Have it find the certificate."""
        self.says("found", in_their_words(self.region, **changes))

    async def _answer(self, operation: str) -> CertificateReply:
        self.asked.append(operation)
        if self.reply is None:
            await asyncio.Event().wait()
        if isinstance(self.reply, Exception):
            raise self.reply
        return cast("CertificateReply", self.reply)

    async def lookup(self, _query: RegionDocument) -> CertificateReply:
        return await self._answer("lookup")

    async def read(self, callback: Callback) -> CallbackReading:
        """Read a notice; who sent it is for the wires to find out."""
        notice = {"ZZBS": callback.body.decode(), "ZZZT": "03", "bgsj": "20260302100000"}
        return CallbackReading((notice,), {"code": "200"}, callback.path, callback.received_at)

    def opened(self, line: Line) -> Region:
        """Return the region behind its line. It tells of named certificates what its packs can ask for."""
        manifest, packs = manifest_of(self.region), packs_for(self.region)
        named = _Named(self, told(self.region)) if told(self.region) else None
        notices = self if self.region == "guangdong" else None
        adapter = Adapter(certificates=self, issued=named, notices=notices)
        names = RegionNames(*(self.region,) * 4)
        return Region(
            manifest.id, Place(manifest.code, manifest.zone), names, manifest.limits, {}, self.words,
            guard(line, adapter), packs, shown_prefixes=(f"{SHOWN}{self.region.upper()}:",),
        )  # fmt: skip


@dataclass
class _Named:
    issuer: Issuer
    operations: frozenset[str]

    async def data(self, _query: RegionDocument) -> CertificateReply:
        return await self.issuer._answer("data")

    async def code(self, _query: RegionDocument) -> CertificateReply:
        return await self.issuer._answer("code")

    async def file(self, _query: RegionDocument) -> CertificateFile | CertificateReply:
        said = await self.issuer._answer("file")
        return self.issuer.of_files or said

    async def dispute(self, _report: RegionDocument) -> str:
        await self.issuer._answer("dispute")
        return "YY1"

    async def disputed(self, _number: str) -> DisputeReply:
        return DisputeReply("open")


@dataclass(frozen=True)
class Desk:
    """Issuers, and the services of one replica over them."""

    issuers: Mapping[str, Issuer]
    services: Certificates
    store: Store

    @property
    def issuer(self) -> Issuer:
        """The only one, where there is one."""
        (one,) = self.issuers.values()
        return one

    @property
    def caller(self) -> Caller:
        """An agency in the territory of its issuers: nothing crosses a border."""
        origin = next(iter(self.services.directory.regions.values())).place.code
        return Caller("agency", "测试机构", "11440100MBT40100XX", origin, frozenset({"certificates"}))

    def another_replica(self, references: References) -> Desk:
        """Return a replica over the same store and the same issuers, with a memory of its own."""
        return desk(self.store, self.services.clock, references, *self.issuers.values())


def desk(store: Store, clock: Clock, references: References, *issuers: Issuer, bounds: Bounds = AT_EASE) -> Desk:
    """Put the services together over these issuers."""
    metrics, names = Metrics(CollectorRegistry()), [one.region for one in issuers]
    lines = {
        name: Line(name, metrics, concurrency=8, per_second=1000, failures=FAILURES, rest_seconds=60.0)
        for name in names
    }  # fmt: skip
    said = {"client": "agency", "items": ["*"], "certificate_types": ["*"], "purposes": ["check"], "regions": names}
    grants = [Grant.model_validate({**said, "capability": one}) for one in OF_CERTIFICATES]
    services = Certificates.of(
        types={KIND.code: replace(KIND, issuers=names)},
        regions={one.region: one.opened(lines[one.region]) for one in issuers},
        grants=Grants(dict(enumerate(grants, 1))), bases=(), store=store, mandates=cast("Mandates", None),
        references=references, sealer=Sealer(bytes(32)), metrics=metrics, clock=clock,
        distrust=partial(distrust, lines), bounds=bounds,
    )  # fmt: skip
    return Desk({one.region: one for one in issuers}, services, store)


def frame(region: str) -> dict[str, Any]:
    """Return what goes with every question; the consent is for those that ask for its number."""
    consent = {
        "id": "CNS-0001", "recipient": region, "purpose": PURPOSE, "fields": ["holder.name", "holder.document"],
        "given_at": "2026-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z",
    }  # fmt: skip
    return {
        "holder_role": "party",
        "operator": "T0001",
        "item": {"code": "11440100MBT40100XX3442011899001", "name": "跨省异地就医备案"},
        "case": "AGENCY-1",
        "purpose_code": "check",
        "purpose": PURPOSE,
        "legal_basis": "statutory",
        "consents": [consent],
    }


def by_holder(region: str) -> dict[str, Any]:
    """Return a question that names the holder."""
    return {**frame(region), "certificate_type": KIND.name, "holder": holder_of(region), "issuer": region}


def by_identifier(region: str) -> dict[str, Any]:
    """Return a question that names the certificate."""
    return {**frame(region), "identifier": identifier_of(region), "issuer": region}


def by_code(region: str) -> dict[str, Any]:
    """Return a question that names a shown code (亮证码)."""
    return {**frame(region), "code": f"{SHOWN}{region.upper()}:1", "certificate_type": KIND.name}
