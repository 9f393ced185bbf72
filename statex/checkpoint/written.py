"""Reads an output again and compares it with what it was to hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from statex.checkpoint.contents import Blob, Made, Moved, OutTensor
from statex.checkpoint.crc import combined, crc32
from statex.checkpoint.input_file import Stored
from statex.checkpoint.objects import Storage
from statex.checkpoint.reader import Reader
from statex.checkpoint.walks import leaves
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.header import TensorInfo
from statex.progress import Add, unheard


def compare_written(reader: Reader, output: Any, added: Add = unheard) -> None:
    """Compare a reopened output with the arranged tree that was written: every tensor's type and every byte.

    Bytes that moved are compared with the input's, computed ones with the checksum taken when they were made. `added`
    is told of bytes that are read, on either side: `bytes_compared` says how many that will be.

    Raises:
        StatexError: SX617.
    """
    for file in reader.files:
        if hasattr(os, "posix_fadvise"):
            # What is only in memory is let go, so that the disk itself is asked.
            os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
    found = [leaf for leaf in leaves(reader.tree) if isinstance(leaf, TensorInfo)]
    wanted = list(_tensors(output))
    if len(found) != len(wanted):
        _differs(reader.path, f"it holds {len(found)} tensors, and {len(wanted)} were written")
    seen: set[Blob] = set()
    for read, written in zip(found, wanted, strict=True):
        if read.type != written.type or read.strides != written.stride:
            _differs(reader.path, f"{written.type} is read back as {read.type}")
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
    _compare_storages(reader, output, added)


def bytes_compared(output: Any, format: str) -> int:
    """Return how many bytes are read to compare an output of a format with the arranged tree that is written."""
    blobs = {one.blob for one in _tensors(output)}
    # In `dcp`, values that share a storage have it each: they are archives of their own.
    storages = list(_storages(output)) if format == "dcp" else set(_storages(output))
    odd = sum(stored.nbytes for stored in storages)
    return sum(2 * blob.nbytes if isinstance(blob, Moved) else blob.nbytes for blob in blobs) + 2 * odd


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
