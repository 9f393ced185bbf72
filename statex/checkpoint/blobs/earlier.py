"""Bytes that earlier outputs of a run already hold: later ones read them from there, not from the inputs."""

from __future__ import annotations

from pathlib import Path

from statex.checkpoint.blobs.contents import ByteRun
from statex.checkpoint.io.input_file import Extent, InputFile, Stored

_Key = tuple[Stored, int, int]


class Earlier:
    """Where bytes of inputs stand in outputs; a context manager that closes what it opened.

    So each byte of an input is read once, however many outputs it goes into: inputs may be far away.
    """

    def __init__(self) -> None:
        self._places: dict[_Key, tuple[Path, int]] = {}
        self._noted: dict[_Key, tuple[Path, int]] = {}
        self._files: dict[Path, InputFile] = {}

    def note(self, run: ByteRun, path: Path, position: int) -> None:
        """Note where a run stands in the file that is being written."""
        self._noted[_key(run)] = path, position

    def complete(self) -> None:
        """Say that an output is written: from now on what it holds can be read from it."""
        self._places |= self._noted
        self._noted.clear()

    def extent(self, run: ByteRun) -> Extent:
        """Return where the bytes of a run can be read."""
        place = self._places.get(_key(run)) if self._places else None
        if place is None:
            return run.extent
        path, position = place
        if path not in self._files:
            self._files[path] = InputFile(path)
        return Extent(self._files[path], position, run.nbytes)

    def __enter__(self) -> Earlier:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()


def _key(run: ByteRun) -> _Key:
    return run.stored, run.start, run.nbytes
