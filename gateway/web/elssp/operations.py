"""The operations of GB/T 36906 that this gateway serves: the one table, which routes, WSDL and documents come from.

Owns: name, elements and answer of each, and which service it asks. Leaves to that service: everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from gateway.certificates.services import Certificates
from gateway.certificates.types import find_type
from gateway.domain.calendar import local_day
from gateway.domain.caller import Caller
from gateway.errors import FieldProblem, GatewayError, NotPermitted
from gateway.web.api.certificate_files import FileDesk
from gateway.web.elssp import answers, elements
from gateway.web.elssp.answers import Outcome
from gateway.web.elssp.asked import Reading
from gateway.web.elssp.shapes import Part, parts_of
from gateway.web.elssp.statuses import Status
from gateway.web.elssp.words import Words

Upload = Callable[[Caller, bytes], Awaitable[str]]
"""Takes a file that came within a message, and returns its id. Raises InvalidRequest, BodyTooLarge or Unavailable."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What an operation works with: services, words, and whoever asks.

    `held` is kept until the answer has left: a file has a place of its own for so long. `upload` takes a file that came
    within a message.
    """

    certificates: Certificates
    files: FileDesk
    upload: Upload
    words: Words
    public_url: str
    caller: Caller
    held: AsyncExitStack

    def reading(self) -> Reading:
        """Return the reader of this request's elements."""
        today = local_day(self.certificates.clock())
        return Reading(self.words, self.certificates.directory.types, self.caller, today, [])


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `title` is what it is for; `model` its elements; `data` the parts of its answer.

    `run` answers what was checked against the model. It raises InvalidRequest and NotPermitted.
    """

    name: str
    title: str
    model: type[elements.Sender]
    data: Callable[[Words], tuple[Part, ...]]
    run: Callable[[Desk, Any], Awaitable[Outcome]]

    @property
    def asked(self) -> tuple[Part, ...]:
        """The parts of its request."""
        return _asked(self.model)


@cache
def _asked(model: type[elements.Sender]) -> tuple[Part, ...]:
    return parts_of(model, elements.DEFAULTED)


async def _types(desk: Desk, asked: elements.TypesAsked) -> Outcome:
    reading = desk.reading()
    reading.sender(asked)
    reading.refuse()
    known = desk.certificates.visible_types(desk.caller.client_id)
    return Outcome(Status.OK, {"dataList": [answers.type_entry(kind, issuers) for kind, issuers in known]})


async def _surface(desk: Desk, asked: elements.SurfaceAsked) -> Outcome:
    reading = desk.reading()
    reading.sender(asked)
    wanted = reading.type_of(asked, required=True)
    kind = find_type(reading.types, wanted) if wanted is not None else None
    if wanted is not None and kind is None:
        problem = FieldProblem("CertificateType", "is neither a known code nor a known name", "unknown")
        reading.problems.append(problem)
    reading.refuse()
    visible = [one for one, _ in desk.certificates.visible_types(desk.caller.client_id)]
    if kind is None or kind not in visible:
        raise NotPermitted("No grant of yours covers this type of certificate.", code="policy.no_grant")
    return Outcome(
        Status.OK,
        {"dataList": [{"FieldName": name, "FieldTitle": title} for name, title in kind.surface.items()]},
    )


async def _retrieval(desk: Desk, asked: elements.RetrievalAsked) -> Outcome:
    request = desk.reading().lookup(asked)
    return answers.listed(desk.words, await desk.certificates.lookup.lookup(desk.caller, request))


async def _data_of(desk: Desk, asked: elements.DataByIdentifier) -> Outcome:
    request = desk.reading().data_of(asked)
    return answers.listed(desk.words, await desk.certificates.named.data(desk.caller, request))


async def _data_by_holder(desk: Desk, asked: elements.DataByHolder) -> Outcome:
    request = desk.reading().data_by_holder(asked)
    return answers.listed(desk.words, await desk.certificates.named.data(desk.caller, request))


async def _verification(desk: Desk, asked: elements.Verification) -> Outcome:
    request = desk.reading().verification(asked)
    return answers.verified(desk.words, await desk.certificates.named.verify(desk.caller, request))


async def _shown(desk: Desk, asked: elements.CodeShown) -> Outcome:
    request = desk.reading().shown(asked)
    return answers.verified(desk.words, await desk.certificates.named.verify(desk.caller, request))


async def _file(desk: Desk, asked: elements.FileByIdentifier | elements.FileByHolder) -> Outcome:
    request = desk.reading().file_of(asked)
    handed = await desk.held.enter_async_context(desk.files.handing.fetch(desk.caller, request))
    return await asyncio.to_thread(answers.handed_out, handed)


async def _link(desk: Desk, asked: elements.LinkWanted) -> Outcome:
    link = await desk.files.handing.link(desk.caller, desk.reading().file_of(asked))
    url = f"{desk.public_url}/v1/certificates/files/{link.token}"
    return Outcome(Status.OK, {"dataList": [{"DownloadUrl": url, "ExpiresAt": link.expires_at}]}, link.evidence_id)


async def _file_shown(desk: Desk, asked: elements.FileShown) -> Outcome:
    """Verify a file; one that came within the message is not left behind, whatever it turns out to be."""
    request = desk.reading().file_shown(asked)
    if asked.content is None:
        return answers.file_verified(desk.words, await desk.files.checks.verify(desk.caller, request))
    upload = await desk.upload(desk.caller, asked.content)
    try:
        told = await desk.files.checks.verify(desk.caller, request.model_copy(update={"file": upload}))
    except GatewayError:
        with suppress(GatewayError):  # what cannot be deleted now, the janitor deletes as one that no case has
            await desk.files.checks.drop(desk.caller, upload)
        raise
    return answers.file_verified(desk.words, told)


OPERATIONS: Mapping[str, Operation] = {
    one.name: one
    for one in (
        Operation("GetCertificateType", "types that the caller may use", elements.TypesAsked, answers.types, _types),
        Operation("GetCertRemarkInfo", "surface fields of a type", elements.SurfaceAsked, answers.surface, _surface),
        Operation(
            "Retrieval", "which certificates a holder has", elements.RetrievalAsked, answers.certificates, _retrieval
        ),
        Operation(
            "GetCertificateDataByCertificateID",
            "data of one certificate",
            elements.DataByIdentifier,
            answers.certificates,
            _data_of,
        ),
        Operation(
            "GetCertificateDataByHolder",
            "data of a holder's certificates of a type",
            elements.DataByHolder,
            answers.certificates,
            _data_by_holder,
        ),
        Operation(
            "VerifyCertInfo",
            "what a certificate is worth, and whether it says what is claimed",
            elements.Verification,
            answers.verification,
            _verification,
        ),
        Operation(
            "GetCertificateFileByCertificateID",
            "file of one certificate",
            elements.FileByIdentifier,
            answers.file,
            _file,
        ),
        Operation(
            "GetCertificateFileByHolder",
            "file of a holder's certificate of a type",
            elements.FileByHolder,
            answers.file,
            _file,
        ),
        Operation("DownloadUrl", "an address that serves a file once", elements.LinkWanted, answers.link, _link),
        Operation(
            "VerifyFile", "what a certificate file is worth", elements.FileShown, answers.file_checked, _file_shown
        ),
        Operation("QueryByQRCode", "what a shown code stands for", elements.CodeShown, answers.verification, _shown),
    )
}
