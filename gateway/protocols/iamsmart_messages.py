"""The iAM Smart (智方便) profile: what is said of a case after it was handed over.

Owns: the addresses of supplements (補交), withdrawals (撤回) and complaints (投訴), and the question whether a message
is there. Leaves to `iamsmart`: signatures, encryption and result codes; to mapping packs: the documents. All of it is
our own extension (adapters/hongkong/README.md). A rating of a Hong Kong process stays with the side that collected it.
"""

from __future__ import annotations

from gateway.ports import CaseMessage
from gateway.protocols.iamsmart import IamSmartClient, Reply, upload
from gateway.protocols.wire import as_object, nothing_taken_yet

_ADDRESSES = {"supplement": "supplement", "withdrawal": "withdraw", "complaint": "complain"}
_NOT_HERE = "D40400"


class IamSmartMessages:
    """Messages about cases, each under a number of ours that makes a repetition harmless."""

    kinds = frozenset(_ADDRESSES)

    def __init__(self, client: IamSmartClient) -> None:
        self._client = client

    async def send(self, message: CaseMessage) -> None:
        """Upload what is needed, then hand the message over. Raises RegionError."""
        with nothing_taken_yet(self._client.wire.region):
            for material in message.materials:
                await upload(self._client, material)
        path = f"/api/v1/cases/{_ADDRESSES[message.kind]}"
        self._check(message, await self._client.post(path, as_object(message.document)))

    async def holds(self, message: CaseMessage) -> bool:
        """Say whether the region has this message; only its own code counts as no. Raises RegionError."""
        asked = {"messageID": message.message_id}
        reply = await self._client.post("/api/v1/cases/messages/query", asked, ("M00000", _NOT_HERE))
        if reply.code == _NOT_HERE:
            return False
        self._check(message, reply)
        return True

    def _check(self, message: CaseMessage, reply: Reply) -> None:
        if reply.content.get("messageID") != message.message_id:
            raise self._client.wire.uncertain("answered for another message", "messageID differs")
