"""Handing archive packages to archive systems (部门档案管理系统), some time after the end of a case.

Owns: which system takes the cases of which region or office, when, and the request. It is an errand: tried again until
the system has it, harmless to repeat, because the same case makes the same bytes under the same address. Leaves to the
system: everything that it does with a package. None of its interfaces is published; ours asks for one PUT.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import aiohttp
from sqlalchemy import Connection, select

from gateway.domain.submission import ENDS
from gateway.errors import NotOffered, RegionRefused, RegionUnreachable
from gateway.evidence import Exchange, record
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.tables import submissions
from gateway.submissions import errands
from gateway.submissions.archive import Archive
from gateway.submissions.archive_package import Package
from gateway.submissions.errands import Errand, Finish, Note, NotYet
from gateway.submissions.results import RESULTS
from gateway.submissions.story import Story

ARCHIVE = "archive"
"""The kind of errand that hands a package over."""
ARCHIVED = "archived"
"""The fact that an archive system has the package of a case."""
_RECEIPT = re.compile(r"[\x21-\x7e]{1,64}")
_AGAIN = frozenset({408, 409, 425, 429})
"""Refusals of HTTP that are none for good."""


@dataclass(frozen=True, slots=True)
class System:
    """One archive system: its base address, and the token that it knows us by."""

    url: str
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Systems:
    """Archive systems by the GB/T 2260 code of the office, or by region id; the code of an office goes first."""

    known: Mapping[str, System]

    def of(self, case: Mapping[str, object]) -> System | None:
        """Return the system that takes a case, None where none is named."""
        return self.known.get(str(case["handling_code"])) or self.known.get(str(case["handling_region"]))


@dataclass(frozen=True, slots=True)
class ArchiveDue:
    """Writes the errand when a case ends whose file goes to an archive system; a follower of the event log."""

    systems: Systems
    after: timedelta
    """How long after the end: what follows at once (documents, service, ratings) is in the package then."""

    def keep(self, tx: Connection, story: Story, now: datetime) -> None:
        """Write it once. Part of the transaction that recorded the step."""
        if story.standing.state in ENDS and self.systems.of(story.case) is not None:
            errands.put(
                tx, submission_id=str(story.case["id"]), kind=ARCHIVE, region=str(story.case["handling_region"]),
                now=now, due=now + self.after,
            )  # fmt: skip


class ArchivePush:
    """Hands packages over; the runner of errands of kind `archive`."""

    def __init__(
        self,
        *,
        store: Store,
        archive: Archive,
        systems: Systems,
        session: aiohttp.ClientSession,
        timeout: aiohttp.ClientTimeout,
        note: Note,
        clock: Clock,
    ) -> None:
        self._store = store
        self._archive = archive
        self._systems = systems
        self._session = session
        self._timeout = timeout
        self._note = note
        self._clock = clock

    async def run(self, errand: Errand) -> Finish:
        """Hand the package over and return what to write. Raises GatewayError, NotYet."""
        begun = self._clock()
        if await self._store.read(lambda tx: errands.state_of(tx, errand.submission_id, RESULTS)) == "open":
            raise NotYet
        package = await self._archive.package(errand.submission_id)
        system = self._system(await self._store.read(lambda tx: _place(tx, errand)))
        receipt = await self._put(system, package)
        digest = package.manifest.sha256()

        def finish(tx: Connection, now: datetime) -> None:
            told = {"manifest_sha256": digest, "head": package.manifest.head}
            self._note(tx, errand.submission_id, ARCHIVED, now, {**told, **({"receipt": receipt} if receipt else {})})
            record(tx, _exchange(errand, digest, begun, now), now=now)

        return finish

    def _system(self, place: Mapping[str, object]) -> System:
        system = self._systems.of(place)
        if system is None:
            text = f"No archive system takes the cases of {place['handling_region']} any more."
            raise NotOffered(text, code="archive.nowhere")
        return system

    async def _put(self, system: System, package: Package) -> str:
        """Send the package under its case number; return what the system calls it, "" when it says nothing."""
        size, digest = await _measured(package)
        headers = {
            "Content-Type": "application/zip",
            "Content-Length": str(size),
            "Content-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
            "Idempotency-Key": package.manifest.sha256(),
            **({"Authorization": f"Bearer {system.token}"} if system.token else {}),
        }
        url = f"{system.url}/{package.manifest.case}"
        try:
            sending = self._session.put(
                url, data=package.stream(), headers=headers, timeout=self._timeout, allow_redirects=False
            )
            async with sending as answer:
                return _receipt(answer.status, answer.headers.get("X-Receipt", ""))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            text = "The archive system cannot be reached, or did not answer."
            raise RegionUnreachable(text, detail=type(error).__name__, code="archive.unreachable") from None


def _place(tx: Connection, errand: Errand) -> Mapping[str, object]:
    c = submissions.c
    query = select(c.handling_code, c.handling_region).where(c.id == errand.submission_id)
    return dict(tx.execute(query).mappings().one())


def _receipt(status: int, receipt: str) -> str:
    if 200 <= status < 300:
        return receipt if _RECEIPT.fullmatch(receipt) else ""
    if 400 <= status < 500 and status not in _AGAIN:
        raise RegionRefused(f"The archive system refused the package: HTTP {status}.", code="archive.refused")
    raise RegionUnreachable(f"The archive system did not take the package: HTTP {status}.", code="archive.unreachable")


async def _measured(package: Package) -> tuple[int, bytes]:
    """Return size and SHA-256 of a package: it makes the same bytes each time, so nothing need be kept."""
    size, digest = 0, hashlib.sha256()
    async for piece in package.stream():
        size += len(piece)
        digest.update(piece)
    return size, digest.digest()


def _exchange(errand: Errand, digest: str, begun: datetime, now: datetime) -> Exchange:
    return Exchange(
        action="archive.push",
        outcome="done",
        reason="taken",
        who={"worker": errand.owner},
        what={"case": errand.submission_id, "region": errand.region, "manifest": digest},
        purpose="file of the case to the archive system",
        received_at=begun,
        forwarded_at=begun,
        answered_at=now,
    )
