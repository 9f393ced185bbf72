"""The interface of every format's reader: a tree of headers at once, bytes and tensors on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from statex.checkpoint.io.input_file import InputFile

if TYPE_CHECKING:
    from statex.checkpoint.formats.base import Format
    from statex.checkpoint.materialize import Materializer


class Reader(ABC):
    """An opened checkpoint; a context manager.

    `tree` is what the file holds with each tensor replaced by its `TensorInfo` (see `statex.trees.envelope`), whose
    `handle` is the `Stored` bytes that its offset and strides are over.
    """

    format: Format

    def __init__(self, path: Path, files: Sequence[InputFile]) -> None:
        self.path = path
        self.files = list(files)
        self.metadata_texts: Mapping[str, str] = {}
        """Texts by name that the format keeps beside the tensors: `__metadata__` of safetensors, without the versions
        of layouts, which are in the `_metadata` of the tree."""
        self.left_texts: Sequence[str] = ()
        """The names of what stands beside the tensors and is too long to be kept: vocabularies in GGUF."""
        self.index_metadata: Mapping[str, Any] = {}
        """What the index of a set says of it besides, which is JSON."""
        self.pickled = 0
        """Bytes of its pickle, which holds what is no tensor; tensors' headers aside, all of it stays in memory."""
        self._materializer: Materializer | None = None

    @property
    @abstractmethod
    def tree(self) -> Any:
        """The nested content, tensors as headers."""

    def load(self, info: Any) -> Any:
        """Return what a leaf of the tree stands for; plain values are themselves.

        A tensor is torch's (a Parameter where it was saved as one); what shares storage goes on sharing it.

        Raises:
            StatexError: SX601, SX604, SX609.
        """
        if self._materializer is None:
            from statex.checkpoint.materialize import Materializer

            self._materializer = Materializer(keep=True)
        return self._materializer.value(info)

    def of(self, format: Format) -> Self:
        """Note which format it was opened as, and return it."""
        self.format = format
        return self

    def check_unchanged(self) -> None:
        """Refuse to go on where a file has been written to since it was opened.

        Raises:
            StatexError: SX609.
        """
        for file in self.files:
            file.check_unchanged()

    def close(self) -> None:
        """Let go of the files."""
        self._materializer = None
        for file in self.files:
            file.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
