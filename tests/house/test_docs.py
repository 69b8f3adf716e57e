"""The documents say what the code does: every address, setting, figure, error code and command stands in them.

What is compared is the real thing where it can be had (the route table, the models, the registry, the commands), and a
parse of the sources where it cannot (error codes that are given at the place of raising).
"""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import click
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

import gateway
from gateway import windows
from gateway.app import utc_now
from gateway.calendars import CalendarFile, YearEntry
from gateway.catalogue import FieldEntry, ItemEntry, MaterialEntry, OfficeEntry, PartEntry
from gateway.certificates.files.registry import AnchorEntry, SealEntry, SealsFile
from gateway.certificates.files.verdict import REASONS, Check
from gateway.certificates.request import HolderNamed, LookupRequest
from gateway.certificates.types import TypeEntry
from gateway.cli import main
from gateway.config import Config, Limits, RegionSettings
from gateway.domain.certificate import Standing
from gateway.domain.identifiers import DOCUMENT_TYPES
from gateway.domain.mandate import Lack, Relation
from gateway.domain.submission import State
from gateway.errors import GatewayError
from gateway.identity.clients import ClientEntry
from gateway.identity.codes import CodeRequest
from gateway.policy.grants import Grant
from gateway.policy.recognition import Line
from gateway.policy.transfer import Basis
from gateway.regions import RegionLimits
from gateway.submissions.application import Applicant, Application, Consent
from gateway.telemetry import Metrics
from gateway.web import problems, routes
from gateway.web.elssp.answers import HEAD
from gateway.web.elssp.elements import OTHER_NAMES
from gateway.web.elssp.operations import OPERATIONS
from gateway.web.elssp.shapes import Part
from gateway.web.elssp.statuses import Status
from gateway.web.elssp.words import load_words
from gateway.web.pages import Pages

HOUSE = Path(__file__).resolve().parents[2]
Row = Sequence[str]


@cache
def text(name: str) -> str:
    return (HOUSE / name).read_text(encoding="utf-8")


def documents() -> list[Path]:
    """Return every Markdown file of ours; what lies in a hidden folder is installed or minted."""
    found = (path.relative_to(HOUSE) for path in HOUSE.rglob("*.md"))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.parts))


def rows(name: str) -> Iterator[Row]:
    """Yield the cells of every table row, without the code marks."""
    for line in text(name).splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def rows_of(name: str, key: str) -> Row | None:
    """Return the first row whose first cell is this code, None when there is none."""
    return next((row for row in rows(name) if row[0].strip() == f"`{key}`"), None)


# --- addresses ---------------------------------------------------------------------------------------------------


def addresses() -> set[str]:
    """Return `METHOD /path` of both listeners, from the real tables over services that are never called."""
    nothing: Any = _Nothing()
    public = routes.public(
        identity=nothing, agencies=nothing, clerks=nothing, persons=nothing, inbox=nothing, pickups=nothing,
        notices=nothing,
        pages=Pages(), limits=Limits(), clock=utc_now, certificate_of=nothing, sharing=nothing,
    )  # fmt: skip
    admin = routes.admin(
        store=nothing,
        lines={},
        metrics=Metrics(CollectorRegistry()),
        clock=utc_now,
        accepting=bool,
        versions=nothing,
        switches=nothing,
        health=nothing,
        approvals=nothing,
        puller=nothing,
        refused=nothing,
        files=nothing,
    )
    return {_address(route) for route in (*public, *admin)}


class _Nothing:
    """Services that are never called, whatever is asked of them."""

    issuer = "https://gateway.example"
    clock = staticmethod(utc_now)

    def __getattr__(self, _name: str) -> Any:
        return self


def _address(route: web.AbstractRouteDef) -> str:
    if isinstance(route, web.StaticDef):
        return f"GET {route.prefix}/{{file}}"
    assert isinstance(route, web.RouteDef)
    return f"{route.method} {re.sub(r':[^}]*}', '}', route.path)}"


def documented_addresses() -> set[str]:
    both = text("docs/api.md") + text("docs/operations.md")
    return set(re.findall(r"`((?:GET|HEAD|OPTIONS|POST|PUT|PATCH|DELETE) /[^` ]*)`", both))


def test_every_address_of_both_listeners_is_documented_and_no_other() -> None:
    """An address that nobody describes is a door that nobody watches; one that is only described is a lie."""
    assert documented_addresses() == addresses()


# --- settings ----------------------------------------------------------------------------------------------------


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the default of every setting; `...` where there is none."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if model is Config and name == "folder":
            continue  # not a setting: the folder that the file lies in
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from settings(kind, f"{prefix}{name}.")
        elif name == "regions":
            yield from ((f"regions.<id>.{inner}", "a table") for inner in RegionSettings.model_fields)
        else:
            yield f"{prefix}{name}", "required" if field.is_required() else field.get_default(call_default_factory=True)


def in_words(default: Any) -> str | None:
    """Return a default as the table writes it; None where it cannot be written as a value."""
    if default == "required":
        return "required"
    if default is None:
        return "none"
    if default == "a table" or (isinstance(default, Path) and default.is_absolute()):
        return None
    return f"`{json.dumps(str(default) if isinstance(default, Path) else default)}`"


@pytest.mark.parametrize(("name", "default"), list(settings(Config)))
def test_every_setting_is_explained_with_its_default(name: str, default: Any) -> None:
    row = rows_of("docs/operations.md", name)
    assert row, f"docs/operations.md does not explain {name}"
    assert in_words(default) in (None, row[1])
    assert row[2].strip()


def test_no_setting_is_explained_that_does_not_exist() -> None:
    known = {name for name, _ in settings(Config)}
    table = text("docs/operations.md").partition("| setting | default |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)) == known


def test_the_example_configuration_is_one() -> None:
    """It is copied; a spelling mistake in it would be copied too."""
    example = re.search(r"## Configuration: pearl.toml.*?```toml\n(.*?)```", text("docs/operations.md"), re.DOTALL)
    assert example
    Config.model_validate(tomllib.loads(example.group(1)))


def names_of(*models: type[BaseModel]) -> set[str]:
    """Return the keys of these entries as they are written in a file."""
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


@pytest.mark.parametrize(
    ("heading", "models"),
    [
        ("clients.toml", [ClientEntry]),
        ("grants.toml", [Grant]),
        ("items.toml", [ItemEntry, FieldEntry, MaterialEntry, OfficeEntry, PartEntry]),
        ("windows.toml", [windows._Window, windows._Clerk, windows._Seal]),
        ("certificates.toml", [TypeEntry]),
        ("seals.toml", [SealsFile, SealEntry, AnchorEntry]),
        ("transfers.toml", [Basis]),
        ("recognition.toml", [Line]),
        ("working-days.toml", [YearEntry, CalendarFile]),
    ],
)
def test_every_key_of_a_data_file_is_explained(heading: str, models: list[type[BaseModel]]) -> None:
    part = text("docs/operations.md").partition(f"### {heading}\n")[2].partition("\n#")[0]
    assert names_of(*models) <= set(re.findall(r"`([a-z_]+)`", part))


def test_every_step_and_reason_of_a_verdict_on_a_file_is_explained() -> None:
    """The words of a reason are those that a person is shown."""
    assert [check for check in Check if rows_of("docs/certificate-files.md", check) is None] == []
    assert {name: (rows_of("docs/certificate-files.md", name) or ["", ""])[1] for name in REASONS} == REASONS


def test_every_limit_of_a_region_is_explained() -> None:
    assert [name for name in RegionLimits.model_fields if rows_of("docs/operations.md", name) is None] == []


# --- figures -----------------------------------------------------------------------------------------------------


def test_every_figure_is_explained_with_its_labels() -> None:
    """A figure without a meaning is watched by nobody."""
    metrics = Metrics(CollectorRegistry())
    # The registry does not tell the labels of a figure that was never set; the figure itself does.
    known = {value._name: value._labelnames for value in vars(metrics).values() if hasattr(value, "_labelnames")}
    for name, kind in ((family.name, family.type) for family in metrics.registry.collect()):
        row = rows_of("docs/operations.md", name + ("_total" if kind == "counter" else ""))
        assert row, f"docs/operations.md does not explain {name}"
        assert row[1] == kind
        assert set(re.findall(r"`(\w+)`", row[2])) == set(known[name])
    assert len(known) == len(list(metrics.registry.collect()))


# --- error codes -------------------------------------------------------------------------------------------------


def import_everything() -> None:
    for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            importlib.import_module(module.name)


def error_classes() -> dict[str, type[GatewayError]]:
    """Return every class of the family by its name."""
    found: dict[str, type[GatewayError]] = {}
    front: list[type[GatewayError]] = [GatewayError]
    while front:
        kind = front.pop()
        if kind.__module__.startswith("gateway."):
            found[kind.__name__] = kind
        front.extend(kind.__subclasses__())
    return found


def raised(classes: dict[str, type[GatewayError]]) -> Iterator[tuple[str, type[GatewayError], str]]:
    """Yield code, class and place of every `code=…` that an error is made with; a code with a hole ends in `*`."""
    for path in [*(HOUSE / "gateway").rglob("*.py"), *(HOUSE / "adapters").glob("*/adapter.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes:
                for value in (keyword.value for keyword in node.keywords if keyword.arg == "code"):
                    yield _code(value), classes[node.func.id], f"{path.relative_to(HOUSE)}:{node.lineno}"


def _code(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value)
    assert isinstance(value, ast.JoinedStr), "a code is a literal, or a literal with a hole"
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in value.values)


def filled(code: str) -> Iterator[str]:
    """Yield the codes that a code with a hole stands for."""
    if "*" not in code:
        yield code
        return
    yield from (code.replace("*", reason) for reason in (Lack if code.startswith("delegation.") else findings()))


def findings() -> Iterator[str]:
    """Yield the reasons that fill the hole in `transfer.*`."""
    for node in ast.walk(ast.parse(text("gateway/policy/transfer.py"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
            assert isinstance(node.args[1], ast.Constant)
            yield str(node.args[1].value)


def of_framework() -> Iterator[tuple[str, int]]:
    """Yield code and status of what the HTTP layer refuses by itself."""
    for refusal in (web.HTTPNotFound(), web.HTTPMethodNotAllowed("PUT", ["GET"]), web.HTTPRequestEntityTooLarge(1, 2)):
        response = problems.of_framework(refusal, "x")
        assert isinstance(response.body, bytes)
        yield json.loads(response.body)["code"], response.status


@cache
def codes() -> dict[str, set[tuple[int, str, bool]]]:
    """Return every stable code with the status, place and retryability that it comes with."""
    import_everything()
    classes = error_classes()
    found: dict[str, set[tuple[int, str, bool]]] = {}
    pairs = [(kind.code, kind) for kind in classes.values() if "code" in vars(kind)]
    for code, kind, _ in raised(classes):
        pairs += [(one, kind) for one in filled(code)]
    for code, kind in pairs:
        found.setdefault(code, set()).add((problems.status_of(kind("x")), kind.where.value, kind.retryable))
    for code, status in of_framework():
        found[code] = {(status, "caller", False)}
    return found


def documented_codes() -> dict[str, Row]:
    table = text("docs/api.md").partition("| code | status | where |")[2].partition("\n\n")[0]
    lines = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells] for cells in lines}


def test_every_error_code_is_documented_and_no_other() -> None:
    """Programs of agencies branch on these codes; each must be found, and none may be waited for in vain."""
    assert set(documented_codes()) == set(codes())


@pytest.mark.parametrize("code", sorted(documented_codes()))
def test_a_documented_code_says_what_the_error_says(code: str) -> None:
    _, status, where, retryable, advice = documented_codes()[code]
    said = {(given, place, "yes" if again else "no") for given, place, again in codes().get(code, ())}
    # A dash: the code is never an answer of its own.
    assert {(str(given) if status != "–" else "–", place, again) for given, place, again in said} == {
        (status, where, retryable)
    }
    assert advice


def test_a_code_at_the_place_of_raising_is_found() -> None:
    """A search that finds nothing would hold nothing."""
    import_everything()
    found = {code for code, _, _ in raised(error_classes())}
    assert {"auth.missing_token", "transfer.*", "window.csrf", "delivery.unwritten"} <= found
    assert set(findings()) >= {"no_consent", "must_stay_home"}


# --- fields and closed lists -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in Application.model_fields if name != "applicant"),
        *(f"applicant.{name}" for name in Applicant.model_fields),
    ],
)
def test_every_field_of_an_application_is_documented(name: str) -> None:
    assert rows_of("docs/api.md", name), f"docs/api.md does not explain {name}"


def test_every_field_of_a_lookup_and_of_a_consent_is_documented() -> None:
    named = set(re.findall(r"`([a-z_.]+)`", text("docs/api.md")))
    tops = {name for name in LookupRequest.model_fields if name != "holder"}
    assert tops | {f"holder.{name}" for name in HolderNamed.model_fields} <= named
    assert set(Consent.model_fields) <= named
    assert set(CodeRequest.model_fields) <= named


def test_every_element_and_status_of_the_form_of_gbt36906_is_documented() -> None:
    """A system is connected by that page alone."""
    named = set(re.findall(r"`([A-Za-z]+)`", text("docs/gbt36906.md")))
    sent = {name for one in OPERATIONS.values() for name in names_inside(one.asked)}
    words = load_words(HOUSE / "mappings")
    assert words is not None
    told = {name for one in OPERATIONS.values() for name in names_inside((*HEAD, *one.data(words)))}
    assert sent | told | OPERATIONS.keys() | OTHER_NAMES.keys() <= named
    statuses = text("docs/gbt36906.md").partition("| status |")[2].partition("\n\n")[0]
    assert {str(int(one)) for one in Status} <= set(re.findall(r"\d+", statuses))


def names_inside(parts: Sequence[Part]) -> Iterator[str]:
    """Yield the names of elements, those inside others as well."""
    for part in parts:
        yield part.name
        if not isinstance(part.holds, str):
            yield from names_inside(part.holds)


@pytest.mark.parametrize("code", [*DOCUMENT_TYPES, *State, *Standing, *Relation], ids=str)
def test_every_value_of_a_closed_list_is_documented(code: str) -> None:
    assert f"`{code}`" in text("docs/api.md")


# --- commands ----------------------------------------------------------------------------------------------------


def commands(group: click.Command = main, name: str = "pearl") -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, with its whole name."""
    if isinstance(group, click.Group):
        for word, command in group.commands.items():
            yield from commands(command, f"{name} {word}")
    else:
        yield name, group


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_command_is_explained_with_its_options(name: str, command: click.Command) -> None:
    row = rows_of("docs/operations.md", name)
    assert row, f"docs/operations.md does not explain {name}"
    options = {parameter.opts[0] for parameter in command.params if isinstance(parameter, click.Option)}
    assert set(re.findall(r"`(--[a-z-]+)`", row[2])) == options


def test_every_command_in_a_document_exists() -> None:
    """An operator types what is written; a command that is only planned stands in no document."""
    known = {tuple(name.split()[1:]) for name, _ in commands()}
    begun = known | {words[:1] for words in known}
    for path in documents():
        for line in re.findall(r"(?:`|^    |^\$ )pearl ([a-z][^`\n]*)", text(str(path)), re.MULTILINE):
            words = tuple(re.match(r"[a-z ]*", line)[0].split())  # type: ignore[index] # the pattern matches anything
            assert words[:2] in begun or words[:1] in begun, f"{path}: pearl {line}"


def test_every_make_target_in_a_document_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    for path in documents():
        assert set(re.findall(r"(?:`|^    )make ([a-z-]+)", text(str(path)), re.MULTILINE)) <= targets, path


def without_programs(markdown: str) -> str:
    """Leave out the parts that only one README carries: transcript and programs."""
    return re.sub(r"<!-- ([a-z-]+) -->.*?<!-- /\1 -->", "", markdown, flags=re.DOTALL)


def test_both_readmes_name_the_same_commands_and_documents() -> None:
    """Whoever reads Chinese gets the same product."""
    told = []
    for name in ("README.md", "README.zh-CN.md"):
        plain = without_programs(text(name))
        typed = set(re.findall(r"(?:`|^    )((?:make|pearl|pip) [a-z][a-z -]*)", plain, re.MULTILINE))
        linked = {target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", plain)} - {
            "README.md",
            "README.zh-CN.md",
        }
        shown = set(re.findall(r"<(http[^>]+)>", plain))
        told.append((typed, linked, shown))
    assert told[0] == told[1]


# --- links and files ---------------------------------------------------------------------------------------------


def links(path: Path) -> Iterator[str]:
    """Yield the relative links of a document; what stands in code is no link."""
    plain = re.sub(r"```.*?```|`[^`\n]*`", "", text(str(path)), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", plain):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(markdown: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", markdown, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", documents(), ids=str)
def test_every_link_of_a_document_leads_somewhere(path: Path) -> None:
    for target in links(path):
        file, _, anchor = unquote(target).partition("#")
        goal = (HOUSE / path.parent / file) if file else HOUSE / path
        assert goal.exists(), f"{path}: {target}"
        assert not anchor or anchor in anchors(goal.read_text(encoding="utf-8")), f"{path}: {target}"


@pytest.mark.parametrize(
    "name", ["docs/threat-model.md", "docs/operations.md", "docs/api.md", "SECURITY.md", "CHANGELOG.md"]
)
def test_every_file_that_a_document_names_exists(name: str) -> None:
    """A reader follows the name; a file that moved leaves it in the dark."""
    for file in re.findall(r"`((?:gateway|adapters|mappings|docker|certs|docs|tests)/[\w./-]+)`", text(name)):
        assert (HOUSE / file).exists(), f"{name}: {file}"
