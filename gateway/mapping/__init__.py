"""Mapping: our canonical documents and the regions' own formats, both ways, by rule files.

Owns: the rule language, its compilation, and packs with their schema, examples and losses. Leaves to
`mappings/README.md`: explaining the language; to adapters: envelopes and signatures; to callers: which pack when.
"""

from __future__ import annotations

from gateway.mapping.losses import Loss
from gateway.mapping.packs import Pack, load_packs

__all__ = ["Loss", "Pack", "load_packs"]
