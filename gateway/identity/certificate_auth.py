"""Client authentication by certificate: `tls_client_auth` and `self_signed_tls_client_auth` (RFC 8705 §2).

Owns: the two methods in the shape that Authlib asks for. Leaves to `mtls` what a certificate proves.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from authlib.oauth2.rfc6749 import InvalidClientError

from gateway.identity.clients import Client
from gateway.identity.mtls import (
    Authorities,
    CertificateRefused,
    ExpectedName,
    PresentedCertificate,
    check_named,
    check_registered,
)
from gateway.identity.requests import plain

Method = Literal["tls_client_auth", "self_signed_tls_client_auth"]


class CertificateAuth:
    """One of the two methods, for one request. Without a certificate it proves nobody."""

    def __init__(
        self, method: Method, certificate: PresentedCertificate | None, authorities: Authorities, now: datetime
    ) -> None:
        self._method = method
        self._certificate = certificate
        self._authorities = authorities
        self._now = now

    def __call__(self, query_client: Any, request: Any) -> Any:
        """Return the client that the certificate proves, or None. Raises OAuth2Error."""
        client = query_client(request.payload.client_id)
        if client is None or self._certificate is None or client.client.authentication != self._method:
            return None
        try:
            self._check(client.client, self._certificate)
        except CertificateRefused as refused:
            raise InvalidClientError(plain(refused.public), status_code=401) from refused
        return client

    def _check(self, client: Client, shown: PresentedCertificate) -> None:
        if self._method == "tls_client_auth":
            expected = ExpectedName(client.tls_client_auth_subject_dn, client.tls_client_auth_san_dns)
            check_named(shown, expected, self._authorities, self._now)
        else:
            check_registered(shown, client.keys, self._now)
