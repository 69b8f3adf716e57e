"""Every mapping pack of the product, held against its own examples and against documents that nobody wrote.

A pack joins this suite unasked: regions and messages are found in the mappings folder.
"""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from lxml import etree

from gateway.mapping import Pack
from gateway.mapping.examples import without
from gateway.mapping.tools.folder import Opened, open_folder
from gateway.mapping.tools.generated import generated
from gateway.mapping.vocabulary import OURS_TO_THEIRS, Field

ROOT = Path(__file__).parents[2] / "mappings"
REGIONS = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "tables")
PACKS = [(region, path.name) for region in REGIONS for path in sorted((ROOT / region).iterdir()) if path.is_dir()]
EXAMPLES = [
    (region, message, path.name.removesuffix(".canonical.json"))
    for region, message in PACKS
    for path in sorted((ROOT / region / message / "examples").glob("*.canonical.json"))
]
DOCUMENTS = 12
"""Made up for each pack, each way. `pearl mappings test --documents` makes more."""

CODECS = {"gb18030": "gb18030", "utf-8": "utf-8"}
"""Character sets of the packs that speak forms and CSV, as Python knows them."""


@functools.cache
def mappings() -> Opened:
    return open_folder(ROOT)


def pack_of(region: str, message: str) -> Pack:
    return mappings().packs[region][message]


def read_example(region: str, message: str, name: str) -> tuple[dict[str, Any], dict[str, Any] | bytes]:
    folder = ROOT / region / message / "examples"
    ours = orjson.loads((folder / f"{name}.canonical.json").read_bytes())
    theirs = next(folder.glob(f"{name}.region.*"))
    raw = theirs.read_bytes()
    if theirs.suffix == ".json":
        return ours, orjson.loads(raw)
    return ours, raw.replace(b"\n", b"") if theirs.suffix == ".form" else raw  # line breaks are for people


def flat(document: dict[str, Any] | bytes, pack: Pack) -> Any:
    """A document in a form that compares: JSON as it is, XML without layout, form fields and CSV as rows."""
    if isinstance(document, dict):
        return document
    codec = CODECS[pack.form.charset]
    if pack.form.suffix.endswith(".xml"):
        tree = etree.fromstring(document, etree.XMLParser(remove_blank_text=True))
        return etree.canonicalize(etree.tostring(tree, encoding="unicode"), rewrite_prefixes=True)
    if pack.form.suffix.endswith(".csv"):
        return list(csv.reader(document.decode(codec).splitlines()))
    return sorted(parse_qsl(document.decode("ascii").strip(), encoding=codec, strict_parsing=True))


# --- examples ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", REGIONS)
def test_all_packs_of_a_region_load(region: str) -> None:
    assert set(mappings().packs[region]) == {message for where, message in PACKS if where == region}


@pytest.mark.parametrize(("region", "message", "name"), EXAMPLES)
def test_an_example_maps_exactly(region: str, message: str, name: str) -> None:
    """Loading runs the examples as well; this is the independent reading of what "exactly" means."""
    pack = pack_of(region, message)
    ours, theirs = read_example(region, message, name)
    if not name.endswith(".theirs-to-ours"):
        assert flat(pack.to_region(ours), pack) == flat(theirs, pack)
    if not name.endswith(".ours-to-theirs"):
        assert pack.to_canonical(theirs) == without(ours, pack.unheard)


@pytest.mark.parametrize(("region", "message"), PACKS)
def test_every_code_that_a_region_knows_stands_in_an_example(region: str, message: str) -> None:
    """A code without example is a code that nobody has compared with the region's own description."""
    pack = pack_of(region, message)
    seen: dict[str, set[str]] = {}
    for where, what, name in EXAMPLES:
        if (where, what) == (region, message):
            collect(read_example(region, message, name)[0], "", seen)
    for field in pack.about.fields.values():
        if field.table and field.name not in pack.lost:
            assert sayable(field, pack) <= seen.get(field.name, set()) | shown_elsewhere(field, message)


def shown_elsewhere(field: Field, message: str) -> set[str]:
    """Kinds of document whose codes the examples of `submission` show, and other messages need not repeat."""
    if field.table != "document_type" or message == "submission":
        return set()
    return {"PASSPORT", "FPR", "TW_PERMIT", "TW_RESID", "HM_RESID", "HM_PERMIT", "HK_BRN"}


def collect(node: Any, at: str, seen: dict[str, set[str]]) -> None:
    """Gather the texts of every field of a document under the field's name."""
    if isinstance(node, dict):
        for key, value in node.items():
            collect(value, f"{at}.{key}".lstrip("."), seen)
    elif isinstance(node, list):
        for item in node:
            collect(item, f"{at}[]", seen)
    elif isinstance(node, str):
        seen.setdefault(at, set()).add(node)


def sayable(field: Field, pack: Pack) -> set[str]:
    """The codes of a field that the region can say: all but those declared lost."""
    losses = [loss for loss in pack.losses if loss.field == field.name and loss.direction == OURS_TO_THEIRS]
    return set(mappings().ground.tables[field.table].codes) - {value for loss in losses for value in loss.values}


# --- the proof ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("region", "message"), PACKS)
def test_documents_that_nobody_wrote_come_back_as_they_went(region: str, message: str) -> None:
    """There and back changes nothing but what the pack declares lost, from our side and from theirs."""
    proof = generated(DOCUMENTS)(mappings(), pack_of(region, message))
    assert proof.documents >= DOCUMENTS
    assert not proof.problems
