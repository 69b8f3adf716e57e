"""Regions that answer match or no match, and no value ever: whatever says more is refused, and not repeated."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.errors import RegionUncertain
from gateway.protocols.signed_rest import open_client
from gateway.protocols.signed_rest_services import RestMatching
from tests.unit.protocol_support import far_side, kit
from tests.unit.test_protocol_iamsmart import Authority, hongkong
from tests.unit.test_protocol_signed_rest import SETTINGS, Exchange, secrets

VALUE = "陈大文"


async def _macau(results: list[Any]) -> str:
    exchange = Exchange({"/v1/certificates/query": (200, orjson.dumps({"results": results}))})
    async with (
        far_side(exchange.answer) as (_, base),
        kit(base, region="macau", settings=SETTINGS, secrets=secrets()) as lent,
    ):
        return (await RestMatching(open_client(lent, wrapped=False)).lookup({"consentNo": "CNS1"})).status


async def _hongkong(content: dict[str, Any]) -> str:
    authority = Authority({"/api/v1/certificates/match": ("M00000", content)})
    async with hongkong(authority) as (adapter, _):
        assert adapter.certificates is not None
        return (await adapter.certificates.lookup({"holderName": "CHAN, Tai Man"})).status


async def test_a_word_alone_is_an_answer() -> None:
    assert await _macau([{"status": "CORRESPONDE"}]) == "CORRESPONDE"
    assert await _hongkong({"result": "MATCH", "checkedAt": 1}) == "MATCH"


@pytest.mark.parametrize(
    "told",
    [
        {"certificates": [{"holder": VALUE}]}, {"certificates": []}, {"message": VALUE}, {"holder": {"name": VALUE}},
        {"status": VALUE}, {"status": "CHAN TAI MAN"}, {"status": "H00000001"}, {"status": {"name": VALUE}},
    ],
)  # fmt: skip
async def test_macau_cannot_hand_a_value_over(told: dict[str, Any]) -> None:
    with pytest.raises(RegionUncertain) as refused:
        await _macau([{"status": "CORRESPONDE", **told}])
    assert VALUE not in f"{refused.value.public} {refused.value.detail}"


@pytest.mark.parametrize(
    "told",
    [
        {"holderName": VALUE}, {"certificate": {"name": VALUE}}, {"message": VALUE}, {"checkedAt": VALUE},
        {"result": VALUE}, {"result": "CHAN TAI MAN"}, {"result": "H00000001"}, {"result": [VALUE]},
    ],
)  # fmt: skip
async def test_hong_kong_cannot_hand_a_value_over(told: dict[str, Any]) -> None:
    with pytest.raises(RegionUncertain) as refused:
        await _hongkong({"result": "MATCH", "checkedAt": 1, **told})
    assert VALUE not in f"{refused.value.public} {refused.value.detail}"
