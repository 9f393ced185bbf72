"""What every format's reader offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from statex.header import TensorInfo


class Reader(ABC):
    """An opened checkpoint: a tree of headers at once, data on demand; a context manager.

    `tree` is what the file holds with each tensor replaced by its `TensorInfo` (see `statex.nesting`).
    """

    format: str

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def tree(self) -> Any:
        """The nested content, tensors as headers."""

    @abstractmethod
    def load(self, info: TensorInfo) -> Any:
        """Return a tensor of the tree as a torch tensor (a Parameter where it was saved as one)."""

    def close(self) -> None:  # noqa: B027 - most readers hold nothing open
        """Let go of the file."""

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
