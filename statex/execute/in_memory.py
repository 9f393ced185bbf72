"""Runs a plan in memory: untouched tensors are the very same objects, everything else is computed by torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from statex.dsl.plan.entry import Entry
from statex.dsl.plan.followed import Place
from statex.dsl.plan.graph import SourceKey
from statex.dsl.plan.plan import Plan
from statex.execute.kernels.by_torch import TorchValues
from statex.execute.kernels.laying_out import laid_out
from statex.execute.kernels.unpacking import is_packed, loaded
from statex.execute.shortage import told

Load = Callable[[SourceKey], Any]
"""Gives the tensor (or the entry that is none) of an input."""


def execute(plan: Plan, load: Load) -> tuple[OrderedDict[str, Any], dict[Place, Any]]:
    """Return the result of a plan as a state_dict, `_metadata` included, and the tensors that follow beside it.

    What only moved is what `load` gives, the same object. What is computed owns compact, contiguous storage, on the
    device of the tensor it replaces, shared only between outputs that are tied; it is a Parameter where that one was.
    What follows never shares anything: an optimizer changes its tensors in place.
    """
    run = InMemoryRun(plan, load)
    result: OrderedDict[str, Any] = OrderedDict((key, run.output(output)) for key, output in plan.outputs.items())
    if plan.metadata is not None:
        result._metadata = plan.metadata  # type: ignore[attr-defined]
    beside = {place: run.alone(output) for one in plan.followed for place, output in one.outputs.items()}
    return result, beside


class InMemoryRun:
    """The outputs of one execution, made once for each tie.

    `load` gives the tensors of inputs, `device_of` the devices that they are or were on.
    """

    def __init__(self, plan: Plan, load: Load, device_of: Load | None = None) -> None:
        self.plan = plan
        self.load = load
        self.device_of = device_of or (lambda key: load(key).device)
        self.made: dict[object, Any] = {}
        self.storages: set[int] = set()
        roots = {o.tie: o.value for o in plan.made if o.origin is None and o.value is not None}
        self.values = TorchValues(plan.graph, roots.values(), self._source)
        self._default_device: Any = None

    def _source(self, key: SourceKey) -> Any:
        tensor = loaded(self.plan.info(key), lambda: self.load(key)).detach()
        self.storages.add(tensor.untyped_storage()._cdata)
        return tensor

    def output(self, output: Entry) -> Any:
        """Return what stands under a key of the result."""
        if output.origin is not None:
            return self.load(output.origin)
        if output.tie in self.made:
            return self.made[output.tie]
        import torch

        assert output.value is not None
        nbytes = output.type.nbytes if output.type is not None else 0
        with torch.no_grad(), told("a tensor of the result", nbytes):
            made = self._own(output, self.values.take(output.value), torch)
        self.made[output.tie] = made
        return made

    def alone(self, output: Entry) -> Any:
        """Return what follows beside the result, in memory of its own."""
        found = self.output(output)
        return found.clone() if output.origin is not None else found

    def _own(self, output: Entry, tensor: Any, torch: Any) -> Any:
        """Give a computed tensor its device and storage of its own, and make it a Parameter where it replaces one."""
        device = self._device(output)
        if device is not None and tensor.device != device:
            tensor = tensor.to(device)
        tensor = laid_out(tensor.detach())
        storage = tensor.untyped_storage()
        if storage._cdata in self.storages or storage.nbytes() != tensor.numel() * tensor.element_size():
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        self.storages.add(tensor.untyped_storage()._cdata)
        if output.is_parameter:
            tensor = torch.nn.Parameter(tensor, requires_grad=output.requires_grad)
        elif output.requires_grad:
            tensor.requires_grad_()
        if isinstance(output.attributes, dict) and output.module_source is not None:
            before = vars(self.load(SourceKey("", 0, output.module_source)))
            vars(tensor).update({name: before[name] for name in output.attributes if name in before})
        return tensor

    def _device(self, output: Entry) -> Any:
        if output.module_source is not None:
            return self._device_of(SourceKey("", 0, output.module_source))
        assert output.value is not None
        if self.plan.graph.has_source(output.value):
            return None
        if self._default_device is None:
            first = next((key for key, o in self.plan.header.entries.items() if hasattr(o, "type")), None)
            self._default_device = self._device_of(SourceKey("", 0, first)) if first is not None else False
        return self._default_device or None

    def _device_of(self, key: SourceKey) -> Any:
        """Return the device of a source; blocks of a file are on none."""
        return None if is_packed(self.plan.info(key)) else self.device_of(key)
