"""Which format an input has, by its content, and which one an output gets, by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from statex.checkpoint.distributed import HEADER, DistributedReader
from statex.checkpoint.filenames import is_index
from statex.checkpoint.input_file import InputFile
from statex.checkpoint.legacy_file import MAGIC, LegacyReader, looks_like_pickle
from statex.checkpoint.npz_file import NpzReader, looks_like_npz
from statex.checkpoint.numpy_pickle import NumpyPickleReader
from statex.checkpoint.reader import Reader
from statex.checkpoint.safetensors_file import SafetensorsReader, looks_like_safetensors
from statex.checkpoint.sharded import ShardedReader, in_folder
from statex.checkpoint.torch_file import ZIP, TorchReader
from statex.checkpoint.zip_directory import ZipDirectory
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

FORMATS: Mapping[str, tuple[str, ...]] = {
    "torch": (".pth", ".pt", ".bin", ".ckpt"),
    "safetensors": (".safetensors",),
    "dcp": (),
}
"""The formats that are written, with the endings that mean them; `dcp` is a folder of torch.distributed.checkpoint."""

_HEAD = 512

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
    (lambda b: b.startswith(b"GGUF"), "a GGUF file, which statex does not read", "convert from the original weights"),
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
        return DistributedReader(path)
    if is_index(path.name):
        return ShardedReader(path, _open_file)
    return _open_file(path)


def entry_of(path: str | os.PathLike[str]) -> Path:
    """Return the file that a checkpoint is read through: an index, the only file of a folder, a `dcp` folder.

    Raises:
        StatexError: SX602 for a folder that holds no checkpoint, or no single one.
    """
    path = Path(path)
    return in_folder(path) if os.path.isdir(path) and not os.path.exists(path / HEADER) else path


def _open_file(path: Path) -> Reader:
    file = InputFile(path)
    try:
        return _reader(path, file)
    except BaseException:
        file.close()
        raise


def _reader(path: Path, file: InputFile) -> Reader:
    if not file.size:
        fail(codes.NOT_A_CHECKPOINT, f"`{path}` is empty")
    head = file.read(0, min(_HEAD, file.size))
    if head.startswith(ZIP):
        directory = ZipDirectory(file)
        return NpzReader(path, file, directory) if looks_like_npz(directory) else TorchReader(path, file, directory)
    if MAGIC.match(head):
        return LegacyReader(path, file)
    if looks_like_safetensors(head, file.size):
        return SafetensorsReader(path, file)
    if looks_like_pickle(head):
        return NumpyPickleReader(path, file)
    _refuse(path, head)


def _refuse(path: Path, head: bytes) -> NoReturn:
    for test, what, mend in _LOOKS:
        if test(head):
            fail(codes.NOT_A_CHECKPOINT, f"`{path}` is {what}", help=mend.format(name=path.name) or ())
    fail(
        codes.NOT_A_CHECKPOINT,
        f"`{path}` is neither a torch file nor safetensors",
        notes=[f"it begins with {head[:8]!r}"],
        help="a truncated download of a safetensors file can look like this too",
    )


def format_for(path: str | os.PathLike[str], explicit: str | None = None, option: str = "`--format`") -> str:
    """Return the format an output file gets: the one asked for (by `option`), or else what its ending means.

    Raises:
        StatexError: SX613.
    """
    if explicit is not None:
        return known_format(explicit)
    found = format_of_name(path)
    if found is not None:
        return found
    known = ", ".join(s for suffixes in FORMATS.values() for s in suffixes)
    fail(
        codes.UNKNOWN_FORMAT,
        f"the ending of `{Path(path).name}` says no format",
        help=[
            f"end it in one of {known}, or give {option}",
            "a name that ends in / is a folder of shards",
        ],
    )


def known_format(name: str) -> str:
    """Return the name of a format.

    Raises:
        StatexError: SX613 where there is none of this name.
    """
    if name not in FORMATS:
        fail(codes.UNKNOWN_FORMAT, f"there is no format `{name}`", help=f"formats are {', '.join(FORMATS)}")
    return name


def format_of_name(path: str | os.PathLike[str]) -> str | None:
    """Return the format a name's ending means, if any."""
    suffix = Path(path).suffix.lower()
    return next((name for name, suffixes in FORMATS.items() if suffix in suffixes), None)
