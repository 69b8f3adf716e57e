"""clients.toml: what is read, and that every mistake is named in one go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from gateway.config import Config
from gateway.errors import StartRefused
from gateway.identity.clients import Client, load_clients, redirect_uri_problem

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


def load(folder: Path, text: str, *, environment: str = "production") -> dict[str, Client]:
    (folder / "clients.toml").write_text(text, encoding="utf-8")
    keys = {"signing": ["env:X"], "at_rest": ["env:X"], "references": "env:X"}
    store = {"url": "sqlite:///x", "blobs": "x"}
    base = {"public_url": "https://gateway.test", "store": store, "keys": keys, "regions": {"guangdong": {}}}
    return load_clients(Config.model_validate({**base, "environment": environment, "folder": folder}))


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
