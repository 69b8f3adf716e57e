"""Our side of the province of Hunan (湖南省): sign-on by ticket exchange (票据交换), for natural and legal persons.

Owns: what the province offers. Leaves to `gateway.protocols.ticket`: the wire. The contract is docs/ticket-exchange.md;
README.md beside this file says what differs here, and region.toml holds it.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.ticket import TicketSignOn, TicketSignOut, open_province


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the province offers; makes no network call. Raises StartRefused."""
    wire, province = open_province(kit)
    return Adapter(
        sign_on=TicketSignOn(wire, province),
        sign_out=TicketSignOut(wire, province),
        probe=wire.wire.probe,
    )
