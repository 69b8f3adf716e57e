"""What a simulated authority knows of the certificates that it issued, beyond the seed: what became of them.

Owns: the rows of one region as they are now, what a shown code (亮证码) stands for, the file of a certificate, reports
of errors (异议) and what becomes of them, and what is told in place of the truth when that was ordered. Leaves to
`adapters/<region>/sandbox*.py`: the region's words, and who may ask. Like `gateway.sandbox.authority` it shares nothing
with an adapter. The notebook holds numbers, states and digests, never people.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.sandbox.authority import Misbehaviour, Notebook

Row = Mapping[str, Any]
"""A seeded certificate: its keys are those of gateway/sandbox/seed/certificates.toml."""

MODES: Mapping[str, str] = {
    "another_holder": "says of a certificate that it is somebody else's",
    "another_certificate": "answers with another certificate than the one that is asked for",
    "unknown_status": "answers a question about a certificate with a status that nobody knows",
    "altered_file": "sends other bytes than those of the certificate's file",
    "no_file": "has no file of a certificate",
    "certificate_revoked": "revokes a certificate right after it was asked for by its identifier, and tells so",
    "forged_notice": "sends a notice about a certificate twice, first with a proof that does not fit",
    "replayed_notice": "sends a notice about a certificate once more, exactly as it was",
}
"""What an authority that tells of certificates can be asked to do wrong, or to do at all."""

STRANGER: Row = {"holder_name": "另一人", "holder_id_type": "CN_RIC", "holder_id_number": "430102197812319026"}
"""Who holds nothing here."""

UNKNOWN_STATUS = "77"


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """The file of a certificate."""

    media_type: str
    body: bytes

    @property
    def sha256(self) -> str:
        """Return its digest in lower-case hex."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def altered(self) -> bytes:
        """Return other bytes, as many."""
        return self.body[:-1] + bytes([self.body[-1] ^ 1])


@dataclass(frozen=True, slots=True)
class Issued:
    """The certificates of one region. `rows` are its seeded ones."""

    notebook: Notebook
    wrong: Misbehaviour
    rows: Sequence[Row]

    def now(self) -> list[Row]:
        """Return every certificate as it is now."""
        changed = self.notebook.entries("standings")
        return [{**row, "state": changed.get(row["identifier"], row["state"])} for row in self.rows]

    def named(self, identifier: str) -> Row | None:
        """Return the certificate of this identifier."""
        return next((row for row in self.now() if row["identifier"] == identifier), None)

    def shown(self, code: str) -> Row | None:
        """Return the certificate that this code stands for."""
        return next((row for row in self.now() if row.get("code") == code), None)

    def told(self, row: Row) -> Row:
        """Return what is told of a certificate: the truth, or what was ordered."""
        if self.wrong.due("another_holder"):
            return {**row, **STRANGER}
        if self.wrong.due("another_certificate"):
            return {**row, "identifier": f"{row['identifier'].rpartition('.')[0][:-3]}999.0"}
        return row

    def file(self, row: Row) -> CertificateFile | None:
        """Return the file of a certificate."""
        return None if self.wrong.due("no_file") else certificate_file(row)

    def sent(self, file: CertificateFile) -> bytes:
        """Return what is sent of a file: its bytes, or what was ordered."""
        return file.altered if self.wrong.due("altered_file") else file.body

    # --- changes ---------------------------------------------------------------------------------------------------

    def revoked(self, row: Row) -> Row | None:
        """Revoke a certificate if that was ordered; return it as it is then."""
        if not self.wrong.due("certificate_revoked"):
            return None
        self.notebook.put("standings", row["identifier"], "revoked")
        return {**row, "state": "revoked"}

    # --- errors in certificates --------------------------------------------------------------------------------------

    def dispute(self, ticket: str, identifier: str, *, field: bool) -> str:
        """Take the report of an error, once for each ticket; return its number here. `field`: one was named."""
        known: str | None = self.notebook.get("dispute_tickets", ticket)
        if known is not None:
            return known
        number = f"YY{self.notebook.count('counters', 'dispute'):08d}"
        about = hashlib.sha256(identifier.encode()).hexdigest()
        self.notebook.put("disputes", number, {"ticket": ticket, "about": about, "field": field, "asked": 0})
        self.notebook.put("dispute_tickets", ticket, number)
        return number

    def disputed(self, number: str) -> str | None:
        """Return what became of a report: `open` when first asked, then `corrected` or `rejected`; None: unknown."""
        page = self.notebook.get("disputes", number)
        if page is None:
            return None
        self.notebook.put("disputes", number, {**page, "asked": page["asked"] + 1})
        if page["asked"] == 0:
            return "open"
        return "corrected" if page["field"] else "rejected"


def certificate_file(row: Row) -> CertificateFile:
    """Return the file of a certificate: a page that names it, the same whenever it is asked for."""
    text = f"BT /F1 12 Tf 72 720 Td ({row['identifier']}) Tj ET"
    body = (
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R>>endobj\n"
        f"4 0 obj<</Length {len(text)}>>stream\n{text}\nendstream endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
    )
    return CertificateFile("application/pdf", body.encode())
