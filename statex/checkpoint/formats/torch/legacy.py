"""Files of torch.save before the zip format: five pickles, then the storages one after the other.

Format: `_legacy_save` and `_legacy_load` of torch/serialization.py. The pickles are a magic number, a protocol
version, notes on the system, the object, and the keys of the storages in the order in which they follow; each storage
is its number of elements in 8 bytes and its elements.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from statex.checkpoint.formats.torch.pickle_reader import PickleReader
from statex.checkpoint.formats.torch.rebuild import TorchObjects
from statex.checkpoint.io.input_file import Extent, InputFile, Stored
from statex.checkpoint.objects import STORAGES
from statex.checkpoint.reader import Reader
from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import files as codes

MAGIC = re.compile(rb"\x80[\x02-\x05](?:\x95.{8})?\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19(?:\x94)?\.", re.DOTALL)
"""The pickled magic number, in any protocol."""
_VERSION = 1001
_CONTENT = 2
"""Which of the pickles after the magic number is the object."""
_FIRST, _LARGEST = 1 << 20, 1 << 30
"""Bytes that are looked for pickles in at first, and at most."""


def looks_like_pickle(head: bytes) -> bool:
    """Say whether a file begins like a pickle of protocol 2 to 5."""
    return head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


class LegacyReader(Reader):
    """A file of torch.save before 1.6."""

    def __init__(self, path: Path, file: InputFile) -> None:
        super().__init__(path, [file])
        self._file = file
        self._waiting: dict[str, Stored] = {}
        objects = TorchObjects(str(path), self._place)
        self._tree, keys, start = self._read(objects)
        self._find_storages(objects, keys, start)

    @property
    def tree(self) -> Any:
        """The nested content, tensors as headers."""
        return self._tree

    def _place(self, key: str, nbytes: int, location: str) -> Stored:
        # Where it is, the end of the file tells.
        found = self._waiting[key] = Stored(Extent(self._file, 0, nbytes), None, key, location)
        return found

    def _read(self, objects: TorchObjects) -> tuple[Any, Any, int]:
        """Return the object, the keys of the storages, and where these start."""
        size = _FIRST
        while True:
            data = self._file.read(0, min(size, self._file.size))
            readers: list[PickleReader] = []
            try:
                return self._read_from(data, objects, readers)
            except StatexError:
                ended = bool(readers) and readers[-1].at >= len(data) - 16
                if not ended or len(data) == self._file.size or size >= _LARGEST:
                    raise
            size *= 16
            objects.storages.clear()

    def _read_from(self, data: bytes, objects: TorchObjects, readers: list[PickleReader]) -> tuple[Any, Any, int]:
        magic = MAGIC.match(data)
        assert magic is not None
        at = magic.end()
        found: list[Any] = []
        for number in range(4):
            is_content = number == _CONTENT
            reader = PickleReader(data, str(self.path), objects.storage, objects.build, at, foreign=is_content)
            readers.append(reader)
            found.append(reader.read())
            at = reader.at
        version, system, tree, keys = found
        if version != _VERSION or not isinstance(system, dict) or not isinstance(keys, list):
            self._file.damaged("its first pickles are not those of torch.save")
        if system.get("little_endian") is not True:
            fail(
                codes.NOT_A_CHECKPOINT,
                f"`{self.path}` was written with big-endian numbers, which statex does not read",
            )
        return tree, keys, at

    def _find_storages(self, objects: TorchObjects, keys: list[Any], at: int) -> None:
        for key in keys:
            storage = objects.storages.get(key) if isinstance(key, str) else None
            if storage is None:
                self._file.damaged(f"it lists a storage {key!r} that nothing uses")
            numel = int.from_bytes(self._file.read(at, 8), "little")
            if numel != storage.numel:
                self._file.damaged(f"the storage `{key}` has {numel} elements, and its tensors say {storage.numel}")
            nbytes = numel * STORAGES[storage.type].itemsize
            if at + 8 + nbytes > self._file.size:
                self._file.damaged(f"it ends in the storage `{key}`")
            if self._waiting.pop(key, None) is None:
                self._file.damaged(f"it lists the storage `{key}` twice")
            storage.handle.extent = Extent(self._file, at + 8, nbytes)
            at += 8 + nbytes
        for key in self._waiting:
            self._file.damaged(f"the storage `{key}` is missing from it")
