"""Reads an output again and compares it with its intended content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

from statex.checkpoint.blobs.contents import Blob, Made, Moved, OutTensor
from statex.checkpoint.blobs.walks import leaves
from statex.checkpoint.blobs.write_plan import Derived, FilePlan, WritePlan
from statex.checkpoint.io.crc import combined, crc32
from statex.checkpoint.io.input_file import InputFile, Stored
from statex.checkpoint.objects import Storage
from statex.checkpoint.reader import Reader
from statex.core.header import TensorInfo
from statex.core.progress import Add, unheard
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes


def compare_written(reader: Reader, plan: WritePlan, added: Add = unheard) -> None:
    """Compare a reopened output with what was planned: every tensor's type and every byte, headers included.

    Bytes that moved are compared with the input's, computed ones with the checksum taken when they were made. `added`
    is told of bytes of tensors that are read, on either side: `bytes_compared` says how many that will be.

    Raises:
        StatexError: SX617.
    """
    found = [leaf for leaf in leaves(reader.tree) if isinstance(leaf, TensorInfo)]
    wanted = list(_tensors(plan.tree))
    if len(found) != len(wanted):
        _differs(reader.path, f"it holds {len(found)} tensors, and {len(wanted)} were written")
    for read, written in zip(found, wanted, strict=True):
        if read.type != written.type or read.strides != written.stride:
            _differs(reader.path, f"{written.type} is read back as {read.type}")
    for file in reader.files:
        if hasattr(os, "posix_fadvise"):
            # What is only in memory is let go, so that the disk itself is asked.
            os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
    if plan.format.by_torch:
        _compare_loaded(reader, found, wanted, added)
        _compare_storages(reader, plan.tree, added)
        return
    folder = reader.path if os.path.isdir(reader.path) else reader.path.parent
    for one in plan.files:
        whole = len(plan.files) == 1 and len(reader.files) == 1
        with closing(InputFile(reader.files[0].path if whole else folder / one.name)) as opened:
            _compare_file(opened, one, added)


def _compare_file(file: InputFile, plan: FilePlan, added: Add) -> None:
    """Compare each part of a file with what was to be there."""
    if file.size != plan.nbytes:
        _differs(file.path, f"it has {file.size} bytes, and {plan.nbytes} were written")
    sums: dict[Blob | Derived, int] = {}
    for part in plan.parts:
        content = part.content
        assert part.offset is not None, "torch writes no such file"
        if isinstance(content, Blob):
            # A value without elements was not even computed.
            wanted, heard = (_crc(content, added) or 0) if content.nbytes else 0, added
            sums[content] = wanted
        elif isinstance(content, Derived):
            sums[content] = wanted = crc32(content.make(sums))
            heard = unheard
        else:
            wanted, heard = crc32(content), unheard
        if file.crc32(part.offset, part.nbytes, heard) != wanted:
            what = f"`{part.keys[0]}`" if part.keys else f"its {part.what}"
            _differs(file.path, f"the bytes of {what} are not those that were written")


def _compare_loaded(reader: Reader, found: list[TensorInfo], wanted: list[OutTensor], added: Add) -> None:
    """Compare the bytes of tensors as the reader has them, wherever it finds these."""
    seen: set[Blob] = set()
    for read, written in zip(found, wanted, strict=True):
        if written.blob in seen or not written.blob.nbytes:
            continue
        seen.add(written.blob)
        stored = read.handle
        if isinstance(stored, Stored):
            found_crc, name = _stored_crc(stored, added), stored.name
        else:
            found_crc, name = _loaded_crc(reader.load(read)), str(stored)
            added(written.blob.nbytes)
        if found_crc != _crc(written.blob, added):
            _differs(reader.path, f"the bytes of `{name}` are not those that were written")


def bytes_compared(plan: WritePlan) -> int:
    """Return how many bytes of tensors are read to compare an output with what was planned."""
    blobs = set(plan.blobs) if plan.format.by_torch else plan.blobs
    # Values that share a storage have it each where torch writes: they are archives of their own.
    odd = sum([stored.nbytes for stored in _storages(plan.tree)]) if plan.format.by_torch else 0
    return sum([2 * blob.nbytes if isinstance(blob, Moved) else blob.nbytes for blob in blobs]) + 2 * odd


def _tensors(output: Any) -> Iterator[OutTensor]:
    return (leaf for leaf in leaves(output) if isinstance(leaf, OutTensor))


def _storages(tree: Any) -> Iterator[Stored]:
    return (leaf.handle for leaf in leaves(tree) if isinstance(leaf, Storage))


def _compare_storages(reader: Reader, output: Any, added: Add) -> None:
    """Compare the storages of quantized, sparse and other tensors that are no plain ones."""
    found, wanted = list(_storages(reader.tree)), list(_storages(output))
    if len(found) != len(wanted):
        _differs(reader.path, f"it holds {len(found)} storages of odd tensors, and {len(wanted)} were written")
    for read, written in dict.fromkeys(zip(found, wanted, strict=True)):
        if read.nbytes != written.nbytes or _stored_crc(read, added) != _stored_crc(written, added):
            _differs(reader.path, f"the bytes of `{read.name}` are not those that were written")


def _stored_crc(stored: Stored, added: Add) -> int:
    return stored.extent.file.crc32(stored.extent.offset, stored.nbytes, added)


def _loaded_crc(tensor: Any) -> int:
    """Return the CRC-32 of a contiguous tensor that a library has read."""
    import torch

    return crc32(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))


def _crc(blob: Blob, added: Add) -> int | None:
    if isinstance(blob, Made):
        return blob.crc
    assert isinstance(blob, Moved)
    value = 0
    for run in blob.runs:
        extent = run.extent
        value = combined(value, extent.file.crc32(extent.offset, extent.nbytes, added), extent.nbytes)
    return value


def _differs(path: Path, why: str) -> NoReturn:
    fail(
        codes.WRITTEN_DIFFERS,
        f"the output is not what was written: {why}",
        help="the disk or its driver is at fault: check the system's log",
    )
