"""Sign-on at the simulated authority of Guangdong (统一身份认证平台, tyrz; README.md, "Sign-on").

Owns: the sign-in page, codes and access tokens (in memory: they live for a minute and for half an hour), the browser's
session here and its end, and the attacks on the flow. Leaves to `sandbox_accounts` what is told of an account, and to
others every message that is signed.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from adapters.guangdong.sandbox_accounts import LIES, Proof, level_of, spoken, subject_of, told_of
from adapters.guangdong.sandbox_signature import Clock, same
from gateway.sandbox.authority import MISBEHAVIOUR

CODE_LIFE = 60
"""Seconds for which a code is good."""

TOKEN_LIFE = 1800
"""Seconds for which an access token is good."""

HOSTILE: Mapping[str, str] = {
    "hostile_changed_state": "sends the browser back with another state",
    "hostile_code_of_another_client": "sends the browser back with a code that was made for another client",
    "hostile_code_of_another_person": "sends the browser back with a code of somebody else's sign-on",
    "hostile_page_for_a_document": "answers tokeninfo with a page in HTML",
    "hostile_token_of_another_kind": "gives out an access token that is no bearer token",
    **{mode: what for mode, (what, _) in LIES.items()},
}
"""Attacks on a sign-on that this authority knows."""

_ROOT = "/tif/sso/connect/page/oauth2"
_LOGOUT = "/tif/sso/connect/page/logout"
_COOKIE = "tyrz_session"
_CARRIED = ("state", "code_challenge", "code_challenge_method", "auth_level", "prompt")
_CONSTANT = {"service": "initService", "response_type": "code", "scope": "all"}
_METHODS = {"1": "账号密码 password", "2": "数字证书 certificate", "3": "粤省事 scan", "4": "微警 app"}
_USUAL = "3"
"""What most people use, and so what the page proposes."""
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
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
    """Who signed on and how, for which client, redirect and challenge, in which browser, until when (Unix seconds)."""

    person: Mapping[str, Any]
    proof: Proof
    client_id: str
    redirect_uri: str
    challenge: str
    browser: str
    until: float = 0.0


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
            web.get(_LOGOUT, self._sign_out),
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
        person, method = self._person(form.get("account", ""), form.get("password", "")), form.get("method", "")
        if person is None or method not in _METHODS or level_of(person, method) < errand.get("auth_level", "L0"):
            return _page(errand, wrong=True)
        return self._send_back(request, errand, person, method)

    def _send_back(
        self, request: web.Request, errand: dict[str, str], person: Mapping[str, Any], method: str
    ) -> web.Response:
        wrong, browser = request.app[MISBEHAVIOUR], secrets.token_urlsafe(32)
        listed = "auth_level" in errand or errand.get("prompt") == "login"
        proof = Proof(method, self.clock(), listed)
        session = Session(
            person, proof, self.client_id, errand["redirect_uri"], errand.get("code_challenge", ""), browser
        )
        if wrong.due("hostile_code_of_another_client"):
            session = replace(session, client_id="somebody-elses-client")
        if wrong.due("hostile_code_of_another_person"):
            session = replace(session, person=self._another(person), challenge=_challenge("of another sign-on"))
        if wrong.due("hostile_changed_state"):
            errand = errand | {"state": "of-another-sign-on"}
        response = _redirect(errand, self._issue(self.codes, session, CODE_LIFE))
        response.set_cookie(_COOKIE, browser, path="/tif/sso", httponly=True, samesite="Lax")
        return response

    def _another(self, person: Mapping[str, Any]) -> Mapping[str, Any]:
        return next(one for one in self.people if one["uid"] != person["uid"])

    async def _sign_out(self, request: web.Request) -> web.Response:
        """End the session of this browser: no code and no token that came of it is good any more."""
        query = request.query
        if query.get("client_id") != self.client_id or not self._is_ours(query.get("redirect_uri", "")):
            return _html("<h1>无法退出</h1><p>wrong client_id or redirect_uri</p>", 400)
        browser = request.cookies.get(_COOKIE, "")
        for book in (self.codes, self.tokens):
            for key in [key for key, session in book.items() if same(session.browser, browser)]:
                del book[key]
        response = _back_to(query["redirect_uri"], {name: query[name] for name in ("state",) if name in query})
        response.del_cookie(_COOKIE, path="/tif/sso")
        return response

    def _errand(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the parameters that the page carries along. Raises _RequestError: never redirect to a stranger."""
        wrong = [name for name, value in _CONSTANT.items() if given.get(name) != value]
        if given.get("client_id") != self.client_id:
            wrong.append("client_id")
        if not self._is_ours(given.get("redirect_uri", "")):
            wrong.append("redirect_uri")
        if given.get("code_challenge_method", "S256") != "S256":
            wrong.append("code_challenge_method")
        if wrong:
            raise _RequestError("invalid_request", f"wrong or missing: {', '.join(wrong)}")
        names = (*_CONSTANT, "client_id", "redirect_uri", *_CARRIED)
        return {name: given[name] for name in names if name in given}

    def _is_ours(self, redirect: str) -> bool:
        ours = redirect.startswith(self.redirects.rstrip("/") + "/")
        return ours and "#" not in redirect and bool(_PRINTABLE.fullmatch(redirect))

    def _person(self, account: str, password: str) -> Mapping[str, Any] | None:
        for person in self.people:
            if same(str(person["account"]), account):
                return person if same(str(person["password"]), password) else None
        return None

    def _issue(self, book: dict[str, Session], session: Session, life: float) -> str:
        now, ticket = self.clock(), secrets.token_urlsafe(32)
        for old in [key for key, one in book.items() if one.until < now]:
            del book[old]
        book[ticket] = replace(session, until=now + life)
        return ticket

    async def _exchange(self, request: web.Request) -> web.Response:
        try:
            session = self._redeem(request.query)
        except _RequestError as refusal:
            return _error(refusal, 400)
        kind = "mac" if request.app[MISBEHAVIOUR].due("hostile_token_of_another_kind") else "bearer"
        answer = {
            "access_token": self._issue(self.tokens, session, TOKEN_LIFE),
            "token_type": kind,
            "expires_in": TOKEN_LIFE,
            "useridcode": subject_of(session.person),
        }
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
        if session.client_id != given["client_id"]:
            raise _RequestError("invalid_grant", "the code was made for another client")
        if session.challenge and not same(_challenge(query.get("code_verifier", "")), session.challenge):
            raise _RequestError("invalid_grant", "the code_verifier does not fit")
        return session

    async def _tell(self, request: web.Request) -> web.Response:
        session = self.tokens.get(request.query.get("access_token", ""))
        if session is None or session.until < self.clock():
            return _error(_RequestError("invalid_token", "the access token is unknown or too old"), 401)
        wrong = request.app[MISBEHAVIOUR]
        if wrong.due("hostile_page_for_a_document"):
            return _html("<h1>系统繁忙</h1>", 200)
        told = told_of(session.person, session.proof)
        for mode, (_, lie) in LIES.items():
            if wrong.due(mode):
                told = lie(told, session.person, self.people)
        return web.Response(
            body=spoken(told), content_type="application/json", charset="utf-8", headers={"Cache-Control": "no-store"}
        )


def _form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=30))
    except ValueError as error:
        raise _RequestError("invalid_request", "this is no form") from error


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode("utf-8", "surrogateescape")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _redirect(errand: Mapping[str, str], code: str) -> web.Response:
    return _back_to(
        errand["redirect_uri"], {"code": code} | {name: errand[name] for name in ("state",) if name in errand}
    )


def _back_to(address: str, query: Mapping[str, str]) -> web.Response:
    joint = "&" if "?" in address else "?"
    location = f"{address}{joint}{urlencode(query)}" if query else address
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
