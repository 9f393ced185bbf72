"""Tensors whose bytes a writer can get: those that are in files, and those that a library must load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from statex.checkpoint.blobs.contents import Made, OutTensor
from statex.checkpoint.blobs.walks import mapped
from statex.checkpoint.io.input_file import Buffer, Stored
from statex.core.header import TensorInfo, TensorType, contiguous
from statex.execute.heap import Heap


def readable(info: TensorInfo, load: Callable[[], Any], heap: Heap) -> TensorInfo | OutTensor:
    """Return a tensor whose bytes a writer can get: itself, or what `load` gives where no reader of ours has it."""
    if isinstance(info.handle, Stored):
        return info
    kind = info.type
    blob = Made(kind.nbytes, lambda: _loaded(kind, load, heap), held=kind.nbytes)
    return OutTensor(
        kind, blob, 0, contiguous(kind.shape), info.is_parameter, info.requires_grad,
        readable_attributes(info.attributes, heap),
    )  # fmt: skip


def readable_attributes(attributes: Any, heap: Heap) -> Any:
    """Return attributes of a tensor with readable ones in place of the tensors among them."""

    def made(leaf: Any) -> Any:
        return readable(leaf, lambda: leaf.handle, heap) if isinstance(leaf, TensorInfo) else leaf

    return mapped(attributes, made)


def _loaded(kind: TensorType, load: Callable[[], Any], heap: Heap) -> Iterator[Buffer]:
    yield tensor_bytes(load())
    heap.freed(2 * kind.nbytes)


def tensor_bytes(tensor: Any) -> Buffer:
    """Return the bytes of a tensor of torch, wherever it is and whatever it is a view of."""
    return as_bytes(tensor.detach().to("cpu").resolve_conj().resolve_neg().contiguous())


def as_bytes(value: Any) -> Buffer:
    """Return the bytes of a numpy array or of a torch tensor."""
    if hasattr(value, "untyped_storage"):
        import torch

        # A single element may be contiguous with any stride, and is viewed as bytes only with a stride of 1.
        value = value.contiguous().as_strided((value.numel(),), (1,)).view(torch.uint8).numpy()
    return memoryview(value).cast("B")
