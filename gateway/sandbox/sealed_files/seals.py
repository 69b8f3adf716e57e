"""Seals and what they sign, in both generations (GB/T 38540-2020, GM/T 0031-2014).

Owns: the seal maker's and the holder's side of `docs/certificate-files.md`: structures written by hand. Leaves
documents to `ofd`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography.hazmat.primitives import hashes

from gateway.sandbox.sealed_files import der
from gateway.sandbox.sealed_files.identities import SM2_WITH_SM3, Sm2Identity

PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63b82020000002"
    "a400f1fa920b170000000049454e44ae426082"
)
"""The picture of the seal: one red point."""


def sm3(data: bytes) -> bytes:
    """Return an SM3 digest."""
    digest = hashes.Hash(hashes.SM3())
    digest.update(data)
    return digest.finalize()


@dataclass(frozen=True)
class Sealer:
    """A holder with a seal: who makes it, whom it lists, who signs, its term, and the generation.

    `listed` are certificates; with `by_digest` the seal lists their digests.
    """

    maker: Sm2Identity
    signer: Sm2Identity
    listed: Sequence[bytes]
    seal_id: str
    name: str
    created: datetime
    begins: datetime
    ends: datetime
    old: bool = False
    by_digest: bool = False
    version: int | None = None
    critical: bool = False
    forger: Sm2Identity | None = None

    def but(self, **changes: object) -> Sealer:
        """Return the same with changes."""
        return replace(self, **changes)  # type: ignore[arg-type]  # named by tests, a wrong one raises

    @property
    def seal(self) -> bytes:
        """Return the seal by itself (SESeal)."""
        info = self._info()
        made = self.forger or self.maker
        algorithm = der.oid(SM2_WITH_SM3)
        if not self.old:
            return der.sequence(info, der.octets(self.maker.certificate), algorithm, der.bits(made.sign(info)))
        certificate = der.octets(self.maker.certificate)
        signature = der.bits(made.sign(der.sequence(info, certificate, algorithm)))
        return der.sequence(info, der.sequence(certificate, algorithm, signature))

    def _info(self) -> bytes:
        version = self.version or (1 if self.old else 4)
        header = der.sequence(der.ia5("ES"), der.integer(version), der.ia5("PEARLSANDBOX"))
        picture = der.sequence(der.ia5("PNG"), der.octets(PICTURE), der.integer(40), der.integer(40))
        extra = [der.sequence(der.sequence(der.oid("1.2.3.4"), der.boolean(True), der.octets(b"x")))]
        return der.sequence(
            header, der.ia5(self.seal_id), self._property(), picture, *(extra if self.critical else ())
        )  # fmt: skip

    def _property(self) -> bytes:
        time = der.utc_time if self.old else der.generalized_time
        listed = [der.octets(certificate) for certificate in self.listed]
        if self.by_digest:
            listed = [der.sequence(der.printable("SM3"), der.octets(sm3(one))) for one in self.listed]
        kind = () if self.old else (der.integer(2 if self.by_digest else 1),)
        times = (time(self.created), time(self.begins), time(self.ends))
        return der.sequence(der.integer(1), der.utf8(self.name), *kind, der.sequence(*listed), *times)

    def sign(self, data_hash: bytes, path: str, at: datetime, *, seal: bytes | None = None) -> bytes:
        """Return the signature by seal (SES_Signature) over a digest."""
        seal = self.seal if seal is None else seal
        certificate, algorithm = der.octets(self.signer.certificate), der.oid(SM2_WITH_SM3)
        version = der.integer(self.version or (1 if self.old else 4))
        common = (der.bits(data_hash), der.ia5(path))
        if self.old:
            tbs = der.sequence(version, seal, der.bits(der.utc_time(at)), *common, certificate, algorithm)
            return der.sequence(tbs, der.bits(self.signer.sign(tbs)))
        tbs = der.sequence(version, seal, der.generalized_time(at), *common)
        return der.sequence(tbs, certificate, algorithm, der.bits(self.signer.sign(tbs)))
