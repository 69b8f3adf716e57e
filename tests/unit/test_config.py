"""What a configuration may not say, and that every refusal names the place and repeats no secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, load_config, parse, read_secret
from gateway.errors import StartRefused

PASSWORD = "hunter2"
UPLOAD = 16 * 1024**3

Write = Callable[[str], Path]

TEXT = """
public_url = "https://gateway.example"
keys = {{ signing = ["file:signing.pem"], at_rest = ["file:at-rest.key"], references = "env:PEARL_TEST_REF" }}
regions.foshan.secrets.token = "file:token"
store = {{ url = "sqlite:///pearl.db", blobs = "blobs", password = "{password}" }}
"""


def settings(**tables: Any) -> dict[str, Any]:
    """Return a configuration that is right; `tables` replace its tables."""
    right: dict[str, Any] = {
        "public_url": "https://gateway.example",
        "store": {"url": "sqlite:///pearl.db", "blobs": "blobs"},
        "keys": {"signing": ["file:signing.pem"], "at_rest": ["file:at-rest.key"], "references": "env:REFERENCES"},
        "regions": {"foshan": {"secrets": {"token": "file:token"}}},
    }
    return {**right, **tables}


def config(**tables: Any) -> Config:
    return parse(Config, settings(**tables), "pearl.toml")


def refused(**tables: Any) -> dict[str, str]:
    """Return what is refused: the field without the file's name → the reason."""
    with pytest.raises(StartRefused) as raised:
        config(**tables)
    assert PASSWORD not in str(raised.value)
    return {one.field.removeprefix("pearl.toml").removeprefix(": "): one.reason for one in raised.value.problems}


def store(**more: Any) -> dict[str, Any]:
    return {"url": "sqlite:///pearl.db", "blobs": "blobs", **more}


def region(**chosen: Any) -> dict[str, Any]:
    return {"foshan": {"settings": chosen}}


def test_the_configuration_that_the_others_break_is_right() -> None:
    """Otherwise the tests below would prove nothing."""
    assert config().environment == "production"


# --- TLS, and nothing in clear -----------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["tls_certificate", "tls_key"])
def test_half_of_tls_is_refused(given: str) -> None:
    """With one file TLS would silently be off."""
    assert "belong together" in refused(listen={given: "server.pem"})["listen"]


def test_both_halves_of_tls_are_taken() -> None:
    listen = config(listen={"tls_certificate": "server.pem", "tls_key": "server.key"}).listen
    assert (listen.tls_certificate, listen.tls_key) == (Path("server.pem"), Path("server.key"))


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        ({"client_certificates": "pinned.pem"}, "for TLS that ends here"),
        ({"client_ca": "ca.pem"}, "proxies that pass certificates on"),
        ({"client_certificates": "pinned.pem", "proxies": ["10.0.0.0/8"]}, "for TLS that ends here"),
    ],
)
def test_authorities_for_nobody_are_refused(listen: dict[str, Any], words: str) -> None:
    """They would look like a check that takes place."""
    assert words in refused(listen=listen)["listen"]


def test_authorities_serve_behind_a_proxy_too() -> None:
    assert config(listen={"client_ca": "ca.pem", "proxies": ["10.0.0.0/8", "2001:db8::/32"]}).listen.proxies


@pytest.mark.parametrize(("network", "words"), [("0.0.0.0/0", "whole Internet"), ("::/0", "whole Internet")])
def test_not_everybody_can_be_a_proxy(network: str, words: str) -> None:
    assert words in refused(listen={"proxies": [network]})["listen.proxies"]


@pytest.mark.parametrize("network", ["10.0.0.1/8", "proxy.test", "10.0.0.0/33"])
def test_a_proxy_is_named_by_a_network(network: str) -> None:
    assert "listen.proxies.0" in refused(listen={"proxies": [network]})


@pytest.mark.parametrize(
    "url",
    [
        "http://gateway.example",
        "http://127.0.0.1.gateway.example",
        "http://localhost.example",
        "http://localhost@gateway.example",
        "http://localhost:80@gateway.example",
    ],
)
def test_production_in_clear_is_refused(url: str) -> None:
    """Cookies, codes and tokens would travel in clear; a name that begins like this machine is another machine."""
    assert "public_url must be https://" in refused(public_url=url)[""]
    assert "regions.foshan.settings.base" in refused(regions=region(base=url))[""]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:8080", "http://localhost/a"]
)
def test_production_may_talk_in_clear_within_this_machine(url: str) -> None:
    """A proxy in front, or a tunnel beside it, ends TLS."""
    assert config(public_url=url, regions=region(base=url)).public_url == url


def test_a_region_in_clear_is_found_however_it_is_written() -> None:
    """Schemes are the same in capitals (RFC 3986, 3.1), and HTTP clients take them so."""
    assert "regions.foshan.settings.base" in refused(regions=region(base="HTTP://region.example"))[""]


def test_everything_in_clear_is_named_at_once() -> None:
    reason = refused(public_url="http://a.example", regions=region(one="http://b.example", two="http://c.example"))[""]
    for place in ("public_url", "regions.foshan.settings.one", "regions.foshan.settings.two"):
        assert place in reason


def test_the_sandbox_may_talk_in_clear() -> None:
    """It carries nobody's data; containers call each other by name."""
    assert config(environment="sandbox", public_url="http://pearl:8080").public_url == "http://pearl:8080"


@pytest.mark.parametrize("url", ["gateway.example", "ftp://gateway.example", "https://gateway.example/", ""])
def test_a_public_address_that_is_none_is_refused(url: str) -> None:
    assert "http:// or https://" in refused(public_url=url)["public_url"]


# --- the store ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://pearl:{PASSWORD}@db/pearl",
        f"postgresql://:{PASSWORD}@db/pearl",
        f"postgresql://pearl:{PASSWORD}/with-a-slash@db/pearl",
        f"postgresql://db/pearl?user=pearl&password={PASSWORD}",
    ],
)
def test_a_password_in_the_address_of_the_store_is_refused(url: str) -> None:
    """Every log and every error would show it; the refusal says where it belongs, and does not repeat it."""
    assert "set store.password" in refused(store=store(url=url))["store.url"]


@pytest.mark.parametrize("url", ["mysql://db/pearl", "sqlite://pearl.db", "postgres", "", "postgresql+psycopg://db/p"])
def test_a_store_of_another_kind_is_refused(url: str) -> None:
    assert refused(store=store(url=url))["store.url"] == "must be sqlite:///… or postgresql://…"


def test_an_address_that_cannot_be_read_is_refused_and_not_quoted() -> None:
    """What stands where the port should be may be half of a password."""
    assert "cannot be read" in refused(store=store(url=f"postgresql://db:{PASSWORD}/pearl"))["store.url"]


@pytest.mark.parametrize(
    "url", ["sqlite:////var/lib/pearl.db", "postgresql://db/pearl", "postgresql://pearl@db:5432/pearl?ssl=require"]
)
def test_an_address_without_password_is_taken(url: str) -> None:
    assert config(store=store(url=url)).store.url == url


# --- spelling and bounds -----------------------------------------------------------------------------------------


def test_several_problems_are_heard_in_one_go() -> None:
    """A person who starts the gateway should not have to try five times."""
    found = refused(
        colour="green",
        store=store(url="mysql://db", passwort="file:x"),
        keys={"signing": [], "at_rest": [PASSWORD], "references": "env:R"},
        delivery={"lease_seconds": "long"},
    )
    assert found.keys() == {
        "colour",
        "store.url",
        "store.passwort",
        "keys.signing",
        "keys.at_rest.0",
        "delivery.lease_seconds",
    }
    assert "spelling" in found["colour"]
    assert "spelling" in found["store.passwort"]


@pytest.mark.parametrize("table", ["store", "keys", "regions", "public_url"])
def test_what_is_required_has_no_default(table: str) -> None:
    """Nothing that matters is guessed."""
    data = settings()
    del data[table]
    with pytest.raises(StartRefused) as raised:
        parse(Config, data, "pearl.toml")
    assert [(one.field, one.reason) for one in raised.value.problems] == [(f"pearl.toml: {table}", "is required")]


@pytest.mark.parametrize(
    ("table", "name", "just_right", "too_much"),
    [
        ("limits", "upload_bytes", UPLOAD, UPLOAD + 1),
        ("limits", "upload_bytes", 1, 0),
        ("delivery", "lease_seconds", 1, 0.99),
        ("sign_on", "code_seconds", 60, 61),
        ("listen", "public_port", 65535, 65536),
        ("listen", "admin_port", 0, -1),
    ],
)
def test_bounds_hold_to_the_last_unit(table: str, name: str, just_right: float, too_much: float) -> None:
    """More than the regions' clients carry, or a lease that ends before it can be renewed, would fail later."""
    assert getattr(getattr(config(**{table: {name: just_right}}), table), name) == just_right
    assert refused(**{table: {name: too_much}}).keys() == {f"{table}.{name}"}


# --- secrets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tables", "place"),
    [
        ({"store": store(password=PASSWORD)}, "store.password"),
        ({"regions": {"foshan": {"secrets": {"token": PASSWORD}}}}, "regions.foshan.secrets.token"),
        ({"keys": {"signing": [PASSWORD], "at_rest": ["env:A"], "references": "env:R"}}, "keys.signing.0"),
    ],
)
def test_a_secret_in_clear_is_refused_and_not_repeated(tables: dict[str, Any], place: str) -> None:
    """Configuration files are committed, copied and mailed."""
    assert "file:<path> or env:<NAME>" in refused(**tables)[place]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Lay the secrets out, and return what writes a configuration with a store's password beside them."""
    monkeypatch.setenv("PEARL_TEST_REF", PASSWORD)
    for name in ("signing.pem", "at-rest.key", "token"):
        (tmp_path / name).write_text(PASSWORD)

    def written(password: str) -> Path:
        path = tmp_path / "pearl.toml"
        path.write_text(TEXT.format(password=password))
        return path

    return written


def unreadable(path: Path) -> dict[str, str]:
    with pytest.raises(StartRefused) as raised:
        load_config(path)
    assert PASSWORD not in str(raised.value)
    return {one.field: one.reason for one in raised.value.problems}


def test_secrets_are_found_beside_the_configuration_and_in_the_environment(write: Write) -> None:
    """Wherever the gateway was started from."""
    loaded = load_config(write("file:token"))
    for reference in ("file:token", "env:PEARL_TEST_REF"):
        assert read_secret(loaded, reference, "here") == PASSWORD.encode()


def test_the_printed_configuration_shows_no_secret(write: Write) -> None:
    """It holds references only, so it may stand in a log."""
    assert PASSWORD not in repr(load_config(write("file:token")))


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("file:none", "none cannot be read"),
        ("file:.", "cannot be read"),
        ("env:PEARL_TEST_NOT_SET", "the variable PEARL_TEST_NOT_SET is not set"),
        ("file:empty", "empty is empty"),
    ],
)
def test_the_password_of_the_store_is_looked_for_at_the_start(
    write: Write, tmp_path: Path, reference: str, reason: str
) -> None:
    """Not at the first connection, when the old process is gone already."""
    (tmp_path / "empty").touch()
    assert reason in unreadable(write(reference))["store.password"]


def test_every_secret_that_is_missing_is_named_by_its_place(write: Write, tmp_path: Path) -> None:
    for name in ("signing.pem", "token"):
        (tmp_path / name).unlink()
    places = unreadable(write("env:PEARL_TEST_NOT_SET"))
    assert places.keys() == {"keys.signing.0", "store.password", "regions.foshan.secrets.token"}
