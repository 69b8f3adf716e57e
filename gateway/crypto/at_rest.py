"""Encryption of personal data before it reaches a disk, and keyed references to people.

Owns: the sealed form (one byte of format, key id, nonce, AES-256-GCM) and the reference form (HMAC-SHA256). Leaves to
configuration where the keys come from. The context string (table and column, or blob id) is authenticated, so a
sealed value that is moved to another place does not open there.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.errors import Unavailable

_FORMAT = 1
_KID = 8
_NONCE = 12


def key_id(key: bytes) -> bytes:
    """Return the id of a key: the first 8 bytes of its SHA-256. It says nothing about the key."""
    return hashlib.sha256(key).digest()[:_KID]


class Sealer:
    """Seals with the first key, opens with any: a new key is put in front, old ones stay while data needs them."""

    def __init__(self, *keys: bytes) -> None:
        if not keys or any(len(key) != 32 for key in keys):
            raise ValueError("an at-rest key must be 32 bytes")
        self._current = key_id(keys[0])
        self._ciphers: Mapping[bytes, AESGCM] = {key_id(key): AESGCM(key) for key in keys}

    def seal(self, clear: bytes, context: str) -> bytes:
        """Encrypt for the place that `context` names."""
        nonce = os.urandom(_NONCE)
        sealed = self._ciphers[self._current].encrypt(nonce, clear, context.encode())
        return bytes([_FORMAT]) + self._current + nonce + sealed

    def open(self, sealed: bytes | memoryview, context: str) -> bytes:
        """Decrypt. Raises Unavailable when the key is not configured or the bytes are not ours."""
        kid, rest = bytes(sealed[1 : 1 + _KID]), memoryview(sealed)[1 + _KID :]  # a view: frames of files are large
        cipher = self._ciphers.get(kid)
        if sealed[:1] != bytes([_FORMAT]) or cipher is None:
            raise Unavailable("Stored data cannot be opened.", detail=f"no at-rest key {kid.hex()} for {context}")
        try:
            return cipher.decrypt(bytes(rest[:_NONCE]), rest[_NONCE:], context.encode())
        except (InvalidTag, ValueError):  # the latter: cut so short that not even the nonce is whole
            raise Unavailable("Stored data cannot be opened.", detail=f"tag mismatch in {context}") from None


class References:
    """Turns a person's document into a reference that logs and indexes may hold: equal for equal, and no way back."""

    def __init__(self, key: bytes) -> None:
        if len(key) < 32:
            raise ValueError("the reference key must be at least 32 bytes")
        self._key = key

    def of(self, *parts: str) -> str:
        """Return 32 hex digits for these parts (document type and number; region and subject)."""
        message = "\x1f".join(parts).encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:32]

    def derived_key(self, purpose: str) -> bytes:
        """Return a key of 32 bytes for another purpose (RFC 5869): the same on all replicas, and no way back."""
        return HKDF(SHA256(), 32, salt=None, info=f"pearl-gateway {purpose}".encode()).derive(self._key)
