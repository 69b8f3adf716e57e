"""The simulated authority of Macau: the common account (一戶通), a second, independent reading of README.md beside it.

Owns: what is Macau's in its OpenID Provider: addresses, factors, claims, the words of the page. Leaves to
`gateway.sandbox.openid` the standard, to `sandbox_cases` the exchange of cases, to
`sandbox_matching` certificates. Shares no code with `adapter.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from adapters.macau.sandbox_cases import TRAITS
from adapters.macau.sandbox_matching import Matching
from gateway.sandbox.authority import AuthoritySettings
from gateway.sandbox.exchange_authority import mount
from gateway.sandbox.issued import OF_MATCHING
from gateway.sandbox.openid import Method, Paths, Profile, open_provider
from gateway.sandbox.openid_page import Words

_PATHS = Paths("/oidc/authorize", "/oidc/token", "/oidc/userinfo", "/oidc/jwks", "/oidc/logout")

_METHODS = {
    "senha": Method("palavra-passe", ("pwd",), ("password",)),
    "otp": Method("otp", ("pwd", "otp"), ("password", "otp")),
    "rosto": Method("rosto", ("pwd", "face"), ("password",)),
    "nuvem": Method("assinatura", ("pwd", "swk"), ("password",)),
}
"""Face and cloud signature are confirmed in the person's app, which the sandbox takes as done."""

_WORDS = (
    Words(
        language="zh-Hant",
        title="澳門公共服務一戶通",
        simulated="模擬系統，只有虛構帳戶。",
        account="帳戶",
        password="密碼",  # noqa: S106 - the label of the field
        code="一次性密碼（只在選用時填寫）",
        method="驗證方式",
        sign_in="登入",
        go_on="以現有登入繼續：",
        wrong="帳戶、密碼或驗證方式不正確。",
        sign_out="登出",
        signed_out="已登出。",
        methods={"senha": "只用密碼", "otp": "密碼及一次性密碼", "rosto": "密碼及人臉識別", "nuvem": "雲簽"},
        business="代表商社登入（商社通）",
    ),
    Words(
        language="pt",
        title="Conta única de acesso comum",
        simulated="Sistema simulado, apenas contas fictícias.",
        account="Conta",
        password="Palavra-passe",  # noqa: S106 - the label of the field
        code="Código de uso único (só quando escolhido)",
        method="Modo de autenticação",
        sign_in="Entrar",
        go_on="Continuar como",
        wrong="Conta, palavra-passe ou modo de autenticação incorrectos.",
        sign_out="Sair",
        signed_out="Sessão terminada.",
        methods={
            "senha": "só palavra-passe",
            "otp": "palavra-passe e código de uso único",
            "rosto": "palavra-passe e reconhecimento facial",
            "nuvem": "assinatura na nuvem",
        },
        business="Entrar em nome de uma empresa",
    ),
    Words(
        language="en",
        title="Macao One Account",
        simulated="Simulated authority, synthetic accounts only.",
        account="Account",
        password="Password",  # noqa: S106 - the label of the field
        code="One-time code (only where it is chosen)",
        method="Method",
        sign_in="Sign in",
        go_on="Go on as",
        wrong="Wrong account, password or method.",
        sign_out="Sign out",
        signed_out="Signed out.",
        methods={
            "senha": "password alone",
            "otp": "password and one-time code",
            "rosto": "password and face",
            "nuvem": "cloud signature",
        },
        business="Sign in for a business",
    ),
)

_CLAIMS: Mapping[str, str] = {
    "name_zh": "name_zh",
    "name": "name",
    "family_name": "family_name",
    "given_name": "given_name",
    "birthdate": "birth_date",
    "gender": "sex",
    "doc_type": "doc_type",
    "doc_no": "doc_no",
    "phone_number": "mobile",
    "email": "mail",
}
"""Claim → what it is called in the seed."""


def build_authority(settings: AuthoritySettings, clock: Callable[[], float] = time.time) -> web.Application:
    """Return the authority. `clock` gives Unix seconds. Raises KeyError for a missing secret."""
    profile = Profile(
        paths=_PATHS,
        methods=_METHODS,
        usual="otp",
        words=_WORDS,
        claims=_person,
        business=_business,
        says_issuer=True,
        demands=True,
    )
    app = open_provider(settings, profile, clock)
    door = mount(app, settings, TRAITS, clock)
    door.wrong.known = {**door.wrong.known, **OF_MATCHING}
    app.router.add_post("/v1/certificates/query", door.to(Matching(settings.certificates, door, clock).answer))
    return app


def _person(person: Mapping[str, Any]) -> dict[str, Any]:
    told = {claim: person[name] for claim, name in _CLAIMS.items() if name in person}
    return {**told, "account_type": "SINGULAR", "updated_at": 1_772_000_000}


def _business(person: Mapping[str, Any]) -> dict[str, Any]:
    return {"entidade": person["business"], "qualidade": person["capacity"]}
