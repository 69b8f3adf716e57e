"""The gateway's own signing keys: a ring of several, published as a JWK set.

Owns: key ids (RFC 7638 thumbprints), which key signs for which algorithm, and putting a JWS together (RFC 7515 §7.1).
Leaves to a `SigningKey` the signature itself, so that the private half may live elsewhere, in an HSM or a signature
server; to `gateway.keys` which keys the configuration names; to `gateway.identity` what is signed.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from gateway.errors import Unavailable

PublicKey = ECKey | OKPKey | RSAKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey

DEFAULT = "ES256"
"""For access tokens, and for clients that ask for nothing else."""
ALGORITHMS = ("ES256", "PS256", "EdDSA")
"""FAPI 2 Security Profile §5.4. EdDSA is on Ed25519 alone."""
RSA_BITS = 2048


class Signer(Protocol):
    """Signs claims as a compact JWT."""

    algorithm: str
    """What signs when nothing else is asked for."""
    algorithms: tuple[str, ...]
    """What can be asked for."""

    def sign(self, claims: Mapping[str, Any], *, typ: str, algorithm: str | None = None) -> str:
        """Return a compact JWS with `typ` in its header (RFC 8725 §3.11). Raises Unavailable when no key can do it."""
        ...

    def public_jwks(self) -> dict[str, Any]:
        """Return the JWK set that verifies what was signed and what soon will be: old keys and upcoming ones."""
        ...

    def key_set(self) -> KeySet:
        """Return the same keys in joserfc's form, for our own verification."""
        ...


class SigningKey(Protocol):
    """One key pair. Its private half may be anywhere; an HSM or a signature server stands behind `sign`."""

    algorithm: str
    public: PublicKey
    """The public half, with its RFC 7638 thumbprint as `kid`."""

    def sign(self, octets: bytes) -> bytes:
        """Return the signature in the form of JWS (RFC 7518 §3, RFC 8037 §3.1)."""
        ...


_KINDS: Mapping[str, type[PublicKey]] = {"ES256": ECKey, "PS256": RSAKey, "EdDSA": OKPKey}


class PemKey:
    """A key pair that this process holds. Its kind decides the algorithm, so that no key serves two."""

    def __init__(self, pem: bytes) -> None:
        """Raises ValueError for anything but EC P-256, RSA of 2048 bits or more, or Ed25519, without a password."""
        self._private = _load(pem)
        self.algorithm = _algorithm_of(self._private)
        public = self._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.public: PublicKey = _KINDS[self.algorithm].import_key(public)
        self.public.ensure_kid()

    def sign(self, octets: bytes) -> bytes:
        """Return the signature."""
        if isinstance(self._private, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self._private.sign(octets, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32) + s.to_bytes(32)
        if isinstance(self._private, rsa.RSAPrivateKey):
            pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)
            return self._private.sign(octets, pss, hashes.SHA256())
        return self._private.sign(octets)


def _load(pem: bytes) -> PrivateKey:
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("is no private key (PEM) without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey):
        raise ValueError("must be an EC key on P-256, an RSA key, or an Ed25519 key")  # noqa: TRY004 - as all others
    return key


def _algorithm_of(key: PrivateKey) -> str:
    if isinstance(key, Ed25519PrivateKey):
        return "EdDSA"
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < RSA_BITS:
            raise ValueError(f"must have at least {RSA_BITS} bits")
        return "PS256"
    if key.curve.name != "secp256r1":
        raise ValueError("must be an EC key on P-256")
    return "ES256"


class Role(StrEnum):
    """What a key of the ring does. All of them are published."""

    SIGNS = "signs"
    PUBLISHED = "published"
    """Signs no more; what it signed still verifies."""
    UPCOMING = "upcoming"
    """Does not sign yet; whoever caches the key set learns of it in time."""


class KeyRing:
    """Signs with the first key of each algorithm; all others are published, those to come included."""

    algorithm = DEFAULT

    def __init__(self, signing: Sequence[SigningKey], upcoming: Sequence[SigningKey] = ()) -> None:
        """Raises ValueError when a key stands twice, or none signs with ES256, which every client understands."""
        self._current: dict[str, SigningKey] = {}
        for key in signing:
            self._current.setdefault(key.algorithm, key)
        if DEFAULT not in self._current:
            raise ValueError(f"one signing key must be for {DEFAULT} (EC on P-256)")
        self.algorithms = tuple(name for name in ALGORITHMS if name in self._current)
        self._keys = (*signing, *upcoming)
        self._upcoming = frozenset(_kid(key) for key in upcoming)
        if len({_kid(key) for key in self._keys}) < len(self._keys):
            raise ValueError("a key stands twice")
        self._public = KeySet([key.public for key in self._keys])

    def sign(self, claims: Mapping[str, Any], *, typ: str, algorithm: str | None = None) -> str:
        """Return a compact JWS with `alg`, `kid` and `typ`. Raises Unavailable when no key signs with `algorithm`."""
        key = self._current.get(algorithm or DEFAULT)
        if key is None:
            raise Unavailable("This gateway cannot sign in the way the client needs.", detail=f"no key for {algorithm}")
        header = {"alg": key.algorithm, "kid": _kid(key), "typ": typ}
        said = f"{_segment(orjson.dumps(header))}.{_segment(orjson.dumps(dict(claims)))}"
        return f"{said}.{_segment(key.sign(said.encode()))}"

    def public_jwks(self) -> dict[str, Any]:
        """Return the JWK set with `use` and `alg`, no private member."""
        return {
            "keys": [{**key.public.as_dict(private=False), "use": "sig", "alg": key.algorithm} for key in self._keys]
        }

    def key_set(self) -> KeySet:
        """Return the public keys."""
        return self._public

    def role_of(self, key: SigningKey) -> Role:
        """Say what a key of this ring does."""
        if _kid(key) in self._upcoming:
            return Role.UPCOMING
        return Role.SIGNS if self._current[key.algorithm] is key else Role.PUBLISHED


class Es256Signer(KeyRing):
    """The least that a gateway needs: ES256 keys in PEM, of which the first signs."""

    def __init__(self, pems: Sequence[bytes]) -> None:
        super().__init__([PemKey(pem) for pem in pems])


def _kid(key: SigningKey) -> str:
    return str(key.public.kid)


def _segment(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
