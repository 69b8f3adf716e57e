"""Logs and metrics.

Owns: JSON logs with request, submission and region ids, and every Prometheus figure. No personal data goes in: logs
take ids and outcomes, and a `Sensitive` prints as a mask even when someone forgets.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from structlog.typing import EventDict, WrappedLogger

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_FORBIDDEN = frozenset({"name", "number", "document", "applicant", "holder", "token", "secret", "password", "claims"})
"""Keys that never stand in a log line, whatever their value."""

RELOAD_OUTCOMES = ("reloaded", "unchanged", "rolled_back", "refused", "failed")


def configure_logging(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Send structured JSON lines to `stream`. Called by the command line, never at import."""
    for library in ("authlib", "signxml"):  # at DEBUG they log whole tokens and whole messages
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dump),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )


class _Libraries(logging.Handler):
    """Lets libraries speak, but not quote: their texts and tracebacks may hold whole requests, tokens included."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log who spoke, from where, and the kind of error."""
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        where = f"{record.module}:{record.lineno}"
        structlog.get_logger("library").warning("library", library=record.name, where=where, error=kind)


def _dump(event: Any, **_options: Any) -> str:
    import orjson  # noqa: PLC0415 - keeps the import of a logger cheap for the command line

    return orjson.dumps(event, default=str).decode()


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask keys that name people or secrets, however deep they stand (structlog processor)."""
    return {key: "***" if key in _FORBIDDEN else _redacted(value) for key, value in event.items()}


def _redacted(value: Any) -> Any:
    if value.__class__ is str:  # as most are
        return value
    if isinstance(value, Mapping):
        return {key: "***" if key in _FORBIDDEN else _redacted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner) for inner in value]
    return value


class Metrics:
    """Every figure that operators watch. Names follow the Prometheus conventions; docs/operations.md explains each."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Histogram(
            "pearl_request_seconds", "Requests by route, method and status.",
            ["route", "method", "status"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._region = Histogram(
            "pearl_region_call_seconds", "Calls to regions by capability and outcome.",
            ["region", "capability", "outcome"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._certificates = Counter(
            "pearl_certificate_answers_total", "Answers of issuers about certificates, by type and standing.",
            ["region", "type", "standing"], registry=registry,
        )  # fmt: skip
        self._certificate_seconds = Histogram(
            "pearl_certificate_answer_seconds", "How long issuers take to answer about a type of certificate.",
            ["region", "type"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._issues = Counter(
            "pearl_certificate_issue_total", "Certificates found soon after their issue, by whether in time.",
            ["region", "type", "timely"], registry=registry,
        )  # fmt: skip
        self._rechecks = Counter(
            "pearl_certificate_rechecks_total", "Certificates of cases asked about again, by what came of it.",
            ["region", "outcome"], registry=registry,
        )  # fmt: skip
        self._unconfirmed = Gauge(
            "pearl_case_certificates_unconfirmed", "Certificates of open cases whose verification is too old.",
            ["region"], registry=registry,
        )  # fmt: skip
        self._disputes = Gauge(
            "pearl_certificate_disputes", "Reported errors without an answer, by state (open, told, failing).",
            ["region", "state"], registry=registry,
        )  # fmt: skip
        self._deliveries = Counter(
            "pearl_delivery_attempts_total", "Delivery attempts by outcome.", ["region", "outcome"], registry=registry
        )
        self._events = Counter(
            "pearl_status_events_total", "Status events from regions by what became of them.",
            ["region", "outcome"], registry=registry,
        )  # fmt: skip
        self._conflicts = Gauge(
            "pearl_event_conflicts", "What regions reported and waits for a person.", ["region"], registry=registry
        )
        self._pickups = Counter(
            "pearl_pickups_total", "What regions pulled, by what became of it.", ["region", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._webhooks = Counter(
            "pearl_webhook_events_total", "Events pushed to agencies by what came of it.", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self._queue = Gauge("pearl_delivery_queue", "Deliveries by state.", ["region", "state"], registry=registry)
        self._age = Gauge(
            "pearl_delivery_oldest_seconds", "Age of the oldest unsettled delivery.", ["region"], registry=registry
        )
        self._up = Gauge("pearl_region_up", "1 when the region's breaker is closed.", ["region"], registry=registry)
        self._sign_ons = Counter(
            "pearl_sign_ons_total", "Sign-ons by region and outcome.", ["region", "outcome"], registry=registry
        )
        self._logout_parties = Counter(
            "pearl_logout_parties_total", "Services and regions told of the end of a session, by what came of it.",
            ["kind", "outcome"], registry=registry,
        )  # fmt: skip
        self._trust_age = Gauge(
            "pearl_sign_on_trust_age_seconds", "How long ago a region last confirmed the keys of its sign-on.",
            ["region"], registry=registry,
        )  # fmt: skip
        self._closed = Gauge(
            "pearl_region_closed", "1 while an operator keeps the region's sign-on closed.", ["region"],
            registry=registry,
        )  # fmt: skip
        self._reloads = Counter(
            "pearl_mapping_reloads_total", "Reloads and rollbacks of the mappings by outcome.", ["outcome"],
            registry=registry,
        )  # fmt: skip
        for outcome in RELOAD_OUTCOMES:  # a figure that is there from the start is seen to rise
            self._reloads.labels(outcome)
        self._mapping_set = Gauge(
            "pearl_mapping_set_info", "1 for the version of the mappings in use.", ["region", "version"],
            registry=registry,
        )  # fmt: skip
        self._mapping_version: dict[str, str] = {}
        self._unknown_codes = Counter(
            "pearl_mapping_unknown_codes_total", "Codes of regions that no table knows.",
            ["region", "message", "field"], registry=registry,
        )  # fmt: skip
        self._signing_keys = Gauge(
            "pearl_signing_key_written_timestamp_seconds", "When the file of a signing key was written.",
            ["kid", "algorithm", "role"], registry=registry,
        )  # fmt: skip
        self._tls_expiry = Gauge(
            "pearl_tls_certificate_expiry_timestamp_seconds", "When the public listener's certificate ends.",
            registry=registry,
        )  # fmt: skip
        self._case_clocks = Gauge(
            "pearl_case_clocks", "Clocks of open cases that are due soon or overdue.", ["region", "clock", "state"],
            registry=registry,
        )  # fmt: skip
        self._rules_broken = Gauge(
            "pearl_rules_broken", "Rules that were broken in cases.", ["rule", "region", "client"], registry=registry,
        )  # fmt: skip
        self._working_days = Gauge(
            "pearl_working_days_known", "How many days from today on the working days are known for sure.",
            ["territory"], registry=registry,
        )  # fmt: skip
        self._item_changes = Counter(
            "pearl_item_changes_total", "What pulls found in the regions' catalogues, by kind.",
            ["region", "kind"], registry=registry,
        )  # fmt: skip
        self._items_blocked = Gauge(
            "pearl_items_blocked", "Items that nothing is routed to at this region.", ["region"], registry=registry
        )
        self._items_unreadable = Gauge(
            "pearl_items_unreadable", "Published entries that could not be read at the last pull.",
            ["region"], registry=registry,
        )  # fmt: skip
        self._item_snapshot_age = Gauge(
            "pearl_item_snapshot_age_seconds", "How long ago the region's catalogue was pulled.",
            ["region"], registry=registry,
        )  # fmt: skip
        self._files = Gauge(
            "pearl_materials_files", "Files by state (open, stored, deleting).", ["state"], registry=registry
        )
        self._file_bytes = Gauge(
            "pearl_materials_bytes", "Bytes of files by state, before encryption.", ["state"], registry=registry
        )
        self._files_deleted = Counter(
            "pearl_materials_deleted_total", "Files deleted, by the reason.", ["why"], registry=registry
        )
        self._ratings = Counter(
            "pearl_ratings_total", "Ratings of cases by who was rated and the score.", ["region", "role", "score"],
            registry=registry,
        )  # fmt: skip
        self._corrections = Gauge(
            "pearl_rating_corrections", "Bad ratings that wait to be put right (open, overdue).",
            ["region", "role", "state"], registry=registry,
        )  # fmt: skip
        self._errands = Gauge(
            "pearl_case_errands", "What is to be done after the end of cases, by state (open, dead).",
            ["kind", "state"], registry=registry,
        )  # fmt: skip
        self._store_up = Gauge("pearl_store_up", "1 when the store answered the last look.", registry=registry)
        # What every request and every call counts is looked up once for each set of labels.
        self._request_of, self._call_of = cache(self._requests.labels), cache(self._region.labels)
        self._answer_of, self._seconds_of = cache(self._certificates.labels), cache(self._certificate_seconds.labels)
        self._up_of = cache(self._up.labels)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._request_of(route, method, str(status)).observe(seconds)

    def region_call(self, region: str, capability: str, outcome: str, seconds: float) -> None:
        """Count one call to a region; the outcome is `ok` or an error code."""
        self._call_of(region, capability, outcome).observe(seconds)

    def certificate_answer(self, region: str, kind: str, standing: str) -> None:
        """Count what an issuer says about one certificate of a type."""
        self._answer_of(region, kind, standing).inc()

    def certificate_seconds(self, region: str, kind: str, seconds: float) -> None:
        """Show how long an issuer took to answer about a type."""
        self._seconds_of(region, kind).observe(seconds)

    def certificate_issue(self, region: str, kind: str, timely: str) -> None:
        """Count a certificate that was found soon after its issue; `false`: it was looked for in vain before."""
        self._issues.labels(region, kind, timely).inc()

    def certificate_recheck(self, region: str, outcome: str) -> None:
        """Count one certificate that was asked about again: confirmed, changed, unverifiable, refused or over."""
        self._rechecks.labels(region, outcome).inc()

    def certificates_unconfirmed(self, counts: Mapping[str, int]) -> None:
        """Set how many certificates of open cases nobody confirmed in time, by issuer."""
        self._unconfirmed.clear()
        for region, count in counts.items():
            self._unconfirmed.labels(region).set(count)

    def certificate_disputes(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Set how many reported errors have no answer, by region and state; the others are none."""
        self._disputes.clear()
        for labels, count in counts.items():
            self._disputes.labels(*labels).set(count)

    def delivery(self, region: str, outcome: str) -> None:
        """Count one delivery attempt; the outcome is the state that it led to."""
        self._deliveries.labels(region, outcome).inc()

    def event(self, region: str, outcome: str) -> None:
        """Count one status event: recorded, late, duplicate, unknown, conflict, unreadable or refused."""
        self._events.labels(region, outcome).inc()

    def event_conflicts(self, counts: Mapping[str, int]) -> None:
        """Set how much of what regions reported waits for a person; of regions that are not named, nothing."""
        self._conflicts.clear()
        for region, count in counts.items():
            self._conflicts.labels(region).set(count)

    def pickup(self, region: str, outcome: str) -> None:
        """Count one pull: document, material, refused, or interrupted while a file was handed over."""
        self._pickups.labels(region, outcome).inc()

    def webhook(self, outcome: str) -> None:
        """Count one event that was pushed, or not."""
        self._webhooks.labels(outcome).inc()

    def sign_on(self, region: str, outcome: str) -> None:
        """Count one sign-on."""
        self._sign_ons.labels(region, outcome).inc()

    def logout_party(self, kind: str, outcome: str) -> None:
        """Count one party of a logout: `kind` is client or region; done, failed, not_offered or retried."""
        self._logout_parties.labels(kind, outcome).inc()

    def trust_age(self, region: str, seconds: float) -> None:
        """Set how old the confirmation of a region's keys is; +Inf when there never was one."""
        self._trust_age.labels(region).set(seconds)

    def region_closed(self, region: str, closed: bool) -> None:
        """Set whether an operator keeps a region's sign-on closed."""
        self._closed.labels(region).set(1 if closed else 0)

    def queue(self, region: str, counts: dict[str, int], oldest_seconds: float) -> None:
        """Set the queue figures of a region."""
        for state, count in counts.items():
            self._queue.labels(region, state).set(count)
        self._age.labels(region).set(oldest_seconds)

    def mapping_reload(self, outcome: str) -> None:
        """Count one reload or rollback; the outcome is one of `RELOAD_OUTCOMES`."""
        self._reloads.labels(outcome).inc()

    def mapping_set(self, region: str, version: str) -> None:
        """Show which version of a region's mappings is in use, by its first twelve digits, and the former no more."""
        shown = version[:12]
        former = self._mapping_version.get(region, shown)
        if former != shown:
            self._mapping_set.remove(region, former)
        self._mapping_version[region] = shown
        self._mapping_set.labels(region, shown).set(1)

    def unknown_code(self, region: str, message: str, field: str) -> None:
        """Count one code that no table knows; `field` is a name of the vocabulary, so that there are not many."""
        self._unknown_codes.labels(region, message, field).inc()

    def item_change(self, region: str, kind: str) -> None:
        """Count one thing that a pull found; the kind is a word of `gateway.items.snapshots.KINDS`."""
        self._item_changes.labels(region, kind).inc()

    def items_blocked(self, region: str, count: int) -> None:
        """Set how many items nothing is routed to at a region."""
        self._items_blocked.labels(region).set(count)

    def items_unreadable(self, region: str, count: int) -> None:
        """Set how many published entries could not be read."""
        self._items_unreadable.labels(region).set(count)

    def item_snapshot_age(self, region: str, seconds: float) -> None:
        """Set how old the snapshot of a region's catalogue is; +Inf when there never was one."""
        self._item_snapshot_age.labels(region).set(seconds)

    def signing_key(self, kid: str, algorithm: str, role: str, written: float) -> None:
        """Show since when a signing key is there (seconds since 1970), and what it does."""
        self._signing_keys.labels(kid, algorithm, role).set(written)

    def tls_expiry(self, seconds: float) -> None:
        """Show when the public listener's certificate ends (seconds since 1970)."""
        self._tls_expiry.set(seconds)

    def case_clocks(self, counts: Mapping[tuple[str, str, str], int]) -> None:
        """Set how many clocks are `due_soon` or `overdue`, by region, clock and state; the others are none."""
        self._case_clocks.clear()
        for labels, count in counts.items():
            self._case_clocks.labels(*labels).set(count)

    def rules_broken(self, counts: Mapping[tuple[str, str, str], int]) -> None:
        """Show how often which rule was broken, by region, in the cases of which client."""
        for labels, count in counts.items():
            self._rules_broken.labels(*labels).set(count)

    def working_days_known(self, territory: str, days: int) -> None:
        """Set for how many days from today on the working days of a territory are known."""
        self._working_days.labels(territory).set(days)

    def materials(self, figures: Mapping[str, tuple[int, int]]) -> None:
        """Set how many files there are in each state, and their bytes."""
        for state in ("open", "stored", "deleting"):
            count, size = figures.get(state, (0, 0))
            self._files.labels(state).set(count)
            self._file_bytes.labels(state).set(size)

    def materials_deleted(self, why: str, count: int) -> None:
        """Count files that are gone; `why` is unfinished, orphan, retention, twin, refused or dropped."""
        self._files_deleted.labels(why).inc(count)

    def rating(self, region: str, role: str, score: int) -> None:
        """Count one rating (好差评); scores of 1 and 2 open a correction."""
        self._ratings.labels(region, role, str(score)).inc()

    def rating_corrections(self, counts: Mapping[tuple[str, str, str], int]) -> None:
        """Set how many bad ratings are `open` or `overdue`, by region, role and state; the others are none."""
        self._corrections.clear()
        for labels, count in counts.items():
            self._corrections.labels(*labels).set(count)

    def case_errands(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Set how many errands are open or dead, by kind and state."""
        for labels, count in counts.items():
            self._errands.labels(*labels).set(count)

    def store_up(self, up: bool) -> None:
        """Set whether the store answered."""
        self._store_up.set(1 if up else 0)

    def region_up(self, region: str, up: bool) -> None:
        """Set whether a region's breaker is closed."""
        self._up_of(region).set(1 if up else 0)
