"""The line to a region: breaker, concurrency, rate and figures, around every call of every capability.

Owns: how hard a region is pressed and when it is left alone. Leaves to the delivery worker: trying again later. An
adapter is wrapped once at start-up, so no caller can forget.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from aiolimiter import AsyncLimiter
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState
from purgatory.service._async.circuitbreaker import AsyncCircuitBreaker

from gateway.errors import GatewayError, RegionUncertain, RegionUnreachable
from gateway.ports import (
    Adapter,
    CertificateReply,
    CertificateSource,
    FeedPage,
    IdentityProvider,
    RegionDocument,
    SignOnRedirect,
    SignOnReturn,
    SignOnStart,
    StatusFeed,
    SubmissionOrder,
    SubmissionTarget,
    UpstreamIdentity,
)
from gateway.telemetry import Metrics

T = TypeVar("T")


def _is_no_sign_of_sickness(error: BaseException) -> bool:
    """A region that refuses or a person who mistypes says nothing about the region's health."""
    return not isinstance(error, RegionUnreachable | RegionUncertain)


class Line:
    """One region's line. `failures` in a row open the breaker for `rest_seconds`; then one call may try."""

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
        self._rate = AsyncLimiter(per_second, 1)
        self._failures = failures
        self._rest = rest_seconds
        self._breakers = AsyncCircuitBreakerFactory(exclude=[(BaseException, _is_no_sign_of_sickness)])
        self._breaker: AsyncCircuitBreaker | None = None
        metrics.region_up(region, up=True)

    def resting(self) -> bool:
        """Say whether the breaker is open and not yet ready to try again."""
        context = self._breaker.context if self._breaker else None
        if context is None or context.state != "opened" or context.opened_at is None:
            return False
        return time.time() < context.opened_at + self._rest

    async def run(self, capability: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make one call. Raises RegionUnreachable at once while the breaker is open."""
        begun = time.perf_counter()
        outcome = "ok"
        try:
            async with self._gate, self._rate:
                return await self._guarded(call)
        except GatewayError as error:
            outcome = error.stable_code
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._metrics.region_call(self.region, capability, outcome, time.perf_counter() - begun)
            self._metrics.region_up(self.region, up=not self.resting())

    async def _guarded(self, call: Callable[[], Awaitable[T]]) -> T:
        self._breaker = await self._breakers.get_breaker(self.region, threshold=self._failures, ttl=self._rest)
        try:
            async with self._breaker:
                return await call()
        except OpenedState:
            text = f"Region {self.region} has failed repeatedly and is left alone for a moment."
            raise RegionUnreachable(text, region=self.region, code="region.breaker_open") from None


def guard(line: Line, adapter: Adapter) -> Adapter:
    """Return the adapter with every outgoing capability behind the line."""
    return Adapter(
        sign_on=adapter.sign_on and _SignOn(line, adapter.sign_on),
        submissions=adapter.submissions and _Submissions(line, adapter.submissions),
        callbacks=adapter.callbacks,  # comes in: nothing to press
        feed=adapter.feed and _Feed(line, adapter.feed),
        certificates=adapter.certificates and _Certificates(line, adapter.certificates),
        catalogue=adapter.catalogue,
        codes=adapter.codes,
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


Lines = Mapping[str, Line]
"""Region id → its line."""
