"""The limits of the mapping engine, each with its unit.

Owns: how large a rule file, a schema, a document, a list or a text may be. Leaves to the modules that meet such a
thing: refusing it. They protect against a hostile region as well as against a slip in a rule file.
"""

from __future__ import annotations

from typing import Final

MAX_FILE_BYTES: Final = 512 * 1024
"""Bytes of one rule file, table, schema or example."""

MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024
"""Bytes of one region document. Materials travel apart, so that this holds form fields and lists only."""

MAX_DEPTH: Final = 16
"""Levels of objects and lists in one document, in one schema or in one path."""

MAX_ITEMS: Final = 1_000
"""Items of one list, entries of one form."""

MAX_OCCURS: Final = 20
"""Largest number of minOccurs and maxOccurs in an XML schema, in elements; more is "unbounded"."""

MAX_TEXT: Final = 64 * 1024
"""Characters of one text value."""

MAX_INTEGER: Final = 2**53 - 1
"""Largest absolute value of an integer: what every JSON reader keeps exactly (RFC 8259 §6)."""

MAX_DIGITS: Final = 32
"""Digits of a code of fixed length."""

MAX_DECIMAL: Final = 34
"""Digits of a decimal, on both sides of its point: what IEEE 754 decimal128 keeps."""

MAX_UNKNOWN_CODE: Final = 64
"""Characters of a code that is kept although no table has it: it reaches pages and counters."""

MAX_PROBLEMS: Final = 100
"""Faults that a format names in one document. A person needs no more, and a hostile document could hold a million."""

MAX_PLACES: Final = 10_000
"""Places of one schema, counted where types are used: a few lines of types in types can stand for billions."""

MAX_FIELDS: Final = 2_000
"""Fields of one form, columns of one CSV header."""

MAX_EXPLAINED_BYTES: Final = 256 * 1024
"""Bytes of a JSON document whose faults are all named. Of a larger one it is the first: to name one costs a thousand
times what it costs to find it."""
