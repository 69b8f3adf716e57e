"""TLS of the public listener: certificate and key, whom it asks for a certificate, and taking new files while it runs.

Owns: protocol versions and cipher suites (BCP 195, as FAPI 2 demands), reading the files, and that a reload takes all
of them or none. Leaves to `gateway.identity.mtls` what a client certificate proves: the handshake only makes sure that
the peer holds its key, and turns away what nobody here knows.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.config import Config, Problems
from gateway.errors import FieldProblem, StartRefused
from gateway.identity.mtls import Authorities

log = structlog.get_logger("tls")

CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
)  # fmt: skip
"""For TLS 1.2 (RFC 9325 §4.2, FAPI 2 Security Profile §5.2.1). Those of TLS 1.3 are all good."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What the files held at one moment. `context` is None when a proxy ends TLS."""

    context: ssl.SSLContext | None
    authorities: Sequence[x509.Certificate]
    expires_at: datetime | None
    """When the gateway's own certificate ends."""


def read_tls(config: Config) -> TlsFiles:
    """Read all files that `[listen]` names. Raises StartRefused that lists everything that is wrong with them."""
    listen, problems = config.listen, Problems()
    authorities: list[x509.Certificate] = []
    pinned: list[x509.Certificate] = []
    with problems.collect():
        authorities = _bundle(config, listen.client_ca, "listen.client_ca")
    with problems.collect():
        _check_authorities(authorities, "listen.client_ca")
    with problems.collect():
        pinned = _bundle(config, listen.client_certificates, "listen.client_certificates")
    context: ssl.SSLContext | None = None
    expires_at: datetime | None = None
    if listen.tls_certificate is not None and listen.tls_key is not None:
        with problems.collect():
            context = _context(config.path(listen.tls_certificate), config.path(listen.tls_key))
            expires_at = _bundle(config, listen.tls_certificate, "listen.tls_certificate")[0].not_valid_after_utc
    problems.refuse()
    if context is not None:
        _ask_for_certificates(context, [*authorities, *pinned])
    return TlsFiles(context, tuple(authorities), expires_at)


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(CIPHERS))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")  # else an encrypted key asks the terminal
    except ssl.SSLError as error:
        reason = f"{certificate} and {key} are no certificate (PEM) and its private key without a password"
        raise _refused("listen.tls_certificate", f"{reason} ({error.reason})") from None
    except OSError as error:
        named = f"{certificate} or {key}"
        raise _refused("listen.tls_certificate", f"{named} cannot be read ({error.strerror})") from None
    return context


def _ask_for_certificates(context: ssl.SSLContext, known: Sequence[x509.Certificate]) -> None:
    """Ask every client for a certificate, and let those without one in as well: browsers come by the same listener.

    Python cannot take a certificate without verifying it, so a self-signed one must be known here beforehand; with
    PARTIAL_CHAIN it is trusted as it stands, and so is an authority below a root that is not named.
    """
    if not known:
        return
    context.load_verify_locations(cadata="".join(one.public_bytes(Encoding.PEM).decode() for one in known))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.options |= ssl.OP_NO_TICKET  # a resumed session would bring a certificate along that is not asked for anew
    context.num_tickets = 0


def _bundle(config: Config, path: Path | None, place: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM file. Raises StartRefused."""
    if path is None:
        return []
    try:
        return x509.load_pem_x509_certificates(config.path(path).read_bytes())
    except OSError as error:
        raise _refused(place, f"{path} cannot be read ({error.strerror})") from None
    except ValueError:
        raise _refused(place, f"{path} does not hold certificates (PEM)") from None


def _check_authorities(certificates: Iterable[x509.Certificate], place: str) -> None:
    """Refuse what is no authority: a client's own certificate among them would be one by mistake, or of no use."""
    for certificate in certificates:
        name = certificate.subject.rfc4514_string()
        try:
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (x509.ExtensionNotFound, ValueError):
            raise _refused(place, f"{name} is no authority: it has no basicConstraints") from None
        if not constraints.ca:
            raise _refused(place, f"{name} is no authority; a client's own goes to listen.client_certificates")


def _refused(field: str, reason: str) -> StartRefused:
    return StartRefused("TLS", problems=[FieldProblem(field, reason)])


class PublicTls:
    """The TLS of the public listener, as it is now. Connections that are open keep what they began with."""

    def __init__(
        self, config: Config, files: TlsFiles, authorities: Authorities, expiry: Callable[[float], None]
    ) -> None:
        """`files` are what was read at the start; `authorities` is told whenever others are to be trusted.

        `expiry` is told when the gateway's own certificate ends, in seconds since 1970.
        """
        self._config = config
        self._authorities = authorities
        self._expiry = expiry
        self._take(files)
        self.context = files.context
        """For the listener, once and for all: each handshake is moved on to the newest files."""
        if self.context is not None:
            self.context.sni_callback = self._move_on

    async def reload(self) -> None:
        """Take the files as they are now; when anything about them is wrong, keep all that is in use."""
        try:
            files = await asyncio.to_thread(read_tls, self._config)
        except StartRefused as refused:
            log.warning(
                "TLS files not taken; the former stay in use",
                problems=[f"{p.field}: {p.reason}" for p in refused.problems],
            )
            return
        self._take(files)
        log.info("TLS files taken", expires_at=files.expires_at and files.expires_at.isoformat())

    def _take(self, files: TlsFiles) -> None:
        self._current = files
        self._authorities.replace(files.authorities)
        if files.expires_at is not None:
            self._expiry(files.expires_at.timestamp())

    def _move_on(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Let a new connection use the newest files. OpenSSL calls this for every handshake, with a name or without."""
        if self._current.context is not None:
            connection.context = self._current.context
