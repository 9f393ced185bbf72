"""Elements are put in order a block at a time, whatever the size of a block: against numpy over the same file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statex import StatexError
from statex.checkpoint.blobs import gather
from statex.checkpoint.blobs.gather import Gather
from statex.checkpoint.io.crc import crc32
from statex.checkpoint.io.input_file import Extent, InputFile, Stored
from statex.core.strides import Fill, Tiling
from tests.core.tilings import Pair, chains
from tests.effort import examples

ELEMENTS = 20_000
SKIPPED = 24
"""Bytes of the file before the storages."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InputFile]:
    path = tmp_path_factory.mktemp("gather") / "data"
    path.write_bytes(numpy.random.default_rng(0).bytes(SKIPPED + 3 * ELEMENTS * 16))
    file = InputFile(path)
    yield file
    file.close()


def storage(file: InputFile, number: int, size: int, count: int) -> Stored:
    """Return a storage of so many elements, with its checksum."""
    extent = Extent(file, SKIPPED + (number % 3) * ELEMENTS * size, count * size)
    return Stored(extent, crc32(file.read(extent.offset, extent.nbytes)))


@pytest.mark.parametrize("blocks", [(64, 128, 256), (1 << 10,), (1 << 20,)])
@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_every_block_size_gives_the_same_bytes(
    file: InputFile, monkeypatch: pytest.MonkeyPatch, size: int, blocks: tuple[int, ...]
) -> None:
    monkeypatch.setattr(gather, "_BLOCKS", blocks)
    monkeypatch.setattr(gather, "_PANEL", 48)
    monkeypatch.setattr(gather, "_ROW", 16)
    monkeypatch.setattr(gather, "_TILE", 2 * size)

    @settings(max_examples=examples(150), deadline=None)
    @given(chains(2000), st.data())
    def holds(chain: list[Pair], data: st.DataObject) -> None:
        array, tiling = chain[-1]
        if tiling is None:
            array, tiling = chain[-2]
            assert tiling is not None
        stored: dict[object, Stored] = {}
        for part in tiling.parts:
            end = max(one.extent[1] for one in tiling.parts if one.source == part.source)
            number = part.source
            assert isinstance(number, int)
            stored.setdefault(number, storage(file, number, size, end + data.draw(st.sampled_from([0, 7]))))
        found = Gather(
            Tiling(tiling.shape, tuple(replace(part, source=stored[part.source]) for part in tiling.parts)), size
        )
        assert b"".join(map(bytes, found.buffers())) == wanted(file, array, stored, size)
        assert set(found.stored) == set(stored.values())
        assert not any(one.unverified for one in stored.values())
        assert found.nbytes == array.size * size

    holds()


def wanted(file: InputFile, array: Any, stored: dict[object, Stored], size: int) -> bytes:
    """Return the bytes of the elements that an array names."""
    parts = []
    for place in array.reshape(-1).tolist():
        one = stored[place // 100_000]
        parts.append(file.read(one.extent.offset + place % 100_000 * size, size))
    return b"".join(parts)


def test_numbers_stand_between_elements(file: InputFile) -> None:
    stored = storage(file, 0, 4, 6)
    tiling = Tiling.of(stored, 0, (2, 3), (3, 1))
    rows = tiling.indexed(0, [1, 0])
    assert rows is not None
    parts = (*rows.parts, *Tiling.filled(Fill(1.0), (1, 3)).parts)
    moved = replace(parts[-1], start=(2, 0))
    found = Gather(Tiling((3, 3), (*parts[:-1], moved)), 4, lambda value: numpy.float32(value).tobytes())
    data = numpy.frombuffer(file.read(stored.extent.offset, 24), "<f4").reshape(2, 3)
    result = numpy.concatenate([data[::-1], numpy.ones((1, 3), "<f4")])
    assert b"".join(map(bytes, found.buffers())) == result.tobytes()


@pytest.mark.parametrize("count", [6, 8])
def test_a_wrong_checksum_is_told_of_whatever_is_read(file: InputFile, count: int) -> None:
    stored = storage(file, 0, 4, count)
    stored.crc = (stored.crc or 0) ^ 1
    found = Gather(Tiling.of(stored, 0, (3, 2), (1, 3)), 4)
    with pytest.raises(StatexError, match="checksum"):
        list(found.buffers())
    assert stored.unverified


def test_memory_is_bounded_and_rows_are_read_of_a_large_transpose(file: InputFile) -> None:
    read: list[int] = []

    class Counting(InputFile):
        def read_into(self, offset: int, buffer: memoryview) -> None:
            read.append(len(buffer))
            buffer[:] = bytes(len(buffer))

    large = Counting(file.path)
    large.size = 1 << 40
    rows, columns = 1 << 13, 1 << 12
    found = Gather(Tiling.of(Stored(Extent(large, 0, rows * columns * 4)), 0, (columns, rows), (1, columns)), 4)
    first = next(iter(found.buffers()))
    assert len(first) <= 1 << 21
    assert found.held <= 32 << 20
    assert sum(read) <= 16 << 20
    assert set(read) == {2048}
    assert found.read == rows * columns * 4
    large.close()
