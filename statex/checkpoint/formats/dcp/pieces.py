"""Pieces of a tensor: boxes within its shape, stored separately, that cover it without overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from statex.checkpoint.io.input_file import InputFile
from statex.checkpoint.objects import ForeignCall
from statex.core.record import record

Places = Mapping[tuple[str, tuple[int, ...] | None], tuple[str, int, int]]
"""The file's name, the offset in it and the length of each piece, by the tensor's key and the piece's offsets."""


@record
class Box:
    """A part of a tensor: where it begins in each dimension, and how far it reaches."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]


@record
class StoredBox:
    """A part of a tensor and the run of bytes, a file of torch.save, that holds it."""

    box: Box
    file: InputFile
    offset: int
    length: int


@record
class Pieced:
    """A tensor's pieces, under the key that the header has for it; none for a tensor without elements."""

    key: str
    pieces: tuple[StoredBox, ...]


def sizes_of(value: Any) -> tuple[int, ...]:
    """Return sizes or offsets, which are a tuple or a torch.Size, as ints that are not negative.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, ForeignCall) and value.function.name == "Size" and len(value.arguments) == 1:
        value = value.arguments[0]
    if type(value) is not tuple or not all(type(n) is int and 0 <= n < 2**60 for n in value):
        raise ValueError("sizes are not a tuple of numbers")
    return value


def check_boxes(key: str, shape: tuple[int, ...], boxes: Sequence[Box]) -> None:
    """Refuse boxes that are not within a shape, overlap, or leave some of it out.

    Raises:
        ValueError: with what is wrong.
    """
    for box in boxes:
        if len(box.offsets) != len(shape) or len(box.sizes) != len(shape):
            raise ValueError(f"a piece of `{key}` has other dimensions")
        if any(o + n > size for o, n, size in zip(box.offsets, box.sizes, shape, strict=True)):
            raise ValueError(f"a piece of `{key}` is outside of it")
    full = [box for box in boxes if prod(box.sizes)]
    if sum(prod(box.sizes) for box in full) != prod(shape):
        raise ValueError(f"the pieces of `{key}` are not all of it")
    # The dimension in which most pieces lie behind one another leaves the fewest to compare.
    along = max(range(len(shape)), key=lambda dim: len({box.offsets[dim] for box in full}), default=0)
    active: list[Box] = []
    for box in sorted(full, key=lambda box: box.offsets[along : along + 1]):
        active = [other for other in active if other.offsets[along] + other.sizes[along] > box.offsets[along]]
        if any(_overlap(box, other) for other in active):
            raise ValueError(f"pieces of `{key}` overlap")
        active.append(box)


def _overlap(one: Box, other: Box) -> bool:
    return all(
        a < b + m and b < a + n for a, n, b, m in zip(one.offsets, one.sizes, other.offsets, other.sizes, strict=True)
    )
