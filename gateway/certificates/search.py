"""Asking several issuers at once, under one deadline: whoever has not answered by then is named.

Owns: the order of the steps and the end. Leaves to `asking`: one question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.certificates.asking import Told
from gateway.certificates.directory import is_home
from gateway.certificates.permission import Question
from gateway.domain.certificate import Standing

FOUND_NOTHING = frozenset({Standing.NOT_FOUND, Standing.NO_MATCH, Standing.UNVERIFIABLE})


@dataclass(frozen=True, slots=True)
class Permitted:
    """A question that may be asked, and the id of the consent on which it rests."""

    question: Question
    consent: str | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """`deadline` seconds for all together, of which the holder's own region has the first `head_start` to itself.

    `most` is how many may be asked for one request.
    """

    deadline: float = 8.0
    head_start: float = 1.0
    most: int = 32


@dataclass(frozen=True, slots=True)
class Found:
    """Who said what, and who had not answered when the time was up."""

    told: Sequence[Told]
    silent: Sequence[Question]


Ask = Callable[[Permitted], Awaitable[Told]]


async def search(asked: Sequence[Permitted], ask: Ask, bounds: Bounds) -> Found:
    """Ask for each type the holder's own region first, and everybody else when that has nothing or takes its time.

    One question alone has its region's time-out for an end; several have one deadline. Who is not asked, because the
    own region has the certificate, stands on neither list.
    """
    if len(asked) == 1:
        return Found([await ask(asked[0])], [])
    ends = asyncio.get_running_loop().time() + bounds.deadline
    of_type: dict[str, list[Permitted]] = {}
    for one in asked:
        of_type.setdefault(one.question.kind.code, []).append(one)
    found_of = await asyncio.gather(*(_of_one_type(group, ask, bounds, ends) for group in of_type.values()))
    return Found(
        [told for one in found_of for told in one.told], [question for one in found_of for question in one.silent]
    )


async def _of_one_type(asked: Sequence[Permitted], ask: Ask, bounds: Bounds, ends: float) -> Found:
    home = [one for one in asked if _is_at_home(one.question)]
    under_way = {asyncio.ensure_future(ask(one)): one.question for one in home}
    try:
        if home:
            await asyncio.wait(under_way, timeout=min(bounds.head_start, bounds.deadline))
        if not any(task.done() and found(task.result()) for task in under_way):
            under_way |= {asyncio.ensure_future(ask(one)): one.question for one in asked if one not in home}
        await asyncio.wait(under_way, timeout=max(0.0, ends - asyncio.get_running_loop().time()))
        return Found(
            [task.result() for task in under_way if task.done()],
            [question for task, question in under_way.items() if not task.done()],
        )
    finally:
        for task in under_way:
            task.cancel()


def _is_at_home(question: Question) -> bool:
    return question.holder is not None and is_home(question.region, question.holder)


def found(told: Told) -> bool:
    """Say whether an issuer has something for this holder."""
    return any(answer.standing not in FOUND_NOTHING for answer in told.answers)
