"""Which format a file has, by its content, and which one an output gets, by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from statex.checkpoint.output import write_atomically
from statex.checkpoint.reader import Reader
from statex.checkpoint.safetensors_file import SafetensorsReader, looks_like_safetensors, save_safetensors
from statex.checkpoint.torch_file import TorchReader, looks_like_torch, save_torch
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

FORMATS: Mapping[str, tuple[str, ...]] = {
    "torch": (".pth", ".pt", ".bin", ".ckpt"),
    "safetensors": (".safetensors",),
}
"""The formats that are written, with the endings that mean them."""

_WRITERS: Mapping[str, Callable[[Path, Any], None]] = {"torch": save_torch, "safetensors": save_safetensors}

_HEAD = 512

_LOOKS: tuple[tuple[Callable[[bytes], bool], str, str], ...] = (
    (lambda b: b.startswith(b"version https://git-lfs"), "a git-lfs pointer, not the file itself", "git lfs pull"),
    (lambda b: b.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")), "an HTML page",
     "the download gave a page instead of the file: check the address, or log in"),
    (lambda b: b.startswith(b"\x1f\x8b"), "gzip data", "unpack it first: gunzip"),
    (lambda b: b.startswith(b"GGUF"), "a GGUF file, which statex does not read", "convert from the original weights"),
    (lambda b: b[257:262] == b"ustar", "a tar archive", "unpack it first: tar -xf"),
    (lambda b: b.startswith(b"\x89HDF"), "an HDF5 file, which statex does not read", ""),
    (lambda b: b.lstrip().startswith(b"{"), "JSON text", "name the file that holds the weights"),
)  # fmt: skip


def open_checkpoint(path: str | os.PathLike[str]) -> Reader:
    """Open a checkpoint, whatever its name ends in.

    Raises:
        StatexError: SX601 where it cannot be read, SX602 where it is no checkpoint, SX603 where it would run code,
            SX604 where it is damaged.
    """
    path = Path(path)
    try:
        if path.is_dir():
            fail(codes.NOT_A_CHECKPOINT, f"`{path}` is a folder", help="name a file in it")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        fail(codes.UNREADABLE, f"`{path}` cannot be read: {error.strerror or error}")
    if not size:
        fail(codes.NOT_A_CHECKPOINT, f"`{path}` is empty")
    if looks_like_torch(head):
        return TorchReader(path)
    if looks_like_safetensors(head, size):
        return SafetensorsReader(path)
    _refuse(path, head)


def _refuse(path: Path, head: bytes) -> NoReturn:
    for test, what, mend in _LOOKS:
        if test(head):
            fail(codes.NOT_A_CHECKPOINT, f"`{path}` is {what}", help=mend or ())
    fail(
        codes.NOT_A_CHECKPOINT,
        f"`{path}` is neither a torch file nor safetensors",
        notes=[f"it begins with {head[:8]!r}"],
        help="a truncated download of a safetensors file can look like this too",
    )


def format_for(path: str | os.PathLike[str], explicit: str | None = None) -> str:
    """Return the format an output gets: the one asked for, or else what its ending means.

    Raises:
        StatexError: SX613.
    """
    if explicit is not None:
        if explicit not in FORMATS:
            fail(codes.UNKNOWN_FORMAT, f"there is no format `{explicit}`", help=f"formats are {', '.join(FORMATS)}")
        return explicit
    suffix = Path(path).suffix.lower()
    for name, suffixes in FORMATS.items():
        if suffix in suffixes:
            return name
    known = ", ".join(s for suffixes in FORMATS.values() for s in suffixes)
    fail(
        codes.UNKNOWN_FORMAT,
        f"the ending of `{Path(path).name}` says no format",
        help=f"end it in one of {known}, or give `--format`",
    )


def write_checkpoint(
    path: str | os.PathLike[str], tree: Any, *, format: str | None = None, force: bool = False
) -> None:
    """Write a tree of torch tensors; the file appears whole or not at all.

    A view is written compactly, tied tensors stay tied where the format can say so.

    Raises:
        StatexError: SX610 where it exists and `force` is false, SX612 where it cannot be written, SX614 where the
            format cannot hold it.
    """
    save = _WRITERS[format_for(path, format)]
    write_atomically(Path(path), lambda temporary: save(temporary, tree), force=force)
