"""numpy archives (`.npz`): arrays by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from statex.checkpoint.formats.base import Format, ProbedFile
from statex.checkpoint.formats.torch.format import TORCH

if TYPE_CHECKING:
    from statex.checkpoint.blobs.write_plan import FilePlan
    from statex.checkpoint.reader import Reader
    from statex.checkpoint.writer import Options


class Npz(Format):
    """Named arrays."""

    name = "npz"
    title = ".npz"
    suffixes = (".npz",)
    records_checksums = True

    @property
    def successor(self) -> Format:
        """A folder of archives is no checkpoint to anybody: it is one of torch files."""
        return TORCH

    def sniff(self, found: ProbedFile) -> bool:
        """Say whether a file is an archive all of whose members are arrays."""
        from statex.checkpoint.formats.npz.file import looks_like_npz

        return found.archive is not None and looks_like_npz(found.archive)

    def open(self, found: ProbedFile) -> Reader:
        """Return the reader of an archive."""
        from statex.checkpoint.formats.npz.file import NpzReader

        assert found.archive is not None
        return NpzReader(found.path, found.file, found.archive)

    def arrange(self, tree: Any, *, folder: bool) -> Any:
        """Return a flat state, each tensor with bytes of its own."""
        from statex.checkpoint.blobs import layout
        from statex.checkpoint.formats.npz.file import check_holdable
        from statex.core.header import TensorInfo

        check_holdable(tree)
        return {key: layout.alone(value) if isinstance(value, TensorInfo) else value for key, value in tree.items()}

    def file(self, tree: Any, options: Options, name: str) -> FilePlan:
        """Return the archive, its arrays in the order of the state."""
        from statex.checkpoint.formats.npz.file import laid_out

        return laid_out(tree, name)


NPZ = Npz()
