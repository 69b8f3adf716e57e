"""clients.toml: what is read, and that every mistake is named in one go."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from gateway.config import Config
from gateway.errors import StartRefused
from gateway.identity.clients import (
    TOKEN_EXCHANGE,
    Client,
    ClientEntry,
    Surroundings,
    client_of,
    load_clients,
    redirect_uri_problem,
)

BOTH_BINDINGS = "dpop_bound_access_tokens = true\ntls_client_certificate_bound_access_tokens = true"
SUBJECT = 'tls_client_auth_subject_dn = "CN=agency.test,O=Agency,C=CN"'
SAN = 'tls_client_auth_san_dns = "agency.test"'
NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
GOOD = """
[[client]]
id = "portal"
name = "Portal"
organisation = "广州市政务服务数据管理局"
organisation_code = "11440100696927671X"
origin_code = "440100"
redirect_uris = ["https://service.test/back"]
grant_types = ["authorization_code"]
scopes = ["openid", "profile"]
authentication = "none"

[[client]]
id = "agency"
name = "Agency"
organisation = "广州市政务服务数据管理局"
organisation_code = "11440100696927671X"
origin_code = "440100"
grant_types = ["client_credentials"]
scopes = ["submissions"]
authentication = "private_key_jwt"
jwks_file = "agency.json"
"""


def a_config(folder: Path, environment: str = "production") -> Config:
    keys = {"signing": ["env:X"], "at_rest": ["env:X"], "references": "env:X"}
    store = {"url": "sqlite:///x", "blobs": "x"}
    base = {"public_url": "https://gateway.test", "store": store, "keys": keys, "regions": {"guangdong": {}}}
    return Config.model_validate({**base, "environment": environment, "folder": folder})


def load(folder: Path, text: str, *, environment: str = "production") -> dict[str, Client]:
    (folder / "clients.toml").write_text(text, encoding="utf-8")
    config = a_config(folder, environment)
    around = Surroundings.of(config)
    return {client_id: client_of(entry, around, NOW) for client_id, entry in load_clients(config).items()}


def problems(folder: Path, text: str) -> list[tuple[str, str]]:
    with pytest.raises(StartRefused) as refused:
        load(folder, text)
    return [(problem.field, problem.reason) for problem in refused.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    key = ECKey.generate_key("P-256").as_dict(private=False)
    (tmp_path / "agency.json").write_text(json.dumps({"keys": [key]}))
    return tmp_path


def test_clients_are_found_by_id_with_their_keys(folder: Path) -> None:
    clients = load(folder, GOOD)
    assert list(clients) == ["portal", "agency"]
    assert clients["portal"].keys is None
    assert clients["agency"].keys is not None
    assert clients["portal"].redirect_uris == ("https://service.test/back",)


def test_keys_may_stand_in_the_file_itself(folder: Path) -> None:
    key = ECKey.generate_key("P-256").as_dict(private=False)
    inline = ", ".join(f'{name} = "{value}"' for name, value in key.items())
    for form in (f"jwks = [{{{inline}}}]", f"jwks = {{keys = [{{{inline}}}]}}"):
        assert load(folder, GOOD.replace('jwks_file = "agency.json"', form))["agency"].keys is not None


def test_every_mistake_of_every_client_is_named_in_one_go(folder: Path) -> None:
    """The operator mends the file once, not once per mistake."""
    text = (
        GOOD.replace('"11440100696927671X"', '"114401006969276710"', 1)
        .replace('"440100"', '"44"', 1)
        .replace("https://service.test/back", "http://service.test/back#x")
        .replace('jwks_file = "agency.json"', 'jwks_fill = "agency.json"')
    )
    found = problems(folder, text)
    assert len(found) == 4
    assert ["(portal)" in field for field, _ in found] == [True, True, True, False]
    assert "spelling" in found[3][1]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('id = "agency"', 'id = "portal"', "earlier client"),
        ('id = "agency"', 'id = "a b"', "pattern"),
        ('redirect_uris = ["https://service.test/back"]', "", "is required for the grant type"),
        ('grant_types = ["authorization_code"]', 'grant_types = ["client_credentials"]', "needs a client that"),
        ('grant_types = ["authorization_code"]', 'grant_types = ["password"]', "authorization_code"),
        ('jwks_file = "agency.json"', "", "needs public keys"),
        ('jwks_file = "agency.json"', 'jwks_file = "missing.json"', "cannot be read"),
        ('jwks_file = "agency.json"', 'jwks_file = "clients.toml"', "is not JSON"),
        ('jwks_file = "agency.json"', "jwks = {keys = []}", "must be a JWK set"),
        ('authentication = "none"', 'authentication = "none"\njwks_file = "agency.json"', "public client"),
        ('scopes = ["openid", "profile"]', 'scopes = ["open id"]', "pattern"),
        ('id = "agency"', 'id = "agency"\ntls_client_auth_san_dns = "a.test"', "means nothing for private_key_jwt"),
        ('id = "agency"', 'id = "agency"\nprofile = "fapi2"', "sender-constrained"),
        ('id = "portal"', 'id = "portal"\nprofile = "fapi2"', "no public client"),
        ('id = "portal"', 'id = "portal"\nprofile = "fapi2"\nrequire_pushed_requests = false', "cannot be false"),
        ('id = "agency"', 'id = "agency"\nrequire_pushed_requests = true', "means nothing without the grant type"),
        ('id = "agency"', f'id = "agency"\n{BOTH_BINDINGS}', "one binding"),
        ('grant_types = ["client_credentials"]', 'grant_types = ["refresh_token"]', "goes with authorization_code"),
        ('grant_types = ["client_credentials"]', f'grant_types = ["{TOKEN_EXCHANGE}"]', "required for token exchange"),
        ('grant_types = ["authorization_code"]', f'grant_types = ["{TOKEN_EXCHANGE}"]', "client that authenticates"),
        ('id = "agency"', 'id = "agency"\nexchanges_from = ["portal"]', "without the grant type"),
        ('id = "portal"', 'id = "portal"\nconsent = "trusted"', "of the gateway's own"),
        ('id = "agency"', 'id = "agency"\nconsent = "trusted"', "of the gateway's own"),
        ('id = "portal"', 'id = "portal"\nbackchannel_logout_uri = "http://service.test/out"', "must be https"),
        ('id = "portal"', 'id = "portal"\npost_logout_redirect_uris = ["https://service.test/#x"]', "a fragment"),
        ('id = "portal"', 'id = "portal"\nprivacy_url = "service.test"', "not an absolute address"),
        ('id = "portal"', 'id = "portal"\npurpose = {fr = "Service"}', "zh-CN"),
        ('id = "portal"', 'id = "portal"\nid_token_signed_response_alg = "RS256"', "ES256"),
        ('authentication = "private_key_jwt"', 'authentication = "tls_client_auth"', "exactly one of"),
        (
            'authentication = "private_key_jwt"',
            f'authentication = "tls_client_auth"\n{SUBJECT}\n{SAN}',
            "exactly one of",
        ),
        ('authentication = "private_key_jwt"', f'authentication = "tls_client_auth"\n{SAN}', "name is what proves"),
        ('authentication = "private_key_jwt"', 'authentication = "self_signed_tls_client_auth"', "needs x5c"),
    ],
)
def test_an_entry_that_does_not_hold_together_refuses_the_start(folder: Path, old: str, new: str, words: str) -> None:
    found = problems(folder, GOOD.replace(old, new))
    assert any(words in reason for _, reason in found), found


def test_keys_that_are_secret_weak_or_of_another_kind_are_refused(folder: Path) -> None:
    keys: list[Any] = [
        ECKey.generate_key("P-256").as_dict(private=True),
        OctKey.generate_key(256).as_dict(private=True),
        ECKey.generate_key("P-384").as_dict(private=False),
        OKPKey.generate_key("X25519").as_dict(private=False),
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "?"},
    ]
    (folder / "agency.json").write_text(json.dumps({"keys": keys}))
    found = problems(folder, GOOD)
    assert [field.rsplit(".", 1)[1] for field, _ in found] == ["1", "2", "3", "4", "5", "6"]
    secret = keys[0]["d"]
    assert all(str(secret) not in reason for _, reason in found)


def test_strong_keys_of_all_three_kinds_are_taken(folder: Path) -> None:
    made: list[Key] = [ECKey.generate_key("P-256"), OKPKey.generate_key("Ed25519"), RSAKey.generate_key(2048)]
    (folder / "agency.json").write_text(json.dumps([key.as_dict(private=False) for key in made]))
    keys = load(folder, GOOD)["agency"].keys
    assert keys is not None
    assert len(keys.keys) == 3


@pytest.mark.parametrize(
    "uri",
    ["/back", "https://", "https:///x", "javascript:alert(1)", "https://a@b.test/", "http://service.test/", "app://x/y",
     "https://service.test/#", "https://service.test/ x", "https://[", "https://bücher.test/"],
)  # fmt: skip
def test_an_address_that_is_not_safe_to_return_to_is_refused(uri: str) -> None:
    assert redirect_uri_problem(uri, plain_http=False)


@pytest.mark.parametrize("uri", ["https://service.test/back?x=1", "http://127.0.0.1:9/b", "http://localhost/b"])
def test_https_and_loopback_are_safe_to_return_to(uri: str) -> None:
    assert redirect_uri_problem(uri, plain_http=False) is None


def test_plain_http_elsewhere_is_for_the_sandbox_only(folder: Path) -> None:
    text = GOOD.replace("https://service.test", "http://service.test")
    assert load(folder, text, environment="sandbox")
    assert problems(folder, text)[0][1].endswith("must be https")


# --- what a registration may say besides -------------------------------------------------------------------------


def by_certificate(kind: str) -> str:
    return GOOD.replace('jwks_file = "agency.json"', "").replace('"private_key_jwt"', f'"tls_client_auth"\n{kind}')


@pytest.mark.parametrize("kind", [SUBJECT, SAN])
def test_a_client_may_prove_itself_by_the_name_in_its_certificate(folder: Path, kind: str) -> None:
    agency = load(folder, by_certificate(kind))["agency"]
    named = (agency.tls_client_auth_subject_dn, agency.tls_client_auth_san_dns)
    assert named in {("CN=agency.test,O=Agency,C=CN", None), (None, "agency.test")}
    assert agency.keys is None


def test_a_subject_may_be_written_in_the_words_of_authorities(folder: Path) -> None:
    """What registers a name and what compares it read it alike (`read_subject`)."""
    subject = "serialNumber=11440100696927671X,cn=agency"
    loaded = load(folder, by_certificate(f'tls_client_auth_subject_dn = "{subject}"'))["agency"]
    assert loaded.tls_client_auth_subject_dn == subject


@pytest.mark.parametrize("kind", ['tls_client_auth_subject_dn = "agency"', 'tls_client_auth_san_dns = "a test"'])
def test_a_name_that_no_certificate_can_hold_is_refused(folder: Path, kind: str) -> None:
    assert problems(folder, by_certificate(kind))


def certified(key: ec.EllipticCurvePrivateKey, holder: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """Return the public JWK of `key` with a self-signed certificate of `holder`."""
    name = x509.Name.from_rfc4514_string("CN=agency")
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(holder.public_key())
    dated = builder.serial_number(7).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=9))
    der = dated.sign(holder, hashes.SHA256()).public_bytes(Encoding.DER)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {**ECKey.import_key(public).as_dict(private=False), "x5c": [base64.b64encode(der).decode()]}


def test_a_self_signed_certificate_stands_beside_the_key_that_it_holds(folder: Path) -> None:
    """A certificate of another key would let its owner in under this name. Guarded by `held != key.as_der`."""
    one, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    text = GOOD.replace("private_key_jwt", "self_signed_tls_client_auth")
    (folder / "agency.json").write_text(json.dumps({"keys": [certified(one, one)]}))
    keys = load(folder, text)["agency"].keys
    assert keys is not None
    assert keys.keys[0].as_dict(private=False)["x5c"]
    (folder / "agency.json").write_text(json.dumps({"keys": [certified(one, other)]}))
    assert "not the key of the certificate" in problems(folder, text)[0][1]


def test_fapi_2_is_one_switch_that_brings_pushed_requests(folder: Path) -> None:
    """FAPI 2.0 Security Profile §5.3: what can be implied is implied, what must be chosen is asked for."""
    strict = 'id = "agency"\nprofile = "fapi2"\ndpop_bound_access_tokens = true'
    agency = load(folder, GOOD.replace('id = "agency"', strict))["agency"]
    assert (agency.profile, agency.require_pushed_requests, agency.sender_constrained) == ("fapi2", True, True)


def test_fapi_2_wants_https_even_in_the_sandbox(folder: Path) -> None:
    uris = 'redirect_uris = ["http://service.test/back", "http://127.0.0.1/back"]\ngrant_types = ["authorization_code"]'
    text = GOOD.replace('id = "agency"', 'id = "agency"\nprofile = "fapi2"\ndpop_bound_access_tokens = true')
    text = text.replace('grant_types = ["client_credentials"]', uris)
    (folder / "clients.toml").write_text(text, encoding="utf-8")
    with pytest.raises(StartRefused) as refused:
        load(folder, text, environment="sandbox")
    assert [problem.reason for problem in refused.value.problems] == ["http://service.test/back must be https"]


def test_an_address_of_the_gateways_own_follows_it(folder: Path) -> None:
    text = GOOD.replace("https://service.test/back", "{public_url}/window/callback")
    portal = load(folder, text.replace('id = "portal"', 'id = "portal"\nconsent = "trusted"'))["portal"]
    assert portal.redirect_uris == ("https://gateway.test/window/callback",)
    assert portal.consent == "trusted"


@pytest.mark.parametrize("uri", ["https://gateway.test.evil.test/x", "https://gateway.test@evil.test/x"])
def test_an_address_that_only_begins_like_ours_is_not_trusted(folder: Path, uri: str) -> None:
    text = GOOD.replace("https://service.test/back", uri).replace('id = "portal"', 'id = "portal"\nconsent = "trusted"')
    assert any("of the gateway's own" in reason for _, reason in problems(folder, text))


def test_a_key_for_another_algorithm_or_with_a_strange_end_is_refused(folder: Path) -> None:
    good = ECKey.generate_key("P-256").as_dict(private=False)
    keys = [{**good, "alg": "ES384"}, {**good, "exp": "tomorrow"}, {**good, "exp": True}, {**good, "exp": 10**15}]
    (folder / "agency.json").write_text(json.dumps({"keys": keys}))
    assert len(problems(folder, GOOD)) == 4


def test_what_is_kept_of_a_registration_is_read_back_the_same(folder: Path) -> None:
    """The database holds what differs from the defaults; nothing may get lost on the way."""
    (folder / "clients.toml").write_text(GOOD, encoding="utf-8")
    load(folder, GOOD)
    config = a_config(folder)
    for entry in load_clients(config).values():
        again = ClientEntry.model_validate(json.loads(json.dumps(entry.registration())))
        assert client_of(again, Surroundings.of(config), NOW) == client_of(entry, Surroundings.of(config), NOW)


def test_what_the_sandbox_allowed_counts_no_more_in_production(folder: Path) -> None:
    """The database outlives the setting; plain http that was registered once must not carry codes later."""
    text = GOOD.replace("https://service.test", "http://service.test")
    (folder / "clients.toml").write_text(text, encoding="utf-8")
    entry = load_clients(a_config(folder, "sandbox"))["portal"]
    assert client_of(entry, Surroundings.of(a_config(folder, "sandbox")), NOW).redirect_uris
    assert client_of(entry, Surroundings.of(a_config(folder)), NOW).redirect_uris == ()


def test_a_client_is_trusted_only_as_long_as_it_lies_under_our_address(folder: Path) -> None:
    """The gateway moved; whoever has its old address now must not get claims unasked."""
    text = GOOD.replace("https://service.test/back", "https://gateway.test/own")
    text = text.replace('id = "portal"', 'id = "portal"\nconsent = "trusted"')
    (folder / "clients.toml").write_text(text, encoding="utf-8")
    entry = load_clients(a_config(folder))["portal"]
    assert client_of(entry, Surroundings("https://gateway.test", plain_http=False), NOW).consent == "trusted"
    assert client_of(entry, Surroundings("https://new.test", plain_http=False), NOW).consent == "ask"
