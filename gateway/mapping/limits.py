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
