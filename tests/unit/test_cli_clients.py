"""`pearl clients`: what an operator registers, sees and shuts out, and that no private key is shown or overwritten."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from joserfc.jwk import ECKey
from sqlalchemy import select

from gateway.cli.main import main
from gateway.sandbox.layout import Choices, Ports, lay_out
from gateway.storage import open_store
from gateway.storage.tables import evidence

LAID_OUT = Ports(public=8080, admin=9090, authorities={"guangdong": 8443})
FIELDS = """
id = "portal"
name = "Portal"
organisation = "广州市政务服务数据管理局"
organisation_code = "11440100696927671X"
origin_code = "440100"
redirect_uris = ["https://service.test/back"]
grant_types = ["authorization_code"]
scopes = ["openid"]
"""


class Office:
    """A deployment's folder, and an operator at its command line."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.folder, self.config = folder, config
        self.file = folder / "client.toml"
        self.file.write_text(FIELDS, encoding="utf-8")
        self.key = folder / "portal.pem"

    def pearl(self, command: str, *arguments: str) -> Result:
        given = ["clients", command, "--config", str(self.config), *arguments]
        return CliRunner().invoke(main, given, catch_exceptions=False)

    def done(self, command: str, *arguments: str) -> Any:
        result = self.pearl(command, *arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def refused(self, command: str, *arguments: str) -> str:
        result = self.pearl(command, *arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        return result.stderr

    def registered(self) -> Any:
        """Register the portal with a key of its own."""
        return self.done("add", "--file", str(self.file), "--mint-key", str(self.key))

    def reasons(self) -> list[tuple[str, str]]:
        async def read() -> list[tuple[str, str]]:
            store = await open_store(f"sqlite:///{self.config.parent / 'pearl.db'}")
            try:
                found = select(evidence.c.action, evidence.c.reason).order_by(evidence.c.recorded_at)
                return await store.read(lambda tx: [(row.action, row.reason) for row in tx.execute(found)])
            finally:
                await store.close()

        return asyncio.run(read())


@pytest.fixture
def office(tmp_path: Path, sqlite_template: Path) -> Office:
    """Lay a deployment out, with a database that knows no client yet."""
    layout = lay_out(tmp_path / "pearl", LAID_OUT, Choices())
    shutil.copy(sqlite_template, layout.folder / "pearl.db")
    return Office(tmp_path, layout.config)


def test_a_client_is_registered_from_a_file_with_a_key_that_only_it_will_have(office: Office) -> None:
    result = office.pearl("add", "--file", str(office.file), "--mint-key", str(office.key))
    assert result.exit_code == 0, result.output
    assert stat.S_IMODE(office.key.stat().st_mode) == 0o600
    private = ECKey.import_key(office.key.read_bytes())
    shown = office.done("show", "portal")
    (public,) = shown["registration"]["jwks"]["keys"]
    assert public["kid"] == private.thumbprint()
    told = result.output + json.dumps(shown) + office.pearl("show", "portal").output
    assert "PRIVATE KEY-" not in told
    assert str(private.as_dict(private=True)["d"]) not in told


def test_a_client_is_registered_from_options_alone(office: Office) -> None:
    done = office.done(
        "add", "--id", "agency", "--name", "Agency", "--organisation", "Bureau", "--organisation-code",
        "11440100696927671X", "--origin-code", "440100", "--grant-type", "client_credentials", "--scope", "submissions",
        "--authentication", "tls_client_auth", "--set", "tls_client_auth_san_dns=agency.test",
        "--set", "dpop_bound_access_tokens=true",
    )  # fmt: skip
    assert done["registration"]["tls_client_auth_san_dns"] == "agency.test"
    assert done["registration"]["dpop_bound_access_tokens"] is True


def test_an_entry_copied_from_the_clients_file_is_taken_with_its_keys(office: Office) -> None:
    key = ECKey.generate_key("P-256").as_dict(private=False)
    (office.folder / "keys.json").write_text(json.dumps({"keys": [key]}))
    proof = 'authentication = "private_key_jwt"\njwks_file = "keys.json"\n'
    office.file.write_text("[[client]]" + FIELDS + proof, encoding="utf-8")
    assert office.done("add", "--file", str(office.file))["version"] == 1
    office.file.write_text(2 * ("[[client]]" + FIELDS + proof), encoding="utf-8")
    assert "must hold one client" in office.refused("add", "--file", str(office.file))


def test_everything_that_is_wrong_with_a_client_is_listed_and_nothing_is_left_behind(office: Office) -> None:
    """The key of a client that was not taken would be a secret for nothing: its file goes again."""
    wrong = ("--set", "profile=fapi2", "--set", "origin_code=44", "--set", "redirect_uris=['http://a.test']")
    told = office.refused("add", "--file", str(office.file), "--mint-key", str(office.key), *wrong)
    assert "nothing was changed" in told
    assert "3 problems" in told
    for word in ("origin_code", "sender-constrained", "http://a.test must be https"):
        assert word in told
    assert not office.key.exists()
    assert office.done("list") == []


def test_a_key_file_that_is_there_is_not_overwritten(office: Office) -> None:
    office.key.write_text("precious")
    assert "not overwritten" in office.refused("add", "--file", str(office.file), "--mint-key", str(office.key))
    assert office.key.read_text() == "precious"


def test_an_id_that_is_taken_is_refused_and_the_first_key_stays(office: Office) -> None:
    office.registered()
    other = office.folder / "other.pem"
    told = office.refused("add", "--file", str(office.file), "--mint-key", str(other))
    assert told.startswith("client.exists:")
    assert office.key.exists()
    assert not other.exists()


def test_clients_are_listed_with_their_state(office: Office) -> None:
    office.registered()
    office.done("disable", "portal", "--reason", "contract ended")
    assert [(row["id"], row["state"], row["version"]) for row in office.done("list")] == [("portal", "disabled", 2)]
    assert "disabled" in office.pearl("list").stdout
    assert "disabled, version 2" in office.pearl("show", "portal").stdout


def test_a_field_is_changed_and_all_others_stay(office: Office) -> None:
    before = office.registered()
    done = office.done("change", "portal", "--set", "name=New name", "--unset", "scopes", "--reason", "ticket 7")
    assert done["version"] == 2
    expected = {**before["registration"], "name": "New name"}
    del expected["scopes"]
    assert done["registration"] == expected
    assert "keeps its id" in office.refused("change", "portal", "--set", "id=other", "--reason", "x")
    assert "scopes" in office.refused("change", "portal", "--set", "scopes=openid", "--reason", "x")


def test_a_key_is_rolled_over_and_the_old_one_retired(office: Office) -> None:
    (old,) = office.registered()["registration"]["jwks"]["keys"]
    after = office.folder / "second.pem"
    done = office.done("rotate", "portal", "--mint-key", str(after), "--overlap", "12h")
    first, second = done["registration"]["jwks"]["keys"]
    assert first["kid"] == old["kid"]
    assert isinstance(first["exp"], int)
    assert "exp" not in second
    assert f"{old['kid']}  EC  until " in office.pearl("show", "portal").stdout
    left = office.done("rotate", "portal", "--retire", old["kid"])["registration"]["jwks"]["keys"]
    assert left == [second]
    assert office.refused("rotate", "portal", "--retire", second["kid"]).startswith("client.last_key:")


def test_a_public_key_of_the_clients_own_making_is_taken(office: Office) -> None:
    """The better way: the private key never leaves the client."""
    office.registered()
    key = ECKey.generate_key("P-256")
    path = office.folder / "new.json"
    path.write_text(json.dumps(key.as_dict(private=False)))
    done = office.done("rotate", "portal", "--jwk", str(path))
    assert done["registration"]["jwks"]["keys"][1]["kid"] == key.thumbprint()
    path.write_text(json.dumps(key.as_dict(private=True)))
    told = office.refused("rotate", "portal", "--jwk", str(path))
    assert "holds a secret" in told
    assert str(key.as_dict(private=True)["d"]) not in told


@pytest.mark.parametrize(
    "arguments", [(), ("--retire", "k", "--mint-key", "x.pem"), ("--retire", "k", "--overlap", "soon")]
)
def test_a_roll_over_that_is_not_clear_is_refused_before_anything_happens(
    office: Office, arguments: tuple[str, ...]
) -> None:
    result = office.pearl("rotate", "portal", *arguments)
    assert result.exit_code == 2
    assert not Path("x.pem").exists()


def test_every_change_says_who_and_why_in_evidence(office: Office) -> None:
    office.registered()
    office.done("disable", "portal", "--reason", "leak")
    office.done("enable", "portal", "--reason", "cleared")
    assert office.reasons() == [
        ("client.register", "registered by pearl clients add"),
        ("client.disable", "leak"),
        ("client.enable", "cleared"),
    ]


def test_a_client_that_nobody_registered_is_said_so(office: Office) -> None:
    for command in ("show", "disable", "enable"):
        reason = () if command == "show" else ("--reason", "x")
        assert office.refused(command, "nobody", *reason).startswith("client.unknown:")


def test_a_database_of_another_release_is_left_alone(office: Office) -> None:
    (office.config.parent / "pearl.db").unlink()
    assert "pearl db upgrade" in office.refused("list")
