"""seals.toml: which seal may be put on what, and whom the gateway believes. Everything wrong is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.certificates.files.registry import load_seals
from gateway.data import _Anything
from gateway.errors import StartRefused
from gateway.sandbox.sealed_files import SealedFiles
from gateway.sandbox.sealed_files.identities import ec_identity, sm2_identity, years
from tests.support.sealed_files import NOW, OWNER, TYPE

SEAL = f"""
[[seal]]
id = "SBX1"
maker = "{"a" * 64}"
owner = "{OWNER}"
types = ["{TYPE}"]
region = "guangdong"
valid_from = 2024-01-01
valid_until = 2030-12-31
"""


@pytest.fixture(scope="module")
def world() -> SealedFiles:
    return SealedFiles("guangdong", NOW)


def problems(folder: Path, text: str) -> list[tuple[str, str]]:
    path = folder / "seals.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StartRefused) as refused:
        load_seals(path, regions={"guangdong"}, types={TYPE})
    return [(problem.field, problem.reason) for problem in refused.value.problems]


def test_an_empty_register_knows_no_seal_and_believes_nobody(tmp_path: Path) -> None:
    path = tmp_path / "seals.toml"
    path.write_text("", encoding="utf-8")
    registry = load_seals(path, regions=(), types=())
    assert registry.seal("SBX1") is None
    assert (registry.makers, registry.pades) == ([], [])


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = f"""
[[seal]]
owner = "11440000MBT400007X"
types = ["11100000000013127D777", "9*"]
region = "atlantis"
valid_from = 2030-01-01
valid_until = 2024-12-31

[[seal]]
id = "SBX1"
certificate_digest = "{"0" * 64}"
owner = "{OWNER}"
types = ["{TYPE}"]
region = "guangdong"
valid_from = 2024-01-01
valid_until = 2030-12-31
{SEAL}{SEAL}
[[anchor]]
file = "nowhere.pem"
region = "atlantis"
kind = "ses-maker"
"""
    said = problems(tmp_path, text)
    assert [field.removeprefix("seals.toml: ") for field, _ in said] == [
        "seal.0", "seal.0.owner", "seal.0.region", "seal.0.valid_until", "seal.0.types", "seal.0.types",
        "seal.1", "seal.2", "seal.3", "anchor.0.region", "anchor.0.file",
    ]  # fmt: skip
    assert said[1][1] == "has a wrong check character"


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('types = ["11100000000013127D001"]\n', "seal.0.types"),
        ("valid_from = 2024-01-01\n", "seal.0.valid_from"),
        ('region = "guangdong"\n', "seal.0.region"),
        (f'owner = "{OWNER}"\n', "seal.0.owner"),
    ],
)
def test_a_seal_without_a_scope_is_no_seal(tmp_path: Path, line: str, field: str) -> None:
    assert problems(tmp_path, SEAL.replace(line, "")) == [(f"seals.toml: {field}", "is required")]


def test_a_seal_names_its_maker_and_a_signer_of_pdf_has_none(tmp_path: Path) -> None:
    """An esID is public: without the maker, whoever has a certificate under its anchor could make the seal anew."""
    by_digest = SEAL.replace('id = "SBX1"', f'certificate_digest = "{"0" * 64}"')
    said = problems(tmp_path, SEAL.replace(f'maker = "{"a" * 64}"', "") + by_digest)
    assert [field for field, _ in said] == ["seals.toml: seal.0.maker", "seals.toml: seal.1.maker"]


@pytest.mark.parametrize("scope", ["*", "lower*", "11100000000013127D00"])
def test_a_scope_is_a_code_or_the_beginning_of_codes(tmp_path: Path, scope: str) -> None:
    """A lone asterisk would be a seal for everything."""
    assert len(problems(tmp_path, SEAL.replace(TYPE, scope))) == 1


def test_no_type_is_called_unknown_while_their_own_file_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "seals.toml"
    path.write_text(SEAL + SEAL.replace("SBX1", "SBX2").replace(TYPE, "9*"), encoding="utf-8")
    registry = load_seals(path, regions={"guangdong"}, types=_Anything())
    assert sorted(registry.seals) == ["SBX1", "SBX2"]


def anchor(kind: str) -> str:
    return f'[[anchor]]\nfile = "a.pem"\nregion = "guangdong"\nkind = "{kind}"\n'


def test_an_anchor_file_may_hold_intermediates(tmp_path: Path, world: SealedFiles) -> None:
    between = sm2_identity("中间", world.root, NOW, NOW + years(1), authority=True)
    (tmp_path / "a.pem").write_text(world.root.pem + between.pem, encoding="ascii")
    path = tmp_path / "seals.toml"
    path.write_text(anchor("ses-maker"), encoding="utf-8")
    registry = load_seals(path, regions={"guangdong"}, types=())
    assert [one.der for one in registry.makers] == [world.root.certificate]
    assert [one.der for one in registry.maker_intermediates] == [between.certificate]
    assert registry.regions == {world.root.certificate: frozenset({"guangdong"})}


def test_an_intermediate_needs_its_anchor_beside_it(tmp_path: Path, world: SealedFiles) -> None:
    """Otherwise a file would look as if it pinned somebody, and would pin nobody."""
    between = sm2_identity("中间", world.root, NOW, NOW + years(1), authority=True)
    pdf_between = ec_identity("between", world.pdf_root, NOW, NOW + years(1), authority=True)
    for kind, pem in (("ses-maker", between.pem), ("pades", pdf_between.pem)):
        (tmp_path / "a.pem").write_text(pem, encoding="ascii")
        assert "whose anchor is not beside it" in problems(tmp_path, anchor(kind))[0][1]


def test_an_anchor_is_an_authority_of_the_kind_that_it_is_pinned_for(tmp_path: Path, world: SealedFiles) -> None:
    leaf = sm2_identity("自签", None, NOW, NOW + years(1))
    pdf_leaf = ec_identity("self", None, NOW, NOW + years(1))
    cases = [
        ("ses-maker", leaf.pem, "no authority"),
        ("pades", pdf_leaf.pem, "no authority"),
        ("ses-maker", world.pdf_root.pem, "none of SM2"),
        ("pades", world.root.pem, "did not sign itself"),
        ("pades", "", "no certificate"),
        ("pades", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
    ]
    for kind, pem, reason in cases:
        (tmp_path / "a.pem").write_text(pem, encoding="ascii")
        said = problems(tmp_path, anchor(kind))
        assert len(said) == 1
        assert reason in said[0][1]
