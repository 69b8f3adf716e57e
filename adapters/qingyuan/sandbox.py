"""The simulated exchange machine of Qingyuan (清远市): told a number, it pulls, as `README.md` describes it.

Owns: the operations and their answers. Leaves the wire to `sandbox_wire.py`, the rules of each document to
`sandbox_rules.py`, pulling to `sandbox_pulls.py`, the cases and their reports to `sandbox_life.py`, certificates and
items to `sandbox_answers.py`, and misbehaviour, the notebook and the control page to `gateway/sandbox/authority.py`.
Shares no code with `adapter.py` or the rest of the gateway: two readings of one page, so that no bug can hide on both
sides. The notebook and the log hold codes and digests, never people.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
from aiohttp import web
from lxml import etree

from adapters.qingyuan import sandbox_rules as rules
from adapters.qingyuan.sandbox_answers import Register, item_files
from adapters.qingyuan.sandbox_life import Cases
from adapters.qingyuan.sandbox_pulls import Puller
from adapters.qingyuan.sandbox_rules import Record, Rule, SchemaError
from adapters.qingyuan.sandbox_wire import (
    Keys,
    Message,
    RefusalError,
    answer,
    element,
    keys_of,
    nonce_of,
    open_request,
    refuse,
    seal_file,
)
from gateway.sandbox import decision
from gateway.sandbox.authority import (
    MISBEHAVIOUR,
    NOTEBOOK,
    AuthoritySettings,
    Misbehaviour,
    Notebook,
    authority_app,
    in_background,
)
from gateway.sandbox.courses import ORDERS
from gateway.sandbox.issued import MODES as OF_CERTIFICATES
from gateway.sandbox.issued import Register as Issued

LARGEST = 4 * 1024 * 1024
"""The longest request body in bytes."""
MODES: Mapping[str, str] = {
    "late_pull": "waits before it pulls a case (5 s, or `seconds`)",
    "double_pull": "pulls a case and its materials twice",
    "no_pull": "pulls nothing",
    "forged_pull": "seals a pull wrongly, and then tries again",
    "replayed_pull": "sends the request of an earlier pull again, and then a new one",
    "late_answer": "says of a certificate question that it is not ready yet",
    "broken_seal": "seals a document of a decision wrongly",
    **decision.MODES,
}
"""Ways to misbehave that only a machine which pulls has."""
_LOG = logging.getLogger(__name__)

Clock = Callable[[], datetime]
Told = tuple[str, etree._Element | bytes]
"""Code and document of an answer, or the bytes of a file."""
Work = Callable[[Record, etree._Element], Told]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def build_authority(settings: AuthoritySettings, clock: Clock = _utc_now) -> web.Application:
    """Return the authority; `clock` gives an aware time. Raises KeyError or ValueError for wrong secrets."""
    app = authority_app(settings, {**ORDERS, **MODES, **OF_CERTIFICATES})
    keys, wrong, notebook = keys_of(settings.secrets), app[MISBEHAVIOUR], app[NOTEBOOK]
    puller = Puller(
        settings.gateway_url, keys, clock, lambda: wrong.due("forged_pull"), lambda: wrong.due("replayed_pull")
    )
    seeded = {item["code"]: item for item in settings.items}
    items = {code: seeded.get(code, {"material": ()}) for code in json.loads(settings.secrets["item_codes"])}
    register = [row for row in settings.certificates if row["region"] == settings.region]
    cases = Cases(
        notebook, wrong, settings.pace, clock, puller, lambda work: in_background(app, work), items, register
    )  # fmt: skip
    issued = Issued("qingyuan", settings.certificates, notebook, wrong, seal=settings.seal)
    desk = _Desk(
        notebook, cases, items.keys(), Register(notebook, issued, clock), issued, item_files(settings.items), wrong.due
    )  # fmt: skip
    machine = _Machine(notebook, keys, desk.operations(), clock, wrong)

    async def client(_app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            puller.session = session
            cases.resume()
            yield

    app.cleanup_ctx.append(client)
    app.router.add_post("/exchange/{operation}", machine.handle)
    app.add_routes(issued.control(lambda: clock().timestamp(), None).routes())
    return app


@dataclass(frozen=True, slots=True)
class _Machine:
    """The one door: a sealed request in, a sealed answer out, whatever it says."""

    notebook: Notebook
    keys: Keys
    operations: Mapping[str, tuple[Rule, Work]]
    clock: Clock
    wrong: Misbehaviour

    async def handle(self, request: web.Request) -> web.Response:
        operation, body = request.match_info["operation"], b""
        try:
            body = await _read(request)
            return self._answer(operation, body)
        except RefusalError as refusal:
            _LOG.info("refused: %s %s", refusal.code, refusal.word)
            told = refuse(self.keys, operation, nonce_of(body), refusal)
        return _as_xml(told)

    def _answer(self, operation: str, body: bytes) -> web.Response:
        """Check, work and seal without a pause between, so that no other request comes in between."""
        try:
            rule, work = self._operation(operation)
            message = open_request(self.keys, operation, body, self.clock())
            self._use_once(message)
            code, done = work(rules.read(message.document, rule), message.document)
            if isinstance(done, bytes):
                file = seal_file(self.keys, operation, message.nonce, done)
                body = file[:-1] + bytes([file[-1] ^ self.wrong.due("broken_seal")])
                return web.Response(body=body, content_type="application/octet-stream")
            return _as_xml(answer(self.keys, operation, message.nonce, code, done))
        except RefusalError:
            raise
        except SchemaError as wrong:
            raise RefusalError("400", "schema", str(wrong)) from None
        except Exception as error:
            # The edge: whatever else goes wrong is this side's own. Only its kind is logged: a text may name people.
            _LOG.error("internal fault: %s", type(error).__name__)
            raise RefusalError("500", "internal", "this side could not do its work") from error

    def _operation(self, name: str) -> tuple[Rule, Work]:
        if name not in self.operations:
            raise RefusalError("400", "unknown-operation", "there is no such operation")
        return self.operations[name]

    def _use_once(self, message: Message) -> None:
        if self.notebook.get("nonces", message.nonce):
            raise RefusalError("409", "replayed", "nonce: used before")
        self.notebook.put("nonces", message.nonce, 1)


def _as_xml(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="text/xml", charset="GB18030")


async def _read(request: web.Request) -> bytes:
    if request.content_type != "application/x-www-form-urlencoded":
        raise RefusalError("400", "schema", "Content-Type: a form is wanted")
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > LARGEST:
            raise RefusalError("400", "schema", f"the body is longer than {LARGEST} bytes")
    return bytes(body)


@dataclass(frozen=True, slots=True)
class _Desk:
    """What each operation does with a message that is known to be well-formed, genuine and new."""

    notebook: Notebook
    cases: Cases
    items: Set[str]
    register: Register
    issued: Issued
    files: list[str]
    wrong: Callable[[str], bool]
    """Whether to misbehave in this way now."""

    def operations(self) -> dict[str, tuple[Rule, Work]]:
        """Return the operations, each with the rule of its document."""
        return {
            "sendApplyNO": (rules.NOTICE, self.take_notice),
            "queryApplyNO": (rules.CASE_QUERY, self.query_case),
            "sendWithdrawal": (rules.WITHDRAWAL, self._taking("withdrawal")),
            "sendEvaluation": (rules.RATING, self._taking("rating")),
            "queryMessage": (rules.MESSAGE_QUERY, self.query_message),
            "getNotice": (rules.REPORT_QUERY, self.reports),
            "postLicenseQuery": (rules.CERTIFICATE_QUERY, self.ask_for_certificate),
            "postLicenseRequest": (rules.CERTIFICATE_REQUEST, self.ask_by_name),
            "postLicenseFile": (rules.CERTIFICATE_REQUEST, self.ask_for_file),
            "getLicenseData": (rules.RESULT_QUERY, self.certificate_answer),
            "getLicenseFile": (rules.RESULT_QUERY, self.certificate_file),
            "sendLicenseObjection": (rules.OBJECTION, self.take_objection),
            "queryLicenseObjection": (rules.OBJECTION_QUERY, self.query_objection),
            "getItemFile": (rules.FILE_QUERY, self.item_files),
            "getResultList": (rules.RESULTS_QUERY, self.results),
            "getResultFile": (rules.RESULT_FILE_QUERY, self.result_file),
        }

    def take_notice(self, notice: Record, _document: etree._Element) -> Told:
        if notice["EXPRESSTYPE"] == "1":
            self._known(notice["WWBH"])
            return "200", self._message_receipt(notice["XXBH"], self.cases.take_message("supplement", notice))
        if notice["SXBM"] not in self.items:
            raise RefusalError("400", "unknown-item", "SXBM: Qingyuan has no such item")
        return "200", self._receipt(notice["WWBH"], self.cases.announce(notice))

    def query_case(self, query: Record, _document: etree._Element) -> Told:
        page = self.cases.page(query["WWBH"])
        if page is None:
            raise RefusalError("404", "unknown-case", "the machine holds no notice of it")
        return "200", self._receipt(query["WWBH"], page)

    def _receipt(self, case: str, page: Record) -> etree._Element:
        numbers = {name: page[name] for name in ("SBLSH", "SBLSH_SHORT", "JSSJ")}
        return element("JSHZ", WWBH=case, **numbers)

    def _taking(self, kind: str) -> Work:
        def take(message: Record, document: etree._Element) -> Told:
            page = self._known(message["WWBH"])
            if message["SBLSH"] != page["SBLSH"]:
                raise RefusalError("400", "unknown-case", "SBLSH: not the number of this case")
            if not self.cases.is_known(message["XXBH"]):
                self._check_timely(kind, message)
            digest = hashlib.sha256(etree.tostring(document)).hexdigest()
            return "200", self._message_receipt(message["XXBH"], self.cases.take_message(kind, message, digest))

        return take

    def _check_timely(self, kind: str, message: Record) -> None:
        """Refuse what comes too late, too early or twice."""
        plan = self.cases.plan(message["WWBH"])
        if kind == "withdrawal" and not plan.may_be_withdrawn:
            raise RefusalError("400", "too-late", "the case is decided")
        if kind == "rating":
            if not plan.is_completed:
                raise RefusalError("400", "too-early", "there is nothing to rate yet")
            rated = f"{message['WWBH']}/{message['PJDX']}"
            if self.notebook.get("ratings", rated):
                raise RefusalError("400", "rated", "PJDX: was rated already")
            self.notebook.put("ratings", rated, message["XXBH"])

    def query_message(self, query: Record, _document: etree._Element) -> Told:
        page = self.notebook.get("messages", query["XXBH"])
        if page is None or page["WWBH"] != query["WWBH"]:
            raise RefusalError("404", "unknown-message", "the machine holds no such message")
        return "200", self._message_receipt(query["XXBH"], page)

    def _message_receipt(self, key: str, page: Record) -> etree._Element:
        return element("XXHZ", WWBH=page["WWBH"], XXBH=key, JSSJ=page["JSSJ"])

    def _known(self, case: str) -> Record:
        page = self.cases.page(case)
        if page is None:
            raise RefusalError("400", "unknown-case", "WWBH: the machine holds no notice of it")
        return page

    def reports(self, query: Record, _document: etree._Element) -> Told:
        found = self.cases.reports_after(int(query["XH"]), int(query["TS"]))
        return "200", _page("TZLB", "TZ", query["XH"], found)

    def item_files(self, query: Record, _document: etree._Element) -> Told:
        after = int(query["XH"])
        found = list(enumerate(self.files, start=1))[after : after + int(query["TS"])]
        return "200", _page("SXLB", "SXWJ", query["XH"], found)

    def results(self, query: Record, _document: etree._Element) -> Told:
        listed = element("JGLB", SBLSH=query["SBLSH"])
        if self._is_decided(query["SBLSH"]):
            body = decision.decision(query["SBLSH"])
            digest = hashlib.sha256(body).hexdigest()
            about = {"WJBM": decision.CODE, "WJLX": decision.MEDIA_TYPE, "WJDX": str(len(body)), "WJZY": digest}
            etree.SubElement(listed, "JGWJ", about).text = decision.NAME
        return "200", listed

    def result_file(self, query: Record, _document: etree._Element) -> Told:
        if not self._is_decided(query["SBLSH"]) or query["WJBM"] != decision.CODE:
            raise RefusalError("404", "unknown-document", "WJBM: no such document of this case")
        if self.wrong("result_gone"):
            raise RefusalError("410", "gone", "the document is kept no longer")
        body = decision.decision(query["SBLSH"])
        return "200", decision.altered(body) if self.wrong("other_bytes") else body

    def _is_decided(self, number: str) -> bool:
        cases = [case for case, page in self.notebook.entries("cases").items() if page["SBLSH"] == number]
        if not cases:
            raise RefusalError("404", "unknown-case", "SBLSH: the machine holds no such case")
        return not decision.DECIDED.isdisjoint(self.cases.plan(cases[0]).done)

    def ask_for_certificate(self, query: Record, _document: etree._Element) -> Told:
        return "200", element("CXHZ", CXBH=self.register.ask(query))

    def ask_by_name(self, query: Record, _document: etree._Element) -> Told:
        return "200", element("CXHZ", CXBH=self.register.ask_by_name(query))

    def ask_for_file(self, query: Record, _document: etree._Element) -> Told:
        return "200", element("CXHZ", CXBH=self.register.ask_for_file(query))

    def certificate_answer(self, query: Record, _document: etree._Element) -> Told:
        if self.wrong("late_answer"):
            return "202", element("CW")
        try:
            found = self.register.answer(query["CXBH"])
        except KeyError:
            raise RefusalError("404", "unknown-question", "CXBH: no such question was asked") from None
        return ("202", element("CW")) if found is None else ("200", found)

    def certificate_file(self, query: Record, _document: etree._Element) -> Told:
        try:
            content = self.register.file(query["CXBH"])
        except KeyError:
            content = None
        if content is None:
            raise RefusalError("404", "unknown-document", "CXBH: no file was announced for it")
        return "200", content

    def take_objection(self, report: Record, _document: etree._Element) -> Told:
        number = self.issued.dispute(report["YYBH"], report["ZZBS"])
        if number is None:
            raise RefusalError("400", "unknown-certificate", "ZZBS: not a certificate of Qingyuan")
        return "200", element("YYHZ", YYBH=report["YYBH"], SLBH=number)

    def query_objection(self, query: Record, _document: etree._Element) -> Told:
        reply = self.issued.reply(query["SLBH"])
        if reply is None:
            raise RefusalError("404", "unknown-report", "SLBH: the machine holds no such report")
        state = {"open": "0", "corrected": "1", "rejected": "2"}[reply[0]]
        return "200", element("YYJG", SLBH=query["SLBH"], CLZT=state, **({"CLYJ": reply[1]} if reply[1] else {}))


def _page(name: str, item: str, after: str, found: list[tuple[int, str]]) -> etree._Element:
    """Return one page of a numbered sequence."""
    page = etree.Element(name)
    for number, text in found:
        etree.SubElement(page, item, XH=str(number)).text = text
    etree.SubElement(page, "XYG").text = str(found[-1][0] if found else int(after))
    return page
