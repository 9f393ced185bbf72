"""Outputs that are archives of numpy: numpy itself reads them, and writes the same arrays byte for byte."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import statex
from statex import StatexError
from statex.checkpoint.formats.npy import header_of
from statex.core.dtypes import ALL
from statex.core.header import TensorType
from tests.without_torch import run_without_torch

IN_NUMPY = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8",
            "bool", "complex64", "complex128"]  # fmt: skip
SHAPES = [(), (0,), (1,), (3,), (2, 0, 4), (2, 3), (1, 2, 3, 4)]


def arrays(path: Path) -> dict[str, Any]:
    with numpy.load(path, allow_pickle=False) as found:
        return dict(found)


@pytest.mark.parametrize("dtype", IN_NUMPY)
def test_numpy_reads_what_was_written(tmp_path: Path, dtype: str) -> None:
    state = {f"m.{shape}": torch.ones(shape).mul(3).to(getattr(torch, dtype)) for shape in SHAPES}
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.npz", "rename prefix 'm.' -> 'n.'", verify_written=True)
    found = arrays(tmp_path / "out.npz")
    assert list(found) == [f"n.{shape}" for shape in SHAPES]
    for shape in SHAPES:
        wanted = state[f"m.{shape}"].numpy()
        assert (found[f"n.{shape}"].dtype, found[f"n.{shape}"].shape) == (wanted.dtype, wanted.shape)
        assert found[f"n.{shape}"].tobytes() == wanted.tobytes()


@given(st.sampled_from(IN_NUMPY), st.lists(st.integers(0, 10**6), max_size=32))
def test_headers_are_those_of_numpy(dtype: str, shape: list[int]) -> None:
    kind = next(one for one in ALL if one.name == dtype)
    described = {
        "descr": numpy.lib.format.dtype_to_descr(numpy.dtype(dtype)), "fortran_order": False, "shape": tuple(shape)
    }  # fmt: skip
    buffer = io.BytesIO()
    numpy.lib.format.write_array_header_1_0(buffer, described)
    assert header_of(TensorType(kind, tuple(shape))) == buffer.getvalue()


def test_members_are_stored_as_they_are_and_aligned(tmp_path: Path) -> None:
    state = {"a": torch.arange(5.0), "b.c": torch.arange(7), "ä": torch.ones(2, 3).half()}
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.npz", "")
    numpy.savez(tmp_path / "own.npz", **{key: value.numpy() for key, value in state.items()})
    with zipfile.ZipFile(tmp_path / "out.npz") as found, zipfile.ZipFile(tmp_path / "own.npz") as own:
        assert found.testzip() is None
        assert found.namelist() == own.namelist()
        for name in own.namelist():
            assert found.read(name) == own.read(name)
            assert found.getinfo(name).compress_type == zipfile.ZIP_STORED
            with found.open(name) as member:
                assert member._fileobj._file.tell() % 64 == 0  # type: ignore[attr-defined]


def test_it_is_read_again(tmp_path: Path) -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(4, dtype=torch.uint8)}
    torch.save({"model": state, "epoch": 3}, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.npz", "root 'model' -> ''")
    statex.convert(tmp_path / "out.npz", tmp_path / "back.pth", "", check_input=True)
    back = torch.load(tmp_path / "back.pth")
    assert {key: value.tolist() for key, value in back.items()} == {key: v.tolist() for key, v in state.items()}


def test_what_is_tied_or_strided_is_written_in_full(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    torch.save({"a": whole, "b": whole, "columns": whole[:, 1:3], "turned": whole.t()}, tmp_path / "in.pth")
    done = statex.convert(tmp_path / "in.pth", tmp_path / "out.npz", "")
    assert [one.code.id for one in done.warnings] == ["SX904", "SX904"]
    found = arrays(tmp_path / "out.npz")
    assert numpy.array_equal(found["columns"], whole[:, 1:3].numpy())
    assert numpy.array_equal(found["turned"], whole.t().numpy())
    assert all(array.flags.c_contiguous for array in found.values())


def refused(source: Path, rules: str = "") -> str:
    with pytest.raises(StatexError, match="SX614") as caught:
        statex.convert(source, source.with_name("refused.npz"), rules)
    assert not source.with_name("refused.npz").exists()
    return str(caught.value)


def test_dtypes_that_numpy_lacks_are_refused_and_can_be_cast(tmp_path: Path) -> None:
    source = tmp_path / "in.safetensors"
    save_file({"a": torch.ones(2).bfloat16(), "b": torch.ones(2), "c": torch.ones(2).to(torch.float8_e4m3fn)}, source)
    said = refused(source)
    assert "  a  bf16 tensor" in said
    assert "  c  f8_e4m3fn tensor" in said
    (rule,) = [line.partition("= help: ")[2] for line in said.splitlines() if "cast" in line]
    statex.convert(source, tmp_path / "out.npz", rule)
    assert {key: str(array.dtype) for key, array in arrays(tmp_path / "out.npz").items()} == dict.fromkeys(
        "abc", "float32"
    )


@pytest.mark.parametrize(
    "state",
    [
        {"a": torch.ones(1), "n": 3},
        {"a": torch.ones(1), "inner": {"b": torch.ones(1)}},
        {"a": torch.ones(1), "a.npy": torch.ones(2)},
        {"a": torch.ones(1), "b\0c": torch.ones(2)},
        {"a": torch.ones(1), 3: torch.ones(2)},
        {"a": torch.ones(1), "n" * 70_000: torch.ones(2)},
        {"a": torch.ones(1), "b": torch.eye(3).to_sparse()},
    ],
)
def test_what_an_archive_cannot_hold_is_refused(tmp_path: Path, state: Any) -> None:
    torch.save(state, tmp_path / "in.pth")
    refused(tmp_path / "in.pth", "root ''")


def test_names_that_numpy_strips(tmp_path: Path) -> None:
    torch.save({"a.npy": torch.ones(2), "": torch.ones(3), "x/y": torch.ones(1)}, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.npz", "")
    assert {key: array.shape for key, array in arrays(tmp_path / "out.npz").items()} == {
        "a.npy": (2,), "": (3,), "x/y": (1,)
    }  # fmt: skip


def test_a_folder_holds_no_archives(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "in.pth")
    with pytest.raises(StatexError, match="SX613"):
        statex.convert(tmp_path / "in.pth", f"{tmp_path}/out/", "", format="npz")
    statex.convert(tmp_path / "in.pth", tmp_path / "named", "", format="npz")
    assert arrays(tmp_path / "named")["a"] == 1


def test_casts_are_streamed(tmp_path: Path) -> None:
    save_file({"a": torch.linspace(-3, 3, 400_000)}, tmp_path / "in.safetensors")
    run_without_torch("apply", "-e", "set a = cast(f16)", tmp_path / "in.safetensors", tmp_path / "out.npz")
    assert numpy.array_equal(arrays(tmp_path / "out.npz")["a"], torch.linspace(-3, 3, 400_000).half().numpy())
