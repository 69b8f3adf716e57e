"""Our side of the province of Guangdong (广东省): the TIF profile with its sign-on, cases, events and certificates.

Owns: the province's paths. Leaves to `gateway.protocols.tif`: the wire. The contract is README.md beside this file.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.tif import TifCallbacks, TifCertificates, TifSignOn, TifSubmissions, open_client
from gateway.protocols.wire import text_secret, text_setting


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the province offers; makes no network call. Raises StartRefused."""
    client = open_client(kit)
    return Adapter(
        sign_on=TifSignOn(client, text_setting(kit, "client_id"), text_secret(kit, "client_secret")),
        submissions=TifSubmissions(client, "/ebus/pearl/v1"),
        callbacks=TifCallbacks(client.signer, f"/callbacks/{kit.region}/events"),
        certificates=TifCertificates(client, "/elssp/v1/GetCertificateDataByHolder"),
        probe=client.wire.probe,
    )
