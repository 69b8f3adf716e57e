"""Every mapping pack of the product, held against its own examples and against generated documents.

A pack joins this suite unasked: regions and messages are found in the mappings folder.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from gateway.mapping import Pack, load_packs
from gateway.mapping.examples import without
from gateway.mapping.packs import read_ground
from gateway.mapping.source import read_files
from gateway.mapping.vocabulary import Field, Message

ROOT = Path(__file__).parents[2] / "mappings"
REGIONS = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "tables")
PACKS = [(region, path.name) for region in REGIONS for path in sorted((ROOT / region).iterdir()) if path.is_dir()]
EXAMPLES = [
    (region, message, path.name.removesuffix(".canonical.json"))
    for region, message in PACKS
    for path in sorted((ROOT / region / message / "examples").glob("*.canonical.json"))
]

NUMBERS = {
    "CN_RIC": ["44010619900101900X", "440303198506159013"],
    "PASSPORT": ["PE1234567"],
    "HM_PERMIT": ["H01234567", "M01234567"],
    "HM_RESID": ["810000199202290010", "820000198811110027"],
    "TW_PERMIT": ["01234567"],
    "TW_RESID": ["830000199005050038"],
    "FPR": ["944840198001010011"],
    "USCC": ["91440101MA5T00010Q"],
    "HK_BRN": ["12345678"],
}
"""Synthetic numbers with correct check digits: the shape of a number tells some kinds of document apart."""

DEMANDED = {("hongkong", "certificate-query"): {"consent"}}
"""Fields that the vocabulary leaves open and one region demands."""


@functools.cache
def packs(region: str) -> Mapping[str, Pack]:
    return load_packs(ROOT, region)


@functools.cache
def messages() -> Mapping[str, Message]:
    return read_ground(read_files(ROOT)).vocabulary


@functools.cache
def codes(table: str) -> tuple[str, ...]:
    return read_ground(read_files(ROOT)).tables[table].codes


def read_example(region: str, message: str, name: str) -> tuple[dict[str, Any], dict[str, Any] | bytes]:
    folder = ROOT / region / message / "examples"
    ours = orjson.loads((folder / f"{name}.canonical.json").read_bytes())
    theirs = folder / f"{name}.region.json"
    return ours, orjson.loads(theirs.read_bytes()) if theirs.exists() else theirs.with_suffix(".xml").read_bytes()


def flat(document: dict[str, Any] | bytes) -> Any:
    """A document in a form that compares: JSON as it is, XML without layout."""
    if isinstance(document, dict):
        return document
    tree = etree.fromstring(document, etree.XMLParser(remove_blank_text=True))
    return etree.canonicalize(etree.tostring(tree, encoding="unicode"), rewrite_prefixes=True)


# --- examples ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", REGIONS)
def test_all_packs_of_a_region_load(region: str) -> None:
    assert set(packs(region)) == {message for where, message in PACKS if where == region}


@pytest.mark.parametrize(("region", "message", "name"), EXAMPLES)
def test_an_example_maps_exactly(region: str, message: str, name: str) -> None:
    """Loading runs the examples as well; this is the independent reading of what "exactly" means."""
    pack = packs(region)[message]
    ours, theirs = read_example(region, message, name)
    if not name.endswith(".theirs-to-ours"):
        assert flat(pack.to_region(ours)) == flat(theirs)
    if not name.endswith(".ours-to-theirs"):
        assert pack.to_canonical(theirs) == without(ours, pack.lost)


@pytest.mark.parametrize(("region", "message"), PACKS)
def test_every_code_that_a_region_knows_stands_in_an_example(region: str, message: str) -> None:
    """A code without example is a code that nobody has compared with the region's own description."""
    pack = packs(region)[message]
    seen: dict[str, set[str]] = {}
    for where, what, name in EXAMPLES:
        if (where, what) == (region, message):
            collect(read_example(region, message, name)[0], "", seen)
    for field in messages()[message].fields.values():
        if field.table and field.name not in pack.lost:
            assert sayable(field, pack) <= seen.get(field.name, set()) | SHOWN_ELSEWHERE.get((region, message), set())


SHOWN_ELSEWHERE = {
    (region, message): {"PASSPORT", "FPR", "TW_PERMIT", "TW_RESID", "HM_RESID", "HM_PERMIT", "HK_BRN"}
    for region in REGIONS
    for message in ("certificate", "certificate-query", "person")
}
"""Kinds of document whose codes the examples of `submission` show, and other messages need not repeat."""


def collect(node: Any, at: str, seen: dict[str, set[str]]) -> None:
    """Gather the texts of every field of a document under the field's name."""
    if isinstance(node, dict):
        for key, value in node.items():
            collect(value, f"{at}.{key}".lstrip("."), seen)
    elif isinstance(node, str):
        seen.setdefault(at, set()).add(node)


def sayable(field: Field, pack: Pack) -> set[str]:
    """The codes of a field that the region can say: all but those declared lost."""
    lost = {value for loss in pack.losses if loss.field == field.name for value in loss.values}
    return set(codes(field.table)) - lost


# --- generated documents -----------------------------------------------------------------------------------------

WORDS = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Cn", "Co"]) | st.sampled_from("&<>\"'测試&\t\n\r"),
    min_size=1,
    max_size=12,
)
TEXTS = WORDS.filter(lambda text: text != "-1")


def values_of(field: Field, pack: Pack) -> st.SearchStrategy[Any]:
    """What a field of the vocabulary may hold."""
    if field.name.endswith("sha256"):
        return st.binary(min_size=32, max_size=32).map(bytes.hex)
    match field.type:
        case "integer":
            return st.integers(0, 2**53 - 1)
        case "date":
            return st.dates(date(1900, 1, 1)).map(date.isoformat)
        case "datetime":
            seconds = st.integers(0, 4_102_444_800)
            return seconds.map(lambda s: datetime.fromtimestamp(s, UTC).isoformat().replace("+00:00", "Z"))
        case "entries":
            return st.dictionaries(TEXTS, WORDS | st.just(""), max_size=3)
        case "code" if field.digits:
            return st.integers(10 ** (field.digits - 1), 10**field.digits - 1).map(str)
        case "code":
            return st.sampled_from(sorted(sayable(field, pack) if field.table else field.values))
    return TEXTS | st.just("") if field.empty else TEXTS


@st.composite
def documents(draw: st.DrawFn, pack: Pack) -> dict[str, Any]:
    """A canonical document of the pack's message, made from the vocabulary alone."""
    message = messages()[pack.message]
    document = draw(members(message, "", pack))
    for name in DEMANDED.get((pack.region, pack.message), ()):
        document.setdefault(name, "demanded")
    give_fitting_numbers(document, draw)
    return document


@st.composite
def members(draw: st.DrawFn, message: Message, prefix: str, pack: Pack) -> dict[str, Any]:
    """The fields below a prefix ("" or "materials[]."), optional ones now and then."""
    made: dict[str, Any] = {}
    absent = {f.name for f in message.fields.values() if f.type == "object" and not f.required and draw(st.booleans())}
    for name, field in message.fields.items():
        rest = name.removeprefix(prefix)
        if (
            not name.startswith(prefix)
            or "[]" in rest
            or field.type == "object"
            or message.optional_object(name) in absent - {""}
        ):
            continue
        if not field.required and draw(st.booleans()):
            continue
        if field.type == "list":
            value: Any = draw(st.lists(members(message, f"{name}[].", pack), max_size=3))
        else:
            value = draw(values_of(field, pack))
        *parents, last = rest.split(".")
        functools.reduce(lambda node, key: node.setdefault(key, {}), parents, made)[last] = value
    return made


def give_fitting_numbers(node: dict[str, Any], draw: st.DrawFn) -> None:
    for value in node.values():
        if isinstance(value, dict):
            give_fitting_numbers(value, draw)
    document = node.get("document")
    if isinstance(document, dict) and document.get("type") in NUMBERS:
        document["number"] = draw(st.sampled_from(NUMBERS[document["type"]]))


@pytest.mark.parametrize(("region", "message"), PACKS)
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
def test_what_we_say_is_what_we_hear(region: str, message: str, data: st.DataObject) -> None:
    """Canonical → region → canonical changes nothing but what the pack declares lost."""
    pack = packs(region)[message]
    document = data.draw(documents(pack))
    assert pack.to_canonical(pack.to_region(document)) == without(document, pack.lost)
