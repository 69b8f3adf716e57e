"""Reading a compact JWT that someone else may have made.

Owns: the checks that come before any key is touched: size, shape, header, algorithm, type; and reading a claim's time.
Leaves to joserfc the signature, and to the callers what the claims must say.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import Key, KeySet
from joserfc.jws import JWSRegistry

LONGEST = 8 * 1024
"""Bytes of a token that we still look at. Ours are under 1 KiB."""


class _Registry(JWSRegistry):
    """joserfc's rules with room for a header that carries its own RSA key or certificate; the default is 512 bytes.

    Members of the header that nobody here knows are ignored, as RFC 7515 §4 demands, unless `crit` names them.
    """

    max_header_length = LONGEST


@cache
def _registry(algorithms: tuple[str, ...]) -> _Registry:
    """Return the rules for these algorithms. Nobody changes them, and there are a handful of combinations."""
    return _Registry(algorithms=list(algorithms), strict_check_header=False)


class UnreadableToken(Exception):
    """The token is malformed, or says of itself that it is not what is wanted. The text never repeats it."""


class UnverifiedToken(Exception):
    """The token is well formed, but its signature does not verify with the keys at hand."""


def read_header(token: str) -> dict[str, Any]:
    """Return the unverified header. Raises UnreadableToken.

    joserfc trusts the header to be an object and the JSON to be shallow; a stranger's token is neither for sure.
    """
    return unverified(token)[0]


def unverified_claims(token: str) -> dict[str, Any]:
    """Return the claims as somebody wrote them: good for looking something up, and for nothing else.

    Raises UnreadableToken.
    """
    return unverified(token)[1]


def unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims as somebody wrote them. Raises UnreadableToken."""
    parts = token.split(".")
    if len(token) > LONGEST or len(parts) != 3 or not token.isascii():
        raise UnreadableToken("it is not a compact JWT")
    return _object(parts[0]), _object(parts[1])


def _object(part: str) -> dict[str, Any]:
    decoded = _decoded(part)
    if not isinstance(decoded, dict):
        raise UnreadableToken("its header and its claims must be JSON objects")
    return decoded


def _decoded(part: str) -> object:
    """Return what a part holds. orjson refuses half characters (lone surrogates), which no store can keep, and NaN."""
    try:
        decoded: object = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError as error:
        raise UnreadableToken("it is not base64url of JSON") from error
    return decoded


def verified_claims(
    token: str, keys: KeySet | Key, *, algorithms: Collection[str], types: Collection[str]
) -> dict[str, Any]:
    """Return the claims once algorithm and type are allowed and the signature verifies.

    `types` holds the allowed values of the header `typ` in lower case, without `application/`; "" allows none at all
    (RFC 8725 §3.11). Raises UnreadableToken or UnverifiedToken.
    """
    header = read_header(token)
    if header.get("alg") not in algorithms:
        raise UnreadableToken(f"it must be signed with {' or '.join(sorted(algorithms))}")
    if str(header.get("typ", "")).lower().removeprefix("application/") not in types:
        raise UnreadableToken("its header says that it is another kind of token")
    registry = _registry(tuple(algorithms))
    with _unwarned() if header["alg"] == "EdDSA" else nullcontext():
        try:
            return jwt.decode(token, keys, registry=registry).claims
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise UnverifiedToken("its signature does not verify") from error


@contextmanager
def _unwarned() -> Iterator[None]:
    """Keep joserfc quiet: it warns of "EdDSA" because the name leaves the curve open; our registered keys do not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        yield


def instant(claims: Mapping[str, Any], name: str) -> datetime | None:
    """Return a NumericDate (RFC 7519 §2) as a time; None when it is missing, no number or beyond all calendars."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
