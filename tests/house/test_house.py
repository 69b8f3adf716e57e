"""House rules that no linter holds: no keys, no addresses of one machine, reasons beside exemptions, telling names."""

from __future__ import annotations

import ast
import io
import re
import shutil
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[2]

# Written so that none of these patterns finds itself.
KEY_MATERIAL = re.compile(
    r"-{5}BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-{5}(?:\s|\\n)+[A-Za-z0-9+/]{40}"  # PEM with a body
    r"|\"kty\"\s*:[^{}]*\"d\"\s*:\s*\"[A-Za-z0-9_-]{20,}\"|\"d\"\s*:\s*\"[A-Za-z0-9_-]{20,}\"[^{}]*\"kty\"\s*:"  # JWK
)
REGISTRY = re.compile(r"--(?:extra-)?index-ur[l]|--find-link[s]|pypi\.or[g]/simple|pythonhosted\.or[g]|npmjs\.or[g]")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work/(?:main|share[d])|roo[t]/|home/[a-z]|Users/[A-Za-z])|\b[A-Z]:\\Users\\")

DIRECTIVE = re.compile(r"\bnoqa\b(?::\s*[A-Z]+\d+(?:[,\s]+[A-Z]+\d+\b)*)?|\btype:\s*ignore(?:\[[^\]]*\])?")


def files() -> list[Path]:
    """Return what is in the repository or would be added to it, without what git ignores."""
    git = shutil.which("git")
    assert git, "git is needed to tell sources from products"
    listed = subprocess.run(
        [git, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=HOUSE,
        capture_output=True,
        check=True,
    )
    paths = (HOUSE / name for name in listed.stdout.decode().split("\0") if name)
    return sorted(path for path in set(paths) if path.is_file())


def texts() -> Iterator[tuple[str, str]]:
    """Yield the name and text of every file that is text."""
    for path in files():
        content = path.read_bytes()
        if b"\0" not in content:
            yield path.relative_to(HOUSE).as_posix(), content.decode("utf-8", "replace")


def sources() -> Iterator[tuple[str, str]]:
    """Yield the name and text of every Python file."""
    return ((name, text) for name, text in texts() if name.endswith(".py"))


@pytest.mark.parametrize(
    ("rule", "pattern"),
    [("key material", KEY_MATERIAL), ("registry address", REGISTRY), ("machine path", MACHINE_PATH)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_file_holds_what_belongs_to_one_deployment(rule: str, pattern: re.Pattern[str]) -> None:
    """Keys are minted, never committed; a path or a mirror of one machine breaks every other one."""
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
        for name, text in texts()
        for match in pattern.finditer(text)
    ]
    assert found == [], rule


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (KEY_MATERIAL, "-----BEGIN " + "EC PRIVATE KEY-----\n" + "A" * 64),
        (KEY_MATERIAL, 'PEM = "-----BEGIN ' + "PRIVATE KEY-----\\n" + "B" * 64),
        (KEY_MATERIAL, '{"kty": "EC", "x": "1", ' + f'"d": "{"c" * 43}"' + "}"),
        (REGISTRY, "--index-" + "url https://mirror.example/simple"),
        (MACHINE_PATH, 'open("/ro' + 'ot/x")'),
        (MACHINE_PATH, "see /home/" + "somebody/notes"),
    ],
)
def test_each_forbidden_pattern_is_found_where_it_stands(pattern: re.Pattern[str], text: str) -> None:
    """A pattern that finds nothing would hold nothing."""
    assert pattern.search(text)


def exemptions(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and comment of every exemption from a linter or the type checker."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and DIRECTIVE.search(token.string):
            yield token.start[0], token.string


def reasoned(comment: str) -> bool:
    """Say whether words are left beside the directives."""
    return re.search(r"[A-Za-z]{3,}", DIRECTIVE.sub("", comment)) is not None


def test_every_exemption_carries_its_reason_on_its_line() -> None:
    bare = [f"{name}:{line}" for name, text in sources() for line, comment in exemptions(text) if not reasoned(comment)]
    assert bare == []


@pytest.mark.parametrize(
    ("comment", "verdict"),
    [
        ("# no" + "qa", False),
        ("# no" + "qa: S105", False),
        ("# no" + "qa: S105, PLR0913", False),
        ("# no" + "qa: S105 - the name of a file", True),
        ("# type" + ": ignore[attr-defined]", False),
        ("# type" + ": ignore[attr-defined] # added by an extension", True),
    ],
)
def test_an_exemption_is_told_from_its_reason(comment: str, verdict: bool) -> None:
    assert DIRECTIVE.search(comment)
    assert reasoned(comment) is verdict


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a module."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_test_is_named_by_a_sentence() -> None:
    """Three words or more: the list of test names is the list of promises."""
    short = [
        f"{name}: {function.name}"
        for name, text in sources()
        if name.startswith("tests/")
        for function in functions(ast.parse(text))
        if function.name.startswith("test_") and len(function.name.split("_")) < 4
    ]
    assert short == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [name for name, text in sources() if not ast.get_docstring(ast.parse(text))]
    assert silent == []
