"""Archives of numpy (`.npz`): arrays by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from statex.checkpoint.formats.base import Format, Found
from statex.checkpoint.formats.torch import TORCH

if TYPE_CHECKING:
    from statex.checkpoint.reader import Reader


class Npz(Format):
    """Named arrays."""

    name = "npz"
    title = ".npz"
    is_written = False

    @property
    def successor(self) -> Format:
        """A folder of archives is no checkpoint to anybody: it is one of torch files."""
        return TORCH

    def sniff(self, found: Found) -> bool:
        """Say whether a file is an archive all of whose members are arrays."""
        from statex.checkpoint.npz_file import looks_like_npz

        return found.archive is not None and looks_like_npz(found.archive)

    def open(self, found: Found) -> Reader:
        """Return the reader of an archive."""
        from statex.checkpoint.npz_file import NpzReader

        assert found.archive is not None
        return NpzReader(found.path, found.file, found.archive)


NPZ = Npz()
