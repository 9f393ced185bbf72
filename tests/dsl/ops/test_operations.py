"""Every operation: type rule and execution agree, what can be undone is undone to the bit, all of it documented."""

from __future__ import annotations

import itertools
import math
import operator
from collections import Counter
from math import nan
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import statex
from statex.core.dtypes import BY_NAME, DType
from statex.core.header import TensorType
from statex.core.source import Source
from statex.dsl.ops import OPERATIONS, QUERIES
from statex.dsl.ops.base import ArgKind, Operation, OperationError
from statex.grammar.parser import parse
from tests.dsl.ops.strategies import CALLS, DTYPES, as_tensors
from tests.effort import examples

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")

NAMES = sorted(OPERATIONS)
INVERTIBLE = [name for name in NAMES if OPERATIONS[name].invert is not None]


def type_of(tensor: torch.Tensor) -> TensorType:
    return TensorType(BY_NAME[str(tensor.dtype).removeprefix("torch.")], tuple(tensor.shape))


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Say whether two tensors are equal to the bit, NaNs and signs of zeros included."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    # A plain copy has plain strides even where a length of 1 would allow others, which `view` needs.
    return torch.equal(
        *(torch.empty(t.numel(), dtype=t.dtype).copy_(t.flatten()).view(torch.uint8) for t in (one, other))
    )


def told(error: OperationError, operation: type[Operation]) -> bool:
    """Say whether a fault says something, and names an argument there is."""
    names = {None, *(p.name for p in operation.parameters)}
    return bool(error.headline) and error.argument in names


def test_every_operation_is_tried() -> None:
    assert sorted(CALLS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_type_rule_says_what_execution_gives(name: str) -> None:
    operation = OPERATIONS[name]
    seen: Counter[str] = Counter()

    @settings(max_examples=examples(250), deadline=None, derandomize=True)
    @given(CALLS[name])
    def holds(arguments: dict[str, Any]) -> None:
        try:
            wanted = operation.infer(**arguments)
        except OperationError as error:
            seen["refused" if told(error, operation) else "refused without a word"] += 1
            return
        try:
            found = operation.run(torch, **as_tensors(arguments))
        except OperationError as error:
            # Of the data alone, which no type rule knows.
            if "division of ints by zero" not in str(error):
                raise
            return
        seen["done"] += 1
        if isinstance(wanted, tuple):
            assert tuple(type_of(t) for t in found) == wanted
        else:
            assert type_of(found) == wanted

    holds()
    assert not seen["refused without a word"]
    # A rule that refuses (almost) everything would agree with any execution.
    assert seen["done"] >= seen["refused"] / 9, seen


@pytest.mark.parametrize("name", INVERTIBLE)
def test_what_can_be_undone_is_undone_to_the_bit(name: str) -> None:
    operation = OPERATIONS[name]
    leading = operation.leading()
    assert leading is not None
    assert operation.invert is not None
    seen: Counter[str] = Counter()

    @settings(max_examples=250, deadline=None, derandomize=True)  # fewer hardly meet a quotient that can be undone
    @given(CALLS[name])
    def holds(arguments: dict[str, Any]) -> None:
        try:
            operation.infer(**arguments)
        except OperationError:
            return
        back = operation.invert(**arguments)  # type: ignore[misc]
        if back is None or back.on_data:
            return
        seen["undone"] += 1
        given_ = as_tensors(arguments)
        result = operation.run(torch, **given_)
        inverse = OPERATIONS[back.operation]
        first = inverse.leading()
        assert first is not None
        found = inverse.run(torch, **{first.name: result}, **back.arguments)
        # A number may stand before the tensor.
        before = next(given_[name] for name in (leading.name, *given_) if not isinstance(given_[name], int | float))
        if isinstance(before, tuple):
            assert all(same_bits(a, b) for a, b in zip(found, before, strict=True))
        else:
            assert same_bits(found, before)

    holds()
    assert seen["undone"] >= 3


@pytest.mark.parametrize("name", NAMES)
def test_every_operation_is_documented(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation.__doc__
    assert operation.__doc__.split("\n")[0].endswith(".")
    assert operation.category
    program = parse(Source("example.sx", operation.example))
    assert len(program.statements) == 1
    assert operation.signature().startswith(f"{name}(")


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_every_question_is_documented(query: Any) -> None:
    assert query.doc.endswith(".")
    assert query.signature.startswith(query.name)
    assert len(parse(Source("example.sx", query.example)).statements) == 1


# --- against functions of torch that the operations do not call -------------------------------------------------

x34 = torch.arange(12.0).reshape(3, 4)
x234 = torch.arange(24.0).reshape(2, 3, 4)
REFERENCES: list[tuple[str, dict[str, Any], Any]] = [
    ("transpose", {"x": x34, "dim0": None, "dim1": None}, x34.mT),
    ("permute", {"x": x234, "dims": (2, 0, 1)}, torch.from_numpy(x234.numpy().transpose(2, 0, 1).copy())),
    ("reshape", {"x": x34, "shape": (2, -1)}, torch.from_numpy(x34.numpy().reshape(2, 6))),
    ("flatten", {"x": x234, "start_dim": 1, "end_dim": -1}, x234.reshape(2, 12)),
    ("unflatten", {"x": x34, "dim": 1, "sizes": (2, -1)}, x34.reshape(3, 2, 2)),
    ("flip", {"x": x34, "dims": (0,)}, x34[[2, 1, 0]]),
    ("roll", {"x": x34, "shifts": (1,), "dims": (0,)}, x34[[2, 0, 1]]),
    ("rearrange", {"tensor": x34, "pattern": "a (h d) -> h a d", "axes": {"h": 2}},
     x34.reshape(3, 2, 2).permute(1, 0, 2)),
    ("index_select", {"x": x34, "dim": 1, "index": (3, 0)}, x34[:, [3, 0]]),
    ("narrow", {"x": x34, "dim": 0, "start": 1, "length": 2}, x34[1:3]),
    ("resize", {"x": x34, "size": (2, 6), "value": 7}, torch.nn.functional.pad(x34, (0, 2, 0, -1), value=7.0)),
    ("pad", {"x": x34, "pad": (0, 0, 1, 0), "mode": "constant", "value": 9},
     torch.cat([torch.full((1, 4), 9.0), x34])),
    ("average", {"tensors": (x34, x34 * 3)}, x34 * 2),
    ("cat", {"tensors": (x34, x34), "dim": 1}, torch.hstack([x34, x34])),
    ("stack", {"tensors": (x34, x34), "dim": 1}, torch.dstack([x34, x34]).mT),
    ("norm", {"x": x34, "p": 2, "dim": (1,), "keepdim": True}, x34.square().sum(1, keepdim=True).sqrt()),
    ("max", {"x": x34, "dim": (1,), "keepdim": False}, x34.max(1).values),
    ("min", {"x": x34, "dim": None, "keepdim": False}, x34.min()),
    ("remainder", {"x": torch.tensor([-7, 7]), "y": 3}, torch.tensor([-7 % 3, 7 % 3])),
    ("floor_divide", {"x": torch.tensor([-7, 7]), "y": 2}, torch.tensor([-7 // 2, 7 // 2])),
    ("pow", {"x": 2, "y": torch.tensor([1.0, 3.0])}, torch.tensor([2.0, 8.0])),
    ("sub", {"x": 1, "y": torch.tensor([1.0, 3.0])}, torch.tensor([0.0, -2.0])),
    ("arange", {"start": 4, "end": None, "step": 1, "dtype": BY_NAME["i64"]}, torch.tensor([0, 1, 2, 3])),
    ("eye", {"n": 2, "m": 3, "dtype": BY_NAME["f32"]}, torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])),
    ("matmul", {"x": x34, "y": x34.mT}, torch.einsum("ij,kj->ik", x34, x34)),
    ("weight_norm", {"v": x34 + 1, "g": torch.ones(3, 1), "dim": 0}, torch.nn.functional.normalize(x34 + 1, dim=1)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "wanted"), REFERENCES, ids=[name for name, _, _ in REFERENCES])
def test_results_are_those_of_other_ways_to_compute_them(name: str, arguments: dict[str, Any], wanted: Any) -> None:
    torch.testing.assert_close(OPERATIONS[name].run(torch, **arguments), wanted)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("chunk", {"chunks": 2, "dim": 1}), ("sections", {"sizes": (1, 3), "dim": 1}), ("unstack", {"dim": 0})],
)
def test_pieces_are_those_of_plain_indexing(name: str, arguments: dict[str, Any]) -> None:
    wanted = {
        "chunk": (x34[:, :2], x34[:, 2:]),
        "sections": (x34[:, :1], x34[:, 1:]),
        "unstack": (x34[0], x34[1], x34[2]),
    }[name]
    found = OPERATIONS[name].run(torch, x34, **arguments)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("name", "function"),
    [("add", operator.add), ("sub", operator.sub), ("mul", operator.mul), ("div", operator.truediv),
     ("pow", operator.pow), ("remainder", operator.mod), ("floor_divide", operator.floordiv), ("lt", operator.lt),
     ("ge", operator.ge), ("eq", operator.eq), ("ne", operator.ne), ("gt", operator.gt), ("le", operator.le)],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
@pytest.mark.parametrize("number", [0.3, -0.1, 70000])
def test_a_number_on_the_left_is_the_number_torch_takes(name: str, function: Any, dtype: Any, number: float) -> None:
    x = (torch.randn(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3).to(dtype)
    x[0] = torch.tensor(number).to(dtype)
    assert same_bits(OPERATIONS[name].run(torch, x=number, y=x), function(number, x))


@settings(max_examples=examples(200), deadline=None)
@given(CALLS["getitem"])
def test_indexing_is_that_of_numpy(arguments: dict[str, Any]) -> None:
    x = TensorType(BY_NAME["i64"], arguments["x"].shape)
    try:
        OPERATIONS["getitem"].infer(x, arguments["index"])
    except OperationError:
        return
    values = torch.arange(x.numel).reshape(x.shape)
    plain = tuple(
        slice(i.start, i.stop, i.step) if hasattr(i, "step") else list(i) if isinstance(i, tuple) else i
        for i in arguments["index"]
    )
    plain = tuple([int(n) for n in i] if isinstance(i, list) else i for i in plain)
    import numpy

    at = tuple(numpy.array(i, dtype=numpy.int64) if isinstance(i, list) else i for i in plain)
    found = OPERATIONS["getitem"].run(torch, values, arguments["index"])
    assert numpy.array_equal(found.numpy(), values.numpy()[at])


# --- binding ----------------------------------------------------------------------------------------------------

X = TensorType(BY_NAME["f32"], (2, 2))


@pytest.mark.parametrize("given_", [(X, 1, 0), (X, (1,), 0), (X, 1, (0,)), (X, (1,), (0,))])
def test_a_shift_and_its_dim_are_given_one_after_the_other(given_: tuple[Any, ...]) -> None:
    from statex.dsl.ops import bind

    assert bind(OPERATIONS["roll"], given_, {}) == {"x": X, "shifts": (1,), "dims": (0,)}


WRONG: dict[ArgKind, list[Any]] = {
    ArgKind.TENSOR: [1, "a", (1, 2), True],
    ArgKind.TENSORS: [1, "a", (X, 1), ()],
    ArgKind.OPERAND: ["a", True, (X,)],
    ArgKind.INT: [1.5, "a", X, True, (1,)],
    ArgKind.INTS: [1.5, "a", X, (1, "a"), True],
    ArgKind.NUMBER: ["a", X, True],
    ArgKind.BOOL: [1, "a", X],
    ArgKind.TEXT: [1, X],
    ArgKind.WORD: [1, "no such mode", X],
    ArgKind.DTYPE: [1, "float31", X],
}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_a_wrong_argument_is_named(name: str, data: st.DataObject) -> None:
    from statex.dsl.ops import bind

    operation = OPERATIONS[name]
    arguments = {k: v for k, v in data.draw(CALLS[name]).items() if k != "axes"}
    wrong = [p for p in operation.parameters if p.kind in WRONG]
    if not wrong:
        return
    parameter = data.draw(st.sampled_from(wrong))
    value = data.draw(st.sampled_from(WRONG[parameter.kind]))
    with pytest.raises(OperationError) as caught:
        bind(operation, (), {**arguments, parameter.name: value})
    assert caught.value.argument == parameter.name
    assert f"`{parameter.name}`" in caught.value.headline


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_padding_of_every_dtype(dtype: DType) -> None:
    x = torch.ones(2, 3).to(getattr(torch, dtype.name))
    padding = {"pad": (1, 0, 0, 2), "mode": "constant", "value": 1}
    found = OPERATIONS["pad"].run(torch, x=x, **padding)
    assert OPERATIONS["pad"].infer(x=type_of(x), **padding) == type_of(found)
    assert same_bits(found, torch.ones(4, 4).to(x.dtype))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("shape", [(2, 1), (2, 2), (1, 2, 3), (2, 6), (2, 2, 3), (1, 1, 3, 2), (1, 2, 2, 3)])
def test_padding_with_what_is_there_goes_as_far_as_torchs(mode: str, shape: tuple[int, ...]) -> None:
    """All that is refused and cuts nothing is refused by torch, and nothing else."""
    x = torch.arange(float(math.prod(shape))).reshape(shape)
    dims = 2 if len(shape) == 4 else 1
    accepted = 0
    for pad in itertools.product(range(-1, max(shape) + 2), repeat=2 * dims):
        padding = {"pad": pad, "mode": mode, "value": 0}
        try:
            kind = OPERATIONS["pad"].infer(x=type_of(x), **padding)
        except OperationError:
            if min(pad) >= 0:
                with pytest.raises(RuntimeError):
                    torch.nn.functional.pad(x, pad, mode)
            continue
        wanted = torch.nn.functional.pad(x, pad, mode)
        assert kind == type_of(wanted)
        assert same_bits(OPERATIONS["pad"].run(torch, x=x, **padding), wanted)
        accepted += 1
    assert accepted


@pytest.mark.parametrize(
    ("start", "end", "step", "dtype", "fits"),
    [
        (0, 256, 1, "u8", True), (0, 257, 1, "u8", False), (5, -1, -1, "u8", True), (5, -2, -1, "u8", False),
        (-128, 128, 1, "i8", True), (-129, 0, 1, "i8", False), (0, 32768, 1, "i16", True), (0, 32769, 1, "i16", False),
        (300, 300, 1, "u8", True), (0, 300, 299, "u8", False), (2**63 - 9, 2**63 - 1, 3, "i64", True),
        (0, 2**63 - 1, 2**62, "i64", False),
    ],
)  # fmt: skip
def test_a_row_of_ints_is_not_wrapped(start: int, end: int, step: int, dtype: str, fits: bool) -> None:
    make = OPERATIONS["arange"]
    arguments = {"start": start, "end": end, "step": step, "dtype": BY_NAME[dtype]}
    if not fits:
        with pytest.raises(OperationError):
            make.infer(**arguments)
        return
    made = make.run(torch, **arguments)
    assert made.tolist() == list(range(start, end, step))
    assert make.infer(**arguments) == type_of(made)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.is_floating_point and d.short != "f8_e8m0fnu"], ids=str)
def test_nan_is_a_number_of_floats(dtype: DType) -> None:
    make = OPERATIONS["full"]
    assert make.infer((1,), nan, dtype).dtype is dtype
    assert make.run(torch, (1,), nan, dtype).to(torch.float64).isnan().all()


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.is_floating_point], ids=str)
def test_the_largest_numbers_are_those_of_torch(dtype: DType) -> None:
    info = torch.finfo(getattr(torch, dtype.name))
    make = OPERATIONS["full"]
    assert make.run(torch, (1,), info.max, dtype).to(torch.float64).item() == info.max
    make.infer((1,), info.max, dtype)
    with pytest.raises(OperationError):
        make.infer((1,), 10**309 if dtype.name == "float64" else info.max * 1.5, dtype)


@pytest.mark.parametrize(
    "shapes", [((3,), (2, 3)), ((2, 3), (3,)), ((), (2, 3)), ((1, 3), (4, 2, 1)), ((2, 1), (5, 1, 3))]
)
def test_shapes_are_broadcast_as_by_torch(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    one, other = (torch.arange(float(math.prod(shape))).reshape(shape) + 1 for shape in shapes)
    done = statex.compile("set a = it / ::b").apply({"a": one, "b": other})
    assert torch.equal(done["a"], one / other)
