"""The life of a case as a picture: `python -m gateway.domain.submission_picture` prints what docs/case-life.md shows.

Owns: writing the machine of `gateway.domain.submission` as a Mermaid state diagram and as a table. A test holds the
document to it.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.domain.submission import ENDS, HANDLING_ONLY, NEXT, RESUME, State, holder


def picture() -> str:
    """Return the machine as a Mermaid state diagram."""
    steps = (f"  {now} --> {then}" for now in State for then in State if then in NEXT[now])
    back = (f"  {now} --> {then}: resumed" for now in RESUME for then in State if then in RESUME[now])
    ends = (f"  {state} --> [*]" for state in State if not NEXT[state])
    begins = ("  [*] --> DRAFT: saved at a window", "  [*] --> COLLECTED", "  DRAFT --> [*]: discarded or over")
    return "\n".join(["stateDiagram-v2", *begins, *steps, *back, *ends])


def table() -> str:
    """Return who may enter each state, whose turn it then is, and whether anything is to be decided still."""
    return "\n".join(["| state | entered by | whose turn | decided |", "|---|---|---|---|", *_rows()])


def _rows() -> Iterator[str]:
    for state in State:
        by = "the handling region only" if state in HANDLING_ONLY else _BY[state]
        yield f"| `{state}` | {by} | {holder(state).replace('_', ' ')} | {'yes' if state in ENDS else 'no'} |"


_BY = {
    State.DRAFT: "the collecting side",
    State.COLLECTED: "the collecting side",
    State.FORWARDED: "the gateway",
    State.DELIVERY_FAILED: "the gateway",
    State.SUPPLEMENTED: "either side",
    State.DELIVERED: "either side",
    State.WITHDRAWN: "the applicant, by either side",
    State.RETURNED: "either side",
}


if __name__ == "__main__":
    print(f"```mermaid\n{picture()}\n```\n\n{table()}")  # noqa: T201 - printing is what it is for
