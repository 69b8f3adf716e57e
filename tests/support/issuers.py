"""Issuers of certificates that do as they are told, and the services over them: no wire, no mapping files.

Leaves to each test: the store, and what an issuer says.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry

from gateway.certificates.search import Bounds
from gateway.certificates.services import Certificates
from gateway.certificates.types import CertificateType
from gateway.crypto.at_rest import References, Sealer
from gateway.domain.caller import Caller
from gateway.domain.certificate_identifier import CertificateIdentifier
from gateway.domain.region import RegionNames, place_of
from gateway.errors import GatewayError
from gateway.identity.mandates import Mandates
from gateway.mapping.library import PackSet
from gateway.policy.grants import OF_CERTIFICATES, Grant, Grants
from gateway.policy.transfer import Basis
from gateway.ports import Adapter, CertificateFile, CertificateReply, Clock, DisputeReply
from gateway.regions import Region
from gateway.storage import Store
from gateway.telemetry import Metrics

KIND = CertificateType(
    "11440000MBT400007D001", "营业执照", (), "sandbox", ("guangdong",), surface={"jyfw": "经营范围"}
)  # fmt: skip
ISSUER = "11440000MBT400007D"
IDENTIFIER = str(CertificateIdentifier(KIND.code, ISSUER, "SBX000000000777", "001"))
HOLDER = {"name": "陈小明", "document": {"type": "CN_RIC", "number": "44010619900101900X"}}
PURPOSE = "cross-region-service"
CALLER = Caller("agency", "岭南区政务服务局", "11440100MBT40100XX", "440100", frozenset({"certificates"}))
FRAME = {
    "holder_role": "applicant",
    "operator": "T0001",
    "item": {"code": "11440100MBT40100XX3442011899001", "name": "跨省异地就医备案"},
    "case": "AGENCY-1",
    "purpose_code": PURPOSE,
    "purpose": "Identity check for the case",
    "legal_basis": "statutory",
}


def certificate(**changes: Any) -> dict[str, Any]:
    """Return a certificate in our own form."""
    return {
        "identifier": IDENTIFIER,
        "name": KIND.name,
        "type_code": KIND.code,
        "number": "SBX777",
        "issuer": {"name": "广东省市场监督管理局（沙箱）", "code": ISSUER},
        "issued_on": "2026-03-01",
        "valid_from": "2026-03-01",
        "holder": HOLDER,
        "state": "VALID",
        **changes,
    }


class _Pack:
    """Converts nothing: an issuer of these tests speaks our own words."""

    def to_region(self, document: Mapping[str, Any]) -> dict[str, Any]:
        return dict(document)

    def to_canonical(self, document: Any) -> Any:
        return document


_PACKS = ("certificate", "certificate-query", "certificate-request", "certificate-dispute")


@dataclass
class Issuer:
    """One issuer: `holds` are its certificates, `file` what it hands out; `trouble` is raised by whatever is asked.

    What it was asked, and what was reported to it, is written down.
    """

    operations: frozenset[str] = frozenset({"data", "file", "dispute"})
    holds: list[dict[str, Any]] = field(default_factory=lambda: [certificate()])
    file_is: Sequence[bytes | GatewayError] = (b"the ", b"file")
    media_type: str = "application/ofd"
    size: int | None = None
    sha256: str | None = None
    trouble: GatewayError | None = None
    reply: DisputeReply = DisputeReply("open")  # noqa: RUF009 - it is frozen
    receipt: str | None = None
    asked: list[str] = field(default_factory=list)
    disputes: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    async def lookup(self, query: Any) -> CertificateReply:
        self._note("lookup")
        held = [one for one in self.holds if one["holder"]["document"] == query["holder"]["document"]]
        return CertificateReply("0", certificates=held) if held else CertificateReply("10")

    async def data(self, query: Any) -> CertificateReply:
        self._note("data")
        held = [one for one in self.holds if one["identifier"] == query["identifier"]]
        return CertificateReply("0", certificates=held) if held else CertificateReply("10")

    async def code(self, query: Any) -> CertificateReply:
        raise AssertionError(query)

    async def file(self, query: Any) -> CertificateFile | CertificateReply:
        self._note("file")
        if not any(one["identifier"] == query["identifier"] for one in self.holds):
            return CertificateReply("10")
        return CertificateFile(self.media_type, self.size, self.sha256, self._body())

    async def _body(self) -> AsyncGenerator[bytes, None]:
        for piece in self.file_is:
            if isinstance(piece, GatewayError):
                raise piece
            yield piece

    async def dispute(self, report: Any) -> str:
        self._note("dispute")
        self.disputes.setdefault(report["ticket"], report)
        return f"YY{len(self.disputes)}" if self.receipt is None else self.receipt

    async def disputed(self, number: str) -> DisputeReply:
        self._note(f"disputed {number}")
        return self.reply

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if self.trouble is not None:
            raise self.trouble

    def region(self, name: str = "guangdong", place: str = "440000") -> Region:
        """Return the region of this issuer."""
        packs = PackSet(name, "v", cast("Any", dict.fromkeys(_PACKS, _Pack())))
        names = RegionNames(name, name, name, name)
        words = {"0": "found", "10": "not_found", "100": "not_permitted", "21": "revoked"}
        adapter = Adapter(certificates=self, issued=self)
        return Region(name, place_of(place), names, cast("Any", SimpleNamespace()), {}, words, adapter, packs)


def grants(client: str = "agency", capabilities: Sequence[str] = tuple(OF_CERTIFICATES)) -> Grants:
    """Return a grant for each of these capabilities."""
    said = {
        "client": client, "items": ["*"], "certificate_types": ["*"], "purposes": [PURPOSE], "regions": ["guangdong"],
    }  # fmt: skip
    made = [Grant.model_validate({**said, "capability": one}) for one in capabilities]
    return Grants(dict(enumerate(made, 1)))


def services(
    store: Store,
    clock: Clock,
    references: References,
    issuer: Issuer,
    *,
    allowed: Grants | None = None,
    sealer: Sealer | None = None,
    bases: tuple[Basis, ...] = (),
    **more: Any,
) -> Certificates:
    """Put the services together over one issuer, as a replica has them."""

    async def distrust(_region: str, _lie: GatewayError) -> None:
        issuer.asked.append("distrusted")

    return Certificates.of(
        types={KIND.code: KIND}, regions={"guangdong": issuer.region()}, grants=allowed or grants(), bases=bases,
        store=store, mandates=cast("Mandates", None), references=references, sealer=sealer or Sealer(bytes(32)),
        metrics=Metrics(CollectorRegistry()), clock=clock, distrust=distrust, bounds=Bounds(), **more,
    )  # fmt: skip
