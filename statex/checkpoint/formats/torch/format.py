"""The files of torch.save: current archives, old pickles, and pickles of numpy arrays, which are read alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from statex.checkpoint.formats.base import Format, ProbedFile

if TYPE_CHECKING:
    from statex.checkpoint.blobs.write_plan import FilePlan
    from statex.checkpoint.reader import Reader
    from statex.checkpoint.writer import Options


class Torch(Format):
    """Nested values of Python with tensors in them, which may share memory."""

    name = "torch"
    title = "a torch file"
    suffixes = (".pth", ".pt", ".bin", ".ckpt")
    stem = "pytorch_model"
    set_suffixes = (".bin", ".pth", ".pt", ".ckpt")
    shares = True
    holds_objects = True
    keeps_metadata = True
    keeps_parameters = True
    records_checksums = True

    def sniff(self, found: ProbedFile) -> bool:
        """Say whether a file is an archive, or begins as a pickle does."""
        from statex.checkpoint.formats.torch.legacy import looks_like_pickle

        return found.archive is not None or looks_like_pickle(found.head)

    def open(self, found: ProbedFile) -> Reader:
        """Return the reader of an archive, of a file of before torch 1.6, or of a pickle of numpy arrays."""
        if found.archive is not None:
            from statex.checkpoint.formats.torch.archive import TorchReader

            return TorchReader(found.path, found.file, found.archive)
        from statex.checkpoint.formats.torch.legacy import MAGIC, LegacyReader

        if MAGIC.match(found.head):
            return LegacyReader(found.path, found.file)
        from statex.checkpoint.formats.torch.numpy_pickle import NumpyPickleReader

        return NumpyPickleReader(found.path, found.file)

    def arrange(self, tree: Any, *, folder: bool) -> Any:
        """Return a tree whose tensors share storage as they did."""
        from statex.checkpoint.blobs import layout
        from statex.checkpoint.formats.packed import for_torch

        tree = for_torch(tree)
        if folder:
            _check_flat(tree)
        return layout.for_torch(tree)

    def file(self, tree: Any, options: Options, name: str) -> FilePlan:
        """Return the archive of torch.save."""
        from statex.checkpoint.formats.torch.layout import archive

        return archive(tree, name)


TORCH = Torch()


def _check_flat(tree: Any) -> None:
    """Refuse what an index cannot name.

    Raises:
        StatexError: SX614.
    """
    from statex.checkpoint.blobs.contents import OutTensor
    from statex.checkpoint.formats.flat_help import leave_out
    from statex.checkpoint.formats.strict_json import is_text
    from statex.core.header import TensorInfo
    from statex.diagnostics import fail
    from statex.diagnostics.codes import files as codes

    items = list(tree.items() if isinstance(tree, Mapping) else [("", tree)])
    unnamed = [key for key, _ in items if not isinstance(key, str) or not is_text(key)]
    if unnamed:
        fail(codes.CANNOT_HOLD, f"the key {unnamed[0]!r} is not text that an index can hold", help="rename it")
    odd = [key for key, value in items if not isinstance(value, TensorInfo | OutTensor)]
    if odd:
        fail(
            codes.CANNOT_HOLD,
            f"a sharded set holds named tensors only, and `{odd[0]}` is not one",
            help=leave_out(tree, lambda key, value: isinstance(value, TensorInfo | OutTensor), "write one file"),
        )
