"""Words of another language in a page are marked as such, so that a screen reader says them rightly (WCAG 3.1.2)."""

from __future__ import annotations

import pytest

from tests.support.pages import pages


def shown(language: str, template: str, **values: object) -> str:
    return pages()._environments[language].from_string(template).render(values)


@pytest.mark.parametrize(
    ("language", "name", "html"),
    [
        ("en", "广州市", '<span lang="zh">广州市</span>'),
        ("pt", "Portal 广州", '<span lang="zh">Portal 广州</span>'),
        ("pt", "Portal", "Portal"),
        ("zh-HK", "广州市", "广州市"),
        ("en", "<b>", "&lt;b&gt;"),
        ("en", "<b>中", '<span lang="zh">&lt;b&gt;中</span>'),
    ],
)
def test_a_chinese_name_is_marked_in_a_page_that_is_not_chinese(language: str, name: str, html: str) -> None:
    """And a name is never markup, whatever a client calls itself."""
    assert shown(language, "{{ name | proper }}", name=name) == html


@pytest.mark.parametrize(
    ("language", "html"),
    [
        ("pt", "P&amp;"),
        ("en", '<span lang="zh-CN">中&lt;</span>'),
        ("zh-CN", "中&lt;"),
        ("zh-HK", '<span lang="zh-CN">中&lt;</span>'),
    ],
)
def test_a_text_that_stands_in_for_a_missing_one_is_marked(language: str, html: str) -> None:
    assert shown(language, "{{ texts | told }}", texts={"zh-CN": "中<", "pt": "P&"}) == html


def test_names_keep_their_marks_inside_a_translated_sentence() -> None:
    page = shown("pt", "{% trans name=name | proper %}Try {{ name }} again{% endtrans %}", name="<广>")
    assert page == 'Tentar de novo com <span lang="zh">&lt;广&gt;</span>'
