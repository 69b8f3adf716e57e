"""The simulated authority of Hunan: what its README says, over the province of the ticket exchange.

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
        "userId": local_id("hunan", row["account"], 16),
        "userName": row["name"],
        "certificateType": row["id_type"],
        "certificateNumber": row["id_number"],
        "sex": row["sex"],
        "birthday": row["birth_date"],
        "mobile": row["mobile"],
        "netId": f"HN{local_id('hunan/net', row['account'], 30)}",
    }


def _company(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "corpId": local_id("hunan/company", row["corp_code"], 16),
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
    title="湖南省政务服务统一身份认证（模拟）",
    paths={
        "login": "/tacs-uc/login",
        "token": "/tacs-uc/ticket/token",
        "person": "/tacs-uc/naturalMan/info",
        "organisation": "/tacs-uc/corp/info",
        "logout": "/tacs-uc/logout",
    },
    methods={
        "PWD": ("账号密码", "1"),
        "SMS": ("短信验证码", "2"),
        "FACE": ("实人认证", "3"),
        "CERT": ("数字证书", "4"),
    },
    levels=("1", "2", "3", "4"),
    codes={"ok": "200", "ticket": "4001", "caller": "4003", "gone": "4004"},
    roles=("1", "2"),
    subject="userId",
    person=_person,
    company=_company,
    echo={"e_type": "2", "net_id_mode": "R04"},
)

CASES = Exchange(
    service="/gsp/pearl/exchange",
    materials="/gsp/pearl/files",
    area="430000",
    area_name="湖南省",
    department="湖南省数据局（沙箱）",
    department_code="11430000MBT4300034",
    shown="HNLZ:",
)
