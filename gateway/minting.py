"""Development keys, minted into a folder that is never committed.

Owns: the gateway's own keys, a throw-away CA, and the key pairs that the sandbox hands to both sides. Production keys
come from the operator; certs/README.md says what goes where.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from joserfc.jwk import ECKey

from gateway.crypto import sm2, sm_keys

_VALID = timedelta(days=365)


Make = Callable[[], bytes]
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Mint:
    """Writes keys into one folder; what is there already stays, so that minting twice changes nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def random(self, name: str, size: int) -> bytes:
        """Mint random bytes."""
        return self._once(name, lambda: secrets.token_bytes(size))

    def text(self, name: str) -> bytes:
        """Mint a shared secret of 43 URL-safe characters."""
        return self._once(name, lambda: secrets.token_urlsafe(32).encode())

    def hex(self, name: str, size: int) -> bytes:
        """Mint a shared secret of so many random bytes, in hexadecimal digits."""
        return self._once(name, lambda: secrets.token_hex(size).encode())

    def ec_key(self, name: str) -> bytes:
        """Mint an EC P-256 private key (PEM)."""
        return self._once(name, lambda: _private_pem(ec.generate_private_key(ec.SECP256R1())))

    def rsa_pair(self, name: str) -> None:
        """Mint an RSA-2048 key pair: `<name>.key.pem`, `<name>.pub.pem`."""
        pem = self._once(f"{name}.key.pem", lambda: _private_pem(rsa.generate_private_key(65537, 2048)))
        key = _load(pem)
        encoded = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self._once(f"{name}.pub.pem", lambda: encoded)

    def ec_pair(self, name: str) -> None:
        """Mint a key pair on P-256: `<name>.key.pem`, `<name>.pub.pem`."""
        self._pair(name, ec.generate_private_key(ec.SECP256R1()))

    def ed25519_pair(self, name: str) -> None:
        """Mint an Ed25519 key pair: `<name>.key.pem`, `<name>.pub.pem`."""
        self._pair(name, ed25519.Ed25519PrivateKey.generate())

    def _pair(self, name: str, new: Key | ed25519.Ed25519PrivateKey) -> None:
        key = load_pem_private_key(self._once(f"{name}.key.pem", lambda: _private_pem(new)), None)
        encoded = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self._once(f"{name}.pub.pem", lambda: encoded)

    def sm2_pair(self, name: str) -> None:
        """Mint an SM2 key pair: `<name>.key.pem`, `<name>.pub.pem`."""
        key = sm_keys.read_private(self._once(f"{name}.key.pem", lambda: sm_keys.private_pem(sm2.generate())))
        self._once(f"{name}.pub.pem", lambda: sm_keys.public_pem(key.public))

    def sm2_pins(self, name: str, key_names: Sequence[str]) -> None:
        """Mint `<name>.pins.toml`, in which the SM2 pairs of these names are pinned, each under its name.

        `pair@expired` is pinned with a term that is over, `pair@future` with one that has not begun.
        """
        self._once(f"{name}.pins.toml", lambda: "\n".join(map(self._sm2_pin, key_names)).encode())

    def _sm2_pin(self, key_name: str) -> str:
        name, _, shift = key_name.partition("@")
        begins = datetime.now(UTC) - timedelta(days=1) + {"": 0, "expired": -2, "future": 2}[shift] * _VALID
        public = (self.folder / f"{name}.pub.pem").read_text(encoding="ascii")
        term = f"not_before = {begins.isoformat()}\nnot_after = {(begins + _VALID).isoformat()}"
        return f"[[key]]\nid = \"{name}\"\n{term}\npublic_key = '''\n{public}'''\n"

    def client_keys(self, client: str) -> None:
        """Mint an agency's key pair: `<client>.pem` for the agency, `<client>.jwks.json` for the gateway."""
        key = ECKey.import_key(self.ec_key(f"{client}.pem"))
        key.ensure_kid()
        public = {**key.as_dict(private=False), "alg": "ES256", "use": "sig"}
        self._once(f"{client}.jwks.json", lambda: orjson.dumps({"keys": [public]}))

    def certificate(self, name: str, subject: str, *names: str) -> None:
        """Mint an EC key and a certificate for it, signed by this folder's CA: `<name>.key.pem`, `<name>.cert.pem`.

        `names` are further names of the subject: IP addresses, URIs or DNS names.
        """
        ca_key = _load(self.ec_key("ca.key.pem"))
        ca = self._once("ca.cert.pem", lambda: _certificate("Pearl development CA", ca_key, None, ca=True))
        key = _load(self.ec_key(f"{name}.key.pem"))
        issuer = (x509.load_pem_x509_certificate(ca), ca_key)
        self._once(f"{name}.cert.pem", lambda: _certificate(subject, key, issuer, names))

    def self_signed(self, name: str, subject: str) -> None:
        """Mint an EC key and a certificate that it signs itself, which vouches for nothing else."""
        key = _load(self.ec_key(f"{name}.key.pem"))
        self._once(f"{name}.cert.pem", lambda: _certificate(subject, key, None))

    def rsa_certificate(self, name: str, subject: str) -> None:
        """Mint an RSA-2048 key and a certificate that it signed itself: `<name>.key.pem`, `<name>.cert.pem`."""
        pem = self._once(f"{name}.key.pem", lambda: _private_pem(rsa.generate_private_key(65537, 2048)))
        self._once(f"{name}.cert.pem", lambda: _certificate(subject, _load(pem), None))

    def _once(self, name: str, make: Make) -> bytes:
        path = self.folder / name
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(make())
        return path.read_bytes()


def signing_key(algorithm: str) -> bytes:
    """Return a new private key (PEM) that signs with this algorithm of the gateway's."""
    if algorithm == "PS256":
        return _private_pem(rsa.generate_private_key(65537, 3072))
    return _private_pem(
        ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else ec.generate_private_key(ec.SECP256R1())
    )


def _private_pem(key: Key | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load(pem: bytes) -> Key:
    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError("minted keys are EC or RSA")
    return key


def _certificate(
    subject: str, key: Key, issuer: tuple[x509.Certificate, Key] | None, names: Sequence[str] = (), *, ca: bool = False
) -> bytes:
    """Return a certificate (PEM): signed by the issuer, or by itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.now(UTC)  # minting is a command at a terminal: its time is the wall clock's
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer[0].subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _general(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    with suppress(ValueError):
        return x509.IPAddress(ip_address(name))
    return x509.DNSName(name)
