"""How fresh what issuers say is, type by type (证照签发及时率): answers, how long they take, and what came late.

Owns: the figures by which an operator sees whether an issuer keeps the promise of 95 of 100 certificates in time.
A certificate is late when somebody looked for it in vain on or after the day of issue that it bears. Leaves to
`telemetry`: names and forms of the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.certificates.types import CertificateType
from gateway.domain.certificate import Standing
from gateway.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class Freshness:
    """Counts what issuers answer."""

    metrics: Metrics

    def heard(
        self,
        kind: CertificateType,
        region: str,
        standings: Sequence[Standing],
        asked_at: datetime,
        answered_at: datetime | None,
    ) -> None:
        """Count one question: a standing per certificate, and the time until the answer where there was one."""
        for standing in standings:
            self.metrics.certificate_answer(region, kind.code, standing)
        if answered_at is not None:
            self.metrics.certificate_seconds(region, kind.code, (answered_at - asked_at).total_seconds())
