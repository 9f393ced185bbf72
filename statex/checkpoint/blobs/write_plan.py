"""An output as data, before it is written: which bytes go where in which file. It follows from sizes alone.

Who writes an output, prices it, reads it back or shows how far it is goes by this, and so does whoever wants to see it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from statex.checkpoint.blobs.contents import Blob, OutTensor
from statex.checkpoint.blobs.walks import leaves
from statex.core.header import OpaqueInfo
from statex.core.record import record

if TYPE_CHECKING:
    from statex.checkpoint.formats.base import Format

Sums = Mapping["Blob | Derived", int]
"""The CRC-32 of what has been written, where it was not plain bytes."""


class Derived:
    """So many bytes that checksums of what stands before them go into: `make` makes them when these are known."""

    __slots__ = ("make", "nbytes")

    def __init__(self, nbytes: int, make: Callable[[Sums], bytes]) -> None:
        self.nbytes = nbytes
        self.make = make


Content = bytes | Blob | Derived


@record
class FilePart:
    """A run of bytes of a file: where it is, how long, what it is to the format, and the keys of tensors over it.

    `offset` is `None` where torch writes the file, which does not say where it puts what.
    """

    offset: int | None
    nbytes: int
    what: str
    keys: tuple[str, ...]
    content: Content


@record
class FilePlan:
    """A file of an output: its name, and its parts in their order, without a gap.

    `checksums` says that the file records the CRC-32 of tensors' bytes, `is_index` that it only says what others hold.
    """

    name: str
    parts: tuple[FilePart, ...]
    checksums: bool = False
    is_index: bool = False

    @property
    def nbytes(self) -> int:
        """The size of the file; of one that torch writes, that of the tensors in it."""
        return sum([part.nbytes for part in self.parts])


@record
class WritePlan:
    """An output: its format, the arranged tree that it holds, and its files in the order in which they are written."""

    format: Format
    tree: Any
    files: tuple[FilePlan, ...]

    @property
    def blobs(self) -> list[Blob]:
        """The bytes of tensors, as often as they are written."""
        return [part.content for file in self.files for part in file.parts if isinstance(part.content, Blob)]

    @property
    def nbytes(self) -> int:
        """The size of all files."""
        return sum([file.nbytes for file in self.files])

    @property
    def tensor_bytes(self) -> int:
        """The bytes of tensors among them."""
        return sum([blob.nbytes for blob in self.blobs])

    def to_data(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        return {"format": self.format.name, "bytes": self.nbytes, "files": [_file_data(file) for file in self.files]}


def _file_data(file: FilePlan) -> dict[str, Any]:
    parts = [
        {"offset": part.offset, "bytes": part.nbytes, "what": part.what, "keys": list(part.keys)} for part in file.parts
    ]
    return {"name": file.name, "bytes": file.nbytes, "parts": parts}


class FileLayout:
    """Puts parts one after the other."""

    def __init__(self) -> None:
        self.parts: list[FilePart] = []
        self.position = 0
        """Where the next part will be."""

    def add(self, what: str, content: Content, keys: tuple[str, ...] = ()) -> None:
        """Append a part."""
        nbytes = len(content) if isinstance(content, bytes) else content.nbytes
        self.parts.append(FilePart(self.position, nbytes, what, keys, content))
        self.position += nbytes

    def file(self, name: str, *, checksums: bool = False, is_index: bool = False) -> FilePlan:
        """Return the file that the parts make up."""
        return FilePlan(name, tuple(self.parts), checksums, is_index)


def unplaced(name: str, tree: Any) -> FilePlan:
    """Return a file of which it is not known where it has the tensors of a tree, each by itself."""
    keys = keys_of(tree)
    blobs = [leaf.blob for leaf in leaves(tree) if isinstance(leaf, OutTensor)]
    return FilePlan(name, tuple([FilePart(None, blob.nbytes, "tensor", keys.get(blob, ()), blob) for blob in blobs]))


def keys_of(tree: Any) -> dict[Blob, tuple[str, ...]]:
    """Return the keys of the tensors over each blob, nested ones joined with dots."""
    if isinstance(tree, Mapping) and set(map(type, tree.values())) <= {OutTensor}:  # at once, as there may be 100,000
        flat: dict[Blob, tuple[str, ...]] = {tensor.blob: (str(key),) for key, tensor in tree.items()}
        if len(flat) == len(tree):
            return flat
    found: dict[Blob, tuple[str, ...]] = {}
    pending: list[tuple[str, Any]] = [("", tree)]
    seen: set[int] = set()
    while pending:
        path, value = pending.pop()
        if isinstance(value, OutTensor):
            found[value.blob] = (*found.get(value.blob, ()), path)
        elif isinstance(value, Mapping | list | tuple | OpaqueInfo) and id(value) not in seen:
            seen.add(id(value))
            pending += [(f"{path}.{name}" if path else str(name), inner) for name, inner in reversed(_items(value))]
    return found


def _items(value: Any) -> list[tuple[object, Any]]:
    if isinstance(value, OpaqueInfo):
        return [("", value.handle)]
    return list(value.items() if isinstance(value, Mapping) else enumerate(value))
