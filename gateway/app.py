"""The front page: every long-lived object of the gateway is constructed here, top to bottom.

Owns: the order of construction, and taking everything down again in the opposite order. Nothing is built elsewhere and
nothing reaches for what it was not given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from aiohttp import ClientTimeout, web
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection

from gateway.background import feed_readers, in_background, janitor_of
from gateway.calendars import CalendarsInUse
from gateway.certificates.dispute_worker import DisputeWorker
from gateway.certificates.file_checks import FileChecks
from gateway.certificates.files.copies import Copier
from gateway.certificates.files.verifier import FileVerifier
from gateway.certificates.handing import FileBounds, Handing
from gateway.certificates.places import Places
from gateway.certificates.search import Bounds
from gateway.certificates.services import Certificates
from gateway.config import Config
from gateway.crypto.at_rest import Sealer
from gateway.domain.calendar import local_day
from gateway.domain.caller import Caller
from gateway.domain.item import Item
from gateway.domain.mandate import Rules
from gateway.domain.working_days import Calendars
from gateway.identity.accounts import Accounts, through
from gateway.identity.authorization import TOUCH
from gateway.identity.clients import Surroundings
from gateway.identity.codes import CodeRouter
from gateway.identity.linking import Linking
from gateway.identity.mandate_desk import MandateDesk
from gateway.identity.mandates import Mandates
from gateway.identity.mtls import Authorities, CertificateReader
from gateway.identity.provider import ClientsAsked
from gateway.identity.records import Session, touch_session
from gateway.identity.registry import ClientRegistry, honours, stands
from gateway.identity.revocations import WatchedStore
from gateway.identity.service import IdentityService
from gateway.identity.verified import VerifiedTokens
from gateway.items.approvals import Approvals
from gateway.items.blocks import ItemBlocks
from gateway.items.puller import Puller, Schedule
from gateway.lines import SIGN_ON, distrust
from gateway.mapping.library import Library
from gateway.opening import (
    archive_systems,
    data_and_regions,
    opened_store,
    outgoing_session,
    own_keys,
    prepare_store,
    registered_clients,
    warn_of_files,
)
from gateway.patient_clock import PatientClock
from gateway.ports import Clock
from gateway.regions import Region, following, read_again
from gateway.storage import Store
from gateway.storage.blobs import Blobs
from gateway.storage.noticing import NoticingStore
from gateway.storage.places import open_blob_store
from gateway.submissions.archive import Archive
from gateway.submissions.archive_push import ARCHIVE, ArchiveDue, ArchivePush
from gateway.submissions.attempt import Attempts, StepObserver, unobserved
from gateway.submissions.borders import Borders
from gateway.submissions.cases import Cases
from gateway.submissions.complaints import Complaints
from gateway.submissions.delivery import DeliveryWorker, Timing
from gateway.submissions.disposal import Disposal, Terms
from gateway.submissions.drafts import Drafts
from gateway.submissions.errands import Errands
from gateway.submissions.events import EventLog
from gateway.submissions.followups import Followups
from gateway.submissions.inbox import Inbox
from gateway.submissions.joint import JointIntake, Parts
from gateway.submissions.materials import Materials
from gateway.submissions.papers import Papers
from gateway.submissions.parcels import Parcels
from gateway.submissions.pickups import PickupDesk
from gateway.submissions.ratings import Ratings
from gateway.submissions.rechecks import Rechecks
from gateway.submissions.recognised import noticed
from gateway.submissions.results import RESULTS, ResultDesk, ResultFetch, ResultsDue
from gateway.submissions.retry import RetryPolicy
from gateway.submissions.revocations import Revocations
from gateway.submissions.rules_kept import RulesKept
from gateway.submissions.service import ServiceRecords
from gateway.submissions.story import retold
from gateway.submissions.stream import Stream
from gateway.submissions.supplements import Supplements
from gateway.submissions.timekeeping import CaseClocks, Timekeeper
from gateway.submissions.upload_rows import Unused
from gateway.submissions.uploads import UploadLimits, Uploads
from gateway.submissions.webhooks import WebhookWorker
from gateway.submissions.window_documents import WindowDocuments
from gateway.submissions.withdrawals import Withdrawals
from gateway.telemetry import Metrics
from gateway.tls import PublicTls, read_tls
from gateway.versions import Versions
from gateway.web import middlewares, routes
from gateway.web.account import AccountServices
from gateway.web.api.afterwards import Afterwards
from gateway.web.api.certificate_files import FileDesk
from gateway.web.api.followups import FollowupServices
from gateway.web.api.handlers import ApiServices, Authenticate
from gateway.web.elssp.exchange import Authenticate as AuthenticateMessage
from gateway.web.elssp.exchange import Sharing
from gateway.web.elssp.words import load_words
from gateway.web.pages import Pages
from gateway.web.peer import connection_of
from gateway.web.provider_endpoints import CertificateOf, presented, with_token
from gateway.web.refusals import error_page
from gateway.web.window.services import WindowServices
from gateway.web.window.sign_on import CLIENT_ID as WINDOW_CLIENT


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The running whole: one application per listener, and what the operator's signals reach."""

    public: web.Application
    admin: web.Application
    worker: DeliveryWorker
    versions: Versions
    tls: PublicTls
    calendars: CalendarsInUse
    stopping: asyncio.Event

    async def reread(self) -> None:
        """Take the files of TLS and the working days as they are now, or keep those in use."""
        await self.tls.reload()
        await self.calendars.reload()

    def stop_accepting(self) -> None:
        """Say in /readyz that this process is going away, and claim no more deliveries."""
        self.stopping.set()
        self.worker.stop()


@asynccontextmanager
async def build_app(
    config: Config, *, clock: Clock = utc_now, observe: StepObserver = unobserved
) -> AsyncIterator[Gateway]:
    """Build the gateway, run it for the length of the `async with`, and take it down in the opposite order.

    `observe` is told of every step of a delivery. Raises StartRefused that lists everything that is wrong.
    """
    async with AsyncExitStack() as down:
        metrics = Metrics(CollectorRegistry())
        sealer, references, own = own_keys(config)
        signer = own.ring
        for key in own.keys:
            if key.written_at is not None:
                metrics.signing_key(key.kid, key.key.algorithm, key.role, key.written_at.timestamp())
        authorities = Authorities()
        tls = PublicTls(config, read_tls(config), authorities, metrics.tls_expiry)
        session = await down.enter_async_context(outgoing_session())
        known = await registered_clients(config)
        data, opened, lines = data_and_regions(config, session, clock, metrics, known)
        library = Library({region.id: region.packs.now() for region in opened.values()}, clock())
        regions = following(opened, library)

        verified = VerifiedTokens(clock, time.monotonic)
        noticing = NoticingStore(await down.enter_async_context(opened_store(config)), time.monotonic)
        store = WatchedStore(noticing, verified)
        await prepare_store(store, config)
        clients = ClientRegistry(store, clock, Surroundings.of(config))
        await clients.bootstrap(data.clients)
        await clients.load()
        versions = Versions(
            library=library, store=store, clock=clock, metrics=metrics, notice=metrics.unknown_code,
            read=partial(read_again, config.path(config.mappings), regions, library, metrics.unknown_code),
        )  # fmt: skip
        await versions.keep()

        blobs = Blobs(open_blob_store(config.store.blobs, config.folder), sealer)
        await warn_of_files(blobs)
        materials = Materials(store, blobs, sealer, config.limits.case_bytes)
        uploads = Uploads(store=store, blobs=blobs, sealer=sealer, clock=clock, limits=_upload_limits(config))
        patient = PatientClock(clock, time.monotonic)
        disposal = Disposal(store=store, blobs=blobs, clock=patient, terms=_terms(config), metrics=metrics)
        calendars = CalendarsInUse(config.path(config.files.calendar), data.calendars)
        systems = archive_systems(config)
        archive_due = ArchiveDue(systems, timedelta(seconds=config.archive.after_seconds))
        events, clocks, rules = followed_events(sealer, data.items, calendars.now, archive_due, regions)
        timekeeper = Timekeeper(
            store=store, clocks=clocks, note=rules.note_clock, tell=partial(retold, sealer), clock=clock,
            metrics=metrics,
        )  # fmt: skip
        stream = Stream(store, sealer)
        pusher = WebhookWorker(store, stream, sealer, session, clock, metrics)
        inbox = Inbox(store, regions, events, clock, metrics, versions)
        parcels = Parcels(store, sealer, materials, Borders(data.bases, clock))
        pickups = PickupDesk(
            store=store, regions=regions, parcels=parcels, pinned=versions.pinned, clock=clock, metrics=metrics,
            term=timedelta(seconds=config.delivery.pickup_seconds),
        )  # fmt: skip
        mandates = Mandates(
            store, sealer, references, clock, Rules(longest=timedelta(days=config.sign_on.mandate_days)), data.items
        )  # fmt: skip
        asked = config.certificates
        certificates = Certificates.of(
            types=data.types, regions=regions, grants=data.grants, bases=data.bases, store=store, mandates=mandates,
            references=references, sealer=sealer, metrics=metrics, clock=clock, distrust=partial(distrust, lines),
            bounds=Bounds(asked.deadline_seconds, asked.head_start_seconds, asked.most_issuers), noticed=noticed,
        )  # fmt: skip
        rechecks = Rechecks(
            store=store, sealer=sealer, events=events, ask=certificates.recheck.ask,
            filer_of=partial(_filer, clients), types=data.types, clock=clock, metrics=metrics,
            resting=lambda issuer: issuer in lines and lines[issuer].resting(),
        )  # fmt: skip
        attempts = Attempts(
            store=store, parcels=parcels, pinned=versions.pinned, events=events,
            retry=_retry(config), clock=clock, metrics=metrics, observe=observe, confirm=rechecks.require,
        )  # fmt: skip
        worker = DeliveryWorker(
            store=store, regions=regions, lines=lines, attempts=attempts, timing=_timing(config), clock=clock
        )  # fmt: skip
        blocks = ItemBlocks(store, regions, clock, metrics)
        puller = Puller(
            store=store, regions=regions, items=data.items, blocks=blocks, schedule=_schedule(config), clock=clock,
            metrics=metrics,
        )  # fmt: skip
        approvals = Approvals(store, data.items, regions, blocks, clock)
        await blocks.refresh()
        intake = JointIntake(
            store=store, items=data.items, regions=regions, grants=data.grants, bases=data.bases,
            materials=materials, mandates=mandates, events=events, sealer=sealer, references=references, clock=clock,
            nudge=worker.nudge, refuse_blocked=blocks.refuse_blocked, types=data.types,
        )  # fmt: skip
        archive = Archive(
            store=store, sealer=sealer, materials=materials, signer=signer, issuer=config.public_url, clock=clock
        )  # fmt: skip
        afterwards = Afterwards(
            ratings=Ratings(
                store=store, regions=regions, events=events, sealer=sealer, calendars=calendars.now, clock=clock,
                metrics=metrics, nudge=worker.nudge,
            ),
            complaints=Complaints(
                store=store, regions=regions, events=events, sealer=sealer, clock=clock, nudge=worker.nudge
            ),
            service=ServiceRecords(store=store, events=events, sealer=sealer, clock=clock),
            results=ResultDesk(store, sealer, materials), archive=archive,
            papers=Papers(store=store, events=events, sealer=sealer, clock=clock), seals=data.windows.seals,
        )  # fmt: skip
        fetch = ResultFetch(store=store, regions=regions, uploads=uploads, note=events.note, clock=clock)
        push = ArchivePush(
            store=store, archive=archive, systems=systems, session=session, note=events.note, clock=clock,
            timeout=ClientTimeout(total=config.archive.timeout_seconds, sock_connect=10),
        )  # fmt: skip
        errands = Errands(
            store=store, runners={RESULTS: fetch, ARCHIVE: push}, retry=_retry(config), note=events.note, clock=clock
        )  # fmt: skip
        cases = Cases(store, sealer, data.items, partial(_carries, regions))
        desk = Followups(
            store=store, items=data.items, regions=regions, grants=data.grants, mandates=mandates, sealer=sealer,
            clock=clock,
        )  # fmt: skip
        supplements = Supplements(
            desk, materials=materials, bases=data.bases, events=events, references=references,
            pinned=versions.pinned, nudge=worker.nudge,
        )  # fmt: skip
        withdrawals = Withdrawals(desk, events=events, nudge=worker.nudge)
        revocations = Revocations(store, sealer, events, clock)
        reports = DisputeWorker(
            store, regions, sealer, clock, _retry(config), timedelta(seconds=asked.dispute_seconds)
        )  # fmt: skip
        linking = Linking(
            store, sealer, references, clock,
            {region.id: region.place for region in regions.values() if region.adapter.sign_on is not None},
            timedelta(seconds=config.sign_on.interaction_seconds),
        )  # fmt: skip
        identity = IdentityService(
            config=config, find=clients.find, asked=ClientsAsked(stands, honours),
            recognition=data.recognition, bases=data.bases,
            regions=regions, store=store, sealer=sealer, references=references, signer=signer, clock=clock,
            metrics=metrics, authorities=authorities, verified=verified, finish_link=linking.finish,
            mandates=mandates, links=linking.linked_subjects,
            resting=lambda region: region in lines and lines[region].resting(SIGN_ON),
        )  # fmt: skip
        await identity.switches.prepare()
        codes = CodeRouter(
            store=store, regions=list(regions.values()), grants=data.grants, sealer=sealer, clock=clock,
            refuse_closed=identity.health.refuse_closed,
        )  # fmt: skip
        logout_worker = identity.logout_worker(config.logout, session)

        verifier = FileVerifier(data.seals, clock)
        down.callback(verifier.close)
        places = Places(asked.files_at_once)
        certificate_files = FileDesk(
            Handing(
                certificates.questions, certificates.inquiry, sealer, verifier, Copier(), places, _file_bounds(config),
                config.public_url,
            ),
            FileChecks(
                certificates.named, verifier, materials.show, materials.open, uploads.drop, asked.file_bytes, places
            ),
            asked.file_seconds,
        )  # fmt: skip

        certificate_of = _certificate_of(config)
        authenticate = _authenticator(identity, certificate_of)
        agencies = ApiServices(
            authenticate=authenticate, items=data.items, block_of=blocks.of, grants=data.grants,
            intake=intake, cases=cases, materials=materials, uploads=uploads, certificates=certificates,
            certificate_files=certificate_files,
            codes=codes, mandates=MandateDesk(mandates, data.items, data.grants, clock), stream=stream,
            enabled=clients.find,
            store=store, clock=clock, afterwards=afterwards,
            followups=FollowupServices(supplements, withdrawals, revocations),
        )  # fmt: skip
        clerks = WindowServices(
            items=data.items, block_of=blocks.of,
            visible=lambda caller: data.grants.visible_items(caller.client_id, data.items.values(), local_day(clock())),
            region_names={region.id: region.names for region in regions.values()},
            submit=intake.accept, upload=uploads.upload, show=cases.show, recent=cases.recent,
            supplement=supplements.add, withdraw=withdrawals.withdraw, give_back=withdrawals.give_back,
            redeem=identity.redeem, who_signed_on=identity.who_signed_on,
            end_sign_on=partial(identity.end_session, begun_by=f"client:{WINDOW_CLIENT}"),
            openings=identity.health.openings, jwks=signer.key_set,
            store=store, sealer=sealer, clock=clock, windows=data.windows, issuer=config.public_url,
            papers=afterwards.papers, results=afterwards.results, service=afterwards.service,
            ratings=afterwards.ratings, complaints=afterwards.complaints, archive=archive,
            drafts=Drafts(
                store=store, sealer=sealer, clock=clock, life=timedelta(days=config.materials.draft_days)
            ),
            documents=WindowDocuments(
                store=store, sealer=sealer, signer=signer, items=data.items, issuer=config.public_url, clock=clock,
                region_names={region.id: region.names for region in regions.values()},
            ),
        )  # fmt: skip

        persons = AccountServices(
            issuer=config.public_url, live_session=identity.browser.live_session,
            used=partial(_used, store, clock), vault=identity.parts.vault,
            accounts=Accounts(store, clock, through(identity.logouts)), mandates=mandates, linking=linking,
            items=data.items, region_names={region.id: region.names for region in regions.values()},
            client_name=partial(_client_name, clients), references=references, sealer=sealer, clock=clock,
            session_life=timedelta(seconds=config.sign_on.session_seconds),
        )  # fmt: skip

        https = config.public_url.startswith("https://")
        pages = Pages(secure=https)
        stopping = asyncio.Event()
        public = web.Application(
            middlewares=middlewares.edge(metrics, error_page(pages), https=https),
            client_max_size=config.limits.body_bytes,
        )
        words = load_words(config.path(config.mappings))
        sharing = None if words is None else Sharing(
            certificates=certificates, files=certificate_files, upload=partial(_take_file, uploads), words=words,
            legal_basis=partial(_legal_basis, clients),
            authenticate=_authenticator_of_messages(identity, certificate_of), defaults=_said_for_others(config),
            store=store, public_url=config.public_url,
        )  # fmt: skip
        public.add_routes(
            routes.public(
                identity=identity, agencies=agencies, clerks=clerks, persons=persons, inbox=inbox, pickups=pickups,
                notices=certificates.notices,
                pages=pages, limits=config.limits, clock=clock, certificate_of=certificate_of, sharing=sharing,
            )
        )  # fmt: skip
        admin = web.Application()
        admin.add_routes(
            routes.admin(
                store=store, lines=lines, metrics=metrics, clock=clock, accepting=lambda: not stopping.is_set(),
                versions=versions, switches=identity.switches, health=identity.health, approvals=approvals,
                puller=puller, refused=noticing.trouble, files=blobs.trouble,
            )
        )  # fmt: skip

        feeds, janitor = (
            feed_readers(inbox, regions, stopping),
            janitor_of(
                store,
                versions,
                identity.refusals,
                patient,
                stopping,
                disposal,
                timedelta(days=asked.dispute_days),
                sealer,
            ),
        )
        watches = {
            "clocks": partial(timekeeper.run, stopping),
            "stream": partial(stream.run, stopping),
            "webhooks": partial(pusher.run, stopping),
            "catalogues": partial(puller.run, stopping),
            "blocked items": partial(blocks.keep_fresh, stopping),
            "errands": partial(errands.run, stopping),
            "rechecks": partial(rechecks.run, stopping),
            "disputes": partial(reports.run, stopping),
            "freshness": partial(certificates.freshness.run, stopping),
        }
        await down.enter_async_context(in_background(worker, logout_worker, feeds, janitor, stopping, watches))
        yield Gateway(public, admin, worker, versions, tls, calendars, stopping)


# --- the pieces ----------------------------------------------------------------------------------------------------


def _retry(config: Config) -> RetryPolicy:
    delivery = config.delivery
    return RetryPolicy(
        attempts=delivery.attempts,
        first=timedelta(seconds=delivery.first_delay_seconds),
        longest=timedelta(seconds=delivery.longest_delay_seconds),
        patience=timedelta(seconds=delivery.patience_seconds),
    )


def _upload_limits(config: Config) -> UploadLimits:
    return UploadLimits(
        file_bytes=config.limits.upload_bytes,
        unfinished_bytes=config.limits.unfinished_bytes,
        unfinished_for=timedelta(hours=config.materials.unfinished_hours),
        unused=Unused(config.limits.unused_files, config.limits.unused_bytes),
    )


def _file_bounds(config: Config) -> FileBounds:
    asked = config.certificates
    return FileBounds(
        size=asked.file_bytes,
        seconds=asked.file_seconds,
        link=timedelta(seconds=asked.link_seconds),
        copy=timedelta(days=asked.copy_days),
    )


def _terms(config: Config) -> Terms:
    return Terms(
        unfinished=timedelta(hours=config.materials.unfinished_hours),
        orphan=timedelta(hours=config.materials.orphan_hours),
        retention=timedelta(days=config.materials.retention_days),
    )


def _carries(regions: Mapping[str, Region], region: str) -> frozenset[str]:
    """Return the kinds of messages about a case that a region's wire takes."""
    messages = regions[region].adapter.messages if region in regions else None
    return frozenset() if messages is None else messages.kinds


def followed_events(
    sealer: Sealer,
    items: Mapping[str, Item],
    calendars: Callable[[], Calendars],
    filing: ArchiveDue,
    regions: Mapping[str, Region],
) -> tuple[EventLog, CaseClocks, RulesKept]:
    """Return the log of events with all that follows a step, by whomever it is written; and two of the followers.

    Without `regions` no documents of a decision are fetched: whoever takes events from regions passes them.
    """
    clocks, events = CaseClocks(items, calendars), EventLog(sealer)
    rules, parts = RulesKept(events), Parts(events, items, partial(_begin_clocks, clocks, sealer))
    events.followers = (clocks.keep, ResultsDue(regions).keep, filing.keep, rules.watch, parts.keep)
    return events, clocks, rules


def _begin_clocks(clocks: CaseClocks, sealer: Sealer, tx: Connection, case: str, now: datetime) -> None:
    """Start the clocks of a part that goes out now."""
    story = retold(sealer, tx, case)
    if story is not None:
        clocks.keep(tx, story, now)


def _schedule(config: Config) -> Schedule:
    return Schedule(
        well=timedelta(seconds=config.items.pull_seconds), failed=timedelta(seconds=config.items.retry_seconds)
    )


def _timing(config: Config) -> Timing:
    return Timing(
        lease=timedelta(seconds=config.delivery.lease_seconds),
        poll=timedelta(seconds=config.delivery.poll_seconds),
        shutdown=timedelta(seconds=config.limits.shutdown_seconds),
    )


def _certificate_of(config: Config) -> CertificateOf:
    """Return the function that finds the client's certificate of a request."""
    reader = CertificateReader(config.listen.proxies)
    return lambda request: reader.presented(connection_of(request), request.headers)


def _authenticator(identity: IdentityService, certificate_of: CertificateOf) -> Authenticate:
    """Return the function that tells by a request's access token which agency's system calls."""

    async def authenticate(request: web.Request) -> Caller:
        return await identity.resources.authenticate(with_token(presented(request, identity.issuer, certificate_of)))

    return authenticate


def _authenticator_of_messages(identity: IdentityService, certificate_of: CertificateOf) -> AuthenticateMessage:
    """Return the same for messages that may bring their token inside: that one is a bearer token, and no other."""

    async def authenticate(request: web.Request, token: str | None) -> Caller:
        shown = presented(request, identity.issuer, certificate_of)
        if token is not None:
            shown = replace(shown, scheme="Bearer", token=token)
        return await identity.resources.authenticate(with_token(shown))

    return authenticate


async def _take_file(uploads: Uploads, caller: Caller, content: bytes) -> str:
    """Take a certificate's file that came within a message, and return the id of the upload."""

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    kind = "pdf" if content.startswith(b"%PDF-") else "ofd"
    blob = await uploads.upload(
        caller, name=f"certificate.{kind}", media_type=f"application/{kind}", chunks=chunks()
    )  # fmt: skip
    return blob.id


def _said_for_others(config: Config) -> Mapping[str, str]:
    """Return the elements of GB/T 36906 that the deployment says for systems that do not."""
    said = {"PurposeCode": config.elssp.purpose_code, "HolderRole": config.elssp.holder_role}
    return {name: value for name, value in said.items() if value is not None}


async def _legal_basis(clients: ClientRegistry, client_id: str) -> str:
    """Return the legal basis that a client is registered with."""
    client = await clients.find(client_id)
    return "" if client is None else client.legal_basis


async def _used(store: Store, clock: Clock, session: Session) -> None:
    """Note that a person was here, not more often than it matters."""
    if clock() - session.last_used_at > TOUCH:
        await store.write(partial(touch_session, session_id=session.id, now=clock()))


async def _filer(clients: ClientRegistry, owner: str) -> Caller | None:
    """Return the client that filed a case, as it is registered now, if it may still ask about certificates."""
    client = await clients.find(owner)
    if client is None or "certificates" not in client.scopes:
        return None
    return Caller(
        client.id, client.organisation, client.organisation_code, client.origin_code, client.scopes
    )  # fmt: skip


async def _client_name(clients: ClientRegistry, client_id: str) -> str:
    """Return a service's name, or its id when it is registered no more."""
    client = await clients.find(client_id)
    return client_id if client is None else client.name
