"""The authorization endpoint and the way of a person from there back to the service.

Owns: the order of things. A request is checked, a session found or a region chosen, consent asked for where it is due,
and a code issued; what was decided is stored in one transaction before the browser hears of it. Leaves HTTP to
`gateway.web.sign_on`, the protocol to `provider`, the regions to `broker`, what may go out to `disclosure`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Literal, Protocol

from authlib.oauth2 import OAuth2Error
from sqlalchemy import Connection

from gateway.config import SignOnSettings
from gateway.domain.calendar import local_day
from gateway.domain.identity import Assurance
from gateway.errors import InvalidRequest, NotRecognised, SignOnFailed
from gateway.evidence import Exchange as Evidence
from gateway.evidence import record
from gateway.identity import records
from gateway.identity.broker import LOST, Arrival, Broker, Interrupted
from gateway.identity.clients import Client
from gateway.identity.disclosure import Disclosure, Outcome, Shown
from gateway.identity.families import grant_of
from gateway.identity.linking import KIND as LINK
from gateway.identity.linking import LINKS_PAGE, Also
from gateway.identity.logout import Logouts
from gateway.identity.provider import Answer, Exchange, FindClient, ProviderParts, SessionFound, SignOnNeeded, Work
from gateway.identity.records import Interaction, Session, new_handle
from gateway.identity.refusals import Attempt, Refusals
from gateway.identity.requests import (
    KEPT,
    Form,
    Hints,
    Wishes,
    consent_required,
    not_fresh,
    other_person,
    proved_since,
    read_wishes,
    refused,
    unmet,
)
from gateway.identity.switches import is_open
from gateway.identity.upstream import SignOnRegion, reaches
from gateway.policy.recognition import SIGN_ON
from gateway.ports import Clock
from gateway.storage import Store
from gateway.storage.nonces import spend

EndEarlier = Callable[[Connection, datetime], None]
"""Ends the session that the browser held until now, in the transaction that makes the new one."""
REQUEST_URI = "urn:ietf:params:oauth:request_uri:"
"""RFC 9126 §2.2: what comes before the handle of a pushed request."""
NOT_RECOGNISED = "A sign-on of this region, at the level that it reached, does not count for this service."
NOT_PUSHED = "The request_uri is unknown, expired, used already, or another client's; push the request again."
TOUCH = timedelta(seconds=30)
"""How long a session's last use may lie back before it is written anew."""


class FinishLink(Protocol):
    """Takes the second sign-on of a link and says where to send the browser (`gateway.identity.linking`)."""

    def __call__(self, interaction: Interaction, second: Session, *, also: Also | None = None) -> Awaitable[str]:
        """Write `also` with the outcome."""
        ...


@dataclass(frozen=True, slots=True)
class SendBack:
    """Send the browser to the service. `session` is a new handle for its session cookie, when there is one."""

    url: str
    session: str | None = None


@dataclass(frozen=True, slots=True)
class ChooseRegion:
    """Let the person choose a region. `browser` is the handle for the interaction cookie."""

    interaction_id: str
    browser: str
    languages: Sequence[str]


@dataclass(frozen=True, slots=True)
class Choosing:
    """What the chooser shows: which service asks, and through which regions a person may sign on to it.

    `client` is None where none of the services asks: a person who links two sign-ons (`gateway.identity.linking`).
    """

    interaction: Interaction
    client: Client | None
    regions: Sequence[SignOnRegion]


@dataclass(frozen=True, slots=True)
class AskConsent:
    """Ask the person whether the service may have what it asks for. Handles as in SendBack and ChooseRegion."""

    interaction_id: str
    browser: str | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class ConsentQuestion:
    """What the consent page shows."""

    interaction_id: str
    client: Client
    session: Session
    outcome: Outcome
    region: SignOnRegion


class Authorization:
    """Leads one browser from a service's request to a code."""

    def __init__(
        self,
        parts: ProviderParts,
        find: FindClient,
        broker: Broker,
        disclosure: Disclosure,
        store: Store,
        clock: Clock,
        logouts: Logouts,
        refusals: Refusals,
        finish_link: FinishLink | None = None,
    ) -> None:
        self._finish_link = finish_link
        self._parts = parts
        self._find = find
        self._broker = broker
        self._disclosure = disclosure
        self._store = store
        self._clock = clock
        self._logouts = logouts
        self._refusals = refusals

    @property
    def _settings(self) -> SignOnSettings:
        return self._parts.settings

    # --- the request

    async def authorize(
        self, pairs: Iterable[tuple[str, str]], session: str | None, browser: str | None
    ) -> SendBack | ChooseRegion | AskConsent:
        """Answer an authorization request at once, or open an interaction.

        `session` and `browser` are the handles from the browser's cookies. Raises InvalidRequest while there is no
        redirect URI that the browser may safely be sent back to.
        """
        given = Form(pairs)
        client = await self._find(given.client_id or "")
        decide = partial(
            self._decide, given=given, client=client, pushed=_pushed_handle(given, client), session=session,
            browser=browser,
        )  # fmt: skip
        found = await self._store.write(decide)
        return SendBack(_location(found)) if isinstance(found, Answer) else found

    def _decide(
        self,
        tx: Connection,
        given: Form,
        client: Client | None,
        pushed: str | None,
        session: str | None,
        browser: str | None,
    ) -> Answer | ChooseRegion | AskConsent:
        """Decide about a request, and keep what comes of it. Raises InvalidRequest for a push that there is not.

        One unit from what was pushed to the code: a request waits for the store once, and what it rests on (session,
        consent) is read where the code is written.
        """
        form = given if pushed is None else self._pushed(tx, pushed, given)
        work = Work(self._clock(), client=client, session=self._live(tx, session))
        exchange = Exchange(self._parts, work, for_person=True)
        found = exchange.authorize(form)
        if isinstance(found, SignOnNeeded):
            return self._open(tx, form, found.client, found.wishes, browser)
        if isinstance(found, SessionFound):
            outcome = self._disclosure.decided(tx, found, work.now, hold=True)
            if outcome.must_ask or ("consent" in found.wishes.prompt and outcome.decision.offered):
                return self._consent(tx, exchange, form, found, browser)
            found = self._answer(exchange, found, outcome, outcome.given)
        _keep(tx, work)
        return found

    def _pushed(self, tx: Connection, handle: str, given: Form) -> Form:
        """Return what the client pushed (RFC 9126 §4), once. Raises InvalidRequest."""
        pushed = records.take_pushed(tx, handle, given.client_id or "", self._clock())
        if pushed is None:
            raise InvalidRequest(NOT_PUSHED)
        return Form(pushed.items())

    def _open(self, tx: Connection, form: Form, client: Client, wishes: Wishes, browser: str | None) -> ChooseRegion:
        interaction, handle = self._interaction(form, client, Hints.of(wishes), browser or new_handle())
        records.keep_interaction(tx, interaction)
        return ChooseRegion(interaction.id, handle, form.data.get("ui_locales", "").split()[:8])

    def _consent(
        self, tx: Connection, exchange: Exchange, form: Form, found: SessionFound, browser: str | None
    ) -> Answer | AskConsent:
        """Open an interaction that waits for the person's word, unless the service will not have it asked for."""
        if "none" in found.wishes.prompt:
            return exchange.refuse(form, consent_required())
        hints = Hints(consent="consent" in found.wishes.prompt)
        interaction, handle = self._interaction(form, found.client, hints, browser or new_handle(), found.session.id)
        records.keep_interaction(tx, interaction)
        return AskConsent(interaction.id, browser=handle)

    def _interaction(
        self, form: Form, client: Client, hints: Hints, browser: str, session_id: str | None = None
    ) -> tuple[Interaction, str]:
        kept = {name: value for name, value in form.data.items() if name in KEPT}
        interaction = Interaction(
            id=new_handle(),
            handle_hash=records.digest(browser),
            client_id=client.id,
            request={**kept, **hints.kept()},
            expires_at=self._clock() + timedelta(seconds=self._settings.interaction_seconds),
            session_id=session_id,
        )
        return interaction, browser

    # --- the chooser and the way through a region

    async def choices(self, interaction_id: str, browser: str) -> Choosing:
        """Return the interaction, who asks, and the regions that can serve it. Raises SignOnFailed."""
        interaction = await self._broker.interaction(interaction_id, browser)
        client, least = await self._find(interaction.client_id), _least(interaction)
        able = self._broker.choices(least)
        levels = {region.id: self._counts_from(region.id, client) for region in able}
        return Choosing(interaction, client, [region for region in able if reaches(region, levels[region.id])])

    def region(self, region_id: str) -> SignOnRegion | None:
        """Return a region that has a sign-on, whether or not it serves a service: one that failed must have a name."""
        return self._broker.find_region(region_id)

    async def begin(self, region_id: str, interaction_id: str, browser: str, language: str) -> str:
        """Return the address at the region. Raises SignOnFailed or Interrupted."""
        async with self._refusals.of_sign_on(self._broker.known(region_id)) as attempt:
            interaction = await self._broker.interaction(interaction_id, browser)
            attempt.client_id = interaction.client_id
            return await self._begin(region_id, interaction, language)

    async def _begin(self, region_id: str, interaction: Interaction, language: str) -> str:
        hints, client = Hints.read(interaction.request), await self._find(interaction.client_id)
        counts = self._counts_from(region_id, client)
        if counts is None:
            raise Interrupted(interaction, region_id, NotRecognised(NOT_RECOGNISED, region=region_id))
        least, liked = max(_least(interaction), counts), hints.prefer
        return await self._broker.begin(region_id, interaction, language, least=least, prefer=liked, fresh=hints.fresh)

    def _counts_from(self, region_id: str, client: Client | None) -> Assurance | None:
        """Return the level from which a region's sign-on counts for a client; None when it counts for nothing.

        Without a client (a link between two sign-ons of one person) no service is asked for, and any level will do.
        """
        if client is None:
            return Assurance.A0
        service, today = client.service or client.id, local_day(self._clock())
        return self._parts.recognition.least_for(region_id, service, today, purpose=SIGN_ON)

    def _answer(
        self, exchange: Exchange, found: SessionFound, outcome: Outcome, claims: Mapping[str, Sequence[str]]
    ) -> Answer:
        """Issue a code with these claims, and say in the evidence what it rests on."""
        answer, work = exchange.answer(found, claims), exchange.work
        if work.new_code is not None:
            line = None if work.recognised is None else work.recognised.line
            matrix = {"version": self._parts.recognition.version, "line": line}
            code = work.new_code
            grants = {"code": code.code_hash, "grant": grant_of(code.code_hash), "scope": code.scope}
            chain = {"sign_on": found.session.evidence_id, **grants, "recognition": matrix}
            work.evidence = Evidence(
                action="sign_on.answer",
                outcome="done",
                reason="",
                who={"client": found.client.id},
                what={**chain, **outcome.decision.evidence(), "claims": dict(claims)},
                purpose="",
                received_at=work.now,
            )
        return answer

    async def complete(
        self, region_id: str, query: Mapping[str, str], browser: str, earlier: str | None, *, posted: bool = False
    ) -> SendBack | AskConsent:
        """Finish a sign-on: session, code, and the way back to the service. Raises SignOnFailed or Interrupted.

        `earlier` is the handle of the session that this browser had until now: it ends, so that of two people at one
        machine only the second is signed on.
        """
        async with self._refusals.of_sign_on(self._broker.known(region_id)) as attempt:
            arrival = await self._broker.complete(region_id, query, browser, posted=posted)
            attempt.client_id = arrival.interaction.client_id
            return await self._arrived(arrival, earlier, attempt)

    async def _arrived(self, arrival: Arrival, earlier: str | None, attempt: Attempt) -> SendBack | AskConsent:
        interaction, session = arrival.interaction, arrival.session
        if interaction.kind == LINK:
            return SendBack(await self._linked(arrival))
        form = Form(interaction.request.items())
        client = await self._find(interaction.client_id)
        if client is not None:
            self._check_recognised(arrival, client)
        hints, since = Hints.read(interaction.request), self._begun(interaction)
        work = Work(self._clock(), client=client, session=session, since=since)
        exchange = Exchange(self._parts, work, for_person=True)
        found = exchange.authorize(form)
        ask = False
        if hints.fresh and not proved_since(session, since):
            found = self._answered(exchange, form, not_fresh(), attempt)
        if isinstance(found, SessionFound):
            outcome = await self._disclosure.decide(found, work.now)
            ask = outcome.must_ask or (hints.consent and bool(outcome.decision.offered))
            found = found if ask else self._answer(exchange, found, outcome, outcome.given)
        elif isinstance(found, SignOnNeeded):
            found = self._answered(exchange, form, _shortfall(found.wishes, session), attempt)
        await self._finish(arrival, work, earlier, ask=ask)
        if isinstance(found, SessionFound):
            return AskConsent(interaction.id, session=arrival.handle)
        return SendBack(_sign_on_location(found), arrival.handle)

    def _answered(self, exchange: Exchange, form: Form, error: OAuth2Error, attempt: Attempt) -> Answer:
        """Have the service hear of an error although the person has signed on."""
        attempt.answered = str(error.error)
        return exchange.refuse(form, error)

    async def _linked(self, arrival: Arrival) -> str:
        """Return where a second sign-on leads to that makes a link: no session comes of it, and no code."""
        if self._finish_link is None:
            raise SignOnFailed(LOST, code="signon.lost")
        also = partial(_second_sign_on, arrival=arrival, now=self._clock())
        return await self._finish_link(arrival.interaction, arrival.session, also=also)

    async def _finish(self, arrival: Arrival, work: Work, earlier: str | None, *, ask: bool) -> None:
        end_earlier = partial(self._logouts.begin_earlier, earlier)
        finish = partial(_finish, arrival=arrival, work=work, end_earlier=end_earlier, ask=ask)
        outcome = await self._store.write(finish)
        if outcome == "replayed":
            text = "The region's answer was used before. Please go back to the service and start again."
            raise SignOnFailed(text, code="signon.replayed", region=arrival.session.region)
        if outcome == "lost":
            raise SignOnFailed(LOST, code="signon.lost")

    async def cancel(self, interaction_id: str, browser: str) -> SendBack:
        """Give a sign-on up and tell the service so (access_denied). Raises SignOnFailed."""
        async with self._refusals.of_sign_on("") as attempt:
            interaction = await self._broker.interaction(interaction_id, browser)
            attempt.client_id, attempt.answered = interaction.client_id, "access_denied"
            return await self._cancelled(interaction)

    async def _cancelled(self, interaction: Interaction) -> SendBack:
        await self._store.write(partial(records.end_interaction, interaction_id=interaction.id))
        if interaction.kind == LINK:
            return SendBack(LINKS_PAGE)
        client = await self._find(interaction.client_id)
        form = Form(interaction.request.items())
        answer = Exchange(self._parts, Work(self._clock(), client=client), for_person=True).refuse(form, refused())
        return SendBack(_sign_on_location(answer))

    def _check_recognised(self, arrival: Arrival, client: Client) -> None:
        """Make sure that the sign-on counts for this service. Raises Interrupted: another region's may."""
        session = arrival.session
        decision = self._parts.recognised(client, session, self._clock())
        if not decision.allowed:
            refused = NotRecognised(NOT_RECOGNISED, detail=decision.missing, region=session.region)
            if decision.step_up is not None:
                text = "A sign-on of this region by a surer method would count for this service."
                refused = NotRecognised(text, code="signon.step_up", detail=decision.missing, region=session.region)
            raise Interrupted(arrival.interaction, session.region, refused)

    def _begun(self, interaction: Interaction) -> datetime:
        return interaction.expires_at - timedelta(seconds=self._settings.interaction_seconds)

    # --- consent

    async def question(self, interaction_id: str, browser: str, session: str | None) -> ConsentQuestion:
        """Return what the person is asked. Raises SignOnFailed."""
        return (await self._asked(interaction_id, browser, session))[0]

    async def agree(
        self, interaction_id: str, browser: str, session: str | None, agreed: Collection[str], shown: Shown
    ) -> SendBack:
        """Record the consent, with what was shown, and go on to the service. Raises SignOnFailed."""
        asked, exchange, found = await self._asked(interaction_id, browser, session)
        answer, work = self._answer(exchange, found, asked.outcome, asked.outcome.agreed(agreed)), exchange.work
        keep = partial(
            self._disclosure.keep, client=asked.client, session=asked.session, outcome=asked.outcome, agreed=agreed,
            shown=shown, now=work.now,
        )  # fmt: skip
        finish = partial(_agreed, interaction_id=interaction_id, keep=keep, work=work)
        if not await self._store.write(finish):
            raise SignOnFailed(LOST, code="signon.lost")
        return SendBack(_sign_on_location(answer))

    async def _asked(
        self, interaction_id: str, browser: str, session: str | None
    ) -> tuple[ConsentQuestion, Exchange, SessionFound]:
        interaction = await self._broker.interaction(interaction_id, browser)
        live, client = await self.live_session(session), await self._find(interaction.client_id)
        if live is None or client is None or live.id != interaction.session_id:
            raise SignOnFailed(LOST, code="signon.lost")
        work = Work(self._clock(), client=client, session=live, since=self._begun(interaction))
        exchange = Exchange(self._parts, work, for_person=True)
        found = exchange.authorize(Form(interaction.request.items()))
        if not isinstance(found, SessionFound):
            raise SignOnFailed(LOST, code="signon.lost")
        anew = Hints.read(interaction.request).consent
        outcome = await self._disclosure.decide(found, exchange.work.now, anew=anew)
        region = self._broker.region(live.region)
        return ConsentQuestion(interaction.id, client, live, outcome, region), exchange, found

    # --- sessions

    async def live_session(self, handle: str | None) -> Session | None:
        """Return the live session behind a browser's handle, if its region is still enabled."""
        return None if handle is None else await self._store.read(partial(self._live, handle=handle))

    def _live(self, tx: Connection, handle: str | None) -> Session | None:
        if handle is None:
            return None
        idle = timedelta(seconds=self._settings.idle_seconds)
        found = records.find_session(tx, handle, self._clock(), idle)
        return found if found is not None and self._broker.known(found.region) else None


def _pushed_handle(given: Form, client: Client | None) -> str | None:
    """Return the handle of the pushed request that this request stands for, None when it stands for itself.

    Raises InvalidRequest for a handle that cannot be one, and for a client that must push.
    """
    uri = given.data.get("request_uri", "")
    if not uri.startswith(REQUEST_URI):
        if client is not None and (client.require_pushed_requests or client.profile == "fapi2"):
            raise InvalidRequest("This client must push its requests to /oauth2/par (RFC 9126).")
        return None
    if any(len(given.datalist.get(name, ())) > 1 for name in ("client_id", "request_uri")):
        raise InvalidRequest("client_id or request_uri stands more than once.")
    handle = uri.removeprefix(REQUEST_URI)
    if client is None or not records.is_handle(handle):
        raise InvalidRequest(NOT_PUSHED)
    return handle


def _least(interaction: Interaction) -> Assurance:
    return read_wishes(Form(interaction.request.items())).least()


def _shortfall(wishes: Wishes, session: Session) -> OAuth2Error:
    """Return what a sign-on that has taken place still does not satisfy."""
    reached = session.assurance >= wishes.least()
    return other_person() if reached else unmet("The sign-on did not reach the demanded acr.")


def _keep(tx: Connection, work: Work) -> None:
    """Keep the code, and note that the session was used; neither is there when the answer is an error."""
    _keep_issued(tx, work)
    session = work.session
    if session is not None and work.now - session.last_used_at > TOUCH:
        records.touch_session(tx, session.id, work.now)


def _keep_issued(tx: Connection, work: Work) -> None:
    """Keep the code, and by what decisions it was issued."""
    if work.new_code is not None and work.evidence is not None:
        records.keep_code(tx, work.new_code)
        record(tx, work.evidence, now=work.now)


def _location(found: Answer | SessionFound | SignOnNeeded) -> str:
    """Return where to send the browser. Raises InvalidRequest when there is no address that it may be sent to."""
    if not isinstance(found, Answer) or found.location is None:
        raise InvalidRequest(_description(found))
    return found.location


def _sign_on_location(answer: Answer) -> str:
    """Return where to send the browser. Raises SignOnFailed: client or redirect URI were withdrawn meanwhile."""
    if answer.location is None:
        raise SignOnFailed(_description(answer))
    return answer.location


def _description(found: Answer | SessionFound | SignOnNeeded) -> str:
    body = found.body if isinstance(found, Answer) else {}
    return str(body.get("error_description") or body.get("error"))


# --- units -----------------------------------------------------------------------------------------------------------


def _finish(
    tx: Connection, arrival: Arrival, work: Work, end_earlier: EndEarlier, *, ask: bool
) -> Literal["done", "lost", "replayed"]:
    """Keep what came of a sign-on, and end the browser's earlier session.

    "lost" when the interaction had ended or the region was closed meanwhile, "replayed" when the region's assertion was
    accepted before: then nothing of this sign-on stays but the memory of it.
    """
    session, interaction = arrival.session, arrival.interaction
    used = arrival.used
    if used is not None and not spend(tx, f"sign-on:{session.region}", used.value, used.expires_at):
        return "replayed"
    going_on = partial(records.await_consent, session_id=session.id) if ask else records.end_interaction
    if not is_open(tx, session.region) or not going_on(tx, interaction_id=interaction.id):
        return "lost"
    end_earlier(tx, work.now)
    record(tx, arrival.evidence, evidence_id=session.evidence_id, now=work.now)
    records.keep_session(tx, session)
    _keep_issued(tx, work)
    return "done"


def _second_sign_on(tx: Connection, arrival: Arrival, now: datetime) -> bool:
    """Keep of a link's second sign-on what must be kept: that its assertion was used, and its evidence.

    False when the assertion was accepted before, or the region was closed meanwhile.
    """
    session, used = arrival.session, arrival.used
    if used is not None and not spend(tx, f"sign-on:{session.region}", used.value, used.expires_at):
        return False
    if not is_open(tx, session.region):
        return False
    record(tx, arrival.evidence, evidence_id=session.evidence_id, now=now)
    return True


def _agreed(tx: Connection, interaction_id: str, keep: Callable[[Connection], None], work: Work) -> bool:
    """Keep the consent and the code together; False when the interaction had ended."""
    if not records.end_interaction(tx, interaction_id):
        return False
    keep(tx)
    _keep_issued(tx, work)
    return True
