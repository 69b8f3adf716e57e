"""The data files of a deployment: clients, items, certificate types, grants, bases, recognition, windows, working days.

Owns: reading them all, in the order in which they refer to each other, and hearing every problem in one go. A file that
is broken does not make its neighbours complain about names that they rightly use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gateway.calendars import load_calendars
from gateway.catalogue import load_items
from gateway.certificates.files.registry import Registry, load_seals
from gateway.certificates.types import CertificateType, load_types
from gateway.config import Config, Problems, load_config, read_toml
from gateway.domain.item import Item
from gateway.domain.working_days import Calendars
from gateway.errors import StartRefused
from gateway.identity.clients import ClientEntry, load_clients
from gateway.mapping.library import read_sets
from gateway.policy.grants import Grants, Known, load_grants
from gateway.policy.recognition import Recognition, load_recognition
from gateway.policy.transfer import Basis, load_bases
from gateway.windows import WindowRegistry, load_windows

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Data:
    """What the data files say, checked against each other. `clients` are those of the file; the database has more."""

    clients: Mapping[str, ClientEntry]
    items: Mapping[str, Item]
    types: Mapping[str, CertificateType]
    grants: Grants
    bases: tuple[Basis, ...]
    recognition: Recognition
    windows: WindowRegistry
    calendars: Calendars
    seals: Registry


class _Anything(Collection[str]):
    """Stands for names that are not known because their own file is broken."""

    def __contains__(self, _name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def load_data(config: Config, registered: Mapping[str, str] | None = None) -> Data:
    """Read every data file. Raises StartRefused that lists the problems of all of them.

    `registered` are the clients in the database (id → service); without them no client or service is called unknown.
    """
    problems = Problems()
    files = config.files
    regions = frozenset(config.regions)
    clients: Mapping[str, ClientEntry] | None = None
    items: Mapping[str, Item] | None = None
    types: Mapping[str, CertificateType] | None = None
    with problems.collect():
        clients = load_clients(config)
    with problems.collect():
        items = load_items(config.path(files.items), regions)
    with problems.collect():
        types = load_types(config.path(files.certificates), regions)
    with problems.collect():
        _check_types(items or {}, types, files.items.name)
    callers = _Anything() if registered is None or clients is None else frozenset((*clients, *registered))
    known = Known(callers, regions, _names(items), _names(types))
    grants = Grants({})
    bases: tuple[Basis, ...] = ()
    recognition = Recognition({})
    windows = WindowRegistry([])
    calendars = Calendars("", {})
    seals = Registry({})
    with problems.collect():
        grants = load_grants(config.path(files.grants), known)
    with problems.collect():
        bases = load_bases(config.path(files.transfers), known.items)
    with problems.collect():
        recognition = load_recognition(config.path(files.recognition), regions, _services(clients, registered))
    with problems.collect():
        windows = load_windows(config.path(files.windows), regions=regions, items=known.items)
    with problems.collect():
        calendars = load_calendars(config.path(files.calendar))
    with problems.collect():
        seals = _seals(config, regions, known.certificate_types)
    problems.refuse()
    return Data(clients or {}, items or {}, types or {}, grants, bases, recognition, windows, calendars, seals)


def _seals(config: Config, regions: frozenset[str], types: Collection[str]) -> Registry:
    """Return the seals of seals.toml; none where there is no such file: then no certificate file is genuine."""
    path = config.path(config.files.seals)
    return load_seals(path, regions=regions, types=types) if path.exists() else Registry({})


def _check_types(items: Mapping[str, Item], types: Mapping[str, CertificateType] | None, file: str) -> None:
    """Refuse items whose materials can be satisfied by a certificate of a type that nobody knows."""
    problems = Problems()
    for item in items.values() if types is not None else ():
        for rule in item.materials:
            if rule.certificate_type is not None and rule.certificate_type not in (types or ()):
                reason = f"material {rule.code}: {rule.certificate_type} is no type of certificates.toml"
                problems.add(f"{file}: item {item.code}", reason)
    problems.refuse()


def _names(loaded: Mapping[str, V] | None) -> Collection[str]:
    return _Anything() if loaded is None else frozenset(loaded)


def _services(clients: Mapping[str, ClientEntry] | None, registered: Mapping[str, str] | None) -> Collection[str]:
    if clients is None or registered is None:
        return _Anything()
    return {entry.service or client_id for client_id, entry in clients.items()} | set(registered.values())


def read_config(path: Path) -> Config:
    """Read the configuration; when it is broken, say what is wrong with the mappings too, in the same go."""
    problems = Problems()
    with problems.collect():
        return load_config(path)
    mappings, folders = _mappings_of(path)
    problems.found.extend(read_sets(mappings, folders)[1] if folders else ())
    raise StartRefused("The gateway refuses to start.", problems=problems.found)


def _mappings_of(path: Path) -> tuple[Path, dict[str, str]]:
    """Return what a broken configuration still says: where the mappings are, and in which folder each region's."""
    fields = Config.model_fields
    try:
        data = read_toml(path)
    except StartRefused:
        return fields["mappings"].default, {}
    adapters = path.parent / str(data.get("adapters", fields["adapters"].default))
    regions = data.get("regions")
    folders = {region: _folder_of(adapters / region) for region in regions} if isinstance(regions, dict) else {}
    return path.parent / str(data.get("mappings", fields["mappings"].default)), folders


def _folder_of(adapter: Path) -> str:
    """Return in which folder of mappings/ a region's packs are, as far as its region.toml can be read."""
    try:
        return str(read_toml(adapter / "region.toml").get("mappings") or adapter.name)
    except StartRefused:
        return adapter.name
