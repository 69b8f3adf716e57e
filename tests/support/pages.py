"""The pages of the gateway, complete once in a process: reading four languages takes longer than most tests.

Nothing changes them once they are made, so that no test can leave anything in them for another.
"""

from __future__ import annotations

from functools import cache

from gateway.web.pages import Pages


@cache
def pages(*, secure: bool = False) -> Pages:
    """Return the pages, for a gateway that is reached over https or not."""
    return Pages(secure=secure)
