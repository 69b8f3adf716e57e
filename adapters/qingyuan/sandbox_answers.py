"""What the simulated Qingyuan knows besides cases: the certificates that it issued, and the files of its items.

Owns: finding a certificate by its right holder or its identifier, questions that are answered later, files, and the CSV
files. Leaves to `gateway.sandbox.issued` what became of a certificate; seals and operations to others. Written from
`README.md` and the formats that it names.
"""

from __future__ import annotations

import csv
import hashlib
import io
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any

from lxml import etree

from adapters.qingyuan.sandbox_rules import Record
from adapters.qingyuan.sandbox_wire import element
from gateway.sandbox.authority import Notebook
from gateway.sandbox.issued import MEDIA_TYPE, UNKNOWN_STATUS, Row
from gateway.sandbox.issued import Register as Issued

_CHINA = timezone(timedelta(hours=8))
_HOLDER_CODES = {
    "CN_RIC": "111",
    "USCC": "001",
    "PASSPORT": "414",
    "HM_PERMIT": "516",
    "TW_PERMIT": "511",
    "FPR": "553",
    "HK_BRN": "099",
}
_STATES = {"VALID": "01", "SUSPENDED": "02", "REVOKED": "03", "CANCELLED": "04", "EXPIRED": "05", "MOVED": "06"}
_WORDS = {
    "0": "成功",
    "10": "没有符合条件的证照",
    "12": "必填项为空",
    "13": "证照类型不存在",
    "21": "证照已撤销或注销",
    "22": "证照已失效",
    "23": "证照限制使用",
    "24": "证照已被替代",
}
_NO_FILE = {"revoked": "21", "cancelled": "21", "expired": "22", "suspended": "23", "superseded": "24", "moved": "24"}
_DOTS = str.maketrans(dict.fromkeys("•‧・．.", "·"))


class Register:
    """The certificates that Qingyuan issued, and open questions about them."""

    def __init__(self, notebook: Notebook, issued: Issued, clock: Callable[[], datetime]) -> None:
        self._notebook = notebook
        self._issued = issued
        self._clock = clock

    # --- questions -------------------------------------------------------------------------------------------------

    def ask(self, query: Record) -> str:
        """Take a question by holder; return its number."""
        return self._note("data", *self._look_up(query))

    def ask_by_name(self, query: Record) -> str:
        """Take a question by identifier; return its number."""
        return self._note("data", *self._named(query))

    def ask_for_file(self, query: Record) -> str:
        """Take a question for a file; return its number. Of what is not in force there is none."""
        status, found = self._named(query)
        if found:
            today = self._clock().astimezone(_CHINA).date()
            status = _NO_FILE.get(self._issued.worth(self._issued.all()[found[0]], today), status)
        return self._note("file", status, found if status == "0" else [])

    def _note(self, kind: str, status: str, found: list[int]) -> str:
        """Write a question down: what is kept is its answer, as numbers of rows, and no person."""
        number = f"CX{self._notebook.count('counters', 'question'):010d}"
        self._notebook.put("questions", number, {"kind": kind, "status": status, "rows": found, "asked": 0})
        return number

    def _named(self, query: Record) -> tuple[str, list[int]]:
        needed = [query[each] for each in ("ZZBS", "YZSY", "YZDW", "YZRY", "BJBH")]
        if not all(text.strip() for text in [*needed, query["SX"]["text"]]):
            return "12", []
        found = [n for n, row in enumerate(self._issued.all()) if row["identifier"] == query["ZZBS"]]
        return ("0", found) if found else ("10", [])

    def _look_up(self, query: Record) -> tuple[str, list[int]]:
        kind, name = query["ZZLX"]["@ZZLXDM"], query["ZZLX"]["text"]
        needed = [query[each] for each in ("CZZT", "CZZTDM", "CZZTDMLXDM", "YZSY", "YZDW", "YZRY", "BJBH")]
        if not all(text.strip() for text in [*needed, query["SX"]["text"], kind or name]):
            return "12", []
        rows = self._issued.all()
        of_type = [n for n, r in enumerate(rows) if kind in ("", r["type_code"]) and name in ("", r["type_name"])]
        if not of_type:
            return "13", []
        found = [n for n in of_type if _is_held_by(rows[n], query)]
        return ("0", found) if found else ("10", [])

    # --- answers ---------------------------------------------------------------------------------------------------

    def answer(self, number: str) -> etree._Element | None:
        """Return the answer to a question that there is; None at the first time of asking: it is not ready yet.

        Raises KeyError for a question that there is not.
        """
        kept = self._kept(number)
        self._notebook.put("questions", number, {**kept, "asked": kept["asked"] + 1})
        if kept["asked"] == 0:
            return None
        if self._issued.wrong.due("unknown_status"):
            return element("ZZJG", ZT=UNKNOWN_STATUS, XX="?")
        rows = self._rows(kept)
        written = [self._announced(row) for row in rows] if kept["kind"] == "file" else [
            _certificate(self._issued.told(row)) for row in rows
        ]  # fmt: skip
        return element("ZZJG", *written, ZT=kept["status"], XX=_WORDS[kept["status"]])

    def file(self, number: str) -> bytes | None:
        """Return the file that a question was for, once it was answered. Raises KeyError as `answer` does."""
        kept = self._kept(number)
        if kept["kind"] != "file" or not kept["rows"] or kept["asked"] < 2:
            return None
        return self._issued.file(self._rows(kept)[0])

    def _announced(self, row: Row) -> etree._Element:
        """Return what is said of a file before it is fetched."""
        content = self._issued.file(row)
        digest = hashlib.sha256(content).hexdigest()
        return etree.Element("ZZWJ", ZZBS=row["identifier"], WJLX=MEDIA_TYPE, WJDX=str(len(content)), WJZY=digest)

    def _kept(self, number: str) -> Record:
        kept: Record | None = self._notebook.get("questions", number)
        if kept is None:
            raise KeyError(number)
        return kept

    def _rows(self, kept: Record) -> list[Row]:
        rows = self._issued.all()
        return [rows[number] for number in kept["rows"]]


def _is_held_by(row: Mapping[str, Any], query: Record) -> bool:
    return (
        _plain(row["holder_name"]) == _plain(query["CZZT"])
        and _holder_code(row) == query["CZZTDMLXDM"]
        and row["holder_id_number"].upper() == query["CZZTDM"].strip().upper()
    )


def _plain(name: str) -> str:
    """Return a name for comparing only: NFKC, no spaces, one kind of middle dot."""
    return "".join(unicodedata.normalize("NFKC", name).split()).translate(_DOTS).casefold()


def _holder_code(row: Mapping[str, Any]) -> str:
    return _HOLDER_CODES.get(row["holder_id_type"], "999")


def _certificate(row: Mapping[str, Any]) -> etree._Element:
    texts = {
        "ZZBS": row["identifier"],
        "ZZMC": row["type_name"],
        "ZZBH": row["number"],
        "ZZLXDM": row["type_code"],
        "ZZBFJG": row["issuer_name"],
        "ZZBFJGDM": row["issuer_code"],
        "ZZBFRQ": _milliseconds(row["issued_on"]),
        "ZZYXQQSRQ": _milliseconds(row["valid_from"]),
        "ZZYXQJZRQ": _milliseconds(row["valid_to"]) if row.get("valid_to") else "长期",
        "CZZT": row["holder_name"],
        "CZZTDM": row["holder_id_number"],
        "CZZTDMLXDM": _holder_code(row),
        "ZZZT": _STATES.get(str(row["state"]).upper(), "99"),
        **({"GLZZBS": row["replaced_by"]} if row.get("replaced_by") else {}),
    }
    surface = row.get("surface") or {}
    return element("ZZ", *([_printed(surface)] if surface else []), **texts)


def _printed(surface: Mapping[str, str]) -> etree._Element:
    """Return what else is printed on a certificate."""
    printed = etree.Element("ZMXX")
    for name, value in surface.items():
        etree.SubElement(printed, "ZMX", MC=name).text = value
    return printed


def _milliseconds(day: str) -> str:
    """Return midnight in Beijing of a day, in milliseconds since 1970."""
    midnight = datetime.combine(date.fromisoformat(day), datetime.min.time(), _CHINA)
    return str(int(midnight.timestamp() * 1000))


def item_files(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the files of the items, each as base64 of a CSV in GB 18030."""
    rows = sorted(items, key=lambda item: str(item["code"]))
    return [b64encode(_csv(item).encode("gb18030")).decode("ascii") for item in rows]


def _csv(item: Mapping[str, Any]) -> str:
    office = next(each for each in item["office"] if each["region"] == "qingyuan")
    unit = {"G": "工作日", "Z": "自然日"}[office["limit_unit"]]
    modes = {"online": "全程网办", "collect": "代收代办"}
    materials = item["material"]
    row = {
        "事项编码": item["code"],
        "事项名称": item["name"]["zh-CN"],
        "行政区划": f"{office['code']}000",
        "实施机构": "清远市政务服务和数据管理局（沙箱）",
        "机构代码": "11441800MBT418004B",
        "办理形式": "|".join(modes[mode] for mode in item["modes"]),
        "暂停办理": "否",
        "承诺时限": f"{office['promised_days']}/{unit}",
        "法定时限": f"{office['statutory_days']}/{unit}",
        "材料编码": "|".join(each["code"] for each in materials),
        "材料名称": "|".join(each["name"]["zh-CN"] for each in materials),
        "材料必要性": "|".join("必要" if each.get("required") else "非必要" for each in materials),
        "可否容缺": "|".join("是" if each.get("deferrable") else "否" for each in materials),
        "更新时间": "2026-03-10 09:30:00",
    }
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(row))
    writer.writeheader()
    writer.writerow(row)
    return out.getvalue()
