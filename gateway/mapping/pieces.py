"""One text of ours that is several of theirs: "CHAN, Tai Man" as surname and given name.

Owns: reading the pieces together and writing them apart, so that both ways undo each other. Leaves to the compiler:
where the pieces stand; to the converters: the text itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.mapping.converters import Wrong, text
from gateway.mapping.paths import BROKEN, Get, Put, Tree


def piece_putter(puts: Sequence[Put], separator: str, said: Callable[[Any], Any]) -> Put:
    """Return the closure that splits a text at its first separators and puts the pieces. It raises Wrong.

    `said` refuses what their place could not hold.
    """

    def put(tree: Tree, value: Any) -> None:
        pieces = str(value).split(separator, len(puts) - 1)
        if not all(pieces):
            raise Wrong(f'has nothing before or after a "{separator}"')
        for put_one, piece in zip(puts, pieces, strict=False):
            put_one(tree, said(piece))

    return put


def piece_getter(gets: Sequence[Get], separator: str) -> Get:
    """Return the closure that joins the pieces. It raises Wrong where they could not be split again the same way.

    A part that is missing is left out: who has one name only has it in whichever place it stands.
    """

    def get(tree: Tree) -> Any:
        pieces = [get_one(tree) for get_one in gets]
        if any(piece is BROKEN for piece in pieces):
            return BROKEN
        while pieces and pieces[-1] in {None, ""}:
            pieces.pop()
        return separator.join(_checked(pieces, separator)) if pieces else None

    return get


def _checked(pieces: Sequence[Any], separator: str) -> Sequence[str]:
    texts = [one for piece in pieces if piece is not None and (one := text(piece))]
    if separator.join(texts).split(separator, len(texts) - 1) != texts:
        raise Wrong(f'has a part that holds "{separator}"')
    return texts
