"""Refuses small files that would make large ones: views that repeat elements, if every one would be written.

A torch file of a kilobyte can hold a tensor of any size, as `expand` makes it. It stays as small where it is written
as it is; to compute with it, or to write it in a format without views, takes its size in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from statex.checkpoint.blobs.walks import leaves
from statex.core.header import TensorInfo
from statex.core.quoting import show_label
from statex.diagnostics import fail
from statex.diagnostics.amounts import counted, show_bytes
from statex.diagnostics.codes import files as codes
from statex.dsl.keys.quoting import show_rules
from statex.execute.stretched import is_stretched
from statex.grammar import factory as make
from statex.session.opened import Inputs

_ALWAYS, _TIMES = 1 << 30, 1000
"""Bytes that views may always take, and how many times those of the inputs: what nobody saved by mistake."""


def refuse_stretched(inputs: Inputs, computed: Mapping[str, int], tree: Any = None) -> None:
    """Refuse views of inputs that would take far more bytes than the inputs have.

    `computed` are the bytes by key of what is computed with; all tensors of a `tree` are written out in full.

    Raises:
        StatexError: SX642.
    """
    found = dict(computed)
    names = {id(info): key for key, info in inputs.header.entries.items()} if tree is not None else {}
    for leaf in leaves(tree) if tree is not None else ():
        if isinstance(leaf, TensorInfo) and is_stretched(leaf):
            key = names.get(id(leaf), "")
            found[key] = found.get(key, 0) + leaf.type.nbytes
    total, there = sum(found.values()), sum(file.size for reader in inputs.readers for file in reader.files)
    if total <= max(_ALWAYS, _TIMES * there):
        return
    key = max(found, key=lambda one: found[one])
    what = f"`{key}`" if key else "a tensor around the state"
    several = len(found) > 1
    what += f" and {counted(len(found) - 1, 'other')}" if several else ""
    are = "are views that repeat their" if several else "is a view that repeats its"
    fail(
        codes.STRETCHED,
        f"{what} of {show_label(inputs.main.label)} {are} elements: "
        f"{show_bytes(total)} would be made of {show_bytes(there)}",
        notes=["a torch file keeps such a view as small as it is, as long as nothing is computed with it"],
        help=f"leave it out: {show_rules(make.drop(make.key(key)))}" if key else (),
    )
