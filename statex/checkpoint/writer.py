"""Outputs: one file, or a folder with a set of files and their index."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex.checkpoint import layout
from statex.checkpoint.atomic.renames import create
from statex.checkpoint.beside import OtherFile, copied_into
from statex.checkpoint.contents import OutTensor
from statex.checkpoint.distributed import write_distributed
from statex.checkpoint.earlier import Earlier
from statex.checkpoint.filenames import Names, usual_names
from statex.checkpoint.flat_help import leave_out
from statex.checkpoint.input_file import Stored
from statex.checkpoint.output_file import OutputFile
from statex.checkpoint.packed import for_safetensors, for_torch
from statex.checkpoint.safetensors_file import check_holdable, write_safetensors
from statex.checkpoint.sparse import check_sparse
from statex.checkpoint.strict_json import is_text
from statex.checkpoint.torch_writer import TorchWriter
from statex.checkpoint.unread import refuse_unread
from statex.checkpoint.walks import leaves, mapped
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.header import TensorInfo
from statex.progress import Watch

if TYPE_CHECKING:
    from statex.checkpoint.atomic.staging import Staged
    from statex.checkpoint.atomic.transaction import Transaction


@dataclass(frozen=True)
class Options:
    """How an output is written.

    `folder` makes it a folder, in files of at most `shard_size` bytes (a larger tensor has one of its own), which are
    called by `names`. `check`
    compares every input byte that has a checksum with it, `keep_crc` keeps those of computed bytes for
    `compare_written`. `notes` are texts that safetensors keeps beside the tensors, `index` is what the index of the
    input says besides.
    `copy` are files that go into the folder as well. `large` writes past the page cache, where the file system
    lets us. `own` are the names of files, beside those of sets, that may go with a folder that is replaced.
    `watch` hears of bytes as they are written and synced. `earlier` knows what outputs written before hold.
    """

    format: str
    force: bool = False
    folder: bool = False
    shard_size: int | None = None
    names: Names | None = None
    check: bool = False
    keep_crc: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    index: Mapping[str, Any] = field(default_factory=dict)
    copy: Sequence[OtherFile] = ()
    own: frozenset[str] = frozenset()
    large: bool = False
    watch: Watch = field(default_factory=Watch)
    earlier: Earlier | None = None


def arrange(tree: Any, options: Options) -> Any:
    """Return a tree with `OutTensor`s in place of the tensors of inputs, as the format lays them out.

    Raises:
        StatexError: SX614 for what the format cannot hold.
    """
    if not _holds_tensors_alone(tree):
        refuse_unread(leaves(tree))
    if options.format == "safetensors":
        check_holdable(tree)
        return {key: for_safetensors(layout.alone(v) if isinstance(v, TensorInfo) else v) for key, v in tree.items()}
    tree = for_torch(tree)
    if options.format == "dcp":
        # Each tensor is saved by itself there, whatever it shares.
        return mapped(tree, lambda leaf: layout.alone(leaf) if _is_stored(leaf) else leaf)
    if options.folder and options.format == "torch":
        _check_flat(tree)
    return layout.for_torch(tree)


def _holds_tensors_alone(tree: Any) -> bool:
    return isinstance(tree, Mapping) and set(map(type, tree.values())) <= {TensorInfo, OutTensor}


def _is_stored(leaf: Any) -> bool:
    return isinstance(leaf, TensorInfo) and isinstance(leaf.handle, Stored)


def _check_flat(tree: Any) -> None:
    items = tree.items() if isinstance(tree, Mapping) else [("", tree)]
    items = list(items)
    unnamed = [key for key, _ in items if not isinstance(key, str) or not is_text(key)]
    if unnamed:
        fail(codes.CANNOT_HOLD, f"the key {unnamed[0]!r} is no text that an index can hold", help="rename it")
    odd = [key for key, value in items if not isinstance(value, TensorInfo | OutTensor)]
    if odd:
        fail(
            codes.CANNOT_HOLD,
            f"a sharded set holds named tensors only, and `{odd[0]}` is not one",
            help=leave_out(tree, lambda key, value: isinstance(value, TensorInfo | OutTensor), "write one file"),
        )


def write_checkpoint(
    path: str | os.PathLike[str], tree: Any, options: Options, verify: Callable[[Path], None] = lambda path: None
) -> None:
    """Write an arranged tree; it appears whole or not at all.

    `verify` gets what was written (a file or a folder) before it appears, and raises where something is wrong.

    Raises:
        StatexError: SX610 where it exists and `force` is false, SX612 where it cannot be written, SX604 where an
            input's checksums do not agree.
    """
    from statex.checkpoint.atomic.transaction import Transaction

    with Transaction(alone=True) as outputs:
        stage_checkpoint(outputs, path, tree, options, verify)
        outputs.commit()


def stage_checkpoint(
    outputs: Transaction,
    path: str | os.PathLike[str],
    tree: Any,
    options: Options,
    verify: Callable[[Path], None] = lambda path: None,
) -> Staged:
    """Write an arranged tree under a temporary name, synced and verified, until `outputs.commit` gives it its own.

    Raises:
        StatexError: as `write_checkpoint`, and SX624 where another run is writing the same output.
    """
    final = Path(path)

    def write_folder(temporary: Path) -> None:
        if options.format == "dcp":
            check_sparse(tree)
            write_distributed(temporary, tree, options.watch)
        else:
            _write_set(temporary, tree, options)
        for source in options.copy:
            copied_into(temporary, source)
        verify(temporary)

    def write_file(temporary: Path) -> None:
        _write_file(temporary, tree, options, final.name)
        verify(temporary)

    if options.folder:
        return outputs.stage_folder(final, write_folder, force=options.force, own=options.own)
    return outputs.stage_file(final, write_file, force=options.force)


def _write_file(path: Path, tree: Any, options: Options, name: str) -> None:
    file = OutputFile(path, options.watch, keep_crc=options.keep_crc, large=options.large, earlier=options.earlier)
    try:
        if options.format == "safetensors":
            write_safetensors(file, tree, options.notes, options.check)
        else:
            check_sparse(tree)
            TorchWriter(file, _folder_name(name), check=options.check).write(tree)
        file.finish()
    finally:
        file.close()


def _folder_name(name: str) -> str:
    """Return the name of the folder inside an archive: torch.save takes that of the file, where it is text."""
    stem = name.rpartition(".")[0] or name
    return stem if stem and is_text(stem) else "archive"


def _write_set(folder: Path, tree: Mapping[str, OutTensor], options: Options) -> None:
    shards = shards_of(tree, options.shard_size, shares=options.format == "torch")
    called = options.names or usual_names(options.format)
    names = called.files(len(shards))
    for name, keys in zip(names, shards, strict=True):
        create(folder / name)
        _write_file(folder / name, _part(tree, keys), options, name)
    if len(shards) > 1:
        weights = {key: name for name, keys in zip(names, shards, strict=True) for key in keys}
        ordered = {key: weights[key] for key in tree}
        text = json.dumps(
            {"metadata": _counted(tree, options.index), "weight_map": ordered}, indent=2, ensure_ascii=False
        )
        _write_bytes(folder / called.index, text.encode("utf-8") + b"\n")


def _counted(tree: Mapping[str, OutTensor], index: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the index of an input says with the numbers of the output."""
    types = [tensor.type for tensor in tree.values()]
    counted = dict(index) | {"total_size": sum(kind.nbytes for kind in types)}
    if "total_parameters" in index:
        counted["total_parameters"] = sum(kind.numel for kind in types)
    return counted


def _part(tree: Mapping[str, OutTensor], keys: Sequence[str]) -> Mapping[str, OutTensor]:
    """Return the entries of a file, with the `_metadata` of the whole state."""
    metadata = getattr(tree, "_metadata", None)
    part: Any = {key: tree[key] for key in keys} if metadata is None else OrderedDict((key, tree[key]) for key in keys)
    if metadata is not None:
        part._metadata = metadata
    return part  # type: ignore[no-any-return]


def shards_of(tree: Mapping[str, OutTensor], limit: int | None, *, shares: bool) -> list[list[str]]:
    """Return the keys of each file, in their order: files are filled up to the limit.

    With `shares`, tensors over one storage are in one file, and count once.
    """
    together: dict[object, list[str]] = {}
    for key, tensor in tree.items():
        together.setdefault(tensor.blob if shares else key, []).append(key)
    count, filled = 0, 0
    places: dict[str, int] = {}
    for keys in together.values():
        size = tree[keys[0]].blob.nbytes
        if limit is not None and filled and filled + size > limit:
            count, filled = count + 1, 0
        places.update(dict.fromkeys(keys, count))
        filled += size
    shards: list[list[str]] = [[] for _ in range(count + 1)]
    for key in tree:
        shards[places[key]].append(key)
    return shards


def _write_bytes(path: Path, data: bytes) -> None:
    create(path)
    file = OutputFile(path)
    try:
        file.write(data)
        file.finish()
    finally:
        file.close()
