"""`pearl webhooks`: an operator adds an address for a client that there is, changes its secret, and stops it."""

from __future__ import annotations

import json

from sqlalchemy import Connection

from gateway.storage.tables import clients
from tests.unit.test_cli_deliveries import Office, office  # noqa: F401 - the fixture of an operator's desk

URL = "https://agency.example/hook"


def test_an_address_is_added_for_a_client_that_there_is_and_its_secret_is_shown_once(office: Office) -> None:  # noqa: F811 - the fixture
    def register(tx: Connection) -> None:
        row = {"id": "agency", "registration": {}, "version": 1, "created_at": office.now, "changed_at": office.now}
        tx.execute(clients.insert().values(row))

    why = ("--reason", "agreed")
    mistyped = office.run("webhooks", "add", "agncy", URL, *why)
    assert (mistyped.exit_code, "There is no client agncy" in mistyped.stderr) == (1, True)
    office.store(register)
    added = office.run("webhooks", "add", "agency", URL, *why)
    assert added.exit_code == 0
    name, secret = added.stdout.splitlines()[0], added.stdout.split()[-1]
    assert secret.startswith("whsec_")
    for command in ("disable", "enable", "rotate"):
        assert office.run("webhooks", command, name, *why).exit_code == 0
    listed = office.run("webhooks", "list", "--json").stdout
    assert [(row["id"], row["client_id"], row["url"]) for row in json.loads(listed)] == [(name, "agency", URL)]
    assert "whsec" not in listed
    actions = [row["action"] for row in office.evidence()]
    assert actions == ["webhook.add", "webhook.disable", "webhook.enable", "webhook.rotate"]
