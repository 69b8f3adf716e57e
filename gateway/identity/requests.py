"""What an authorization request asks for beyond OAuth: prompt, age, level, and the parameters that we refuse.

Owns: reading and checking those (OpenID Connect Core §3.1.2.1, §5.5.1.1), and Authlib's request object over our form.
Leaves to `provider` the grants themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AccessDeniedError, InvalidRequestError, OAuth2Payload, OAuth2Request
from authlib.oidc.core.errors import (
    ConsentRequiredError,
    LoginRequiredError,
    RegistrationNotSupportedError,
    RequestNotSupportedError,
    RequestURINotSupportedError,
)

from gateway.domain.identity import Assurance
from gateway.identity.records import Session

LONGEST_VALUE = 2048
"""Characters that one parameter may have."""
SKEW = timedelta(seconds=30)
"""How far a region's clock may be from ours."""
PROMPTS = frozenset({"none", "login", "select_account", "consent"})
LEVELS: Mapping[str, Assurance] = {level.acr: level for level in Assurance}

KEPT = (
    "client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "code_challenge",
    "code_challenge_method", "claims", "id_token_hint", "max_age", "dpop_jkt",
)  # fmt: skip
"""What an interaction remembers. `prompt` and `acr_values` have done their work when the sign-on begins."""

_UNSUPPORTED: Mapping[str, type[OAuth2Error]] = {
    "request": RequestNotSupportedError,
    "request_uri": RequestURINotSupportedError,
    "registration": RegistrationNotSupportedError,
}
_ONCE = frozenset(
    {*KEPT, *_UNSUPPORTED, "prompt", "display", "ui_locales", "claims_locales", "login_hint", "acr_values"}
)
"""Every parameter of an authorization request that we know, whether we use it or not."""


_UNSPEAKABLE = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


def plain(text: str) -> str:
    """Return a text as an `error_description` may hold it (RFC 6749 §5.2): Authlib fails over any other character."""
    return _UNSPEAKABLE.sub("'", text)


class Form(OAuth2Payload):  # type: ignore[misc] # Authlib ships no types
    """Request parameters as Authlib wants them. One without a value counts as left out (RFC 6749 §3.1)."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._lists: dict[str, list[str]] = {}
        for name, value in pairs:
            if value:
                self._lists.setdefault(name, []).append(value)
        self._first = {name: values[0] for name, values in self._lists.items()}

    @property
    def data(self) -> dict[str, str]:
        """The first value of each parameter."""
        return self._first

    @property
    def datalist(self) -> Any:
        """All values of each parameter."""
        return self._lists


_BLANK = vars(OAuth2Request("GET", "https://gateway.invalid/"))
"""What Authlib's constructor sets. It asks the environment and parses the address each time; ours never changes."""


class ProtocolRequest(OAuth2Request):  # type: ignore[misc] # Authlib ships no types
    """Authlib's request over a form. It carries no address of ours: TLS is the deployment's matter, not Authlib's."""

    def __init__(self, method: str, form: Form, headers: Mapping[str, str] | None = None) -> None:
        self.__dict__.update(_BLANK)
        self.method, self.headers, self.payload = method, dict(headers or {}), form

    @property
    def form(self) -> dict[str, str]:
        """The parameters."""
        data: dict[str, str] = self.payload.data
        return data

    args = form


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the service wants of the sign-on. `levels` is empty unless an `acr` is essential.

    `preferred` is the level of a voluntary wish (`acr_values`): worth a new sign-on, but no reason to refuse what comes
    of it. `subjects` holds the pairwise names of those who may answer, None when anybody may. `prompt` are the words of
    that parameter; `claims` is what is asked for one by one (Core §5.5): where it is to go → claim → what is said of it
    """

    max_age: timedelta | None
    levels: frozenset[Assurance]
    subjects: frozenset[str] | None
    preferred: Assurance = Assurance.A0
    prompt: frozenset[str] = frozenset()
    claims: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)

    @property
    def fresh(self) -> bool:
        """Say whether the person must prove it now, whatever session there is."""
        return "login" in self.prompt or self.max_age is not None

    def only_by(self, subject: str) -> Wishes:
        """Return the same wishes, but only this person may answer."""
        subjects = frozenset({subject})
        return replace(self, subjects=subjects if self.subjects is None else subjects & self.subjects)

    def least(self) -> Assurance:
        """Return the level that a sign-on must reach."""
        return min(self.levels, default=Assurance.A0)

    def met_by(self, session: Session, now: datetime, since: datetime | None = None) -> bool:
        """Say whether this session is sure and fresh enough to answer without a new sign-on.

        `since` is set when the session came of the sign-on that this request began, and says when that was.
        """
        return self.fresh_enough(session, now, since) and session.assurance >= max(self.least(), self.preferred)

    def fresh_enough(self, session: Session, now: datetime, since: datetime | None = None) -> bool:
        """Say whether the person proved it recently enough (Core §3.1.2.1, max_age), or for this very request."""
        recent = self.max_age is None or now - session.authenticated_at < self.max_age
        return recent or (since is not None and proved_since(session, since))

    def acr_for(self, session: Session) -> str:
        """Return the `acr` to state: the level reached, or the highest demanded one that it covers.

        OpenID Connect Core §5.5.1.1 wants one of the demanded values, and whoever reached A3 also reached A2.
        """
        covered = [level for level in self.levels if level <= session.assurance]
        return max(covered, default=session.assurance).acr


_FRESH, _PREFER, _CONSENT = "pearl:fresh", "pearl:prefer", "pearl:consent"
"""Under these names an interaction keeps what is no parameter of a request, so that none can be taken for it."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What an interaction must remember of a request beside its parameters: how to go about the sign-on."""

    fresh: bool = False
    prefer: Assurance = Assurance.A0
    consent: bool = False

    @staticmethod
    def of(wishes: Wishes) -> Hints:
        """Return what to remember of these wishes."""
        return Hints(fresh=wishes.fresh, prefer=wishes.preferred, consent="consent" in wishes.prompt)

    @staticmethod
    def read(kept: Mapping[str, str]) -> Hints:
        """Return what an interaction remembers."""
        prefer = LEVELS.get(kept.get(_PREFER, ""), Assurance.A0)
        return Hints(fresh=_FRESH in kept, prefer=prefer, consent=_CONSENT in kept)

    def kept(self) -> dict[str, str]:
        """Return the form in which an interaction remembers it."""
        kept = {_FRESH: "1" if self.fresh else "", _CONSENT: "1" if self.consent else ""}
        return {**{name: value for name, value in kept.items() if value}, _PREFER: self.prefer.acr}


def proved_since(session: Session, since: datetime) -> bool:
    """Say whether the person proved it after this moment, as far as two clocks can tell."""
    return session.authenticated_at >= since - SKEW


def read_wishes(form: Form) -> Wishes:
    """Check an authorization request's further parameters. Raises OAuth2Error with the standard code."""
    data: dict[str, str] = form.data
    for name, error in _UNSUPPORTED.items():
        if name in data:
            raise error(f"The parameter {name} is not supported.")
    _check_form(form)
    if data.get("response_mode", "query") != "query":
        raise InvalidRequestError("The only response_mode is query.")
    asked = _asked_claims(data.get("claims"))
    return Wishes(
        max_age=_max_age(data.get("max_age")),
        levels=_essential_levels(asked["id_token"].get("acr", {})),
        subjects=_subjects(asked),
        preferred=_preferred(data.get("acr_values", "")),
        prompt=_prompt(data.get("prompt", "")),
        claims=asked,
    )


def _check_form(form: Form) -> None:
    for name, values in form.datalist.items():
        if name in _ONCE and len(values) > 1:
            raise InvalidRequestError(f"The parameter {name} stands more than once.")
        if name in _ONCE and (len(values[0]) > LONGEST_VALUE or not values[0].isprintable()):
            raise InvalidRequestError(f"The parameter {name} is too long or holds control characters.")


def _prompt(prompt: str) -> frozenset[str]:
    wanted = frozenset(prompt.split())
    if not wanted <= PROMPTS:
        raise InvalidRequestError("prompt must be none, login, consent or select_account.")
    return wanted


def _preferred(acr_values: str) -> Assurance:
    """Return the least of the levels that are wished for, in no obligation (Core §3.1.2.1)."""
    return min((LEVELS[value] for value in acr_values.split() if value in LEVELS), default=Assurance.A0)


def _max_age(value: str | None) -> timedelta | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise InvalidRequestError("max_age must be a number of seconds.")
    return timedelta(seconds=int(value))


def _asked_claims(claims: str | None) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Return the claims request (OpenID Connect Core §5.5): destination → claim → what is asked of it."""
    if claims is None:
        return {"id_token": {}, "userinfo": {}}
    try:
        asked = json.loads(claims)
        return {
            place: {name: dict(wish or {}) for name, wish in asked.get(place, {}).items()}
            for place in ("id_token", "userinfo")
        }
    except (ValueError, RecursionError, AttributeError, TypeError) as error:
        raise InvalidRequestError("claims is not a claims request of OpenID Connect Core 5.5.") from error


def _values(wish: Mapping[str, Any]) -> frozenset[str]:
    """Return the values that a claim may have; empty when none is named."""
    values = wish.get("values", [wish["value"]] if "value" in wish else [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InvalidRequestError("In claims, values must be a list of texts and value must be a text.")
    return frozenset(values)


def _essential_levels(acr: Mapping[str, Any]) -> frozenset[Assurance]:
    """Return the levels of an essential `acr`; voluntary wishes, `acr_values` included, bind nobody."""
    wanted = _values(acr)
    if acr.get("essential") is not True:
        return frozenset()
    known = frozenset(LEVELS[value] for value in wanted if value in LEVELS)
    if wanted and not known:
        raise unmet("The demanded acr is not one of this gateway's levels.")
    return known


def _subjects(asked: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> frozenset[str] | None:
    """Return the demanded values of `sub`; wherever it is asked for, it is the same person's."""
    demands = [values for claims in asked.values() if (values := _values(claims.get("sub", {})))]
    return frozenset.intersection(*demands) if demands else None


def unmet(text: str) -> OAuth2Error:
    """Return the refusal of an essential `acr` (OpenID Connect Unmet Authentication Requirements 1.0)."""
    return OAuth2Error(text, error="unmet_authentication_requirements")


def other_person() -> OAuth2Error:
    """Return the error for a sign-on by another person than the one asked for (Core §3.1.2.1, §3.1.2.2)."""
    return LoginRequiredError("Another person signed on than the one that the request names.")


def not_fresh() -> OAuth2Error:
    """Return the error for a region that let a person in by an older sign-on than `max_age` allows."""
    return LoginRequiredError("The region's sign-on is older than max_age allows.")


def consent_required() -> OAuth2Error:
    """Return the error for a request that will not have the person asked, who has not agreed yet (Core §3.1.2.6)."""
    return ConsentRequiredError("The person has not agreed yet that these claims go out.")


def refused() -> OAuth2Error:
    """Return the error for a person who went back without signing on (RFC 6749 §4.1.2.1)."""
    return AccessDeniedError("The person did not sign on.")
