"""Claims about a certificate, held against what its issuer says: match or mismatch, and never the value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.certificates.claims import Match, compared, flat, restricted

CERTIFICATE = {
    "number": "SBX000000000301",
    "issuer": {"name": "广东省公安厅（沙箱）", "code": "11440000MBT400007D"},
    "holder": {"name": "买买提·吐尔逊", "document": {"type": "CN_RIC", "number": "44010619900101900X"}},
    "valid_until": "2040-01-01",
    "surface": [{"name": "准驾车型", "value": "C1"}],
}


@pytest.mark.parametrize(
    ("field", "claimed", "match"),
    [
        ("number", "sbx000000000301", Match.MATCH),
        ("number", "SBX000000000302", Match.MISMATCH),
        ("holder.name", "买买提 • 吐尔逊", Match.MATCH),
        ("holder.name", "买买提．吐尔逊", Match.MATCH),
        ("holder.name", "买买提", Match.MISMATCH),
        ("issuer.name", "广东省公安厅(沙箱)", Match.MATCH),
        ("holder.document.number", "44010619900101900x", Match.MATCH),
        ("surface.准驾车型", "C1", Match.MATCH),
        ("surface.准驾车型", "C2", Match.MISMATCH),
        ("surface.血型", "A", Match.ABSENT),
        ("valid_from", "2020-01-01", Match.ABSENT),
        ("holder", "买买提·吐尔逊", Match.ABSENT),
    ],
)
def test_names_are_compared_as_people_write_them_and_everything_else_must_fit(
    field: str, claimed: str, match: Match
) -> None:
    """Width, spaces, capitals and the kind of middle dot say nothing; a part of a name is another name."""
    assert compared({field: claimed}, CERTIFICATE) == {field: match}


@given(st.text(), st.text())
def test_a_claim_matches_whoever_of_both_is_the_issuer(one: str, other: str) -> None:
    assert compared({"number": one}, {"number": other}) == compared({"number": other}, {"number": one})


def test_what_is_restricted_holds_the_allowed_fields_alone() -> None:
    """A name allows what lies under it, and nothing that only begins alike."""
    kept = restricted({**CERTIFICATE, "number_of_pages": "2"}, {"number", "holder.document", "surface.准驾车型"})
    assert kept == {
        "number": "SBX000000000301",
        "holder": {"document": {"type": "CN_RIC", "number": "44010619900101900X"}},
        "surface": [{"name": "准驾车型", "value": "C1"}],
    }


@given(st.sets(st.sampled_from(["number", "issuer", "holder.name", "surface", "valid_until", "nothing"])))
def test_restricting_adds_nothing_and_twice_is_once(allowed: set[str]) -> None:
    kept = restricted(CERTIFICATE, allowed)
    assert set(flat(kept)) <= set(flat(CERTIFICATE))
    assert restricted(kept, allowed) == kept
