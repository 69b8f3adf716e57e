"""A gateway whose files lie in S3: a material on its whole way, and what is seen while S3 is away."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from gateway.app import utc_now
from gateway.cli.check import check_live
from gateway.opening import own_keys
from gateway.sandbox.authority import NOTEBOOK
from gateway.storage.blobs import Blobs
from gateway.storage.places import open_blob_store
from gateway.storage.tables import blobs as blob_table
from gateway.submissions.disposal import Disposal, Terms
from gateway.telemetry import Metrics
from tests.flows.flow_support import SLIP, World, neighbourhood, prepare
from tests.flows.test_uploads import append, begin
from tests.support.few_regions import THREE
from tests.support.s3 import BUCKET, S3, SECRET, s3_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACE = f"s3://{BUCKET}/production"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    """Run S3, with the variables of a gateway that uses it."""
    with s3_server() as running, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)  # of the machine's own
        for name, value in running.variables().items():
            patch.setenv(name, value)
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Run a gateway over it."""
    layout = prepare(
        tmp_path_factory.mktemp("s3"), changes={'blobs = "blobs"': f'blobs = "{PLACE}"'}, regions=THREE
    )  # fmt: skip
    async with neighbourhood(layout) as world:
        yield world


def later(world: World, days: int) -> Disposal:
    """Return the janitor of so many days from now."""
    sealer, _, _ = own_keys(world.config)
    terms = Terms(unfinished=timedelta(hours=24), orphan=timedelta(hours=72), retention=timedelta(days=30))
    blobs = Blobs(open_blob_store(PLACE, Path()), sealer)
    clock = lambda: utc_now() + timedelta(days=days)  # noqa: E731 - a clock is any callable
    return Disposal(store=world.store, blobs=blobs, clock=clock, terms=terms, metrics=Metrics(CollectorRegistry()))


async def test_a_material_comes_in_parts_goes_to_its_region_and_is_gone_after_its_time(town: World, s3: S3) -> None:
    content = SLIP + b"%" * 5000
    place = (await begin(town, content[:100])).headers["Location"]
    blob = place.rpartition("/")[2]
    await append(town, place, 100, content[100:3000])
    done = await append(town, place, 3000, content[3000:], last=True)
    assert done.status == 200, done.body
    parts = [key for key in s3.keys("production/") if key.startswith(blob)]
    assert len(parts) == 3

    body = await town.application("foshan")
    body["materials"][0]["blob"] = blob
    filed = await town.ask("POST", "/v1/submissions", body)
    assert filed.status == 201, filed.body
    await town.until(filed.json()["id"], "COMPLETED")
    there = town.authorities["foshan"].app[NOTEBOOK].entries("materials")
    assert hashlib.sha256(content).hexdigest() in {key.rpartition("/")[2] for key in there}

    await later(town, 29).tidy()
    assert set(parts) <= set(s3.keys("production/")), "its time has not come"
    await later(town, 31).tidy()
    assert s3.keys("production/") == []
    assert s3.unfinished() == []
    [row] = await town.rows(blob_table, id=blob)
    assert (row["state"], row["name"]) == ("deleted", b"")


async def test_while_s3_refuses_files_wait_and_readiness_says_why(town: World, s3: S3) -> None:
    """A load balancer keeps the gateway: everything that needs no file is served."""
    pdf = {"Content-Type": "application/pdf"}
    with s3.refusing():
        answer = await town.ask("POST", "/v1/blobs", SLIP, headers=pdf)
        assert (answer.status, answer.json()["code"]) == (503, "gateway.unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        shown = await town.send("GET", "/readyz", url=town.admin_url)
        told = shown.body.decode()
        lines, all_well = await check_live(town.config)
    assert (lines[0], all_well) == ("files: it refuses with InvalidAccessKeyId", False)
    assert (shown.status, told.splitlines()[1]) == (200, "files: degraded: it refuses with InvalidAccessKeyId")
    assert SECRET not in told + answer.body.decode()
    assert (await town.ask("POST", "/v1/blobs", SLIP, headers=pdf)).status == 201
    again = await town.send("GET", "/readyz", url=town.admin_url)
    assert "files" not in again.body.decode()
