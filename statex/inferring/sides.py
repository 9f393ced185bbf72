"""The two checkpoints: their headers, the identity of what each tensor holds, and the tensors themselves as numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from statex.checkpoint.blobs.contents import OutTensor
from statex.checkpoint.blobs.layout import dense
from statex.checkpoint.io.crc import crc32
from statex.core.dtypes import DType, Kind
from statex.core.header import Header, OpaqueInfo, TensorInfo, TensorType
from statex.core.paths import Address
from statex.core.progress import Add
from statex.execute.elements import PIECE, Elements
from statex.execute.heap import Heap
from statex.execute.readable import readable
from statex.session.opened import Opened
from statex.session.request import Request, State
from statex.session.session import Session

Identity = tuple[TensorType, int]
"""A type and the CRC-32 of the contents: equal for equal tensors. What it lets pass by chance, the proof finds."""

_LARGEST = 8
"""Bytes of an element that numpy has an unsigned integer for."""


class TensorSide:
    """Tensors by their keys, with a header: what relations are looked for between."""

    header: Header
    kinds: Mapping[str, TensorType]

    def tensors(self) -> Mapping[str, OutTensor]:
        """Return the tensors, each with bytes of its own that can be read in their order."""
        raise NotImplementedError

    def tie(self, key: str) -> object:
        """Return what the keys of one tensor have in common; `None` for a storage of its own."""
        info = self.header.entries[key]
        return info.identity if isinstance(info, TensorInfo) else None

    def identity(self, key: str, added: Add) -> Identity:
        """Return the identity of a tensor's contents: by the checksum that its file records, or read for it."""
        tensor = self.tensors()[key]
        kind = self.kinds[key]
        known = tensor.blob.known_crc()
        if known is None:
            known = 0
            for piece in self.pieces(key):
                known = crc32(piece, known)
        added(kind.nbytes)
        return kind, known

    def pieces(self, key: str) -> Iterator[memoryview]:
        """Yield the bytes of a tensor in their order; each is overwritten by the next."""
        kind = self.kinds[key]
        size = 1 if kind.dtype.kind is Kind.RAW else max(kind.dtype.itemsize, 1)
        count = kind.nbytes // size
        if not count:
            return
        read = Elements(self.tensors()[key].blob, size)
        for start in range(0, count, PIECE):
            yield read.take(min(PIECE, count - start))

    def bits(self, key: str) -> Any:
        """Return a tensor as an array of numpy of unsigned integers: its bits."""
        import numpy

        kind = self.kinds[key]
        found = numpy.empty(kind.nbytes, numpy.uint8)
        at = 0
        for piece in self.pieces(key):
            found[at : at + len(piece)] = piece
            at += len(piece)
        return found.view(unsigned(kind.dtype)).reshape(kind.shape)


class CheckpointSide(TensorSide):
    """A checkpoint that is compared, opened; a context manager that closes its files.

    Raises:
        StatexError: 6xx.
    """

    def __init__(self, state: State, label: str, root: Address | None = None) -> None:
        self._opened = Opened(state, label)
        try:
            self.header = self._opened.header(root)
        except BaseException:
            self.close()
            raise
        self.kinds = kinds_of(self.header)

    def __enter__(self) -> CheckpointSide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def label(self) -> str:
        """Its name."""
        return self._opened.label

    @property
    def opened(self) -> Opened:
        """The checkpoint."""
        return self._opened

    @property
    def types(self) -> Mapping[str, TensorType | None]:
        """The types by key; `None` for what is not a dense tensor."""
        return {key: self.kinds.get(key) for key in self.header.entries}

    def tensors(self) -> Mapping[str, OutTensor]:
        """Return the tensors, each with bytes of its own that can be read in their order."""
        return self._tensors

    @cached_property
    def _tensors(self) -> Mapping[str, OutTensor]:
        heap = Heap()
        entries = {key: one for key, one in self.header.entries.items() if isinstance(one, TensorInfo)}
        return dense({key: self._readable(info, heap) for key, info in entries.items()})

    def _readable(self, info: TensorInfo, heap: Heap) -> TensorInfo | OutTensor:
        return readable(info, lambda: self._opened.load(info), heap)

    def close(self) -> None:
        """Close the files."""
        self._opened.close()


class ProgramSide(TensorSide):
    """What a program makes of a checkpoint, computed as it is read; a context manager that closes the files.

    Raises:
        StatexError: every error of the program on the checkpoint, 6xx.
    """

    def __init__(self, request: Request) -> None:
        self._session = Session(request)
        plan = self._session.plan
        counts = Counter(one.tie for one in plan.outputs.values())
        entries: dict[str, TensorInfo | OpaqueInfo] = {}
        for key, one in plan.outputs.items():
            if one.type is None:
                entries[key] = one.opaque or OpaqueInfo("entry")
                continue
            shared = ("tie", one.tie) if counts[one.tie] > 1 else None
            entries[key] = TensorInfo(one.type, shared, is_parameter=one.is_parameter, requires_grad=one.requires_grad)
        self.header = Header(entries, plan.metadata, label=self._session.label)
        self.kinds = kinds_of(self.header)

    def __enter__(self) -> ProgramSide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tensors(self) -> Mapping[str, OutTensor]:
        """Return the tensors, each with bytes of its own that can be read in their order."""
        return self._tensors

    @cached_property
    def _tensors(self) -> Mapping[str, OutTensor]:
        return self._session.tensors()

    def close(self) -> None:
        """Close the files."""
        self._session.close()


def kinds_of(header: Header) -> dict[str, TensorType]:
    """Return the types of the dense tensors of a header."""
    return {key: info.type for key, info in header.entries.items() if isinstance(info, TensorInfo)}


def is_computable(dtype: DType) -> bool:
    """Say whether tensors of a dtype are looked at as numbers: whole elements of at most eight bytes."""
    return dtype.kind in (Kind.BOOL, Kind.INT, Kind.FLOAT, Kind.COMPLEX) and dtype.itemsize <= _LARGEST


def unsigned(dtype: DType) -> str:
    """Return the name of numpy's unsigned integers of as many bytes."""
    return f"<u{dtype.itemsize}"
