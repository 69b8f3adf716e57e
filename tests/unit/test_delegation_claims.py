"""Delegation in tokens: principal and agent are told apart, and nothing in a token names anybody."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto.at_rest import References
from gateway.domain.mandate import OnPaper
from gateway.errors import NotPermitted
from gateway.identity.delegation import (
    MANDATE_CLAIM,
    Parties,
    act_claim,
    mandate_claim,
    may_act_claim,
    parties,
    principal_subject,
    sole_person,
)
from tests.support.mandates import AGENT, ITEM, PRINCIPAL, a_mandate

ISSUER = "https://gateway.test"
REFERENCES = References(b"r" * 32)
SUBJECT = REFERENCES.of("portal", "guangdong", "GD000000000001")


def agents_token(**changes: Any) -> dict[str, Any]:
    """Return the claims of a token that an agent got for the principal."""
    claim = mandate_claim(a_mandate(), "portal", REFERENCES, issuer=ISSUER)
    return {"sub": SUBJECT, "act": act_claim("agent-sub", issuer=ISSUER), MANDATE_CLAIM: claim, **changes}


def test_a_mandate_in_a_token_says_what_it_covers_and_names_nobody() -> None:
    claim = mandate_claim(a_mandate(), "portal", REFERENCES, issuer=ISSUER)
    assert (claim["id"], claim["iss"], claim["items"], claim["relation"]) == (
        a_mandate().id, ISSUER, [ITEM], "family",
    )  # fmt: skip
    assert claim["exp"] - claim["nbf"] == 30 * 24 * 3600
    said = orjson.dumps([claim, may_act_claim(a_mandate(), "portal", REFERENCES, issuer=ISSUER)]).decode()
    private = (PRINCIPAL.name, PRINCIPAL.number, AGENT.name, AGENT.number, "GD000000000001")
    assert [word for word in private if word in said] == []


def test_the_principal_has_the_subject_that_the_service_knows_from_their_own_sign_on() -> None:
    """A service must be able to put the agent's request to the account that it has for the principal."""
    assert principal_subject(a_mandate(), "portal", REFERENCES) == SUBJECT


def test_no_two_services_see_the_same_subject_for_a_principal_on_paper() -> None:
    paper = a_mandate(consent=OnPaper("F-7", "C", "W", ("card",)))
    one, other = (principal_subject(paper, client, REFERENCES) for client in ("portal", "other"))
    assert one != other


def test_principal_and_agent_are_told_apart() -> None:
    assert parties(agents_token()) == Parties(SUBJECT, "agent-sub", a_mandate().id)
    assert parties({"sub": "alone"}) == Parties("alone")


def test_a_service_that_carries_a_request_on_is_an_agent_without_a_mandate() -> None:
    """RFC 8693 without a mandate: the service that exchanged the person's token, and not the person."""
    carried = agents_token(mandate=None)
    assert parties(carried) == Parties(SUBJECT, "agent-sub", None)
    with pytest.raises(NotPermitted) as refused:
        sole_person(carried)
    assert refused.value.stable_code == "delegation.agent_token"


def test_an_agents_token_never_stands_for_the_applicant() -> None:
    """Guarded by `sole_person`: whoever wants the applicant in person gets a refusal, not the principal's `sub`."""
    with pytest.raises(NotPermitted) as refused:
        sole_person(agents_token())
    assert refused.value.stable_code == "delegation.agent_token"
    assert sole_person({"sub": "alone"}) == "alone"


@pytest.mark.parametrize(
    "changes",
    [
        {"act": None},
        {MANDATE_CLAIM: None},
        {"act": "agent-sub"},
        {"act": {}},
        {"act": {"sub": 7}},
        {"act": {"sub": SUBJECT}},
        {"sub": "somebody-else"},
        {"sub": ""},
        {MANDATE_CLAIM: {"id": "MD1"}},
        {MANDATE_CLAIM: {"principal": SUBJECT}},
        {MANDATE_CLAIM: "MD1"},
    ],
)
def test_a_token_that_is_half_a_delegation_is_refused(changes: dict[str, Any]) -> None:
    """An actor without a mandate, or somebody else's mandate, must not be read as a person who acts alone."""
    with pytest.raises(NotPermitted) as refused:
        sole_person(agents_token(**changes))
    assert refused.value.stable_code in {"delegation.malformed", "delegation.agent_token"}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["sub", "id", "principal"]), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["sub", "act", MANDATE_CLAIM]), anything))
def test_no_claims_at_all_make_an_actor_into_a_person_alone(claims: dict[str, Any]) -> None:
    try:
        person = sole_person(claims)
    except NotPermitted:
        return
    assert (claims.get("act"), claims.get(MANDATE_CLAIM), claims["sub"]) == (None, None, person)
