"""The elements of torch's pickles other than plain containers: names, calls and storages, as data.

Nothing here is imported or called. A name is allowed where torch's own `weights_only` loading allows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from statex.core.dtypes import ALL, BY_NAME, FLOAT4X2, DType
from statex.core.record import record


class Global:
    """A name of a module, such as `torch.float32`; it stands for itself, and there is one object for each name."""

    __slots__ = ("module", "name")
    _known: ClassVar[dict[tuple[str, str], Global]] = {}

    module: str
    name: str

    def __new__(cls, module: str, name: str) -> Global:
        """Return the object of a name."""
        known = cls._known.get((module, name))
        if known is None:
            known = cls._known[module, name] = super().__new__(cls)
            known.module, known.name = module, name
        return known

    @classmethod
    def unknown(cls, module: str, name: str) -> Global:
        """Return an object for a name that is in no table, which nothing but the file that names it keeps."""
        found = super().__new__(cls)
        found.module, found.name = module, name
        return found

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def kind(self) -> str:
        """How lists call it."""
        return str(self)


@dataclass(slots=True, eq=False)
class ForeignCall:
    """A call that torch makes when it loads the file: a function of the table below, its arguments, its state."""

    function: Global
    arguments: tuple[Any, ...]
    state: Any = None

    @property
    def kind(self) -> str:
        """How lists call it: by the class that is called, or the function."""
        return str(self.function).removeprefix("builtins.").removeprefix("__builtin__.")


@record
class StorageType:
    """A storage class of torch: how many bytes an element has, and its dtype where tensors can be computed with."""

    itemsize: int
    dtype: DType | None


@record
class Storage:
    """One storage of a file, as a tensor names it: its key, class, length in elements, and device."""

    key: str
    type: Global
    numel: int
    location: str
    handle: Any = field(default=None, compare=False)
    """The `Stored` bytes."""

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.numel * STORAGES[self.type].itemsize


def _storage(name: str, itemsize: int, dtype: str | None) -> tuple[Global, StorageType]:
    return Global("torch", name), StorageType(itemsize, BY_NAME[dtype] if dtype else None)


UNTYPED = Global("torch.storage", "UntypedStorage")

STORAGES: Mapping[Global, StorageType] = dict(
    [
        _storage("DoubleStorage", 8, "float64"),
        _storage("FloatStorage", 4, "float32"),
        _storage("HalfStorage", 2, "float16"),
        _storage("BFloat16Storage", 2, "bfloat16"),
        _storage("LongStorage", 8, "int64"),
        _storage("IntStorage", 4, "int32"),
        _storage("ShortStorage", 2, "int16"),
        _storage("CharStorage", 1, "int8"),
        _storage("ByteStorage", 1, "uint8"),
        _storage("BoolStorage", 1, "bool"),
        _storage("ComplexFloatStorage", 8, "complex64"),
        _storage("ComplexDoubleStorage", 16, "complex128"),
        _storage("QInt8Storage", 1, "qint8"),
        _storage("QUInt8Storage", 1, "quint8"),
        _storage("QInt32Storage", 4, "qint32"),
        _storage("QUInt4x2Storage", 1, None),
        _storage("QUInt2x4Storage", 1, None),
        (UNTYPED, StorageType(1, None)),
    ]
)
"""The storage classes that files name."""

STORAGE_OF: Mapping[str, Global] = {t.dtype.name: g for g, t in STORAGES.items() if t.dtype is not None}
"""The storage class of a dtype; other dtypes are saved in an untyped storage."""

TENSOR_V2 = Global("torch._utils", "_rebuild_tensor_v2")
TENSOR_V3 = Global("torch._utils", "_rebuild_tensor_v3")
TENSOR_V1 = Global("torch._utils", "_rebuild_tensor")
QUANTIZED = Global("torch._utils", "_rebuild_qtensor")
PARAMETER = Global("torch._utils", "_rebuild_parameter")
PARAMETER_WITH_STATE = Global("torch._utils", "_rebuild_parameter_with_state")
FROM_TYPE = Global("torch._tensor", "_rebuild_from_type_v2")
TENSOR = Global("torch", "Tensor")
SPARSE = Global("torch._utils", "_rebuild_sparse_tensor")
ORDERED_DICT = Global("collections", "OrderedDict")
ENCODE = Global("_codecs", "encode")
SIZE = Global("torch", "Size")

_REBUILD = (
    "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter",
    "_rebuild_parameter_with_state", "_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_meta_tensor_no_storage",
    "_rebuild_nested_tensor",
)  # fmt: skip
_DTYPES = (
    *(d.name for d in (*ALL, FLOAT4X2)),
    "quint4x2", "quint2x4", "float4_e2m1fn_x2", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2",
    *(f"uint{n}" for n in range(1, 8)), *(f"int{n}" for n in range(1, 8)),
)  # fmt: skip
_QSCHEMES = (
    "per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
    "per_channel_affine_float_qparams",
)  # fmt: skip
_LAYOUTS = ("strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc")

FUNCTIONS = frozenset(
    [
        *(Global("torch._utils", name) for name in _REBUILD),
        ORDERED_DICT,
        ENCODE,
        SIZE,
        Global("collections", "Counter"),
        Global("torch", "device"),
        Global("torch.serialization", "_get_layout"),
        FROM_TYPE,
        *(
            Global(module, name)
            for module in ("builtins", "__builtin__")
            for name in ("set", "bytearray", "complex", "bytes")
        ),
    ]
)
"""What a file may call; torch's weights_only loading allows the same."""

NAMES: Mapping[tuple[str, str], Global] = {
    (one.module, one.name): one
    for one in (
        *FUNCTIONS,
        *STORAGES,
        *(Global("torch", name) for name in {*_DTYPES, *_QSCHEMES, *_LAYOUTS}),
        TENSOR,
        Global("torch.nn.parameter", "Parameter"),
    )
}
"""What a file may name."""

KINDS: Mapping[str, str] = {
    "_rebuild_qtensor": "quantized tensor",
    "_rebuild_sparse_tensor": "sparse tensor",
    "_rebuild_nested_tensor": "nested tensor",
    "_rebuild_meta_tensor_no_storage": "meta tensor",
    "_rebuild_parameter_with_state": "tensor with attributes",
    "_rebuild_from_type_v2": "tensor with attributes",
    "_rebuild_parameter": "tensor",
    "_rebuild_tensor_v2": "tensor",
    "_rebuild_tensor_v3": "tensor",
}
"""How messages call what a function makes, where that is a tensor."""
