"""The simulated authority of Jiangxi: what its README says, over the province of the ticket exchange.

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
        "userId": local_id("jiangxi", row["account"], 24),
        "name": row["name"],
        "certificateType": row["id_type"],
        "certificateNumber": row["id_number"],
        "sex": row["sex"],
        "birthday": row["birth_date"],
        "mobile": row["mobile"],
        "email": "无",
    }


def _company(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "corpId": local_id("jiangxi/company", row["corp_code"], 16),
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
    title="江西省统一身份认证系统（模拟）",
    paths={
        "login": "/jxuc/sso/login",
        "token": "/jxuc/sso/validate",
        "person": "/jxuc/user/natural",
        "organisation": "/jxuc/user/legal",
        "logout": "/jxuc/sso/logout",
    },
    methods={
        "01": ("账号密码", "RZ01"),
        "02": ("短信验证码", "RZ02"),
        "03": ("赣服通刷脸", "RZ03"),
        "04": ("eID", "RZ04"),
    },
    levels=("RZ01", "RZ02", "RZ03", "RZ04"),
    codes={"ok": "C10000", "ticket": "C20303", "caller": "C20102", "gone": "C20304"},
    roles=("J", "F"),
    subject="userId",
    person=_person,
    company=_company,
    raw_signature=True,
    cipher="der",
    suite="SM4-CBC-HMAC-SM3",
    echo={"version": "1.0"},
)

CASES = Exchange(
    service="/jxzw/exchange",
    materials="/jxzw/files",
    area="360000",
    area_name="江西省",
    department="江西省政务服务办公室（沙箱）",
    department_code="11360000MBT3600091",
    asks=False,
    results=False,
    shown="JXLZ:",
    issued=("data", "code"),
    notices=False,
)
