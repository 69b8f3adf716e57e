"""The clerks' window (跨域通办窗口): pages that take an application, hand it over and show what became of it.

Owns: sign-on of clerks as a public client of our own OpenID Provider, their sessions, the form and its pages. Leaves to
the services that are handed in: everything that an application goes through once it is complete.
"""

from gateway.web.window.pages import routes
from gateway.web.window.services import WindowServices
from gateway.web.window.sessions import forget_expired

__all__ = ["WindowServices", "forget_expired", "routes"]
