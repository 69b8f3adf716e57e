"""What a signed token of an OpenID Provider must say before anything in it is believed.

Owns: the verification of ID tokens (OpenID Connect Core 1.0 §3.1.3.7) and of logout tokens (OpenID Connect Back-Channel
Logout 1.0 §2.6). Leaves to `crypto.jose` size, shape, algorithm, type and signature, to Authlib the claims that every
relying party checks, to `oidc_trust` which keys there are, and to the core that an id serves once.

Authlib leaves open what stands here beside it: an `at_hash` that is no text, a subject that is no id, how old a token
may be, when the person proved it, and the level that was asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet

from gateway.crypto.jose import UnreadableToken, UnverifiedToken, instant, read_header, verified_claims
from gateway.errors import ForgedCallback, ReplayedCallback, SignOnFailed
from gateway.ports import OnceOnly, SignOutNotice
from gateway.protocols.oidc_trust import Trust, keys_for

SKEW = timedelta(seconds=30)
"""How far the provider's clock may be from ours."""

OLDEST = timedelta(minutes=10)
"""How long ago a token may have been issued: it comes in answer to what has just been asked."""

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"

_LONGEST_ID = 255
"""Characters of a subject (OpenID Connect Core 1.0 §2) and of other ids that we keep."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the ID token that answers one request must say. `began` is when the person was sent there."""

    nonce: str
    access_token: str
    levels: Collection[str]
    fresh: bool
    began: datetime


class RefusedToken(Exception):
    """A token that is not accepted. The text names the rule and never repeats the token."""


class ExpiredToken(RefusedToken):
    """A token whose time is over or has not come."""


# --- signatures --------------------------------------------------------------------------------------------------


async def verified(trust: Trust, token: str, types: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a token that the provider signed. Raises RefusedToken or RegionUnreachable.

    An unknown key id is looked up at the provider again; a key that it no longer lists is not believed after that.
    """
    header = _header(token)
    algorithm = header.get("alg")
    if algorithm not in trust.pins.algorithms:
        raise RefusedToken("alg is not one that was agreed")
    keys = keys_for(await trust.keys.current(), algorithm, header.get("kid"))
    if not keys:
        keys = keys_for(await trust.keys.again(), algorithm, header.get("kid"))
    return header, _claims(token, keys, trust.pins.algorithms, types)


def _header(token: str) -> dict[str, Any]:
    try:
        return read_header(token)
    except UnreadableToken as wrong:
        raise RefusedToken(str(wrong)) from None


def _claims(token: str, keys: Collection[Key], algorithms: Collection[str], types: Collection[str]) -> dict[str, Any]:
    reason = "no key of the provider fits"
    for key in keys:
        try:
            return verified_claims(token, KeySet([key]), algorithms=algorithms, types=types)
        except (UnreadableToken, UnverifiedToken) as wrong:
            reason = str(wrong)
    raise RefusedToken(reason)


# --- ID tokens ---------------------------------------------------------------------------------------------------


async def read_id_token(trust: Trust, token: str, expected: Expected, now: datetime) -> dict[str, Any]:
    """Return the claims of an ID token that answers our request. Raises SignOnFailed or RegionUnreachable."""
    try:
        header, claims = await verified(trust, token, ("", "jwt"))
        _check_by_authlib(trust, header, claims, expected, now)
        _check_age(claims, now)
        _check_subject(claims)
        _check_proof(claims, expected, now)
    except RefusedToken as refusal:
        text = "the identity provider's assertion was not accepted; start the sign-on again"
        raise SignOnFailed(text, detail=f"ID token: {refusal}") from None
    return claims


def _check_by_authlib(
    trust: Trust, header: Mapping[str, Any], claims: dict[str, Any], expected: Expected, now: datetime
) -> None:
    """Check iss, sub, aud, exp, iat, nbf, nonce, azp, amr and at_hash by the library.

    An audience that names others beside us is taken only from a token that was made for us (azp).
    """
    if not isinstance(claims.get("at_hash", "-"), str) or claims.get("at_hash") == "":
        raise RefusedToken("at_hash is no text")
    pins = trust.pins
    options = {"iss": {"essential": True, "value": pins.issuer}, "aud": {"essential": True, "value": pins.client_id}}
    asked = {"nonce": expected.nonce, "client_id": pins.client_id, "access_token": expected.access_token}
    token = CodeIDToken(claims, dict(header), options=options, params=asked)
    try:
        token.validate(now=int(now.timestamp()), leeway=int(SKEW.total_seconds()))
    except (JoseError, ValueError, TypeError) as wrong:
        raise RefusedToken(f"{type(wrong).__name__} {getattr(wrong, 'description', '')}".strip()) from None


def _check_age(claims: Mapping[str, Any], now: datetime) -> None:
    """Refuse what was issued long ago, however long it says that it is good (§3.1.3.7 rule 10)."""
    issued = instant(claims, "iat")
    if issued is None or not now - OLDEST - SKEW <= issued <= now + SKEW:
        raise ExpiredToken("iat is too long ago, or lies in the future")


def _check_subject(claims: Mapping[str, Any]) -> None:
    if not is_id(claims.get("sub")):
        raise RefusedToken("sub is no id")


def _check_proof(claims: Mapping[str, Any], expected: Expected, now: datetime) -> None:
    """Check when and how the person proved it: `auth_time` if it was to be now, `acr` if levels were asked for."""
    proved = instant(claims, "auth_time")
    if "auth_time" in claims and (proved is None or proved > now + SKEW):
        raise RefusedToken("auth_time lies in the future, or is no time")
    if expected.fresh and (proved is None or proved < expected.began - SKEW):
        raise RefusedToken("auth_time is before the request, though a new proof was asked for")
    if not isinstance(claims.get("acr", ""), str):
        raise RefusedToken("acr is no text")
    if expected.levels and claims.get("acr") not in expected.levels:
        raise RefusedToken("acr is not one of the levels that were asked for")


# --- logout tokens -----------------------------------------------------------------------------------------------


async def read_logout_token(trust: Trust, token: str, now: datetime) -> SignOutNotice:
    """Return what a logout token says has ended. Raises ForgedCallback, ReplayedCallback or RegionUnreachable."""
    try:
        _, claims = await verified(trust, token, ("logout+jwt",))
        _check_logout(trust, claims, now)
    except ExpiredToken as refusal:
        raise ReplayedCallback("the logout token is out of its time", detail=str(refusal)) from None
    except RefusedToken as refusal:
        raise ForgedCallback("the logout token does not verify", detail=str(refusal)) from None
    return SignOutNotice(claims.get("sid", ""), claims.get("sub", ""), once_only("logout", token, claims))


def _check_logout(trust: Trust, claims: Mapping[str, Any], now: datetime) -> None:
    """Check the claims (§2.6); that there is no nonce keeps an ID token from being taken for a logout token."""
    events = claims.get("events")
    rules = {
        "iss is another": claims.get("iss") == trust.pins.issuer,
        "aud is not us alone": claims.get("aud") in (trust.pins.client_id, [trust.pins.client_id]),
        "jti is missing": is_id(claims.get("jti")),
        "events does not name a logout": isinstance(events, dict) and isinstance(events.get(LOGOUT_EVENT), dict),
        "nonce is there": "nonce" not in claims,
        "sub and sid are both missing": "sub" in claims or "sid" in claims,
        "sub is no id": is_id(claims.get("sub", "-")),
        "sid is no id": is_id(claims.get("sid", "-")),
    }
    for broken, kept in rules.items():
        if not kept:
            raise RefusedToken(broken)
    _check_age(claims, now)
    ends = instant(claims, "exp")
    if ends is None or ends <= now - SKEW:
        raise ExpiredToken("exp has passed or is missing")


# --- claims ------------------------------------------------------------------------------------------------------


def once_only(kind: str, token: str, claims: Mapping[str, Any]) -> OnceOnly:
    """Return the id under which a verified token may be accepted once, of fixed size whatever the provider's is.

    It need not be remembered for longer than the token's age is accepted.
    """
    name = str(claims.get("jti") or token.rpartition(".")[0])  # a signature can often be written in two ways
    digest = hashlib.sha256(f"{kind}\x1f{claims['iss']}\x1f{name}".encode()).hexdigest()
    issued = instant(claims, "iat")
    if issued is None:
        raise AssertionError("a verified token says when it was issued")
    return OnceOnly(digest, issued + OLDEST + 2 * SKEW)


def is_id(value: object) -> bool:
    """Say whether something is a text that can serve as an id."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_ID and value.isprintable()
