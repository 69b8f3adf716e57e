"""TLS that ends at the gateway: real handshakes over loopback, with client certificates and without.

The listener is the one of `gateway.serve`; behind it stands a page that says which certificate a request carried.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.background import reloading
from gateway.config import Config
from gateway.errors import StartRefused
from gateway.identity.mtls import (
    Authorities,
    CertificateReader,
    CertificateRefused,
    ExpectedName,
    PresentedCertificate,
    check_named,
    check_registered,
    read_certificate,
)
from gateway.minting import Mint
from gateway.serve import listening
from gateway.tls import PublicTls, read_tls
from gateway.web.peer import connection_of
from tests.support.certificates import Holder, certificate

PORTAL = ExpectedName(subject_dn="CN=portal")


def now() -> datetime:
    """Return the present: handshakes know no other, and what is minted begins then."""
    return datetime.now(UTC)


class Site:
    """A listener with TLS, and the files that it was given."""

    def __init__(self, folder: Path, **listen: Any) -> None:
        self.folder = folder
        self.mint = Mint(folder)
        self.mint.certificate("server", "gateway", "127.0.0.1")
        self.mint.certificate("portal", "portal")
        self.mint.self_signed("small", "small office")
        (folder / "pinned.pem").write_bytes((folder / "small.cert.pem").read_bytes())
        chosen = {
            "public_port": 0, "admin_port": 0, "tls_certificate": "server.cert.pem", "tls_key": "server.key.pem",
            "client_ca": "ca.cert.pem", "client_certificates": "pinned.pem", **listen,
        }  # fmt: skip
        keys = {"signing": ["env:X"], "at_rest": ["env:X"], "references": "env:X"}
        base = {"public_url": "https://gateway.test", "keys": keys, "regions": {"guangdong": {}}, "folder": folder}
        self.config = Config.model_validate({**base, "store": {"url": "sqlite:///x", "blobs": "x"}, "listen": chosen})
        self.authorities = Authorities()
        self.expiries: list[float] = []
        self.tls = PublicTls(self.config, read_tls(self.config), self.authorities, self.expiries.append)
        self.reader = CertificateReader(self.config.listen.proxies)
        self.url = ""
        self.authority = self.holder("ca")

    def holder(self, name: str) -> Holder:
        key: Any = load_pem_private_key((self.folder / f"{name}.key.pem").read_bytes(), None)
        return Holder(x509.load_pem_x509_certificate((self.folder / f"{name}.cert.pem").read_bytes()), key)

    async def _who(self, request: web.Request) -> web.Response:
        found = self.reader.presented(connection_of(request), request.headers)
        return web.Response(body=b"" if found is None else found.der)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Site]:
        """Open the listener as `pearl serve` does."""
        public = web.Application()
        public.router.add_get("/", self._who)
        gateway: Any = SimpleNamespace(public=public, admin=web.Application(), tls=self.tls)
        async with listening(self.config, gateway) as bound:
            self.url = f"https://127.0.0.1:{bound.public_port}/"
            yield self

    async def ask(self, context: ssl.SSLContext, **headers: str) -> PresentedCertificate | None:
        """Ask over a connection of its own; return the certificate that the gateway saw."""
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session, session.get(self.url, headers=headers) as got:
            body = await got.read()
        return read_certificate(body) if body else None

    def context(self, holder: Holder | None = None) -> ssl.SSLContext:
        """Return a client's TLS, which trusts the authority of the folder and shows the certificate."""
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        if holder is not None:
            path = self.folder / "shown.pem"
            path.write_bytes(holder.key_pem + holder.pem)
            context.load_cert_chain(path)
        return context


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# --- certificates --------------------------------------------------------------------------------------------------


async def test_a_certificate_of_our_authority_proves_a_client_by_its_name(site: Site) -> None:
    async with site.opened():
        shown = await site.ask(site.context(site.holder("portal")))
    assert shown is not None
    assert shown.thumbprint == read_certificate(site.holder("portal").der).thumbprint
    check_named(shown, PORTAL, site.authorities, now())


async def test_a_browser_without_a_certificate_is_let_in_as_well(site: Site) -> None:
    """People sign on at the same listener."""
    async with site.opened():
        assert await site.ask(site.context()) is None


async def test_a_self_signed_certificate_that_is_known_proves_a_client_by_its_key_alone(site: Site) -> None:
    small = site.holder("small")
    async with site.opened():
        shown = await site.ask(site.context(small))
    assert shown is not None
    check_registered(shown, small.registered(), now())
    with pytest.raises(CertificateRefused, match="vouches"):
        check_named(shown, ExpectedName(subject_dn="CN=small office"), site.authorities, now())


async def test_a_known_self_signed_certificate_cannot_vouch_for_another_client(site: Site) -> None:
    """`openssl req -x509` makes certificates that may issue: its owner signs one with the portal's name.

    The handshake lets it in, for it ends in a certificate that is known. The guard is `Authorities.check_issued`.
    """
    greedy = certificate(
        "CN=small office", ca=True, begins=now(), ends=site.holder("portal").certificate.not_valid_after_utc
    )
    (site.folder / "pinned.pem").write_bytes(greedy.pem)
    await site.tls.reload()
    forged = certificate("CN=portal", greedy, begins=now(), ends=greedy.certificate.not_valid_after_utc)
    async with site.opened():
        shown = await site.ask(site.context(forged))
    assert shown is not None
    with pytest.raises(CertificateRefused, match="vouches"):
        check_named(shown, PORTAL, site.authorities, now())


async def test_a_certificate_that_nobody_knows_ends_the_handshake(site: Site) -> None:
    later = site.holder("portal").certificate.not_valid_after_utc
    async with site.opened():
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await site.ask(site.context(certificate("CN=portal", begins=now(), ends=later)))


async def test_a_header_over_loopback_counts_only_when_the_peer_is_a_configured_proxy(tmp_path: Path) -> None:
    trusting, plain = Site(tmp_path / "one", proxies=["127.0.0.0/8"]), Site(tmp_path / "two")
    portal = trusting.holder("portal")
    header = {"Client-Cert": f":{x509_base64(portal)}:"}
    async with trusting.opened(), plain.opened():
        stated = await trusting.ask(trusting.context(), **header)
        assert await plain.ask(plain.context(), **header) is None
    assert stated is not None
    check_named(stated, PORTAL, trusting.authorities, now())


def x509_base64(holder: Holder) -> str:
    return "".join(holder.pem.decode().splitlines()[1:-1])


async def test_an_authority_below_a_root_may_stand_alone(site: Site) -> None:
    """A deployment trusts one issuing authority, not all that its root may ever issue (PARTIAL_CHAIN)."""
    later = site.authority.certificate.not_valid_after_utc
    issuing = certificate("CN=Issuing", site.authority, ca=True, begins=now(), ends=later)
    (site.folder / "ca.cert.pem").write_bytes(issuing.pem)
    await site.tls.reload()
    async with site.opened():
        shown = await site.ask(site.context(certificate("CN=portal", issuing, begins=now(), ends=later)))
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await site.ask(site.context(site.holder("portal")))
    assert shown is not None
    check_named(shown, PORTAL, site.authorities, now())


# --- protocol ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ciphers", ["AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"])
async def test_a_cipher_suite_beyond_the_four_of_fapi_is_refused(site: Site, ciphers: str) -> None:
    context = site.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    async with site.opened():
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await site.ask(context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_versions_of_today_bring_the_certificate(site: Site, version: ssl.TLSVersion) -> None:
    context = site.context(site.holder("portal"))
    context.minimum_version = context.maximum_version = version
    async with site.opened():
        assert await site.ask(context) is not None


def test_nothing_older_than_1_2_is_spoken(site: Site) -> None:
    """Today's OpenSSL speaks no older version itself, so the setting is what can be looked at."""
    assert site.tls.context is not None
    assert site.tls.context.minimum_version == ssl.TLSVersion.TLSv1_2


async def test_no_session_is_resumed_with_the_certificate_of_an_earlier_handshake(site: Site) -> None:
    """What was trusted then may not be trusted now. The guard is OP_NO_TICKET."""
    context = site.context(site.holder("portal"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with site.opened():
        connection = await connected(site, context)
    assert connection.session is not None
    assert not connection.session.has_ticket


# --- new files -----------------------------------------------------------------------------------------------------


async def connected(site: Site, context: ssl.SSLContext) -> ssl.SSLObject:
    """Shake hands, and return what is known of the connection."""
    port = int(site.url.rsplit(":", 1)[1].strip("/"))
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
    writer.close()
    with suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()
    return connection


async def server_of(site: Site) -> x509.Certificate:
    """Return the certificate that the gateway shows."""
    der = (await connected(site, site.context())).getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def renew(site: Site, name: str = "server") -> None:
    """Put a new pair in the place of the old one."""
    for kind in ("key", "cert"):
        (site.folder / f"{name}.{kind}.pem").unlink()
    site.mint.certificate(name, "renewed", "127.0.0.1")


async def test_a_renewed_certificate_is_shown_after_a_signal_and_not_before(site: Site) -> None:
    async with site.opened():
        before = await server_of(site)
        renew(site)
        assert await server_of(site) == before
        asked, done = asyncio.Event(), asyncio.Event()

        async def mappings(_by: object) -> None:
            done.set()

        versions: Any = SimpleNamespace(reload=mappings)
        async with reloading(versions, site.tls.reload, asked):
            asked.set()
            await asyncio.wait_for(done.wait(), 10)
        after = await server_of(site)
    assert after == site.holder("server").certificate
    assert after != before
    assert site.expiries == [one.not_valid_after_utc.timestamp() for one in (before, after)]


@pytest.mark.parametrize("broken", ["server.cert.pem", "server.key.pem", "ca.cert.pem", "pinned.pem"])
async def test_while_one_file_is_broken_all_the_former_stay(site: Site, broken: str) -> None:
    """The guard is that `reload` takes the result of `read_tls` as a whole."""
    portal = site.holder("portal")
    async with site.opened():
        before = await server_of(site)
        renew(site)
        (site.folder / broken).write_text("-----BEGIN NOTHING-----")
        await site.tls.reload()
        assert await server_of(site) == before
        shown = await site.ask(site.context(portal))
    assert shown is not None
    check_named(shown, PORTAL, site.authorities, now())


async def test_an_authority_that_was_taken_out_vouches_no_more_and_a_new_one_does(site: Site) -> None:
    portal = site.holder("portal")
    later = portal.certificate.not_valid_after_utc
    other = certificate("CN=Other authority", ca=True, begins=now(), ends=later)
    moved = certificate("CN=portal", other, begins=now(), ends=later)
    async with site.opened():
        (site.folder / "ca.cert.pem").write_bytes(other.pem)
        await site.tls.reload()
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await site.ask(site.context(portal))
        shown = await site.ask(site.context(moved))
    assert shown is not None
    check_named(shown, PORTAL, site.authorities, now())


# --- a start that is refused ---------------------------------------------------------------------------------------


def refused(site: Site) -> dict[str, str]:
    with pytest.raises(StartRefused) as refusal:
        read_tls(site.config)
    return {problem.field: problem.reason for problem in refusal.value.problems}


def test_everything_wrong_with_the_files_is_heard_in_one_go(site: Site) -> None:
    (site.folder / "server.cert.pem").unlink()
    (site.folder / "ca.cert.pem").write_text("nothing")
    (site.folder / "pinned.pem").unlink()
    found = refused(site)
    assert set(found) == {"listen.tls_certificate", "listen.client_ca", "listen.client_certificates"}
    assert "cannot be read" in found["listen.tls_certificate"]
    assert "does not hold certificates" in found["listen.client_ca"]


def test_a_key_that_is_not_the_certificates_is_refused(site: Site) -> None:
    (site.folder / "server.key.pem").write_bytes(site.holder("portal").key_pem)
    assert "no certificate (PEM) and its private key" in refused(site)["listen.tls_certificate"]


@pytest.mark.parametrize("ca", [False, None])
def test_a_clients_certificate_among_the_authorities_is_refused(site: Site, ca: bool | None) -> None:
    """It would be an authority by mistake. The guard is `_check_authorities`."""
    (site.folder / "ca.cert.pem").write_bytes(site.authority.pem + certificate("CN=portal", ca=ca).pem)
    assert "CN=portal is no authority" in refused(site)["listen.client_ca"]
