"""Sign-on at the simulated authority of Guangdong (统一身份认证平台, tyrz; README.md, "Sign-on").

Owns: the sign-in page, codes and access tokens (in memory: they live for a minute and for half an hour), and the
attributes of an account with the levels of its methods. Leaves to others: every message that is signed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from adapters.guangdong.sandbox_signature import Clock, same

CODE_LIFE = 60
"""Seconds for which a code is good."""

TOKEN_LIFE = 1800
"""Seconds for which an access token is good."""

_ROOT = "/tif/sso/connect/page/oauth2"
_CONSTANT = {"service": "initService", "response_type": "code", "scope": "all"}
_METHODS = {"1": "账号密码 password", "2": "数字证书 certificate", "3": "粤省事 scan", "4": "微警 app"}
_USUAL = "3"
"""What most people use, and so what the page proposes."""
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_ENROLLED = "20230220090000"
_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class _RequestError(Exception):
    """The request cannot be served; `code` is the OAuth 2.0 error (RFC 6749 section 5.2)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Session:
    """Who signed on, by which method, for which client and redirect, and until when (Unix seconds)."""

    person: Mapping[str, Any]
    method: str
    client_id: str
    redirect_uri: str
    until: float


@dataclass(frozen=True, slots=True)
class SignOn:
    """The identity provider, with one client and the accounts of the seed."""

    client_id: str
    client_secret: str
    redirects: str
    people: Sequence[Mapping[str, Any]]
    clock: Clock
    codes: dict[str, Session] = field(default_factory=dict)
    tokens: dict[str, Session] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of README.md, "Sign-on"."""
        return [
            web.get(f"{_ROOT}/authorize", self._show_page),
            web.post(f"{_ROOT}/authorize", self._sign_in),
            web.get(f"{_ROOT}/access_token", self._exchange),
            web.get(f"{_ROOT}/tokeninfo", self._tell),
        ]

    async def _show_page(self, request: web.Request) -> web.Response:
        try:
            return _page(self._errand(dict(request.query)))
        except _RequestError as refusal:
            return _html(f"<h1>无法登录</h1><p>{escape(str(refusal))}</p>", 400)

    async def _sign_in(self, request: web.Request) -> web.Response:
        try:
            form = _form(await request.read())
            errand = self._errand(form)
        except _RequestError as refusal:
            return _html(f"<h1>无法登录</h1><p>{escape(str(refusal))}</p>", 400)
        person = self._person(form.get("account", ""), form.get("password", ""))
        if person is None or form.get("method") not in _METHODS:
            return _page(errand, wrong=True)
        code = self._issue(self.codes, person, form["method"], errand["redirect_uri"], CODE_LIFE)
        return _redirect(errand, code)

    def _errand(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the parameters that the page carries along. Raises _RequestError: never redirect to a stranger."""
        wrong = [name for name, value in _CONSTANT.items() if given.get(name) != value]
        if given.get("client_id") != self.client_id:
            wrong.append("client_id")
        if not self._is_ours(given.get("redirect_uri", "")):
            wrong.append("redirect_uri")
        if wrong:
            raise _RequestError("invalid_request", f"wrong or missing: {', '.join(wrong)}")
        names = (*_CONSTANT, "client_id", "redirect_uri", "state")
        return {name: given[name] for name in names if name in given}

    def _is_ours(self, redirect: str) -> bool:
        ours = redirect.startswith(self.redirects.rstrip("/") + "/")
        return ours and "#" not in redirect and bool(_PRINTABLE.fullmatch(redirect))

    def _person(self, account: str, password: str) -> Mapping[str, Any] | None:
        for person in self.people:
            if same(str(person["account"]), account):
                return person if same(str(person["password"]), password) else None
        return None

    def _issue(
        self, book: dict[str, Session], person: Mapping[str, Any], method: str, redirect: str, life: float
    ) -> str:
        now, ticket = self.clock(), secrets.token_urlsafe(32)
        for old in [key for key, session in book.items() if session.until < now]:
            del book[old]
        book[ticket] = Session(person, method, self.client_id, redirect, now + life)
        return ticket

    async def _exchange(self, request: web.Request) -> web.Response:
        try:
            session = self._redeem(request.query)
        except _RequestError as refusal:
            return _error(refusal, 400)
        token = self._issue(self.tokens, session.person, session.method, session.redirect_uri, TOKEN_LIFE)
        answer = {"access_token": token, "token_type": "bearer", "expires_in": TOKEN_LIFE}
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    def _redeem(self, query: Mapping[str, str]) -> Session:
        given = {name: query.get(name, "") for name in ("client_id", "client_secret", "code", "redirect_uri")}
        if given["client_id"] != self.client_id or not same(given["client_secret"], self.client_secret):
            raise _RequestError("invalid_client", "client_id or client_secret is wrong")
        if query.get("grant_type") != "authorization_code":
            raise _RequestError("unsupported_grant_type", "grant_type must be authorization_code")
        if query.get("scope") != "all" or query.get("service") != "initService":
            raise _RequestError("invalid_request", "scope must be all and service initService")
        session = self.codes.pop(given["code"], None)  # used up even if the rest does not fit
        if session is None or session.until < self.clock() or session.redirect_uri != given["redirect_uri"]:
            raise _RequestError("invalid_grant", "the code is unknown, used, too old or for another redirect_uri")
        return session

    async def _tell(self, request: web.Request) -> web.Response:
        session = self.tokens.get(request.query.get("access_token", ""))
        if session is None or session.until < self.clock():
            return _error(_RequestError("invalid_token", "the access token is unknown or too old"), 401)
        return web.json_response(attributes(session), headers={"Cache-Control": "no-store"})


def attributes(session: Session) -> dict[str, str]:
    """Return what the authority tells of a signed-on account."""
    person = session.person
    levels: Mapping[str, str] = person["levels"]
    best = max(levels.values(), default="L0")
    return {
        "uid": person["uid"],
        "useridcode": f"UC{person['uid']}",
        "cn": person["name"],
        "idcardtype": person["id_type"],
        "idcardnumber": person["id_number"],
        "telephonenumber": person.get("mobile", ""),
        "mail": person.get("mail", ""),
        "area": person["area"],
        "usertype": person["usertype"],
        "origin": "gdbs",
        "accout_type": session.method,  # the wire misspells it
        "createtime": _ENROLLED,
        "uversion": "1",
        "sex": person["sex"],
        "isreal": "false" if best == "L0" else "true",
        "realtype": next((way for way in ("PLV", "SI", "IC", "DC") if way in levels), ""),
        "creditable_level_of_account": best,
        "creditable_level_of_account_way": "||".join(
            f"{level}@{way}@{_unique(person['uid'], way)}" for way, level in levels.items()
        ),
    }


def _unique(uid: str, way: str) -> str:
    return hashlib.sha256(f"{uid}/{way}".encode()).hexdigest()[:32]


def _form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=30))
    except ValueError as error:
        raise _RequestError("invalid_request", "this is no form") from error


def _redirect(errand: Mapping[str, str], code: str) -> web.Response:
    back = {"code": code} | {name: errand[name] for name in ("state",) if name in errand}
    joint = "&" if "?" in errand["redirect_uri"] else "?"
    location = f"{errand['redirect_uri']}{joint}{urlencode(back)}"
    return web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})


def _page(errand: Mapping[str, str], *, wrong: bool = False) -> web.Response:
    hidden = "".join(f'<input type=hidden name={name} value="{escape(text)}">' for name, text in errand.items())
    methods = "".join(
        f"<option value={number}{' selected' * (number == _USUAL)}>{name}</option>" for number, name in _METHODS.items()
    )
    alert = "<p role=alert>账号、密码或方式不正确 Wrong account, password or method.</p>" if wrong else ""
    form = (
        f"<h1>广东省统一身份认证平台</h1><p>模拟系统 Simulated authority, synthetic accounts only.</p>{alert}"
        f"<form method=post action={_ROOT}/authorize>{hidden}"
        "<p><label>账号 Account <input name=account autocomplete=username required autofocus></label></p>"
        "<p><label>密码 Password <input name=password type=password autocomplete=current-password required></label></p>"
        f"<p><label>方式 Method <select name=method>{methods}</select></label></p>"
        "<button>登录 Sign in</button></form>"
    )
    return _html(form, 403 if wrong else 200)


def _html(body: str, status: int) -> web.Response:
    style = "<style>body{font:16px system-ui;margin:2rem auto;max-width:30rem}</style>"
    head = f"<!doctype html><html lang=zh-CN><meta charset=utf-8><title>广东省统一身份认证平台</title>{style}"
    return web.Response(text=f"{head}{body}</html>", content_type="text/html", status=status, headers=_PAGE_HEADERS)


def _error(refusal: _RequestError, status: int) -> web.Response:
    return web.json_response({"error": refusal.code, "error_description": str(refusal)}, status=status)
