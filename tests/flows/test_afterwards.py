"""What follows a decision, as an agency sees it: documents, service, ratings and complaints, over HTTP."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import KeySet

from gateway.submissions.archive_package import verify
from tests.flows.flow_support import World, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_decided_case_is_fetched_served_rated_complained_of_and_filed(world: World, tmp_path: Path) -> None:
    """Guangdong hands the documents over, and is told what is said of the case afterwards."""
    case = await world.file("guangdong")
    await world.until(case, "COMPLETED")

    async def ready() -> dict[str, Any] | None:
        answer = (await world.ask("GET", f"/v1/submissions/{case}/results")).json()
        return answer if answer["state"] == "ready" else None

    [document] = (await eventually(ready))["documents"]
    file = await world.ask("GET", f"/v1/submissions/{case}/results/{document['code']}")
    assert (file.status, file.headers["Content-Type"], len(file.body)) == (200, "application/pdf", document["size"])
    digest = hashlib.sha256(file.body).digest()
    assert digest.hex() == document["sha256"]
    assert file.headers["Content-Digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"
    assert "filename*=UTF-8''%E5" in file.headers["Content-Disposition"]

    service = {"way": "online", "recipient": "陈小明", "at": datetime.now(UTC).isoformat(), "by": "C-1", "proof": "T-1"}
    served = await world.ask("POST", f"/v1/submissions/{case}/service", service)
    assert (served.status, served.json()["recipient"]) == (201, "陈**")
    rating = {"reference": "R-1", "role": "handling", "score": 2, "channel": "pc", "words": "等了很久"}
    assert (await world.ask("POST", f"/v1/submissions/{case}/ratings", rating)).status == 201
    assert (await world.ask("POST", f"/v1/submissions/{case}/ratings", rating)).status == 200
    complaint = {"reference": "B-1", "text": "材料被要求交两次"}
    assert (await world.ask("POST", f"/v1/submissions/{case}/complaints", complaint)).status == 202

    async def told() -> dict[str, Any] | None:
        shown = await world.case(case)
        delivered = [entry for entry in shown["timeline"] if entry["kind"] == "message.delivered"]
        return shown if len(delivered) == 2 else None

    shown = await eventually(told)
    assert (shown["state"], shown["service"]["way"]) == ("DELIVERED", "online")
    assert [(r["role"], r["score"], r["delivery"]) for r in shown["ratings"]] == [("handling", 2, "delivered")]
    assert {"rating.bad", "results.ready", "complaint.made"} <= {entry["kind"] for entry in shown["timeline"]}
    package = await world.ask("GET", f"/v1/submissions/{case}/archive")
    assert (package.status, package.headers["Content-Type"]) == (200, "application/zip")
    (tmp_path / "case.zip").write_bytes(package.body)
    jwks = (await world.send("GET", "/oauth2/jwks")).json()
    verdict = verify(tmp_path / "case.zip", KeySet.import_key_set(jwks))
    assert (verdict.problems, verdict.case, verdict.events) == ((), case, len(shown["timeline"]))
    assert file.body in package.body, "the documents of the decision are in the file"
    taken = (await world.ledger("guangdong"))["messages"].values()
    assert {"rating", "complaint"} <= {page["kind"] for page in taken if page["wwbh"] == case}


async def test_the_register_of_seals_can_be_asked(world: World) -> None:
    """Whoever holds a receipt can see what its seal may be put on."""
    [seal] = (await world.ask("GET", "/v1/seals")).json()["seals"]
    assert (seal["window"], seal["documents"]) == ("GZ-TIANHE-01", ["collection_receipt", "handover_list"])
    assert seal["valid_from"] < seal["valid_until"]


async def test_what_is_said_too_early_or_by_somebody_else_is_refused(world: World) -> None:
    case = await world.file("guangdong")
    await world.until(case, "COMPLETED")
    path = f"/v1/submissions/{case}"
    for method, tail in (("GET", "results"), ("GET", "results/JD01")):
        refused = await world.refused(partial(world.ask, method, f"{path}/{tail}", client="other-agency"))
        assert refused.code == "submission.not_found"
    assert (await world.refused(partial(world.ask, "GET", f"{path}/results/none"))).code == "result.not_found"
    wrong = {"reference": "R", "role": "handling", "score": 6, "channel": "pc"}
    assert (await world.refused(partial(world.ask, "POST", f"{path}/ratings", wrong))).fields == {"score"}
