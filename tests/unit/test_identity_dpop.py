"""DPoP proofs: what one proof must be, and that everything else is refused with the code that OAuth has for it.

The proofs are signed here with joserfc, or put together by hand where joserfc would refuse to make them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from gateway.crypto.at_rest import References
from gateway.crypto.public_keys import UnusableKey, read_public_jwk
from gateway.identity.dpop import (
    FUTURE,
    LONGEST_ID,
    NONCE_WINDOW,
    PAST,
    DpopNonceNeeded,
    DpopNonces,
    DpopRefused,
    Proof,
    check_proof,
)
from gateway.web.problems import status_of

NOW = datetime(2026, 5, 4, 9, 0, 1, tzinfo=UTC)
URL = "https://gateway.test/oauth2/token"
TOKEN = "an.access.token"
NONCES = DpopNonces(References(bytes(range(32))))
EC, OKP, RSA = ECKey.generate_key("P-256"), OKPKey.generate_key("Ed25519"), RSAKey.generate_key(2048)


def ath(token: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    """Return good claims with changes; None takes one out."""
    good = {
        "jti": str(uuid.uuid4()), "htm": "POST", "htu": URL, "iat": int(NOW.timestamp()),
        "nonce": NONCES.current(NOW), "ath": ath(TOKEN),
    }  # fmt: skip
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def signed(said: Mapping[str, Any] | None = None, key: Key = EC, algorithm: str = "ES256", **header: Any) -> str:
    """Return a proof; `header` changes its header, None takes a member out."""
    public = {"typ": "dpop+jwt", "alg": algorithm, "jwk": key.as_dict(private=False), **header}
    kept = {name: value for name, value in public.items() if value is not None}
    registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        return jws.serialize_compact(kept, json.dumps(said or claims()).encode(), key, registry=registry)


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def with_header(proof: str, **changes: Any) -> str:
    """Return the proof with another header under the old signature."""
    head, body, signature = proof.split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    return f"{segment({**header, **changes})}.{body}.{signature}"


def check(proof: str, **changes: Any) -> Proof:
    asked = {"method": "POST", "url": URL, "now": NOW, "nonces": NONCES, "access_token": TOKEN}
    return check_proof(proof, **{**asked, **changes})


# --- what passes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(EC, "ES256"), (RSA, "PS256"), (OKP, "EdDSA"), (OKP, "Ed25519")],
    ids=["ES256", "PS256", "EdDSA", "Ed25519"],
)
def test_a_proof_stands_for_the_key_that_made_it(key: Key, algorithm: str) -> None:
    accepted = check(signed(key=key, algorithm=algorithm))
    assert accepted.jkt == key.thumbprint()
    assert accepted.expires_at == NOW.replace(microsecond=0) + PAST


def test_the_name_of_a_key_is_the_one_of_the_standard() -> None:
    """The example of RFC 9449 §4.1 and §6.1: this key has this `jkt`."""
    jwk = {
        "kty": "EC", "crv": "P-256",
        "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    }  # fmt: skip
    assert read_public_jwk(jwk).thumbprint() == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def test_at_the_token_endpoint_no_hash_of_a_token_is_asked_for() -> None:
    assert check(signed(claims(ath=None)), access_token=None).jkt == EC.thumbprint()


def test_what_else_stands_in_the_header_and_the_key_changes_nothing() -> None:
    """Some clients send their whole registered key; the name of it is taken from the required members alone."""
    jwk = {**EC.as_dict(private=False), "kid": "mine", "use": "sig", "alg": "ES256"}
    assert check(signed(jwk=jwk, kid="mine", unheard="of")).jkt == EC.thumbprint()


@pytest.mark.parametrize(
    "htu",
    [
        URL,
        URL + "?a=b",
        URL + "#c",
        "HTTPS://GATEWAY.TEST/oauth2/token",
        "https://gateway.test:443/oauth2/token",
        "https://gateway.test/oauth2/%74oken",
        "https://gateway.test/oauth2/./x/../token",
    ],
)
def test_two_ways_to_write_one_address_are_equal(htu: str) -> None:
    """RFC 9449 §4.3: query and fragment do not count, and RFC 3986 §6.2.2 and §6.2.3 say what is the same."""
    assert check(signed(claims(htu=htu)))


@pytest.mark.parametrize("seconds", [-PAST.seconds, -1, 0, FUTURE.seconds])
def test_a_proof_may_be_a_minute_old_and_five_seconds_ahead(seconds: int) -> None:
    assert check(signed(claims(iat=int(NOW.timestamp()) + seconds)))


# --- what does not -------------------------------------------------------------------------------------------------


def private_jwk() -> str:
    return with_header(signed(), jwk=EC.as_dict(private=True))


def with_a_changed_claim() -> str:
    head, _, signature = signed().split(".")
    return f"{head}.{segment(claims(htm='POST', extra=1))}.{signature}"


def with_a_secret_key() -> str:
    """The public key's text as an HMAC secret (CVE-2015-9235)."""
    secret = OctKey.import_key(json.dumps(EC.as_dict(private=False)).encode())
    header = {"typ": "dpop+jwt", "alg": "HS256", "jwk": EC.as_dict(private=False)}
    return jwt.encode(header, claims(), secret, algorithms=["HS256"])


def jwk_of(key: Key, **changes: Any) -> dict[str, Any]:
    return {**key.as_dict(private=False), **changes}


def short_rsa() -> RSAKey:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        return RSAKey.generate_key(1024)


def huge_rsa() -> dict[str, Any]:
    """A modulus of 8192 bits: a stranger's way to make us calculate."""
    return {"kty": "RSA", "n": base64.urlsafe_b64encode(b"\xff" * 1024).rstrip(b"=").decode(), "e": "AQAB"}


REFUSED: Mapping[str, tuple[Callable[[], str], str]] = {
    "empty": (lambda: "", "compact JWT"),
    "two proofs": (lambda: f"{signed()},{signed()}", "one DPoP proof"),
    "two header lines joined": (lambda: f"{signed()}, {signed()}", "one DPoP proof"),
    "spaces around": (lambda: f" {signed()} ", "compact JWT"),
    "longer than 8 KiB": (lambda: signed(claims(more="x" * 9000)), "compact JWT"),
    "not JSON": (lambda: "YQ.YQ.YQ", "base64url of JSON"),
    "a list": (lambda: f"{segment([1])}.{segment([1])}.YQ", "JSON objects"),
    "deep": (lambda: f"{base64.urlsafe_b64encode(b'[' * 4002).decode()}.e30.YQ", "base64url of JSON"),
    "another kind of token": (lambda: signed(typ="JWT"), "another kind of token"),
    "without a kind": (lambda: signed(typ=None), "another kind of token"),
    "unsigned": (lambda: with_header(signed(), alg="none"), "must be signed with"),
    "an RSA signature of old": (lambda: signed(key=RSA, algorithm="RS256"), "must be signed with"),
    "a shared secret": (with_a_secret_key, "must be signed with"),
    "an algorithm that is no text": (lambda: with_header(signed(), alg=["ES256"]), "must be signed with"),
    "an extension demanded": (lambda: signed(crit=["kid"], kid="k"), "demands an extension"),
    "no key": (lambda: with_header(signed(), jwk=None), "not a JWK"),
    "a key that is a text": (lambda: with_header(signed(), jwk="k"), "not a JWK"),
    "a private key": (private_jwk, "holds a secret"),
    "a symmetric key": (lambda: with_header(signed(), jwk={"kty": "oct", "k": "YQ"}), "holds a secret"),
    "an unknown kind of key": (lambda: with_header(signed(), jwk={"kty": "AKP"}), "EC, OKP or RSA"),
    "a kind that is a list": (lambda: with_header(signed(), jwk={"kty": ["EC"]}), "EC, OKP or RSA"),
    "another curve": (lambda: signed(key=ECKey.generate_key("P-384"), algorithm="ES384"), "curve must be P-256"),
    "Ed448": (lambda: with_header(signed(), jwk=jwk_of(OKPKey.generate_key("Ed448"))), "curve must be Ed25519"),
    "X25519": (lambda: with_header(signed(), jwk=jwk_of(OKPKey.generate_key("X25519"))), "curve must be Ed25519"),
    "no point of the curve": (lambda: with_header(signed(), jwk=jwk_of(EC, x="A" * 43)), "cannot be read"),
    "a coordinate cut short": (lambda: with_header(signed(), jwk=jwk_of(EC, x="AAAA")), "cannot be read"),
    "a short RSA key": (lambda: signed(key=short_rsa(), algorithm="PS256"), "2048 to 4096 bits"),
    "a huge RSA key": (lambda: with_header(signed(), jwk=huge_rsa()), "2048 to 4096 bits"),
    "a small exponent": (lambda: with_header(signed(), jwk=jwk_of(RSA, e="Aw")), "65537 or more"),
    "a key of another kind than the algorithm's": (
        lambda: with_header(signed(), jwk=RSA.as_dict(private=False)), "does not verify",
    ),
    "a key that did not sign": (
        lambda: with_header(signed(), jwk=ECKey.generate_key("P-256").as_dict(private=False)), "does not verify",
    ),
    "changed after signing": (with_a_changed_claim, "does not verify"),
    "another method": (lambda: signed(claims(htm="GET")), "another method"),
    "the method in small letters": (lambda: signed(claims(htm="post")), "another method"),
    "no method": (lambda: signed(claims(htm=None)), "another method"),
    "another path": (lambda: signed(claims(htu="https://gateway.test/oauth2/tokens")), "another address"),
    "a deeper path": (lambda: signed(claims(htu=URL + "/")), "another address"),
    "another host": (lambda: signed(claims(htu="https://evil.test/oauth2/token")), "another address"),
    "another port": (lambda: signed(claims(htu="https://gateway.test:8443/oauth2/token")), "another address"),
    "in clear": (lambda: signed(claims(htu="http://gateway.test/oauth2/token")), "another address"),
    "a slash hidden in the path": (lambda: signed(claims(htu="https://gateway.test/oauth2%2Ftoken")), "another addr"),
    "somebody in the address": (lambda: signed(claims(htu="https://a@gateway.test/oauth2/token")), "another address"),
    "no address": (lambda: signed(claims(htu=None)), "another address"),
    "an address that is a list": (lambda: signed(claims(htu=[URL])), "another address"),
    "half an address": (lambda: signed(claims(htu="/oauth2/token")), "another address"),
    "a broken address": (lambda: signed(claims(htu="https://[::1/")), "another address"),
    "too old": (lambda: signed(claims(iat=NOW.timestamp() - PAST.seconds - 1)), "just now"),
    "of the future": (lambda: signed(claims(iat=NOW.timestamp() + FUTURE.seconds + 1)), "just now"),
    "without a time": (lambda: signed(claims(iat=None)), "needs iat"),
    "a time that is a text": (lambda: signed(claims(iat="now")), "needs iat"),
    "a time that is true": (lambda: signed(claims(iat=True)), "needs iat"),
    "a time beyond all time": (lambda: signed(claims(iat=10**30)), "needs iat"),
    "a time that is no number": (lambda: signed(claims(iat=float("nan"))), "base64url of JSON"),
    "no id": (lambda: signed(claims(jti=None)), "needs a jti"),
    "an id of half a character": (lambda: signed(claims(jti="\ud800")), "base64url of JSON"),
    "an empty id": (lambda: signed(claims(jti="")), "needs a jti"),
    "a number as id": (lambda: signed(claims(jti=7)), "needs a jti"),
    "an endless id": (lambda: signed(claims(jti="j" * (LONGEST_ID + 1))), "needs a jti"),
    "for another token": (lambda: signed(claims(ath=ath("another"))), "another access token"),
    "for no token": (lambda: signed(claims(ath=None)), "another access token"),
    "a hash that is no ASCII": (lambda: signed(claims(ath="é")), "another access token"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_proof_that_does_not_prove_is_refused_and_the_text_helps(kind: str) -> None:
    """Every line of `check_proof` that refuses stands behind some of these, and `read_public_jwk`'s lines too."""
    make, words = REFUSED[kind]
    with pytest.raises(DpopRefused, match=words) as refused:
        check(make())
    assert (refused.value.error, status_of(refused.value)) == ("invalid_dpop_proof", 401)


def test_a_proof_is_not_for_sale_to_another_token() -> None:
    """A stolen token with the thief's own proof, or a proof that was made for another token, is worth nothing."""
    with pytest.raises(DpopRefused, match="another access token"):
        check(signed(), access_token="another.access.token")


@pytest.mark.parametrize("member", ["x", "y"])
def test_a_key_has_one_name(member: str) -> None:
    """43 characters hold two bits more than 32 bytes: without `_octets` comparing, one key had four thumbprints."""
    jwk = EC.as_dict(private=False)
    text = str(jwk[member])
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    loose = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
    with pytest.raises(UnusableKey, match="canonical"):
        read_public_jwk({**jwk, member: loose})


@given(
    st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg"]), st.text() | st.none() | st.integers())
)
def test_whatever_a_stranger_calls_a_key_is_read_or_refused(jwk: dict[str, Any]) -> None:
    with pytest.raises(UnusableKey):
        read_public_jwk(jwk)


@given(
    st.sampled_from(["jti", "htm", "htu", "iat", "nonce", "ath"]),
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)),
)
def test_whatever_a_claim_holds_the_answer_is_yes_or_no(name: str, value: Any) -> None:
    with suppress(DpopRefused):
        check(signed({**claims(), name: value}))


# --- ids -----------------------------------------------------------------------------------------------------------


def test_the_same_proof_is_remembered_under_the_same_key_and_no_other_is() -> None:
    other = ECKey.generate_key("P-256")
    one, again = check(signed(claims(jti="j"))), check(signed(claims(jti="j")))
    strangers = check(signed(claims(jti="j"), key=other))
    assert one.jti_key == again.jti_key
    assert len({one.jti_key, strangers.jti_key, check(signed(claims(jti="k"))).jti_key}) == 3


def test_a_proof_says_until_when_it_could_be_accepted() -> None:
    """What remembers it adds how far clocks differ (`nonces.spend`); beyond that moment it is refused here."""
    accepted = check(signed())
    late = NOW + PAST + timedelta(seconds=1)
    assert accepted.expires_at >= late.replace(microsecond=0) - timedelta(seconds=1)
    with pytest.raises(DpopRefused, match="just now"):
        check(signed(), now=late)


# --- nonces --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonce", [None, "", "guessed", 7, "é", ["x"]])
def test_a_proof_without_our_nonce_is_told_to_take_one(nonce: object) -> None:
    with pytest.raises(DpopNonceNeeded) as needed:
        check(signed(claims(nonce=nonce)))
    assert needed.value.error == "use_dpop_nonce"


def test_a_bad_proof_is_not_told_that_a_nonce_would_help() -> None:
    with pytest.raises(DpopRefused) as refused:
        check(signed(claims(nonce=None, htm="GET")))
    assert refused.value.error == "invalid_dpop_proof"


def test_a_nonce_lives_for_one_to_two_windows() -> None:
    begin = datetime.fromtimestamp(0, UTC) + NONCE_WINDOW * 1000
    nonce = NONCES.current(begin)
    last = begin + 2 * NONCE_WINDOW - timedelta(seconds=1)
    assert [NONCES.accepts(nonce, at) for at in (begin, last)] == [True, True]
    assert not NONCES.accepts(nonce, begin + 2 * NONCE_WINDOW)
    assert not NONCES.accepts(nonce, begin - NONCE_WINDOW - timedelta(seconds=1))


def test_replicas_agree_on_nonces_and_strangers_do_not() -> None:
    assert DpopNonces(References(bytes(range(32)))).accepts(NONCES.current(NOW), NOW)
    assert not DpopNonces(References(bytes(32))).accepts(NONCES.current(NOW), NOW)


def test_a_nonce_is_no_reference_to_anybody() -> None:
    """The key is derived, so that what is handed to strangers is no oracle for references to people."""
    references = References(bytes(range(32)))
    assert references.derived_key("dpop nonce") != references.derived_key("another purpose")
    assert references.of("dpop nonce") not in references.derived_key("dpop nonce").hex()
