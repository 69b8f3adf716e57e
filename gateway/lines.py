"""The line to a region: breaker, concurrency, rate and figures, around every call of every capability.

Owns: how hard a region is pressed and when it is left alone. Leaves to the delivery worker: trying again later. An
adapter is wrapped once at start-up, so no caller can forget.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from typing import TypeVar

from aiolimiter import AsyncLimiter
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import CLOSED, OPENED, Context, OpenedState
from purgatory.service._async.circuitbreaker import AsyncCircuitBreaker

from gateway.errors import GatewayError, RegionBusy, RegionResting, RegionUncertain, RegionUnreachable
from gateway.ports import (
    Adapter,
    Callback,
    CaseMessage,
    CaseMessages,
    Catalogue,
    CertificateFile,
    CertificateReply,
    CertificateSource,
    CodeQuestion,
    CodeResolver,
    DisputeReply,
    FeedPage,
    IdentityProvider,
    IssuedCertificates,
    RegionDocument,
    ResolvedCode,
    ResultDocument,
    Results,
    SignOnRedirect,
    SignOnReturn,
    SignOnStart,
    SignOut,
    SignOutNotice,
    SignOutStart,
    StatusFeed,
    SubmissionOrder,
    SubmissionTarget,
    UpstreamIdentity,
)
from gateway.telemetry import Metrics

T = TypeVar("T")

SIGN_ON, EXCHANGE = "sign_on", "exchange"
OF_SIGN_ON = frozenset({"sign_on", "sign_out"})
"""Capabilities that share the breaker of sign-on."""
WAIT = 10.0
"""Seconds that a call waits for its turn at most."""
LIES_WITHIN = 600.0
"""Seconds within which answers that cannot be believed count together."""


def _is_no_sign_of_sickness(error: BaseException) -> bool:
    """A region that refuses or a person who mistypes says nothing about the region's health."""
    sick = isinstance(error, RegionUnreachable | RegionUncertain) and not isinstance(error, RegionBusy)
    return not sick


class Line:
    """One region's line.

    `failures` in a row open the breaker of a group of capabilities for `rest_seconds`; then one call at a time may try.
    People who sign on have a breaker of their own, so that they cannot stop the deliveries. A call that gets no turn
    within `WAIT` seconds is refused as busy rather than left to wait for ever.
    """

    def __init__(
        self,
        region: str,
        metrics: Metrics,
        *,
        concurrency: int,
        per_second: float,
        failures: int,
        rest_seconds: float,
    ) -> None:
        self.region = region
        self._metrics = metrics
        self._gate = asyncio.Semaphore(concurrency)
        self._rate = AsyncLimiter(max(per_second, 1), max(1, 1 / per_second))
        self._breakers = AsyncCircuitBreakerFactory(
            default_threshold=failures,
            default_ttl=rest_seconds,
            exclude=[(BaseException, _is_no_sign_of_sickness)],
        )
        self._failures = failures
        self._rest = rest_seconds
        self._lies = deque[float](maxlen=failures)
        self._known: dict[str, AsyncCircuitBreaker] = {}
        self._contexts: dict[str, Context] = {}
        self._trials = {SIGN_ON: asyncio.Lock(), EXCHANGE: asyncio.Lock()}
        metrics.region_up(region, up=True)

    def resting(self, group: str = EXCHANGE) -> bool:
        """Say whether the breaker of the exchanges (or of sign-on) is open and not yet ready to try again."""
        return self._rests(self._contexts.get(group))

    def _rests(self, context: Context | None) -> bool:
        if context is None or context.state != OPENED or context.opened_at is None:
            return False
        return time.time() < context.opened_at + self._rest  # purgatory keeps the wall clock's time

    async def run(self, capability: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make one call. Raises RegionUnreachable at once while the breaker is open, and when there is no turn."""
        begun = time.perf_counter()
        outcome = GatewayError.code  # a defect of ours, unless something more is known below
        try:
            result = await self._guarded(SIGN_ON if capability in OF_SIGN_ON else EXCHANGE, call)
        except GatewayError as error:
            outcome = error.stable_code
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        else:
            outcome = "ok"
            return result
        finally:
            self._metrics.region_call(self.region, capability, outcome, time.perf_counter() - begun)
            self._metrics.region_up(self.region, up=not self.resting())

    async def lied(self, capability: str, lie: GatewayError) -> None:
        """Count an answer that was read, and turned out not to be believed.

        Its call has counted as a success, which makes good what was counted before: so lies are counted here, and as
        many within a while as failures would be in a row open the breaker. It takes no turn: nothing is asked, and
        whoever has found it out is not kept waiting.
        """

        async def lied() -> None:
            raise lie

        now = time.time()
        self._lies.append(now)
        within = sum(0 <= now - at < LIES_WITHIN for at in self._lies)
        breaker = await self._breaker(EXCHANGE)
        for _ in range(self._failures if within >= self._failures else 1):
            with suppress(GatewayError):  # whoever found it out says so; here it is only counted
                await self._tried(breaker, self._trials[EXCHANGE], lied)
        self._metrics.region_call(self.region, capability, lie.stable_code, 0.0)
        self._metrics.region_up(self.region, up=not self.resting())

    async def _breaker(self, group: str) -> AsyncCircuitBreaker:
        breaker = self._known.get(group)
        if breaker is None:  # each would be made anew over the same state
            breaker = self._known[group] = await self._breakers.get_breaker(f"{self.region} {group}")
            self._contexts[group] = breaker.context
        return breaker

    async def _guarded(self, group: str, call: Callable[[], Awaitable[T]]) -> T:
        breaker = await self._breaker(group)
        if self._rests(breaker.context) or self._trials[group].locked():
            raise self._left_alone()
        await self._turn()
        try:
            return await self._tried(breaker, self._trials[group], call)
        finally:
            self._gate.release()

    async def _turn(self) -> None:
        if self._rate.has_capacity() and not self._gate.locked():  # neither waits now, so no time runs
            await self._rate.acquire()
            await self._gate.acquire()
            return
        try:
            async with asyncio.timeout(WAIT):
                await self._rate.acquire()
                await self._gate.acquire()
        except TimeoutError:
            text = f"Too many calls wait for region {self.region}."
            raise RegionBusy(text, region=self.region) from None

    async def _tried(self, breaker: AsyncCircuitBreaker, trial: asyncio.Lock, call: Callable[[], Awaitable[T]]) -> T:
        """Decide after the wait, not before: the breaker may have opened, and the rest have passed, meanwhile."""
        if breaker.context.state == CLOSED:
            return await self._watched(breaker, call)
        if trial.locked():
            raise self._left_alone()
        async with trial:
            return await self._watched(breaker, call)

    async def _watched(self, breaker: AsyncCircuitBreaker, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call under the breaker. A call that is given up is neither a success nor a failure."""
        try:
            async with AsyncExitStack() as watch:
                await watch.enter_async_context(breaker)
                try:
                    return await call()
                except asyncio.CancelledError:
                    watch.pop_all()  # the breaker would take it for a success, and close after a trial
                    raise
        except OpenedState:
            raise self._left_alone() from None

    def _left_alone(self) -> RegionResting:
        text = f"Region {self.region} has failed repeatedly and is left alone for a moment."
        return RegionResting(text, region=self.region)


async def distrust(lines: Mapping[str, Line], region: str, lie: GatewayError) -> None:
    """Count an answer that was read, and turned out not to be believed, against its region."""
    await lines[region].lied("certificates", lie)


def guard(line: Line, adapter: Adapter) -> Adapter:
    """Return the adapter with every outgoing capability behind the line."""
    return Adapter(
        sign_on=adapter.sign_on and _SignOn(line, adapter.sign_on),
        submissions=adapter.submissions and _Submissions(line, adapter.submissions),
        callbacks=adapter.callbacks,  # comes in: nothing to press
        feed=adapter.feed and _Feed(line, adapter.feed),
        certificates=adapter.certificates and _Certificates(line, adapter.certificates),
        issued=adapter.issued and _Issued(line, adapter.issued),
        notices=adapter.notices,  # comes in: nothing to press
        catalogue=adapter.catalogue and _Catalogue(line, adapter.catalogue),
        codes=adapter.codes and _Codes(line, adapter.codes),
        sign_out=adapter.sign_out and _SignOut(line, adapter.sign_out),
        trust_confirmed_at=adapter.trust_confirmed_at,
        messages=adapter.messages and _Messages(line, adapter.messages),
        pickups=adapter.pickups,  # comes in: nothing to press
        results=adapter.results and _Results(line, adapter.results),
        metadata=adapter.metadata,
        probe=adapter.probe,
    )


class _SignOn:
    def __init__(self, line: Line, inner: IdentityProvider) -> None:
        self._line, self._inner = line, inner

    async def begin(self, start: SignOnStart) -> SignOnRedirect:
        return await self._line.run("sign_on", lambda: self._inner.begin(start))

    async def complete(self, back: SignOnReturn) -> UpstreamIdentity:
        return await self._line.run("sign_on", lambda: self._inner.complete(back))


class _Submissions:
    def __init__(self, line: Line, inner: SubmissionTarget) -> None:
        self._line, self._inner = line, inner

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        return await self._line.run("submit", lambda: self._inner.submit(order))

    async def ask(self, submission_id: str) -> RegionDocument | None:
        return await self._line.run("ask", lambda: self._inner.ask(submission_id))


class _Messages:
    def __init__(self, line: Line, inner: CaseMessages) -> None:
        self._line, self._inner = line, inner
        self.kinds = inner.kinds

    async def send(self, message: CaseMessage) -> None:
        await self._line.run("messages", lambda: self._inner.send(message))

    async def holds(self, message: CaseMessage) -> bool:
        return await self._line.run("ask", lambda: self._inner.holds(message))


class _Results:
    """The line holds until a document begins to come; its bytes take as long as they take.

    Pieces that are exchanges of their own take their turns: the region has agreed to so many a second.
    """

    def __init__(self, line: Line, inner: Results) -> None:
        self._line, self._inner = line, inner
        self.in_pieces = inner.in_pieces

    async def list(self, number: str) -> Sequence[ResultDocument]:
        return await self._line.run("results", lambda: self._inner.list(number))

    async def open(self, number: str, document: ResultDocument) -> AsyncGenerator[bytes, None]:
        pieces = await self._line.run("results", lambda: self._inner.open(number, document))
        return self._one_by_one(pieces, document.size) if self.in_pieces else pieces

    async def _one_by_one(self, pieces: AsyncGenerator[bytes, None], left: int) -> AsyncGenerator[bytes, None]:
        async with aclosing(pieces):
            piece = await anext(pieces, b"")  # the opening has brought it
            while piece:
                yield piece
                left -= len(piece)
                piece = await self._line.run("results", lambda: anext(pieces, b"")) if left > 0 else b""


class _Catalogue:
    def __init__(self, line: Line, inner: Catalogue) -> None:
        self._line, self._inner = line, inner

    async def items(self) -> Sequence[RegionDocument]:
        return await self._line.run("catalogue", self._inner.items)


class _Feed:
    def __init__(self, line: Line, inner: StatusFeed) -> None:
        self._line, self._inner = line, inner

    async def poll(self, cursor: str) -> FeedPage:
        return await self._line.run("feed", lambda: self._inner.poll(cursor))


class _Certificates:
    def __init__(self, line: Line, inner: CertificateSource) -> None:
        self._line, self._inner = line, inner

    async def lookup(self, query: RegionDocument) -> CertificateReply:
        return await self._line.run("certificates", lambda: self._inner.lookup(query))


class _Issued:
    """As with results: the line holds until a file begins to come."""

    def __init__(self, line: Line, inner: IssuedCertificates) -> None:
        self._line, self._inner = line, inner
        self.operations = inner.operations

    async def data(self, query: RegionDocument) -> CertificateReply:
        return await self._line.run("certificates", lambda: self._inner.data(query))

    async def code(self, query: RegionDocument) -> CertificateReply:
        return await self._line.run("certificates", lambda: self._inner.code(query))

    async def file(self, query: RegionDocument) -> CertificateFile | CertificateReply:
        return await self._line.run("certificates", lambda: self._inner.file(query))

    async def dispute(self, report: RegionDocument) -> str:
        return await self._line.run("disputes", lambda: self._inner.dispute(report))

    async def disputed(self, number: str) -> DisputeReply:
        return await self._line.run("disputes", lambda: self._inner.disputed(number))


class _SignOut:
    def __init__(self, line: Line, inner: SignOut) -> None:
        self._line, self._inner = line, inner

    async def end(self, start: SignOutStart) -> SignOnRedirect | None:
        return await self._line.run("sign_out", lambda: self._inner.end(start))

    async def ended(self, notice: Callback) -> SignOutNotice:
        return await self._inner.ended(notice)  # comes in: nothing to press


class _Codes:
    def __init__(self, line: Line, inner: CodeResolver) -> None:
        self._line, self._inner = line, inner

    async def resolve(self, question: CodeQuestion) -> ResolvedCode:
        return await self._line.run("codes", lambda: self._inner.resolve(question))
