"""`pearl mappings …`: the tools of those who write mapping packs.

Owns: arguments, exit codes, and where results go. Leaves the work to `gateway.mapping.tools`, the look of reports to
`mapping_texts`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, ParamSpec

import click

from gateway.cli import mapping_texts as texts
from gateway.cli.mappings_live import LIVE_COMMANDS
from gateway.cli.recorded import stored_submissions
from gateway.cli.refusals import wrong_names_in_words
from gateway.config import HOUSE
from gateway.data import read_config
from gateway.errors import FieldProblem, InvalidRequest, StartRefused
from gateway.mapping.tools.book import chapter, chapters, text_of
from gateway.mapping.tools.comparison import compare_folders
from gateway.mapping.tools.coverage import lost, matrices
from gateway.mapping.tools.folder import Opened, inspect, open_folder, pack_of, read_folder
from gateway.mapping.tools.page import page
from gateway.mapping.tools.proving import Proof, Prove, prove_all, there_and_back
from gateway.mapping.tools.replay import Recorded, Summary, Verdict, contrast, recorded_in
from gateway.mapping.tools.scaffold import Order, scaffold, schemas_beside
from gateway.mapping.tools.trying import direction_of, try_document
from gateway.mapping.tools.words import Words
from gateway.mapping.vocabulary import OURS_TO_THEIRS, THEIRS_TO_OURS
from gateway.regions import read_manifests

P = ParamSpec("P")
Folder = click.Path(path_type=Path)
_TITLE: Final = Words("泛珠通办网关映射手册", "Pearl Gateway mapping book")


@click.group()
def mappings() -> None:
    """Mapping packs: check, explain, compare, try and begin them; what the running gateway uses."""


for live in LIVE_COMMANDS:
    mappings.add_command(live)


def root_option(command: Callable[P, None]) -> Callable[P, None]:
    """Add `--mappings`."""
    where = click.option("--mappings", "root", type=Folder, default=HOUSE / "mappings", help="The mappings folder.")
    return where(command)


json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")
regions_argument = click.argument("regions", nargs=-1)


# --- check and test ----------------------------------------------------------------------------------------------


@mappings.command()
@regions_argument
@root_option
@json_option
@wrong_names_in_words
def check(regions: tuple[str, ...], root: Path, as_json: bool) -> None:
    """Say everything that is wrong with the packs of these regions, or of all."""
    begun = time.perf_counter()
    opened, problems = inspect(root, regions)
    _verdict(opened, problems, begun, as_json=as_json)


@mappings.command()
@regions_argument
@root_option
@click.option("--documents", default=50, show_default=True, help="How many documents to make up for a pack, each way.")
@json_option
@wrong_names_in_words
def test(regions: tuple[str, ...], root: Path, documents: int, as_json: bool) -> None:
    """Check, and prove with documents sent there and back: the examples, and others made up."""
    begun = time.perf_counter()
    opened, problems = inspect(root, regions)
    proof = prove_all(opened, _proofs(documents)) if opened else Proof(0, ())
    if opened and not as_json:
        click.echo(f"{proof.documents} documents went there and back.")
    _verdict(opened, [*problems, *proof.problems], begun, as_json=as_json)


def _proofs(documents: int) -> tuple[Prove, ...]:
    """Return what `test` tries beyond `check`."""
    # Imported here because hypothesis is large, and neither serving nor any other command needs it.
    from gateway.mapping.tools.generated import generated  # noqa: PLC0415 - as said above

    return there_and_back, generated(documents)


def _verdict(opened: Opened | None, problems: Sequence[FieldProblem], begun: float, *, as_json: bool) -> None:
    """Print the faults or the summary, and end with 1 when there are faults."""
    milliseconds = round((time.perf_counter() - begun) * 1000)
    if as_json:
        _print_json([{"place": problem.field, "reason": problem.reason} for problem in problems])
    elif opened is None or problems:
        _print([*texts.faults(problems), texts.counted(len(problems), "fault")])
    else:
        _print([*texts.faults(opened.unconfirmed()), texts.green(opened, milliseconds)])
    sys.exit(1 if problems else 0)


# --- explain and loss --------------------------------------------------------------------------------------------


@mappings.command()
@click.argument("region", required=False)
@click.argument("message", required=False)
@click.option("--all", "everything", is_flag=True, help="All regions; goes with --html.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page for a browser instead.")
@click.option("--language", type=click.Choice(texts.LANGUAGES), default="en", show_default=True)
@root_option
@wrong_names_in_words
def explain(
    region: str | None, message: str | None, everything: bool, html: Path | None, language: str, root: Path
) -> None:
    """Show ours and theirs side by side: one message, or all as a book."""
    if everything and html and not region:
        opened = open_folder(root)
        _write(html, page(chapters(opened), _TITLE, matrices(opened)))
        return
    if everything or not region or not message:
        raise click.UsageError("Name a region and a message, or say --all --html FILE.")
    opened = open_folder(root, [region])
    found = chapter(opened, pack_of(opened, region, message))
    if html:
        _write(html, page([found], Words(f"{region}：{found.message.zh}", f"{region}: {found.message.en}")))
    else:
        _print(texts.chapter(found, language, _room()))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    click.echo(f"{path} ({len(text.encode()) // 1024} KiB)")


@mappings.command()
@regions_argument
@click.option("--matrix", is_flag=True, help="Fields and regions in one table for each message.")
@root_option
@json_option
@wrong_names_in_words
def loss(regions: tuple[str, ...], matrix: bool, root: Path, as_json: bool) -> None:
    """Say what cannot be said there, and what of theirs nothing reads, field by field."""
    opened = open_folder(root, regions)
    if matrix and as_json:
        _print_json([_as_mapping(found.message.name, found.regions, found.rows) for found in matrices(opened)])
    elif matrix:
        _print([line for found in matrices(opened) for line in (texts.matrix(found), "")])
        click.echo(texts.MATRIX_LEGEND)
    elif as_json:
        _print_json([one._asdict() for one in lost(opened)])
    else:
        _print(texts.losses(lost(opened), _room()))


def _as_mapping(message: str, regions: Sequence[str], rows: Iterable[tuple[str, str, Sequence[str]]]) -> dict[str, Any]:
    fields = {name: dict(zip(regions, signs, strict=True)) for name, _, signs in rows}
    return {"message": message, "fields": fields}


# --- diff --------------------------------------------------------------------------------------------------------


@mappings.command()
@click.argument("old", type=Folder)
@click.argument("new", type=Folder)
@json_option
@wrong_names_in_words
def diff(old: Path, new: Path, as_json: bool) -> None:
    """Say what changes between two mappings folders, and which examples come out otherwise."""
    found = compare_folders(*_both(old, new))
    if as_json:
        _print_json(texts.comparison_as_data(found))
    else:
        _print(texts.comparison(found))


def _both(old: Path, new: Path) -> tuple[Opened, Opened]:
    """Open two folders. Raises StartRefused that names the faults of both."""
    found = [inspect(old), inspect(new)]
    problems = [problem for _, faults in found for problem in faults]
    if found[0][0] is None or found[1][0] is None:
        raise StartRefused("The mapping packs have faults", problems=problems)
    return found[0][0], found[1][0]


# --- try ---------------------------------------------------------------------------------------------------------


@mappings.command("try")
@click.argument("region")
@click.argument("message")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--to-region", "direction", flag_value=OURS_TO_THEIRS, help="The document is ours.")
@click.option("--to-canonical", "direction", flag_value=THEIRS_TO_OURS, help="The document is theirs.")
@root_option
@wrong_names_in_words
def try_one(region: str, message: str, file: str, direction: str | None, root: Path) -> None:
    """Convert one document (`-`: from standard input), and back; say what the way changed."""
    opened = open_folder(root, [region])
    pack = pack_of(opened, region, message)
    with click.open_file(file, "rb") as source:
        raw = source.read()
    found = try_document(pack, raw, direction or direction_of(pack, file, raw))
    if found.made:
        theirs = found.direction == OURS_TO_THEIRS and sys.stdout.isatty()
        click.echo(text_of(found.made, pack.form) if theirs else found.made, nl=False)
    click.echo("\n".join(texts.trip(found)), err=True)
    sys.exit(1 if found.problems or found.back else 0)


# --- new ---------------------------------------------------------------------------------------------------------


@mappings.command()
@click.argument("region")
@click.argument("message")
@click.option(
    "--schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The region's format: .json or .xsd.",
)
@click.option("--format", "kind", type=click.Choice(["form", "csv"]), help="When it is neither JSON nor XML.")
@click.option("--charset", help="The region's character set, when it is not utf-8.")
@click.option("--into", type=Folder, help="The mappings folder that the pack goes into, when it is another.")
@root_option
@wrong_names_in_words
def new(
    region: str, message: str, schema: Path, kind: str | None, charset: str | None, into: Path | None, root: Path
) -> None:
    """Begin a pack: rules proposed from the schema, and a list of what is to be decided."""
    target = (into or root) / region / message
    if target.exists():
        raise InvalidRequest(f"{target} is there already; a pack is begun once")
    head = {key: value for key, value in (("format", kind), ("charset", charset)) if value}
    order = Order(region, message, schema.read_bytes(), schema.suffix.lower() == ".xsd", schemas_beside(schema), head)
    goal = into or root
    found = scaffold(replace(read_folder(root), name=goal.name), order)
    for path, raw in found.files.items():
        file = goal / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(raw)
    _print(texts.scaffolded(found, str(goal)))


# --- replay ------------------------------------------------------------------------------------------------------


@mappings.command()
@click.option("--new", "new", type=Folder, required=True, help="The mappings folder to be tried.")
@click.option("--old", "old", type=Folder, help="The one to compare with; usually the one in use.")
@click.option(
    "--recorded",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="<region>/<message>/*.canonical.json and *.region.*",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take the submissions in this gateway's store.",
)
@click.option("--show-values", is_flag=True, help="Show each document that comes out otherwise, with people's data.")
@json_option
@wrong_names_in_words
def replay(
    new: Path, old: Path | None, recorded: Path | None, config: Path | None, show_values: bool, as_json: bool
) -> None:
    """Run recorded traffic through both folders, and show what would come out otherwise."""
    if not recorded and not config:
        raise click.UsageError("Say --recorded FOLDER or --config FILE: there is nothing to replay.")
    if show_values and as_json:
        raise click.UsageError("--show-values is for people, --json for programs: say one of them.")
    settings = read_config(config) if config else None
    before, after = _both(old or (settings.mappings if settings else HOUSE / "mappings"), new)
    found = Summary()

    def run(document: Recorded) -> None:
        one = contrast(before.packs, after.packs, document)
        found.add(one, before.packs, after.packs)
        if show_values and one.verdict not in {Verdict.SAME, Verdict.STILL_REFUSED}:
            _print(texts.contrasted(one))

    for document in recorded_in(recorded) if recorded else ():
        run(document)
    if settings:
        folders = {
            region: manifest.mappings for region, manifest in read_manifests(settings).items() if manifest.mappings
        }
        asyncio.run(_each(stored_submissions(settings, folders), run))
    _print_json(texts.summary_as_data(found)) if as_json else _print(texts.replayed(found))
    sys.exit(0 if found.is_quiet else 1)


async def _each(documents: AsyncIterator[Recorded], run: Callable[[Recorded], None]) -> None:
    async for document in documents:
        run(document)


# --- printing ----------------------------------------------------------------------------------------------------


def _room() -> int | None:
    """Return how many columns the terminal has; nothing is broken into lines when there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _print(lines: Iterable[str]) -> None:
    click.echo("\n".join(lines).rstrip())


def _print_json(data: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> None:
    click.echo(json.dumps(data, ensure_ascii=False, indent=2))
