"""The simulated authority of Fujian: what its README says, over the province of the ticket exchange.

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
        "uid": f"FJ-PEARL-{local_id('fujian/pearl', row['account'], 12)}",
        "userName": row["name"],
        "idType": row["id_type"],
        "idNumber": row["id_number"],
        "gender": row["sex"],
        "birthday": row["birth_date"],
        "mobile": row["mobile"],
    }


def _company(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "corpUid": local_id("fujian/company", row["corp_code"], 16),
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
    title="福建省社会用户实名认证和授权平台（模拟）",
    paths={
        "login": "/auth/login",
        "token": "/auth/ticket",
        "person": "/auth/person",
        "organisation": "/auth/legal",
        "logout": "/auth/logout",
    },
    methods={
        "PWD": ("账号密码", "LV1"),
        "MZT": ("闽政通扫码", "LV2"),
        "CA": ("数字证书", "LV3"),
    },
    levels=("LV1", "LV2", "LV3"),
    codes={"ok": "1", "ticket": "-3", "caller": "-1", "gone": "-4"},
    roles=("3", "1"),
    subject="uid",
    person=_person,
    company=_company,
    our_id=b"fujian-sso@fj",
)

CASES = Exchange(
    service="/exchange/service",
    materials="/exchange/files",
    area="350000",
    area_name="福建省",
    department="福建省数据管理局（沙箱）",
    department_code="11350000MBT350003J",
    our_id=b"fujian-cases@fj",
    shown="FJLZ:",
)
