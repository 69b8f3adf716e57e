"""`pearl check`: everything that a start would refuse, and on wish whether every region can be reached."""

from __future__ import annotations

import time

import aiohttp
from prometheus_client import CollectorRegistry

from gateway.app import utc_now
from gateway.calendars import ending
from gateway.config import Config, Problems
from gateway.domain.calendar import local_day
from gateway.errors import GatewayError
from gateway.opening import data_and_regions, own_keys, registered_clients
from gateway.regions import Region
from gateway.storage.places import check_place, open_blob_store, trouble_of
from gateway.telemetry import Metrics
from gateway.tls import read_tls


async def check_all(config: Config) -> str:
    """Read and open everything that a start would, without a call to any region. Raises StartRefused, listing all.

    Return what there is; then, a line each, what is right today and will not be for long.
    """
    problems = Problems()
    with problems.collect():
        own_keys(config)
    with problems.collect():
        read_tls(config)
    with problems.collect():
        check_place(config.store.blobs)
    async with aiohttp.ClientSession() as session:
        with problems.collect():
            known = await registered_clients(config)
            data, regions, _ = data_and_regions(config, session, utc_now, Metrics(CollectorRegistry()), known)
    problems.refuse()
    clients = {*data.clients, *(known or ())}
    summary = (
        f"{len(regions)} regions, {sum(len(region.packs) for region in regions.values())} mapping packs, "
        f"{len(data.items)} items, {len(clients)} clients, {len(data.types)} certificate types: nothing is wrong."
    )
    return "\n".join([summary, *ending(data.calendars, local_day(utc_now()))])


async def check_live(config: Config) -> tuple[list[str], bool]:
    """Reach the place for files and every region; return one line each, and whether all answered."""
    trouble = await trouble_of(open_blob_store(config.store.blobs, config.folder))
    async with aiohttp.ClientSession() as session:
        _, regions, _ = data_and_regions(config, session, utc_now, Metrics(CollectorRegistry()))
        found = [await _reach(region) for region in regions.values()]
    files = "files: reached" if trouble is None else f"files: {trouble}"
    return [files, *(line for line, _ in found)], trouble is None and all(well for _, well in found)


async def _reach(region: Region) -> tuple[str, bool]:
    if region.adapter.probe is None:
        return f"{region.id}: cannot be probed", True
    begun = time.perf_counter()
    try:
        await region.adapter.probe()
    except GatewayError as error:
        return f"{region.id}: {error.public} {error.detail}".rstrip(), False
    return f"{region.id}: reached in {(time.perf_counter() - begun) * 1000:.0f} ms", True
