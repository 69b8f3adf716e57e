"""Sign-on by iAM Smart (智方便): QR page, code, token, profile; and for a company by CorpID (數碼企業身份).

Owns: what is asked of the page and of a profile, the binding of an answer to the sign-on that it belongs to, how sure
the session is, and who acts for which company. Leaves to `iamsmart` signature and encryption, to mapping packs what
stands in a document. Source: adapters/hongkong/README.md, "Sign-on", which says what is seen and what is our reading.

An answer about one person that does not fit together fails that sign-on (SignOnFailed): it is no sign of a sick region.
Self-declared data (e-ME) never says who somebody is: it comes apart from the rest, and marked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from gateway.errors import SignOnFailed
from gateway.ports import Kit, OnceOnly, SignOnRedirect, SignOnReturn, SignOnStart, UpstreamIdentity
from gateway.protocols.demands import remembered, unmet
from gateway.protocols.iamsmart import IamSmartClient, Reply, open_client
from gateway.protocols.wire import quotable, refuse_start

PROFILE_FIELDS = ("enName", "chName", "birthDate", "gender", "idNo")
"""What a profile can be asked for. An HKID (`idNo`) does not leave Hong Kong unless a deployment names it."""

EME_FIELDS = (
    "prefix",
    "maritalStatus",
    "homeTelNumber",
    "officeTelNumber",
    "mobileNumber",
    "emailAddress",
    "residentialAddress",
    "postalAddress",
    "educationLevel",
)
"""What people have written about themselves (e-ME); nobody has checked it. Proofs of address are not asked for."""

CORP_FIELDS: Mapping[str, Sequence[str]] = {
    "corpProfileFields": ("corpID", "brn", "corpNameEN", "corpNameTC", "corpAddr"),
    "corpUserProfileFields": ("openID", "enName", "chName", "corpRole"),
    "eCorpFields": ("corpTypeEN", "corpTel", "corpStatusEN", "dateOfReg"),
}
"""What is asked of a company's profile, by group."""

AUTH, PROFILES, FACE, CORPORATE = "eidapi_auth", "eidapi_profiles", "eidapi_fr", "corpid_auth"
PLUS = "iAMSmart+"
"""`version` of a session in the app that can also sign by law."""

SKEW = timedelta(seconds=300)
"""How far ahead of our clock the time of a proof may lie."""

ANSWER_REMEMBERED = timedelta(hours=24)
"""How long the answer that signed somebody on is remembered: longer than any content key lives."""

_CODE = re.compile(r"[\x21-\x7e]{1,512}")
_OPEN_ID = re.compile(r"[\x21-\x7e]{1,64}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a deployment asks for: profile fields, self-declared fields, and whether people may act for companies.

    `roles` are CorpID's words for what somebody is in a company → ours (`handler`, `legal_representative`).
    """

    profile: tuple[str, ...]
    eme: tuple[str, ...]
    corporate: IamSmartClient | None
    roles: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Token:
    """What the token's answer says, checked."""

    open_id: str
    access: str
    level: str
    proved_at: datetime | None
    reply: Reply


@dataclass(frozen=True, slots=True)
class _Company:
    """For whom a person acts, and as what; `answers` are the exact bytes that say so."""

    profile: dict[str, Any]
    role: str
    answers: bytes


class IamSmartSignOn:
    """The relying party's flow."""

    method = "IAMSMART"

    def __init__(self, client: IamSmartClient, asked: Asked) -> None:
        self._client = client
        self._asked = asked

    # --- there

    async def begin(self, start: SignOnStart) -> SignOnRedirect:
        """Return the address of the QR page; nothing in it is secret."""
        scope = self._scope(start.levels)
        query = {
            "clientID": self._client.signer.client_id,
            "responseType": "code",
            "source": "PC_Browser",
            "redirectURI": start.redirect_uri,
            "scope": scope,
            "state": start.state,
            "lang": page_language(start.language),
            **({"reauth": "true"} if start.fresh else {}),
        }
        url = f"{self._client.wire.base_url}/api/v1/auth/getQR?{urlencode(query, quote_via=quote)}"
        memory = {
            "state": fingerprint(start.state),
            "scope": scope,
            **remembered(start, self._client.signer.clock()),
        }
        return SignOnRedirect(url, memory)

    def _scope(self, levels: Sequence[str]) -> str:
        """Ask for a face only where nothing less will do."""
        face = bool(levels) and all(level.endswith("_face") for level in levels)
        names = (AUTH, PROFILES, FACE if face else "", CORPORATE if self._asked.corporate else "")
        return " ".join(name for name in names if name)

    # --- and back

    async def complete(self, back: SignOnReturn) -> UpstreamIdentity:
        """Exchange the code for the profile. Raises SignOnFailed or RegionError."""
        code = self._code(back)
        token = self._token(back, await self._ask("/api/v1/auth/getToken", _grant(code)))
        if wrong := unmet(back.memory, token.level, token.proved_at, "authTime"):
            raise self._failed(*wrong)
        profile = await self._profile(token)
        identity = UpstreamIdentity(
            subject=token.open_id,
            claims=self._claims(profile.content, token.open_id),
            method=self.method,
            level=token.level,
            authenticated_at=token.proved_at,
            assertion=b"\n".join((token.reply.plain, profile.plain)),
            once=OnceOnly(f"answer:{fingerprint(token.reply.sealed)}", self._client.signer.clock() + ANSWER_REMEMBERED),
        )
        ticket = back.query.get("corpTicket")
        return identity if ticket is None else await self._for_company(identity, token, ticket)

    async def _for_company(self, identity: UpstreamIdentity, token: _Token, ticket: str) -> UpstreamIdentity:
        company = await self._company(token, ticket)
        assertion = b"\n".join((identity.assertion, company.answers))
        return replace(identity, organisation=company.profile, role=company.role, assertion=assertion)

    def _code(self, back: SignOnReturn) -> str:
        """Return the code of an answer that belongs to this sign-on, as it came: it may hold `+`, `/` and `%`."""
        given, kept = fingerprint(back.query.get("state", "")), back.memory.get("state", "")
        if not hmac.compare_digest(given, kept):
            raise self._failed("the answer belongs to another sign-on", "state differs")
        code = back.query.get("code", "")
        if not _CODE.fullmatch(code):
            raise self._failed("iAM Smart sent no code back", quotable(back.query.get("error_code")))
        return code

    def _token(self, back: SignOnReturn, reply: Reply) -> _Token:
        """Check the token's answer. Raises SignOnFailed or RegionUncertain."""
        said = reply.content
        open_id, access, lasts = said.get("openID"), said.get("accessToken"), said.get("expiresIn", 1)
        readable = isinstance(open_id, str) and _OPEN_ID.fullmatch(open_id)
        if not readable or not isinstance(access, str) or not _TOKEN.fullmatch(access):
            raise self._client.wire.uncertain("sent an answer that cannot be read", "no openID or accessToken")
        granted = set(str(said.get("scope") or f"{AUTH} {PROFILES}").split())
        asked = set(back.memory.get("scope", "").split())
        proved_at = _time(said.get("authTime"))
        faults = {
            "another kind of token": str(said.get("tokenType") or "Bearer").lower() != "bearer",
            "a token that is over": not isinstance(lasts, int) or lasts <= 0,
            "a scope that was not asked for": not granted <= asked,
            "no scope for who it is": not {AUTH, PROFILES} <= granted,
            "a proof that lies ahead": proved_at is not None and proved_at > self._client.signer.clock() + SKEW,
        }
        if found := [name for name, wrong in faults.items() if wrong]:
            raise self._failed("iAM Smart's answer does not fit what was asked", "; ".join(found))
        return _Token(str(open_id), access, session_level(granted, said.get("version")), proved_at, reply)

    async def _profile(self, token: _Token) -> Reply:
        """Return the profile of the person whom the token was given for. Raises SignOnFailed or RegionError."""
        wanted = {"accessToken": token.access, "openID": token.open_id, "profileFields": list(self._asked.profile)}
        if self._asked.eme:
            wanted["eMEFields"] = list(self._asked.eme)
        reply = await self._ask("/api/v1/profiles", wanted)
        if reply.content.get("openID", token.open_id) != token.open_id:
            raise self._failed("the profile is not that of the person who signed on", "openID differs")
        return reply

    def _claims(self, profile: Mapping[str, Any], open_id: str) -> dict[str, Any]:
        """Take over what was asked for and nothing else; what people say of themselves stands apart, and marked."""
        checked = (*self._asked.profile, *(("chNameVerified",) if "chName" in self._asked.profile else ()))
        claims = {name: profile[name] for name in checked if name in profile}
        said = {name: profile[name] for name in self._asked.eme if name in profile}
        marked = {"eME": {"assurance": "self-declared", "fields": said}} if said else {}
        return {**claims, **marked, "openID": open_id}

    # --- companies

    async def _company(self, token: _Token, ticket: str) -> _Company:
        """Return the company that the person acts for. Raises SignOnFailed or RegionError."""
        if self._asked.corporate is None or not _CODE.fullmatch(ticket):
            raise self._failed("companies are not signed on here", "corpTicket")
        given = {"ticket": ticket, "accessToken": token.access, "openID": token.open_id}
        corp = await self._ask("/api/v1/corp/getToken", given, self._asked.corporate)
        corp_id, access = corp.content.get("corpID"), corp.content.get("corpAccessToken")
        if not isinstance(corp_id, str) or not corp_id or not isinstance(access, str) or not _TOKEN.fullmatch(access):
            raise self._client.wire.uncertain("sent an answer that cannot be read", "no corpID or corpAccessToken")
        wanted = {"accessToken": access, "openID": token.open_id, "corpID": corp_id}
        fields = {group: list(names) for group, names in CORP_FIELDS.items()}
        reply = await self._ask("/api/v1/corp/profiles", {**wanted, **fields}, self._asked.corporate)
        return self._acting(reply, corp, token.open_id, corp_id)

    def _acting(self, reply: Reply, corp: Reply, open_id: str, corp_id: str) -> _Company:
        """Person, company and role must belong together: each answer names the person and the company again.

        A role that nobody agreed on is no role: it might give somebody the say of a legal representative.
        """
        groups = {group: _only(reply.content.get(group), names) for group, names in CORP_FIELDS.items()}
        user, company = groups["corpUserProfileFields"], groups["corpProfileFields"]
        people = {corp.content.get("openID", open_id), user.get("openID")}
        role = self._asked.roles.get(str(user.get("corpRole")))
        if people != {open_id} or company.get("corpID") != corp_id or role is None:
            raise self._failed("person and company of the answer do not belong together", "openID, corpID or corpRole")
        profile = {group: given for group, given in groups.items() if given}
        return _Company(profile, role, b"\n".join((corp.plain, reply.plain)))

    async def _ask(self, path: str, document: dict[str, Any], client: IamSmartClient | None = None) -> Reply:
        reply = await (client or self._client).post(path, document, ("M00000", "D40004"))
        if reply.code == "D40004":
            raise self._failed("iAM Smart did not accept the code", reply.code)
        return reply

    def _failed(self, what: str, detail: str = "") -> SignOnFailed:
        text = f"{what[0].upper()}{what[1:]}; start the sign-on again."
        return SignOnFailed(text, detail=detail, region=self._client.wire.region)


def _grant(code: str) -> dict[str, Any]:
    return {"code": code, "grantType": "authorization_code"}


def fingerprint(text: str) -> str:
    """Return the hex SHA-256 of a text that nobody can guess."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def session_level(granted: set[str], version: object) -> str:
    """Return our word for this session's level: `auth` or `plus` by the app, `_face` behind it after a face check.

    What the session did counts (the scope that was granted, the app that was used), not what the account could do.
    """
    return ("plus" if version == PLUS else "auth") + ("_face" if FACE in granted else "")


def page_language(tag: str) -> str:
    """Return the page language nearest to a BCP 47 tag: `zh-HK` (traditional), `zh-CN` (simplified) or `en-US`."""
    parts = tag.lower().split("-")
    if parts[0] != "zh":
        return "en-US"
    return "zh-HK" if {"hant", "hk", "mo", "tw"} & set(parts[1:]) else "zh-CN"


def _time(given: object) -> datetime | None:
    """Read Unix time in milliseconds; None when it is no such number."""
    if not isinstance(given, int) or isinstance(given, bool) or not 0 < given < 10**14:
        return None
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=given)


def _only(group: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: group[name] for name in names if name in group} if isinstance(group, dict) else {}


# --- opening -----------------------------------------------------------------------------------------------------


def open_sign_on(kit: Kit, client: IamSmartClient, roles: Mapping[str, str]) -> IamSmartSignOn:
    """Compose the sign-on from settings `profile_fields`, `eme_fields` and `corp_base_url`. Raises StartRefused.

    CorpID has an address of its own, and the same client id, secret and keys. Without that address nobody signs on for
    a company.
    """
    profile = _names(kit, "profile_fields", PROFILE_FIELDS)
    if not {"enName", "chName"} & set(profile):
        raise refuse_start(kit, "settings.profile_fields", "must hold enName or chName: a person has a name")
    corp = kit.settings.get("corp_base_url", "")
    corporate = open_client(replace(kit, settings={**kit.settings, "base_url": corp})) if corp else None
    return IamSmartSignOn(client, Asked(profile, _names(kit, "eme_fields", EME_FIELDS), corporate, roles))


def _names(kit: Kit, setting: str, known: Sequence[str]) -> tuple[str, ...]:
    given = kit.settings.get(setting, [])
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given) or not set(given) <= set(known):
        raise refuse_start(kit, f"settings.{setting}", f"must be a list of {', '.join(known)}")
    return tuple(dict.fromkeys(given))
