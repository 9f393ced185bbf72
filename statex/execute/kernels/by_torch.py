"""The values of a graph, computed by torch: each is freed after its last use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from statex.core.header import TensorType
from statex.diagnostics import fail
from statex.diagnostics.codes import types as codes
from statex.dsl.ops import OPERATIONS
from statex.dsl.ops.base import OperationError
from statex.dsl.plan.graph import Graph, InputTensor, OperationCall, Ref, ResultPiece, Settled, SourceKey, arguments_of
from statex.execute.kernels.laying_out import laid_out
from statex.execute.shortage import told


def count_uses(graph: Graph, roots: Iterable[int]) -> Counter[int]:
    """Return how often each value is used where the roots are each taken as often as they are named."""
    uses = Counter(roots)
    pending = list(uses)
    seen = set(pending)
    while pending:
        for operand in graph.operands(pending.pop()):
            uses[operand] += 1
            if operand not in seen:
                seen.add(operand)
                pending.append(operand)
    return uses


class TorchValues:
    """Computes values; `roots` are those that will be taken, each as often as it is named."""

    def __init__(self, graph: Graph, roots: Iterable[int], load: Callable[[SourceKey], Any]) -> None:
        self._graph = graph
        self._load = load
        self._uses = count_uses(graph, roots)
        self._values: dict[int, Any] = {}

    def take(self, wanted: int) -> Any:
        """Return a value, for one of its uses; operands are computed first, without recursion."""
        pending = [wanted]
        while pending:
            id = pending[-1]
            if id not in self._values:
                todo = [operand for operand in self._graph.operands(id) if operand not in self._values]
                if todo:
                    pending.extend(todo)
                    continue
                self._values[id] = self._compute(id)
            pending.pop()
        return self._use(wanted)

    def _use(self, id: int) -> Any:
        self._uses[id] -= 1
        return self._values[id] if self._uses[id] > 0 else self._values.pop(id)

    def _compute(self, id: int) -> Any:
        node = self._graph[id]
        if isinstance(node, InputTensor):
            return self._load(node.key)
        if isinstance(node, ResultPiece):
            return self._use(node.call)[node.index]
        if isinstance(node, Settled):
            return laid_out(self._use(node.value))
        return run_call(node, self._argument)

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, Ref):
            return self._use(argument.id)
        if isinstance(argument, tuple):
            return tuple(self._argument(a) for a in argument)
        return argument


def run_call(node: OperationCall, argument: Callable[[Any], Any]) -> Any:
    """Return the result of a call; `argument` gives what stands for an argument, tensors for values.

    Raises:
        StatexError: for the numbers in a tensor that the operation cannot take, which no header tells; SX410 for what
            torch refuses.
    """
    import torch

    operation = OPERATIONS[node.operation]
    arguments = arguments_of(node, argument)
    nbytes = node.type.nbytes if isinstance(node.type, TensorType) else 0
    with torch.no_grad():
        try:
            with told(f"`{operation.name}`", nbytes):
                return operation.run(torch, **_on_one_device(arguments, torch))
        except OperationError as error:
            fail(error.code, f"`{operation.name}`: {error.headline}", help=error.help or ())
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            fail(codes.TORCH_REFUSES, f"torch cannot compute `{operation.name}`: {reason}")


def _on_one_device(arguments: dict[str, Any], torch: Any) -> dict[str, Any]:
    """Move the tensors of a call to the device of the first one: another input may be on another device."""
    tensors = [t for value in arguments.values() for t in _tensors(value, torch)]
    devices = {t.device for t in tensors}
    if len(devices) < 2:
        return arguments
    device = tensors[0].device
    return {
        name: tuple(t.to(device) if isinstance(t, torch.Tensor) else t for t in value)
        if isinstance(value, tuple)
        else (value.to(device) if isinstance(value, torch.Tensor) else value)
        for name, value in arguments.items()
    }


def _tensors(value: Any, torch: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for item in value for t in _tensors(item, torch)] if isinstance(value, tuple) else []
