"""Files of `torch.save`: reads the zip archive's directory and its pickle, without torch.

Format: torch/serialization.py and caffe2/serialize/inline_container.cc. Members are stored as they are: `data.pkl`,
`byteorder`, and the storages as `data/0`, `data/1`, …
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from statex.checkpoint.formats.torch.pickle_reader import PickleReader
from statex.checkpoint.formats.torch.rebuild import TorchObjects
from statex.checkpoint.formats.zip_directory import Member, ZipDirectory
from statex.checkpoint.io.input_file import Extent, InputFile, Stored
from statex.checkpoint.reader import Reader
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

_TORCHSCRIPT = "constants.pkl"
_EXPORTED = ("archive_format", "serialized_exported_program.json")
_LAST_VERSION = 10
_LARGEST_PICKLE = 1 << 30
"""Bytes; a pickle names tensors and does not hold them."""


class TorchReader(Reader):
    """A file of `torch.save` since 1.6, a zip archive."""

    def __init__(self, path: Path, file: InputFile, directory: ZipDirectory | None = None) -> None:
        super().__init__(path, [file])
        self._file = file
        self._directory = directory if directory is not None else ZipDirectory(file)
        if self._directory.alike is not None:
            # torch finds members by their names without regard to case.
            file.damaged(f"it has two members `{self._directory.alike}`")
        self._prefix = self._find_prefix()
        self._ranges: list[tuple[int, int, str]] = []
        self._check_version()
        self._check_byteorder()
        pickled = self._record("data.pkl", _LARGEST_PICKLE)
        self.pickled = len(pickled)
        made = TorchObjects(str(path), self._place)
        self._tree = PickleReader(pickled, str(path), made.storage, made.build, tensor=made.plain, foreign=True).read()
        self._check_overlap()

    @property
    def tree(self) -> Any:
        """The nested content, tensors as headers."""
        return self._tree

    def _find_prefix(self) -> str:
        members = self._directory.members
        prefixes = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
        tops = [prefix for prefix in prefixes if prefix.count("/") == 1]
        if any(prefix + _TORCHSCRIPT in members for prefix in tops):
            fail(
                codes.UNSAFE,
                f"`{self.path}` is a TorchScript archive: a program, not a state",
                help="load it where you trust it, and save its state: "
                "torch.save(torch.jit.load(f).state_dict(), 'state.pth')",
            )
        if not tops and any(name.endswith(_EXPORTED) for name in members):
            fail(
                codes.NOT_A_CHECKPOINT,
                f"`{self.path}` is an archive of torch.export (.pt2): a program, not a state",
                help="load it where you trust it, and save its state: "
                "torch.save(torch.export.load(f).state_dict, 'state.pth')",
            )
        if not tops:
            fail(codes.NOT_A_CHECKPOINT, f"`{self.path}` is a zip archive, and not one of torch.save")
        if len(tops) > 1:
            self._file.damaged("it holds several archives of torch.save")
        return tops[0]

    def _check_version(self) -> None:
        """Refuse versions of the format that torch does not read either."""
        for name in ("version", ".data/version"):
            if self._prefix + name in self._directory.members:
                said = self._record(name, 64).strip()
                if not said.isdigit() or not 1 <= int(said) <= _LAST_VERSION:
                    self._file.damaged(f"its `{name}` is {said!r}, and torch has had 1 to {_LAST_VERSION}")

    def _check_byteorder(self) -> None:
        if self._prefix + "byteorder" not in self._directory.members:
            return
        order = self._record("byteorder", 16)
        if order != b"little":
            fail(
                codes.NOT_A_CHECKPOINT,
                f"`{self.path}` was written with {order.decode('ascii', 'replace')}-endian numbers, "
                "which statex does not read",
            )

    def _record(self, name: str, limit: int) -> bytes:
        """Return a small member, its checksum compared."""
        member = self._directory.members[self._prefix + name]
        if member.size > limit:
            self._file.damaged(f"its member `{member.name}` has {member.size} bytes")
        stored = self._stored(member, "cpu")
        stored.check()
        self._use(member, stored)
        return self._file.read(stored.extent.offset, member.size)

    def _stored(self, member: Member, location: str) -> Stored:
        start = self._directory.data_offset(member)
        # torch writes 0 where it is told to compute no checksums.
        crc = member.crc if member.crc or not member.size else None
        return Stored(Extent(self._file, start, member.size), crc, member.name, location)

    def _place(self, key: str, nbytes: int, location: str) -> Stored:
        member = self._directory.members.get(f"{self._prefix}data/{key}")
        if member is None:
            self._file.damaged(f"the storage `{key}` is missing from it")
        if member.size != nbytes:
            self._file.damaged(f"the storage `{key}` has {member.size} bytes, and its tensors say {nbytes}")
        stored = self._stored(member, location)
        self._use(member, stored)
        return stored

    def _use(self, member: Member, stored: Stored) -> None:
        start = stored.extent.offset
        self._ranges.append((start, start + member.size, member.name))

    def _check_overlap(self) -> None:
        reach, before = 0, ""
        for start, end, name in sorted(self._ranges):
            if start < reach and end > start:
                self._file.damaged(f"its members `{before}` and `{name}` overlap")
            if end > reach:
                reach, before = end, name
