"""The items (政务服务事项) of the simulated authority of Guangdong (README.md, "Items").

Owns: the seeded items in the columns of the item library, page by page, and what can be made of the first of them on
request. Leaves to others: signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from adapters.guangdong.sandbox_cases import beijing, refusal
from adapters.guangdong.sandbox_signature import Clock
from gateway.sandbox.authority import Misbehaviour

MODES: Mapping[str, str] = {
    "item_suspended": "says in its next list of items that nobody may apply for the first of them",
    "item_changed": "gives the first item another name, version, time and promised limit in its next list of items",
}
"""What this list can be told to do."""

_LARGEST_PAGE = 200
_LAST_CHANGE = "20260101000000"
_WAYS = {"window": "1", "online": "2", "collect": "3", "joint": "4"}


@dataclass(frozen=True, slots=True)
class ItemList:
    """Lists the items that the province handles."""

    items: Sequence[Mapping[str, Any]]
    misbehaviour: Misbehaviour
    clock: Clock

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of README.md, "Items"."""
        return [web.get("/ebus/pearl/v1/items", self._show)]

    async def _show(self, request: web.Request) -> web.Response:
        number, size = (_count(request.query.get(name)) for name in ("pageNo", "pageSize"))
        if number is None or size is None or size > _LARGEST_PAGE:
            return refusal(422, f"pageNo and pageSize are whole numbers from 1 on, pageSize at most {_LARGEST_PAGE}")
        rows = [_row(item) for item in self.items]
        self._as_told(rows)
        page = rows[(number - 1) * size : number * size]
        return web.json_response({"code": "200", "message": "ok", "data": {"total": len(rows), "rows": page}})

    def _as_told(self, rows: list[dict[str, Any]]) -> None:
        """Do to the first item what was ordered."""
        now = beijing(self.clock)
        for mode, change in {"item_suspended": _suspended, "item_changed": _changed}.items():
            if rows and self.misbehaviour.due(mode):
                rows[0] |= change(rows[0], now)


def _suspended(_row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    return {"SFZT": "1", "GXSJ": f"{now:%Y%m%d%H%M%S}"}


def _changed(row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    said = {"SXMC": f"{row['SXMC']}（修订）", "SXBBH": "2", "GXSJ": f"{now:%Y%m%d%H%M%S}"}
    return {**said, "CNBJSX": row["CNBJSX"] + 1}


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and 0 < int(text) < 10**6 else None


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    office = next(each for each in item["office"] if each["region"] == "guangdong")
    row: dict[str, Any] = {
        "SXBM": item["code"],
        "SXBBH": "1",
        "SXMC": item["name"]["zh-CN"],
        "XZQHDM": f"{office['code']:0<12}",
        "BMMC": "广东省测试局",
        "BMZZJGDM": item["code"][:18],
        "BLXS": ";;".join(_WAYS[mode] for mode in item["modes"]),
        "SMDJ": f"L{item['min_assurance'].removeprefix('A')}",
        "SFRQ": _yes(item.get("tolerance")),
        "SFZT": "0",
        "CNBJSX": office["promised_days"],
        "CNBJSXDW": office["limit_unit"],
        "FDBJSX": office["statutory_days"],
        "FDBJSXDW": office["limit_unit"],
        "GXSJ": _LAST_CHANGE,
    }
    return row | _columns(item["material"], _MATERIAL) | _columns(item["field"], _FIELD)


_MATERIAL: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "CLBM": lambda each: each["code"],
    "CLMC": lambda each: each["name"]["zh-CN"],
    "CLSFBY": lambda each: _yes(each.get("required")),
    "CLSFKRQ": lambda each: _yes(each.get("deferrable")),
    "ZZLXDM": lambda each: each.get("certificate_type", ""),
}
_FIELD: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "BDXBM": lambda each: each["id"],
    "BDXMC": lambda each: each["label"]["zh-CN"],
    "BDXSFBT": lambda each: _yes(each.get("required")),
}


def _columns(
    each_of: Sequence[Mapping[str, Any]], columns: Mapping[str, Callable[[Mapping[str, Any]], str]]
) -> dict[str, str]:
    """Write a list as texts that stand side by side, joined by `;;`; a column in which nothing stands is left out."""
    written = {name: [say(each) for each in each_of] for name, say in columns.items()}
    return {name: ";;".join(texts) for name, texts in written.items() if any(texts)}


def _yes(value: object) -> str:
    return "1" if value else "0"
