"""GGUF files put together by hand, well-formed or not."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

TEXT, ARRAY, U32, F32 = 8, 9, 4, 6


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def entry(name: str, kind: int, value: bytes) -> bytes:
    """Return an entry of metadata."""
    return text(name) + struct.pack("<I", kind) + value


@dataclass
class Tensor:
    """A tensor: its dims are from the innermost on."""

    name: str
    dims: Sequence[int]
    kind: int
    offset: int

    def described(self) -> bytes:
        shape = struct.pack(f"<I{len(self.dims)}Q", len(self.dims), *self.dims)
        return text(self.name) + shape + struct.pack("<IQ", self.kind, self.offset)


def gguf(
    tensors: Sequence[Tensor] = (),
    entries: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    alignment: int = 32,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """Return a file; `counts` are the numbers of tensors and entries that it says it has."""
    head = b"GGUF" + struct.pack("<IQQ", version, *(counts or (len(tensors), len(entries))))
    head += b"".join(entries) + b"".join(one.described() for one in tensors)
    return head + bytes(-len(head) % alignment) + data
