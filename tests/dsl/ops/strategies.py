"""Random calls of every operation: arguments by name, a `TensorType` for a tensor, good ones and bad ones."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import torch
from hypothesis import strategies as st

from statex.core.dtypes import ALL, BY_NAME, DType, Kind
from statex.core.header import TensorType
from statex.dsl.ops.base import Index

Arguments = dict[str, Any]

DTYPES = [d for d in ALL if d.kind is not Kind.QUANTIZED and hasattr(torch, d.name)]
"""torch 2.6 does not have all of them."""
COMMON = [BY_NAME[name] for name in ("f32", "f64", "f16", "bf16", "i64", "i32", "i8", "u8", "bool", "c64")]
FLOATS = [BY_NAME[name] for name in ("f32", "f64", "f16", "bf16")]

lengths = st.integers(0, 4)
shapes = st.lists(lengths, max_size=4).map(tuple)
dims = st.integers(-4, 4)
some_dims = st.lists(dims, max_size=3).map(tuple)
maybe_dims = st.none() | some_dims
bools = st.booleans()
numbers = st.integers(-3, 300) | st.sampled_from([0.0, 0.5, 1.0, -2.0, 2.5, 1e3])
dtypes = st.sampled_from(COMMON) | st.sampled_from(DTYPES)


def tensors(dtype: st.SearchStrategy[DType] = dtypes, shape: Any = shapes) -> st.SearchStrategy[TensorType]:
    """Return types of tensors."""
    return st.builds(TensorType, dtype, shape)


def call(**arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Arguments]:
    """Return arguments that do not depend on one another."""
    return st.fixed_dictionaries(arguments)


@st.composite
def pairs(draw: st.DrawFn) -> Arguments:
    """Two operands: tensors whose shapes mostly broadcast, or one of them a number."""
    x = draw(tensors())
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return {"x": x, "y": draw(numbers)}
    if kind == 1:
        return {"x": draw(numbers), "y": x}
    if kind == 2:
        return {"x": x, "y": draw(tensors())}
    other = [1 if draw(bools) else length for length in x.shape][draw(st.integers(0, 2)) :]
    return {"x": x, "y": TensorType(x.dtype, tuple(other))}


@st.composite
def permutations(draw: st.DrawFn) -> Arguments:
    x = draw(tensors())
    order = draw(st.permutations(range(x.ndim)) | some_dims.map(list))
    return {"x": x, "dims": tuple(d - x.ndim if draw(bools) else d for d in order)}


@st.composite
def reshapes(draw: st.DrawFn) -> Arguments:
    x = draw(tensors())
    parts = [factor for length in x.shape for factor in ((2, 2) if length == 4 else (length,))]
    shape = [*draw(st.permutations(parts)), *([1] if draw(bools) else [])]
    if shape and draw(bools):
        shape[draw(st.integers(0, len(shape) - 1))] = -1
    return {"x": x, "shape": tuple(shape)}


@st.composite
def unflattens(draw: st.DrawFn) -> Arguments:
    x = draw(tensors())
    dim = draw(dims)
    length = x.shape[dim % x.ndim] if x.ndim else 1
    sizes = draw(st.sampled_from([(length,), (1, length), (-1, 1), (2, -1), (length, -1), (2, 2), ()]))
    return {"x": x, "dim": dim, "sizes": sizes}


@st.composite
def expands(draw: st.DrawFn) -> Arguments:
    x = draw(tensors(shape=st.lists(st.integers(0, 2), max_size=3).map(tuple)))
    size = [draw(st.sampled_from([-1, length, 3 if length == 1 else length, 2])) for length in x.shape]
    return {"x": x, "size": (*draw(st.lists(st.integers(0, 3), max_size=2)), *size)}


@st.composite
def rearrangements(draw: st.DrawFn) -> Arguments:
    """Patterns whose left side fits the tensor: some dims are split, some gathered by `...`."""
    x = draw(tensors())
    left, names, axes = [], [], {}
    kept = draw(st.integers(0, x.ndim)) if draw(bools) else x.ndim
    for number, length in enumerate(x.shape[:kept]):
        name = f"a{number}"
        if length in (2, 4) and draw(bools):
            left.append(f"({name} {name}b)")
            names += [name, f"{name}b"]
            axes[name] = 2
        elif length == 1 and draw(bools):
            left.append(draw(st.sampled_from(["1", "()"])))
        else:
            left.append(name)
            names.append(name)
    if kept < x.ndim:
        left.append("...")
        names.append("...")
    right = list(draw(st.permutations(names)))
    if len(right) > 1 and draw(bools):
        at = draw(st.integers(0, len(right) - 2))
        right[at : at + 2] = [f"({right[at]} {right[at + 1]})"]
    if draw(bools):
        right.insert(draw(st.integers(0, len(right))), "1")
    return {"tensor": x, "pattern": f"{' '.join(left)} -> {' '.join(right)}", "axes": axes}


@st.composite
def indices(draw: st.DrawFn) -> Arguments:
    x = draw(tensors())
    bound = st.none() | st.integers(-5, 5)
    item = st.one_of(
        st.builds(Index, bound, bound, st.none() | st.integers(1, 3)),
        st.integers(-4, 3), st.none(), st.just(Ellipsis), st.lists(st.integers(-4, 3), max_size=3).map(tuple),
    )  # fmt: skip
    return {"x": x, "index": tuple(draw(st.lists(item, min_size=1, max_size=x.ndim + 1)))}


@st.composite
def cuts(draw: st.DrawFn) -> Arguments:
    x, dim = draw(tensors()), draw(dims)
    length = x.shape[dim % x.ndim] if x.ndim else 0
    first = draw(st.integers(0, length + 1))
    return {"x": x, "sizes": draw(st.sampled_from([(first, length - first), (length,), (first,)])), "dim": dim}


@st.composite
def selections(draw: st.DrawFn) -> Arguments:
    x, dim = draw(tensors()), draw(dims)
    length = x.shape[dim % x.ndim] if x.ndim else 0
    return {"x": x, "dim": dim, "index": tuple(draw(st.lists(st.integers(0, max(length - 1, 0)), max_size=4)))}


@st.composite
def joins(draw: st.DrawFn) -> Arguments:
    first, dim = draw(tensors()), draw(dims)
    others = []
    for _ in range(draw(st.integers(0, 3))):
        shape = list(first.shape)
        if shape and draw(bools):
            shape[dim % len(shape)] = draw(lengths)
        others.append(TensorType(draw(st.sampled_from([first.dtype] * 6 + COMMON)), tuple(shape)))
    return {"tensors": (first, *others), "dim": dim}


@st.composite
def paddings(draw: st.DrawFn) -> Arguments:
    mode = draw(st.sampled_from(["constant", "constant", "reflect", "replicate", "circular"]))
    # torch 2.6 refuses to pad what has a length of 0.
    x = draw(tensors(shape=st.lists(st.integers(torch.__version__ < "2.7", 4), max_size=5).map(tuple)))
    pad = tuple(draw(st.lists(st.integers(-2, 3), max_size=2 * x.ndim)))
    return {"x": x, "pad": pad[: len(pad) // 2 * 2], "mode": mode, "value": draw(numbers)}


@st.composite
def resizes(draw: st.DrawFn) -> Arguments:
    x = draw(tensors())
    size = tuple(draw(st.sampled_from([-1, 0, 1, length + 2, max(length - 1, 0)])) for length in x.shape)
    return {"x": x, "size": size, "value": draw(numbers)}


@st.composite
def interpolations(draw: st.DrawFn) -> Arguments:
    mode = draw(st.sampled_from(["nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area"]))
    ndim = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5}.get(mode) or draw(st.integers(2, 5))
    x = draw(tensors(st.sampled_from(COMMON), st.lists(st.integers(1, 4), min_size=ndim, max_size=ndim).map(tuple)))
    by_size = draw(bools)
    corners = st.none() if mode in ("nearest", "nearest-exact", "area") else st.none() | bools
    return {
        "x": x,
        "size": tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=ndim - 1))) if by_size else None,
        "scale_factor": None if by_size else draw(st.sampled_from([0.5, 1.0, 1.7, 2, 3.3])),
        "mode": mode,
        "align_corners": draw(corners),
        "antialias": mode in ("bilinear", "bicubic") and draw(bools),
    }


@st.composite
def products(draw: st.DrawFn) -> Arguments:
    dtype, (m, k, n) = draw(st.sampled_from(COMMON)), draw(st.tuples(lengths, lengths, lengths))
    batch = draw(st.lists(lengths, max_size=2))
    x = draw(st.sampled_from([(m, k), (k,), (*batch, m, k), ()]))
    y = draw(st.sampled_from([(k, n), (k,), (*batch, k, n), (1, k, n), (n, k)]))
    return {"x": TensorType(dtype, x), "y": TensorType(dtype, y)}


@st.composite
def weight_norms(draw: st.DrawFn) -> Arguments:
    v = draw(tensors(st.sampled_from(FLOATS), st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)))
    dim = draw(st.sampled_from([0, -1, v.ndim - 1, 1]))
    g = tuple(length if at == dim % v.ndim else 1 for at, length in enumerate(v.shape))
    return {"v": v, "g": TensorType(v.dtype, g), "dim": dim}


_like = {"x": tensors(), "dtype": st.none() | dtypes}
_sizes = st.lists(lengths, max_size=4).map(tuple)
_reduction = {"x": tensors(), "dim": maybe_dims, "keepdim": bools}
_whole = st.integers(-5, 20)
_two, _one = pairs(), call(x=tensors())

CALLS: Mapping[str, st.SearchStrategy[Arguments]] = {
    "zeros": call(size=_sizes, dtype=dtypes),
    "ones": call(size=_sizes, dtype=dtypes),
    "full": call(size=_sizes, fill_value=numbers, dtype=dtypes),
    "zeros_like": call(**_like),
    "ones_like": call(**_like),
    "full_like": call(fill_value=numbers, **_like),
    "arange": call(
        start=_whole | numbers, end=st.none() | _whole | numbers, step=st.integers(-3, 3) | st.just(0.5), dtype=dtypes
    ),
    "eye": call(n=lengths, m=st.none() | lengths, dtype=dtypes),
    "transpose": call(x=tensors(), dim0=dims, dim1=dims)
    | call(x=tensors(shape=st.tuples(lengths, lengths)), dim0=st.none(), dim1=st.none()),
    "permute": permutations(),
    "reshape": reshapes(),
    "flatten": call(x=tensors(), start_dim=dims, end_dim=dims),
    "unflatten": unflattens(),
    "squeeze": call(x=tensors(shape=st.lists(st.sampled_from([1, 1, 3]), max_size=4).map(tuple)), dim=maybe_dims),
    "unsqueeze": call(x=tensors(), dim=dims),
    "expand": expands(),
    "flip": call(x=tensors(), dims=some_dims),
    "roll": call(x=tensors(), shifts=st.lists(st.integers(-5, 5), min_size=1, max_size=1).map(tuple), dim=dims).map(
        lambda a: {"x": a["x"], "shifts": a["shifts"], "dims": None if a["dim"] == 4 else (a["dim"],)}
    ),
    "rearrange": rearrangements(),
    "clone": _one,
    "getitem": indices(),
    "index_select": selections(),
    "narrow": call(x=tensors(), dim=dims, start=st.integers(-3, 4), length=st.integers(-1, 3)),
    "chunk": call(x=tensors(), chunks=st.integers(0, 4), dim=dims),
    "sections": cuts(),
    "unstack": call(x=tensors(), dim=dims),
    "cat": joins(),
    "stack": joins(),
    "average": joins().map(lambda a: {"tensors": a["tensors"]}),
    "pad": paddings(),
    "resize": resizes(),
    "interpolate": interpolations(),
    **dict.fromkeys(("add", "sub", "mul", "div", "floor_divide", "remainder", "pow"), _two),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), _two),
    **dict.fromkeys(("neg", "abs", "sqrt", "rsqrt", "exp", "log", "reciprocal", "square"), _one),
    **dict.fromkeys(("round", "floor", "ceil", "tanh"), _one),
    "clamp": call(x=tensors(), min=st.none() | numbers, max=st.none() | numbers),
    "matmul": products(),
    "cast": call(x=tensors(), dtype=dtypes) | call(x=tensors(st.sampled_from(COMMON)), dtype=st.sampled_from(COMMON)),
    **dict.fromkeys(("sum", "mean", "min", "max"), call(**_reduction)),
    "norm": call(p=st.sampled_from([2, 1, 0, 3, 0.5, -1, inf, -inf]), **_reduction),
    "weight_norm": weight_norms(),
}
"""For the name of each operation, its calls."""


def made(type: TensorType, seed: int = 0) -> torch.Tensor:
    """Return a tensor of a type: finite numbers, negative ones too where there are such."""
    source = torch.Generator().manual_seed(seed + type.numel)
    dtype = getattr(torch, type.dtype.name)
    if type.dtype.kind is Kind.BOOL:
        return torch.randint(0, 2, type.shape, generator=source).bool()
    if type.dtype.kind is Kind.INT:
        low = 0 if type.dtype.name.startswith("u") else -100
        return torch.randint(low, 100, type.shape, generator=source).to(dtype)
    if type.dtype.kind is Kind.COMPLEX:
        return torch.randn(type.shape, generator=source, dtype=torch.complex64).to(dtype)
    return torch.randn(type.shape, generator=source).to(dtype)


def as_tensors(value: Any, seed: int = 0) -> Any:
    """Return arguments with tensors in place of their types."""
    if isinstance(value, TensorType):
        return made(value, seed)
    if isinstance(value, tuple):
        return tuple(as_tensors(item, seed + number) for number, item in enumerate(value))
    return (
        {name: as_tensors(item, seed + n) for n, (name, item) in enumerate(value.items())}
        if isinstance(value, dict)
        else value
    )
