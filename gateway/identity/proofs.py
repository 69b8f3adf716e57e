"""What a client proves beside its name: a key (DPoP, RFC 9449) or a certificate (mutual TLS, RFC 8705).

Owns: reading the one and the other of a request, and the rule that a token which is bound is worth nothing without what
it is bound to. Leaves to `dpop` and `mtls` the single proof, and to the caller's transaction that a proof serves once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidRequestError

from gateway.errors import NotAuthenticated
from gateway.identity.clients import Client
from gateway.identity.dpop import DpopNonceNeeded, DpopNonces, DpopRefused, Proof, check_proof
from gateway.identity.mtls import PresentedCertificate
from gateway.identity.requests import plain

NONCE_HEADER = "DPoP-Nonce"


@dataclass(frozen=True, slots=True)
class Presented:
    """What came with a request: method, the address as we publish it, DPoP proofs, the token and its scheme.

    `proofs` are all DPoP headers, of which there may be one. `certificate` is that of the TLS connection, or of the
    proxy's, if that is trusted.
    """

    method: str = "POST"
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    proofs: tuple[str, ...] = ()
    certificate: PresentedCertificate | None = None
    scheme: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class Proved:
    """What a client proved: the `cnf` for its tokens (None: bearer), and the proof that must be used up.

    `headers` are for the answer: the nonce for the next proof.
    """

    binding: Mapping[str, str] | None = None
    proof: Proof | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def jkt(self) -> str | None:
        """The thumbprint of the DPoP key."""
        return None if self.proof is None else self.proof.jkt


class Proofs:
    """Checks proofs. `nonces` are the same on every replica."""

    def __init__(self, nonces: DpopNonces) -> None:
        self._nonces = nonces

    def prove(self, presented: Presented, client: Client, now: datetime, *, issues: bool) -> Proved:
        """Return what the client of a request proved. Raises OAuth2Error.

        Where tokens are issued (`issues`), also when it proved too little for them. Nothing is bound elsewhere, and no
        client sends a proof there (RFC 9449 §5, RFC 8705 §3).
        """
        proof = self._proof(presented, now)
        binding: dict[str, str] = {}
        if proof is not None:
            binding["jkt"] = proof.jkt
        if client.tls_client_certificate_bound_access_tokens and presented.certificate is not None:
            binding["x5t#S256"] = presented.certificate.thumbprint
        if issues:
            self._check_enough(client, binding, now)
        headers = {NONCE_HEADER: self._nonces.current(now)} if proof is not None else {}
        return Proved(binding or None, proof, headers)

    def _proof(self, presented: Presented, now: datetime) -> Proof | None:
        if not presented.proofs:
            return None
        if len(presented.proofs) > 1:
            raise InvalidRequestError("There must be one DPoP header.")
        try:
            return check_proof(
                presented.proofs[0],
                method=presented.method,
                url=presented.url,
                now=now,
                nonces=self._nonces,
                access_token=None,
            )
        except DpopRefused as refused:
            raise self._refusal(refused, now) from refused

    def _check_enough(self, client: Client, binding: Mapping[str, str], now: datetime) -> None:
        """Demand what the client's registration binds its tokens to."""
        if client.dpop_bound_access_tokens and "jkt" not in binding:
            missing = DpopNonceNeeded("This client's tokens are bound to a key: send a DPoP proof.")
            raise self._refusal(missing, now)
        if client.tls_client_certificate_bound_access_tokens and "x5t#S256" not in binding:
            raise InvalidRequestError("This client's tokens are bound to its certificate: connect with it.")

    def _refusal(self, refused: DpopRefused, now: datetime) -> OAuth2Error:
        error = ProofRefused(plain(refused.public), error=refused.error)
        error.headers = {NONCE_HEADER: self._nonces.current(now)}
        return error

    def check(self, presented: Presented, claims: Mapping[str, Any], now: datetime) -> Proof | None:
        """Check that whoever presents a verified token holds what it is bound to (RFC 9449 §7, RFC 8705 §3).

        Returns the proof, which must be used up. Raises NotAuthenticated, or DpopRefused.
        """
        binding = claims.get("cnf") or {}
        if "x5t#S256" in binding:
            shown = presented.certificate
            if shown is None or shown.thumbprint != binding["x5t#S256"]:
                raise NotAuthenticated("The access token is bound to a certificate that this connection does not show.")
        if "jkt" not in binding:
            if presented.scheme.lower() == "dpop":
                raise NotAuthenticated("The access token is bound to no key; send it as Authorization: Bearer.")
            return None
        if presented.scheme.lower() != "dpop" or len(presented.proofs) != 1:
            raise DpopRefused("The access token is bound to a key: send Authorization: DPoP and one DPoP header.")
        proof = check_proof(
            presented.proofs[0],
            method=presented.method,
            url=presented.url,
            now=now,
            nonces=self._nonces,
            access_token=presented.token,
        )
        if proof.jkt != binding["jkt"]:
            raise DpopRefused("The DPoP proof is by another key than the one that the access token is bound to.")
        return proof

    def nonce(self, now: datetime) -> str:
        """Return the nonce to hand out now."""
        return self._nonces.current(now)


class ProofRefused(OAuth2Error):  # type: ignore[misc] # Authlib ships no types
    """A proof that is not accepted; the answer carries the nonce for the next one (RFC 9449 §8)."""

    headers: Mapping[str, str]

    def get_headers(self) -> list[tuple[str, str]]:
        """Return the headers of the answer."""
        return [*super().get_headers(), *self.headers.items()]
