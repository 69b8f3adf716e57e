"""The place where blobs lie: a folder, or a bucket of S3 and of what speaks like it.

Owns: opening it, with short patience, and saying in words for an operator what is wrong with it. What the place itself
says is not repeated, except for its error code: it may repeat what was signed. Leaves to `blobs`: what is kept there.
Everything about S3 beyond bucket and prefix comes from the variables `AWS_…`, which obstore reads; docs/operations.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from gateway.errors import FieldProblem, StartRefused

if TYPE_CHECKING:
    from obstore.store import ClientConfig  # it is there for types only

TROUBLE = (BaseError, FileNotFoundError)
"""What obstore raises of its own: its family, and Python's own error for a blob or a bucket that is not there."""
_ENDPOINTS = {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"}
_BUNDLE = "AWS_CA_BUNDLE"
"""Authorities that are trusted beside the usual ones. obstore does not read it, the tools of Amazon do."""
_PRINTED = re.compile(r"[!-~]+")
_RETRIES = 3
_PATIENCE = timedelta(seconds=15)
"""After this time without success nothing is tried again: whoever uploads is told 503 while he still waits."""
_METADATA = "169.254."
"""Where credentials are looked for last: at the machine's own metadata service."""


def check_place(place: str, environment: Mapping[str, str] = os.environ) -> None:
    """Raise StartRefused as `open_blob_store` does, and make nothing."""
    if "://" in place:
        _open_s3(place, environment)


def open_blob_store(place: str, folder: Path, environment: Mapping[str, str] = os.environ) -> ObjectStore:
    """Return the store for `s3://bucket/prefix`, or for a folder relative to the configuration's.

    Opening asks nobody; `trouble_of` says what came of the first question. Raises StartRefused.
    """
    if "://" in place:
        return _open_s3(place, environment)
    path = folder / place
    path.mkdir(parents=True, exist_ok=True)
    return LocalStore(prefix=str(path))


def _open_s3(place: str, environment: Mapping[str, str]) -> ObjectStore:
    clear = environment.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
    problems = [*_place_problems(place), *_endpoint_problems(environment, clear), *_bundle_problems(environment)]
    if problems:
        raise _refused(problems)
    options: ClientConfig = {"connect_timeout": timedelta(seconds=3), "timeout": _PATIENCE, "allow_http": clear}
    if _BUNDLE in environment:
        options["root_certificate"] = Path(environment[_BUNDLE]).read_bytes()
    try:
        return from_url(
            place,
            client_options=options,
            retry_config={"max_retries": _RETRIES, "retry_timeout": _PATIENCE},
        )
    except (BaseError, ValueError) as error:
        reason = f"cannot be opened with the AWS_… variables: {_first_line(error)}"
        raise _refused([FieldProblem("store.blobs", reason)]) from error


def _place_problems(place: str) -> Iterator[FieldProblem]:
    named = urlsplit(place)
    if named.scheme != "s3" or not named.hostname or named.username or named.query or named.fragment:
        yield FieldProblem("store.blobs", "must be a folder or s3://bucket/prefix, and nothing else may stand in it")


def _endpoint_problems(environment: Mapping[str, str], clear: bool) -> Iterator[FieldProblem]:
    """Look at the addresses that obstore would take as they are, until the first request."""
    for name in _ENDPOINTS & environment.keys():
        url = environment[name]
        known = urlsplit(url if _PRINTED.fullmatch(url) else "")
        if known.scheme not in ("http", "https") or not known.hostname or known.username:
            yield FieldProblem(name, "must be an address that begins with https://, without a name or a password in it")
        elif known.scheme == "http" and not clear:
            yield FieldProblem(name, "is plain http: use https, or set AWS_ALLOW_HTTP=true in a network of your own")


def _bundle_problems(environment: Mapping[str, str]) -> Iterator[FieldProblem]:
    if _BUNDLE not in environment:
        return
    try:
        named = b"-----BEGIN CERTIFICATE-----" in Path(environment[_BUNDLE]).read_bytes()
    except OSError:
        named = False
    if not named:
        yield FieldProblem(_BUNDLE, "must be a file of certificates (PEM) that can be read")


def _refused(problems: Sequence[FieldProblem]) -> StartRefused:
    return StartRefused("The gateway refuses to start.", problems=problems)


async def trouble_of(store: ObjectStore) -> str | None:
    """Return why a place does not answer, in words for an operator, without keys and signatures; None when it does.

    A listing of nothing: it needs the address, the bucket and the right to list, and changes nothing.
    """
    try:
        await obstore.list(store, prefix="readiness").collect_async()
    except (*TROUBLE, OSError) as error:
        return _reason_of(str(error))
    return None


def _reason_of(told: str) -> str:
    if _METADATA in told:
        return "no credentials for it were found (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role)"
    if code := _code(told):
        return f"it refuses with {code}"
    return "it does not answer" if "HTTP error" in told else "it cannot be read"


def detail_of(error: Exception) -> str:
    """Return what may stand in the log about an error of obstore: the first line, and no document of the place."""
    code = _code(str(error))
    return f"{_first_line(error)}{f' ({code})' if code else ''}"


def _code(told: str) -> str:
    """Return the place's own code for an error, or else the status, if there was an answer."""
    found = re.search(r"<Code>(\w{1,64})</Code>", told) or re.search(r"status code: (\d{3})", told)
    return found[1] if found else ""


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].partition("<")[0].strip(" :")
