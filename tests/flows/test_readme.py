"""What the README says is what happens: its transcript is printed, its programs run, word for word."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.sandbox.layout import Choices
from gateway.sandbox.neighbourhood import Neighbourhood, free_ports, start

HOUSE = Path(__file__).parent.parent.parent
README = (HOUSE / "README.md").read_text(encoding="utf-8")


def part(name: str) -> str:
    """Return the code block that stands between `<!-- name -->` and `<!-- /name -->`."""
    found = re.search(rf"<!-- {name} -->\n```\w*\n(.*?)```\n<!-- /{name} -->", README, re.DOTALL)
    assert found, f"README.md has no part {name}"
    return found.group(1)


def plain(text: str) -> str:
    """Put what differs from run to run into one form: ports, folder, times, numbers that are drawn."""
    for pattern, instead in (
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r"\(\d+\.\d s\)", "(SECONDS)"),
        (r"lies under \S+/\.", "lies under FOLDER."),
        (r"KY\d{12}\d{8}\d{6}[0-9A-Z]", "KY-NUMBER"),
        (r"EV[0-9a-f]{32}", "EV-NUMBER"),
    ):
        text = re.sub(pattern, instead, text)
    return text.strip()


async def test_the_tour_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """A newcomer compares the two line by line; a README that promises more than the product is a lie."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli", "sandbox", "--folder", str(tmp_path / "s"), "--free-ports", "--exit",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=HOUSE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert plain(output.decode()) == plain(part("tour"))


@pytest.fixture
async def neighbourhood(tmp_path: Path) -> AsyncIterator[Neighbourhood]:
    """Run the sandbox as the README supposes it to run."""
    async with start(tmp_path, free_ports(), Choices(pace=0.05)) as running:
        yield running


async def run(neighbourhood: Neighbourhood, text: str, *command: str) -> list[str]:
    """Run a program of the README against this sandbox and return the lines that it prints."""
    here = text.replace("http://127.0.0.1:8080", neighbourhood.public_url)
    here = here.replace("http://127.0.0.1:8103", neighbourhood.layout.ports.authority_url("guangdong"))
    here = here.replace(".sandbox/", f"{neighbourhood.layout.folder}/").replace(".venv/bin/", f"{sys.prefix}/bin/")
    process = await asyncio.create_subprocess_exec(
        *command, here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=HOUSE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode().splitlines()


async def test_an_agency_gets_along_with_the_readmes_python(neighbourhood: Neighbourhood) -> None:
    """Twenty lines with Authlib's client: token, submission, lookup."""
    case, certificate = await run(neighbourhood, part("agency-python"), sys.executable, "-c")
    assert re.fullmatch(r"KY\d{26}[0-9A-Z] (COLLECTED|FORWARDED|RECEIVED)", case)
    assert re.fullmatch(r"valid EV[0-9a-f]{32}", certificate)


async def test_an_agency_gets_along_with_the_readmes_curl(neighbourhood: Neighbourhood) -> None:
    """The same by hand, for whoever works in another language."""
    item, case, certificate, holder = await run(neighbourhood, part("agency-curl"), "bash", "-euo", "pipefail", "-c")
    assert '"code":"11440100MBT40100XX3442011899001"' in item
    assert '"state":"' in case
    assert '"source":"gateway"' in case
    assert '"standing":"valid"' in certificate
    assert '"subject_reference":"SR' in holder
