"""The data files of a deployment: clients, items, certificate types, grants, bases, windows.

Owns: reading them all, in the order in which they refer to each other, and hearing every problem in one go. A file that
is broken does not make its neighbours complain about names that they rightly use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gateway.catalogue import load_items
from gateway.certificates.types import CertificateType, load_types
from gateway.config import Config, Problems, load_config, read_toml
from gateway.domain.item import Item
from gateway.errors import StartRefused
from gateway.identity.clients import Client, load_clients
from gateway.mapping import load_packs
from gateway.policy.grants import Grants, Known, load_grants
from gateway.policy.transfer import Basis, load_bases
from gateway.windows import WindowRegistry, load_windows

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Data:
    """What the data files say, checked against each other."""

    clients: Mapping[str, Client]
    items: Mapping[str, Item]
    types: Mapping[str, CertificateType]
    grants: Grants
    bases: tuple[Basis, ...]
    windows: WindowRegistry


class _Anything(Collection[str]):
    """Stands for names that are not known because their own file is broken."""

    def __contains__(self, _name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def load_data(config: Config) -> Data:
    """Read every data file. Raises StartRefused that lists the problems of all of them."""
    problems = Problems()
    files = config.files
    regions = frozenset(config.regions)
    clients: Mapping[str, Client] | None = None
    items: Mapping[str, Item] | None = None
    types: Mapping[str, CertificateType] | None = None
    with problems.collect():
        clients = load_clients(config)
    with problems.collect():
        items = load_items(config.path(files.items), regions)
    with problems.collect():
        types = load_types(config.path(files.certificates), regions)
    known = Known(_names(clients), regions, _names(items), _names(types))
    grants = Grants({})
    bases: tuple[Basis, ...] = ()
    windows = WindowRegistry([])
    with problems.collect():
        grants = load_grants(config.path(files.grants), known)
    with problems.collect():
        bases = load_bases(config.path(files.transfers), known.items)
    with problems.collect():
        windows = load_windows(config.path(files.windows), regions=regions, items=known.items)
    problems.refuse()
    return Data(clients or {}, items or {}, types or {}, grants, bases, windows)


def _names(loaded: Mapping[str, V] | None) -> Collection[str]:
    return _Anything() if loaded is None else frozenset(loaded)


def read_config(path: Path) -> Config:
    """Read the configuration; when it is broken, say what is wrong with the mappings too, in the same go."""
    problems = Problems()
    with problems.collect():
        return load_config(path)
    for region, mappings in _regions_of(path):
        with problems.collect():
            load_packs(mappings, region)
    raise StartRefused("The gateway refuses to start.", problems=problems.found)


def _regions_of(path: Path) -> list[tuple[str, Path]]:
    """Return what a broken configuration still says about regions and where their mappings are."""
    try:
        data = read_toml(path)
    except StartRefused:
        return []
    named = data.get("regions")
    root = data.get("mappings", Config.model_fields["mappings"].default)
    return [(region, path.parent / root) for region in named] if isinstance(named, dict) else []
