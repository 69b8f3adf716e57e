"""The simulated authority of Hainan: a second, independent reading of README.md beside this file.

Owns: what is Hainan's in its OpenID Provider: addresses, methods, claims, the words of the page. Leaves to
`gateway.sandbox.openid` the standard. Shares no code with `adapter.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from gateway.sandbox.authority import AuthoritySettings
from gateway.sandbox.openid import Method, Paths, Profile, open_provider
from gateway.sandbox.openid_page import Words
from gateway.sandbox.province_authority import Exchange, join_exchange

_PATHS = Paths("/uc/oauth2/auth", "/uc/oauth2/token", "/uc/oauth2/userinfo", "/uc/oauth2/keys", "/uc/oauth2/logout")

_METHODS = {
    "password": Method("L1", ("pwd",), ("password",)),
    "face": Method("L2", ("face",), ("password",)),
    "certificate": Method("L3", ("swk",), ("password",)),
}
"""Face and certificate are confirmed in the person's app, which the sandbox takes as done."""

_WORDS = (
    Words(
        language="zh-Hans",
        title="海南省统一身份认证平台",
        simulated="模拟系统，只有虚构账户。",
        account="账号",
        password="密码",  # noqa: S106 - the label of the field
        code="动态码（本平台不需要）",
        method="认证方式",
        sign_in="登录",
        go_on="以当前登录继续：",
        wrong="账号、密码或认证方式不正确。",
        sign_out="退出",
        signed_out="已退出。",
        methods={"password": "账号密码", "face": "刷脸", "certificate": "数字证书"},
    ),
    Words(
        language="en",
        title="Hainan unified identity",
        simulated="Simulated authority, synthetic accounts only.",
        account="Account",
        password="Password",  # noqa: S106 - the label of the field
        code="One-time code (not needed here)",
        method="Method",
        sign_in="Sign in",
        go_on="Go on as",
        wrong="Wrong account, password or method.",
        sign_out="Sign out",
        signed_out="Signed out.",
        methods={"password": "password", "face": "face", "certificate": "digital certificate"},
    ),
)

_CLAIMS: Mapping[str, str] = {
    "name": "name",
    "idType": "id_type",
    "idNumber": "id_number",
    "gender": "sex",
    "birthdate": "birth_date",
    "phone_number": "mobile",
    "email": "mail",
}
"""Claim → what it is called in the seed."""


CASES = Exchange(
    service="/hnzw/exchange",
    materials="/hnzw/files",
    area="460000",
    area_name="海南省",
    department="海南省政务服务局（沙箱）",
    department_code="11460000MBT46000X8",
    suite="ES256",
    unheard=("sendRating",),
    shown="HILZ:",
)


def build_authority(settings: AuthoritySettings, clock: Callable[[], float] = time.time) -> web.Application:
    """Return the authority. `clock` gives Unix seconds. Raises KeyError or ValueError for a missing secret."""
    profile = Profile(_PATHS, _METHODS, "face", _WORDS, _person, discovery=True)
    return join_exchange(open_provider(settings, profile, clock), settings, CASES, clock)


def _person(person: Mapping[str, Any]) -> dict[str, Any]:
    return {"userType": 1, **{claim: person[name] for claim, name in _CLAIMS.items() if name in person}}
