"""Cookies that hold a random handle; what a handle stands for is kept on the server.

Owns: their attributes, and that nothing which cannot be a handle of ours is ever looked up. Leaves to `sign_on` and
`window.sessions`: which cookies there are and how long they last.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from gateway.identity.records import is_handle


@dataclass(frozen=True, slots=True)
class HandleCookie:
    """One cookie. `life` is None when it goes as soon as the browser is closed.

    Over https the name carries `__Host-`, which ties a cookie to this host, the whole path and TLS (RFC 6265bis
    §4.1.3.2). SameSite=Lax lets the browser bring it along when a region sends it back.
    """

    name: str
    secure: bool
    life: timedelta | None = None

    def read(self, request: web.Request) -> str | None:
        """Return the handle that the browser sent; None when there is none, or what is there has not its form."""
        value = request.cookies.get(self._full_name, "")
        return value if is_handle(value) else None

    def give(self, response: web.Response, handle: str) -> None:
        """Hand the handle to the browser."""
        seconds = None if self.life is None else int(self.life.total_seconds())
        response.set_cookie(
            self._full_name, handle, max_age=seconds, path="/", secure=self.secure, httponly=True, samesite="Lax"
        )

    def take_back(self, response: web.Response) -> None:
        """Make the browser forget it."""
        response.del_cookie(self._full_name, path="/", secure=self.secure, httponly=True, samesite="Lax")

    @property
    def _full_name(self) -> str:
        return f"__Host-{self.name}" if self.secure else self.name


def provider_session(*, secure: bool) -> HandleCookie:
    """Return the cookie of a session at our OpenID Provider; the window takes it back when its clerk has signed on."""
    return HandleCookie("pearl_session", secure)


def sign_on_browser(*, secure: bool) -> HandleCookie:
    """Return the cookie that ties sign-ons under way to the browser in which they began."""
    return HandleCookie("pearl_sign_on", secure)
