"""The gateways of one store, the authorities that they deliver to, and everything that is done to them.

Owns: processes that die and come back, authorities that lose answers, double, delay, lie and go down, by a seeded
plan. Leaves to `load`: filing cases. To `books`: comparing.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from aiohttp import web

from bench.drill import dying as gateways_that_die
from gateway.sandbox.authority import MISBEHAVIOUR, NOTEBOOK, Notebook
from gateway.sandbox.layout import Layout
from gateway.sandbox.neighbourhood import NotReadyError, end, wait_until_ready
from tests.support.few_regions import THREE
from tests.support.forked import Forked
from tests.support.replicas import lay_out_replicas, secrets_of

PLACES = ("foshan", "guangdong", "hunan", "qingyuan")
"""Authorities that the drill runs: one takes signed XML and is polled, one signed JSON and calls back, one (a province)
signed JSON with the files sent before it, and is polled; one is told a number only, and pulls."""
REGIONS = (*THREE, "hunan", "qingyuan")
"""Regions of the gateways: those, and what the sandbox's data need."""
COURSES = ("course_supplement", "course_undecided")
"""What an authority does with the next case, so that there is something to supplement and something to withdraw."""
STEPS = ("claimed", "sending", "answered", "settling", "settled")
"""The named steps of a delivery at which a gateway dies; `arrived` is a sixth, which only the authority sees."""
ARRIVED = "arrived"
DELIVERY = {
    "lease_seconds": 2.5, "first_delay_seconds": 0.1, "longest_delay_seconds": 1, "breaker_seconds": 0.5,
    "attempts": 200,
}  # fmt: skip
LIMITS = {"timeout_seconds": 1.5, "settle_seconds": 0.5, "requests_per_second": 500, "concurrency": 8}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Gateway:
    """One gateway process, which comes back whenever it died."""

    layout: Layout
    secrets: Mapping[str, str]
    process: Forked | None = None
    step: str = "none"
    killed: bool = False
    ready: bool = False

    async def start(self) -> None:
        """Start it for good, and wait until it is ready, however busy the machine is."""
        process = await self.launch("none", 1)
        while process.returncode is None and not self.ready:
            await self.coming_up(process)
        if not self.ready:
            raise NotReadyError(f"{self.layout.folder} ended with {process.returncode}")

    async def start_again(self) -> None:
        """End it, if it lives, and start it for good."""
        if self.process is not None:
            await end(self.process)
        await self.start()

    async def launch(self, step: str, count: int) -> Forked:
        """Start it; it dies when it reaches the step for the count-th time, perhaps before it is ready."""
        self.step, self.killed, self.ready = step, False, False
        self.process = await gateways_that_die.start(self.layout.config, step, count, self.secrets, list(REGIONS))
        return self.process

    async def coming_up(self, process: Forked) -> None:
        """Note when it is ready, if it lives to be."""
        with suppress(NotReadyError):
            await wait_until_ready(process, self.layout)
            self.ready = True

    def kill(self) -> bool:
        """Kill it where it stands. Return False when it is dead, or not ready yet: a start is short in a long life."""
        if self.process is None or self.process.returncode is not None or not self.ready:
            return False
        self.killed = True
        self.process.kill()
        return True


@dataclass(slots=True)
class Town:
    """One store's gateways and the authorities around them."""

    name: str
    gateways: list[Gateway]
    authorities: Mapping[str, web.Application]
    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    """What was done: deaths by step, faults by mode; `starts` that came to be ready."""
    cut: bool = False
    """Kill a gateway when the next case or message arrives at an authority, before it is answered."""

    # --- gateways ----------------------------------------------------------------------------------------------

    async def keep_alive(self, gateway: Gateway, over: asyncio.Event) -> None:
        """Start a gateway again whenever it died, each time to die at another step, until the drill is over."""
        steps = list(STEPS)
        self.chance.shuffle(steps)
        while not over.is_set():
            early = bool(steps)  # each step once, soon; then anywhere, later
            step = steps.pop() if early else self.chance.choice(STEPS)
            process = await gateway.launch(step, self.chance.randint(1, 3 if early else 25))
            dying, ending = asyncio.create_task(process.wait()), asyncio.create_task(over.wait())
            coming = asyncio.create_task(gateway.coming_up(process))
            done, pending = await asyncio.wait({dying, ending}, return_when=asyncio.FIRST_COMPLETED)
            for task in (*pending, coming):
                task.cancel()
            if dying in done:
                self._buried(gateway, dying.result())
                steps += [step] if gateway.killed and early else []  # it did not come to that step

    def _buried(self, gateway: Gateway, code: int) -> None:
        """Count a death. One that nobody ordered ends the drill."""
        if code != -signal.SIGKILL:
            tail = (gateway.layout.folder / "gateway.log").read_text(encoding="utf-8")[-3000:]
            raise RuntimeError(f"a gateway ended by itself with {code}:\n{tail}")
        self.counts["killed at random" if gateway.killed else f"died {gateway.step}"] += 1

    async def heal(self) -> None:
        """Let everybody behave, and every gateway run that does not die any more."""
        self.cut = False
        for app in self.authorities.values():
            app[MISBEHAVIOUR].clear()
        await asyncio.gather(*(gateway.start_again() for gateway in self.gateways))

    async def stop(self) -> None:
        """End every process by its pid."""
        await asyncio.gather(*(end(one.process) for one in self.gateways if one.process is not None))

    # --- faults ------------------------------------------------------------------------------------------------

    async def trouble(self, over: asyncio.Event) -> None:
        """Do something to somebody every moment, by the seeded plan, until the drill is over."""
        deeds = (self._kill, self._cut, *(self._order,) * 4, *(self._send_on_a_course,) * 4)
        while not over.is_set():
            self.chance.choice(deeds)()
            pause = self.chance.uniform(0.2, 1.2)
            try:
                async with asyncio.timeout(pause):
                    await over.wait()
            except TimeoutError:
                continue

    def _kill(self) -> None:
        self.chance.choice(self.gateways).kill()

    def _cut(self) -> None:
        self.cut = True

    def _order(self) -> None:
        mode, times, seconds = self.chance.choice(
            [("lost_answer", 4, 1.0), ("slow", 3, 2.0), ("garbage", 3, 1.0), ("duplicate_callback", 6, 1.0),
             ("down", 6, 1.0), ("lie", 4, 1.0)]
        )  # fmt: skip
        wrong = self.authorities[self.chance.choice(PLACES)][MISBEHAVIOUR]
        wrong.seconds = seconds
        wrong.order(mode, self.chance.randint(1, times))
        self.counts[mode] += 1

    def _send_on_a_course(self) -> None:
        self.authorities[self.chance.choice(PLACES)][MISBEHAVIOUR].order(self.chance.choice(COURSES), 2)

    def arrived(self) -> None:
        """Kill a gateway while a case or a message is at the authority, when that was ordered."""
        if self.cut:
            self.cut = False
            if self.chance.choice(self.gateways).kill():
                self.counts[f"died {ARRIVED}"] += 1


@asynccontextmanager
async def town(name: str, folder: Path, store_url: str, replicas: int, chance: random.Random) -> AsyncIterator[Town]:
    """Lay out a town, run its authorities, and end every process on the way out. Gateways are not started yet."""
    layouts = lay_out_replicas(folder, store_url, replicas, delivery=DELIVERY, limits=LIMITS, regions=REGIONS)
    made = Town(name, [Gateway(layout, secrets_of(store_url)) for layout in layouts], {}, chance)
    runners: list[web.AppRunner] = []
    apps: dict[str, web.Application] = {}
    try:
        for place in PLACES:
            apps[place] = _authority(layouts[0], place, made)
            runners.append(web.AppRunner(apps[place], access_log=None, shutdown_timeout=1))
            await runners[-1].setup()
            await web.TCPSite(runners[-1], "127.0.0.1", layouts[0].ports.authorities[place]).start()
        made.authorities = apps
        yield made
    finally:
        await made.stop()
        await asyncio.gather(*(runner.cleanup() for runner in runners))


def _authority(layout: Layout, place: str, around: Town) -> web.Application:
    settings = next(one for one in layout.authorities if one.region == place)
    app: web.Application = import_module(f"adapters.{place}.sandbox").build_authority(settings)
    wrong = app[MISBEHAVIOUR]
    wrong.known = {**wrong.known, "lie": "answers a question with the answer to the one before"}
    earlier: dict[str, web.Response] = {}

    @web.middleware
    async def watched(request: web.Request, handler: Handler) -> web.StreamResponse:
        kind = f"{request.method} {request.path.rsplit('/', 1)[0]} {request.headers.get('SOAPAction', '')}"
        if kind in earlier and not request.path.startswith("/control") and wrong.due("lie"):
            told = earlier[kind]
            return web.Response(status=told.status, body=told.body, headers={"Content-Type": told.content_type})
        answer = await handler(request)
        if isinstance(answer, web.Response):
            earlier[kind] = answer
        return answer

    app.middlewares.append(watched)
    _listen(app[NOTEBOOK], around)
    return app


def _listen(notebook: Notebook, around: Town) -> None:
    """Have the town hear of whatever an authority enters in its book of arrivals, on each wire."""
    count = notebook.count

    def heard(book: str, key: str) -> int:
        number = count(book, key)
        if book == "arrivals":
            around.arrived()
        return number

    notebook.count = heard  # type: ignore[method-assign] # the authority is not to know that somebody listens


def books_of(app: web.Application) -> Mapping[str, Any]:
    """Return what an authority has in its books."""
    return {book: app[NOTEBOOK].entries(book) for book in ("cases", "arrivals", "events", "messages")}
