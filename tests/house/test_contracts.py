"""The import contracts of pyproject.toml are kept, and each of them is seen to fail once.

A contract that never fails may be checking nothing. So an offending import is planted in a copy of the sources, and
exactly the contract that forbids it must break.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[2]
CONFIG = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
NAMES: dict[str, str] = {contract["id"]: contract["name"] for contract in CONFIG["contracts"]}
HERE, THERE = sorted(
    path.parent.name for path in HOUSE.glob("adapters/*/sandbox.py") if (path.parent / "adapter.py").exists()
)[:2]

PLANTED: dict[str, tuple[str, str]] = {
    "core-knows-no-region": ("gateway.telemetry", f"adapters.{HERE}"),
    "regions-apart": (f"adapters.{HERE}.sandbox", f"adapters.{THERE}.sandbox"),
    "adapter-sees-its-seams": (f"adapters.{HERE}.adapter", "gateway.telemetry"),
    "adapter-shares-no-code": (f"adapters.{HERE}.adapter", f"adapters.{HERE}.sandbox"),
    "nobody-imports-an-adapter": (f"adapters.{HERE}.sandbox", f"adapters.{HERE}.adapter"),
    "sandbox-stands-alone": (f"adapters.{HERE}.sandbox", "gateway.errors"),
    "authority-stands-alone": ("gateway.sandbox.authority", "gateway.errors"),
    "sealed-files-stand-alone": ("gateway.sandbox.sealed_files.der", "gateway.errors"),
    "ticket-authority-stands-alone": ("gateway.sandbox.ticket_authority", "gateway.errors"),
    "exchange-authority-stands-alone": ("gateway.sandbox.exchange_wire", "gateway.errors"),
    "province-authority-stands-alone": ("gateway.sandbox.province_authority", "gateway.errors"),
    "protocols-know-no-service": ("gateway.protocols.wire", "gateway.telemetry"),
    "layers": ("gateway.mapping", "gateway.submissions"),
    "storage-knows-no-service": ("gateway.storage.store", "gateway.telemetry"),
    "policy-is-pure": ("gateway.policy.grants", "gateway.telemetry"),
    "domain-stands-alone": ("gateway.domain.region", "gateway.errors"),
}
"""Contract → the real module that offends, and what it imports though it must not."""


def copy_sources(target: Path) -> Path:
    """Copy what the contracts look at: the sources and the contracts themselves."""
    for package in CONFIG["root_packages"]:
        for source in (HOUSE / package).rglob("*.py"):
            copied = target / source.relative_to(HOUSE)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copied)
    shutil.copyfile(HOUSE / "pyproject.toml", target / "pyproject.toml")
    return target


def plant(tree: Path, module: str, imported: str) -> None:
    """Append an import to a module that exists."""
    path = tree.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    assert file.exists(), f"{module} has moved; plant the import elsewhere"
    with file.open("a", encoding="utf-8") as source:
        source.write(f"\nimport {imported}\n")


def broken_contracts(tree: Path) -> tuple[list[str], str]:
    """Run import-linter over a tree and return the names of the broken contracts with the whole report."""
    linter = Path(sys.executable).with_name("lint-imports")
    report = subprocess.run(
        [linter, "--no-cache", "--config", "pyproject.toml"],
        cwd=tree, capture_output=True, text=True, check=False, env={"NO_COLOR": "1", "COLUMNS": "200"},
    )  # fmt: skip
    text = report.stdout + report.stderr
    verdicts = re.findall(r"^(.+?) (KEPT|BROKEN)\b", text, re.MULTILINE)
    assert [name for name, _ in verdicts] == list(NAMES.values()), text
    return [name for name, verdict in verdicts if verdict == "BROKEN"], text


def test_every_contract_is_kept() -> None:
    broken, report = broken_contracts(HOUSE)
    assert broken == [], report


def test_every_contract_has_an_import_that_breaks_it() -> None:
    """A new contract without a plant would be believed without ever having been seen to fail."""
    assert PLANTED.keys() == NAMES.keys()


@pytest.mark.parametrize("contract", NAMES)
def test_a_planted_import_breaks_exactly_its_contract(contract: str, tmp_path: Path) -> None:
    before, _ = broken_contracts(tree := copy_sources(tmp_path))
    plant(tree, *PLANTED[contract])
    after, report = broken_contracts(tree)
    assert set(after) - set(before) == {NAMES[contract]}, report
