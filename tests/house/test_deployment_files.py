"""The files of a deployment parse, agree with each other, and ask only for figures that the gateway really has.

No container engine runs here. What can be held without one is held: a dashboard on a renamed metric shows an empty
panel and an alert on it never fires, and nobody notices either.
"""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from gateway.telemetry import Metrics

HOUSE = Path(__file__).resolve().parents[2]
DOCKER = HOUSE / "docker"
SAMPLES: Mapping[str, Any] = {
    "str": "x",
    "int": 1,
    "float": 1.0,
    "bool": True,
    "dict[str, int]": {"x": 1},
    "Mapping[str, int]": {"x": 1},
    "Mapping[tuple[str, str, str], int]": {("x", "y", "z"): 1},
    "Mapping[tuple[str, str], int]": {("x", "y"): 1},
    "Mapping[str, tuple[int, int]]": {"open": (1, 1)},
}
OF_PROMETHEUS = {"up": {"job", "instance"}}
"""Series that Prometheus makes itself about each target, and their labels."""
GRAMMAR = {"and", "or", "unless", "bool", "offset"}


def load(name: str) -> Any:
    return yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))


def series() -> dict[str, set[str]]:
    """Return every series that the gateway exposes with its labels, by setting each figure once."""
    metrics = Metrics(CollectorRegistry())
    for name, method in inspect.getmembers(metrics, inspect.ismethod):
        if not name.startswith("_"):
            method(*(SAMPLES[p.annotation] for p in inspect.signature(method).parameters.values()))
    samples = (sample for family in metrics.registry.collect() for sample in family.samples)
    return {sample.name: set(sample.labels) for sample in samples} | OF_PROMETHEUS


def used(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each series that a PromQL expression selects, with the labels that it selects by."""
    plain = expression
    for strings_ranges_and_groupings in (r'"[^"]*"', r"\[[^\]]*\]", r"\b(?:by|without|on|ignoring)\s*\([^)]*\)"):
        plain = re.sub(strings_ranges_and_groupings, " ", plain)
    for name, selector in re.findall(r"\b([A-Za-z_]\w*)\b(?!\s*\()\s*(\{[^}]*\})?", plain):
        if name not in GRAMMAR:
            yield name, set(re.findall(r"(\w+)\s*(?:=|!)", selector))


def grouped_by(expression: str) -> set[str]:
    """Return the labels that an expression groups by."""
    return {label for labels in re.findall(r"\bby\s*\(([^)]*)\)", expression) for label in re.findall(r"\w+", labels)}


def expressions() -> Iterator[tuple[str, str]]:
    """Yield where it stands, and the expression, for every alert and every panel."""
    for group in load("prometheus/alerts.yml")["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for path in (DOCKER / "grafana/dashboards").glob("*.json"):
        board = json.loads(path.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}", target["expr"]
        for variable in board["templating"]["list"]:
            yield (
                f"{path.name}: ${variable['name']}",
                re.sub(r"label_values\((\w+), (\w+)\)", r"sum by (\2) (\1)", variable["query"]["query"]),
            )


@pytest.mark.parametrize(("place", "expression"), list(expressions()))
def test_an_expression_uses_only_series_and_labels_that_exist(place: str, expression: str) -> None:
    known = series()
    selected = list(used(expression))
    assert selected, f"{place} selects nothing"
    for name, labels in selected:
        assert name in known, f"{place}: {name} is not a series of the gateway"
        assert labels <= known[name], f"{place}: {name} has no label {labels - known[name]}"
        assert grouped_by(expression) <= known[name] | {"le"}, f"{place}: {name} cannot be grouped so"


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ('up{job="pearl"} == 0', [("up", {"job"})]),
        ('sum by (le) (rate(a_bucket{b=~"x|c{d}", e!="f"}[5m])) / c > 1e3', [("a_bucket", {"b", "e"}), ("c", set())]),
        ("a and on (x) b", [("a", set()), ("b", set())]),
    ],
)
def test_the_reader_of_expressions_finds_every_series(expression: str, selected: list[tuple[str, set[str]]]) -> None:
    """A reader that overlooks a series would let any name pass."""
    assert list(used(expression)) == selected


def test_every_figure_of_the_gateway_is_looked_at_somewhere() -> None:
    """A figure that no panel and no alert shows is either missing there or not worth counting."""
    seen = {
        re.sub(r"_(bucket|count|sum)$", "", name) for _, expression in expressions() for name, _ in used(expression)
    }
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in series() if not name.endswith("_created")}
    assert families <= seen


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    rules = [rule for group in load("prometheus/alerts.yml")["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["annotations"].keys() == {"summary", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]


def test_prometheus_asks_a_service_that_compose_starts() -> None:
    compose, prometheus = load("compose.yaml"), load("prometheus/prometheus.yml")
    (job,) = prometheus["scrape_configs"]
    host, _, port = job["static_configs"][0]["targets"][0].partition(":")
    assert host in compose["services"]
    assert port == "9090"
    assert all((DOCKER / "prometheus" / name).exists() for name in prometheus["rule_files"])


def test_every_panel_reads_the_data_source_that_is_provisioned() -> None:
    (source,) = load("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    host = source["url"].removeprefix("http://").partition(":")[0]
    assert host in load("compose.yaml")["services"]
    for path in (DOCKER / "grafana/dashboards").glob("*.json"):
        board = json.loads(path.read_text(encoding="utf-8"))
        assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source["uid"]}
        assert all(panel["description"] for panel in board["panels"])


def test_grafana_finds_its_dashboards_where_compose_mounts_them() -> None:
    (provider,) = load("grafana/provisioning/dashboards/pearl.yaml")["providers"]
    mounts = [volume.split(":") for volume in load("compose.yaml")["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in [target for _, target, _ in mounts]
    assert all((DOCKER / source).is_dir() for source, _, _ in mounts)


def test_compose_refers_only_to_services_and_volumes_that_it_declares() -> None:
    compose = load("compose.yaml")
    services = compose["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= services.keys(), name
        assert service.get("network_mode", "none").removeprefix("service:") in {*services, "none"}, name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DOCKER / source).exists(), f"{name}: {source}"


def test_nothing_is_published_beyond_loopback_and_no_password_has_a_default() -> None:
    for name, service in load("compose.yaml")["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable or re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), f"{name}: {variable}"


def test_our_own_containers_run_without_rights_on_a_file_system_they_cannot_write() -> None:
    ours = [s for s in load("compose.yaml")["services"].values() if s["image"].startswith("pearl-gateway")]
    assert len(ours) >= 2
    for service in ours:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]


def test_the_image_is_built_from_hashes_and_not_run_as_root() -> None:
    lines = (DOCKER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    installs = [line for line in lines if "pip install" in line]
    assert all("--require-hashes" in line or ("--no-deps" in line and "--no-index" in line) for line in installs)
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users
    assert users[-1] not in {"0", "root"}
    assert any("/livez" in line for line in lines)


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    ignored = {line.strip("/") for line in (HOUSE / ".dockerignore").read_text(encoding="utf-8").splitlines() if line}
    copies = [
        line.split()[1:-1] for line in (DOCKER / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")
    ]
    for source in (name for names in copies for name in names if not name.startswith(("--from", "/"))):
        assert (HOUSE / source).exists(), source
        assert source not in ignored, source


def test_the_build_tool_is_pinned_as_in_development() -> None:
    pins = [line for line in (DOCKER / "build.lock").read_text().splitlines() if line and not line.startswith("#")]
    development = (HOUSE / "requirements-dev.lock").read_text().splitlines()
    assert pins
    assert {pin.rstrip(" \\") for pin in pins} <= {line.rstrip(" \\") for line in development}


def test_pre_commit_runs_what_is_in_the_environment_and_fetches_nothing() -> None:
    hooks = yaml.safe_load((HOUSE / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    names = {hook["entry"].split()[0] for hook in hooks["repos"][0]["hooks"]}
    assert all(name.startswith(".venv/bin/") for name in names)


def test_the_licence_is_the_one_that_the_package_declares() -> None:
    declared = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (HOUSE / declared["license-files"][0]).read_text(encoding="utf-8")
    assert declared["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
