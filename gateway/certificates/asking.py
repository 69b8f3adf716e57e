"""Asking one issuer, now: the call, the answer judged, and what is kept of it.

Owns: the question in the issuer's words, that identical questions which are under way are asked once, and that an
issuer which answers about somebody else is counted as sick. Its failure is part of the answer, not an error. Leaves to
`permission`: whether it may be asked. To `witness`: evidence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import orjson

from gateway.certificates.answers import CertificateAnswer, OfSomebodyElse, Wanted, judge, unverifiable
from gateway.certificates.freshness import Freshness
from gateway.certificates.permission import Question
from gateway.domain.certificate import Standing
from gateway.errors import GatewayError, RegionCannotBeAsked, RegionError
from gateway.ports import CertificateReply, Clock, RegionDocument

T = TypeVar("T")

Distrust = Callable[[str, GatewayError], Awaitable[None]]
"""Counts an answer that cannot be believed against its region."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one issuer said: its answers, the times, and its exact words for the digest.

    `asked_at` is when the call began that brought it, which another caller may have made: what the issuer has told of
    since then is not in the answer. `answered_at` is None without a legible answer.
    """

    question: Question
    answers: Sequence[CertificateAnswer]
    asked_at: datetime
    answered_at: datetime | None
    raw: bytes


class Asking:
    """Asks issuers."""

    def __init__(self, clock: Clock, distrust: Distrust, freshness: Freshness) -> None:
        self._clock = clock
        self._distrust = distrust
        self._freshness = freshness
        self._shared = Shared[tuple[datetime, CertificateReply]]()

    async def ask(self, question: Question, consent: str | None) -> Told:
        """Return what the issuer says; a region's failure is an answer too. Raises nothing of the gateway's."""
        region, asked_at = question.region, self._clock()
        begun_at, raw, answered_at = asked_at, b"", None
        try:
            begun_at, reply = await self._call(question, consent)
            answered_at, raw = self._clock(), raw_of(reply.certificates)
            answers = _picked(question, judge(region, question.packs, reply, _wanted(question), answered_at))
        except OfSomebodyElse as lie:
            await self._distrust(region.id, lie)
            answers = [unverifiable(region, f"{lie.stable_code}: {lie.public}")]
        except RegionError as error:
            answers = [unverifiable(region, f"{error.stable_code}: {error.public}")]
        except GatewayError as error:
            fields = ", ".join(problem.field for problem in error.problems)
            answers = [unverifiable(region, f"the issuer's answer cannot be read ({error.stable_code}: {fields})")]
        told = Told(question, answers, begun_at, answered_at, raw)
        self._freshness.heard(question.kind, region.id, [a.standing for a in answers], asked_at, answered_at)
        return told

    async def distrust(self, region: str, lie: GatewayError) -> None:
        """Count an answer that cannot be believed against its region."""
        await self._distrust(region, lie)

    async def _call(self, question: Question, consent: str | None) -> tuple[datetime, CertificateReply]:
        """Ask in the region's words. Whatever needs no name of the holder is asked by the identifier."""
        region, issued = question.region, question.region.adapter.issued
        if question.code is not None and issued is not None and region.tells("code"):
            return await self._once(question, "code", named_query(question, consent), issued.code)
        if question.identifier is not None and issued is not None and region.tells("data"):
            return await self._once(question, "data", named_query(question, consent), issued.data)
        if question.holder is None or region.adapter.certificates is None:
            text = "This issuer cannot be asked by identifier or code: name the holder."
            raise RegionCannotBeAsked(text, code="certificate.holder_needed", region=region.id)
        document = question.packs.need("certificate-query").to_region(_holder_query(question, consent))
        return await self._once(question, "lookup", document, region.adapter.certificates.lookup)

    async def _once(
        self,
        question: Question,
        operation: str,
        document: RegionDocument,
        call: Callable[[RegionDocument], Coroutine[Any, Any, CertificateReply]],
    ) -> tuple[datetime, CertificateReply]:
        """Make the call, or wait for the very same one: the same words to the same region, so from the same caller.

        Return when it began, and what came of it. A question that is put anew waits for no answer to an earlier one.
        """

        async def begin() -> tuple[datetime, CertificateReply]:
            return self._clock(), await call(document)

        if question.anew:
            return await begin()
        words = document if isinstance(document, bytes) else orjson.dumps(document)
        return await self._shared.get((question.region.id, operation, words), begin)


def _wanted(question: Question) -> Wanted:
    """Return what an answer must fit: what the region was told, by identifier or by holder."""
    if question.code is not None:
        return Wanted()
    if question.identifier is not None and question.region.tells("data"):
        return Wanted(identifier=question.identifier)
    return Wanted(holder=question.holder)


def _picked(question: Question, answers: list[CertificateAnswer]) -> list[CertificateAnswer]:
    """Keep the certificate that was named, where a region could only be asked for all of a holder's.

    A shown code that stands for another type than was named tells nothing: the grant is for the type that was.
    """
    if question.code is not None:
        return [_of_named_type(question, answer) for answer in answers]
    if question.identifier is None:
        return answers
    of_it = [one for one in answers if one.certificate is None or one.certificate["identifier"] == question.identifier]
    if of_it:
        return of_it
    return [CertificateAnswer(question.region.id, Standing.NOT_FOUND, answered_at=answers[0].answered_at)]


def _of_named_type(question: Question, answer: CertificateAnswer) -> CertificateAnswer:
    if answer.certificate is None or answer.certificate["type_code"] == question.kind.code:
        return answer
    reason = "the code stands for a certificate of another type than was named"
    return unverifiable(question.region, reason, answer.answered_at)


def _frame(question: Question, consent: str | None) -> dict[str, Any]:
    frame = question.frame
    said = {
        "purpose": frame.purpose,
        "organisation": question.caller.organisation,
        "operator": frame.operator,
        "item": frame.item.model_dump(mode="json"),
        "case": frame.case,
    }
    return said if consent is None else {**said, "consent": consent}


def named_query(question: Question, consent: str | None) -> RegionDocument:
    """Return a question about one certificate that is named, in the region's words (pack `certificate-request`)."""
    named = {"identifier": question.identifier} if question.code is None else {"code": question.code}
    return question.packs.need("certificate-request").to_region({**named, **_frame(question, consent)})


def _holder_query(question: Question, consent: str | None) -> Mapping[str, Any]:
    if question.holder is None:
        raise AssertionError("`_call` has seen that there is one")
    return {
        "type": {"code": question.kind.code, "name": question.kind.name},
        "holder": question.holder.model_dump(mode="json"),
        **_frame(question, consent),
    }


def raw_of(documents: Sequence[RegionDocument]) -> bytes:
    """Return the answer's exact certificates as one byte string, for the digest."""
    return b"\n".join(one if isinstance(one, bytes) else orjson.dumps(one) for one in documents)


@dataclass
class _Call(Generic[T]):
    task: asyncio.Task[T]
    waiting: int = 0


class Shared(Generic[T]):
    """Calls under way: whoever asks for the same meanwhile waits for the same. It ends when nobody waits any more."""

    def __init__(self) -> None:
        self._calls: dict[Hashable, _Call[T]] = {}

    async def get(self, key: Hashable, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the call returns, or raise what it raises; it is begun only when none is under way."""
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Call(asyncio.create_task(begin()))
        call.waiting += 1
        try:
            return await asyncio.shield(call.task)
        finally:
            call.waiting -= 1
            if call.task.done() or not call.waiting:
                call.task.cancel()  # nothing happens to one that is done
                if self._calls.get(key) is call:  # another may be under way already
                    del self._calls[key]
