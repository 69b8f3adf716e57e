"""Our side of Hong Kong (香港特別行政區): iAM Smart (智方便) sign-on, cases, events and certificate matching.

Owns: which of the profile's parts the region offers. Leaves to `gateway.protocols.iamsmart` and
`gateway.protocols.iamsmart_sign_on`: the wire. The contract is README.md beside this file.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.iamsmart import (
    IamSmartCallbacks,
    IamSmartMatching,
    IamSmartSubmissions,
    open_client,
)
from gateway.protocols.iamsmart_sign_on import open_sign_on


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the region offers; makes no network call. Raises StartRefused."""
    client = open_client(kit)
    return Adapter(
        sign_on=open_sign_on(kit, client),
        submissions=IamSmartSubmissions(client),
        callbacks=IamSmartCallbacks(client.signer, client.kek, f"/callbacks/{kit.region}/events"),
        certificates=IamSmartMatching(client),
        probe=client.wire.probe,
    )
