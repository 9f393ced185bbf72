"""Results that are streamed, against torch: large files, what moves, what is computed."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import statex
from statex import StatexError
from tests.checkpoint.states import bits

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_above_four_gigabytes(tmp_path: Path, suffix: str) -> None:
    """Sparse files: nearly all of these bytes are holes."""
    count = (4 << 30) // 4 + 1000
    big = torch.empty(count, dtype=torch.float32, device="meta")
    header = {"big": big, "small": torch.arange(3.0)}
    source = tmp_path / f"in{suffix}"
    _sparse(source, header, count)
    target = tmp_path / f"out{suffix}"
    statex.convert(source, target, statex.compile("rename big -> large\nset small = it * 2\nadd last = ones([2])"))
    found = statex.read_header(target).entries
    assert found["large"].type.shape == (count,)  # type: ignore[union-attr]
    if suffix == ".pth":
        loaded = torch.load(target, mmap=True)
    else:
        with safe_open(target, "pt") as file:
            loaded = {key: file.get_slice(key)[:10] for key in file.keys()}  # noqa: SIM118
    assert loaded["large"][:3].tolist() == [0.0, 0.0, 0.0]
    assert loaded["small"].tolist() == [0.0, 2.0, 4.0]
    assert loaded["last"].tolist() == [1.0, 1.0]


def _sparse(path: Path, header: dict[str, Any], count: int) -> None:
    import json
    import struct

    if path.suffix == ".safetensors":
        text = json.dumps(
            {
                "small": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
                "big": {"dtype": "F32", "shape": [count], "data_offsets": [12, 12 + 4 * count]},
            }
        ).encode()
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text + header["small"].numpy().tobytes())
            file.truncate(8 + len(text) + 12 + 4 * count)
        return
    with torch.serialization.skip_data():
        torch.save({"big": torch.empty(count), "small": header["small"]}, path)
    # `skip_data` leaves holes, and no checksums; the small one is filled in.
    with zipfile.ZipFile(path) as archive:
        place = next(i for i in archive.infolist() if i.filename.endswith("data/1")).header_offset
    with path.open("r+b") as file:
        file.seek(place)
        sizes = struct.unpack("<2H", file.read(30)[26:30])
        file.seek(place + 30 + sum(sizes))
        file.write(header["small"].numpy().tobytes())


# --- computed results -------------------------------------------------------------------------------------------

PROGRAMS = [
    "set a = cast(bf16)", "set a = cast(f16)", "set a = cast(f64)", "set a = cast(f64) | cast(bf16)",
    "set a = it * 3 + 1", "set a = -it / 7", "set a = abs(it) | sqrt", "set a = it - ::b", "set a = it * ::b + it",
    "set a = clamp(-1, 1)", "set a = it > 0", "set a = round(it)", "set a = it ** 3", "set a = exp(it)",
    "set a = transpose", "set a = permute(1, 0)", "set a = it @ transpose(::b)", "set a = it[1:3]", "set a = it[-1]",
    "set a = it[:, 1:]", "set a = it[[2, 0]]", "set a = flip(0)", "set a = zeros_like", "set a = full_like(0.1)",
    "set a = ones([3, 70000])", "set a = narrow(0, 1, 2)", "set a = narrow(0, -2, 1)",
    "set a = index_select(0, [3, 1, 1])", "set a = reshape(-1)", "set a = unsqueeze(0)",
    "set a = (it | flatten)[5:77]", "set a = transpose | reshape(-1)", "merge a, b -> c = cat",
    "merge a, b -> c = stack", "merge a, b -> c = cat(dim=1)", "merge a, b -> c = stack(dim=-1)",
    "split a -> x, y = chunk(2)", "split a -> x, y = sections([1, 70000], dim=1)", "split a -> x, y = sections([1, 3])",
    "split a -> x, y = chunk(2)\nmerge x, y -> a = cat", "split a -> x, y = chunk(2)\nmerge y, x -> a = cat",
    "merge a, b -> c = cat\nsplit c -> x, y, z = sections([1, 5, 2])", "set a = cat(it[:1], it[1:3], it[2:])",
    "split a over e -> x.{e} = unstack", "set a, b = it * 2", "copy a -> d\nset a = it * 2",
    "add d = it + 1 for a\nset a = transpose\nset b = (it | transpose) * 2",
    "set a = rearrange('(x y) z -> y (x z)', x=2)", "set a = mean(dim=0)", "set a = sum(it) + ::b",
    "set a = pad([1, 1])", "set ** = cast(f16)\nset a = cast(f32)", "set a = cat(it[:1], ::b[2:], it[3:])",
    "add s = cat(::a, ::b)[2:6] * 2",
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["plain", "views", "safetensors"])
def test_streamed_results_are_those_of_torch(tmp_path: Path, dtype: torch.dtype, kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    rows, columns = 4, 70_001  # more than a chunk, and no multiple of it
    a = torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(dtype)
    a[0, :9] = torch.tensor([0.0, -0.0, math.inf, -math.inf, 1e-45, 65504.0, 3e38, 1e-8, 2.0], dtype=torch.float64).to(
        dtype
    )
    b = torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(dtype)
    state = {"a": a, "b": b, "n": torch.arange(5)}
    if kind == "views":
        both = torch.stack([a, b], dim=1)
        state = {"a": both[:, 0], "b": both[:, 1], "n": torch.arange(20)[::2]}
    source = tmp_path / ("in.safetensors" if kind == "safetensors" else "in.pth")
    (save_file if kind == "safetensors" else torch.save)(state, source)
    for number, program in enumerate(PROGRAMS):
        rules = statex.compile(program)
        try:
            wanted = rules.apply(dict(state))
        except StatexError:
            assert dtype != torch.float32, program
            continue  # not for this dtype
        for target in (tmp_path / f"{number}.pth", tmp_path / f"{number}.safetensors"):
            statex.convert(source, target, rules, verify_written=number % 5 == 0)
            found = torch.load(target) if target.suffix == ".pth" else load_file(target)
            assert found.keys() == wanted.keys(), program
            for key, tensor in wanted.items():
                assert found[key].dtype == tensor.dtype, program
                assert found[key].shape == tensor.shape, program
                assert bits(found[key]) == bits(tensor), (program, key)
            target.unlink()


@pytest.mark.parametrize("source", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("target", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_casts_without_torch_are_those_of_torch(source: torch.dtype, target: torch.dtype) -> None:
    from statex.core.dtypes import BY_NAME
    from statex.execute.kernels import by_numpy

    if source == target:
        return
    name = {d: str(d).removeprefix("torch.") for d in (source, target)}
    if source.itemsize == 2:
        every = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(source)
    else:
        generator = torch.Generator().manual_seed(0)
        words = torch.randint(-(2**63), 2**63 - 1, (1 << 19,), generator=generator)
        every = words.view(source)
    cast = by_numpy.casts(BY_NAME[name[source]], BY_NAME[name[target]])
    assert cast is not None
    given_ = (every.view(torch.uint16) if source == torch.bfloat16 else every).numpy()
    found = torch.from_numpy(cast(given_).copy())
    found = found.view(target) if target == torch.bfloat16 else found
    wanted = every.to(target)
    nan = wanted.isnan()
    assert torch.equal(found.isnan(), nan)
    assert bits(found[~nan]) == bits(wanted[~nan])


@pytest.mark.parametrize("name", ["out.pth", "out.safetensors"])
@pytest.mark.parametrize("value", ["matmul(it, it)", "it * 2", "transpose", "cast(f64)", "ones_like"])
def test_tied_tensors_that_are_computed(tmp_path: Path, name: str, value: str) -> None:
    weight = torch.randn(4, 4)
    torch.save({"a.w": weight, "b.w": weight, "c": torch.ones(2)}, tmp_path / "in.pth")
    done = statex.convert(tmp_path / "in.pth", tmp_path / name, statex.compile(f"set a.w, b.w = {value}"))
    found = load_file(tmp_path / name) if name.endswith("s") else torch.load(tmp_path / name)
    wanted = {
        "matmul(it, it)": weight @ weight, "it * 2": weight * 2, "transpose": weight.T, "cast(f64)": weight.double(),
        "ones_like": torch.ones_like(weight),
    }[value]  # fmt: skip
    assert torch.equal(found["a.w"], wanted)
    assert torch.equal(found["b.w"], wanted)
    tied = found["a.w"].data_ptr() == found["b.w"].data_ptr()
    assert tied == name.endswith("pth")
    assert [w.code.id for w in done.plan.warnings] == ([] if tied else ["SX904"])


def _both_ways(tmp_path: Path, program: str, state: dict[str, torch.Tensor]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a program gives in memory and streamed."""
    torch.save(state, tmp_path / "in.pth")
    rules = statex.compile(program)
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", rules, force=True)
    return rules.apply(state), torch.load(tmp_path / "out.pth")


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
@pytest.mark.parametrize("index", ["::2", ":, ::2", "...", "1:1", "[]", "none, :, ::3"])
def test_parts_of_nothing(tmp_path: Path, shape: tuple[int, ...], index: str) -> None:
    wanted, found = _both_ways(tmp_path, f"set a = it[{index}]", {"a": torch.zeros(shape)})
    assert found["a"].shape == wanted["a"].shape


@pytest.mark.parametrize(
    ("value", "dtype"),
    # Between two numbers of the dtype: which one it becomes depends on what it is rounded to on the way.
    [("1.0004882812501", "f16"), ("4629700691868286977", "bf16"), ("0.1", "f16"), ("65503", "f16"), ("-0.0", "f32")],
)
def test_a_fill_is_rounded_as_torch_does(tmp_path: Path, value: str, dtype: str) -> None:
    wanted, found = _both_ways(tmp_path, f"add b = full([3], {value}, dtype={dtype})", {"a": torch.zeros(1)})
    assert bits(found["b"]) == bits(wanted["b"])


def test_one_element_with_a_stride(tmp_path: Path) -> None:
    wanted, found = _both_ways(tmp_path, "set a = (it ** 2)[4::2]", {"a": torch.arange(5.0)})
    assert found["a"].tolist() == wanted["a"].tolist() == [16.0]


def test_a_value_used_twice_is_computed_once(tmp_path: Path) -> None:
    """Computed anew for each use, thirty such statements would take hours."""
    state = {"a": torch.ones(140_000), "b": torch.ones(140_000)}
    wanted, found = _both_ways(tmp_path, "set a = it + it\nset b = ::a * ::b\n" * 15, state)
    assert bits(found["a"]) == bits(wanted["a"])
    assert bits(found["b"]) == bits(wanted["b"])


def test_a_value_that_is_used_often_is_computed_once(tmp_path: Path) -> None:
    state = {"w": torch.rand(1000) + 0.5}
    torch.save(state, tmp_path / "in.pth")
    # Each statement uses the value before it twice: without sharing that would be 2 to the power of 30.
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", statex.compile("set w = it * 0.5 + it * 0.5\n" * 10))
    wanted = state["w"]
    for _ in range(10):
        wanted = wanted * 0.5 + wanted * 0.5
    assert torch.equal(torch.load(tmp_path / "out.pth")["w"], wanted)
    statex.convert(tmp_path / "in.pth", tmp_path / "last.pth", statex.compile("set w = it * it\n" * 30))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(1500, 1300).t(),
        lambda: torch.randn(3000, 1000)[:, 7:400:3],
        lambda: torch.randn(40, 300, 200).permute(2, 0, 1),
        lambda: torch.randn(2, 2, 1200, 900)[:, 1:, :, 1:],
        lambda: torch.randn(1, 1500, 1300).transpose(1, 2),
        lambda: torch.randn(1000).expand(3000, 1000),
        lambda: torch.randn(1500, 1).expand(1500, 1600),
        lambda: torch.randn(3_000_000)[::2],
        lambda: torch.randn(9, 2, dtype=torch.complex128)[:, 1],
    ],
)
def test_views_are_gathered(tmp_path: Path, make: Any) -> None:
    view = make()
    torch.save({"view": view}, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "set", statex.compile("rename view -> v"), format="dcp")
    statex.convert(tmp_path / "set", tmp_path / "out.pth", statex.compile(""))
    assert torch.equal(torch.load(tmp_path / "out.pth")["v"], view)
    if view.dtype != torch.complex128:
        statex.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", statex.compile(""))
        assert torch.equal(load_file(tmp_path / "out.safetensors")["view"], view)
