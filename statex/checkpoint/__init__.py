"""Checkpoint files: one module for each format behind a small reader and a small writer. No rules are known here."""

from statex.checkpoint.atomic.recovery import Recovered, recover
from statex.checkpoint.atomic.transaction import Transaction
from statex.checkpoint.formats import FORMATS, entry_of, format_for, format_of_name, known_format, open_checkpoint
from statex.checkpoint.large import is_large
from statex.checkpoint.output import check_output, check_space
from statex.checkpoint.reader import Reader
from statex.checkpoint.sharded import holds_just, other_files
from statex.checkpoint.writer import Options, arrange, stage_checkpoint, write_checkpoint

__all__ = [
    "FORMATS",
    "Options",
    "Reader",
    "Recovered",
    "Transaction",
    "arrange",
    "check_output",
    "check_space",
    "entry_of",
    "format_for",
    "format_of_name",
    "holds_just",
    "is_large",
    "known_format",
    "open_checkpoint",
    "other_files",
    "recover",
    "stage_checkpoint",
    "write_checkpoint",
]
