"""The seals of the simulated authorities: for every region a maker, owners for those who issue certificates there.

Owns: who may put a seal on what, as the seed has it, and seals.toml with the anchors beside it, so that the gateway of
this sandbox believes these seals and no others. Leaves to `gateway.sandbox.sealed_files`: seals and files. The keys
live as long as whoever laid the sandbox out; seals.toml is written anew each time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.domain.identifiers import uscc_problem
from gateway.sandbox.sealed_files import Certificate, SealedFiles

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Sealing:
    """Makes files of the certificates of one region. `old`: OFD under seals of the form of GM/T 0031."""

    world: SealedFiles
    old: bool = False

    def __call__(self, row: Row, media_type: str) -> bytes | None:
        """Return a seeded certificate as a file under its issuer's seal; None when the issuer has none."""
        if row["issuer_code"] not in self.world.owners:
            return None
        printed = {"证照编号": row["number"], **row.get("surface", {})}
        certificate = Certificate(row["identifier"], row["type_code"], row["type_name"], row["holder_name"], printed)
        if media_type == "application/pdf":
            return self.world.sealed_pdf(certificate, row["issuer_code"])
        return self.world.sealed_ofd(certificate, row["issuer_code"], old=self.old)


def mint_seals(
    folder: Path, regions: Sequence[str], rows: Sequence[Row], now: datetime, old: Collection[str] = ()
) -> dict[str, Sealing]:
    """Mint the seals of some regions, write seals.toml and its anchors, and return who makes files where.

    `old` are the regions whose seals have the form of GM/T 0031; those of the others are of GB/T 38540.
    """
    worlds = [_world(region, [row for row in rows if row["region"] == region], now) for region in regions]
    for world in worlds:
        world.write_register(folder)
    text = "\n".join(world.register() for world in worlds)
    (folder / "seals.toml").write_text(f"# Written by the sandbox: the seals of its authorities.\n\n{text}", "utf-8")
    return {world.region: Sealing(world, world.region in old) for world in worlds}


def _world(region: str, rows: Sequence[Row], now: datetime) -> SealedFiles:
    """Return a region's seals: one for each issuer that has a credit code, on the types that it issues."""
    world = SealedFiles(region, now)
    for code, name in {row["issuer_code"]: row["issuer_name"] for row in rows}.items():
        if uscc_problem(code) is None:
            world.add_owner(code, name, sorted({row["type_code"] for row in rows if row["issuer_code"] == code}))
    return world
