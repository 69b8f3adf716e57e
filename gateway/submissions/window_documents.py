"""The documents of a collecting window: the collection receipt (收件回执) and the handover list of paper (交接单).

Owns: what stands in them, that they are marked with the window's seal, and the gateway's signature over what they say.
Leaves to `gateway.windows`: which seal may be put on what. To `gateway.web.window`: the pages to print.

A collection receipt says that papers were collected, and never that anything was accepted (受理): that is for the
handling side to say. The signature is a JWS by the gateway's own key over the content and the id of the seal. It stands
for the electronic seal (GB/T 38540) until one can be put on, and says of itself that it is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, select

from gateway.crypto.at_rest import Sealer
from gateway.crypto.signing import Signer
from gateway.domain.calendar import local_day
from gateway.domain.caller import Caller
from gateway.domain.item import Item
from gateway.domain.joint import MODE as JOINT
from gateway.domain.region import RegionNames
from gateway.domain.sensitive import mask_number
from gateway.errors import NotFound
from gateway.evidence import Exchange, record
from gateway.evidence.record import who_is
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.tables import submissions
from gateway.submissions.owned import require_owner
from gateway.submissions.papers import papers_shown
from gateway.submissions.parcels import open_body
from gateway.submissions.parts import parts_of
from gateway.submissions.story import exact
from gateway.windows import DocumentType, Seal, Window

TYP = "pearl-window-document+jws"
IDENTITY_CHECK = "original_document_and_person_present"
"""How the window checks identity: the clerk saw the original document and the person who presented it."""
NO_SEAL_YET = "gateway_signature_in_place_of_the_electronic_seal"


@dataclass(frozen=True, slots=True)
class SealMark:
    """The seal as it stands on a document."""

    id: str
    name: str
    valid_from: date
    valid_until: date
    standing: str = NO_SEAL_YET


@dataclass(frozen=True, slots=True)
class WindowDocument:
    """A document, ready to be printed: what it says, its seal, and the signature over both."""

    type: DocumentType
    content: Mapping[str, Any]
    seal: SealMark
    signature: str


class WindowDocuments:
    """Issues the documents of windows."""

    def __init__(
        self,
        *,
        store: Store,
        sealer: Sealer,
        signer: Signer,
        items: Mapping[str, Item],
        region_names: Mapping[str, RegionNames],
        issuer: str,
        clock: Clock,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._signer = signer
        self._items = items
        self._region_names = region_names
        self._issuer = issuer
        self._clock = clock

    async def receipt(self, caller: Caller, window: Window, submission_id: str) -> WindowDocument:
        """Return the collection receipt of a case. Raises NotFound, NotPermitted without a seal for it."""
        seal = window.sealed(DocumentType.COLLECTION_RECEIPT, local_day(self._clock()))
        case, body = await self._store.read(lambda tx: self._case(tx, caller, submission_id))
        return await self._issue(caller, DocumentType.COLLECTION_RECEIPT, self._receipt(window, case, body), seal)

    async def handover(self, caller: Caller, window: Window, submission_id: str, reference: str) -> WindowDocument:
        """Return the handover list of a parcel. Raises NotFound, NotPermitted without a seal for it."""
        seal = window.sealed(DocumentType.HANDOVER_LIST, local_day(self._clock()))

        def read(tx: Connection) -> dict[str, Any]:
            case, _ = self._case(tx, caller, submission_id)
            found = [view for view in papers_shown(tx, self._sealer, submission_id) if view.reference == reference]
            if not found:
                raise NotFound("There is no such parcel of this case.", code="paper.not_found")
            paper = found[0]
            return {
                **self._about(window, case), "reference": paper.reference, "way": paper.way, "carrier": paper.carrier,
                "tracking": paper.tracking, "recipient": paper.recipient, "items": paper.items,
                "sent_at": exact(paper.sent_at),
            }  # fmt: skip

        return await self._issue(caller, DocumentType.HANDOVER_LIST, await self._store.read(read), seal)

    def _case(self, tx: Connection, caller: Caller, submission_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        require_owner(tx, self._sealer, caller, submission_id)
        row = dict(tx.execute(select(submissions).where(submissions.c.id == submission_id)).mappings().one())
        row["parts"] = parts_of(tx, submission_id) if row["mode"] == JOINT else []
        return row, open_body(self._sealer, submission_id, row["body"])

    # --- what they say -----------------------------------------------------------------------------------------

    def _about(self, window: Window, case: Mapping[str, Any]) -> dict[str, Any]:
        """Return what both documents say of case, item, place and window."""
        item = self._items.get(case["item_code"])
        return {
            "case": case["id"],
            "item": {"code": case["item_code"], "name": item.name["zh-CN"] if item else case["item_code"]},
            "decided_by": self._office(case),
            "window": {"id": window.id, "name": window.name["zh-CN"], "centre": window.centre},
            "operator": case["operator"],
            "query_url": f"{self._issuer}/window/cases/{case['id']}",
        }

    def _office(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Return who decides a case, or a part of one."""
        place = str(case["handling_region"])
        named = self._region_names.get(place)
        name = named.of("zh-CN") if named else place
        return {"region": place, "name": name, "office_code": case["handling_code"]}

    def _parts(self, case: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the parts of a case that several offices handle together, each with its number and who decides it."""
        item = self._items.get(case["item_code"])
        names = {part.code: part.name["zh-CN"] for part in item.parts} if item else {}
        return [
            {
                "case": part["id"],
                "name": names.get(part["part_code"], part["part_code"]),
                "decided_by": self._office(part),
            }
            for part in case["parts"]
        ]

    def _receipt(self, window: Window, case: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        about, parts = self._about(window, case), self._parts(case)
        places = "、".join(dict.fromkeys(office["decided_by"]["name"] for office in parts or [about]))
        apart = "分别" if parts else ""
        return {
            **about,
            **({"parts": parts} if parts else {}),
            "applicant": _party(body["applicant"]),
            "agent": _party(body["agent"]) if "agent" in body else None,
            "mandate": body.get("mandate"),
            "materials": [_material(material, self._items.get(case["item_code"])) for material in body["materials"]],
            "deferred": [material["code"] for material in body.get("deferred", ())],
            "identity_check": IDENTITY_CHECK,
            "collected_at": exact(case["created_at"]),
            "statement": f"本回执仅证明材料已收件。是否受理由{places}的主管部门{apart}决定。",
        }

    # --- issuing -----------------------------------------------------------------------------------------------

    async def _issue(
        self, caller: Caller, kind: DocumentType, content: Mapping[str, Any], seal: Seal
    ) -> WindowDocument:
        """Sign what a document says with the id of its seal, and write down that it was issued."""
        now = self._clock()
        mark = SealMark(seal.id, seal.name, seal.valid_from, seal.valid_until)
        said = {
            "iss": self._issuer, "iat": int(now.timestamp()), "document": str(kind), "content": dict(content),
            "seal": {"id": seal.id, "standing": NO_SEAL_YET},
        }  # fmt: skip
        document = WindowDocument(kind, content, mark, self._signer.sign(said, typ=TYP))
        await self._store.write(lambda tx: record(tx, _exchange(caller, document, now), now=now))
        return document


def as_json(document: WindowDocument) -> dict[str, Any]:
    """Return a document for programs."""
    return {
        "document": str(document.type),
        **document.content,
        "seal": asdict(document.seal),
        "jws": document.signature,
    }


def _party(party: Mapping[str, Any]) -> dict[str, Any]:
    """Return a person as a paper in their own hand may say it: the name, and the number masked."""
    document = party["document"]
    return {
        "name": party.get("name"),
        "document": {"type": document["type"], "number": mask_number(document["number"])},
    }


def _material(material: Mapping[str, Any], item: Item | None) -> dict[str, Any]:
    rules = {} if item is None else {rule.code: rule.name["zh-CN"] for rule in item.materials}
    sighted = material.get("original_sighted")
    return {
        "code": material["code"],
        "name": rules.get(material["code"], material["code"]),
        "file": material["name"],
        "sha256": material["sha256"],
        "form": {True: "copy_of_sighted_original", False: "copy", None: "file"}[sighted],
    }


def _exchange(caller: Caller, document: WindowDocument, now: datetime) -> Exchange:
    return Exchange(
        action="window.document",
        outcome="done",
        reason=str(document.type),
        who=who_is(caller),
        what={"case": document.content["case"], "seal": document.seal.id},
        purpose="document of the collecting window",
        received_at=now,
        parts={"content": orjson.dumps(dict(document.content), option=orjson.OPT_SORT_KEYS)},
    )
