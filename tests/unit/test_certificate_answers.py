"""What an issuer's status and certificates come to: the closed list of answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.certificates.answers import OfSomebodyElse, Wanted, judge
from gateway.domain.certificate import Standing
from gateway.ports import CertificateReply
from gateway.regions import Region
from tests.unit.protocol_support import NOW

IDENTIFIER = "1.2.156.3005.2.11100000000013127D001.11440000MBT400007D.SBX000000000101.001.W"
CERTIFICATE = {
    "identifier": IDENTIFIER,
    "holder": {"name": "陈小明", "document": {"type": "CN_RIC", "number": "44010619900101900X"}},
    "state": "VALID",
}
WORDS = {"0": "found", "21": "revoked", "22": "expired", "23": "restricted", "24": "superseded", "10": "not_found"}
REGION = cast("Region", SimpleNamespace(id="guangdong", certificate_words=WORDS))


def judged(status: str, *certificates: dict[str, Any], identifier: str = IDENTIFIER) -> list[Standing]:
    pack = SimpleNamespace(to_canonical=lambda document: document)
    packs = cast("Any", SimpleNamespace(need=lambda _message: pack))
    reply = CertificateReply(status, "", certificates)
    return [one.standing for one in judge(REGION, packs, reply, Wanted(identifier=identifier), NOW)]


@pytest.mark.parametrize("status", ["21", "22", "23", "24"])
def test_a_status_alone_can_say_what_a_certificate_is_worth(status: str) -> None:
    assert judged(status) == [Standing(WORDS[status])]


def test_a_status_counts_over_the_certificate_that_comes_with_it() -> None:
    """Whoever says revoked means it, even when the record beside it has not caught up."""
    assert judged("21", CERTIFICATE) == [Standing.REVOKED]
    assert judged("0", CERTIFICATE) == [Standing.VALID]


def test_a_status_makes_nothing_of_a_certificate_in_a_state_that_nobody_knows() -> None:
    assert judged("21", {**CERTIFICATE, "state": "unknown:88"}) == [Standing.UNVERIFIABLE]


def test_a_status_about_another_certificate_is_no_answer() -> None:
    with pytest.raises(OfSomebodyElse):
        judged("21", CERTIFICATE, identifier=IDENTIFIER.replace("101", "102"))


@pytest.mark.parametrize("status", ["77", "", "0"])
def test_a_status_that_nobody_knows_is_never_not_found(status: str) -> None:
    assert judged(status) == [Standing.UNVERIFIABLE]
