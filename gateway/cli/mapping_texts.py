"""What `pearl mappings` prints: reports of the mapping tools as lines and tables.

Owns: the look at a terminal. Leaves to `gateway.mapping.tools`: what is reported; to `mappings`: arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final

import orjson

from gateway.cli.columns import table
from gateway.errors import FieldProblem
from gateway.mapping.tools.book import Chapter, Row
from gateway.mapping.tools.comparison import Change, Comparison, PackChange
from gateway.mapping.tools.coverage import NO_PACK, PARTLY, Lost, Matrix
from gateway.mapping.tools.documents import Difference
from gateway.mapping.tools.folder import Opened
from gateway.mapping.tools.replay import Contrast, Summary, Verdict
from gateway.mapping.tools.scaffold import Scaffold
from gateway.mapping.tools.trying import Trip
from gateway.mapping.tools.words import ARROWS, DIRECTION_WORDS, PART_WORDS, TYPE_WORDS, Words

_LONGEST: Final = 60
"""Characters of a value that a line shows."""

LANGUAGES: Final = ("en", "zh-CN")


def faults(problems: Iterable[FieldProblem]) -> Iterator[str]:
    """Yield a line for each fault: file, line, rule and reason."""
    return (f"{problem.field}: {problem.reason}" for problem in problems)


def green(opened: Opened, milliseconds: int) -> str:
    """Return the line for a folder without faults."""
    packs = list(opened.all())
    tried = counted(sum(opened.trials(pack) for pack in packs), "example")
    what = f"{counted(len(opened.packs), 'region')}, {counted(len(packs), 'pack')}, {tried} tried"
    return f"{what}, {milliseconds} ms: nothing is wrong."


def counted(number: int, word: str) -> str:
    """Say how many: `1 fault`, `2 faults`."""
    return f"{number} {word}{'' if number == 1 else 's'}"


# --- explain -----------------------------------------------------------------------------------------------------


def chapter(found: Chapter, language: str, room: int | None) -> Iterator[str]:
    """Yield one message of one region, ours and theirs side by side."""
    said = _said(language)
    way = said(DIRECTION_WORDS[found.message.flow])
    yield f"{found.region}/{found.message.name}  {found.message.zh} ({found.message.en})"
    yield f"{found.format}, {found.charset}, {way}, {found.version[:12]}"
    if found.intro:
        yield found.intro
    yield ""
    headings = ("ours", "zh", "type", "", "theirs", "conversion", "note")
    yield table(headings, [_row(row, language) for row in found.rows], room)
    if found.fixed:
        yield ""
        yield table(("always the same", "text"), found.fixed, room)
    if found.losses:
        yield ""
        rows = [
            (ARROWS[loss.direction], loss.field, _what(loss.values, loss.part), loss.reason) for loss in found.losses
        ]
        yield table(("", "lost", "what", "reason"), rows, room)


def _row(row: Row, language: str) -> tuple[str, ...]:
    said = _said(language)
    star = "*" if row.field.required else ""
    sensitivity = "" if row.field.sensitivity == "none" else f" ({row.field.sensitivity})"
    note = "; ".join([*(said(note) for note in row.notes), row.reason]).removesuffix("; ")
    kind = f"{said(TYPE_WORDS[row.field.type])}{sensitivity}"
    return f"{row.field.name}{star}", row.field.zh, kind, row.arrow, row.place, said(row.how), note


def _said(language: str) -> Any:
    return lambda words: words.zh if language == "zh-CN" else words.en


def _what(values: Sequence[str], part: str) -> str:
    return ", ".join(values) if values else PART_WORDS.get(part, Words(part, part)).en if part else "all of it"


# --- loss --------------------------------------------------------------------------------------------------------


def losses(found: Sequence[Lost], room: int | None) -> Iterator[str]:
    """Yield what is lost, pack by pack."""
    for (region, message), group in groupby(found, key=lambda one: (one.region, one.message)):
        yield f"{region}/{message}"
        rows = [
            (ARROWS[one.direction], f"{one.side}: {one.name}", one.words, _detail(one), one.reason) for one in group
        ]
        yield table(("", "field or place", "zh", "what", "reason"), rows, room)
        yield ""


def _detail(one: Lost) -> str:
    return _what(one.detail, "") if one.what == "codes" else _what((), "".join(one.detail))


def matrix(found: Matrix) -> str:
    """Return one message as a table of fields and regions."""
    headings = (found.message.name, found.message.zh, *found.regions)
    return table(headings, [(name, zh, *signs) for name, zh, signs in found.rows])


MATRIX_LEGEND: Final = (
    f"⇄ both ways, → only when we send, ← only when we read, ✗ not at all; {PARTLY} codes or parts get lost; "
    f"{NO_PACK} the region has no such message"
)


# --- diff --------------------------------------------------------------------------------------------------------


def comparison(found: Comparison, *, values: bool = True) -> Iterator[str]:
    """Yield everything that changes between two folders."""
    if found.is_empty:
        yield "Nothing changes."
    for field in found.fields:
        yield f"vocabulary.toml: {field.message}: {field.name} {field.what}: {field.detail}"
    for cell in found.tables:
        concerns = f" (concerns {', '.join(cell.packs)})" if cell.packs else " (no pack uses it)"
        before, after = cell.before or "nothing", cell.after or "nothing"
        yield f"tables/{cell.table}.toml: {cell.code}: {cell.column}: {before} → {after}{concerns}"
    yield from _packs(found.packs)
    for document in found.documents:
        yield from _contrast(document, values=values)


def _packs(found: Sequence[PackChange]) -> Iterator[str]:
    """Yield each pack with its changes; those that only share what has changed go into one line."""
    for pack in (pack for pack in found if not pack.only_shared):
        yield f"{pack.region}/{pack.message}: {pack.before[:12] or 'new'} → {pack.after[:12] or 'gone'}"
        yield from (f"  {_change(change)}" for change in pack.changes)
    others = [f"{pack.region}/{pack.message}" for pack in found if pack.only_shared]
    if others:
        yield f"Another version, but only for the tables or the vocabulary that they share: {', '.join(others)}"


def _change(change: Change) -> str:
    if change.what == "changed":
        return f"{change.about} {change.name} changed: {change.before or 'nothing'} → {change.after or 'nothing'}"
    return f"{change.about} {change.name} {change.what}: {change.before or change.after}"


def _contrast(found: Contrast, *, values: bool) -> Iterator[str]:
    yield f"{found.recorded.name}: {found.verdict}"
    yield from (f"  {line}" for line in differences(found.differences, values=values))
    yield from (f"  {line}" for line in faults(found.problems))


def differences(found: Iterable[Difference], *, values: bool) -> Iterator[str]:
    """Yield a line for each place at which two documents part."""
    for one in found:
        shown = f": {_shown(one.before)} → {_shown(one.after)}" if values and one.kind != "order" else ""
        yield f"{one.place} {one.kind if one.kind != 'order' else 'only in order or layout'}{shown}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = orjson.dumps(value).decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def comparison_as_data(found: Comparison) -> dict[str, Any]:
    """Return a comparison for programs; documents are those of the examples, and their values are in it."""
    return {
        "vocabulary": [change._asdict() for change in found.fields],
        "tables": [change._asdict() for change in found.tables],
        "packs": [{**pack._asdict(), "changes": [one._asdict() for one in pack.changes]} for pack in found.packs],
        "documents": [_contrast_as_data(one) for one in found.documents],
    }


def _contrast_as_data(found: Contrast) -> dict[str, Any]:
    return {
        "name": found.recorded.name,
        "direction": found.recorded.direction,
        "verdict": found.verdict,
        "differences": [one._asdict() for one in found.differences],
        "problems": [{"place": one.field, "reason": one.reason} for one in found.problems],
    }


# --- try ---------------------------------------------------------------------------------------------------------


def trip(found: Trip) -> Iterator[str]:
    """Yield what became of a document besides the document itself."""
    if found.problems:
        yield "It is refused:"
        yield from (f"  {line}" for line in faults(found.problems))
    elif found.back:
        yield "It cannot come back:"
        yield from (f"  {line}" for line in faults(found.back))
    elif found.changes:
        yield "There and back, this is different:"
        for change in found.changes:
            reason = found.reason(change)
            declared = f" (declared: {reason})" if reason else " (no loss declares it)"
            yield from (f"  {line}{declared}" for line in differences([change], values=True))
    else:
        yield "There and back, nothing is different."


# --- new ---------------------------------------------------------------------------------------------------------


def scaffolded(found: Scaffold, folder: str) -> Iterator[str]:
    """Yield what was proposed, and what a person still has to decide."""
    sure = sum(one.is_sure for one in found.proposals)
    doubtful = len(found.proposals) - sure
    yield from (f"{folder}/{path}" for path in sorted(found.files))
    yield ""
    yield f"{sure} rules are likely, {doubtful} more stand as comments. To be decided ({len(found.open)}):"
    yield from (f"  {line}" for line in faults(found.open))


# --- replay ------------------------------------------------------------------------------------------------------


def replayed(found: Summary) -> Iterator[str]:
    """Yield what many documents come to: counts, places and kinds, no values."""
    rows = [_counts(found, where) for where in found.documents]
    yield table(("region", "message", "", "documents", *(str(verdict) for verdict in Verdict)), rows)
    if found.findings:
        yield ""
        lines = [
            (one.region, one.message, ARROWS[one.direction], one.place, one.kind, str(count))
            for one, count in found.findings.most_common()
        ]
        yield table(("region", "message", "", "place", "difference", "documents"), lines)
    yield ""
    quiet = "Nothing would come out otherwise." if found.is_quiet else "Not the same."
    yield f"{found.total} documents. {quiet}"


def summary_as_data(found: Summary) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "documents": found.total,
        "quiet": found.is_quiet,
        "verdicts": [
            {"region": region, "message": message, "direction": direction, "verdict": verdict, "documents": count}
            for (region, message, direction, verdict), count in found.verdicts.items()
        ],
        "findings": [{**one._asdict(), "documents": count} for one, count in found.findings.most_common()],
    }


def _counts(found: Summary, where: tuple[str, str, str]) -> tuple[str, ...]:
    region, message, direction = where
    counts = (str(found.verdicts[(*where, verdict)]) for verdict in Verdict)
    return region, message, ARROWS[direction], str(found.documents[where]), *counts


def contrasted(found: Contrast) -> Iterator[str]:
    """Yield one document that comes out otherwise, with its values."""
    return _contrast(found, values=True)
