"""Our side of <region>: say what the region is and which of its parts are offered.

Owns: the region's paths and oddities. Leaves to `gateway.protocols`: the wire. The contract is README.md beside this
file. A region whose wire is known already needs `open_adapter` only; look at the other adapters first.
"""

from __future__ import annotations

import base64
from urllib.parse import quote

import orjson

from gateway.ports import Adapter, Kit, RegionDocument, SubmissionOrder
from gateway.protocols.wire import Answer, Wire, as_object, field_problems, quotable, text_secret, text_setting


class ExampleSubmissions:
    """Cases as plain JSON over HTTP with basic authentication. Write such a class only where the wire is odd."""

    def __init__(self, wire: Wire, client_id: str, client_secret: str) -> None:
        self._wire = wire
        credential = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credential}", "Content-Type": "application/json"}

    async def submit(self, order: SubmissionOrder) -> RegionDocument:
        """Hand the case over; the region knows a repeated one by its id. Raises RegionError."""
        if order.materials:
            raise self._wire.refused("this region takes no materials")
        document = as_object(order.document)
        url, body = self._wire.url("/cases"), orjson.dumps(document)
        return self._receipt(await self._wire.exchange("POST", url, headers=self._headers, body=body), document)

    async def ask(self, submission_id: str) -> RegionDocument | None:
        """Return the receipt, or None only when the region itself says that it has no such case. Raises RegionError."""
        url = self._wire.url(f"/cases/{quote(submission_id, safe='')}")
        answer = await self._wire.exchange("GET", url, headers=self._headers)
        if answer.status == 404 and self._wire.json_object(answer.body).get("error") == "no_such_case":
            return None
        return self._receipt(answer, None)

    def _receipt(self, answer: Answer, sent: RegionDocument | None) -> RegionDocument:
        """Tell a definite yes and a definite no from everything else, which is uncertain."""
        document = self._wire.json_object(answer.body)
        if answer.status == 200:
            return document
        if answer.status == 422:
            raise self._wire.refused(
                quotable(document.get("error"), sent), field_problems(document.get("fields"), sent)
            )
        raise self._wire.uncertain("gave an unexpected answer", f"HTTP {answer.status}")


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the region offers; makes no network call. Raises StartRefused."""
    wire = Wire(kit)
    client_id, client_secret = text_setting(kit, "client_id"), text_secret(kit, "client_secret")
    return Adapter(submissions=ExampleSubmissions(wire, client_id, client_secret), probe=wire.probe)
