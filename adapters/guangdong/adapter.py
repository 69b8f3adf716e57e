"""Our side of the province of Guangdong (广东省): the TIF profile with its sign-on, cases, items and certificates.

Owns: the province's paths. Leaves to `gateway.protocols.tif` and the `tif_*` beside it: the wire. The contract is
README.md beside this file.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.tif import TifCallbacks, TifCertificates, TifCodes, TifSubmissions, open_client
from gateway.protocols.tif_catalogue import TifCatalogue
from gateway.protocols.tif_issued import TifIssued, TifNotices
from gateway.protocols.tif_messages import TifMessages
from gateway.protocols.tif_results import TifResults
from gateway.protocols.tif_sign_on import TifSignOn, TifSignOut
from gateway.protocols.wire import text_secret, text_setting

_CASES = "/ebus/pearl/v1"
_CERTIFICATES = "/elssp/v1"


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the province offers; makes no network call. Raises StartRefused."""
    client, client_id = open_client(kit), text_setting(kit, "client_id")
    return Adapter(
        sign_on=TifSignOn(client, client_id, text_secret(kit, "client_secret")),
        submissions=TifSubmissions(client, _CASES),
        messages=TifMessages(client, _CASES),
        results=TifResults(client, _CASES),
        callbacks=TifCallbacks(client.signer, f"/callbacks/{kit.region}/events"),
        certificates=TifCertificates(client, f"{_CERTIFICATES}/GetCertificateDataByHolder"),
        issued=TifIssued(client, _CERTIFICATES),
        notices=TifNotices(client.signer, kit.region),
        catalogue=TifCatalogue(client, "/ebus/pearl/v1/items"),
        codes=TifCodes(client, "/ebus/pearl/v1/citycodes/resolve"),
        sign_out=TifSignOut(client, client_id),
        probe=client.wire.probe,
    )
