"""A response by HTTP-POST: from a form field to what a verified assertion says, or a refusal.

Owns: the order of the checks and every rule of the Web Browser SSO profile. Leaves to `documents`, `signatures` and
`encryption` the means, to the core whether an assertion was used before. Everything that `Statement` holds was read
from the subtree that the verifier returned. Source: SAML 2.0 Profiles §4.1.4.2, §4.1.4.3; Core §2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from lxml import etree

from gateway.protocols.saml.documents import (
    ASSERTION_GRAMMAR,
    DS,
    RESPONSE_GRAMMAR,
    SAML,
    SAMLP,
    Rejected,
    attribute,
    check_ids,
    check_shape,
    child,
    decoded,
    id_of,
    instant,
    local,
    parse,
    tag,
    text_of,
)
from gateway.protocols.saml.encryption import decrypt
from gateway.protocols.saml.signatures import Verified, verify

SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
ENTITY = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"

SKEW = timedelta(seconds=60)
"""How far the identity provider's clock may be from ours, both ways."""

MAX_AGE = timedelta(minutes=5)
"""How long ago a message may have been issued."""

MAX_SESSION = timedelta(hours=12)
"""How long ago a person may have proved who they are, where the identity provider reuses its own session."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the answer to one request must say. `fresh_since` is when a proof made now was asked for, if it was."""

    issuer: str
    audience: str
    address: str
    request_id: str
    now: datetime
    fresh_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class NameId:
    """A persistent name of a person, with the qualifiers that it came with."""

    value: str
    name_qualifier: str = ""
    sp_name_qualifier: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a verified assertion says. `until` is when it can no longer be accepted; `data` are its bytes."""

    assertion_id: str
    name_id: NameId
    context: str
    authenticated_at: datetime
    session_index: str
    attributes: Mapping[str, Sequence[str]]
    until: datetime
    data: bytes


def read_response(
    posted: object, expected: Expected, trusted: Sequence[x509.Certificate], keys: Sequence[RSAPrivateKey]
) -> Statement:
    """Return what the response says. Raises Rejected.

    `trusted` are the certificates of the identity provider, `keys` our decryption keys.
    """
    response = parse(decoded(posted))
    if response.tag != tag(SAMLP, "Response"):
        raise Rejected("the message is no Response")
    check_ids(response)
    if response.find(tag(DS, "Signature")) is not None:
        response = verify(response, trusted, expected.now).element  # from here on, only what was signed
    _check_status(response)
    check_shape(response, RESPONSE_GRAMMAR)
    _check_envelope(response, expected)
    assertion = _verified_assertion(response, expected.now, trusted, keys)
    check_shape(assertion.element, ASSERTION_GRAMMAR)
    return _statement(assertion, expected)


# --- the envelope ------------------------------------------------------------------------------------------------


def _check_status(response: etree._Element) -> None:
    """Refuse what is no success; whoever failed there did not sign on (Core §3.2.2.2)."""
    codes = [attribute(each, "Value") for each in response.iter(tag(SAMLP, "StatusCode"))]
    if codes != [SUCCESS]:
        said = [code.rpartition(":")[2][:40] for code in codes[:2]]
        raise Rejected(f"the status is {' / '.join(said) or 'missing'}")


def _check_envelope(response: etree._Element, expected: Expected) -> None:
    id_of(response)
    equal(attribute(response, "Version"), "2.0", "Version")
    equal(attribute(response, "Destination"), expected.address, "Destination")
    equal(attribute(response, "InResponseTo"), expected.request_id, "InResponseTo of the response")
    check_issuer(response, expected.issuer)
    check_issued(response, expected.now)


def check_issued(message: etree._Element, now: datetime) -> None:
    """Refuse a message that was not issued just now. Raises Rejected."""
    if not -MAX_AGE - SKEW <= instant(message, "IssueInstant") - now <= SKEW:
        raise Rejected(f"{local(message)} was issued too long ago, or in the future")


def check_issuer(element: etree._Element, issuer: str) -> None:
    """Refuse what another entity issued. Raises Rejected."""
    named = child(element, SAML, "Issuer")
    if named.get("Format", ENTITY) != ENTITY:
        raise Rejected("the Issuer has another format")
    equal(text_of(named), issuer, f"Issuer of {local(element)}")


def equal(said: str, expected: str, what: str) -> None:
    """Refuse a value that is not the expected one. Raises Rejected."""
    if said != expected:
        raise Rejected(f"{what} is another than expected")


# --- the assertion -----------------------------------------------------------------------------------------------


def _verified_assertion(
    response: etree._Element, now: datetime, trusted: Sequence[x509.Certificate], keys: Sequence[RSAPrivateKey]
) -> Verified:
    """Return the one assertion, decrypted if need be; its own signature is demanded either way."""
    found = _only_assertion(response)
    if found.tag == tag(SAML, "EncryptedAssertion"):
        clear = parse(decrypt(found, keys))
        check_ids(clear)
        found = _only_assertion(clear)
        if found is not clear or found.tag != tag(SAML, "Assertion"):
            raise Rejected("what was encrypted is not an assertion")
    return verify(found, trusted, now)


def _only_assertion(root: etree._Element) -> etree._Element:
    """Return the one assertion in a whole document, in whatever namespace and however deep others may hide."""
    found = [each for each in root.iter(etree.Element) if local(each) in ("Assertion", "EncryptedAssertion")]
    if len(found) != 1:
        raise Rejected("there is not exactly one assertion")
    return found[0]


def _statement(assertion: Verified, expected: Expected) -> Statement:
    element = assertion.element
    equal(attribute(element, "Version"), "2.0", "Version")
    check_issuer(element, expected.issuer)
    check_issued(element, expected.now)
    until = min(_confirmed_until(element, expected), _valid_until(element, expected))
    statement = child(element, SAML, "AuthnStatement")
    context = child(child(statement, SAML, "AuthnContext"), SAML, "AuthnContextClassRef")
    return Statement(
        assertion_id=id_of(element),
        name_id=read_name_id(child(element, SAML, "Subject"), expected.issuer, expected.audience),
        context=text_of(context),
        authenticated_at=_authenticated_at(statement, expected),
        session_index=statement.get("SessionIndex", "")[:256],
        attributes=_attributes(element),
        until=until + SKEW,
        data=assertion.data,
    )


def read_name_id(parent: etree._Element, issuer: str, audience: str) -> NameId:
    """Return the persistent name in an element. Raises Rejected.

    Qualifiers may be left out; one that is there must name this identity provider and us (Core §8.3.7), or the name
    would be another party's name for another person.
    """
    element = child(parent, SAML, "NameID")
    equal(attribute(element, "Format"), PERSISTENT, "Format of NameID")
    by, to = element.get("NameQualifier", ""), element.get("SPNameQualifier", "")
    value = text_of(element)
    if not value or len(value) > 256:
        raise Rejected("NameID is empty, or longer than 256 characters")
    if by not in ("", issuer) or to not in ("", audience):
        raise Rejected("the qualifiers of NameID name somebody else")
    if element.get("SPProvidedID") is not None:
        raise Rejected("NameID has a name that we never gave")
    return NameId(value, by, to)


def _confirmed_until(assertion: etree._Element, expected: Expected) -> datetime:
    """Check the bearer confirmation (Profiles §4.1.4.2) and return its end."""
    confirmation = child(child(assertion, SAML, "Subject"), SAML, "SubjectConfirmation")
    equal(attribute(confirmation, "Method"), BEARER, "Method of SubjectConfirmation")
    data = child(confirmation, SAML, "SubjectConfirmationData")
    equal(attribute(data, "Recipient"), expected.address, "Recipient")
    equal(attribute(data, "InResponseTo"), expected.request_id, "InResponseTo of the assertion")
    if data.get("NotBefore") is not None:
        raise Rejected("a bearer confirmation has a NotBefore")
    return not_over(data, expected.now)


def _valid_until(assertion: etree._Element, expected: Expected) -> datetime:
    """Check the conditions (Core §2.5.1) and return their end."""
    conditions = child(assertion, SAML, "Conditions")
    if instant(conditions, "NotBefore") > expected.now + SKEW:
        raise Rejected("the assertion is not valid yet")
    audiences = [text_of(each) for each in child(conditions, SAML, "AudienceRestriction")]
    if expected.audience not in audiences:
        raise Rejected("the assertion is for another audience")
    return not_over(conditions, expected.now)


def not_over(element: etree._Element, now: datetime) -> datetime:
    """Return when an element ceases to be valid, which must be in the future. Raises Rejected."""
    end = instant(element, "NotOnOrAfter")
    if end + SKEW <= now:
        raise Rejected(f"{local(element)} is over")
    return end


def _authenticated_at(statement: etree._Element, expected: Expected) -> datetime:
    """Return when the person proved it: not in the future, not too long ago, and after we asked for a fresh proof."""
    at, now = instant(statement, "AuthnInstant"), expected.now
    if not -MAX_SESSION - SKEW <= at - now <= SKEW:
        raise Rejected("AuthnInstant is in the future or too long ago")
    if expected.fresh_since is not None and at < expected.fresh_since - SKEW:
        raise Rejected("a fresh proof was asked for and not made")
    if statement.get("SessionNotOnOrAfter") is not None and instant(statement, "SessionNotOnOrAfter") + SKEW <= now:
        raise Rejected("the session is over")
    return min(at, now)


def _attributes(assertion: etree._Element) -> dict[str, list[str]]:
    """Return attributes by name; a name that stands twice is refused, because two readers may choose differently."""
    found: dict[str, list[str]] = {}
    for each in assertion.iterfind(f"{tag(SAML, 'AttributeStatement')}/{tag(SAML, 'Attribute')}"):
        name = attribute(each, "Name")
        if name in found:
            raise Rejected("an attribute stands twice")
        found[name] = [text_of(value) for value in each]
    return found
