"""The case exchange of the provinces: cases, their steps, messages, results and the catalogue.

Owns: the operations and what their answers must say. Leaves to `gateway.protocols.province_certificates`: those of
certificates; to `province_wire`: envelope, signatures and status words; to mapping packs: what stands in the documents.
Source: docs/province-exchange.md, which lists what a real connection must confirm. What differs between provinces is
`[settings.cases]` of region.toml, read here once.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.crypto.sm_keys import read_pins, read_private
from gateway.errors import RegionCannotBeAsked
from gateway.ports import (
    MESSAGE_KINDS,
    CaseMessage,
    FeedPage,
    Kit,
    RegionDocument,
    ResultDocument,
    SubmissionOrder,
)
from gateway.protocols.listed import result_document, whole
from gateway.protocols.province_certificates import (
    OPERATIONS,
    ProvinceCertificates,
    ProvinceIssued,
    ProvinceNotices,
)
from gateway.protocols.province_suites import (
    SUITES,
    Es256Suite,
    Sm2Suite,
    Suite,
    read_certificates,
    read_p256_key,
)
from gateway.protocols.province_wire import NONE, Caller, ProvinceWire
from gateway.protocols.wire import (
    Wire,
    as_object,
    nothing_taken_yet,
    refuse_start,
    secret_bytes,
    text_secret,
)

STEPS_A_PAGE, ITEMS_A_PAGE = 100, 50
MOST_ITEM_PAGES = 400
"""A catalogue of more than 20 000 items is none: the province does not find its end."""

CASES, ITEMS = "applyExchange", "taskShare"
"""`servicecode`."""

_RESULT = ("fileCode", "fileName", "fileType", "fileSize", "fileDigest")
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)
_SETTINGS = frozenset(
    {"service", "materials", "suite", "our_key_id", "our_id", "their_id", "dept_code", "asks", "messages", "results",
     "issued", "notices"}
)  # fmt: skip
_TEXTS = ("service", "materials", "our_key_id", "dept_code")
_SM2_TEXTS = ("our_id", "their_id")
_CHOICES = ("asks", "results", "notices")


# --- cases -------------------------------------------------------------------------------------------------------


class ProvinceSubmissions:
    """Cases and the question whether they are there."""

    def __init__(self, wire: ProvinceWire, *, asks: bool) -> None:
        self._wire = wire
        self._asks = asks

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        """Stream what is needed, then hand the case over. Raises RegionError."""
        with nothing_taken_yet(self._wire.wire.region):
            for material in order.materials:
                await self._wire.upload(order.submission_id, material)
        document = as_object(order.document)
        reply = await self._wire.ask(CASES, "sendApply", document)
        return self._own(self._wire.told(reply, document), order.submission_id)

    async def ask(self, submission_id: str) -> RegionDocument | None:
        """Return the receipt of a case, or None when the province itself says that it has none. Raises RegionError."""
        if not self._asks:
            raise cannot_be_asked(self._wire.wire.region)
        reply = await self._wire.ask(CASES, "queryApply", {"applyNo": submission_id})
        return None if reply.status == NONE else self._own(self._wire.told(reply), submission_id)

    def _own(self, data: Mapping[str, Any], submission_id: str) -> RegionDocument:
        if data.get("applyNo") != submission_id:
            raise self._wire.wire.uncertain("answered for another submission", "applyNo differs")
        return dict(data)


class ProvinceFeed:
    """The steps of all our cases, as one sequence."""

    def __init__(self, wire: ProvinceWire) -> None:
        self._wire = wire

    async def poll(self, cursor: str) -> FeedPage:
        """Return the steps after a cursor ("" is the beginning), oldest first. Raises RegionError."""
        found, following = await _page(self._wire, CASES, "getStepList", cursor or "0", STEPS_A_PAGE)
        return FeedPage(found, following)


class ProvinceMessages:
    """Supplements (补正), withdrawals (撤回), ratings (好差评) and complaints (投诉)."""

    def __init__(self, wire: ProvinceWire, kinds: Sequence[str], *, asks: bool) -> None:
        self.kinds = frozenset(kinds)
        self._wire = wire
        self._asks = asks

    async def send(self, message: CaseMessage) -> None:
        """Stream what goes with it, then hand the message over. Raises RegionError."""
        with nothing_taken_yet(self._wire.wire.region):
            for material in message.materials:
                await self._wire.upload(message.submission_id, material)
        document = as_object(message.document)
        reply = await self._wire.ask(CASES, f"send{message.kind.capitalize()}", document)
        self._own(self._wire.told(reply, document), message.message_id)

    async def holds(self, message: CaseMessage) -> bool:
        """Say whether the province has this message. Raises RegionError."""
        if not self._asks:
            raise cannot_be_asked(self._wire.wire.region)
        question = {"messageNo": message.message_id, "applyNo": message.submission_id}
        reply = await self._wire.ask(CASES, "queryMessage", question)
        if reply.status == NONE:
            return False
        self._own(self._wire.told(reply), message.message_id)
        return True

    def _own(self, data: Mapping[str, Any], message_id: str) -> None:
        if data.get("messageNo") != message_id:
            raise self._wire.wire.uncertain("answered for another message", "messageNo differs")


def cannot_be_asked(region: str) -> RegionCannotBeAsked:
    """Return the error for a province without a question for what it holds."""
    text = f"{region} has no way to be asked whether it holds something; a person must find out"
    return RegionCannotBeAsked(text, region=region)


class ProvinceResults:
    """The documents that came out of a case (办理结果), under the province's own number of it."""

    in_pieces = False

    def __init__(self, wire: ProvinceWire) -> None:
        self._wire = wire

    async def list(self, number: str) -> Sequence[ResultDocument]:
        """Return what the province has for this case. Raises RegionError."""
        reply = await self._wire.ask(CASES, "getResultList", {"projectNo": number})
        data = self._wire.found(reply, "no such case")
        if data.get("projectNo") != number:
            raise self._wire.wire.uncertain("answered for another case", "projectNo differs")
        return [self._document(as_object(row)) for row in self._wire.listed(data)]

    async def open(self, number: str, document: ResultDocument) -> AsyncGenerator[bytes, None]:
        """Begin to fetch one document. Raises RegionError."""
        return await self._wire.download(number, document)

    def _document(self, row: Mapping[str, Any]) -> ResultDocument:
        try:
            code, name, media_type, size, digest = (row.get(name) for name in _RESULT)
            return result_document(code, name, media_type, whole(size), digest)
        except ValueError as wrong:
            raise self._wire.wire.uncertain("sent an answer that cannot be read", str(wrong)) from None


# --- catalogue ----------------------------------------------------------------------------------


class ProvinceCatalogue:
    """The items that the province handles."""

    def __init__(self, wire: ProvinceWire) -> None:
        self._wire = wire

    async def items(self) -> Sequence[RegionDocument]:
        """Return the whole catalogue, page by page. Raises RegionError: half a catalogue is none."""
        items: list[RegionDocument] = []
        cursor = "0"
        for _ in range(MOST_ITEM_PAGES):
            found, following = await _page(self._wire, ITEMS, "getTaskList", cursor, ITEMS_A_PAGE)
            if not found:
                return items
            items += found
            cursor = following
        raise self._wire.wire.uncertain("sent a catalogue without an end", f"more than {len(items)} items")


async def _page(
    wire: ProvinceWire, service: str, interface: str, cursor: str, limit: int
) -> tuple[list[RegionDocument], str]:
    """Return one page of a sequence and the cursor behind it, which must go on when anything was found."""
    data = wire.told(await wire.ask(service, interface, {"cursor": cursor, "limit": str(limit)}))
    found, following = wire.listed(data), data.get("cursor")
    if not isinstance(following, str) or not _DIGITS.fullmatch(following):
        raise wire.wire.uncertain("sent an answer that cannot be read", "cursor")
    if int(following) < int(cursor) + bool(found):
        raise wire.wire.uncertain("sent an answer that cannot be read", "the cursor does not fit the list")
    return found, following


# --- opening -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProvinceExchange:
    """Everything that a province offers over this wire."""

    submissions: ProvinceSubmissions
    feed: ProvinceFeed
    messages: ProvinceMessages
    results: ProvinceResults | None
    certificates: ProvinceCertificates
    catalogue: ProvinceCatalogue
    issued: ProvinceIssued | None
    notices: ProvinceNotices | None


def open_exchange(kit: Kit, wire: Wire) -> ProvinceExchange:
    """Read `[settings.cases]` and the secrets `grant_code`, `case_key` and `case_peer_keys`. Raises StartRefused.

    `wire` is the one over which people sign on: both have one base address. Makes no network call.
    """
    given = _settings(kit)
    caller = Caller(
        grant_code=text_secret(kit, "grant_code"),
        key_id=given["our_key_id"],
        department=given["dept_code"],
        service=given["service"],
        materials=given["materials"],
    )
    province = ProvinceWire(wire, caller, _suite(kit, given), kit.clock, kit.random_token)
    return ProvinceExchange(
        ProvinceSubmissions(province, asks=given["asks"]),
        ProvinceFeed(province),
        ProvinceMessages(province, given["messages"], asks=given["asks"]),
        ProvinceResults(province) if given["results"] else None,
        ProvinceCertificates(province),
        ProvinceCatalogue(province),
        ProvinceIssued(province, given["issued"]) if given["issued"] else None,
        ProvinceNotices(province, kit.region) if given["notices"] else None,
    )


class _Read(Protocol):
    def __call__(self, material: bytes, /) -> Any: ...


def _suite(kit: Kit, given: Mapping[str, Any]) -> Suite:
    if given["suite"] == "ES256":
        return Es256Suite(_secret(kit, "case_key", read_p256_key), _secret(kit, "case_peer_keys", read_certificates))
    ids = [given[name].encode() for name in _SM2_TEXTS]
    return Sm2Suite(_secret(kit, "case_key", read_private), _secret(kit, "case_peer_keys", read_pins), *ids)


def _secret(kit: Kit, name: str, read: _Read) -> Any:
    try:
        return read(secret_bytes(kit, name))
    except ValueError as wrong:
        raise refuse_start(kit, f"secrets.{name}", f"cannot be used: {wrong}") from None


def _settings(kit: Kit) -> Mapping[str, Any]:
    given = kit.settings.get("cases")
    if not isinstance(given, Mapping) or given.keys() - _SETTINGS:
        raise refuse_start(kit, "settings.cases", f"must be a table of {', '.join(sorted(_SETTINGS))}")
    suite = given.get("suite")
    if suite not in SUITES:
        raise refuse_start(kit, "settings.cases.suite", f"must be one of {', '.join(SUITES)}")
    for name in _TEXTS if suite == "ES256" else (*_TEXTS, *_SM2_TEXTS):
        if not isinstance(given.get(name), str) or not given[name]:
            raise refuse_start(kit, f"settings.cases.{name}", "must be given, as text")
    for name in _CHOICES:
        if not isinstance(given.get(name), bool):
            raise refuse_start(kit, f"settings.cases.{name}", "must be true or false")
    kinds = given.get("messages")
    if not isinstance(kinds, list) or not set(kinds) <= set(MESSAGE_KINDS):
        raise refuse_start(kit, "settings.cases.messages", f"must be a list out of {', '.join(MESSAGE_KINDS)}")
    told = given.get("issued")
    if not isinstance(told, list) or not set(told) <= OPERATIONS:
        raise refuse_start(kit, "settings.cases.issued", f"must be a list out of {', '.join(sorted(OPERATIONS))}")
    return given
