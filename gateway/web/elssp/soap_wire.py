"""GB/T 36906 as SOAP 1.1, document/literal: `POST /elssp/soap`.

Owns: envelope, header and faults. A message is read with the house's guarded reader: no document type, no entities, no
network. Whatever is a message of an operation gets that operation's answer, with a status; anything else gets a fault,
which names a code and no value. `SOAPAction` decides nothing: the body says what is asked. Source: SOAP 1.1 (W3C Note,
8 May 2000). Leaves to `exchange`: everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

from aiohttp import web
from lxml import etree

from gateway.errors import FieldProblem, GatewayError, InvalidRequest, Where
from gateway.mapping.converters import Wrong
from gateway.mapping.xml_parse import parse
from gateway.web.elssp import answers, shapes
from gateway.web.elssp.exchange import Message, Reply, Sharing, body_of, exchange, written
from gateway.web.elssp.operations import OPERATIONS
from gateway.web.elssp.shapes import NAMESPACE, Part

SOAP: Final = "http://schemas.xmlsoap.org/soap/envelope/"
_TOKEN: Final = f"{{{NAMESPACE}}}accessToken"
_UNDERSTAND: Final = f"{{{SOAP}}}mustUnderstand"
_MEDIA_TYPE: Final = "text/xml"
REFUSAL: Final = (
    Part("status", "int", required=True), Part("code", required=True), Part("evidence"),
)  # fmt: skip
"""The parts of a fault's detail."""


class NotSoap(InvalidRequest):
    """What came is no message of this service; `fault` is the fault code of SOAP 1.1 §4.4.1."""

    code = "request.not_soap"
    title = "This is no message of this service"
    fault = "Client"


class OtherVersion(NotSoap):
    """The envelope is that of another version of SOAP."""

    fault = "VersionMismatch"


class NotUnderstood(NotSoap):
    """A header entry must be understood, and is not known here (SOAP 1.1 §4.2.3)."""

    fault = "MustUnderstand"


class SoapWire:
    """Answers SOAP messages."""

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """POST /elssp/soap."""
        async with AsyncExitStack() as held:
            reply = await exchange(self._sharing, request, read, held)
            return await written(request, self._formed(reply), self._sharing.files.seconds)

    def _formed(self, reply: Reply) -> web.Response:
        if reply.operation is None:
            return _answer(_fault(reply), 401 if reply.status == 401 else 500, reply.headers)
        root = etree.Element(f"{{{NAMESPACE}}}{reply.operation.name}Response", nsmap={None: NAMESPACE})
        parts = (Part("head", answers.HEAD), Part("data", reply.operation.data(self._sharing.words)))
        shapes.write(root, parts, {"head": reply.head, "data": reply.data})
        return _answer(root, reply.status, reply.headers)


# --- reading -----------------------------------------------------------------------------------------------------


async def read(request: web.Request) -> Message:
    """Return what a SOAP message says. Raises NotSoap, InvalidRequest, BodyTooLarge."""
    raw = await body_of(request, _MEDIA_TYPE)
    try:
        envelope = parse(raw)
    except Wrong as wrong:
        raise _not_soap("(body)", wrong.reason, wrong.code) from None
    name = etree.QName(envelope)
    if name.localname == "Envelope" and name.namespace != SOAP:
        raise _not_soap("Envelope", f"is not in the namespace {SOAP}", "namespace", OtherVersion)
    if envelope.tag != f"{{{SOAP}}}Envelope":
        raise _not_soap("(body)", "is no SOAP envelope", "not_soap")
    token = _token(envelope)
    bodies = envelope.findall(f"{{{SOAP}}}Body")
    asked = [child for body in bodies for child in body.iterchildren("*")]
    if len(bodies) != 1 or len(asked) != 1:
        raise _not_soap("Body", "must stand once and hold one element", "not_soap")
    operation = etree.QName(asked[0])
    if operation.namespace != NAMESPACE:
        raise _not_soap(operation.localname, f"is not in the namespace {NAMESPACE}", "namespace")
    if operation.localname not in OPERATIONS:
        raise _not_soap(operation.localname, f"is no operation; there are {', '.join(OPERATIONS)}", "unknown")
    known, problems = OPERATIONS[operation.localname], list[FieldProblem]()
    said = shapes.read(asked[0], known.asked, problems)
    return Message(known, said, token, problems=problems)


def _token(envelope: etree._Element) -> str | None:
    """Return the access token of the header, where there is one; what else must be understood is not."""
    token = None
    for entry in envelope.iterfind(f"{{{SOAP}}}Header/*"):
        if entry.tag == _TOKEN:
            token = (entry.text or "").strip() or None
        elif entry.get(_UNDERSTAND) in ("1", "true"):
            raise _not_soap(etree.QName(entry).localname, "is not known here", "must_understand", NotUnderstood)
    return token


def _not_soap(place: str, reason: str, code: str, kind: type[NotSoap] = NotSoap) -> NotSoap:
    problem = FieldProblem(place[:64], reason, code)
    return kind(f"This is no message of this service: {place[:64]} {reason}.", problems=[problem])


# --- writing -----------------------------------------------------------------------------------------------------


def _fault(reply: Reply) -> etree._Element:
    """Return the fault for what could not be read as a message (SOAP 1.1 §4.4)."""
    error = reply.error or GatewayError("Something went wrong inside the gateway.")
    fault = etree.Element(f"{{{SOAP}}}Fault", nsmap={"soap": SOAP})
    kind = error.fault if isinstance(error, NotSoap) else "Client" if error.where is Where.CALLER else "Server"
    etree.SubElement(fault, "faultcode").text = f"soap:{kind}"
    etree.SubElement(fault, "faultstring").text = error.public
    detail = etree.SubElement(fault, "detail")
    said: dict[str, Any] = {"code": error.stable_code, **{k: reply.head.get(k) for k in ("status", "evidence")}}
    shapes.write(detail, (Part("Refusal", REFUSAL),), {"Refusal": said})
    return fault


def _answer(content: etree._Element, status: int, headers: Mapping[str, str]) -> web.Response:
    envelope = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"soap": SOAP})
    etree.SubElement(envelope, f"{{{SOAP}}}Body").append(content)
    raw = etree.tostring(envelope, xml_declaration=True, encoding="UTF-8")
    known = {"Cache-Control": "no-store", **headers}
    return web.Response(body=raw, status=status, content_type=_MEDIA_TYPE, charset="utf-8", headers=known)
