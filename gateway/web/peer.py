"""What a request came over, for whoever must know the client's certificate.

Owns: asking the transport. Leaves to `gateway.identity.mtls` which certificate counts.
"""

from __future__ import annotations

from aiohttp import web

from gateway.identity.mtls import Connection


def connection_of(request: web.Request) -> Connection:
    """Return the TCP peer's address and the certificate that it showed in our own TLS handshake."""
    transport = request.transport
    if transport is None:  # the peer has hung up already
        return Connection("", None)
    peer, connection = transport.get_extra_info("peername"), transport.get_extra_info("ssl_object")
    address = str(peer[0]) if isinstance(peer, tuple) else ""
    return Connection(address, None if connection is None else connection.getpeercert(binary_form=True))
