"""Folders of torch.distributed.checkpoint: the header is read here as data, tensors go through torch's own API.

Format: torch/distributed/checkpoint/metadata.py, pickled as `.metadata`. torch unpickles that file without a limit to
names; it gets the very bytes in which only the names of the table below were found.
"""

from __future__ import annotations

import ctypes
import io
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from statex.checkpoint.contents import Blob, Made, Moved, OutTensor
from statex.checkpoint.crc import crc32
from statex.checkpoint.input_file import InputFile
from statex.checkpoint.layout import mapped
from statex.checkpoint.materialize import Materializer
from statex.checkpoint.objects import NAMES, Call, Global
from statex.checkpoint.pickle_reader import PickleReader
from statex.checkpoint.reader import Reader
from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import files as codes
from statex.diagnostics.suggest import join_words
from statex.dtypes import BY_NAME
from statex.header import OpaqueInfo, TensorInfo, TensorType

HEADER = ".metadata"
_LARGEST = 1 << 30
_METADATA = "torch.distributed.checkpoint.metadata"
_CLASSES = (
    (_METADATA, "Metadata"), (_METADATA, "TensorStorageMetadata"), (_METADATA, "BytesStorageMetadata"),
    (_METADATA, "ChunkStorageMetadata"), (_METADATA, "TensorProperties"), (_METADATA, "MetadataIndex"),
    (_METADATA, "StorageMeta"), (_METADATA, "_MEM_FORMAT_ENCODING"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"), ("torch.serialization", "_get_layout"),
    ("pathlib", "PosixPath"), ("pathlib", "WindowsPath"), ("pathlib", "PurePosixPath"), ("pathlib._local", "PosixPath"),
)  # fmt: skip
_NAMES: Mapping[tuple[str, str], Global] = {**NAMES, **{name: Global(*name) for name in _CLASSES}}


class DistributedReader(Reader):
    """A folder of torch.distributed.checkpoint; each tensor is loaded by its key when it is needed."""

    format = "dcp"

    def __init__(self, folder: Path) -> None:
        file = InputFile(folder / HEADER)
        super().__init__(folder, [file])
        if file.size > _LARGEST:
            file.damaged(f"it has {file.size} bytes")
        self._pickled = file.read(0, file.size)
        label = str(file.path)
        header = PickleReader(self._pickled, label, lambda id: file.damaged("it names storages"), Call, names=_NAMES)
        try:
            self._tree = _tree_of(_state_of(header.read(), "Metadata"))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            file.damaged(f"it is no metadata of torch.distributed.checkpoint: {error or type(error).__name__}")

    @property
    def tree(self) -> Any:
        """The nested content, tensors as headers."""
        return self._tree

    def load(self, info: TensorInfo | OpaqueInfo) -> Any:
        """Return a tensor, read by torch.

        Raises:
            StatexError: SX604 where torch cannot read it, SX614 for an entry that is no tensor.
        """
        if isinstance(info, OpaqueInfo):
            refuse_unread([info.handle])
            raise AssertionError("only pickled values are no tensors here")
        import torch

        dcp = _library()

        key = str(info.handle)
        tensor = torch.empty(info.type.shape, dtype=getattr(torch, info.type.dtype.name))
        try:
            with _quiet():
                dcp.load({key: tensor}, storage_reader=self._storage_reader(dcp), no_dist=True)
        except (Exception, dcp.api.CheckpointException) as error:
            cause = _cause(error)
            if not isinstance(cause, Exception):
                raise cause from None
            fail(codes.DAMAGED, f"`{self.path}` is damaged: torch cannot read `{key}`: {_first_line(cause)}")
        return tensor

    def _storage_reader(self, dcp: Any) -> Any:
        reader = dcp.FileSystemReader(self.path)
        reader.read_metadata = lambda *arguments, **named: pickle.load(io.BytesIO(self._pickled))
        return reader


def _library() -> Any:
    import torch.distributed.checkpoint

    return torch.distributed.checkpoint


def _cause(error: BaseException) -> BaseException:
    """Return what has happened, out of the exceptions that torch wraps it in."""
    failures = getattr(error, "failures", None)
    cause: BaseException = next(iter(failures.values()))[0] if failures else error
    before: BaseException | None = cause
    while before is not None:
        if isinstance(before, OSError | StatexError):
            # torch's writer of archives fails once more where the file under it has failed.
            return before
        before = before.__cause__ or before.__context__
    return cause


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@dataclass(frozen=True)
class Unread:
    """A pickled value of such a folder: it is code, and so stays unread."""

    key: str


def refuse_unread(leaves: Iterable[Any]) -> None:
    """Refuse to write what was not read.

    Raises:
        StatexError: SX614 with every key.
    """
    keys = [leaf.key for leaf in leaves if isinstance(leaf, Unread)]
    if keys:
        fail(
            codes.CANNOT_HOLD,
            f"{join_words([f'`{key}`' for key in keys], limit=3)}: pickled values of such a folder are not read",
            help=["leave them out: drop, or take a part alone: root 'model' -> ''"],
        )


def _tree_of(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of the tensors and other entries, nested as they were when they were saved."""
    paths = header.get("planner_data") or {}
    tree: dict[str, Any] = {}
    for key, described in header["state_dict_metadata"].items():
        path = paths.get(key)
        plain = isinstance(path, tuple) and all(isinstance(part, str) for part in path)
        here = tree
        *outer, last = path if plain and path else (key,)
        for part in outer:
            here = here.setdefault(part, {})
        here[last] = _entry(key, described)
    return tree


def _entry(key: str, described: Any) -> TensorInfo | OpaqueInfo:
    if described.function.name == "BytesStorageMetadata":
        return OpaqueInfo("pickled value", Unread(key))
    state = _state_of(described, "TensorStorageMetadata")
    dtype, _, requires_grad, *_ = _state_of(state["properties"], "TensorProperties")
    shape = state["size"].arguments[0] if isinstance(state["size"], Call) else state["size"]
    if any(type(n) is not int or n < 0 for n in shape) or prod(shape) >= 2**60:
        raise ValueError(f"`{key}` has the shape {shape}")
    kind = TensorType(BY_NAME[dtype.name], tuple(shape))
    return TensorInfo(kind, requires_grad=bool(requires_grad) and dtype.name.startswith(("float", "bf")), handle=key)


def _state_of(value: Any, name: str) -> Any:
    if not isinstance(value, Call) or value.function.name != name:
        raise ValueError(f"a {name} is missing")
    return value.state


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from warning that there is one process only, which is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is")
        warnings.filterwarnings("ignore", ".*TypedStorage")
        yield


def write_distributed(folder: Path, tree: Any, added: Callable[[int], None] | None) -> None:
    """Write a tree of plain values and contiguous `OutTensor`s by torch; each tensor is made when torch writes it.

    Raises:
        StatexError: SX604 for an input whose checksums do not agree, SX612 where torch cannot write.
        OSError: whatever the system refuses.
    """
    import torch

    dcp = _library()
    described: dict[int, tuple[Any, OutTensor]] = {}
    others = Materializer(keep=True)
    last: list[Any] = []

    def placeholder(leaf: Any) -> Any:
        if not isinstance(leaf, OutTensor):
            return others.value(leaf)
        tensor = torch.empty(leaf.type.shape, dtype=getattr(torch, leaf.type.dtype.name), device="meta")
        described[id(tensor)] = (tensor, leaf)
        return tensor

    def lookup_object(planner: Any, index: Any) -> Any:
        found = dcp.DefaultSavePlanner.lookup_object(planner, index)
        if id(found) not in described:
            return found
        if last:
            # torch keeps all tensors until the file is complete; what is in this one is written by now.
            last.pop().untyped_storage().resize_(0)
        tensor = _tensor(described[id(found)][1], torch)
        last.append(tensor)
        if added is not None:
            added(tensor.numel() * tensor.element_size())
        return tensor

    planner = type("Planner", (dcp.DefaultSavePlanner,), {"lookup_object": lookup_object})
    try:
        with _quiet():
            dcp.save(
                mapped(tree, placeholder),
                storage_writer=dcp.FileSystemWriter(folder, thread_count=1, per_thread_copy_ahead=0),
                planner=planner(),
                no_dist=True,
            )
    except dcp.api.CheckpointException as error:
        cause = _cause(error)
        if isinstance(cause, RuntimeError):
            fail(codes.UNWRITABLE, f"torch cannot write `{folder.name}`: {_first_line(cause)}")
        raise cause from None


def _tensor(out: OutTensor, torch: Any) -> Any:
    """Return the tensor with its data."""
    data = torch.empty(out.blob.nbytes, dtype=torch.uint8)
    # A storage that numpy has seen cannot be resized.
    memory = (ctypes.c_ubyte * out.blob.nbytes).from_address(data.data_ptr())
    _fill(memoryview(memory).cast("B"), out.blob)
    return data.view(getattr(torch, out.type.dtype.name)).view(out.type.shape)


def _fill(data: memoryview, blob: Blob) -> None:
    at = 0
    if isinstance(blob, Moved):
        for run in blob.runs:
            run.stored.check()
            run.extent.file.read_into(run.extent.offset, data[at : at + run.nbytes])
            at += run.nbytes
    elif isinstance(blob, Made):
        for buffer in blob.buffers():
            data[at : at + len(buffer)] = buffer
            at += len(buffer)
        blob.crc = crc32(data)
