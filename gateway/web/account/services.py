"""What the account pages need from the rest of the gateway, as one bundle.

Owns: the signatures. Leaves to `gateway.identity`: the work behind them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from gateway.crypto.at_rest import References, Sealer
from gateway.domain.item import Item
from gateway.domain.region import RegionNames
from gateway.identity.accounts import Accounts
from gateway.identity.linking import Linking
from gateway.identity.mandates import Mandates
from gateway.identity.persons import PersonVault
from gateway.identity.records import Session
from gateway.ports import Clock


@dataclass(frozen=True, slots=True)
class AccountServices:
    """Everything that the account pages are lent. `issuer` is the gateway's own public address."""

    issuer: str
    live_session: Callable[[str | None], Awaitable[Session | None]]
    """The provider's session behind the handle in the browser's cookie."""
    used: Callable[[Session], Awaitable[None]]
    """Notes that the person was here, so that the session is not idle."""
    vault: PersonVault
    accounts: Accounts
    mandates: Mandates
    linking: Linking
    items: Mapping[str, Item]
    region_names: Mapping[str, RegionNames]
    client_name: Callable[[str], Awaitable[str]]
    """The name of a service by its id; the id itself for one that is registered no more."""
    references: References
    sealer: Sealer
    clock: Clock
    session_life: timedelta
    """How long a session lasts, so that the pages can say when one began."""
