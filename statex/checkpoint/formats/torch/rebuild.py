"""The meaning of calls and storages in torch's pickles: tensors as headers, plain containers, and calls kept whole.

The calls are those of torch/_utils.py and torch/serialization.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any, NoReturn

from statex.checkpoint import objects
from statex.checkpoint.blobs.walks import holds_foreign
from statex.checkpoint.io.input_file import Stored
from statex.checkpoint.objects import KINDS, STORAGES, ForeignCall, Global, Storage
from statex.checkpoint.pickle_limits import Budget, check_key
from statex.core.dtypes import BY_NAME, DType, Kind
from statex.core.foreign import Foreign
from statex.core.header import OpaqueInfo, TensorInfo, TensorType
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

Place = Callable[[str, int, str], Stored]
"""Finds the bytes of a storage by its key, its size in bytes, and its device."""


class TorchObjects:
    """Makes the objects of one file; `place` finds storages, `label` is how messages call the file."""

    def __init__(self, label: str, place: Place) -> None:
        self.label = label
        self._place = place
        self.storages: dict[str, Storage] = {}
        self._budget = Budget(self.damaged)

    # --- storages ----------------------------------------------------------------------------------------------

    def storage(self, id: Any) -> Any:
        """Return the storage a persistent id names (or class of a module); all ids of one key have to agree."""
        if type(id) is tuple and len(id) == 4 and id[0] == "module" and isinstance(id[1], Foreign | Global):
            return id[1]  # a module's class, which torch before 1.6 saved with its source
        if type(id) is not tuple or len(id) not in (5, 6) or id[0] != "storage":
            self.damaged("a persistent id names no storage")
        _, cls, key, location, numel, *view = id
        if any(v is not None for v in view):
            self.damaged(f"the storage `{key}` is a view of another one, which torch has not written since 0.4")
        return self._named(cls, key, location, numel)

    def _named(self, cls: Any, key: Any, location: Any, numel: Any) -> Storage:
        if type(cls) is not Global or cls not in STORAGES or type(key) is not str or type(location) is not str:
            self.damaged("a storage has no class, key or device")
        if type(numel) is not int or not 0 <= numel < 2**60:
            self.damaged(f"the storage `{key}` has {numel} elements")
        known = self.storages.get(key)
        if known is not None:
            if (known.type, known.numel, known.location) != (cls, numel, location):
                self.damaged(f"the storage `{key}` is named with two dtypes, sizes or devices")
            return known
        nbytes = numel * STORAGES[cls].itemsize
        found = self.storages[key] = Storage(key, cls, numel, location, self._place(key, nbytes, location))
        return found

    def plain(
        self, cls: Any, key: Any, location: Any, numel: int, offset: int, shape: Any, stride: Any, requires_grad: bool
    ) -> TensorInfo | None:
        """Return a tensor with nothing but its geometry; `None` where it is kept as a call."""
        storage = self._named(cls, key, location, numel)
        if len(shape) != len(stride):
            self.damaged(f"a tensor over the storage `{key}` has no proper shape and strides")
        return self._info(storage, offset, shape, stride, self._span(storage, offset, shape, stride), requires_grad)

    # --- calls -------------------------------------------------------------------------------------------------

    def build(self, function: Global, arguments: tuple[Any, ...]) -> Any:
        """Return what a call makes: a plain container, a `TensorInfo`, or the call itself where it is kept whole."""
        if any(isinstance(argument, Foreign) for argument in arguments):
            return Foreign("call", function, arguments)
        maker = _MAKERS.get(function)
        made = maker(self, arguments) if maker is not None else None
        if made is not None:
            return made
        self._budget.spend(len(arguments))
        if holds_foreign(arguments, self._budget):
            return Foreign("call", function, arguments)
        call = ForeignCall(function, arguments)
        if function.name in KINDS:
            return OpaqueInfo(KINDS[function.name], call)
        return call

    def _ordered_dict(self, arguments: tuple[Any, ...]) -> Any:
        if not arguments:
            return OrderedDict()
        pairs = arguments[0]
        if len(arguments) != 1 or type(pairs) is not list or not all(_is_pair(p) for p in pairs):
            self.damaged("an OrderedDict is made of something other than pairs")
        self._budget.spend(len(pairs))
        for key, _ in pairs:
            check_key(key, self._budget)
        return OrderedDict(pairs)

    def _set(self, arguments: tuple[Any, ...]) -> Any:
        if len(arguments) != 1 or type(arguments[0]) is not list:
            self.damaged("a set is made of something other than a list")
        self._budget.spend(len(arguments[0]))
        for item in arguments[0]:
            check_key(item, self._budget)
        return set(arguments[0])

    def _bytes(self, arguments: tuple[Any, ...]) -> Any:
        if len(arguments) != 2 or type(arguments[0]) is not str or arguments[1] not in ("latin1", "latin-1"):
            self.damaged("bytes are made of something other than text")
        self._budget.spend(len(arguments[0]) >> 6)  # which a file of the largest size cannot spend unless it repeats
        return arguments[0].encode("latin-1")

    def _no_bytes(self, arguments: tuple[Any, ...]) -> Any:
        if arguments:
            self.damaged("bytes are made of something")
        return b""

    def _complex(self, arguments: tuple[Any, ...]) -> Any:
        if not all(isinstance(a, int | float) for a in arguments) or len(arguments) > 2:
            self.damaged("a complex number is made of something other than numbers")
        try:
            return complex(*arguments)
        except OverflowError:
            self.damaged("a complex number is made of numbers that are too large")

    def _tensor_v1(self, arguments: tuple[Any, ...]) -> Any:
        if len(arguments) != 4:
            self.damaged("a tensor has too few parts")
        return self._tensor(*arguments, requires_grad=False)

    def _tensor_v2(self, arguments: tuple[Any, ...]) -> Any:
        if len(arguments) not in (6, 7):
            self.damaged("a tensor has too few parts")
        storage, offset, shape, stride, requires_grad, hooks, *metadata = arguments
        found = self._tensor(storage, offset, shape, stride, requires_grad=requires_grad)
        # Conjugated or with hooks: kept as the file says it.
        return None if hooks or any(metadata) else found

    def _tensor_v3(self, arguments: tuple[Any, ...]) -> Any:
        if len(arguments) not in (7, 8):
            self.damaged("a tensor has too few parts")
        storage, offset, shape, stride, requires_grad, hooks, named, *metadata = arguments
        dtype = BY_NAME.get(named.name) if type(named) is Global and named.module == "torch" else None
        if dtype is None:
            size = _OTHER_SIZES.get(named.name, 1) if type(named) is Global else 1
            self._sized(storage, offset, shape, stride, size)
            return None
        found = self._tensor(storage, offset, shape, stride, requires_grad=requires_grad, dtype=dtype)
        return None if hooks or any(metadata) else found

    def _quantized(self, arguments: tuple[Any, ...]) -> Any:
        if len(arguments) != 7:
            self.damaged("a tensor has too few parts")
        self._sized(*arguments[:4])

    def _tensor(
        self, storage: Any, offset: Any, shape: Any, stride: Any, *, requires_grad: Any, dtype: DType | None = None
    ) -> TensorInfo | None:
        size = dtype.itemsize if dtype is not None else None
        shape, stride, span = self._sized(storage, offset, shape, stride, size)
        if type(requires_grad) is not bool:
            self.damaged("a tensor's requires_grad is not a bool")
        return self._info(storage, offset, shape, stride, span, requires_grad, dtype)

    def _info(
        self,
        storage: Storage,
        offset: int,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        span: int,
        requires_grad: bool,
        dtype: DType | None = None,
    ) -> TensorInfo | None:
        dtype = dtype or STORAGES[storage.type].dtype
        if dtype is None or dtype.kind is Kind.QUANTIZED:
            return None
        if requires_grad:
            self._check_grad(dtype)
        stored = storage.handle
        return TensorInfo(_type(dtype, shape), stored if span else None, offset, stride, False, requires_grad, stored)

    def _check_grad(self, dtype: DType) -> None:
        if not (dtype.is_floating_point or dtype.is_complex):
            self.damaged(f"a tensor of {dtype} has requires_grad, which takes floating-point numbers")

    def _sized(
        self, storage: Any, offset: Any, shape: Any, stride: Any, itemsize: int | None = None
    ) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Return shape, strides, and the elements from the first to the last, all of them inside the storage."""
        if type(storage) is not Storage:
            self.damaged("a tensor has no storage")
        shape, stride = _sizes(shape), _sizes(stride)
        if shape is None or stride is None or len(shape) != len(stride) or type(offset) is not int:
            self.damaged(f"a tensor over the storage `{storage.key}` has no proper shape and strides")
        return shape, stride, self._span(storage, offset, shape, stride, itemsize)

    def _span(
        self,
        storage: Storage,
        offset: int,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        itemsize: int | None = None,
    ) -> int:
        """Return the elements from the first to the last, all of them inside the storage."""
        span = _span(shape, stride)
        if offset < 0 or span is None:
            self.damaged(f"a tensor over the storage `{storage.key}` has negative sizes, or too many elements: {shape}")
        packed = _PACKED.get(storage.type.name, 1)
        size = itemsize or STORAGES[storage.type].itemsize
        # A tensor without elements may be anywhere.
        if span and -(-(offset + span) // packed) * size > storage.nbytes:
            self.damaged(f"a tensor reaches beyond its storage `{storage.key}`: {shape} with strides {stride}")
        return span

    def _parameter(self, arguments: tuple[Any, ...]) -> Any:
        if len(arguments) != 3 or arguments[2] or type(arguments[1]) is not bool:
            return None
        if type(arguments[0]) is not TensorInfo:
            return None
        if arguments[1]:
            self._check_grad(arguments[0].type.dtype)
        return replace(arguments[0], is_parameter=True, requires_grad=arguments[1])

    def _parameter_with_state(self, arguments: tuple[Any, ...]) -> Any:
        if len(arguments) != 4 or not are_attributes(arguments[3]):
            return None
        made = self._parameter(arguments[:3])
        return replace(made, attributes=arguments[3] or None) if made is not None else None

    def _from_type(self, arguments: tuple[Any, ...]) -> Any:
        if len(arguments) != 4 or not are_attributes(arguments[3]) or type(arguments[2]) is not tuple:
            return None
        function, cls, inner, attributes = arguments
        if cls is not objects.TENSOR or function not in _DENSE:
            return None
        made = self.build(function, inner)
        return replace(made, attributes=attributes or None) if type(made) is TensorInfo else None

    def damaged(self, why: str) -> NoReturn:
        """Raise the diagnostic of a file whose objects do not fit together."""
        fail(codes.DAMAGED, f"`{self.label}` is damaged: {why}", help="fetch the file again, and compare its size")


_MOST_ELEMENTS = 2**60
"""Of a tensor: what takes fewer bytes than torch can count, whatever its dtype. A view may repeat what is stored."""


@lru_cache(maxsize=4096)
def _span(shape: tuple[int, ...], stride: tuple[int, ...]) -> int | None:
    """Return how many elements a tensor reaches over; `None` for negative sizes, and for too many elements."""
    if min(shape, default=0) < 0 or min(stride, default=0) < 0 or prod(shape) >= _MOST_ELEMENTS:
        return None
    return 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) if 0 not in shape else 0


_type = lru_cache(maxsize=4096)(TensorType)

_PACKED: Mapping[str, int] = {"QUInt4x2Storage": 2, "QUInt2x4Storage": 4}
"""How many elements a byte has, where it has several."""
_OTHER_SIZES: Mapping[str, int] = {"bits16": 2}
"""Bytes an element of the dtypes that are only moved, where it is not one."""


_DENSE = (objects.TENSOR_V1, objects.TENSOR_V2, objects.TENSOR_V3)


def are_attributes(value: Any) -> bool:
    """Say whether a value is what torch saves of a tensor's attributes: a dict by name, or one and that of slots."""
    if type(value) is tuple:
        return len(value) == 2 and all(one is None or (type(one) is dict and are_attributes(one)) for one in value)
    return type(value) is dict and all(type(name) is str for name in value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def _sizes(value: Any) -> tuple[int, ...] | None:
    """Return a shape as ints; torch.Size is kept as a call."""
    if type(value) is ForeignCall and value.function == objects.SIZE and len(value.arguments) == 1:
        value = value.arguments[0]
    if type(value) is not tuple:
        return None
    for size in value:
        if type(size) is not int or size >= 2**62:
            return None
    return value


_MAKERS: Mapping[Global, Callable[[TorchObjects, tuple[Any, ...]], Any]] = {
    objects.ORDERED_DICT: TorchObjects._ordered_dict,
    objects.ENCODE: TorchObjects._bytes,
    objects.TENSOR_V1: TorchObjects._tensor_v1,
    objects.TENSOR_V2: TorchObjects._tensor_v2,
    objects.TENSOR_V3: TorchObjects._tensor_v3,
    objects.PARAMETER: TorchObjects._parameter,
    objects.PARAMETER_WITH_STATE: TorchObjects._parameter_with_state,
    objects.FROM_TYPE: TorchObjects._from_type,
    objects.QUANTIZED: TorchObjects._quantized,
    **{Global(m, "set"): TorchObjects._set for m in ("builtins", "__builtin__")},
    **{Global(m, "bytes"): TorchObjects._no_bytes for m in ("builtins", "__builtin__")},
    **{Global(m, "complex"): TorchObjects._complex for m in ("builtins", "__builtin__")},
}
"""Makers give `None` for what is kept as a call."""
