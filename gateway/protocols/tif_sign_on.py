"""Sign-on at a provincial unified identity (统一身份认证, tyrz): a code flow like OAuth 2.0, and what its answer means.

Owns: the addresses of the flow, the binding of an answer to the sign-on that it belongs to, and who the answer is
about: a natural person, or the handler (经办人) of a legal person. Leaves to `tif_levels` how sure a session is, to
`tif` the signed messages, and to mapping packs what stands in a document. Source: adapters/guangdong/README.md,
"Sign-on", which says what is observed, what is our reading, and what a real connection must confirm.

An answer about one account that is incomplete or contradicts itself fails that sign-on (SignOnFailed): it is no sign of
a sick region, or anybody with an odd account could have the breaker opened for all.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

from gateway.errors import NotOffered, RegionError, SignOnFailed
from gateway.ports import (
    Callback,
    OnceOnly,
    SignOnRedirect,
    SignOnReturn,
    SignOnStart,
    SignOutNotice,
    SignOutStart,
    UpstreamIdentity,
)
from gateway.protocols.demands import remembered, unmet
from gateway.protocols.tif import TifClient
from gateway.protocols.tif_levels import Account, SessionLevel, contradiction, session_of
from gateway.protocols.wire import Answer, quotable

CODE_REMEMBERED = timedelta(minutes=10)
"""How long a code that signed somebody on is remembered: longer than any authority keeps one alive."""

NATURAL, LEGAL = "1", "2"
"""`usertype`: a natural person (自然人), a legal person (法人)."""

_CODE = re.compile(r"[\x21-\x7e]{1,512}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
_SUBJECT = re.compile(r"[\x21-\x7e]{1,64}")


def fingerprint(text: str) -> str:
    """Return the hex SHA-256 of a text that nobody can guess."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def code_challenge(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636 §4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class TifSignOn:
    """The code flow. `prefix` is the path under which the platform has it."""

    prefix = "/tif/sso/connect/page/oauth2"

    def __init__(self, client: TifClient, client_id: str, client_secret: str) -> None:
        self._client = client
        self._id = client_id
        self._secret = client_secret

    # --- there

    async def begin(self, start: SignOnStart) -> SignOnRedirect:
        """Return the authority's sign-in address; nothing in it is secret."""
        verifier = self._client.signer.random_token()
        query = {
            "service": "initService",
            "response_type": "code",
            "client_id": self._id,
            "scope": "all",
            "redirect_uri": start.redirect_uri,
            "state": start.state,
            "code_challenge": code_challenge(verifier),
            "code_challenge_method": "S256",
            **({"auth_level": start.levels[0]} if start.levels else {}),
            **({"prompt": "login"} if start.fresh else {}),
        }
        url = f"{self._client.wire.base_url}{self.prefix}/authorize?{urlencode(query, quote_via=quote)}"
        return SignOnRedirect(url, self._memory(start, verifier))

    def _memory(self, start: SignOnStart, verifier: str) -> dict[str, str]:
        return {
            "state": fingerprint(start.state),
            "verifier": verifier,
            **remembered(start, self._client.signer.clock()),
        }

    # --- and back

    async def complete(self, back: SignOnReturn) -> UpstreamIdentity:
        """Exchange the code for the person's attributes. Raises SignOnFailed or RegionError."""
        code = self._code(back)
        token, named = await self._access_token(code, back)
        answer = await self._client.call("GET", f"{self.prefix}/tokeninfo", query={"access_token": token})
        account = Account(self._read(answer), self._failed)
        who = self._who(account)
        if named and named != who.account:
            raise self._failed("the attributes are not those of the account that signed on", "useridcode differs")
        return self._identity(who, self._session(account, back), answer.body, code)

    def _session(self, account: Account, back: SignOnReturn) -> SessionLevel:
        """Return what is known of the session. Raises SignOnFailed when it does not fit together, or not the demand."""
        signed_on = account.signed_on()
        session = session_of(signed_on)
        wrong = contradiction(signed_on, session, self._client.signer.clock())
        wrong = wrong or unmet(back.memory, session.level, session.proved_at, "auth_time")
        if wrong:
            raise self._failed(*wrong)
        return session

    def _identity(self, who: _Who, session: SessionLevel, assertion: bytes, code: str) -> UpstreamIdentity:
        return UpstreamIdentity(
            subject=who.subject,
            claims={**who.claims, "useridcode": who.subject},
            method=session.method,
            level=session.level,
            organisation=who.organisation,
            role=who.role,
            authenticated_at=session.proved_at,
            assertion=assertion,
            once=OnceOnly(f"code:{fingerprint(code)}", self._client.signer.clock() + CODE_REMEMBERED),
        )

    def _code(self, back: SignOnReturn) -> str:
        """Return the code of an answer that belongs to this sign-on. Raises SignOnFailed."""
        given, kept = fingerprint(back.query.get("state", "")), back.memory.get("state", "")
        if not hmac.compare_digest(given, kept):
            raise self._failed("the answer belongs to another sign-on", "state differs")
        code = back.query.get("code", "")
        if not _CODE.fullmatch(code):
            raise self._failed("the identity provider sent no code back", quotable(back.query.get("error")))
        return code

    async def _access_token(self, code: str, back: SignOnReturn) -> tuple[str, str]:
        """Return the token, and the account that it was given for where the authority says so."""
        query = {
            "client_id": self._id,
            "client_secret": self._secret,
            "code": code,
            "scope": "all",
            "redirect_uri": back.redirect_uri,
            "grant_type": "authorization_code",
            "service": "initService",
            "code_verifier": back.memory.get("verifier", ""),
        }
        answer = self._read(await self._client.call("GET", f"{self.prefix}/access_token", query=query))
        token, kind = answer.get("access_token"), str(answer.get("token_type", "bearer"))
        if not isinstance(token, str) or not _TOKEN.fullmatch(token) or kind.lower() != "bearer":
            raise self._client.wire.uncertain("sent an answer that cannot be read", "no bearer access_token")
        return token, str(answer.get("useridcode") or "")

    def _read(self, answer: Answer) -> dict[str, Any]:
        document = self._client.wire.json_object(answer.body)
        if answer.status == 400 and "error" in document:
            raise self._refusal(document)
        if answer.status != 200:
            raise self._client.wire.uncertain("gave an unexpected answer", f"HTTP {answer.status}")
        return document

    def _refusal(self, document: Mapping[str, Any]) -> SignOnFailed | RegionError:
        error = quotable(document["error"])
        if error in ("invalid_client", "unauthorized_client"):
            what = "does not know the gateway as a sign-on client; an operator must look"
            return self._client.wire.unreachable(what, error)
        return self._failed("the identity provider did not accept the code", error)

    def _failed(self, what: str, detail: str = "") -> SignOnFailed:
        text = f"{what[0].upper()}{what[1:]}; start the sign-on again."
        return SignOnFailed(text, detail=detail, region=self._client.wire.region)

    # --- who it is

    def _who(self, account: Account) -> _Who:
        """Return the person, and for whom. Raises SignOnFailed."""
        if account.parent is not None:
            return self._child(account.signed_on(), account.parent)
        match account.text("usertype"):
            case "1":
                return self._natural(account)
            case "2":
                return self._handler(account)
            case _:
                raise self._failed("the region signed on a kind of user that is not known", "usertype")

    def _natural(self, account: Account) -> _Who:
        subject = self._account_id(account)
        return _Who(subject, subject, account.document())

    def _child(self, child: Account, parent: Account) -> _Who:
        """A natural account under that of a legal person: they belong together when the child names the parent."""
        kinds = (child.text("usertype"), parent.text("usertype"))
        if kinds != (NATURAL, LEGAL) or child.text("parent_uidcode") != self._account_id(parent):
            raise self._failed("person and organisation of the answer do not belong together", "parent_uidcode")
        document = (child.text("idcardtype"), child.text("idcardnumber"))
        return replace(self._natural(child), organisation=parent.document(), role=_role(document, parent))

    def _handler(self, account: Account) -> _Who:
        """The handler (经办人) of a legal person's own account.

        The account stays when another takes over, so the subject is made of both: who handles it next is somebody else.
        """
        owner = self._account_id(account)
        name, kind, number = (account.text(f"link_person_{part}") for part in ("name", "type", "code"))
        if not (name and kind and number):
            raise self._failed("the account of a legal person does not say who handles it", "link_person_*")
        subject = f"{owner}~{fingerprint(chr(31).join((owner, kind, number)))[:32]}"
        claims = {"usertype": NATURAL, "cn": name, "idcardtype": kind, "idcardnumber": number}
        claims |= account.some(["telephonenumber"])
        return _Who(owner, subject, claims, account.document(), _role((kind, number), account))

    def _account_id(self, account: Account) -> str:
        subject = account.text("useridcode")
        if not _SUBJECT.fullmatch(subject):
            raise self._failed("the region did not say whose account it is", "no usable useridcode")
        return subject


@dataclass(frozen=True, slots=True)
class _Who:
    """Who signed on: the account, the person's subject and document for the pack, and for whom and as what."""

    account: str
    subject: str
    claims: Mapping[str, Any]
    organisation: dict[str, Any] | None = None
    role: str = ""


def _role(document: tuple[str, str], organisation: Account) -> str:
    """Say as what a person acts: legal representative (法定代表人) if the document is that one's, else handler."""
    theirs = (organisation.text("legal_id_type"), organisation.text("legal_code"))
    return "legal_representative" if all(document) and document == theirs else "handler"


class TifSignOut:
    """The end of the platform's own session: the browser is sent there and comes back (our reading of the address)."""

    path = "/tif/sso/connect/page/logout"

    def __init__(self, client: TifClient, client_id: str) -> None:
        self._client = client
        self._id = client_id

    async def end(self, start: SignOutStart) -> SignOnRedirect:
        """Return the address that ends the session of this browser there; it needs nothing that was kept."""
        query = {
            "service": "initService",
            "client_id": self._id,
            "redirect_uri": start.redirect_uri,
            "state": start.state,
        }
        return SignOnRedirect(f"{self._client.wire.base_url}{self.path}?{urlencode(query, quote_via=quote)}")

    async def ended(self, notice: Callback) -> SignOutNotice:  # noqa: ARG002 - the seam's signature
        """Refuse: the platform announces no end of a session. Raises NotOffered."""
        raise NotOffered("This region does not announce the end of a session.", region=self._client.wire.region)
