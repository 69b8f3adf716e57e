"""The seams between the core and the regions: what a region can offer, and what it is handed.

Owns: the Protocols that an adapter implements, the `Adapter` that bundles them, and the `Kit` that the core lends.
Leaves to adapters: everything about a region's wire. Leaves to `gateway.mapping`: the conversion between our
canonical documents and the region's own form. An adapter therefore carries *region documents* and never reads
what is in them beyond what its wire needs.

A capability that a region does not offer is `None`, and the core refuses on its behalf.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

import aiohttp
from structlog.typing import FilteringBoundLogger

from gateway.errors import GatewayError

RegionDocument = dict[str, Any] | bytes
"""A message in a region's own form: a JSON-ready object, or XML bytes. Produced and read by mapping packs."""

Clock = Callable[[], datetime]
"""Gives the present as an aware UTC time. Handed in everywhere, so that tests own time."""


# --- sign-on -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignOnStart:
    """What the broker tells an identity provider when it sends a person there.

    `state` must come back unchanged; `redirect_uri` is the region's own one (`/sign-in/<region>/callback`), so that
    an answer for one region can never be taken for another's (mix-up). `language` is a BCP 47 tag. `levels` are those
    of the region's own words that would satisfy the service, from the least to the best; empty when any will do.
    `preferred` are those that the service would like: worth asking for, and no reason to refuse what comes instead.
    `fresh` asks for a proof made now (`prompt=login`, ForceAuthn), whatever session the region may have.
    """

    state: str
    nonce: str
    redirect_uri: str
    language: str
    levels: Sequence[str] = ()
    fresh: bool = False
    preferred: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SignOnReturn:
    """What the browser brought back: a query, or a form that was posted (SAML's POST binding).

    `query` is decoded exactly once, whichever of the two it was; `posted` tells. `memory` is what `begin` kept.
    """

    query: Mapping[str, str]
    memory: Mapping[str, str]
    redirect_uri: str
    posted: bool = False


@dataclass(frozen=True, slots=True)
class SignOnRedirect:
    """Where to send the browser, and what the adapter needs to see again at the return (kept on the server)."""

    url: str
    memory: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OnceOnly:
    """The id of an assertion that may be accepted once (SAML assertion id, ticket, `jti`), and until when it could be.

    The core remembers it in the transaction that makes the session: an adapter has no store that replicas share.
    """

    value: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class UpstreamIdentity:
    """What a region says about the person who signed on.

    `subject` is the region's own stable id for this person at this gateway. `claims` is the region's document for
    the pack `person`; `organisation`, for the pack `organisation`, is there when the person signed on for a legal
    person (法人) and `role` says as what: `handler` (经办人) or `legal_representative` (法定代表人).
    `method` and `level` are in the region's own words and describe *this session*, never the best the account has
    ever reached; `region.toml` translates levels into the ladder A0-A3.

    `authenticated_at` is when the person proved it, where the region says so; an answer to a request for a fresh proof
    must have it, and an adapter refuses one that has not. `assertion` are the exact bytes on which
    all this rests (a signed token, an assertion, an answer); only their digest is kept, as evidence. `session_ref` is
    the region's name for its own session (`sid`, SessionIndex), by which it may announce the end of it; `kept` is what
    the adapter needs to see again to end it from here.
    """

    subject: str
    claims: RegionDocument
    method: str
    level: str
    organisation: RegionDocument | None = None
    role: str = ""
    authenticated_at: datetime | None = None
    assertion: bytes = b""
    once: OnceOnly | None = None
    session_ref: str = ""
    kept: Mapping[str, str] = field(default_factory=dict)


class IdentityProvider(Protocol):
    """A region's sign-on (统一身份认证)."""

    async def begin(self, start: SignOnStart) -> SignOnRedirect:
        """Return the address to send the browser to. Raises RegionError."""
        ...

    async def complete(self, back: SignOnReturn) -> UpstreamIdentity:
        """Exchange what came back for the person's claims. Raises SignOnFailed or RegionError."""
        ...


@dataclass(frozen=True, slots=True)
class SignOutStart:
    """What an adapter is told when a person's session at the region is to end.

    `kept` is what `UpstreamIdentity.kept` was. `redirect_uri` is the region's own address for the way back
    (`/sign-in/<region>/signed-out`) and `state` must come back unchanged, if the browser is sent there at all.
    """

    kept: Mapping[str, str]
    state: str
    redirect_uri: str
    language: str


@dataclass(frozen=True, slots=True)
class SignOutNotice:
    """A region's verified word that a session has ended there: by its `session_ref`, or all of one `subject`.

    `once` is the id of the notice itself.
    """

    session_ref: str
    subject: str
    once: OnceOnly | None


class SignOut(Protocol):
    """A region whose own session can be ended from here, and which may announce that one has ended there."""

    async def end(self, start: SignOutStart) -> SignOnRedirect | None:
        """End the region's session: by itself (then None), or by sending the browser there.

        Raises RegionError; NotOffered when there is no way to end this one.
        """
        ...

    async def ended(self, notice: Callback) -> SignOutNotice:
        """Verify and read what arrived at `/sign-in/<region>/logout` (OpenID Connect Back-Channel Logout, SAML).

        Raises ForgedCallback, ReplayedCallback or InvalidRequest; NotOffered when the region announces nothing.
        """
        ...


# --- submissions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Material:
    """One file that goes with a submission: `open` streams its clear bytes; `sha256` is lower-case hex."""

    code: str
    name: str
    media_type: str
    size: int
    sha256: str
    open: Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class SubmissionOrder:
    """One delivery attempt. `submission_id` is the idempotency key and never changes between attempts."""

    submission_id: str
    document: RegionDocument
    materials: Sequence[Material]


class SubmissionTarget(Protocol):
    """A region that takes submissions (申办)."""

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        """Hand the submission over and return the region's receipt in its own form (pack `receipt`).

        Raises RegionUnreachable (not taken), RegionUncertain (unknown) or RegionRefused (a definite no).
        """
        ...

    async def ask(self, submission_id: str) -> RegionDocument | None:
        """Ask whether the region holds this submission: its receipt, or None when it certainly does not.

        Raises RegionUnreachable or RegionUncertain when the question itself got no usable answer, RegionCannotBeAsked
        when the wire has no such question: then a delivery in doubt waits for a person.
        """
        ...


@dataclass(frozen=True, slots=True)
class CaseMessage:
    """One attempt to tell a region something more about a case that it holds.

    `kind` is one of `MESSAGE_KINDS` and names the mapping pack that wrote `document`. `message_id` is the idempotency
    key and never changes between attempts. `number` is the region's own number of the case.
    """

    message_id: str
    kind: str
    submission_id: str
    number: str
    document: RegionDocument
    materials: Sequence[Material] = ()


MESSAGE_KINDS = ("supplement", "withdrawal", "rating", "complaint")
"""What can be said of a case after it was handed over: 补正, 撤回, 好差评, 投诉."""


class CaseMessages(Protocol):
    """A region that is told more about a case than the submission."""

    kinds: frozenset[str]
    """Those of `MESSAGE_KINDS` that its wire carries; each needs its mapping pack."""

    async def send(self, message: CaseMessage) -> None:
        """Hand the message over.

        Raises RegionUnreachable (not taken), RegionUncertain (unknown) or RegionRefused (a definite no).
        """
        ...

    async def holds(self, message: CaseMessage) -> bool:
        """Say whether the region has this message already.

        Raises RegionCannotBeAsked when the wire has no such question; RegionUnreachable or RegionUncertain when the
        question itself got no usable answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Callback:
    """A request that arrived under `/callbacks/<region>/`, untouched. Header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True)
class CallbackReading:
    """What a verified callback said: region events (pack `event`), and the answer the region expects."""

    events: Sequence[RegionDocument]
    answer: Mapping[str, Any]
    nonce: str
    nonce_expires: datetime


class StatusCallbacks(Protocol):
    """A region that pushes status events to us."""

    async def read(self, callback: Callback) -> CallbackReading:
        """Verify origin, integrity and time window; decode.

        Raises ForgedCallback, ReplayedCallback (out of time) or InvalidRequest. The core checks the nonce for reuse in
        the transaction that records the events.
        """
        ...


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Events after a cursor, oldest first, and the cursor to ask with next time."""

    events: Sequence[RegionDocument]
    cursor: str


class StatusFeed(Protocol):
    """A region whose status events must be polled."""

    async def poll(self, cursor: str) -> FeedPage:
        """Return events after `cursor` ("" is the beginning). Raises RegionError."""
        ...


# --- pickups -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pickup:
    """What a verified pull asks for: the document of a case, or one material of it.

    With `message_id` it is about that message (a supplement) and not about the submission itself. A material is named
    by its digest (SHA-256, lower-case hex) or by its code; with neither, the document is wanted. The core spends
    `nonce` before anything is handed over.
    """

    submission_id: str
    nonce: str
    nonce_expires: datetime
    message_id: str = ""
    material_sha256: str = ""
    material_code: str = ""

    @property
    def wants_material(self) -> bool:
        """Say whether a file is wanted and not the document."""
        return bool(self.material_sha256 or self.material_code)


@dataclass(frozen=True, slots=True)
class PickupAnswer:
    """What goes back to whoever pulled, in the region's wire form: `size` bytes, streamed; None: not known before."""

    media_type: str
    body: AsyncGenerator[bytes, None]
    size: int | None = None
    status: int = 200


class Pickups(Protocol):
    """A region that is only told a number, and then pulls (提取) the application and its materials from us.

    Its `SubmissionTarget.submit` hands over the notice; what the notice is about stays here until it is pulled. Pulls
    arrive under `/callbacks/<region>/`, at whichever replica, any time later and more than once.
    """

    operations: frozenset[str]
    """What follows `/callbacks/<region>/` in the address of a pull. Whatever else arrives there is a callback."""

    async def read(self, pull: Callback) -> Pickup:
        """Verify origin, integrity and time window; say what is asked for.

        Raises ForgedCallback, ReplayedCallback (out of time) or InvalidRequest. The core checks the nonce for reuse.
        """
        ...

    def document(self, pull: Callback, document: RegionDocument) -> PickupAnswer:
        """Return the answer to a pull that `read` let through: the document, as its mapping pack wrote it."""
        ...

    def material(self, pull: Callback, material: Material) -> PickupAnswer:
        """Return the answer to a pull that `read` let through: one file, streamed in constant memory."""
        ...

    def refusal(self, pull: Callback, error: GatewayError) -> PickupAnswer:
        """Return the answer to any pull that is refused, one that does not verify included."""
        ...


# --- results -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ResultDocument:
    """A document that came out of a case (办理结果): a decision, a certificate. `sha256` is lower-case hex.

    `code` is the region's name for it, which tells it apart from the others of the case.
    """

    code: str
    name: str
    media_type: str
    size: int
    sha256: str


class Results(Protocol):
    """A region that hands the documents of a decided case over (结果回传). `number` is its own number of the case."""

    in_pieces: bool
    """Whether each piece that `open` yields is an exchange of its own, which then takes its turn like any other."""

    async def list(self, number: str) -> Sequence[ResultDocument]:
        """Return what there is, all of it, once the region has reported the decision. Raises RegionError."""
        ...

    async def open(self, number: str, document: ResultDocument) -> AsyncGenerator[bytes, None]:
        """Begin to fetch one document; what is returned yields its bytes. Raises RegionError, both times.

        The core holds size and digest against what was listed.
        """
        ...


# --- certificates ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CertificateReply:
    """A region's answer to a lookup: its own status code, its message, and certificates (pack `certificate`)."""

    status: str
    message: str = ""
    certificates: Sequence[RegionDocument] = ()


class CertificateSource(Protocol):
    """A region that answers for the certificates (电子证照) that it issued."""

    async def lookup(self, query: RegionDocument) -> CertificateReply:
        """Ask the issuer now (pack `certificate-query`). Raises RegionError; an error is never "not found"."""
        ...


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """A certificate's file (证照文件) on its way: `body` yields its bytes, of this size and SHA-256 (hex) if said."""

    media_type: str
    size: int | None
    sha256: str | None
    body: AsyncGenerator[bytes, None]


@dataclass(frozen=True, slots=True)
class DisputeReply:
    """What an issuer answers to a reported error (异议): `corrected`, `rejected`, or `open` while it looks into it."""

    state: Literal["open", "corrected", "rejected"]
    text: str = ""


class IssuedCertificates(Protocol):
    """A region that tells of one certificate that is named, by identifier (证照标识) or by a shown code (亮证码).

    `operations` are those that its wire knows, of `data`, `file`, `code` and `dispute`; the core asks for no other.
    """

    operations: frozenset[str]

    async def data(self, query: RegionDocument) -> CertificateReply:
        """Ask for one certificate by its identifier (pack `certificate-request`). Raises RegionError."""
        ...

    async def code(self, query: RegionDocument) -> CertificateReply:
        """Ask what a shown code stands for (pack `certificate-request`). Raises RegionError."""
        ...

    async def file(self, query: RegionDocument) -> CertificateFile | CertificateReply:
        """Begin to fetch the file of one certificate; a reply says why there is none. Raises RegionError."""
        ...

    async def dispute(self, report: RegionDocument) -> str:
        """Report an error (pack `certificate-dispute`) and return the issuer's number; again is the same report."""
        ...

    async def disputed(self, number: str) -> DisputeReply:
        """Ask what became of a report, by the issuer's number. Raises RegionError."""
        ...


class CertificateNotices(Protocol):
    """A region that tells when a certificate is worth something else than before (证照状态变更通知).

    `operations` are the last steps of the callback addresses under which its notices come.
    """

    operations: frozenset[str]

    async def read(self, callback: Callback) -> CallbackReading:
        """Verify and decode as `StatusCallbacks.read` does; what is read are notices (pack `certificate-notice`)."""
        ...


# --- catalogue and city codes ------------------------------------------------------------------------------------


class Catalogue(Protocol):
    """A region that publishes its items (政务服务事项)."""

    async def items(self) -> Sequence[RegionDocument]:
        """Return the items the region handles. Raises RegionError."""
        ...


@dataclass(frozen=True, slots=True)
class CodeQuestion:
    """A presented city code (城市码), and why it is resolved: purpose, item and the organisation that asks."""

    code: str = field(repr=False)
    purpose: str
    item: str
    organisation: str


@dataclass(frozen=True, slots=True)
class ResolvedCode:
    """What the issuer of a code says: the person's stable id there, how sure (the region's word), and until when."""

    subject: str
    level: str
    expires_at: datetime


class CodeResolver(Protocol):
    """A region that resolves a presented city code (城市码)."""

    async def resolve(self, question: CodeQuestion) -> ResolvedCode:
        """Ask the issuer now; a code serves once. Raises RegionRefused (unknown, expired, used) or RegionError."""
        ...


# --- adapter and kit ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Adapter:
    """What one region offers. Constructing it makes no network call."""

    sign_on: IdentityProvider | None = None
    submissions: SubmissionTarget | None = None
    callbacks: StatusCallbacks | None = None
    feed: StatusFeed | None = None
    certificates: CertificateSource | None = None
    issued: IssuedCertificates | None = None
    notices: CertificateNotices | None = None
    catalogue: Catalogue | None = None
    codes: CodeResolver | None = None
    sign_out: SignOut | None = None
    trust_confirmed_at: Callable[[], datetime | None] | None = None
    """When the keys and metadata that this region's sign-on is verified with were last confirmed by the region; None
    while they never were. Absent where all trust is pinned in the configuration."""
    messages: CaseMessages | None = None
    pickups: Pickups | None = None
    results: Results | None = None
    metadata: Callable[[], bytes] | None = None
    """Our own side as this region's identity provider must know it: SAML metadata of a service provider."""
    probe: Callable[[], Awaitable[None]] | None = None
    """Reach the region and return, or raise RegionError. Used by `pearl check --live` and by /readyz."""


@dataclass(frozen=True, slots=True)
class Kit:
    """What the core lends to an adapter: nothing is reached for, everything is handed in.

    `settings` is `[settings]` of region.toml overlaid with the deployment's; `secret(name)` reads a secret declared
    in region.toml (raises KeyError for one that is not declared); `public_url` is the gateway's own base address.
    """

    region: str
    session: aiohttp.ClientSession
    clock: Clock
    log: FilteringBoundLogger
    settings: Mapping[str, Any]
    secret: Callable[[str], bytes]
    public_url: str
    timeout: aiohttp.ClientTimeout
    random_token: Callable[[], str]


OpenAdapter = Callable[[Kit], Adapter]
"""The one function that `adapters/<region>/adapter.py` must define, under the name `open_adapter`."""
