"""Our side of the city of Foshan (佛山市): cases, polled events, results, certificates over signed SOAP.

Owns: the city's path and namespace. Leaves to `gateway.protocols.soap` and the `soap_*` beside it: the wire. The
contract is README.md beside this file; sign-on is the province's.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.soap import SoapCertificates, SoapFeed, SoapSubmissions, open_client
from gateway.protocols.soap_issued import SoapIssued
from gateway.protocols.soap_messages import SoapMessages
from gateway.protocols.soap_results import SoapResults


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the city offers; makes no network call. Raises StartRefused."""
    client = open_client(kit, "/ws/exchange", "urn:gov:foshan:exchange:v1")
    return Adapter(
        submissions=SoapSubmissions(client),
        messages=SoapMessages(client),
        results=SoapResults(client),
        feed=SoapFeed(client),
        certificates=SoapCertificates(client),
        issued=SoapIssued(client),
        probe=client.wire.probe,
    )
