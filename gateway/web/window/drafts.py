"""Drafts at the window: what is kept of a form that was begun, and the form again that is made of it.

Owns: which inputs a form has, and which of them are not kept. Leaves to `gateway.submissions.drafts`: keeping them. To
`application`: whether what was typed is right, which is asked when the form is handed in and not before.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.errors import FieldProblem, InvalidRequest
from gateway.submissions.drafts import NEW, Draft, Typed
from gateway.web.window.application import Task, part_input
from gateway.web.window.entry import Entry, Held

LONGEST = 500
"""Characters of one input; the texts of a form together are bounded by `entry.TEXT_BYTES`."""
_VERSION = "draft"
"""The input that says which version of the draft the clerk has before them."""
_FIXED = frozenset({
    "applicant.kind", "applicant.name", "applicant.name_latin", "applicant.mobile", "applicant.birth_date",
    "applicant.sex", "applicant.document.type", "applicant.document.number", "agent.name", "agent.document.type",
    "agent.document.number", "mandate", "consent.evidence", "consent.signed_on",
})  # fmt: skip
_VOUCHED = frozenset({"identity_checked", "consent.given"})
"""What a clerk vouches for is not kept, nor that an original was seen: whoever hands the form in vouches then."""


def typed_of(entry: Entry, task: Task) -> Typed:
    """Return what is kept of a form. Raises InvalidRequest for inputs that the form has not, and for texts too long."""
    problems = list(_problems(entry, task))
    if problems:
        raise InvalidRequest("This cannot be kept; see `problems`.", problems=problems)
    kept = {name: text for name, text in entry.texts.items() if name in _kept(task) and text.strip()}
    files = {code: [(held.blob, held.name) for held in files] for code, files in entry.held.items()}
    return Typed(task.item.code, task.office.region, task.joint, kept, files)


def entry_of(draft: Draft) -> Entry:
    """Return the form as it was typed."""
    held = {code: [Held(blob, name) for blob, name in files] for code, files in draft.typed.files.items()}
    return with_version(Entry({**draft.typed.texts, "reference": draft.reference}, held), draft.version)


def version_of(entry: Entry) -> int:
    """Return which version of the draft the clerk had before them, NEW for a form that was never saved."""
    text = entry.text(_VERSION)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else NEW


def with_version(entry: Entry, version: int) -> Entry:
    """Have a form say which version of the draft it is."""
    entry.texts[_VERSION] = str(version)
    return entry


def _problems(entry: Entry, task: Task) -> Iterator[FieldProblem]:
    known = _kept(task) | _VOUCHED | {"reference", _VERSION} | {f"sighted.{rule.code}" for rule in task.item.materials}
    for name, text in entry.texts.items():
        if not text.strip():  # also a file input that nothing was chosen for
            continue
        if name not in known:
            yield FieldProblem(name, "is no field of this form", "unknown_field")
        elif len(text) > LONGEST:
            yield FieldProblem(name, f"has more than {LONGEST} characters", "too_long")
    for code in entry.held.keys() - {rule.code for rule in task.item.materials}:
        yield FieldProblem(f"material.{code}", "is no material of this item", "unknown")


def _kept(task: Task) -> frozenset[str]:
    """Return the names of the inputs that are kept. What may not cross the border is no field of such a form (P1)."""
    fields = {f"form.{field.id}" for field in task.fields}
    promises = {f"deferred.{rule.code}" for rule in task.item.materials}
    return _FIXED | fields | promises | {part_input(part) for part, _ in task.parts}
