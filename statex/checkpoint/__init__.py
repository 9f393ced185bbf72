"""Checkpoint files: one module for each format behind a small reader and a small writer. No rules are known here."""

from statex.checkpoint.formats import FORMATS, Options, format_for, open_checkpoint, write_checkpoint
from statex.checkpoint.output import check_output
from statex.checkpoint.reader import Reader

__all__ = ["FORMATS", "Options", "Reader", "check_output", "format_for", "open_checkpoint", "write_checkpoint"]
