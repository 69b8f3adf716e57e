"""Sign-on at the simulated authority of Hong Kong: the page of iAM Smart (智方便), codes, tokens, profiles.

Owns: what the browser sees, the codes and tokens that follow, and the profile of a person. Leaves to `sandbox_wire`:
signatures and encryption of the two server-to-server requests. The error codes of a redirect are our choice: D40000
the person declined, D40001 no such account, D40002 a parameter of the request is wrong, D40003 the person acts for no
company. `sandbox_corporate` has what follows for a company.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web

from adapters.hongkong.sandbox_messages import ProfileRequest, TokenRequest, read
from adapters.hongkong.sandbox_wire import BAD_CODE, REFUSED, Clock, Refusal
from gateway.sandbox.authority import AuthoritySettings, Misbehaviour

DECLINED, UNKNOWN_ACCOUNT, BAD_PARAMETER, NO_COMPANY = "D40000", "D40001", "D40002", "D40003"
CODE_LIFETIME = 120  # s
TOKEN_LIFETIME = 600  # s

_SOURCES = frozenset({"PC_Browser", "Android_Chrome", "iOS_Safari", "App_Scheme", "App_Link"})
_SCOPES = frozenset({"eidapi_auth", "eidapi_profiles", "eidapi_formFilling", "eidapi_sign", "eidapi_fr", "corpid_auth"})

HOSTILE: Mapping[str, str] = {
    "hostile_changed_state": "sends the browser back with another state",
    "hostile_swapped_open_id": "answers the exchange of a code with the openID of another person",
    "hostile_profile_of_another": "answers with the profile of another person",
    "hostile_no_open_id": "answers the exchange of a code without an openID",
    "hostile_scope_not_asked_for": "grants more than was asked for",
    "hostile_no_scope_for_who_it_is": "grants less than a sign-on needs",
    "hostile_stale_proof": "passes a proof of yesterday off for one made now",
    "hostile_proof_to_come": "dates the proof an hour ahead",
    "hostile_token_that_is_over": "gives out an access token whose time is over",
    "hostile_token_of_another_kind": "gives out an access token that is no bearer token",
    "hostile_huge_profile": "answers with a profile of more than a MiB",
}
"""Attacks on a sign-on that this authority knows."""

_TOKEN_LIES: Mapping[str, Mapping[str, Any]] = {
    "hostile_no_open_id": {"openID": ""},
    "hostile_scope_not_asked_for": {"scope": "eidapi_auth eidapi_profiles eidapi_sign"},
    "hostile_no_scope_for_who_it_is": {"scope": "eidapi_profiles"},
    "hostile_token_that_is_over": {"expiresIn": 0},
    "hostile_token_of_another_kind": {"tokenType": "MAC"},
}
_TIME_LIES: Mapping[str, int] = {"hostile_stale_proof": -86_400_000, "hostile_proof_to_come": 3_600_000}

_TEXTS: Mapping[str, Mapping[str, str]] = {
    "en-US": {
        "title": "Sign on with iAM Smart (simulated)",
        "asks": "This service asks who you are:",
        "account": "Account",
        "capacity": "I act",
        "self": "for myself",
        "company": "for my company",
        "agree": "Agree and sign on",
        "decline": "Decline",
    },
    "zh-HK": {
        "title": "以「智方便」登入(模擬)",
        "asks": "以下服務要求確認你的身分:",
        "account": "帳戶",
        "capacity": "辦理身分",
        "self": "本人",
        "company": "本人的公司",
        "agree": "同意並登入",
        "decline": "拒絕",
    },
    "zh-CN": {
        "title": "以“智方便”登录(模拟)",
        "asks": "以下服务要求确认您的身份:",
        "account": "账户",
        "capacity": "办理身份",
        "self": "本人",
        "company": "本人的公司",
        "agree": "同意并登录",
        "decline": "拒绝",
    },
}

T = TypeVar("T")


class Vouchers(Generic[T]):
    """Random strings that stand for something until they expire, `lifetime` seconds after they were issued."""

    def __init__(self, mint: Callable[[], str], lifetime: float, clock: Clock) -> None:
        self._mint = mint
        self._lifetime = lifetime
        self._clock = clock
        self._live: dict[str, tuple[float, T]] = {}

    def issue(self, value: T) -> str:
        """Return a new voucher for the value."""
        self._forget_expired()
        voucher = self._mint()
        self._live[voucher] = (self._clock() + self._lifetime, value)
        return voucher

    def read(self, voucher: str) -> T | None:
        """Return what the voucher stands for, or None."""
        expires, value = self._live.get(voucher, (0.0, None))
        return value if expires > self._clock() else None

    def redeem(self, voucher: str) -> T | None:
        """Return what the voucher stands for, once."""
        value = self.read(voucher)
        self._live.pop(voucher, None)
        return value

    def _forget_expired(self) -> None:
        now = self._clock()
        while self._live and next(iter(self._live.values()))[0] <= now:  # the oldest comes first
            del self._live[next(iter(self._live))]


@dataclass(frozen=True, slots=True)
class Grant:
    """Who signed on, what was granted, and when it was proved (ms)."""

    person: Mapping[str, Any]
    scope: str
    proved_at: int


class SignOn:
    """The page and the two requests behind it."""

    def __init__(self, settings: AuthoritySettings, client_id: str, clock: Clock, wrong: Misbehaviour) -> None:
        self._people = {row["account"]: row for row in settings.people if row.get("region") == "hongkong"}
        self._wrong = wrong
        self._client_id = client_id
        self._return_to = settings.gateway_url.rstrip("/") + "/"
        self._clock = clock
        self._codes: Vouchers[Grant] = Vouchers(_code, CODE_LIFETIME, clock)
        self.tickets: Vouchers[Grant] = Vouchers(_code, CODE_LIFETIME, clock)
        self.tokens: Vouchers[Grant] = Vouchers(lambda: secrets.token_urlsafe(32), TOKEN_LIFETIME, clock)

    async def page(self, request: web.Request) -> web.Response:
        """Show the page (`GET /api/v1/auth/getQR`)."""
        return self._fault(request) or _page(request)

    async def sign_in(self, request: web.Request) -> web.Response:
        """Take the form and send the browser back with a code or with an error code."""
        fault = self._fault(request)
        if fault is not None:
            return fault
        form = parse_qs((await request.read()).decode("utf-8", "replace"))
        if form.get("decision") == ["decline"]:
            return _back(request, error_code=DECLINED)
        person = self._people.get(form.get("account", [""])[0].strip())
        if person is None:
            return _back(request, error_code=UNKNOWN_ACCOUNT)
        grant = Grant(person, request.query["scope"], int(self._clock() * 1000))
        answer = {"code": self._codes.issue(grant)}
        if form.get("capacity") == ["company"]:
            if "company" not in person:
                return _back(request, error_code=NO_COMPANY)
            answer["corpTicket"] = self.tickets.issue(grant)
        if self._wrong.due("hostile_changed_state"):
            answer["state"] = "of-another-sign-on"
        return _back(request, **answer)

    def token(self, plain: bytes) -> dict[str, Any]:
        """Answer `getToken`. Raises Refusal: D40004 for a code unknown, used or expired.

        A code belongs to the one client that is registered: the page hands out none for another.
        """
        grant = self._codes.redeem(read(TokenRequest, plain).code)
        if grant is None:
            raise Refusal(BAD_CODE)
        now = int(self._clock() * 1000)
        return self._told(
            grant,
            {
                "accessToken": self.tokens.issue(grant),
                "tokenType": "Bearer",
                "openID": grant.person["open_id"],
                "issueAt": now,
                "expiresIn": TOKEN_LIFETIME * 1000,
                "scope": grant.scope,
                "lastModifiedDate": now,
                "authTime": grant.proved_at,
                "version": grant.person.get("version", "iAMSmart"),
            },
        )

    def _told(self, grant: Grant, token: dict[str, Any]) -> dict[str, Any]:
        """Return the token's answer, or what a hostile authority makes of it."""
        for mode, lie in _TOKEN_LIES.items():
            if self._wrong.due(mode):
                token |= lie
        for mode, milliseconds in _TIME_LIES.items():
            if self._wrong.due(mode):
                token["authTime"] += milliseconds
        if self._wrong.due("hostile_swapped_open_id"):
            token["openID"] = self._another(grant.person)["open_id"]
        return token

    def _another(self, person: Mapping[str, Any]) -> Mapping[str, Any]:
        return next(one for one in self._people.values() if one["open_id"] != person["open_id"])

    def profile(self, plain: bytes) -> dict[str, Any]:
        """Answer `profiles` with the fields asked for and no other."""
        wanted = read(ProfileRequest, plain)
        grant = self.tokens.read(wanted.access_token)
        if grant is None:
            raise _no("accessToken", "is unknown or expired")
        if grant.person["open_id"] != wanted.open_id:
            raise _no("openID", "does not belong to the access token")
        if "eidapi_profiles" not in grant.scope.split():
            raise _no("accessToken", "was not granted for profiles")
        person = self._another(grant.person) if self._wrong.due("hostile_profile_of_another") else grant.person
        answer: dict[str, Any] = {"openID": person["open_id"]}
        for name in wanted.profile_fields:
            answer |= FIELDS[name](person)
        declared = person.get("eme", {})
        answer |= {name: declared[name] for name in wanted.eme_fields if name in declared}
        return answer | ({"pad": "x" * (1 << 21)} if self._wrong.due("hostile_huge_profile") else {})

    def _fault(self, request: web.Request) -> web.Response | None:
        """Say what is wrong with the request; to the caller only when it is known to be the caller."""
        query = request.query
        if query.get("clientID") != self._client_id or not self._ours(query.get("redirectURI", "")):
            return web.Response(status=400, text="clientID or redirectURI is not registered here")
        if not query.get("state", ""):
            return web.Response(status=400, text="state is missing")
        scopes = set(query.get("scope", "").split(" "))
        right = (
            query.get("responseType") == "code"
            and query.get("source") in _SOURCES
            and query.get("lang") in _TEXTS
            and "eidapi_auth" in scopes <= _SCOPES
            and query.get("reauth", "true") == "true"
        )
        return None if right else _back(request, error_code=BAD_PARAMETER)

    def _ours(self, uri: str) -> bool:
        return uri.startswith(self._return_to) and uri.isascii() and uri.isprintable() and not set(uri) & set(' #"\\')


def _code() -> str:
    """Return a code that holds `+` and `/`: whoever decodes the query twice spoils it."""
    return f"{b64encode(secrets.token_bytes(15)).decode()}+/{b64encode(secrets.token_bytes(15)).decode()}"


def _no(name: str, reason: str) -> Refusal:
    return Refusal(REFUSED, [{"field": name, "reason": reason}])


def _back(request: web.Request, **answer: str) -> web.Response:
    uri = request.query["redirectURI"]
    query = urlencode({"state": request.query["state"], **answer}, errors="replace")
    location = f"{uri}{'&' if urlsplit(uri).query else '?'}{query}"
    return web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})


def _page(request: web.Request) -> web.Response:
    lang = request.query["lang"]
    text = {name: escape(words) for name, words in _TEXTS[lang].items()}
    service = escape(urlsplit(request.query["redirectURI"]).netloc)
    page = (
        f"<!doctype html><html lang={lang}><head><meta charset=utf-8><title>{text['title']}</title>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        "<style>body{font:18px/1.5 system-ui;margin:2rem auto;max-width:28rem;padding:0 1rem}"
        "label,input{display:block;width:100%;box-sizing:border-box}input,button{font:inherit;padding:.5rem;"
        "margin:.5rem .5rem .5rem 0}</style></head>"
        f"<body><main><h1>{text['title']}</h1><p>{text['asks']} <strong>{service}</strong></p>"
        f"<form method=post><label for=account>{text['account']}</label>"
        "<input id=account name=account required autofocus autocomplete=username>"
        f"{_capacity(text) if 'corpid_auth' in request.query['scope'].split() else ''}"
        f"<button>{text['agree']}</button>"
        f"<button name=decision value=decline formnovalidate>{text['decline']}</button></form></main></body></html>"
    )
    safety = {"Cache-Control": "no-store", "Content-Security-Policy": "frame-ancestors 'none'"}
    return web.Response(text=page, content_type="text/html", headers=safety)


def _capacity(text: Mapping[str, str]) -> str:
    return (
        f"<label for=capacity>{text['capacity']}</label><select id=capacity name=capacity>"
        f"<option value=self selected>{text['self']}</option><option value=company>{text['company']}</option></select>"
    )


def _id_no(person: Mapping[str, Any]) -> dict[str, Any]:
    return {"idNo": {"Identification": person["hkid"][:-1], "CheckDigit": person["hkid"][-1]}}


def _ch_name(person: Mapping[str, Any]) -> dict[str, Any]:
    """Not everyone has a Chinese name."""
    name = person.get("name_zh")
    return {"chName": {"ChineseName": name}, "chNameVerified": "Y"} if name else {}


FIELDS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "idNo": _id_no,
    "enName": lambda person: {"enName": {"UnstructuredName": person["name_en"]}},
    "chName": _ch_name,
    "birthDate": lambda person: {"birthDate": person["birth_date"].replace("-", "")},
    "gender": lambda person: {"gender": person["gender"]},
}
