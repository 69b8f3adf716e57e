"""The simulated province of the ticket exchange: a second, independent reading of docs/ticket-exchange.md.

Owns: login page, tickets, tokens, information, sign-out and notices, and the attacks that it can be asked for. Leaves
to `adapters/<province>/sandbox.py` what differs (`Traits`), and to `gateway.sandbox.authority` what no real authority
has. Six provinces share it because they share one contract; it shares no code with the gateway, and no library for the
same job: SM2 is written out here (`sm2`) and GmSSL's there, SM3 and SM4 are GmSSL's here and OpenSSL's there.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

import aiohttp
import gmssl_pyx
from aiohttp import web

from gateway.sandbox import sm2
from gateway.sandbox.authority import MISBEHAVIOUR, AuthoritySettings, authority_app, in_background

Clock = Callable[[], float]
Document = dict[str, Any]

TOLERANCE = 120_000  # ms
TICKET_LIFE = 60_000  # ms
TOKEN_LIFE = 300  # s

ATTACKS: Mapping[str, str] = {
    "hostile_wrong_key": "signs answers with a key that nobody knows, under the id of its own",
    "hostile_unsigned": "does not sign its answers",
    "hostile_empty_signature": "signs with r and s that are zero",
    "hostile_out_of_range": "signs with an s that is too large by the order of the curve (0 where it would not fit)",
    "hostile_other_bytes": "changes an answer after it was signed",
    "hostile_other_nonce": "binds an answer to another question",
    "hostile_replay": "answers with the signed answer of an earlier sign-on",
    "hostile_expired_key": "signs with a pinned key of which the term is over",
    "hostile_clock": "dates its answers an hour back",
    "hostile_plain": "tells everything in clear instead of encrypting it",
    "hostile_other_suite": "encrypts in another suite than agreed",
    "hostile_other_state": "gives out a ticket of another sign-on",
    "hostile_other_app": "answers for another app id",
    "hostile_other_person": "tells of somebody else than the ticket's person",
    "hostile_account_level": "gives the best level of the account as the level of the session",
    "hostile_stale_proof": "lets an earlier session count though a fresh proof was asked for",
    "hostile_old_ticket": "redeems a ticket that was issued an hour ago",
    "forged_notice": "signs the notice of an ended session with a key that nobody knows",
}
"""What it can be asked to do wrong, beside what every authority can."""


@dataclass(frozen=True, slots=True)
class Traits:
    """How one province departs from the others. `methods` is code → (words, level); the first one is offered first.

    `person` and `company` say an account in the province's own fields. `codes` are its words for ok, ticket, caller
    and gone. The rest is named as in docs/ticket-exchange.md.
    """

    title: str
    paths: Mapping[str, str]
    methods: Mapping[str, tuple[str, str]]
    levels: tuple[str, ...]
    codes: Mapping[str, str]
    roles: tuple[str, str]  # handler, legal representative
    subject: str
    person: Callable[[Mapping[str, Any]], Document]
    company: Callable[[Mapping[str, Any]], Document]
    raw_signature: bool = False
    cipher: str = "c1c3c2"
    suite: str = "SM4-GCM"
    our_id: bytes = b"1234567812345678"  # the province's
    gateway_id: bytes = b"1234567812345678"
    echo: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Login:
    """A login that was asked for and is not done."""

    state: str
    return_url: str
    level: str
    nonce: str


@dataclass(frozen=True, slots=True)
class Session:
    """One person who proved it, for one login, at one time (ms)."""

    id: str
    login: Login
    person: Mapping[str, Any]
    method: str
    legal: bool
    at: int


class RefusedError(Exception):
    """A question that is not answered; the text is one of the four words of `Traits.codes`."""


# --- SM2, SM3, SM4 -----------------------------------------------------------------------------------------------


def der_pair(r: int, s: int) -> bytes:
    """Write SEQUENCE {r, s}."""
    parts = b"".join(b"\x02" + bytes([len(n)]) + n for n in (_positive(r), _positive(s)))
    return b"\x30" + bytes([len(parts)]) + parts


def _positive(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def pair_of_der(der: bytes) -> tuple[int, int]:
    """Read SEQUENCE {r, s}."""
    length = der[3]
    r, rest = der[4 : 4 + length], der[4 + length :]
    return _int(r), _int(rest[2 : 2 + rest[1]])


def wrap_key(key: bytes, recipient: sm2.Point, form: str) -> bytes:
    """Encrypt a content key with SM2, in one of the forms."""
    (x, y), c3, c2 = sm2.encrypt(recipient, key)
    c1 = b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")
    if form == "c1c3c2":
        return c1 + c3 + c2
    if form == "c1c2c3":
        return c1 + c2 + c3
    numbers = b"".join(b"\x02" + bytes([len(n)]) + n for n in (_positive(x), _positive(y)))
    body = numbers + b"\x04\x20" + c3 + b"\x04" + bytes([len(c2)]) + c2
    head = bytes([len(body)]) if len(body) < 128 else b"\x81" + bytes([len(body)])
    return b"\x30" + head + body


def _int(data: bytes) -> int:
    return int.from_bytes(data, "big")


def encrypt(suite: str, plain: bytes, bound: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return a fresh key, the vector, the ciphertext and the tag."""
    if suite == "SM4-GCM":
        key, iv = secrets.token_bytes(16), secrets.token_bytes(12)
        text, tag = gmssl_pyx.sm4_gcm_encrypt(key, iv, bound, plain)
        return key, iv, text, tag
    key, iv = secrets.token_bytes(48), secrets.token_bytes(16)
    text = gmssl_pyx.sm4_cbc_padding_encrypt(key[:16], iv, plain)
    tag = gmssl_pyx.sm3_hmac(key[16:], len(bound).to_bytes(8, "big") + bound + iv + text)
    return key, iv, text, tag


def sm3_hex(data: bytes) -> str:
    """Return the SM3 digest in hex."""
    return bytes(gmssl_pyx.sm3_hash(data)).hex()


# --- signing -----------------------------------------------------------------------------------------------------


class Desk:
    """Checks what the gateway signed; signs and encrypts what the province tells, or does it wrong when asked to."""

    def __init__(self, traits: Traits, given: Mapping[str, bytes], app: web.Application, clock: Clock) -> None:
        self.traits = traits
        self.app = app
        self.clock = clock
        self.app_id = given["app_id"].decode()
        self._key, self._retired = (sm2.secret_number(given[name]) for name in ("signing_key", "retired_key"))
        self._stranger = secrets.randbelow(sm2.N - 2) + 1
        self._gateway = sm2.point(given["gateway_signing"])
        self._recipient = sm2.point(given["gateway_encryption"])
        self._nonces: dict[str, int] = {}
        self._earlier: dict[str, web.Response] = {}

    def now(self) -> int:
        """Return the time in milliseconds."""
        return int(self.clock() * 1000)

    def due(self, attack: str) -> bool:
        """Say whether to attack so now."""
        return self.app[MISBEHAVIOUR].due(attack)

    # --- theirs

    def check(self, method: str, path: str, query: str, stamp: Mapping[str, str], body: bytes) -> None:
        """Check the gateway's signature; a nonce is taken once. Raises RefusedError."""
        signed = (
            f"PEARL-TICKET-1 REQUEST\n{method}\n{path}\n{query}\n{stamp['app_id']}\n{stamp['key_id']}\n"
            f"{stamp['timestamp']}\n{stamp['nonce']}\n{sm3_hex(body)}"
        )
        now = self.now()
        known = stamp["app_id"] == self.app_id and stamp["key_id"] == "gateway-signing"
        timely = stamp["timestamp"].isdigit() and abs(now - int(stamp["timestamp"])) <= TOLERANCE
        self._nonces = {nonce: until for nonce, until in self._nonces.items() if until > now}
        if not (known and timely) or stamp["nonce"] in self._nonces or not self._signed(signed, stamp["sign"]):
            raise RefusedError("caller")
        self._nonces[stamp["nonce"]] = now + 2 * TOLERANCE

    def _signed(self, text: str, sign: str) -> bool:
        try:
            signature = bytes.fromhex(sign) if self.traits.raw_signature else b64decode(sign, validate=True)
            raw = (_int(signature[:32]), _int(signature[32:]))
            r, s = raw if self.traits.raw_signature else pair_of_der(signature)
        except (ValueError, IndexError):
            return False
        return sm2.verify(self._gateway, text.encode(), r, s, self.traits.gateway_id)

    # --- ours

    def sealed(self, content: Mapping[str, Any], nonce: str) -> Document:
        """Encrypt a content for the gateway, bound to a nonce."""
        suite = self.traits.suite
        if self.due("hostile_other_suite"):
            suite = "SM4-GCM" if suite != "SM4-GCM" else "SM4-CBC-HMAC-SM3"
        plain = json.dumps(content, ensure_ascii=False).encode()
        key, iv, text, tag = encrypt(suite, plain, f"{self.app_id}\n{nonce}".encode())
        wrapped = wrap_key(key, self._recipient, self.traits.cipher)
        parts = {"key": wrapped, "iv": iv, "text": text, "tag": tag}
        coded = {name: b64encode(part).decode() for name, part in parts.items()}
        return {"suite": suite, "key_id": "gateway-encryption", **coded}

    def answer(self, path: str, nonce: str, code: str, content: Mapping[str, Any] | None = None) -> web.Response:
        """Return a signed answer to the question with this nonce."""
        status = 200 if code == self.traits.codes["ok"] else 400
        if content is not None and self.due("hostile_other_nonce"):
            nonce = secrets.token_hex(16)
        document: Document = {"code": code, "message": ""}
        if content is not None:
            document["sealed"] = content if self.due("hostile_plain") else self.sealed(content, nonce)
        body = json.dumps(document).encode()
        headers = self.stamp(("ANSWER", str(status), path), nonce, body)
        if self.due("hostile_other_bytes"):
            body = body.replace(b'"message": ""', b'"message":""')
        if self.due("hostile_unsigned"):
            headers = {}
        answer = web.Response(status=status, body=body, headers=headers, content_type="application/json")
        return self._or_an_earlier_one(path, answer) if content is not None else answer

    def _or_an_earlier_one(self, path: str, answer: web.Response) -> web.Response:
        earlier = self._earlier.setdefault(path, answer)
        if not self.due("hostile_replay"):
            return answer
        headers = {name: value for name, value in earlier.headers.items() if name.startswith("X-")}
        return web.Response(status=200, body=earlier.body, headers=headers, content_type="application/json")

    def stamp(
        self, what: tuple[str, ...], nonce: str, body: bytes, forged: str = "hostile_wrong_key"
    ) -> dict[str, str]:
        """Return the signed headers of an answer or a notice."""
        kind, *rest = what
        timestamp = self.now() - (3_600_000 if self.due("hostile_clock") else 0)
        key, key_id = self._key, "province-current"
        if self.due("hostile_expired_key"):
            key, key_id = self._retired, "province-retired"
        if self.due(forged):
            key = self._stranger
        lines = [f"PEARL-TICKET-1 {kind}", *rest, self.app_id, key_id, str(timestamp), nonce, ""]
        return {
            "X-App-Id": self.app_id,
            "X-Key-Id": key_id,
            "X-Timestamp": str(timestamp),
            "X-Nonce": nonce,
            "X-Sign": self._sign(key, "\n".join(lines).encode() + body),
        }

    def _sign(self, key: int, message: bytes) -> str:
        r, s = sm2.sign(key, message, self.traits.our_id)
        if self.due("hostile_out_of_range"):
            s = s + sm2.N if not self.traits.raw_signature else 0
        if self.due("hostile_empty_signature"):
            r = s = 0
        if self.traits.raw_signature:
            return (r.to_bytes(32, "big") + s.to_bytes(32, "big")).hex()
        return b64encode(der_pair(r, s)).decode()


# --- the province ------------------------------------------------------------------------------------------------


class TicketAuthority:
    """Login page, tickets, tokens, information, sign-out."""

    def __init__(self, desk: Desk, settings: AuthoritySettings) -> None:
        self._desk = desk
        self._traits = desk.traits
        self._region = settings.region
        self._gateway_url = settings.gateway_url.rstrip("/")
        self._people = {row["account"]: row for row in settings.people if row.get("region") == settings.region}
        self._logins: dict[str, Login] = {}
        self._tickets: dict[str, Session] = {}
        self._tokens: dict[str, Session] = {}
        self.sessions: dict[str, Session] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return the addresses of docs/ticket-exchange.md, and one by which a person ends a session here."""
        paths = self._traits.paths
        return [
            web.get(paths["login"], self._page),
            web.post(paths["login"], self._sign_in),
            web.post(paths["token"], self._answering(self._token)),
            web.post(paths["person"], self._answering(self._person)),
            web.post(paths["organisation"], self._answering(self._organisation)),
            web.post(paths["logout"], self._answering(self._logout)),
            web.post("/account/sign-out", self._sign_out_here),
        ]

    # --- the browser

    async def _page(self, request: web.Request) -> web.Response:
        query, mark, sign = request.rel_url.raw_query_string.partition("&sign=")
        given = dict(parse_qsl(query, keep_blank_values=True))
        stamp = {name: given.get(name, "") for name in ("app_id", "key_id", "timestamp", "nonce")}
        try:
            self._desk.check("GET", request.rel_url.raw_path, query, {**stamp, "sign": _decoded(mark, sign)}, b"")
        except RefusedError:
            return web.Response(status=400, text="app_id, timestamp, nonce or sign is wrong")
        names = ("state", "return_url", "level", "fresh", "lang")
        if given.keys() != {*stamp, *names} or given["return_url"] != self._return_url or not given["state"]:
            return web.Response(status=400, text="state is missing, or return_url is not registered here")
        if given["level"] not in ("", *self._traits.levels):
            return web.Response(status=400, text="there is no such level here")
        handle = secrets.token_urlsafe(24)
        self._logins[handle] = Login(given["state"], given["return_url"], given["level"], given["nonce"])
        return self._form(handle)

    @property
    def _return_url(self) -> str:
        return f"{self._gateway_url}/sign-in/{self._region}/callback"

    async def _sign_in(self, request: web.Request) -> web.Response:
        form = dict(parse_qsl((await request.read()).decode("utf-8", "replace"), keep_blank_values=True))
        login = self._logins.get(form.get("login", ""))
        if login is None:
            return web.Response(status=400, text="this sign-in is over or never began")
        person, method = self._people.get(form.get("account", "").strip()), form.get("method", "")
        wrong = person is None or person["password"] != form.get("password") or method not in self._traits.methods
        if person is None or wrong or not self._reaches(method, login.level):
            return self._form(form["login"], wrong=True)
        del self._logins[form["login"]]
        return self._back(login, self._open(login, person, method, legal=form.get("user_type") == "2"))

    def _reaches(self, method: str, level: str) -> bool:
        levels = self._traits.levels
        return not level or levels.index(self._traits.methods[method][1]) >= levels.index(level)

    def _open(self, login: Login, person: Mapping[str, Any], method: str, *, legal: bool) -> str:
        session = Session(secrets.token_urlsafe(16), login, person, method, legal, self._desk.now())
        self.sessions[session.id] = session
        ticket = secrets.token_urlsafe(32)
        self._tickets[ticket] = session
        return ticket

    def _back(self, login: Login, ticket: str) -> web.Response:
        if self._desk.due("hostile_other_state"):
            other = Login(secrets.token_urlsafe(32), login.return_url, login.level, login.nonce)
            session = self._tickets.pop(ticket)
            ticket = self._open(other, session.person, session.method, legal=session.legal)
        location = f"{login.return_url}?{urlencode({'ticket': ticket, 'state': login.state})}"
        return web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})

    def _form(self, handle: str, *, wrong: bool = False) -> web.Response:
        methods = "".join(f"<option value={code}>{escape(name)}" for code, (name, _) in self._traits.methods.items())
        alert = "<p role=alert>账号、密码或方式不正确 Wrong account, password or method.</p>" if wrong else ""
        body = (
            f"<!doctype html><html lang=zh-CN><meta charset=utf-8><title>{escape(self._traits.title)}</title>"
            "<style>body{font:16px system-ui;margin:2rem auto;max-width:30rem}</style>"
            f"<h1>{escape(self._traits.title)}</h1><p>模拟系统 Simulated authority, synthetic accounts only.</p>{alert}"
            f'<form method=post action="{self._traits.paths["login"]}"><input type=hidden name=login value="{handle}">'
            "<p><label>账号 Account <input name=account autocomplete=username required autofocus></label></p>"
            "<p><label>密码 Password <input name=password type=password autocomplete=current-password></label></p>"
            f"<p><label>方式 Method <select name=method>{methods}</select></label></p>"
            "<p><label>身份 As <select name=user_type><option value=1>自然人 natural person"
            "<option value=2>法人 legal person</select></label></p><button>登录 Sign in</button></form></html>"
        )
        safety = {"Cache-Control": "no-store", "Content-Security-Policy": "frame-ancestors 'none'"}
        return web.Response(text=body, content_type="text/html", status=403 if wrong else 200, headers=safety)

    # --- the back channel

    def _answering(
        self, tell: Callable[[Mapping[str, str]], Document]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            body, path = await request.read(), request.rel_url.raw_path
            names = {"app_id": "X-App-Id", "key_id": "X-Key-Id", "timestamp": "X-Timestamp", "nonce": "X-Nonce"}
            stamp = {name: request.headers.get(header, "") for name, header in names.items()}
            try:
                self._desk.check("POST", path, "", {**stamp, "sign": request.headers.get("X-Sign", "")}, body)
                content = tell(self._asked(body))
            except RefusedError as refused:
                return self._desk.answer(path, stamp["nonce"], self._traits.codes[str(refused)])
            app_id = "somebody-else" if self._desk.due("hostile_other_app") else self._desk.app_id
            told = {"app_id": app_id, **self._traits.echo, **content}
            return self._desk.answer(path, stamp["nonce"], self._traits.codes["ok"], told)

        return handle

    def _asked(self, body: bytes) -> Mapping[str, str]:
        asked: Mapping[str, str] = json.loads(body)
        if any(asked.get(name) != value for name, value in self._traits.echo.items()):
            raise RefusedError("caller")
        return asked

    def _token(self, asked: Mapping[str, str]) -> Document:
        session = self._tickets.pop(asked.get("ticket", ""), None)
        if session is None or session.at + TICKET_LIFE < self._desk.now():
            raise RefusedError("ticket")
        login = session.login
        tricked = self._desk.app[MISBEHAVIOUR].active.get("hostile_other_state")
        if not tricked and (login.state, login.return_url) != (asked.get("state"), asked.get("return_url")):
            raise RefusedError("ticket")
        token = secrets.token_urlsafe(32)
        self._tokens[token] = session
        return {
            "ticket": sm3_hex(asked["ticket"].encode()),
            "state": login.state,
            "return_url": login.return_url,
            "issued_at": session.at - (3_600_000 if self._desk.due("hostile_old_ticket") else 0),
            "access_token": token,
            "expires_in": TOKEN_LIFE,
            "user_type": "2" if session.legal else "1",
            "subject": self._traits.person(session.person)[self._traits.subject],
        }

    def _person(self, asked: Mapping[str, str]) -> Document:
        return self._told(self._redeemed(asked, legal=False))

    def _organisation(self, asked: Mapping[str, str]) -> Document:
        session = self._redeemed(asked, legal=True)
        handler, representative = self._traits.roles
        acts = handler if session.person["acts_as"] == "handler" else representative
        return {**self._told(session), "corp": self._traits.company(session.person), "role": acts}

    def _redeemed(self, asked: Mapping[str, str], *, legal: bool) -> Session:
        """Return the session of a token: for the endpoint of its kind, once, while it lasts."""
        session = self._tokens.get(asked.get("access_token", ""))
        if session is None or session.legal != legal or session.at + TOKEN_LIFE * 1000 < self._desk.now():
            raise RefusedError("ticket")
        del self._tokens[asked["access_token"]]
        return session

    def _told(self, session: Session) -> Document:
        person, level = session.person, self._traits.methods[session.method][1]
        if self._desk.due("hostile_other_person"):
            person = next(row for row in self._people.values() if row is not person)
        if self._desk.due("hostile_account_level"):
            level = self._traits.levels[-1]
        stale = self._desk.due("hostile_stale_proof")
        proof = {
            "id": session.id,
            "method": session.method,
            "level": level,
            "authenticated_at": session.at - (3_600_000 if stale else 0),
            "proof_nonce": "" if stale else session.login.nonce,
        }
        return {"state": session.login.state, "session": proof, "user": self._traits.person(person)}

    def _logout(self, asked: Mapping[str, str]) -> Document:
        if self.sessions.pop(asked.get("session", ""), None) is None:
            raise RefusedError("gone")
        return {}

    # --- notices

    async def _sign_out_here(self, request: web.Request) -> web.Response:
        """End all sessions of an account (form: `account`) and tell the gateway of each, in the background."""
        form = dict(parse_qsl((await request.read()).decode("utf-8", "replace")))
        ended = [each for each in self.sessions.values() if each.person["account"] == form.get("account")]
        for session in ended:
            del self.sessions[session.id]
            in_background(request.app, self._tell(session))
        return web.json_response({"ended": len(ended)})

    async def _tell(self, session: Session) -> None:
        path, headers, body = self.notice(session)
        try:
            async with (
                aiohttp.ClientSession() as client,
                client.post(self._gateway_url + path, data=body, headers=headers),
            ):
                pass
        except aiohttp.ClientError:
            return  # a province does not repeat it: the gateway's own session ends by itself

    def notice(self, session: Session) -> tuple[str, dict[str, str], bytes]:
        """Return path, headers and body of the notice that a session has ended."""
        nonce, path = secrets.token_hex(16), f"/sign-in/{self._region}/logout"
        subject = self._traits.person(session.person)[self._traits.subject]
        content = {"event": "session_ended", "session": session.id, "subject": subject}
        body = json.dumps({"sealed": self._desk.sealed(content, nonce)}).encode()
        return path, self._desk.stamp(("NOTICE", "POST", path), nonce, body, "forged_notice"), body


AUTHORITY = web.AppKey("ticket_authority", TicketAuthority)

_GIVEN = ("app_id", "signing_key", "retired_key", "gateway_signing", "gateway_encryption")


def build_ticket_authority(settings: AuthoritySettings, traits: Traits, clock: Clock = time.time) -> web.Application:
    """Return a province. `clock` gives Unix seconds. Raises ValueError naming every secret that is missing."""
    missing = [name for name in _GIVEN if name not in settings.secrets]
    if missing:
        raise ValueError(f"the authority of {settings.region} lacks the secrets {', '.join(missing)}")
    app = authority_app(settings, ATTACKS)
    app[AUTHORITY] = TicketAuthority(Desk(traits, settings.secrets, app, clock), settings)
    app.add_routes(app[AUTHORITY].routes())
    return app


def local_id(region: str, account: str, digits: int) -> str:
    """Return an account's stable number in a province: digits that tell nothing of the person."""
    return str(int(hashlib.sha256(f"{region}/{account}".encode()).hexdigest(), 16))[:digits]


def _decoded(mark: str, sign: str) -> str:
    return dict(parse_qsl(f"sign={sign}")).get("sign", "") if mark else ""
