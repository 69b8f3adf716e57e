"""The simulated province of the case exchange: a second, independent reading of docs/province-exchange.md.

Owns: the envelope and its checks, the operations, and the wrong answers that it can be asked for. Leaves to
`province_cases` how a case goes, to `province_certificates` what is told of certificates, to `province_documents` how
items and certificates are written, to
`province_signature` the cryptography, to `adapters/<province>/sandbox.py` what differs (`Exchange`), and to
`gateway.sandbox.authority` what no real authority has. Eight provinces share it because they share one contract; it
shares no code with the gateway. It joins the application that signs people on.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from aiohttp import web

from gateway.sandbox import decision, issued
from gateway.sandbox.authority import MISBEHAVIOUR, NOTEBOOK, AuthoritySettings, Notebook, in_background
from gateway.sandbox.courses import ORDERS
from gateway.sandbox.left_out import BOOK, LeftOut
from gateway.sandbox.province_cases import CHINA, Cases, Clock
from gateway.sandbox.province_certificates import FILES, CertificateRoom, notice_composer
from gateway.sandbox.province_documents import Entry, RefusedError, filled, in_catalogue
from gateway.sandbox.province_signature import (
    Signing,
    Sm2Signing,
    answer_text,
    es256_signing,
    request_text,
)
from gateway.sandbox.sm2 import point, secret_number

TOLERANCE = 120_000  # ms
STEPS, ITEMS = 100, 50

WRONG: Mapping[str, str] = {
    "answer_wrong_key": "signs an answer of the case exchange with a key that nobody knows",
    "answer_unsigned": "does not sign an answer of the case exchange",
    "answer_changed": "changes an answer of the case exchange after it was signed",
    "answer_other_question": "binds an answer of the case exchange to another question",
    "answer_old": "dates an answer of the case exchange an hour back",
    "answer_too_big": "pads an answer of the case exchange with megabytes",
    "answer_busy": "says that it is busy, and takes nothing (status 50)",
    **ORDERS,
}
"""What it can be asked to do, beside what every authority can."""

_CASE = ("applyNo", "taskCode", "taskName", "applyWay", "applyTime", "areaCode", "sourceAreaCode", "operName")
_APPLICANT = ("applicantType", "applicantName", "applicantCodeType", "applicantCode", "formInfo", "digestType")
_MESSAGE = ("messageNo", "applyNo", "projectNo")
_MANDATORY: Mapping[str, tuple[str, ...]] = {
    "sendApply": (*_CASE, *_APPLICANT),
    "queryApply": ("applyNo",),
    "getStepList": ("cursor", "limit"),
    "sendSupplement": (*_MESSAGE, "supplementTime", "isComplete", "digestType"),
    "sendWithdrawal": (*_MESSAGE, "withdrawTime", "withdrawReason"),
    "sendRating": (*_MESSAGE, "taskCode", "evaluateRole", "satisfaction", "pf", "assessTime", "isDefault"),
    "sendComplaint": (*_MESSAGE, "complaintContent", "complaintTime"),
    "queryMessage": ("messageNo", "applyNo"),
    "getResultList": ("projectNo",),
    "getTaskList": ("cursor", "limit"),
}
_LEFT_OUT = {
    "deferred": ("lackMaterialList", "promiseContent"),
    "certified": ("certificateMaterialList", "certificateIdentifier"),
}
"""What a case does without → its list, and what an entry has beside `materialCode`."""
_JOINED = ("materialCodes", "materialNames", "materialTypes", "materialSizes", "materialDigests")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}")


@dataclass(frozen=True)
class Exchange:
    """How one province departs from the others; names as in docs/province-exchange.md."""

    service: str
    materials: str
    area: str  # six digits
    area_name: str
    department: str
    department_code: str
    suite: str = "SM2-SM3"
    our_id: bytes = b"1234567812345678"  # the province's
    gateway_id: bytes = b"1234567812345678"
    asks: bool = True
    results: bool = True
    unheard: tuple[str, ...] = ()
    """Interfaces of messages that it does not take."""
    issued: tuple[str, ...] = ("data", "code", "file", "dispute")
    """What it tells of single certificates."""
    notices: bool = True
    shown: str = "LZ:"
    """What the codes begin with under which its certificates are shown."""


# --- the wire ----------------------------------------------------------------------------------------------------


@dataclass
class Desk:
    """Checks what the gateway signed, and signs the answers, or does it wrong when asked to."""

    app: web.Application
    signing: Signing
    grant_code: str
    clock: Clock
    _nonces: dict[str, int] = field(default_factory=dict)

    def now(self) -> int:
        """Return the time in milliseconds."""
        return int(self.clock() * 1000)

    def due(self, mode: str) -> bool:
        """Say whether to misbehave so now."""
        return self.app[MISBEHAVIOUR].due(mode)

    def check(self, request: web.Request, digest: str) -> None:
        """Check the signature of a question whose body has this digest, or will have. Raises RefusedError."""
        names = ("key", "time", "nonce", "digest", "sign")
        stamp = {name: request.headers.get(f"X-Pearl-{name}", "") for name in names}
        now, said = self.now(), stamp["time"]
        timely = said.isdigit() and len(said) < 15 and abs(now - int(said)) <= TOLERANCE
        text = request_text(request.method, request.rel_url.raw_path, stamp, self.grant_code)
        self._nonces = {nonce: until for nonce, until in self._nonces.items() if until > now}
        fresh = re.fullmatch(r"[0-9a-f]{32}", stamp["nonce"]) and stamp["nonce"] not in self._nonces
        known = stamp["key"] == "gateway-cases" and stamp["digest"] == digest
        if not (known and timely and fresh and self.signing.is_theirs(text, _decoded(stamp["sign"]))):
            raise RefusedError("11", "授权码、密钥、签名或时间不被接受")
        self._nonces[stamp["nonce"]] = now + 2 * TOLERANCE
        if self.due("answer_busy"):
            raise RefusedError("50", "系统繁忙")

    def answer(self, request: web.Request, data: Entry) -> web.Response:
        """Return a yes."""
        return self._signed(request, {"head": {"status": "0", "message": "成功"}, "data": data})

    def refusal(self, request: web.Request, refused: RefusedError) -> web.Response:
        """Return a no, signed as well."""
        fields = [{"field": name, "reason": "缺失或有误"} for name in refused.fields]
        head = {"status": refused.status, "message": refused.message}
        return self._signed(request, {"head": head, "data": {"fieldList": fields} if fields else {}})

    def file(
        self, request: web.Request, listed: bytes, sent: bytes, media_type: str = decision.MEDIA_TYPE
    ) -> web.Response:
        """Return a file under the signature of the one that was listed."""
        headers = self._headers(request, hashlib.sha256(listed).hexdigest())
        return web.Response(body=sent, headers=headers, content_type=media_type)

    def _signed(self, request: web.Request, document: Entry) -> web.Response:
        if self.due("answer_too_big"):
            document["padding"] = "0" * (2 << 20)
        body = json.dumps(document, ensure_ascii=False).encode()
        headers = self._headers(request, hashlib.sha256(body).hexdigest())
        if self.due("answer_changed"):
            body = body.replace(b'"status": ', b'"status":  ')
        return web.Response(body=body, headers=headers, content_type="application/json")

    def _headers(self, request: web.Request, digest: str) -> dict[str, str]:
        """Return the signature of an answer whose body has this digest, or a wrong one when asked to."""
        signing = self.signing.stranger() if self.due("answer_wrong_key") else self.signing
        nonce = request.headers.get("X-Pearl-Nonce", "")
        stamp = {
            "key": signing.key_id,
            "time": str(self.now() - (3_600_000 if self.due("answer_old") else 0)),
            "nonce": secrets.token_hex(16) if self.due("answer_other_question") else nonce,
            "digest": digest,
        }
        sign = signing.sign(answer_text(request.method, request.rel_url.raw_path, stamp))
        if self.due("answer_unsigned"):
            return {}
        return {f"X-Pearl-{name}": value for name, value in {**stamp, "sign": b64encode(sign).decode()}.items()}


def _decoded(sign: str) -> bytes:
    try:
        return b64decode(sign, validate=True)
    except ValueError:
        return b""


# --- the province ------------------------------------------------------------------------------------------------


class Province:
    """The operations."""

    def __init__(
        self, desk: Desk, exchange: Exchange, cases: Cases, room: CertificateRoom, settings: AuthoritySettings
    ) -> None:
        self._desk = desk
        self._exchange = exchange
        self._cases = cases
        self._notebook: Notebook = desk.app[NOTEBOOK]
        self._items = {item["code"]: item for item in settings.items}
        self._room = room
        self._operations: Mapping[str, Mapping[str, Callable[[Entry], Entry]]] = {
            "applyExchange": self._of_cases(),
            "taskShare": {"getTaskList": self._task_list},
            "certificateShare": room.operations(exchange.issued),
        }

    def _of_cases(self) -> dict[str, Callable[[Entry], Entry]]:
        offered: dict[str, Callable[[Entry], Entry]] = {
            "sendApply": self._apply,
            "queryApply": self._query_apply,
            "getStepList": self._step_list,
            "sendSupplement": lambda said: self._message("sendSupplement", said),
            "sendWithdrawal": lambda said: self._message("sendWithdrawal", said),
            "sendRating": lambda said: self._message("sendRating", said),
            "sendComplaint": lambda said: self._message("sendComplaint", said),
            "queryMessage": self._query_message,
            "getResultList": self._result_list,
        }
        silent = {*self._exchange.unheard, *(() if self._exchange.asks else ("queryApply", "queryMessage"))}
        silent |= set() if self._exchange.results else {"getResultList"}
        return {name: work for name, work in offered.items() if name not in silent}

    def routes(self) -> list[web.RouteDef]:
        """Return the addresses."""
        file = f"{self._exchange.materials}/{{number}}/{{name}}"
        routes = [web.post(self._exchange.service, self._handle), web.put(file, self._upload)]
        files = self._exchange.results or "file" in self._exchange.issued
        return [*routes, web.get(file, self._hand_out, allow_head=False)] if files else routes

    async def resume(self, app: web.Application) -> None:
        """Go on with the cases that a stop left half-way."""
        for number in self._cases.unfinished():
            in_background(app, self._cases.proceed(number))

    # --- the addresses

    async def _handle(self, request: web.Request) -> web.Response:
        """Check, work and sign without a pause between, so that no other question comes in between."""
        body = await request.read()
        try:
            self._desk.check(request, hashlib.sha256(body).hexdigest())
            return self._desk.answer(request, self._done(body))
        except RefusedError as refused:
            return self._desk.refusal(request, refused)

    def _done(self, body: bytes) -> Entry:
        try:
            document = json.loads(body)
            head, data = document["head"], document["data"]
            service, interface, grant = (str(head[name]) for name in ("servicecode", "interfaceName", "grantcode"))
        except (ValueError, KeyError, TypeError):
            raise RefusedError("12", "报文不完整", "head") from None
        if grant != self._desk.grant_code:
            raise RefusedError("11", "授权码不被接受")
        work = self._operations.get(service, {}).get(interface)
        if work is None:
            raise RefusedError("19", "接口未开放", "head.interfaceName")
        if missing := [name for name in _MANDATORY.get(interface, ()) if not filled(data, name)]:
            raise RefusedError("12", "必填项缺失", *missing)
        return work(data)

    async def _upload(self, request: web.Request) -> web.Response:
        """Take a file as it comes: nothing of it is kept but digest and size."""
        number, digest = request.match_info["number"], request.match_info["name"]
        try:
            self._desk.check(request, digest)
            size = await _received(request, digest)
        except RefusedError as refused:
            return self._desk.refusal(request, refused)
        self._notebook.put("materials", f"{number}/{digest}", {"size": str(size), "type": request.content_type})
        return self._desk.answer(request, {"applyNo": number, "digest": digest, "size": str(size)})

    async def _hand_out(self, request: web.Request) -> web.Response:
        """Hand a document of a decided case out, the right one or what it was told to."""
        number, code = request.match_info["number"], request.match_info["name"]
        try:
            self._desk.check(request, hashlib.sha256().hexdigest())
            if number == FILES:
                return self._desk.file(request, *self._room.fetched(code))
            self._check_there(number, code)
        except RefusedError as refused:
            return self._desk.refusal(request, refused)
        listed = decision.decision(number)
        return self._desk.file(request, listed, decision.altered(listed) if self._desk.due("other_bytes") else listed)

    # --- cases

    def _apply(self, case: Entry) -> Entry:
        if case["taskCode"] not in self._items:
            raise RefusedError("14", "本省不办理该事项", "taskCode")
        if not _TIME.fullmatch(case["applyTime"]) or case["areaCode"][:6] != self._exchange.area:
            raise RefusedError("12", "内容有误", "applyTime", "areaCode")
        number, codes = case["applyNo"], self._materials(case)[::-1]
        left_out = self._left_out(case, codes)
        if self._cases.open(number, case["taskCode"], left_out.asked_for(codes), left_out.to_follow(codes)):
            self._notebook.put(BOOK, number, left_out.written())
            in_background(self._desk.app, self._cases.proceed(number))
        return self._receipt(number)

    def _left_out(self, case: Entry, given: list[str]) -> LeftOut:
        """Return what the case does without. Raises RefusedError naming every entry that the item does not allow."""
        left_out = LeftOut(**{group: _pairs(case, *names) for group, names in _LEFT_OUT.items()})
        today = datetime.fromtimestamp(self._desk.clock(), CHINA).date()
        faults = left_out.faults(self._items[case["taskCode"]], given, self._room.register.all(), today)
        if wrong := [f"{_LEFT_OUT[fault.group][0]}[{fault.place}]" for fault in faults]:
            raise RefusedError("12", "容缺或免证材料有误", *wrong)
        return left_out

    def _materials(self, message: Entry) -> list[str]:
        """Return the codes of the materials that a message names, all of which must have arrived as it says."""
        columns = [str(message[name]).split(";;") if filled(message, name) else [] for name in _JOINED]
        if message["digestType"] != "SHA256" or len({len(column) for column in columns}) > 1:
            raise RefusedError("12", "材料清单有误", "materialCodes", "digestType")
        codes, _, types, sizes, digests = columns
        for kind, size, digest in zip(types, sizes, digests, strict=True):
            kept = self._notebook.get("materials", f"{message['applyNo']}/{digest}")
            if kept != {"size": size, "type": kind}:
                raise RefusedError("15", "材料未上传或与清单不符", "materialDigests")
        return codes

    def _query_apply(self, asked: Entry) -> Entry:
        return self._receipt(asked["applyNo"])

    def _receipt(self, number: str) -> Entry:
        case = self._cases.find(number)
        if case is None:
            raise RefusedError("10", "没有该办件")
        told = {name: case[name] for name in ("projectNo", "queryCode", "receiveTime")}
        return {"applyNo": number, **told, "deptName": self._exchange.department}

    def _result_list(self, asked: Entry) -> Entry:
        number = asked["projectNo"]
        body = decision.decision(number)
        row = {
            "fileCode": decision.CODE,
            "fileName": decision.NAME,
            "fileType": decision.MEDIA_TYPE,
            "fileSize": str(len(body)),
            "fileDigest": hashlib.sha256(body).hexdigest(),
        }
        return {"projectNo": number, "dataList": [row] if self._is_decided(number) else []}

    def _check_there(self, number: str, code: str) -> None:
        if not self._is_decided(number) or code != decision.CODE:
            raise RefusedError("10", "没有该结果文件")
        if self._desk.due("result_gone"):
            raise RefusedError("18", "结果文件已不再提供")

    def _is_decided(self, project: str) -> bool:
        done = self._cases.done(project)
        if done is None:
            raise RefusedError("10", "没有该办件")
        return not decision.DECIDED.isdisjoint(done)

    def _step_list(self, asked: Entry) -> Entry:
        cursor, limit = _numbers(asked, STEPS)
        found, following = self._cases.after(cursor, limit)
        return {"dataList": found, "cursor": str(following)}

    # --- messages

    def _message(self, interface: str, said: Entry) -> Entry:
        """Take a message about a case, once."""
        case = self._cases.find(said["applyNo"])
        if case is None or case["projectNo"] != said["projectNo"]:
            raise RefusedError("17", "没有该办件", "applyNo")
        kept = self._notebook.get("messages", said["messageNo"])
        self._notebook.count("arrivals", said["messageNo"])
        if kept is None:
            if not self._heard(interface, said):
                raise RefusedError("17", "该办件当前环节不受理此消息")
            kept = {"applyNo": said["applyNo"], "interface": interface, "receiveTime": self._cases.now()}
            self._notebook.put("messages", said["messageNo"], kept)
            in_background(self._desk.app, self._cases.proceed(said["applyNo"]))
        return {"messageNo": said["messageNo"], "receiveTime": kept["receiveTime"]}

    def _heard(self, interface: str, said: Entry) -> bool:
        number = said["applyNo"]
        match interface:
            case "sendSupplement":
                self._materials(said)
                return self._cases.supplement(number, complete=said["isComplete"] == "是")
            case "sendWithdrawal":
                return self._cases.withdraw(number)
            case "sendRating":
                if said["satisfaction"] not in ("1", "2", "3", "4", "5"):
                    raise RefusedError("12", "满意度有误", "satisfaction")
                return self._cases.rate(number, said["evaluateRole"])
            case _:
                return True

    def _query_message(self, asked: Entry) -> Entry:
        kept = self._notebook.get("messages", asked["messageNo"])
        if kept is None or kept["applyNo"] != asked["applyNo"]:
            raise RefusedError("10", "没有该消息")
        return {"messageNo": asked["messageNo"], "receiveTime": kept["receiveTime"]}

    # --- catalogue

    def _task_list(self, asked: Entry) -> Entry:
        cursor, limit = _numbers(asked, ITEMS)
        exchange, rows = self._exchange, [*self._items.values()][cursor : cursor + limit]
        by = {"areaName": exchange.area_name, "deptName": exchange.department, "deptCode": exchange.department_code}
        found = [{**in_catalogue(item, exchange.area), **by} for item in rows]
        return {"dataList": found, "cursor": str(cursor + len(found))}


async def _received(request: web.Request, digest: str) -> int:
    """Read a file to its end; return its size. Raises RefusedError for another file than announced."""
    found, size = hashlib.sha256(), 0
    async for piece in request.content.iter_any():
        found.update(piece)
        size += len(piece)
    if found.hexdigest() != digest:
        raise RefusedError("15", "文件与摘要不符", "digest")
    return size


def _pairs(case: Entry, listed: str, said: str) -> list[tuple[str, str]]:
    """Return the entries of a list that may be left out. Raises RefusedError when it is no such list."""
    rows = case.get(listed, [])
    if not isinstance(rows, list) or not all(filled(row, "materialCode") and filled(row, said) for row in rows):
        raise RefusedError("12", "内容有误", listed)
    return [(row["materialCode"], row[said]) for row in rows]


def _numbers(asked: Entry, most: int) -> tuple[int, int]:
    cursor, limit = asked["cursor"], asked["limit"]
    if not (cursor.isdigit() and limit.isdigit() and len(cursor) < 19 and 0 < int(limit) <= most):
        raise RefusedError("12", "游标或数量有误", "cursor", "limit")
    return int(cursor), int(limit)


# --- opening -----------------------------------------------------------------------------------------------------


_GIVEN = ("grant_code", "case_key", "gateway_cases")


def join_exchange(
    app: web.Application, settings: AuthoritySettings, exchange: Exchange, clock: Clock = time.time
) -> web.Application:
    """Let an authority take cases as well, and return it. `clock` gives Unix seconds.

    Raises ValueError naming every secret that is missing.
    """
    given = settings.secrets
    wanted = (*_GIVEN, "case_certificate") if exchange.suite == "ES256" else _GIVEN
    if missing := [name for name in wanted if name not in given]:
        raise ValueError(f"the authority of {settings.region} lacks the secrets {', '.join(missing)}")
    wrong = app[MISBEHAVIOUR]
    wrong.known = {**wrong.known, **WRONG, **issued.MODES, **(decision.MODES if exchange.results else {})}
    desk = Desk(app, _signing(given, exchange), given["grant_code"].decode(), clock)
    cases = Cases(app[NOTEBOOK], wrong, settings.pace, clock, exchange.area)
    register = issued.Register(
        settings.region, settings.certificates, app[NOTEBOOK], wrong, exchange.shown, seal=settings.seal
    )
    province = Province(desk, exchange, cases, CertificateRoom(register, clock), settings)
    app.add_routes(province.routes())
    compose = notice_composer(settings.region, desk.signing, clock)
    post = issued.NoticePost(settings.gateway_url, settings.region, wrong, compose) if exchange.notices else None
    app.add_routes(register.control(clock, post).routes())
    app.on_startup.append(province.resume)
    return app


def _signing(given: Mapping[str, bytes], exchange: Exchange) -> Signing:
    if exchange.suite == "ES256":
        return es256_signing(given["case_key"], given["case_certificate"], given["gateway_cases"])
    return Sm2Signing(
        "province-cases",
        secret_number(given["case_key"]),
        exchange.our_id,
        point(given["gateway_cases"]),
        exchange.gateway_id,
    )
