"""Our side of the province of Hainan (海南省): sign-on by OpenID Connect.

Owns: which of the profile's parts the province offers. Leaves to `gateway.protocols.oidc` the wire. The contract is
README.md beside this file.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.oidc import OidcSignOn, OidcSignOut, open_client


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the province offers; makes no network call. Raises StartRefused."""
    client = open_client(kit)
    return Adapter(
        sign_on=OidcSignOn(client),
        sign_out=OidcSignOut(client),
        trust_confirmed_at=client.trust.keys.confirmed_at,
        probe=client.wire.probe,
    )
