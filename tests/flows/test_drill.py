"""The fault drill in its short form: what `make drill` does for a minute, for ten seconds.

Gateways are killed under load while authorities lose answers, double, delay, lie and go down; afterwards the books of
agency, authorities and store must agree. The drill's own counting is tried too: a drill that could find nothing would
prove nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.drill.__main__ import drill
from bench.drill.books import tally
from bench.drill.load import Agency, Said
from bench.drill.town import Town


@pytest.fixture(params=["SQLite, one process", "PostgreSQL, two replicas"])
def place(request: pytest.FixtureRequest) -> tuple[str, str, int]:
    """Give the town's name, the store's address, and how many processes share it."""
    name = str(request.param)
    if name.startswith("SQLite"):
        return name, "sqlite:///pearl.db", 1
    return name, str(request.getfixturevalue("postgres_url")), 2


async def test_ten_seconds_of_faults_lose_nothing_and_double_nothing(
    place: tuple[str, str, int], tmp_path: Path
) -> None:
    name, store_url, replicas = place
    found = await drill(name, tmp_path / "town", store_url, replicas, seconds=10, seed=7)
    assert found.accepted > 0, "there was a load"
    assert not any(found.wrong.values()), found.lines()
    assert found.done, "something was done to them"


def books(**changes: Any) -> dict[str, Any]:
    """Return the books of one case that went well, or not."""
    event = {"submission_id": "A", "kind": "step", "source": "gateway", "region_event_id": None, "position": 1}
    forwarded = SimpleNamespace(**{**event, "seq": 1, "state": "FORWARDED"})
    heard = SimpleNamespace(**{**event, "seq": 2, "state": "RECEIVED", "region_event_id": "E1"})
    ours: dict[str, Any] = {
        "cases": {"A": "r1"},
        "deliveries": {"A": "delivered"},
        "numbers": {"A": 1},
        "events": [forwarded, heard],
        "conflicts": set(),
        "messages": {"M1": "delivered"},
    }
    return {**ours, **changes}


def changed(**fields: Any) -> list[SimpleNamespace]:
    """Return the events of that case with the second one changed."""
    first, second = books()["events"]
    return [first, SimpleNamespace(**{**vars(second), **fields})]


def withdrawn_again(**fields: Any) -> SimpleNamespace:
    """Return a third event of that case, which ends it once more."""
    return SimpleNamespace(**{**vars(books()["events"][1]), "seq": 3, "state": "WITHDRAWN", **fields})


def authorities(**changes: Any) -> dict[str, Any]:
    foshan: dict[str, Any] = {
        "cases": {"A": {}}, "arrivals": {"A": 1}, "events": {"1": {"EventId": "E1"}}, "messages": {"M1": {}},
    }  # fmt: skip
    nothing: dict[str, Any] = {key: {} for key in foshan}
    return {"foshan": {**foshan, **changes}, **dict.fromkeys(("guangdong", "hunan", "qingyuan"), nothing)}


def counted(ours: dict[str, Any], theirs: dict[str, Any], references: Sequence[str] = ("c1",)) -> dict[str, int]:
    said = {reference: Said("M1", "A", "supplements") for reference in references}
    agency = cast("Agency", SimpleNamespace(promised={"r1": ("A", "foshan")}, said=said, asked_again=0))
    around = cast("Town", SimpleNamespace(name="town", counts={}))
    return {name: count for name, count in tally(around, agency, ours, theirs).wrong.items() if count}


def test_books_that_agree_are_in_order() -> None:
    assert counted(books(), authorities()) == {}


@pytest.mark.parametrize(
    ("ours", "theirs", "wrong"),
    [
        ({"deliveries": {"A": "delivered"}}, {"cases": {}}, {"lost": 1}),
        ({"deliveries": {"A": "in_doubt"}}, {}, {"in_doubt": 1}),
        ({}, {"cases": {"A": {}, "B": {}}}, {"strange": 1}),
        ({}, {"messages": {}}, {"messages_lost": 1}),
        ({"messages": {"M1": "dead"}}, {"messages": {}}, {}),
        ({}, {"messages": {"M1": {}, "M2": {}}}, {"messages_strange": 1}),
        (
            {"messages": {"M1": "delivered", "M2": "delivered"}},
            {"messages": {"M1": {}, "M2": {}}},
            {"messages_doubled": 1},
        ),
        ({"events": changed(state="WITHDRAWN")}, {}, {}),
        ({"events": [*changed(state="WITHDRAWN"), withdrawn_again(source="foshan")]}, {}, {}),
        ({"events": [*changed(state="WITHDRAWN"), withdrawn_again()]}, {}, {"messages_doubled": 1}),
        ({"cases": {"A": "r1", "B": "r1"}}, {}, {"doubled": 1}),
        ({"numbers": {"A": 2}}, {}, {"doubled": 1}),
        ({}, {"events": {"1": {"EventId": "E1"}, "2": {"EventId": "E2"}}}, {"events_lost": 1}),
        ({"events": [books()["events"][1]]}, {}, {}),
        ({"events": changed(seq=3)}, {}, {"gaps": 1}),
        ({"events": changed(position=None)}, {}, {"gaps": 1}),
    ],
)
def test_the_drill_finds_what_is_wrong(ours: dict[str, Any], theirs: dict[str, Any], wrong: dict[str, int]) -> None:
    assert counted(books(**ours), authorities(**theirs)) == wrong


def test_two_references_of_one_message_are_found() -> None:
    assert counted(books(), authorities(), ["c1", "c2"]) == {"messages_doubled": 1}
