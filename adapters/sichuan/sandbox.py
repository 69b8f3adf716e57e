"""The simulated authority of Sichuan: what its README says, over the province of the ticket exchange.

Owns: the province's own words and fields. Leaves to `gateway.sandbox.ticket_authority`: the contract of sign-on, which
six provinces share; to `gateway.sandbox.province_authority`: that of cases, which eight share. Shares no code with
`adapter.py`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.sandbox.authority import AuthoritySettings
from gateway.sandbox.province_authority import Exchange, join_exchange
from gateway.sandbox.ticket_authority import Clock, Traits, build_ticket_authority, local_id


def build_authority(settings: AuthoritySettings, clock: Clock = time.time) -> web.Application:
    """Return the authority. `clock` gives Unix seconds. Raises ValueError naming every secret that is missing."""
    return join_exchange(build_ticket_authority(settings, TRAITS, clock), settings, CASES, clock)


def _person(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "uid": local_id("sichuan", row["account"], 20),
        "name": row["name"],
        "idType": row["id_type"],
        "idNumber": row["id_number"],
        "gender": row["sex"],
        "birthdate": row["birth_date"],
        "phone_number": row["mobile"],
    }


def _company(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "corpUid": local_id("sichuan/company", row["corp_code"], 16),
        "corpName": row["corp_name"],
        "codeType": "001",
        "creditCode": row["corp_code"],
        "areaCode": f"{row['area']}000000",
        "legalPersonName": row["corp_head"],
        "legalPersonCertificateType": "111",
        "legalPersonCertificateNumber": row["corp_head_number"],
        "agentId": _person(row)["uid"],
        "agentName": row["name"],
        "agentCertificateType": row["id_type"],
        "agentCertificateNumber": row["id_number"],
        "agentMobile": row["mobile"],
        "agentRole": "经办人" if row["acts_as"] == "handler" else "法定代表人",
    }


TRAITS = Traits(
    title="四川省政务服务统一身份认证（模拟）",
    paths={
        "login": "/sso/login",
        "token": "/sso/api/ticket",
        "person": "/sso/api/person",
        "organisation": "/sso/api/legal",
        "logout": "/sso/api/logout",
    },
    methods={
        "password": ("账号密码", "L1"),
        "scan": ("天府通办扫码", "L2"),
        "ukey": ("数字证书", "L3"),
    },
    levels=("L1", "L2", "L3"),
    codes={"ok": "0", "ticket": "1101", "caller": "1001", "gone": "1104"},
    roles=("agent", "legal"),
    subject="uid",
    person=_person,
    company=_company,
    raw_signature=True,
)

CASES = Exchange(
    service="/zwfw/share/exchange",
    materials="/zwfw/share/files",
    area="510000",
    area_name="四川省",
    department="四川省数据局（沙箱）",
    department_code="11510000MBT510003M",
    shown="SCLZ:",
)
