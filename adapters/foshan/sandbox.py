"""The simulated authority of Foshan (佛山市): SOAP 1.1 with XML signatures, as `README.md` describes it.

Owns: the one address, and the operations but for messages about a case (`sandbox_messages.py`), the documents that come
out of it (`sandbox_results.py`) and single certificates (`sandbox_issued.py`). Leaves the wire to `sandbox_wire.py`,
the rules of each element to `sandbox_rules.py`, the course of a case to `sandbox_cases.py`, certificates to
`sandbox_register.py`, and misbehaviour, the notebook and the control page to `gateway/sandbox`. Shares no code with
`adapter.py` or the rest of the gateway: two readings of one page, so that no bug can hide on both sides.
The notebook and the log hold codes and digests, never people.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree

from adapters.foshan import sandbox_rules as rules
from adapters.foshan.sandbox_cases import Cases, Clock
from adapters.foshan.sandbox_issued import IssuedDesk
from adapters.foshan.sandbox_messages import Mailroom, check_uploads
from adapters.foshan.sandbox_register import Register, certificate_reply
from adapters.foshan.sandbox_results import ResultRoom
from adapters.foshan.sandbox_rules import Record, Rule
from adapters.foshan.sandbox_wire import NAMESPACE, E, FaultError, fault, filled, local, open_envelope, seal
from gateway.sandbox import decision, issued
from gateway.sandbox.authority import MISBEHAVIOUR, NOTEBOOK, AuthoritySettings, Notebook, authority_app
from gateway.sandbox.courses import ORDERS, REFUSED, Plan, ordered
from gateway.sandbox.left_out import BOOK, LeftOut

LARGEST = 16 * 1024 * 1024
"""The longest request body in bytes."""

REFUSING_NAME = "不予受理"
"""An applicant whose name contains this is not accepted."""

_ACTION = f'"{NAMESPACE}#'
_LOG = logging.getLogger(__name__)

Work = Callable[[Record], etree._Element]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def build_authority(settings: AuthoritySettings, clock: Clock = _utc_now) -> web.Application:
    """Return the authority; `clock` gives an aware time. Raises KeyError or ValueError for wrong secrets."""
    app = authority_app(settings, modes={**ORDERS, **decision.MODES, **issued.MODES})
    cases = Cases(app[NOTEBOOK], app[MISBEHAVIOUR], settings.pace, clock)
    register = issued.Register(
        "foshan",
        settings.certificates,
        app[NOTEBOOK],
        app[MISBEHAVIOUR],
        "FSLZ:",
        seal=settings.seal,
        media_type="application/pdf",
    )
    desk = _Desk(app, cases, _items(settings), Register(register), clock)
    mailroom = Mailroom(app, cases, clock)

    async def resume(app: web.Application) -> None:
        for case_no in cases.unfinished():
            cases.go_on(app, case_no)

    operations: dict[str, tuple[Rule, Work]] = {
        "UploadMaterial": (rules.MATERIAL, desk.upload_material),
        "SubmitCase": (rules.CASE, desk.submit_case),
        **mailroom.operations(),
        **ResultRoom(cases).operations(),
        **IssuedDesk(register, clock).operations(),
        "QueryCase": (rules.CASE_QUERY, desk.query_case),
        "QueryEvents": (rules.EVENT_QUERY, desk.query_events),
        "GetCertificateDataByHolder": (rules.CERTIFICATE_QUERY, desk.certificates_of_holder),
    }
    exchange = _Exchange(app[NOTEBOOK], _own_key(settings), _pinned(settings), operations, clock)
    app.router.add_post("/ws/exchange", exchange.handle)
    app.add_routes(register.control(lambda: clock().timestamp(), None).routes())
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


def _items(settings: AuthoritySettings) -> dict[str, Mapping[str, Any]]:
    """Return the items that are handled here by their code; of one without a seeded row no materials are known."""
    seeded = {item["code"]: item for item in settings.items}
    return {code: seeded.get(code, {"material": ()}) for code in json.loads(settings.secrets["item_codes"])}


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
        if self.notebook.get("envelopes", message_id):
            raise FaultError("stale", "messageId: used before")
        self.notebook.put("envelopes", message_id, local(now))

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
class _Desk:
    """What each operation does with a message that is known to be well-formed, genuine and new."""

    app: web.Application
    cases: Cases
    items: Mapping[str, Mapping[str, Any]]
    register: Register
    clock: Clock

    @property
    def notebook(self) -> Notebook:
        return self.cases.notebook

    def upload_material(self, material: Record) -> etree._Element:
        content = rules.content_of(material["Content"])
        digest = hashlib.sha256(content).hexdigest()
        if digest != material["Digest"].lower():
            raise FaultError("digest", "Material/Digest: not the SHA-256 of the content")
        kept = {"size": len(content), "media_type": material["MediaType"]}
        self.notebook.put("materials", f"{material['CaseNo']}/{digest}", kept)
        return E.MaterialReceipt(E.Digest(digest))

    def submit_case(self, case: Record) -> etree._Element:
        """Return the receipt; the first message of a case number opens the case."""
        if case["ItemCode"] not in self.items:
            raise FaultError("unknown-item", "Case/ItemCode: Foshan has no such item")
        check_uploads(self.notebook, case)
        case_no, left_out = case["CaseNo"], self._left_out(case)
        if self.notebook.get("cases", case_no) is None:
            self.notebook.put(BOOK, case_no, left_out.written())
            self.notebook.put("cases", case_no, self._new_page(case, left_out))
            self.cases.go_on(self.app, case_no)
        self.notebook.count("arrivals", case_no)
        return self._receipt(case_no)

    def _left_out(self, case: Record) -> LeftOut:
        """Return what the case does without. Raises FaultError naming every entry that the item does not allow."""
        left_out = LeftOut(_pairs(case, "Deferred", "Promise"), _pairs(case, "Certified", "CertificateId"))
        today = self.clock().date()
        faults = left_out.faults(self.items[case["ItemCode"]], _given(case), self.register.issued.all(), today)
        problems = [f"{fault.group.title()}/Material[{fault.place + 1}]: {fault.reason}" for fault in faults]
        if problems:
            raise FaultError("schema", "; ".join(problems[: rules.MOST_PROBLEMS]))
        return left_out

    def _new_page(self, case: Record, left_out: LeftOut) -> dict[str, Any]:
        content = json.dumps(case, sort_keys=True, ensure_ascii=False).encode()
        return {
            "AcceptNo": f"FS{self.notebook.count('counters', 'case'):012d}",
            "ReceivedAt": local(self.clock()),
            "ItemCode": case["ItemCode"],
            "digest": hashlib.sha256(content).hexdigest(),
            "state": "",
            "plan": Plan(self._course(case)).written(),
            "asked_for": left_out.asked_for(_given(case)),
            "to_follow": left_out.to_follow(_given(case)),
        }

    def _course(self, case: Record) -> tuple[str, ...]:
        return REFUSED if REFUSING_NAME in case["Applicant"]["Name"] else ordered(self.cases.wrong)

    def _receipt(self, case_no: str) -> etree._Element:
        case = self.notebook.get("cases", case_no)
        if case is None:
            return E.NoSuchCase(E.CaseNo(case_no))
        return E.CaseReceipt(E.CaseNo(case_no), E.AcceptNo(case["AcceptNo"]), E.ReceivedAt(case["ReceivedAt"]))

    def query_case(self, query: Record) -> etree._Element:
        return self._receipt(query["CaseNo"])

    def query_events(self, query: Record) -> etree._Element:
        after = int(query["After"])
        found = self.cases.after(after, int(query["Limit"]))
        events = [filled(E.Event(), {"@seq": number, **event}) for number, event in found]
        return E.EventList(*events, E.Next(str(found[-1][0] if found else after)))

    def certificates_of_holder(self, query: Record) -> etree._Element:
        return certificate_reply(*self.register.look_up(query))


def _given(case: Record) -> list[str]:
    return [material["@code"] for material in case["Materials"]["Material"]]


def _pairs(case: Record, group: str, said: str) -> list[tuple[str, str]]:
    listed = case.get(group, {"Material": []})["Material"]
    return [(material["@code"], material[said]) for material in listed]
