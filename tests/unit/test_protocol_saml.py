"""Every rule of our SAML service provider, each with the attack that it is there for.

Where a docstring or a row names a guard, that is the line of `gateway/protocols/saml/` that stands in the way; without
it the reason that is asserted here is another one, or the response is taken.
"""

from __future__ import annotations

import base64
import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from lxml import etree
from signxml.verifier import VerifyResult, XMLVerifier

from adapters.guangxi.sandbox_attacks import ATTACKS, Means, stranger
from adapters.guangxi.sandbox_messages import Facts, assertion, new_id, response, stamp
from adapters.guangxi.sandbox_signature import DS, ENC, ENC11, SAML, encrypt, sign
from gateway.protocols.saml.documents import MAX_BYTES, MAX_ELEMENTS, Rejected
from gateway.protocols.saml.responses import MAX_AGE, MAX_SESSION, SKEW, read_response
from tests.unit.protocol_support import NOW
from tests.unit.saml_support import (
    A_DAY,
    CALLBACK,
    EXPECTED,
    FACTS,
    REQUEST,
    US,
    Answer,
    Tweak,
    adding,
    certificate,
    ec_key,
    find,
    idp_signing,
    read,
    rsa_key,
    saying,
    sealing,
    setting,
    why_not,
    without,
)

SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
TICK = timedelta(seconds=1)


# --- what is right -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("response_signed", [False, True], ids=["response-unsigned", "response-signed"])
@pytest.mark.parametrize("sealed", [False, True], ids=["clear", "encrypted"])
def test_an_honest_response_says_who_signed_on(sealed: bool, response_signed: bool) -> None:
    """The same statement, whether it was encrypted and whether the response was signed as well."""
    said = read(Answer(sealed=sealed, response_signed=response_signed).bytes())
    assert (said.name_id.value, said.context, said.session_index) == ("GX-1", FACTS.context, "_session-1")
    assert said.attributes == {name: [value] for name, value in FACTS.attributes.items()}
    assert said.authenticated_at == NOW
    assert said.until == NOW + timedelta(minutes=2) + SKEW
    assert etree.fromstring(said.data).get("ID") == said.assertion_id
    assert b"Signature" not in said.data


def test_a_signature_by_an_elliptic_key_is_taken_too() -> None:
    signing = idp_signing().but(key=ec_key("idp"), certificate=certificate(ec_key("idp")))
    assert read(Answer(signing=signing).bytes(), trusted=[signing.certificate]).name_id.value == "GX-1"


def test_any_of_several_pinned_certificates_may_have_signed() -> None:
    """While keys roll over, the old and the new one are both trusted."""
    other = certificate(rsa_key("next"))
    for trusted in ([other, idp_signing().certificate], [idp_signing().certificate, other]):
        assert read(Answer().bytes(), trusted=trusted).name_id.value == "GX-1"


def test_any_of_several_decryption_keys_may_open() -> None:
    assert read(Answer(sealed=True).bytes(), keys=[rsa_key("next"), rsa_key("ours")]).name_id.value == "GX-1"


def test_the_bytes_that_are_kept_are_those_that_were_signed() -> None:
    """They are evidence: whoever has the certificate can compute the digest again."""
    said = read(Answer(sealed=True).bytes())
    again = etree.tostring(etree.fromstring(said.data), method="c14n", exclusive=True)
    assert said.data == again


# --- the attacks of the simulated authority ----------------------------------------------------------------------

REASONS = {
    # wrapping: the id of the forged element, the grammars, and the count of assertions stand in the way
    "hostile_xsw1": "ds:Signature is not expected here",  # SIGNATURE_GRAMMAR: nothing but its parts in a signature
    "hostile_xsw2": "the signature refers to another element",  # _check_form: URI is the id of its own element
    "hostile_xsw3": "samlp:Response is not expected here",  # RESPONSE_GRAMMAR: one assertion
    "hostile_xsw4": "there is not exactly one assertion",  # _only_assertion: however deep
    "hostile_xsw5": "samlp:Response is not expected here",
    "hostile_xsw6": "there is not exactly one assertion",
    "hostile_xsw7": "an id stands twice",  # check_ids
    "hostile_xsw8": "there is not exactly one assertion",
    # signatures
    "hostile_unsigned": "Assertion is not signed itself",  # _check_form: exactly one signature of its own
    "hostile_unsigned_assertion": "Assertion is not signed itself",
    "hostile_wrong_key": "does not verify",  # _by_any: only pinned certificates
    "hostile_sha1": "uses an algorithm that is not allowed",  # METHODS
    "hostile_sha1_digest": "uses a digest that is not allowed",  # DIGESTS
    "hostile_hmac": "uses an algorithm that is not allowed",
    "hostile_xslt": "ds:Transforms is not expected here",  # SIGNATURE_GRAMMAR: two transforms
    "hostile_xslt_first": "ds:Transform is not expected here",  # … with nothing inside
    "hostile_whole_document": "the signature refers to another element",
    "hostile_two_references": "ds:SignedInfo is not expected here",  # SIGNATURE_GRAMMAR: one reference
    # documents
    "hostile_comment": "comments, processing instructions and entities",  # _check_limits
    "hostile_instruction": "comments, processing instructions and entities",
    "hostile_bomb": "a DOCTYPE is not allowed",  # parse, before the parser
    "hostile_external_entity": "a DOCTYPE is not allowed",
    "hostile_two_assertions": "samlp:Response is not expected here",
    "hostile_same_id": "an id stands twice",
    # encryption
    "hostile_encrypted_unsigned": "Assertion is not signed itself",  # _verified_assertion: verify after decrypt
    "hostile_encrypted_cbc": "the content is encrypted by an algorithm that is not allowed",  # CONTENT_KEY_BYTES
    "hostile_encrypted_response": "what was encrypted is not an assertion",
    # what it says
    "hostile_replayed": "InResponseTo of the assertion",  # _confirmed_until
    "hostile_unsolicited": "Response has no InResponseTo",  # _check_envelope
    "hostile_wrong_request": "InResponseTo of the response",
    "hostile_wrong_inner_request": "InResponseTo of the assertion",
    "hostile_wrong_issuer": "Issuer of Response",  # check_issuer
    "hostile_wrong_audience": "is for another audience",  # _valid_until
    "hostile_wrong_recipient": "Recipient is another",
    "hostile_wrong_destination": "Destination is another",
    "hostile_expired": "Response was issued too long ago",  # check_issued
    "hostile_early": "Response was issued too long ago, or in the future",
    "hostile_holder_of_key": "Method of SubjectConfirmation",
    "hostile_level": "",  # taken: what a class is worth is the core's business, and this one is worth nothing
}
"""Attack → why it is refused, and the guard that refuses it."""


def test_every_attack_of_the_authority_is_known_here() -> None:
    assert set(REASONS) == set(ATTACKS)


@pytest.mark.parametrize("name", [name for name, reason in REASONS.items() if reason])
def test_an_attack_is_refused_by_its_own_guard(name: str) -> None:
    """The guard stands beside each reason in `REASONS`."""
    earlier = etree.tostring(response(FACTS, _signed(FACTS.but(request_id="_request-0"))))
    attack, _ = ATTACKS[name]
    assert REASONS[name] in why_not(attack(Means(FACTS, idp_signing(), sealing(), earlier)))


def _signed(facts: Facts) -> etree._Element:
    made = assertion(facts)
    sign(made, idp_signing())
    return made


# --- wrapping, where the simplest guard is out of the way --------------------------------------------------------


def test_a_forged_assertion_in_another_namespace_is_counted_too() -> None:
    """Guard: `_only_assertion` looks at local names. A reader that looks at them could take the wrong one."""
    answer = Answer(inside=adding("AttributeStatement", "urn:elsewhere", "Assertion"))
    assert "not exactly one assertion" in why_not(answer.bytes())


def test_a_second_signature_in_the_assertion_is_refused() -> None:
    """Guard: `_check_form` counts them. Which of two a library takes is nobody's promise."""

    def twice(root: etree._Element) -> None:
        signature = find(find(root, "Assertion"), "Signature")
        signature.addnext(copy.deepcopy(signature))

    assert "not exactly once" in why_not(Answer(outside=twice).bytes())


def test_a_signature_elsewhere_in_the_assertion_does_not_count() -> None:
    """Guard: `_check_form` takes children only."""

    def deeper(root: etree._Element) -> None:
        find(root, "AuthnStatement").append(find(root, "Signature"))

    assert "is not signed itself" in why_not(Answer(outside=deeper).bytes())


def test_a_signature_of_the_response_that_is_wrong_is_not_passed_over() -> None:
    """Guard: `read_response` verifies it whenever it is there: an assertion that verifies is no excuse."""
    answer = Answer(response_signed=True).bytes().replace(b'status:Success"', b'status:Success" Note="x"')
    assert "does not verify" in why_not(answer)


@pytest.mark.parametrize("name", ["Advice", "AuthzDecisionStatement", "Statement"])
def test_parts_of_an_assertion_that_nobody_needs_are_refused(name: str) -> None:
    """Guard: ASSERTION_GRAMMAR. Advice may hold whole assertions of others; unknown statements may change meanings."""
    assert "saml:Assertion is not expected here" in why_not(Answer(inside=adding("Assertion", SAML, name)).bytes())


def test_a_condition_that_we_do_not_know_is_not_met() -> None:
    """Guard: ASSERTION_GRAMMAR (Core §2.5.1.1: who does not understand a condition must not rely on the assertion)."""
    assert "saml:Conditions" in why_not(Answer(inside=adding("Conditions", SAML, "ProxyRestriction")).bytes())


def test_text_between_elements_is_refused() -> None:
    """Guard: the last lines of `check_shape`."""
    assert "has text between" in why_not(Answer(inside=lambda root: setattr(root[0], "tail", "x")).bytes())


def test_a_name_that_is_split_by_an_element_is_refused() -> None:
    """Guard: ASSERTION_GRAMMAR and `text_of`. The first piece would be somebody else's name."""
    answer = Answer(inside=adding("NameID", SAML, "Audience", "x"))
    assert "saml:NameID is not expected here" in why_not(answer.bytes())


def test_an_id_that_stands_twice_inside_of_an_encryption_is_found_too() -> None:
    """Guard: `check_ids` after decrypting. What is hidden from the first look is looked at again."""

    def again(root: etree._Element) -> None:
        find(root, "NameID").set("Id", str(root.get("ID")))

    assert "an id stands twice" in why_not(Answer(sealed=True, inside=again).bytes())


def test_what_the_verifier_returns_must_be_what_was_to_be_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard: the last condition in `verify`: a library that took another element for the signed one is not followed."""
    result = VerifyResult(b"<a/>", etree.fromstring("<a/>"), etree.fromstring("<s/>"), b"")
    monkeypatch.setattr(XMLVerifier, "verify", lambda *_args, **_more: result)
    assert "covers something else" in why_not(Answer().bytes())


# --- signatures --------------------------------------------------------------------------------------------------


def test_a_changed_assertion_is_refused() -> None:
    """Guard: `_by_any`."""
    assert "does not verify" in why_not(Answer().bytes().replace("韦小兰".encode("ascii", "xmlcharrefreplace"), b"x"))


def test_a_certificate_that_is_over_verifies_nothing() -> None:
    """Guard: `verification_time` in `_by_any`. A retired key must not come back with its certificate."""
    old = certificate(rsa_key("idp"), since=NOW - 2 * A_DAY, until=NOW - A_DAY)
    assert "InvalidCertificate" in why_not(Answer().bytes(), trusted=[old])


def test_without_a_pinned_certificate_nothing_verifies() -> None:
    """Guard: `_by_any` tries pinned certificates and no other, whatever KeyInfo brings along."""
    assert "does not verify" in why_not(Answer().bytes(), trusted=[stranger().certificate])


@pytest.mark.parametrize(
    ("element", "algorithm", "reason"),
    [
        ("CanonicalizationMethod", "http://www.w3.org/2001/10/xml-exc-c14n#WithComments", "another canonical form"),
        ("CanonicalizationMethod", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315", "another canonical form"),
        ("Transform", "http://www.w3.org/TR/1999/REC-xpath-19991116", "other transforms"),
        ("Transform", "http://www.w3.org/2000/09/xmldsig#base64", "other transforms"),
        ("SignatureMethod", "http://www.w3.org/2001/04/xmldsig-more#rsa-md5", "an algorithm that is not allowed"),
        ("SignatureMethod", "http://www.w3.org/2000/09/xmldsig#dsa-sha1", "an algorithm that is not allowed"),
        ("DigestMethod", "http://www.w3.org/2001/04/xmldsig-more#md5", "a digest that is not allowed"),
    ],
)
def test_algorithms_are_looked_at_before_anything_is_computed(element: str, algorithm: str, reason: str) -> None:
    """Guards: the comparisons in `_check_form`; the signature would not verify either, but only afterwards."""
    assert reason in why_not(Answer(outside=setting(element, Algorithm=algorithm)).bytes())


@pytest.mark.parametrize("uri", ["", "#other", "#xpointer(/)", "http://elsewhere.example/a", None])
def test_a_reference_to_anything_else_is_refused(uri: str | None) -> None:
    """Guard: `_check_form`. A reference that leads out of the assertion signs something else."""
    assert "refers to another element" in why_not(Answer(outside=setting("Reference", URI=uri)).bytes())


def test_an_object_in_a_signature_is_refused() -> None:
    """Guard: SIGNATURE_GRAMMAR. It is where wrapped elements hide."""
    assert "ds:Signature is not expected here" in why_not(Answer(outside=adding("Signature", DS, "Object")).bytes())


def test_a_truncated_hmac_has_no_place_in_the_form() -> None:
    """Guard: SIGNATURE_GRAMMAR (CVE-2009-0217)."""
    answer = Answer(outside=adding("SignatureMethod", DS, "HMACOutputLength", "8"))
    assert "ds:SignatureMethod is not expected here" in why_not(answer.bytes())


# --- documents ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no message"),
        (b"<", "not well-formed"),
        (b"\xff\xfe<\x00", "not UTF-8"),
        ("<?xml version='1.0' encoding='UTF-16'?><a/>".encode("utf-16"), "not UTF-8"),
        (b"<!DOCTYPE a><a/>", "DOCTYPE"),
        (b"<a><![CDATA[<!DOCTYPE a>]]></a>", "DOCTYPE"),
        (b"<a>&b;</a>", "not well-formed"),
        (b"<a/>", "is no Response"),
        (b"<a>" * 13 + b"</a>" * 13, "too deep"),
        (b"<a>" + b"<b/>" * (MAX_ELEMENTS + 1) + b"</a>", "too many elements"),
        (b"<a>" + b"x" * MAX_BYTES + b"</a>", "too large"),
        (b"<a>" + b"x" * MAX_BYTES * 2 + b"</a>", "too large"),
        (b"<a ID='x'><b Id='x'/></a>", "is no Response"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_document_that_is_none_is_refused(data: bytes, reason: str) -> None:
    """Guards: the lines of `decoded`, `parse` and `_check_limits`, in this order."""
    assert reason in why_not(data)


@pytest.mark.parametrize("posted", [None, 7, "", "ü", "a", "%%%", "A" * (MAX_BYTES * 2 + 1)])
def test_a_field_that_is_no_base64_is_refused(posted: object) -> None:
    """Guard: `decoded`."""
    with pytest.raises(Rejected):
        read_response(posted, EXPECTED, [idp_signing().certificate], [])


@pytest.mark.parametrize("spelling", ["ID", "Id", "id", "{http://www.w3.org/XML/1998/namespace}id"])
def test_an_id_that_stands_twice_in_any_spelling_is_refused(spelling: str) -> None:
    """Guard: `check_ids`."""

    def again(root: etree._Element) -> None:
        find(root, "StatusCode").set(spelling, str(find(root, "Assertion").get("ID")))

    assert "an id stands twice" in why_not(Answer(outside=again).bytes())


@pytest.mark.parametrize("bad", ["1x", "a b", "ä", "x" * 129, ""])
def test_an_id_of_another_form_is_refused(bad: str) -> None:
    """Guard: `id_of`. It goes into a reference, and into what the core remembers."""
    assert "ID" in why_not(Answer(inside=setting("Assertion", ID=bad)).bytes())


# --- encryption --------------------------------------------------------------------------------------------------


def _sealed(tweak: Tweak) -> bytes:
    return Answer(sealed=True, outside=tweak).bytes()


@pytest.mark.parametrize(
    ("tweak", "reason"),
    [
        (lambda root: find(root, "EncryptedKey")[0].set("Algorithm", f"{ENC}rsa-1_5"), "the content key is encrypted"),
        (lambda root: find(root, "EncryptedKey")[0].set("Algorithm", f"{ENC}rsa-oaep-mgf1p"), "content key is"),
        (setting("DigestMethod", Algorithm=f"{DS}sha1"), "with SHA-256"),
        (without("DigestMethod"), "with SHA-256"),
        (setting("MGF", Algorithm=f"{ENC11}mgf1sha1"), "with MGF1"),
        (without("MGF"), "with MGF1"),
        (setting("EncryptionMethod", Algorithm=f"{ENC11}aes192-gcm"), "the content is encrypted by an algorithm"),
        (setting("EncryptionMethod", Algorithm=f"{ENC11}aes128-gcm"), "cannot be decrypted"),
        (saying("CipherValue", "AAAA"), "cannot be decrypted"),
        (saying("CipherValue", "%"), "cannot be decrypted"),
        (saying("CipherValue", ""), "cannot be decrypted"),
        (lambda root: setattr(root[-1][0][-1][0], "text", "AAAA"), "cannot be decrypted"),
        (lambda root: root[-1].append(copy.deepcopy(find(root, "EncryptedKey"))), "not exactly one encrypted key"),
        (without("EncryptedKey"), "not exactly one encrypted key"),
        (lambda root: find(root, "CipherData").append(etree.Element(f"{{{ENC}}}CipherReference")), "CipherData"),
    ],
)
def test_another_way_of_encrypting_is_refused(tweak: Tweak, reason: str) -> None:
    """Guards: ENCRYPTED_GRAMMAR, CONTENT_KEY_BYTES, `_check_transport`, and one text for whatever fails inside."""
    assert reason in why_not(_sealed(tweak))


def test_what_was_encrypted_for_somebody_else_is_refused() -> None:
    assert "cannot be decrypted" in why_not(Answer(sealed=True).bytes(), keys=[rsa_key("next")])


@pytest.mark.parametrize("clear", [b"no XML", b"<!DOCTYPE a><a/>", b"<a/>", b"<!--x--><a/>" * 2])
def test_what_comes_out_of_encryption_is_read_under_the_same_limits(clear: bytes) -> None:
    """Guard: `_verified_assertion` parses it by `parse`."""
    why_not(etree.tostring(response(FACTS, encrypt(clear, sealing()))))


def test_an_assertion_that_is_encrypted_twice_is_refused() -> None:
    """Guard: `_verified_assertion` demands an Assertion after one decryption: no chain, no bomb."""
    inner = encrypt(etree.tostring(_signed(FACTS)), sealing())
    twice = encrypt(etree.tostring(inner), sealing())
    assert "is not an assertion" in why_not(etree.tostring(response(FACTS, twice)))


def test_the_label_of_an_encryption_alone_is_not_believed() -> None:
    """Guard: `_OAEP`. A key that was wrapped with SHA-1 and says SHA-256 does not open."""
    weak = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)  # noqa: S303 - what must be refused
    wrapped = base64.b64encode(rsa_key("ours").public_key().encrypt(b"k" * 32, weak)).decode()
    other = saying("CipherValue", wrapped)
    assert "cannot be decrypted" in why_not(_sealed(lambda root: other(find(root, "EncryptedKey"))))


# --- status ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["Requester", "Responder", "VersionMismatch", "AuthnFailed", "", "x" * 3000])
def test_any_other_status_than_success_ends_the_sign_on(status: str) -> None:
    """Guard: `_check_status`. The assertion beside it does not help."""
    code = f"urn:oasis:names:tc:SAML:2.0:status:{status}"
    why_not(Answer(outside=setting("StatusCode", Value=code)).bytes())


def test_a_success_with_a_second_status_inside_is_none() -> None:
    """Guard: `_check_status` wants exactly one."""
    inner = adding("StatusCode", SAMLP, "StatusCode", Value="urn:oasis:names:tc:SAML:2.0:status:AuthnFailed")
    assert "the status is" in why_not(Answer(outside=inner).bytes())


# --- what the response and the assertion say ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tweak", "reason"),
    [
        (setting("Response", Version="1.1"), "Version"),
        (setting("Response", Destination=CALLBACK + "/"), "Destination"),
        (setting("Response", Destination=None), "no Destination"),
        (setting("Response", InResponseTo=REQUEST + "x"), "InResponseTo"),
        (setting("Response", InResponseTo=None), "no InResponseTo"),
        (setting("Response", IssueInstant=None), "no IssueInstant"),
        (setting("Response", IssueInstant="yesterday"), "no time in UTC"),
        (setting("Response", ID=None), "no ID"),
        (setting("Issuer", Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"), "another format"),
        (saying("Issuer", "https://idp.test/saml/metadata "), "Issuer of Response"),
        (without("Issuer"), "samlp:Response is not expected here"),
        (without("Status"), "the status is missing"),
        (without("Assertion"), "samlp:Response is not expected here"),
        (lambda root: root.insert(1, etree.Element(f"{{{SAMLP}}}Extensions")), "samlp:Response is not expected"),
    ],
)
def test_a_response_that_is_not_the_answer_is_refused(tweak: Tweak, reason: str) -> None:
    """Guards: the lines of `_check_envelope` and RESPONSE_GRAMMAR."""
    assert reason in why_not(Answer(outside=tweak).bytes())


@pytest.mark.parametrize(
    ("tweak", "reason"),
    [
        (setting("Assertion", Version="1.1"), "Version"),
        (setting("Assertion", IssueInstant="2023-11-14T22:13:20+00:00"), "no time in UTC"),
        (setting("Assertion", IssueInstant="2023-02-30T22:13:20Z"), "no time in UTC"),
        (saying("Issuer", "https://elsewhere.example"), "Issuer of Assertion"),
        (without("Issuer"), "saml:Assertion is not expected here"),
        (without("Subject"), "saml:Assertion is not expected here"),
        (without("NameID"), "saml:Subject is not expected here"),
        (setting("NameID", Format="urn:oasis:names:tc:SAML:2.0:nameid-format:transient"), "Format of NameID"),
        (setting("NameID", Format=None), "no Format"),
        (setting("NameID", NameQualifier="https://elsewhere.example"), "qualifiers"),
        (setting("NameID", SPNameQualifier="https://elsewhere.example"), "qualifiers"),
        (setting("NameID", SPProvidedID="x"), "a name that we never gave"),
        (saying("NameID", ""), "NameID is empty"),
        (saying("NameID", "x" * 257), "NameID is empty, or longer"),
        (saying("NameID", "x" * 3000), "is not a plain, short text"),
        (without("SubjectConfirmation"), "saml:Subject is not expected here"),
        (without("SubjectConfirmationData"), "saml:SubjectConfirmation is not expected here"),
        (setting("SubjectConfirmation", Method="urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"), "Method of Subject"),
        (adding("SubjectConfirmation", SAML, "NameID", "x"), "saml:SubjectConfirmation is not expected here"),
        (adding("SubjectConfirmationData", DS, "KeyInfo"), "saml:SubjectConfirmationData is not expected here"),
        (setting("SubjectConfirmationData", Recipient=None), "no Recipient"),
        (setting("SubjectConfirmationData", InResponseTo=None), "no InResponseTo"),
        (setting("SubjectConfirmationData", NotOnOrAfter=None), "no NotOnOrAfter"),
        (setting("SubjectConfirmationData", NotBefore=stamp(NOW - A_DAY)), "has a NotBefore"),
        (without("Conditions"), "saml:Assertion is not expected here"),
        (setting("Conditions", NotBefore=None), "no NotBefore"),
        (setting("Conditions", NotOnOrAfter=None), "no NotOnOrAfter"),
        (without("AudienceRestriction"), "saml:Conditions is not expected here"),
        (adding("Conditions", SAML, "AudienceRestriction"), "saml:Conditions is not expected here"),
        (without("Audience"), "saml:AudienceRestriction is not expected here"),
        (saying("Audience", US + "/"), "another audience"),
        (without("AuthnStatement"), "saml:Assertion is not expected here"),
        (without("AuthnContext"), "saml:AuthnStatement is not expected here"),
        (without("AuthnContextClassRef"), "saml:AuthnContext is not expected here"),
        (setting("AuthnStatement", AuthnInstant=None), "no AuthnInstant"),
        (adding("AttributeStatement", SAML, "EncryptedAttribute"), "saml:AttributeStatement is not expected here"),
        (adding("AttributeStatement", SAML, "Attribute", Name="userName"), "an attribute stands twice"),
        (adding("AttributeValue", SAML, "NameID", "x"), "saml:AttributeValue is not expected here"),
        (setting("Attribute", Name=None), "no Name"),
    ],
)
def test_a_signed_assertion_that_breaks_a_rule_is_refused(tweak: Tweak, reason: str) -> None:
    """Guards: ASSERTION_GRAMMAR and the lines of `_statement` and of what it calls. All of these are signed right."""
    assert reason in why_not(Answer(inside=tweak).bytes())


def test_one_of_several_audiences_suffices() -> None:
    read(Answer(inside=adding("AudienceRestriction", SAML, "Audience", "https://other.example")).bytes())


def test_attributes_may_be_missing_altogether() -> None:
    assert read(Answer(inside=without("AttributeStatement")).bytes()).attributes == {}


def moments() -> Iterator[tuple[str, str, timedelta, timedelta | None]]:
    """Yield element, attribute, the last time that is taken, and in which direction one more second is too much."""
    yield "Response", "IssueInstant", SKEW, TICK
    yield "Response", "IssueInstant", -MAX_AGE - SKEW, -TICK
    yield "Assertion", "IssueInstant", SKEW, TICK
    yield "Assertion", "IssueInstant", -MAX_AGE - SKEW, -TICK
    yield "Conditions", "NotBefore", SKEW, TICK
    yield "Conditions", "NotOnOrAfter", -SKEW + TICK, -TICK
    yield "SubjectConfirmationData", "NotOnOrAfter", -SKEW + TICK, -TICK
    yield "AuthnStatement", "AuthnInstant", SKEW, TICK
    yield "AuthnStatement", "AuthnInstant", -MAX_SESSION - SKEW, -TICK
    yield "AuthnStatement", "SessionNotOnOrAfter", -SKEW + TICK, -TICK


@pytest.mark.parametrize(("element", "attribute", "last", "step"), list(moments()))
def test_times_are_kept_to_the_second(element: str, attribute: str, last: timedelta, step: timedelta) -> None:
    """Guards: `check_issued`, `_valid_until`, `not_over`, `_authenticated_at`. A minute of tolerance and no more."""

    def answer(at: timedelta) -> bytes:
        tweak = setting(element, **{attribute: stamp(NOW + at)})
        return (Answer(outside=tweak) if element == "Response" else Answer(inside=tweak)).bytes()

    assert read(answer(last)).authenticated_at <= NOW
    why_not(answer(last + step))


def test_fractions_of_a_second_are_read() -> None:
    """Guard: `instant`; some identity providers write seven digits."""
    said = read(Answer(inside=setting("AuthnStatement", AuthnInstant="2023-11-14T22:13:19.1234567Z")).bytes())
    assert said.authenticated_at.microsecond == 123456


def test_a_fresh_proof_that_was_asked_for_must_be_one() -> None:
    """Guard: `fresh_since` in `_authenticated_at`. Some identity providers ignore ForceAuthn."""
    old = Answer(facts=FACTS.but(authenticated_at=NOW - timedelta(minutes=10))).bytes()
    assert read(old).authenticated_at == NOW - timedelta(minutes=10)
    assert "a fresh proof was asked for" in why_not(old, expected=replace(EXPECTED, fresh_since=NOW))
    read(Answer().bytes(), expected=replace(EXPECTED, fresh_since=NOW))


def test_an_answer_to_no_request_is_refused_whatever_it_says() -> None:
    """Guard: `attribute` takes nothing empty: memory that was lost is no request that an absent one could match."""
    facts = FACTS.but(request_id=None)
    why_not(Answer(facts=facts).bytes(), expected=replace(EXPECTED, request_id=""))
    empty = setting("Response", InResponseTo="")
    why_not(Answer(outside=empty).bytes(), expected=replace(EXPECTED, request_id=""))


# --- any other change --------------------------------------------------------------------------------------------

Mutation = Callable[[random.Random, bytes], bytes]


def _flip(chance: random.Random, data: bytes) -> bytes:
    spot = chance.randrange(len(data))
    return data[:spot] + bytes([data[spot] ^ (1 << chance.randrange(8))]) + data[spot + 1 :]


def _cut(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data))
    return data[:start] + data[start + chance.randrange(1, 40) :]


def _repeat(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data))
    piece = data[start : start + chance.randrange(1, 200)]
    spot = chance.randrange(len(data))
    return data[:spot] + piece + data[spot:]


def _insert(chance: random.Random, data: bytes) -> bytes:
    pieces = [b"<!---->", b"<?x?>", b"&#x0;", b"&lt;", b"\x00", b"\xff", b"<x/>", b"]]>", b"<![CDATA[x]]>", b'"', b" "]
    spot = chance.randrange(len(data))
    return data[:spot] + chance.choice(pieces) + data[spot:]


def _move(chance: random.Random, data: bytes) -> bytes:
    root = etree.fromstring(data)
    elements = list(root.iter(etree.Element))
    moved, target = chance.choice(elements[1:]), chance.choice(elements)
    if moved in target.iterancestors() or moved is target:
        return data + b"<"
    target.insert(chance.randrange(len(target) + 1), moved if chance.random() < 0.5 else copy.deepcopy(moved))
    return etree.tostring(root)


def _drop(chance: random.Random, data: bytes) -> bytes:
    root = etree.fromstring(data)
    element = chance.choice(list(root.iter(etree.Element))[1:])
    parent = element.getparent()
    assert parent is not None
    parent.remove(element)
    return etree.tostring(root)


def _set(chance: random.Random, data: bytes) -> bytes:
    root = etree.fromstring(data)
    element = chance.choice([each for each in root.iter(etree.Element) if each.attrib])
    name = chance.choice(list(element.attrib))
    values = ["", "x", "#x", new_id(), stamp(NOW), CALLBACK, "urn:oasis:names:tc:SAML:2.0:cm:bearer", f"{DS}sha1"]
    element.set(name, chance.choice([*values, str(element.get(name)).swapcase()]))
    return etree.tostring(root)


def _rename(chance: random.Random, data: bytes) -> bytes:
    root = etree.fromstring(data)
    elements = list(root.iter(etree.Element))
    chance.choice(elements).tag = chance.choice(elements).tag
    return etree.tostring(root)


MUTATIONS: list[Mutation] = [_flip, _cut, _repeat, _insert, _move, _drop, _set, _rename]


@pytest.mark.parametrize("seed", range(8))
def test_no_change_of_a_response_makes_it_say_anything_else(seed: int) -> None:
    """Whatever is changed, once or thrice: it is refused in the one way, or still says what was signed, byte for byte.

    What may change without harm stands outside of every signature: KeyInfo, white space in base64, a status message.
    """
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    kinds = [Answer(), Answer(sealed=True), Answer(response_signed=True)]
    honest = [(answer, read(answer)) for answer in (kind.bytes() for kind in kinds)]
    refused = 0
    for _ in range(150):
        data, said = chance.choice(honest)
        changed = data
        for _ in range(chance.choice((1, 1, 3))):
            try:
                changed = chance.choice(MUTATIONS)(chance, changed)
            except etree.XMLSyntaxError:
                break
        try:
            assert read(changed) == said
        except Rejected:
            refused += 1
    assert refused > 100
