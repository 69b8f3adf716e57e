"""Server-rendered pages: templates, languages, and a policy that lets nothing foreign in.

Owns: the Jinja environment, the choice of language and its cookie, catalogues read from `.po` files at start-up, the
strict Content-Security-Policy, and sending a browser on. Leaves to `window/`, `account/`, `sign_on.py` and `logout.py`:
what the pages say.

Citizens and clerks alike are spoken to in four languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from aiohttp import web
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from gateway.domain.languages import LANGUAGES, nearest, said_in
from gateway.web.middlewares import REQUEST_ID

_HERE = Path(__file__).parent
WINDOW = "/window"
LANGUAGE_COOKIE = "pearl_language"
_YEAR = 365 * 24 * 3600
_HAN = re.compile(r"[\u3400-\u9fff]")
_RANGE = re.compile(r"([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*[qQ]=([01](?:\.[0-9]{0,3})?))?")
CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class Pages:
    """Renders templates in the language of the request. Complete when constructed; reads no file later.

    `secure` says that the gateway is reached over https, so that its cookies must not travel without.
    """

    def __init__(self, *, secure: bool = False) -> None:
        self._secure = secure
        self._environments = {language: _environment(language) for language in LANGUAGES}

    def render(
        self, request: web.Request, template: str, context: Mapping[str, Any], *, status: int = 200
    ) -> web.Response:
        """Return the page, in the language of the request; a language that was asked for by `?lang=` is kept."""
        language = language_of(request)
        # The link to another language fetches the page anew; on an answer to a form it would lose what was typed.
        languages = LANGUAGES if request.method in {"GET", "HEAD"} else ()
        reference = request.get(REQUEST_ID, "")
        known = {"language": language, "languages": languages, "path": request.path_qs, "reference": reference}
        text = self._environments[language].get_template(template).render({**known, **context})
        response = web.Response(text=text, content_type="text/html", status=status)
        response.headers["Content-Security-Policy"] = CSP
        response.headers["Cache-Control"] = "no-store"
        response.headers["Content-Language"] = language
        if request.query.get("lang") == language:
            response.set_cookie(
                LANGUAGE_COOKIE, language, max_age=_YEAR, path="/", secure=self._secure, httponly=True, samesite="Lax"
            )
        return response

    def fragment(self, language: str, template: str, context: Mapping[str, Any]) -> str:
        """Return a part of a page by itself, for one that must be shown and remembered as the very same text."""
        return self._environments[language].get_template(template).render(context)


def redirect(url: str, *, status: int = 302) -> web.Response:
    """Send the browser on. A response, not an exception, so that it passes all middlewares."""
    return web.Response(status=status, headers={"Location": url, "Cache-Control": "no-store"})


def see_other(url: str) -> web.Response:
    """Send the browser on to a page that it asks for with GET, whatever it sent (RFC 9110 §15.4.4)."""
    return redirect(url, status=303)


def language_of(request: web.Request) -> str:
    """Choose the language: `?lang=`, then the cookie, then the browser's wish, then zh-CN."""
    wishes = (request.query.get("lang"), request.cookies.get(LANGUAGE_COOKIE))
    chosen = next((str(wish) for wish in wishes if wish in LANGUAGES), None)
    return chosen or _preferred(",".join(request.headers.getall("Accept-Language", [])))


def wished(tags: Iterable[str]) -> str | None:
    """Return the first language that we speak of a service's `ui_locales` (OpenID Connect Core §3.1.2.1)."""
    return next((language for tag in tags if (language := nearest(tag))), None)


def is_window(request: web.Request) -> bool:
    """Say whether an address is one of the clerks' window."""
    return request.path == WINDOW or request.path.startswith(WINDOW + "/")


def _preferred(header: str) -> str:
    """Return what an Accept-Language asks for most (RFC 9110 §12.5.4), by the nearest language that we speak."""
    ranges = [found for part in header.split(",") if (found := _RANGE.fullmatch(part.strip()))]
    wishes = [(float(found[2] or 1), nearest(found[1])) for found in ranges]
    spoken = [(quality, language) for quality, language in wishes if language and quality > 0]
    return max(spoken, key=lambda wish: wish[0], default=(1.0, LANGUAGES[0]))[1]


def _proper(text: str, language: str) -> Markup:
    """Mark a name that is Chinese in a page that is not, so that a screen reader says it as such (WCAG 3.1.2)."""
    chinese = _HAN.search(text) is not None and not language.startswith("zh")
    return Markup('<span lang="zh">{}</span>').format(text) if chinese else Markup("{}").format(text)


def _told(texts: Mapping[str, str], language: str) -> Markup:
    """Say a text in the nearest language that there is, and mark it where that is another one than the page's."""
    tag, text = said_in(texts, language)
    return Markup("{}").format(text) if tag == language else Markup('<span lang="{}">{}</span>').format(tag, text)


def _environment(language: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        auto_reload=False,
    )
    environment.filters["proper"] = partial(_proper, language=language)
    environment.filters["told"] = partial(_told, language=language)
    environment.install_gettext_translations(_translations(language), newstyle=True)  # type: ignore[attr-defined] # added by jinja2.ext.i18n
    return environment


def _translations(language: str) -> Translations:
    """Merge every `.po` file of a language. English texts are their own keys and need none."""
    merged = Translations()
    folder = _HERE / "locales" / language.replace("-", "_")
    for path in sorted(folder.glob("*.po")):
        compiled = BytesIO()
        with path.open("rb") as source:
            write_mo(compiled, read_po(source))
        compiled.seek(0)
        merged.merge(Translations(compiled))
    return merged
