"""Reads an output again and compares it with what it was to hold."""

from __future__ import annotations

import os
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


def compare_written(reader: Reader, output: Any) -> None:
    """Compare a reopened output with the arranged tree that was written: every tensor's type and every byte.

    Bytes that moved are compared with the input's, computed ones with the checksum taken when they were made.

    Raises:
        StatexError: SX617.
    """
    for file in reader.files:
        if hasattr(os, "posix_fadvise"):
            # What is only in memory is let go, so that the disk itself is asked.
            os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
    found = [leaf for leaf in leaves(reader.tree) if isinstance(leaf, TensorInfo)]
    wanted = [leaf for leaf in leaves(output) if isinstance(leaf, OutTensor)]
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
            found_crc, name = stored.extent.file.crc32(stored.extent.offset, stored.nbytes), stored.name
        else:
            found_crc, name = _loaded_crc(reader.load(read)), str(stored)
        if found_crc != _crc(written.blob):
            _differs(reader.path, f"the bytes of `{name}` are not those that were written")
    _compare_storages(reader, output)


def _compare_storages(reader: Reader, output: Any) -> None:
    """Compare the storages of quantized, sparse and other tensors that are no plain ones."""
    found = [leaf.handle for leaf in leaves(reader.tree) if isinstance(leaf, Storage)]
    wanted = [leaf.handle for leaf in leaves(output) if isinstance(leaf, Storage)]
    if len(found) != len(wanted):
        _differs(reader.path, f"it holds {len(found)} storages of odd tensors, and {len(wanted)} were written")
    for read, written in dict.fromkeys(zip(found, wanted, strict=True)):
        if read.nbytes != written.nbytes or _stored_crc(read) != _stored_crc(written):
            _differs(reader.path, f"the bytes of `{read.name}` are not those that were written")


def _stored_crc(stored: Stored) -> int:
    return stored.extent.file.crc32(stored.extent.offset, stored.nbytes)


def _loaded_crc(tensor: Any) -> int:
    """Return the CRC-32 of a contiguous tensor that a library has read."""
    import torch

    return crc32(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))


def _crc(blob: Blob) -> int | None:
    if isinstance(blob, Made):
        return blob.crc
    assert isinstance(blob, Moved)
    value = 0
    for run in blob.runs:
        extent = run.extent
        value = combined(value, extent.file.crc32(extent.offset, extent.nbytes), extent.nbytes)
    return value


def _differs(path: Path, why: str) -> NoReturn:
    fail(
        codes.WRITTEN_DIFFERS,
        f"the output is not what was written: {why}",
        help="the disk or its driver is at fault: check the system's log",
    )
