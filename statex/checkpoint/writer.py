"""Outputs: arranges their content, lays it out, and writes it according to the layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex.checkpoint.atomic.renames import create
from statex.checkpoint.beside import OtherFile, copied_into
from statex.checkpoint.blobs.contents import OutTensor
from statex.checkpoint.blobs.earlier import Earlier
from statex.checkpoint.blobs.output_file import OutputFile, put
from statex.checkpoint.blobs.walks import leaves
from statex.checkpoint.blobs.write_plan import FilePlan, WritePlan
from statex.checkpoint.filenames import FileNames
from statex.checkpoint.formats.base import Format
from statex.checkpoint.sparse import check_sparse
from statex.checkpoint.unread import refuse_unread
from statex.core.header import TensorInfo
from statex.core.progress import Watch
from statex.core.record import node

if TYPE_CHECKING:
    from statex.checkpoint.atomic.staging import Staged
    from statex.checkpoint.atomic.transaction import Transaction


@node
class Options:
    """How an output is written.

    `name` is that of the file, which some formats note in it. `folder` makes it a folder, in files of at most
    `shard_size` bytes (a larger tensor has one of its own), which are called by `names`. `check` compares every input
    byte that has a checksum with it, `keep_crc` keeps those of computed bytes for `compare_written`. `metadata_texts`
    are those beside the tensors, for formats that keep them, `index_metadata` is what else the index of the input says.
    `copy` are files that go into the folder as well. `own` are the names of files, beside those of sets, that may go
    with a folder that is replaced. `watch` hears of bytes as they are written and synced. `earlier` knows what outputs
    written before hold.
    """

    format: Format
    name: str = ""
    force: bool = False
    folder: bool = False
    shard_size: int | None = None
    names: FileNames | None = None
    check: bool = False
    keep_crc: bool = False
    metadata_texts: Mapping[str, str] = field(default_factory=dict)
    index_metadata: Mapping[str, Any] = field(default_factory=dict)
    copy: Sequence[OtherFile] = ()
    own: frozenset[str] = frozenset()
    watch: Watch = field(default_factory=Watch)
    earlier: Earlier | None = None


def arrange(tree: Any, options: Options) -> Any:
    """Return a tree with `OutTensor`s in place of the tensors of inputs, as the format has them.

    Raises:
        StatexError: SX614 for what the format cannot hold.
    """
    if not _holds_tensors_alone(tree):
        refuse_unread(leaves(tree))
    return options.format.arrange(tree, folder=options.folder)


def _holds_tensors_alone(tree: Any) -> bool:
    return isinstance(tree, Mapping) and set(map(type, tree.values())) <= {TensorInfo, OutTensor}


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

    plan = options.format.layout(tree, replace(options, name=Path(path).name))
    with Transaction(alone=True) as outputs:
        stage_checkpoint(outputs, path, plan, options, verify)
        outputs.commit()


def stage_checkpoint(
    outputs: Transaction,
    path: str | os.PathLike[str],
    plan: WritePlan,
    options: Options,
    verify: Callable[[Path], None] = lambda path: None,
) -> Staged:
    """Write an output under a temporary name, synced and verified, until `outputs.commit` gives it its own.

    Raises:
        StatexError: as `write_checkpoint`, and SX624 where another run is writing the same output.
    """

    def write_folder(temporary: Path) -> None:
        plan.format.write_folder(temporary, plan, options)
        for source in options.copy:
            copied_into(temporary, source)
        verify(temporary)

    def write_one(temporary: Path) -> None:
        (file,) = plan.files
        write_file(temporary, file, options)
        verify(temporary)

    def write(temporary: Path) -> None:
        if plan.format.holds_objects:
            check_sparse(plan.tree)
        (write_folder if options.folder else write_one)(temporary)

    if options.folder:
        return outputs.stage_folder(Path(path), write, force=options.force, own=options.own)
    return outputs.stage_file(Path(path), write, force=options.force)


def write_files(folder: Path, plan: WritePlan, options: Options) -> None:
    """Write the files of an output into its folder.

    Raises:
        StatexError: SX604 where an input's checksums do not agree.
        OSError: whatever the system refuses.
    """
    for file in plan.files:
        create(folder / file.name)
        write_file(folder / file.name, file, options)


def write_file(path: Path, plan: FilePlan, options: Options) -> None:
    """Write a file that is there and empty; errors as `write_files`."""
    if plan.is_index:
        file = OutputFile(path)
    else:
        file = OutputFile(path, options.watch, keep_crc=options.keep_crc, earlier=options.earlier)
    try:
        put(file, plan, check=options.check)
        file.finish()
    finally:
        file.close()
