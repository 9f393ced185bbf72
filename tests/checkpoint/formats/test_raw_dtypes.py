"""Tensors of dtypes that only safetensors knows, or will know: moved as bytes, never computed with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import statex
from statex import StatexError
from tests.checkpoint.states import bits

FLOAT4 = getattr(torch, "float4_e2m1fn_x2", None)
needs_float4 = pytest.mark.skipif(FLOAT4 is None, reason="this torch has no float4_e2m1fn_x2")
NOTHING = ""

KINDS = {
    "F4": ([2, 6], 6),
    "F6_E2M3": ([4, 2], 6),
    "F6_E3M2": ([8], 6),
    "I4": ([3, 4], 6),
    "C128": ([2], 32),
    "BLOCK_32": ([64], 66),
    "F8_E8M0": ([4], 4),
    "F8_E4M3FNUZ": ([4], 4),
    "F8_E5M2FNUZ": ([4], 4),
    "F8_OTHER": ([2], 2),
}
"""Names of dtypes, those of none that is known among them, with a shape and a number of bytes."""
RAW = [name for name in KINDS if not name.startswith("F8_E")]
NEW = ("I4", "C128", "BLOCK_32", "F8_OTHER")


def written(path: Path, tensors: dict[str, tuple[str, list[int], int]], plain: bool = True) -> Path:
    """Write a safetensors file by hand: keys with dtype, shape and number of bytes, and `w`, which is f32."""
    header: dict[str, Any] = {}
    data = b""
    if plain:
        header["w"] = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
        data += torch.tensor([1.5, 2.5]).numpy().tobytes()
    for number, (key, (dtype, shape, size)) in enumerate(tensors.items()):
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += bytes((7 * number + place) % 251 for place in range(size))
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def parts(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Return what a safetensors file holds: of each key the dtype's name, the shape and the bytes."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = data[8 + length :]
    return {
        key: (one["dtype"], one["shape"], body[one["data_offsets"][0] : one["data_offsets"][1]])
        for key, one in header.items()
    }


def all_kinds(folder: Path) -> Path:
    tensors = {f"m.{number}.{name}": (name, *KINDS[name]) for number, name in enumerate(KINDS)}
    return written(folder / "in.safetensors", tensors)


def test_they_are_moved_renamed_copied_and_dropped_as_bytes(tmp_path: Path) -> None:
    source = all_kinds(tmp_path)
    rules = "rename prefix 'm.' -> 'n.'; drop n.3.I4; copy n.0.F4 -> again; set w = it * 2"
    statex.convert(source, tmp_path / "out.safetensors", rules, verify_written=True)
    before, after = parts(source), parts(tmp_path / "out.safetensors")
    assert after.pop("again") == before["m.0.F4"]
    assert torch.frombuffer(bytearray(after.pop("w")[2]), dtype=torch.float32).tolist() == [3.0, 5.0]
    del before["m.3.I4"], before["w"]
    assert after == {key.replace("m.", "n."): one for key, one in before.items()}


def test_what_the_library_knows_it_reads_again(tmp_path: Path) -> None:
    known = {name: (name, *KINDS[name]) for name in KINDS if name not in NEW}
    written(tmp_path / "in.safetensors", known)
    statex.convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors", "rename prefix '' -> 'x.'")
    with safe_open(tmp_path / "out.safetensors", "pt") as found:
        for name, (_, shape, _) in known.items():
            part = found.get_slice(f"x.{name}")
            assert (part.get_dtype(), part.get_shape()) == (name, shape)


@pytest.mark.parametrize("name", RAW)
def test_they_are_taken_as_they_are_from_other_keys_and_inputs(tmp_path: Path, name: str) -> None:
    source = written(tmp_path / "in.safetensors", {"x": (name, *KINDS[name]), "y": (name, *KINDS[name])})
    other = written(tmp_path / "ft.safetensors", {"y": (name, *KINDS[name]), "x": (name, *KINDS[name])})
    rules = "input ft\ncopy ft::x -> a\nadd b = ::y\nset x = ft::x\nset w = ::y"
    statex.convert(source, tmp_path / "out.safetensors", rules, inputs={"ft": other}, verify_written=True)
    before, further, after = parts(source), parts(other), parts(tmp_path / "out.safetensors")
    assert after["a"] == after["x"] == further["x"]
    assert after["b"] == after["w"] == after["y"] == before["y"]
    plan = statex.compile(rules).plan(source, inputs={"ft": other})
    assert {str(plan.outputs[key].type) for key in plan.outputs} == {str(plan.header.entries["x"].type)}  # type: ignore[union-attr]


def test_elements_stay_aligned(tmp_path: Path) -> None:
    tensors = {"a": ("F4", [2], 1), "b": ("C128", [1], 16), "c": ("F32", [1], 4), "d": ("F6_E2M3", [4], 3)}
    written(tmp_path / "in.safetensors", tensors, plain=False)
    statex.convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors", NOTHING)
    data = (tmp_path / "out.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    places = {key: header[key]["data_offsets"][0] for key in tensors}
    assert (length + 8) % 8 == 0
    assert places["b"] % 16 == places["c"] % 4 == 0
    assert max(places, key=lambda key: places[key]) in ("a", "d")


def test_they_are_shown_as_the_file_says(tmp_path: Path) -> None:
    header = statex.read_header(all_kinds(tmp_path))
    shown = {key: str(info.type) for key, info in header.entries.items()}  # type: ignore[union-attr]
    assert shown["m.0.F4"] == "F4[2, 6]"
    assert shown["m.1.F6_E2M3"] == "F6_E2M3[4, 2]"
    assert shown["m.5.BLOCK_32"] == "BLOCK_32[64]"
    assert shown["m.6.F8_E8M0"] == "f8_e8m0fnu[4]"
    assert shown["m.7.F8_E4M3FNUZ"] == "f8_e4m3fnuz[4]"
    sizes = {key: info.type.nbytes for key, info in header.entries.items()}  # type: ignore[union-attr]
    assert (sizes["m.0.F4"], sizes["m.3.I4"], sizes["m.5.BLOCK_32"]) == (6, 6, 66)


def test_conditions_over_the_header_hold_for_them(tmp_path: Path) -> None:
    source = all_kinds(tmp_path)
    plan = statex.compile("drop ** where ndim == 2 and numel > 8").plan(source)
    assert set(plan.header.entries) - set(plan.outputs) == {"m.0.F4", "m.3.I4"}
    cast = statex.compile("set ** = cast(bf16) where is_floating_point(it)").plan(source)
    changed = {key for key, output in cast.outputs.items() if output.origin is None}
    assert changed == {"w", "m.6.F8_E8M0", "m.7.F8_E4M3FNUZ", "m.8.F8_E5M2FNUZ"}


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize(
    "rule",
    [
        "set x = it + 1", "set x = cast(bf16)", "set x = transpose", "set x = it[0]", "set x = zeros_like",
        "set x = flip(0)", "add y = ::x * ::w", "add y = cat(::w, ::x)", "split x -> {p:a|b} = chunk(2)",
        "merge x as a, w as b -> y = cat(a, b)", "set x = reshape([-1])", "set x = mean(it, it)",
    ],
)  # fmt: skip
def test_computing_with_one_is_refused(tmp_path: Path, name: str, rule: str) -> None:
    source = written(tmp_path / "in.safetensors", {"x": (name, *KINDS[name])})
    with pytest.raises(StatexError) as caught:
        statex.convert(source, tmp_path / "out.safetensors", rule)
    (only,) = caught.value.diagnostics
    assert only.code.id == "SX403"
    assert only.headline.endswith(f" is not defined for {name}, whose tensors are only moved, as bytes")


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("F32", [2], 7),
        ("BF16", [2], 8),
        ("F4", [2, 6], 12),
        ("F4", [3], 1),
        ("F4", [3], 2),
        ("F6_E2M3", [4], 4),
        ("F6_E3M2", [2], 1),
        ("F8_E8M0", [4], 2),
        ("F8_E4M3FNUZ", [4], 8),
        ("I4", [3], 2),
        ("F31", [1], 4),
        ("F8_NEW", [64], 66),
        ("NEW", [0, 3], 1),
        ("NEW", [3], 0),
    ],
)
def test_bytes_that_do_not_fit_are_damage(tmp_path: Path, dtype: str, shape: list[int], size: int) -> None:
    source = written(tmp_path / "in.safetensors", {"x": (dtype, shape, size)})
    with pytest.raises(StatexError, match="SX604"):
        statex.read_header(source)


@pytest.mark.parametrize("dtype", ["", "f32", "bfloat16", "float8_e4m3fn", "F 4", "F4\u001b[31m", "F" * 100, "f4", "é"])
def test_names_that_no_dtype_has_are_damage(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(StatexError, match="SX604"):
        statex.read_header(written(tmp_path / "in.safetensors", {"x": (dtype, [4], 4)}))


@pytest.mark.parametrize("name", [name for name in RAW if name != "F4"])
@pytest.mark.parametrize("format", ["torch", "dcp"])
def test_torch_has_no_such_dtype(tmp_path: Path, name: str, format: str) -> None:
    source = written(tmp_path / "in.safetensors", {"x": (name, *KINDS[name])})
    with pytest.raises(StatexError) as caught:
        statex.convert(source, f"{tmp_path}/out/", NOTHING, format=format)
    (only,) = caught.value.diagnostics
    assert only.code.id == "SX614"
    assert only.headline == f"torch has no dtype {name}, and its files cannot hold all of this"
    assert "help: drop x   or write a .safetensors" in str(caught.value)
    with statex.open(source) as state:
        assert torch.equal(state["w"], torch.tensor([1.5, 2.5]))
        with pytest.raises(StatexError, match=f"SX621(.|\n)*torch has no dtype {name}"):
            state["x"]


@needs_float4
@pytest.mark.parametrize("into", ["out.pth", "folder/"])
def test_f4_is_torch_s_float4_as_the_library_has_it(tmp_path: Path, into: str) -> None:
    source = written(tmp_path / "in.safetensors", {"x": ("F4", [2, 6], 6)})
    wanted = load_file(source)
    rules = "copy x -> y; add z = ::x"
    statex.convert(source, f"{tmp_path}/{into}", rules, format="torch", verify_written=True)
    path = tmp_path / "out.pth" if into == "out.pth" else tmp_path / "folder" / "pytorch_model.bin"
    found = torch.load(path)
    assert found["x"].dtype == wanted["x"].dtype == FLOAT4
    assert found["x"].shape == wanted["x"].shape == (2, 3)
    assert bits(found["x"].view(torch.uint8)) == bits(wanted["x"].view(torch.uint8))
    assert found["x"].data_ptr() == found["y"].data_ptr() != found["z"].data_ptr()
    assert bits(found["z"].view(torch.uint8)) == bits(wanted["x"].view(torch.uint8))
    with statex.open(source) as state:
        assert state["x"].dtype == FLOAT4
        assert bits(state["x"].view(torch.uint8)) == bits(wanted["x"].view(torch.uint8))
    # And back again.
    statex.convert(path, tmp_path / "back.safetensors", "drop y, z", verify_written=True)
    assert parts(tmp_path / "back.safetensors") == parts(source)


@needs_float4
def test_torch_s_float4_is_written_as_the_library_writes_it(tmp_path: Path) -> None:
    assert FLOAT4 is not None
    memory = torch.arange(24, dtype=torch.uint8).reshape(4, 6)
    state = {"x": memory.view(FLOAT4), "part": memory[1:3, 2:5].view(FLOAT4), "w": torch.ones(3)}
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", NOTHING, verify_written=True)
    save_file({key: tensor.contiguous().clone() for key, tensor in state.items()}, tmp_path / "wanted.safetensors")
    assert parts(tmp_path / "out.safetensors") == parts(tmp_path / "wanted.safetensors")
    with pytest.raises(StatexError, match="SX403"):
        statex.convert(tmp_path / "in.pth", tmp_path / "no.pth", "set x = it + it")
    moved = statex.compile("rename x -> y").apply(state)
    assert moved["y"] is state["x"]


def test_f4_that_torch_cannot_pack(tmp_path: Path) -> None:
    source = written(tmp_path / "in.safetensors", {"x": ("F4", [2, 3], 3)})
    with pytest.raises(StatexError, match=r"SX614(.|\n)*F4\[2, 3\]"):
        statex.convert(source, tmp_path / "out.pth", NOTHING)


@pytest.mark.parametrize("name", ["float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"])
def test_float8_in_the_variants_of_amd_and_of_scales(tmp_path: Path, name: str) -> None:
    dtype = getattr(torch, name, None)
    if dtype is None:
        pytest.skip(f"this torch has no {name}")
    state = {"x": torch.arange(64, dtype=torch.uint8).view(dtype), "w": torch.ones(2)}
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", NOTHING)
    save_file(state, tmp_path / "wanted.safetensors")
    assert parts(tmp_path / "out.safetensors") == parts(tmp_path / "wanted.safetensors")
    cast = "set x = cast(f32)"
    statex.convert(tmp_path / "wanted.safetensors", tmp_path / "cast.safetensors", cast)
    found = load_file(tmp_path / "cast.safetensors")["x"]
    assert torch.equal(found.nan_to_num(7.0), state["x"].float().nan_to_num(7.0))


# --- comparing ---------------------------------------------------------------------------------------------------


def test_they_are_compared_byte_by_byte(tmp_path: Path) -> None:
    one = all_kinds(tmp_path)
    other = tmp_path / "other.safetensors"
    other.write_bytes(one.read_bytes())
    assert statex.diff(one, other).agree
    data = bytearray(one.read_bytes())
    data[8 + int.from_bytes(data[:8], "little") + 8] ^= 1  # the first byte of F4
    other.write_bytes(data)
    found = statex.diff(one, other)
    assert list(found.values) == ["m.0.F4"]
    assert str(found.values["m.0.F4"]) == "1 of 6 bytes differs"


def test_another_dtype_is_another_type(tmp_path: Path) -> None:
    one = written(tmp_path / "one.safetensors", {"x": ("F4", [2, 6], 6)})
    other = written(tmp_path / "other.safetensors", {"x": ("U8", [2, 6], 12)})
    found = statex.diff(one, other)
    assert list(found.types) == ["x"]
    assert not found.values
    assert statex.compile(NOTHING).plan(one, like=one).outputs
    with pytest.raises(StatexError, match=r"SX501(.|\n)*F4\[2, 6\]"):
        statex.compile(NOTHING).plan(one, like=other)
    again = written(tmp_path / "again.safetensors", {"x": ("NEW", [4], 9)})
    larger = written(tmp_path / "larger.safetensors", {"x": ("NEW", [4], 10)})
    assert list(statex.diff(again, larger).types) == ["x"]
