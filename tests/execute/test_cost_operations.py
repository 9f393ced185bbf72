"""No operation takes more memory than plans state: each is run through files, and its own peak measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch

import statex
from statex import StatexError
from statex.dsl.ops import OPERATIONS
from tests.effort import NIGHTLY
from tests.execute.peaks import CAN_MEASURE, Peaks

pytestmark = pytest.mark.skipif(not CAN_MEASURE, reason="the system does not forget the highest resident set")

_AT_ONCE = 1
"""Dtypes that a case is tried with, the next case with others; at night all of them, and twice as many cases."""

MB = 1 << 20
_LARGE, _SMALL = 32 * MB, MB // 4
"""Bytes of the tensor that is computed with."""
_BUFFERS = 24 * MB
"""What reading, chunks, writing and the heaps of their threads take, whatever the tensors' sizes: plans of small inputs
count that as well."""
_COLUMNS = 1024

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
INTS = (torch.uint8, torch.int64, torch.int32)
COMPLEX = (torch.complex64, torch.complex128)
OTHERS = (torch.bool, torch.float8_e4m3fn)
DTYPES = (*FLOATS, *INTS, *COMPLEX, *OTHERS)
FEW = (torch.float32, torch.bfloat16, torch.uint8, torch.complex64, torch.bool, torch.float8_e4m3fn)

_ELEMENTWISE = ("{op}(it, 3)", "{op}(3, it)", "{op}(it, t.y)", "{op}(it, t.row)", "{op}(flip(it, 0), t.row)",
                "{op}(t.column, t.row)")  # fmt: skip
_POINTWISE = ("{op}", "flip(0) | {op}", "transpose | {op}")
_VIEWED = ("transpose", "flip(0) | transpose", "flip(0) | transpose | flip(0)")

_BACKWARDS = ", ".join(map(str, range(_COLUMNS - 1, -1, -1)))


def _each(values: Sequence[str], *categories: str) -> dict[str, Sequence[str]]:
    """Return the same cases for each operation of some categories."""
    operations = [one.name for one in OPERATIONS.values() if one.category in categories]
    return {name: [value.format(op=name) for value in values] for name in operations}


CASES: Mapping[str, Sequence[str]] = {
    "zeros": ("zeros(shape, dtype=dtype)", "zeros(shape, dtype=dtype) | flip(0)"),
    "ones": ("ones(shape, dtype=dtype)", "ones(shape, dtype=dtype) | flip(0)"),
    "full": ("full(shape, 1, dtype=dtype)", "full(shape, 1, dtype=dtype) | flip(0)"),
    "zeros_like": ("zeros_like", "flip(0) | zeros_like | flip(0)"),
    "ones_like": ("ones_like", "flip(0) | ones_like | flip(0)"),
    "full_like": ("full_like(1)", "flip(0) | full_like(1) | flip(0)"),
    "arange": ("arange(numel, dtype=dtype)", "arange(numel) | cast(dtype)", "arange(0, numel, 2, dtype=dtype)"),
    "eye": ("eye(isqrt(numel), dtype=dtype)",),
    "transpose": _VIEWED,
    "permute": ("permute(1, 0)", "flip(0) | permute(1, 0)", "reshape(4, -1, 1024) | permute(2, 0, 1)"),
    "reshape": ("reshape(-1)", "flip(0) | reshape(-1)", "transpose | reshape(-1)", "transpose | reshape(-1) | flip(0)"),
    "flatten": ("flatten", "flip(0) | flatten", "transpose | flatten", "transpose | flatten | flip(0)"),
    "unflatten": ("unflatten(0, [4, -1])", "flip(0) | unflatten(0, [4, -1])", "transpose | unflatten(1, [4, -1])"),
    "squeeze": ("unsqueeze(0) | squeeze(0)", "flip(0) | unsqueeze(0) | squeeze", "transpose | unsqueeze(0) | squeeze"),
    "unsqueeze": ("unsqueeze(1)", "flip(0) | unsqueeze(1)", "transpose | unsqueeze(1)"),
    "expand": (
        "unsqueeze(0) | expand(3, -1, -1)", "it[:, :1] | expand(-1, 1024)",
        "it[:, :1] | expand(-1, 512) | flip(0)",
    ),
    "flip": ("flip(0)", "flip(0, 1)", "transpose | flip(1)"),
    "roll": (
        "roll(1)", "roll(1, 0)", "roll([1, 2], [0, 1])", "transpose | roll(1, 1)", "transpose | roll(1)",
        "reshape(64, 64, -1) | roll([1, 1, 1], [0, 1, 2])",
    ),
    "rearrange": (
        "rearrange('(a r) c -> (r a) c', a=4)", "rearrange('r c -> c r')", "rearrange('r (h c) -> h r c', h=4)",
        "flip(0) | rearrange('(a r) c -> (r a) c', a=4)", "rearrange('r c -> (r c)')",
    ),
    "clone": ("clone", "flip(0) | clone", "transpose | clone"),
    "getitem": (
        "it[2:]", "it[:, 2:]", "it[::2]", "it[:, ::2]", "it[:, [5, 3]]", "flip(it, 0)[:, 2:]", "flip(it, 0)[1:]",
        "flip(it, 0)[:, [5, 3]]", "transpose(it)[:, 2:]", f"it[:, [{_BACKWARDS}]]",
    ),
    "index_select": (
        "index_select(0, [1, 0])", "index_select(1, [5, 3])", "flip(0) | index_select(1, [5, 3])",
        f"index_select(1, [{_BACKWARDS}])",
    ),
    "narrow": ("narrow(0, 1, 5)", "narrow(1, 1, 1000)", "flip(0) | narrow(1, 1, 1000)", "flip(0) | narrow(1, 1, 9)"),
    "chunk": ("> a, b = chunk(2)", "> a, b = chunk(2, dim=1)", "> a, b = flip(0) | chunk(2, dim=1)"),
    "sections": ("> a, b = sections([1000, 24], dim=1)", "> a, b = flip(0) | sections([24, 1000], dim=1)"),
    "unstack": (
        "> a, b = reshape(2, -1, 1024) | unstack", "> a, b = reshape(-1, 2) | unstack(dim=1)",
        "> a, b = flip(0) | reshape(-1, 2) | unstack(dim=1)",
    ),
    "cat": (
        "cat(it, t.y)", "cat(it, t.y, dim=1)", "cat(flip(it, 0), t.y, it)",
        "cat(transpose(it), transpose(t.y), dim=1)",
    ),
    "stack": (
        "stack(it, t.y)", "stack(it, t.y, dim=1)", "stack(flip(it, 0), t.y, it)",
        "stack(transpose(it), transpose(t.y), dim=2)",
    ),
    "average": (
        "mean(it, t.y)", "mean(it, t.y, it, t.y, it)", "mean(flip(it, 0), t.y)",
        "mean(transpose(it), transpose(t.y))",
        "mean(transpose(it), transpose(t.y), transpose(it), transpose(it), transpose(t.y))",
    ),
    "pad": (
        "pad([0, 0, 0, 64])", "pad([1, 2, 3, 4])", "pad([-1, -1])", "flip(0) | pad([-1, 2, 3, 4])",
        "unsqueeze(0) | pad([1, 2], reflect)", "unsqueeze(0) | pad([1, 2], replicate)",
        "unsqueeze(0) | pad([1, 2], circular)", "unsqueeze(0) | unsqueeze(0) | pad([1, 2, 1, 2], reflect)",
        "unsqueeze(0) | unsqueeze(0) | pad([1, 2, 1, 2], circular)",
        "reshape(1, 4, 4, -1, 64) | pad([1, 2, 1, 2, 1, 2], replicate)",
        "transpose | unsqueeze(0) | pad([1, 2], reflect)",
    ),
    "resize": (
        "resize([-1, 2000])", "resize([-1, 1000])", "flip(0) | resize([-1, 1025])", "transpose | resize([-1, -1])",
    ),
    "interpolate": tuple(
        f"{before}{shape} | interpolate({size}, mode='{mode}'{more})"
        for mode, shape, sizes in [
            ("nearest", "unsqueeze(0)", ("512", "2048")),
            ("nearest-exact", "unsqueeze(0)", ("512",)),
            ("linear", "unsqueeze(0)", ("512", "2048")),
            ("area", "unsqueeze(0)", ("512",)),
            ("bilinear", "reshape(1, -1, 64, 64)", ("[32, 32]", "[96, 96]")),
            ("bicubic", "reshape(1, -1, 64, 64)", ("[32, 32]", "[96, 96]")),
            ("bicubic", "reshape(-1, 64, 64, 1) | permute(0, 3, 1, 2)", ("[32, 32]", "[96, 96]")),
            ("bicubic", "reshape(1, 64, 64, -1) | permute(0, 3, 1, 2)", ("[32, 32]", "[96, 96]")),
            ("trilinear", "reshape(1, -1, 16, 16, 16)", ("[8, 8, 8]", "[24, 24, 24]")),
            ("nearest", "reshape(1, -1, 64, 64)", ("[32, 32]", "[96, 96]")),
            ("bilinear", "reshape(1, -1, 64, 64) | permute(0, 1, 3, 2)", ("[32, 32]", "[96, 96]")),
            ("nearest", "reshape(1, -1, 16, 16, 16)", ("[8, 8, 8]",)),
            ("area", "reshape(1, -1, 64, 64)", ("[32, 32]",)),
        ]
        for size in sizes
        for before in ("", "flip(0) | ")
        for more in ("", *([", antialias=true"] if mode in ("bilinear", "bicubic") else []))
    ),
    **_each(_ELEMENTWISE, "arithmetic", "comparison"),
    **_each(_POINTWISE, "pointwise"),
    "clamp": ("clamp(2, 3)", "flip(0) | clamp(2, 3)", "flip(0) | clamp(min=2)", "transpose | clamp(max=2)"),
    "matmul": (
        "it @ t.narrow", "transpose(it) @ t.tall", "it @ t.row", "transpose(t.narrow) @ transpose(it)",
        "unsqueeze(it, 0) @ reshape(t.narrow, 4, 1024, -1)", "reshape(it, 4, -1, 1024) @ t.narrow",
        "reshape(it, 4, -1, 1024) @ reshape(t.narrow, 4, 1024, -1)", "t.row @ transpose(it)",
        "reshape(it, 1, 4, -1, 1024) @ reshape(t.narrow, 2, 1, 1024, -1)",
        "reshape(it, -1, 4, 1024) @ t.narrow", "reshape(it, -1, 4, 1024) @ t.row",
        "reshape(t.narrow, 4, -1, 1024) @ transpose(it)",
        "it @ reshape(t.narrow, 4, 1024, -1)", "reshape(it, 4, 1, -1, 1024) @ reshape(t.narrow, 2, 1024, -1)",
        "flip(it, 0) @ t.narrow", "it[:, ::2] @ t.narrow[:512]",
    ),
    "cast": tuple(
        f"{before}cast({to})" for before in ("", "flip(0) | ", "transpose | ")
        for to in ("f32", "bf16", "f64", "i64", "u8", "bool", "c64", "f8_e4m3fn")
    ),
    **{
        op: tuple(
            f"{before}{op}({how})" for before in ("", "flip(0) | ", "transpose | ")
            for how in ("", "dim=0", "dim=1", "dim=1, keepdim=true")
        )
        for op in ("sum", "mean", "min", "max")
    },
    "norm": tuple(
        f"{before}norm({how})" for before in ("", "flip(0) | ", "transpose | ")
        for how in ("", "dim=0", "dim=1", "p=1", "p=0", "p=3, dim=1", "p=1e400")
    ),
    "weight_norm": (
        "weight_norm(it, t.column, dim=0)", "weight_norm(it, reshape(t.row, 1, -1), dim=1)",
        "weight_norm(transpose(it), reshape(t.column, 1, -1), dim=-1)", "weight_norm(flip(it, 0), t.column)",
        "weight_norm(reshape(it, -1, 4, 256), reshape(t.column, -1, 1, 1))",
    ),
}  # fmt: skip


def write(path: Path, dtype: torch.dtype, nbytes: int) -> Path:
    """Write tensors of a dtype, `x` and `y` of so many bytes."""
    rows = nbytes // dtype.itemsize // _COLUMNS
    numbers = (torch.arange(rows * _COLUMNS, dtype=torch.int32) % 5 + 1).reshape(rows, _COLUMNS)
    x = numbers.to(dtype)
    parts = {"row": x[0], "column": x[:, :1], "narrow": x[:16].reshape(_COLUMNS, -1), "tall": x[:, :16]}
    torch.save({"x": x, "t.y": x.clone(), **{f"t.{name}": part.clone() for name, part in parts.items()}}, path)
    return path


def program(case: str) -> str:
    """Return the rules of a case: what becomes of `x`, while everything else goes."""
    what = f"split x -{case}" if case.startswith(">") else f"set x = {case}"
    return f"{what}\ndrop t.**"


@pytest.fixture(scope="module")
def peaks() -> Iterator[Peaks]:
    with Peaks() as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of all dtypes, each large and small."""
    folder = tmp_path_factory.mktemp("cost")
    for dtype in DTYPES if NIGHTLY else FEW:
        for size in (_LARGE, _SMALL):
            write(folder / f"{dtype}.{size}", dtype, size)
    return folder


def test_every_operation_has_cases() -> None:
    assert set(CASES) == set(OPERATIONS)


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_no_operation_takes_more_memory_than_is_stated(operation: str, peaks: Peaks, folder: Path) -> None:
    exceeded = []
    for number, case in enumerate(CASES[operation][:: 1 if NIGHTLY else 2]):
        rules, measured = program(case), 0
        start = number % len(FEW)
        for dtype in DTYPES if NIGHTLY else FEW[start:] + FEW[:start]:
            small, large = folder / f"{dtype}.{_SMALL}", folder / f"{dtype}.{_LARGE}"
            if not _has_types(rules, small) or (not NIGHTLY and measured == _AT_ONCE):
                continue
            found = peaks.measure(rules, small, large, folder / "out.pth")
            measured += 1
            over = found["added"] - found["stated"] - _BUFFERS
            if over > 0:
                exceeded.append(f"{dtype} {case[:100]}: {over / MB:.1f} MB more than {found['stated'] / MB:.1f} MB")
        assert measured, f"no dtype has {case}"
    assert not exceeded


def _has_types(rules: str, source: Path) -> bool:
    """Say whether rules are defined for the dtype of an input."""
    try:
        statex.compile(rules).plan(source)
    except StatexError as error:
        if {one.code.id for one in error.diagnostics} <= {"SX403", "SX406"}:
            return False
        raise
    return True
