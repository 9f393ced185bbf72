"""Folders of torch.distributed.checkpoint, which torch itself writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex.checkpoint.formats.base import Format

if TYPE_CHECKING:
    from statex.checkpoint.blobs.write_plan import WritePlan
    from statex.checkpoint.reader import Reader
    from statex.checkpoint.writer import Options

HEADER = ".metadata"


class Distributed(Format):
    """Nested dicts and lists of tensors and values; each tensor is saved by itself, whatever it shares."""

    name = "dcp"
    title = "torch.distributed.checkpoint"
    is_folder = True
    holds_objects = True
    by_torch = True

    def sniff_folder(self, folder: Path) -> bool:
        """Say whether a folder has the header of such a checkpoint."""
        return os.path.exists(folder / HEADER)

    def open_folder(self, folder: Path) -> Reader:
        """Return the reader of a folder."""
        from statex.checkpoint.formats.dcp.folder import DistributedReader

        return DistributedReader(folder)

    def arrange(self, tree: Any, *, folder: bool) -> Any:
        """Return a tree in which each tensor of a file has bytes of its own."""
        from statex.checkpoint.blobs import layout
        from statex.checkpoint.blobs.walks import mapped
        from statex.checkpoint.formats.packed import for_torch
        from statex.checkpoint.io.input_file import Stored
        from statex.core.header import TensorInfo

        def alone(leaf: Any) -> Any:
            is_stored = isinstance(leaf, TensorInfo) and isinstance(leaf.handle, Stored)
            return layout.alone(leaf) if is_stored else leaf

        return mapped(for_torch(tree), alone)

    def layout(self, tree: Any, options: Options) -> WritePlan:
        """Return the tensors of an output; torch does not say where in its files they will be."""
        from statex.checkpoint.blobs.write_plan import WritePlan, unplaced

        return WritePlan(self, tree, (unplaced("*.distcp", tree),))

    def write_folder(self, folder: Path, plan: WritePlan, options: Options) -> None:
        """Have torch write an output into its folder.

        Raises:
            StatexError: SX604 for an input whose checksums do not agree, SX612 where torch cannot write.
            OSError: whatever the system refuses.
        """
        from statex.checkpoint.formats.dcp.folder import write_distributed

        write_distributed(folder, plan.tree, options.watch)


DCP = Distributed()
