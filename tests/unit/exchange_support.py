"""What the authority of a signed REST exchange is given, for tests of something else that it does."""

from __future__ import annotations

from joserfc.jwk import ECKey, OKPKey


def exchange_given() -> dict[str, bytes]:
    """Return the secrets of docs/signed-rest.md from the exchange's side, but for those that sign-on has as well."""
    return {
        "request_key": ECKey.generate_key("P-256").as_pem(private=False),
        "peer_key": ECKey.generate_key("P-256").as_pem(private=True),
        "webhook_key": OKPKey.generate_key("Ed25519").as_pem(private=True),
        "exchange_client_id": b"pearl",
        "exchange_issuer": b"exchange",
        "item_codes": b"[]",
    }
