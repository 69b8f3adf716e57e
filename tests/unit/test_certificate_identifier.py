"""The identifier of a certificate (GB/T 36904), taken apart and built."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.certificate_identifier import CertificateIdentifier

PUBLISHED = [
    "1.2.156.3005.2.11100000000013338W009.11330105002500287C.2025052201.002.0",
    "1.2.156.3005.2.11100000000013338W011.11430000006122244L.20230000403.001.U",
    "1.2.156.3005.2.11100000MB03271699022.340100.000000016.001.9",
    "1.2.156.3005.2.11100000000013338W032.11220000013544541J.2430599.001.F",
    "1.2.156.3005.2.11100000000013127D001.11440100MBT40100XX.SBX000000000001.001.O",
]
WRONG = "1.2.156.3005.2.11100000000013661B006.113700000045046442.209FA4E88F9E4C878F3E9BED2CE7EA49.001.M"
PART = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.mark.parametrize("published", PUBLISHED)
def test_a_published_identifier_is_what_its_parts_build(published: str) -> None:
    assert str(CertificateIdentifier.parse(published)) == published


def test_the_example_of_a_documentation_has_a_wrong_check_character() -> None:
    """It should end in D."""
    with pytest.raises(ValueError, match=r"^has a wrong check character$"):
        CertificateIdentifier.parse(WRONG)
    assert str(CertificateIdentifier.parse(WRONG[:-1] + "D")) == WRONG[:-1] + "D"


@given(
    st.text(PART, min_size=21, max_size=21), st.text(PART, min_size=6, max_size=18), st.text(PART, min_size=1),
    st.text("0123456789", min_size=3, max_size=3),
)  # fmt: skip
def test_what_is_built_is_read_as_the_same(kind: str, issuer: str, serial: str, version: str) -> None:
    built = CertificateIdentifier(kind, issuer, serial, version)
    assert CertificateIdentifier.parse(str(built)) == built


def test_one_changed_character_is_noticed() -> None:
    body, check = PUBLISHED[0][:-1], PUBLISHED[0][-1]
    for at in range(len("1.2.156.3005.2."), len(body)):
        if body[at] != ".":
            other = PART[(PART.index(body[at]) + 7) % 36]
            with pytest.raises(ValueError, match="check character"):
                CertificateIdentifier.parse(body[:at] + other + body[at + 1 :] + check)


@pytest.mark.parametrize(
    ("issuer", "area"), [("11440100MBT40100XX", "440100"), ("340100", "340100"), ("ABCDEF", None), ("11ABCDEF", None)]
)
def test_the_issuers_place_is_in_its_code(issuer: str, area: str | None) -> None:
    """In the USCC behind the two characters of the registrar; some issuers give a region code alone."""
    assert CertificateIdentifier("1" * 21, issuer, "1", "001").area == area
