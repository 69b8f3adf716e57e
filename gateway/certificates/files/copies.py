"""Copies of a certificate file for one stated use (加注件, GB/T 36903): marked so that everybody sees it.

Owns: that only a genuine file is copied, that a copy names its original, and that it bears no seal: a seal on a file
that is not the sealed one would be false, so those of the original are taken off. Leaves to `copy_pdf` and `copy_ofd`:
writing. A copy is a new document, never an update behind the seal. Blocks: run it in a thread.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.certificates.files import copy_ofd
from gateway.certificates.files.verdict import Failed, FileVerdict, Form
from gateway.certificates.files.watermark import Use
from gateway.errors import InvalidRequest

if TYPE_CHECKING:
    from gateway.certificates.files.glyphs import Glyphs


class NotCopied(InvalidRequest):
    """No copy is made of this file."""

    code = "certificate.not_copied"
    title = "No copy of the certificate file can be made"


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy, and the digests of itself and of what it was made from."""

    data: bytes
    form: Form
    sha256: str
    original_sha256: str


class Copier:
    """Makes copies. It keeps nothing of them, but outlines of letters that it has drawn."""

    def __init__(self) -> None:
        self._glyphs: Glyphs | None = None

    def annotated(self, data: bytes, verdict: FileVerdict, use: Use) -> Copy:
        """Return a copy of a file for one use. Raises NotCopied unless the verdict is on this file, and genuine."""
        if verdict.form is None or not verdict.genuine or hashlib.sha256(data).hexdigest() != verdict.sha256:
            raise NotCopied("Only a file that was found genuine is copied.")
        try:
            copy = self._written(data, verdict.form, use, verdict.sha256)
        except Failed as failed:
            raise NotCopied("The file cannot be marked as a copy.", detail=failed.reason) from None
        return Copy(copy, verdict.form, hashlib.sha256(copy).hexdigest(), verdict.sha256)

    def _written(self, data: bytes, form: Form, use: Use, original: str) -> bytes:
        if form is Form.PDF:
            # The libraries for PDF and fonts take their time: the first copy pays.
            from gateway.certificates.files import copy_pdf  # noqa: PLC0415 - as above
            from gateway.certificates.files.glyphs import Glyphs  # noqa: PLC0415 - as above

            self._glyphs = self._glyphs or Glyphs()
            return copy_pdf.write(data, use, original, self._glyphs)
        return copy_ofd.write(data, use, original)
