"""Checkpoint files: one module for each format behind a small reader and a small writer. Rules are unknown here.

A name is imported when it is asked for: who reads alone does without all that writes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statex.checkpoint.beside import OtherFile, copied_into, is_never_copied, never_copied, other_files, read_whole
    from statex.checkpoint.filenames import KNOWN, OF_SETS, FileNames, is_index, is_stem, names_in, names_of, names_with
    from statex.checkpoint.formats.base import Format
    from statex.checkpoint.formats.registry import format_for, format_of_name, known_format
    from statex.checkpoint.formats.sharded import entries, holds_just, shards_in
    from statex.checkpoint.io.memory import memory_there_is
    from statex.checkpoint.opening import entry_of, open_checkpoint
    from statex.checkpoint.output import check_output, check_space
    from statex.checkpoint.reader import Reader
    from statex.checkpoint.writer import Options, arrange, stage_checkpoint, write_checkpoint

__all__ = [
    "KNOWN",
    "OF_SETS",
    "FileNames",
    "Format",
    "Options",
    "OtherFile",
    "Reader",
    "arrange",
    "check_output",
    "check_space",
    "copied_into",
    "entries",
    "entry_of",
    "format_for",
    "format_of_name",
    "holds_just",
    "is_index",
    "is_never_copied",
    "is_stem",
    "known_format",
    "memory_there_is",
    "names_in",
    "names_of",
    "names_with",
    "never_copied",
    "open_checkpoint",
    "other_files",
    "read_whole",
    "shards_in",
    "stage_checkpoint",
    "write_checkpoint",
]

_OWNERS = {
    "KNOWN": "filenames",
    "Format": "formats.base",
    "OF_SETS": "filenames",
    "FileNames": "filenames",
    "Options": "writer",
    "OtherFile": "beside",
    "Reader": "reader",
    "arrange": "writer",
    "check_output": "output",
    "check_space": "output",
    "copied_into": "beside",
    "entries": "formats.sharded",
    "entry_of": "opening",
    "format_for": "formats.registry",
    "format_of_name": "formats.registry",
    "holds_just": "formats.sharded",
    "is_index": "filenames",
    "memory_there_is": "io.memory",
    "is_stem": "filenames",
    "known_format": "formats.registry",
    "names_in": "filenames",
    "names_of": "filenames",
    "names_with": "filenames",
    "open_checkpoint": "opening",
    "is_never_copied": "beside",
    "never_copied": "beside",
    "other_files": "beside",
    "read_whole": "beside",
    "shards_in": "formats.sharded",
    "stage_checkpoint": "writer",
    "write_checkpoint": "writer",
}
"""The module that a name is of."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'statex.checkpoint' has no attribute {name!r}")
    value = getattr(import_module(f"statex.checkpoint.{_OWNERS[name]}"), name)
    globals()[name] = value
    return value
