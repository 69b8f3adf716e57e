"""The mapping book as one HTML file that needs nothing else: no scripts, no fonts, no network.

Owns: rendering chapters with the template beside it. Leaves to `book`: what the chapters hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from gateway.mapping.tools.book import LOST, Chapter, Pair, Row
from gateway.mapping.tools.coverage import Matrix
from gateway.mapping.tools.words import (
    ARROWS,
    DIRECTION_WORDS,
    PART_WORDS,
    SENSITIVITY_WORDS,
    TYPE_WORDS,
    Words,
)

_TEMPLATES: Final = Path(__file__).with_name("templates")
_SEPARATOR: Final = re.compile(r"([./_]|, )")
_CHINESE: Final = re.compile("[\u3400-\u9fff]")

_WAYS: Final = {
    LOST: Words("没有对应位置", "no place there"),
    **{arrow: DIRECTION_WORDS[name] for name, arrow in ARROWS.items()},
}
"""What the arrows say to those who hear the page."""


def page(chapters: Sequence[Chapter], title: Words, matrices: Sequence[Matrix] = ()) -> str:
    """Return the book as HTML. Contents and matrices precede several chapters."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["tongue"] = _tongue
    environment.filters["breakable"] = _breakable
    return environment.get_template("book.html").render(
        chapters=chapters,
        title=title,
        matrices=matrices,
        regions=list(dict.fromkeys(chapter.region for chapter in chapters)),
        messages=list({chapter.message.name: chapter.message for chapter in chapters}.values()),
        arrows=ARROWS,
        ways=_WAYS,
        lost=LOST,
        directions=DIRECTION_WORDS,
        parts=PART_WORDS,
        sensitivities=SENSITIVITY_WORDS,
        types=TYPE_WORDS,
        has_samples=_has_samples,
        fullest=_fullest,
    )


def _tongue(text: str) -> str:
    """Return the language tag of a text that its author wrote in one language only."""
    return "zh-CN" if len(_CHINESE.findall(text)) > len(text) / 4 else "en"


def _breakable(place: str) -> Markup:
    """Return a place that may be broken after its separators only."""
    return Markup(_SEPARATOR.sub(r"\1<wbr>", str(escape(place))))  # noqa: S704 - escaped before the breaks go in


def _has_samples(rows: Iterable[Row]) -> bool:
    return any(row.sample[0] for row in rows)


def _fullest(examples: Sequence[Pair]) -> str:
    """Return the name of the example that says most: it stands open."""
    return max(examples, key=lambda pair: len(pair.ours), default=Pair("", "", "", "")).name
