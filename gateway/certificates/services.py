"""The questions about certificates, put together: what each of them is made of, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.certificates.asking import Asking, Distrust
from gateway.certificates.batch import Batch
from gateway.certificates.directory import Directory
from gateway.certificates.disputes import Disputes
from gateway.certificates.freshness import Freshness
from gateway.certificates.inquiry import Inquiry
from gateway.certificates.lookup import CertificateLookup
from gateway.certificates.named import NamedCertificates
from gateway.certificates.notices import CertificateNotices, Noticed, unheeded
from gateway.certificates.permission import Permission
from gateway.certificates.questions import Questions
from gateway.certificates.recheck import Recheck
from gateway.certificates.search import Bounds
from gateway.certificates.states import States
from gateway.certificates.timeliness import Timeliness
from gateway.certificates.types import CertificateType
from gateway.certificates.witness import Witness
from gateway.crypto.at_rest import References, Sealer
from gateway.domain.calendar import local_day
from gateway.identity.mandates import Mandates
from gateway.policy.grants import Grants
from gateway.policy.transfer import Basis
from gateway.ports import Clock
from gateway.regions import Region
from gateway.storage import Store
from gateway.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class Certificates:
    """What can be asked about certificates, and who takes the notices of their issuers."""

    directory: Directory
    grants: Grants
    lookup: CertificateLookup
    named: NamedCertificates
    batch: Batch
    notices: CertificateNotices
    inquiry: Inquiry
    recheck: Recheck
    questions: Questions
    freshness: Freshness
    disputes: Disputes
    clock: Clock

    def visible_types(self, client: str) -> list[tuple[CertificateType, list[str]]]:
        """Return the types that a client may ask anything about today, each with the issuers where it may."""
        today, visible = local_day(self.clock()), self.grants.visible_certificate_types
        known = [
            (kind, [one for one in kind.issuers if visible(client, [kind.code], one, today)])
            for kind in self.directory.types.values()
        ]
        return [(kind, issuers) for kind, issuers in known if issuers]

    @classmethod
    def of(
        cls,
        *,
        types: Mapping[str, CertificateType],
        regions: Mapping[str, Region],
        grants: Grants,
        bases: tuple[Basis, ...],
        store: Store,
        mandates: Mandates,
        references: References,
        sealer: Sealer,
        metrics: Metrics,
        clock: Clock,
        distrust: Distrust,
        bounds: Bounds,
        noticed: Noticed = unheeded,
    ) -> Certificates:
        """Put them together."""
        directory = Directory(types, regions)
        questions = Questions(directory, grants, bounds.most)
        freshness = Freshness(metrics, store, clock)
        asking = Asking(clock, distrust, freshness)
        permission = Permission(store, grants, bases, mandates, references)
        witness = Witness(store, clock, Timeliness(references), freshness)
        inquiry = Inquiry(permission, asking, witness, clock, bounds)
        states = States()
        lookup = CertificateLookup(questions, inquiry)
        named = NamedCertificates(questions, inquiry, states)
        disputes = Disputes(questions, inquiry, sealer)
        notices = CertificateNotices(store, regions, references, states, clock, noticed)
        return cls(
            directory, grants, lookup, named, Batch(lookup, named), notices, inquiry,
            Recheck(directory, questions, inquiry), questions, freshness, disputes, clock,
        )  # fmt: skip
