"""The content of a checkpoint: its states with their roots, and the values around them; only headers are read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from statex.checkpoint.blobs.walks import leaves
from statex.core import garbage
from statex.core.foreign import Foreign, kind_of
from statex.core.header import Header, KeyPath, TensorInfo
from statex.core.paths import Address, at, beside, written
from statex.core.surroundings import address_of
from statex.session.opened import Opened
from statex.trees.envelope import state_header
from statex.trees.roots import candidates, find_roots, must_be_named

if TYPE_CHECKING:
    from statex.session.request import State


@dataclass(frozen=True)
class Overview:
    """What a checkpoint holds.

    `states` are the headers by root, as that is written: of the one that is meant, or of all where nothing says which;
    `roots` are their paths. `further` has the tensors of other dicts that `root` could name, beside these or inside
    them, by root. `is_unclear` says that whoever reads the checkpoint has to name one of all these. `values` are the
    plain values of the whole checkpoint, `around` is what stands beside the states, both by path.
    `metadata_texts` are the texts beside the tensors.
    """

    label: str
    states: Mapping[str, Header]
    roots: Mapping[str, KeyPath]
    further: Mapping[str, list[TensorInfo]]
    is_unclear: bool
    values: Mapping[str, object]
    around: Mapping[str, Any]
    metadata_texts: Mapping[str, str]

    @property
    def foreign(self) -> dict[str, str]:
        """What stands beside the states and is an object that statex does not load: its name, by its path."""
        return {path: part.name for path, part in self.around.items() if isinstance(part, Foreign)}


def overview(state: State, root: Address | None = None) -> Overview:
    """Return what a checkpoint holds; `root` is the path of the one state that is wanted.

    Raises:
        StatexError: 6xx, SX605 where there is no state.
    """
    with garbage.paused(), closing(Opened(state)) as opened:
        tree, label = opened.tree, opened.label
        roots = find_roots(tree, label) if root is None else [opened.root(root)]
        states = {written(tree, one): state_header(tree, one, label) for one in roots}
        others = [path for path in candidates(tree) if path not in roots] if root is None else []
        return Overview(
            label,
            states,
            dict(zip(states, roots, strict=True)),
            {written(tree, path): tensors_in(at(tree, path)) for path in others},
            root is None and must_be_named(tree),
            next(iter(states.values())).values,
            {address_of(tree, path): part for path, part in beside(tree, roots).items()},
            opened.metadata_texts,
        )


def tensors_in(tree: Any) -> list[TensorInfo]:
    """Return the tensors anywhere in a part of a checkpoint."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, TensorInfo)]


def described(part: Any) -> str:
    """Say what a part of a checkpoint is that is neither a state nor a plain value."""
    if isinstance(part, TensorInfo):
        return str(part.type)
    kind = "dict" if isinstance(part, Mapping) else kind_of(part)
    return f"{kind} of {len(part)}" if isinstance(part, Mapping | list | tuple) else kind
