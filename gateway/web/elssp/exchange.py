"""One exchange in the form of GB/T 36906, by whichever wire it came: who asks, what, and the answer or the refusal.

Owns: the order of it, what is filled in where it was not sent, and that every refusal leaves evidence. A token stands
in the header `Authorization` or in the message, never in an address. Leaves to `json_wire` and `soap_wire`: messages;
to `operations`: the answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from aiohttp import web

from gateway.certificates.services import Certificates
from gateway.domain.caller import Caller
from gateway.edge import check
from gateway.errors import BodyTooLarge, FieldProblem, GatewayError, InvalidRequest, NotAuthenticated
from gateway.evidence import record
from gateway.evidence.record import refusal, who_is
from gateway.storage import Store
from gateway.web.api.answers import streamed
from gateway.web.api.certificate_files import FileDesk
from gateway.web.api.handlers import require_scope
from gateway.web.elssp.answers import Outcome, refused
from gateway.web.elssp.elements import DEFAULTED, OTHER_NAMES, Asked
from gateway.web.elssp.operations import Desk, Operation, Upload
from gateway.web.elssp.words import Words
from gateway.web.middlewares import note
from gateway.web.problems import challenge

_LARGE = 64 * 1024

Authenticate = Callable[[web.Request, str | None], Awaitable[Caller]]
"""Tells who calls: by the access token that stands in the message, or by the request's own. Raises NotAuthenticated."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """What is served in this form.

    `legal_basis` is the one of a client's registration; `defaults` are elements that the deployment fills in.
    """

    certificates: Certificates
    files: FileDesk
    upload: Upload
    words: Words
    authenticate: Authenticate
    legal_basis: Callable[[str], Awaitable[str]]
    defaults: Mapping[str, str]
    store: Store
    public_url: str


@dataclass(frozen=True, slots=True)
class Message:
    """What a message says. `client` is whom it claims to be from; `problems` are those of its form."""

    operation: Operation
    elements: Mapping[str, Any] = field(repr=False)
    token: str | None = field(default=None, repr=False)
    client: str | None = None
    problems: Sequence[FieldProblem] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer, without a form. `operation` is None, and `error` says why, where no message could be read."""

    operation: Operation | None
    head: Mapping[str, Any]
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    error: GatewayError | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


Read = Callable[[web.Request], Awaitable[Message]]


async def exchange(sharing: Sharing, request: web.Request, read: Read, held: AsyncExitStack) -> Reply:
    """Answer one request; what the answer needs is held until the caller of this has written it.

    A refusal of the gateway's is an answer too, and is on record.
    """
    at = sharing.certificates.clock()
    caller: Caller | None = None
    message: Message | None = None
    try:
        if "Authorization" in request.headers:
            caller = await sharing.authenticate(request, None)
        message = await read(request)
        caller = await _caller(sharing, request, message, caller)
        _require_usable(caller, message)
        outcome = await _answer(sharing, message, caller, held)
    except GatewayError as error:
        note(error)
        if error.evidence is None:  # no service has recorded it yet
            error.evidence = await _recorded(sharing, request, message, caller, error, at)
        return _refusal(request, message, error)
    return Reply(message.operation, outcome.head(), outcome.data)


async def _caller(sharing: Sharing, request: web.Request, message: Message, known: Caller | None) -> Caller:
    """Return who asks. A message that brings a token has no other one (RFC 6750 §2)."""
    if known is not None and message.token is not None:
        raise NotAuthenticated("Send the access token in one place: in the header Authorization or in the message.")
    return known or await sharing.authenticate(request, message.token)


def _require_usable(caller: Caller, message: Message) -> None:
    """Raise unless the token is of the client that the message claims to be from, and has the scope."""
    if message.client not in {None, caller.client_id}:
        raise NotAuthenticated("The access token was issued to another client than the message names.")
    require_scope(caller, "certificates")


async def _answer(sharing: Sharing, message: Message, caller: Caller, held: AsyncExitStack) -> Outcome:
    operation, problems = message.operation, list(message.problems)
    sent = _cleaned(message.elements, problems)
    if issubclass(operation.model, Asked):
        sent = {**await _defaults(sharing, caller), **sent}
    try:
        asked = check(operation.model, sent)
    except InvalidRequest as error:
        raise _invalid([*problems, *error.problems]) from None
    if problems:
        raise _invalid(problems)
    desk = Desk(
        sharing.certificates, sharing.files, sharing.upload, sharing.words, sharing.public_url, caller, held
    )  # fmt: skip
    return await operation.run(desk, asked)


def _cleaned(sent: Mapping[str, Any], problems: list[FieldProblem]) -> dict[str, Any]:
    """Return the elements under their own names, without empty ones: old systems send all that they know."""
    cleaned: dict[str, Any] = {}
    for name, value in sent.items():
        known = OTHER_NAMES.get(name, name)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        if known in cleaned:
            problems.append(FieldProblem(known, "is said twice, under two names", "twice"))
        cleaned[known] = value
    return cleaned


async def _defaults(sharing: Sharing, caller: Caller) -> dict[str, str]:
    basis = await sharing.legal_basis(caller.client_id)
    said = {**sharing.defaults, "LegalBasis": basis}
    return {name: value for name, value in said.items() if value and name in DEFAULTED}


def _invalid(problems: Sequence[FieldProblem]) -> InvalidRequest:
    return InvalidRequest("Some elements are not valid; see `problem`.", problems=problems)


# --- refusals ----------------------------------------------------------------------------------------------------


async def _recorded(
    sharing: Sharing, request: web.Request, message: Message | None, caller: Caller | None, error: GatewayError,
    at: datetime,
) -> str:  # fmt: skip
    row = refusal(
        error,
        action=f"elssp {message.operation.name if message else request.path}",
        who=who_is(caller) if caller else {},
        what={},
        purpose="",
        received_at=at,
    )
    return await sharing.store.write(lambda tx: record(tx, row, now=sharing.certificates.clock()))


def _refusal(request: web.Request, message: Message | None, error: GatewayError) -> Reply:
    """Return a refusal. Whoever used HTTP's header for the token is told in HTTP's way what is wrong with it."""
    reply = Reply(message.operation if message else None, refused(error), error=error, headers=dict(error.headers))
    if isinstance(error, NotAuthenticated) and "Authorization" in request.headers:
        return replace(reply, status=401, headers={**reply.headers, "WWW-Authenticate": challenge(error)})
    return reply


async def written(request: web.Request, response: web.Response, seconds: float) -> web.StreamResponse:
    """Write a large answer while what it needs is held, within so many seconds; a small one is left to the server."""
    body = response.body
    if not isinstance(body, bytes) or len(body) < _LARGE:
        return response

    async def pieces() -> AsyncIterator[bytes]:
        view = memoryview(body)
        for begin in range(0, len(body), _LARGE):
            yield bytes(view[begin : begin + _LARGE])

    kind = response.headers["Content-Type"]
    return await streamed(request, pieces(), media_type=kind, size=len(body), headers={}, within=seconds)


async def body_of(request: web.Request, *media_types: str) -> bytes:
    """Return the body of a request. Raises InvalidRequest, BodyTooLarge."""
    if request.content_type not in media_types:
        problem = FieldProblem("Content-Type", f"must be {' or '.join(media_types)}", "media_type")
        raise InvalidRequest("The body is of another kind.", problems=[problem], code="request.media_type")
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise BodyTooLarge("The body is larger than this gateway's limit for a request.") from None
    except web.RequestPayloadError:
        text = "The body breaks off, or is not framed as announced."
        raise InvalidRequest(text, code="request.broken_body") from None
