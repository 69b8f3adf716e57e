"""The promise of the wire: every failure says truly whether the region may have taken the message."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.errors import RegionError, RegionRefused, RegionUncertain, RegionUnreachable, StartRefused
from gateway.protocols.wire import (
    MAX_ANSWER_BYTES,
    MAX_MATERIAL_BYTES,
    MAX_UNANNOUNCED,
    Answer,
    Wire,
    field_problems,
    nothing_taken_yet,
    parse_xml,
    quotable,
    read_material,
)
from tests.unit.protocol_support import Seen, closed_port, far_side, kit, material, misbehaving, stays_silent, writes

TEMPLATE = Path(__file__).parents[2] / "docs" / "region-template"


async def exchange(base_url: str, method: str = "POST", seconds: float = 5.0) -> Answer:
    async with kit(base_url, seconds=seconds) as lent:
        wire = Wire(lent)
        return await wire.exchange(method, wire.url("/cases"), headers={}, body=b"case")


async def test_a_refused_connection_means_that_nothing_was_taken() -> None:
    with pytest.raises(RegionUnreachable):
        await exchange(closed_port())


async def test_a_failed_tls_handshake_means_that_nothing_was_taken() -> None:
    """The peer speaks plain text on a port where we expect TLS: the request is never written."""
    async with misbehaving(writes(b"HTTP/1.1 400 plain text"), reads=False) as base:
        with pytest.raises(RegionUnreachable) as caught:
            await exchange(base.replace("http:", "https:"))
    assert "SSL" in caught.value.detail


async def test_a_connection_that_never_comes_about_means_that_nothing_was_taken() -> None:
    """The peer takes the connection but never shakes hands, as a silent firewall would look from here."""
    async with misbehaving(stays_silent, reads=False) as base:
        with pytest.raises(RegionUnreachable):
            await exchange(base.replace("http:", "https:"), seconds=0.2)


@pytest.mark.parametrize(
    "sent_back",
    [
        pytest.param(b"", id="before headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="mid-headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", id="mid-body"),
        pytest.param(b"\x00\xff not HTTP at all\r\n\r\n", id="garbage"),
    ],
)
async def test_a_connection_lost_after_sending_leaves_the_outcome_unknown(sent_back: bytes) -> None:
    async with misbehaving(writes(sent_back)) as base:
        with pytest.raises(RegionUncertain):
            await exchange(base)


async def test_silence_leaves_the_outcome_unknown() -> None:
    async with misbehaving(stays_silent) as base:
        with pytest.raises(RegionUncertain, match="did not answer in time"):
            await exchange(base, seconds=0.1)


async def test_a_kept_connection_that_closes_under_a_post_leaves_the_outcome_unknown() -> None:
    """The far side may have read the request before it closed: neither resending nor giving up would be right."""

    async def answer_once(reader: Any, writer: Any) -> None:
        await reader.readexactly(4)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")

    async with misbehaving(answer_once) as base, kit(base) as lent:
        wire = Wire(lent)
        first = await wire.exchange("POST", wire.url("/cases"), headers={}, body=b"case")
        with pytest.raises(RegionUncertain):
            await wire.exchange("POST", wire.url("/cases"), headers={}, body=b"case")
    assert first.body == b"{}"


async def test_an_answer_beyond_the_limit_is_not_read() -> None:
    async with far_side(lambda _: web.Response(body=b"x" * (MAX_ANSWER_BYTES + 1))) as (_, base):
        with pytest.raises(RegionUncertain, match="too large"):
            await exchange(base)


async def test_a_redirect_is_not_followed() -> None:
    async with far_side(lambda _: web.Response(status=302, headers={"Location": "/elsewhere"})) as (far, base):
        assert (await exchange(base)).status == 302
    assert [seen.path for seen in far.seen] == ["/cases"]


@pytest.mark.parametrize(("status", "headers"), [(429, {}), (503, {"Retry-After": "5"})])
async def test_an_explicit_refusal_for_load_may_be_sent_again(status: int, headers: dict[str, str]) -> None:
    async with far_side(lambda _: web.Response(status=status, headers=headers)) as (_, base):
        with pytest.raises(RegionUnreachable):
            await exchange(base)


async def test_an_error_never_shows_the_address_that_may_hold_a_secret() -> None:
    """The sign-on of one region puts its client secret into the query; logs must not get it by way of a traceback."""
    async with misbehaving(writes(b"HTTP/9 nonsense\r\n\r\n")) as base, kit(base) as lent:
        wire = Wire(lent)
        with pytest.raises(RegionUncertain) as caught:
            await wire.exchange("GET", wire.url("/token", {"client_secret": "hunter2"}), headers={})
    assert caught.value.__suppress_context__
    assert "hunter2" not in f"{caught.value} {caught.value.detail}"


async def test_a_probe_accepts_any_answer_but_a_gateways_failure() -> None:
    statuses = iter([404, 502])
    async with far_side(lambda _: web.Response(status=next(statuses))) as (_, base), kit(base) as lent:
        wire = Wire(lent)
        await wire.probe()
        with pytest.raises(RegionUnreachable):
            await wire.probe()


async def test_a_probe_of_a_closed_port_is_a_region_error() -> None:
    async with kit(closed_port()) as lent:
        with pytest.raises(RegionError):
            await Wire(lent).probe()


@pytest.mark.parametrize("base", ["", "ftp://host", "http://user:word@host", "http://host?x=1", "http:///path"])
async def test_a_base_address_with_anything_odd_stops_the_start(base: str) -> None:
    async with kit(base) as lent:
        with pytest.raises(StartRefused) as caught:
            Wire(lent)
    assert [problem.field for problem in caught.value.problems] == ["regions.testland.settings.base_url"]


def test_an_uncertain_preparation_means_that_the_message_was_not_taken() -> None:
    with pytest.raises(RegionUnreachable), nothing_taken_yet("testland"):
        raise RegionUncertain("lost")


async def test_a_material_is_read_in_full() -> None:
    assert await read_material(material(b"content"), "testland") == b"content"


@pytest.mark.parametrize("announced", [MAX_MATERIAL_BYTES + 1, 3])
async def test_a_material_beyond_the_limit_is_refused_by_name_even_when_announced_smaller(announced: int) -> None:
    content = b"x" if announced > 3 else b"x" * (MAX_MATERIAL_BYTES + 1)
    with pytest.raises(RegionRefused, match="32 MiB") as caught:
        await read_material(material(content, size=announced), "testland")
    assert caught.value.problems[0].field == "materials.M1"


async def test_a_media_type_that_would_break_a_header_is_refused() -> None:
    with pytest.raises(RegionRefused):
        await read_material(material(media="text/plain\r\nX: y"), "testland")


SENT = {"sqrmc": "陈大文", "lxrsj": "13800138000", "nested": [{"bdxz": "丽水路8号"}], "n": 1}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("申请人陈大文的号码不正确", "申请人***的号码不正确"),
        ("440301199001011234 fails", "*** fails"),
        ("HKID A123456(7) unknown", "HKID *** unknown"),
        ("write to chan@example.hk", "write to ***"),
        ("Applicant@kind: 1 or 2", "Applicant@kind: 1 or 2"),
        ("丽水路8号 is no\naddress\x00", "*** is no address"),
        (None, ""),
        (7, ""),
    ],
)
def test_a_regions_reason_is_quoted_without_the_person(said: object, shown: str) -> None:
    assert quotable(said, SENT) == shown


def test_a_regions_reason_is_masked_for_xml_documents_too_and_cut() -> None:
    assert quotable("value 'Li Si' & " + "x" * 500, b"<C><N id='Li Si'>Wu</N></C>").startswith("value '***' & x")
    assert len(quotable("x" * 500)) == 200


def test_field_errors_of_an_odd_form_are_left_out() -> None:
    errors: object = [{"field": "sqrmc", "reason": "陈大文 ?"}, "odd", {"reason": "no field"}, {"field": "csrq"}]
    problems = field_problems(errors, SENT)
    assert [(p.field, p.reason) for p in problems] == [("sqrmc", "*** ?"), ("csrq", "refused by the region")]
    assert field_problems("odd") == []


@pytest.mark.parametrize("xml", [b"<!DOCTYPE a><a/>", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"<a>", b""])
def test_hostile_xml_is_refused(xml: bytes) -> None:
    with pytest.raises(ValueError, match=r"DOCTYPE|well-formed"):
        parse_xml(xml)


# --- files of which nothing was said before -------------------------------------------------------------------------


async def unannounced(sent_back: bytes) -> tuple[Answer, bytes]:
    """Return head and bytes of a file that a peer sends as it likes."""
    async with misbehaving(writes(sent_back)) as base, kit(base) as lent:
        wire = Wire(lent)
        head, content = await wire.download(wire.url("/file"), headers={}, size=None)
        assert content is not None
        return head, b"".join([piece async for piece in content])


async def test_a_file_is_as_large_as_its_head_says() -> None:
    head, content = await unannounced(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfile")
    assert (head.headers["content-length"], content) == ("4", b"file")


@pytest.mark.parametrize(
    "sent_back",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfile", id="breaks off"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfile\r\n0\r\n\r\n", id="no size"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nfile" % (MAX_UNANNOUNCED + 1), id="too large"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\nfile", id="absurd"),
    ],
)
async def test_a_file_that_does_not_say_how_large_it_is_is_not_taken(sent_back: bytes) -> None:
    """Nobody has listed it, so that its own head is all that holds it within bounds."""
    with pytest.raises(RegionUncertain):
        await unannounced(sent_back)


async def test_the_template_of_a_region_works_as_it_stands() -> None:
    """It is copied by newcomers: it must open, offer what it declares, and keep the outcomes apart."""
    spec = importlib.util.spec_from_file_location("region_template", TEMPLATE / "adapter.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    declared = tomllib.loads((TEMPLATE / "region.toml").read_text())
    answers = {"/cases/s-1": web.json_response({"error": "no_such_case"}, status=404)}

    def answer(seen: Seen) -> web.Response:
        return answers.pop(seen.path, None) or web.Response(status=404, body=b"<html>")

    async with (
        far_side(answer) as (_, base),
        kit(base, settings={"client_id": "pearl"}, secrets={"client_secret": b"s"}) as lent,
    ):
        adapter = module.open_adapter(lent)
        assert await adapter.submissions.ask("s-1") is None
        with pytest.raises(RegionUncertain):
            await adapter.submissions.ask("s-1")
    offered = {name for name in declared["capabilities"] if getattr(adapter, name) is not None}
    assert offered == {name for name, is_offered in declared["capabilities"].items() if is_offered}


async def test_a_session_stays_usable_after_failures() -> None:
    """A lost exchange must not leave a poisoned connection in the pool."""
    bodies = iter([b"x" * (MAX_ANSWER_BYTES + 1), b"{}"])
    async with far_side(lambda _: web.Response(body=next(bodies))) as (_, base), kit(base) as lent:
        wire = Wire(lent)
        with pytest.raises(RegionUncertain):
            await wire.exchange("GET", wire.url("/"), headers={})
        assert (await wire.exchange("GET", wire.url("/"), headers={})).body == b"{}"
        assert isinstance(lent.session, aiohttp.ClientSession)
