"""What every wire client shares: one HTTP client for a region, and what its failures mean for an outcome.

Owns: sending one request and reading a bounded answer; the one place where failures of aiohttp become
`RegionError`s; quoting a region's reason without the person in it; the checks that every callback needs.
Leaves to the protocol modules: signatures, envelopes and status words. Leaves to the core: retry, concurrency
and rate (an exchange is tried once here), and the nonces of callbacks.
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import orjson
from lxml import etree
from yarl import URL

from gateway.errors import (
    FieldProblem,
    ForgedCallback,
    GatewayError,
    InvalidRequest,
    MappingFailed,
    NotFound,
    RegionRefused,
    RegionUncertain,
    RegionUnreachable,
    ReplayedCallback,
    StartRefused,
    Unavailable,
)
from gateway.ports import Callback, Kit, Material, RegionDocument

MAX_ANSWER_BYTES = 1 << 20
"""The largest answer that is read, in bytes (1 MiB); a larger one counts as unreadable."""

MAX_MATERIAL_BYTES = 32 << 20
"""The largest single material that is carried, in bytes (32 MiB): these wires need it in memory."""

SLOWEST_UPLOAD = 256 << 10
"""Bytes a second that a streamed upload must move, on the whole, before it is given up (256 KiB/s)."""

MAX_UNANNOUNCED = 32 << 20
"""The largest file of which nothing was said beforehand, in bytes (32 MiB)."""

_PIECE = 64 << 10
"""Bytes of a download that are handed on at once."""

_AT_ONCE = 64 << 10
"""Bytes of a body that are written at once."""

MAX_QUOTED = 200
"""The longest quotation of a region's free text, in characters."""

MAX_FIELD_PROBLEMS = 50
"""How many of a region's field errors are passed on."""

NONCE_MARGIN = timedelta(seconds=60)
"""How long a callback's nonce is remembered beyond the window, so that no rounding lets it in twice."""

_NOTHING_SENT = (
    aiohttp.ClientConnectorError,  # refused, no route, DNS, TLS handshake and certificate: all before the request
    aiohttp.ConnectionTimeoutError,  # raised by the session around connecting only
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ClientHttpProxyError,  # the forward proxy refused the tunnel
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)
_IDENTIFYING = re.compile(r"[\w.@+()-]*\d{4}[\w.@+()-]*|[^\s@]+@[^\s@]+\.[^\s@]+", re.ASCII)
_WORD = re.compile(r"[A-Z_]{1,32}", re.ASCII)
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,80}/[\w!#$&^.+-]{1,80}", re.ASCII)
_ASCII_HEADER = re.compile(r"[\x20-\x7e]{1,512}")


# --- opening -----------------------------------------------------------------------------------------------------


def refuse_start(kit: Kit, field: str, reason: str) -> StartRefused:
    """Return the error for a setting or secret that this region cannot work with."""
    problem = FieldProblem(f"regions.{kit.region}.{field}", reason)
    return StartRefused(f"region {kit.region} cannot be opened", problems=[problem], region=kit.region)


def text_setting(kit: Kit, name: str) -> str:
    """Return a setting that must be a text and not empty. Raises StartRefused."""
    value = kit.settings.get(name)
    if not isinstance(value, str) or not value:
        raise refuse_start(kit, f"settings.{name}", "must be given, as text")
    return value


def secret_bytes(kit: Kit, name: str) -> bytes:
    """Return a secret that must not be empty. Raises StartRefused."""
    value = kit.secret(name)
    if not value:
        raise refuse_start(kit, f"secrets.{name}", "must not be empty")
    return value


def text_secret(kit: Kit, name: str) -> str:
    """Return a secret that must be a text in UTF-8. Raises StartRefused."""
    try:
        return secret_bytes(kit, name).decode()
    except UnicodeDecodeError:
        raise refuse_start(kit, f"secrets.{name}", "must be text in UTF-8") from None


def _base_url(kit: Kit) -> str:
    text = text_setting(kit, "base_url")
    try:
        url = URL(text)
    except ValueError:
        raise refuse_start(kit, "settings.base_url", "is not an address") from None
    if url.scheme not in ("http", "https") or not url.host or url.query_string or url.fragment or url.user:
        raise refuse_start(kit, "settings.base_url", "must be http(s)://host[:port][/path], nothing more")
    return str(url).rstrip("/")


# --- the wire ----------------------------------------------------------------------------------------------------


@contextmanager
def region_errors(region: str) -> Iterator[None]:
    """Turn failures of the HTTP client into what is known of the outcome.

    Nothing sent → RegionUnreachable. Anything later → RegionUncertain: also a connection that was found closed when
    it was used again (`ServerDisconnectedError`), because the far side may have read the request before it closed.
    The cause is cut off (`from None`): aiohttp's texts hold addresses, and some wires put secrets into the query.
    """
    try:
        yield
    except _NOTHING_SENT as failure:
        text = f"{region} cannot be reached; nothing was sent"
        raise RegionUnreachable(text, detail=_detail(failure), region=region) from None
    except TimeoutError as failure:
        text = f"{region} did not answer in time"
        raise RegionUncertain(text, detail=_detail(failure), region=region) from None
    except (aiohttp.ClientError, OSError) as failure:
        text = f"the connection to {region} was lost before its answer was complete"
        raise RegionUncertain(text, detail=_detail(failure), region=region) from None


@contextmanager
def nothing_taken_yet(region: str) -> Iterator[None]:
    """Run a step that comes before the message itself, such as an upload or fetching a key.

    When such a step ends uncertain, the message was certainly not taken, and the steps are harmless to repeat.
    """
    try:
        yield
    except RegionUncertain as failure:
        detail = f"before the message was sent: {failure.public} {failure.detail}".strip()
        raise RegionUnreachable(f"{region} did not complete a preparatory step", detail=detail, region=region) from None


def _bounded_connect(timeout: aiohttp.ClientTimeout) -> aiohttp.ClientTimeout:
    """Give connecting half of the whole time unless it has a limit of its own.

    A time-out of the whole does not tell whether anything was sent; one of connecting does, so a region behind a
    silent firewall counts as unreachable and not as uncertain.
    """
    if timeout.connect is not None or timeout.total is None:
        return timeout
    return aiohttp.ClientTimeout(
        total=timeout.total,
        connect=timeout.total / 2,
        sock_connect=timeout.sock_connect or timeout.total / 2,
        sock_read=timeout.sock_read,
        ceil_threshold=timeout.ceil_threshold,
    )


def _lasting(timeout: aiohttp.ClientTimeout, seconds: float) -> aiohttp.ClientTimeout:
    """Give an exchange more time as a whole, and no more for connecting."""
    total = None if timeout.total is None else timeout.total + seconds
    return aiohttp.ClientTimeout(
        total=total, connect=timeout.connect, sock_connect=timeout.sock_connect, ceil_threshold=timeout.ceil_threshold
    )


def _written(body: bytes) -> bytes | io.BytesIO:
    """Return a body as it is written: a large one piece by piece, since it must not hold up the loop."""
    return body if len(body) <= _AT_ONCE else io.BytesIO(body)


def _detail(failure: BaseException) -> str:
    reason = getattr(failure, "strerror", None)
    return f"{type(failure).__name__}: {reason}" if reason else type(failure).__name__


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read in full. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Measured:
    """The bytes of a file on their way: as many as were announced, and the failure of our own side if there is one."""

    def __init__(self, content: AsyncIterator[bytes], size: int) -> None:
        self._content = content
        self._left = size
        self.failure: GatewayError | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._content:
                self._left -= len(piece)
                if self._left < 0:
                    break
                yield piece
        except GatewayError as failure:
            self.failure = failure
            raise
        if self._left:
            self.failure = Unavailable("A stored file has another size than it was taken with.")
            raise self.failure


class Wire:
    """HTTP to one region: never redirected, bounded, one attempt, failures translated."""

    def __init__(self, kit: Kit) -> None:
        self.region = kit.region
        self.base_url = _base_url(kit)
        self._session = kit.session
        self._timeout = _bounded_connect(kit.timeout)

    def url(self, path: str, query: Mapping[str, str] | None = None) -> URL:
        """Return the address of a path (already percent-encoded) under the base address."""
        url = URL(self.base_url + path, encoded=True)
        return url.with_query(query) if query else url

    async def exchange(self, method: str, url: URL, *, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Send one request and read its answer. Raises RegionUnreachable or RegionUncertain.

        HTTP 429, and 503 that names a `Retry-After`, are explicit refusals to take the message (RFC 9110 §15.6.4).
        A bare 503 may come from anything on the way and says nothing of the outcome: it goes back to the caller.
        """
        data = _written(body) if body else None
        with region_errors(self.region):
            answer = await self._send(method, url, headers, data, self._timeout)
        return self._not_overloaded(answer)

    async def stream(
        self, method: str, url: URL, *, headers: Mapping[str, str], content: AsyncIterator[bytes], size: int
    ) -> Answer:
        """Send `size` bytes as they come, never more than a piece of them in memory. Raises as `exchange`.

        It may take longer than other exchanges, by what the size costs at `SLOWEST_UPLOAD`.
        """
        lasting = _lasting(self._timeout, size / SLOWEST_UPLOAD)
        source = _Measured(content, size)
        try:
            with region_errors(self.region):
                known = {**headers, "Content-Length": str(size)}
                answer = await self._send(method, url, known, aiter(source), lasting)
        except RegionUncertain as failure:
            raise source.failure or failure from None  # our own side's failure is no word about the region
        return self._not_overloaded(answer)

    async def download(
        self,
        url: URL,
        *,
        headers: Mapping[str, str],
        size: int | None,
        method: str = "GET",
        body: bytes | None = None,
        is_file: Callable[[Answer], bool] = lambda head: head.status == 200,
    ) -> tuple[Answer, AsyncGenerator[bytes, None] | None]:
        """Ask for a file of `size` bytes: its head, and its bytes as they come where `is_file` says so of the head.

        Without a size it is the one that its head announces (`Content-Length`), up to `MAX_UNANNOUNCED`. Any other
        answer is read in full; what `is_file` raises ends the exchange. It may take longer than other exchanges, as
        `stream` may. Raises as `exchange`, and RegionUncertain where other bytes come than announced.
        """
        lasting = _lasting(self._timeout, (MAX_UNANNOUNCED if size is None else size) / SLOWEST_UPLOAD)
        sent = {"Accept-Encoding": "identity", **headers}
        request = self._session.request(method, url, headers=sent, data=body, timeout=lasting, allow_redirects=False)
        with region_errors(self.region):
            response = await request
        head = Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, b"")
        try:
            if is_file(head):
                return head, self._pieces(response, self._announced(head) if size is None else size)
        except GatewayError:
            response.close()
            raise
        async with response:
            with region_errors(self.region):
                read = await self._bounded(response.content)
        return self._not_overloaded(replace(head, body=read)), None

    def _announced(self, head: Answer) -> int:
        length = head.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) <= len(str(MAX_UNANNOUNCED))):
            raise self.uncertain("sent a file without saying how large it is", "Content-Length")
        if int(length) > MAX_UNANNOUNCED:
            raise self.uncertain("sent a file that is too large to take", f"more than {MAX_UNANNOUNCED} bytes")
        return int(length)

    async def _pieces(self, response: aiohttp.ClientResponse, size: int) -> AsyncGenerator[bytes, None]:
        left = size
        async with response:
            with region_errors(self.region):
                async for piece in response.content.iter_chunked(_PIECE):
                    left -= len(piece)
                    if left < 0:
                        break
                    yield piece
        if left:
            raise self.uncertain("sent another file than the one announced", "its size differs")

    def _not_overloaded(self, answer: Answer) -> Answer:
        if answer.status == 429 or (answer.status == 503 and "retry-after" in answer.headers):
            raise self.unreachable("is overloaded and did not take the message", f"HTTP {answer.status}")
        return answer

    async def _send(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        data: bytes | io.BytesIO | AsyncIterator[bytes] | None,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own, which tells connecting from the rest
    ) -> Answer:
        sent = {"Accept-Encoding": "identity", **headers}
        request = self._session.request(method, url, headers=sent, data=data, timeout=timeout, allow_redirects=False)
        async with request as response:
            received = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, received, await self._bounded(response.content))

    async def _bounded(self, stream: aiohttp.StreamReader) -> bytes:
        received = bytearray()
        async for chunk in stream.iter_any():
            received += chunk
            if len(received) > MAX_ANSWER_BYTES:
                raise self.uncertain("sent an answer that is too large to read", f"more than {MAX_ANSWER_BYTES} bytes")
        return bytes(received)

    async def probe(self) -> None:
        """Reach the region over HTTP; any answer but a gateway's failure will do. Raises RegionError."""
        with region_errors(self.region):
            request = self._session.get(self.url("/"), timeout=self._timeout, allow_redirects=False)
            async with request as response:
                status = response.status
        if status in (502, 503, 504):
            raise self.unreachable("is not being served at its address", f"HTTP {status}")

    def unreachable(self, what: str, detail: str = "") -> RegionUnreachable:
        """Return the error for a message that the region certainly did not take."""
        return RegionUnreachable(f"{self.region} {what}", detail=detail, region=self.region)

    def uncertain(self, what: str, detail: str = "") -> RegionUncertain:
        """Return the error for an outcome that is unknown."""
        return RegionUncertain(f"{self.region} {what}", detail=detail, region=self.region)

    def refused(self, reason: str, problems: Sequence[FieldProblem] = (), detail: str = "") -> RegionRefused:
        """Return the error for a definite no. `reason` must be `quotable` already."""
        text = f"{self.region} refused the message: {reason or 'no reason given'}"
        return RegionRefused(text, detail=detail, problems=problems, region=self.region)

    def json_object(self, body: bytes) -> dict[str, Any]:
        """Read an answer that must be one JSON object. Raises RegionUncertain."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise self.uncertain("sent an answer that cannot be read", "not a JSON object")
        return document


# --- documents and materials -------------------------------------------------------------------------------------


def as_object(document: RegionDocument) -> dict[str, Any]:
    """Return a document that must be JSON. Raises MappingFailed when its pack made XML."""
    if isinstance(document, bytes):
        raise MappingFailed("the mapping pack made XML, but this region's wire carries JSON")
    return document


def as_xml(document: RegionDocument) -> bytes:
    """Return a document that must be XML. Raises MappingFailed when its pack made JSON."""
    if not isinstance(document, bytes):
        raise MappingFailed("the mapping pack made JSON, but this region's wire carries XML")
    return document


def check_media_type(material: Material, region: str) -> None:
    """Refuse a media type that no header can say. Raises RegionRefused."""
    if not _MEDIA_TYPE.fullmatch(material.media_type):
        problem = FieldProblem(f"materials.{material.code}.media_type", "is not a media type (RFC 6838)")
        raise RegionRefused(f"a material cannot be sent to {region}", problems=[problem], region=region)


async def read_material(material: Material, region: str) -> bytes:
    """Read one file into memory. Raises RegionRefused above 32 MiB or when its media type cannot be sent."""
    check_media_type(material, region)
    received = bytearray()
    if material.size <= MAX_MATERIAL_BYTES:
        async for chunk in material.open():
            received += chunk
            if len(received) > MAX_MATERIAL_BYTES:
                break
    if max(material.size, len(received)) > MAX_MATERIAL_BYTES:
        problem = FieldProblem(f"materials.{material.code}", f"is larger than {MAX_MATERIAL_BYTES} bytes", "too_large")
        text = f"{region} takes materials of at most {MAX_MATERIAL_BYTES >> 20} MiB"
        raise RegionRefused(text, problems=[problem], region=region)
    return bytes(received)


# --- answers that are a word and no more ------------------------------------------------------------------------


def bare_word(wire: Wire, answer: object, also: Collection[str], key: str = "status") -> str:
    """Return the word of an answer that may say no more than that, and `also`. Raises RegionUncertain for any other.

    Where only match or no match may be told, a value that comes all the same is not passed on, and not quoted: neither
    beside the word nor in its place.
    """
    said = answer if isinstance(answer, dict) else {}
    word = said.get(key)
    if not isinstance(word, str) or not _WORD.fullmatch(word):
        raise wire.uncertain("sent an answer that cannot be read", f"{key} is no word")
    if said.keys() - {key, *also}:
        raise wire.uncertain("said more than it may, and nothing of it is taken", f"more than {key}")
    return word


# --- quoting a region --------------------------------------------------------------------------------------------


def quotable(text: object, sent: RegionDocument | None = None) -> str:
    """Return a region's free text as far as it may be shown: short, one line, without the person in it.

    Regions like to repeat the value that they dislike. Every value of the document that we sent is therefore masked
    where it recurs, and so is whatever looks like a number of a person (four digits in a row) or an e-mail address.
    """
    if not isinstance(text, str) or not text:
        return ""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: MAX_QUOTED * 10]).split())
    for value in sorted({v for v in _texts(sent) if len(v) > 1}, key=len, reverse=True):
        line = line.replace(value, "***")
    return _IDENTIFYING.sub("***", line)[:MAX_QUOTED]


def field_problems(errors: object, sent: RegionDocument | None = None) -> list[FieldProblem]:
    """Read a region's `[{"field", "reason"}, …]`; whatever is not of that form is left out."""
    listed = errors if isinstance(errors, list) else []
    pairs = [(e.get("field"), e.get("reason")) for e in listed[:MAX_FIELD_PROBLEMS] if isinstance(e, dict)]
    return [
        FieldProblem(quotable(field, sent), quotable(reason, sent) or "refused by the region", "region.refused")
        for field, reason in pairs
        if isinstance(field, str)
    ]


def _texts(document: Any) -> Iterable[str]:
    """Yield every text in a document that we made ourselves."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, Mapping):
        for value in document.values():
            yield from _texts(value)
    elif isinstance(document, list | tuple):
        for value in document:
            yield from _texts(value)
    elif isinstance(document, bytes):
        for element in parse_xml(document, huge=True).iter(etree.Element):
            yield from ((element.text or "").strip(), *map(str, element.attrib.values()))


# --- XML ---------------------------------------------------------------------------------------------------------


def parse_xml(data: bytes, *, huge: bool = False) -> etree._Element:
    """Parse XML that may be hostile: no DOCTYPE, no entities, no network. Raises ValueError.

    `huge` lifts libxml2's limit of 10 MB a text node, for documents that we made ourselves.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=huge)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as wrong:
        raise ValueError(f"not well-formed XML (line {wrong.lineno})") from None
    info = root.getroottree().docinfo
    if info.doctype or info.internalDTD is not None or info.externalDTD is not None:
        raise ValueError("a DOCTYPE is not allowed")
    return root


# --- callbacks ---------------------------------------------------------------------------------------------------


def check_path(callback: Callback, path: str) -> None:
    """Refuse a callback to another path than the region's one. Raises NotFound."""
    if callback.path != path:
        raise NotFound(f"status events are taken at {path} only")


def callback_headers(callback: Callback, names: Sequence[str]) -> list[str]:
    """Return the named headers, which must all be there in printable ASCII. Raises ForgedCallback naming the rest."""
    wrong = [name for name in names if not _ASCII_HEADER.fullmatch(callback.headers.get(name, ""))]
    if wrong:
        raise ForgedCallback(f"the callback is not signed: missing or unreadable header {', '.join(wrong)}")
    return [callback.headers[name] for name in names]


def check_time(said: datetime, callback: Callback, tolerance: timedelta) -> datetime:
    """Refuse a callback out of its window, either way; return when its nonce may be forgotten.

    Raises ReplayedCallback. Call it after the signature is verified: only then is the time the region's own word.
    """
    if abs(callback.received_at - said) > tolerance:
        seconds = int(tolerance.total_seconds())
        raise ReplayedCallback(f"the callback's time stamp is more than {seconds} seconds away from our clock")
    return said + tolerance + NONCE_MARGIN


def check_posted(callback: Callback) -> None:
    """Refuse a verified callback that is no POST. Raises InvalidRequest."""
    if callback.method != "POST":
        raise InvalidRequest("status events must be sent with POST")


def callback_object(body: bytes) -> dict[str, Any]:
    """Read a verified callback's JSON object. Raises InvalidRequest."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as wrong:
        raise InvalidRequest(f"the signature is right, but the body is not JSON (near byte {wrong.pos})") from None
    if not isinstance(document, dict):
        raise InvalidRequest("the signature is right, but the body is not a JSON object")
    return document


def unix_time(text: str, *, per_second: int = 1) -> datetime | None:
    """Read Unix time in seconds (or thousandths, with `per_second=1000`); None when it is no such number."""
    longest = 11 if per_second == 1 else 14
    if not (text.isascii() and text.isdigit() and len(text) <= longest):
        return None
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=int(text) / per_second)
