"""Checkpoint files: one module for each format behind a small reader and a small writer. No rules are known here."""

from statex.checkpoint.filenames import KNOWN, Names, is_index, is_stem, names_in, names_of, names_with
from statex.checkpoint.formats import FORMATS, entry_of, format_for, format_of_name, known_format, open_checkpoint
from statex.checkpoint.large import is_large
from statex.checkpoint.other_files import OtherFile, copied_into, other_files, read_whole
from statex.checkpoint.output import check_output, check_space
from statex.checkpoint.reader import Reader
from statex.checkpoint.sharded import entries, holds_just, shards_in
from statex.checkpoint.writer import Options, arrange, stage_checkpoint, write_checkpoint

__all__ = [
    "FORMATS",
    "KNOWN",
    "Names",
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
    "is_large",
    "is_stem",
    "known_format",
    "names_in",
    "names_of",
    "names_with",
    "open_checkpoint",
    "other_files",
    "read_whole",
    "shards_in",
    "stage_checkpoint",
    "write_checkpoint",
]
