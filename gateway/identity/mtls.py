"""Client certificates: mutual TLS for client authentication and for bound tokens (RFC 8705).

Owns: whose certificate a request carries (the connection's, or in the header of RFC 9440 when a configured proxy is the
peer), and the two ways in which a certificate proves a client: by its name, when one of our authorities issued it
(`tls_client_auth`), or by its key, when that is registered (`self_signed_tls_client_auth`). Leaves to
`gateway.tls` the handshake, which only filters: what counts is checked here, also for what a proxy says it verified.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import ClassVar, Protocol

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError
from joserfc.jwk import KeySet, OctKey

from gateway.errors import NotAuthenticated

log = structlog.get_logger("mtls")

Network = IPv4Network | IPv6Network

HEADER, CHAIN_HEADER = "Client-Cert", "Client-Cert-Chain"
LONGEST = 16 * 1024
"""Bytes of a certificate that we still look at."""
MOST_INTERMEDIATES = 8

_BYTES = re.compile(r":([A-Za-z0-9+/]+={0,2}):")
"""A byte sequence of RFC 9651 §3.3.5, without parameters, which RFC 9440 does not define."""
_NAMES: Mapping[str, x509.ObjectIdentifier] = {
    "CN": NameOID.COMMON_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "C": NameOID.COUNTRY_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "organizationIdentifier": NameOID.ORGANIZATION_IDENTIFIER,
}
"""Short names of attributes: those of RFC 4514 §3, and some of authorities' own. Others stand as dotted numbers."""
_ATTRIBUTES = {form: oid for name, oid in _NAMES.items() for form in (name, name.upper(), name.lower())}
"""In every usual way to write them: their case says nothing (RFC 4514 §2.3)."""
_NO_SUBJECT = "is not a distinguished name as RFC 4514 writes it, such as CN=portal,O=Agency,C=CN"


class CertificateRefused(NotAuthenticated):
    """The client certificate is unreadable, not the client's, out of date, or vouched for by nobody.

    `error` is the code for the token endpoint (RFC 6749 §5.2).
    """

    code: ClassVar[str] = "auth.client_certificate"
    title: ClassVar[str] = "The client certificate is not accepted"
    error: ClassVar[str] = "invalid_client"


@dataclass(frozen=True, slots=True)
class PresentedCertificate:
    """The certificate whose private key the peer of the TLS connection holds, and what it sent along to explain it.

    Nothing is said here about who vouches for it. `thumbprint` is `x5t#S256` (RFC 8705 §3.1).
    """

    der: bytes
    certificate: x509.Certificate
    intermediates: tuple[x509.Certificate, ...] = ()

    @property
    def thumbprint(self) -> str:
        """Return the SHA-256 of the certificate in base64url, as in `cnf`."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.der).digest()).rstrip(b"=").decode()

    @property
    def subject(self) -> x509.Name:
        """Return the subject's distinguished name."""
        return self.certificate.subject

    @property
    def dns_names(self) -> tuple[str, ...]:
        """Return the DNS names of the subject, in lower case."""
        return tuple(name.lower() for name in _alternatives(self.certificate, x509.DNSName))

    @property
    def uris(self) -> tuple[str, ...]:
        """Return the URIs of the subject."""
        return tuple(_alternatives(self.certificate, x509.UniformResourceIdentifier))


def read_certificate(der: bytes, intermediates: Sequence[bytes] = ()) -> PresentedCertificate:
    """Read a certificate and what came with it. Raises CertificateRefused."""
    try:
        certificate, *chain = (x509.load_der_x509_certificate(one) for one in (der, *intermediates))
        _read_through(certificate)
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise CertificateRefused("The client certificate cannot be read.") from error
    return PresentedCertificate(der, certificate, tuple(chain))


def _read_through(certificate: x509.Certificate) -> None:
    """Touch what is looked at later: the library reads a certificate only as far as it is asked to."""
    _ = certificate.subject, certificate.extensions, certificate.public_key()


def _alternatives(
    certificate: x509.Certificate, kind: type[x509.DNSName] | type[x509.UniformResourceIdentifier]
) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(kind)


# --- which certificate a request carries ---------------------------------------------------------------------------


class Headers(Protocol):
    """The headers of a request, every line of them."""

    def getall(self, key: str, default: list[str]) -> list[str]:
        """Return the values of all lines with this name, in any case."""
        ...


@dataclass(frozen=True, slots=True)
class Connection:
    """What a request came over.

    `peer` is the address at the other end of TCP ("" where there is none), `certificate` (DER) the one that
    the peer showed in our own TLS handshake, None when it showed none.
    """

    peer: str
    certificate: bytes | None


class CertificateReader:
    """Finds the client's certificate. Who is no configured proxy may write what it likes into the headers."""

    def __init__(self, proxies: Iterable[Network]) -> None:
        self._proxies = tuple(proxies)

    def presented(self, connection: Connection, headers: Headers) -> PresentedCertificate | None:
        """Return the client's certificate, None when it showed none. Raises CertificateRefused.

        Behind a proxy the certificate of the connection is the proxy's own and proves no client.
        """
        stated = headers.getall(HEADER, [])
        if self._is_proxy(connection.peer):
            return _from_headers(stated, headers.getall(CHAIN_HEADER, [])) if stated else None
        if stated:
            log.warning("client certificate header ignored: the peer is no configured proxy", peer=connection.peer)
        return None if connection.certificate is None else read_certificate(connection.certificate)

    def _is_proxy(self, peer: str) -> bool:
        address = _address(peer) if self._proxies else None
        return address is not None and any(address in network for network in self._proxies)


def _address(peer: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _from_headers(stated: Sequence[str], chain: Sequence[str]) -> PresentedCertificate:
    """Read the headers of RFC 9440 §2. Two lines mean that the proxy let one of the client's own pass."""
    if len(stated) != 1:
        raise CertificateRefused(f"The header {HEADER} stands more than once.")
    further = [part for line in chain for part in line.split(",") if part.strip()]
    if len(further) > MOST_INTERMEDIATES:
        raise CertificateRefused(f"The header {CHAIN_HEADER} holds too many certificates.")
    return read_certificate(_octets(stated[0]), [_octets(part) for part in further])


def _octets(item: str) -> bytes:
    found = _BYTES.fullmatch(item.strip(" \t")) if len(item) <= LONGEST * 4 // 3 + 4 else None
    if found is None or len(found[1]) % 4:
        raise CertificateRefused("A header with a client certificate must be a byte sequence (RFC 9440).")
    return base64.b64decode(found[1])


# --- what a certificate proves -------------------------------------------------------------------------------------


class Authorities:
    """The authorities (证书颁发机构) that vouch for names in client certificates. None at first: then none does.

    May be replaced while the gateway runs.
    """

    def __init__(self, certificates: Sequence[x509.Certificate] = ()) -> None:
        self._store: Store | None
        self.replace(certificates)

    def replace(self, certificates: Sequence[x509.Certificate]) -> None:
        """Trust these from now on, and no others."""
        self._store = Store(list(certificates)) if certificates else None

    def check_issued(self, presented: PresentedCertificate, now: datetime) -> None:
        """Check that one of them issued the certificate, directly or by a chain that came with it (RFC 5280 §6).

        Raises CertificateRefused.
        """
        if self._store is None:
            raise CertificateRefused("No authority is configured here that vouches for client certificates.")
        builder = PolicyBuilder().store(self._store).time(now).max_chain_depth(MOST_INTERMEDIATES)
        verifier = builder.extension_policies(ca_policy=_ISSUERS, ee_policy=_CLIENTS).build_client_verifier()
        try:
            verifier.verify(presented.certificate, list(presented.intermediates))
        except (VerificationError, ValueError) as error:
            text = "The client certificate is out of date, or none of the authorities configured here vouches for it."
            raise CertificateRefused(text, detail=str(error)[:300]) from error


def _for_clients(
    _policy: verification.Policy, _certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None
) -> None:
    """Refuse a certificate that its issuer meant for something else (RFC 5280 §4.2.1.12)."""
    meant = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    if usage is not None and not any(purpose in usage for purpose in meant):
        raise ValueError("the certificate is not for clients")


def _for_issuing(_policy: verification.Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("the issuer may not issue")


# The WebPKI profile, which is the default, refuses most certificates of authorities' own CAs for what they leave out.
_CLIENTS = ExtensionPolicy.permit_all().may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _for_clients)
_ISSUERS = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _for_issuing)
)


def read_subject(text: str) -> x509.Name:
    """Read a distinguished name as RFC 4514 writes it. Raises ValueError with a text that helps."""
    try:
        name = x509.Name.from_rfc4514_string(text, attr_name_overrides=_ATTRIBUTES)
    except (ValueError, KeyError) as error:
        raise ValueError(_NO_SUBJECT) from error
    if not name.rdns:  # a certificate without a subject bears its name elsewhere
        raise ValueError(_NO_SUBJECT)
    return name


@dataclass(frozen=True, slots=True)
class ExpectedName:
    """The one name by which a client is known to its authority (RFC 8705 §2.1.2): exactly one of these is given."""

    subject_dn: str | None = None
    san_dns: str | None = None
    san_uri: str | None = None

    def is_of(self, presented: PresentedCertificate) -> bool:
        """Say whether the certificate bears the name. Subjects are compared by structure, not as texts.

        Nothing given is borne by nobody. Wildcards mean nothing here: a name is compared as it stands.
        """
        if self.subject_dn is not None:
            with suppress(ValueError):  # registrations are checked when they are read
                return read_subject(self.subject_dn) == presented.subject
            return False
        if self.san_dns is not None:
            return self.san_dns.lower() in presented.dns_names
        return self.san_uri is not None and self.san_uri in presented.uris


def check_named(
    presented: PresentedCertificate, expected: ExpectedName, authorities: Authorities, now: datetime
) -> None:
    """Check the proof of `tls_client_auth` (RFC 8705 §2.1): issued by an authority of ours, to this client.

    Raises CertificateRefused.
    """
    authorities.check_issued(presented, now)
    if not expected.is_of(presented):
        raise CertificateRefused("The client certificate bears another name than the one registered for this client.")


def check_registered(presented: PresentedCertificate, keys: KeySet | None, now: datetime) -> None:
    """Check the proof of `self_signed_tls_client_auth` (RFC 8705 §2.2): its key is registered, and it is in date.

    Who signed such a certificate says nothing; that the peer holds the key was proved by the handshake.
    Raises CertificateRefused.
    """
    certificate = presented.certificate
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise CertificateRefused("The client certificate is out of date.")
    shown = certificate.public_key()
    registered = [key.public_key for key in (keys.keys if keys else ()) if not isinstance(key, OctKey)]
    if not any(type(shown) is type(key) and shown == key for key in registered):
        raise CertificateRefused("The key of the client certificate is not registered for this client.")
