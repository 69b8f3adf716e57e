"""What several wires say alike: an entry of a list of documents (办理结果, 证照文件), and what became of a dispute.

Owns: what an entry must say before a document is asked for by it. Leaves to the protocol modules: where it stands; to
the core: size and digest of what comes, and what may be in a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.ports import DisputeReply, ResultDocument
from gateway.protocols.wire import Wire

MAX_NAME = 200
"""Characters of a file's name that are kept."""

NUMBER = re.compile(r"(?!\.+\Z)[0-9A-Za-z._-]{1,64}", re.ASCII)
"""A region's own number of something; it becomes part of an address, and dots alone would lead elsewhere."""

MAX_REPLY = 2000
"""Characters of a reply to a dispute that are kept."""

_DIGEST = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)


def result_document(code: object, name: object, media_type: object, size: object, sha256: object) -> ResultDocument:
    """Return the entry. Raises ValueError, without a value in its text."""
    fits = {
        "code": isinstance(code, str) and NUMBER.fullmatch(code),
        "name": isinstance(name, str) and name.strip(),
        "type": isinstance(media_type, str) and media_type,
        "size": isinstance(size, int) and not isinstance(size, bool) and size > 0,
        "digest": isinstance(sha256, str) and _DIGEST.fullmatch(sha256),
    }
    if wrong := [what for what, right in fits.items() if not right]:
        raise ValueError(f"an entry of the list of documents: {', '.join(wrong)}")
    return ResultDocument(str(code), str(name)[:MAX_NAME], str(media_type), int(str(size)), str(sha256).lower())


def whole(text: object) -> int | None:
    """Return a number that its wire says in digits; None for what is none."""
    return int(text) if isinstance(text, str) and _DIGITS.fullmatch(text) else None


def dispute_number(wire: Wire, number: object, *, fits: bool, names: tuple[str, str]) -> str:
    """Return an issuer's number of a report. `fits`: the receipt is for ours. Raises RegionUncertain.

    `names` are what the wire calls our ticket and its number.
    """
    ticket, name = names
    if not fits:
        raise wire.uncertain("answered for another report", f"{ticket} differs")
    if not isinstance(number, str) or not NUMBER.fullmatch(number):
        raise wire.uncertain("sent an answer that cannot be read", name)
    return number


def dispute_reply(words: Mapping[str, str], state: object, text: object) -> DisputeReply | None:
    """Return what became of a reported error; None for a state that is none of `words`, theirs → ours."""
    match words.get(state) if isinstance(state, str) else None:
        case "open" | "corrected" | "rejected" as known:
            return DisputeReply(known, text[:MAX_REPLY] if isinstance(text, str) else "")
    return None
