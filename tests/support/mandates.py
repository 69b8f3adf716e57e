"""Mandates for tests: parties that exist nowhere, and a service over any store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.identity import Assurance
from gateway.domain.mandate import Mandate, Party, Relation, Rules, SignedOn
from gateway.identity.mandates import Mandates
from gateway.ports import Clock
from gateway.storage import Store

NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
PRINCIPAL = Party("CN_RIC", "44010619900101900X", "陈小明")
AGENT = Party("CN_RIC", "440106198806150019", "黄文员")
STRANGER = Party("CN_RIC", "11010519491231002X", "李芳")
ITEM = "11440100MBT40100XX3442011899001"
OTHER_ITEM = "11440100MBT40100XX3442011899005"
WHO = {"person": "a reference"}


def a_mandate(**changes: Any) -> Mandate:
    """Return a mandate that was given at noon for thirty days."""
    said: dict[str, Any] = {
        "id": "MD" + "0" * 32,
        "principal": PRINCIPAL,
        "agent": AGENT,
        "relation": Relation.FAMILY,
        "items": frozenset({ITEM}),
        "valid_from": NOON,
        "valid_until": NOON + timedelta(days=30),
        "consent": SignedOn("guangdong", "GD000000000001", Assurance.A2, NOON),
        "recorded_by": "principal",
        "created_at": NOON,
    }
    return Mandate(**{**said, **changes})


def mandates(store: Store, sealer: Sealer, references: References, clock: Clock, *items: str) -> Mandates:
    """Return the service over a store, for these items."""
    return Mandates(store, sealer, references, clock, Rules(), items or (ITEM, OTHER_ITEM))
