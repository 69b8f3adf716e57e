"""Errors as problem documents (RFC 9457): every error has its status, and private detail stays inside."""

from __future__ import annotations

import inspect
import re
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway import errors
from gateway.errors import FieldProblem, GatewayError
from gateway.web.ops.answers import explained
from gateway.web.problems import MOST_PROBLEMS, STATUS, document, of_framework, problem_response, status_of

INTERNAL = {errors.GatewayError, errors.CallerError, errors.RegionError, errors.StartRefused}
"""The base and the two families, which nobody raises as they are, and the one that is only printed at a start."""
ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GatewayError)]
EXPECTED = [kind for kind in ALL if kind not in INTERNAL]


def body_of(response: web.Response) -> dict[str, Any]:
    assert isinstance(response.body, bytes)
    read: dict[str, Any] = orjson.loads(response.body)
    return read


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_no_expected_error_becomes_a_500(kind: type[GatewayError]) -> None:
    """A 500 says that we did not think of something; whoever adds an error thinks of its status."""
    assert status_of(kind("text")) in {status for status in STATUS.values() if status != 500}


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_whose_fault_it_is_fits_the_status(kind: type[GatewayError]) -> None:
    """4xx may not be sent again unchanged; 5xx may."""
    error = kind("text")
    assert error.retryable is (status_of(error) >= 500)
    if error.where is errors.Where.CALLER:
        assert status_of(error) < 500


def test_every_error_has_a_code_of_its_own() -> None:
    """Programs tell refusals apart by `code`, and by nothing else."""
    codes = [kind.code for kind in EXPECTED]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", code) for code in codes)


def test_what_nobody_expected_is_a_500_without_a_word_of_why() -> None:
    """The text of an unexpected error may hold anything; it stays in our log."""
    body = document(GatewayError("Something went wrong.", detail="陈小明 at 0x7f"), "r1")
    assert (body["status"], body["code"], body["where"]) == (500, "gateway.error", "gateway")
    assert "陈小明" not in str(body)


def test_a_subclass_has_its_parents_status() -> None:
    """A service refines an error without touching the table."""

    class Narrower(errors.Conflict):
        code = "request.narrower"

    assert status_of(Narrower("text")) == 409


def test_the_document_says_everything_that_is_wrong_and_where() -> None:
    """One answer, all fields; a program reads codes, a person reads reasons."""
    problems = [FieldProblem("form.start", "is required", "missing"), FieldProblem("mode", "must be online")]
    error = errors.InvalidRequest("Two fields.", problems=problems, detail="secret", code="x.y", region="foshan")
    error.evidence = "EV1"
    assert document(error, "r1") == {
        "type": "urn:pearl:problem:x.y",
        "title": "The request is not valid",
        "status": 422,
        "detail": "Two fields.",
        "code": "x.y",
        "where": "caller",
        "retryable": False,
        "instance": "urn:pearl:evidence:EV1",
        "region": "foshan",
        "problems": [
            {"field": "form.start", "code": "missing", "reason": "is required"},
            {"field": "mode", "code": "invalid", "reason": "must be online"},
        ],
        "problem_count": 2,
    }


def test_a_hostile_body_does_not_come_back_as_thousands_of_problems() -> None:
    """A megabyte of unknown fields must not cost a megabyte of answer; the count tells how many there are."""
    problems = [FieldProblem(f"f{number}", "is not a known field") for number in range(5000)]
    body = document(errors.InvalidRequest("Many.", problems=problems), "r1")
    assert (len(body["problems"]), body["problem_count"]) == (MOST_PROBLEMS, 5000)


def test_without_evidence_the_instance_names_the_request() -> None:
    """A caller who asks us about an error has something that we can find in our log."""
    assert document(errors.NotFound("Nothing."), "r1")["instance"] == "urn:pearl:request:r1"


def test_an_answer_is_marked_for_caches_and_for_retries() -> None:
    """A cached refusal would outlive its cause; a retry without a pause makes it worse."""
    response = problem_response(errors.Unavailable("Later."), "r1")
    assert response.content_type == "application/problem+json"
    assert (response.headers["Cache-Control"], response.headers["Retry-After"]) == ("no-store", "5")
    assert "Retry-After" not in problem_response(errors.NotFound("Nothing."), "r1").headers


def test_a_401_says_how_to_authenticate() -> None:
    """RFC 9110 §11.6.1 demands it, RFC 6750 §3 says how."""
    response = problem_response(errors.NotAuthenticated("No token."), "r1")
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (web.HTTPNotFound(), "request.no_such_address"),
        (web.HTTPMethodNotAllowed("DELETE", ["GET", "POST"]), "request.wrong_method"),
        (web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2), "request.too_large"),
        (web.HTTPBadRequest(), "request.invalid"),
        (web.HTTPUnsupportedMediaType(), "request.invalid"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.status),
)
def test_what_the_framework_refuses_has_our_form_and_its_status(answer: web.HTTPException, code: str) -> None:
    """A caller meets one shape of error, whoever noticed it."""
    response = of_framework(answer, "r1")
    body = body_of(response)
    assert (response.status, body["status"], body["code"]) == (answer.status, answer.status, code)
    assert body["where"] == "caller"
    assert response.headers.get("Allow") == answer.headers.get("Allow")


@pytest.mark.parametrize("error", [errors.Unavailable("Later."), errors.RegionBusy("Later.")])
async def test_operators_too_are_told_when_to_try_again(error: errors.GatewayError) -> None:
    async def refuses(_request: web.Request) -> web.StreamResponse:
        raise error

    refusal = await explained(refuses)(make_mocked_request("GET", "/ops/regions"))
    assert (refusal.status, refusal.headers["Retry-After"]) == (503, "5")
