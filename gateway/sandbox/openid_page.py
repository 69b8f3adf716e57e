"""The sign-in page of a simulated OpenID Provider.

Owns: the HTML that a person sees, in the languages that the region's provider has. Leaves to `openid` what the form
does, and to the region's sandbox the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from aiohttp import web

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_STYLE = (
    "body{font:18px/1.5 system-ui;margin:2rem auto;max-width:30rem;padding:0 1rem}input,select,button{font:inherit}"
)


@dataclass(frozen=True, slots=True)
class Words:
    """What the page says in one language. `methods` names each way to sign on; `business` is "" where there is none."""

    language: str
    title: str
    simulated: str
    account: str
    password: str
    code: str
    method: str
    sign_in: str
    go_on: str
    wrong: str
    sign_out: str
    signed_out: str
    methods: Mapping[str, str]
    business: str = ""


@dataclass(frozen=True, slots=True)
class SignInPage:
    """One page: where its form goes, what it carries along, and which methods it offers."""

    action: str
    hidden: Mapping[str, str]
    methods: Sequence[str]
    usual: str
    signed_on_as: str = ""
    """The account whose session the browser still has, if it may be used."""
    wrong: bool = False


def nearest(words: Sequence[Words], locales: str) -> Words:
    """Return the words for the first wish (BCP 47 tags, spaces between) that there are words for, else the first."""
    for wish in locales.lower().split():
        for one in words:
            if one.language.lower() == wish or one.language.lower().split("-")[0] == wish.split("-")[0]:
                return one
    return words[0]


def sign_in_page(page: SignInPage, words: Words) -> web.Response:
    """Return the page with its form; a second one goes on with the session that the browser has."""
    hidden = "".join(f'<input type=hidden name={name} value="{escape(text)}">' for name, text in page.hidden.items())
    options = "".join(
        f"<option value={name}{' selected' * (name == page.usual)}>{escape(words.methods[name])}</option>"
        for name in page.methods
    )
    alert = f"<p role=alert>{escape(words.wrong)}</p>" if page.wrong else ""
    begin = f"<form method=post action={page.action}>{hidden}"
    business = f"<p><label><input type=checkbox name=for_business value=yes> {escape(words.business)}</label></p>"
    form = (
        f"{begin}<p><label>{escape(words.account)} <input name=account autocomplete=username autofocus></label></p>"
        f"<p><label>{escape(words.password)} "
        "<input name=password type=password autocomplete=current-password></label></p>"
        f"<p><label>{escape(words.method)} <select name=method>{options}</select></label></p>"
        f"<p><label>{escape(words.code)} <input name=otp autocomplete=one-time-code></label></p>"
        f"{business if words.business else ''}<button>{escape(words.sign_in)}</button></form>"
    )
    go_on = f"{begin}<button name=go_on value=yes>{escape(words.go_on)} {escape(page.signed_on_as)}</button></form>"
    return html(words, f"{alert}{form}{go_on if page.signed_on_as else ''}", 403 if page.wrong else 200)


def sign_out_page(action: str, words: Words) -> web.Response:
    """Return the page on which somebody ends the session without any service having asked."""
    return html(words, f"<form method=post action={action}><button>{escape(words.sign_out)}</button></form>")


def html(words: Words, body: str, status: int = 200) -> web.Response:
    """Return a page of the provider."""
    head = f"<!doctype html><html lang={words.language}><meta charset=utf-8><title>{escape(words.title)}</title>"
    title = f"<h1>{escape(words.title)}</h1><p>{escape(words.simulated)}</p>"
    text = f"{head}<style>{_STYLE}</style><main>{title}{body}</main></html>"
    return web.Response(text=text, content_type="text/html", status=status, headers=_HEADERS)
