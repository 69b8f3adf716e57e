"""The commands.

Owns: arguments, what is printed, and exit codes (0 done, 1 refused with reasons, 2 wrong arguments). Leaves the work to
the modules that it calls.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway import __version__
from gateway.cli.archive import archive
from gateway.cli.certificates import certificates
from gateway.cli.check import check_all, check_live
from gateway.cli.clients import clients
from gateway.cli.clocks import clocks
from gateway.cli.deliveries import conflicts, deliveries
from gateway.cli.disputes import disputes
from gateway.cli.errands import errands
from gateway.cli.items import items
from gateway.cli.keys import keys
from gateway.cli.mappings import mappings
from gateway.cli.recognition import recognition
from gateway.cli.refusals import refusals_in_words
from gateway.cli.regions import regions
from gateway.cli.webhooks import webhooks
from gateway.config import Config
from gateway.data import read_config
from gateway.opening import opened_store
from gateway.sandbox.command import run_authorities, run_sandbox
from gateway.sandbox.layout import Choices, lay_out
from gateway.sandbox.neighbourhood import free_ports, usual_ports
from gateway.serve import serve as serve_gateway
from gateway.storage.migrations import newest
from gateway.telemetry import configure_logging
from gateway.waiting import new_event_loop

T = TypeVar("T")
ConfigPath = click.Path(exists=True, dir_okay=False, path_type=Path)
config_option = click.option(
    "--config", type=ConfigPath, default="pearl.toml", show_default=True, help="The configuration file."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pearl")
def main() -> None:
    """Pearl Gateway: sign-on, submissions and certificate lookups across regions."""


main.add_command(certificates)
main.add_command(clients)
main.add_command(archive)
main.add_command(clocks)
main.add_command(disputes)
main.add_command(errands)
main.add_command(conflicts)
main.add_command(deliveries)
main.add_command(items)
main.add_command(keys)
main.add_command(mappings)
main.add_command(recognition)
main.add_command(regions)
main.add_command(webhooks)


@main.command()
@config_option
@refusals_in_words
def serve(config: Path) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    _logging()
    settings = read_config(config)
    _run(serve_gateway(settings, ready=lambda _bound: None))


@main.command()
@config_option
@click.option("--live", is_flag=True, help="Also reach the place for files and every enabled region.")
@refusals_in_words
def check(config: Path, live: bool) -> None:
    """Check configuration, regions, mappings and data files; list everything that is wrong."""
    settings = read_config(config)
    click.echo(_run(check_all(settings)))
    if live:
        lines, all_well = _run(check_live(settings))
        click.echo("\n".join(lines))
        sys.exit(0 if all_well else 1)


@main.command()
@click.option("--folder", type=click.Path(path_type=Path), default=".pearl", show_default=True)
@click.option("--store", default="sqlite:///pearl.db", show_default=True, help="sqlite:///… or postgresql://…")
@click.option("--listen", default="127.0.0.1", show_default=True, help="Address of both listeners.")
@refusals_in_words
def init(folder: Path, store: str, listen: str) -> None:
    """Mint development keys and write a configuration that talks to the simulated authorities.

    What is there already stays as it is.
    """
    choices = Choices(store_url=store, environment="production", host=listen, keep=True)
    layout = lay_out(folder, usual_ports(), choices)
    click.echo(f"Configuration: {layout.config}")
    click.echo(f"Keys (never commit them): {layout.folder / 'keys'}")
    click.echo(f"Next: pearl db upgrade --config {layout.config}")


@main.group()
def db() -> None:
    """The database."""


@db.command("upgrade")
@config_option
@refusals_in_words
def db_upgrade(config: Path) -> None:
    """Bring the schema to this release."""
    settings = read_config(config)
    before, after = _run(_upgrade(settings))
    click.echo(f"Schema: {before or 'empty'} → {after}")


async def _upgrade(config: Config) -> tuple[str | None, str | None]:
    async with opened_store(config) as store:
        before = await store.revision()
        await store.migrate()
    return before, newest()


@main.command()
@click.option("--folder", type=click.Path(path_type=Path), default=".sandbox", show_default=True)
@click.option("--fresh", is_flag=True, help="Delete the folder first.")
@click.option("--free-ports", "any_ports", is_flag=True, help="Take any free ports instead of the usual ones.")
@click.option("--tour/--no-tour", default=True, show_default=True, help="Take the short tour after the start.")
@click.option("--exit", "leave", is_flag=True, help="End after the tour instead of running on.")
@click.option("--authorities-only", is_flag=True, help="Run the simulated authorities without the gateway.")
@click.option("--listen", default="127.0.0.1", show_default=True, help="Address of the authorities.")
@refusals_in_words
def sandbox(
    folder: Path, fresh: bool, any_ports: bool, tour: bool, leave: bool, authorities_only: bool, listen: str
) -> None:
    """Run the gateway and its neighbours on this machine, with synthetic people, and take a short tour."""
    _logging(level=logging.WARNING)
    ports = free_ports() if any_ports else usual_ports()
    if authorities_only:
        _run(run_authorities(folder, ports, listen, click.echo))
        return
    sys.exit(_run(run_sandbox(folder, ports, fresh=fresh, tour=tour, leave=leave, say=click.echo)))


def _logging(level: int = logging.INFO) -> None:
    wish = os.environ.get("PEARL_LOG", "")
    configure_logging(level=logging.getLevelNamesMapping().get(wish.upper(), level))


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop, where there is one."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)
