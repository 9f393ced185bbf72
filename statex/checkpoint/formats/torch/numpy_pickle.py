"""Pickles of numpy arrays (`.pkl`), as published by detectron2 and others; Python 2 may have written them.

Arrays are recognised by the calls that make them (numpy/_core/src/multiarray/methods.c, numpy/_core/numeric.py), and
stay in the file until they are needed.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

from statex.checkpoint.blobs.made_file import Workshop
from statex.checkpoint.blobs.walks import mapped
from statex.checkpoint.formats.npy import ArrayType, array_type, columns_first, swapped
from statex.checkpoint.formats.torch.harmless import harms
from statex.checkpoint.formats.torch.pickle_reader import PickleReader, unsafe
from statex.checkpoint.formats.torch.rebuild import TorchObjects
from statex.checkpoint.io.input_file import SLICE, Extent, InputFile, Stored
from statex.checkpoint.objects import ENCODE, ForeignCall, Global
from statex.checkpoint.reader import Reader
from statex.core.foreign import Foreign
from statex.core.header import TensorInfo, TensorType
from statex.core.record import record
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

_LARGE = 4096
"""Bytes from which on data stays in the file."""
_LONGEST_LINE = 1 << 14
_RECONSTRUCT = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_FROM_BUFFER = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")


@record
class Large:
    """Data of a pickle that stays in the file: where it is, and what it stands for.

    That is `bytes`, `text` in UTF-8, `old text` of Python 2 (which may be bytes), or `encoded`: bytes as such a text.
    """

    start: int
    size: int
    kind: str


class NumpyPickleReader(Reader):
    """A pickle that holds arrays; it is converted as a torch file is."""

    def __init__(self, path: Path, file: InputFile) -> None:
        super().__init__(path, [file])
        self._file = file
        self._workshop = Workshop(path)
        tree = _Pickle(file, str(path), self._build(TorchObjects(str(path), self._no_storage))).read()
        arrays = dict(self._arrays(tree))
        if not arrays:
            self._refuse(tree)
        self._tree = mapped(tree, self._value, arrays)

    @property
    def tree(self) -> Any:
        """The nested content, arrays as headers of tensors."""
        return self._tree

    def _no_storage(self, key: str, nbytes: int, location: str) -> Stored:
        self._file.damaged("it names a storage")

    def _build(self, objects: TorchObjects) -> Callable[[Global, tuple[Any, ...]], Any]:
        def build(function: Global, arguments: tuple[Any, ...]) -> Any:
            if function == ENCODE and len(arguments) == 2 and isinstance(arguments[0], Large):
                return Large(arguments[0].start, arguments[0].size, "encoded")
            return objects.build(function, arguments)

        return build

    def _refuse(self, tree: Any) -> None:
        """Raise what is wrong with a pickle without arrays: the first thing that it would have run, if any."""
        found = [one for one in _plain(tree) if isinstance(one, Foreign)]
        if found:
            unsafe(str(self.path), next((name for one in found for name in harms(one)), found[0].name))
        fail(
            codes.NOT_A_CHECKPOINT,
            f"`{self.path}` is a pickle of plain values, and neither one of torch.save nor one of numpy arrays",
        )

    def _arrays(self, tree: Any) -> Iterator[tuple[int, TensorInfo]]:
        """Yield the arrays that stand in plain containers, by the ids of the objects that they are read as."""
        for one in _plain(tree):
            described = _described(one) if isinstance(one, Foreign) else None
            if described is not None and described[0].dtype is not None:
                yield id(one), self._info(*described)

    def _info(self, kind: ArrayType, data: Any) -> TensorInfo:
        assert kind.dtype is not None
        tensor = TensorType(kind.dtype, kind.shape)
        if not isinstance(data, Large | bytes | str):
            self._file.damaged(f"an array of numpy is {tensor}, and has no bytes")
        raw = isinstance(data, Large) and data.kind != "encoded"
        size = data.size if isinstance(data, Large) else len(data)
        if (raw or not isinstance(data, Large)) and size != tensor.nbytes:
            self._file.damaged(f"an array of numpy is {tensor}, and has {size} bytes")
        if isinstance(data, Large) and raw and not kind.big_endian:
            extent = Extent(self._file, data.start, size)
        else:
            extent = Extent(self._workshop.file(tensor.nbytes, lambda: self._made(kind, data)), 0, tensor.nbytes)
        stored = Stored(extent, None, f"an array at byte {data.start}" if isinstance(data, Large) else "an array")
        stride = columns_first(kind.shape) if kind.fortran else None
        return TensorInfo(tensor, stored if tensor.nbytes else None, 0, stride, handle=stored)

    def _made(self, kind: ArrayType, data: Any) -> Iterator[bytes]:
        assert kind.dtype is not None
        parts = self._parts(data)
        yield from swapped(parts, kind.dtype) if kind.big_endian else parts

    def _parts(self, data: Any) -> Iterator[bytes]:
        """Yield the bytes that data of a pickle stands for."""
        if not isinstance(data, Large):
            yield data.encode("latin-1") if isinstance(data, str) else data
            return
        text = codecs.getincrementaldecoder("utf-8")()
        for at in range(data.start, data.start + data.size, SLICE):
            part = self._file.read(at, min(SLICE, data.start + data.size - at))
            try:
                yield text.decode(part).encode("latin-1") if data.kind == "encoded" else part
            except UnicodeError:
                self._file.damaged("bytes are made of something other than text")

    def _value(self, leaf: Any) -> Any:
        """Return what is no array with the data that has stayed in the file."""
        if not isinstance(leaf, Large):
            return leaf
        data = b"".join(self._parts(leaf))
        if leaf.kind in ("bytes", "encoded"):
            return data
        return data.decode("utf-8" if leaf.kind == "text" else "latin-1", "surrogatepass")

    def close(self) -> None:
        """Let go of the file, and of what was made of it."""
        super().close()
        self._workshop.close()


def _plain(tree: Any) -> Iterator[Any]:
    """Yield what stands in plain containers, each once."""
    pending, seen = [tree], set()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            pending.extend(reversed(value.values()))
        elif isinstance(value, list | tuple):
            pending.extend(reversed(value))
        else:
            yield value


def _described(one: Foreign) -> tuple[ArrayType, Any] | None:
    """Return the type of an array and its data; `None` for any other object."""
    name = str(getattr(one.function, "function", one.function)) if one.how == "call" else ""
    if name in _RECONSTRUCT and isinstance(one.state, tuple) and len(one.state) in (4, 5):
        shape, dtype, fortran, data = one.state[-4:]
    elif name in _FROM_BUFFER and isinstance(one.arguments, tuple) and len(one.arguments) == 4:
        data, dtype, shape, order = one.arguments
        fortran = order == "F"
        if isinstance(data, ForeignCall) and len(data.arguments) == 1:  # a bytearray
            data = data.arguments[0]
    else:
        return None
    if not isinstance(dtype, Foreign) or dtype.name != "numpy.dtype" or not isinstance(dtype.arguments, tuple):
        return None
    code, order = dtype.arguments[:1], dtype.state[1:2] if isinstance(dtype.state, tuple) else ()
    fortran = bool(fortran) if isinstance(fortran, bool | int) else fortran
    found = array_type(code[0] if code else None, shape, fortran, str(order[0]) if order else "")
    return (found, data) if found is not None and prod(found.shape) < 2**60 else None


class _Pickle(PickleReader):
    """A pickle that is read from its file as it goes on; large data is left there."""

    def __init__(self, file: InputFile, label: str, build: Callable[[Global, tuple[Any, ...]], Any]) -> None:
        data: Any = _Window(file)
        super().__init__(data, label, lambda id: file.damaged("it names a storage"), build, foreign=True)

    def _number(self, layout: Any) -> int:
        (value,) = layout.unpack(self._bytes(layout.size))
        return int(value)

    def raw(self, count: int) -> Any:
        """Return bytes."""
        return self._large(count, "bytes") if count >= _LARGE else super().raw(count)

    def text(self, count: int) -> Any:
        """Return text."""
        return self._large(count, "text") if count >= _LARGE else super().text(count)

    def old_text(self, count: int) -> Any:
        """Return text of Python 2, which may be bytes."""
        return self._large(count, "old text") if count >= _LARGE else self._bytes(count).decode("latin-1")

    def _large(self, count: int, kind: str) -> Large:
        start, self.at = self.at, self.at + count
        if self.at > len(self.data):
            self.damaged("it ends too early")
        return Large(start, count, kind)


class _Window:
    """A file as a buffer."""

    def __init__(self, file: InputFile) -> None:
        self._file = file

    def __len__(self) -> int:
        return self._file.size

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return self._file.read(place.start, place.stop - place.start)
        if place >= self._file.size:
            raise IndexError("it ends too early")
        return self._file.read(place, 1)[0]

    def find(self, what: bytes, start: int) -> int:
        """Return where something is from a place on; -1 if it is not near."""
        found = self._file.read(start, min(_LONGEST_LINE, self._file.size - start)).find(what)
        return start + found if found >= 0 else -1
