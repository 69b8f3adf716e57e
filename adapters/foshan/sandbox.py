"""The simulated authority of Foshan (佛山市): SOAP 1.1 with XML signatures, as `README.md` describes it.

Owns: the operations, the cases that proceed by themselves, the events that are polled. Leaves the wire to
`sandbox_wire.py`, the rules of each element to `sandbox_rules.py`, and misbehaviour, the notebook and the control
page to `gateway/sandbox/authority.py`. Shares no code with `adapter.py` or the rest of the gateway: two readings of
one page, so that no bug can hide on both sides. The notebook and the log hold codes and digests, never people.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree
from lxml.builder import ElementMaker

from adapters.foshan import sandbox_rules as rules
from adapters.foshan.sandbox_rules import Record, Rule
from adapters.foshan.sandbox_wire import NAMESPACE, FaultError, fault, open_envelope, seal
from gateway.sandbox.authority import (
    MISBEHAVIOUR,
    NOTEBOOK,
    AuthoritySettings,
    Misbehaviour,
    Notebook,
    authority_app,
    in_background,
)

LARGEST = 16 * 1024 * 1024
"""The longest request body in bytes."""

STEPS = ("10", "20", "50", "60")
STEPS_OF_A_REFUSED_CASE = ("10", "21")
REFUSING_NAME = "不予受理"
"""An applicant whose name contains this is not accepted."""

_ACTION = f'"{NAMESPACE}#'
_CHINA = timezone(timedelta(hours=8))
_E = ElementMaker(namespace=NAMESPACE, nsmap={"e": NAMESPACE})
_LOG = logging.getLogger(__name__)

Clock = Callable[[], datetime]
Work = Callable[[Record], etree._Element]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def build_authority(settings: AuthoritySettings, clock: Clock = _utc_now) -> web.Application:
    """Return the authority; `clock` gives an aware time. Raises KeyError or ValueError for wrong secrets."""
    app = authority_app(settings)
    cases = _Cases(app[NOTEBOOK], app[MISBEHAVIOUR], settings.pace, clock)
    desk = _Desk(app[NOTEBOOK], cases, _item_codes(settings), _Register(settings.certificates), clock)

    def take(case: Record) -> etree._Element:
        receipt, is_new = desk.submit_case(case)
        if is_new:
            in_background(app, cases.proceed(case["CaseNo"]))
        return receipt

    async def resume(app: web.Application) -> None:
        for case_no in cases.unfinished():
            in_background(app, cases.proceed(case_no))

    operations: dict[str, tuple[Rule, Work]] = {
        "UploadMaterial": (rules.MATERIAL, desk.upload_material),
        "SubmitCase": (rules.CASE, take),
        "QueryCase": (rules.CASE_QUERY, desk.query_case),
        "QueryEvents": (rules.EVENT_QUERY, desk.query_events),
        "GetCertificateDataByHolder": (rules.CERTIFICATE_QUERY, desk.certificates_of_holder),
    }
    exchange = _Exchange(app[NOTEBOOK], _own_key(settings), _pinned(settings), operations, clock)
    app.router.add_post("/ws/exchange", exchange.handle)
    app.on_startup.append(resume)
    return app


def _own_key(settings: AuthoritySettings) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(settings.secrets["peer_key"], password=None)
    certificate = x509.load_pem_x509_certificate(settings.secrets["peer_cert"])
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("peer_key must be an elliptic-curve key, and peer_cert its certificate")
    return key


def _pinned(settings: AuthoritySettings) -> x509.Certificate:
    return x509.load_pem_x509_certificate(settings.secrets["signing_cert"])


def _item_codes(settings: AuthoritySettings) -> frozenset[str]:
    return frozenset(json.loads(settings.secrets["item_codes"]))


@dataclass(frozen=True, slots=True)
class _Exchange:
    """The one address: an envelope in, an envelope out, every refusal a fault."""

    notebook: Notebook
    key: ec.EllipticCurvePrivateKey
    peer: x509.Certificate
    operations: Mapping[str, tuple[Rule, Work]]
    clock: Clock

    async def handle(self, request: web.Request) -> web.Response:
        try:
            body = await _read_body(request)
            return _xml(self._answer(request.headers.get("SOAPAction", ""), body), 200)
        except FaultError as refusal:
            _LOG.info("refused: %s", refusal.code)
            return _xml(fault(refusal), 500)

    def _answer(self, action: str, body: bytes) -> bytes:
        """Check, work and sign without a pause between, so that no other request comes in between."""
        try:
            now = self.clock()
            message = open_envelope(body, self.peer, now)
            self._use_once(message.id, now)
            rule, work = self._operation(action, message.element)
            return seal(work(rules.read(message.element, rule, now.date())), self.key, message.id, now)
        except FaultError:
            raise
        except Exception as error:
            # The edge: whatever else goes wrong is this side's own. Only its kind is logged: a text may name people.
            _LOG.error("internal fault: %s", type(error).__name__)
            raise FaultError("internal", "this side could not do its work", definite=False) from error

    def _use_once(self, message_id: str, now: datetime) -> None:
        if self.notebook.get("messages", message_id):
            raise FaultError("stale", "messageId: used before")
        self.notebook.put("messages", message_id, _local(now))

    def _operation(self, action: str, element: etree._Element) -> tuple[Rule, Work]:
        name = action.removeprefix(_ACTION).removesuffix('"')
        if action != f'{_ACTION}{name}"' or name not in self.operations:
            raise FaultError("unknown-operation", "SOAPAction names no operation of this exchange")
        rule, work = self.operations[name]
        if element.tag != f"{{{NAMESPACE}}}{rule.name}":
            raise FaultError("schema", f"Body: {name} takes a {rule.name}")
        return rule, work


async def _read_body(request: web.Request) -> bytes:
    if request.content_type != "text/xml" or (request.charset or "utf-8").lower() != "utf-8":
        raise FaultError("schema", "Content-Type: text/xml in UTF-8 is wanted")
    body = bytearray()
    try:
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > LARGEST:
                raise FaultError("schema", f"the body is longer than {LARGEST} bytes")
    except web.RequestPayloadError:
        raise FaultError("schema", "the body breaks off or is not encoded as announced") from None
    return bytes(body)


def _xml(body: bytes, status: int) -> web.Response:
    return web.Response(body=body, status=status, content_type="text/xml", charset="utf-8")


@dataclass(frozen=True, slots=True)
class _Cases:
    """The cases after their receipt: each goes its way by itself and leaves events behind."""

    notebook: Notebook
    wrong: Misbehaviour
    pace: float
    clock: Clock

    def unfinished(self) -> list[str]:
        """Return the numbers of the cases that have a next step."""
        return [case_no for case_no, case in self.notebook.entries("cases").items() if _next_step(case)]

    async def proceed(self, case_no: str) -> None:
        """Take the remaining steps of a case, with a pause before each but the first."""
        while step := _next_step(self._page(case_no)):
            if step != STEPS[0]:
                await asyncio.sleep(self.pace)
            self._take(case_no, step)

    def _take(self, case_no: str, step: str) -> None:
        # The event first: a stop between the two repeats it under the same EventId instead of losing it.
        case = self._page(case_no)
        event = _event(case_no, case["AcceptNo"], step, _local(self.clock()))
        self._note(event)
        if self.wrong.due("duplicate_callback"):
            self._note(event)
        self.notebook.put("cases", case_no, {**case, "state": step})

    def _page(self, case_no: str) -> dict[str, Any]:
        page: dict[str, Any] = self.notebook.get("cases", case_no) or {}
        return page

    def _note(self, event: Mapping[str, Any]) -> None:
        self.notebook.put("events", str(self.notebook.count("counters", "event")), event)

    def after(self, cursor: int, limit: int) -> list[tuple[int, Mapping[str, Any]]]:
        """Return the events that follow the cursor, in order, with their numbers."""
        found: list[tuple[int, Mapping[str, Any]]] = []
        last = int(self.notebook.get("counters", "event") or 0)
        for number in range(cursor + 1, last + 1):
            event = self.notebook.get("events", str(number))
            if event is not None:  # a stop between counting and writing leaves a number without an event
                found.append((number, event))
            if len(found) == limit:
                break
        return found


def _next_step(case: Mapping[str, Any]) -> str | None:
    steps = STEPS_OF_A_REFUSED_CASE if case["refuse"] else STEPS
    taken = steps.index(case["state"]) + 1 if case["state"] else 0
    return steps[taken] if taken < len(steps) else None


def _event(case_no: str, accept_no: str, step: str, moment: str) -> dict[str, Any]:
    event: dict[str, Any] = {
        "EventId": f"{accept_no}-{step}",
        "CaseNo": case_no,
        "AcceptNo": accept_no,
        "Status": step,
        "OccurredAt": moment,
    }
    if step == "10":
        return event
    event["Operator"] = "FS0001"
    if step == "21":
        event["Reason"] = "不予受理：申请事项不符合受理条件"
    if step == "60":
        event["Result"] = {"Code": "6", "Text": "办结"}
    return event


@dataclass(frozen=True, slots=True)
class _Desk:
    """What each operation does with a message that is known to be well-formed, genuine and new."""

    notebook: Notebook
    cases: _Cases
    items: frozenset[str]
    register: _Register
    clock: Clock

    def upload_material(self, material: Record) -> etree._Element:
        content = rules.content_of(material["Content"])
        digest = hashlib.sha256(content).hexdigest()
        if digest != material["Digest"].lower():
            raise FaultError("digest", "Material/Digest: not the SHA-256 of the content")
        kept = {"size": len(content), "media_type": material["MediaType"]}
        self.notebook.put("materials", f"{material['CaseNo']}/{digest}", kept)
        return _E.MaterialReceipt(_E.Digest(digest))

    def submit_case(self, case: Record) -> tuple[etree._Element, bool]:
        """Return the receipt, and whether this is the first message of this case number."""
        if case["ItemCode"] not in self.items:
            raise FaultError("unknown-item", "Case/ItemCode: Foshan has no such item")
        self._check_materials(case)
        case_no = case["CaseNo"]
        is_new = self.notebook.get("cases", case_no) is None
        if is_new:
            self.notebook.put("cases", case_no, self._new_page(case))
        self.notebook.count("arrivals", case_no)
        return self._receipt(case_no), is_new

    def _check_materials(self, case: Record) -> None:
        problems = []
        for place, material in enumerate(case["Materials"]["Material"], start=1):
            kept = self.notebook.get("materials", f"{case['CaseNo']}/{material['Digest']['text'].lower()}")
            if kept is None:
                problems.append(f"Material[{place}]: not uploaded for this case")
            elif kept != {"size": int(material["Size"]), "media_type": material["MediaType"]}:
                problems.append(f"Material[{place}]: Size or MediaType is not that of the upload")
        if problems:
            raise FaultError("digest", "; ".join(problems[: rules.MOST_PROBLEMS]))

    def _new_page(self, case: Record) -> dict[str, Any]:
        content = json.dumps(case, sort_keys=True, ensure_ascii=False).encode()
        return {
            "AcceptNo": f"FS{self.notebook.count('counters', 'case'):012d}",
            "ReceivedAt": _local(self.clock()),
            "ItemCode": case["ItemCode"],
            "digest": hashlib.sha256(content).hexdigest(),
            "state": "",
            "refuse": REFUSING_NAME in case["Applicant"]["Name"],
        }

    def _receipt(self, case_no: str) -> etree._Element:
        case = self.notebook.get("cases", case_no)
        if case is None:
            return _E.NoSuchCase(_E.CaseNo(case_no))
        return _E.CaseReceipt(_E.CaseNo(case_no), _E.AcceptNo(case["AcceptNo"]), _E.ReceivedAt(case["ReceivedAt"]))

    def query_case(self, query: Record) -> etree._Element:
        return self._receipt(query["CaseNo"])

    def query_events(self, query: Record) -> etree._Element:
        after = int(query["After"])
        found = self.cases.after(after, int(query["Limit"]))
        events = [_filled(_E.Event(), {"@seq": number, **event}) for number, event in found]
        return _E.EventList(*events, _E.Next(str(found[-1][0] if found else after)))

    def certificates_of_holder(self, query: Record) -> etree._Element:
        status, message, rows = self.register.look_up(query)
        found = [_certificate(row) for row in rows]
        return _E.CertificateReply(_E.Status(status), _E.Message(message), *found)


def _filled(parent: etree._Element, values: Mapping[str, Any]) -> etree._Element:
    """Write values as `sandbox_rules.Record` describes them, in their order."""
    for name, value in values.items():
        if name.startswith("@"):
            parent.set(name[1:], str(value))
        elif name == "text":
            parent.text = str(value)
        else:
            child = etree.SubElement(parent, f"{{{NAMESPACE}}}{name}")
            _filled(child, value if isinstance(value, Mapping) else {"text": value})
    return parent


_HOLDER_CODES = {
    "CN_RIC": "111",
    "USCC": "001",
    "PASSPORT": "414",
    "HM_PERMIT": "516",
    "TW_PERMIT": "511",
    "FPR": "553",
}
_STATES = frozenset({"VALID", "SUSPENDED", "REVOKED", "CANCELLED", "EXPIRED", "MOVED"})
_MANDATORY = tuple(
    child.name for child in rules.CERTIFICATE_QUERY.children if child.name not in ("TypeCode", "TypeName")
)


class _Register:
    """The certificates that Foshan issued (seed rows of other regions are not its own)."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = [row for row in rows if row["region"] == "foshan"]

    def look_up(self, query: Record) -> tuple[str, str, list[Mapping[str, Any]]]:
        """Return status, message and the certificates of this type whose holder fits by name, type and number."""
        empty = [name for name in _MANDATORY if not query[name].strip()]
        if not (query["TypeCode"].strip() or query["TypeName"].strip()):
            empty.append("TypeCode or TypeName")
        if empty:
            return "12", f"必填参数为空: {', '.join(empty)}", []
        of_type = [row for row in self._rows if _is_of_type(row, query)]
        if not of_type:
            return "13", "证照类型不存在", []
        found = [row for row in of_type if _is_held_by(row, query)]
        return ("0", "成功", found) if found else ("10", "没有符合条件的证照", [])


def _is_of_type(row: Mapping[str, Any], query: Record) -> bool:
    return query["TypeCode"] in ("", row["type_code"]) and query["TypeName"] in ("", row["type_name"])


def _is_held_by(row: Mapping[str, Any], query: Record) -> bool:
    return (
        _plain_name(row["holder_name"]) == _plain_name(query["HolderName"])
        and _holder_code(row) == query["HolderIdType"]
        and _plain_number(row["holder_id_number"]) == _plain_number(query["HolderIdNumber"])
    )


def _holder_code(row: Mapping[str, Any]) -> str:
    return _HOLDER_CODES.get(row["holder_id_type"], "999")


def _plain_number(number: str) -> str:
    """Return a number for comparing only: upper case, and a permit (来往内地通行证) without its count of re-issues."""
    upper = number.strip().upper()
    return upper[:9] if upper[:1] in ("H", "M") and len(upper) == 11 else upper


def _plain_name(name: str) -> str:
    """Return a name for comparing only: NFKC, no spaces, one kind of middle dot."""
    return "".join(unicodedata.normalize("NFKC", name).split()).translate(_DOTS).casefold()


_DOTS = str.maketrans(dict.fromkeys("•‧・．.", "·"))


def _certificate(row: Mapping[str, Any]) -> etree._Element:
    state = str(row["state"]).upper()
    return _filled(
        _E.Certificate(),
        {
            "Identifier": row["identifier"],
            "Name": row["type_name"],
            "Number": row["number"],
            "TypeCode": row["type_code"],
            "Issuer": {"@code": row["issuer_code"], "text": row["issuer_name"]},
            "IssueDate": row["issued_on"],
            "ValidFrom": row["valid_from"],
            **({"ValidTo": row["valid_to"]} if row.get("valid_to") else {}),
            "HolderName": row["holder_name"],
            "HolderIdType": _holder_code(row),
            "HolderIdNumber": row["holder_id_number"],
            "State": state if state in _STATES else "OTHER",
            **({"ReplacedBy": row["replaced_by"]} if row.get("replaced_by") else {}),
        },
    )


def _local(moment: datetime) -> str:
    return moment.astimezone(_CHINA).isoformat(timespec="seconds")
