"""Turns described tensors into torch tensors: bytes are read into storages, and torch's own functions are called."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from statex.checkpoint.blobs.walks import holds_foreign
from statex.checkpoint.formats.packed import of_torch
from statex.checkpoint.io.crc import crc32
from statex.checkpoint.io.input_file import Stored
from statex.checkpoint.objects import FUNCTIONS, SPARSE, STORAGES, ForeignCall, Global, Storage
from statex.core.foreign import Foreign
from statex.core.header import OpaqueInfo, TensorInfo
from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import files as codes
from statex.diagnostics.torch_dtypes import torch_dtype


class Materializer:
    """Makes torch tensors; with `keep`, tensors over one storage share it, and each storage is read once."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._storages: dict[Stored, Any] = {}
        self._made: dict[int, tuple[object, Any]] = {}

    def value(self, value: Any) -> Any:
        """Return a described value with its tensors; a description that is met twice gives one object."""
        if isinstance(value, TensorInfo):
            return self._once(value, self.tensor)
        if isinstance(value, OpaqueInfo):
            return self.value(value.handle)
        if isinstance(value, ForeignCall):
            return self._once(value, self._call)
        if isinstance(value, Foreign):
            return value
        if isinstance(value, Storage):
            return self._typed_storage(value)
        if isinstance(value, Global):
            return _global(value)
        if isinstance(value, OrderedDict):
            made = OrderedDict((self.value(key), self.value(item)) for key, item in value.items())
            vars(made).update({name: self.value(item) for name, item in vars(value).items()})
            return made
        if isinstance(value, dict):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set):
            return type(value)(self.value(item) for item in value)
        return value

    def _once(self, described: Any, make: Any) -> Any:
        if not self._keep:
            return make(described)
        known = self._made.get(id(described))
        if known is None:
            # The description is kept beside the result so that its id stays its own.
            known = self._made[id(described)] = (described, make(described))
        return known[1]

    def tensor(self, info: TensorInfo) -> Any:
        """Return a tensor."""
        import torch

        info = of_torch(info)
        dtype = torch_dtype(torch, info.type.dtype.name)
        shape = info.type.shape
        if not info.type.numel:
            tensor = torch.empty(shape, dtype=dtype)
        elif self._keep:
            tensor = torch.empty(0, dtype=dtype)
            tensor.set_(self._storage(info.handle), info.offset, shape, info.strides)
        else:
            tensor = self._alone(info, torch, dtype)
        if info.is_parameter:
            tensor = torch.nn.Parameter(tensor, requires_grad=info.requires_grad)
        elif info.requires_grad:
            tensor.requires_grad_()
        # Not set one by one as torch does: a name such as `__class__` has to mean nothing.
        for names in info.attributes if isinstance(info.attributes, tuple) else (info.attributes,):
            vars(tensor).update(self.value(names or {}))
        return tensor

    def _alone(self, info: TensorInfo, torch: Any, dtype: Any) -> Any:
        """Return a tensor over no more bytes than it reaches."""
        stored: Stored = info.handle  # type: ignore[assignment]
        size = info.type.dtype.itemsize
        data = _memory(info.span * size)
        if len(data) != stored.nbytes:
            stored.check()
        stored.extent.file.read_into(stored.extent.offset + info.offset * size, data)
        if stored.unverified:
            stored.compare(crc32(data))
        return torch.as_strided(torch.frombuffer(data, dtype=dtype), info.type.shape, info.strides)

    def _storage(self, stored: Any) -> Any:
        import torch

        known = self._storages.get(stored)
        if known is None:
            data = _memory(stored.nbytes)
            stored.extent.file.read_into(stored.extent.offset, data)
            if stored.crc is not None:
                stored.compare(crc32(data))
            known = (
                torch.frombuffer(data, dtype=torch.uint8).untyped_storage()
                if data
                else torch.empty(0).untyped_storage()
            )
            self._storages[stored] = known
        return known

    def _typed_storage(self, storage: Storage) -> Any:
        import torch

        untyped = self._storage(storage.handle)
        dtype = STORAGES[storage.type].dtype
        name = dtype.name if dtype is not None else "uint8"
        if dtype is None and storage.type.name != "UntypedStorage":
            name = {"QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4"}[storage.type.name]
        typed: Any = torch.storage.TypedStorage
        return typed(wrap_storage=untyped, dtype=torch_dtype(torch, name), _internal=True)

    def _call(self, call: ForeignCall) -> Any:
        import torch

        if call.function not in FUNCTIONS:
            raise AssertionError(f"{call.function} is not a function of a checkpoint")
        if holds_foreign(call):
            fail(codes.UNSAFE, f"a {call.function.name} has parts that are code, and is not made")
        arguments = [self.value(argument) for argument in call.arguments]
        try:
            # Indices that point outside would let torch read foreign memory later.
            invariants: Any = torch.sparse.check_sparse_tensor_invariants
            with invariants(True), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "TypedStorage is deprecated")
                made = _function(call.function)(*arguments)
                if call.function == SPARSE:
                    # Looks at what was made since it was asked last, and lets go of it.
                    torch._utils._validate_loaded_sparse_tensors()  # type: ignore[no-untyped-call]
                if call.state is not None:
                    vars(made).update(self.value(call.state))
        except StatexError:
            raise
        except Exception as error:  # what a stranger's arguments may meet in torch is nobody's to list
            fail(codes.DAMAGED, f"torch refuses to make a {call.function.name}: {error}")
        return made


def _memory(nbytes: int) -> memoryview:
    """Return memory that begins where tensors of torch begin, so that its libraries compute the same with it."""
    import torch

    memory: memoryview = torch.empty(nbytes, dtype=torch.uint8).numpy().data
    return memory


def _global(name: Global) -> Any:
    import torch

    if name.module == "torch.nn.parameter":
        return torch.nn.Parameter
    if name.module == "torch.storage":
        return torch.UntypedStorage
    return torch_dtype(torch, name.name)


def _function(name: Global) -> Any:
    """Return the function a name of the closed table stands for."""
    import collections

    import torch
    import torch._utils

    tables: Mapping[str, Any] = {
        "torch._utils": torch._utils,
        "torch._tensor": torch._tensor,
        "torch.serialization": torch.serialization,
        "torch": torch,
        "collections": collections,
    }
    if name.module in tables:
        return getattr(tables[name.module], name.name)
    return {"bytearray": bytearray}[name.name]
