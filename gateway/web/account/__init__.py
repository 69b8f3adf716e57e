"""The account pages (我的账号): what a person who has signed on sees and ends of their own.

Owns: the addresses under /account, their forms and words. Leaves to `gateway.identity` everything that is done:
sessions and consents (`accounts`), mandates (`mandates`), links (`linking`), and the sign-on itself.
"""

from gateway.web.account.pages import routes
from gateway.web.account.services import AccountServices

__all__ = ["AccountServices", "routes"]
