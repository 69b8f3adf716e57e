"""Access tokens that were verified a moment ago: a client that calls a hundred times a second is asked once in a while.

Owns: for how long an earlier answer may be used. Never after the token's own end. Never once it was revoked, or its
sign-on ended, in this process (`revocations` sees to that, after the commit and before the answer). Never longer
than `STALENESS` after it was revoked by another replica. Leaves verifying to `tokens`, the question whether a token
stands to the store, and the proof that comes with a bound token to `proofs`: each proof is checked by itself.

An answer of the store is as old as the question: `begin` is called before the store is asked, and what was forgotten
since then is not remembered.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gateway.ports import Clock

STALENESS = 5.0
"""Seconds for which an answer of the store is used again. So late at most is the revocation by another replica felt."""
SIZE = 10_000
"""Tokens that are remembered, the latest ones; some 2 KiB each."""


def grant(family_id: str) -> str:
    """Return the name under which everything of a token family is forgotten."""
    return f"grant\x1f{family_id}"


def token_id(jti: str) -> str:
    """Return the name under which one token is forgotten."""
    return f"jti\x1f{jti}"


def session(session_id: str) -> str:
    """Return the name under which everything of a person's session is forgotten."""
    return f"session\x1f{session_id}"


def client(client_id: str) -> str:
    """Return the name under which everything of a client is forgotten."""
    return f"client\x1f{client_id}"


@dataclass(frozen=True, slots=True)
class Question:
    """When the store was asked (monotonic seconds), and what had been forgotten until then."""

    began: float
    generation: int


@dataclass(frozen=True, slots=True)
class _Entry:
    claims: Mapping[str, Any]
    expires_at: float  # the token's own end, seconds since 1970
    stale_at: float  # when the store must be asked again, monotonic seconds
    names: frozenset[str]


class VerifiedTokens:
    """A bounded memory of tokens by their SHA-256: the tokens themselves, which open doors, are not kept."""

    def __init__(self, clock: Clock, monotonic: Callable[[], float], size: int = SIZE) -> None:
        """`clock` tells when tokens end. `monotonic` tells how old an answer is, whatever happens to the clock."""
        self._clock = clock
        self._monotonic = monotonic
        self._size = size
        self._entries: dict[bytes, _Entry] = {}
        self._named: dict[str, set[bytes]] = {}
        self._generation = 0

    def __len__(self) -> int:
        return len(self._entries)

    def standing(self, token: str) -> Mapping[str, Any] | None:
        """Return the claims of a token that was found to stand a moment ago; None: ask the store."""
        entry = self._entries.get(_key(token))
        if entry is None or entry.expires_at <= self._clock().timestamp() or entry.stale_at <= self._monotonic():
            return None
        return entry.claims

    def signed(self, token: str) -> Mapping[str, Any] | None:
        """Return the claims of a token whose signature was verified before; whether it stands is for the store."""
        entry = self._entries.get(_key(token))
        return None if entry is None or entry.expires_at <= self._clock().timestamp() else entry.claims

    def begin(self) -> Question:
        """Note that the store is about to be asked."""
        return Question(self._monotonic(), self._generation)

    def remember(self, question: Question, token: str, claims: Mapping[str, Any], names: Iterable[str] = ()) -> None:
        """Remember that the store found a verified token to stand.

        `names` are those of the session and whatever else the claims do not tell. Nothing is kept when something was
        forgotten since the question: it may have been this.
        """
        if question.generation != self._generation:
            return
        key = _key(token)
        self._drop(key)
        named = frozenset([*names, *_names(claims)])
        kept = MappingProxyType(dict(claims))
        self._entries[key] = _Entry(kept, float(claims["exp"]), question.began + STALENESS, named)
        for name in named:
            self._named.setdefault(name, set()).add(key)
        while len(self._entries) > self._size:
            self._drop(next(iter(self._entries)))

    def remember_signed(self, token: str, claims: Mapping[str, Any]) -> None:
        """Remember that we signed a token, and nothing of whether it stands: that is asked anew each time."""
        if _key(token) not in self._entries:
            self.remember(Question(-math.inf, self._generation), token, claims)

    def forget(self, *names: str) -> None:
        """Use nothing of these again. Called after the commit that revoked them, before anybody is told that it did."""
        self._generation += 1
        for name in names:
            for key in tuple(self._named.get(name, ())):
                self._drop(key)

    def forget_everything(self) -> None:
        """Use nothing of what is remembered again: something was revoked, and asking anew costs little."""
        self._generation += 1
        self._entries.clear()
        self._named.clear()

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        for name in entry.names if entry else ():
            keys = self._named[name]
            keys.discard(key)
            if not keys:
                del self._named[name]


def _names(claims: Mapping[str, Any]) -> Iterable[str]:
    """Return the names that a token's own claims give it."""
    makers = {"jti": token_id, "grant_id": grant, "client_id": client}
    return (make(str(claims[claim])) for claim, make in makers.items() if claim in claims)


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
