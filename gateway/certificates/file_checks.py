"""Verification of a certificate's file that somebody has handed in (证照文件核验).

Owns: that the file is the caller's own upload, is read within a bound, and is deleted once it was looked at; that its
issuer is asked now for the certificate that the file names; and the verdict on both together. A file is good when every
seal on it passes every step, the issuer says that the certificate is in force, and what was claimed fits. Leaves to
`files`: what is in a file. To `named`: the question to the issuer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog

from gateway.certificates.claims import Match
from gateway.certificates.files.verdict import FileVerdict
from gateway.certificates.files.verifier import FileVerifier
from gateway.certificates.named import VERIFY, NamedCertificates, Seen, VerifyAnswer, require_one_name
from gateway.certificates.places import Places
from gateway.certificates.request import VerifyRequest
from gateway.domain.caller import Caller
from gateway.domain.certificate import Standing
from gateway.errors import FieldProblem, GatewayError, InvalidRequest
from gateway.submissions.materials import Blob

log = structlog.get_logger("certificates")

Show = Callable[[Caller, str], Awaitable[Blob]]
"""Returns what is known of an upload of this caller. Raises NotFound."""
Open = Callable[[str], AsyncIterator[bytes]]
"""Yields the bytes of an upload. Raises Unavailable."""
Drop = Callable[[Caller, str], Awaitable[None]]
"""Deletes an upload of this caller. Raises NotFound, Conflict or Unavailable."""


class Verdict(StrEnum):
    """What a file and its certificate are worth together. `UNDECIDED`: the file is genuine, and nobody knows more."""

    GOOD = "good"
    BAD = "bad"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """The verdict on a file, what its issuer says, and both together."""

    verdict: Verdict
    file: FileVerdict
    answer: VerifyAnswer


@dataclass(frozen=True, slots=True)
class FileChecks:
    """Verifies files. `most` is how many bytes one may have; each is held in one of `places`."""

    named: NamedCertificates
    verifier: FileVerifier
    show: Show
    open: Open
    drop: Drop
    most: int
    places: Places

    async def verify(self, caller: Caller, request: VerifyRequest) -> FileAnswer:
        """Look at a file, and ask its issuer about the certificate that it names.

        Raises NotFound, InvalidRequest for a file that names no certificate (the text says why), or NotPermitted; then
        the upload stays, so that it can be tried again. Unavailable: too many are looked at, or this one could not be.
        A region's failure is part of the answer.
        """
        async with self.places.one():
            return await self._verified(caller, request)

    async def _verified(self, caller: Caller, request: VerifyRequest) -> FileAnswer:
        inquiry = self.named.inquiry
        received_at = inquiry.clock()
        try:
            data = await self._read(caller, request)
            verdict = await self.verifier.verify(data)
            asked = _of_certificate(request, verdict)
        except GatewayError as error:
            await inquiry.witness.refused(VERIFY, caller, request, {}, error, received_at)
            raise
        answer = await self.named.verify(caller, asked, Seen(_on_record(verdict), {"file": data}))
        await self._delete(caller, request.file or "")
        verdict = _of_issuer(verdict, answer)
        return FileAnswer(_together(verdict, answer), verdict, answer)

    async def _read(self, caller: Caller, request: VerifyRequest) -> bytes:
        require_one_name(request)
        blob = await self.show(caller, request.file or "")
        problem = None
        if blob.state != "stored" or blob.case is not None:
            problem = FieldProblem("file", "must be an upload that is complete, and of no case", "not_free")
        elif blob.size > self.most:
            problem = FieldProblem("file", f"has {blob.size} bytes; {self.most} are looked at", "too_large")
        if problem is not None:
            raise InvalidRequest("The file cannot be verified.", problems=[problem])
        data = bytearray()
        async for piece in self.open(blob.id):
            data += piece
        return bytes(data)

    async def _delete(self, caller: Caller, blob_id: str) -> None:
        """Delete the upload; what cannot be deleted now, the janitor deletes as one that no case has."""
        with suppress(GatewayError):
            await self.drop(caller, blob_id)
            return
        log.warning("a verified file is left to the janitor", blob=blob_id)


def _of_certificate(request: VerifyRequest, verdict: FileVerdict) -> VerifyRequest:
    """Return the question about the certificate that a file names. Raises InvalidRequest."""
    identifier = verdict.stated.identifier
    if identifier is None:
        reason = verdict.help or "It says nowhere which certificate it is (ZZBS)."
        problems = [FieldProblem("file", reason, verdict.problem or "file_nameless")]
        raise InvalidRequest("The file names no certificate.", problems=problems, code="certificate.file_nameless")
    return request.model_copy(update={"identifier": identifier, "file": None, "max_age": 0})


def _on_record(verdict: FileVerdict) -> Mapping[str, Any]:
    """Return what evidence says of a file: words of ours, and no one's name."""
    steps = [seal.failure.reason if seal.failure is not None else "genuine" for seal in verdict.seals]
    said = verdict.problem or ("genuine" if verdict.genuine else "not_genuine")
    return {"file": said, "seals": steps, "seal_regions": [seal.region for seal in verdict.seals]}


def _of_issuer(verdict: FileVerdict, answer: VerifyAnswer) -> FileVerdict:
    """Hold the seals against the region that has the certificate, where one said that it does."""
    if answer.answer.standing in {Standing.UNVERIFIABLE, Standing.NOT_FOUND, Standing.NO_MATCH}:
        return verdict
    return verdict.issued_in(answer.answer.issuer)


_NOTHING_MORE = frozenset({Standing.UNVERIFIABLE, Standing.MATCH})
"""What says nothing of the certificate itself: an issuer that only matches does not say what it is worth."""


def _together(verdict: FileVerdict, answer: VerifyAnswer) -> Verdict:
    if not verdict.genuine or Match.MISMATCH in answer.claims.values():
        return Verdict.BAD
    standing = answer.answer.standing
    if standing is Standing.VALID:
        return Verdict.GOOD
    return Verdict.UNDECIDED if standing in _NOTHING_MORE else Verdict.BAD
