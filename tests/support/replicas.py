"""Deployments of several processes on one store, and how to recognise a case that arrives at an authority."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aiohttp import web
from sqlalchemy.engine import URL, make_url

from gateway.sandbox.layout import Choices, Layout, Ports, lay_out
from gateway.sandbox.neighbourhood import free_ports
from tests.support.few_regions import THREE, narrow

PASSWORD = "PEARL_STORE_PASSWORD"
"""The variable that holds the database's password, if it has one."""


def secrets_of(store_url: str) -> Mapping[str, str]:
    """Return the environment that the processes need beside their folder."""
    return {PASSWORD: str(make_url(store_url).password or "none")}


def lay_out_replicas(
    folder: Path,
    store_url: str,
    replicas: int,
    *,
    delivery: Mapping[str, float],
    limits: Mapping[str, float],
    regions: Sequence[str] = THREE,
) -> list[Layout]:
    """Lay out one folder a process. Replicas share store, keys, blobs and authorities; only their ports differ.

    With a few regions the processes start sooner; those of `THREE` are among them.
    """
    first = free_ports(regions)
    bare = make_url(store_url)
    secret = None if bare.password is None else f"env:{PASSWORD}"
    address = URL.create(bare.drivername, bare.username, None, bare.host, bare.port, bare.database, bare.query)
    choices = Choices(
        store_url=address.render_as_string(), store_password=secret, pace=0.05, delivery=delivery, limits=limits
    )
    layouts = [lay_out(folder, first, choices)]
    for number in range(1, replicas):
        own = free_ports([])
        replica = _sharing(folder, folder / f"replica-{number}")
        layouts.append(lay_out(replica, Ports(own.public, own.admin, first.authorities), choices))
    for layout in layouts:
        narrow(layout.folder, regions)
    return layouts


def _sharing(source: Path, target: Path) -> Path:
    target.mkdir()
    for shared in ("keys", "blobs"):
        (source / shared).mkdir(exist_ok=True)
        (target / shared).symlink_to(source / shared)
    return target


def submits(request: web.Request) -> bool:
    """Recognise the message that carries a case, in the protocol of Guangdong or of Foshan."""
    return request.path.endswith("/cases") or "SubmitCase" in request.headers.get("SOAPAction", "")
