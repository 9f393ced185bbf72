"""The reader of pickles: tensors recognised as a whole are what the machine makes of their opcodes one by one."""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

import pytest
import torch

from statex import StatexError
from statex.checkpoint.formats.torch.pickle_reader import PickleReader
from statex.checkpoint.formats.torch.rebuild import TorchObjects
from statex.checkpoint.io.input_file import Extent, InputFile, Stored
from tests.checkpoint.archives import records_of


def pickled(folder: Path, state: Any, protocol: int = 2) -> bytes:
    """Return the pickle in a file of torch.save."""
    torch.save(state, folder / "s.pth", pickle_protocol=protocol)
    return next(record.data for record in records_of(folder / "s.pth") if record.name.endswith("data.pkl"))


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Return a function that reads a pickle, with tensors recognised as a whole or without."""
    (tmp_path / "data").write_bytes(bytes(4096))
    file = InputFile(tmp_path / "data")
    places: dict[str, Stored] = {}

    def place(key: str, nbytes: int, location: str) -> Stored:
        return places.setdefault(key, Stored(Extent(file, 0, nbytes), None, key, location))

    def read(data: bytes, *, whole: bool) -> Any:
        made = TorchObjects("a file", place)
        return PickleReader(data, "a file", made.storage, made.build, tensor=made.plain if whole else None).read()

    return read


def some_state() -> dict[str, Any]:
    base = torch.zeros(6, 7)
    return {
        "plain": base,
        "tied": base,
        "view": base[1:, 2:],
        "turned": base.t(),
        "scalar": torch.tensor(3, dtype=torch.int64),
        "empty": torch.zeros(0, 4, dtype=torch.bfloat16),
        "deep": torch.zeros(1, 2, 1, 2, 1, dtype=torch.float16),
        "parameter": torch.nn.Parameter(torch.zeros(300)),
        "conjugated": torch.zeros(2, dtype=torch.complex64).conj(),
    }


@pytest.mark.parametrize("protocol", [2, 4])
def test_whole_and_by_opcodes(tmp_path: Path, read: Any, protocol: int) -> None:
    data = pickled(tmp_path, some_state(), protocol)
    whole, slow = read(data, whole=True), read(data, whole=False)
    assert list(whole) == list(slow) == list(some_state())
    for key in set(slow) - {"conjugated"}:
        assert whole[key] == slow[key]
        assert whole[key].handle is slow[key].handle
    assert whole["conjugated"].handle.arguments[-1] == slow["conjugated"].handle.arguments[-1] == {"conj": True}


def test_reference_into_a_tensor(tmp_path: Path, read: Any) -> None:
    """Nothing that torch writes refers to a tensor's shape; what does is read all the same."""
    data = pickled(tmp_path, {"a": torch.zeros(2), "b": torch.zeros(3, 5), "c": torch.zeros(2)})
    opcodes = [(code.name, argument) for code, argument, _ in pickletools.genops(data)]
    place = next(opcodes[n + 1][1] for n, (name, _) in enumerate(opcodes) if name == "TUPLE2")
    assert isinstance(place, int)
    data = data[:-1] + b"X\x05\x00\x00\x00shapeh" + bytes([place]) + b"s."
    assert read(data, whole=True)["shape"] == (3, 5)
    assert read(data, whole=True)["b"].type.shape == (3, 5)


@pytest.mark.parametrize("size", [3, 1 << 40, (1 << 64) - 1])
def test_a_frame_that_is_longer_than_the_pickle(read: Any, size: int) -> None:
    framed = b"\x80\x04\x95%b}."
    assert read(framed % (2).to_bytes(8, "little"), whole=True) == {}
    with pytest.raises(StatexError, match="a frame of"):
        read(framed % size.to_bytes(8, "little"), whole=True)
