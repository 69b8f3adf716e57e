"""Our side of the city of Foshan (佛山市): cases, polled events, certificates over signed SOAP; no sign-on of its own.

Owns: the city's path and namespace. Leaves to `gateway.protocols.soap` and `soap_messages`: the wire. The contract
is README.md beside this file.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.soap import SoapCertificates, SoapFeed, SoapSubmissions, open_client
from gateway.protocols.soap_messages import SoapMessages


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the city offers; makes no network call. Raises StartRefused."""
    client = open_client(kit, "/ws/exchange", "urn:gov:foshan:exchange:v1")
    return Adapter(
        submissions=SoapSubmissions(client),
        messages=SoapMessages(client),
        feed=SoapFeed(client),
        certificates=SoapCertificates(client),
        probe=client.wire.probe,
    )
