"""The identifier of an electronic certificate (电子证照标识, ZZBS; GB/T 36904-2018), in its parts.

Owns: taking one apart, building one with its check character, and what the parts say of whom to ask. Leaves to
`identifiers` the arithmetic. Only identifiers under the root of GB/T 36904 are read: others are foreign, and nobody
here knows what their parts mean.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain.identifiers import ZZBS_ROOT, mod37_36, zzbs_problem


@dataclass(frozen=True, slots=True)
class CertificateIdentifier:
    """One version of one certificate.

    `type_code` (21): the USCC of whoever defined the type, and three digits. `issuer` (6 to 18): the issuer's USCC;
    some places put a region code there. `serial`: the issuer's own number. `version`: three digits.
    """

    type_code: str
    issuer: str
    serial: str
    version: str

    @classmethod
    def parse(cls, text: str) -> CertificateIdentifier:
        """Take an identifier apart. Raises ValueError that says what is wrong, without the identifier."""
        if problem := zzbs_problem(text):
            raise ValueError(problem)
        kind, issuer, serial, version, _ = text[len(ZZBS_ROOT) + 1 :].split(".")
        return cls(kind, issuer, serial, version)

    def __str__(self) -> str:
        """Write it, with its check character over all parts but the root (ISO/IEC 7064 MOD 37,36)."""
        parts = (self.type_code, self.issuer, self.serial, self.version)
        return ".".join((ZZBS_ROOT, *parts, mod37_36("".join(parts))))

    @property
    def definer(self) -> str:
        """The USCC of the body that defined the type (证照定义机构)."""
        return self.type_code[:18]

    @property
    def area(self) -> str | None:
        """The GB/T 2260 code (6 digits) in the issuer's USCC, or the region code that stands in its place."""
        digits = self.issuer[2:8] if len(self.issuer) == 18 else self.issuer[:6]
        return digits if digits.isdecimal() else None
