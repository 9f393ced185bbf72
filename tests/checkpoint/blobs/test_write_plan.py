"""The plan of an output, made before a byte is read, says what stands where: readers not ours find it there."""

from __future__ import annotations

import json
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors import safe_open

from statex import Rules, compile
from statex.checkpoint.blobs.contents import Made, OutTensor
from statex.checkpoint.blobs.write_plan import FilePlan, WritePlan
from statex.checkpoint.formats.torch.layout import archive
from statex.core.dtypes import BY_NAME
from statex.core.header import TensorType, contiguous
from statex.session.conversion import carry_out, preview
from statex.session.request import InputSpec, OutputSpec, Request

STATE = OrderedDict(
    {
        "a.weight": torch.arange(15.0).reshape(3, 5),
        "a.bias": torch.arange(5, dtype=torch.int16),
        "flag": torch.tensor(True),
        "empty": torch.zeros(0, 4),
        "odd.ähnlich": torch.arange(7, dtype=torch.float16),
        "long": torch.arange(3000.0, dtype=torch.float64),
    }
)
RULES = "set a.weight = it * 2; copy a.bias -> b.bias; rename long -> l"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.pth"
    torch.save(STATE, path)
    return path


def request(source: Path, output: str, rules: Rules, **options: Any) -> Request:
    return Request(InputSpec(source), parts=rules.parts, outputs=(OutputSpec(f"{source.parent}/{output}", **options),))


def planned(source: Path, output: str, rules: str = RULES, **options: Any) -> WritePlan:
    """Return the plan of an output, which is written after that."""
    wanted = request(source, output, compile(rules), **options)
    plan = preview(wanted).outputs[0].layout
    assert plan is not None
    carry_out(wanted)
    return plan


def places(file: FilePlan) -> dict[str, tuple[int | None, int]]:
    """Return where each key's bytes are to be, and how many."""
    return {key: (part.offset, part.nbytes) for part in file.parts for key in part.keys}


def assert_whole(file: FilePlan, path: Path) -> None:
    """Check that parts follow one another, make up the file, and hold what they say, as far as that was known."""
    data = path.read_bytes()
    reach = 0
    for part in file.parts:
        assert part.offset == reach
        reach += part.nbytes
        if isinstance(part.content, bytes):
            assert data[part.offset : reach] == part.content
    assert reach == len(data) == file.nbytes


def test_safetensors(source: Path) -> None:
    (file,) = planned(source, "out.safetensors").files
    path = source.with_name("out.safetensors")
    assert_whole(file, path)
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__")
    found = {key: one["data_offsets"] for key, one in header.items()}
    assert places(file) == {key: (8 + length + start, end - start) for key, (start, end) in found.items()}
    with safe_open(path, "pt") as opened:
        for key, (at, nbytes) in places(file).items():
            assert at is not None
            assert data[at : at + nbytes] == opened.get_tensor(key).numpy().tobytes()


def test_torch(source: Path) -> None:
    (file,) = planned(source, "out.pth").files
    path = source.with_name("out.pth")
    assert_whole(file, path)
    reader = torch._C.PyTorchFileReader(str(path))
    records = {f"data/{number}" for number in range(6)}  # `a.bias` and `b.bias` are one
    found = {part.what: part.offset for part in file.parts if part.what in records}
    assert found == {name: reader.get_record_offset(name) for name in records}
    state = torch.load(path)
    data = path.read_bytes()
    assert {key for part in file.parts for key in part.keys} == set(state)
    for key, (at, nbytes) in places(file).items():
        assert at is not None
        assert data[at : at + nbytes] == state[key].numpy().tobytes()


def test_npz(source: Path) -> None:
    (file,) = planned(source, "out.npz").files
    path = source.with_name("out.npz")
    assert_whole(file, path)
    data = path.read_bytes()
    with numpy.load(path) as arrays, zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert set(arrays) == set(places(file))
        for key, (at, nbytes) in places(file).items():
            assert at is not None
            assert data[at : at + nbytes] == arrays[key].tobytes()


@pytest.mark.parametrize("format", ["torch", "safetensors"])
def test_a_set(source: Path, format: str) -> None:
    plan = planned(source, "out/", format=format, shard_size=5000)
    folder = source.with_name("out")
    assert sorted(file.name for file in plan.files) == sorted(path.name for path in folder.iterdir())
    assert len(plan.files) == 4 - (format == "torch")
    index = json.loads((folder / plan.files[-1].name).read_text())["weight_map"]
    assert {key: file.name for file in plan.files for key in places(file)} == index
    for file in plan.files:
        assert_whole(file, folder / file.name)


def test_what_torch_writes_has_no_places(source: Path) -> None:
    plan = planned(source, "out", format="dcp")
    (file,) = plan.files
    assert {part.offset for part in file.parts} == {None}
    assert {key for part in file.parts for key in part.keys} == {*STATE, "l", "b.bias"} - {"long"}
    assert plan.tensor_bytes == sum([value.nbytes for value in (*STATE.values(), STATE["a.bias"])])


@pytest.mark.parametrize("output", ["out.pth", "out.safetensors", "out.npz"])
def test_places_follow_from_sizes_alone(tmp_path: Path, output: str) -> None:
    found = []
    for name, factor in (("one", 1), ("two", 3)):
        (tmp_path / name).mkdir()
        torch.save(OrderedDict((key, value * factor) for key, value in STATE.items()), tmp_path / name / "in.pth")
        found.append(planned(tmp_path / name / "in.pth", output).to_data())
    assert found[0] == found[1]


def test_a_file_of_more_than_4_gib(tmp_path: Path) -> None:
    sizes = [3, (1 << 32) + 5, 5, 7]
    state: OrderedDict[str, Any] = OrderedDict()
    for number, size in enumerate(sizes):
        kind = TensorType(BY_NAME["uint8"], (size,))
        state[f"t{number}"] = OutTensor(kind, Made(size, lambda: iter(())), 0, contiguous(kind.shape))
    found = [part.offset for part in archive(state, "large.pth").parts if part.keys]
    with torch.serialization.skip_data():  # of its file, nothing but headers is on the disk
        torch.save(
            {f"t{n}": torch.empty(size, dtype=torch.uint8) for n, size in enumerate(sizes)}, tmp_path / "large.pth"
        )
    reader = torch._C.PyTorchFileReader(str(tmp_path / "large.pth"))
    wanted = [reader.get_record_offset(f"data/{number}") for number in range(len(sizes))]
    # Pickles are not of one length.
    assert [at - found[0] for at in found] == [at - wanted[0] for at in wanted]  # type: ignore[operator]
