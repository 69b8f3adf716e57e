"""Our side of Macau (澳門特別行政區): sign-on by the common account (一戶通); cases, messages, events, matching.

Owns: which parts the region offers, the names of its claims for a business, and that its exchange has no questions.
Leaves to `gateway.protocols.oidc` the wire of sign-on, to `signed_rest` and `signed_rest_services` that of cases. The
contract is README.md beside this file.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols import oidc, signed_rest
from gateway.protocols.signed_rest_services import RestCallbacks, RestMatching, RestMessages, RestSubmissions

ROLES = {"administrador": "legal_representative", "procurador": "handler", "utilizador": "handler"}
"""As what somebody signs on for a business (qualidade) → our word."""

KINDS = frozenset({"supplement", "withdrawal", "complaint"})
"""What can be said of a case there. A rating (好差評) of what Macau decided stays with the collecting side."""


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the region offers; makes no network call. Raises StartRefused."""
    client = oidc.open_client(kit)
    exchange = signed_rest.open_client(signed_rest.exchange_kit(kit), wrapped=False, asks=False)
    return Adapter(
        sign_on=oidc.OidcSignOn(client, oidc.OnBehalf("entidade", "qualidade", ROLES)),
        sign_out=oidc.OidcSignOut(client),
        trust_confirmed_at=client.trust.keys.confirmed_at,
        submissions=RestSubmissions(exchange, "requestNo"),
        messages=RestMessages(exchange, KINDS),
        callbacks=RestCallbacks(signed_rest.webhook_keys(kit), f"/callbacks/{kit.region}/events", listed=False),
        certificates=RestMatching(exchange),
        probe=client.wire.probe,
    )
