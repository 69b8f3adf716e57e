"""The simulated authority of Guizhou: what its README says, over the province of the ticket exchange.

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
        "userId": local_id("guizhou", row["account"], 18),
        "userName": row["name"],
        "certificateType": row["id_type"],
        "certificateNumber": row["id_number"],
        "sex": row["sex"],
        "telephone": row["mobile"],
    }


def _company(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "corpId": local_id("guizhou/company", row["corp_code"], 16),
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
    title="贵州省政务服务统一身份认证（模拟）",
    paths={
        "login": "/uids/login",
        "token": "/uids/ticket/exchange",
        "person": "/uids/person",
        "organisation": "/uids/enterprise",
        "logout": "/uids/logout",
    },
    methods={
        "PWD": ("账号密码", "实名"),
        "FACE": ("刷脸", "实人"),
    },
    levels=("实名", "实人"),
    codes={"ok": "200", "ticket": "602", "caller": "401", "gone": "604"},
    roles=("经办人", "法定代表人"),
    subject="userId",
    person=_person,
    company=_company,
    suite="SM4-CBC-HMAC-SM3",
)

CASES = Exchange(
    service="/gzegn/exchange",
    materials="/gzegn/files",
    area="520000",
    area_name="贵州省",
    department="贵州省政务服务中心（沙箱）",
    department_code="11520000MBT5200094",
    shown="GZLZ:",
)
