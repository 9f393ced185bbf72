"""Archives and pickles made by hand, so that they can lie."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Record:
    """A member of an archive."""

    name: str
    data: bytes


def records_of(path: Path) -> list[Record]:
    """Return the members of a file of torch.save."""
    with zipfile.ZipFile(path) as found:
        return [Record(name, found.read(name)) for name in found.namelist()]


def archive(
    records: Sequence[Record], *, grow: Mapping[str, int] | None = None, place: Mapping[str, str] | None = None
) -> bytes:
    """Return an archive whose directory may lie: `grow` adds to the sizes of members, `place` puts one over another."""
    out = bytearray()
    directory = bytearray()
    starts: dict[str, int] = {}
    for record in records:
        name = record.name.encode()
        starts[record.name] = len(out)
        out += struct.pack("<4s5H3L2H", b"PK\x03\x04", 0, 0, 0, 0, 0, zlib.crc32(record.data), len(record.data),
                           len(record.data), len(name), 0) + name + record.data  # fmt: skip
    for record in records:
        name = record.name.encode()
        size = len(record.data) + (grow or {}).get(record.name, 0)
        start = starts[(place or {}).get(record.name, record.name)]
        extra = struct.pack("<2H2Q", 1, 16, size, size) if size >= 0xFFFFFFFF else b""
        short = min(size, 0xFFFFFFFF)
        directory += struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 0, 0, 0, 0, 0, 0, zlib.crc32(record.data), short, short,
                                 len(name), len(extra), 0, 0, 0, 0, start) + name + extra  # fmt: skip
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(records), len(records), len(directory), len(out), 0)
    return bytes(out + directory + end)


def tensor_pickle(tensors: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the pickle of a dict of tensors `t0`, `t1`, … described by `cls`, `key`, `numel`, `offset`, `shape`, …"""
    out = b"\x80\x02}("
    for number, tensor in enumerate(tensors):
        shape = tensor["shape"]
        stride = tensor.get("stride") or tuple([1] * len(shape))
        out += _text(f"t{number}") + b"ctorch._utils\n_rebuild_tensor_v2\n((" + _text("storage")
        out += f"ctorch\n{tensor['cls']}\n".encode() + _text(tensor.get("key", "0")) + _text("cpu")
        out += _int(tensor["numel"]) + b"tQ" + _int(tensor.get("offset", 0))
        out += b"(" + b"".join(map(_int, shape)) + b"t(" + b"".join(map(_int, stride)) + b"t"
        out += (b"\x88" if tensor.get("grad") else b"\x89") + b"ccollections\nOrderedDict\n)RtR"
    return out + b"u."


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def _int(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data
