"""Checkpoint files: one module for each format behind a small reader and a small writer. No rules are known here.

A name is imported when it is asked for: who reads alone does without all that writes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    "stage_checkpoint",
    "write_checkpoint",
]

_OWNERS = {
    "Options": "writer",
    "Reader": "reader",
    "arrange": "writer",
    "check_output": "output",
    "check_space": "output",
    "holds_just": "sharded",
    "is_large": "large",
    "other_files": "sharded",
    "stage_checkpoint": "writer",
    "write_checkpoint": "writer",
}
"""The module that a name is of; all others are of `formats`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'statex.checkpoint' has no attribute {name!r}")
    value = getattr(import_module(f"statex.checkpoint.{_OWNERS.get(name, 'formats')}"), name)
    globals()[name] = value
    return value
