"""Code tables: one concept, our codes in the rows, the codes of the regions and standards in the columns.

Owns: reading `mappings/tables/*.toml` and the two look-ups of one column. Leaves to `gateway.mapping.converters`:
using them. A column may list several codes for one of ours: the first is written, all are read. Several of ours may
share one of theirs: then the shape of a number tells them apart (証件号码 of a home return permit and of a residence
permit both travel as "40, other document").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from gateway.mapping.source import Faults, Files, TomlFile, are_texts, closest, read_toml

_HEADINGS: Final = ("zh", "en", "source", "columns", "codes")
_ABOUT_A_CODE: Final = ("zh", "en", "shapes")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `writes` gives their code for ours, `reads` gives our codes for theirs (several: by shape).

    `name` is its full name, `sex.foshan`.
    """

    name: str
    writes: Mapping[str, str]
    reads: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Table:
    """One concept. `raw` is the file's content, which is part of the version of every pack that uses it."""

    name: str
    codes: tuple[str, ...]
    columns: Mapping[str, Column]
    shapes: Mapping[str, tuple[str, ...]]
    raw: bytes

    def told_apart(self, candidates: tuple[str, ...], number: str) -> str | None:
        """Return the only candidate that has a shape which `number` fits, or None."""
        fitting = [code for code in candidates if any(fits(shape, number) for shape in self.shapes.get(code, ()))]
        return fitting[0] if len(fitting) == 1 else None


Tables = Mapping[str, Table]


def fits(shape: str, number: str) -> bool:
    """Return whether a number has a shape: `#` a digit, `@` a capital letter, `*` either, the rest itself.

    Shapes stand in for regular expressions, which rule files may not hold: they cost one step a character.
    """
    return len(shape) == len(number) and all(map(_fits_one, shape, number))


def _fits_one(mark: str, character: str) -> bool:
    digit = character in "0123456789"
    letter = character in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return {"#": digit, "@": letter, "*": digit or letter}.get(mark, mark == character)


def read_tables(files: Files, faults: Faults) -> Tables:
    """Return every table of `tables/` by name; what is wrong with them goes into `faults`."""
    sources = [read_toml(files, path, faults) for path in files.below("tables")]
    tables = [_table(source, faults) for source in sources if source]
    return {table.name: table for table in tables}


def _table(source: TomlFile, faults: Faults) -> Table:
    for key in sorted(source.data.keys() - set(_HEADINGS)):
        faults.add(source.path, f"{key} is not known{closest(key, _HEADINGS)}", source.line_of(key))
    columns = source.table("columns")
    rows = {
        code: row for code, row in source.table("codes").items() if _row_is_sound(code, row, columns, source, faults)
    }
    name = PurePosixPath(source.path).stem
    return Table(
        name=name,
        codes=tuple(rows),
        columns={column: _column(f"{name}.{column}", column, rows) for column in columns},
        shapes={code: tuple(row.get("shapes", ())) for code, row in rows.items()},
        raw=source.raw,
    )


def _row_is_sound(code: str, row: Any, columns: Mapping[str, Any], source: TomlFile, faults: Faults) -> bool:
    line = source.line_of(code, "codes")
    if not isinstance(row, dict):
        faults.add(source.path, f"{code}: a row is a table of columns", line)
        return False
    allowed = {*columns, *_ABOUT_A_CODE}
    wrong = [f"{code}: column {key} is not declared{closest(key, allowed)}" for key in sorted(row.keys() - allowed)]
    wrong += [f"{code}: {key} is a text or a list of texts" for key, cell in row.items() if not _texts(cell)]
    wrong += [f"{code}: shapes is a list of texts"] if not are_texts(row.get("shapes", [])) else []
    for reason in wrong:
        faults.add(source.path, reason, line)
    return not wrong


def _texts(cell: Any) -> tuple[str, ...]:
    cells = cell if isinstance(cell, list) else [cell]
    return tuple(cells) if all(isinstance(text, str) and text for text in cells) else ()


def _column(name: str, column: str, rows: Mapping[str, Mapping[str, Any]]) -> Column:
    theirs = {code: _texts(row[column]) for code, row in rows.items() if column in row}
    reads: dict[str, tuple[str, ...]] = {}
    for code, cells in theirs.items():
        for cell in cells:
            reads[cell] = (*reads.get(cell, ()), code)
    return Column(name, {code: cells[0] for code, cells in theirs.items()}, reads)
