"""SM3 digests and SM4 content encryption (国密, GB/T 32905 and GB/T 32907), through `cryptography`.

Owns: the two suites in which content travels, both authenticated. Leaves to callers: keys, and that no initialisation
vector is used twice with one. There is no unauthenticated suite: CBC goes with HMAC-SM3, encrypt-then-MAC.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, modes
from cryptography.hazmat.primitives.ciphers.algorithms import SM4
from cryptography.hazmat.primitives.hashes import SM3, Hash
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.padding import PKCS7

Suite = Literal["SM4-GCM", "SM4-CBC-HMAC-SM3"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lengths in bytes: of the whole content key, the initialisation vector and the tag."""

    key: int
    iv: int
    tag: int


SIZES: Mapping[Suite, Sizes] = {"SM4-GCM": Sizes(16, 12, 16), "SM4-CBC-HMAC-SM3": Sizes(16 + 32, 16, 32)}
"""The key of the second suite is the SM4 key followed by the MAC key."""
_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Sealed:
    """Content as it travels."""

    iv: bytes
    text: bytes
    tag: bytes


def sm3(data: bytes) -> bytes:
    """Return the SM3 digest, 32 bytes."""
    digest = Hash(SM3())
    digest.update(data)
    return digest.finalize()


def seal(suite: Suite, key: bytes, iv: bytes, plain: bytes, bound: bytes) -> Sealed:
    """Encrypt; `bound` is authenticated with it and does not travel. Raises ValueError for a wrong length."""
    _check(suite, key, iv)
    if suite == "SM4-GCM":
        encryptor = Cipher(SM4(key), modes.GCM(iv)).encryptor()
        encryptor.authenticate_additional_data(bound)
        text = encryptor.update(plain) + encryptor.finalize()
        return Sealed(iv, text, encryptor.tag)
    padder = PKCS7(128).padder()
    encryptor_cbc = Cipher(SM4(key[:16]), modes.CBC(iv)).encryptor()
    text = encryptor_cbc.update(padder.update(plain) + padder.finalize()) + encryptor_cbc.finalize()
    return Sealed(iv, text, _mac(key[16:], iv, text, bound))


class StreamSeal:
    """Seals a text of any length piece by piece in SM4-CBC-HMAC-SM3.

    `iv`, what `update` returns and what `finish` returns are vector, ciphertext and tag that `seal` makes of the whole.
    Whoever opens such a stream has the tag only at its end, and may use nothing of it before. Raises ValueError for a
    wrong length of key or vector.
    """

    def __init__(self, key: bytes, iv: bytes, bound: bytes) -> None:
        _check("SM4-CBC-HMAC-SM3", key, iv)
        self.iv = iv
        self._padder = PKCS7(128).padder()
        self._encryptor = Cipher(SM4(key[:16]), modes.CBC(iv)).encryptor()
        self._mac = HMAC(key[16:], SM3())
        self._mac.update(len(bound).to_bytes(8) + bound + iv)

    def update(self, plain: bytes) -> bytes:
        """Return the ciphertext that is complete so far and was not returned yet."""
        text = self._encryptor.update(self._padder.update(plain))
        self._mac.update(text)
        return text

    def finish(self) -> bytes:
        """Return the end of the ciphertext and the tag behind it."""
        text = self._encryptor.update(self._padder.finalize()) + self._encryptor.finalize()
        self._mac.update(text)
        return text + self._mac.finalize()

    @staticmethod
    def size(plain: int) -> int:
        """Return how many bytes vector, ciphertext and tag of so many plain bytes are together."""
        sizes = SIZES["SM4-CBC-HMAC-SM3"]
        return sizes.iv + (plain // _BLOCK + 1) * _BLOCK + sizes.tag


class StreamOpen:
    """Opens piece by piece what `StreamSeal` made: vector, ciphertext and, at its end, the tag.

    What `update` returns is not vouched for before `finish` returned: whoever takes it in must be able to drop it.
    The padding is looked at behind the tag. Raises ValueError for a wrong length of the key.
    """

    def __init__(self, key: bytes, bound: bytes) -> None:
        sizes = SIZES["SM4-CBC-HMAC-SM3"]
        _check("SM4-CBC-HMAC-SM3", key, bytes(sizes.iv))
        self._key = key[:16]
        self._sizes = sizes
        self._held = bytearray()
        self._decryptor: CipherContext | None = None
        self._unpadder = PKCS7(128).unpadder()
        self._mac = HMAC(key[16:], SM3())
        self._mac.update(len(bound).to_bytes(8) + bound)

    def update(self, sealed: bytes) -> bytes:
        """Return the plain text that is complete so far and was not returned yet."""
        self._held += sealed
        if self._decryptor is None:
            if len(self._held) < self._sizes.iv:
                return b""
            iv = self._cut(self._sizes.iv)
            self._decryptor = Cipher(SM4(self._key), modes.CBC(iv)).decryptor()
        text = self._cut(max(len(self._held) - self._sizes.tag, 0))
        return self._unpadder.update(self._decryptor.update(text))

    def finish(self) -> bytes:
        """Return the end of the plain text. Raises ValueError, without saying why, for whatever was not sealed so."""
        if self._decryptor is None or not hmac.compare_digest(self._mac.finalize(), bytes(self._held)):
            raise ValueError("does not decrypt under this content key")
        return self._unpadder.update(self._decryptor.finalize()) + self._unpadder.finalize()

    def _cut(self, length: int) -> bytes:
        """Take the next bytes, all of which the tag is over."""
        text = bytes(self._held[:length])
        del self._held[:length]
        self._mac.update(text)
        return text


def unseal(suite: Suite, key: bytes, sealed: Sealed, bound: bytes) -> bytes:
    """Return the plain bytes. Raises ValueError, without saying why, for whatever was not sealed so."""
    _check(suite, key, sealed.iv)
    if len(sealed.tag) != SIZES[suite].tag:
        raise ValueError("the tag has not the length of its suite")
    opened = _open_gcm(key, sealed, bound) if suite == "SM4-GCM" else _open_cbc(key, sealed, bound)
    if opened is None:
        raise ValueError("does not decrypt under this content key")
    return opened


def _check(suite: Suite, key: bytes, iv: bytes) -> None:
    if (len(key), len(iv)) != (SIZES[suite].key, SIZES[suite].iv):
        raise ValueError("key or initialisation vector has not the length of its suite")


def _open_gcm(key: bytes, sealed: Sealed, bound: bytes) -> bytes | None:
    decryptor = Cipher(SM4(key), modes.GCM(sealed.iv, sealed.tag)).decryptor()
    decryptor.authenticate_additional_data(bound)
    try:
        return decryptor.update(sealed.text) + decryptor.finalize()
    except InvalidTag:
        return None


def _open_cbc(key: bytes, sealed: Sealed, bound: bytes) -> bytes | None:
    """Open what HMAC vouches for, and only then look at the padding: no padding oracle."""
    if not hmac.compare_digest(_mac(key[16:], sealed.iv, sealed.text, bound), sealed.tag):
        return None
    decryptor = Cipher(SM4(key[:16]), modes.CBC(sealed.iv)).decryptor()
    unpadder = PKCS7(128).unpadder()
    try:
        padded = decryptor.update(sealed.text) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        return None


def _mac(key: bytes, iv: bytes, text: bytes, bound: bytes) -> bytes:
    """Return HMAC-SM3 over the length of `bound` (8 bytes, big-endian), `bound`, the vector and the ciphertext."""
    mac = HMAC(key, SM3())
    mac.update(len(bound).to_bytes(8) + bound + iv + text)
    return mac.finalize()
