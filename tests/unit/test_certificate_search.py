"""Several issuers under one deadline, and one call for questions that are the same."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.certificates.answers import CertificateAnswer
from gateway.certificates.asking import Shared, Told
from gateway.certificates.permission import Question
from gateway.certificates.request import HolderNamed
from gateway.certificates.search import Bounds, Found, Permitted, search
from gateway.domain.certificate import Standing
from gateway.domain.region import place_of

HUNAN = HolderNamed.model_validate(
    {"name": "李小红", "document": {"type": "CN_RIC", "number": "430102197812319026"}}
)  # fmt: skip
PLACES = {"hunan": "430000", "fujian": "350000", "hainan": "460000", "yunnan": "530000"}
QUICK = Bounds(deadline=0.2, head_start=0.02)


def asked(*regions: str, kind: str = "HOUSEHOLD") -> list[Permitted]:
    def one(name: str) -> Permitted:
        region = SimpleNamespace(id=name, place=place_of(PLACES[name]))
        question = SimpleNamespace(region=region, holder=HUNAN, kind=SimpleNamespace(code=kind))
        return Permitted(cast("Question", question), None)

    return [one(name) for name in regions]


class Issuers:
    """Issuers that answer when they are let; who is asked is written down."""

    def __init__(self, **standings: Standing | None) -> None:
        self.standings = standings
        self.asked: list[str] = []
        self.given_up: list[str] = []

    async def __call__(self, permitted: Permitted) -> Told:
        name = permitted.question.region.id
        self.asked.append(name)
        standing = self.standings[name]
        if standing is None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.given_up.append(name)
                raise
        answer = CertificateAnswer(name, cast("Standing", standing))
        return Told(permitted.question, [answer], cast("Any", None), None, b"")

    async def searched(self, *regions: str, bounds: Bounds = QUICK) -> Found:
        return await search(asked(*regions), self, bounds)


def heard(found: Found) -> dict[str, Standing]:
    return {told.question.region.id: told.answers[0].standing for told in found.told}


async def test_nobody_else_is_asked_when_the_holders_own_region_has_it() -> None:
    issuers = Issuers(hunan=Standing.VALID, fujian=Standing.VALID)
    assert heard(await issuers.searched("fujian", "hunan")) == {"hunan": Standing.VALID}
    assert issuers.asked == ["hunan"]


@pytest.mark.parametrize("home", [Standing.NOT_FOUND, Standing.UNVERIFIABLE])
async def test_everybody_is_asked_when_the_own_region_has_nothing(home: Standing) -> None:
    issuers = Issuers(hunan=home, fujian=Standing.REVOKED, hainan=Standing.NOT_FOUND)
    found = await issuers.searched("hunan", "fujian", "hainan")
    assert heard(found) == {"hunan": home, "fujian": Standing.REVOKED, "hainan": Standing.NOT_FOUND}
    assert not found.silent


async def test_a_slow_own_region_holds_nobody_up_and_is_still_waited_for() -> None:
    """The others are asked when its head start is over."""
    issuers = Issuers(hunan=None, fujian=Standing.VALID)
    found = await issuers.searched("hunan", "fujian")
    assert heard(found) == {"fujian": Standing.VALID}
    assert [question.region.id for question in found.silent] == ["hunan"]


@pytest.mark.parametrize("silent", [["fujian"], ["fujian", "hainan"], ["fujian", "hainan", "yunnan", "hunan"]])
async def test_of_n_issuers_those_who_answer_in_time_are_heard_and_the_others_named(silent: list[str]) -> None:
    """Every call is over when the search is."""
    issuers = Issuers(**{name: None if name in silent else Standing.NOT_FOUND for name in PLACES})
    found = await issuers.searched(*PLACES)
    assert sorted(heard(found)) == sorted(set(PLACES) - set(silent))
    assert sorted(question.region.id for question in found.silent) == sorted(silent)
    await asyncio.sleep(0)  # the calls that were given up hear of it in the next turn of the loop
    assert sorted(issuers.given_up) == sorted(silent)


async def test_what_the_own_region_has_of_one_type_says_nothing_of_another() -> None:
    """Somebody with an identity card from home may have a licence from elsewhere."""
    issuers = Issuers(hunan=Standing.VALID, fujian=Standing.VALID)
    found = await search([*asked("hunan", kind="CARD"), *asked("fujian", kind="LICENCE")], issuers, QUICK)
    assert heard(found) == {"hunan": Standing.VALID, "fujian": Standing.VALID}


async def test_a_city_that_is_quick_does_not_cut_its_province_off() -> None:
    """Both are the holder's home; the second answers after the head start."""
    changsha = SimpleNamespace(id="changsha", place=place_of("430100"))
    question = SimpleNamespace(region=changsha, holder=HUNAN, kind=asked("hunan")[0].question.kind)
    city = Permitted(cast("Question", question), None)
    late = asyncio.Event()

    async def ask(permitted: Permitted) -> Told:
        if permitted.question.region.id == "hunan":
            await late.wait()
        else:
            asyncio.get_running_loop().call_later(QUICK.head_start * 2, late.set)
        answer = CertificateAnswer(permitted.question.region.id, Standing.EXPIRED)
        return Told(permitted.question, [answer], cast("Any", None), None, b"")

    assert set(heard(await search([city, *asked("hunan", "fujian")], ask, QUICK))) == {"changsha", "hunan"}


async def test_a_failure_of_ours_is_not_lost_among_the_answers() -> None:
    async def broken(_permitted: Permitted) -> Told:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await search(asked("fujian", "hainan"), broken, QUICK)


# --- the same question at the same time ------------------------------------------------------------------------------


class Call:
    """A call that is let go by the test."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        try:
            await self.go.wait()
        finally:
            self.ended.set()
        return self.begun


async def test_the_same_question_that_is_under_way_is_asked_once() -> None:
    shared, call = Shared[int](), Call()
    waiting = [asyncio.create_task(shared.get("k", call)) for _ in range(5)]
    await asyncio.sleep(0)
    call.go.set()
    assert await asyncio.gather(*waiting) == [1] * 5
    assert await shared.get("k", call) == 2  # what is over is asked anew


async def test_another_question_is_another_call() -> None:
    shared, call = Shared[int](), Call()
    call.go.set()
    assert sorted(await asyncio.gather(shared.get("a", call), shared.get("b", call))) == [1, 2]


async def test_whoever_gives_up_takes_nobody_along_and_the_last_one_ends_the_call() -> None:
    shared, call = Shared[int](), Call()
    first, second = (asyncio.create_task(shared.get("k", call)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    assert not call.ended.is_set()
    second.cancel()
    await asyncio.wait([second])
    await asyncio.wait_for(call.ended.wait(), 5)
    call.go.set()
    assert await shared.get("k", call) == 2  # nobody joins a call that was ended


async def test_a_failure_reaches_everybody_and_the_next_one_asks_anew() -> None:
    shared = Shared[int]()

    async def fails() -> int:
        raise LookupError

    failed = await asyncio.gather(*(shared.get("k", fails) for _ in range(2)), return_exceptions=True)
    assert [type(one) for one in failed] == [LookupError, LookupError]

    async def works() -> int:
        return 1

    assert await shared.get("k", works) == 1
