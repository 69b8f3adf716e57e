"""Which answer counts of several issuers, and what of a claim is written down."""

from __future__ import annotations

import pytest

from gateway.certificates.answers import CertificateAnswer
from gateway.certificates.claims import Match
from gateway.certificates.named import _best, _on_record
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
