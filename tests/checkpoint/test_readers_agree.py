"""Files that other readers would read otherwise, or not at all, and what torch can save that is rare."""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import statex
from statex import StatexError
from tests.checkpoint.archives import Record, archive, records_of, tensor_pickle
from tests.checkpoint.states import NOTHING, bits


def refused(path: Path, code: str, words: str, out: str = "out.pth") -> None:
    with pytest.raises(StatexError) as caught:
        statex.convert(path, path.parent / out, NOTHING, root="")
    assert [d.code.id for d in caught.value.diagnostics] == [code], caught.value
    assert words in str(caught.value)
    assert not (path.parent / out).exists()


def converted(state: Any, folder: Path, **options: Any) -> Any:
    torch.save(state, folder / "in.pth", **options)
    statex.convert(folder / "in.pth", folder / "out.pth", NOTHING, root="", force=True)
    return torch.load(folder / "out.pth", weights_only=False)


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """The members of a file of torch.save with two tensors."""
    torch.save({"w": torch.arange(6.0), "b": torch.ones(4)}, tmp_path / "in.pth")
    return records_of(tmp_path / "in.pth")


# --- the zip archive --------------------------------------------------------------------------------------------


def _laid_out(records: Sequence[Record], base: int) -> tuple[bytes, bytes]:
    """Return members and their directory, for members that begin at `base`."""
    out, directory = bytearray(), bytearray()
    for record in records:
        name, size, crc = record.name.encode(), len(record.data), zlib.crc32(record.data)
        start = base + len(out)
        out += (
            struct.pack("<4s5H3L2H", b"PK\x03\x04", 0, 0, 0, 0, 0, crc, size, size, len(name), 0) + name + record.data
        )
        directory += struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 0, 0, 0, 0, 0, 0, crc, size, size, len(name), 0, 0, 0, 0,
                                 0, start) + name  # fmt: skip
    return bytes(out), bytes(directory)


def test_a_zip64_directory_that_is_another_one(tmp_path: Path, records: list[Record]) -> None:
    """torch reads the zip64 one wherever there is one."""
    others = [Record(r.name, b"\1" * len(r.data)) if r.name.endswith("data/0") else r for r in records]
    data, directory = _laid_out(records, 0)
    more, wide = _laid_out(others, len(data) + len(directory))
    body = data + directory + more + wide
    count = len(records)
    body += struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(wide), len(body) - len(wide))
    body += struct.pack("<4sLQL", b"PK\x06\x07", 0, len(body) - 56, 1)
    body += struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(data), 0)
    (tmp_path / "bad.pth").write_bytes(body)
    refused(tmp_path / "bad.pth", "SX604", "two zip directories")


def test_two_archives_behind_one_another(tmp_path: Path, records: list[Record]) -> None:
    (tmp_path / "bad.pth").write_bytes(archive(records) * 2)
    refused(tmp_path / "bad.pth", "SX604", "not where it says")


def test_names_that_differ_in_case_alone(tmp_path: Path, records: list[Record]) -> None:
    """torch takes one for the other."""
    (tmp_path / "bad.pth").write_bytes(archive([*records, Record("in/DATA/0", b"\1" * 24)]))
    refused(tmp_path / "bad.pth", "SX604", "two members")


def test_local_headers_with_another_name(tmp_path: Path, records: list[Record]) -> None:
    (tmp_path / "bad.pth").write_bytes(archive(records).replace(b"in/data/0", b"in/dada/0", 1))
    refused(tmp_path / "bad.pth", "SX604", "no member `in/data/0`")


def test_a_pickle_inside_a_storage(tmp_path: Path) -> None:
    pickled = tensor_pickle([{"cls": "ByteStorage", "numel": 400, "shape": (400,)}])
    inner, _ = _laid_out([Record("a/data.pkl", pickled)], 0)
    data, _ = _laid_out([Record("a/data/0", inner.ljust(400, b"\0"))], 0)
    directory = b""
    for name, size, start in ((b"a/data.pkl", len(pickled), 38), (b"a/data/0", 400, 0)):
        fields = (0, 0, 0, 0, 0, 0, 0, size, size, len(name), 0, 0, 0, 0, 0, start)
        directory += struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *fields) + name
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(directory), len(data), 0)
    (tmp_path / "bad.pth").write_bytes(data + directory + end)
    refused(tmp_path / "bad.pth", "SX604", "overlap")
