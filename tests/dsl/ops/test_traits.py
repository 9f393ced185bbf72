"""What operations declare of themselves is complete and true, and no other module knows one by its name."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch

import statex
from statex.dsl.ops import OPERATIONS, Operation
from statex.dsl.ops.base import Aliasing
from statex.execute.kernels.by_torch import TorchValues

PACKAGE = Path(statex.__file__).parent
ROOMS = ("dsl", "inverse", "following", "execute", "session", "checkpoint")

DECLARED = ("name", "category", "parameters", "example", "infer", "run", "aliasing", "scratch", "moments")
"""What has no default: one that were wrong for an operation would make a promise false."""


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=list(OPERATIONS))
def test_an_operation_declares_its_traits(operation: type[Operation]) -> None:
    assert [name for name in DECLARED if name not in vars(operation)] == []
    assert isinstance(operation.aliasing, Aliasing)
    assert operation.__doc__


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=list(OPERATIONS))
def test_traits_agree(operation: type[Operation]) -> None:
    if operation.aliasing is Aliasing.VIEW:
        assert operation.moves is not None, "a view computes nothing"
    if operation.numpy is not None:
        assert operation.exact or operation.in_parts.__func__ is not Operation.in_parts.__func__  # type: ignore[attr-defined]
    if operation.exact:
        assert operation.lays_out
    if operation.commutes:
        assert [one.name for one in operation.parameters] == ["x", "y"]


def test_no_trait_has_a_base_that_answers_for_it() -> None:
    assert [name for name in DECLARED if hasattr(Operation, name)] == []


_SHARING = {
    "transpose": "transpose", "permute": "permute(1, 0)", "unflatten": "unflatten(0, [2, -1])",
    "squeeze": "reshape(1, 8, 6) | squeeze", "unsqueeze": "unsqueeze(0)", "expand": "unsqueeze(0) | expand(2, -1, -1)",
    "narrow": "narrow(0, 1, 2)",
}  # fmt: skip
_ALONE = {
    "flip": "flip(0)", "roll": "roll(0)", "clone": "clone", "pad": "pad([0, 0])", "resize": "resize([-1, -1])",
    "cat": "cat(it)", "stack": "stack(it)", "index_select": "index_select(0, [0, 1])", "abs": "abs",
    "clamp": "clamp(min=-9)", "min": "min(dim=0)", "sum": "reshape(1, 8, 6) | sum(dim=0)", "add": "it + 0",
    "mean": "reshape(1, 8, 6) | mean(dim=0)", "norm": "reshape(1, 8, 6) | norm(dim=0)", "zeros_like": "zeros_like",
    "max": "reshape(1, 8, 6) | max(dim=0)", "round": "round", "average": "average(it)", "mul": "it * 1",
    "interpolate": "unsqueeze(0) | interpolate(6)",
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [*_SHARING.items(), *_ALONE.items()])
def test_results_share_memory_where_an_operation_says_so(name: str, value: str) -> None:
    x = torch.arange(48.0).reshape(8, 6)
    plan = statex.compile(f"set x = {value}").plan({"x": x})
    id = plan.outputs["x"].value
    assert id is not None
    id = plan.graph.inner(id)  # as the operation gives it, before it is laid out
    made = TorchValues(plan.graph, [id], lambda key: x).take(id)
    shares = made.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    assert OPERATIONS[name].aliasing is (Aliasing.VIEW if shares else Aliasing.COPY)


ALLOWED: Mapping[tuple[str, str], str] = {
    ("dsl/statements/around.py", "add"): "the statement `add`",
    ("dsl/statements/assign.py", "add"): "the statement `add`",
    ("checkpoint/formats/torch/pickle_machine.py", "add"): "what a pickle does to a set",
    ("checkpoint/formats/torch/pickle_reader.py", "add"): "what a pickle does to a set",
    ("checkpoint/formats/torch/pickle_writer.py", "add"): "what a pickle does to a set",
    ("following/slots.py", "sum"): "what Adagrad calls its moments",
}
"""Strings that are no operations, though one has the name."""


def test_no_module_outside_knows_an_operation_by_its_name() -> None:
    found = {(path, name) for path, name, _ in _named()}
    assert sorted(found - set(ALLOWED)) == []
    assert sorted(set(ALLOWED) - found) == [], "nothing is allowed that is not there"


def _named() -> Iterator[tuple[str, str, int]]:
    for path, module in _modules():
        for node in ast.walk(module):
            if isinstance(node, ast.Constant) and node.value in OPERATIONS:
                yield path, node.value, node.lineno


def test_no_module_outside_imports_the_class_of_an_operation() -> None:
    classes = {(one.__module__, one.__name__) for one in OPERATIONS.values()}
    homes = {module for module, _ in classes}
    for path, module in _modules():
        for node in ast.walk(module):
            if isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
            elif isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            else:
                continue
            assert not names & homes, f"{path}:{node.lineno}"


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            name = path.relative_to(PACKAGE).as_posix()
            if not name.startswith("dsl/ops/"):
                yield name, ast.parse(path.read_text(encoding="utf-8"))
