"""The gate before claims are issued: nothing undeclared passes, borders hold, and the person is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.region import place_of
from gateway.policy.claims import Ask, ClaimsGate, Decision, Outcome, Recipient, Ruling, Verdict, in_language, statement
from gateway.policy.transfer import Basis, ConsentGiven

NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
TERM = timedelta(days=180)
GUANGZHOU, FUJIAN, HONGKONG, MACAU = (place_of(code) for code in ("440100", "350000", "810000", "820000"))
DECLARED = frozenset({"name", "birthdate", "document", "phone_number", "portrait"})
PORTAL = Recipient(
    "portal",
    GUANGZHOU,
    DECLARED,
    contact="portal@gateway.test",
    purpose={"en": "To book a visit"},
    legal_basis="PIPL 13",
)
ASK = Ask(
    region="guangdong",
    origin=place_of("440000"),
    recipient=PORTAL,
    claims={"name": False},
    held=DECLARED,
    document_type="ID_CARD",
    consents=(),
    now=NOW,
)
FROM_HONGKONG = replace(ASK, region="hongkong", origin=HONGKONG, document_type="HKID")


def basis(kind: str, origin: str, target: str, **changes: Any) -> Basis:
    return Basis.model_validate({"kind": kind, "origin": origin, "target": target, "reference": "R-1", **changes})


CONTRACT = basis("GBA-SC-HK", "810000", "440100")
STATUTE = basis("statutory", "810000", "350000")
GATE = ClaimsGate([CONTRACT], TERM)


def consent(ask: Ask, *claims: str, **changes: Any) -> ConsentGiven:
    """Return a consent on record that fits a question, but for `changes`."""
    values: dict[str, Any] = {
        "id": "CR1",
        "recipient": ask.recipient.key,
        "purpose": ask.recipient.purpose_key(crosses=ask.crosses),
        "fields": frozenset(claims),
        "given_at": NOW - timedelta(days=1),
        "expires_at": NOW + timedelta(days=9),
    }
    return ConsentGiven(**{**values, **changes})


def consented(ask: Ask, *claims: str, **changes: Any) -> Ask:
    return replace(ask, consents=[consent(ask, *claims, **changes)])


def only(decision: Decision) -> Ruling:
    (ruling,) = decision.rulings
    return ruling


# --- within a territory ------------------------------------------------------------------------------------------


def test_the_person_is_asked_before_a_claim_goes_anywhere() -> None:
    decision = GATE.decide(ASK)
    assert (decision.given, decision.must_ask, only(decision).outcome) == (frozenset(), True, Outcome.ASK)
    assert only(decision).until == NOW + TERM


def test_a_consent_on_record_gives_what_it_names_and_asks_for_the_rest() -> None:
    decision = GATE.decide(consented(replace(ASK, claims={"name": False, "phone_number": False}), "name"))
    assert (decision.given, decision.must_ask) == (frozenset({"name"}), True)
    named = {ruling.claim: ruling for ruling in decision.rulings}
    assert (named["name"].consent, named["name"].until) == ("CR1", NOW + timedelta(days=9))


def test_openid_alone_asks_nobody_anything() -> None:
    """`sub` is pairwise and says nothing of the person (P6: the reference instead of the number)."""
    decision = GATE.decide(replace(FROM_HONGKONG, claims={}))
    assert (decision.rulings, decision.must_ask, decision.verdict) == ((), False, Verdict.CONTINUE)


def test_a_client_of_the_gateways_own_asks_nobody_at_home_but_asks_across_a_border() -> None:
    own = replace(PORTAL, trusted=True)
    assert GATE.decide(replace(ASK, recipient=own)).given == {"name"}
    abroad = GATE.decide(replace(FROM_HONGKONG, recipient=own))
    assert (abroad.given, abroad.must_ask) == (frozenset(), True)


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_at": NOW},
        {"given_at": NOW + timedelta(seconds=1)},
        {"revoked_at": NOW},
        {"recipient": "portal@810000"},
        {"recipient": "other@440100"},
        {"purpose": "sign-on:0"},
        {"fields": frozenset({"phone_number"})},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_consent_that_is_over_or_to_somebody_or_for_something_else_gives_nothing(changes: dict[str, Any]) -> None:
    """Guarded by `consent_for`, the same words as P3."""
    decision = GATE.decide(consented(ASK, "name", **changes))
    assert (decision.given, decision.must_ask) == (frozenset(), True)


def test_another_purpose_needs_another_consent() -> None:
    """A client that begins to do something else with the data may not do it on the old word."""
    before = consented(ASK, "name")
    changed = replace(before, recipient=replace(PORTAL, purpose={"en": "To send advertisements"}))
    assert GATE.decide(before).given == {"name"}
    assert GATE.decide(changed).given == frozenset()


def test_what_the_person_did_not_give_is_not_asked_for_again() -> None:
    ruling = only(GATE.decide(replace(ASK, declined={"name"})))
    assert (ruling.outcome, ruling.reason) == (Outcome.DROPPED, "declined")


# --- declared, asked for, known ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rule", "reason"),
    [
        ({"claims": {"email": False}, "held": {*DECLARED, "email"}}, "P1", "undeclared"),
        ({"claims": {"favourite_colour": False}}, "P1", "undeclared"),
        ({"held": {"birthdate"}}, "P9", "not_held"),
    ],
)
def test_what_was_not_declared_or_is_not_known_is_dropped_with_the_rule(
    changes: dict[str, Any], rule: str, reason: str
) -> None:
    ask = replace(ASK, **changes)
    ruling = only(GATE.decide(consented(ask, *ask.claims)))
    assert (ruling.outcome, ruling.rule, ruling.reason) == (Outcome.DROPPED, rule, reason)
    assert ruling.text.endswith(".")


def test_an_essential_claim_that_may_not_be_given_does_not_end_the_sign_on() -> None:
    """OpenID Connect Core §5.5.1: no error for a claim that is not returned, essential or not."""
    ask = replace(ASK, claims={"email": True})
    decision = GATE.decide(ask)
    assert (only(decision).outcome, decision.verdict) == (Outcome.REFUSED, Verdict.CONTINUE)
    assert GATE.decide(replace(ask, strict=True)).verdict is Verdict.REFUSE
    assert GATE.decide(replace(ask, claims={"email": False}, strict=True)).verdict is Verdict.CONTINUE


# --- across a border ---------------------------------------------------------------------------------------------


def test_across_a_border_it_takes_a_basis_and_a_separate_consent() -> None:
    """P3 and P4 together; the page is told what it will rest on before the person says yes."""
    asked = only(GATE.decide(FROM_HONGKONG))
    assert (asked.outcome, asked.basis) == (Outcome.ASK, "GBA-SC-HK R-1")
    given = GATE.decide(consented(FROM_HONGKONG, "name"))
    assert (given.given, only(given).basis, only(given).consent) == (frozenset({"name"}), "GBA-SC-HK R-1", "CR1")


def test_a_consent_within_a_territory_is_not_the_separate_one() -> None:
    """Guarded by the word in `purpose_key`."""
    at_home = PORTAL.purpose_key(crosses=False)
    assert GATE.decide(consented(FROM_HONGKONG, "name", purpose=at_home)).given == frozenset()


@pytest.mark.parametrize("bases", [[], [STATUTE], [basis("GBA-SC-HK", "440100", "810000")]], ids=range(3))
def test_without_a_basis_nobody_is_even_asked(bases: Sequence[Basis]) -> None:
    """A consent to what is not allowed is worth nothing."""
    ruling = only(ClaimsGate(bases, TERM).decide(consented(FROM_HONGKONG, "name")))
    assert (ruling.outcome, ruling.rule, ruling.reason) == (Outcome.DROPPED, "P4", "no_transfer_basis")


def test_a_basis_that_is_over_carries_nothing() -> None:
    over = basis("GBA-SC-HK", "810000", "440100", until="2026-05-03")
    assert only(ClaimsGate([over], TERM).decide(FROM_HONGKONG)).rule == "P4"


@pytest.mark.parametrize(
    ("origin", "document_type"), [(HONGKONG, "HKID"), (MACAU, "MO_BIR")], ids=["hongkong", "macau"]
)
def test_a_number_of_hong_kong_or_macau_stays_there_whatever_is_agreed(origin: Any, document_type: str) -> None:
    bases = [basis("statutory", origin.code, "440100")]
    ask = replace(FROM_HONGKONG, origin=origin, document_type=document_type, claims={"document": False, "name": False})
    decision = ClaimsGate(bases, TERM).decide(consented(ask, "document", "name"))
    assert decision.given == {"name"}
    assert (decision.withheld[0].rule, decision.withheld[0].reason) == ("P6", "must_stay_home")


def test_a_home_return_permit_may_cross_where_an_hkid_may_not() -> None:
    """The linking key of Guangdong and Hong Kong is the permit's number."""
    ask = replace(FROM_HONGKONG, document_type="HK_MO_PERMIT", claims={"document": False})
    assert GATE.decide(consented(ask, "document")).given == {"document"}


def test_a_portrait_stays_where_it_is() -> None:
    ask = replace(FROM_HONGKONG, claims={"portrait": False})
    assert only(GATE.decide(consented(ask, "portrait"))).rule == "P6"


@pytest.mark.parametrize("missing", ["contact", "purpose"])
def test_a_client_that_does_not_say_who_it_is_or_what_for_gets_nothing_across(missing: str) -> None:
    """PIPL art. 39; at home the consent page still shows what there is."""
    silent = replace(PORTAL, contact="") if missing == "contact" else replace(PORTAL, purpose={})
    ruling = only(GATE.decide(consented(replace(FROM_HONGKONG, recipient=silent), "name")))
    assert (ruling.outcome, ruling.reason) == (Outcome.DROPPED, "recipient_unnamed")
    assert missing in ruling.text
    assert GATE.decide(replace(ASK, recipient=silent)).must_ask


def test_everything_that_bars_a_claim_is_told() -> None:
    ask = replace(FROM_HONGKONG, claims={"document": False}, recipient=replace(PORTAL, contact=""))
    text = only(ClaimsGate([], TERM).decide(ask)).text
    assert all(part in text for part in ("No transfer basis is registered", "HKID", "does not say contact"))


# --- onward ------------------------------------------------------------------------------------------------------


def test_what_came_under_a_contract_does_not_go_beyond_it() -> None:
    """P5: Hong Kong to Guangzhou by the contract, and on to Fujian by exchange, although a statute covers that way."""
    there = replace(FROM_HONGKONG, recipient=replace(PORTAL, place=FUJIAN), via=[GUANGZHOU])
    gate = ClaimsGate([CONTRACT, STATUTE], TERM)
    ruling = only(gate.decide(consented(there, "name")))
    assert (ruling.outcome, ruling.rule, ruling.reason) == (Outcome.DROPPED, "P5", "onward_transfer")
    assert gate.decide(consented(replace(there, via=()), "name")).given == {"name"}


def test_what_came_under_a_contract_may_go_on_within_it() -> None:
    there = replace(FROM_HONGKONG, recipient=replace(PORTAL, place=place_of("440300")), via=[GUANGZHOU])
    gate = ClaimsGate([CONTRACT, basis("GBA-SC-HK", "810000", "440300")], TERM)
    assert gate.decide(consented(there, "name")).given == {"name"}


def test_data_that_came_over_a_border_without_a_basis_goes_no_further() -> None:
    """Not even back: where it went, it should not have been."""
    back = replace(FROM_HONGKONG, recipient=replace(PORTAL, place=HONGKONG), via=[GUANGZHOU])
    assert back.crosses
    assert only(ClaimsGate([], TERM).decide(consented(back, "name"))).rule == "P5"


# --- the laws ----------------------------------------------------------------------------------------------------

names = st.sampled_from(["name", "birthdate", "document", "phone_number", "portrait", "email", "x"])
sets = st.frozensets(names)
places = st.sampled_from([GUANGZHOU, FUJIAN, HONGKONG, MACAU, place_of("440300")])
recipients = st.builds(
    Recipient, st.just("portal"), places, sets, st.booleans(), st.sampled_from(["", "c"]),
    st.sampled_from([{}, {"en": "p"}]),
)  # fmt: skip
bases = st.lists(
    st.sampled_from(
        [CONTRACT, STATUTE, basis("assessment", "820000", "440000"), basis("statutory", "440000", "810000")]
    ),
    max_size=4,
)


@st.composite
def questions(draw: st.DrawFn) -> Ask:
    ask = Ask(
        "r", draw(places), draw(recipients), draw(st.dictionaries(names, st.booleans())), draw(sets),
        draw(st.sampled_from([None, "HKID", "MO_BIR", "ID_CARD"])), (), NOW, declined=draw(sets),
        via=draw(st.lists(places, max_size=2)),
    )  # fmt: skip
    found = draw(st.lists(st.builds(lambda claims, crosses: (claims, crosses), sets, st.booleans()), max_size=3))
    made = [
        consent(ask, *claims, purpose=ask.recipient.purpose_key(crosses=crosses), id=f"CR{number}")
        for number, (claims, crosses) in enumerate(found)
    ]
    return replace(ask, consents=made)


@given(questions(), bases)
def test_nothing_undeclared_unasked_or_unknown_ever_passes(ask: Ask, registered: list[Basis]) -> None:
    passed = ClaimsGate(registered, TERM).decide(ask).given
    assert passed <= ask.recipient.declared & set(ask.claims) & set(ask.held)


@given(questions(), bases, st.data())
def test_taking_a_consent_away_never_adds_a_claim(ask: Ask, registered: list[Basis], data: st.DataObject) -> None:
    fewer = data.draw(st.lists(st.sampled_from(ask.consents), unique_by=id)) if ask.consents else []
    gate = ClaimsGate(registered, TERM)
    assert gate.decide(replace(ask, consents=fewer)).given <= gate.decide(ask).given


@given(questions(), bases)
def test_nothing_crosses_without_basis_and_separate_consent_and_no_number_ever_does(
    ask: Ask, registered: list[Basis]
) -> None:
    decision = ClaimsGate(registered, TERM).decide(ask)
    if ask.recipient.place.zone is ask.origin.zone:
        return
    for ruling in decision.offered:
        assert ruling.basis.split()[0] in {"GBA-SC-HK", "GBA-SC-MO", "statutory", "assessment"}
        assert ruling.claim not in {"portrait"}
        assert not (ruling.claim == "document" and ask.document_type in {"HKID", "MO_BIR"} and ask.recipient.place.zone
                    is not {"HKID": HONGKONG, "MO_BIR": MACAU}[ask.document_type].zone)  # fmt: skip
        if ruling.outcome is Outcome.GIVEN:
            assert any(one.purpose.startswith("cross-boundary:") for one in ask.consents if one.id == ruling.consent)


@given(questions(), bases)
def test_saying_yes_to_what_is_offered_gives_just_that(ask: Ask, registered: list[Basis]) -> None:
    """The page promises what it shows: no more comes, and no less."""
    gate = ClaimsGate(registered, TERM)
    offered = {ruling.claim for ruling in gate.decide(ask).offered}
    after = gate.decide(replace(ask, consents=[consent(ask, *offered)], declined=()))
    assert after.given >= offered
    assert after.given - offered <= set(ask.declined)


@given(questions(), bases, st.integers(0, 4))
def test_another_basis_never_takes_a_claim_away(ask: Ask, registered: list[Basis], at: int) -> None:
    """Wherever it stands in the file: a contract beside a statute does not narrow the statute."""
    for one in (CONTRACT, basis("statutory", "810000", "440000")):
        more = [*registered[:at], one, *registered[at:]]
        before, after = (ClaimsGate(known, TERM).decide(ask).given for known in (registered, more))
        assert before <= after


# --- what is shown and kept --------------------------------------------------------------------------------------


def test_the_statement_says_for_each_claim_whence_whither_on_what_and_until_when() -> None:
    ask = replace(FROM_HONGKONG, claims={"name": True, "document": False})
    said = json.loads(statement(GATE.decide(ask), PORTAL, "en", {"name": "Portal"}))
    assert said["claims"] == [
        {"claim": "name", "essential": True, "from": "hongkong", "to": "440100", "basis": "GBA-SC-HK R-1",
         "until": "2026-10-31"}
    ]  # fmt: skip
    assert (said["crosses"], said["purpose"], said["contact"], said["client"]) == (
        True, "To book a visit", "portal@gateway.test", "portal",
    )  # fmt: skip


def test_the_statement_changes_with_what_is_shown() -> None:
    """The digest in the receipt proves which text the person saw."""
    said = {
        statement(GATE.decide(ask), recipient, language, {})
        for ask in (ASK, replace(ASK, claims={"birthdate": False}))
        for recipient in (PORTAL, replace(PORTAL, purpose={"en": "Else", "zh-CN": "别的"}))
        for language in ("en", "zh-CN")
    }
    assert len(said) == 8


@pytest.mark.parametrize(
    ("language", "text"), [("en", "E"), ("zh-HK", "中"), ("pt", "E"), ("zh-Hant", "中"), ("zh-CN", "中")]
)
def test_a_person_is_told_in_the_nearest_language_that_there_is(language: str, text: str) -> None:
    assert in_language({"en": "E", "zh-CN": "中"}, language) == text
    assert in_language({"pt": "P"}, language) == "P"
    assert in_language({}, language) == ""


def test_evidence_names_claims_and_grounds_and_never_a_value() -> None:
    ask = consented(replace(FROM_HONGKONG, claims={"name": False, "document": False}), "name")
    assert GATE.decide(ask).evidence() == {
        "from": "hongkong", "to": "440100", "crosses": True, "given": ["name"],
        "withheld": {"document": "P6 must_stay_home"}, "grounds": ["GBA-SC-HK R-1"], "consents": ["CR1"],
    }  # fmt: skip
