"""What a service may ask for at the end of a session: OpenID Connect RP-Initiated Logout 1.0.

Owns: reading the request, whether it proves that the service speaks for the session's own person, and the question to
the person where it does not. Leaves to `logout` the end itself. A browser is sent back only to an address that the
client has registered for this, compared character by character; there is no other way out of here.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from authlib.common.urls import add_params_to_uri

from gateway.crypto.jose import LONGEST, UnreadableToken, UnverifiedToken, verified_claims
from gateway.errors import InvalidRequest
from gateway.identity import records
from gateway.identity.clients import Client
from gateway.identity.logout import Begun, Logouts, Order, held_by
from gateway.identity.provider import FindClient, ProviderParts
from gateway.identity.records import Session, new_handle
from gateway.identity.requests import LONGEST_VALUE, Form
from gateway.ports import Clock
from gateway.storage import Store

PARAMETERS = ("id_token_hint", "client_id", "post_logout_redirect_uri", "state", "ui_locales", "logout_hint")
FOR_EVER = timedelta(days=3660)
"""A session that was idle for too long still ends only once: services hold something of it."""
CARRIED = ("client_id", "post_logout_redirect_uri", "state")
"""What the question to the person carries on."""


@dataclass(frozen=True, slots=True)
class LogoutRequest:
    """A request that was read: who asks, for whom, and where the browser may go afterwards."""

    client: Client | None
    hinted_subject: str | None
    return_to: str | None
    languages: Sequence[str]
    carried: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Question:
    """The person must say whether to sign out. `fields` stand in the form; `confirm` proves that it came from us."""

    client: Client | None
    region: str
    fields: Mapping[str, str]
    languages: Sequence[str]


@dataclass(frozen=True, slots=True)
class SignedOut:
    """The browser's session is over. `begun` is None when there was none; `handle` is for the logout cookie.

    `onward` is where the browser must go now: to the region, or back to the service.
    """

    begun: Begun | None = None
    handle: str = ""
    onward: str | None = None
    languages: Sequence[str] = field(default=())


class LogoutRequests:
    """The end session endpoint, without HTTP."""

    def __init__(self, parts: ProviderParts, find: FindClient, logouts: Logouts, store: Store, clock: Clock) -> None:
        self._parts = parts
        self._find = find
        self._logouts = logouts
        self._store = store
        self._clock = clock

    async def asked(
        self, pairs: Iterable[tuple[str, str]], session: str | None, browser: str | None, language: str
    ) -> Question | SignedOut:
        """End the session at once when the service proves that it speaks for its person; else ask.

        `session` and `browser` are the handles of the cookies. Raises InvalidRequest.
        """
        request = await read_logout_request(self._parts, self._find, Form(pairs))
        found = await self._live(session)
        if found is None or session is None:
            return SignedOut(onward=request.return_to, languages=request.languages)
        if not self._speaks_for(request, found):
            return self._question(request, found)
        return await self._end(request, session, browser, language)

    async def confirmed(
        self, fields: Mapping[str, str], session: str | None, browser: str | None, language: str
    ) -> SignedOut:
        """End the session because its person said so on our own page. Raises InvalidRequest for any other form."""
        carried = {name: fields[name] for name in CARRIED if fields.get(name)}
        request = await read_logout_request(self._parts, self._find, Form(carried.items()))
        found = await self._live(session)
        if found is None or session is None:
            return SignedOut(onward=request.return_to)
        expected = self._confirmation(found, carried)
        if not hmac.compare_digest(expected, fields.get("confirm", "").encode("utf-8", "replace")):
            raise InvalidRequest("This form does not come from a page of this session.", code="logout.unconfirmed")
        return await self._end(request, session, browser, language)

    async def _end(self, request: LogoutRequest, session: str, browser: str | None, language: str) -> SignedOut:
        handle = browser or new_handle()
        by = f"client:{request.client.id}" if request.client else "person"
        order = Order(held_by(session), by, handle=handle, return_to=request.return_to, in_browser=True)
        begun = next(iter(await self._logouts.end(order)), None)
        if begun is None:  # another request was faster
            return SignedOut(onward=request.return_to)
        region = await self._logouts.by_browser(begun, language)
        return SignedOut(begun, handle, region or request.return_to)

    async def _live(self, handle: str | None) -> Session | None:
        if handle is None:
            return None
        return await self._store.read(partial(records.find_session, handle=handle, now=self._clock(), idle=FOR_EVER))

    def _speaks_for(self, request: LogoutRequest, session: Session) -> bool:
        """Say whether the request holds an ID token of this very person: nobody else has one."""
        if request.client is None or request.hinted_subject is None:
            return False
        return hmac.compare_digest(request.hinted_subject, self._parts.pairwise(request.client.id, session))

    def _question(self, request: LogoutRequest, session: Session) -> Question:
        fields = {**request.carried, "confirm": self._confirmation(session, request.carried).decode()}
        return Question(request.client, session.region, fields, request.languages)

    def _confirmation(self, session: Session, carried: Mapping[str, str]) -> bytes:
        """Return the token of the form, bound to the session and to all that it carries: nobody else can make it."""
        named = [part for name in CARRIED for part in (name, carried.get(name, ""))]
        return self._parts.references.of("logout.confirm", session.id, session.handle_hash, *named).encode()


async def read_logout_request(parts: ProviderParts, find: FindClient, form: Form) -> LogoutRequest:
    """Check a logout request (RP-Initiated Logout 1.0 §2). Raises InvalidRequest.

    A hint that is no ID token of ours proves nothing and is not used; one of another client than the named is a
    contradiction and is refused.
    """
    _check_form(form)
    data: Mapping[str, str] = form.data
    hinted = _hinted(parts, data.get("id_token_hint"))
    client_id = data.get("client_id", hinted[0] if hinted else None)
    if hinted and hinted[0] != client_id:
        raise InvalidRequest("id_token_hint was not issued to this client.", code="logout.other_client")
    client = await find(client_id) if client_id else None
    if client_id and client is None:
        raise InvalidRequest("client_id is not that of a registered client.", code="logout.unknown_client")
    return LogoutRequest(
        client=client,
        hinted_subject=hinted[1] if hinted else None,
        return_to=_return_to(client, data),
        languages=data.get("ui_locales", "").split()[:8],
        carried={
            name: value for name, value in {**data, "client_id": client_id or ""}.items() if name in CARRIED and value
        },
    )


def _check_form(form: Form) -> None:
    for name, values in form.datalist.items():
        longest = LONGEST if name == "id_token_hint" else LONGEST_VALUE
        if name in PARAMETERS and (len(values) > 1 or len(values[0]) > longest or not values[0].isprintable()):
            text = f"The parameter {name} stands more than once, is too long, or holds control characters."
            raise InvalidRequest(text)


def _hinted(parts: ProviderParts, hint: str | None) -> tuple[str, str] | None:
    """Return client and `sub` of an ID token of ours, expired or not; None for anything else."""
    if hint is None:
        return None
    try:
        claims = verified_claims(hint, parts.signer.key_set(), algorithms=parts.algorithms, types=["jwt"])
    except (UnreadableToken, UnverifiedToken):
        return None
    client_id, subject = claims.get("aud"), claims.get("sub")
    ours = claims.get("iss") == parts.issuer and isinstance(client_id, str) and isinstance(subject, str)
    return (str(client_id), str(subject)) if ours else None


def _return_to(client: Client | None, data: Mapping[str, str]) -> str | None:
    """Return the address to go back to. Raises InvalidRequest unless it is registered for exactly this."""
    uri = data.get("post_logout_redirect_uri")
    if uri is None:
        return None
    if client is None or uri not in client.post_logout_redirect_uris:
        text = "post_logout_redirect_uri must be one of those registered for the client, exactly."
        raise InvalidRequest(text, code="logout.redirect_uri")
    return str(add_params_to_uri(uri, [("state", data["state"])])) if "state" in data else uri
