"""From tensors as inputs store them to tensors as an output lays them out: its storages, and the bytes of each.

A storage that is used in full is moved in full; of a larger one only what tensors reach is taken. Tensors that overlap
go on sharing a storage in torch files; safetensors has no sharing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from statex.checkpoint.blobs.contents import Blob, ByteRun, Made, Moved, OutTensor
from statex.checkpoint.blobs.gather import Gather
from statex.checkpoint.blobs.walks import leaves, mapped
from statex.checkpoint.io.input_file import Stored
from statex.checkpoint.objects import Storage
from statex.core.header import TensorInfo, contiguous


def for_torch(tree: Any) -> Any:
    """Return a tree with `OutTensor`s in place of the tensors of inputs; what shared storage goes on sharing it."""
    groups: dict[Stored, list[TensorInfo]] = {}
    whole: set[Stored] = set()
    for leaf in leaves(tree):
        if isinstance(leaf, Storage):
            whole.add(leaf.handle)
        elif isinstance(leaf, TensorInfo) and isinstance(leaf.handle, Stored):
            groups.setdefault(leaf.handle, []).append(leaf)
    made: dict[int, OutTensor] = {}
    for stored, infos in groups.items():
        info = infos[0]
        if len(infos) == 1 and (stored in whole or _is_all_of(info, stored)):
            made[id(info)] = _tensor(info, Moved.whole(stored), info.offset, info.strides)
            continue
        for info, tensor in _grouped(stored, infos, stored in whole):
            made[id(info)] = tensor
    return mapped(tree, lambda leaf: made.get(id(leaf), leaf))


def alone(info: TensorInfo) -> OutTensor:
    """Return a tensor with contiguous bytes of its own."""
    kind = info.type
    stored: Stored = info.handle  # type: ignore[assignment]
    if info.stride is None or info.is_contiguous:
        blob: Blob = Moved((ByteRun(stored, info.offset * kind.dtype.itemsize, kind.nbytes),), stored.location)
    else:
        gather = Gather.of(info)
        blob = Made(kind.nbytes, gather.buffers, stored.location, held=gather.held, in_parts=True)
    return OutTensor(
        kind, blob, 0, contiguous(kind.shape), info.is_parameter, info.requires_grad, info.attributes
    )  # fmt: skip


def dense(state: Mapping[str, Any]) -> dict[str, OutTensor]:
    """Return the dense tensors of a state, those of inputs with contiguous bytes of their own."""
    return {
        key: alone(leaf) if isinstance(leaf, TensorInfo) else leaf
        for key, leaf in state.items()
        if isinstance(leaf, TensorInfo | OutTensor)
    }


def _tensor(info: TensorInfo, blob: Blob, offset: int, stride: tuple[int, ...]) -> OutTensor:
    return OutTensor(info.type, blob, offset, stride, info.is_parameter, info.requires_grad, info.attributes)


def _is_all_of(info: TensorInfo, stored: Stored) -> bool:
    return info.type.nbytes == stored.nbytes and info.is_contiguous


def _grouped(stored: Stored, infos: list[TensorInfo], whole: bool) -> Iterator[tuple[TensorInfo, OutTensor]]:
    if whole:
        blob: Blob = Moved.whole(stored)
        yield from ((info, _tensor(info, blob, info.offset, info.strides)) for info in infos)
        return
    for first_used, end, members in _components(infos):
        # Tensors over one storage may have several dtypes; where it is cut, all their offsets stay whole numbers.
        start = first_used - first_used % max(i.type.dtype.itemsize for i in members)
        geometries = {(i.type, i.offset, i.strides) for i in members}
        first = members[0]
        if len(geometries) == 1 and end - start > first.type.nbytes:
            # One view with gaps, such as a slice of columns: only its own elements are written.
            blob = alone(first).blob
            yield from ((info, _tensor(info, blob, 0, contiguous(info.type.shape))) for info in members)
            continue
        blob = Moved([ByteRun(stored, start, end - start)], stored.location)
        for info in members:
            offset = info.offset - start // info.type.dtype.itemsize if info.span else 0
            yield info, _tensor(info, blob, offset, info.strides)


def _components(infos: list[TensorInfo]) -> Iterator[tuple[int, int, list[TensorInfo]]]:
    """Yield runs of bytes that tensors overlap in, with the tensors of each; empty tensors have runs of their own."""
    ranges: list[tuple[int, int, TensorInfo]] = []
    for info in infos:
        size = info.type.dtype.itemsize
        if not info.span:
            yield 0, 0, [info]
            continue
        ranges.append((info.offset * size, (info.offset + info.span) * size, info))
    ranges.sort(key=lambda r: (r[0], -r[1]))
    at = 0
    while at < len(ranges):
        start, end, members = ranges[at][0], ranges[at][1], [ranges[at][2]]
        at += 1
        while at < len(ranges) and ranges[at][0] < end:
            end = max(end, ranges[at][1])
            members.append(ranges[at][2])
            at += 1
        yield start, end, members
