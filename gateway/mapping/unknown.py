"""Codes of a region that no table knows: how whoever reads a canonical document tells them.

Owns: the question. Leaves to `gateway.mapping.converters`: keeping such a code as `unknown:<code>`. Such a value equals
no code of ours, and two of them say nothing about each other.
"""

from __future__ import annotations

from gateway.mapping.converters import UNKNOWN


def is_unknown(code: object) -> bool:
    """Say whether a field holds a code of the region's that nobody here knows."""
    return isinstance(code, str) and code.startswith(UNKNOWN)
