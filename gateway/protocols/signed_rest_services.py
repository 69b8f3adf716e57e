"""What is said over the signed REST exchange: cases, their files, messages, events and results, certificates, items.

Owns: the addresses of each, and binding an answer to the case that it is about. Leaves to `signed_rest` tokens,
signatures and outcomes; to `signed_rest_issued` a single certificate that is named; to mapping packs what stands in a
document. Source: docs/signed-rest.md.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.errors import ForgedCallback, InvalidRequest, RegionCannotBeAsked
from gateway.ports import (
    Callback,
    CallbackReading,
    CaseMessage,
    CertificateReply,
    Material,
    RegionDocument,
    ResultDocument,
    SubmissionOrder,
)
from gateway.protocols.listed import result_document
from gateway.protocols.signed_rest import TOLERANCE, RestClient
from gateway.protocols.wire import (
    as_object,
    bare_word,
    callback_headers,
    callback_object,
    check_path,
    check_posted,
    check_time,
    quotable,
    unix_time,
)

ITEMS_A_PAGE = 50
MOST_ITEMS = 20_000
"""After so many items a catalogue that says it goes on is taken for one that cannot be read."""

MOST_EVENTS = 100
"""How many events one callback may bring."""

SEGMENTS: Mapping[str, str] = {
    "supplement": "supplements",
    "withdrawal": "withdrawals",
    "rating": "ratings",
    "complaint": "complaints",
}
"""Kind of message → where it is handed in, below its case."""

_SIGNED = ("webhook-id", "webhook-timestamp", "webhook-signature")
_SENDING = re.compile(r"[A-Za-z0-9._:-]{8,128}")
_MOST_SIGNATURES = 4


def _case(submission_id: str) -> str:
    return f"/v1/cases/{quote(submission_id, safe='')}"


async def _bring(client: RestClient, submission_id: str, materials: Sequence[Material]) -> None:
    """Upload the files of a message, one after the other, before the message itself."""
    for material in materials:
        await client.upload(f"{_case(submission_id)}/materials/{material.sha256}", material)


def _cannot_be_asked(client: RestClient) -> RegionCannotBeAsked:
    text = f"{client.wire.region} has no question for what it holds; a person must ask there"
    return RegionCannotBeAsked(text, region=client.wire.region)


# --- cases -------------------------------------------------------------------------------------------------------


class RestSubmissions:
    """Cases and their files. `case_id` is what documents call our number of a case."""

    def __init__(self, client: RestClient, case_id: str) -> None:
        self._client = client
        self._case_id = case_id

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        """Upload what is needed, then hand the case over. Raises RegionError."""
        await _bring(self._client, order.submission_id, order.materials)
        reply = await self._client.tell("/v1/cases", order.document, order.submission_id)
        return self._receipt(reply.document, order.submission_id)

    async def ask(self, submission_id: str) -> RegionDocument | None:
        """Return the receipt of a case, or None on a signed `NO_SUCH_CASE`. Raises RegionError.

        RegionCannotBeAsked where the exchange has no such question.
        """
        if not self._client.asks:
            raise _cannot_be_asked(self._client)
        reply = await self._client.ask(_case(submission_id), None, ("NO_SUCH_CASE",))
        return None if reply.code else self._receipt(reply.document, submission_id)

    def _receipt(self, document: dict[str, Any], submission_id: str) -> dict[str, Any]:
        if document.get(self._case_id) != submission_id:
            raise self._client.wire.uncertain("answered for another submission", f"{self._case_id} differs")
        return document


class RestMessages:
    """What is said of a case after it was handed over."""

    def __init__(self, client: RestClient, kinds: frozenset[str]) -> None:
        self._client = client
        self.kinds = kinds

    async def send(self, message: CaseMessage) -> None:
        """Upload what is needed, then hand the message over. Raises RegionError."""
        await _bring(self._client, message.submission_id, message.materials)
        reply = await self._client.tell(self._place(message), message.document, message.message_id)
        self._check(reply.document, message)

    async def holds(self, message: CaseMessage) -> bool:
        """Say whether the message arrived. Raises RegionError; RegionCannotBeAsked where there is no such question."""
        if not self._client.asks:
            raise _cannot_be_asked(self._client)
        path = f"{self._place(message)}/{quote(message.message_id, safe='')}"
        reply = await self._client.ask(path, None, ("NO_SUCH_MESSAGE", "NO_SUCH_CASE"))
        if not reply.code:
            self._check(reply.document, message)
        return not reply.code

    def _place(self, message: CaseMessage) -> str:
        return f"{_case(message.submission_id)}/{SEGMENTS[message.kind]}"

    def _check(self, document: Mapping[str, Any], message: CaseMessage) -> None:
        if document.get("messageNo") != message.message_id:
            raise self._client.wire.uncertain("answered for another message", "messageNo differs")


# --- status events -----------------------------------------------------------------------------------------------


class RestCallbacks:
    """Status events that the exchange pushes, signed in the manner of Standard Webhooks (`v1a`, Ed25519).

    `listed`: a callback holds a list of events under `data`; otherwise its body is one event.
    """

    def __init__(self, keys: Sequence[Ed25519PublicKey], path: str, *, listed: bool) -> None:
        self._keys = keys
        self._path = path
        self._listed = listed

    async def read(self, callback: Callback) -> CallbackReading:
        """Verify and decode. Raises NotFound, ForgedCallback, ReplayedCallback or InvalidRequest.

        The id of a sending is its nonce: the exchange gives a repeat another one, and the event keeps its own.
        """
        check_path(callback, self._path)
        sending, timestamp, signatures = callback_headers(callback, _SIGNED)
        said = unix_time(timestamp)
        if said is None or not _SENDING.fullmatch(sending):
            raise ForgedCallback("webhook-id or webhook-timestamp (Unix seconds) is not as agreed")
        if not self._signed(f"{sending}.{timestamp}.".encode() + callback.body, signatures):
            raise ForgedCallback("the callback does not verify: webhook-signature")
        expires = check_time(said, callback, TOLERANCE)
        check_posted(callback)
        return CallbackReading(self._events(callback.body), {"code": "OK"}, sending, expires)

    def _signed(self, message: bytes, signatures: str) -> bool:
        """Say whether one of our pinned keys made one of the signatures: two may be there while a key is replaced."""
        given = [part.removeprefix("v1a,") for part in signatures.split() if part.startswith("v1a,")]
        return any(_verifies(key, part, message) for part in given[:_MOST_SIGNATURES] for key in self._keys)

    def _events(self, body: bytes) -> list[RegionDocument]:
        document = callback_object(body)
        if not self._listed:
            return [document]
        events = document.get("data")
        if not isinstance(events, list) or not 0 < len(events) <= MOST_EVENTS:
            raise InvalidRequest(f"the signature is right, but `data` is no list of 1 to {MOST_EVENTS} events")
        if not all(isinstance(event, dict) for event in events):
            raise InvalidRequest("the signature is right, but an event is not an object")
        return list(events)


def _verifies(key: Ed25519PublicKey, signature: str, message: bytes) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), message)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


# --- results -----------------------------------------------------------------------------------------------------


class RestResults:
    """Documents that came out of a case (办理结果), under the region's own number of it."""

    in_pieces = False

    def __init__(self, client: RestClient) -> None:
        self._client = client

    async def list(self, number: str) -> Sequence[ResultDocument]:
        """Return what the authority has for this case. Raises RegionError."""
        document = (await self._client.ask(_results(number))).document
        rows = document.get("documents")
        if document.get("number") != number or not isinstance(rows, list):
            raise self._unreadable("number or documents")
        return [self._document(row) for row in rows]

    async def open(self, number: str, document: ResultDocument) -> AsyncGenerator[bytes, None]:
        """Begin to fetch one document. Raises RegionError."""
        return await self._client.fetch(f"{_results(number)}/{quote(document.code, safe='')}", document)

    def _document(self, row: Any) -> ResultDocument:
        known: Mapping[str, Any] = row if isinstance(row, dict) else {}
        try:
            return result_document(*(known.get(key) for key in ("code", "name", "type", "size", "sha256")))
        except ValueError as wrong:
            raise self._unreadable(str(wrong)) from None

    def _unreadable(self, detail: str) -> Exception:
        return self._client.wire.uncertain("sent a list of documents that cannot be read", detail)


def _results(number: str) -> str:
    return f"/v1/results/{quote(number, safe='')}"


# --- certificates ------------------------------------------------------------------------------------------------


class RestCertificates:
    """Batch look-up of certificates; ours are batches of one, because an answer must not wait for somebody else's."""

    def __init__(self, client: RestClient) -> None:
        self._client = client

    async def lookup(self, query: RegionDocument) -> CertificateReply:
        """Ask the issuer; the status is its own word. Raises RegionError."""
        sent = as_object(query)
        return certificate_reply(self._client, await asked_for_one(self._client, sent), sent)


class RestMatching:
    """The same question where it is answered with match or no match alone (P9): whatever says more is no answer."""

    def __init__(self, client: RestClient) -> None:
        self._client = client

    async def lookup(self, query: RegionDocument) -> CertificateReply:
        """Ask whether what is claimed fits what the issuer holds. Raises RegionError; also for an answer with a value.

        What else stands in an answer is not quoted anywhere: it would be what nobody here may know.
        """
        return CertificateReply(bare_word(self._client.wire, await asked_for_one(self._client, as_object(query)), {}))


async def asked_for_one(client: RestClient, query: dict[str, Any]) -> Any:
    """Return the result of a batch of one. Raises RegionError."""
    reply = await client.tell("/v1/certificates/query", {"queries": [query]})
    results = reply.document.get("results")
    if not isinstance(results, list) or len(results) != 1:
        raise client.wire.uncertain("sent an answer that cannot be read", "not one result for one query")
    return results[0]


def certificate_reply(client: RestClient, result: Any, sent: RegionDocument) -> CertificateReply:
    """Return what an answer says of certificates. Raises RegionUncertain for one that cannot be read."""
    if not isinstance(result, dict) or not isinstance(result.get("status"), str):
        raise client.wire.uncertain("sent an answer that cannot be read", "status")
    found = result.get("certificates", [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise client.wire.uncertain("sent an answer that cannot be read", "certificates")
    return CertificateReply(result["status"], quotable(result.get("message"), sent), found)


# --- catalogue ---------------------------------------------------------------------------------------------------


class RestCatalogue:
    """The items that the region handles, page by page. `key` is the member by which they are ordered."""

    def __init__(self, client: RestClient, key: str) -> None:
        self._client = client
        self._key = key

    async def items(self) -> Sequence[RegionDocument]:
        """Return all items. Each page goes on behind the last key, so that a change between two pages skips nothing."""
        found: list[RegionDocument] = []
        after = ""
        while len(found) <= MOST_ITEMS:
            query = {"after": after, "size": str(ITEMS_A_PAGE)}
            page = self._page((await self._client.ask("/v1/items", query)).document)
            found += page
            if len(page) < ITEMS_A_PAGE:
                return found
            after = self._last(page, after)
        raise self._unreadable(f"more than {MOST_ITEMS} items")

    def _page(self, document: Mapping[str, Any]) -> list[dict[str, Any]]:
        page = document.get("items")
        if not isinstance(page, list) or not all(isinstance(item, dict) for item in page):
            raise self._unreadable("items")
        return page

    def _last(self, page: Sequence[Mapping[str, Any]], after: str) -> str:
        last = page[-1].get(self._key)
        if not isinstance(last, str) or last <= after:
            raise self._unreadable(f"{self._key} does not go on")
        return last

    def _unreadable(self, detail: str) -> Exception:
        return self._client.wire.uncertain("sent a catalogue that cannot be read", detail)
