"""The SOAP exchange profile: what is said of a case after it was handed over.

Owns: the operations for supplements (补正), withdrawals (撤回), ratings (好差评) and complaints (投诉), and the
question whether a message is there. Leaves to `soap`: envelopes, signatures and faults; to mapping packs: the elements.
All of it is our reading (adapters/foshan/README.md).
"""

from __future__ import annotations

from lxml import etree

from gateway.ports import MESSAGE_KINDS, CaseMessage
from gateway.protocols.soap import SoapClient, upload
from gateway.protocols.wire import as_xml, nothing_taken_yet

_OPERATIONS = {
    "supplement": "SubmitSupplement",
    "withdrawal": "SubmitWithdrawal",
    "rating": "SubmitRating",
    "complaint": "SubmitComplaint",
}


class SoapMessages:
    """Messages about cases, each under a number of ours that makes a repetition harmless."""

    kinds = frozenset(MESSAGE_KINDS)

    def __init__(self, client: SoapClient) -> None:
        self._client = client

    async def send(self, message: CaseMessage) -> None:
        """Upload what is needed, then hand the message over. Raises RegionError."""
        with nothing_taken_yet(self._client.wire.region):
            for material in message.materials:
                await upload(self._client, message.submission_id, material)
        operation = _OPERATIONS[message.kind]
        self._own(message, await self._client.call(operation, as_xml(message.document), "MessageReceipt"))

    async def holds(self, message: CaseMessage) -> bool:
        """Say whether the region has this message; only a signed `NoSuchMessage` counts as no. Raises RegionError."""
        query = self._client.element("MessageQuery", MessageNo=message.message_id)
        answer = await self._client.call("QueryMessage", query, "MessageReceipt", "NoSuchMessage")
        return self._own(message, answer).tag != self._client.name("NoSuchMessage")

    def _own(self, message: CaseMessage, answer: etree._Element) -> etree._Element:
        if self._client.text(answer, "MessageNo") != message.message_id:
            raise self._client.wire.uncertain("answered for another message", "MessageNo differs")
        return answer
