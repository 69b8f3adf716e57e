"""Several questions in one request (批量): each is let through, asked, answered and recorded on its own.

Owns: how many, how many at once, and that one which is refused says nothing of the others. Leaves to the operations
beside it: everything about one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from gateway.certificates.lookup import CertificateLookup, LookupAnswer
from gateway.certificates.named import NamedCertificates, VerifyAnswer
from gateway.certificates.request import DataRequest, LookupRequest, VerifyRequest
from gateway.domain.caller import Caller
from gateway.edge import Edge
from gateway.errors import GatewayError

MOST = 20
"""Questions in one request."""
AT_ONCE = 5

Outcome = LookupAnswer | VerifyAnswer | GatewayError


class Lookup(LookupRequest):
    """A lookup among others."""

    operation: Literal["lookup"]


class Data(DataRequest):
    """A question for what is written in a certificate, among others."""

    operation: Literal["data"]


class Verify(VerifyRequest):
    """A verification among others."""

    operation: Literal["verify"]


class BatchRequest(Edge):
    """`POST /v1/certificates/batch`."""

    questions: list[Annotated[Lookup | Data | Verify, Field(discriminator="operation")]] = Field(
        min_length=1, max_length=MOST
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Answers several questions."""

    lookup: CertificateLookup
    named: NamedCertificates

    async def answer(self, caller: Caller, request: BatchRequest) -> Sequence[Outcome]:
        """Return the answers, or why there is none, in the order of the questions. Raises nothing of the gateway's."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(question: Lookup | Data | Verify) -> Outcome:
            async with turns:
                try:
                    return await self._one(caller, question)
                except GatewayError as error:
                    return error

        return await asyncio.gather(*(one(question) for question in request.questions))

    async def _one(self, caller: Caller, question: Lookup | Data | Verify) -> Outcome:
        match question:
            case Lookup():
                return await self.lookup.lookup(caller, question)
            case Data():
                return await self.named.data(caller, question)
            case Verify():
                return await self.named.verify(caller, question)
