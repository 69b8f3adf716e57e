"""Our side of Hong Kong (香港特別行政區): iAM Smart (智方便) sign-on, cases, events and certificate matching.

Owns: which of the profile's parts the region offers. Leaves to `gateway.protocols.iamsmart` and the `iamsmart_*` beside
it: the wire. The contract is README.md beside this file.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.iamsmart import (
    IamSmartCallbacks,
    IamSmartMatching,
    IamSmartSubmissions,
    open_client,
)
from gateway.protocols.iamsmart_messages import IamSmartMessages
from gateway.protocols.iamsmart_results import IamSmartResults
from gateway.protocols.iamsmart_sign_on import open_sign_on

ROLES = {
    "Sole Proprietor": "legal_representative",
    "Director": "handler",
    "Partner": "handler",
    "Company Secretary": "handler",
    "Authorised Representative": "handler",
}
"""What somebody is in a company (`corpRole`) → as what they act. Of several directors or partners no one is *the* legal
representative (法定代表人) of mainland law; the proprietor of a sole proprietorship is."""


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the region offers; makes no network call. Raises StartRefused."""
    client = open_client(kit)
    return Adapter(
        sign_on=open_sign_on(kit, client, ROLES),
        submissions=IamSmartSubmissions(client),
        messages=IamSmartMessages(client),
        results=IamSmartResults(client),
        callbacks=IamSmartCallbacks(client.signer, client.kek, f"/callbacks/{kit.region}/events"),
        certificates=IamSmartMatching(client),
        probe=client.wire.probe,
    )
