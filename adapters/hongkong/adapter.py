"""Our side of Hong Kong (香港特別行政區): iAM Smart (智方便) sign-on, cases, events and certificate matching.

Owns: which of the profile's parts the region offers. Leaves to `gateway.protocols.iamsmart`: the wire. The contract
is README.md beside this file.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.iamsmart import (
    IamSmartCallbacks,
    IamSmartMatching,
    IamSmartSignOn,
    IamSmartSubmissions,
    open_client,
)


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the region offers; makes no network call. Raises StartRefused."""
    client = open_client(kit)
    return Adapter(
        sign_on=IamSmartSignOn(client),
        submissions=IamSmartSubmissions(client),
        callbacks=IamSmartCallbacks(client.signer, client.kek, f"/callbacks/{kit.region}/events"),
        certificates=IamSmartMatching(client),
        probe=client.wire.probe,
    )
