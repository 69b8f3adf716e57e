"""The TIF profile: what is said of a case after it was handed over.

Owns: the addresses of supplements (补正), withdrawals (撤回), ratings (好差评) and complaints (投诉), and the question
whether a message is there. Leaves to `tif`: signatures, files and what a status means; to mapping packs: the documents.
All of it is our reading (adapters/guangdong/README.md).
"""

from __future__ import annotations

from urllib.parse import quote

from gateway.ports import MESSAGE_KINDS, CaseMessage
from gateway.protocols.tif import TifClient, upload
from gateway.protocols.wire import Answer, as_object, nothing_taken_yet

_ADDRESSES = {"supplement": "supplements", "withdrawal": "withdrawals", "rating": "ratings", "complaint": "complaints"}


class TifMessages:
    """Messages about cases, each under a number of ours that makes a repetition harmless."""

    kinds = frozenset(MESSAGE_KINDS)

    def __init__(self, client: TifClient, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    async def send(self, message: CaseMessage) -> None:
        """Upload what is needed, then hand the message over. Raises RegionError."""
        with nothing_taken_yet(self._client.wire.region):
            for material in message.materials:
                await upload(self._client, self._prefix, material)
        document = as_object(message.document)
        marked = {"x-pearl-message-id": message.message_id}
        answer = await self._client.post(f"{self._prefix}/{_ADDRESSES[message.kind]}", document, marked)
        self._check(message, self._client.data(answer, document))

    async def holds(self, message: CaseMessage) -> bool:
        """Say whether the region has this message; only its own words count as no. Raises RegionError."""
        answer = await self._client.call("GET", f"{self._prefix}/messages/{quote(message.message_id, safe='')}")
        if self._denies(answer):
            return False
        self._check(message, self._client.data(answer))
        return True

    def _denies(self, answer: Answer) -> bool:
        return answer.status == 404 and self._client.wire.json_object(answer.body).get("code") == "404"

    def _check(self, message: CaseMessage, receipt: dict[str, object]) -> None:
        if receipt.get("xxbh") != message.message_id:
            raise self._client.wire.uncertain("answered for another message", "xxbh differs")
