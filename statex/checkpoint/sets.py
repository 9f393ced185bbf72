"""Sets of files: the keys in each of them, and the index that lists them."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from statex.checkpoint.blobs.contents import OutTensor
from statex.checkpoint.blobs.write_plan import FileLayout, FilePlan
from statex.checkpoint.filenames import usual_names
from statex.checkpoint.formats.base import Format

if TYPE_CHECKING:
    from statex.checkpoint.writer import Options


def files_of_set(format: Format, tree: Mapping[str, OutTensor], options: Options) -> Iterator[FilePlan]:
    """Yield the files of a set, in files of at most `shard_size` bytes, and its index if there are several."""
    shards = shards_of(tree, options.shard_size, shares=format.shares)
    called = options.names or usual_names(format)
    names = called.files(len(shards))
    for name, keys in zip(names, shards, strict=True):
        yield format.file(_part(tree, keys), options, name)
    if len(shards) > 1:
        weights = {key: name for name, keys in zip(names, shards, strict=True) for key in keys}
        ordered = {key: weights[key] for key in tree}
        text = json.dumps(
            {"metadata": _counted(tree, options.index_metadata), "weight_map": ordered}, indent=2, ensure_ascii=False
        )
        layout = FileLayout()
        layout.add("index", text.encode("utf-8") + b"\n")
        yield layout.file(called.index, is_index=True)


def _counted(tree: Mapping[str, OutTensor], index: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the index of an input says with the numbers of the output."""
    types = [tensor.type for tensor in tree.values()]
    counted = dict(index) | {"total_size": sum(kind.nbytes for kind in types)}
    if "total_parameters" in index:
        counted["total_parameters"] = sum(kind.numel for kind in types)
    return counted


def _part(tree: Mapping[str, OutTensor], keys: Sequence[str]) -> Mapping[str, OutTensor]:
    """Return the entries of a file, with the `_metadata` of the whole state."""
    metadata = getattr(tree, "_metadata", None)
    part: Any = {key: tree[key] for key in keys} if metadata is None else OrderedDict((key, tree[key]) for key in keys)
    if metadata is not None:
        part._metadata = metadata
    return part  # type: ignore[no-any-return]


def shards_of(tree: Mapping[str, OutTensor], limit: int | None, *, shares: bool) -> list[list[str]]:
    """Return the keys of each file, in their order: files are filled up to the limit.

    With `shares`, tensors over one storage are in one file, and count once.
    """
    together: dict[object, list[str]] = {}
    for key, tensor in tree.items():
        together.setdefault(tensor.blob if shares else key, []).append(key)
    count, filled = 0, 0
    places: dict[str, int] = {}
    for keys in together.values():
        size = tree[keys[0]].blob.nbytes
        if limit is not None and filled and filled + size > limit:
            count, filled = count + 1, 0
        places.update(dict.fromkeys(keys, count))
        filled += size
    shards: list[list[str]] = [[] for _ in range(count + 1)]
    for key in tree:
        shards[places[key]].append(key)
    return shards
