"""What is said of a certificate file: step by step for every seal, and as a whole.

Owns: the verdict's shape, the order of the steps, the closed list of reasons with their words, and the rule that a step
is not reached once one before it has failed. Leaves to `ofd`, `ses` and `pdf`: finding out.

A verdict is about a file: whole, sealed by whom, at a time when the seal was good. Whether the certificate is valid
today only its issuer knows; the lookup asks it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.domain.sensitive import Sensitive


class Form(StrEnum):
    """The form of a file."""

    OFD = "ofd"
    PDF = "pdf"


class Outcome(StrEnum):
    """What became of a step."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_REACHED = "not_reached"


class Check(StrEnum):
    """The steps, in the order in which they are taken (GB/T 38540-2020 §8, and the scope of the seal after them)."""

    SIGNATURE = "signature"  # 电子签章签名值
    SIGNER_LISTED = "signer_listed"  # 签章者证书与电子印章的匹配性
    SEAL = "seal"  # 电子印章有效性
    SIGNER_CERTIFICATE = "signer_certificate"  # 签章者证书有效性
    DOCUMENT = "document"  # 原文杂凑
    SCOPE = "scope"  # 印章使用范围


REASONS: Mapping[str, str] = {
    # the file as a whole
    "file_form": "It is neither an OFD package nor a PDF.",
    "file_size": "It is larger than a certificate file may be.",
    "file_unexpected": "Looking at it failed here in a way that nobody foresaw; nothing is known of it.",
    "file_unsealed": "No seal is on it.",
    "file_seals": "It has more seals than a certificate file may have.",
    "file_unreadable": "It is damaged, or is made so that readers may read it differently.",
    "package_refused": "Its package breaks a rule: entries, names, sizes, encryption, links or packing.",
    "xml_refused": "An XML entry that leads to the seals is malformed, too large, or has a document type.",
    "path_refused": "A path in it leads to no entry of the package.",
    "metadata_ambiguous": "It says two different things of itself.",
    "pdf_refused": "It holds what no certificate may hold: a script, a program to start, other files, or encryption.",
    # signature
    "seal_malformed": "The seal's structure is not that of GB/T 38540-2020 or GM/T 0031-2014 in strict DER.",
    "seal_version": "The seal names a version that its structure does not have.",
    "seal_extension": "The seal has a critical extension that nobody here understands.",
    "algorithm": "It is signed or digested by another algorithm than the standard's.",
    "not_a_seal": "It is a plain signature, and no seal.",
    "certificate_malformed": "A certificate in it cannot be read, or its key is of another kind.",
    "signature_range": "The signature's r or s is out of range.",
    "signature_wrong": "The signature was not made with the key of the certificate that it names, over what it names.",
    "time_unreadable": "The time of signing cannot be read.",
    # signer_listed
    "signer_not_listed": "The certificate that signed is not one of those that may use this seal.",
    # seal
    "seal_differs": "The seal beside the signature is not the one within it.",
    "seal_signature_range": "The r or s of the seal maker's signature is out of range.",
    "seal_signature_wrong": "The seal was not made with the key of the maker's certificate that it names.",
    "maker_certificate": "The seal maker's certificate may not sign, or was not valid when the seal was made.",
    "chain_broken": "No chain leads from the certificate to a pinned anchor.",
    "seal_term": "The seal was not in its term when the document was signed.",
    # signer_certificate
    "signed_in_future": "It says that it was signed later than now.",
    "certificate_term": "The signer's certificate was not valid when the document was signed.",
    "key_usage": "The signer's certificate is not one for signatures.",
    # document
    "digest_wrong": "The signed digest is not that of the document's list of digests: the seal is another document's.",
    "entry_changed": "An entry of the package is not what was signed.",
    "entry_missing": "An entry that was signed is not in the package.",
    "entry_uncovered": "An entry of the package is covered by no digest.",
    "list_malformed": "The list of digests is empty, double, or cannot be read.",
    "content_changed": "The document is not what was signed.",
    "content_appended": "Something was appended after the seal.",
    # scope
    "seal_unregistered": "The seal is not in the register of this gateway.",
    "seal_other_anchor": "The seal of this id was made under an anchor of another region.",
    "seal_other_maker": "The seal of this id was made by another maker than the one that the register names.",
    "seal_not_in_force": "The register has the seal for another time than that of signing.",
    "seal_other_region": "The register has the seal for certificates of another region than the one that issued this.",
    "type_unknown": "The file does not say which type of certificate it is.",
    "type_contradicts": "Identifier and type code of the file name different types.",
    "type_outside_scope": "The register does not let this seal be put on certificates of this type.",
}
"""Reason → what a person is told. The reason is stable; programs go by it."""


CLOCKS_APART = timedelta(minutes=5)
"""By how much the clock of who signs may be ahead of ours."""


class Failed(Exception):
    """A step fails, for one of `REASONS`. It never leaves this package."""

    def __init__(self, reason: str) -> None:
        super().__init__(REASONS[reason])
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Step:
    """One step and what became of it; `reason` is one of `REASONS` where it failed, and empty otherwise."""

    check: Check
    outcome: Outcome
    reason: str = ""

    @property
    def help(self) -> str:
        """Return what a person is told of the failure."""
        return REASONS[self.reason] if self.reason else ""


@dataclass(frozen=True, slots=True)
class Stated:
    """What the file says of itself (元数据, GB/T 36903), as found, believed by nobody; None where it says nothing."""

    identifier: str | None = None
    type_name: str | None = None
    type_code: str | None = None
    holder: Sensitive[str] | None = None

    @property
    def type(self) -> str | None:
        """Return the type's code: as stated, or the part of the identifier (GB/T 36904). Raises Failed for two."""
        parts = (self.identifier or "").split(".")
        within = parts[5] if len(parts) == 10 and len(parts[5]) == 21 else None
        if self.type_code and within and self.type_code != within:
            raise Failed("type_contradicts")
        return self.type_code or within


@dataclass(frozen=True, slots=True)
class SealVerdict:
    """What is said of one seal: `steps` are five in the order of `Check`, `scope` is the sixth.

    `seal_id` (esID, or the SHA-256 of the signer's certificate of a PDF), `seal_name` and `signed_at` are as found;
    `owner` (USCC) and `region` are the register's word, None where it has none.
    """

    standard: str
    seal_id: str | None
    seal_name: str | None
    owner: str | None
    signed_at: datetime | None
    steps: tuple[Step, ...]
    scope: Step
    region: str | None = None

    @property
    def genuine(self) -> bool:
        """Say whether every step passed."""
        return all(step.outcome is Outcome.PASSED for step in (*self.steps, self.scope))

    @property
    def failure(self) -> Step | None:
        """Return the step that failed, None when none did."""
        return next((step for step in (*self.steps, self.scope) if step.outcome is Outcome.FAILED), None)


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What is said of one file. `problem` is one of `REASONS` when no seal could be looked at; empty otherwise."""

    form: Form | None
    sha256: str
    size: int
    stated: Stated
    seals: tuple[SealVerdict, ...]
    problem: str = ""

    @property
    def genuine(self) -> bool:
        """Say whether it has a seal, and every seal passes every step."""
        return not self.problem and bool(self.seals) and all(seal.genuine for seal in self.seals)

    def issued_in(self, region: str) -> FileVerdict:
        """Return the verdict once it is known which region issued the certificate: seals of another have no scope."""
        return replace(self, seals=tuple(_issued_in(seal, region) for seal in self.seals))

    @property
    def help(self) -> str:
        """Return what a person is told of the problem."""
        return REASONS[self.problem] if self.problem else ""


def _issued_in(seal: SealVerdict, region: str) -> SealVerdict:
    if not seal.genuine or seal.region == region:
        return seal
    return replace(seal, scope=Step(Check.SCOPE, Outcome.FAILED, "seal_other_region"))


def walked(checks: Sequence[tuple[Check, Callable[[], None]]]) -> tuple[Step, ...]:
    """Take the steps in order; after the first that raises Failed none is taken."""
    steps: list[Step] = []
    broken = False
    for check, take in checks:
        if broken:
            steps.append(Step(check, Outcome.NOT_REACHED))
            continue
        try:
            take()
        except Failed as failed:
            broken = True
            steps.append(Step(check, Outcome.FAILED, failed.reason))
        else:
            steps.append(Step(check, Outcome.PASSED))
    return tuple(steps)
