"""Our side of the province of Hainan (海南省): sign-on by OpenID Connect, cases by the provinces' exchange.

Owns: which of the profile's parts the province offers. Leaves to `gateway.protocols.oidc` and
`gateway.protocols.province` the wires. The contracts are README.md beside this file and docs/province-exchange.md.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.oidc import OidcSignOn, OidcSignOut, open_client
from gateway.protocols.province import open_exchange


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the province offers; makes no network call. Raises StartRefused."""
    client = open_client(kit)
    cases = open_exchange(kit, client.wire)
    return Adapter(
        sign_on=OidcSignOn(client),
        submissions=cases.submissions,
        feed=cases.feed,
        certificates=cases.certificates,
        issued=cases.issued,
        notices=cases.notices,
        catalogue=cases.catalogue,
        messages=cases.messages,
        results=cases.results,
        sign_out=OidcSignOut(client),
        trust_confirmed_at=client.trust.keys.confirmed_at,
        probe=client.wire.probe,
    )
