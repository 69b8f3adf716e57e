"""A region changes an item: agencies, operators and monitoring see it, new cases wait, and an approval opens it again.

The whole gateway over HTTP. The region's own adapter is used, with a catalogue that publishes what a file says.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from click.testing import CliRunner

from gateway.app import build_app
from gateway.cli.main import main
from gateway.config import load_config
from gateway.domain.published import digest
from gateway.opening import store_url
from gateway.serve import listening
from gateway.storage import open_store
from gateway.storage.tables import evidence
from tests.flows.flow_support import FILING, NEWBORN, Answer, World, eventually, prepare
from tests.support.published import REGION, entry, packs

HOUSE = Path(__file__).resolve().parents[2]
ADAPTER = f"adapters.{REGION}.adapter"
FROM_A_FILE = '''

import dataclasses
import json
import pathlib

_opened = open_adapter


class _Published:
    """Publishes what items.json beside this file says."""

    async def items(self):
        return json.loads(pathlib.Path(__file__).with_name("items.json").read_bytes())


def open_adapter(kit):
    """Open the region as it is, with a catalogue."""
    return dataclasses.replace(_opened(kit), catalogue=_Published())
'''
LOGGED = re.compile(r"\d{4}-\d\d-\d\d \d\d:")


@dataclass(frozen=True)
class Place:
    """The running gateway, and the folder of the region that publishes."""

    world: World
    folder: Path

    def publish(self, *entries: Mapping[str, Any]) -> None:
        """Publish these items, in the region's own form."""
        write(self.folder, entries)

    async def ops(self, method: str, path: str = "", body: Mapping[str, Any] | None = None) -> Answer:
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json"}
        return await self.world.send(
            method, f"/ops/items{path}", data=data, headers=headers, url=self.world.admin_url
        )  # fmt: skip

    async def pearl(self, *command: str) -> tuple[int, str]:
        """Type a `pearl items` command. It asks over HTTP, so it runs in another thread, beside the gateway's log."""
        arguments = ["items", *command, "--config", str(self.world.layout.config)]
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments)
        return result.exit_code, "".join(line for line in result.output.splitlines(True) if not LOGGED.match(line))


def write(folder: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    pack = packs(REGION).need("item")
    (folder / "items.json").write_bytes(orjson.dumps([pack.to_region(one) for one in entries]))


def with_a_catalogue(adapters: Path) -> Path:
    """Lay out the regions as they are, but one that publishes what a file says; return its folder."""
    folder = adapters / REGION
    folder.mkdir(parents=True)
    for path in (HOUSE / "adapters").iterdir():
        if path.is_dir() and path.name != REGION:
            (adapters / path.name).symlink_to(path)
    own = HOUSE / "adapters" / REGION
    manifest = (own / "region.toml").read_text(encoding="utf-8")
    if "\ncatalogue = true" not in manifest:
        manifest = manifest.replace("[capabilities]\n", "[capabilities]\ncatalogue = true\n")
    (folder / "region.toml").write_text(manifest, encoding="utf-8")
    (folder / "adapter.py").write_text((own / "adapter.py").read_text(encoding="utf-8") + FROM_A_FILE, encoding="utf-8")
    return folder


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """Run the gateway without any authority: nobody has to take what is filed here."""
    layout = prepare(tmp_path, changes={"public_url = ": 'adapters = "adapters"\npublic_url = '})
    folder = with_a_catalogue(tmp_path / "adapters")
    write(folder, [entry(FILING)])
    config = load_config(layout.config)
    before = sys.modules.pop(ADAPTER, None)
    store = await open_store(store_url(config))
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(cookie_jar=jar) as http, build_app(config) as gateway, listening(config, gateway):
        yield Place(World(layout, config, gateway, store, http, {}), folder)
    await store.close()
    sys.modules.pop(ADAPTER, None)
    if before is not None:
        sys.modules[ADAPTER] = before


async def test_a_changed_item_waits_at_one_place_until_what_was_seen_is_approved(place: Place) -> None:
    """One flow: starting a gateway costs more than all of its steps."""
    world = place.world

    async def pulled() -> dict[str, Any] | None:
        """The first pull comes by itself, right after the start."""
        listed = (await place.ops("GET", f"?region={REGION}&state=open")).json()["items"]
        return listed[0] if listed else None

    first = await eventually(pulled)
    assert (first["item"], first["approved_by"]) == (FILING, "first-sight")

    # What an agency has already it need not fetch again.
    shown = await world.ask("GET", f"/v1/items/{FILING}")
    tag, states = shown.headers["ETag"], {one["region"]: one["state"] for one in shown.json()["places"]}
    assert set(states.values()) == {"open"}
    again = await world.ask("GET", f"/v1/items/{FILING}", headers={"If-None-Match": f'"x", {tag}'})
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    schema = await world.ask("GET", f"/v1/items/{FILING}/schema")
    assert (schema.headers["Content-Type"], schema.json()) == ("application/schema+json", shown.json()["form_schema"])
    assert (await world.ask("GET", "/v1/items/nothing/schema")).status == 404

    # The region changes what it takes.
    place.publish(entry(FILING, promised={"days": 9, "unit": "G"}), entry("11440100MBT40100XX3442011899099"))
    found = (await place.ops("POST", f"/{REGION}/pull", {"operator": "li"})).json()
    assert (found["counts"], found["entries"]) == ({"changed": 1, "new": 1}, 2)
    seen = await world.ask("GET", f"/v1/items/{FILING}", headers={"If-None-Match": tag})
    told = {one["region"]: (one["state"], one["changed"]) for one in seen.json()["places"]}
    assert (seen.status, told.pop(REGION)) == (200, ("changed", ["promised.days"]))
    assert {state for state, _ in told.values()} == {"open"}
    figures = (await world.send("GET", "/metrics", url=world.admin_url)).body.decode()
    assert f'pearl_items_blocked{{region="{REGION}"}} 1.0' in figures

    # New cases wait there, and go on elsewhere.
    body = await world.application(REGION)
    refused = await world.refused(lambda: world.ask("POST", "/v1/submissions", body))
    assert (refused.code, refused.codes, refused.problem["region"]) == (
        "submission.item_changed", {"item_changed"}, REGION,
    )  # fmt: skip
    assert await world.file("foshan")

    # An approval of what was there before does not cover it.
    whole = (await place.ops("GET", f"/{REGION}/{FILING}")).json()
    assert [(one["path"], one["matters"]) for one in whole["changes"]] == [("promised.days", True)]
    order = {"hash": first["hash"], "reason": "limits noted", "operator": "li"}
    stale = await place.ops("POST", f"/{REGION}/{FILING}/approve", order)
    assert (stale.status, stale.json()["code"]) == (409, "item.changed_since")
    assert (await world.ask("POST", "/v1/submissions", body)).status == 422

    # The one of what was seen does; it is the command that operators type.
    code, printed = await place.pearl("diff", REGION, FILING)
    assert (code, printed.splitlines()[0][:22]) == (0, "! promised.days: 1 → 9")
    assert whole["hash"] in printed
    typed = ("approve", REGION, FILING, "--hash", whole["hash"], "--reason", "limits noted")
    assert await place.pearl(*typed) == (0, f"{FILING} is open at {REGION}.\n")
    assert (await world.ask("POST", "/v1/submissions", body)).status == 201
    (row,) = await world.rows(evidence, action="item.approve")
    assert (row["reason"], row["what"]["hash"]) == (
        "limits noted",
        digest(entry(FILING, promised={"days": 9, "unit": "G"})),
    )

    # What the file does not know is listed and cannot be approved.
    code, printed = await place.pearl("list", "--live", "--state", "new", "--json")
    assert [one["item"] for one in json.loads(printed)] == ["11440100MBT40100XX3442011899099"]
    code, printed = await place.pearl("show", REGION, FILING)
    assert (code, "Unlike our file:" in printed) == (0, True)
    code, printed = await place.pearl("pull", REGION)
    assert (code, printed) == (0, f"{REGION}: 2 entries, 0 that cannot be read; nothing changed\n")
    assert (await place.pearl("pull", "foshan"))[0] == 1

    for method, path, sent, status in (
        ("POST", f"/{REGION}/{FILING}/approve", {"reason": "x"}, 422),
        ("POST", f"/{REGION}/{FILING}/approve", {**order, "hash": "short"}, 422),
        ("POST", f"/{REGION}/{FILING}/approve", {**order, "force": True}, 422),
        ("POST", f"/{REGION}/{NEWBORN}/approve", order, 404),
        ("POST", "/nowhere/pull", {}, 404),
        ("GET", f"/{REGION}/{NEWBORN}", None, 404),
    ):
        assert (await place.ops(method, path, sent)).status == status, (path, sent)
    forged = await world.send("POST", f"/ops/items/{REGION}/pull", data=b"{}", url=world.admin_url)
    assert (forged.status, forged.json()["code"]) == (422, "request.media_type")
