"""Server-rendered pages: templates, languages, and a policy that lets nothing foreign in.

Owns: the Jinja environment, the choice of language and its cookie, catalogues read from `.po` files at start-up, and
the strict Content-Security-Policy. Leaves to `window/` and `sign_on.py`: what the pages say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from aiohttp import web
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

_HERE = Path(__file__).parent
LANGUAGES: Sequence[str] = ("zh-CN", "en")
"""Languages that the pages speak; the first one is the default."""
LANGUAGE_COOKIE = "pearl_language"
_YEAR = 365 * 24 * 3600
_BY_PRIMARY = {tag.partition("-")[0]: tag for tag in LANGUAGES}
_RANGE = re.compile(r"([A-Za-z]{1,8})(?:-[A-Za-z0-9]{1,8})*\s*(?:;\s*[qQ]=([01](?:\.[0-9]{0,3})?))?")
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
        known = {"language": language, "languages": languages, "path": request.path_qs}
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


def language_of(request: web.Request) -> str:
    """Choose the language: `?lang=`, then the cookie, then the browser's wish, then zh-CN."""
    for wish in (request.query.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if wish in LANGUAGES:
            return str(wish)
    return _preferred(",".join(request.headers.getall("Accept-Language", [])))


def _preferred(header: str) -> str:
    """Return what an Accept-Language asks for most (RFC 9110 §12.5.4): zh-CN serves every Chinese, en every English."""
    ranges = [found for part in header.split(",") if (found := _RANGE.fullmatch(part.strip()))]
    wishes = [(float(found[2] or 1), _BY_PRIMARY.get(found[1].lower())) for found in ranges]
    spoken = [(quality, language) for quality, language in wishes if language and quality > 0]
    return max(spoken, key=lambda wish: wish[0], default=(1.0, LANGUAGES[0]))[1]


def _environment(language: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        auto_reload=False,
    )
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
