"""Files over real HTTP in as many requests as it takes (draft-ietf-httpbis-resumable-upload), and whose they are."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import pytest

from tests.flows.flow_support import AGENCY, SLIP, Answer, World, eventually
from tests.support.uploads import OFD, archive

pytestmark = pytest.mark.asyncio(loop_scope="session")

PARTIAL = "application/partial-upload"
PDF = {"Content-Type": "application/pdf", "Content-Disposition": 'attachment; filename="id.pdf"'}
LIMIT = 65536


def digest(content: bytes, algorithm: str = "sha256") -> str:
    return f"sha-{algorithm[3:]}=:{base64.b64encode(hashlib.new(algorithm, content).digest()).decode()}:"


async def begin(world: World, content: bytes = b"", **headers: str) -> Answer:
    """Begin an upload; names of header fields are written with underscores."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return await world.ask("POST", "/v1/blobs", content, headers={**PDF, "Upload-Complete": "?0", **more})


async def append(
    world: World, place: str, offset: int, content: bytes, *, last: bool = False, client: str = AGENCY, **headers: str
) -> Answer:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"Content-Type": PARTIAL, "Upload-Offset": str(offset), "Upload-Complete": "?1" if last else "?0"}
    return await world.ask("PATCH", place, content, client=client, headers={**fields, **more})


def upload_fields(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in ("Upload-Offset", "Upload-Complete", "Upload-Length") if name in headers}


async def test_a_file_arrives_in_three_requests_and_goes_to_its_case(world: World) -> None:
    content = SLIP + b"x" * 1000
    begun = await begin(world, content[:5], Upload_Length=str(len(content)), Repr_Digest=digest(content, "sha512"))
    place = begun.headers["Location"]
    assert (begun.status, begun.json()) == (201, {"id": place.rpartition("/")[2], "offset": 5})
    assert begun.headers["Upload-Limit"].startswith(f"max-size={LIMIT}, max-age=")
    first = await append(world, place, 5, content[5:100], Content_Digest=digest(content[5:100]))
    assert (first.status, first.body) == (204, b"")
    told = await world.ask("HEAD", place)
    expected = {"Upload-Offset": "100", "Upload-Complete": "?0", "Upload-Length": str(len(content))}
    assert (told.status, upload_fields(told.headers), told.headers["Cache-Control"]) == (204, expected, "no-store")
    last = await append(world, place, 100, content[100:], last=True)
    assert (last.status, last.headers["Upload-Complete"]) == (200, "?1")
    assert last.json() == {
        "id": place.rpartition("/")[2], "name": "id.pdf", "media_type": "application/pdf", "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    told = await world.ask("HEAD", place)
    assert upload_fields(told.headers)["Upload-Complete"] == "?1"

    body = await world.application("foshan")
    body["materials"][0]["blob"] = last.json()["id"]
    accepted = await world.ask("POST", "/v1/submissions", body)
    assert accepted.status == 201, accepted.body
    shown = (await world.ask("GET", place)).json()
    assert (shown["case"], shown["state"]) == (accepted.json()["id"], "stored")
    kept = await world.refused(lambda: world.ask("DELETE", place))
    assert (kept.status, kept.code) == (409, "blob.in_use")
    again = {**body, "reference": body["reference"] + "2"}
    used = await world.refused(lambda: world.ask("POST", "/v1/submissions", again))
    assert used.codes == {"blob_used"}
    assert (await world.ask("POST", "/v1/submissions", body)).json()["replayed"]

    async def delivered() -> Any:
        case = (await world.ask("GET", f"/v1/submissions/{accepted.json()['id']}")).json()
        return case["delivery"]["state"] == "delivered" or None

    await eventually(delivered)


async def test_an_upload_is_nobody_elses(world: World) -> None:
    place = (await begin(world, SLIP)).headers["Location"]
    other = "other-agency"
    assert (await world.ask("HEAD", place, client=other)).status == 404
    assert (await append(world, place, len(SLIP), b"x", client=other)).status == 404
    for method in ("GET", "DELETE"):
        refusal = await world.refused(lambda method=method: world.ask(method, place, client=other))  # type: ignore[misc] # bound as default
        assert (refusal.status, refusal.code) == (404, "blob.not_found")
    assert (await world.ask("DELETE", place)).status == 204
    assert (await world.ask("HEAD", place)).status == 404


async def test_after_a_dead_connection_an_upload_goes_on_where_it_was(world: World) -> None:
    """The client says that more comes, and is gone; meanwhile another request is told to wait."""
    place = (await begin(world)).headers["Location"]
    _, writer = await asyncio.open_connection("127.0.0.1", world.layout.ports.public)
    content = SLIP + b"x" * (5000 - len(SLIP))
    fields = {
        "Host": "x", "Authorization": f"Bearer {await world.token()}", "Content-Type": PARTIAL, "Upload-Offset": "0",
        "Upload-Complete": "?1", "Content-Length": str(len(content)),
    }  # fmt: skip
    lines = [f"PATCH {place} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    writer.write("\r\n".join(lines).encode() + SLIP)
    await writer.drain()

    async def busy() -> bool | None:
        return (await append(world, place, 4999, b"")).json()["code"] == "upload.busy" or None

    async def finished() -> Answer | None:
        offset = int((await world.ask("HEAD", place)).headers["Upload-Offset"])
        answer = await append(world, place, offset, content[offset:], last=True)
        return answer if answer.status == 200 else None

    await eventually(busy)
    writer.close()
    assert (await eventually(finished)).json()["sha256"] == hashlib.sha256(content).hexdigest()


async def test_what_an_upload_supports_can_be_asked(world: World) -> None:
    told = await world.ask("OPTIONS", "/v1/blobs")
    assert (told.headers["Accept-Patch"], told.headers["Upload-Limit"]) == (PARTIAL, f"max-size={LIMIT}")


APPENDS: Mapping[str, tuple[int, bytes, Mapping[str, str], int, str, set[str]]] = {
    "another type": (len(SLIP), b"x", {"Content-Type": "application/pdf"}, 422, "request.invalid", {"Content-Type"}),
    "no offset": (0, b"x", {"Upload-Offset": "a"}, 422, "request.invalid", {"Upload-Offset"}),
    "a negative offset": (-1, b"x", {}, 422, "request.invalid", {"Upload-Offset"}),
    "no word on whether it is complete": (
        len(SLIP), b"x", {"Upload-Complete": "yes"}, 422, "request.invalid", {"Upload-Complete"},
    ),
    "an offset that is not the next one": (3, b"x", {}, 409, "upload.offset", {"Upload-Offset"}),
    "a digest of something else": (
        len(SLIP), b"x", {"Content-Digest": digest(b"y")}, 422, "request.invalid", {"Content-Digest"},
    ),
    "a digest that is none": (
        len(SLIP), b"x", {"Repr-Digest": "sha-512=:AAAA:"}, 422, "request.invalid", {"Repr-Digest"},
    ),
    "more than a file may have": (len(SLIP), b"x" * LIMIT, {}, 413, "request.too_large", set()),
    "another length": (
        len(SLIP), b"x", {"Upload-Complete": "?1", "Upload-Length": "9"}, 422, "upload.length", {"Upload-Length"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", APPENDS)
async def test_an_append_is_refused_for(world: World, name: str) -> None:
    """The upload stays where it was, and can be finished."""
    offset, content, headers, status, code, fields = APPENDS[name]
    place = (await begin(world, SLIP)).headers["Location"]
    sent: dict[str, Any] = {name.replace("-", "_"): value for name, value in headers.items()}
    refusal = await world.refused(lambda: append(world, place, offset, content, **sent))
    assert (refusal.status, refusal.code, refusal.fields) == (status, code, fields)
    assert (await world.ask("HEAD", place)).headers["Upload-Offset"] == str(len(SLIP))
    assert (await append(world, place, len(SLIP), b"", last=True)).status == 200


async def test_refusals_say_what_the_draft_asks_for(world: World) -> None:
    place = (await begin(world, SLIP)).headers["Location"]
    assert (await append(world, place, 1, b"x")).headers["Upload-Offset"] == str(len(SLIP))
    assert (await append(world, place, len(SLIP), b"x" * LIMIT)).headers["Upload-Limit"] == f"max-size={LIMIT}"
    refused = await append(world, place, len(SLIP), b"/S /Launch ", last=True)
    assert (refused.status, refused.headers["Upload-Complete"]) == (422, "?1")
    assert (await world.ask("HEAD", place)).status == 404


async def test_an_archive_is_looked_into(world: World) -> None:
    ofd = {"Content-Type": "application/ofd"}
    assert (await world.ask("POST", "/v1/blobs", archive(), headers=ofd)).status == 201
    bad = archive({**OFD, "Doc_0/vbaProject.bin": b"x"})
    refusal = await world.refused(lambda: world.ask("POST", "/v1/blobs", bad, headers=ofd))
    assert (refusal.code, refusal.codes) == ("blob.content_refused", {"macro"})
