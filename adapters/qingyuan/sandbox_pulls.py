"""The simulated machine's own client: it pulls cases, supplements and materials from the gateway.

Owns: asking, checking what comes back, and holding a material's bytes against the list. Keeps nothing of them: the
notebook gets sizes and digests. Leaves when to pull, and what follows, to `sandbox_life.py`. Written from
`README.md` alone.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import aiohttp
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import CipherContext
from lxml import etree

from adapters.qingyuan.sandbox_rules import ListedFile
from adapters.qingyuan.sandbox_wire import (
    IV,
    PEER,
    TAG,
    Keys,
    UnsealedError,
    decryptor_of,
    element,
    lines,
    open_answer,
    request,
    tagger,
)

LARGEST_ANSWER = 4 * 1024 * 1024
WAIT = aiohttp.ClientTimeout(total=60, sock_connect=5)


class PullFailedError(Exception):
    """A pull that brought nothing this time: `code` is the gateway's, empty when there was no answer to believe."""

    def __init__(self, reason: str, code: str = "") -> None:
        super().__init__(reason)
        self.code = code


@dataclass(slots=True)
class Puller:
    """Pulls from one gateway. `forge` and `replay` say whether to misbehave this time."""

    gateway_url: str
    keys: Keys
    clock: Callable[[], datetime]
    forge: Callable[[], bool]
    replay: Callable[[], bool]
    session: aiohttp.ClientSession | None = None
    _last: dict[str, bytes] = field(default_factory=dict)

    async def document(self, case: str, message: str = "") -> etree._Element:
        """Return the document of a case, or of a supplement. Raises PullFailedError."""
        asked = element("TQ", WWBH=case, **({"XXBH": message} if message else {}))
        nonce, body = self._request("getApplyInfo", asked)
        async with self._post("getApplyInfo", body) as response:
            return await self._told(response, "getApplyInfo", nonce)

    async def material(self, case: str, file: ListedFile, message: str = "") -> None:
        """Fetch one file by its digest and hold it against the list. Raises PullFailedError."""
        also = {"XXBH": message} if message else {}
        nonce, body = self._request("getMaterial", element("CLTQ", WWBH=case, **also, WJZY=file.sha256))
        async with self._post("getMaterial", body) as response:
            if response.content_type != "application/octet-stream":
                await self._told(response, "getMaterial", nonce)
                raise PullFailedError("no file in the answer")
            size, digest = await self._file(response, nonce)
        if (size, digest) != (file.size, file.sha256):
            raise PullFailedError("another file than the list names")

    def _request(self, operation: str, asked: etree._Element) -> tuple[str, bytes]:
        nonce = secrets.token_urlsafe(24)
        body = request(self.keys, operation, nonce, self.clock(), asked)
        if operation in self._last and self.replay():
            body = self._last[operation]
        self._last[operation] = body
        return nonce, body[:-1] + (b"0" if body[-1:] != b"0" else b"1") if self.forge() else body

    def _post(self, operation: str, body: bytes) -> _Response:
        if self.session is None:
            raise PullFailedError("not started")
        url = f"{self.gateway_url}/callbacks/qingyuan/{operation}"
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return _Response(self.session.post(url, data=body, headers=headers, timeout=WAIT, allow_redirects=False))

    async def _told(self, response: aiohttp.ClientResponse, operation: str, nonce: str) -> etree._Element:
        body = await response.content.read(LARGEST_ANSWER)
        while more := await response.content.read(LARGEST_ANSWER):
            body += more
            if len(body) > LARGEST_ANSWER:
                raise PullFailedError("the answer is too long")
        try:
            code, document = open_answer(self.keys, operation, nonce, body)
        except (UnsealedError, ValueError) as wrong:
            raise PullFailedError(f"HTTP {response.status}: {wrong}") from None
        if code != "200":
            raise PullFailedError(f"code {code} {document.get('DM')}", code)
        return document

    async def _file(self, response: aiohttp.ClientResponse, nonce: str) -> tuple[int, str]:
        """Decrypt as it comes; return size and digest, which count only because the tag behind them was right."""
        opening = _Opening(self.keys, lines("answer", PEER, "getMaterial", nonce, "200"))
        async for piece in response.content.iter_chunked(256 * 1024):
            opening.take(piece)
        return opening.finish()


class _Response:
    """A response that turns every failure of HTTP into one kind of error."""

    def __init__(self, asking: aiohttp.client._RequestContextManager) -> None:
        self._asking = asking

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            return await self._asking.__aenter__()
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            raise PullFailedError(type(failure).__name__) from None

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        await self._asking.__aexit__(kind, error, None)
        if isinstance(error, aiohttp.ClientError | TimeoutError | OSError):
            raise PullFailedError(type(error).__name__) from None


class _Opening:
    """A sealed file on its way in: vector, ciphertext, and the tag at its end."""

    def __init__(self, keys: Keys, bound: bytes) -> None:
        self._keys = keys
        self._mac = tagger(keys, bound)
        self._held = bytearray()
        self._decryptor: CipherContext | None = None
        self._unpadder = padding.PKCS7(128).unpadder()
        self._digest = hashlib.sha256()
        self._size = 0

    def take(self, piece: bytes) -> None:
        """Take in the next bytes; the last ones may be the tag and are held back."""
        self._held += piece
        if self._decryptor is None and len(self._held) >= IV:
            iv = bytes(self._held[:IV])
            del self._held[:IV]
            self._mac.update(iv)
            self._decryptor = decryptor_of(self._keys, iv)
        ready = len(self._held) - TAG
        if self._decryptor is not None and ready > 0:
            text = bytes(self._held[:ready])
            del self._held[:ready]
            self._mac.update(text)
            self._clear(self._unpadder.update(self._decryptor.update(text)))

    def finish(self) -> tuple[int, str]:
        """Return size and digest. Raises PullFailedError when the stream broke off or the tag is wrong."""
        if len(self._held) != TAG or not hmac.compare_digest(self._mac.finalize(), bytes(self._held)):
            raise PullFailedError("the file does not verify")
        self._clear(self._unpadder.finalize())
        return self._size, self._digest.hexdigest()

    def _clear(self, plain: bytes) -> None:
        self._size += len(plain)
        self._digest.update(plain)
