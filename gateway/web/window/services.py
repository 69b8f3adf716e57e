"""What the window's pages need from the rest of the gateway, as one bundle.

Owns: the signatures. Leaves to `gateway.submissions` and `gateway.identity`: the work behind them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from joserfc.jwk import KeySet

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.domain.identity import Assurance, SignedOnPerson
from gateway.domain.item import Item
from gateway.domain.region import RegionNames
from gateway.items.blocks import Block
from gateway.ports import Clock
from gateway.storage.store import Store
from gateway.submissions.application import Application
from gateway.submissions.archive import Archive
from gateway.submissions.complaints import Complaints
from gateway.submissions.drafts import Drafts
from gateway.submissions.papers import Papers
from gateway.submissions.ratings import Ratings
from gateway.submissions.results import ResultDesk
from gateway.submissions.service import ServiceRecords
from gateway.submissions.supplements import Supplement
from gateway.submissions.window_documents import WindowDocuments
from gateway.submissions.withdrawals import Return, Withdrawal
from gateway.windows import WindowRegistry


class Taken(Protocol):
    """The answer to a submission that was taken, first time or again."""

    @property
    def submission_id(self) -> str:
        """Our case number."""
        ...


class Upload(Protocol):
    """A file that was stored for this caller."""

    @property
    def id(self) -> str:
        """The blob's id, by which a submission refers to it."""
        ...


class CaseSummary(Protocol):
    """One line of the list of recent cases; the name arrives masked (domain rule P9)."""

    @property
    def id(self) -> str: ...  # noqa: D102 - the names below are those of the case itself
    @property
    def item_code(self) -> str: ...  # noqa: D102 - as above
    @property
    def state(self) -> str: ...  # noqa: D102 - as above
    @property
    def place(self) -> str: ...  # noqa: D102 - as above
    @property
    def created_at(self) -> datetime: ...  # noqa: D102 - as above
    @property
    def applicant_name(self) -> str: ...  # noqa: D102 - as above


class CaseView(CaseSummary, Protocol):
    """A case as the clerk sees it: masked, with the numbers that regions gave it and what happened so far."""

    @property
    def holder(self) -> str: ...  # noqa: D102 - a word of gateway.domain.submission.Holder
    @property
    def document_number(self) -> str: ...  # noqa: D102 - masked
    @property
    def region_numbers(self) -> Sequence[Any]: ...  # noqa: D102 - region, number, short_number
    @property
    def clocks(self) -> Sequence[Any]: ...  # noqa: D102 - name, state, due_on, due_soon, ended_at, estimated, remark
    @property
    def service(self) -> Any: ...  # noqa: D102 - the record of service (ServiceView), None without one
    @property
    def timeline(self) -> Sequence[Any]: ...  # noqa: D102 - seq, state, source, occurred_at, detail
    @property
    def supplement(self) -> Any: ...  # noqa: D102 - what the region waits for: why, due_on, materials, on_paper; or None
    @property
    def special(self) -> Any: ...  # noqa: D102 - since, days, unit, due_on of a special procedure; or None
    @property
    def extension(self) -> Any: ...  # noqa: D102 - as above, of an extension
    @property
    def can(self) -> Sequence[str]: ...  # noqa: D102 - supplement, withdrawal, return
    @property
    def certified(self) -> Sequence[Any]: ...  # noqa: D102 - code, issuer, standing, verified_at, needed of each
    @property
    def parts(self) -> Sequence[Any]: ...  # noqa: D102 - id, part, place, state, holder, waiting of each part
    @property
    def ratings(self) -> Sequence[Any]: ...  # noqa: D102 - role, score, channel, words, correct_by, corrected_at of each
    @property
    def messages(self) -> Sequence[Any]: ...  # noqa: D102 - kind, created_at, state of what was said later
    @property
    def whole(self) -> str | None: ...  # noqa: D102 - the case that this is a part of


class Submit(Protocol):
    """Takes an application; the same caller, item and reference give the same case."""

    def __call__(
        self, caller: Caller, application: Application, *, assurance: Assurance, channel: str
    ) -> Awaitable[Taken]:
        """Raise InvalidRequest (problems by field path), NotPermitted or Conflict."""
        ...


class UploadFile(Protocol):
    """Stores a file for this caller."""

    def __call__(
        self, caller: Caller, *, name: str, media_type: str, chunks: AsyncIterator[bytes], sha256: str | None
    ) -> Awaitable[Upload]:
        """Raise InvalidRequest or BodyTooLarge."""
        ...


@dataclass(frozen=True, slots=True)
class WindowServices:
    """Everything that the window's pages are lent. `issuer` is the gateway's own public address."""

    items: Mapping[str, Item]
    block_of: Callable[[str, str], Block | None]
    """Item and region → why that office takes it no more for the moment."""
    visible: Callable[[Caller], Sequence[Item]]
    """The items that the grants open to this caller, each with only the offices that they open."""
    region_names: Mapping[str, RegionNames]
    submit: Submit
    upload: UploadFile
    show: Callable[[Caller, str], Awaitable[CaseView]]
    recent: Callable[[Caller, int], Awaitable[Sequence[CaseSummary]]]
    supplement: Callable[[Caller, str, Supplement], Awaitable[Any]]
    withdraw: Callable[[Caller, str, Withdrawal], Awaitable[Any]]
    give_back: Callable[[Caller, str, Return], Awaitable[Any]]
    redeem: Callable[[Mapping[str, str]], Awaitable[Mapping[str, Any]]]
    who_signed_on: Callable[[str], Awaitable[SignedOnPerson]]
    end_sign_on: Callable[[str | None], Awaitable[None]]
    """Ends the provider's session behind the handle in the browser's cookie."""
    openings: Callable[[], Awaitable[Mapping[str, str]]]
    """For each region whose sign-on is open the mark of its opening: a clerk is at a desk while it stays the same."""
    jwks: Callable[[], KeySet]
    store: Store
    sealer: Sealer
    clock: Clock
    windows: WindowRegistry
    issuer: str
    drafts: Drafts
    papers: Papers
    documents: WindowDocuments
    results: ResultDesk
    service: ServiceRecords
    ratings: Ratings
    complaints: Complaints
    archive: Archive
