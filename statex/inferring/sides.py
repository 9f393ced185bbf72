"""The two checkpoints: their headers, the identity of what each tensor holds, and the tensors themselves as numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from math import isfinite, prod
from typing import Any

from statex.checkpoint.blobs.contents import OutTensor
from statex.checkpoint.blobs.layout import alone
from statex.checkpoint.io.crc import crc32
from statex.core.dtypes import DType, Kind
from statex.core.header import Header, OpaqueInfo, TensorInfo, TensorType
from statex.core.paths import Address
from statex.core.progress import Add
from statex.execute.elements import PIECE, Elements, numbers
from statex.execute.heap import Heap
from statex.execute.kernels.by_numpy import NUMPY
from statex.execute.readable import readable
from statex.session.opened import Opened
from statex.session.request import Request, State
from statex.session.session import Session

Identity = tuple[TensorType, int]
"""A type and the CRC-32 of the contents: equal for equal tensors. What it lets pass by chance, the proof finds."""

_BEGINNING = 64
"""Elements that are read to see whether a tensor has several numbers, as nearly all have."""
_LARGEST = 8
"""Bytes of an element that numpy has an unsigned integer for."""


class TensorSide:
    """Tensors by their keys, with a header: what relations are looked for between."""

    header: Header
    kinds: Mapping[str, TensorType]

    def __init__(self) -> None:
        self._crcs: dict[str, int] = {}
        self._various: set[str] = set()
        """Keys whose tensors were read, and do not end with the element that they begin with."""

    @property
    def opened(self) -> Opened:
        """The checkpoint, open."""
        raise NotImplementedError

    def tensor(self, key: str) -> OutTensor:
        """Return a tensor with bytes of its own that can be read in their order."""
        raise NotImplementedError

    def tie(self, key: str) -> object:
        """Return what the keys of one tensor have in common; `None` for a storage of its own."""
        info = self.header.entries[key]
        return info.identity if isinstance(info, TensorInfo) else None

    def identity(self, key: str, added: Add) -> Identity:
        """Return the identity of a tensor's contents: by the checksum that its file records, or read for it."""
        kind, found = self.kinds[key], self._crcs.get(key)
        if found is None:
            known = self.tensor(key).blob.known_crc()
            found = self._crcs[key] = self._crc(key) if known is None else known
            added(kind.nbytes)
        return kind, found

    def _crc(self, key: str) -> int:
        size, found = self.kinds[key].dtype.itemsize, 0
        first: bytes | None = None
        for piece in self.pieces(key):
            found = crc32(piece, found)
            if first is None:
                first = bytes(piece[:size])
            if piece[-size:] != first:
                self._various.add(key)
        return found

    def is_various(self, key: str) -> bool:
        """Say whether the first elements of a tensor, or others that were read, show that it has several numbers."""
        if key not in self._various:
            kind = self.kinds[key]
            size = kind.dtype.itemsize
            beginning = bytes(next(self.pieces(key, _BEGINNING), b""))
            if beginning != beginning[:size] * (len(beginning) // max(size, 1)):
                self._various.add(key)
        return key in self._various

    def pieces(self, key: str, most: int = PIECE) -> Iterator[memoryview]:
        """Yield the bytes of a tensor in their order, so many elements at a time; each is overwritten by the next."""
        kind = self.kinds[key]
        size = 1 if kind.dtype.kind is Kind.RAW else max(kind.dtype.itemsize, 1)
        count = kind.nbytes // size
        if not count:
            return
        read = Elements(self.tensor(key).blob, size, bytearray(min(most, count) * size))
        for start in range(0, count, most):
            yield read.take(min(most, count - start))

    def bits(self, key: str) -> Any:
        """Return a tensor as an array of numpy of unsigned integers: its bits."""
        import numpy

        kind = self.kinds[key]
        found: Any = numpy.empty(kind.nbytes, numpy.uint8)
        if kind.nbytes:
            Elements(self.tensor(key).blob, 1, memoryview(found)).take(kind.nbytes)
        return found.view(unsigned(kind.dtype)).reshape(kind.shape)

    def rows(self, key: str, count: int) -> Iterator[Any]:
        """Yield the bits of a tensor, so many rows at a time; each is overwritten by the next."""
        import numpy

        kind = self.kinds[key]
        for piece in self.pieces(key, max(1, count * prod(kind.shape[1:]))):
            yield numpy.frombuffer(piece, unsigned(kind.dtype)).reshape(-1, *kind.shape[1:])


class CheckpointSide(TensorSide):
    """A checkpoint that is compared, opened; a context manager that closes its files.

    Raises:
        StatexError: 6xx.
    """

    def __init__(self, state: State, label: str, root: Address | None = None) -> None:
        super().__init__()
        self._opened = Opened(state, label)
        self._heap = Heap()
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
        return {key: self.tensor(key) for key in self.kinds}

    def tensor(self, key: str) -> OutTensor:
        """Return a tensor with bytes of its own that can be read in their order."""
        info = self.header.entries[key]
        assert isinstance(info, TensorInfo)
        found = readable(info, lambda: self._opened.load(info), self._heap)
        return alone(found) if isinstance(found, TensorInfo) else found

    def close(self) -> None:
        """Close the files."""
        self._opened.close()


class ProgramSide(TensorSide):
    """What a program makes of a checkpoint, computed as it is read; a context manager that closes the files.

    Raises:
        StatexError: every error of the program on the checkpoint, 6xx.
    """

    def __init__(self, request: Request) -> None:
        super().__init__()
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

    @property
    def opened(self) -> Opened:
        """The checkpoint that the program is for, open."""
        return self._session.inputs.main

    def tensor(self, key: str) -> OutTensor:
        """Return a tensor with bytes of its own that can be read in their order."""
        return self._tensors[key]

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


def number_of(bits: Any, dtype: DType) -> int | float | bool | None:
    """Return the number that an element is, given by its bits in an array; `None` where rules have no word for it."""
    (raw,) = bits.tolist()
    if dtype.kind is Kind.BOOL:
        return bool(raw) if raw in (0, 1) else None
    if dtype.kind is Kind.INT:
        found = int(bits.view(NUMPY[dtype.name])[0])
        return found if abs(found) < 1 << 63 else None  # numbers in rules have 63 bits, and no sign
    number = float(numbers(memoryview(bits).cast("B"), dtype)[0])
    return number if isfinite(number) else None
