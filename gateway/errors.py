"""The family of errors that the gateway raises, and what each may say to whom.

Owns: a stable code, the public text, the private detail, where the fault arose, and whether the same call
may succeed later. Leaves to `gateway.web.problems`: turning an error into an HTTP answer (one table, one place).

The public text is for the calling service and never holds personal data or a secret. The private detail is for
our log and is never sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Where(StrEnum):
    """Where a fault arose, as the caller of the API sees it."""

    CALLER = "caller"
    GATEWAY = "gateway"
    REGION = "region"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing that is wrong: which field (a dotted path), why, and a stable code for programs."""

    field: str
    reason: str
    code: str = "invalid"


class GatewayError(Exception):
    """Base of everything the gateway raises on purpose.

    `public` may be shown to the caller; `detail` may only be logged; `problems` lists every wrong field at once.
    """

    code: ClassVar[str] = "gateway.error"
    title: ClassVar[str] = "The gateway could not do this"
    where: ClassVar[Where] = Where.GATEWAY
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        public: str,
        *,
        detail: str = "",
        problems: Sequence[FieldProblem] = (),
        code: str | None = None,
        region: str | None = None,
    ) -> None:
        super().__init__(public)
        self.public = public
        self.detail = detail
        self.problems = tuple(problems)
        self.region = region
        self.stable_code = code or self.code
        self.headers: Mapping[str, str] = {}
        """Further headers for the answer."""
        self.evidence: str | None = None
        """The evidence row that records this refusal, once there is one."""

    def fields(self) -> list[str]:
        """Return which fields are wrong, for logs and evidence: not endlessly many, and none endlessly long."""
        return [problem.field[:64] for problem in self.problems[:50]]

    def __str__(self) -> str:
        return f"{self.stable_code}: {self.public}"


# --- the caller's side -------------------------------------------------------------------------------------------


class CallerError(GatewayError):
    """The request cannot be served as it stands; repeating it unchanged gives the same answer."""

    where = Where.CALLER


class InvalidRequest(CallerError):
    """The request is malformed or breaks a rule; `problems` names every field that is wrong."""

    code = "request.invalid"
    title = "The request is not valid"


class BodyTooLarge(CallerError):
    """The body exceeds a configured limit; the public text names the limit."""

    code = "request.too_large"
    title = "The request body is too large"


class NotAuthenticated(CallerError):
    """No credential, or one that is expired, foreign, malformed or revoked."""

    code = "auth.invalid_token"
    title = "The caller is not authenticated"


class NotPermitted(CallerError):
    """Known caller, but no rule allows this; the public text names the missing rule."""

    code = "policy.denied"
    title = "The caller may not do this"


class NotFound(CallerError):
    """Nothing under this name that the caller may see."""

    code = "request.not_found"
    title = "There is nothing here"


class PickupOver(NotFound):
    """A case that its region could pull for a time; that time has passed."""

    code = "pickup.over"
    title = "The case can be pulled no longer"


class Conflict(CallerError):
    """The request contradicts something that is already recorded."""

    code = "request.conflict"
    title = "The request contradicts what is recorded"


class MappingsRefused(InvalidRequest):
    """An operator's mapping files have faults, so that the ones in use stay; `problems` lists all of them."""

    code = "mapping.refused"
    title = "The mapping files are not taken"


class SignOnFailed(CallerError):
    """A sign-on could not be completed; the interaction is over and must be started again."""

    code = "signon.failed"
    title = "The sign-on could not be completed"


class NotRecognised(SignOnFailed):
    """A sign-on took place, but the recognition matrix does not let it count for this service."""

    code = "signon.not_recognised"
    title = "The sign-on does not count here"


class ForgedCallback(CallerError):
    """A message that claims to come from a region does not verify against that region's pinned key."""

    code = "callback.forged"
    title = "The callback does not verify"


class ReplayedCallback(CallerError):
    """A callback whose nonce was used before, or whose time is outside the accepted window."""

    code = "callback.replayed"
    title = "The callback was seen before or is out of time"


class UnreadableCallback(InvalidRequest):
    """A callback that verifies, but whose events cannot be read; they are kept for a person."""

    code = "callback.unreadable"
    title = "The callback cannot be read"


# --- a region's side ---------------------------------------------------------------------------------------------


class RegionError(GatewayError):
    """Something went wrong while talking to a region. The subclass says what is known of the outcome."""

    where = Where.REGION
    retryable = True


class RegionUnreachable(RegionError):
    """The region certainly did not take the message (refused connection, no route, open breaker): send again."""

    code = "region.unreachable"
    title = "The region cannot be reached"
    where = Where.NETWORK


class RegionResting(RegionUnreachable):
    """The breaker is open: the region has failed repeatedly and is not called for a moment."""

    code = "region.breaker_open"
    title = "The region is left alone for a moment"


class RegionBusy(RegionUnreachable):
    """There was no turn for this call within the time that a call may wait."""

    code = "region.busy"
    title = "Too many calls wait for the region"


class TrustStale(RegionUnreachable):
    """The keys of the region's sign-on were not confirmed for too long: what they verify is not believed."""

    code = "region.trust_stale"
    title = "The region's keys have not been confirmed for too long"


class RegionUncertain(RegionError):
    """The outcome is unknown: time-out after sending, lost answer, or an answer that cannot be read.

    A delivery that ends so is IN_DOUBT: the region is asked before anything is sent again.
    """

    code = "region.uncertain"
    title = "The region's answer did not arrive or cannot be read"


class RegionSettling(RegionUncertain):
    """The region may still be at work on an earlier message; what it says of it would mean nothing yet."""

    code = "region.settling"
    title = "The region may still be at work on it"


class RegionRefused(RegionError):
    """The region understood the message and says no; repeating it unchanged gives the same answer."""

    code = "region.refused"
    title = "The region refused the message"
    retryable = False


class RegionCannotBeAsked(RegionError):
    """The region's protocol has no question for what it holds: a delivery in doubt is a person's business."""

    code = "region.cannot_be_asked"
    title = "The region cannot be asked what it holds"
    retryable = False


# --- our own side ------------------------------------------------------------------------------------------------


class MappingFailed(GatewayError):
    """A document cannot be said in the other format; `problems` names the fields, never their values."""

    code = "mapping.failed"
    title = "The document cannot be converted"


class NotOffered(GatewayError):
    """The region does not offer this capability, so the gateway refuses on its behalf."""

    code = "region.not_offered"
    title = "The region does not offer this"
    where = Where.CALLER


class RegionClosed(NotOffered):
    """The operator has closed the region's sign-on."""

    code = "region.closed"
    title = "The region is closed for sign-on"


class CertificateChanged(GatewayError):
    """A certificate that stands for a material of a case is in force no more: the case goes back to who filed it."""

    code = "certificate.changed"
    title = "A certificate that the case rests on is in force no more"


class CertificateUnconfirmed(GatewayError):
    """Its issuer was not heard, so that nobody knows what a certificate of a case is worth now: ask again."""

    code = "certificate.unconfirmed"
    title = "A certificate that the case rests on could not be verified again"
    where = Where.REGION
    retryable = True


class CertificateNotAskable(GatewayError):
    """Whoever filed a case may not ask about its certificate any more: a person must look."""

    code = "certificate.not_permitted"
    title = "A certificate that the case rests on may not be asked about any more"


class Unavailable(GatewayError):
    """The gateway itself cannot serve just now (shutting down, store unreachable)."""

    code = "gateway.unavailable"
    title = "The gateway is not able to serve at the moment"
    retryable = True


class StartRefused(GatewayError):
    """Configuration, regions, mappings or data files are wrong. `problems` lists all of them in one go."""

    code = "start.refused"
    title = "The gateway refuses to start"

    def __str__(self) -> str:
        lines = [f"  {number}. {p.field}: {p.reason}" for number, p in enumerate(self.problems, start=1)]
        return "\n".join([f"{self.public} ({len(lines)} problem{'' if len(lines) == 1 else 's'})", *lines])
