"""Opens a checkpoint by its content: finds its format, or says what else the file may be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from statex.checkpoint.filenames import is_index
from statex.checkpoint.formats.base import Format, ProbedFile
from statex.checkpoint.formats.registry import FORMATS
from statex.checkpoint.formats.safetensors.format import SAFETENSORS
from statex.checkpoint.io.input_file import InputFile
from statex.checkpoint.reader import Reader
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

_MAPS, _TEXTS = (*range(0x81, 0x90), 0xDE, 0xDF), (*range(0xA1, 0xC0), 0xD9)


def _looks_like_msgpack(head: bytes) -> bool:
    """Say whether a file begins as a map whose first key is text."""
    at = {0xDE: 3, 0xDF: 5}.get(head[0], 1) if head else 1
    if len(head) < at + 4 or head[0] not in _MAPS or head[at] not in _TEXTS:
        return False
    start, length = (at + 2, head[at + 1]) if head[at] == 0xD9 else (at + 1, head[at] & 0x1F)
    return head[start : start + length].decode("latin-1").isprintable()


_LOOKS: tuple[tuple[Callable[[bytes], bool], str, str], ...] = (
    (lambda b: b.startswith(b"version https://git-lfs"), "a git-lfs pointer, not the file itself", "git lfs pull"),
    (lambda b: b.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")), "an HTML page",
     "the download gave a page instead of the file: check the address, or log in"),
    (lambda b: b.startswith(b"\x1f\x8b"), "gzip data", "unpack it first: gunzip '{name}'"),
    (lambda b: b[257:262] == b"ustar", "a tar archive",
     "unpack it first: tar -xf '{name}'; torch's own, from before 0.1.10, load in torch and can be saved again there"),
    (lambda b: b.startswith(b"\x93NUMPY"), "one array of numpy (.npy), without a name",
     "give it one: numpy.savez('state.npz', **{{'the.key': numpy.load('{name}')}})"),
    (lambda b: _looks_like_msgpack(b), "msgpack data, such as Flax writes",
     "save it as safetensors there: safetensors.flax.save_file(flax.traverse_util.flatten_dict(state, sep='.'), …)"),
    (lambda b: b.startswith(b"\x89HDF"), "an HDF5 file, which statex does not read", ""),
    (lambda b: b.lstrip().startswith(b"{"), "JSON text", "name the file that holds the weights"),
)  # fmt: skip


def open_checkpoint(path: str | os.PathLike[str]) -> Reader:
    """Open a checkpoint, whatever its name ends in.

    Raises:
        StatexError: SX601 where it cannot be read, SX602 where it is no checkpoint, SX603 where it would run code,
            SX604 where it is damaged.
    """
    path = entry_of(path)
    if os.path.isdir(path):
        format = _of_folder(path)
        assert format is not None, "any other folder is read through a file in it"
        return format.open_folder(path).of(format)
    if is_index(path.name):
        from statex.checkpoint.formats.sharded import ShardedReader

        reader = ShardedReader(path, _open_file)
        return reader.of(next((shard.format for shard in reader.shards.values()), SAFETENSORS))
    return _open_file(path)


def entry_of(path: str | os.PathLike[str]) -> Path:
    """Return the file that a checkpoint is read through: an index, the only file of a folder, a `dcp` folder.

    Raises:
        StatexError: SX602 for a folder that holds no checkpoint, or no single one.
    """
    path = Path(path)
    if not os.path.isdir(path) or _of_folder(path) is not None:
        return path
    from statex.checkpoint.formats.sharded import in_folder

    return in_folder(path)


def _of_folder(folder: Path) -> Format | None:
    return next((one for one in FORMATS if one.sniff_folder(folder)), None)


def _open_file(path: Path) -> Reader:
    file = InputFile(path)
    try:
        if not file.size:
            fail(codes.NOT_A_CHECKPOINT, f"`{path}` is empty")
        found = ProbedFile(path, file)
        format = next((one for one in FORMATS if one.sniff(found)), None)
        if format is None:
            _refuse(path, found.head)
        return format.open(found).of(format)
    except BaseException:
        file.close()
        raise


def _refuse(path: Path, head: bytes) -> NoReturn:
    for test, what, fix in _LOOKS:
        if test(head):
            fail(codes.NOT_A_CHECKPOINT, f"`{path}` is {what}", help=fix.format(name=path.name) or ())
    fail(
        codes.NOT_A_CHECKPOINT,
        f"`{path}` is neither a torch file nor safetensors",
        notes=[f"it begins with {head[:8]!r}"],
        help="a truncated download of a safetensors file can look like this too",
    )
