"""Folders of torch.distributed.checkpoint: read as data, written by torch's own API.

Reading is done here altogether: torch would unpickle `.metadata` without a limit to names, and leaves uninitialised
memory where the pieces of a tensor do not cover it. Each piece is a file of torch.save within a file of the folder.

Format: torch/distributed/checkpoint/metadata.py, pickled as `.metadata`, and filesystem.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

from statex.checkpoint.blobs.contents import Blob, Made, Moved, OutTensor
from statex.checkpoint.blobs.output_file import put
from statex.checkpoint.blobs.walks import leaves, mapped
from statex.checkpoint.formats.dcp.format import HEADER
from statex.checkpoint.formats.dcp.pieces import Box, Pieced, Places, StoredBox, check_boxes, sizes_of
from statex.checkpoint.formats.stamps import all_as_text, with_stamps
from statex.checkpoint.formats.torch.archive import TorchReader
from statex.checkpoint.formats.torch.layout import archive
from statex.checkpoint.formats.torch.memory_output import MemoryOutput
from statex.checkpoint.formats.torch.pickle_reader import PickleReader
from statex.checkpoint.formats.zip_directory import LOCAL
from statex.checkpoint.io.crc import crc32
from statex.checkpoint.io.input_file import InputFile, inside
from statex.checkpoint.io.syncing import sync_path
from statex.checkpoint.materialize import Materializer
from statex.checkpoint.objects import NAMES, ForeignCall, Global
from statex.checkpoint.reader import Reader
from statex.checkpoint.unread import Unread, refuse_unread
from statex.core.dtypes import BY_NAME
from statex.core.header import OpaqueInfo, TensorInfo, TensorType
from statex.core.numerals import is_numeral
from statex.core.progress import Watch
from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import files as codes
from statex.diagnostics.torch_dtypes import torch_dtype

STAMPS = "statex:stamps"
"""The entry for the versions of states: among the paths of keys (`planner_data`), which torch looks up by its keys."""
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
    """A folder of torch.distributed.checkpoint; each tensor is put together when it is needed."""

    def __init__(self, folder: Path) -> None:
        file = InputFile(folder / HEADER)
        super().__init__(folder, [file])
        self._opened: dict[str, InputFile] = {}
        try:
            self._read(file)
        except BaseException:
            self.close()
            raise

    def _read(self, file: InputFile) -> None:
        if file.size > _LARGEST:
            file.damaged(f"it has {file.size} bytes")
        data = file.read(0, file.size)
        pickled = PickleReader(
            data, str(file.path), lambda id: file.damaged("it names storages"), ForeignCall, names=_NAMES
        )
        try:
            header = _state_of(pickled.read(), "Metadata")
            places = _places(header["storage_data"])
            tree = _tree_of(header, lambda key, kind, chunks: self._placed(key, kind, chunks, places))
            tree = mapped(tree, lambda leaf: self._value(leaf, places) if isinstance(leaf, Unread) else leaf)
            tree = _with_positions(tree)
            text = _stamps_of(header)
            self._tree = with_stamps(tree, text) if text is not None else tree
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            file.damaged(f"it is not metadata of torch.distributed.checkpoint: {error or type(error).__name__}")

    @property
    def tree(self) -> Any:
        """The nested content, tensors as headers."""
        return self._tree

    def _placed(self, key: str, kind: TensorType, chunks: Any, places: Places) -> Pieced:
        """Return where the pieces of a tensor are, after it is clear that they make up all of it."""
        boxes = [_box(chunk) for chunk in chunks]
        check_boxes(key, kind.shape, boxes)
        return Pieced(key, tuple(self._piece(key, kind, box, places) for box in boxes if prod(box.sizes)))

    def _piece(self, key: str, kind: TensorType, box: Box, places: Places) -> StoredBox:
        if (key, box.offsets) not in places:
            raise ValueError(f"a piece of `{key}` is nowhere")
        file, offset, length = self._run(key, places[key, box.offsets])
        if prod(box.sizes) * kind.dtype.itemsize > length:
            file.damaged(
                f"`{key}` is said to have {length} bytes, which is too few for {TensorType(kind.dtype, box.sizes)}"
            )
        return StoredBox(box, file, offset, length)

    def _run(self, key: str, place: tuple[str, int, int]) -> tuple[InputFile, int, int]:
        """Return the run of bytes of an entry: a file, and where in it."""
        name, offset, length = place
        file = self._opened.get(name)
        if file is None:
            file = self._opened[name] = InputFile(inside(self.path, name, str(self.files[0].path)))
            self.files.append(file)
        if offset < 0 or length < 0 or offset + length > file.size:
            file.damaged(f"`{key}` is said to be at the bytes {offset} to {offset + length}, and it has {file.size}")
        return file, offset, length

    def _value(self, entry: Unread, places: Places) -> Any:
        """Return an entry that is no tensor: what a file of torch.save within a file of the folder holds."""
        if (entry.key, None) not in places:
            raise ValueError(f"`{entry.key}` is nowhere")
        file, offset, length = self._run(entry.key, places[entry.key, None])
        part = file.part(offset, length)
        if part.read(0, min(len(LOCAL), length)) != LOCAL:
            return OpaqueInfo("pickled value", entry)
        return TorchReader(file.path, part).tree

    def load(self, info: Any) -> Any:
        """Return a tensor.

        Raises:
            StatexError: SX604 where its pieces are not what the header says, SX614 for an entry that is no tensor.
        """
        if isinstance(info, OpaqueInfo):
            refuse_unread([info.handle])
        if not isinstance(info, TensorInfo) or not isinstance(info.handle, Pieced):
            return super().load(info)
        import torch

        pieces = info.handle.pieces
        if len(pieces) == 1:
            return self._load_piece(info, pieces[0])
        tensor = torch.empty(info.type.shape, dtype=torch_dtype(torch, info.type.dtype.name))
        for piece in pieces:
            place = tuple(slice(o, o + n) for o, n in zip(piece.box.offsets, piece.box.sizes, strict=True))
            tensor[place] = self._load_piece(info, piece)
        return tensor

    def _load_piece(self, info: TensorInfo, piece: StoredBox) -> Any:
        part = piece.file.part(piece.offset, piece.length)
        wanted = TensorType(info.type.dtype, piece.box.sizes)
        found = TorchReader(piece.file.path, part).tree
        if not isinstance(found, TensorInfo) or found.type != wanted:
            is_tensor = isinstance(found, TensorInfo)
            what = str(found.type) if is_tensor else f"a {type(found).__name__}"
            piece.file.damaged(f"`{info.handle.key}` should be {wanted} there, and is {what}")  # type: ignore[attr-defined]
        return Materializer(keep=False).tensor(found).detach()


def _library() -> Any:
    import torch.distributed.checkpoint

    return torch.distributed.checkpoint


def _cause(error: BaseException) -> BaseException:
    """Return what has happened, out of the exceptions that torch wraps it in."""
    failures = getattr(error, "failures", None)
    cause: BaseException = next(iter(failures.values()))[0] if failures else error
    before: BaseException | None = cause
    while before is not None:
        if isinstance(before, OSError | StatexError) or not isinstance(before, Exception):
            # torch's writer of archives fails once more where the file under it has failed, or a signal has come.
            return before
        before = before.__cause__ or before.__context__
    return cause


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


Describe = Callable[[str, TensorType, Any], Pieced]
"""Finds the pieces of a tensor by its key, its type, and the chunks that the header has of it."""


def _tree_of(header: Mapping[str, Any], describe: Describe) -> Any:
    """Return the tree of the tensors and other entries, nested as they were when they were saved."""
    paths: Mapping[str, Any] = header.get("planner_data") or {}
    tree: dict[str | int, Any] = {}
    for key, described in header["state_dict_metadata"].items():
        if type(key) is not str:
            raise ValueError(f"a key is a {type(key).__name__}")
        path = paths.get(key)
        here = tree
        *outer, last = path if path is not None and _is_plain(path) else (key,)
        for part in outer:
            here = here.setdefault(part, {})
        if last in here:
            raise ValueError(f"`{key}` is where another entry is")
        here[last] = _entry(key, described, describe)
    return _with_lists(tree)


_DEPTH = 64
"""Entries that are nested deeper keep their joined keys."""


def _is_plain(path: object) -> bool:
    """Say whether a path is one of keys and places, and no longer than these are followed."""
    if not isinstance(path, tuple) or not 0 < len(path) <= _DEPTH:
        return False
    return all(type(part) is str or type(part) is int for part in path)


def _with_lists(tree: Any) -> Any:
    """Return a tree with lists where torch has numbered what it took out of them; keys of dicts are texts there."""
    if type(tree) is not dict:
        return tree
    items = {part: _with_lists(value) for part, value in tree.items()}
    # Where nothing is noted of an item, such as of an empty dict, its place is not known to have been there.
    is_list = bool(items) and all(place in items for place in range(len(items)))
    return [items[place] for place in range(len(items))] if is_list else items


def _with_positions(tree: Any) -> Any:
    """Return a tree with numbers where torch has written the positions of an optimizer's parameters as texts.

    All keys of dicts are texts in such folders. Elsewhere an optimizer that is loaded looks for its positions as
    numbers, and passes over texts without a word.
    """
    if type(tree) is list:
        return [_with_positions(value) for value in tree]
    if type(tree) is not dict:
        return tree
    items = {key: _with_positions(value) for key, value in tree.items()}
    state, groups = items.get("state"), items.get("param_groups")
    if (
        type(state) is dict
        and state
        and _are_numbered(groups)
        and all(isinstance(key, str) and is_numeral(key) for key in state)
    ):
        items["state"] = {int(key): kept for key, kept in state.items()}
    return items


def _are_numbered(groups: object) -> bool:
    """Say whether groups of an optimizer name their parameters by positions."""
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return False
    members = [group.get("params") for group in groups]
    return all(isinstance(own, list) and all(type(one) is int for one in own) for own in members)


def _stamps_of(header: Mapping[str, Any]) -> str | None:
    """Return the entry for the versions of states, if there is one: it has the place of a path, and is none."""
    paths = header.get("planner_data") or {}
    if STAMPS not in paths or STAMPS in header["state_dict_metadata"]:
        return None
    (text,) = paths[STAMPS]
    if type(text) is not str:
        raise ValueError("the versions of its states are not text")
    return text


def _entry(key: str, described: Any, describe: Describe) -> TensorInfo | OpaqueInfo:
    if described.function.name == "BytesStorageMetadata":
        return OpaqueInfo("pickled value", Unread(key, "such a value is read from an archive of torch.save alone"))
    state = _state_of(described, "TensorStorageMetadata")
    dtype, _, requires_grad, *_ = _state_of(state["properties"], "TensorProperties")
    kind = TensorType(BY_NAME[dtype.name], sizes_of(state["size"]))
    if kind.numel >= 2**60:
        raise ValueError(f"`{key}` has the shape {kind.shape}")
    grad = bool(requires_grad) and dtype.name.startswith(("float", "bf"))
    return TensorInfo(kind, requires_grad=grad, handle=describe(key, kind, state["chunks"]))


def _box(described: Any) -> Box:
    state = _state_of(described, "ChunkStorageMetadata")
    return Box(sizes_of(state["offsets"]), sizes_of(state["sizes"]))


def _places(described: Any) -> Places:
    """Return the file, offset and length of each piece by its key and its offsets in the tensor."""
    found: dict[tuple[str, tuple[int, ...] | None], tuple[str, int, int]] = {}
    for index, info in described.items():
        named, stored = _state_of(index, "MetadataIndex"), _state_of(info, "_StorageInfo")
        offsets = named.get("offset")
        place = named["fqn"], None if offsets is None else sizes_of(offsets)
        if place in found:
            raise ValueError(f"`{place[0]}` is stored twice")
        if stored.get("transform_descriptors"):
            raise ValueError(f"`{place[0]}` is transformed, which statex does not read")
        name, offset, length = stored["relative_path"], stored["offset"], stored["length"]
        if type(name) is not str or type(offset) is not int or type(length) is not int:
            raise ValueError(f"`{place[0]}` has no place")
        found[place] = name, offset, length
    return found


def _state_of(value: Any, name: str) -> Any:
    if not isinstance(value, ForeignCall) or value.function.name != name:
        raise ValueError(f"a {name} is missing")
    return value.state


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from warning that there is one process only, which is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is")
        warnings.filterwarnings("ignore", ".*TypedStorage")
        yield


def write_distributed(folder: Path, tree: Any, watch: Watch) -> None:
    """Write a tree of plain values and contiguous `OutTensor`s by torch; each tensor is made when torch writes it.

    All is on the disk then; `watch` hears of the bytes.

    Raises:
        StatexError: SX604 for an input whose checksums do not agree, SX612 where torch cannot write.
        OSError: whatever the system refuses.
    """
    import torch

    dcp = _library()
    described: dict[int, tuple[Any, OutTensor]] = {}
    values: dict[int, tuple[Any, Any]] = {}
    last: list[Any] = []
    stamps = all_as_text(tree)
    if stamps and STAMPS in tree:
        fail(codes.CANNOT_HOLD, f"the key `{STAMPS}` is where versions of layouts are kept", help="rename it")

    def prepared(value: Any) -> Any:
        """Return what torch gets: tensors without data, and of all but dicts, lists and plain values nothing at all."""
        if isinstance(value, OutTensor):
            tensor = torch.empty(value.type.shape, dtype=torch_dtype(torch, value.type.dtype.name), device="meta")
            described[id(tensor)] = (tensor, value)
            return tensor
        if isinstance(value, dict):
            return {key: prepared(item) for key, item in value.items()}
        made = [prepared(item) for item in value] if type(value) is list else object()
        values[id(made)] = (made, value)
        return made

    def transform_object(planner: Any, item: Any, found: Any) -> Any:
        if id(found) not in values:
            return found
        value = values[id(found)][1]
        data = _archive(value)
        watch.written(sum(blob.nbytes for blob in {leaf.blob for leaf in leaves(value) if isinstance(leaf, OutTensor)}))
        return BytesIO(data)

    def lookup_object(planner: Any, index: Any) -> Any:
        found = dcp.DefaultSavePlanner.lookup_object(planner, index)
        if id(found) not in described:
            return found
        let_go()
        tensor = _tensor(described[id(found)][1], torch)
        last.append(tensor)
        return tensor

    def create_global_plan(planner: Any, plans: Any) -> Any:
        plan, metadata = dcp.DefaultSavePlanner.create_global_plan(planner, plans)
        if stamps:
            metadata.planner_data[STAMPS] = (stamps,)
        return plan, metadata

    def let_go() -> None:
        """Note that the tensor before is written, and free its memory: torch keeps all until the file is complete."""
        if last:
            storage = last.pop().untyped_storage()
            watch.written(storage.nbytes())
            storage.resize_(0)

    # torch 2.6 does not have the word, and sees for itself that there is one process.
    alone = {"no_dist": True} if "no_dist" in signature(dcp.save).parameters else {}
    own = {
        "lookup_object": lookup_object,
        "transform_object": transform_object,
        "create_global_plan": create_global_plan,
    }
    planner = type("Planner", (dcp.DefaultSavePlanner,), own)
    try:
        with _quiet():
            dcp.save(
                prepared(tree),
                storage_writer=dcp.FileSystemWriter(folder, sync_files=False, thread_count=1, per_thread_copy_ahead=0),
                planner=planner(),
                **alone,
            )
    except dcp.api.CheckpointException as error:
        cause = _cause(error)
        if isinstance(cause, RuntimeError):
            fail(codes.UNWRITABLE, f"torch cannot write `{folder.name}`: {_first_line(cause)}")
        raise cause from None
    let_go()
    for path in sorted(folder.iterdir()):
        sync_path(path, watch.synced)


def _archive(value: Any) -> bytes:
    """Return the file of torch.save of a value that is no tensor."""
    file = MemoryOutput()
    put(file, archive(value, "archive"))
    return bytes(file.data)


def _tensor(out: OutTensor, torch: Any) -> Any:
    """Return the tensor with its data."""
    import ctypes

    data = torch.empty(out.blob.nbytes, dtype=torch.uint8)
    # A storage that numpy has seen cannot be resized.
    memory = (ctypes.c_ubyte * out.blob.nbytes).from_address(data.data_ptr())
    _fill(memoryview(memory).cast("B"), out.blob)
    return data.view(torch_dtype(torch, out.type.dtype.name)).view(out.type.shape)


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
