"""Mapping packs beyond the life of one process: written to the store when a set comes into use, and found again.

Owns: the rows of packs and sets, so that a case in flight finishes on the mappings that it began with, on whichever
replica, after whatever reload or restart. Everything here is part of the caller's transaction. Leaves to
`gateway.versions`: when. A pack holds rule files and invented examples and no person, so that nothing is sealed.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Table, and_, delete, exists, select, update

from gateway.mapping.library import PackSet
from gateway.mapping.packs import Pack
from gateway.mapping.source import Files
from gateway.storage.store import insert_into
from gateway.storage.tables import OPEN_CASE, mapping_packs, mapping_set_packs, mapping_sets, submissions

LINGERS = timedelta(days=30)
"""How long a set is kept once nobody uses it and no open case needs it: a region may report that a result was handed
over long after it has decided, and an operator may go back.
"""
_FOLDER = "mappings"
"""What the folder of files that come from the store is called in messages."""


Archives = Mapping[str, bytes]
"""The packed files of packs, by fingerprint."""


def archives(sets: Iterable[PackSet]) -> Archives:
    """Pack the files of sets that are about to be kept: it takes tenths of a second, which nobody should wait for."""
    made: dict[int, bytes] = {}
    return {pack.fingerprint: _archive(pack, made) for packs in sets for pack in packs.values()}


def _archive(pack: Pack, made: dict[int, bytes]) -> bytes:
    """Pack the files of a pack; those that regions share from one folder once, kept in `made` under their identity."""
    key = id(pack.files)
    if key not in made:
        made[key] = packed(pack.files)
    return made[key]


def keep(tx: Connection, sets: Iterable[PackSet], now: datetime, ready: Archives = MappingProxyType({})) -> None:
    """Write down that these sets are in use, and the sets themselves where they are not there yet."""
    c = mapping_sets.c
    made: dict[int, bytes] = {}
    for packs in sets:
        known = and_(c.region == packs.region, c.version == packs.version)
        if tx.execute(update(mapping_sets).where(known).values(seen_at=now)).rowcount == 0:
            _write(tx, packs, now, lambda pack: ready.get(pack.fingerprint) or _archive(pack, made))


def _write(tx: Connection, packs: PackSet, now: datetime, archive: Callable[[Pack], bytes]) -> None:
    # Rows that are there are written too: a janitor who is about to delete one then sees it in use and lets it be.
    for message, pack in packs.items():
        row = {"region": packs.region, "message": message, "version": pack.version, "files": archive(pack)}
        _put(tx, mapping_packs, {**row, "seen_at": now}, now)
    _put(tx, mapping_sets, {"region": packs.region, "version": packs.version, "kept_at": now, "seen_at": now}, now)
    for message, pack in packs.items():
        member = {"region": packs.region, "set_version": packs.version, "message": message}
        written = insert_into(tx, mapping_set_packs).values({**member, "pack_version": pack.version})
        tx.execute(written.on_conflict_do_nothing())


def _put(tx: Connection, table: Table, row: Mapping[str, Any], now: datetime) -> None:
    key = list(table.primary_key.columns)
    tx.execute(insert_into(tx, table).values(row).on_conflict_do_update(index_elements=key, set_={"seen_at": now}))


def find(tx: Connection, region: str, version: str) -> dict[str, tuple[str, bytes]]:
    """Return version and packed files of every pack of a set, by message; nothing when it is not on record."""
    c, p = mapping_set_packs.c, mapping_packs.c
    same = and_(p.region == c.region, p.message == c.message, p.version == c.pack_version)
    joined = select(c.message, p.version, p.files).join(mapping_packs, same)
    rows = tx.execute(joined.where(c.region == region, c.set_version == version))
    return {row.message: (row.version, row.files) for row in rows}


def on_record(tx: Connection, region: str, limit: int) -> list[str]:
    """Return the versions of a region's sets, those that came last first."""
    c = mapping_sets.c
    query = select(c.version).where(c.region == region).order_by(c.kept_at.desc(), c.version).limit(limit)
    return list(tx.execute(query).scalars())


def forget(tx: Connection, now: datetime) -> int:
    """Delete the sets that nobody has used and no open case has needed for long, and packs without a set.

    Return how many sets went.
    """
    s, p, m = mapping_sets.c, mapping_packs.c, mapping_set_packs.c
    pinned = exists().where(submissions.c.handling_region == s.region, submissions.c.mapping_version == s.version)
    tx.execute(update(mapping_sets).where(pinned.where(OPEN_CASE)).values(seen_at=now))
    gone = tx.execute(delete(mapping_sets).where(s.seen_at < now - LINGERS)).rowcount
    member = exists().where(m.region == p.region, m.message == p.message, m.pack_version == p.version)
    tx.execute(delete(mapping_packs).where(p.seen_at < now - LINGERS, ~member))
    return gone


# --- files in one value ------------------------------------------------------------------------------------------


def packed(files: Files) -> bytes:
    """Return files as a ZIP archive, which an operator can open with any tool."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(files.contents.items()):
            archive.writestr(zipfile.ZipInfo(path), content, zipfile.ZIP_DEFLATED)
    return written.getvalue()


def unpacked(raw: bytes) -> Files:
    """Return the files of an archive that `packed` made. Raises BadZipFile for anything else."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return Files(_FOLDER, {name: archive.read(name) for name in archive.namelist()})
