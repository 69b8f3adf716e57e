"""The case that is handed in, and a hundred thousand or a million like it, made by the database itself.

Owns: the item and the application of 4 KB; multiplying one case that the gateway really took, with everything that
belongs to it. Leaves to the other modules: what is measured with them.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from sqlalchemy import Connection, Table, text

from gateway.storage.tables import case_clocks, deliveries, submission_events, submissions

REGION = "guangdong"
ITEM = "11440100MBT40100XX3442011899099"
FIELDS = 12
FORM_BYTES = 4096

_FIELD = '  {{ id = "f{n}", label = {{ zh-CN = "字段{n}", en = "Field {n}" }}, kind = "text" }},'

ITEM_FILE = f"""
[[item]]
code = "{ITEM}"
name = {{ zh-CN = "测量用事项", zh-HK = "測量用事項", en = "Item of the benchmark", pt = "Assunto da medição" }}
domain = "测量"
modes = ["collect"]
min_assurance = "A2"
field = [
{"".join(_FIELD.format(n=n) for n in range(FIELDS))}
]
material = []
office = [
  {{ region = "{REGION}", code = "440000", promised_days = 5, statutory_days = 20, limit_unit = "G" }},
]
"""


def application(reference: str) -> bytes:
    """Return an application whose form is 4 KB of JSON."""
    form = {f"f{n}": "x" for n in range(FIELDS)}
    missing = FORM_BYTES - len(orjson.dumps(form))
    each, more = divmod(missing, FIELDS)
    form = {name: "x" * (1 + each + (n < more)) for n, name in enumerate(form)}
    body = {
        "reference": reference, "item": ITEM, "place": REGION, "mode": "collect", "form": form, "materials": [],
        "applicant": {
            "kind": "person", "name": "陈小明", "document": {"type": "CN_RIC", "number": "44010619900101900X"},
            "birth_date": "1990-01-01", "sex": "F",
        },
        "purpose_code": "cross-region-service", "purpose": "Measuring", "legal_basis": "statutory duty",
    }  # fmt: skip
    return orjson.dumps(body)


# --- many of them --------------------------------------------------------------------------------------------------

_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT CAST(:first AS INTEGER) UNION ALL SELECT i + 1 FROM n WHERE i < :last)"
_DIGITS = "substr('0000000000', 1, 10 - length(CAST(n.i AS TEXT))) || CAST(n.i AS TEXT)"
_CASE = f"'KY-of-the-benchmark' || {_DIGITS}"
_FINISHED: Mapping[str, Mapping[str, str]] = {
    "submissions": {"state": "'COMPLETED'"},
    "deliveries": {"state": "'delivered'", "due": "NULL", "settled_at": "t.created_at"},
}
_WAITING: Mapping[str, Mapping[str, str]] = {
    "deliveries": {"state": "'pending'", "due": "t.created_at", "settled_at": "NULL", "attempt": "0"},
}
_ITS_OWN: Mapping[str, Mapping[str, str]] = {
    "submissions": {"id": _CASE, "client_reference": _CASE, "body": "substr(t.body, 1, 64)"},
    "deliveries": {"id": f"'DL' || {_CASE}", "submission_id": _CASE},
    "submission_events": {"submission_id": _CASE, "position": "n.i * 10 + t.seq + 1000000000"},
    "case_clocks": {"submission_id": _CASE},
}


def multiply(tx: Connection, case: str, first: int, last: int, *, finished: bool) -> None:
    """Write cases like this one, numbered from `first` to `last`; finished ones, or ones that wait for delivery.

    A body is cut to 64 bytes: nothing here reads it. Finished cases have no clocks: nobody looks at those any more.
    """
    if tx.dialect.name == "postgresql":
        tx.execute(text("SET LOCAL session_replication_role = replica"))  # the foreign keys are right by construction
    for table in (submissions, deliveries, submission_events, *(() if finished else (case_clocks,))):
        changed = {**_ITS_OWN[table.name], **(_FINISHED if finished else _WAITING).get(table.name, {})}
        key = "id" if table is submissions else "submission_id"
        tx.execute(text(_multiplied(table, key, changed)), {"first": first, "last": last, "case": case})


def drop_indexes(tx: Connection) -> None:
    """Drop what is no constraint, before very many cases are written."""
    for table in (submissions, deliveries, submission_events):
        for index in table.indexes:
            index.drop(tx)


def make_indexes(tx: Connection) -> None:
    """Make them anew."""
    for table in (submissions, deliveries, submission_events):
        for index in table.indexes:
            index.create(tx)


def _multiplied(table: Table, key: str, changed: Mapping[str, str]) -> str:
    names = [column.name for column in table.columns]
    values = [changed.get(name, f't."{name}"') for name in names]
    columns = ", ".join(f'"{name}"' for name in names)
    chosen = f"SELECT {', '.join(values)} FROM {table.name} t, n WHERE t.{key} = :case"  # noqa: S608 - no outsider's word
    return f"{_NUMBERS} INSERT INTO {table.name} ({columns}) {chosen}"
