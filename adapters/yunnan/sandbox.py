"""The simulated authority of Yunnan: what its README says, over the province of the ticket exchange.

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
        "userId": local_id("yunnan", row["account"], 16),
        "userName": row["name"],
        "certificateType": row["id_type"],
        "certificateNumber": row["id_number"],
        "sex": row["sex"],
        "birthday": row["birth_date"],
        "mobile": row["mobile"],
    }


def _company(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "corpId": local_id("yunnan/company", row["corp_code"], 16),
        "enterpriseName": row["corp_name"],
        "codeType": "001",
        "creditCode": row["corp_code"],
        "areaCode": f"{row['area']}000000",
        "legalPersonName": row["corp_head"],
        "legalPersonCertificateType": "111",
        "legalPersonCertificateNumber": row["corp_head_number"],
        "agentId": _person(row)["userId"],
        "agentName": row["name"],
        "agentCertificateType": row["id_type"],
        "agentCertificateNumber": row["id_number"],
        "agentMobile": row["mobile"],
        "agentRole": "经办人" if row["acts_as"] == "handler" else "法定代表人",
    }


TRAITS = Traits(
    title="云南省政务服务统一身份认证（模拟）",
    paths={
        "login": "/portal/login",
        "token": "/portal/open/token",
        "person": "/portal/open/user",
        "organisation": "/portal/open/corp",
        "logout": "/portal/open/logout",
    },
    methods={
        "1": ("账号密码", "初级"),
        "2": ("身份证与手机号核验", "中级"),
        "3": ("办事通刷脸", "高级"),
    },
    levels=("初级", "中级", "高级"),
    codes={"ok": "0000", "ticket": "2001", "caller": "1003", "gone": "2004"},
    roles=("01", "02"),
    subject="userId",
    person=_person,
    company=_company,
    cipher="c1c2c3",
)

CASES = Exchange(
    service="/portal/open/exchange",
    materials="/portal/open/files",
    area="530000",
    area_name="云南省",
    department="云南省政务服务局（沙箱）",
    department_code="11530000MBT530004G",
    gateway_id=b"pearl-cases@yn",
    shown="YNLZ:",
)
