"""Every text of every page stands in every language that the page can be had in, and no text stands there unused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import gateway.web
from gateway.domain.languages import LANGUAGES

WEB = Path(gateway.web.__file__).parent
TRANSLATED = [language for language in LANGUAGES if language != "en"]
"""English texts are their own keys."""
SAME = {"Pearl Gateway", "%(field)s: %(problem)s"}
"""Texts that are in Portuguese what they are in English: a name, and a mark of punctuation."""
PLACEHOLDER = re.compile(r"%\(\w+\)s|</?\w+>")


def texts(method: str, extractor: str) -> dict[str, set[str]]:
    """Return every text that files of a kind hand to gettext, with the files that do."""
    found: dict[str, set[str]] = {}
    for file, _line, message, _comments, _context in extract_from_dir(str(WEB), [(method, extractor)]):
        found.setdefault(message if isinstance(message, str) else message[0], set()).add(file)
    return found


def said() -> dict[str, set[str]]:
    return {**texts("templates/**.html", "jinja2.ext:babel_extract"), **texts("**.py", "python")}


SAID = said()


def catalogues(language: str) -> Mapping[str, Catalog]:
    folder = WEB / "locales" / language.replace("-", "_")
    found = {}
    for path in sorted(folder.glob("*.po")):
        with path.open("rb") as source:
            found[path.stem] = read_po(source)
    return found


def translations(language: str) -> dict[str, str]:
    listed = [message for one in catalogues(language).values() for message in one if message.id]
    return {str(message.id): str(message.string) for message in listed}


def test_texts_are_found() -> None:
    """A search that finds nothing would hold nothing."""
    assert {"Sign on with your region", "You are signed out here", "Mandates", "Hand in the application"} <= set(SAID)


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_is_translated_and_no_other(language: str) -> None:
    """A person must not meet an English sentence in the middle of a page; a text that no page says is forgotten."""
    found = {text for text, translation in translations(language).items() if translation}
    assert set(SAID) - found == set()
    assert found - set(SAID) == set()


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_text_has_one_translation_that_is_no_draft(language: str) -> None:
    """Where two files translate one text, which of them a page says would depend on their names."""
    listed = [message for one in catalogues(language).values() for message in one if message.id]
    assert [text for text, count in Counter(message.id for message in listed).items() if count > 1] == []
    assert [message.id for message in listed if message.fuzzy] == []


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_keeps_what_is_filled_in_and_marked_up(language: str) -> None:
    """A placeholder that is misspelt would be an error in the middle of a page."""
    for text, translation in translations(language).items():
        assert sorted(PLACEHOLDER.findall(translation)) == sorted(PLACEHOLDER.findall(text)), text


@pytest.mark.parametrize("language", ["zh-CN", "zh-HK"])
def test_chinese_is_written_in_the_characters_of_its_place(language: str) -> None:
    """Big5 holds no simplified character and GB 2312 no traditional one, as far as they are written differently."""
    charset = {"zh-CN": "gb2312", "zh-HK": "big5"}[language]
    for text, translation in translations(language).items():
        plain = "".join(re.findall(r"[\u4e00-\u9fff]", translation))
        assert plain or text in SAME, text
        assert plain.encode(charset, errors="ignore").decode(charset) == plain, translation


def test_portuguese_is_not_left_in_english() -> None:
    assert {text for text, translation in translations("pt").items() if translation == text} == SAME
