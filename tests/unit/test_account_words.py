"""The account pages have words, in every language, for everything that they can be refused with."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway.web
from gateway.domain.identity import Assurance
from gateway.domain.languages import LANGUAGES
from gateway.domain.mandate import Lack, Relation
from gateway.errors import FieldProblem, GatewayError
from gateway.identity.persons import CLAIM_NAMES
from tests.support.pages import pages

WEB = Path(gateway.web.__file__).parent
UNKNOWN = "REASON OF A CODE THAT HAS NO WORDS"
OF_A_USE = {Lack.OTHER_ITEM, Lack.OTHER_AGENT, Lack.OTHER_PRINCIPAL}
"""What a mandate can lack only when somebody uses it: no page shows these."""


def words(language: str, macro: str, about: object) -> str:
    template = pages()._environments[language].get_template("account/words.html")
    return str(getattr(template.module, macro)(about)).strip()


def called(paths: list[Path], name: str) -> Iterator[ast.Call]:
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield node


def literals(values: Iterator[ast.expr]) -> set[str]:
    return {str(value.value) for value in values if isinstance(value, ast.Constant)}


def problem_codes() -> set[str]:
    """Return the codes of everything that can be wrong with the form of a mandate."""
    forms = [WEB / "account" / "mandate_form.py"]
    rules = [WEB.parent / "domain" / "mandate.py"]
    codes = literals(call.args[2] for call in called(forms, "FieldProblem") if len(call.args) > 2)
    return codes | literals(call.args[2] for call in called(rules, "Fault"))


def refusal_codes(path: Path, *makers: str) -> set[str]:
    paths = sorted(path.glob("*.py")) if path.is_dir() else [path]
    calls = (call for maker in makers for call in called(paths, maker))
    return literals(keyword.value for call in calls for keyword in call.keywords if keyword.arg == "code")


ACCOUNT = {
    code
    for code in refusal_codes(WEB / "account", "NotPermitted", "NotFound", "InvalidRequest")
    | refusal_codes(WEB.parent / "identity" / "accounts.py", "NotFound")
    if code.startswith("account.")
}
LINK = refusal_codes(WEB.parent / "identity" / "linking.py", "NotPermitted")


def test_codes_are_found() -> None:
    """A search that finds nothing would hold nothing."""
    assert {"account.csrf", "account.session_ended", "account.no_such_consent"} <= ACCOUNT
    assert {"link.taken", "link.unproved"} <= LINK
    assert {"agreed", "same_party", "check_digit"} <= problem_codes()


def spoken(said: str, language: str) -> bool:
    """Say whether this is a text, and in Chinese letters where and only where the language is Chinese."""
    chinese = re.search(r"[\u4e00-\u9fff]", said) is not None
    return bool(said) and UNKNOWN not in said and chinese is language.startswith("zh")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", sorted(problem_codes() - {"guardian"}))
def test_every_problem_of_a_mandate_has_words(code: str, language: str) -> None:
    reason = "must be 8 digits" if code == "check_digit" else UNKNOWN
    assert spoken(words(language, "problem", FieldProblem("field", reason, code)), language)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", sorted(ACCOUNT))
def test_every_refusal_has_words_of_its_own(code: str, language: str) -> None:
    assert spoken(words(language, "refusal", GatewayError(UNKNOWN, code=code)), language)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", sorted(LINK))
def test_every_outcome_of_a_linking_has_words(code: str, language: str) -> None:
    assert spoken(words(language, "outcome", code), language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_a_closed_list_is_said_in_the_persons_language(language: str) -> None:
    said = [
        *(words(language, "relation", one.value) for one in Relation),
        *(words(language, "lack", one.value) for one in Lack if one not in OF_A_USE),
        *(words(language, "level", one) for one in Assurance),
        *(words(language, "claim", one) for one in CLAIM_NAMES),
    ]
    assert [text for text in said if not spoken(text, language)] == []
