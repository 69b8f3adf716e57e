"""Our side of the city of Qingyuan (清远市): a front-end exchange machine (前置机) that is notified and then pulls.

Owns: the city's paths. Leaves to `gateway.protocols.notify_pull` and `notify_pull_issued`: the wire. The contract is
README.md beside this file.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.notify_pull import (
    PullCatalogue,
    PullCertificates,
    PullFeed,
    PullMessages,
    PullPickups,
    PullResults,
    PullSubmissions,
    open_client,
)
from gateway.protocols.notify_pull_issued import PullIssued


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the city offers; makes no network call. Raises StartRefused."""
    client = open_client(kit, "/exchange")
    return Adapter(
        submissions=PullSubmissions(client),
        pickups=PullPickups(client.channel, kit.region),
        feed=PullFeed(client),
        messages=PullMessages(client),
        results=PullResults(client),
        certificates=PullCertificates(client),
        issued=PullIssued(client),
        catalogue=PullCatalogue(client),
        probe=client.wire.probe,
    )
