"""Sparse tensors on their way into an output: indices out of range would later make torch read foreign memory.

Layouts: torch/_utils.py (`_rebuild_sparse_tensor`), and the invariants that torch.sparse documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from statex.checkpoint.blobs.contents import Moved, OutTensor
from statex.checkpoint.blobs.walks import bare_tensors, parts
from statex.checkpoint.objects import SPARSE, ForeignCall, Global
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

_INDICES = ("int64", "int32")
_BY_ROWS = ("sparse_csr", "sparse_bsr")
_LAYOUTS = (*_BY_ROWS, "sparse_csc", "sparse_bsc")


def check_sparse(tree: Any) -> None:
    """Refuse sparse tensors of an arranged tree whose indices do not fit their sizes; the indices are read.

    Raises:
        StatexError: SX604.
    """
    for call in _sparse_in(tree):
        layout, data = call.arguments if len(call.arguments) == 2 else ("", ())
        name, members = _layout(layout), data if isinstance(data, tuple) else ()
        if name == "sparse_coo" and len(members) in (3, 4):
            _check_coordinates(*members[:3], sorted_=members[3:] == (True,))
        elif name in _LAYOUTS and len(members) == 4:
            _check_compressed(name, *members)
        else:
            _damaged("has no layout and the parts of one")


def _layout(value: Any) -> str:
    """Return the name of a layout, which files give as itself or as text for a function."""
    if isinstance(value, ForeignCall) and len(value.arguments) == 1 and isinstance(value.arguments[0], str):
        return value.arguments[0].removeprefix("torch.")
    return value.name if isinstance(value, Global) else ""


def _sparse_in(tree: Any) -> Iterator[ForeignCall]:
    pending, seen = [tree], set()
    while pending:
        value = pending.pop()
        inner = [] if isinstance(value, dict) and bare_tensors(value) else parts(value)
        if not inner or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, ForeignCall) and value.function == SPARSE:
            yield value
        pending.extend(inner)


def _check_coordinates(indices: Any, values: Any, size: Any, *, sorted_: bool) -> None:
    found, lengths = _numbers(indices), _sizes(size)
    if found.ndim != 2 or found.shape[0] > len(lengths) or not isinstance(values, OutTensor):
        _damaged("has indices of another shape than its sizes")
    if values.type.shape != (found.shape[1], *lengths[found.shape[0] :]):
        _damaged("has as many indices as it has no values")
    for row, length in zip(found, lengths, strict=False):
        _check_range(row, length)
    if sorted_ and not _is_sorted(found):
        _damaged("is said to have sorted indices, and has not")


def _is_sorted(columns: Any) -> bool:
    """Say whether each column of numbers is larger than the one before, its first number first."""
    import numpy

    larger = numpy.zeros(max(columns.shape[1] - 1, 0), bool)
    equal = ~larger
    for row in columns:
        larger |= equal & (row[1:] > row[:-1])
        equal &= row[1:] == row[:-1]
    return bool(larger.all())


def _check_compressed(layout: str, compressed: Any, plain: Any, values: Any, size: Any) -> None:
    ends, found, lengths = _numbers(compressed), _numbers(plain), _sizes(size)
    if not isinstance(values, OutTensor) or not 1 <= ends.ndim == found.ndim <= len(lengths) - 1:
        _damaged("has indices of another shape than its sizes")
    batch = ends.ndim - 1
    rows, columns = lengths[batch : batch + 2] if layout in _BY_ROWS else lengths[batch : batch + 2][::-1]
    blocks = values.type.shape[batch + 1 : batch + 3] if layout.startswith("sparse_b") else (1, 1)
    if layout not in _BY_ROWS:
        blocks = blocks[::-1]
    count = found.shape[-1]
    if len(blocks) != 2 or 0 in blocks or rows % blocks[0] or columns % blocks[1]:
        _damaged("has sizes that its blocks do not divide")
    if ends.shape[-1] != rows // blocks[0] + 1:
        _damaged("has another number of rows than its sizes say")
    if values.type.shape[: batch + 1] != found.shape or ends.shape[:-1] != found.shape[:-1]:
        _damaged("has as many indices as it has no values")
    _check_range(found, columns // blocks[1])
    steps = ends[..., 1:] - ends[..., :-1]
    if (ends[..., 0] != 0).any() or (ends[..., -1] != count).any() or (steps < 0).any():
        _damaged("has rows that are not all of its values")
    for own_ends, own in zip(ends.reshape(-1, ends.shape[-1]), found.reshape(-1, count), strict=True):
        rises = own[1:] > own[:-1]
        starts = own_ends[(own_ends > 0) & (own_ends < count)]
        rises[starts - 1] = True
        if not rises.all():
            _damaged("has rows whose indices are not sorted")


def _check_range(found: Any, length: int) -> None:
    if found.size and (int(found.min()) < 0 or int(found.max()) >= length):
        _damaged(f"has indices from {int(found.min())} to {int(found.max())}, and a size of {length}")


def _numbers(tensor: Any) -> Any:
    """Return the indices that a tensor has, as numpy's."""
    import numpy

    if not isinstance(tensor, OutTensor) or tensor.type.dtype.name not in _INDICES:
        _damaged("has indices that are not a dense tensor of ints")
    kind, blob = tensor.type, tensor.blob
    if not isinstance(blob, Moved):
        data = b"".join(bytes(buffer) for buffer in blob.buffers())  # type: ignore[attr-defined]
    else:
        data = b"".join(run.extent.file.read(run.extent.offset, run.nbytes) for run in blob.runs)
    if not data:
        return numpy.zeros(kind.shape, "i8")
    flat = numpy.frombuffer(data, f"<{'i8' if kind.dtype.itemsize == 8 else 'i4'}")
    size = kind.dtype.itemsize
    return numpy.lib.stride_tricks.as_strided(
        flat[tensor.offset :], kind.shape, [stride * size for stride in tensor.stride], writeable=False
    )


def _sizes(value: Any) -> tuple[int, ...]:
    if isinstance(value, ForeignCall) and len(value.arguments) == 1:
        value = value.arguments[0]
    if not isinstance(value, tuple) or not all(type(n) is int and n >= 0 for n in value):
        _damaged("has no proper sizes")
    return value


def _damaged(why: str) -> NoReturn:
    fail(codes.DAMAGED, f"a sparse tensor of the input {why}", help="fetch the file again, and compare its size")
