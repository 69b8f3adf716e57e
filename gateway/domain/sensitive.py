"""A wrapper for personal data (个人信息) that prints as a mask wherever it lands: logs, tracebacks, test output.

Discipline forgets; a type does not. `reveal()` is the one way to the value, and easy to search for.
"""

from __future__ import annotations

from typing import Generic, NoReturn, TypeVar

T = TypeVar("T")

MASK = "***"


class Sensitive(Generic[T]):
    """Holds a value that must not be printed, formatted, pickled or serialised by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """Return the value itself. Call it at the last moment."""
        return self._value

    def __repr__(self) -> str:
        return f"Sensitive({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, _spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sensitive) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Sensitive value is not serialised; reveal() it where it must leave")


def mask_name(name: str) -> str:
    """Return a name as a clerk sees it: the first character stays (domain rule P9)."""
    return name[:1] + "*" * max(len(name) - 1, 1) if name else ""


def mask_number(number: str) -> str:
    """Return a document number as a clerk sees it: the last four characters stay (domain rule P9)."""
    return "*" * max(len(number) - 4, 0) + number[-4:]
