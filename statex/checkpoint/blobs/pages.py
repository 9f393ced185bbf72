"""The offsets of bytes within pages: those that keep theirs can be shared between files instead of copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from statex.checkpoint.blobs.contents import Blob
from statex.checkpoint.io.cached_file import PAGE

WORTH = 1 << 20
"""Bytes of a blob from which on it counts for itself whether its pages can be shared."""


def shift(placed: Iterable[tuple[Blob, int]], alignment: int) -> int | None:
    """Return by how much blobs at these places have to move so that most bytes keep their place within pages.

    It is less than a page and a multiple of the alignment, and `None` where nothing moves from an input.
    """
    votes: Counter[int] = Counter()
    for blob, place in placed:
        origin = blob.origin
        if origin is not None and (origin - place) % alignment == 0:
            votes[(origin - place) % PAGE] += blob.nbytes
    return max(votes, key=votes.__getitem__, default=None)
