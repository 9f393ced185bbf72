"""Checkpoint files: one module for each format behind a small reader and a small writer. No rules are known here."""

from statex.checkpoint.filenames import KNOWN, Names, is_index, is_stem, names_in, names_of, names_with
from statex.checkpoint.formats import FORMATS, entry_of, format_for, format_of_name, known_format, open_checkpoint
from statex.checkpoint.large import is_large
from statex.checkpoint.output import check_output, check_space
from statex.checkpoint.reader import Reader
from statex.checkpoint.sharded import holds_just, other_files
from statex.checkpoint.writer import Options, arrange, stage_checkpoint, write_checkpoint

__all__ = [
    "FORMATS",
    "KNOWN",
    "Names",
    "Options",
    "Reader",
    "arrange",
    "check_output",
    "check_space",
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
    "stage_checkpoint",
    "write_checkpoint",
]
