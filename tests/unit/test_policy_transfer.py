"""What may cross which border: each rule by a table, and the promises that must hold for every transfer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.region import GBA_CITIES, place_of
from gateway.errors import NotPermitted, StartRefused
from gateway.policy.transfer import (
    Basis,
    ConsentGiven,
    Grounds,
    HolderLookup,
    Kind,
    SubjectRole,
    Transfer,
    judge,
    load_bases,
    require,
)

NOW = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
CONSENT = ConsentGiven(
    "c-1", "Immigration Department", "transact", frozenset({"name", "mobile"}), NOW - HOUR, NOW + HOUR
)


def basis(**changes: Any) -> Basis:
    given_ = {"kind": "GBA-SC-HK", "origin": "440600", "target": "810000", "reference": "备案 7", **changes}
    return Basis.model_validate(given_)


ABROAD = Transfer(
    origin=place_of("440600"),
    target=place_of("810000"),
    target_region="hongkong",
    target_recipient="Immigration Department",
    document_type="HM_PERMIT",
    fields=["name", "mobile"],
    purpose="transact",
    consents=[CONSENT],
    bases=[basis()],
    now=NOW,
    item="A",
)
AT_HOME = replace(ABROAD, target=place_of("440300"), target_region="shenzhen", consents=[], bases=[])
LOOKUP = HolderLookup(name=True, number=True, document_type=True, roles=frozenset({SubjectRole.APPLICANT}))


def reasons(transfer: Transfer) -> list[str]:
    return [f"{finding.rule} {finding.reason}" for finding in judge(transfer)]


def test_a_transfer_abroad_with_consent_and_basis_is_allowed() -> None:
    assert judge(ABROAD) == []


# --- P3 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipient": "Somebody Else"}, "is for another recipient"),
        ({"purpose": "marketing"}, "is for another purpose"),
        ({"fields": frozenset({"name"})}, "does not name mobile"),
        ({"given_at": NOW + HOUR, "expires_at": NOW + 2 * HOUR}, "is only given on"),
        ({"expires_at": NOW}, "expired on"),
        ({"revoked_at": NOW}, "is revoked"),
    ],
)
def test_a_consent_that_falls_short_does_not_carry_a_transfer(changes: dict[str, Any], words: str) -> None:
    """PIPL art. 39: the consent names recipient, purpose and kinds of data; it can lapse and be withdrawn."""
    transfer = replace(ABROAD, consents=[replace(CONSENT, **changes)])
    assert reasons(transfer) == ["P3 no_consent"]
    assert words in judge(transfer)[0].text


def test_a_revocation_in_the_future_does_not_count_yet() -> None:
    assert judge(replace(ABROAD, consents=[replace(CONSENT, revoked_at=NOW + HOUR)])) == []


def test_one_good_consent_among_bad_ones_is_enough() -> None:
    assert judge(replace(ABROAD, consents=[replace(CONSENT, expires_at=NOW), CONSENT])) == []


def test_two_half_consents_do_not_make_a_whole_one() -> None:
    """Each was given for its own half; nobody agreed to the whole."""
    halves = [replace(CONSENT, fields=frozenset({name})) for name in ABROAD.fields]
    assert reasons(replace(ABROAD, consents=halves)) == ["P3 no_consent"]


def test_the_nearest_consent_is_the_one_explained() -> None:
    far = replace(CONSENT, id="c-0", recipient="X", purpose="y")
    assert "consent c-1 is revoked" in judge(replace(ABROAD, consents=[far, replace(CONSENT, revoked_at=NOW)]))[0].text


# --- P4 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("city", sorted(GBA_CITIES))
@pytest.mark.parametrize(("kind", "beyond"), [("GBA-SC-HK", "810000"), ("GBA-SC-MO", "820000")])
def test_a_gba_contract_carries_both_directions_for_the_nine_cities(city: str, kind: str, beyond: str) -> None:
    for origin, target in ((city, beyond), (beyond, city)):
        held = [basis(kind=kind, origin=origin, target=target)]
        assert judge(replace(ABROAD, origin=place_of(origin), target=place_of(target), bases=held)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"origin": "440300"}, "covers 440300 to 810000"),
        ({"origin": "810000", "target": "440600"}, ""),
        ({"kind": "GBA-SC-MO", "target": "820000"}, ""),
        ({"items": ["B"]}, "does not cover this item"),
        ({"from": "2026-05-05"}, "covers the days from 2026-05-05"),
        ({"until": "2026-05-03"}, "until 2026-05-03"),
        ({"kind": "statutory", "target": "820000"}, ""),
    ],
)
def test_a_basis_that_does_not_cover_the_transfer_is_none(changes: dict[str, Any], words: str) -> None:
    transfer = replace(ABROAD, bases=[basis(**changes)])
    assert reasons(transfer) == ["P4 no_transfer_basis"]
    assert words in judge(transfer)[0].text


def test_the_term_of_a_basis_is_counted_in_local_days() -> None:
    """At 17:00 UTC it is already tomorrow in Guangzhou, Hong Kong and Macau."""
    late = replace(
        ABROAD, now=datetime(2026, 5, 3, 17, tzinfo=UTC), consents=[replace(CONSENT, given_at=NOW - 24 * HOUR)]
    )
    assert judge(replace(late, bases=[basis(**{"from": "2026-05-04"})])) == []
    assert reasons(replace(late, bases=[basis(until="2026-05-03")])) == ["P4 no_transfer_basis"]


def test_a_basis_of_a_city_covers_its_districts() -> None:
    assert judge(replace(ABROAD, origin=place_of("440606"))) == []


@pytest.mark.parametrize("code", ["441800", "440000", "350000", "441802"])
def test_outside_the_nine_cities_only_other_bases_carry_a_transfer(code: str) -> None:
    """Qingyuan is in Guangdong but not in the Greater Bay Area; the province as such is no city."""
    origin = place_of(code)
    gba = replace(ABROAD, origin=origin, bases=[basis(), basis(kind="GBA-SC-HK", origin=code)])
    assert reasons(gba) == ["P4 no_transfer_basis"]
    assert f"cannot cover {code}" in judge(gba)[0].text
    assert judge(replace(gba, bases=[basis(kind="assessment", origin=code)])) == []


def test_hong_kong_and_macau_are_abroad_to_each_other() -> None:
    transfer = replace(ABROAD, target=place_of("820000"), origin=place_of("810000"), bases=[], consents=[])
    assert reasons(transfer) == ["P3 no_consent", "P4 no_transfer_basis"]


# --- P6 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "origin", "target", "stays"),
    [
        ("HKID", "810000", "440600", True),
        ("MO_BIR", "820000", "440600", True),
        ("HKID", "810000", "820000", True),
        ("HKID", "440600", "810000", False),
        ("MO_BIR", "440600", "820000", False),
        ("MO_BIR", "440600", "810000", True),
        ("HKID", "440600", "440300", False),
        ("HKID", "810000", "810000", False),
        ("CN_RIC", "440600", "810000", False),
        (None, "810000", "440600", False),
    ],
)
def test_numbers_of_hong_kong_and_macau_cards_stay_home(
    document: str | None, origin: str, target: str, stays: bool
) -> None:
    """They may come home, and within one territory nothing leaves it."""
    transfer = replace(ABROAD, document_type=document, origin=place_of(origin), target=place_of(target))
    assert ("P6 must_stay_home" in reasons(transfer)) is stays


@pytest.mark.parametrize(
    "name",
    ["face", "face_image", "applicant.faceImage", "chipData", "card.chip", "FACE_PHOTO", "form.photo", "photos",
     "idPortrait", "left_fingerprint", "fingerprints", "iris_scan", "form.biometric", "biometrics"],
)  # fmt: skip
def test_face_images_and_chip_data_do_not_cross_a_border(name: str) -> None:
    """Whatever a form calls it: a picture, a print of a finger, or several of them."""
    consents = [replace(CONSENT, fields=CONSENT.fields | {name})]
    transfer = replace(ABROAD, fields=["name", name], consents=consents)
    assert reasons(transfer) == ["P6 must_stay_home"]
    assert name in judge(transfer)[0].text
    assert judge(replace(AT_HOME, fields=[name])) == []


@pytest.mark.parametrize("name", ["surface_area", "chipping", "interface", "photocopy_fee", "portraiture", "iri"])
def test_a_field_that_merely_sounds_like_a_face_may_cross(name: str) -> None:
    transfer = replace(ABROAD, fields=[name], consents=[replace(CONSENT, fields=frozenset({name}))])
    assert judge(transfer) == []


# --- P8 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transfer", [ABROAD, AT_HOME])
def test_a_complete_lookup_of_an_involved_holder_is_allowed(transfer: Transfer) -> None:
    assert judge(replace(transfer, lookup=LOOKUP)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": False}, "without name"),
        ({"number": False}, "without number"),
        ({"document_type": False}, "without type of document"),
        ({"name": False, "document_type": False}, "without name and type of document"),
    ],
)
def test_a_holder_is_looked_up_by_name_number_and_type(changes: dict[str, Any], words: str) -> None:
    """A number alone would let a caller walk through numbers and collect names."""
    transfer = replace(AT_HOME, lookup=replace(LOOKUP, **changes))
    assert reasons(transfer) == ["P8 holder_incomplete"]
    assert judge(transfer)[0].text.endswith(words)


@pytest.mark.parametrize("role", list(SubjectRole))
def test_each_role_in_the_case_is_enough_for_a_lookup(role: SubjectRole) -> None:
    assert judge(replace(AT_HOME, lookup=replace(LOOKUP, roles=frozenset({role})))) == []


def test_a_person_outside_the_case_is_not_looked_up() -> None:
    assert reasons(replace(AT_HOME, lookup=replace(LOOKUP, roles=frozenset()))) == ["P8 subject_not_involved"]


# --- all together ------------------------------------------------------------------------------------------------


def test_all_broken_rules_are_told_at_once_with_what_to_do() -> None:
    nobody = HolderLookup(name=False, number=True, document_type=True, roles=frozenset())
    transfer = replace(ABROAD, document_type="MO_BIR", consents=[], bases=[], lookup=nobody)
    with pytest.raises(NotPermitted) as refused:
        require(transfer)
    error = refused.value
    assert error.stable_code == "transfer.no_consent"
    assert error.region == "hongkong"
    assert [p.field for p in error.problems] == [f"transfer.{rule}" for rule in ("P3", "P4", "P6", "P8", "P8")]
    assert [p.code for p in error.problems][1:3] == ["transfer.no_transfer_basis", "transfer.must_stay_home"]
    assert all(words in error.public for words in ("Rule P3", "Ask the person", "Rule P4", "register a basis"))


def test_a_transfer_in_order_rests_on_the_consent_and_the_basis_that_carry_it() -> None:
    lapsed, elsewhere = replace(CONSENT, id="c-0", expires_at=NOW), basis(origin="440300", reference="备案 6")
    sent = replace(ABROAD, consents=[lapsed, CONSENT], bases=[elsewhere, basis()])
    assert require(sent) == Grounds(CONSENT, basis())


codes = st.sampled_from(["440000", "440100", "440300", "440606", "441800", "350000", "530100", "810000", "820000"])
kinds = st.sampled_from(list(Kind))
bases = st.lists(st.builds(lambda kind, a, b: basis(kind=kind, origin=a, target=b), kinds, codes, codes), max_size=6)
moments = st.integers(-48, 48).map(lambda hours: NOW + hours * HOUR)
consents = st.lists(
    st.builds(
        ConsentGiven,
        id=st.none() | st.just("c"),
        recipient=st.sampled_from(["Immigration Department", "other"]),
        purpose=st.sampled_from(["transact", "other"]),
        fields=st.frozensets(st.sampled_from(["name", "mobile", "sex"])),
        given_at=moments,
        expires_at=moments,
        revoked_at=st.none() | moments,
    ),
    max_size=3,
)
transfers = st.builds(
    lambda origin, target, held, given_, document: replace(
        ABROAD, origin=place_of(origin), target=place_of(target), bases=held, consents=given_, document_type=document
    ),
    codes,
    codes,
    bases,
    consents,
    st.sampled_from([None, "CN_RIC", "HKID", "MO_BIR"]),
)


@given(transfers)
def test_no_transfer_abroad_is_ever_allowed_without_consent_and_basis(transfer: Transfer) -> None:
    """Whatever else is in order."""
    if transfer.crosses:
        assert "P3 no_consent" in reasons(replace(transfer, consents=[]))
        assert "P4 no_transfer_basis" in reasons(replace(transfer, bases=[]))


@given(transfers)
def test_an_allowed_transfer_abroad_rests_on_a_consent_in_force(transfer: Transfer) -> None:
    if transfer.crosses and not judge(transfer):
        assert any(
            set(transfer.fields) <= c.fields
            and (c.recipient, c.purpose) == (transfer.target_recipient, transfer.purpose)
            and c.given_at <= NOW < c.expires_at
            and (c.revoked_at is None or c.revoked_at > NOW)
            for c in transfer.consents
        )


@given(transfers, st.integers(0, 3), st.integers(0, 6))
def test_what_a_transfer_is_said_to_rest_on_carries_it_alone(transfer: Transfer, first: int, second: int) -> None:
    """The consent and the basis that are recorded must be the ones, not merely two among those that were given."""
    good = basis(kind="assessment", origin=transfer.origin.code, target=transfer.target.code)
    given_, held = list(transfer.consents), list(transfer.bases)
    given_.insert(first, CONSENT)
    held.insert(second, good)
    grounds = require(sent := replace(transfer, document_type=None, consents=given_, bases=held))
    assert (grounds is not None) is sent.crosses
    if grounds is not None:
        assert grounds.consent in given_
        assert grounds.basis in held
        assert judge(replace(sent, consents=[grounds.consent], bases=[grounds.basis])) == []


@given(transfers)
def test_a_transfer_within_one_territory_needs_neither_consent_nor_basis(transfer: Transfer) -> None:
    home = replace(transfer, target=transfer.origin, consents=[], bases=[])
    assert judge(home) == []
    assert require(replace(home, consents=transfer.consents, bases=transfer.bases)) is None


@given(transfers, st.sampled_from(["441800", "441881", "440000"]))
def test_qingyuan_and_the_province_are_never_carried_by_a_gba_contract(transfer: Transfer, code: str) -> None:
    held = [b for b in transfer.bases if b.kind in {Kind.GBA_HONGKONG, Kind.GBA_MACAU}]
    place, sealed = place_of(code), replace(transfer, bases=held)
    for sent in (replace(sealed, origin=place), replace(sealed, target=place)):
        assert not sent.crosses or "P4 no_transfer_basis" in reasons(sent)


@given(transfers)
def test_a_card_number_of_hong_kong_never_reaches_the_mainland_or_macau(transfer: Transfer) -> None:
    card = replace(transfer, document_type="HKID", origin=place_of("810000"))
    assert not card.crosses or "P6 must_stay_home" in reasons(card)


# --- the file ----------------------------------------------------------------------------------------------------


def load(folder: Path, text: str) -> tuple[Basis, ...]:
    path = folder / "transfers.toml"
    path.write_text(text, encoding="utf-8")
    return load_bases(path, {"A", "B"})


def entry(**changes: str) -> str:
    lines = {"kind": "GBA-SC-HK", "origin": "440600", "target": "810000", "reference": "7", **changes}
    return "[[basis]]\n" + "".join(f'{key} = "{value}"\n' for key, value in lines.items())


def test_a_basis_in_the_file_carries_transfers(tmp_path: Path) -> None:
    text = entry() + 'items = ["A"]\nfrom = 2026-01-01\nuntil = 2028-12-31\n'
    assert judge(replace(ABROAD, bases=load(tmp_path, text))) == []


def test_an_empty_file_registers_no_basis(tmp_path: Path) -> None:
    assert load(tmp_path, "") == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "GBA-SC"}, "kind"),
        ({"origin": "441800"}, "cannot cover 441800, which is not one of the nine mainland cities"),
        ({"origin": "440000"}, "cannot cover 440000"),
        ({"target": "820000"}, "covers the mainland and hongkong only"),
        ({"kind": "GBA-SC-MO"}, "covers the mainland and macau only"),
        ({"target": "440300"}, "lies in the same territory"),
        ({"kind": "statutory", "target": "440300"}, "lies in the same territory"),
        ({"origin": "4406"}, "origin"),
        ({"origin": "000000"}, "origin"),
        ({"reference": ""}, "reference"),
        ({"items": "A"}, "items"),
        ({"note": "x"}, "is not a known setting"),
        ({"from": "2026-02-01", "until": "2026-01-31"}, "is before `from`"),
    ],
)
def test_a_wrong_basis_stops_the_start_with_its_place(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    """A basis that can never carry a transfer is a mistake that would be found out at a counter."""
    with pytest.raises(StartRefused) as refused:
        load(tmp_path, entry(**changes))
    (problem,) = refused.value.problems
    assert "transfers.toml: basis 1" in problem.field
    assert words in f"{problem.field}: {problem.reason}"


def test_all_wrong_bases_are_told_at_once(tmp_path: Path) -> None:
    text = entry(kind="x") + entry(origin="441800") + entry(reference="") + entry() + 'items = ["Z"]\n'
    with pytest.raises(StartRefused) as refused:
        load(tmp_path, text)
    assert [p.field.rpartition("basis ")[2] for p in refused.value.problems] == [
        "1: kind",
        "2: kind",
        "3: reference",
        "4: items",
    ]
