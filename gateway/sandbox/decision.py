"""The one document that came out of a case at a simulated authority (办理结果).

Owns: a decision made of the number of the case alone, so that it names nobody. Leaves to the authorities: when there
is one, and how it is handed out.
"""

from __future__ import annotations

CODE, NAME, MEDIA_TYPE = "JD01", "办理结果决定书.pdf", "application/pdf"
DECIDED = frozenset({"COMPLETED", "NOT_ACCEPTED", "NOT_WITHIN_POWER"})
"""Steps of `courses` with which a case has a decision."""
MODES = {
    "other_bytes": "sends a document whose bytes are not those that were listed",
    "result_gone": "no longer has a document that it listed",
}
"""What an authority that hands documents out can be asked to do wrong with them."""


def decision(number: str) -> bytes:
    """Return the decision on a case, a PDF of one page."""
    text = f"BT /F1 12 Tf 72 720 Td (Decision on case {number}) Tj ET"
    return (
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R>>endobj\n"
        f"4 0 obj<</Length {len(text)}>>stream\n{text}\nendstream endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
    ).encode()


def altered(body: bytes) -> bytes:
    """Return another document of the same length."""
    return body.replace(b"PDF-1.4", b"PDF-1.5")
