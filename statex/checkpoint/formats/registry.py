"""All formats: by name, by the endings of names, and in the order in which a file is tried as each of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from statex.checkpoint.formats.base import Format
from statex.checkpoint.formats.dcp.format import DCP
from statex.checkpoint.formats.gguf.format import GGUF
from statex.checkpoint.formats.npz.format import NPZ
from statex.checkpoint.formats.safetensors.format import SAFETENSORS
from statex.checkpoint.formats.torch.format import TORCH
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

FORMATS: Sequence[Format] = (SAFETENSORS, NPZ, TORCH, DCP, GGUF)
"""In the order in which a file is tried as each: the length of a header of safetensors may look like a pickle."""


def written_formats() -> list[Format]:
    """Return the formats that outputs can have, the ones with usual endings first."""
    order = [TORCH, SAFETENSORS]
    return [*order, *(one for one in FORMATS if one.is_written and one not in order)]


def known_format(name: str) -> Format:
    """Return the format that an output gets by this name.

    Raises:
        StatexError: SX613 where there is none of this name.
    """
    known = {one.name: one for one in written_formats()}
    if name not in known:
        fail(codes.UNKNOWN_FORMAT, f"there is no format `{name}`", help=f"formats are {', '.join(known)}")
    return known[name]


def format_of_name(path: str | os.PathLike[str]) -> Format | None:
    """Return the format a name's ending means, if any."""
    suffix = Path(path).suffix.lower()
    return next((one for one in written_formats() if suffix in one.suffixes), None)


def format_for(path: str | os.PathLike[str], explicit: Format | None = None, option: str = "`--format`") -> Format:
    """Return the format an output file gets: the one asked for (by `option`), or else what its ending means.

    Raises:
        StatexError: SX613.
    """
    found = explicit or format_of_name(path)
    if found is not None:
        return found
    known = ", ".join(suffix for one in written_formats() for suffix in one.suffixes)
    fail(
        codes.UNKNOWN_FORMAT,
        f"cannot tell the format from the name `{Path(path).name}`",
        help=[
            f"give it one of the suffixes {known}, or use {option}",
            "a name that ends in / is a folder of shards",
        ],
    )
