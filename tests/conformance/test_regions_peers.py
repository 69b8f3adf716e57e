"""Every region against a peer that does the work and then says so badly: what is known of the outcome stays true.

An answer that breaks off, is packed wrongly, is an error or belongs to something else proves nothing. The region may
have taken what was sent, so it is asked before anything is sent again, and one case comes out.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from gateway.errors import RegionCannotBeAsked, RegionError, RegionRefused, RegionUncertain, RegionUnreachable
from gateway.ports import SubmissionOrder
from gateway.submissions.carriers import Errand, OfSubmissions
from tests.conformance.regions_support import (
    FOLDERS,
    MANIFESTS,
    Place,
    application,
    case_at,
    holds,
    look_up,
    order,
    question,
    submit,
)

Bend = Callable[[web.StreamResponse], bytes]

EITHER = (RegionUnreachable, RegionUncertain)
BOMB_BYTES = 64 << 20
"""What a few packed kilobytes unpack to: far more than any answer may have."""


def _head(headers: Mapping[str, str], status: str = "200 OK") -> bytes:
    """Return the head of an answer; the connection is not used again, or the next exchange would be spoilt too."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items()), "Connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def _own(answer: web.StreamResponse) -> dict[str, str]:
    """Return the headers that say something of the answer, such as its signature."""
    return {name: value for name, value in answer.headers.items() if name not in ("Content-Length", "Connection")}


def _sized(headers: Mapping[str, str], body: bytes, status: str = "200 OK") -> bytes:
    return _head({**headers, "Content-Length": str(len(body))}, status) + body


def _body(answer: web.StreamResponse) -> bytes:
    assert isinstance(answer, web.Response)
    assert isinstance(answer.body, bytes)
    return answer.body


def _mid_headers(answer: web.StreamResponse) -> bytes:
    head = _head(_own(answer))
    return head[: len(head) // 2]


def _mid_body(answer: web.StreamResponse) -> bytes:
    whole = _sized(_own(answer), _body(answer))
    return whole[: -len(_body(answer)) // 2]


def _chunks_end_early(answer: web.StreamResponse) -> bytes:
    half = _body(answer)[: len(_body(answer)) // 2]
    return _head({**_own(answer), "Transfer-Encoding": "chunked"}) + b"%x\r\n%s\r\n" % (len(half), half)


def _damaged_gzip(answer: web.StreamResponse) -> bytes:
    packed = bytearray(gzip.compress(_body(answer)))
    packed[-8] ^= 0xFF  # its checksum
    return _sized({**_own(answer), "Content-Encoding": "gzip"}, bytes(packed))


def _short_gzip(answer: web.StreamResponse) -> bytes:
    packed = gzip.compress(_body(answer))
    return _sized({**_own(answer), "Content-Encoding": "gzip"}, packed[: len(packed) // 2])


def _bomb(answer: web.StreamResponse) -> bytes:
    return _sized({**_own(answer), "Content-Encoding": "gzip"}, _packed_zeros())


@cache
def _packed_zeros() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(bytes(BOMB_BYTES)) + packer.flush()


PAGE = {"Content-Type": "text/html"}


BENDS: Mapping[str, Bend] = {
    "nothing": lambda _answer: b"",
    "half the headers": _mid_headers,
    "half the body": _mid_body,
    "chunks that end early": _chunks_end_early,
    "damaged gzip": _damaged_gzip,
    "half a gzip": _short_gzip,
    "a gzip bomb": _bomb,
    "an error without a body": lambda _answer: _sized({}, b"", "500 Internal Server Error"),
    "an error with a page": lambda _answer: _sized(PAGE, b"<html>Bad gateway</html>", "502 Bad Gateway"),
    "a page that is not there": lambda _answer: _sized(PAGE, b"<html>No page</html>", "404 Not Found"),
}


LENGTHS: Mapping[str, Bend] = {
    "a byte less": lambda answer: _sized(_own(answer), _body(answer)[:-1]),
    "a byte more": lambda answer: _sized(_own(answer), _body(answer) + b"\n<"),
}
"""What a file may not come with, though nothing of its transport is wrong."""


def each_wire(capability: str) -> pytest.MarkDecorator:
    """Run a test at one region of each wire that declares this capability; who shares packs shares the wire."""
    offered = [name for name, said in sorted(MANIFESTS.items()) if getattr(said.capabilities, capability)]
    first = {FOLDERS[name]: name for name in reversed(offered)}
    return pytest.mark.parametrize("place", sorted(first.values()), indirect=True)


async def _heard(place: Place, sent: SubmissionOrder) -> str:
    """Submit, read the receipt as the worker does, and return the region's number."""
    submissions = place.region.adapter.submissions
    assert submissions is not None
    errand = Errand(
        cast("Any", SimpleNamespace(submission_id=sent.submission_id)), place.region, place.region.packs.now()
    )
    receipt = OfSubmissions(cast("Any", None), cast("Any", None)).read(errand, await submissions.submit(sent))
    return str(receipt["number"])


def _light(place: Place) -> SubmissionOrder:
    return order(place, application(place, materials=[]))


@each_wire("submissions")
async def test_an_answer_that_is_spoilt_leaves_the_outcome_open_and_one_case_comes_out(place: Place) -> None:
    """The authority has done the work each time; only its answer is spoilt, and the question after it is too."""
    await submit(place.region, _light(place))  # whatever comes before a message has come
    for name, bend in BENDS.items():
        sent = _light(place)
        place.authority.bend = bend
        with pytest.raises(RegionUncertain):
            pytest.fail(f"{name}: believed to be {await _heard(place, sent)}")
        await _question_is_not_answered_by(place, sent, bend)
        assert await holds(place, sent.submission_id) in (True, None), name
        assert await _heard(place, sent)
        assert place.authority.book("arrivals")[sent.submission_id] == 2, name


async def _question_is_not_answered_by(place: Place, sent: SubmissionOrder, bend: Bend) -> None:
    """Ask, and spoil the answer: it must pass neither for "not here" nor for a receipt."""
    submissions = place.region.adapter.submissions
    assert submissions is not None
    place.authority.bend = bend
    with pytest.raises((*EITHER, RegionCannotBeAsked)):
        pytest.fail(f"believed: {await submissions.ask(sent.submission_id)!r}")
    place.authority.bend = None


@each_wire("submissions")
async def test_the_receipt_of_one_case_is_never_that_of_another(place: Place) -> None:
    """A proxy that mixes two connections up: the answer is genuine, and somebody else's."""
    kept: list[bytes] = []

    def keep(answer: web.StreamResponse) -> bytes:
        kept.append(_sized(_own(answer), _body(answer)))
        return kept[0]

    await submit(place.region, _light(place))
    first, second = _light(place), _light(place)
    place.authority.bend = keep
    await _heard(place, first)
    place.authority.bend = lambda _answer: kept[0]
    with pytest.raises(RegionUncertain):
        pytest.fail(f"believed to be {await _heard(place, second)}")
    assert await holds(place, second.submission_id) in (True, None)
    assert await _heard(place, second) != await _heard(place, first)


@each_wire("feed")
async def test_a_list_of_steps_that_is_spoilt_moves_no_cursor(place: Place) -> None:
    """An empty page would move it beyond steps that nobody has read."""
    feed = place.region.adapter.feed
    assert feed is not None
    await feed.poll("")
    await _never_believed(place, lambda: feed.poll(""))
    assert (await feed.poll("")).events == []


@each_wire("certificates")
async def test_a_lookup_whose_answer_is_spoilt_has_found_nothing_out(place: Place) -> None:
    """Neither valid nor "not found": nobody may be refused a benefit for a broken line."""
    asked = question(place, place.certificates()[0])
    status, _ = await look_up(place, asked)
    await _never_believed(place, lambda: look_up(place, asked))
    assert (await look_up(place, asked))[0] == status


@each_wire("results")
async def test_a_document_whose_answer_is_spoilt_is_none(place: Place) -> None:
    """Nor is a spoilt list of documents an empty one: nobody may be told that nothing came out of the case."""
    results = place.region.adapter.results
    assert results is not None
    receipt = await case_at(place, "COMPLETED")
    [document, *_] = listed = await results.list(receipt["number"])

    async def content() -> list[bytes]:
        return [piece async for piece in await results.open(receipt["number"], document)]

    await _never_believed(place, lambda: results.list(receipt["number"]))
    await _never_believed(place, content)
    await _never_believed(place, content, LENGTHS)
    assert b"".join(await content())
    assert await results.list(receipt["number"]) == listed


async def _never_believed(
    place: Place, ask: Callable[[], Awaitable[object]], bends: Mapping[str, Bend] = BENDS
) -> None:
    for name, bend in bends.items():
        place.authority.bend = bend
        with pytest.raises(RegionError) as failed:
            pytest.fail(f"{name}: believed to be {await ask()!r}")
        assert not isinstance(failed.value, RegionRefused), name
        place.authority.bend = None
