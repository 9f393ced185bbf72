"""A checkpoint opened only for its values, without importing anything about rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from statex.checkpoint.blobs.contents import OutTensor
from statex.checkpoint.blobs.layout import dense
from statex.core import garbage
from statex.core.header import TensorInfo, TensorType
from statex.core.paths import Address
from statex.diagnostics import Diagnostic
from statex.execute.heap import Heap
from statex.execute.readable import readable
from statex.session.opened import Opened
from statex.session.settling import Telling, settle, telling


class Bare(Telling):
    """The state of a checkpoint at a root, or where it is found; a context manager that closes the files.

    Raises:
        StatexError: 6xx.
    """

    warnings: tuple[Diagnostic, ...] = ()
    """None: nothing is done to it."""

    def __init__(self, path: Path, root: Address | None = None) -> None:
        self.before = settle([path])
        with telling(self.before), garbage.paused():
            self._opened = Opened(path)
            try:
                self._header = self._opened.header(root)
            except BaseException:
                self.close()
                raise

    @property
    def label(self) -> str:
        """The name of the checkpoint."""
        return self._opened.label

    @property
    def types(self) -> Mapping[str, TensorType | None]:
        """The types by key; `None` for what is not a dense tensor."""
        return {key: one.type if isinstance(one, TensorInfo) else None for key, one in self._header.entries.items()}

    def tensors(self) -> Mapping[str, OutTensor]:
        """Return the tensors, each with bytes of its own that can be read in their order."""
        heap = Heap()
        entries = self._header.entries.items()
        return dense({key: self._readable(one, heap) for key, one in entries if isinstance(one, TensorInfo)})

    def _readable(self, info: TensorInfo, heap: Heap) -> TensorInfo | OutTensor:
        return readable(info, lambda: self._opened.load(info), heap)

    def close(self) -> None:
        """Close the files."""
        self._opened.close()
