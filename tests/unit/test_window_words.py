"""Every code that an application or a page can be refused with has words in every language."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

import gateway
from gateway.domain.identifiers import DOCUMENT_TYPES, document_problem
from gateway.domain.languages import LANGUAGES
from gateway.errors import FieldProblem, GatewayError
from gateway.submissions.contents.kinds import RULES
from tests.support.pages import pages

SOURCE = Path(gateway.__file__).parent
SERVICES = [
    *(SOURCE / "submissions" / f"{name}.py" for name in ("intake", "checks", "materials", "drafts")),
    SOURCE / "items" / "blocks.py",
]
UPLOADS = [SOURCE / "submissions" / name for name in ("uploads.py", "contents/kinds.py")]
WINDOW = sorted((SOURCE / "web" / "window").glob("*.py"))
EDGE = {
    "control_character", "literal_error", "missing", "string_pattern_mismatch", "string_too_long", "string_too_short",
    "too_long",
}  # fmt: skip
"""What `gateway.edge` can find in a document that the window made."""
FILES = {"media_type", "digest", *RULES}
UNKNOWN = "REASON OF A CODE THAT HAS NO WORDS"


def calls(paths: list[Path]) -> Iterator[ast.Call]:
    for path in paths:
        found = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        yield from (node for node in found if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))


def problem_codes(paths: list[Path]) -> set[str]:
    """Return the literal codes of all field problems; a refused upload's code reaches the page as `file_…`."""
    makers = {"FieldProblem", "_refusal"}
    third = [call.args[2] for call in calls(paths) if isinstance(call.func, ast.Name) and call.func.id in makers
             if len(call.args) > 2]  # fmt: skip
    codes = {str(code.value) for code in third if isinstance(code, ast.Constant)}
    return {f"file_{code}" if code in FILES else code for code in codes}


def file_codes() -> set[str]:
    """Return the codes of an upload that is refused, as they reach a clerk; lengths are no business of a form."""
    return (problem_codes(UPLOADS) - {"length"}) | {f"file_{rule}" for rule in RULES}


def refusal_codes(paths: list[Path]) -> set[str]:
    """Return the literal `code=…` of all errors."""
    values = [keyword.value for call in calls(paths) for keyword in call.keywords if keyword.arg == "code"]
    return {str(value.value) for value in values if isinstance(value, ast.Constant)}


def words(language: str, macro: str, about: object) -> str:
    template = pages()._environments[language].get_template("window/words.html")
    return str(getattr(template.module, macro)(about))


def in_that_language(said: str, language: str, english: str) -> bool:
    if language == "en":
        return said == english
    return bool(re.search(r"[\u4e00-\u9fff]", said)) if language.startswith("zh") else said != english


def test_codes_are_found() -> None:
    """A search that finds nothing would hold nothing."""
    assert {"assurance", "mode", "future", "unknown_blob", "format"} <= problem_codes(SERVICES)
    assert {"file_media_type", "file_digest", "file_macro"} <= file_codes()
    assert {"submission.reference_conflict", "window.csrf"} <= refusal_codes([*SERVICES, *WINDOW])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", sorted(problem_codes([*SERVICES, *WINDOW]) | file_codes() | EDGE))
def test_every_problem_has_words(code: str, language: str) -> None:
    """A clerk is told what to do, and not the word that a program goes by."""
    reason = "card.pdf" if code.startswith("file_") else UNKNOWN
    if code in {"document", "check_digit"}:
        reason = "must be 8 digits"
    said = words(language, "problem", FieldProblem("field", reason, code))
    assert UNKNOWN not in said
    assert said != words(language, "problem", FieldProblem("field", reason, "file_of_another_kind"))
    assert in_that_language(said, language, words("en", "problem", FieldProblem("field", reason, code)))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "code",
    sorted(
        refusal_codes([*SERVICES, *WINDOW])
        | {"mapping.failed", "policy.no_grant", "gateway.unavailable", "gateway.error", "auth.invalid_token"}
        | {"request.invalid", "request.no_such_address", "request.wrong_method", "request.too_large"}
        | {"transfer.no_consent", "transfer.no_transfer_basis", "transfer.must_stay_home"}
    ),
)
def test_every_refusal_has_words(code: str, language: str) -> None:
    said = words(language, "refusal", GatewayError(UNKNOWN, code=code))
    assert UNKNOWN not in said
    assert in_that_language(said, language, words("en", "refusal", GatewayError(UNKNOWN, code=code)))


@pytest.mark.parametrize("kind", DOCUMENT_TYPES)
def test_what_is_wrong_with_a_document_number_is_said_in_chinese(kind: str) -> None:
    """The reasons come from the rules of each document and are translated one by one."""
    numbers = (
        "x", "12345678", "X1234567", "H1234567", "44010619900101900X", "440106199001019001", "440106199902309001",
        "44010629900101900X", "940106199001019001", "A1234560", "ABC1", "91440101000000000X",
    )  # fmt: skip
    reasons = {document_problem(kind, number, today=date(2026, 3, 2)) for number in numbers}
    for reason in reasons - {None}:
        said = words("zh-CN", "problem", FieldProblem("applicant.document.number", str(reason), "document"))
        assert not re.search(r"[a-z]{3}", said), said


def test_a_problem_that_nobody_foresaw_is_introduced_in_the_clerks_language() -> None:
    assert words("zh-CN", "problem", FieldProblem("field", "is odd", "odd")) == "此项无法按现有内容转送。 (is odd)"
