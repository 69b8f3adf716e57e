"""The WSDL of the SOAP form, made from the table of operations: `GET /elssp/soap?wsdl`.

Owns: the description as WSDL 1.1 has it, document/literal, each message one element. Leaves to `shapes`: the schema.
"""

from __future__ import annotations

from typing import Final

from lxml import etree

from gateway.web.elssp import answers, shapes
from gateway.web.elssp.operations import OPERATIONS, Operation
from gateway.web.elssp.shapes import NAMESPACE, XSD, Part
from gateway.web.elssp.soap_wire import REFUSAL
from gateway.web.elssp.words import Words

ADDRESS: Final = "/elssp/soap"
_WSDL: Final = "http://schemas.xmlsoap.org/wsdl/"
_SOAP: Final = "http://schemas.xmlsoap.org/wsdl/soap/"
_HTTP: Final = "http://schemas.xmlsoap.org/soap/http"
_NAME: Final = "CertificateSharing"


def wsdl(words: Words, public_url: str) -> bytes:
    """Return the description, with the address under which the gateway is known."""
    root = etree.Element(
        _w("definitions"),
        {"name": _NAME, "targetNamespace": NAMESPACE},
        nsmap={None: _WSDL, "tns": NAMESPACE, "soap": _SOAP, "xs": XSD},
    )
    root.append(_types(words))
    messages = {"AccessToken": ("accessToken", "accessToken")}
    for name in OPERATIONS:
        messages |= {f"{name}Input": ("parameters", name), f"{name}Output": ("parameters", f"{name}Response")}
    for name, (part, element) in messages.items():
        message = etree.SubElement(root, _w("message"), name=name)
        etree.SubElement(message, _w("part"), name=part, element=f"tns:{element}")
    port = etree.SubElement(root, _w("portType"), name=f"{_NAME}PortType")
    for operation in OPERATIONS.values():
        _offer(port, operation)
    binding = etree.SubElement(root, _w("binding"), name=f"{_NAME}Binding", type=f"tns:{_NAME}PortType")
    etree.SubElement(binding, _s("binding"), style="document", transport=_HTTP)
    for name in OPERATIONS:
        _bind(binding, name)
    service = etree.SubElement(root, _w("service"), name=_NAME)
    address = etree.SubElement(service, _w("port"), name=f"{_NAME}Port", binding=f"tns:{_NAME}Binding")
    etree.SubElement(address, _s("address"), location=f"{public_url}{ADDRESS}")
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def _types(words: Words) -> etree._Element:
    types = etree.Element(_w("types"))
    schema = etree.SubElement(
        types, f"{{{XSD}}}schema", {"targetNamespace": NAMESPACE, "elementFormDefault": "qualified"}
    )
    etree.SubElement(schema, f"{{{XSD}}}element", name="accessToken", type="xs:string")
    shapes.describe(schema, "Refusal", REFUSAL)
    for operation in OPERATIONS.values():
        shapes.describe(schema, operation.name, operation.asked)
        head, data = Part("head", answers.HEAD, required=True), Part("data", operation.data(words), required=True)
        shapes.describe(schema, f"{operation.name}Response", (head, data))
    return types


def _offer(port: etree._Element, operation: Operation) -> None:
    offered = etree.SubElement(port, _w("operation"), name=operation.name)
    etree.SubElement(offered, _w("documentation")).text = operation.title
    etree.SubElement(offered, _w("input"), message=f"tns:{operation.name}Input")
    etree.SubElement(offered, _w("output"), message=f"tns:{operation.name}Output")


def _bind(binding: etree._Element, name: str) -> None:
    bound = etree.SubElement(binding, _w("operation"), name=name)
    etree.SubElement(bound, _s("operation"), soapAction=f"{NAMESPACE}#{name}", style="document")
    asked = etree.SubElement(bound, _w("input"))
    etree.SubElement(asked, _s("header"), message="tns:AccessToken", part="accessToken", use="literal")
    etree.SubElement(asked, _s("body"), use="literal")
    etree.SubElement(etree.SubElement(bound, _w("output")), _s("body"), use="literal")


def _w(name: str) -> str:
    return f"{{{_WSDL}}}{name}"


def _s(name: str) -> str:
    return f"{{{_SOAP}}}{name}"
