"""The way of every request about certificates: let through, asked, and a refusal written down.

Owns: the order of it. What is permitted of several questions is asked; what is not is told. Leaves to the operations
beside it: which questions, and what is told of the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.certificates.answers import CertificateAnswer, unverifiable
from gateway.certificates.asking import Asking, Told
from gateway.certificates.permission import Permission, Question
from gateway.certificates.request import Frame
from gateway.certificates.search import Bounds, Permitted, search
from gateway.certificates.witness import Report, Witness
from gateway.domain.caller import Caller
from gateway.errors import GatewayError, NotPermitted
from gateway.ports import Clock

Build = Callable[[datetime], Sequence[Question]]
"""Makes the questions of a request that arrived at this time. Raises InvalidRequest or NotPermitted."""


@dataclass(frozen=True, slots=True)
class Inquired:
    """What came of it.

    `questions` are those that were asked. `silent` are regions that had not answered when the time was up; `not_asked`
    those that the caller may not ask, region id → stable code of the reason.
    """

    questions: Sequence[Question]
    told: Sequence[Told]
    answers: Sequence[CertificateAnswer]
    asked_at: datetime
    silent: Sequence[str]
    not_asked: Mapping[str, str]

    @property
    def answered_at(self) -> datetime | None:
        """When the last issuer answered that did."""
        return max((one.answered_at for one in self.told if one.answered_at is not None), default=None)

    @property
    def since(self) -> datetime:
        """When the first issuer was asked: what issuers have told of since then is not in the answers."""
        return min((one.asked_at for one in self.told), default=self.asked_at)

    def report(self, action: str, frame: Frame) -> Report:
        """Return it as evidence has it."""
        return Report(action, frame, self.questions, self.told, self.answers)


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Lets through and asks."""

    permission: Permission
    asking: Asking
    witness: Witness
    clock: Clock
    bounds: Bounds

    async def make(
        self, action: str, caller: Caller, frame: Frame, what: Mapping[str, object], build: Build
    ) -> Inquired:
        """Ask now. Raises InvalidRequest or NotPermitted, with its evidence; a region's failure is an answer."""
        permitted, not_asked = await self.let_through(action, caller, frame, what, build)
        return await self.asked(permitted, not_asked)

    async def asked(self, permitted: Sequence[Permitted], not_asked: Mapping[str, str]) -> Inquired:
        """Ask what `let_through` has let through. A region's failure is an answer."""
        asked_at = self.clock()
        found = await search(permitted, self._ask, self.bounds)
        late = f"did not answer within {self.bounds.deadline:g} seconds"
        answers = [
            *(answer for told in found.told for answer in told.answers),
            *(unverifiable(question.region, late) for question in found.silent),
        ]
        silent = list(dict.fromkeys(question.region.id for question in found.silent))
        questions = [*(told.question for told in found.told), *found.silent]
        return Inquired(questions, found.told, answers, asked_at, silent, not_asked)

    async def let_through(
        self, action: str, caller: Caller, frame: Frame, what: Mapping[str, object], build: Build
    ) -> tuple[list[Permitted], dict[str, str]]:
        """Return the questions that may be asked, and why others may not. Raises InvalidRequest or NotPermitted."""
        received_at = self.clock()
        try:
            return await self._permitted(build(received_at))
        except GatewayError as error:
            await self.witness.refused(action, caller, frame, what, error, received_at)
            raise

    async def _ask(self, permitted: Permitted) -> Told:
        return await self.asking.ask(permitted.question, permitted.consent)

    async def _permitted(self, questions: Sequence[Question]) -> tuple[list[Permitted], dict[str, str]]:
        permitted: list[Permitted] = []
        refused: dict[str, NotPermitted] = {}
        for question in questions:
            try:
                permitted.append(Permitted(question, await self.permission.require(question)))
            except NotPermitted as error:
                refused.setdefault(question.region.id, error)
        if not permitted:
            raise next(iter(refused.values()))
        asked = {one.question.region.id for one in permitted}
        return permitted, {region: error.stable_code for region, error in refused.items() if region not in asked}
