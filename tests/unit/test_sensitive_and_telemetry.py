"""Personal data does not leak by accident: not from its type, not into a log, not from a sealed column."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from gateway.crypto.at_rest import References, Sealer, key_id
from gateway.domain.sensitive import Sensitive, mask_name, mask_number
from gateway.edge import Edge, Long, Short, Text, check
from gateway.errors import InvalidRequest, Unavailable
from gateway.evidence.record import digest_of
from gateway.telemetry import Metrics, configure_logging

NAME = "李芳"
KEY, OTHER = b"k" * 32, b"o" * 32


# --- the type ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Holder:
    name: Sensitive[str]


@pytest.mark.parametrize(
    "show",
    [repr, str, "{}".format, "{:>20}".format, lambda v: f"{v}", lambda v: f"{v!r}", lambda v: " ".join(map(str, [v])),
     lambda v: repr([v]), lambda v: repr(Holder(v)), lambda v: orjson.dumps({"v": v}, default=str).decode(),
     lambda v: json.dumps(v, default=str), lambda v: str(ValueError(v))],
)  # fmt: skip
def test_a_sensitive_value_prints_as_a_mask_wherever_it_lands(show: Any) -> None:
    shown = show(Sensitive(NAME))
    assert "***" in shown
    assert NAME not in shown


@pytest.mark.parametrize(
    "copied",
    [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, orjson.dumps, lambda v: asdict(Holder(v)),
     lambda v: v + "", lambda v: list(v), vars],
)  # fmt: skip
def test_a_sensitive_value_is_not_copied_out_of_its_wrapper(copied: Any) -> None:
    with pytest.raises(TypeError) as refused:
        copied(Sensitive(NAME))
    assert NAME not in str(refused.value)


def test_a_sensitive_value_is_told_when_it_is_asked_for() -> None:
    assert Sensitive(NAME).reveal() == NAME


def test_sensitive_values_are_compared_without_being_shown() -> None:
    assert Sensitive(NAME) == Sensitive(NAME)
    assert Sensitive(NAME) != Sensitive("王伟")
    assert Sensitive(NAME) != NAME
    assert len({Sensitive(NAME), Sensitive(NAME)}) == 1


@pytest.mark.parametrize(
    ("name", "mask"), [("李芳", "李*"), ("欧阳小红", "欧***"), ("李", "李*"), ("", "")]
)  # fmt: skip
def test_a_clerk_sees_the_first_character_of_a_name(name: str, mask: str) -> None:
    assert mask_name(name) == mask


@pytest.mark.parametrize(
    ("number", "mask"), [("11010519491231002X", "**************002X"), ("A1234563", "****4563"), ("", "")]
)
def test_a_clerk_sees_the_end_of_a_number(number: str, mask: str) -> None:
    assert mask_number(number) == mask


# --- logs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Configure logging as the command line does, and put it back."""
    stream = io.StringIO()
    configure_logging(stream, logging.DEBUG)
    yield stream
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_a_log_line_masks_what_names_people_or_secrets_however_deep(stream: io.StringIO) -> None:
    person = {"name": NAME, "document": {"number": "11010519491231002X"}, "region": "foshan"}
    structlog.get_logger().info("looked up", case="KY1", holder=NAME, who=person, all=[person], token="s3cret")
    [line] = lines(stream)
    masked = {"name": "***", "document": "***", "region": "foshan"}
    assert line["who"] == masked
    assert line["all"] == [masked]
    assert (line["case"], line["event"], line["level"]) == ("KY1", "looked up", "info")
    for secret in (NAME, "11010519491231002X", "s3cret"):
        assert secret not in stream.getvalue()


def test_a_sensitive_value_is_masked_under_a_harmless_key(stream: io.StringIO) -> None:
    structlog.get_logger().warning("odd", value=Sensitive(NAME), inside={"deep": [Sensitive(NAME)]})
    [line] = lines(stream)
    assert line["value"] == "***"
    assert NAME not in stream.getvalue()


def test_what_is_bound_for_a_request_is_masked_like_the_rest(stream: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(submission_id="KY1", applicant=NAME):
        structlog.get_logger().info("step")
    [line] = lines(stream)
    assert (line["submission_id"], line["applicant"]) == ("KY1", "***")


def test_a_logged_exception_has_its_place_and_stays_on_one_line(stream: io.StringIO) -> None:
    def fails() -> None:
        raise LookupError(Sensitive(NAME))

    try:
        fails()
    except LookupError:
        structlog.get_logger().exception("failed")
    [line] = lines(stream)
    assert "LookupError" in line["exception"]
    assert "test_sensitive_and_telemetry" in line["exception"]
    assert NAME not in stream.getvalue()


def test_metrics_name_regions_and_outcomes_and_nobody() -> None:
    """The labels are a closed list: a figure per person would be a register of persons."""
    metrics = Metrics(CollectorRegistry())
    metrics.request("/v1/submissions/{id}", "GET", 200, 0.01)
    metrics.region_call("foshan", "submissions", "ok", 0.2)
    metrics.delivery("foshan", "delivered")
    metrics.event("foshan", "late")
    metrics.sign_on("guangdong", "done")
    metrics.queue("foshan", {"pending": 3}, 12.5)
    metrics.region_up("foshan", up=False)
    text = generate_latest(metrics.registry).decode()
    assert 'pearl_delivery_queue{region="foshan",state="pending"} 3.0' in text
    assert 'pearl_delivery_oldest_seconds{region="foshan"} 12.5' in text
    assert 'pearl_region_up{region="foshan"} 0.0' in text
    labels = {name for family in metrics.registry.collect() for sample in family.samples for name in sample.labels}
    assert labels <= {"route", "method", "status", "region", "capability", "outcome", "state", "le"}


# --- at rest -------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.text(max_size=40))
def test_what_is_sealed_opens_in_its_place_and_shows_nothing(clear: bytes, context: str) -> None:
    sealed = Sealer(KEY).seal(clear, context)
    assert Sealer(OTHER, KEY).open(sealed, context) == clear
    assert len(clear) < 4 or clear not in sealed
    assert Sealer(KEY).seal(clear, context) != sealed


@pytest.mark.parametrize(
    ("key", "context"), [(KEY, "submissions.body:2"), (KEY, ""), (OTHER, "submissions.body:1")]
)  # fmt: skip
def test_what_is_sealed_does_not_open_in_another_place_or_under_another_key(key: bytes, context: str) -> None:
    sealed = Sealer(KEY).seal(NAME.encode(), "submissions.body:1")
    with pytest.raises(Unavailable):
        Sealer(key).open(sealed, context)


def test_a_key_that_only_claims_the_id_of_another_opens_nothing() -> None:
    sealed = Sealer(KEY).seal(NAME.encode(), "x")
    forged = sealed[:1] + key_id(OTHER) + sealed[9:]
    with pytest.raises(Unavailable):
        Sealer(OTHER).open(forged, "x")


@given(st.data())
def test_no_bit_of_what_is_sealed_can_be_changed(data: st.DataObject) -> None:
    sealed = bytearray(Sealer(KEY).seal(NAME.encode(), "x"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Unavailable):
        Sealer(KEY).open(bytes(sealed), "x")


@given(st.binary(max_size=64))
def test_bytes_that_were_never_sealed_are_refused_and_break_nothing(raw: bytes) -> None:
    with pytest.raises(Unavailable):
        Sealer(KEY).open(raw, "x")


@given(st.integers(0, 50))
def test_a_sealed_value_that_was_cut_short_is_refused(length: int) -> None:
    sealed = Sealer(KEY).seal(NAME.encode() * 5, "x")
    with pytest.raises(Unavailable):
        Sealer(KEY).open(sealed[:length], "x")


@pytest.mark.parametrize("keys", [(), (b"short",), (KEY, b"short")])
def test_a_sealer_takes_no_key_of_another_length(keys: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(*keys)


def test_a_new_key_in_front_seals_and_the_old_one_still_opens() -> None:
    old = Sealer(KEY).seal(b"old", "x")
    both = Sealer(OTHER, KEY)
    new = both.seal(b"new", "x")
    assert (both.open(old, "x"), both.open(new, "x")) == (b"old", b"new")
    with pytest.raises(Unavailable):
        Sealer(KEY).open(new, "x")


def test_references_are_equal_for_equal_people_and_only_under_the_same_key() -> None:
    ours = References(KEY)
    assert ours.of("CN_RIC", "1") == ours.of("CN_RIC", "1")
    assert len({ours.of("CN_RIC", "1"), ours.of("CN_RIC1", ""), ours.of("PASSPORT", "1")}) == 3
    assert ours.of("CN_RIC", "1") != References(OTHER).of("CN_RIC", "1")
    with pytest.raises(ValueError, match="at least 32 bytes"):
        References(b"short")


def test_a_kept_digest_proves_its_part_and_betrays_no_short_one() -> None:
    """Without the salt, whoever reads the table could try all names; with it, who holds both can prove."""
    one, two = digest_of(NAME.encode()), digest_of(NAME.encode())
    assert one["sha256"] != two["sha256"]
    assert digest_of(NAME.encode(), bytes.fromhex(one["salt"])) == one
    assert one["size"] == len(NAME.encode())


# --- at the edge ---------------------------------------------------------------------------------------------------


class Form(Edge):
    short: Short = "x"
    text: Text = "x"
    long: Long = "x"


@pytest.mark.parametrize("field", ["short", "text", "long"])
@pytest.mark.parametrize("control", ["\0", "\x1b", "\x7f"])
def test_control_characters_are_refused_at_the_edge_without_repeating_the_value(field: str, control: str) -> None:
    """PostgreSQL stores no NUL, XML carries none of them, and a terminal that shows a log may obey them."""
    with pytest.raises(InvalidRequest) as refused:
        check(Form, {field: f"李芳{control}b"})
    [problem] = refused.value.problems
    assert (problem.field, problem.code, problem.reason) == (field, "control_character", "holds a control character")


def test_lines_and_tabs_are_text() -> None:
    assert check(Form, {"long": "一\n二\r\n\t三"}).long == "一\n二\r\n\t三"
