"""What a simulated authority says of materials that are not in a case."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from gateway.sandbox.left_out import LeftOut

IDENTIFIER = "1.2.156.3005.2.11100000000013127D001.11440100MBT40100XX.SBX000000000001.001.O"
ITEM: dict[str, Any] = {
    "material": [
        {"code": "ID", "kinds": ["ecert", "scan"]},
        {"code": "PROOF", "kinds": ["paper"], "deferrable": True},
        {"code": "FORM", "kinds": ["paper"]},
    ]
}
NO_IDENTIFIER = "not the identifier of a certificate, or a wrong check character"
NOT_VALID = "the certificate is not valid"
TODAY = date(2026, 3, 2)


def faults(left_out: LeftOut, *given: str, **register: Any) -> list[tuple[str, int, str]]:
    rows = [{"identifier": IDENTIFIER, **register}] if register else []
    return [(one.group, one.place, one.reason) for one in left_out.faults(ITEM, given, rows, TODAY)]


def test_what_the_item_allows_is_taken() -> None:
    left_out = LeftOut([("PROOF", "承诺书 1")], [("ID", IDENTIFIER)])
    assert faults(left_out, "FORM", state="valid", valid_to="2026-03-02") == []
    assert faults(LeftOut((), [("ID", "HK-PQ-000000001")])) == [], "another system's identifiers have other forms"


@pytest.mark.parametrize(
    ("left_out", "register", "reason"),
    [
        (LeftOut([("FORM", "x")]), {}, "the material may not follow later"),
        (LeftOut([("OTHER", "x")]), {}, "the material may not follow later"),
        (LeftOut([("PROOF", " ")]), {}, "a promise is wanted"),
        (LeftOut((), [("FORM", IDENTIFIER)]), {}, "no certificate can stand for the material"),
        (
            LeftOut((), [("ID", IDENTIFIER[:-1] + "P")]),
            {},
            NO_IDENTIFIER,
        ),
        (
            LeftOut((), [("ID", "1.2.156.3005.2.X")]),
            {},
            NO_IDENTIFIER,
        ),
        (LeftOut((), [("ID", IDENTIFIER)]), {"state": "revoked"}, NOT_VALID),
        (
            LeftOut((), [("ID", IDENTIFIER)]),
            {"state": "valid", "valid_to": "2026-03-01"},
            NOT_VALID,
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_place(left_out: LeftOut, register: dict[str, str], reason: str) -> None:
    group = "deferred" if left_out.deferred else "certified"
    assert faults(left_out, **register) == [(group, 0, reason)]


def test_a_material_that_is_there_is_neither_promised_nor_certified() -> None:
    twice = "the material is named twice"
    assert faults(LeftOut([("PROOF", "x")], [("ID", IDENTIFIER)]), "ID", "PROOF") == [
        ("deferred", 0, twice),
        ("certified", 0, twice),
    ]


def test_what_a_certificate_stands_for_is_never_asked_for() -> None:
    certified = LeftOut((), [("ID", IDENTIFIER)])
    assert certified.asked_for([]) == []
    assert certified.asked_for(["FORM"]) == ["FORM"]
    assert LeftOut().asked_for([]) == ["ID"]
    assert LeftOut([("PROOF", "x")]).to_follow(["FORM"]) == ["PROOF"]
