"""The pages of the simulated sign-on of Guangxi: signing in, and the form that carries the answer back."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from html import escape

from aiohttp import web

METHODS: Mapping[str, tuple[str, str]] = {
    "password": ("PasswordProtectedTransport", "账号密码 password"),
    "app": ("MobileTwoFactorContract", "爱广西 app 刷脸 app with face check"),
    "card": ("SmartcardPKI", "数字证书 certificate on a card"),
}
"""Method on the page → its class, and how it is called."""

_TITLE = "广西数字政务统一身份认证（模拟）"


def sign_in_page(query: str, offered: Mapping[str, str], *, wrong: bool = False) -> web.Response:
    """Return the page; `query` is the signed request, which comes back with the form."""
    options = "".join(f"<option value={name}>{escape(words)}</option>" for name, words in offered.items())
    alert = "<p role=alert>账号或密码不正确 Wrong account or password.</p>" if wrong else ""
    return _html(
        f"<h1>{_TITLE}</h1><p>模拟系统 Simulated authority, synthetic accounts only.</p>{alert}"
        f'<form method=post action="/saml/sso?{escape(query)}">'
        "<p><label>账号 Account <input name=account autocomplete=username required autofocus></label></p>"
        "<p><label>密码 Password <input name=password type=password autocomplete=current-password required></label></p>"
        f"<p><label>方式 Method <select name=method>{options}</select></label></p>"
        "<p><label>身份 As <select name=capacity><option value=self>本人 myself</option>"
        "<option value=organisation>所属企业 my organisation</option></select></label></p>"
        "<button>登录 Sign in</button> <button name=decision value=decline formnovalidate>拒绝 Decline</button></form>",
        403 if wrong else 200,
    )


def back_page(callback: str, fields: Mapping[str, str]) -> web.Response:
    """Return a form that sends itself to the gateway; the button is for browsers without JavaScript."""
    nonce = secrets.token_urlsafe(16)
    hidden = "".join(f'<input type=hidden name={name} value="{escape(value)}">' for name, value in fields.items())
    return _html(
        f'<h1>{_TITLE}</h1><form method=post action="{escape(callback)}">{hidden}<button>继续 Continue</button></form>'
        f'<script nonce="{nonce}">document.forms[0].submit()</script>',
        200,
        f"; script-src 'nonce-{nonce}'",
    )


def refusal_page(reason: str) -> web.Response:
    """Say what is wrong with a request; nobody is sent anywhere."""
    return _html(f"<h1>无法登录</h1><p>{escape(reason)}</p>", 400)


def _html(body: str, status: int, more: str = "") -> web.Response:
    style = "<style>body{font:16px system-ui;margin:2rem auto;max-width:30rem}</style>"
    head = f"<!doctype html><html lang=zh-CN><meta charset=utf-8><title>{_TITLE}</title>{style}"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'{more}"
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
    return web.Response(text=f"{head}{body}</html>", content_type="text/html", status=status, headers=headers)
