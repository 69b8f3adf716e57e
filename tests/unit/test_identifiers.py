"""Identifiers: the published vectors, and that a slip of one character is found wherever the scheme promises it."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.domain.identifiers import (
    DOCUMENT_TYPES,
    case_number,
    case_number_problem,
    document_problem,
    hkid_check,
    hkid_problem,
    item_code_problem,
    mod11_2,
    mod37_36,
    region_code_problem,
    ric_problem,
    uscc_problem,
    zzbs_problem,
)

TODAY = date(2026, 3, 2)
ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"

PERSONS = [
    "11010519491231002X", "44010619900101900X", "44010619900101900X", "440303198506159013", "430102197812319026",
]  # fmt: skip
HM_RESIDENTS = ["810000199202290010", "820000198811110027"]
TW_RESIDENTS = ["830000199005050038"]
AGENCIES = [
    "11440100696927671X", "11100000000013338W", "11350128345071904J", "1131000068735121X0", "11370800MB28559184",
    "11440000MBT400007D", "11440100MBT40100XX", "11440300MBT403005C", "11440600MBT406003B", "11441800MBT418004B",
    "11350000MBT350003J", "11360000MBT3600091", "11430000MBT4300034", "11450000MBT450004Y", "11460000MBT46000X8",
    "11510000MBT510003M", "11520000MBT5200094", "11530000MBT530004G", "91440101MA5T00010Q", "91440300MA5T00029H",
    "91430100MA5T00037X", "11100000000013127D", "11100000MB0143028R",
]  # fmt: skip
HKIDS = ["A1234563", "G123456A", "AB9876543", "C1234569", "L5555550"]
CERTIFICATES = [
    "1.2.156.3005.2.11100000000013338W009.11330105002500287C.2025052201.002.0",
    "1.2.156.3005.2.11100000000013338W011.11430000006122244L.20230000403.001.U",
    "1.2.156.3005.2.11100000MB03271699022.340100.000000016.001.9",
    "1.2.156.3005.2.11100000000013338W032.11220000013544541J.2430599.001.F",
    "1.2.156.3005.2.11100000000013127D001.11440100MBT40100XX.SBX000000000001.001.O",
]
WRONG_CERTIFICATE = "1.2.156.3005.2.11100000000013661B006.113700000045046442.209FA4E88F9E4C878F3E9BED2CE7EA49.001.M"


# --- vectors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [*PERSONS, *HM_RESIDENTS, *TW_RESIDENTS])
def test_numbers_of_residents_are_well_formed(number: str) -> None:
    assert ric_problem(number, today=TODAY) is None


@pytest.mark.parametrize("number", AGENCIES)
def test_codes_of_real_and_made_up_organisations_are_well_formed(number: str) -> None:
    assert uscc_problem(number) is None


@pytest.mark.parametrize("number", HKIDS)
def test_identity_cards_of_hong_kong_are_well_formed(number: str) -> None:
    assert hkid_problem(number) is None


@pytest.mark.parametrize("identifier", CERTIFICATES)
def test_published_certificate_identifiers_are_well_formed(identifier: str) -> None:
    """Four from public code of three authorities; the last is made up, and its check character is the letter O."""
    assert zzbs_problem(identifier) is None


def test_the_example_of_a_documentation_does_not_check() -> None:
    """Published, and wrong: the check character would be D."""
    assert zzbs_problem(WRONG_CERTIFICATE) == "has a wrong check character"
    assert zzbs_problem(WRONG_CERTIFICATE[:-1] + "D") is None


@pytest.mark.parametrize(
    "code",
    [
        "11440100696927671X3442011817001",
        "11370800MB285591843370117002011",
        "1131000068735121X0231010032700001",
        "11440100MBT40100XX3442011899001",
    ],
)
def test_item_codes_of_three_provinces_are_well_formed(code: str) -> None:
    assert item_code_problem(code) is None


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        *(("CN_RIC", number) for number in PERSONS),
        *(("HM_RESID", number) for number in HM_RESIDENTS),
        *(("TW_RESID", number) for number in TW_RESIDENTS),
        *(("USCC", number) for number in AGENCIES),
        *(("HKID", number) for number in HKIDS),
        ("HM_PERMIT", "H12345678"),
        ("HM_PERMIT", "M1234567801"),
        ("TW_PERMIT", "12345678"),
        ("FPR", "944840198001010011"),
        ("FPR", "USA110000000001"),
        ("PASSPORT", "E12345678"),
        ("MO_BIR", "51234567"),
        ("HK_BRN", "12345678"),
    ],
)
def test_every_type_of_document_takes_its_own_numbers(kind: str, number: str) -> None:
    assert document_problem(kind, number, today=TODAY) is None


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("110105194912310021", "wrong check digit"),
        ("11010519491231002x", "17 digits and a check character"),
        ("110105491231002", "17 digits and a check character"),
        ("１１０１０５１９４９１２３１００２X", "17 digits and a check character"),
        ("11010519491331002X", "does not exist"),
        ("11010519490229002X", "does not exist"),
        ("11010500001231002X", "does not exist"),
        ("11010520260303002X", "in the future"),
        ("", "17 digits and a check character"),
        ("11010519491231002X\n", "17 digits and a check character"),
    ],
)
def test_a_residents_number_is_refused_with_the_reason(number: str, reason: str) -> None:
    problem = ric_problem(number, today=TODAY)
    assert problem is not None
    assert reason in problem


def test_an_address_code_of_the_past_is_no_error() -> None:
    """Codes are frozen at registration: Chongqing numbers still begin with 51, those of old Hainan with 44."""
    body = "51021319700101001"
    assert ric_problem(body + mod11_2(body), today=TODAY) is None


def test_a_person_born_today_may_apply_today() -> None:
    body = "44010620260302001"
    assert ric_problem(body + mod11_2(body), today=TODAY) is None


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("CN_RIC", "A1234563"),
        ("HM_RESID", "44010619900101900X"),
        ("TW_RESID", "810000199202290010"),
        ("TW_RESID", "710000199005050038"),
        ("HM_PERMIT", "T12345678"),
        ("HM_PERMIT", "H123456789"),
        ("TW_PERMIT", "1234567"),
        ("FPR", "844840198001010011"),
        ("FPR", "944840198001010012"),
        ("PASSPORT", "e12345678"),
        ("PASSPORT", "E123"),
        ("HKID", "A123456(3)"),
        ("HKID", "A1234564"),
        ("MO_BIR", "21234567"),
        ("USCC", "11440100696927671I"),
        ("USCC", "114401006969276710"),
        ("HK_BRN", "1234567"),
        ("LIBRARY_CARD", "1"),
    ],
)
def test_every_type_of_document_refuses_numbers_of_others(kind: str, number: str) -> None:
    assert document_problem(kind, number, today=TODAY)


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        "1.2.156.3003.2" + CERTIFICATES[0][14:],
        CERTIFICATES[0].lower(),
        CERTIFICATES[0] + ".1",
        CERTIFICATES[0][:-2],
        CERTIFICATES[0][:-1] + "*",
        CERTIFICATES[0].replace(".002.", ".02."),
        CERTIFICATES[0].replace("11330105002500287C", "33010"),
    ],
)
def test_what_is_no_certificate_identifier_is_refused(identifier: str) -> None:
    assert zzbs_problem(identifier)


@pytest.mark.parametrize("code", ["", "1" * 30, "11440100696927671X7442011817001", "11440100696927671X344201181700A"])
def test_what_is_no_item_code_is_refused(code: str) -> None:
    assert item_code_problem(code)


@pytest.mark.parametrize(("code", "good"), [("440106", True), ("35012800000", True), ("440", False), ("4401AA", False)])
def test_region_codes_have_six_to_twelve_digits(code: str, good: bool) -> None:
    assert (region_code_problem(code) is None) == good


@given(st.sampled_from(sorted(DOCUMENT_TYPES)), st.text(max_size=40))
def test_no_text_breaks_a_check_and_no_answer_repeats_it(kind: str, text: str) -> None:
    """Whatever is typed gets a sentence, and the sentence may be shown and logged."""
    problem = document_problem(kind, text, today=TODAY)
    assert problem is None or len(text) < 3 or text not in problem


# --- slips ---------------------------------------------------------------------------------------------------------


@st.composite
def residents(draw: st.DrawFn) -> str:
    place = draw(st.integers(110000, 830000))
    born = draw(st.dates(date(1900, 1, 1), TODAY))
    body = f"{place}{born:%Y%m%d}{draw(st.integers(0, 999)):03}"
    return body + mod11_2(body)


@st.composite
def organisations(draw: st.DrawFn) -> str:
    body = draw(st.from_regex(r"[159][1-3][1-8][0-9]{5}", fullmatch=True)) + draw(
        st.text(USCC_ALPHABET, min_size=9, max_size=9)
    )
    weights = [pow(3, position, 31) for position in range(17)]
    total = sum(USCC_ALPHABET.index(c) * w for c, w in zip(body, weights, strict=True))
    return body + USCC_ALPHABET[-total % 31]


@st.composite
def hong_kong_cards(draw: st.DrawFn) -> str:
    body = draw(st.from_regex(r"[A-Z]{1,2}[0-9]{6}", fullmatch=True))
    return body + hkid_check(body)


@st.composite
def certificates(draw: st.DrawFn) -> str:
    lengths = ((21, 21), (6, 18), (7, 32), (3, 3))
    parts = [draw(st.text(ALPHANUMERIC, min_size=least, max_size=most)) for least, most in lengths]
    return ".".join(["1.2.156.3005.2", *parts, mod37_36("".join(parts))])


def slipped(data: st.DataObject, number: str, alphabet: str, first: int = 0) -> str:
    """Change one character, not before the position `first`, into another of the alphabet."""
    position = data.draw(st.integers(first, len(number) - 1))
    other = data.draw(st.sampled_from(alphabet))
    assume(number[position] in alphabet and number[position] != other)
    return number[:position] + other + number[position + 1 :]


@given(st.data(), residents())
def test_one_wrong_digit_of_a_residents_number_is_found(data: st.DataObject, number: str) -> None:
    assert ric_problem(number, today=TODAY) is None
    assert ric_problem(slipped(data, number, "0123456789"), today=TODAY)


@given(st.data(), residents())
def test_two_neighbours_changed_over_in_a_residents_number_are_found(data: st.DataObject, number: str) -> None:
    position = data.draw(st.integers(0, 15))
    assume(number[position] != number[position + 1])
    swapped = number[:position] + number[position + 1] + number[position] + number[position + 2 :]
    assert ric_problem(swapped, today=TODAY)


@given(st.data(), organisations())
def test_one_wrong_character_of_an_organisation_code_is_found(data: st.DataObject, number: str) -> None:
    assert uscc_problem(number) is None
    assert uscc_problem(slipped(data, number, USCC_ALPHABET))


@given(st.data(), hong_kong_cards())
def test_one_wrong_digit_of_a_hong_kong_card_is_found(data: st.DataObject, number: str) -> None:
    """Digits only: the check is modulo 11, so that letters eleven apart (A and L) cannot be told from each other."""
    assert hkid_problem(number) is None
    assert hkid_problem(slipped(data, number, "0123456789", first=len(number) - 7))


@given(st.data(), certificates())
def test_one_wrong_character_of_a_certificate_identifier_is_found(data: st.DataObject, identifier: str) -> None:
    assert zzbs_problem(identifier) is None
    assert zzbs_problem(slipped(data, identifier, ALPHANUMERIC, first=len("1.2.156.3005.2.")))


codes = st.integers(100000, 999999).map(str)


@given(st.data(), codes, codes, st.dates(date(2000, 1, 1)), st.integers(0, 999_999))
def test_one_wrong_digit_of_our_own_number_is_found(
    data: st.DataObject, origin: str, handling: str, day: date, sequence: int
) -> None:
    """Citizens read it to a clerk over the telephone."""
    number = case_number(origin=origin + "000000", handling=handling, day=day, sequence=sequence)
    assert len(number) == 29
    assert case_number_problem(number) is None
    assert case_number_problem(slipped(data, number, "0123456789", first=2))
