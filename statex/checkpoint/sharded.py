"""Sharded sets as Hugging Face saves them: an index of keys beside the files that hold them.

Format: `{"metadata": {"total_size": bytes}, "weight_map": {key: file name}}`, in `model.safetensors.index.json` or
`pytorch_model.bin.index.json`.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NoReturn

from statex.checkpoint.input_file import InputFile
from statex.checkpoint.reader import Reader
from statex.checkpoint.stamps import difference
from statex.checkpoint.strict_json import parse
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.diagnostics.codes import migrations as migration_codes

INDEX = ".index.json"
NAMES: Mapping[str, tuple[str, str]] = {
    "safetensors": ("model", ".safetensors"),
    "torch": ("pytorch_model", ".bin"),
}
"""The names of the files of a set, for each format."""
WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".h5", ".msgpack", ".gguf", ".distcp")
"""Endings of files that hold weights."""
_WHOLE = frozenset("".join(parts) for parts in NAMES.values())
_OF_SET = re.compile(r".+-\d{5}-of-\d{5}\.(safetensors|bin)|__\d+_\d+\.distcp", re.DOTALL)
_LARGEST_INDEX = 256 << 20
_SHARD = re.compile(r"(.+)-\d+-of-(\d+)(\.\w+)")
"""A shard's name: what stands before its number, how many there are, the ending."""

Open = Callable[[Path], Reader]


class ShardedReader(Reader):
    """A set of files under an index; `open` opens one of them, which is no set itself."""

    def __init__(self, index: Path, open: Open) -> None:
        file = InputFile(index)
        super().__init__(index, [file])
        self._shards: dict[str, Reader] = {}
        try:
            weights = self._weight_map(file)
            for name in dict.fromkeys(weights.values()):
                self._shards[name] = self._open_shard(name, open)
            self._tree = self._merged(weights)
        except BaseException:
            self.close()
            raise
        self.format = next((r.format for r in self._shards.values()), "safetensors")
        self.notes = {name: text for r in reversed(self._shards.values()) for name, text in r.notes.items()}

    @property
    def tree(self) -> Any:
        """The tensors by key, in the order of the index."""
        return self._tree

    def _weight_map(self, file: InputFile) -> dict[str, str]:
        if file.size > _LARGEST_INDEX:
            self._damaged(f"it has {file.size} bytes")
        content = parse(file.read(0, file.size), "it", self._damaged)
        weights = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights.values()):
            self._damaged("it has no `weight_map` of keys to file names")
        self.index = content.get("metadata") or {}
        if not isinstance(self.index, dict):
            self._damaged("its `metadata` is no mapping")
        return weights

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
        found = {name: getattr(reader.tree, "_metadata", None) for name, reader in self._shards.items()}
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
        for name, reader in self._shards.items():
            for key in reader.tree:
                if weights.get(key) != name:
                    where = f"in `{weights[key]}`" if key in weights else "nowhere"
                    self._damaged(f"`{key}` is in `{name}`, and the index has it {where}")
        self._check_stamps()
        merged: Any = {}
        metadata = next((m for r in self._shards.values() if (m := getattr(r.tree, "_metadata", None))), None)
        if metadata is not None:
            merged = OrderedDict()
            merged._metadata = metadata
        for key, name in weights.items():
            if key not in self._shards[name].tree:
                self._damaged(f"`{key}` is not in `{name}`, where the index has it")
            merged[key] = self._shards[name].tree[key]
        return merged  # type: ignore[no-any-return]

    def _damaged(self, why: str) -> NoReturn:
        fail(codes.DAMAGED, f"`{self.path}` is damaged: {why}")


def inside(folder: Path, name: str, label: str) -> Path:
    """Return the path of a file in a folder that a file of it names; `label` is how messages call that one.

    Raises:
        StatexError: SX603 for what is or leads elsewhere, SX604 where there is no such file.
    """
    path = folder / name
    if os.path.basename(name) != name or name in ("", ".", ".."):
        fail(codes.UNSAFE, f"`{label}` names `{name}`, which is not in its own folder")
    # These say no, and do not raise, for names that no file can have.
    if _leads_out(path, folder):
        fail(
            codes.UNSAFE,
            f"`{path}` is a link to outside of its folder",
            help=f"copy what it points to: cp -rL '{folder}' elsewhere",
        )
    if not os.path.exists(path):
        fail(codes.DAMAGED, f"`{label}` is damaged: its shard `{name}` is missing")
    return path


def in_folder(folder: Path) -> Path:
    """Return the file in a folder that stands for the checkpoint: an index, or else the only file of weights.

    Raises:
        StatexError: SX602 where there is none, or no single one.
    """
    names = [entry.name for entry in _entries(folder)]
    for format in NAMES.values():
        if format[0] + format[1] + INDEX in names:
            return folder / (format[0] + format[1] + INDEX)
    found = [name for name in names if name.endswith(INDEX)]
    found = found or [n for n in ("".join(format) for format in NAMES.values()) if n in names][:1]
    found = found or [name for name in names if name.endswith(WEIGHTS[:5])]
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


def _check_no_shards(folder: Path, names: Sequence[str]) -> None:
    """Refuse shards without their index: one of them alone is a part of a checkpoint."""
    shards = [_SHARD.fullmatch(name) for name in names]
    shard = shards[0] if shards and all(shards) else None
    if shard is not None and int(shard[2]) > 1:
        fail(
            codes.NOT_A_CHECKPOINT,
            f"the folder `{folder}` holds shards, and no index that says what is in which",
            notes=[f"`{shard[0]}` is one of {int(shard[2])}"],
            help=f"fetch {shard[1]}{shard[3]}{INDEX} as well, or name one file to take its part alone",
        )


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        fail(codes.UNREADABLE, f"`{folder}` cannot be read: {error.strerror or error}")


def other_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Return what a folder has beside weights and their index: files that can be copied along, and names of the rest.

    Those are configuration, tokenizer and texts, and folders (`name/`) and links to outside (`name@`), which a
    stranger may have made of anything. Hidden ones are the business of tools.
    """
    files: list[Path] = []
    rest: list[str] = []
    for entry in _entries(folder):
        if entry.name.startswith(".") or is_weights(entry.name):
            continue
        if _leads_out(entry, folder):
            rest.append(f"{entry.name}@")
        elif entry.is_dir():
            rest.append(f"{entry.name}/")
        elif entry.is_file():
            files.append(entry)
    return files, rest


def holds_just(folder: Path, names: Set[str]) -> bool:
    """Say whether a folder holds just these files."""
    try:
        return {entry.name for entry in folder.iterdir()} == names
    except OSError:
        return False


def _leads_out(path: Path, folder: Path) -> bool:
    # These say no, and do not raise, for names that no file can have.
    return os.path.islink(path) and os.path.dirname(os.path.realpath(path)) != os.path.realpath(folder)


def is_of_set(name: str) -> bool:
    """Say whether a file's name is one that sets have: of a shard, a whole model as such folders call it, an index.

    Other weights (`optimizer.pt`, a second model) may stand beside a set, and are none of it.
    """
    return name.endswith(INDEX) or name in _WHOLE or bool(_OF_SET.fullmatch(name)) or name == ".metadata"


def is_weights(name: str) -> bool:
    """Say whether a file's name is one of weights, or of an index of them."""
    return name.endswith((*WEIGHTS, INDEX))
