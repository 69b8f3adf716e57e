"""When two texts are the same although they are written differently: width, capitals, blanks, dots in names.

Owns: what writing is and what content, in one place for whoever compares (domain facts §2.13). Only for comparing: what
is kept and sent is what was written.
"""

from __future__ import annotations

import re
import unicodedata

_UNSEEN = re.compile(r"[\s·•‧・,，.．]+")


def bare(text: str) -> str:
    """Return a text without what keyboards differ in: width (NFKC), capitals, blanks."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def spelt(name: str) -> str:
    """Return a name without what scanners and keyboards differ in: besides, the dots between its parts."""
    return _UNSEEN.sub("", unicodedata.normalize("NFKC", name)).casefold()
