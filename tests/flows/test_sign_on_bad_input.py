"""Bad input at every address of sign-on: the protocol's own error, and nothing that helps an attacker.

Whatever comes, the answer is never a 5xx, tells no stack, repeats nothing where a browser would run it, leads nowhere
else, and is the same for what is unknown and for what is somebody else's. What was refused leaves evidence.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from aiohttp import ClientResponse
from sqlalchemy import select

from gateway.errors import RegionUnreachable, SignOnFailed
from gateway.identity.clients import GrantType
from gateway.identity.refusals import EACH
from gateway.ports import OnceOnly
from gateway.storage import Store
from gateway.storage.tables import evidence
from tests.flows.flow_support import World as WholeWorld
from tests.support.sign_on import (
    REDIRECT,
    Browser,
    Request,
    World,
    a_client,
    agency_keys,
    choice,
    open_world,
    parameters,
)

FORM = "application/x-www-form-urlencoded"
SEEDS = range(4)
"""Each seed is another run of the same length; a finding comes back with its seed."""
ROUNDS = 40
OAUTH_ERRORS = {
    "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
    "invalid_scope", "unsupported_response_type", "access_denied", "invalid_dpop_proof", "use_dpop_nonce",
    "login_required", "consent_required", "unmet_authentication_requirements", "request_not_supported",
    "request_uri_not_supported", "registration_not_supported",
}  # fmt: skip
"""RFC 6749, RFC 9126, RFC 9449, OpenID Connect Core and what it refers to."""
GRANTS: frozenset[GrantType] = frozenset({"authorization_code", "refresh_token"})
HARM = "\"'><script>harm()</script>"


@pytest.fixture(scope="module")
def keys() -> Mapping[str, Any]:
    return agency_keys()


@pytest.fixture
async def world(tmp_path: Path, keys: Mapping[str, Any], sqlite_store: Store) -> AsyncIterator[World]:
    async with open_world(tmp_path, keys, sqlite_store) as opened:
        opened.clients["portal"] = a_client("portal", grant_types=GRANTS)
        opened.clients["other"] = a_client("other", grant_types=GRANTS)
        yield opened


@dataclass(frozen=True)
class Answer:
    """An answer as it came over the wire."""

    status: int
    head: str
    body: str

    def header(self, name: str) -> str:
        found = re.search(rf"^{name}: *(.*?)\r?$", self.head, re.MULTILINE | re.IGNORECASE)
        return found[1] if found else ""

    @property
    def error(self) -> str:
        return str(json.loads(self.body).get("error", ""))


async def send(world: World, method: str, target: str, headers: Sequence[str] = (), body: bytes = b"") -> Answer:
    """Send a request byte for byte: clients correct too much."""
    reader, writer = await asyncio.open_connection(world.http.server.host, world.http.server.port)
    lines = [f"{method} {target} HTTP/1.1", "Host: gateway.test", "Connection: close", *headers]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    writer.write("\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body)
    try:
        raw = await reader.read()
    finally:
        writer.close()
    text = raw.decode("utf-8", "replace").removeprefix("HTTP/1.1 100 Continue\r\n\r\n")
    head, _, rest = text.partition("\r\n\r\n")
    return Answer(int([*head.split(" "), "0", "0"][1]), head, rest)


async def post(world: World, path: str, form: Mapping[str, str] | bytes, *headers: str) -> Answer:
    body = form if isinstance(form, bytes) else urlencode(form).encode()
    return await send(world, "POST", path, [f"Content-Type: {FORM}", *headers], body)


def harmless(answer: Answer, asked: str) -> None:
    """Hold an answer against what all of them promise."""
    assert 200 <= answer.status < 500, (asked, answer.head)
    for word in ("Traceback", 'File "', "sqlalchemy", "aiohttp/", "Python/", "sqlite", "KeyError", "Exception"):
        assert word not in answer.head + answer.body, (asked, word)
    assert "<script>harm" not in answer.body, asked
    assert not answer.header("X-Harm"), asked
    location = answer.header("Location")
    assert location.startswith(REDIRECT) or urlsplit(location)[:2] == ("", ""), (asked, location)
    assert not location.startswith(("//", "/\\")), (asked, location)
    kind = answer.header("Content-Type")
    if answer.status >= 400 and "json" in kind and "problem" not in kind:
        assert answer.error in OAUTH_ERRORS, (asked, answer.body)
    if "text/html" in kind:
        assert "default-src 'none'" in answer.header("Content-Security-Policy"), asked
        assert answer.header("Cache-Control") == "no-store", asked
    assert answer.header("X-Content-Type-Options") == "nosniff", asked


# --- any address, any method, anything -------------------------------------------------------------------------------

REGIONS = (
    "guangdong",
    "hongkong",
    "foshan",
    "nowhere",
    "%00",
    "%0d%0aX-Harm:%201",
    "%2f%2fevil.test",
    "%ff",
    "..",
    "x" * 300,
)
NAMES = (
    "client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "code_challenge",
    "code_challenge_method", "claims", "id_token_hint", "max_age", "dpop_jkt", "prompt", "acr_values", "ui_locales",
    "login_hint", "display", "request", "request_uri", "registration", "grant_type", "code", "code_verifier",
    "refresh_token", "client_assertion", "client_assertion_type", "token", "token_type_hint", "subject_token",
    "subject_token_type", "actor_token", "requested_token_type", "interaction", "decision", "digest", "language",
    "claim.name", "return", "RelayState", "SAMLResponse", "ticket", "lang", "failed", "why", "logout", "confirm",
    "post_logout_redirect_uri", "logout_hint", "logout_token", "error", "iss",
)  # fmt: skip
VALUES = (
    "", "portal", "agency", "nobody", REDIRECT, "https://evil.test/", "code", "openid profile", "S256", "none", "login",
    "authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange",
    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "urn:ietf:params:oauth:request_uri:" + "A" * 43,
    "urn:ietf:params:oauth:token-type:access_token", "A" * 43, "x" * 43, "\x00", "a\x00b", "\ud800", "\uffff", "\u202e",
    "中文", "e30.e30.e30", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZ2VuY3kifQ.", "..", ".", "-1", "9" * 40, "1e9", "true",
    "{}", "[]", "null", '{"id_token":{"acr":{"essential":true,"values":["\\ud800"]}}}', '{"userinfo":' * 300,
    "[" * 2000, "x" * 3000, HARM, "%00", "%", "%zz", "a\r\nX-Harm: 1", "{{7*7}}", "' OR '1'='1", "/../..", "en",
    "zh-CN", "//evil.test", "\t", " ", "&", "=", ";", "#",
)  # fmt: skip
HEADERS = (
    "Cookie: __Host-pearl_session=" + "A" * 43, "Cookie: __Host-pearl_sign_on=" + "A" * 43, "Cookie: ;;;=;,",
    "Cookie: __Host-pearl_session=\x80\xff", "Cookie: pearl_region=<b>", "Cookie: pearl_language=../..",
    "Cookie: " + "a=b; " * 900, "Accept-Language: \x80;q=9,,,", "Accept-Language: " + "en," * 500,
    "Authorization: Bearer e30.e30.e30", "Authorization: DPoP x", "Authorization: Basic !!!", "Authorization: \xff",
    "Authorization: " + "x" * 4000, "DPoP: e30.e30.e30", "DPoP: \x80", "DPoP: a\r\nDPoP: b", "Client-Cert: :AAAA:",
    "Forwarded: for=\"_x\";host=evil.test;proto=http", "X-Forwarded-Host: evil.test", "X-Forwarded-Proto: http",
    "Origin: null", "Referer: https://evil.test/", "Accept: " + HARM, "User-Agent: " + HARM,
    "Content-Encoding: gzip", "Content-Type: application/json", "Content-Type: multipart/form-data; boundary=x",
    "Content-Type: \xff", "Content-Type: ;;;", f"Content-Type: {FORM}; charset=utf-7",
    "Range: bytes=0-1", "If-None-Match: *", "Upgrade: h2c", "Expect: 100-continue",
)  # fmt: skip


def addresses(world: World, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Give every method and address that is routed, with some region in it."""
    for route in world.app.router.routes():
        path = route.resource.canonical if route.resource else "/"
        yield route.method, path.replace("{region}", chance.choice(REGIONS))


def encoded(text: str, chance: random.Random) -> str:
    """Write a value into a form: properly, or as some broken client does."""
    if chance.random() < 0.2:
        return re.sub(r"[\x00-\x20\x7f-\U0010ffff]", "", text)
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_that_a_stranger_sends_to_any_address_does_harm(world: World, seed: int) -> None:
    """Every routed address by its own method: any parameters, once or repeated, in any order, and any headers.

    The same requests in every run.
    """
    chance = random.Random(seed)  # noqa: S311 - the same in every run is what is wanted
    for _ in range(ROUNDS // 4):
        for method, path in addresses(world, chance):
            names = chance.choices(NAMES, k=chance.randrange(9))
            pairs = "&".join(f"{name}={encoded(chance.choice(VALUES), chance)}" for name in names)[:7000]
            headers = chance.choices(HEADERS, k=chance.randrange(3))
            if method == "POST":
                if not any("Content-Type" in one for one in headers):
                    headers.append(f"Content-Type: {FORM}")
                answer = await send(world, method, path, headers, pairs.encode("latin-1", "replace"))
            else:
                answer = await send(world, method, f"{path}?{pairs}", headers)
            if "X-Request-Id" in answer.head:  # else its framing contradicts itself, and it never got this far
                harmless(answer, f"{method} {path}?{pairs} {headers}")


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_right_request_with_one_thing_wrong_does_no_harm(world: World, seed: int) -> None:
    """Deeper than noise gets: a request that would succeed, but one parameter is something else or stands twice."""
    chance = random.Random(seed)  # noqa: S311 - as above
    request, browser = Request(), Browser(world)
    for _ in range(ROUNDS):
        forms: dict[str, dict[str, str]] = {
            "/oauth2/authorize": request.fields(),
            "/oauth2/par": {**Request(client_id="agency").fields(), **world.signed()},
            "/oauth2/token": {"grant_type": "client_credentials", **world.signed()},
            "/oauth2/introspect": {"token": "A" * 43, **world.signed()},
            "/oauth2/revoke": {"token": "A" * 43, **world.signed()},
        }
        path = chance.choice(sorted(forms))
        fields = forms[path]
        name, value = chance.choice([*sorted(fields), *NAMES]), encoded(chance.choice(VALUES), chance)
        pairs = [
            f"{key}={quote(text, safe='')}" for key, text in fields.items() if key != name or chance.random() < 0.3
        ]
        pairs.insert(chance.randrange(len(pairs) + 1), f"{name}={value}")
        text = "&".join(pairs)[:7000]
        if path == "/oauth2/authorize":
            cookies = "; ".join(f"{key}={handle}" for key, handle in browser.cookies.items())
            answer = await send(world, "GET", f"{path}?{text}", [f"Cookie: {cookies}"] if cookies else [])
        else:
            answer = await post(world, path, text.encode("latin-1", "replace"))
        harmless(answer, f"{path}?{text}")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
async def test_a_method_that_an_address_does_not_take_is_said_so(world: World, method: str) -> None:
    for path in sorted({path for _, path in addresses(world, random.Random(0))}):  # noqa: S311 - as above
        answer = await send(world, method, path.replace("%00", "guangdong"))
        assert answer.status == 405, path
        assert answer.header("Allow"), path
        harmless(answer, f"{method} {path}")


# --- forms that are none ---------------------------------------------------------------------------------------------

ENDPOINTS = ("/oauth2/token", "/oauth2/par", "/oauth2/introspect", "/oauth2/revoke")
NO_FORMS: Mapping[str, tuple[Sequence[str], bytes, int]] = {
    "no type": ((), b"token=x", 400),
    "JSON": (("Content-Type: application/json",), b'{"token":"x"}', 400),
    "several parts": (("Content-Type: multipart/form-data; boundary=x",), b"--x--", 400),
    "bytes of no charset": ((f"Content-Type: {FORM}",), b"token=\xff\xfe", 400),
    "twice": ((f"Content-Type: {FORM}",), b"token=a&token=b", 400),
    "twice, once empty": ((f"Content-Type: {FORM}",), b"token=&token=b", 400),
    "very many": ((f"Content-Type: {FORM}",), b"&".join(b"a%d=1" % i for i in range(60)), 400),
    "compressed, it says": ((f"Content-Type: {FORM}", "Content-Encoding: gzip"), b"token=x", 400),
    "very large": ((f"Content-Type: {FORM}",), b"token=" + b"x" * 3_000_000, 413),
}


@pytest.mark.parametrize("name", sorted(NO_FORMS))
@pytest.mark.parametrize("path", ENDPOINTS)
async def test_a_body_that_is_no_form_is_an_error_of_oauth(world: World, path: str, name: str) -> None:
    """RFC 6749 §5.2: also when the body is too large, or is not what it says, which the framework would answer itself.

    Guarded by the `except` lines of `ProviderEndpoints.form_of`.
    """
    headers, body, status = NO_FORMS[name]
    answer = await send(world, "POST", path, headers, body)
    assert (answer.status, answer.error) == (status, "invalid_request")
    assert answer.header("Cache-Control") == "no-store"
    harmless(answer, name)


async def test_a_pushed_request_is_named_once_and_by_one_client(world: World) -> None:
    """Two readers could take two of them for the one meant. Guarded by `datalist` in `authorization._pushed_handle`."""
    _, pushed = await world.post("/oauth2/par", {**Request(client_id="agency").fields(), **world.signed()})
    uri = urlencode({"client_id": "agency", "request_uri": pushed["request_uri"]})
    for more in ("client_id=portal", "client_id=agency", "request_uri=https://evil.test/", uri):
        for query in (f"{uri}&{more}", f"{more}&{uri}"):
            assert (await Browser(world).get(f"/oauth2/authorize?{query}")).status == 400
    assert (await Browser(world).get(f"/oauth2/authorize?{uri}")).status == 302


# --- no oracle -------------------------------------------------------------------------------------------------------


async def page_of(answer: ClientResponse) -> tuple[int, str]:
    """Return status and page, without what differs by the address that was asked for and by the request's number."""
    page = (await answer.text()).replace(answer.headers["X-Request-Id"], "")
    return answer.status, re.sub(r'href="\?[^"]*"', "", page)


async def test_what_is_unknown_and_what_is_somebody_elses_are_answered_alike(world: World) -> None:
    """Codes, refresh tokens, access tokens, pushed requests: nobody learns that one exists by trying.

    Guarded by one answer for each kind: `InvalidGrantError` of Authlib, `{"active": false}`, the one text `NOT_PUSHED`.
    """
    request, made_up = Request(client_id="other"), "A" * 43
    code = (await Browser(world).sign_on(request))["code"]
    used = Request(client_id="other")
    _, body = await world.token(**used.redemption((await Browser(world).sign_on(used))["code"]))
    tried = [await post(world, "/oauth2/token", Request().redemption(one)) for one in (code, made_up)]
    assert tried[0].body == tried[1].body
    refreshes = [
        await post(world, "/oauth2/token", {"grant_type": "refresh_token", "refresh_token": one, "client_id": "portal"})
        for one in (body["refresh_token"], made_up)
    ]
    assert refreshes[0].body == refreshes[1].body
    tokens = (body["access_token"], body["refresh_token"], body["id_token"], made_up, "x")
    worth = [await post(world, "/oauth2/introspect", {"token": one, **world.signed()}) for one in tokens]
    assert {(one.status, one.body) for one in worth} == {(200, '{"active":false}')}
    ended = [await post(world, "/oauth2/revoke", {"token": one, "client_id": "portal"}) for one in tokens]
    assert {(one.status, one.body) for one in ended} == {(200, "{}")}
    assert (await world.userinfo(body["access_token"])).status == 200
    _, pushed = await world.post("/oauth2/par", Request(client_id="other").fields())
    pages = set()
    for one in (pushed["request_uri"], "urn:ietf:params:oauth:request_uri:" + made_up):
        answer = await Browser(world).get(f"/oauth2/authorize?{urlencode({'client_id': 'portal', 'request_uri': one})}")
        pages.add(await page_of(answer))
    assert len(pages) == 1


async def test_a_sign_on_of_another_browser_and_none_at_all_look_alike(world: World) -> None:
    """Guarded by the one text `LOST`."""
    victim, stranger = Browser(world), Browser(world)
    chooser = await victim.to(Request().url())
    upstream = parameters(await victim.to(choice(chooser, "guangdong")))
    real, made_up = parameters(chooser)["interaction"], "A" * 43
    seen = set()
    for interaction, state in ((real, upstream["state"]), (made_up, made_up)):
        for path, query in (
            ("/sign-in", {"interaction": interaction}),
            ("/sign-in/guangdong", {"interaction": interaction}),
            ("/sign-in/consent", {"interaction": interaction}),
            ("/oauth2/authorize/cancel", {"interaction": interaction}),
            ("/sign-in/guangdong/callback", {"state": state, "code": "c"}),
            ("/sign-in/nowhere/callback", {"state": state, "code": "c"}),
        ):
            answer = await stranger.get(f"{path}?{urlencode(query)}")
            seen.add(await page_of(answer))
    assert len(seen) == 1


# --- evidence of what was refused ------------------------------------------------------------------------------------


async def refusals(world: World) -> list[dict[str, Any]]:
    kept = select(evidence).where(evidence.c.outcome != "done").order_by(evidence.c.recorded_at)
    return await world.store.read(lambda tx: [dict(row) for row in tx.execute(kept).mappings()])


def told(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return row["action"], row["reason"], row["who"].get("client", ""), row["what"].get("region", "")


async def test_every_refused_request_of_a_client_is_evidence_that_names_no_secret(world: World) -> None:
    """Guarded by `TokenEndpoints._noted`. A client that nobody knows is not named: the name is a stranger's text."""
    code, secret = "C" * 43, "S" * 43
    await post(world, "/oauth2/token", Request(verifier=secret).redemption(code))
    await post(world, "/oauth2/token", {"grant_type": "password", "client_id": "portal", "password": secret})
    await post(world, "/oauth2/token", {"grant_type": "client_credentials", "client_id": f"nobody{secret}"})
    await post(world, "/oauth2/par", {**Request().fields(), "redirect_uri": f"https://evil.test/{secret}"})
    await post(world, "/oauth2/introspect", {"token": secret, "client_id": "agency"})
    await post(world, "/oauth2/revoke", {"client_id": "portal"})
    assert [told(row) for row in await refusals(world)] == [
        ("token.issue", "invalid_grant", "portal", ""),
        ("token.issue", "unsupported_grant_type", "portal", ""),
        ("token.issue", "invalid_client", "", ""),
        ("token.push", "invalid_request", "portal", ""),
        ("token.introspect", "invalid_client", "agency", ""),
        ("token.revoke", "invalid_request", "portal", ""),
    ]
    assert not {secret, code, "evil.test"} & set(re.findall(r"[CS]{43}|evil\.test", str(await refusals(world))))


async def test_a_sign_on_that_was_refused_is_evidence_with_region_client_and_reason(world: World) -> None:
    """Guarded by `Refusals.of_sign_on` in `Authorization.begin`, `complete` and `cancel`."""
    provider = world.providers["guangdong"]
    provider.failure = SignOnFailed("no", code="signon.refused", detail="李芳 said no")
    browser, back = await stranded(world)
    assert urlsplit(await browser.to(back)).path == "/sign-in"
    provider.failure = None
    _, back = await stranded(world)
    await Browser(world).get(back)  # another browser
    provider.more = {"once": OnceOnly("assertion-1", world.clock())}
    for _ in range(2):
        browser, back = await stranded(world)
        await browser.get(back)
    await Browser(world).get("/sign-in/nowhere/callback?state=x")
    provider.level = "L1"
    provider.more = {}
    demanded = json.dumps({"id_token": {"acr": {"essential": True, "values": ["urn:pearl:assurance:A2"]}}})
    await Browser(world).through(Request(extra={"claims": demanded}).url())
    browser = Browser(world)
    await browser.to(f"/oauth2/authorize/cancel?{urlsplit(await browser.to(Request().url())).query}")
    assert [told(row) for row in await refusals(world)] == [
        ("sign_on", "signon.refused", "portal", "guangdong"),
        ("sign_on", "signon.lost", "", "guangdong"),
        ("sign_on", "signon.replayed", "portal", "guangdong"),
        ("sign_on", "signon.lost", "", ""),
        ("sign_on.answer", "unmet_authentication_requirements", "portal", "guangdong"),
        ("sign_on.answer", "access_denied", "portal", ""),
    ]
    provider.failure = RegionUnreachable("away", region="guangdong")
    browser = Browser(world)
    await browser.get(choice(await browser.to(Request().url()), "guangdong"))
    row = (await refusals(world))[-1]
    assert (told(row), row["outcome"]) == (("sign_on", "region.unreachable", "portal", "guangdong"), "failed")
    assert not re.search("李芳|gd-1|assertion-1", str(await refusals(world)))


async def stranded(world: World) -> tuple[Browser, str]:
    """Bring a browser to the region, and return it with the address by which it would come back."""
    browser, provider = Browser(world), world.providers["guangdong"]
    chooser, failure, provider.failure = await browser.to(Request().url()), provider.failure, None
    upstream = parameters(await browser.to(choice(chooser, "guangdong")))
    provider.failure = failure
    return browser, f"/sign-in/guangdong/callback?{urlencode({**upstream, 'code': 'c'})}"


async def test_a_flood_of_refusals_is_counted_and_fills_no_table(world: World) -> None:
    """The count is written when the minute is over, at the latest by the janitor. Guarded by `EACH` in `_note`."""
    for number in range(EACH + 5):
        await post(world, "/oauth2/token", {"grant_type": "client_credentials", "client_id": f"nobody-{number}"})
    await post(world, "/oauth2/revoke", {"client_id": "portal"})
    assert [row["what"]["times"] for row in await refusals(world)] == [1] * (EACH + 1)
    world.clock.advance(61)
    for _ in range(2):
        await world.service.refusals.write_counted()
    (counted,) = [row for row in await refusals(world) if row["what"]["times"] != 1]
    assert (told(counted), counted["what"]["times"]) == (("token.issue", "invalid_client", "", ""), 5)


async def test_what_succeeds_and_what_is_only_told_how_to_ask_leave_no_refusal(world: World) -> None:
    """A DPoP nonce that is handed out is no refusal (RFC 9449 §8)."""
    world.clients["agency"] = replace(world.clients["agency"], dpop_bound_access_tokens=True)
    answer = await post(world, "/oauth2/token", {"grant_type": "client_credentials", **world.signed()})
    assert answer.error == "use_dpop_nonce"
    request = Request()
    _, body = await world.token(**request.redemption((await Browser(world).sign_on(request))["code"]))
    assert (await world.userinfo(body["access_token"])).status == 200
    assert await refusals(world) == []


# --- the account pages, in the whole gateway -------------------------------------------------------------------------


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_that_a_stranger_sends_to_the_account_pages_does_harm(
    shared_world: WholeWorld, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - as above
    paths = ["", "/sign-in", "/callback", "/sessions", "/sessions/end", "/sessions/end-all", "/consents",
             "/consents/revoke", "/mandates", "/mandates/new", "/mandates/revoke", "/links", "/links/new", "/links/end",
             "/%00", "/..%2f..", "/nothing"]  # fmt: skip
    names = ("next", "state", "code", "iss", "error", "lang", "token", "form", "session", "region", "agreed", "id")
    for path in paths:
        for method in ("GET", "POST"):
            pairs = "&".join(
                f"{chance.choice(names)}={quote(chance.choice(VALUES).encode('utf-8', 'surrogatepass'), safe='')}"
                for _ in range(chance.randrange(6))
            )[:6000]
            sent = {"Content-Type": FORM, "Cookie": chance.choice(["", "pearl_session=" + "A" * 43, "pearl_account=x"])}
            query, data = (f"?{pairs}", None) if method == "GET" else ("", pairs.encode())
            answer = await shared_world.send(method, f"/account{path}{query}", data=data, headers=sent)
            asked = f"{method} /account{path} {pairs}"
            assert answer.status < 500, asked
            text = answer.body.decode()
            assert "<script>harm" not in text, asked
            assert "Traceback" not in text, asked
            location = answer.headers.get("Location", "")
            assert urlsplit(location)[:2] == ("", "") or location.startswith(shared_world.url), (asked, location)
