"""The account pages as a public client of our own OpenID Provider (`pearl-account`): code flow with PKCE.

Owns: the authorization request and the way back to the page that was wanted. What proves the person afterwards is the
provider's own session cookie, so the code is not redeemed: it expires, and no token is made that nobody would use.

`state` carries the wanted page, sealed: what comes back is a page of ours that this gateway itself wrote down, or the
answer is refused. It guards no more than that; login CSRF is stopped where the session cookie is given (`broker`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

import orjson

from gateway.crypto.at_rest import Sealer
from gateway.domain.identity import Assurance
from gateway.errors import NotPermitted, SignOnFailed, Unavailable

CLIENT_ID = "pearl-account"
HOME = "/account"
LIFE = timedelta(minutes=15)
"""How long a person may take to sign on, from leaving the account pages to coming back."""
_PLACE = "account.state"
_PAGE = re.compile(r"/account(/[a-z-]{1,32}){0,2}(\?region=[a-z0-9_-]{1,32})?")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a sign-on is asked for: the page to come back to, the least level, and whether it must be made now."""

    page: str = HOME
    level: Assurance = Assurance.A0
    fresh: bool = False


def read_wish(query: Mapping[str, str]) -> Wish:
    """Read `next`, `level` and `fresh` of /account/sign-in; a page that is none of ours is the first page."""
    page = query.get("next", HOME)
    level = Assurance.A2 if query.get("level") == Assurance.A2.name else Assurance.A0
    return Wish(page if _PAGE.fullmatch(page) else HOME, level, fresh=query.get("fresh") == "1")


def redirect_uri(issuer: str) -> str:
    """Return the one address that the provider may send the browser back to."""
    return f"{issuer}/account/callback"


def authorization_url(issuer: str, wish: Wish, language: str, sealer: Sealer, now: datetime) -> str:
    """Return the address to send the browser to."""
    state = orjson.dumps({"page": wish.page, "until": int((now + LIFE).timestamp())})
    challenge = hashlib.sha256(secrets.token_urlsafe(32).encode()).digest()
    query = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": redirect_uri(issuer),
        "scope": "openid",
        "state": _text(sealer.seal(state, _PLACE)),
        "nonce": secrets.token_urlsafe(16),
        "code_challenge": _text(challenge),
        "code_challenge_method": "S256",
        "ui_locales": language,
        **({"prompt": "login"} if wish.fresh else {}),
        **({"claims": _essential(wish.level)} if wish.level else {}),
    }
    return f"{issuer}/oauth2/authorize?{urlencode(query)}"


def page_of(issuer: str, query: Mapping[str, str], sealer: Sealer, now: datetime) -> str:
    """Check what came back and return the page that was wanted. Raises SignOnFailed or NotPermitted."""
    page = _page(query.get("state", ""), sealer, now)
    if query.get("iss") != issuer:
        raise SignOnFailed("The answer does not come from this gateway.", code="signon.issuer")
    if query.get("error") == "unmet_authentication_requirements":
        raise NotPermitted("This needs a sign-on by a surer method.", code="account.weak_sign_on")
    if "error" in query or not query.get("code"):
        raise SignOnFailed("The sign-on was ended before it was complete.", code="signon.refused")
    return page


def _page(state: str, sealer: Sealer, now: datetime) -> str:
    text = "The answer does not belong to a sign-on that these pages began."
    try:
        said = orjson.loads(sealer.open(_bytes(state), _PLACE))
    except (Unavailable, ValueError, binascii.Error):
        raise SignOnFailed(text, code="signon.state") from None
    if said["until"] < now.timestamp():
        raise SignOnFailed("The sign-on took too long; begin again.", code="signon.state")
    return str(said["page"])


def _essential(level: Assurance) -> str:
    acr = {"essential": True, "values": [one.acr for one in Assurance if one >= level]}
    return json.dumps({"id_token": {"acr": acr}})


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
