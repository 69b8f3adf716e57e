"""Certificates at the simulated authority of Macau: match or no match, by consent (README.md, "Cases").

Owns: the shape of a query, and comparing it with the sandbox's seed. Nothing of a certificate is ever told. Written
from README.md; shares nothing with `adapter.py`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any

from pydantic import Field

from adapters.macau.sandbox_cases import WORDS, Short, Text
from gateway.sandbox.exchange_documents import Model, read
from gateway.sandbox.exchange_wire import Asked, Document, Door

CONSENT = "CNS"
"""What the number of a consent begins with."""

_MACAU = timezone(timedelta(hours=8))
_KINDS = {"CN_RIC": "BI_RPC", "PASSPORT": "PASSAPORTE", "HM_PERMIT": "SALVO_CONDUTO", "USCC": "USCC"}


class Certificate(Model):
    """Which type of certificate."""

    type: Short
    name: Text


class Holder(Model):
    """Whose certificate; the name in traditional characters is an aid and proves nothing."""

    name: Text
    name_hant: Text | None = None
    doc_type: Short
    doc_no: Text


class Requester(Model):
    """Who asks, and for what."""

    entity: Text
    officer: Short
    service_code: Short
    service_name: Text
    case_no: Short


class Query(Model):
    """One entry of `queries`."""

    consent_no: Short
    certificate: Certificate
    holder: Holder
    purpose: Annotated[str, Field(min_length=1, max_length=200)]
    requester: Requester


class Batch(Model):
    """The body of `POST /v1/certificates/query`."""

    queries: Annotated[list[Query], Field(min_length=1, max_length=20)]


class Matching:
    """Says whether a holder has a certificate that is in force."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], door: Door, clock: Callable[[], float]) -> None:
        self._rows = [row for row in rows if row["region"] == "macau"]
        self._door = door
        self._clock = clock

    async def answer(self, asked: Asked) -> Document:
        """Answer a batch, one result for each query, in their order."""
        batch = read(Batch, await self._door.document(asked), WORDS)
        told = {"certificates": self._rows} if self._door.wrong.due("values_told") else {}
        return {"results": [{"status": self._status(query), **told} for query in batch.queries]}

    def _status(self, query: Query) -> str:
        """Consent comes first: without it not even the type is looked at."""
        if not query.consent_no.startswith(CONSENT):
            return "SEM_CONSENTIMENTO"
        rows = [row for row in self._rows if row["type_code"] == query.certificate.type]
        if not rows:
            return "TIPO_DESCONHECIDO"
        today = datetime.fromtimestamp(self._clock(), _MACAU).date().isoformat()
        held = any(_is_of(row, query.holder) and _in_force(row, today) for row in rows)
        return "CORRESPONDE" if held else "NAO_CORRESPONDE"


def _is_of(row: Mapping[str, Any], holder: Holder) -> bool:
    return (
        _plain(row["holder_name"]) == _plain(holder.name)
        and _KINDS.get(row["holder_id_type"]) == holder.doc_type
        and row["holder_id_number"] == holder.doc_no
    )


def _in_force(row: Mapping[str, Any], today: str) -> bool:
    return row["state"] == "valid" and str(row["valid_from"]) <= today <= str(row.get("valid_to", today))


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()
