"""The TIF profile: JSON over REST with `x-tif-*` signatures, pushed status events.

Owns: the signature and its extension over body, method and path; cases, materials, certificates, city codes and
callbacks on that wire. Leaves to `tif_sign_on` the sign-on of unified identity (统一身份认证, tyrz), to `tif_messages`
what is said of a case later, to `tif_issued` certificates that are named, to `tif_catalogue` the items, and to mapping
packs what stands in a document. Source:
adapters/guangdong/README.md, which lists what a real connection must confirm.

A refused signature (HTTP 401 on our own message) is `RegionUnreachable`: the message was certainly not taken, and
it is an operator's problem (a wrong secret, a clock astray), after whose repair the same message goes through.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import orjson

from gateway.errors import ForgedCallback, RegionUnreachable
from gateway.ports import (
    Callback,
    CallbackReading,
    CertificateReply,
    Clock,
    CodeQuestion,
    Kit,
    Material,
    RegionDocument,
    ResolvedCode,
    SubmissionOrder,
)
from gateway.protocols.tif_levels import beijing_time
from gateway.protocols.wire import (
    Answer,
    Wire,
    as_object,
    callback_headers,
    callback_object,
    check_media_type,
    check_path,
    check_posted,
    check_time,
    field_problems,
    nothing_taken_yet,
    quotable,
    secret_bytes,
    text_setting,
    unix_time,
)

TOLERANCE = timedelta(seconds=180)
"""How far a time stamp may be from our clock, both ways."""

AUTHORITY_ID = "gd-authority"
"""The `x-tif-paasid` under which the authority calls us."""

SIGNED_HEADERS = ("x-tif-paasid", "x-tif-timestamp", "x-tif-nonce", "x-tif-signature")
DIGEST_HEADERS = ("content-digest", "x-pearl-digest-mac")

_NONCE = re.compile(r"[0-9A-Za-z-]{1,64}")


# --- signature ---------------------------------------------------------------------------------------------------


def tif_signature(token: bytes, timestamp: str, nonce: str) -> str:
    """Return `hex(SHA-256(timestamp + token + nonce + timestamp))`; it covers neither body nor path."""
    stamp = timestamp.encode()
    return hashlib.sha256(stamp + token + nonce.encode() + stamp).hexdigest()


def content_digest(body: bytes) -> str:
    """Return the `Content-Digest` value of the exact body bytes (RFC 9530)."""
    return _digest_field(hashlib.sha256(body).digest())


def _digest_field(digest: bytes) -> str:
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


def digest_mac(token: bytes, timestamp: str, nonce: str, method: str, path: str, digest: str) -> str:
    """Return the HMAC-SHA256 that ties the digest to this moment, method and path (percent-encoded, no query)."""
    text = "\n".join((timestamp, nonce, method, path, digest))
    return hmac.new(token, text.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class TifSigner:
    """Signs our messages and checks the authority's, both with the one shared token."""

    paas_id: str
    token: bytes
    clock: Clock
    random_token: Callable[[], str]

    def headers(self, method: str, path: str, body: bytes | Material) -> dict[str, str]:
        """Return the six headers for one message; the digest of a file is known before it is read."""
        now = self.clock()
        timestamp = str(int(now.timestamp()))
        random_part = hashlib.sha256(self.random_token().encode()).hexdigest()[:12]
        nonce = f"{int(now.timestamp() * 1000):x}-{random_part}"
        digest = _digest_field(bytes.fromhex(body.sha256)) if isinstance(body, Material) else content_digest(body)
        return {
            "x-tif-paasid": self.paas_id,
            "x-tif-timestamp": timestamp,
            "x-tif-nonce": nonce,
            "x-tif-signature": tif_signature(self.token, timestamp, nonce),
            "Content-Digest": digest,
            "x-pearl-digest-mac": digest_mac(self.token, timestamp, nonce, method, path, digest),
        }

    def verify(self, callback: Callback) -> tuple[str, str]:
        """Check origin and integrity of a callback; return its nonce and time stamp. Raises ForgedCallback."""
        names = SIGNED_HEADERS + DIGEST_HEADERS
        caller, timestamp, nonce, signature, digest, mac = callback_headers(callback, names)
        if not _NONCE.fullmatch(nonce):
            raise ForgedCallback("x-tif-nonce must be 1 to 64 letters, digits and hyphens")
        checks = {
            "x-tif-paasid": _same(AUTHORITY_ID, caller),
            "x-tif-signature": _same(tif_signature(self.token, timestamp, nonce), signature.lower()),
            "content-digest": _same(content_digest(callback.body), digest),
            "x-pearl-digest-mac": _same(
                digest_mac(self.token, timestamp, nonce, callback.method, callback.path, digest), mac.lower()
            ),
        }
        wrong = [name for name, right in checks.items() if not right]
        if wrong:
            raise ForgedCallback(f"the callback does not verify: {', '.join(wrong)}")
        return nonce, timestamp


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode())


# --- client ------------------------------------------------------------------------------------------------------


class TifClient:
    """Sends signed messages over one wire and reads what a status means."""

    def __init__(self, wire: Wire, signer: TifSigner) -> None:
        self.wire = wire
        self.signer = signer

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | Material = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one message and return whatever came back, but for refused signatures. Raises RegionError.

        A file as the body is streamed.
        """
        url = self.wire.url(path, query)
        signed = {**(headers or {}), **self.signer.headers(method, url.raw_path, body)}
        if isinstance(body, Material):
            answer = await self.wire.stream(method, url, headers=signed, content=body.open(), size=body.size)
        else:
            answer = await self.wire.exchange(method, url, headers=signed, body=body or None)
        if answer.status == 401:
            raise self.not_accepted("HTTP 401")
        return answer

    async def post(self, path: str, document: dict[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
        """Send a JSON document; exactly these bytes are signed. Raises RegionError."""
        typed = {"Content-Type": "application/json", **(headers or {})}
        return await self.call("POST", path, body=orjson.dumps(document), headers=typed)

    async def fetch(self, path: str, size: int) -> AsyncGenerator[bytes, None]:
        """Ask for a file of so many bytes, and return them as they come. Raises RegionError."""
        url = self.wire.url(path)
        answer, content = await self.wire.download(
            url, headers=self.signer.headers("GET", url.raw_path, b""), size=size
        )
        if answer.status == 401:
            raise self.not_accepted("HTTP 401")
        if content is None:
            self.read(answer)
            raise self.wire.uncertain("gave an unexpected answer", f"HTTP {answer.status}")
        return content

    def not_accepted(self, how: str) -> RegionUnreachable:
        """Return the error for a message that was certainly not taken, because it was not believed to be ours."""
        detail = f"{how}: check paas_id, paas_token and our clock"
        return self.wire.unreachable("did not accept our signature; an operator must look", detail)

    def read(self, answer: Answer, sent: RegionDocument | None = None) -> dict[str, Any]:
        """Return the JSON object of a success. Raises RegionRefused, RegionUnreachable or RegionUncertain.

        A status of HTTP counts only together with the same `code` in a readable body: an error page of something on
        the way is no word of the region.
        """
        document = self.wire.json_object(answer.body)
        if answer.status == 200:
            return document
        if str(document.get("code")) == str(answer.status):
            if answer.status == 503:
                raise self.wire.unreachable("did not take the message", "code 503")
            if 400 <= answer.status < 500:
                problems = field_problems(document.get("errors"), sent)
                reason = quotable(document.get("message"), sent)
                raise self.wire.refused(reason, problems, f"HTTP {answer.status}")
        raise self.wire.uncertain("gave an unexpected answer", f"HTTP {answer.status}")

    def data(self, answer: Answer, sent: RegionDocument | None = None) -> dict[str, Any]:
        """Return `data` of a reply whose code is 200. Raises as `read`."""
        document = self.read(answer, sent)
        data = document.get("data")
        if document.get("code") != "200" or not isinstance(data, dict):
            raise self.wire.uncertain("sent an answer that cannot be read", "no code 200 with data")
        return data


# --- submissions -------------------------------------------------------------------------------------------------


class TifSubmissions:
    """Cases and their materials under one path."""

    def __init__(self, client: TifClient, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        """Upload what is needed, then hand the case over. Raises RegionError."""
        region = self._client.wire.region
        with nothing_taken_yet(region):
            for material in order.materials:
                await upload(self._client, self._prefix, material)
        document = as_object(order.document)
        marked = {"x-pearl-submission-id": order.submission_id}
        answer = await self._client.post(f"{self._prefix}/cases", document, marked)
        return self._receipt(answer, order.submission_id, document)

    async def ask(self, submission_id: str) -> RegionDocument | None:
        """Return the receipt of a case, or None when the region itself says that it has none. Raises RegionError."""
        answer = await self._client.call("GET", f"{self._prefix}/cases/{quote(submission_id, safe='')}")
        if answer.status == 404 and self._client.wire.json_object(answer.body).get("code") == "404":
            return None
        return self._receipt(answer, submission_id, None)

    def _receipt(self, answer: Answer, submission_id: str, sent: RegionDocument | None) -> dict[str, Any]:
        receipt = self._client.data(answer, sent)
        if receipt.get("wwbh") != submission_id:
            raise self._client.wire.uncertain("answered for another submission", "wwbh differs")
        return receipt


async def upload(client: TifClient, prefix: str, material: Material) -> None:
    """Hand one file over, which cases and supplements then name by its digest. Raises RegionError."""
    check_media_type(material, client.wire.region)
    typed = {"Content-Type": material.media_type}
    path = f"{prefix}/materials/{material.sha256}"
    data = client.data(await client.call("PUT", path, body=material, headers=typed))
    if str(data.get("wjzy")).lower() != material.sha256:
        raise client.wire.uncertain("acknowledged another file than the one sent", f"material {material.code}")


# --- status events -----------------------------------------------------------------------------------------------


class TifCallbacks:
    """Status events that the authority pushes."""

    def __init__(self, signer: TifSigner, path: str) -> None:
        self._signer = signer
        self._path = path

    async def read(self, callback: Callback) -> CallbackReading:
        """Verify and decode one event. Raises NotFound, ForgedCallback, ReplayedCallback or InvalidRequest."""
        check_path(callback, self._path)
        nonce, timestamp = self._signer.verify(callback)
        said = unix_time(timestamp)
        if said is None:
            raise ForgedCallback("x-tif-timestamp must be Unix time in seconds")
        expires = check_time(said, callback, TOLERANCE)
        check_posted(callback)
        event = callback_object(callback.body)
        return CallbackReading((event,), {"code": "200", "message": "ok"}, nonce, expires)


# --- certificates ------------------------------------------------------------------------------------------------


NOT_OURS = "11"
"""Status of an answer about certificates: whoever asks is not authenticated (GB/T 36906 as it is practised)."""


async def certificate_reply(client: TifClient, path: str, query: RegionDocument) -> CertificateReply:
    """Ask an issuer; the status is its own word, and an unreadable answer is an error. Raises RegionError."""
    document = as_object(query)
    reply = client.read(await client.post(path, document), document)
    head, data = reply.get("head"), reply.get("data")
    if not isinstance(head, dict) or not isinstance(head.get("status"), str):
        raise client.wire.uncertain("sent an answer that cannot be read", "no head.status")
    if head["status"] == NOT_OURS:
        raise client.not_accepted(f"status {NOT_OURS}")
    found = data if isinstance(data, list) else []
    if any(not isinstance(each, dict) for each in found) or (head["status"] == "0" and not found):
        raise client.wire.uncertain("sent an answer that cannot be read", "status and data do not fit")
    return CertificateReply(head["status"], quotable(head.get("message"), document), tuple(found))


class TifCertificates:
    """Lookups in the style of GB/T 36906."""

    def __init__(self, client: TifClient, path: str) -> None:
        self._client = client
        self._path = path

    async def lookup(self, query: RegionDocument) -> CertificateReply:
        """Ask the issuer now. Raises as `certificate_reply`."""
        return await certificate_reply(self._client, self._path, query)


# --- city codes --------------------------------------------------------------------------------------------------


class TifCodes:
    """City codes (城市码) resolved by their issuer. The address and its fields are our reading."""

    def __init__(self, client: TifClient, path: str) -> None:
        self._client = client
        self._path = path

    async def resolve(self, question: CodeQuestion) -> ResolvedCode:
        """Ask the issuer now; the answer must be to this very question. Raises RegionRefused or RegionError."""
        number = hashlib.sha256(self._client.signer.random_token().encode()).hexdigest()[:32]
        document = {
            "qqbh": number,
            "csm": question.code,
            "sxbm": question.item,
            "sydw": question.organisation,
            "syyt": question.purpose,
        }
        data = self._client.data(await self._client.post(self._path, document), document)
        if data.get("qqbh") != number:
            raise self._client.wire.uncertain("answered another question than the one asked", "qqbh differs")
        return self._resolved(data)

    def _resolved(self, data: Mapping[str, Any]) -> ResolvedCode:
        subject, level = data.get("yhbs"), data.get("rzdj")
        until = beijing_time(str(data.get("yxqz")))
        if not isinstance(subject, str) or not subject or not isinstance(level, str) or until is None:
            raise self._client.wire.uncertain("sent an answer that cannot be read", "yhbs, rzdj or yxqz")
        return ResolvedCode(subject, level, until)


# --- opening -----------------------------------------------------------------------------------------------------


def open_client(kit: Kit) -> TifClient:
    """Compose wire and signer from settings `base_url`, `paas_id` and secret `paas_token`. Raises StartRefused."""
    token = secret_bytes(kit, "paas_token")
    return TifClient(Wire(kit), TifSigner(text_setting(kit, "paas_id"), token, kit.clock, kit.random_token))
