"""A start that is refused says everything that is wrong, in one go, and gives no secret away."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.app import build_app
from gateway.config import HOUSE, load_config
from gateway.data import load_data, read_config
from gateway.errors import StartRefused
from gateway.sandbox.layout import Choices, Layout, lay_out, simulated_regions
from gateway.sandbox.neighbourhood import free_ports
from tests.flows.flow_support import rewrite
from tests.support import forked
from tests.support.few_regions import THREE, narrow


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Mint and write once: a deployment that is right, with house folders of its own."""
    laid_out = lay_out(tmp_path_factory.mktemp("deployment"), free_ports(THREE), Choices())
    narrow(laid_out.folder, THREE)
    for folder in ("adapters", "mappings"):
        shutil.copytree(HOUSE / folder, laid_out.folder / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return laid_out


@pytest.fixture
def layout(pattern: Layout, tmp_path: Path) -> Layout:
    """Copy the deployment for the test to break."""
    shutil.copytree(pattern.folder, tmp_path, dirs_exist_ok=True)
    own = replace(pattern, folder=tmp_path, config=tmp_path / pattern.config.name)
    folders = f'adapters = "{tmp_path / "adapters"}"\nmappings = "{tmp_path / "mappings"}"\n'
    rewrite(own.config, {"environment =": f"{folders}environment ="})
    return own


async def problems_of(layout: Layout) -> dict[str, str]:
    """Start, and return what is refused: field → reason."""
    with pytest.raises(StartRefused) as refused:
        async with build_app(read_config(layout.config)):
            pass
    assert not (layout.folder / "pearl.db").exists()
    assert [problem for problem in refused.value.problems if not problem.reason or not problem.field] == []
    return {problem.field: problem.reason for problem in refused.value.problems}


def reason_of(found: dict[str, str], *parts: str) -> str:
    """Return the reason of the one problem whose field holds all these parts."""
    hits = [reason for where, reason in found.items() if all(part in where for part in parts)]
    assert len(hits) == 1, (parts, found)
    return hits[0]


async def test_the_deployment_that_the_others_break_starts(layout: Layout) -> None:
    """Otherwise the tests below would prove nothing."""
    async with build_app(read_config(layout.config)) as gateway:
        assert gateway.public is not None


# --- configuration -----------------------------------------------------------------------------------------------


async def test_everything_wrong_with_the_configuration_is_heard_in_one_go(layout: Layout) -> None:
    """Wrong type, unknown key, missing value, secret in clear, and a broken mapping beside it."""
    rewrite(
        layout.config,
        {
            'public_url = "': 'public_url = "ftp:',
            "lease_seconds = 20": 'lease_seconds = "long"\nleese_seconds = 20',
            'blobs = "blobs"': "",
            'references = "file:keys/references.key"': 'references = "hunter2hunter2hunter2"',
            f"public_port = {layout.ports.public}": "public_port = 70000",
        },
    )
    rewrite(layout.folder / "mappings/foshan/event/rules.toml", {"[rules]": "[rulez]"})
    found = await problems_of(layout)
    assert "http://" in reason_of(found, "public_url")
    assert "number" in reason_of(found, "delivery.lease_seconds")
    assert "spelling" in reason_of(found, "delivery.leese_seconds")
    assert "required" in reason_of(found, "store.blobs")
    assert "file:<path> or env:<NAME>" in reason_of(found, "keys.references")
    assert "65535" in reason_of(found, "listen.public_port")
    assert any("foshan/event/rules.toml" in where for where in found)
    assert "hunter2" not in str(found)


async def test_every_missing_secret_is_heard_in_one_go(layout: Layout) -> None:
    """Each with its place in the configuration, and with what to do about it."""
    for name in ("at-rest.key", "guangdong/paas_token", "hongkong/kek.key.pem"):
        (layout.folder / "keys" / name).unlink()
    (layout.folder / "keys/references.key").write_bytes(b"")
    rewrite(layout.config, {'["file:keys/signing.pem"]': '["env:PEARL_TEST_NOT_SET"]'})
    found = await problems_of(layout)
    assert set(found) == {
        "keys.signing.0",
        "keys.at_rest.0",
        "keys.references",
        "regions.guangdong.secrets.paas_token",
        "regions.hongkong.secrets.kek_private_key",
    }
    assert "pearl init" in found["keys.at_rest.0"]
    assert "PEARL_TEST_NOT_SET is not set" in found["keys.signing.0"]
    assert "is empty" in found["keys.references"]


@pytest.mark.parametrize("text", ["public_url = ", "\x00", "[a]\n[a]", 'x = "\udc80"'], ids=repr)
async def test_a_configuration_that_is_no_toml_is_refused(layout: Layout, text: str) -> None:
    """With the place of the mistake."""
    layout.config.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert "is not TOML" in reason_of(await problems_of(layout), "pearl.toml")


async def test_a_configuration_that_is_not_there_is_refused(layout: Layout) -> None:
    layout.config.unlink()
    assert "cannot be read" in reason_of(await problems_of(layout), "pearl.toml")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("at-rest.key", b"hunter2-too-short"), ("references.key", b"hunter2"), ("signing.pem", b"hunter2 is no PEM")],
)
async def test_a_key_that_is_none_is_refused_without_being_shown(layout: Layout, name: str, wrong: bytes) -> None:
    """Right place, wrong content: half a copy, another key's file."""
    (layout.folder / "keys" / name).write_bytes(wrong)
    found = await problems_of(layout)
    assert all(where.startswith("keys") for where in found)
    assert "hunter2" not in str(found)


# --- data files, regions and mappings ----------------------------------------------------------------------------


def _break_items(layout: Layout) -> None:
    rewrite(layout.folder / "items.toml", {'min_assurance = "A3"': 'min_assurance = "A9"'})


def _break_grants(layout: Layout) -> None:
    with (layout.folder / "grants.toml").open("a", encoding="utf-8") as file:
        file.write('\n[[grant]]\nclient = "nobody"\ncapability = "submissions.eat"\nitems = ["*"]\n')
        file.write('purposes = ["x"]\nregions = ["atlantis"]\n')


def _break_certificates(layout: Layout) -> None:
    rewrite(layout.folder / "certificates.toml", {'issuers = ["hongkong"]': 'issuers = ["atlantis"]'})


def _break_clients(layout: Layout) -> None:
    rewrite(
        layout.folder / "clients.toml", {'jwks_file = "keys/demo-portal.jwks.json"': 'jwks_file = "keys/gone.json"'}
    )


def _break_transfers(layout: Layout) -> None:
    rewrite(layout.folder / "transfers.toml", {'target = "440100"': 'target = "441800"'})


def _break_recognition(layout: Layout) -> None:
    rewrite(layout.folder / "recognition.toml", {'least = "A1"': 'least = "high"', '"hongkong"': '"hongkonk"'})


def _break_calendar(layout: Layout) -> None:
    rewrite(layout.folder / "working-days.toml", {"[[macau]]": "[[macao]]"})


def _break_windows(layout: Layout) -> None:
    rewrite(layout.folder / "windows.toml", {'regions = ["guangdong", ': 'regions = ["atlantis", '})


def _break_settings(layout: Layout) -> None:
    rewrite(layout.config, {"paas_id =": "paas_idd ="})


def _break_limits(layout: Layout) -> None:
    rewrite(layout.config, {"poll_seconds = 0.5": "poll_seconds = -1"})


def _break_secret_names(layout: Layout) -> None:
    rewrite(layout.config, {"kek_private_key =": "kek_privat_key ="})


def _break_secret_content(layout: Layout) -> None:
    (layout.folder / "keys/foshan/foshan.cert.pem").write_text("hunter2", encoding="utf-8")


def _break_mapping(layout: Layout) -> None:
    rewrite(layout.folder / "mappings/guangdong/event/rules.toml", {'"sjbh"': '"sjbhh"'})


def _break_manifest(layout: Layout) -> None:
    rewrite(layout.folder / "adapters/foshan/region.toml", {"feed = true": "feed = false"})


def _break_adapter(layout: Layout) -> None:
    (layout.folder / "adapters/foshan/adapter.py").write_text("def opened(): ...\n", encoding="utf-8")


def _take_pack_away(layout: Layout) -> None:
    shutil.rmtree(layout.folder / "mappings/guangdong/receipt")


def _take_values_away(layout: Layout) -> None:
    shutil.rmtree(layout.folder / "mappings/foshan/certificate")


def _share_a_prefix(layout: Layout) -> None:
    """Foshan claims codes that begin like Guangdong's: nobody could say whose they are."""
    foshan = layout.folder / "adapters/foshan/region.toml"
    foshan.write_text(foshan.read_text(encoding="utf-8") + '\n[codes]\nprefixes = ["HMM:GZ"]\n', encoding="utf-8")


def _name_no_prefix(layout: Layout) -> None:
    rewrite(layout.folder / "adapters/guangdong/region.toml", {'prefixes = ["GDM:", "HMM:"]': "prefixes = []"})


BREAKS: dict[Callable[[Layout], None], tuple[tuple[str, ...], ...]] = {
    _break_items: (("items.toml", "min_assurance"),),
    _break_grants: (("grants.toml", "client"), ("grants.toml", "capability"), ("grants.toml", "regions")),
    _break_certificates: (("certificates.toml", "type."),),
    _break_clients: (("clients.toml", "jwks_file"),),
    _break_transfers: (("transfers.toml", "kind"),),
    _break_recognition: (("recognition.toml", "least"), ("recognition.toml", "regions")),
    _break_windows: (("windows.toml", "regions"),),
    _break_calendar: (("working-days.toml", "macau"),),
    _break_settings: (("regions.guangdong", "paas_idd"), ("regions.guangdong", "paas_id")),
    _break_limits: (("regions.foshan", "poll_seconds"),),
    _break_secret_names: (("hongkong.secrets.kek_privat_key",), ("hongkong.secrets.kek_private_key",)),
    _break_secret_content: (("regions.foshan", "peer_cert"),),
    _break_mapping: (("guangdong/event",),),
    _break_manifest: (("foshan", "feed"),),
    _name_no_prefix: (("guangdong", "codes.prefixes"),),
    _break_adapter: (("adapters/foshan/adapter.py",),),
    _take_pack_away: (("guangdong", "submissions"),),
    _take_values_away: (("adapters/foshan", "certificates"),),  # it answers "found", and nobody could read what
}


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__.removeprefix("_"))
async def test_each_mistake_is_refused_with_file_and_field(layout: Layout, broken: Callable[[Layout], None]) -> None:
    """One mistake at a time: what is said is about that mistake."""
    broken(layout)
    found = await problems_of(layout)
    for parts in BREAKS[broken]:
        assert any(all(part in where for part in parts) for where in found), (parts, found)
    assert "hunter2" not in str(found)


def test_a_material_names_a_certificate_type_that_is_known(layout: Layout) -> None:
    """One that nobody can look up would satisfy nothing."""
    rewrite(layout.folder / "items.toml", {'"11100000MB0143028R001"': '"11100000MB0143028R009"'})
    with pytest.raises(StartRefused) as refused:
        load_data(read_config(layout.config))
    (problem,) = refused.value.problems
    assert problem.field == "items.toml: item 11440100MBT40100XX3442011899009"
    assert problem.reason == "material LICENCE: 11100000MB0143028R009 is no type of certificates.toml"


async def test_two_regions_may_not_share_the_prefix_of_a_city_code(layout: Layout) -> None:
    """`_ambiguous_codes`: which of the two was asked would depend on the order in a dictionary."""
    _share_a_prefix(layout)
    reason = reason_of(await problems_of(layout), "foshan", "codes.prefixes")
    assert "'HMM:GZ' begins like 'HMM:' of region guangdong" in reason


async def test_many_mistakes_are_heard_in_one_go(layout: Layout) -> None:
    """Seven files with mistakes, one refusal; nobody starts seven times to hear them."""
    together = [_break_items, _break_grants, _break_certificates, _break_transfers, _break_windows]
    for one in (*together, _break_mapping, _break_secret_content):
        one(layout)
    found = await problems_of(layout)
    for one in (*together, _break_mapping, _break_secret_content):
        for parts in BREAKS[one]:
            assert any(all(part in where for part in parts) for where in found), (parts, found)


async def test_a_region_that_does_not_exist_is_refused_with_those_that_do(layout: Layout) -> None:
    """A spelling mistake must not become a gateway without that region."""
    rewrite(layout.config, {"[regions.hongkong.": "[regions.hongkonk."})
    reason = reason_of(await problems_of(layout), "regions.hongkonk")
    assert ", ".join(simulated_regions()) in reason


async def test_a_folder_that_is_not_enabled_is_not_looked_at(layout: Layout) -> None:
    """A stray folder is no trust relation: its code does not run, its mistakes do not matter."""
    stray = layout.folder / "adapters/stray"
    stray.mkdir()
    mark = layout.folder / "stray-was-here"
    (stray / "adapter.py").write_text(f"open({str(mark)!r}, 'w')\n", encoding="utf-8")
    (stray / "region.toml").write_text("this is no TOML", encoding="utf-8")
    (layout.folder / "mappings/stray").mkdir()
    async with build_app(load_config(layout.config)) as gateway:
        assert gateway.public is not None
    assert not mark.exists()


# --- a folder of mappings that regions share -----------------------------------------------------------------------


def _share(layout: Layout) -> Path:
    """Have Foshan's packs where several regions could use them; return that folder."""
    shared = layout.folder / "mappings/delta"
    (layout.folder / "mappings/foshan").rename(shared)
    rewrite(layout.folder / "adapters/foshan/region.toml", {'id = "foshan"': 'id = "foshan"\nmappings = "delta"'})
    return shared


async def test_a_region_takes_its_packs_from_the_folder_that_it_names(layout: Layout) -> None:
    _share(layout)
    async with build_app(read_config(layout.config)) as gateway:
        assert {"submission", "receipt", "event"} <= gateway.versions.current["foshan"].packs.keys()


async def test_what_is_missing_in_a_shared_folder_is_named_by_it(layout: Layout) -> None:
    shutil.rmtree(_share(layout) / "receipt")
    assert reason_of(await problems_of(layout), "adapters/foshan", "submissions").startswith("needs mappings/delta/")


@pytest.mark.parametrize("broken", ["nothing else", "the configuration", "another region's declaration"])
async def test_faults_in_a_shared_folder_are_heard_with_the_others(layout: Layout, broken: str) -> None:
    """Even where the file that names the folder is not the one that is right."""
    rewrite(_share(layout) / "event/rules.toml", {"[rules]": "[rulez]"})
    if broken == "the configuration":
        rewrite(layout.config, {'blobs = "blobs"': ""})
    if broken == "another region's declaration":
        rewrite(layout.folder / "adapters/hongkong/region.toml", {'zone = "hongkong"': 'zone = "moon"'})
    found = await problems_of(layout)
    assert any("delta/event/rules.toml" in where for where in found)
    assert len({where.partition(":")[0] for where in found}) >= (1 if broken == "nothing else" else 2)


# --- the command line --------------------------------------------------------------------------------------------


async def run(command: str, layout: Layout) -> tuple[int | None, str, str]:
    """Run a command of the product; return exit code, output and errors."""
    return await forked.pearl(layout.folder, command, "--config", str(layout.config))


async def test_a_check_of_a_deployment_that_is_right_says_so(layout: Layout) -> None:
    """Opening the regions calls nobody: no authority is running here."""
    code, out, err = await run("check", layout)
    assert (code, err) == (0, "")
    first, *soon = out.splitlines()
    assert first.startswith(f"{len(THREE)} regions, ")
    assert first.endswith("nothing is wrong.")
    assert all(line.startswith("The working days of ") for line in soon)  # whether there are any, says the day


@pytest.mark.parametrize("command", ["check", "serve"])
async def test_the_command_line_lists_everything_and_exits_with_1(layout: Layout, command: str) -> None:
    """Without a traceback; a person reads this at a terminal, or in a unit's log."""
    together = (_break_items, _break_mapping, _break_secret_content)
    for one in together:
        one(layout)
    code, out, told = await run(command, layout)
    assert (code, out) == (1, "")
    assert "Traceback" not in told
    assert "hunter2" not in told
    assert "problems)" in told.splitlines()[0]
    for parts in (parts for one in together for parts in BREAKS[one]):
        assert any(all(part in line for part in parts) for line in told.splitlines()), (parts, told)


async def test_a_check_looks_at_the_gateways_own_keys_too(layout: Layout) -> None:
    """What a start refuses, the check before it finds."""
    (layout.folder / "keys/signing.pem").write_bytes(b"hunter2")
    _break_items(layout)
    code, _out, told = await run("check", layout)
    assert code == 1
    assert "1. keys.signing.0:" in told
    assert "items.toml" in told
    assert "hunter2" not in told
