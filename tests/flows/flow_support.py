"""The whole neighbourhood in one process: gateway, simulated authorities, and what a test needs to look at them.

Owns: laying out, starting and stopping; callers with tokens; refusals checked as a whole; authorities that misbehave
at one chosen request. Leaves to the tests what is asked. Everything is reached over HTTP, as outsiders do; the database
is only looked into.
"""

from __future__ import annotations

import asyncio
import importlib
import secrets
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from joserfc import jwt
from joserfc.jwk import ECKey
from sqlalchemy import Table, func, select

from gateway.app import Gateway, build_app
from gateway.config import HOUSE, Config, load_config
from gateway.crypto.signing import Es256Signer
from gateway.minting import Mint
from gateway.opening import store_url
from gateway.sandbox.authority import MISBEHAVIOUR, AuthoritySettings
from gateway.sandbox.layout import Choices, Layout, lay_out
from gateway.sandbox.neighbourhood import free_ports
from gateway.serve import listening
from gateway.storage import Store, open_store
from gateway.storage.tables import deliveries, evidence, submission_events, submissions
from tests.support.few_regions import narrow

T = TypeVar("T")

AGENCY = "demo-agency"
SLIP = b"%PDF-1.4\n% a synthetic identity document\n%%EOF\n"
FILING = "11440100MBT40100XX3442011899001"
"""Medical treatment elsewhere: Foshan and Guangdong handle it, online or at a window."""
NEWBORN = "11440100MBT40100XX3442011899005"
"""Birth registration: Foshan only, at a window only."""
CROSSING = "11440100MBT40100XX3442011899012"
"""Public service registration: Hong Kong and Guangdong handle it."""

CITIZEN = {
    "kind": "person",
    "name": "陈小明",
    "document": {"type": "CN_RIC", "number": "44010619900101900X"},
    "birth_date": "1990-01-01",
    "sex": "F",
    "mobile": "13800000001",
}
TRAVELLER = {
    "kind": "person",
    "name": "陈大文",
    "document": {"type": "HM_PERMIT", "number": "H00000001"},
    "birth_date": "1985-05-05",
    "sex": "M",
}
PRIVATE = ("陈小明", "44010619900101900X", "13800000001", "1990-01-01", "陈大文", "H00000001", "1985-05-05", "A1234563")
"""What no refusal, log line or metric may ever say."""

PURPOSE = "Filing for medical treatment away from home"
FORMS: Mapping[str, tuple[str, str, Mapping[str, Any], Mapping[str, str]]] = {
    region: (FILING, "ID", CITIZEN, {"insured_place": "440600", "destination": "440100", "kind": "resident",
                                     "start": "2026-12-01"})
    for region in ("guangdong", "foshan", "hunan", "shenzhen", "qingyuan")
} | {region: (CROSSING, "PERMIT", TRAVELLER, {"service": "residence"}) for region in ("hongkong", "macau")}  # fmt: skip
"""Region → item, its one required material, applicant and form of an application that is right."""

MORE_CLIENTS = "".join(
    f"""
[[client]]
id = "{name}"
name = "{name}"
organisation = "测试机构（沙箱）"
organisation_code = "11440100MBT40100XX"
origin_code = "{origin}"
grant_types = ["client_credentials"]
scopes = ["submissions", "certificates"]
authentication = "private_key_jwt"
jwks_file = "keys/{name}.jwks.json"
"""
    for name, origin in {"other-agency": "440100", "foshan-agency": "440600", "hk-agency": "810000"}.items()
)
MORE_GRANTS = (
    "".join(
        f"""
[[grant]]
client = "{client}"
capability = "submissions.create"
items = ["*"]
purposes = ["cross-region-service"]
regions = {orjson.dumps(regions).decode()}
"""
        for client, regions in {
            "other-agency": ["guangdong", "foshan", "hongkong"],
            "foshan-agency": ["hongkong"],
            "hk-agency": ["guangdong"],
        }.items()
    )
    + """
[[grant]]
client = "other-agency"
capability = "certificates.lookup"
items = ["*"]
certificate_types = ["*"]
purposes = ["cross-region-service"]
regions = ["guangdong"]
"""
)
PRESSED = {
    "first_delay_seconds = 0.5": "first_delay_seconds = 0.05\nlongest_delay_seconds = 0.2\npoll_seconds = 0.1",
    "breaker_seconds = 3": "breaker_seconds = 1\nbreaker_failures = 1000",
    "settle_seconds = 1\n": "settle_seconds = 0.8\ntimeout_seconds = 2\nrequests_per_second = 1000\n",
    "poll_seconds = 0.5": "poll_seconds = 0.1",
}
"""What the sandbox's pearl.toml says → what it says here, so that a retry takes tenths of a second."""
SMALL_LIMITS = "\n[limits]\nbody_bytes = 65536\nupload_bytes = 65536\ncallback_bytes = 65536\nshutdown_seconds = 3\n"


# --- waiting -----------------------------------------------------------------------------------------------------


async def eventually(look: Callable[[], Awaitable[T | None]], within: float = 20.0) -> T:
    """Look again and again until something is seen, and return it. A miss names the last deadline."""
    end = time.monotonic() + within
    while True:
        seen = await look()
        if seen:
            return seen
        assert time.monotonic() < end, f"not seen within {within} s"
        await asyncio.sleep(0.02)  # the only way to learn what another program has come to is to ask it


# --- authorities that misbehave where the test says --------------------------------------------------------------


@dataclass(slots=True)
class Trap:
    """One request, by its path or SOAPAction, at which the authority misbehaves once."""

    at: str
    mode: str
    seconds: float


@dataclass(slots=True)
class Authority:
    """One simulated authority of this process: its application, and what came in."""

    region: str
    app: web.Application
    traps: list[Trap] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def trap(self, at: str, mode: str, *, seconds: float = 5.0) -> None:
        """Misbehave in this way at the next request whose path or SOAPAction contains `at`."""
        self.traps.append(Trap(at, mode, seconds))

    def order(self, mode: str, times: int = -1, *, seconds: float = 5.0) -> None:
        """Misbehave in this way at whatever comes."""
        self.app[MISBEHAVIOUR].seconds = seconds
        self.app[MISBEHAVIOUR].order(mode, times)

    def behave(self) -> None:
        """Behave again."""
        self.traps.clear()
        self.app[MISBEHAVIOUR].clear()

    def spring(self, request: web.Request) -> None:
        """Note the request, and arm the misbehaviour that waits for it."""
        name = f"{request.method} {request.path} {request.headers.get('SOAPAction', '')}"
        self.seen.append(name)
        for trap in [trap for trap in self.traps if trap.at in name][:1]:
            self.traps.remove(trap)
            self.order(trap.mode, 1, seconds=trap.seconds)


SUBMIT_AT = {"guangdong": "POST /ebus/pearl/v1/cases", "hongkong": "/api/v1/cases/submit", "foshan": "#SubmitCase",
             "shenzhen": "POST /v1/cases", "macau": "POST /v1/cases"}  # fmt: skip
LOOK_UP_AT = {
    "guangdong": "GetCertificateDataByHolder",
    "hongkong": "/api/v1/certificates/match",
    "foshan": "#GetCertificateDataByHolder",
}
"""The request that a trap waits for: by region."""


@asynccontextmanager
async def authorities(layout: Layout) -> AsyncIterator[Mapping[str, Authority]]:
    """Run every simulated authority on its port, each behind its traps."""
    async with AsyncExitStack() as down:
        running = {one.region: _authority(one) for one in layout.authorities}
        for region, authority in running.items():
            runner = web.AppRunner(authority.app, access_log=None, shutdown_timeout=1)
            await runner.setup()
            down.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", layout.ports.authorities[region]).start()
        yield running


def _authority(settings: AuthoritySettings) -> Authority:
    build = importlib.import_module(f"adapters.{settings.region}.sandbox").build_authority
    authority = Authority(settings.region, build(settings))

    @web.middleware
    async def spring(request: web.Request, handler: Handler) -> web.StreamResponse:
        authority.spring(request)
        return await handler(request)

    authority.app.middlewares.insert(0, spring)
    return authority


# --- the world ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read in full. Header names may be asked for in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal that kept every promise that all of them make: the problem document and its evidence row."""

    status: int
    problem: Mapping[str, Any]
    row: Mapping[str, Any]

    @property
    def code(self) -> str:
        return str(self.problem["code"])

    @property
    def fields(self) -> set[str]:
        return {problem["field"] for problem in self.problem.get("problems", [])}

    @property
    def codes(self) -> set[str]:
        return {problem["code"] for problem in self.problem.get("problems", [])}


@dataclass(slots=True)
class World:
    """A running neighbourhood, and outsiders who talk to it."""

    layout: Layout
    config: Config
    gateway: Gateway | None
    store: Store
    http: aiohttp.ClientSession
    authorities: Mapping[str, Authority]
    tokens: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.layout.ports.public_url

    @property
    def admin_url(self) -> str:
        return self.layout.ports.admin_url

    # --- callers

    def assertion(self, client: str, **changes: Any) -> str:
        """Return a client assertion (RFC 7523) of a registered client."""
        key = ECKey.import_key((self.layout.folder / "keys" / f"{client}.pem").read_bytes())
        now = int(time.time())
        claims = {"iss": client, "sub": client, "aud": self.url, "jti": secrets.token_hex(8), "iat": now, **changes}
        return jwt.encode({"alg": "ES256"}, {"exp": now + 60, **claims}, key, algorithms=["ES256"])

    async def token(self, client: str = AGENCY, scope: str = "submissions certificates") -> str:
        """Return an access token, asked for anew when half of its life is over: a run may outlast one."""
        if self.tokens.get((client, scope), ("", 0.0))[1] < time.monotonic():
            form = {
                "grant_type": "client_credentials",
                "scope": scope,
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": self.assertion(client),
            }
            async with self.http.post(f"{self.url}/oauth2/token", data=form) as answer:
                given = await answer.json()
            self.tokens[client, scope] = given["access_token"], time.monotonic() + given["expires_in"] / 2
        return self.tokens[client, scope][0]

    def forged_token(self, **changes: Any) -> str:
        """Return an access token that the gateway's own key signed, with claims that it would not write."""
        now = int(time.time())
        claims = {
            "iss": self.url, "sub": AGENCY, "aud": f"{self.url}/v1", "client_id": AGENCY, "iat": now, "exp": now + 60,
            "jti": secrets.token_hex(8), "scope": "submissions certificates", **changes,
        }  # fmt: skip
        return Es256Signer([(self.layout.folder / "keys" / "signing.pem").read_bytes()]).sign(claims, typ="at+jwt")

    async def send(
        self, method: str, path: str, *, data: Any = None, headers: Mapping[str, str] | None = None, url: str = ""
    ) -> Answer:
        """Send one request as it is."""
        async with self.http.request(
            method, (url or self.url) + path, data=data, headers=headers, allow_redirects=False
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        client: str = AGENCY,
        scope: str = "submissions certificates",
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request as an agency does. `body` is sent as JSON unless it is bytes."""
        bearer = await self.token(client, scope) if token is None else token
        sent = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        typed = {"Content-Type": "application/json"} if data is not None else {}
        return await self.send(method, path, data=data, headers={**sent, **typed, **(headers or {})})

    # --- submissions

    async def upload(self, client: str = AGENCY) -> str:
        """Upload a material and return its id."""
        headers = {"Content-Type": "application/pdf", "Content-Disposition": 'attachment; filename="id.pdf"'}
        answer = await self.ask("POST", "/v1/blobs", SLIP, client=client, headers=headers)
        assert answer.status == 201, answer.body
        return str(answer.json()["id"])

    async def application(self, region: str, *, client: str = AGENCY, **changes: Any) -> dict[str, Any]:
        """Return an application that is right, with its material uploaded; `changes` replace its parts."""
        item, material, applicant, form = FORMS[region]
        blob = await self.upload(client)
        body = {
            "reference": secrets.token_hex(8),
            "item": item,
            "place": region,
            "mode": "collect",
            "applicant": applicant,
            "form": form,
            "materials": [{"code": material, "blob": blob}],
            "purpose_code": "cross-region-service",
            "purpose": PURPOSE,
            "legal_basis": "statutory duty",
        }
        if region in ("hongkong", "macau"):
            body["consents"] = [consent(region, personal_fields(applicant, form))]
        return {**body, **changes}

    async def file(self, region: str, *, client: str = AGENCY, **changes: Any) -> str:
        """File an application and return the submission's id."""
        body = await self.application(region, client=client, **changes)
        answer = await self.ask("POST", "/v1/submissions", body, client=client)
        assert answer.status == 201, answer.body
        return str(answer.json()["id"])

    async def case(self, submission_id: str, client: str = AGENCY) -> dict[str, Any]:
        """Return a case as its filer sees it."""
        answer = await self.ask("GET", f"/v1/submissions/{submission_id}", client=client)
        assert answer.status == 200, answer.body
        shown: dict[str, Any] = answer.json()
        return shown

    async def until(self, submission_id: str, *states: str, within: float = 20.0) -> dict[str, Any]:
        """Wait until a case is in one of these states and return it."""

        async def look() -> dict[str, Any] | None:
            case = await self.case(submission_id)
            return case if case["state"] in states else None

        return await eventually(look, within)

    async def at_rest(self, submission_id: str) -> dict[str, Any]:
        """Wait until a case is completed and its documents, if its region has any, are here: nothing follows then."""

        async def look() -> dict[str, Any] | None:
            case = await self.case(submission_id)
            declared = tomllib.loads((HOUSE / f"adapters/{case['place']}/region.toml").read_text("utf-8"))
            fetched = any(entry["kind"] == "results.ready" for entry in case["timeline"])
            return case if case["state"] == "COMPLETED" and fetched == declared["capabilities"]["results"] else None

        return await eventually(look)

    async def ledger(self, region: str) -> dict[str, Any]:
        """Return everything that an authority has in its books."""
        answer = await self.send("GET", "/control/ledger", url=self.layout.ports.authority_url(region))
        books: dict[str, Any] = answer.json()
        return books

    # --- certificates

    def question(self, **changes: Any) -> dict[str, Any]:
        """Return a lookup that is right: the citizen's identity card, for a case of the agency's own."""
        return {
            "certificate_type": "居民身份证",
            "holder": {"name": CITIZEN["name"], "document": CITIZEN["document"]},
            "holder_role": "applicant",
            "operator": "T0001",
            "item": {"code": FILING, "name": "跨省异地就医备案"},
            "case": "AGENCY-CASE-1",
            "purpose_code": "cross-region-service",
            "purpose": "Identity check for the case",
            "legal_basis": "statutory duty",
            **changes,
        }

    # --- what is kept

    async def rows(self, table: Table, **wanted: Any) -> list[dict[str, Any]]:
        """Return the rows of a table with these values."""
        query = select(table).where(*(table.c[name] == value for name, value in wanted.items()))
        return await self.store.read(lambda tx: [dict(row) for row in tx.execute(query).mappings()])

    async def evidence_of(self, submission_id: str, action: str) -> list[dict[str, Any]]:
        """Return the evidence of one kind for one case, oldest first."""
        rows = await self.rows(evidence, action=action)
        return sorted(
            (row for row in rows if row["what"].get("case") == submission_id), key=lambda row: row["recorded_at"]
        )

    async def counts(self) -> dict[str, int]:
        """Return how many rows there are of what a refusal must not touch."""
        tables: Sequence[Table] = (submissions, deliveries)
        query = {table.name: select(func.count()).select_from(table) for table in tables}
        return await self.store.read(
            lambda tx: {name: int(tx.execute(one).scalar_one()) for name, one in query.items()}
        )

    async def refused(self, sending: Callable[[], Awaitable[Answer]], *never: str, where: str = "caller") -> Refusal:
        """Send something that must be refused; check what every refusal promises, and return it.

        A problem document with `where` and `retryable`; neither a person in it nor the bad values in `never`; exactly
        one evidence row, named in `instance`; no submission and no delivery.
        """
        before, known = await self.counts(), {row["id"] for row in await self.rows(evidence, outcome="refused")}
        answer = await sending()
        assert 400 <= answer.status < 500, answer.body
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == answer.status
        assert (problem["where"], problem["retryable"]) == (where, False)
        assert problem["type"] == f"urn:pearl:problem:{problem['code']}"
        said = answer.body.decode()
        assert [value for value in (*PRIVATE, *never) if value in said] == []
        new = [row for row in await self.rows(evidence, outcome="refused") if row["id"] not in known]
        assert [f"urn:pearl:evidence:{row['id']}" for row in new] == [problem["instance"]]
        assert new[0]["reason"] == problem["code"]
        assert await self.counts() == before
        return Refusal(answer.status, problem, new[0])

    async def timeline(self, submission_id: str) -> list[dict[str, Any]]:
        """Return the recorded events of a case in order, without their places in the stream, which come later."""
        rows = await self.rows(submission_events, submission_id=submission_id)
        told = [{name: value for name, value in row.items() if name != "position"} for row in rows]
        return sorted(told, key=lambda row: int(row["seq"]))


def personal_fields(applicant: Mapping[str, Any], form: Mapping[str, str]) -> list[str]:
    """Return what a consent to sending such an application must name."""
    return [
        *(f"applicant.{name}" for name in applicant if name != "kind"),
        *(f"form.{name}" for name in form),
        "materials",
    ]


def consent(recipient: str, fields: Sequence[str], **changes: Any) -> dict[str, Any]:
    """Return a consent (单独同意) to one transfer that is in force."""
    return {
        "recipient": recipient,
        "purpose": PURPOSE,
        "fields": list(fields),
        "given_at": "2026-01-01T00:00:00Z",
        "expires_at": "2099-01-01T00:00:00Z",
        "evidence": "signed form 7",
        **changes,
    }


def prepare(
    folder: Path,
    *,
    changes: Mapping[str, str] | None = None,
    items: Mapping[str, Sequence[str]] | None = None,
    pace: float = 0.02,
    regions: Sequence[str] | None = None,
) -> Layout:
    """Lay a neighbourhood out on free ports, with more clients and shorter waits; `changes` are made after those.

    `items` are the item codes that an authority knows, where they shall differ from what the gateway believes.
    `regions` are those that there are; with a few, a gateway starts in a part of the time.
    """
    layout = lay_out(folder, free_ports(regions), Choices(pace=pace, extra=SMALL_LIMITS))
    if regions is not None:
        narrow(folder, regions)
    for name in ("other-agency", "foshan-agency", "hk-agency"):
        Mint(folder / "keys").client_keys(name)
    _add(folder / "clients.toml", MORE_CLIENTS)
    _add(folder / "grants.toml", MORE_GRANTS)
    rewrite(layout.config, PRESSED)
    rewrite(layout.config, changes or {})
    known = {region: orjson.dumps(list(codes)) for region, codes in (items or {}).items()}
    given = [
        replace(one, secrets={**one.secrets, "item_codes": known[one.region]}) if one.region in known else one
        for one in layout.authorities
    ]
    return replace(layout, authorities=given)


def _add(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def rewrite(path: Path, changes: Mapping[str, str]) -> None:
    """Replace texts of a file, each of which must stand there."""
    text = path.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"{path.name} does not hold {old!r}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


@asynccontextmanager
async def outside(layout: Layout, config: Config) -> AsyncIterator[World]:
    """Run the authorities and open the outsiders' way in; the gateway is run by the caller."""
    async with AsyncExitStack() as down:
        running = await down.enter_async_context(authorities(layout))
        http = await down.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        store = await open_store(store_url(config))
        down.push_async_callback(store.close)
        yield World(layout, config, None, store, http, running)


@asynccontextmanager
async def neighbourhood(layout: Layout) -> AsyncIterator[World]:
    """Run gateway and authorities in this process, on the ports that were laid out."""
    config = load_config(layout.config)
    # The gateway goes first: what it asks of an authority while that one goes would be left half open.
    async with outside(layout, config) as world, build_app(config) as gateway, listening(config, gateway):
        world.gateway = gateway
        yield world
