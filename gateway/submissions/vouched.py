"""What a sign-on vouches for in an application: the fields of its form that the catalogue takes from there (字段来源).

Owns: holding such a field against what the region told of the applicant, and naming those for which only the caller
vouches. Leaves to `checks`: whether the person who signed on may file at all. To `intake`: evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.domain.caller import Caller
from gateway.domain.item import Item
from gateway.domain.spelling import bare
from gateway.errors import FieldProblem
from gateway.submissions.application import Application

_LEAST_DIGITS = 8
"""Digits of the shortest telephone numbers of the three territories, without a country code."""


def identity_problems(caller: Caller, application: Application, item: Item) -> Iterator[FieldProblem]:
    """Yield a problem for each field that is not what the sign-on of the applicant says. No reason repeats a value."""
    told = _told_of_applicant(caller, application)
    for field in item.fields:
        said = application.form.get(field.id)
        if said is None or field.claim is None or field.claim not in told:
            continue
        if not _agree(field.claim, said, told[field.claim]):
            reason = "is not what the sign-on says; have it corrected at the account, or give what stands there"
            yield FieldProblem(f"form.{field.id}", reason, "not_as_signed_on")


def typed_in(caller: Caller, application: Application, item: Item) -> list[str]:
    """Return the fields that should come from a sign-on, and for which only whoever typed them in vouches."""
    told = _told_of_applicant(caller, application)
    from_there = [field for field in item.fields if field.claim and field.claim not in told]
    return [field.id for field in from_there if field.id in application.form]


def _told_of_applicant(caller: Caller, application: Application) -> Mapping[str, str]:
    """Return what a sign-on says of the applicant; nothing when an agent, a window or nobody signed on."""
    if caller.acting is None:
        return {}
    claims, document = caller.acting.person.claims.reveal(), application.applicant.document
    own = claims.get("document")
    known = (own.get("type"), str(own.get("number")).upper()) if isinstance(own, Mapping) else None
    if known != (document.type, document.number.upper()):
        return {}
    return {name: value for name, value in claims.items() if isinstance(value, str) and value}


def _agree(claim: str, said: str, told: str) -> bool:
    """Say whether two values are one. A telephone number may have its country code or not, and be written in groups."""
    if bare(said) == bare(told):
        return True
    short, long = sorted(("".join(filter(str.isdecimal, text)) for text in (said, told)), key=len)
    return claim == "mobile" and len(short) >= _LEAST_DIGITS and long.endswith(short)
