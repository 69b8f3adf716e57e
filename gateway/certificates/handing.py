"""A certificate's file (证照文件), handed out as its issuer has it; or as a copy that is marked for one use (加注件).

Owns: the order. The issuer is asked for the standing first, then for the file; the whole file is read, its size and
digest held against what the issuer said and its metadata against the certificate that was asked for; then evidence with
the file's digest is committed; only then does the first byte leave. So a file that breaks off, or is another
certificate's, is a refusal and never half an answer. The price is memory: a file is bounded, and so is how many are
held at once. Nothing is stored. Leaves to `files`: what is in a file. To `links`: addresses that serve once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from gateway.certificates import links
from gateway.certificates.answers import CertificateAnswer, OfSomebodyElse
from gateway.certificates.asking import Told, named_query
from gateway.certificates.files.copies import Copier, NotCopied
from gateway.certificates.files.verdict import FileVerdict, Form
from gateway.certificates.files.verifier import FileVerifier
from gateway.certificates.files.watermark import Use
from gateway.certificates.inquiry import Inquired, Inquiry
from gateway.certificates.named import has_number, of_holder, require_involved
from gateway.certificates.permission import Question
from gateway.certificates.places import Places
from gateway.certificates.questions import Questions
from gateway.certificates.request import FileRequest
from gateway.certificates.search import Permitted
from gateway.certificates.witness import Report
from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.domain.certificate import Standing
from gateway.errors import (
    FieldProblem,
    GatewayError,
    InvalidRequest,
    NotFound,
    NotOffered,
    RegionError,
    RegionRefused,
    RegionUncertain,
    Unavailable,
)
from gateway.evidence import record
from gateway.policy.grants import Capability
from gateway.ports import CertificateFile
from gateway.submissions.materials import owner_of

ACTION = "certificate.file"
NO_FILES = "certificate.no_files"
HARMLESS = frozenset({"", "file_form", "file_unsealed", "file_seals"})
"""Of what can be wrong with a file as a whole, what is no danger to whoever opens it."""
_NOTHING = frozenset({Standing.NOT_FOUND, Standing.UNVERIFIABLE, Standing.NO_MATCH, Standing.MATCH})


@dataclass(frozen=True, slots=True)
class FileBounds:
    """How large a file may be, how long its issuer may take, how long a link serves, and a copy says that it does."""

    size: int = 16 << 20
    seconds: float = 60.0
    link: timedelta = timedelta(minutes=5)
    copy: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class HandedOut:
    """A file that may leave: evidence of it is committed. `verdict` is about the issuer's file, also for a copy."""

    data: bytes
    media_type: str
    sha256: str
    identifier: str
    standing: Standing
    issuer: str
    verdict: FileVerdict
    evidence_id: str
    is_copy: bool


@dataclass(frozen=True, slots=True)
class Link:
    """An address that serves once."""

    token: str
    expires_at: datetime
    evidence_id: str


@dataclass(frozen=True, slots=True)
class _Fetched:
    data: bytes
    media_type: str
    verdict: FileVerdict
    copy: bytes | None


class Handing:
    """Hands files out. `maker` is who a copy says has made it."""

    def __init__(
        self, questions: Questions, inquiry: Inquiry, sealer: Sealer, verifier: FileVerifier, copier: Copier,
        places: Places, bounds: FileBounds, maker: str,
    ) -> None:  # fmt: skip
        self._questions = questions
        self._inquiry = inquiry
        self._sealer = sealer
        self._verifier = verifier
        self._copier = copier
        self._bounds = bounds
        self._maker = maker
        self._places = places

    # --- links -------------------------------------------------------------------------------------------------------

    async def link(self, caller: Caller, request: FileRequest) -> Link:
        """Return an address that serves this file once, to this caller. Raises as `fetch` does before it asks."""
        permitted, _ = await self._let_through(caller, request)
        token, now = links.new_token(), self._inquiry.clock()
        expires_at = now + self._bounds.link
        said = request.model_copy(update={"link": False}).model_dump(mode="json")
        report = Report(ACTION, request, [one.question for one in permitted], [], [])
        exchange = replace(report.exchange(), outcome="done", reason="link made")

        def unit(tx: Connection) -> str:
            links.put(tx, self._sealer, token, owner_of(caller), said, expires_at)
            return record(tx, exchange, now=now)

        return Link(token, expires_at, await self._inquiry.witness.store.write(unit))

    async def spend(self, caller: Caller, token: str) -> FileRequest:
        """Return the question that a link stands for, once. Raises NotFound."""
        now = self._inquiry.clock()
        said = await self._inquiry.witness.store.write(
            lambda tx: links.spend(tx, self._sealer, token, owner_of(caller), now)
        )  # fmt: skip
        return FileRequest.model_validate(said)

    # --- files -------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def fetch(self, caller: Caller, request: FileRequest) -> AsyncIterator[HandedOut]:
        """Fetch a file, and hold it for as long as the caller of this writes it.

        Raises InvalidRequest, NotPermitted, NotOffered, NotFound, RegionError or Unavailable, each with its evidence.
        Nobody is asked before there is a place for the file: what an issuer has told must come to evidence.
        """
        permitted, not_asked = await self._let_through(caller, request)
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(self._places.one())
            except Unavailable as error:
                received_at = permitted[0].question.received_at
                await self._inquiry.witness.refused(ACTION, caller, request, {}, error, received_at)
                raise
            yield await self._asked(caller, request, permitted, not_asked)

    @asynccontextmanager
    async def fetch_linked(self, caller: Caller, token: str) -> AsyncIterator[HandedOut]:
        """Fetch the file that a link stands for, as `fetch` does; without a place for it the link is not spent.

        Raises as `fetch` and `spend` do; Unavailable without evidence, since then nobody knows yet what is asked.
        """
        async with self._places.one():
            request = await self.spend(caller, token)
            permitted, not_asked = await self._let_through(caller, request)
            yield await self._asked(caller, request, permitted, not_asked)

    async def _asked(
        self, caller: Caller, request: FileRequest, permitted: Sequence[Permitted], not_asked: Mapping[str, str]
    ) -> HandedOut:
        inquired = await self._inquiry.asked(permitted, not_asked)
        told, answer = await self._found(caller, request, inquired)
        return await self._handed(request, permitted, inquired, told, answer)

    async def _let_through(self, caller: Caller, request: FileRequest) -> tuple[list[Permitted], Mapping[str, str]]:
        """Return the questions that may be asked, and which issuers are left out, each with the code of the reason."""
        left_out: dict[str, str] = {}

        def build(at: datetime) -> Sequence[Question]:
            questions = self._questions.of_named(caller, request, Capability.FETCH_CERTIFICATES, at)
            handing = [question for question in questions if question.region.tells("file")]
            if not handing:
                raise _hands_none_out(questions)
            left_out.update({one.region.id: NO_FILES for one in questions if not one.region.tells("file")})
            return handing

        permitted, not_asked = await self._inquiry.let_through(ACTION, caller, request, {}, build)
        return permitted, {**left_out, **not_asked}

    async def _found(self, caller: Caller, request: FileRequest, inquired: Inquired) -> tuple[Told, CertificateAnswer]:
        """Return the certificate whose file is wanted, and who told of it. Raises NotFound, InvalidRequest, ..."""
        heard = [(one, of_holder(answer, request)) for one in inquired.told for answer in one.answers]
        # A standing alone shows nobody's certificate: whose it is could not be held against the request.
        told = [(one, answer) for one, answer in heard if answer.certificate is not None]
        answers = [*(answer for _, answer in heard), *(one for one in inquired.answers if one.answered_at is None)]
        await require_involved(self._inquiry, ACTION, caller, request, inquired.questions[0], answers)
        held = [(one, answer) for one, answer in told if answer.standing not in _NOTHING and _names(request, answer)]
        held = [(one, answer) for one, answer in held if has_number(answer, request.number)]
        best = [pair for pair in held if pair[1].standing is Standing.VALID] or held
        if len(best) == 1:
            return best[0]
        error = _several(len(best)) if best else _none(answers, inquired.not_asked)
        report = replace(inquired.report(ACTION, request), answers=answers, what={"file": error.stable_code})
        error.evidence = await self._inquiry.witness.answered(report)
        raise error

    async def _handed(
        self, request: FileRequest, permitted: Sequence[Permitted], inquired: Inquired, told: Told,
        answer: CertificateAnswer,
    ) -> HandedOut:  # fmt: skip
        identifier = _names(request, answer) or ""
        consent = next(one.consent for one in permitted if one.question is told.question)
        report = replace(inquired.report(ACTION, request), answers=[answer])
        try:
            if request.copy_for is not None and answer.standing is not Standing.VALID:
                raise NotCopied(f"A copy is made of a certificate in force alone; the issuer says `{answer.standing}`.")
            fetched = await self._fetched(told.question, consent, identifier, request)
        except GatewayError as error:
            error.evidence = await self._inquiry.witness.answered(replace(report, what={"file": error.stable_code}))
            raise
        evidence_id = await self._inquiry.witness.answered(_reported(report, fetched))
        data, digest = fetched.data, fetched.verdict.sha256
        if fetched.copy is not None:
            data, digest = fetched.copy, await asyncio.to_thread(_sha256, fetched.copy)
        return HandedOut(
            data, fetched.media_type, digest, identifier, answer.standing,
            told.question.region.id, fetched.verdict, evidence_id, fetched.copy is not None,
        )  # fmt: skip

    async def _fetched(
        self, question: Question, consent: str | None, identifier: str, request: FileRequest
    ) -> _Fetched:
        """Read the issuer's file, and see that it is this certificate's. Raises GatewayError."""
        data, media_type = await self._read(question, consent, identifier)
        verdict = await self._verifier.verify(data)
        if verdict.problem not in HARMLESS:
            raise RegionUncertain(
                f"The issuer's file cannot be read: {verdict.help}", code="certificate.file_unreadable",
                region=question.region.id,
            )  # fmt: skip
        if verdict.stated.identifier is not None and verdict.stated.identifier != identifier:
            lie = OfSomebodyElse("The issuer sent the file of another certificate.", region=question.region.id)
            await self._inquiry.asking.distrust(question.region.id, lie)
            raise lie
        verdict = verdict.issued_in(question.region.id)
        copy = None
        if request.copy_for is not None:
            copy = await asyncio.to_thread(self._copied, data, verdict, question, request.copy_for)
        return _Fetched(data, _media_type(verdict, media_type), verdict, copy)

    def _copied(self, data: bytes, verdict: FileVerdict, question: Question, purpose: str) -> bytes:
        now = self._inquiry.clock()
        use = Use(
            purpose, question.caller.organisation, question.frame.case, self._maker, now, now + self._bounds.copy
        )  # fmt: skip
        return self._copier.annotated(data, verdict, use).data

    async def _read(self, question: Question, consent: str | None, identifier: str) -> tuple[bytes, str]:
        """Read all of the file, no more than there may be. Raises RegionError."""
        region, issued = question.region, question.region.adapter.issued
        if issued is None:
            raise AssertionError("`_let_through` has seen that there is one")
        try:
            async with asyncio.timeout(self._bounds.seconds):
                found = await issued.file(named_query(replace(question, identifier=identifier), consent))
                if not isinstance(found, CertificateFile):
                    raise _no_file(region.certificate_words.get(found.status), region.id)
                async with aclosing(found.body) as body:
                    return await self._all_of(found, body, region.id), found.media_type
        except TimeoutError:
            text = f"The file was not there within {self._bounds.seconds:g} seconds."
            raise RegionUncertain(text, code="certificate.file_broken_off", region=region.id) from None

    async def _all_of(self, found: CertificateFile, body: AsyncIterator[bytes], region: str) -> bytes:
        data, limit = bytearray(), self._bounds.size
        if found.size is not None and found.size > limit:
            raise _too_large(limit, region)
        async for piece in body:
            data += piece
            if len(data) > limit:
                raise _too_large(limit, region)
        whole = found.size in {None, len(data)}
        if whole and found.sha256 is not None:
            whole = found.sha256 == await asyncio.to_thread(_sha256, data)
        if not whole:
            text = "What arrived is not the file that the issuer announced."
            raise RegionUncertain(text, code="certificate.file_broken_off", region=region)
        return bytes(data)


def _sha256(data: bytes | bytearray) -> str:
    """Return the digest of a file: for a thread beside the event loop, which a large one would hold up."""
    return hashlib.sha256(data).hexdigest()


def _reported(report: Report, fetched: _Fetched) -> Report:
    copy = {} if fetched.copy is None else {"copy": fetched.copy}
    what = {
        "file": "handed out" if fetched.copy is None else "copied",
        "size": len(fetched.data),
        "genuine": fetched.verdict.genuine,
    }
    return replace(report, what=what, parts={"file": fetched.data, **copy})


def _names(request: FileRequest, answer: CertificateAnswer) -> str | None:
    """Return the identifier under which the file is asked for."""
    if request.identifier is not None:
        return request.identifier
    return None if answer.certificate is None else str(answer.certificate["identifier"])


def _media_type(verdict: FileVerdict, said: str) -> str:
    """Return what a file is, by its own bytes where they say so."""
    known = {Form.OFD: "application/ofd", Form.PDF: "application/pdf"}
    return known[verdict.form] if verdict.form is not None else said


def reason_of(verdict: FileVerdict) -> str:
    """Return a verdict in a word: `genuine`, `unread` for another form than OFD and PDF, or the first reason."""
    if verdict.genuine:
        return "genuine"
    if verdict.form is None:
        return "unread"
    failures = (seal.failure for seal in verdict.seals)
    return verdict.problem or next(failure.reason for failure in failures if failure is not None)


def _hands_none_out(questions: Sequence[Question]) -> NotOffered:
    names = ", ".join(dict.fromkeys(question.region.id for question in questions))
    text = (
        f"No files of certificates of this type are handed out here ({names}); ask for its data, or for the original."
    )
    return NotOffered(text, code="certificate.no_files")


def _none(answers: Sequence[CertificateAnswer], not_asked: Mapping[str, str]) -> GatewayError:
    """Return why no certificate was found: one that is not shown, somebody not heard or not asked, or there is none."""
    hidden = [answer for answer in answers if answer.certificate is None and answer.standing not in _NOTHING]
    if hidden:
        return RegionRefused(
            f"The issuer says `{hidden[0].standing}` and shows no certificate; it hands no file of it out.",
            code="certificate.file_refused", region=hidden[0].issuer,
        )  # fmt: skip
    silent = [answer for answer in answers if answer.standing is Standing.UNVERIFIABLE]
    if silent:
        return RegionUncertain(
            f"It cannot be told whether there is such a certificate: {silent[0].reason}",
            code="certificate.unverifiable", region=silent[0].issuer,
        )  # fmt: skip
    if not_asked:
        left_out = ", ".join(f"{region} ({code})" for region, code in not_asked.items())
        return RegionUncertain(
            f"It cannot be told whether there is such a certificate; not asked: {left_out}",
            code="certificate.unverifiable", region=next(iter(not_asked)),
        )  # fmt: skip
    return NotFound("No issuer that was asked shows such a certificate.", code="certificate.not_found")


def _several(count: int) -> InvalidRequest:
    reason = f"must be given: {count} certificates fit; a look-up names them"
    problems = [FieldProblem("identifier", reason, "ambiguous")]
    return InvalidRequest("Several certificates fit.", problems=problems)


def _no_file(word: str | None, region: str) -> RegionError | NotFound:
    if word == "not_found":
        return NotFound("The issuer has no file of this certificate.", code="certificate.not_found")
    text = f"The issuer does not hand this file out ({word or 'a status that is not known here'})."
    return RegionRefused(text, code="certificate.file_refused", region=region)


def _too_large(limit: int, region: str) -> RegionRefused:
    text = f"The issuer's file is larger than {limit} bytes (certificates.file_bytes)."
    return RegionRefused(text, code="certificate.file_too_large", region=region)
