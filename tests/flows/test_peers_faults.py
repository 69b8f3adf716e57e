"""Faults of a peer, row by row, and the tests that keep the promise for each.

The rows are the cases that suites of exchange products try, in our own words. `test_every_row_is_kept` reads this list:
a test that is renamed or taken away is missed here.

- the peer hangs up before the headers: unit/test_protocol_wire.py::test_a_connection_lost_after_sending_leaves_the_outcome_unknown,
  conformance/test_regions_peers.py::test_an_answer_that_is_spoilt_leaves_the_outcome_open_and_one_case_comes_out
- the peer hangs up in the middle of the headers: unit/test_protocol_wire.py::test_a_connection_lost_after_sending_leaves_the_outcome_unknown,
  conformance/test_regions_peers.py::test_an_answer_that_is_spoilt_leaves_the_outcome_open_and_one_case_comes_out
- the peer hangs up in the middle of the body: conformance/test_regions_peers.py::test_an_answer_that_is_spoilt_leaves_the_outcome_open_and_one_case_comes_out,
  conformance/test_regions_peers.py::test_a_list_of_steps_that_is_spoilt_moves_no_cursor,
  conformance/test_regions_peers.py::test_a_lookup_whose_answer_is_spoilt_has_found_nothing_out
- the peer hangs up while we send: test_a_peer_that_hangs_up_while_it_is_sent_to_leaves_the_outcome_unknown
- the peer is not there: conformance/test_regions.py::test_a_region_that_is_not_there_took_nothing,
  unit/test_protocol_wire.py::test_a_refused_connection_means_that_nothing_was_taken
- the peer is slow or trickles: conformance/test_regions.py::test_a_region_that_is_slow_is_uncertain_and_not_waited_for,
  test_a_peer_that_trickles_is_not_waited_for
- headers without end: test_headers_without_end_are_not_read
- a faulty attachment: unit/test_uploads.py::test_a_wrong_digest_of_the_whole_ends_the_upload,
  unit/test_uploads.py::test_a_part_that_was_lost_keeps_a_file_from_becoming_whole,
  unit/test_results.py::test_other_bytes_than_were_listed_are_never_handed_out
- a missing attachment: unit/test_blobs.py::test_a_file_that_is_not_there_is_told_as_unavailable,
  unit/test_pickups.py::test_a_file_that_is_not_there_is_no_beginning_of_one,
  unit/test_protocol_signed_rest.py::test_a_file_that_is_shorter_than_it_says_is_not_sent_as_if_it_were_whole,
  unit/test_protocol_soap.py::test_a_failed_upload_means_that_the_case_was_not_taken,
  flows/test_failing_store.py::test_a_place_for_files_that_is_gone_stops_files_and_nothing_else
- an HTTP error with and without a body: conformance/test_regions_peers.py::test_an_answer_that_is_spoilt_leaves_the_outcome_open_and_one_case_comes_out,
  unit/test_protocol_wire.py::test_an_explicit_refusal_for_load_may_be_sent_again
- an unsigned answer: unit/test_protocol_soap.py::test_an_answer_that_its_signature_does_not_cover_is_not_believed,
  unit/test_protocol_signed_rest.py::test_an_answer_that_cannot_be_trusted_says_nothing_of_the_outcome,
  unit/test_protocol_province.py::test_an_answer_that_proves_nothing_leaves_the_outcome_open,
  unit/test_protocol_notify_pull.py::test_an_answer_that_the_machine_did_not_seal_for_this_question_is_no_word_of_it
- a signature that fails: unit/test_protocol_soap.py::test_a_signature_made_otherwise_than_agreed_is_not_believed,
  unit/test_protocol_iamsmart.py::test_an_answer_under_another_key_leaves_the_outcome_unknown,
  conformance/test_regions.py::test_a_callback_whose_body_was_altered_is_refused,
  flows/test_bad_input.py::test_a_forged_callback_is_refused
- a wrong client certificate: flows/test_tls.py::test_a_certificate_that_nobody_knows_ends_the_handshake,
  unit/test_identity_mtls.py::test_a_key_that_is_not_registered_proves_nothing
- a client id that differs from the certificate: flows/test_tls.py::test_a_known_self_signed_certificate_cannot_vouch_for_another_client,
  unit/test_identity_mtls.py::test_another_name_is_another_client
- an answer for another request: conformance/test_regions_peers.py::test_the_receipt_of_one_case_is_never_that_of_another,
  unit/test_protocol_soap.py::test_an_answer_to_another_request_is_not_believed,
  test_a_receipt_that_is_not_of_this_case_is_asked_after
- no receipt: conformance/test_regions.py::test_a_lost_answer_is_uncertain_until_the_region_is_asked,
  unit/test_delivery.py::test_a_receipt_that_cannot_be_read_leaves_the_delivery_in_doubt,
  flows/test_submissions.py::test_a_case_in_doubt_at_a_region_that_cannot_be_asked_waits_for_a_person
- the end of retries: unit/test_delivery.py::test_the_last_attempt_ends_in_the_hands_of_a_person,
  unit/test_retry.py::test_waiting_for_a_region_ends_with_patience_and_not_with_attempts,
  flows/test_submissions.py::test_after_the_last_uncertain_outcome_a_delivery_waits_for_a_person
- an id that is there already: conformance/test_stores.py::test_the_same_application_sent_often_at_once_is_one_case,
  flows/test_submissions.py::test_another_application_under_the_same_reference_is_a_conflict,
  flows/test_bad_input.py::test_a_replayed_callback_is_refused,
  unit/test_events.py::test_an_event_id_that_stands_for_something_else_is_no_duplicate
- one number for two cases: unit/test_events.py::test_a_number_that_the_region_gave_to_two_cases_waits_for_a_person_and_both_go_on,
  test_a_receipt_with_the_number_of_another_case_is_taken_and_waits_for_a_person
- payload size: unit/test_protocol_wire.py::test_an_answer_beyond_the_limit_is_not_read,
  flows/test_bad_input.py::test_a_json_body_above_the_limit_is_refused,
  flows/test_bad_input.py::test_a_callback_above_the_limit_is_not_read_to_its_end,
  unit/test_uploads.py::test_an_upload_beyond_the_limit_is_not_read_to_its_end
- damaged gzip: conformance/test_regions_peers.py::test_an_answer_that_is_spoilt_leaves_the_outcome_open_and_one_case_comes_out,
  flows/test_bad_input.py::test_a_body_that_claims_to_be_compressed_is_read_as_it_came
- a gzip bomb: test_a_bomb_is_not_unpacked,
  unit/test_contents.py::test_a_bomb_is_refused_by_its_directory_and_never_unpacked
- a body that ends early: flows/test_bad_input.py::test_a_body_that_breaks_its_own_framing_is_the_callers_fault,
  conformance/test_regions_peers.py::test_an_answer_that_is_spoilt_leaves_the_outcome_open_and_one_case_comes_out
- truncated multipart: unit/test_window_form.py::test_a_body_that_is_no_form_is_a_refusal_and_no_fault
- recovery of what was only begun: unit/test_uploads.py::test_what_a_dead_replica_held_goes_on_at_another,
  flows/test_shutdown.py::test_a_request_under_way_is_answered_before_the_process_ends
- recovery of what was received: flows/test_failing_store.py::test_a_store_that_fails_under_load_keeps_what_it_took_and_nothing_half,
  flows/test_drill.py::test_ten_seconds_of_faults_lose_nothing_and_double_nothing
- recovery of what was pending: unit/test_queue.py::test_an_expired_lease_makes_the_next_attempt_a_doubtful_one,
  unit/test_delivery.py::test_a_dead_workers_region_is_not_asked_before_it_can_have_settled
- recovery of what was processed: unit/test_delivery.py::test_a_receipt_that_cannot_be_written_down_is_asked_for_again,
  flows/test_failing_store.py::test_a_store_that_fails_while_regions_are_at_work_loses_no_word_of_theirs
- a kill at every step: flows/test_submission_survives_a_kill.py::test_submission_survives_a_kill,
  flows/test_drill.py::test_ten_seconds_of_faults_lose_nothing_and_double_nothing
"""  # noqa: E501 - a path and the name of a test cannot be broken

from __future__ import annotations

import ast
import asyncio
import re
import tracemalloc
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from gateway.errors import RegionUncertain
from gateway.ports import RegionDocument, SubmissionOrder
from gateway.protocols.wire import MAX_ANSWER_BYTES, Answer, Wire
from gateway.storage import Store
from gateway.submissions.events import remember_number
from tests.support.cases import REGION, add_case, conflicts, number, state_of
from tests.support.clock import ManualClock
from tests.unit.protocol_support import kit, misbehaving, writes
from tests.unit.test_delivery import RECEIPT, House, Peer, attempted

TESTS = Path(__file__).parents[1]
OURS = "flows/test_peers_faults.py"
ROWS = 29
"""How many rows there are."""


# --- the index -----------------------------------------------------------------------------------------------------


def index() -> Mapping[str, list[str]]:
    """Return row → tests, as the list at the top of this file names them."""
    listed = (__doc__ or "").partition("\n- ")[2]
    rows: dict[str, list[str]] = {}
    for row in re.split(r"\n- ", listed):
        name, _, tests = row.partition(": ")
        named = [each.strip() for each in tests.split(",")]
        rows[name] = [each if "::" in each else f"{OURS}::{each}" for each in named]
    return rows


def names_in(path: str) -> set[str]:
    """Return the names of the tests of a file."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_row_is_kept() -> None:
    """Each row names at least one test, and each of them is there."""
    rows = index()
    assert len(rows) == ROWS
    named = {test for tests in rows.values() for test in tests}
    known = {path: names_in(path) for path in {test.partition("::")[0] for test in named}}
    assert [test for test in sorted(named) if test.partition("::")[2] not in known[test.partition("::")[0]]] == []


# --- a peer on the wire --------------------------------------------------------------------------------------------


async def exchange(base_url: str, *, seconds: float = 5.0, body: bytes = b"case") -> Answer:
    async with kit(base_url, seconds=seconds) as lent:
        wire = Wire(lent)
        return await wire.exchange("POST", wire.url("/cases"), headers={}, body=body)


async def test_a_peer_that_hangs_up_while_it_is_sent_to_leaves_the_outcome_unknown() -> None:
    """It has read a part, or all that it needed to act on; nobody can tell from here."""
    async with misbehaving(writes(b"")) as base:
        with pytest.raises(RegionUncertain):
            await exchange(base, body=bytes(8 << 20))


async def test_a_peer_that_trickles_is_not_waited_for() -> None:
    """Each byte comes in time; the answer does not."""

    async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)  # the fault itself

    async with misbehaving(trickle) as base:
        with pytest.raises(RegionUncertain, match="did not answer in time"):
            await exchange(base, seconds=0.2)


@pytest.mark.parametrize("headers", [b"X: " + b"y" * (1 << 20), b"".join(b"X-%d: y\r\n" % n for n in range(50_000))])
async def test_headers_without_end_are_not_read(headers: bytes) -> None:
    async with misbehaving(writes(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n{}")) as base:
        with pytest.raises(RegionUncertain):
            await exchange(base)


async def test_a_bomb_is_not_unpacked() -> None:
    """A few kilobytes that unpack to 256 MiB: reading ends at the limit, and what was unpacked is of its order."""
    packer, zeros = zlib.compressobj(9, wbits=31), bytes(1 << 20)
    packed = b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush()
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with misbehaving(writes(head + packed)) as base:
        tracemalloc.start()
        try:
            with pytest.raises(RegionUncertain, match="too large"):
                await exchange(base)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 16 * MAX_ANSWER_BYTES


# --- a receipt that is not what it should be -----------------------------------------------------------------------


class Mistaken(Peer):
    """A region that gives this receipt to whatever it is sent, and the right one when it is asked."""

    def __init__(self, receipt: Mapping[str, Any]) -> None:
        super().__init__(asks=[dict(RECEIPT)])
        self._receipt = receipt

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        """Take it, and answer so."""
        receipt = await super().submit(order)
        assert isinstance(receipt, dict)
        return {**receipt, **self._receipt}


OTHER = number(7, ManualClock()())
WRONG: Sequence[Mapping[str, str]] = [{"submission_id": OTHER}, {"number": "x" * 65}, {"short_number": "x" * 65}]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: next(iter(wrong)))
async def test_a_receipt_that_is_not_of_this_case_is_asked_after(
    sqlite_store: Store, clock: ManualClock, wrong: Mapping[str, str]
) -> None:
    """It proves nothing: the region is asked, holds the case, and nothing is sent a second time."""
    house = House(sqlite_store, clock, Mistaken(wrong))
    delivery_id = await house.add()
    row = await attempted(house, delivery_id)
    assert (row["state"], row["last_code"]) == ("in_doubt", "region.uncertain")
    assert await house.store.read(lambda tx: state_of(tx, row["submission_id"])) == "COLLECTED"
    clock.advance(600)
    assert (await attempted(house, delivery_id))["state"] == "delivered"
    assert [said.split()[0] for said in house.peer.heard] == ["submit", "ask"]


async def test_a_receipt_with_the_number_of_another_case_is_taken_and_waits_for_a_person(
    sqlite_store: Store, clock: ManualClock
) -> None:
    """The region may have taken the two for one. Its word stands, and somebody looks."""
    house = House(sqlite_store, clock, Peer())

    def other_has_it(tx: Connection) -> None:
        add_case(tx, OTHER, clock())
        remember_number(tx, OTHER, REGION, RECEIPT["number"], None)

    await house.store.write(other_has_it)
    row = await attempted(house, await house.add())
    assert row["state"] == "delivered"
    [kept] = await house.store.read(conflicts)
    assert (kept["submission_id"], kept["status"]) == (row["submission_id"], "open")
    assert OTHER in kept["reason"]
