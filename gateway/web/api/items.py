"""What /v1/items answers: the items that a caller may file, with form, materials and the state of each place.

Owns: the shape of these answers and when one is worth sending again (ETag, RFC 9110 §8.8.3 and §13.1.2). Leaves to
`policy.grants` which items a caller sees, to `gateway.items` the state of a place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web

from gateway.domain.item import Item, Office
from gateway.errors import NotFound
from gateway.items.blocks import Block

BlockOf = Callable[[str, str], Block | None]
"""Item and region → why that office takes it no more for the moment; None when it does."""


class ItemAnswers:
    """The answers, of which all that no pull can change is made once."""

    def __init__(self, block_of: BlockOf) -> None:
        self._block_of = block_of
        self._made: dict[str, dict[str, Any]] = {}

    def all(self, request: web.Request, visible: Iterable[Item]) -> web.Response:
        """GET /v1/items: what this caller may file."""
        return _answer(request, {"items": [self._item(item) for item in visible]})

    def one(self, request: web.Request, visible: Iterable[Item]) -> web.Response:
        """GET /v1/items/{code}. Raises NotFound."""
        return _answer(request, self._item(_wanted(request, visible)))

    def schema(self, request: web.Request, visible: Iterable[Item]) -> web.Response:
        """GET /v1/items/{code}/schema: the JSON Schema of the form alone. Raises NotFound."""
        item = _wanted(request, visible)
        return _answer(request, self._fixed(item)["form_schema"], "application/schema+json")

    def _item(self, item: Item) -> dict[str, Any]:
        return {**self._fixed(item), "places": [self._place(item, office) for office in item.offices]}

    def _fixed(self, item: Item) -> dict[str, Any]:
        if item.code not in self._made:
            self._made[item.code] = _fixed(item)
        return self._made[item.code]

    def _place(self, item: Item, office: Office) -> dict[str, Any]:
        block = self._block_of(item.code, office.region)
        if block is None:
            return {**asdict(office), "state": "open", "since": None, "changed": []}
        return {**asdict(office), "state": block.word, "since": block.since, "changed": block.changed}


def _wanted(request: web.Request, visible: Iterable[Item]) -> Item:
    code = request.match_info["code"]
    found = next((item for item in visible if item.code == code), None)
    if found is None:
        raise NotFound("There is no such item that you may file.", code="item.not_found")
    return found


def _answer(request: web.Request, value: Any, content_type: str = "application/json") -> web.Response:
    """Answer, or say that the caller has the answer already (304)."""
    body = orjson.dumps(value, option=orjson.OPT_UTC_Z)
    tag = hashlib.sha256(body).hexdigest()[:32]
    headers = {"Cache-Control": "private, no-cache", "ETag": f'"{tag}"'}
    if any(known.value in ("*", tag) for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=content_type, headers=headers)


def _fixed(item: Item) -> dict[str, Any]:
    return {
        "code": item.code,
        "name": dict(item.name),
        "domain": item.domain,
        "modes": list(item.modes),
        "min_assurance": item.min_assurance.name,
        "tolerance": item.tolerance,
        "form_schema": item.form_schema(),
        "fields": _with_names(item.fields),
        "materials": _with_names(item.materials),
        "parts": _with_names(item.parts),
    }


def _with_names(parts: Sequence[Any]) -> list[dict[str, Any]]:
    """Return dataclasses as JSON; `asdict` leaves tuples and mappings of texts as they are, which orjson takes."""
    return [asdict(part) for part in parts]
