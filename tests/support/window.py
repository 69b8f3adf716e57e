"""The window's pages on a real listener, with services that live in memory: what the window tests share."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from aiohttp import CookieJar, FormData, web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from prometheus_client import CollectorRegistry

from gateway.config import Limits
from gateway.crypto.at_rest import Sealer
from gateway.crypto.signing import Es256Signer
from gateway.domain.caller import Caller
from gateway.domain.identifiers import case_number
from gateway.domain.identity import Assurance, SignedOnPerson
from gateway.domain.item import FormField, Item, MaterialRule, Office, Part
from gateway.domain.region import RegionNames
from gateway.domain.sensitive import Sensitive, mask_name, mask_number
from gateway.errors import GatewayError, NotFound
from gateway.items.blocks import Block
from gateway.storage.sqlite import SqliteStore
from gateway.storage.tables import metadata
from gateway.submissions.application import Application
from gateway.submissions.archive import Archive
from gateway.submissions.complaints import Complaints
from gateway.submissions.drafts import Drafts
from gateway.submissions.papers import Papers
from gateway.submissions.ratings import Ratings
from gateway.submissions.results import ResultDesk
from gateway.submissions.service import ServiceRecords
from gateway.submissions.timekeeping import ClockView
from gateway.submissions.window_documents import WindowDocuments
from gateway.telemetry import Metrics
from gateway.web.middlewares import edge
from gateway.web.refusals import error_page
from gateway.web.window import WindowServices, routes
from gateway.windows import Clerk, Window, WindowRegistry
from tests.support.pages import pages
from tests.support.window_opinions import FakeOpinions
from tests.support.window_papers import SEAL, FakeDocuments, FakePapers, FakeResults

ISSUER = "http://pearl.example"
NOW = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
FILING = "11440600MB2D0123451442151007000"
RESIDENCE = "11440600MB2D0123451442151012000"
NUMBER = "44010619900101900X"
DRAFT_LIFE = timedelta(days=14)
MOVE = "11440600MB2D0123451442151013000"
"""An item of which Foshan and Hong Kong, or Foshan alone, handle a part each."""


def _names(chinese: str, english: str) -> Mapping[str, str]:
    return {"zh-CN": chinese, "en": english}


def _field(key: str, chinese: str, english: str, kind: str, **more: Any) -> FormField:
    known = {"required": True, "sensitivity": "none", "may_cross": True, "choices": {}}
    return FormField(id=key, label=_names(chinese, english), kind=kind, **{**known, **more})


KINDS = {
    "settled": _names("异地安置退休人员", "Retired and settled elsewhere"),
    "long": _names("异地长期居住人员", "Living elsewhere for long"),
    "posted": _names("常驻异地工作人员", "Posted elsewhere"),
    "temporary": _names("临时外出就医人员", "Away for a time"),
}

ITEMS = {
    FILING: Item(
        code=FILING,
        name=_names("跨省异地就医备案", "Filing for medical care in another province"),
        domain="医疗保障",
        modes=["online", "collect"],
        min_assurance=Assurance.A2,
        fields=[
            _field("insured", "参保地", "Insured at", "region"),
            _field("destination", "就医地", "Place of care", "region"),
            _field("kind", "备案类型", "Kind of filing", "choice", choices=KINDS),
            _field("start", "开始日期", "Begins on", "date"),
            _field("end", "结束日期", "Ends on", "date", required=False),
            _field("diagnosis", "诊断", "Diagnosis", "text", required=False, sensitivity="sensitive", may_cross=False),
        ],
        materials=[
            MaterialRule("ID", _names("居民身份证", "Identity card"), True, False, "ID"),
            MaterialRule("PROOF", _names("居住证明或个人承诺书", "Proof of residence, or promise"), True, True, None),
        ],
        offices=[Office("foshan", "440600", 1, 2, "G"), Office("guangdong", "440000", 1, 2, "G"),
                 Office("hongkong", "810000", 5, 20, "Z")],
    ),
    RESIDENCE: Item(
        code=RESIDENCE,
        name=_names("企业职工基本养老保险关系转移接续", "Transfer of a pension insurance record"),
        domain="社会保险",
        modes=["online"],
        min_assurance=Assurance.A2,
        fields=[],
        materials=[],
        offices=[Office("foshan", "440600", 15, 45, "G")],
    ),
    MOVE: Item(
        code=MOVE,
        name=_names("户口迁移一站式办理", "Moving the household registration"),
        domain="户籍办理",
        modes=["collect"],
        min_assurance=Assurance.A2,
        fields=[_field("reason", "事由", "Reason", "text")],
        materials=[],
        offices=[Office("foshan", "440600", 1, 2, "G"), Office("hongkong", "810000", 5, 20, "Z")],
        parts=[
            Part("PERMIT", _names("准迁", "Permit"), ["foshan"], [], 1, "G"),
            Part("MOVE", _names("迁出", "Moving out"), ["foshan", "hongkong", "hunan"], ["PERMIT"], 1, "G"),
        ],
    ),
}  # fmt: skip

REGIONS = {
    "guangdong": RegionNames("广东省", "廣東省", "Guangdong Province", "Guangdong"),
    "foshan": RegionNames("佛山市", "佛山市", "Foshan", "Foshan"),
    "hongkong": RegionNames("香港特别行政区", "香港特別行政區", "Hong Kong SAR", "Hong Kong"),
}

WINDOW = Window(
    id="GZ-01",
    name=_names("广州市政务服务中心跨域通办窗口", "Cross-region window, Guangzhou"),
    centre="广州市政务服务中心",
    organisation="广州市政务服务数据管理局",
    organisation_code="11440100MB2C91774A",
    code="440100",
    client_id="pearl-window",
    regions=frozenset({"foshan", "hongkong"}),
    items=None,
    clerks=[Clerk("C-0417", "guangdong", "clerk-subject")],
    seal=SEAL,
)


@dataclass
class FakeServices:
    """Submissions, materials and sign-on in memory. Set `refusal` to make the next submission fail."""

    signer: Es256Signer
    now: datetime = NOW
    granted: list[str] = field(default_factory=lambda: ["foshan", "hongkong"])
    refusal: GatewayError | None = None
    person: tuple[str, str] = ("guangdong", "clerk-subject")
    assurance: Assurance = Assurance.A2
    claims: dict[str, Any] = field(default_factory=dict)
    nonce: str = ""
    windows: list[Window] = field(default_factory=lambda: [WINDOW])
    applications: list[Application] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    redeemed: list[Mapping[str, str]] = field(default_factory=list)
    ended: list[str | None] = field(default_factory=list)
    openings_of: dict[str, str] = field(default_factory=lambda: {"guangdong": "first", "hongkong": "first"})
    turned_while_redeemed: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    clocks: list[ClockView] = field(default_factory=list)
    kinds: dict[int, str] = field(default_factory=dict)
    blocks: dict[tuple[str, str], Block] = field(default_factory=dict)
    asked: Any = None
    can: list[str] = field(default_factory=list)
    certified: list[Any] = field(default_factory=list)
    parts: list[Any] = field(default_factory=list)
    said: list[tuple[str, Any]] = field(default_factory=list)
    papers: FakePapers = field(default_factory=FakePapers)
    results: FakeResults = field(default_factory=FakeResults)
    opinions: FakeOpinions = field(default_factory=FakeOpinions)
    numbers: list[dict[str, Any]] = field(default_factory=lambda: [
        {"region": "foshan", "number": "FS2026030200001", "short_number": "00001"}
    ])  # fmt: skip
    states: list[tuple[str, str, dict[str, Any]]] = field(default_factory=lambda: [("COLLECTED", "gateway", {})])

    def visible(self, caller: Caller) -> Sequence[Item]:
        """Return all items, at the places that a grant would name."""
        at = {code: [o for o in item.offices if o.region in self.granted] for code, item in ITEMS.items()}
        return [replace(ITEMS[code], offices=offices) for code, offices in at.items() if offices]

    async def openings(self) -> Mapping[str, str]:
        return dict(self.openings_of)

    async def end_sign_on(self, handle: str | None) -> None:
        self.ended.append(handle)

    async def submit(
        self, caller: Caller, application: Application, *, assurance: Assurance, channel: str
    ) -> SimpleNamespace:
        assert (assurance, channel) == (Assurance.A3, "window")
        if self.refusal is not None:
            raise self.refusal
        self.callers.append(caller)
        self.applications.append(application)
        references = list(dict.fromkeys(known.reference for known in self.applications))
        return SimpleNamespace(submission_id=case_id(references.index(application.reference) + 1))

    async def upload(
        self, caller: Caller, *, name: str, media_type: str, chunks: AsyncIterator[bytes], sha256: str | None
    ) -> SimpleNamespace:
        data = b"".join([chunk async for chunk in chunks])
        blob = f"BL{len(self.blobs):032x}"
        self.blobs[blob] = data
        digest = hashlib.sha256(data).hexdigest()
        return SimpleNamespace(id=blob, sha256=digest, size=len(data), name=name, media_type=media_type)

    def _case(self, number: int) -> SimpleNamespace:
        application = list({a.reference: a for a in self.applications}.values())[number - 1]
        timeline = [
            SimpleNamespace(
                seq=i,
                kind=self.kinds.get(i, "step"),
                state=s,
                source=src,
                occurred_at=NOW + timedelta(seconds=i),
                detail=detail,
            )
            for i, (s, src, detail) in enumerate(self.states, start=1)
        ]
        return SimpleNamespace(
            id=case_id(number), item_code=application.item, state=self.states[-1][0], place=application.place,
            holder="nobody" if self.states[-1][0] == "COMPLETED" else "gateway", created_at=NOW,
            applicant_name=mask_name(application.applicant.name),
            document_number=mask_number(application.applicant.document.number),
            region_numbers=self.numbers,
            timeline=timeline, clocks=self.clocks,
            service=self.results.served, supplement=self.asked, special=None, extension=None, can=self.can,
            certified=self.certified,
            parts=self.parts, whole=None, ratings=self.opinions.ratings, messages=self.opinions.messages,
        )  # fmt: skip

    async def show(self, caller: Caller, submission_id: str) -> Any:
        for number in range(1, len(self.applications) + 1):
            if case_id(number) == submission_id:
                return self._case(number)
        raise NotFound("There is no such submission of yours.", code="submission.not_found")

    async def say(self, caller: Caller, submission_id: str, said: Any) -> None:
        """Take whatever is said of a case."""
        if self.refusal is not None:
            raise self.refusal
        self.said.append((submission_id, said))

    async def recent(self, caller: Caller, limit: int) -> Sequence[Any]:
        count = len({application.reference for application in self.applications})
        return [self._case(number) for number in range(count, 0, -1)][:limit]

    async def redeem(self, form: Mapping[str, str]) -> Mapping[str, Any]:
        self.redeemed.append(form)
        self.openings_of |= self.turned_while_redeemed
        now = int(self.now.timestamp())
        claims = {"iss": ISSUER, "aud": "pearl-window", "sub": "pairwise", "nonce": self.nonce, "exp": now + 300}
        return {"id_token": self.signer.sign({**claims, **self.claims}, typ="JWT"), "access_token": "at"}

    async def who_signed_on(self, access_token: str) -> SignedOnPerson:
        region, subject = self.person
        return SignedOnPerson(region, subject, self.assurance, "test", self.now, Sensitive({}))


def case_id(sequence: int) -> str:
    """Return our number of the n-th case of the tests."""
    return case_number(origin="440100", handling="440600", day=NOW.date(), sequence=sequence)


def new_signer() -> Es256Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    return Es256Signer([key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())])


@asynccontextmanager
async def window_app(folder: Path, fakes: FakeServices, limits: Limits | None = None) -> AsyncIterator[web.Application]:
    """Build the window's pages behind the real middlewares."""
    store = await SqliteStore.open(str(folder / "pearl.db"))
    await store.write(metadata.create_all)
    services = WindowServices(
        items=ITEMS, block_of=lambda item, region: fakes.blocks.get((item, region)), visible=fakes.visible,
        region_names=REGIONS, submit=fakes.submit, upload=fakes.upload,
        show=fakes.show, recent=fakes.recent, supplement=fakes.say, withdraw=fakes.say, give_back=fakes.say,
        redeem=fakes.redeem, who_signed_on=fakes.who_signed_on,
        end_sign_on=fakes.end_sign_on, openings=fakes.openings, jwks=fakes.signer.key_set, store=store,
        sealer=Sealer(bytes(range(32))),
        clock=lambda: fakes.now, windows=WindowRegistry(fakes.windows), issuer=ISSUER,
        papers=cast("Papers", fakes.papers), documents=cast("WindowDocuments", FakeDocuments(fakes.papers)),
        results=cast("ResultDesk", fakes.results), service=cast("ServiceRecords", fakes.results),
        ratings=cast("Ratings", fakes.opinions), complaints=cast("Complaints", fakes.opinions),
        archive=cast("Archive", fakes.opinions),
        drafts=Drafts(store=store, sealer=Sealer(bytes(range(32))), clock=lambda: fakes.now, life=DRAFT_LIFE),
    )  # fmt: skip
    shown = pages()
    app = web.Application(middlewares=edge(Metrics(CollectorRegistry()), error_page(shown)))
    app.add_routes(routes(services, shown, limits or Limits()))
    yield app
    await store.close()


class Browser:
    """A browser without JavaScript: follows no redirect by itself, keeps cookies, reads forms."""

    def __init__(self, client: TestClient[web.Request, web.Application], fakes: FakeServices) -> None:
        self.client = client
        self.fakes = fakes

    async def get(self, path: str, language: str = "en") -> tuple[int, str]:
        async with self.client.get(path, allow_redirects=False, headers={"Accept-Language": language}) as answer:
            return answer.status, await answer.text()

    async def raw(self, head: bytes) -> bytes:
        """Send a request that no client library would, and return the status line."""
        reader, writer = await asyncio.open_connection(self.client.host, self.client.port)
        writer.write(head + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.split(b"\r\n", 1)[0]

    def handle(self) -> str:
        """Return the handle of the session that this browser has."""
        return next(cookie.value for cookie in self.client.session.cookie_jar if cookie.key == "pearl_window")

    async def opens(self, handle: str) -> bool:
        """Say whether a handle opens a page for clerks, from a browser that has nothing else."""
        self.client.session.cookie_jar.clear()
        async with self.client.get(FOSHAN, allow_redirects=False, cookies={"pearl_window": handle}) as answer:
            assert answer.status in {200, 303}
            return answer.status == 200

    async def location(self, path: str) -> str:
        async with self.client.get(path, allow_redirects=False) as answer:
            assert answer.status == 303, await answer.text()
            return answer.headers["Location"]

    async def begin_sign_on(self, path: str = "/window/sign-in") -> dict[str, str]:
        """Leave for the provider; return the parameters of the authorization request."""
        query = parse_qs(urlsplit(await self.location(path)).query)
        request = {name: values[0] for name, values in query.items()}
        self.fakes.nonce = request["nonce"]
        return request

    async def come_back(self, **query: str) -> tuple[int, str]:
        """Come back from the provider; return status and page, or the address that the answer leads to."""
        async with self.client.get("/window/callback", params=query, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location") or await answer.text()

    async def sign_on(self) -> None:
        request = await self.begin_sign_on()
        status, page = await self.come_back(code="the-code", state=request["state"], iss=ISSUER)
        assert (status, page) == (303, "/window")

    async def open_form(self, path: str) -> dict[str, str]:
        """Open a form; return its hidden fields."""
        status, page = await self.get(path)
        assert status == 200, page
        return hidden_fields(page)

    async def post(self, path: str, texts: Mapping[str, str], files: Sequence[tuple[str, str, bytes]] = ()) -> Answer:
        """Send a form as browsers do: fields in order, then files given as (input, file name, bytes)."""
        form = FormData(default_to_multipart=True)
        for name, text in texts.items():
            form.add_field(name, text)
        for name, file_name, data in files:
            form.add_field(name, data, filename=file_name, content_type="application/octet-stream")
        async with self.client.post(
            path, data=form, allow_redirects=False, headers={"Accept-Language": "en"}
        ) as answer:
            headers = answer.headers
            return Answer(
                answer.status, await answer.text(), headers.get("Location", ""), headers.get("Retry-After", "")
            )


@dataclass(frozen=True)
class Answer:
    status: int
    page: str
    location: str
    retry_after: str = ""


@asynccontextmanager
async def browser(
    folder: Path, limits: Limits | None = None, fakes: FakeServices | None = None
) -> AsyncIterator[Browser]:
    """Start the window and give a browser that is a stranger to it."""
    fakes = fakes or FakeServices(new_signer())
    async with (
        window_app(folder, fakes, limits) as app,
        TestClient(TestServer(app), cookie_jar=CookieJar(unsafe=True), headers={"Accept-Language": "en"}) as client,
    ):
        yield Browser(client, fakes)


def hidden_fields(page: str) -> dict[str, str]:
    """Return the hidden fields of the last form on the page, names and unescaped values."""
    last = page[page.rindex("<form") :]
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', last)
    return {name: unescape(value) for name, value in found}


def filled(hidden: Mapping[str, str], **changed: str) -> dict[str, str]:
    """Return a form for FILING that is right, with changes; a double underscore stands for a dot."""
    texts = {
        **hidden,
        "applicant.kind": "person",
        "applicant.name": "张三丰",
        "applicant.mobile": "13800138000",
        "applicant.document.type": "CN_RIC",
        "applicant.document.number": NUMBER,
        "identity_checked": "yes",
        "form.insured": "440100",
        "form.destination": "440600",
        "form.kind": "long",
        "form.start": "2026-03-10",
        "deferred.PROOF": "承诺书 2026-7",
    }
    return texts | {name.replace("__", "."): value for name, value in changed.items()}


PDF = b"%PDF-1.4 one page"
FOSHAN = f"/window/items/{FILING}/foshan"
HONGKONG = f"/window/items/{FILING}/hongkong"
