"""Who is asked for a certificate: by identifier, by holder, by a shown code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from gateway.certificates.directory import Directory, is_home, nearest_first
from gateway.certificates.request import HolderNamed
from gateway.certificates.types import CertificateType
from gateway.domain.certificate_identifier import CertificateIdentifier
from gateway.domain.region import place_of
from gateway.regions import Region

KIND = "11100000000013127D001"


def region(name: str, code: str, *, shown: tuple[str, ...] = (), asked: bool = True) -> Region:
    adapter = SimpleNamespace(certificates=object() if asked else None)
    made = SimpleNamespace(
        id=name, place=place_of(code), adapter=adapter, shown_prefixes=shown, tells=lambda _operation: bool(shown)
    )
    return cast("Region", made)


GUANGDONG, FOSHAN, HUNAN = region("guangdong", "440000"), region("foshan", "440600"), region("hunan", "430000")
HONGKONG = region("hongkong", "810000", shown=("HKC:",))
MACAU = region("macau", "820000", shown=("HKC:MO:",))
REGIONS = {one.id: one for one in (GUANGDONG, FOSHAN, HUNAN, HONGKONG, MACAU)}


def directory(*issuers: str) -> Directory:
    return Directory({KIND: CertificateType(KIND, "居民身份证", ("身份证",), "sandbox", issuers)}, REGIONS)


def identifier(issuer: str) -> CertificateIdentifier:
    return CertificateIdentifier(KIND, issuer, "1", "001")


def holder(kind: str, number: str) -> HolderNamed:
    return HolderNamed.model_validate({"name": "陈小明", "document": {"type": kind, "number": number}})


@pytest.mark.parametrize(
    ("issuer", "asked"),
    [
        ("11440600MBT406003B", "foshan"),  # the city itself
        ("11440604MBT406003B", "foshan"),  # one of its districts
        ("11440100MBT40100XX", "guangdong"),  # a city that is no region: its province
        ("430100", "hunan"),
        ("11110000000013127D", None),  # a ministry: several regions keep its certificates
    ],
)
def test_an_identifier_leads_to_the_nearest_region_of_its_issuer(issuer: str, asked: str | None) -> None:
    found = directory("guangdong", "foshan", "hunan").of_identifier(identifier(issuer))
    assert (found and found.id) == asked


def test_a_type_with_one_issuer_needs_no_place() -> None:
    found = directory("guangdong").of_identifier(identifier("11110000000013127D"))
    assert found is GUANGDONG


def test_a_type_that_nobody_knows_leads_nowhere() -> None:
    unknown = CertificateIdentifier("1" * 21, "11440600MBT406003B", "1", "001")
    assert directory("foshan").of_identifier(unknown) is None


@pytest.mark.parametrize(
    ("kind", "number", "first"),
    [
        ("CN_RIC", "430102197812319026", "hunan"),
        ("CN_RIC", "44060619900101900X", "foshan"),
        ("USCC", "91430100MA5T00037X", "hunan"),
        ("HKID", "A1234563", "hongkong"),
        ("MO_BIR", "12345678", "macau"),
    ],
)
def test_the_region_where_the_holder_is_at_home_comes_first(kind: str, number: str, first: str) -> None:
    known = [GUANGDONG, HONGKONG, MACAU, HUNAN, FOSHAN]
    order = nearest_first(known, holder(kind, number))
    assert order[0].id == first
    assert is_home(order[0], holder(kind, number))
    assert sorted(one.id for one in order) == sorted(one.id for one in known)


def test_a_document_that_says_no_place_has_no_home() -> None:
    """A permit or a passport says nothing of where its holder lives."""
    somebody = holder("HM_PERMIT", "H00000001")
    assert nearest_first([HUNAN, FOSHAN], somebody) == [HUNAN, FOSHAN]
    assert not any(is_home(one, somebody) for one in REGIONS.values())


@pytest.mark.parametrize(("code", "asked"), [("HKC:1", "hongkong"), ("HKC:MO:1", "macau"), ("XX", None)])
def test_a_shown_code_leads_to_the_region_with_the_longest_beginning(code: str, asked: str | None) -> None:
    found = directory("hongkong").of_code(code)
    assert (found and found.id) == asked
