"""Sharded sets as Hugging Face saves them: an index of keys beside the files that hold them.

Format: `{"metadata": {"total_size": bytes}, "weight_map": {key: file name}}`, in `model.safetensors.index.json` or
`pytorch_model.bin.index.json`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

from statex.checkpoint.filenames import (
    ENDINGS,
    INDEX,
    KNOWN,
    OF_SETS,
    FileNames,
    is_index,
    names_of,
    shards_named,
    usual_names,
)
from statex.checkpoint.formats.stamps import difference
from statex.checkpoint.formats.strict_json import parse
from statex.checkpoint.io.input_file import InputFile, inside
from statex.checkpoint.reader import Reader
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.diagnostics.codes import migrations as migration_codes

_USUAL = [usual_names(one) for one in OF_SETS]
_FOUND = [*_USUAL, *(FileNames(stem, "", one.ending) for stem in KNOWN for one in _USUAL)]
"""What a folder is read through, if it is there, in this order; libraries look for these."""
_LARGEST_INDEX = 256 << 20

Open = Callable[[Path], Reader]


class ShardedReader(Reader):
    """A set of files under an index; `open` opens one of them, which is no set itself."""

    def __init__(self, index: Path, open: Open) -> None:
        file = InputFile(index)
        super().__init__(index, [file])
        self.shards: dict[str, Reader] = {}
        try:
            weights, self.index_metadata = _read_index(file, self._damaged)
            for name in dict.fromkeys(weights.values()):
                self.shards[name] = self._open_shard(name, open)
            self._tree = self._merged(weights)
        except BaseException:
            self.close()
            raise
        self.metadata_texts = {
            name: text for r in reversed(self.shards.values()) for name, text in r.metadata_texts.items()
        }

    @property
    def tree(self) -> Any:
        """The tensors by key, in the order of the index."""
        return self._tree

    def _open_shard(self, name: str, open: Open) -> Reader:
        """Open a shard, which has to be in the folder of the index itself."""
        path = inside(self.path.parent, name, str(self.path))
        reader = open(path)
        self.files += reader.files
        if not isinstance(reader.tree, Mapping):
            self._damaged(f"its shard `{name}` holds no dict of tensors")
        return reader

    def _check_stamps(self) -> None:
        """Refuse shards that carry different versions: they come from different checkpoints."""
        found = {name: getattr(reader.tree, "_metadata", None) for name, reader in self.shards.items()}
        for name, metadata in found.items():
            first = next(iter(found))
            differing = difference(found[first], metadata)
            if differing is not None:
                path, one, other = differing
                fail(
                    migration_codes.SHARDS_DISAGREE,
                    f"the shards of `{self.path}` carry different versions{f' of `{path}`' if path else ''}",
                    rows=[(f"  {first}", one), (f"  {name}", other)],
                    notes=["the digests of the steps, or their parameters, differ"] if one == other else (),
                    help="fetch all shards of one checkpoint, or write the set again",
                )

    def _merged(self, weights: Mapping[str, str]) -> dict[str, Any]:
        for name, reader in self.shards.items():
            for key in reader.tree:
                if weights.get(key) != name:
                    where = f"in `{weights[key]}`" if key in weights else "nowhere"
                    self._damaged(f"`{key}` is in `{name}`, and the index has it {where}")
        self._check_stamps()
        merged: Any = {}
        metadata = next((m for r in self.shards.values() if (m := getattr(r.tree, "_metadata", None))), None)
        if metadata is not None:
            merged = OrderedDict()
            merged._metadata = metadata
        for key, name in weights.items():
            if key not in self.shards[name].tree:
                self._damaged(f"`{key}` is not in `{name}`, where the index has it")
            merged[key] = self.shards[name].tree[key]
        return merged  # type: ignore[no-any-return]

    def _damaged(self, why: str) -> NoReturn:
        fail(codes.DAMAGED, f"`{self.path}` is damaged: {why}")


def _read_index(file: InputFile, damaged: Callable[[str], NoReturn]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the names of files by keys, and what the index says besides."""
    if file.size > _LARGEST_INDEX:
        damaged(f"it has {file.size} bytes")
    content = parse(file.read(0, file.size), "it", damaged)
    weights = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights.values()):
        damaged("it has no `weight_map` of keys to file names")
    besides = content.get("metadata") or {}
    if not isinstance(besides, dict):
        damaged("its `metadata` is not a mapping")
    return weights, besides


def shards_in(index: Path) -> list[Path]:
    """Return the files that an index names.

    Raises:
        StatexError: SX601, SX604.
    """
    with closing(InputFile(index)) as file:
        weights, _ = _read_index(file, file.damaged)
    return [index.parent / name for name in dict.fromkeys(weights.values())]


def in_folder(folder: Path) -> Path:
    """Return the file in a folder that stands for the checkpoint: an index, or else the only file of weights.

    Raises:
        StatexError: SX602 where there is none, or no single one.
    """
    names = [entry.name for entry in entries(folder)]
    found = _first([one.index for one in _FOUND], names) or [name for name in names if name.endswith(INDEX)]
    found = found or _first([one.whole for one in _FOUND], names) or _others(names)
    _check_no_shards(folder, found)
    if len(found) == 1:
        return folder / found[0]
    if not found:
        fail(codes.NOT_A_CHECKPOINT, f"the folder `{folder}` holds neither an index nor a file of weights")
    fail(
        codes.NOT_A_CHECKPOINT,
        f"the folder `{folder}` holds several checkpoints: which one is meant?",
        rows=[(f"  {name}",) for name in found[:12]] + [(f"  and {n} more",) for n in [len(found) - 12] if n > 0],
        help=f"name one: '{folder / found[0]}'",
    )


def _first(wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    return [name for name in wanted if name in names][:1]


def _others(names: Sequence[str]) -> list[str]:
    """Return what could be meant in a folder where nothing has the name that libraries look for."""
    indices = [name for name in names if is_index(name)]
    files = [name for name in names if name.endswith(ENDINGS)]
    return [*indices, *(name for name in files if shards_named(name) is None)] if indices else files


def _check_no_shards(folder: Path, names: Sequence[str]) -> None:
    """Refuse shards without their index: one of them alone is a part of a checkpoint."""
    counts = [shards_named(name) for name in names]
    count = counts[0] if counts and all(counts) else None
    if count is not None and count > 1:
        parts = names_of(names[0])
        assert parts is not None, "a shard is named like a file"
        fail(
            codes.NOT_A_CHECKPOINT,
            f"the folder `{folder}` holds shards, and no index that says what is in which",
            notes=[f"`{names[0]}` is one of {count}"],
            help=f"fetch {parts.index} as well, or name one file to take its part alone",
        )


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder, by name.

    Raises:
        StatexError: SX601.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        fail(codes.UNREADABLE, f"`{folder}` cannot be read: {error.strerror or error}")


def holds_just(folder: Path, names: Set[str]) -> bool:
    """Say whether a folder holds just these files."""
    try:
        return {entry.name for entry in folder.iterdir()} == names
    except OSError:
        return False
