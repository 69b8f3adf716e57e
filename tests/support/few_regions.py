"""A deployment of a few regions: what the sandbox's data say of the others is taken out of its folder.

A gateway with a few regions starts in a part of the time, which is what counts where a test starts several.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

THREE = ("foshan", "guangdong", "hongkong")
"""The fewest regions with which each item of the sandbox has an office and each window a clerk."""
FILES = ("grants.toml", "windows.toml", "items.toml", "certificates.toml")
_LIST = re.compile(r'\b(regions|issuers) = \[((?:"[a-z]+"(?:, )?)+)\]')
_OFFICE = re.compile(r'^ *\{ region = "([a-z]+)".*\},?\n', re.MULTILINE)


def narrow(folder: Path, regions: Sequence[str]) -> None:
    """Leave nothing but these regions in the data of a folder; a list that names none of them gets the first."""

    def kept(found: re.Match[str]) -> str:
        names = [f'"{name}"' for name in re.findall("[a-z]+", found[2]) if name in regions] or [f'"{regions[0]}"']
        return f"{found[1]} = [{', '.join(names)}]"

    for name in FILES:
        path = folder / name
        text = _OFFICE.sub(lambda found: found[0] if found[1] in regions else "", path.read_text(encoding="utf-8"))
        path.write_text(_LIST.sub(kept, text), encoding="utf-8")
