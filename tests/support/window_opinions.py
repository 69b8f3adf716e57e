"""What the window's pages are lent for ratings, complaints and the file of a case, in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from gateway.domain.caller import Caller
from gateway.errors import GatewayError


@dataclass
class FakeOpinions:
    """What was said, in the order in which it was; `refusal` makes the next thing that is said fail."""

    said: list[Any] = field(default_factory=list)
    ratings: list[Any] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    refusal: GatewayError | None = None

    async def rate(self, _caller: Caller, _case: str, given: Any) -> None:
        """Take a rating."""
        self._take(given)

    async def correct(self, _caller: Caller, _case: str, role: str, correction: Any) -> None:
        """Take what was done about a bad one."""
        self._take((role, correction))

    async def complain(self, _caller: Caller, _case: str, complaint: Any) -> None:
        """Take a complaint."""
        self._take(complaint)

    async def of(self, _caller: Caller, case: str) -> Any:
        """Return the package of a case."""
        self._take(case)

        async def stream() -> AsyncIterator[bytes]:
            yield b"PK"

        return SimpleNamespace(manifest=SimpleNamespace(case=case, sha256=lambda: "0" * 64), stream=stream)

    def _take(self, said: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.said.append(said)
