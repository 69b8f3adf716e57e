"""The ticket exchange (票据交换) of mainland provinces: trust transfer (信任传递) as on the national platform.

Owns: the login, the ticket, what must be true of token and information before anybody is signed on, and the end of a
session, told both ways. Leaves to `gateway.protocols.ticket_wire`: signatures and envelope. Leaves to mapping packs:
what stands in the documents `user` and `corp`. Source: docs/ticket-exchange.md, which lists what a real connection must
confirm. What differs between provinces is settings of region.toml, read here once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, get_args

from gateway.crypto.sm2 import CipherForm, SignatureForm
from gateway.crypto.sm4 import Suite, sm3
from gateway.crypto.sm_keys import read_pins, read_private
from gateway.errors import InvalidRequest, RegionError, SignOnFailed
from gateway.ports import (
    Callback,
    Kit,
    OnceOnly,
    SignOnRedirect,
    SignOnReturn,
    SignOnStart,
    SignOutNotice,
    SignOutStart,
    UpstreamIdentity,
)
from gateway.protocols.ticket_wire import Dialect, Ours, Reply, TicketWire
from gateway.protocols.wire import NONCE_MARGIN, Wire, quotable, refuse_start, secret_bytes, text_setting, unix_time

TICKET_LIFE = timedelta(seconds=60)
"""How long a ticket may be under way."""

NATURAL, LEGAL = "1", "2"
"""`user_type`: natural person (自然人), legal person (法人)."""

_TICKET = re.compile(r"[\x21-\x7e]{1,512}")
_MAX_TOKEN = 512
_MAX_ID = 128
_AGAIN = "start the sign-on again"


# --- settings ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the province answers, under its base address."""

    login: str
    token: str
    person: str
    organisation: str
    logout: str


@dataclass(frozen=True, slots=True)
class Codes:
    """The province's status codes, by what they mean."""

    ok: frozenset[str]
    ticket: frozenset[str]
    caller: frozenset[str]
    gone: frozenset[str]


@dataclass(frozen=True, slots=True)
class Province:
    """What differs between provinces above the wire.

    `levels` are its words from the least to the best; `methods` says which level each method gives at best. `subject`
    is the name of the stable id in `user`. `roles` translates who signs on for a legal person. `echo` goes with every
    question and must come back in every content.
    """

    paths: Paths
    codes: Codes
    levels: Sequence[str]
    methods: Mapping[str, str]
    roles: Mapping[str, str]
    subject: str
    echo: Mapping[str, str]


def open_province(kit: Kit) -> tuple[TicketWire, Province]:
    """Read settings and keys of a province; makes no network call. Raises StartRefused."""
    dialect = Dialect(
        signature=_one_of(kit, "signature", get_args(SignatureForm)),
        cipher=_one_of(kit, "cipher", get_args(CipherForm)),
        suite=_one_of(kit, "suite", get_args(Suite)),
        our_id=text_setting(kit, "our_id").encode(),
        their_id=text_setting(kit, "their_id").encode(),
    )
    ours = Ours(
        app_id=text_setting(kit, "app_id"),
        signing_key_id=text_setting(kit, "signing_key_id"),
        signing_key=_secret(kit, "signing_key", read_private),
        decryption_key_id=text_setting(kit, "decryption_key_id"),
        decryption_key=_secret(kit, "decryption_key", read_private),
    )
    pins = _secret(kit, "province_keys", read_pins)
    tolerance = timedelta(seconds=_seconds(kit, "tolerance_seconds"))
    wire = TicketWire(Wire(kit), ours, pins, dialect, kit.clock, kit.random_token, tolerance)
    return wire, _province(kit)


def _province(kit: Kit) -> Province:
    province = Province(
        paths=Paths(**_whole(kit, "paths", Paths.__slots__, _words(kit, "paths"))),
        codes=Codes(**{name: frozenset(_texts(kit, "codes", words)) for name, words in _codes(kit).items()}),
        levels=_texts(kit, "levels", kit.settings.get("levels")),
        methods=_words(kit, "methods"),
        roles=_words(kit, "roles"),
        subject=text_setting(kit, "subject"),
        echo=_words(kit, "echo"),
    )
    if not set(province.methods.values()) <= set(province.levels) or not province.methods:
        raise refuse_start(kit, "settings.methods", "must give each method one of the levels")
    return province


def _one_of(kit: Kit, name: str, known: tuple[Any, ...]) -> Any:
    value = text_setting(kit, name)
    if value not in known:
        raise refuse_start(kit, f"settings.{name}", f"must be one of {', '.join(known)}")
    return value


def _secret(kit: Kit, name: str, read: Any) -> Any:
    try:
        return read(secret_bytes(kit, name))
    except ValueError as wrong:
        raise refuse_start(kit, f"secrets.{name}", f"cannot be used: {wrong}") from None


def _seconds(kit: Kit, name: str) -> int:
    value = kit.settings.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 600:
        raise refuse_start(kit, f"settings.{name}", "must be whole seconds from 1 to 600")
    return value


def _words(kit: Kit, name: str) -> dict[str, str]:
    value = kit.settings.get(name)
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for each in value.values()):
        raise refuse_start(kit, f"settings.{name}", "must be a table of texts")
    return dict(value)


def _codes(kit: Kit) -> Mapping[str, Any]:
    value = kit.settings.get("codes")
    return _whole(kit, "codes", Codes.__slots__, value if isinstance(value, Mapping) else {})


def _whole(kit: Kit, name: str, wanted: Sequence[str], given: Mapping[str, Any]) -> Mapping[str, Any]:
    if given.keys() != set(wanted) or not all(given.values()):
        raise refuse_start(kit, f"settings.{name}", f"must give {', '.join(wanted)}, and nothing else")
    return given


def _texts(kit: Kit, name: str, value: object) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
        raise refuse_start(kit, f"settings.{name}", "must be lists of texts, none of them empty")
    return value


# --- sign-on -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Voucher:
    """What the verified token says: the access token, for whom it is, and whether for a natural or a legal person."""

    access_token: str
    subject: str
    user_type: str


class TicketSignOn:
    """One province's sign-on: login, ticket, token, information."""

    def __init__(self, wire: TicketWire, province: Province) -> None:
        self._wire = wire
        self._province = province
        self._region = wire.wire.region

    async def begin(self, start: SignOnStart) -> SignOnRedirect:
        """Return the login's address, signed; it names a level and no person."""
        query = {
            "app_id": self._wire.ours.app_id,
            "state": start.state,
            "return_url": start.redirect_uri,
            "level": start.levels[0] if start.levels else "",
            "fresh": "1" if start.fresh else "0",
            "lang": start.language,
        }
        url, nonce = self._wire.login_address(self._province.paths.login, query)
        memory = {"state": start.state, "levels": "\n".join(start.levels), "nonce": nonce, "fresh": query["fresh"]}
        return SignOnRedirect(url, memory)

    async def complete(self, back: SignOnReturn) -> UpstreamIdentity:
        """Exchange the ticket for person and organisation. Raises SignOnFailed or RegionError."""
        ticket = self._ticket(back)
        voucher = await self._redeem(ticket, back)
        path = self._province.paths.person if voucher.user_type == NATURAL else self._province.paths.organisation
        told = await self._ask(path, {"access_token": voucher.access_token})
        self._bound(told.content, {"state": back.memory["state"]})
        return self._identity(ticket, voucher, told, back.memory)

    # --- ticket

    def _ticket(self, back: SignOnReturn) -> str:
        """Return the ticket that came back for the sign-on that we began. Raises SignOnFailed."""
        state, ticket = back.memory.get("state", ""), back.query.get("ticket", "")
        if not state or state != back.query.get("state"):  # the broker has looked it up by its hash already
            raise self._failed("the answer does not belong to this sign-on")
        if not _TICKET.fullmatch(ticket):
            raise self._failed("the identity provider sent no ticket back", quotable(back.query.get("error")))
        return ticket

    async def _redeem(self, ticket: str, back: SignOnReturn) -> Voucher:
        bound = {"state": back.memory["state"], "return_url": back.redirect_uri}
        told = await self._ask(self._province.paths.token, {"ticket": ticket, **bound})
        self._bound(told.content, {**bound, "ticket": sm3(ticket.encode()).hex()})
        age = self._wire.clock() - self._time(told.content, "issued_at")
        if not -self._wire.tolerance <= age <= TICKET_LIFE + self._wire.tolerance:
            raise self._failed("the ticket was too long under way")
        user_type = self._text(told.content, "user_type")
        if user_type not in (NATURAL, LEGAL):
            raise self._unreadable("user_type is neither natural nor legal person")
        return Voucher(self._text(told.content, "access_token"), self._text(told.content, "subject"), user_type)

    # --- information

    def _identity(self, ticket: str, voucher: Voucher, told: Reply, memory: Mapping[str, str]) -> UpstreamIdentity:
        session, user = self._part(told.content, "session"), self._part(told.content, "user")
        subject = self._text(user, self._province.subject)
        if subject != voucher.subject:  # a mix-up at the province would sign one person on as another
            raise self._failed("the identity provider told of somebody else")
        method, level = self._method_and_level(session)
        self._as_asked(session, level, memory)
        legal = voucher.user_type == LEGAL
        return UpstreamIdentity(
            subject=subject,
            claims={**user, "userType": NATURAL},  # for a legal person, too, somebody natural signed on
            method=method,
            level=level,
            organisation=self._part(told.content, "corp") if legal else None,
            role=self._role(told.content) if legal else "",
            authenticated_at=self._proved_at(session),
            assertion=told.signed,
            once=OnceOnly(f"ticket:{sm3(ticket.encode()).hex()}", self._forgotten_at()),
            session_ref=self._text(session, "id"),
            kept={"session": self._text(session, "id")},
        )

    def _method_and_level(self, session: Mapping[str, Any]) -> tuple[str, str]:
        """Return method and level of this session; a level beyond its method is the account's and not the session's."""
        method, level = self._text(session, "method"), self._text(session, "level")
        levels, best = list(self._province.levels), self._province.methods.get(method)
        if best is None or level not in levels:
            raise self._unreadable("a method or level that region.toml does not know")
        if levels.index(level) > levels.index(best):
            raise self._failed("the identity provider gave a better level than the method of this session allows")
        return method, level

    def _as_asked(self, session: Mapping[str, Any], level: str, memory: Mapping[str, str]) -> None:
        """Refuse a weaker level than the service demands, and an old proof where a fresh one was asked for."""
        wanted = memory.get("levels", "").split("\n")
        if wanted != [""] and level not in wanted:
            raise self._failed("the way of signing on is not sure enough for the service")
        if memory.get("fresh") == "1" and session.get("proof_nonce") != memory.get("nonce"):
            raise self._failed("the person was not asked to prove it anew")

    def _proved_at(self, session: Mapping[str, Any]) -> datetime:
        proved = self._time(session, "authenticated_at")
        if proved > self._wire.clock() + self._wire.tolerance:
            raise self._unreadable("authenticated_at lies in the future")
        return proved

    def _role(self, content: Mapping[str, Any]) -> str:
        role = self._province.roles.get(self._text(content, "role"))
        if role is None:
            raise self._unreadable("a role that region.toml does not know")
        return role

    def _forgotten_at(self) -> datetime:
        """Return from when on the ticket, had it been issued now, would be too old by itself."""
        return self._wire.clock() + TICKET_LIFE + 2 * self._wire.tolerance + NONCE_MARGIN

    # --- reading

    async def _ask(self, path: str, document: Mapping[str, str]) -> Reply:
        reply = await self._wire.ask(path, {**document, **self._province.echo})
        codes = self._province.codes
        if reply.code in codes.ticket:
            raise self._failed("the identity provider did not accept the ticket", f"code {quotable(reply.code)}")
        if reply.code not in codes.ok:
            raise not_ok(self._wire, self._province, reply)
        return reply

    def _bound(self, content: Mapping[str, Any], expected: Mapping[str, str]) -> None:
        """Refuse a content that was made for another gateway, ticket, state, address or mode. Raises SignOnFailed."""
        wanted = {**expected, **self._province.echo, "app_id": self._wire.ours.app_id}
        wrong = [name for name, value in wanted.items() if content.get(name) != value]
        if wrong:
            raise self._failed("the identity provider's answer is for another sign-on", f"differs: {', '.join(wrong)}")

    def _part(self, content: Mapping[str, Any], name: str) -> dict[str, Any]:
        part = content.get(name)
        if not isinstance(part, dict):
            raise self._unreadable(f"no {name}")
        return part

    def _text(self, content: Mapping[str, Any], name: str) -> str:
        text = content.get(name)
        if not isinstance(text, str) or not 0 < len(text) <= (_MAX_TOKEN if name == "access_token" else _MAX_ID):
            raise self._unreadable(f"no {name}")
        return text

    def _time(self, content: Mapping[str, Any], name: str) -> datetime:
        said = unix_time(str(content.get(name)), per_second=1000)
        if said is None:
            raise self._unreadable(f"{name} is no time")
        return said

    def _failed(self, why: str, detail: str = "") -> SignOnFailed:
        return SignOnFailed(f"{why}; {_AGAIN}", detail=detail, region=self._region)

    def _unreadable(self, detail: str) -> SignOnFailed:
        """Return the error for a genuine answer that says too little: one odd account is no failure of the region."""
        return self._failed("the identity provider's answer cannot be used", detail)


def not_ok(wire: TicketWire, province: Province, reply: Reply) -> RegionError:
    """Return the error for a verified answer that is neither a yes nor about the ticket."""
    if reply.code in province.codes.caller:
        what = "does not accept the gateway's app id, key, signature or clock; an operator must look"
        return wire.wire.unreachable(what, f"code {quotable(reply.code)}")
    return wire.wire.uncertain("gave an unexpected answer", f"code {quotable(reply.code)}")


# --- sign-out ----------------------------------------------------------------------------------------------------


class TicketSignOut:
    """The end of a session: told to the province, and told by it. The browser is not needed for either."""

    def __init__(self, wire: TicketWire, province: Province) -> None:
        self._wire = wire
        self._province = province
        self._path = f"/sign-in/{wire.wire.region}/logout"

    async def end(self, start: SignOutStart) -> SignOnRedirect | None:
        """Tell the province that the session is over; one that it does not know any more is over too.

        Raises RegionError.
        """
        session = start.kept.get("session")
        if not session:
            return None
        reply = await self._wire.ask(self._province.paths.logout, {"session": session, **self._province.echo})
        if reply.code not in self._province.codes.ok | self._province.codes.gone:
            raise not_ok(self._wire, self._province, reply)
        return None

    async def ended(self, notice: Callback) -> SignOutNotice:
        """Verify and read the province's notice. Raises ForgedCallback, ReplayedCallback or InvalidRequest."""
        told = self._wire.notice(notice, self._path)
        session, subject = told.content.get("session"), told.content.get("subject")
        if told.content.get("event") != "session_ended" or not isinstance(session, str) or not isinstance(subject, str):
            raise InvalidRequest("the notice does not say that a session has ended")
        if not (session or subject) or max(len(session), len(subject)) > _MAX_ID:
            raise InvalidRequest("the notice names neither a session nor a person")
        return SignOutNotice(session, subject, OnceOnly(f"notice:{told.nonce}", told.expires_at))
