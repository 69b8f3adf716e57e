"""Our side of the province of Hunan (湖南省): sign-on by ticket exchange (票据交换), cases by case exchange.

Owns: what the province offers. Leaves to `gateway.protocols.ticket` and `gateway.protocols.province`: the wires. The
contracts are docs/ticket-exchange.md and docs/province-exchange.md; README.md beside this file says what differs here,
and region.toml holds it.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.province import open_exchange
from gateway.protocols.ticket import TicketSignOn, TicketSignOut, open_province


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the province offers; makes no network call. Raises StartRefused."""
    wire, province = open_province(kit)
    cases = open_exchange(kit, wire.wire)
    return Adapter(
        sign_on=TicketSignOn(wire, province),
        submissions=cases.submissions,
        feed=cases.feed,
        certificates=cases.certificates,
        issued=cases.issued,
        notices=cases.notices,
        catalogue=cases.catalogue,
        messages=cases.messages,
        results=cases.results,
        sign_out=TicketSignOut(wire, province),
        probe=wire.wire.probe,
    )
