"""Sealed certificate files of simulated authorities: OFD with seals of GB/T 38540 and GM/T 0031, PDF with PAdES.

Owns: one small world of seals, minted when it is made (roots, a seal maker, owners with their seals), the files that
its owners seal, and what a gateway must be told to believe them. Leaves files that are wrong on purpose to `hostile`.
It shares no code with whoever verifies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gateway.sandbox.sealed_files import ofd, pdf
from gateway.sandbox.sealed_files.identities import (
    EcIdentity,
    Sm2Identity,
    ec_identity,
    sm2_identity,
    years,
)
from gateway.sandbox.sealed_files.letters import Letters
from gateway.sandbox.sealed_files.seals import Sealer


@dataclass(frozen=True)
class Certificate:
    """What a certificate file is about: identifier (ZZBS), type, holder and surface fields."""

    identifier: str
    type_code: str
    type_name: str
    holder: str
    fields: Mapping[str, str]

    @property
    def metadata(self) -> Mapping[str, str]:
        """Return the metadata under the pinyin names of GB/T 36903."""
        return {
            "ZZBS": self.identifier,
            "ZZMC": self.type_name,
            "ZZLXDM": self.type_code,
            "CZZT": self.holder,
        }

    @property
    def lines(self) -> Sequence[str]:
        """Return what stands on its page."""
        surface = [f"{name}：{value}" for name, value in self.fields.items()]
        return [self.type_name, f"持证主体：{self.holder}", *surface, f"证照标识：{self.identifier}"]


@dataclass(frozen=True)
class Owner:
    """An organisation with its seal: USCC, for which types, and how it seals OFD and PDF."""

    code: str
    name: str
    types: Sequence[str]
    sealer: Sealer
    signer: EcIdentity


class SealedFiles:
    """A world of seals in one region. All keys are made here and now, and kept nowhere else."""

    def __init__(self, region: str, now: datetime) -> None:
        self.region = region
        self.now = now
        begins, ends = now - years(5), now + years(10)
        self.root = sm2_identity(f"{region} 印章根（沙箱）", None, begins, ends, authority=True)
        self.maker = sm2_identity(f"{region} 制章人（沙箱）", self.root, begins, ends)
        self.signer_root = sm2_identity(f"{region} 签章人根（沙箱）", None, begins, ends, authority=True)
        self.pdf_root: EcIdentity = ec_identity(f"{region} PDF root (sandbox)", None, begins, ends, authority=True)
        self.letters = Letters()
        self.owners: dict[str, Owner] = {}

    def add_owner(self, code: str, name: str, types: Sequence[str]) -> Owner:
        """Give an organisation a seal for some types (whole codes, or the beginning of codes and `*`)."""
        begins, ends = self.now - years(2), self.now + years(3)
        signer = self.sm2_signer(name)
        sealer = Sealer(
            maker=self.maker,
            signer=signer,
            listed=[signer.certificate],
            seal_id=f"SBX{code}",
            name=f"{name}电子证照专用章",
            created=begins,
            begins=begins,
            ends=ends,
        )
        owner = Owner(code, name, types, sealer, ec_identity(name, self.pdf_root, begins, ends))
        self.owners[code] = owner
        return owner

    def sm2_signer(self, name: str) -> Sm2Identity:
        """Mint one more certificate for signatures, under the root of signers: no anchor of makers leads to it."""
        return sm2_identity(name, self.signer_root, self.now - years(2), self.now + years(3))

    def sealed_ofd(self, certificate: Certificate, owner: str, *, scan: bytes = b"", old: bool = False) -> bytes:
        """Return a certificate as OFD under an owner's seal; `old` seals it in the form of GM/T 0031."""
        sealer = self.owners[owner].sealer.but(old=old)
        return ofd.zipped(self.entries(certificate, [sealer], scan=scan))

    def entries(self, certificate: Certificate, sealers: Sequence[Sealer], *, scan: bytes = b"") -> ofd.Entries:
        """Return the entries of an OFD file under any seals, not yet packed."""
        return ofd.seal(ofd.entries(certificate.metadata, certificate.lines, scan=scan), sealers, self.now)

    def sealed_pdf(self, certificate: Certificate, owner: str) -> bytes:
        """Return a certificate as PDF under an owner's seal."""
        return self.pdf_by(certificate, self.owners[owner].signer, self.now)

    def pdf_by(self, certificate: Certificate, signer: EcIdentity, at: datetime, *, extra: str = "") -> bytes:
        """Return a PDF under anybody's seal and at any time; `extra` are entries of its catalogue."""
        return pdf.sealed(certificate.metadata, certificate.lines, signer, at, self.letters, extra=extra)

    def write_register(self, folder: Path) -> Path:
        """Write seals.toml and the anchors beside it, and return its path."""
        (folder / "anchors").mkdir(parents=True, exist_ok=True)
        (folder / "anchors" / f"{self.region}-ses.pem").write_text(self.root.pem, encoding="ascii")
        (folder / "anchors" / f"{self.region}-pades.pem").write_text(self.pdf_root.pem, encoding="ascii")
        path = folder / "seals.toml"
        path.write_text(self.register(), encoding="utf-8")
        return path

    def register(self) -> str:
        """Return the entries of seals.toml for the seals and anchors of this world."""
        entries = [entry for owner in self.owners.values() for entry in self._seals(owner)]
        anchors = [
            f'[[anchor]]\nfile = "anchors/{self.region}-{name}.pem"\nregion = "{self.region}"\nkind = "{kind}"\n'
            for name, kind in (("ses", "ses-maker"), ("pades", "pades"))
        ]
        return "\n".join([*entries, *anchors])

    def _seals(self, owner: Owner) -> Sequence[str]:
        types = ", ".join(f'"{code}"' for code in owner.types)
        begins, ends = self.now - years(2), self.now + years(3)
        rest = (
            f'owner = "{owner.code}"\ntypes = [{types}]\nregion = "{self.region}"\n'
            f"valid_from = {begins:%Y-%m-%d}\nvalid_until = {ends:%Y-%m-%d}\n"
        )
        return [
            f'[[seal]]\nid = "{owner.sealer.seal_id}"\nmaker = "{owner.sealer.maker.sha256}"\n{rest}',
            f'[[seal]]\ncertificate_digest = "{owner.signer.sha256}"\n{rest}',
        ]
