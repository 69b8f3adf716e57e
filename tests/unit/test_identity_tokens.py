"""Access tokens: what passes, and that everything else is refused with a text that helps."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import OctKey

from gateway.crypto.signing import Es256Signer
from gateway.errors import NotAuthenticated
from gateway.identity.tokens import AccessTokens, SignOnContext

NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
ISSUER = "https://gateway.test"


def a_pem() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def signer() -> Es256Signer:
    return Es256Signer([a_pem()])


def tokens(signer: Es256Signer, *, issuer: str = ISSUER, now: datetime = NOW) -> AccessTokens:
    return AccessTokens(issuer, signer, lambda: now, timedelta(minutes=10))


def issue(by: AccessTokens, **changes: Any) -> str:
    values = {"client_id": "agency", "subject": "agency", "scopes": ["submissions"], "token_id": "t-1"}
    return by.issue(**{**values, **changes})


def claims(**changes: Any) -> dict[str, Any]:
    stamp = int(NOW.timestamp())
    base = {
        "iss": ISSUER, "sub": "agency", "aud": ISSUER + "/v1", "client_id": "agency", "iat": stamp, "exp": stamp + 60,
        "jti": "t-1", "scope": "submissions",
    }  # fmt: skip
    return {**base, **changes}


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()


def test_a_fresh_token_of_ours_passes(signer: Es256Signer) -> None:
    ours = tokens(signer)
    verified = ours.verify(issue(ours))
    assert (verified["client_id"], verified["scope"], verified["jti"]) == ("agency", "submissions", "t-1")


def test_a_token_passes_after_the_signing_key_was_rolled_over() -> None:
    """The old key stays published until the tokens under way have ended."""
    old, new = a_pem(), a_pem()
    token = issue(tokens(Es256Signer([old])))
    assert tokens(Es256Signer([new, old])).verify(token)["jti"] == "t-1"


def test_a_token_ends_with_the_session_if_that_is_sooner(signer: Es256Signer) -> None:
    person = SignOnContext("sid", "urn:pearl:assurance:A2", NOW, NOW + timedelta(seconds=90), "g-1")
    verified = tokens(signer).verify(issue(tokens(signer), person=person))
    assert verified["exp"] == int(NOW.timestamp()) + 90


def unsigned(_signer: Es256Signer) -> str:
    return f"{segment({'alg': 'none', 'typ': 'at+jwt'})}.{segment(claims())}."


def with_the_public_key_as_secret(signer: Es256Signer) -> str:
    """The classic confusion: an HMAC whose key is our public one (CVE-2015-9235)."""
    secret = OctKey.import_key(orjson.dumps(signer.public_jwks()))
    return jwt.encode({"alg": "HS256", "typ": "at+jwt"}, claims(), secret, algorithms=["HS256"])


def with_a_changed_claim(signer: Es256Signer) -> str:
    header, _, signature = issue(tokens(signer)).split(".")
    return f"{header}.{segment(claims(scope='everything'))}.{signature}"


REFUSED: Mapping[str, tuple[Callable[[Es256Signer], str], str]] = {
    "expired": (lambda s: issue(tokens(s, now=NOW - timedelta(minutes=11))), "has expired"),
    "of another issuer": (lambda s: s.sign(claims(iss="https://evil.test"), typ="at+jwt"), "issued by someone else"),
    "for another audience": (lambda s: s.sign(claims(aud="https://other.test/v1"), typ="at+jwt"), "another audience"),
    "for several audiences": (lambda s: s.sign(claims(aud=[ISSUER + "/v1", "x"]), typ="at+jwt"), "another audience"),
    "without a term": (lambda s: s.sign(claims(exp=None), typ="at+jwt"), "no term"),
    "signed with a foreign key": (lambda _s: issue(tokens(Es256Signer([a_pem()]))), "not issued by this gateway"),
    "an ID token": (lambda s: s.sign(claims(), typ="JWT"), "another kind of token"),
    "unsigned": (unsigned, "must be signed with ES256"),
    "confused": (with_the_public_key_as_secret, "must be signed with ES256"),
    "changed": (with_a_changed_claim, "not issued by this gateway"),
    "empty": (lambda _s: "", "not a compact JWT"),
    "words": (lambda _s: "a.b.c", "base64url of JSON"),
    "huge": (lambda _s: "A" * 100_000, "not a compact JWT"),
    "deep": (lambda _s: f"{base64.urlsafe_b64encode(b'[' * 4000).decode()}.e30.", "base64url of JSON"),
    "a list": (lambda _s: f"{segment([1])}.{segment([1])}.x", "JSON objects"),
    "not ASCII": (lambda _s: "é.é.é", "not a compact JWT"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_token_that_is_not_exactly_ours_is_refused_with_a_text_that_helps(signer: Es256Signer, kind: str) -> None:
    make, words = REFUSED[kind]
    token = make(signer)
    with pytest.raises(NotAuthenticated) as refused:
        tokens(signer).verify(token)
    assert words in refused.value.public
    assert not token or token not in refused.value.public
