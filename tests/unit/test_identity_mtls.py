"""Client certificates: which one a request carries, and what it must be to prove a client (RFC 8705, RFC 9440)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, Key, KeySet, OctKey, OKPKey, RSAKey
from multidict import CIMultiDict
from structlog.testing import capture_logs

from gateway.identity.mtls import (
    Authorities,
    CertificateReader,
    CertificateRefused,
    Connection,
    ExpectedName,
    PresentedCertificate,
    check_named,
    check_registered,
    read_certificate,
    read_subject,
)
from gateway.web.problems import status_of
from tests.support.certificates import NOW, Holder, certificate

DN = "CN=portal,O=Agency,C=CN"
ROOT = certificate("CN=Root", ca=True)
MIDDLE = certificate("CN=Middle", ROOT, ca=True)
PORTAL = certificate(
    DN, ROOT, names=[x509.DNSName("Portal.test"), x509.UniformResourceIdentifier("https://portal.test")]
)
OUR_OWN = Authorities([ROOT.certificate])
PORTAL_BY_NAME = ExpectedName(subject_dn=DN)
READER = CertificateReader([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])
PROXY, STRANGER = "10.1.2.3", "192.0.2.7"


def shown(holder: Holder, *intermediates: Holder) -> PresentedCertificate:
    return read_certificate(holder.der, [other.der for other in intermediates])


def item(holder: Holder) -> str:
    return f":{base64.b64encode(holder.der).decode()}:"


def presented(peer: str, *lines: tuple[str, str], own: Holder | None = None) -> PresentedCertificate | None:
    return READER.presented(Connection(peer, own.der if own else None), CIMultiDict(lines))


# --- which certificate a request carries ---------------------------------------------------------------------------


def test_the_certificate_of_the_connection_is_the_clients() -> None:
    found = presented(STRANGER, own=PORTAL)
    assert found is not None
    digest = hashlib.sha256(PORTAL.der).digest()
    assert base64.urlsafe_b64decode(found.thumbprint + "=") == digest
    assert "=" not in found.thumbprint
    assert (found.subject, found.dns_names, found.uris) == (
        PORTAL.certificate.subject, ("portal.test",), ("https://portal.test",),
    )  # fmt: skip


def test_no_certificate_is_none() -> None:
    assert presented(STRANGER) is None
    assert presented(PROXY) is None


@pytest.mark.parametrize("peer", [PROXY, "::ffff:10.1.2.3", "2001:db8::7"])
def test_a_configured_proxy_says_which_certificate_it_was_shown(peer: str) -> None:
    found = presented(peer, ("client-cert", item(PORTAL)), ("Client-Cert-Chain", f"{item(MIDDLE)}, {item(ROOT)}"))
    assert found is not None
    assert found.der == PORTAL.der
    assert found.intermediates == (MIDDLE.certificate, ROOT.certificate)


@pytest.mark.parametrize(
    "peer", [STRANGER, "", "::ffff:192.0.2.7", "11.0.0.1", "2001:db9::1", "10.1.2.3.evil", "fe80::1%eth0"]
)
def test_a_header_from_anybody_else_is_ignored_and_logged(peer: str) -> None:
    """Whoever reaches the listener directly could else be any client. The guard is `_is_proxy` in `presented`."""
    with capture_logs() as lines:
        assert presented(peer, ("Client-Cert", item(PORTAL))) is None
    assert [(line["log_level"], line["peer"]) for line in lines] == [("warning", peer)]


def test_a_header_from_a_stranger_does_not_hide_its_own_certificate() -> None:
    other = certificate("CN=other", ROOT)
    found = presented(STRANGER, ("Client-Cert", item(PORTAL)), own=other)
    assert found is not None
    assert found.der == other.der


def test_a_proxys_own_certificate_proves_no_client() -> None:
    assert presented(PROXY, own=PORTAL) is None
    found = presented(PROXY, ("Client-Cert", item(PORTAL)), own=ROOT)
    assert found is not None
    assert found.der == PORTAL.der


def test_without_configured_proxies_nobody_is_one() -> None:
    reader = CertificateReader([])
    assert reader.presented(Connection(PROXY, None), CIMultiDict({"Client-Cert": item(PORTAL)})) is None


@pytest.mark.parametrize(
    "lines",
    [
        [("Client-Cert", item(PORTAL)), ("Client-Cert", item(PORTAL))],
        [("Client-Cert", f"{item(PORTAL)}, {item(PORTAL)}")],
        [("Client-Cert", "")],
        [("Client-Cert", "::")],
        [("Client-Cert", item(PORTAL)[1:-1])],
        [("Client-Cert", ":QUJD:")],
        [("Client-Cert", ":QUJ:")],
        [("Client-Cert", ":!!!!:")],
        [("Client-Cert", f":{'A' * 30_000}:")],
        [("Client-Cert", item(PORTAL)), ("Client-Cert-Chain", ":QUJD:")],
        [("Client-Cert", item(PORTAL)), ("Client-Cert-Chain", ", ".join([item(MIDDLE)] * 9))],
    ],
    ids=map(str, range(11)),  # what the certificates hold differs with each run
)
def test_a_header_that_is_not_one_certificate_is_refused(lines: Sequence[tuple[str, str]]) -> None:
    """Two lines mean that a client's own header was let through: then neither can be believed."""
    with pytest.raises(CertificateRefused) as refused:
        presented(PROXY, *lines)
    assert (refused.value.error, status_of(refused.value)) == ("invalid_client", 401)


@given(st.binary(max_size=300) | st.integers(0, len(PORTAL.der) - 1).map(lambda n: PORTAL.der[:n]))
def test_what_is_no_certificate_is_refused(octets: bytes) -> None:
    with pytest.raises(CertificateRefused):
        read_certificate(octets)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # a serial number below zero
@given(st.integers(0, len(PORTAL.der) - 1), st.integers(1, 255))
@example(PORTAL.der.index(b"\xa0\x03\x02\x01\x02") + 4, 1)  # a version that there is not
def test_a_certificate_with_a_flaw_never_proves_anything(place: int, change: int) -> None:
    """Every single byte counts: those that do not break the reading break the signature or the name."""
    flawed = bytearray(PORTAL.der)
    flawed[place] ^= change
    with pytest.raises(CertificateRefused):
        check_named(read_certificate(bytes(flawed)), PORTAL_BY_NAME, OUR_OWN, NOW)


# --- by name: tls_client_auth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expected",
    [
        ExpectedName(subject_dn=DN),
        ExpectedName(subject_dn="cn=portal,o=Agency,c=CN"),
        ExpectedName(subject_dn="CN=\\70ortal,O=Agency,C=CN"),
        ExpectedName(subject_dn="2.5.4.3=portal,2.5.4.10=Agency,2.5.4.6=CN"),
        ExpectedName(san_dns="portal.test"),
        ExpectedName(san_uri="https://portal.test"),
    ],
    ids=str,
)
def test_a_client_is_known_by_its_one_registered_name(expected: ExpectedName) -> None:
    check_named(shown(PORTAL), expected, OUR_OWN, NOW)


@pytest.mark.parametrize(
    "expected",
    [
        ExpectedName(),
        ExpectedName(subject_dn=""),
        ExpectedName(subject_dn="no name"),
        ExpectedName(subject_dn="CN=portal"),
        ExpectedName(subject_dn="CN=portal,O=Agency"),
        ExpectedName(subject_dn="C=CN,O=Agency,CN=portal"),
        ExpectedName(subject_dn="CN=portal2,O=Agency,C=CN"),
        ExpectedName(subject_dn="CN=portal,O=Agency,C=CN,C=CN"),
        ExpectedName(subject_dn="CN=portal\\,O=Agency\\,C=CN"),
        ExpectedName(subject_dn="OU=portal,O=Agency,C=CN"),
        ExpectedName(san_dns="other.test"),
        ExpectedName(san_dns="test"),
        ExpectedName(san_dns=""),
        ExpectedName(san_uri="https://portal.test/"),
        ExpectedName(san_uri=""),
    ],
    ids=str,
)
def test_another_name_is_another_client(expected: ExpectedName) -> None:
    """The guard is `is_of`; a name that nobody registered is borne by nobody."""
    with pytest.raises(CertificateRefused, match="another name"):
        check_named(shown(PORTAL), expected, OUR_OWN, NOW)


def test_the_parts_of_one_step_of_a_name_have_no_order() -> None:
    """RFC 4514 §2.2: what stands between plus signs is a set."""
    holder = certificate("CN=portal+OU=one,C=CN", ROOT)
    check_named(shown(holder), ExpectedName(subject_dn="OU=one+CN=portal,C=CN"), OUR_OWN, NOW)


def test_a_wildcard_in_a_certificate_stands_for_nobody() -> None:
    holder = certificate(DN, ROOT, names=[x509.DNSName("*.test")])
    with pytest.raises(CertificateRefused, match="another name"):
        check_named(shown(holder), ExpectedName(san_dns="portal.test"), OUR_OWN, NOW)


def test_a_certificate_without_a_subject_is_not_everybodys() -> None:
    nameless = certificate("", ROOT, names=[x509.DNSName("portal.test")])
    with pytest.raises(CertificateRefused):
        check_named(shown(nameless), ExpectedName(subject_dn=""), OUR_OWN, NOW)


def test_a_chain_may_come_along_or_its_issuer_be_named() -> None:
    below = certificate(DN, MIDDLE)
    check_named(shown(below, MIDDLE), PORTAL_BY_NAME, OUR_OWN, NOW)
    check_named(shown(below), PORTAL_BY_NAME, Authorities([MIDDLE.certificate]), NOW)
    with pytest.raises(CertificateRefused):
        check_named(shown(below), PORTAL_BY_NAME, OUR_OWN, NOW)


def by_a_client() -> PresentedCertificate:
    """A client signs a certificate for another client's name with its own key."""
    client = certificate("CN=client", ROOT)
    return shown(certificate(DN, client), client)


def by_one_of_unknown_standing() -> PresentedCertificate:
    client = certificate("CN=client", ROOT, ca=None)
    return shown(certificate(DN, client), client)


def by_one_that_may_only_sign() -> PresentedCertificate:
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    middle = certificate("CN=Middle", ROOT, ca=True, extensions=[usage])
    return shown(certificate(DN, middle), middle)


def by_a_namesake() -> PresentedCertificate:
    """Another authority with the name of ours, which comes along as if it were known."""
    namesake = certificate("CN=Root", ca=True)
    return shown(certificate(DN, namesake), namesake)


def for_servers() -> PresentedCertificate:
    return shown(certificate(DN, ROOT, extensions=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])]))


def with_an_unknown_demand() -> PresentedCertificate:
    demand = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    return shown(certificate(DN, ROOT, extensions=[demand], critical=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda: shown(certificate(DN)),
        lambda: shown(certificate(DN, ca=True)),
        by_a_client,
        by_one_of_unknown_standing,
        by_one_that_may_only_sign,
        by_a_namesake,
        for_servers,
        with_an_unknown_demand,
        lambda: shown(certificate(DN, ROOT, ends=NOW - timedelta(seconds=1))),
        lambda: shown(certificate(DN, ROOT, begins=NOW + timedelta(seconds=1))),
    ],
    ids=[
        "self-signed", "its own authority", "by a client", "by one of unknown standing", "by one that may only sign",
        "by a namesake", "for servers", "with an unknown demand", "expired", "of the future",
    ],
)  # fmt: skip
def test_a_name_that_no_authority_of_ours_vouches_for_is_worth_nothing(make: object) -> None:
    """The handshake lets more in than proves a client by its name: `check_issued` decides."""
    assert callable(make)
    with pytest.raises(CertificateRefused, match="vouches"):
        check_named(make(), PORTAL_BY_NAME, OUR_OWN, NOW)


def test_an_authority_that_is_out_of_date_vouches_for_nobody() -> None:
    old = certificate("CN=Old", ca=True, ends=NOW - timedelta(seconds=1))
    with pytest.raises(CertificateRefused, match="out of date"):
        check_named(shown(certificate(DN, old)), PORTAL_BY_NAME, Authorities([old.certificate]), NOW)


def test_a_certificate_for_clients_passes() -> None:
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    check_named(shown(certificate(DN, ROOT, extensions=[usage])), PORTAL_BY_NAME, OUR_OWN, NOW)


def test_without_authorities_no_name_counts() -> None:
    with pytest.raises(CertificateRefused, match="No authority is configured"):
        check_named(shown(PORTAL), PORTAL_BY_NAME, Authorities(), NOW)


def test_authorities_can_be_exchanged_while_the_gateway_runs() -> None:
    authorities = Authorities([ROOT.certificate])
    authorities.replace([MIDDLE.certificate])
    with pytest.raises(CertificateRefused, match="vouches"):
        check_named(shown(PORTAL), PORTAL_BY_NAME, authorities, NOW)


@pytest.mark.parametrize("text", ["", "portal", "CN=", "CN=a,,C=CN", "XX=a", "CN=a, O=b"])
def test_a_name_that_cannot_be_read_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 4514"):
        read_subject(text)


@pytest.mark.parametrize("text", ["serialNumber=11440100696927671X,CN=a", "emailAddress=a@b.test", "CN=广州市政务服务"])
def test_names_of_authorities_own_kind_can_be_registered(text: str) -> None:
    assert read_subject(text).rdns


# --- by key: self_signed_tls_client_auth ---------------------------------------------------------------------------

ITS_OWN = certificate(DN)


def test_a_client_is_known_by_its_registered_key() -> None:
    check_registered(shown(ITS_OWN), ITS_OWN.registered(), NOW)


def test_a_certificate_made_anew_for_the_same_key_passes() -> None:
    check_registered(shown(certificate("CN=renewed", key=ITS_OWN.key)), ITS_OWN.registered(), NOW)


def test_the_registered_key_may_be_one_of_several_and_of_any_kind() -> None:
    others: list[Key] = [ECKey.generate_key("P-256"), RSAKey.generate_key(2048), OKPKey.generate_key("Ed25519")]
    check_registered(shown(ITS_OWN), KeySet([*others, *ITS_OWN.registered().keys]), NOW)
    with pytest.raises(CertificateRefused, match="not registered"):
        check_registered(shown(ITS_OWN), KeySet([*others, OctKey.generate_key()]), NOW)


@pytest.mark.parametrize("keys", [None, PORTAL.registered()], ids=["none", "another's"])
def test_a_key_that_is_not_registered_proves_nothing(keys: KeySet | None) -> None:
    """The name in a self-signed certificate is whatever its maker likes. The guard is the comparison of keys."""
    with pytest.raises(CertificateRefused, match="not registered"):
        check_registered(shown(ITS_OWN), keys, NOW)


@pytest.mark.parametrize("days", [-2, 31])
def test_a_certificate_out_of_date_proves_nothing(days: int) -> None:
    with pytest.raises(CertificateRefused, match="out of date"):
        check_registered(shown(ITS_OWN), ITS_OWN.registered(), NOW + timedelta(days=days))
