"""Runs a plan in memory: untouched tensors are the very same objects, everything else is computed by torch."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from statex.dsl.graph import Call, Piece, Ref, Source, SourceKey
from statex.dsl.ops import OPERATIONS
from statex.dsl.ops.base import ArgKind
from statex.dsl.plan import Output, Plan

Load = Callable[[SourceKey], Any]
"""Gives the tensor (or the entry that is none) of an input."""


def execute(plan: Plan, load: Load) -> OrderedDict[str, Any]:
    """Return the result of a plan as a state_dict, `_metadata` included.

    What only moved is what `load` gives, the same object. What is computed owns compact, contiguous storage, on the
    device of the tensor it replaces, shared only between outputs that are tied; it is a Parameter where that one was.
    """
    run = _Run(plan, load)
    result: OrderedDict[str, Any] = OrderedDict((key, run.output(output)) for key, output in plan.outputs.items())
    if plan.metadata is not None:
        result._metadata = plan.metadata  # type: ignore[attr-defined]
    return result


class _Run:
    """The values of one execution; a value is freed after its last use."""

    def __init__(self, plan: Plan, load: Load) -> None:
        self.plan = plan
        self.load = load
        self.values: dict[int, Any] = {}
        self.made: dict[object, Any] = {}
        self.storages: set[int] = set()
        self.uses = self._count_uses()
        self._default_device: Any = None

    def _count_uses(self) -> Counter[int]:
        graph = self.plan.graph
        roots = [o.value for o in self.plan.outputs.values() if o.origin is None and o.value is not None]
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

    def output(self, output: Output) -> Any:
        """Return what stands under a key of the result."""
        if output.origin is not None:
            return self.load(output.origin)
        if output.tie in self.made:
            return self.made[output.tie]
        import torch

        assert output.value is not None
        with torch.no_grad():
            made = self._own(output, self._value(output.value), torch)
        self.made[output.tie] = made
        return made

    def _own(self, output: Output, tensor: Any, torch: Any) -> Any:
        """Give a computed tensor its device and storage of its own, and make it a Parameter where it replaces one."""
        device = self._device(output)
        if device is not None and tensor.device != device:
            tensor = tensor.to(device)
        tensor = tensor.detach().contiguous()
        storage = tensor.untyped_storage()
        if storage._cdata in self.storages or storage.nbytes() != tensor.numel() * tensor.element_size():
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        self.storages.add(tensor.untyped_storage()._cdata)
        if output.is_parameter:
            return torch.nn.Parameter(tensor, requires_grad=output.requires_grad)
        return tensor.requires_grad_() if output.requires_grad else tensor

    def _device(self, output: Output) -> Any:
        if output.born is not None:
            return self.load(SourceKey("", 0, output.born)).device
        assert output.value is not None
        if self.plan.graph.sources(output.value):
            return None
        if self._default_device is None:
            first = next((key for key, o in self.plan.header.entries.items() if hasattr(o, "type")), None)
            self._default_device = self.load(SourceKey("", 0, first)).device if first is not None else False
        return self._default_device or None

    def _value(self, wanted: int) -> Any:
        """Compute a value; operands first, without recursion."""
        pending = [wanted]
        graph = self.plan.graph
        while pending:
            id = pending[-1]
            todo = [operand for operand in graph.operands(id) if operand not in self.values]
            if id not in self.values and todo:
                pending.extend(todo)
                continue
            pending.pop()
            if id not in self.values:
                self.values[id] = self._compute(id)
        return self._use(wanted)

    def _use(self, id: int) -> Any:
        self.uses[id] -= 1
        return self.values[id] if self.uses[id] > 0 else self.values.pop(id)

    def _compute(self, id: int) -> Any:
        node = self.plan.graph[id]
        if isinstance(node, Source):
            tensor = self.load(node.key).detach()
            self.storages.add(tensor.untyped_storage()._cdata)
            return tensor
        if isinstance(node, Piece):
            return self._use(node.call)[node.index]
        return self._call(node)

    def _call(self, node: Call) -> Any:
        import torch

        operation = OPERATIONS[node.operation]
        axes = {p.name for p in operation.parameters if p.kind is ArgKind.AXES}
        arguments = {name: dict(value) if name in axes else self._argument(value) for name, value in node.arguments}
        return operation.run(torch, **_on_one_device(arguments, torch))

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, Ref):
            return self._use(argument.id)
        if isinstance(argument, tuple):
            return tuple(self._argument(a) for a in argument)
        return argument


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
