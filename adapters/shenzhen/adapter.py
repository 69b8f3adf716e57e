"""Our side of the city of Shenzhen (深圳市): cases, messages, events, results, certificates, items; no sign-on.

Owns: what the city calls our number of a case or a report and the key of an item, and which messages it takes. Leaves
to `gateway.protocols.signed_rest`, `signed_rest_services` and `signed_rest_issued` the wire. The contract is README.md
beside this file.
"""

from __future__ import annotations

from gateway.ports import MESSAGE_KINDS, Adapter, Kit
from gateway.protocols.signed_rest import open_client, webhook_keys
from gateway.protocols.signed_rest_issued import RestIssued, RestNotices
from gateway.protocols.signed_rest_services import (
    RestCallbacks,
    RestCatalogue,
    RestCertificates,
    RestMessages,
    RestResults,
    RestSubmissions,
)


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the city offers; makes no network call. Raises StartRefused."""
    client, keys = open_client(kit, wrapped=True), webhook_keys(kit)
    return Adapter(
        submissions=RestSubmissions(client, "sourceNo"),
        messages=RestMessages(client, frozenset(MESSAGE_KINDS)),
        results=RestResults(client),
        callbacks=RestCallbacks(keys, f"/callbacks/{kit.region}/events", listed=True),
        certificates=RestCertificates(client),
        issued=RestIssued(client, "disputeNo"),
        notices=RestNotices(keys, kit.region),
        catalogue=RestCatalogue(client, "taskCode"),
        probe=client.wire.probe,
    )
