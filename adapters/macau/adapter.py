"""Our side of Macau (澳門特別行政區): the common account (一戶通) by OpenID Connect, for persons and businesses.

Owns: which of the profile's parts the region offers, and the names of its claims for a business. Leaves to
`gateway.protocols.oidc` the wire. The contract is README.md beside this file.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.oidc import OidcSignOn, OidcSignOut, OnBehalf, open_client

ROLES = {"administrador": "legal_representative", "procurador": "handler", "utilizador": "handler"}
"""As what somebody signs on for a business (qualidade) → our word."""


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the region offers; makes no network call. Raises StartRefused."""
    client = open_client(kit)
    return Adapter(
        sign_on=OidcSignOn(client, OnBehalf("entidade", "qualidade", ROLES)),
        sign_out=OidcSignOut(client),
        trust_confirmed_at=client.trust.keys.confirmed_at,
        probe=client.wire.probe,
    )
