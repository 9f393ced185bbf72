"""Files of numpy: archives and pickles of arrays are states, and give what numpy gives."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file

import statex
from statex import StatexError
from statex.core.header import TensorInfo

DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16"]


def arrays() -> dict[str, numpy.ndarray]:
    """Arrays of all dtypes, orders and numbers of dimensions."""
    random = numpy.random.default_rng(0)
    found: dict[str, numpy.ndarray] = {}
    for code in DTYPES:
        values = random.integers(0, 100, (3, 4)).astype(code)
        found[f"{code}.c"], found[f"{code}.f"] = values, numpy.asfortranarray(values)
        found[f"{code}.big"] = values.astype(values.dtype.newbyteorder(">"))
        found[f"{code}.both"] = numpy.asfortranarray(found[f"{code}.big"])
    return found | {
        "scalar": numpy.array(3.5),
        "empty": numpy.zeros((0, 3)),
        "cube": numpy.asfortranarray(random.standard_normal((2, 3, 4))),
        "large": random.standard_normal((300, 200)).astype("f4"),
        "Params/Dense_0/kernel": numpy.ones((2, 2), "f4"),
        "params/dense_0/kernel": numpy.zeros((2, 2), "f4"),
        "view": numpy.arange(20.0)[3::2],
    }


def as_tensor(array: numpy.ndarray) -> torch.Tensor:
    native = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(numpy.array(native, order="C"))


def same(found: Any, wanted: dict[str, numpy.ndarray]) -> None:
    assert list(found) == list(wanted)
    for key, array in wanted.items():
        tensor = as_tensor(array)
        assert found[key].dtype == tensor.dtype, key
        assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("save", [numpy.savez, numpy.savez_compressed])
def test_archives(tmp_path: Path, save: Any) -> None:
    source = tmp_path / "in.npz"
    save(source, **arrays())
    with numpy.load(source) as wanted:
        wanted = dict(wanted)
    statex.convert(source, tmp_path / "out.pth", "", verify_written=True, check_input=True)
    same(torch.load(tmp_path / "out.pth"), wanted)
    same(statex.compile("").apply(source), wanted)
    statex.convert(source, tmp_path / "out.safetensors", "drop c16.*", verify_written=True)
    found = load_file(tmp_path / "out.safetensors")
    same({key: found[key] for key in wanted if key in found}, {k: v for k, v in wanted.items() if "c16" not in k})
    statex.convert(source, tmp_path / "twice.pth", "set **.c = it + it where dtype == f32", force=True)
    assert torch.equal(torch.load(tmp_path / "twice.pth")["f4.c"], as_tensor(wanted["f4.c"]) * 2)


def test_folders_are_of_torch_files_unless_told(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "in.npz", a=numpy.ones(2))
    statex.convert(tmp_path / "in.npz", f"{tmp_path}/out/", "")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["pytorch_model.bin"]


def test_arrays_that_torch_has_no_dtype_for(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "in.npz", a=numpy.ones(2), names=numpy.array(["x"]), rows=numpy.zeros(2, [("a", "f4")]))
    assert statex.read_header(tmp_path / "in.npz").entries["names"].kind == "numpy array of <U1"  # type: ignore[union-attr]
    with pytest.raises(StatexError, match=r"`names` and `rows`: numpy arrays of") as caught:
        statex.convert(tmp_path / "in.npz", tmp_path / "out.pth", "")
    assert [one.code.id for one in caught.value.diagnostics] == ["SX614"]
    statex.convert(tmp_path / "in.npz", tmp_path / "out.pth", "drop names, rows")
    assert list(torch.load(tmp_path / "out.pth")) == ["a"]


def test_objects_in_archives_are_not_unpickled(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "in.npz", a=numpy.ones(2), objects=numpy.array([{}], dtype=object))
    assert "numpy array of |O" in str(statex.read_header(tmp_path / "in.npz").entries["objects"])


def test_damaged_archives(tmp_path: Path) -> None:
    source = tmp_path / "in.npz"
    for save in (numpy.savez, numpy.savez_compressed):
        save(source, a=numpy.arange(1000.0), b=numpy.arange(10.0).astype(">f8"))
        whole = source.read_bytes()
        for at in range(40, len(whole) - 22, max(len(whole) // 60, 1)):
            source.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
            try:
                found = statex.convert(source, tmp_path / "out.safetensors", "", force=True)
            except StatexError as error:
                assert {one.code.id for one in error.diagnostics} <= {"SX602", "SX604", "SX614"}  # noqa: PT017
                continue
            assert found.path is not None
            loaded = load_file(found.path)
            assert torch.equal(loaded["a"], torch.arange(1000.0, dtype=torch.float64))


def test_an_archive_that_lies_about_its_sizes(tmp_path: Path) -> None:
    header = io.BytesIO()
    numpy.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(tmp_path / "in.npz", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a.npy", header.getvalue() + bytes(1 << 20))
    with pytest.raises(StatexError, match="would be f64") as caught:
        statex.read_header(tmp_path / "in.npz")
    assert [one.code.id for one in caught.value.diagnostics] == ["SX604"]


@pytest.mark.parametrize(
    "text", ["{'descr': '<f8'}", "__import__('os')", "{" * 5000, "{'descr': 5, 'fortran_order': 1, 'shape': 2}"]
)
def test_headers_that_are_none(tmp_path: Path, text: str) -> None:
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(8)
    with zipfile.ZipFile(tmp_path / "in.npz", "w") as out:
        out.writestr("a.npy", data)
    with pytest.raises(StatexError, match="is not an array"):
        statex.read_header(tmp_path / "in.npz")


# --- pickles ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles(tmp_path: Path, protocol: int) -> None:
    source = tmp_path / "in.pkl"
    source.write_bytes(pickle.dumps(arrays(), protocol))
    wanted = pickle.loads(source.read_bytes())
    statex.convert(source, tmp_path / "out.pth", "", verify_written=True)
    same(torch.load(tmp_path / "out.pth"), wanted)
    same(statex.compile("").apply(source), wanted)
    statex.convert(source, tmp_path / "out.safetensors", "drop c16.*", verify_written=True)
    assert torch.equal(load_file(tmp_path / "out.safetensors")["large"], as_tensor(wanted["large"]))


@pytest.mark.parametrize("protocol", [2, 5])
def test_pickles_as_models_are_published(tmp_path: Path, protocol: int) -> None:
    """detectron2's have names, and notes beside them; others nest deeper."""
    tied = numpy.ones((100, 50), "f4")
    model = {"backbone.res2.w": tied, "head.w": tied, "b": numpy.arange(3)}
    content = {
        "model": model, "__author__": "Caffe2", "matching_heuristics": True, "notes": ["n" * 10_000, b"n" * 10_000],
        "mean": numpy.float64(0.5), "objects": numpy.array([{}], dtype=object), "names": numpy.array(["a"]),
    }  # fmt: skip
    (tmp_path / "in.pkl").write_bytes(pickle.dumps(content, protocol))
    header = statex.read_header(tmp_path / "in.pkl")
    assert list(header.entries) == list(model)
    assert header.values["__author__"] == "Caffe2"
    statex.convert(tmp_path / "in.pkl", tmp_path / "out.safetensors", "root 'model' -> ''; drop head.w")
    assert set(load_file(tmp_path / "out.safetensors")) == {"backbone.res2.w", "b"}
    statex.convert(tmp_path / "in.pkl", tmp_path / "out.pth", "rename b -> c", verify_written=True)
    found = torch.load(tmp_path / "out.pth", weights_only=False)
    assert found["model"]["head.w"] is found["model"]["backbone.res2.w"]
    assert found["notes"] == content["notes"]
    assert (found["mean"], found["objects"].tolist(), found["names"].tolist()) == (0.5, [{}], ["a"])
    assert found["matching_heuristics"] is True


def alike(*given: Any) -> Any:
    return given


class Reduced:
    """An object that is what a call makes."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._made_by = (function, arguments)

    def __reduce__(self) -> Any:
        return self._made_by


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_only_what_numpy_makes_arrays_with_makes_arrays(tmp_path: Path, count: int) -> None:
    make = numpy.zeros(0).__reduce_ex__(5)[0]  # `_frombuffer`, under the name that this numpy has it
    given = (bytearray(8), numpy.dtype("f4"), (2,), "C", None)[:count]
    objects = {"w": numpy.ones(2), "named": Reduced(make, *given), "alike": Reduced(alike, *given)}
    (tmp_path / "in.pkl").write_bytes(pickle.dumps(objects, 4))
    header = statex.read_header(tmp_path / "in.pkl")
    assert {key: isinstance(info, TensorInfo) for key, info in header.entries.items()} == {
        "w": True, "named": count == 4, "alike": False,
    }  # fmt: skip


def python_2(array: numpy.ndarray) -> bytes:
    """Return an array as Python 2 has pickled it: its bytes are text of that."""
    data = array.tobytes()
    text = b"U" + bytes([len(data)]) + data if len(data) < 256 else b"T" + len(data).to_bytes(4, "little") + data
    shape = b"".join(b"M" + n.to_bytes(2, "little") for n in array.shape)
    code = array.dtype.str[1:].encode()
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01(" + shape + b"t"
        + b"cnumpy\ndtype\nU" + bytes([len(code)]) + code + b"K\x00K\x01\x87R(K\x03U\x01<NNN"
        + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb\x89" + text + b"tb"
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:numpy.core")
def test_pickles_of_python_2(tmp_path: Path) -> None:
    wanted = {"small": numpy.arange(-3.0, 3.0, dtype="f4").reshape(2, 3), "large": numpy.random.rand(70, 80)}
    body = b"".join(b"U" + bytes([len(key)]) + key.encode() + python_2(array) for key, array in wanted.items())
    data = b"\x80\x02}U\x05blobs}(" + body + b"us."
    loaded = pickle.loads(data, encoding="latin1")["blobs"]
    assert all(numpy.array_equal(loaded[key], array) for key, array in wanted.items())
    (tmp_path / "in.pkl").write_bytes(data)
    statex.convert(tmp_path / "in.pkl", tmp_path / "out.pth", "root 'blobs' -> ''", verify_written=True)
    same(torch.load(tmp_path / "out.pth"), wanted)


def test_large_data_stays_in_the_file(tmp_path: Path) -> None:
    """A pickle of 300 MB is not read for its header, nor is it all in memory when it is converted."""
    array = numpy.zeros((2500, 10_000), "f4")
    with open(tmp_path / "in.pkl", "wb") as file:
        pickle.dump({f"w{n}": array[:] for n in range(3)}, file, 4)
    del array
    code = (
        "import sys, statex; statex.convert(sys.argv[1], sys.argv[2], 'rename w0 -> v');"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "in.pkl"), str(tmp_path / "out.pth")]
    env = {"PYTHONPATH": str(Path(statex.__file__).parent.parent)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 120 * 1024


@pytest.mark.parametrize(
    ("content", "code", "word"),
    [
        ({"a": 1}, "SX602", "nor one of numpy arrays"),
        ({"a": numpy.array(["x"])}, "SX603", "numpy.ndarray"),
        ({"w": torch.ones(2)}, "SX603", "torch.storage._load_from_bytes"),
    ],
)
def test_pickles_that_are_no_states(tmp_path: Path, content: Any, code: str, word: str) -> None:
    (tmp_path / "in.pkl").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(StatexError, match=word) as caught:
        statex.read_header(tmp_path / "in.pkl")
    assert [one.code.id for one in caught.value.diagnostics] == [code]


def test_damaged_pickles(tmp_path: Path) -> None:
    whole = pickle.dumps({"w": numpy.arange(2000.0), "b": numpy.ones(3, ">f4"), "c": numpy.ones((40, 40), ">f8")}, 4)
    for at in [*range(300), *range(300, len(whole), 400)]:
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]):
            (tmp_path / "in.pkl").write_bytes(data)
            try:
                statex.compile("").apply(tmp_path / "in.pkl")
            except StatexError as error:
                assert error.diagnostics[0].code.id in ("SX602", "SX603", "SX604", "SX605")  # noqa: PT017


# --- what is named ----------------------------------------------------------------------------------------------


def test_one_array_alone(tmp_path: Path) -> None:
    numpy.save(tmp_path / "a.npy", numpy.ones(2))
    with pytest.raises(StatexError, match=r"one array of numpy \(\.npy\)") as caught:
        statex.read_header(tmp_path / "a.npy")
    assert [one.code.id for one in caught.value.diagnostics] == ["SX602"]
    assert "numpy.savez('state.npz', **{'the.key': numpy.load('a.npy')})" in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"\x81\xa6params\x81\xa5Dense\x80", b"\xde\x00\x11\xa6params\x80", b"\x82\xd9\x28" + b"k" * 40 + b"\x01"],
)
def test_msgpack(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.msgpack").write_bytes(data + bytes(20))
    with pytest.raises(StatexError, match="msgpack data, such as Flax writes"):
        statex.read_header(tmp_path / "a.msgpack")


@pytest.mark.filterwarnings("ignore")
def test_exported_programs(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    torch.export.save(program, tmp_path / "a.pt2")
    with pytest.raises(StatexError, match=r"an archive of torch\.export \(\.pt2\)") as caught:
        statex.read_header(tmp_path / "a.pt2")
    assert [one.code.id for one in caught.value.diagnostics] == ["SX602"]
