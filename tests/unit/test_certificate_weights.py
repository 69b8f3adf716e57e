"""Which answer counts of several issuers, and what each of them may tell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from gateway.certificates.answers import CertificateAnswer
from gateway.certificates.claims import Match
from gateway.certificates.file_checks import _together
from gateway.certificates.inquiry import Inquired
from gateway.certificates.named import NamedCertificates, VerifyAnswer, _best, _counting, _on_record
from gateway.certificates.states import States
from gateway.domain.certificate import Standing

ABSENT = (Standing.NOT_FOUND, Standing.NO_MATCH, Standing.UNVERIFIABLE)


def best(*standings: Standing) -> Standing:
    return _best([CertificateAnswer("r", standing) for standing in standings]).standing


@pytest.mark.parametrize("other", list(Standing))
def test_one_in_force_counts_before_everything_else(other: Standing) -> None:
    assert best(other, Standing.VALID) is Standing.VALID


@pytest.mark.parametrize("standing", [one for one in Standing if one not in ABSENT])
def test_what_is_known_counts_before_what_is_not(standing: Standing) -> None:
    """A region that answers yes has said something, too."""
    assert best(*ABSENT, standing) is standing


def test_nobody_says_that_there_is_nothing_while_an_issuer_was_not_heard() -> None:
    assert best(*ABSENT) is Standing.UNVERIFIABLE
    assert best(Standing.NOT_FOUND, Standing.NO_MATCH) is Standing.NO_MATCH


def test_a_callers_own_words_are_not_written_down() -> None:
    """The name of a claim is what somebody typed: a person's name may stand there."""
    claims = {"number": Match.MATCH, "陈小明 44010619900101900X": Match.ABSENT, "valid_until": Match.MISMATCH}
    assert _on_record(claims) == {"number": "match", "valid_until": "mismatch"}


@pytest.mark.parametrize("standing", [Standing.NOT_FOUND, Standing.NO_MATCH])
def test_nobody_says_no_while_an_issuer_may_not_be_asked(standing: Standing) -> None:
    answers = [CertificateAnswer("hongkong", standing)]
    inquired = Inquired([], [], answers, cast("Any", None), [], {"foshan": "policy.no_grant"})
    assert _counting(inquired).standing is Standing.UNVERIFIABLE


@pytest.mark.parametrize(("standing", "verdict"), [("valid", "good"), ("match", "undecided"), ("revoked", "bad")])
def test_an_issuer_that_only_matches_makes_no_genuine_file_bad(standing: str, verdict: str) -> None:
    file = cast("Any", SimpleNamespace(genuine=True))
    said = VerifyAnswer(CertificateAnswer("r", Standing(standing)), {}, "EV1")
    assert _together(file, said) == verdict


async def test_each_issuer_tells_the_fields_of_its_own_grant() -> None:
    """A grant for everything at one issuer opens nothing at another."""
    granted = {"hunan": frozenset({"number"}), "fujian": frozenset({"*"})}
    questions = [SimpleNamespace(region=SimpleNamespace(id=name), ask=lambda name=name: name) for name in granted]
    certificate = {"number": "1", "name": "户口簿", "holder": {"name": "李小红", "document": {}}}
    answers = [CertificateAnswer(name, Standing.VALID, certificate=certificate) for name in granted]
    inquired = Inquired(cast("Any", questions), [], answers, cast("Any", None), [], {})
    inquiry = SimpleNamespace(
        make=AsyncMock(return_value=inquired),
        permission=SimpleNamespace(
            grants=SimpleNamespace(readable=lambda name: granted[name]), require_involved=AsyncMock()
        ),
        witness=SimpleNamespace(answered=AsyncMock(return_value="EV1")),
    )
    named = NamedCertificates(cast("Any", None), cast("Any", inquiry), States())
    request = SimpleNamespace(identifier=None, holder=None, certificate_type="T", fields=None, number=None)
    told = await named.data(cast("Any", None), cast("Any", request))
    assert {one.issuer: set(one.certificate or ()) for one in told.answers} == {
        "hunan": {"number"}, "fujian": {"number", "name", "holder"},
    }  # fmt: skip
