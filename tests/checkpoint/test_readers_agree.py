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


# --- the pickle -------------------------------------------------------------------------------------------------


def pickle_with(folder: Path, value: bytes) -> Path:
    """Write a file with a tensor, and a value made of these opcodes beside it."""
    pickled = tensor_pickle([{"cls": "FloatStorage", "numel": 4, "shape": (4,)}])[:-2]
    pickled += b"X\x01\0\0\0x" + value + b"u."
    (folder / "bad.pth").write_bytes(
        archive([Record("bad/data.pkl", pickled), Record("bad/data/0", b"\0" * 16), Record("bad/data/1", b"\0" * 4)])
    )
    return folder / "bad.pth"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(10, 60)), "more than"),
        (b"(" * 2_000_000, "nested"),
        (b"](" + b"N" * 4_000_001 + b"e", "more than"),
        (b"]q\x05h\x05\x85a", "holds itself"),
        (b"}" + b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(10, 60)) + b"Ns", "a key is a tuple"),
        (b"c__builtin__\ncomplex\n(\x8a\xff" + b"\0" * 254 + b"\x7ftR", "too large"),
        (b"c__builtin__\nset\n(](]etR", "a key is a list"),
        (b"ctorch", "ends too early"),
    ],
    ids=range(8),
)
def test_bombs(tmp_path: Path, value: bytes, words: str) -> None:
    path = pickle_with(tmp_path, value)
    started = time.monotonic()
    refused(path, "SX604", words)
    assert time.monotonic() - started < 4.0


@pytest.mark.parametrize(
    "once",
    [
        b"X\0\0\1\0" + b"y" * 65536,
        b"c_codecs\nencode\n(X\0\0\1\0" + b"y" * 65536 + b"X\x06\0\0\0latin1tR",
        b"\x8a\xff" + b"\1" * 255,
    ],
    ids=["text", "bytes", "int"],
)
def test_long_values_in_many_places_are_written_once(tmp_path: Path, once: bytes) -> None:
    path = pickle_with(tmp_path, b"](" + once + b"q\x05" + b"h\x05" * 50_000 + b"e")
    statex.convert(path, tmp_path / "out.pth", NOTHING, root="")
    assert (tmp_path / "out.pth").stat().st_size < 400_000
    found = torch.load(tmp_path / "out.pth")["x"]
    assert len(found) == 50_001
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    "geometry", [((400,), (1,), 0), ((-4,), (1,), 0), ((4,), (-1,), 0), ((4,), (1,), 1), ((2,), (2**60,), 0)]
)
def test_quantized_geometry_that_does_not_fit(tmp_path: Path, geometry: Any) -> None:
    plain = tensor_pickle([{"cls": "QInt8Storage", "numel": 4, "key": "1", "shape": geometry[0], "stride": geometry[1],
                            "offset": geometry[2]}])  # fmt: skip
    call = plain[plain.index(b"ctorch._utils") : -2].replace(b"_rebuild_tensor_v2", b"_rebuild_qtensor")
    at = call.index(b"\x89ccoll")
    call = call[:at] + b"(ctorch\nper_tensor_affine\nG?\xf0\0\0\0\0\0\0K\0t" + call[at:]
    refused(pickle_with(tmp_path, call), "SX604", "storage `1`")


@pytest.mark.parametrize(
    "value",
    [
        {(1, 2), (3, (4, None))},
        {torch.float32},
        {torch.Size([1])},
        {1j, b"a", None},
        {((1, 2), 3): 4},
        {1j: 2},
        -(2**2039),
        2**2039 - 1,
        -(2**63),
        -(2**255),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_are_rare(tmp_path: Path, value: Any) -> None:
    found = converted({"w": torch.ones(1), "x": value}, tmp_path)["x"]
    assert type(found) is type(value)
    assert found == value


def test_what_a_file_names_comes_out_as_it_is_in_memory(tmp_path: Path) -> None:
    around = {
        "dtype": torch.float32,
        "keys": {torch.float32: 1, (torch.int8, 1): [torch.float16]},
        "set": {torch.float16},
        "size": torch.Size([1]),
        "device": torch.device("cpu"),
    }
    torch.save({"state_dict": {"a": torch.ones(1)}, **around}, tmp_path / "in.pth")
    found = statex.compile("root 'state_dict'").apply(tmp_path / "in.pth")
    del found["state_dict"]
    assert found == around
    assert type(found["size"]) is torch.Size


def test_a_storage_with_several_dtypes(tmp_path: Path) -> None:
    """A cut storage begins where the offsets of all its tensors are whole."""
    base = torch.arange(64, dtype=torch.uint8)
    small, large = base.view(torch.uint16), base.view(torch.uint32)
    state = {"a": small[1:5], "b": large[1:3], "c": base.view(torch.uint64)[5:6], "d": base.view(torch.uint64)[2:3]}
    found = converted(state, tmp_path)
    for key, tensor in state.items():
        assert found[key].dtype == tensor.dtype
        assert bits(found[key]) == bits(tensor)


# --- legacy files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_name_at_the_end_of_what_is_read_first(tmp_path: Path, cut: int) -> None:
    state = {"s": "", "w": torch.arange(3.0)}
    torch.save(state, tmp_path / "in.pth", _use_new_zipfile_serialization=False)
    before = (tmp_path / "in.pth").read_bytes().index(b"torch._utils\n")
    state["s"] = "x" * ((1 << 20) - before - cut)
    found = converted(state, tmp_path, _use_new_zipfile_serialization=False)
    assert found["s"] == state["s"]
    assert found["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_legacy_files_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    state = {"w": torch.arange(3.0)}
    found = converted(state, tmp_path, _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    assert bits(found["w"]) == bits(state["w"])


# --- JSON -------------------------------------------------------------------------------------------------------


def header_file(path: Path, header: str, data: bytes) -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + data)
    return path


@pytest.mark.parametrize(
    "start",
    ['"\\ud800":', '"\\uDC00\\uD800":', '"__metadata__":{"a":"x\\udfff"},"a":', '"__metadata__":{"\\ud800":"a"},"a":'],
)
def test_halves_of_characters_are_no_text(tmp_path: Path, start: str) -> None:
    header = "{" + start + '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    refused(header_file(tmp_path / "bad.safetensors", header, b"\0" * 4), "SX604", "not JSON")


def test_escaped_characters_are_text(tmp_path: Path) -> None:
    header = '{"\\ud83d\\ude00":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    found = statex.read_header(header_file(tmp_path / "good.safetensors", header, b"\0" * 4))
    assert list(found.entries) == ["\U0001f600"]


def test_a_key_that_is_no_text_is_not_written_to_safetensors(tmp_path: Path) -> None:
    torch.save({"a\ud800": torch.ones(1)}, tmp_path / "bad.pth")
    refused(tmp_path / "bad.pth", "SX614", "cannot hold", "out.safetensors")
    with pytest.raises(StatexError) as caught:
        statex.convert(tmp_path / "bad.pth", f"{tmp_path}/set/", NOTHING, format="torch")
    assert "is not text" in str(caught.value)


# --- sharded sets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("model.safetensors.index.json", "SX602", "JSON"),
        ("other.index.json", "SX602", "JSON"),
        ("inner", "SX602", "is not a regular file"),
        ("x" * 5000, "SX604", "missing"),
        ("a\0b", "SX604", "missing"),
    ],
    ids=range(5),
)
def test_shards_are_files(tmp_path: Path, name: str, code: str, words: str) -> None:
    folder = tmp_path / "set"
    (folder / "inner").mkdir(parents=True)
    save_file({"b": torch.ones(1)}, folder / "inner" / "model.safetensors")
    (folder / "other.index.json").write_text(json.dumps({"weight_map": {"b": "model.safetensors.index.json"}}))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"b": name}}))
    refused(folder, code, words)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    refused(tmp_path / name, "SX601", "cannot be read")


def test_as_many_dims_as_torch_has_are_read(tmp_path: Path) -> None:
    tensor = torch.ones((1,) * 64)
    save_file({"a": tensor}, tmp_path / "a.safetensors")
    (entry,) = statex.read_header(tmp_path / "a.safetensors").entries.values()
    assert entry.type.shape == tuple(tensor.shape)
