"""The wire of the simulated exchange machine: form fields and answers, sealed with SM4-CBC and HMAC-SM3.

Owns: sealing, opening, freshness, and documents in GB 18030, in both directions. Leaves operations to `sandbox.py` and
what stands in a document to `sandbox_rules.py`. Written from `README.md` alone; shares no code with `adapter.py` or
the rest of the gateway.
"""

from __future__ import annotations

import hmac
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, modes
from cryptography.hazmat.primitives.ciphers.algorithms import SM4
from cryptography.hazmat.primitives.hashes import SM3
from cryptography.hazmat.primitives.hmac import HMAC
from lxml import etree

OWN, PEER = "QYQZJ", "PEARL"
"""The two ids of the README: the machine's, and the gateway's."""
TOLERANCE = timedelta(seconds=300)
FIELDS = ["appId", "timestamp", "nonce", "xmlStr", "sign"]
IV, TAG = 16, 32

_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_HEX_TAG = re.compile(r"[0-9a-f]{64}")
_PROLOG = re.compile(r'<\?xml version="1\.0" encoding="GB18030"\?>\s*')


class RefusalError(Exception):
    """A refusal that becomes an answer: `code` and `word` as the README lists them; the text names no person."""

    def __init__(self, code: str, word: str, text: str) -> None:
        super().__init__(f"{code} {word}: {text}")
        self.code = code
        self.word = word
        self.text = text


class UnsealedError(Exception):
    """What was not sealed by the other side for this very exchange."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The two shared keys."""

    sm4: bytes = field(repr=False)
    mac: bytes = field(repr=False)


def keys_of(secrets: Mapping[str, bytes]) -> Keys:
    """Read the shared keys. Raises KeyError or ValueError."""
    sm4, mac = (bytes.fromhex(secrets[name].decode("ascii")) for name in ("sm4_key", "mac_key"))
    if (len(sm4), len(mac)) != (16, 32):
        raise ValueError("sm4_key has 16 bytes, mac_key 32")
    return Keys(sm4, mac)


# --- sealing -------------------------------------------------------------------------------------------------------


def lines(*parts: str) -> bytes:
    """Return what a seal is bound to."""
    return "\n".join(parts).encode("ascii")


def tagger(keys: Keys, bound: bytes) -> HMAC:
    """Return the HMAC-SM3 that has taken in the bound part with its length; vector and ciphertext follow."""
    mac = HMAC(keys.mac, SM3())
    mac.update(len(bound).to_bytes(8, "big"))
    mac.update(bound)
    return mac


def seal(keys: Keys, bound: bytes, plain: bytes) -> tuple[str, str]:
    """Return `xmlStr` (or `data`) and `sign`."""
    iv = os.urandom(IV)
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(SM4(keys.sm4), modes.CBC(iv)).encryptor()
    text = iv + encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    mac = tagger(keys, bound)
    mac.update(text)
    return b64encode(text).decode("ascii"), mac.finalize().hex()


def seal_file(keys: Keys, operation: str, nonce: str, plain: bytes) -> bytes:
    """Return a file as the answer to a request: vector, ciphertext, and the tag at its end."""
    data, sign = seal(keys, lines("answer", OWN, operation, nonce, "200"), plain)
    return b64decode(data) + bytes.fromhex(sign)


def unseal(keys: Keys, bound: bytes, data: str, sign: str) -> bytes:
    """Return the plain bytes. Raises UnsealedError."""
    try:
        raw = b64decode(data, validate=True)
    except ValueError:
        raise UnsealedError("not base64") from None
    if not _HEX_TAG.fullmatch(sign) or len(raw) < IV + 16 or len(raw) % 16:
        raise UnsealedError("not of the agreed lengths")
    mac = tagger(keys, bound)
    mac.update(raw)
    if not hmac.compare_digest(mac.finalize().hex(), sign):
        raise UnsealedError("the tag is wrong")
    decryptor, unpadder = decryptor_of(keys, raw[:IV]), padding.PKCS7(128).unpadder()
    return unpadder.update(decryptor.update(raw[IV:])) + unpadder.finalize()


def decryptor_of(keys: Keys, iv: bytes) -> CipherContext:
    """Return what decrypts the blocks that follow this vector."""
    return Cipher(SM4(keys.sm4), modes.CBC(iv)).decryptor()


# --- documents -----------------------------------------------------------------------------------------------------


def parse(data: bytes) -> etree._Element:
    """Parse a document in GB 18030. Raises ValueError for one that is none, or has a DOCTYPE."""
    text = _PROLOG.sub("", data.decode("gb18030"), count=1)
    if "<!DOCTYPE" in text or text.lstrip().startswith("<?xml"):
        raise ValueError("a DOCTYPE, or another declaration than that of GB 18030")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        return etree.fromstring(text, parser)
    except etree.XMLSyntaxError:
        raise ValueError("not well-formed XML") from None  # the parser's text quotes what may be personal


def write(element: etree._Element) -> bytes:
    """Write a document with its declaration."""
    text = etree.tostring(element, encoding="unicode")
    return ('<?xml version="1.0" encoding="GB18030"?>' + text).encode("gb18030")


def element(name: str, *children: etree._Element, **texts: str) -> etree._Element:
    """Return an element with text children, in the order given, and further children behind them."""
    made = etree.Element(name)
    for child, text in texts.items():
        etree.SubElement(made, child).text = text
    made.extend(children)
    return made


# --- requests that come in -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """A verified request: its nonce and its document."""

    nonce: str
    document: etree._Element


def nonce_of(body: bytes) -> str:
    """Return the nonce of a request as far as it has one, for the seal of a refusal."""
    found = [value for name, value in _pairs(body) if name == "nonce"]
    return found[0] if len(found) == 1 and _NONCE.fullmatch(found[0]) else ""


def open_request(keys: Keys, operation: str, body: bytes, now: datetime) -> Message:
    """Return a request that the gateway sealed for this operation within the tolerance. Raises RefusalError.

    Whether its nonce was used before is for the caller to know.
    """
    pairs = _pairs(body)
    fields = dict(pairs)
    if len(pairs) != len(FIELDS) or sorted(fields) != sorted(FIELDS):
        raise RefusalError("401", "seal", "the five form fields are wanted, each once")
    app_id, timestamp, nonce, data, sign = (fields[name] for name in FIELDS)
    if app_id != PEER or not _NONCE.fullmatch(nonce) or not re.fullmatch(r"\d{13}", timestamp, re.ASCII):
        raise RefusalError("401", "seal", "appId, timestamp or nonce is not as agreed")
    try:
        plain = unseal(keys, lines("request", PEER, operation, timestamp, nonce), data, sign)
    except UnsealedError as wrong:
        raise RefusalError("401", "seal", str(wrong)) from None
    if abs(now - datetime.fromtimestamp(int(timestamp) / 1000, UTC)) > TOLERANCE:
        raise RefusalError("409", "stale", f"timestamp: more than {TOLERANCE.seconds} s away from the clock here")
    try:
        return Message(nonce, parse(plain))
    except ValueError as wrong:
        raise RefusalError("400", "schema", str(wrong)) from None


def _pairs(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=10)
    except ValueError:
        return []


def answer(keys: Keys, operation: str, nonce: str, code: str, document: etree._Element) -> bytes:
    """Return a sealed answer."""
    data, sign = seal(keys, lines("answer", OWN, operation, nonce, code), write(document))
    return write(element("result", code=code, data=data, sign=sign))


def refuse(keys: Keys, operation: str, nonce: str, refusal: RefusalError) -> bytes:
    """Return a sealed refusal."""
    error = etree.Element("CW", DM=refusal.word)
    error.text = refusal.text
    return answer(keys, operation, nonce, refusal.code, error)


# --- requests that go out ------------------------------------------------------------------------------------------


def request(keys: Keys, operation: str, nonce: str, now: datetime, document: etree._Element) -> bytes:
    """Return a sealed request to the gateway as a form body."""
    timestamp = str(int(now.timestamp() * 1000))
    data, sign = seal(keys, lines("request", OWN, operation, timestamp, nonce), write(document))
    return urlencode(dict(zip(FIELDS, (OWN, timestamp, nonce, data, sign), strict=True))).encode("ascii")


def open_answer(keys: Keys, operation: str, nonce: str, body: bytes) -> tuple[str, etree._Element]:
    """Return code and document of the gateway's answer to the request with this nonce. Raises UnsealedError."""
    try:
        result = parse(body)
    except ValueError as wrong:
        raise UnsealedError(str(wrong)) from None
    if result.tag != "result" or [child.tag for child in result] != ["code", "data", "sign"]:
        raise UnsealedError("not a result")
    code, data, sign = ((child.text or "") for child in result)
    if not re.fullmatch(r"\d{3}", code, re.ASCII):
        raise UnsealedError("not a code")
    plain = unseal(keys, lines("answer", PEER, operation, nonce, code), data, sign)
    return code, parse(plain)
