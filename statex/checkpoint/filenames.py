"""The file names of a checkpoint in a folder, as transformers, diffusers and peft save and look for them.

What comes before the ending is the stem: `model`, and for a variant `model.fp16`. Shards have numbers after it
(`model.fp16-00001-of-00002.safetensors`), and their index names the variant last (`model.safetensors.index.fp16.json`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from statex.checkpoint.formats.base import Format
from statex.checkpoint.formats.registry import FORMATS
from statex.checkpoint.formats.strict_json import is_text
from statex.core.record import record

INDEX = ".index.json"
OF_SETS = tuple([one for one in FORMATS if one.has_sets])
"""The formats of files in a set, in the order in which libraries look for them."""
ENDINGS = tuple([ending for one in OF_SETS for ending in one.set_suffixes])
WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".h5", ".msgpack", ".gguf", ".distcp")
"""Endings of files that hold weights."""
KNOWN = ("model", "pytorch_model", "diffusion_pytorch_model", "adapter_model")
"""The stems that libraries look for; what follows one after a dot is a variant."""
_ENDING = "|".join(map(re.escape, ENDINGS))
_INDEX = re.compile(rf"(?P<stem>.+?)(?P<ending>{_ENDING})?\.index(?:\.(?P<variant>.+))?\.json", re.DOTALL)
_FILE = re.compile(rf"(?P<stem>.+?)(?:-\d+-of-(?P<count>\d+))?(?P<ending>{_ENDING})", re.DOTALL)
_SHARD = re.compile(r".+-\d+-of-\d+", re.DOTALL)


@record
class FileNames:
    """The names of the files of a checkpoint: what their stem and its variant are, and what they end in."""

    stem: str
    variant: str
    ending: str

    @property
    def whole(self) -> str:
        """The name of the only file."""
        return f"{self._full}{self.ending}"

    @property
    def index(self) -> str:
        """The name of the index of shards."""
        return f"{self.stem}{self.ending}.index{'.' * bool(self.variant)}{self.variant}.json"

    @property
    def family(self) -> tuple[str, str]:
        """What the names of one checkpoint have in common, in whatever format it is saved."""
        return ("model" if self.stem == "pytorch_model" else self.stem), self.variant

    def files(self, count: int) -> list[str]:
        """Return the names of so many files, in order; the only one has no number."""
        if count == 1:
            return [self.whole]
        return [f"{self._full}-{number:05d}-of-{count:05d}{self.ending}" for number in range(1, count + 1)]

    @property
    def _full(self) -> str:
        return f"{self.stem}.{self.variant}" if self.variant else self.stem


def usual_names(format: Format) -> FileNames:
    """Return the names that files of a format have if nothing says otherwise."""
    return FileNames(format.stem, "", format.set_suffixes[0])


def names_with(stem: str, format: Format) -> FileNames:
    """Return the names with a stem that somebody asks for, such as `model.fp16`."""
    return _split(FileNames(stem, "", format.set_suffixes[0]))


def names_in(format: Format, read: FileNames | None, changed: bool) -> FileNames:
    """Return the names that files of a format get, after those that were read; `changed` says if in another format."""
    if read is None:
        return usual_names(format)
    # What one format usually calls its files is called otherwise in another.
    stem = format.stem if changed and any(read.stem == one.stem for one in OF_SETS) else read.stem
    ending = read.ending if read.ending in format.set_suffixes else format.set_suffixes[0]
    return replace(read, stem=stem, ending=ending)


def names_of(name: str) -> FileNames | None:
    """Return the names that go with that of a file or an index; `None` if it is neither."""
    found = _INDEX.fullmatch(name) if is_index(name) else _FILE.fullmatch(name)
    if found is None:
        return None
    parts = found.groupdict()
    return _split(FileNames(parts["stem"], parts.get("variant") or "", parts["ending"] or ""))


def _split(names: FileNames) -> FileNames:
    """Return names with the variant apart from a known stem."""
    stem, dot, variant = names.stem.partition(".")
    return replace(names, stem=stem, variant=variant) if dot and stem in KNOWN and variant else names


def is_stem(text: str) -> bool:
    """Say whether files can be named after a text, and be found again by their names."""
    if not text or text.startswith(".") or not is_text(text) or len(text.encode()) > _LONGEST:
        return False
    read_otherwise = is_weights(text) or ".index." in f"{text}." or _SHARD.fullmatch(text) is not None
    return not read_otherwise and not any(character in text for character in "/\\\0")


_LONGEST = 200
"""Bytes: file systems take 255 a name, some of which numbers, endings and temporary names need."""


def is_index(name: str) -> bool:
    """Say whether a name is that of the index of a set."""
    found = _INDEX.fullmatch(name)
    return name.endswith(INDEX) or (found is not None and found["ending"] is not None)


def is_weights(name: str) -> bool:
    """Say whether a file's name is one of weights, or of an index of them."""
    return name.endswith(WEIGHTS) or is_index(name)


def shards_named(name: str) -> int | None:
    """Return of how many shards a file is one, by its name; `None` if it is none."""
    found = _FILE.fullmatch(name)
    return int(found["count"]) if found is not None and found["count"] is not None else None


def of_sets(names: Iterable[str], fresh: Iterable[str]) -> set[str]:
    """Return which names are those of the set that what is `fresh` replaces: of the same stem, in either format.

    Other weights (`optimizer.pt`, a second model, another variant) may be beside a set, and are no part of it. So is
    `pytorch_model.bin` beside `model.safetensors`: of several sets only the one that is written anew is replaced.
    """
    written = [found for name in fresh if (found := names_of(name)) is not None]
    families = {found.family for found in written} or {usual_names(one).family for one in OF_SETS}
    endings = {found.ending for found in written} | {one.set_suffixes[0] for one in OF_SETS}
    mine = [name for name in names if _is_distributed(name) or _is_one_of(name, families, endings)]
    sets = {name: _set_of(name, mine) for name in mine}
    there = set(sets.values())
    if len(there) > 1:
        alike = Counter(names for names, _ in there)
        there = {(names, parts) for names, parts in there if names in written and alike[names] == 1}
    return {name for name, its in sets.items() if its in there}


def _set_of(name: str, names: Iterable[str]) -> tuple[FileNames | None, str]:
    """Return what the files of one set have in common: their names, and of how many parts it is, as text.

    An index goes with the shards that are there, whose number it does not say.
    """
    called = names_of(name)
    if called is None or _is_distributed(name):
        return None, ""
    if is_index(name):
        name = next((one for one in names if shards_named(one) is not None and names_of(one) == called), name)
    return called, str(shards_named(name) or "")


def _is_one_of(name: str, families: set[tuple[str, str]], endings: set[str]) -> bool:
    found = names_of(name)
    return found is not None and found.family in families and found.ending in endings


def _is_distributed(name: str) -> bool:
    return name == ".metadata" or re.fullmatch(r"__\d+_\d+\.distcp", name) is not None
