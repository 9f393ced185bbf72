"""Archives past 4 GiB, where sizes and places have no room in 32 bits any more, against the bytes that torch writes."""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from typing import Any

import numpy
import pytest
import torch

from statex.checkpoint.blobs.contents import Blob, OutTensor
from statex.checkpoint.formats.torch.layout import archive
from statex.checkpoint.writer import put
from statex.core.dtypes import BY_NAME
from statex.core.header import TensorType
from tests.checkpoint.test_round_trips import as_torch_writes_now

WIDE = 2**32
LARGE = 1 << 20


class Counted:
    """A file of zeros and small things: of what is large only the size is kept."""

    def __init__(self, crc: int = 0) -> None:
        self.parts: list[bytes | int] = [b""]
        self.position = 0
        self._crc = crc
        """Of what is large: nothing here has to compute it."""

    def write(self, data: Any) -> int:
        if len(data) > LARGE:
            self.parts += [len(data), b""]
        else:
            self.parts[-1] += bytes(data)
        self.position += len(data)
        return len(data)

    def write_blob(self, blob: Blob, *, crc: bool, check: bool) -> int:
        self.write(range(blob.nbytes) if blob.nbytes > LARGE else bytes(blob.nbytes))
        return self._crc if blob.nbytes > LARGE else zlib.crc32(bytes(blob.nbytes))

    def flush(self) -> None:
        pass

    def reserve(self, nbytes: int) -> None:
        pass

    def without_id(self) -> list[bytes | int]:
        """Return all but the digits that tell archives apart, and their checksum."""
        assert isinstance(self.parts[-1], bytes)
        (id,) = re.findall(rb"serialization_id.*?(\d{40})", self.parts[-1], re.DOTALL)
        rest = self.parts[-1].replace(id, b"").replace(struct.pack("<L", zlib.crc32(id)), b"")
        return [*self.parts[:-1], rest]


def ours(sizes: list[int], crc: int = 0) -> Counted:
    file: Any = Counted(crc)
    tree = {
        f"k{n}": OutTensor(TensorType(BY_NAME["uint8"], (size,)), Blob(size), 0, (1,)) for n, size in enumerate(sizes)
    }
    put(file, archive(tree, "archive"))
    return file  # type: ignore[no-any-return]


def theirs(sizes: list[int], pickled: bytes) -> Counted:
    file = Counted()
    writer = torch._C.PyTorchFileWriter(file)
    for name, data in (("data.pkl", pickled), (".format_version", b"1"), (".storage_alignment", b"64")):
        writer.write_record(name, data, len(data))
    writer.write_record("byteorder", b"little", 6)
    for number, size in enumerate(sizes):
        # Pages that are only read are all the same one of zeros.
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        zeros = torch.from_numpy(numpy.frombuffer(pages, dtype=numpy.uint8))
        writer.write_record(f"data/{number}", zeros.untyped_storage(), size)
    writer.write_end_of_file()
    return file


@as_torch_writes_now
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("sizes", [[5, WIDE + 8, 3, 70], [WIDE - 1, 1], [WIDE - 2, 1]], ids=["above", "at", "below"])
def test_wide_records_are_torchs(sizes: list[int]) -> None:
    first = ours(sizes).parts[0]
    assert isinstance(first, bytes)
    start = first.index(b"\x80\x02")
    wanted = theirs(sizes, first[start : first.index(b".PK\x07\x08", start) + 1])
    (after,) = (part for part, before in zip(wanted.parts[1:], wanted.parts, strict=False) if isinstance(before, int))
    assert isinstance(after, bytes)
    assert after[:4] == b"PK\x07\x08"
    found = ours(sizes, crc=struct.unpack_from("<4xL", after)[0])
    assert found.without_id() == wanted.without_id()
