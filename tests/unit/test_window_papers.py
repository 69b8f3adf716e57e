"""What a window may take, and what it may put its seal on: receipts, handover lists, and nothing that says 受理."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from joserfc import jwt
from sqlalchemy import Connection, select, update

from gateway.crypto.at_rest import Sealer
from gateway.domain.caller import Caller
from gateway.domain.region import RegionNames
from gateway.domain.submission import State
from gateway.errors import NotFound, NotPermitted, StartRefused
from gateway.storage import Store
from gateway.storage.tables import evidence, submissions
from gateway.submissions.papers import Papers, PaperSent
from gateway.submissions.window_documents import NO_SEAL_YET, TYP, WindowDocuments, as_json
from gateway.windows import DocumentType, load_windows
from tests.support.afterwards import BODY, Finished
from tests.support.cases import number
from tests.support.clock import ManualClock
from tests.support.window import FILING, FOSHAN, PDF, WINDOW, Browser, FakeServices, browser, filled, new_signer
from tests.support.window_papers import SEAL

CLERK = Caller(
    "pearl-window", "机构", "11440100696927671X", "440100", frozenset(), operator="C-0417", window_id="GZ-01"
)  # fmt: skip
MATERIALS = [
    {"code": "ID", "name": "身份证.pdf", "media_type": "application/pdf", "size": 3, "sha256": "a" * 64,
     "original_sighted": True},
    {"code": "PROOF", "name": "证明.pdf", "media_type": "application/pdf", "size": 3, "sha256": "b" * 64,
     "original_sighted": False},
]  # fmt: skip
AGENT = {"name": "王小丽", "document": {"type": "CN_RIC", "number": "44010619900101900X"}}


# --- the register and its seals ------------------------------------------------------------------------------------


def test_what_is_outside_the_register_is_refused_all_at_once() -> None:
    window = replace(WINDOW, items=frozenset({"other"}))
    with pytest.raises(NotPermitted) as refused:
        window.refuse_outside(FILING, "hunan")
    assert refused.value.stable_code == "window.outside_register"
    assert [problem.code for problem in refused.value.problems] == ["outside_items", "outside_regions"]
    WINDOW.refuse_outside(FILING, "foshan")


@pytest.mark.parametrize(
    "seal",
    [
        None,
        replace(SEAL, documents=frozenset({DocumentType.HANDOVER_LIST})),
        replace(SEAL, valid_until=date(2026, 3, 1)),
        replace(SEAL, valid_from=date(2026, 3, 3)),
    ],
    ids=["none", "out of scope", "expired", "not yet valid"],
)
def test_a_document_is_sealed_only_inside_the_scope_and_the_term_of_the_seal(seal: Any) -> None:
    with pytest.raises(NotPermitted) as refused:
        replace(WINDOW, seal=seal).sealed(DocumentType.COLLECTION_RECEIPT, date(2026, 3, 2))
    assert refused.value.stable_code == "window.no_seal"
    assert WINDOW.sealed(DocumentType.COLLECTION_RECEIPT, date(2026, 3, 2)) == SEAL


SEED = Path(__file__).parents[2] / "gateway" / "sandbox" / "seed" / "windows.toml"
REGIONS = ("guangdong", "foshan", "hongkong", "shenzhen", "macau", "hunan", "guangxi", "fujian", "qingyuan")


@pytest.mark.parametrize(
    ("there", "instead", "field"),
    [
        ("跨域通办收件专用章", "受理专用章", "seal.name"),
        ('"handover_list"', '"acceptance_notice"', "seal.documents"),
        ("2030-12-31", "2025-12-31", "seal.valid_until"),
        ("2030-12-31", '"2030-12-31"', "seal.valid_until"),
    ],
)
def test_a_seal_that_says_more_than_it_may_stops_the_start(
    tmp_path: Path, there: str, instead: str, field: str
) -> None:
    """Above all one that would speak of acceptance."""
    text = SEED.read_text(encoding="utf-8")
    assert there in text
    path = tmp_path / "windows.toml"
    path.write_text(text.replace(there, instead), encoding="utf-8")
    with pytest.raises(StartRefused) as refused:
        load_windows(path, regions=REGIONS, items=())
    assert any(field in problem.field for problem in refused.value.problems)


# --- documents -----------------------------------------------------------------------------------------------------


class Counter:
    """A case that the window took, and what issues its documents."""

    def __init__(self, done: Finished) -> None:
        self.done = done
        self.signer = new_signer()
        names = {"foshan": RegionNames("佛山市", "佛山市", "Foshan", "Foshan")}
        self.documents = WindowDocuments(
            store=done.store, sealer=done.sealer, signer=self.signer, items={}, region_names=names,
            issuer="https://gateway.example", clock=done.clock,
        )  # fmt: skip

    def payload(self, token: str) -> dict[str, Any]:
        read = jwt.decode(token, self.signer.key_set(), algorithms=["ES256"])
        assert read.header["typ"] == TYP
        return dict(read.claims)


@pytest_asyncio.fixture
async def counter(sqlite_store: Store, sealer: Sealer, clock: ManualClock) -> Counter:
    """Return a case that an agent brought to the window, with one original that was seen."""
    done = Finished(sqlite_store, sealer, clock)
    await done.open(State.RECEIVED, body={**BODY, "materials": MATERIALS, "agent": AGENT, "mandate": "MD-1"})
    mine = update(submissions).values(client_id="pearl-window/GZ-01", operator="C-0417", window_id="GZ-01")
    await done.store.write(lambda tx: tx.execute(mine).rowcount)
    return Counter(done)


async def test_a_collection_receipt_says_what_was_collected_and_who_decides(counter: Counter) -> None:
    receipt = await counter.documents.receipt(CLERK, WINDOW, counter.done.case)
    said = as_json(receipt)
    assert (said["case"], said["operator"], said["window"]["id"]) == (counter.done.case, "C-0417", "GZ-01")
    assert said["applicant"] == {"name": "李芳", "document": {"type": "CN_RIC", "number": "**************002X"}}
    assert (said["agent"]["name"], said["mandate"]) == ("王小丽", "MD-1")
    assert [(m["code"], m["form"], m["sha256"][0]) for m in said["materials"]] == [
        ("ID", "copy_of_sighted_original", "a"), ("PROOF", "copy", "b"),
    ]  # fmt: skip
    assert said["decided_by"]["name"] == "佛山市"
    assert said["query_url"].endswith(counter.done.case)
    assert (said["seal"]["id"], said["seal"]["standing"]) == ("SEAL-1", NO_SEAL_YET)


async def test_a_collection_receipt_never_says_that_anything_was_accepted(counter: Counter) -> None:
    """受理 stands in it once: in the sentence that says who decides it."""
    said = as_json(await counter.documents.receipt(CLERK, WINDOW, counter.done.case))
    statement = said.pop("statement")
    assert "是否受理由佛山市的主管部门决定" in statement
    assert statement.count("受理") == 1
    assert "受理" not in str(said)


async def test_the_receipt_of_a_case_in_parts_names_each_office_that_decides(counter: Counter) -> None:
    done = counter.done
    part = number(2, done.clock())

    def divide(tx: Connection) -> None:
        whole = dict(tx.execute(select(submissions)).mappings().one())
        mine = {"id": part, "client_reference": f"{done.case}/1", "parent_id": done.case, "part_code": "CHECK",
                "handling_region": "guangdong", "handling_code": "440000"}  # fmt: skip
        tx.execute(submissions.insert().values({**whole, **mine}))
        tx.execute(update(submissions).where(submissions.c.id == done.case).values(mode="joint"))

    await done.store.write(divide)
    said = as_json(await counter.documents.receipt(CLERK, WINDOW, done.case))
    office = {"region": "guangdong", "name": "guangdong", "office_code": "440000"}
    assert said["parts"] == [{"case": part, "name": "CHECK", "decided_by": office}]
    assert "是否受理由guangdong的主管部门分别决定" in said["statement"]


async def test_the_signature_covers_what_the_document_says_and_names_the_seal(counter: Counter) -> None:
    receipt = await counter.documents.receipt(CLERK, WINDOW, counter.done.case)
    payload = counter.payload(receipt.signature)
    assert payload["content"] == dict(receipt.content)
    assert (payload["document"], payload["seal"]["id"]) == ("collection_receipt", "SEAL-1")
    rows = await counter.done.store.read(lambda tx: tx.execute(select(evidence)).all())
    assert [(row.action, row.what["seal"]) for row in rows] == [("window.document", "SEAL-1")]
    assert "李芳" not in str(rows)


async def test_a_handover_list_is_that_of_a_parcel_of_this_case(counter: Counter) -> None:
    done = counter.done
    papers = Papers(store=done.store, events=done.events, sealer=done.sealer, clock=done.clock)
    items = [{"name": "户口簿", "copies": 2, "original": True}]
    sent = PaperSent.model_validate(
        {"reference": "P-1", "way": "courier", "tracking": "EB1", "recipient": "佛山市政务服务中心", "at": done.clock(),
         "items": items}
    )  # fmt: skip
    await papers.sent(CLERK, done.case, sent)
    said = as_json(await counter.documents.handover(CLERK, WINDOW, done.case, "P-1"))
    assert (said["tracking"], said["recipient"]) == ("EB1", "佛山市政务服务中心")
    assert [(item["name"], item["copies"], item["original"]) for item in said["items"]] == [("户口簿", 2, True)]
    with pytest.raises(NotFound):
        await counter.documents.handover(CLERK, WINDOW, done.case, "P-2")


async def test_another_window_gets_no_document(counter: Counter) -> None:
    with pytest.raises(NotFound):
        await counter.documents.receipt(replace(CLERK, window_id="GZ-02"), WINDOW, counter.done.case)
    with pytest.raises(NotPermitted):
        await counter.documents.receipt(CLERK, replace(WINDOW, seal=None), counter.done.case)


# --- the pages -----------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def clerk(tmp_path: Path) -> AsyncIterator[Browser]:
    """Return the browser of a clerk who has signed on."""
    async with browser(tmp_path) as one:
        await one.sign_on()
        yield one


async def taken(clerk: Browser, **more: str) -> str:
    """Hand a form in and return the address of its case."""
    texts = filled(await clerk.open_form(FOSHAN), **more)
    answer = await clerk.post(FOSHAN, texts, [("material.ID", "身份证.pdf", PDF)])
    assert answer.status == 303, answer.page
    return answer.location


async def test_a_case_leads_to_its_receipt_and_that_can_be_printed(clerk: Browser) -> None:
    case = await taken(clerk)
    _, page = await clerk.get(case)
    assert f'href="{case}/receipt"' in page
    status, receipt = await clerk.get(f"{case}/receipt")
    assert status == 200
    text = re.sub(r"<[^>]+>", " ", unescape(receipt))
    for said in ("佛山市", "代理人甲", "MD-1", "Copy; the original was seen", "0" * 64, SEAL.id, SEAL.name, "the.jws"):
        assert said in text
    assert text.count("受理") == 1
    status, document = await clerk.get(f"{case}/receipt.json")
    assert (status, '"jws":"the.jws"' in document) == (200, True)


async def test_paper_is_sent_and_received_and_its_list_printed(clerk: Browser) -> None:
    case = await taken(clerk)
    hidden = await clerk.open_form(f"{case}/papers")
    lines = {"item.0.name": "户口簿", "item.0.kind": "original", "item.0.copies": "2", "item.3.name": "声明"}
    sent = {"way": "courier", "recipient": "佛山市政务服务中心", "tracking": "EB1"}
    answer = await clerk.post(f"{case}/papers", {**hidden, **sent, **lines})
    assert (answer.status, answer.location) == (303, f"{case}/papers")
    [paper] = clerk.fakes.papers.held
    assert [(line["name"], line["copies"], line["original"]) for line in paper.items] == [
        ("户口簿", 2, True), ("声明", 1, False),
    ]  # fmt: skip
    status, listed = await clerk.get(f"{case}/papers/{paper.reference}/list")
    assert (status, "户口簿" in listed, "EB1" in listed) == (200, True, True)
    token = {"csrf": hidden["csrf"], "by": "收发室"}
    assert (await clerk.post(f"{case}/papers/{paper.reference}/received", token)).status == 303
    assert clerk.fakes.papers.held[0].received_by == "收发室"


async def test_a_result_is_handed_out_and_its_service_written_down(clerk: Browser) -> None:
    case = await taken(clerk)
    status, page = await clerk.get(f"{case}/results")
    assert (status, "There is no decision yet" in page, "决定书.pdf" in page) == (200, True, True)
    status, content = await clerk.get(f"{case}/results/D1")
    assert (status, content) == (200, clerk.fakes.results.content.decode())
    assert (await clerk.get(f"{case}/results/none"))[0] == 404
    clerk.fakes.states.append(("COMPLETED", "foshan", {}))
    hidden = await clerk.open_form(f"{case}/results")
    wrong = await clerk.post(f"{case}/service", {**hidden, "way": "window", "recipient": "", "proof": "<b>7"})
    assert (wrong.status, "&lt;b&gt;7" in wrong.page, clerk.fakes.results.served) == (422, True, None)
    said = {**hidden, "way": "window", "recipient": "王小丽", "proof": "领取登记 7"}
    assert (await clerk.post(f"{case}/service", {**said, "csrf": "guess"})).status == 403
    assert (await clerk.post(f"{case}/service", said)).status == 303
    served = clerk.fakes.results.served
    assert served is not None
    assert (served.way, served.by) == ("window", "C-0417")


async def test_a_list_that_is_wrong_comes_back_with_what_was_typed(clerk: Browser) -> None:
    case = await taken(clerk)
    hidden = await clerk.open_form(f"{case}/papers")
    answer = await clerk.post(
        f"{case}/papers", {**hidden, "way": "pigeon", "tracking": "<b>EB1", "item.0.copies": "9x"}
    )
    assert answer.status == 422
    assert "&lt;b&gt;EB1" in answer.page
    assert clerk.fakes.papers.held == []
    answer = await clerk.post(f"{case}/papers", {**hidden, "csrf": "guess"})
    assert answer.status == 403


async def test_originals_that_were_seen_and_an_agent_become_part_of_the_application(clerk: Browser) -> None:
    agent = {
        "agent.name": "王小丽", "agent.document.type": "CN_RIC", "agent.document.number": "440106199001019 00x",
        "mandate": "MD-1", "sighted.ID": "yes",
    }  # fmt: skip
    await taken(clerk, **agent)
    [application] = clerk.fakes.applications
    assert application.agent is not None
    assert (application.agent.name, application.agent.document.number) == ("王小丽", "44010619900101900X")
    assert (application.mandate, application.materials[0].original_sighted) == ("MD-1", True)
    await taken(clerk)
    assert (clerk.fakes.applications[1].agent, clerk.fakes.applications[1].materials[0].original_sighted) == (
        None, False,
    )  # fmt: skip


async def test_half_an_agent_is_told_at_every_field_that_is_missing(clerk: Browser) -> None:
    texts = filled(await clerk.open_form(FOSHAN), **{"agent.name": "王小丽", "agent.document.number": "1"})
    answer = await clerk.post(FOSHAN, texts, [("material.ID", "身份证.pdf", PDF)])
    assert answer.status == 422
    for name in ("agent.document.type", "mandate"):
        assert re.search(rf'name="{re.escape(name)}"[^>]*aria-invalid="true"', answer.page), name


async def test_an_item_or_a_place_outside_the_register_is_refused_on_every_page(tmp_path: Path) -> None:
    narrow = replace(WINDOW, items=frozenset({"other"}))
    async with browser(tmp_path, fakes=FakeServices(new_signer(), windows=[narrow])) as one:
        await one.sign_on()
        for path in (FOSHAN, f"/window/items/{FILING}", f"/window/items/{FILING}/guangdong"):
            status, page = await one.get(path)
            assert (status, "The register does not let this window" in page) == (403, True)
        assert (await one.get("/window/items/unknown"))[0] == 404
