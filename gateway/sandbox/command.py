"""`pearl sandbox`: start the neighbourhood, say what is where, take the tour, run until told to stop."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp

from gateway.sandbox.layout import Choices, Ports, lay_out, start_afresh
from gateway.sandbox.neighbourhood import Neighbourhood, authorities, start
from gateway.sandbox.tour import Tour, TourError

Say = Callable[[str], None]


async def run_sandbox(folder: Path, ports: Ports, *, fresh: bool, tour: bool, leave: bool, say: Say) -> int:
    """Run everything; return the exit code: 0, or 1 when the tour did not go as it should."""
    if fresh:
        start_afresh(folder)
    begun = time.perf_counter()
    async with start(folder, ports, Choices()) as neighbourhood:
        say(f"Pearl Gateway is ready ({time.perf_counter() - begun:.1f} s). Everything lies under {folder}/.")
        _introduce(neighbourhood, say)
        passed = await _take_tour(neighbourhood, say) if tour else True
        if not leave:
            say("\nRunning until Ctrl-C.")
            await _until_told()
    return 0 if passed else 1


async def run_authorities(folder: Path, ports: Ports, host: str, say: Say) -> None:
    """Run only the simulated authorities, on what `pearl init` wrote."""
    layout = lay_out(folder, ports, Choices(keep=True))
    async with authorities(layout.authorities, ports, host):
        for region in ports.authorities:
            say(f"{region}: {ports.authority_url(region)}/control")
        await _until_told()


def _introduce(neighbourhood: Neighbourhood, say: Say) -> None:
    """Say what is where, and who can sign on."""
    ports = neighbourhood.layout.ports
    say(f"\n  clerks' window    {ports.public_url}/window")
    say(f"  discovery         {ports.public_url}/.well-known/openid-configuration")
    say(f"  API for agencies  {ports.public_url}/v1/items   (client demo-agency, key keys/demo-agency.pem)")
    say(f"  operations        {ports.admin_url}/metrics   {ports.admin_url}/readyz")
    for region in ports.authorities:
        say(f"  {region:<16}  {ports.authority_url(region)}/control   (make it misbehave)")
    say("")
    for person in neighbourhood.layout.people:
        known = " / ".join(str(person[name]) for name in ("account", "password", "otp") if name in person)
        say(f"  {person['role']:<16}  {known}   (signs on at {person['region']})")


async def _take_tour(neighbourhood: Neighbourhood, say: Say) -> bool:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        try:
            await Tour(neighbourhood, session, say).take()
        except TourError as error:
            say(f"\nThe tour stopped: {error}")
            say(f"Look into {neighbourhood.layout.folder}/gateway.log.")
            return False
    return True


async def _until_told() -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()
