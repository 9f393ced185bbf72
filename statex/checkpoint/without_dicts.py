"""What to write in the rules, so that a format of named tensors alone can hold a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from statex.checkpoint.contents import OutTensor
from statex.checkpoint.layout import leaves
from statex.header import TensorInfo
from statex.paths import in_rules, is_container


def rules_for(tree: Any, odd: Sequence[Any], otherwise: str) -> list[str]:
    """Return lines of help for a tree whose entries `odd` are no tensors; `otherwise` is what helps without dicts."""
    items = tree if isinstance(tree, Mapping) else {}
    nested = [key for key in odd if is_container(items.get(key))]
    states = [key for key in nested if isinstance(items[key], Mapping) and any(map(_is_tensor, items[key].values()))]
    joined = len(nested) == len(odd) and all(_is_tensor(leaf) for key in odd for leaf in leaves(items[key]))
    found = []
    if joined and (len(items) > 1 or not states):  # of one dict alone, the bare state is the same
        found.append("root '' flat")
    if states or (nested and not found):
        state = in_rules(str(states[0]) if states else "state_dict")
        found.append(f"take the bare state: root {state} -> ''")
    return found or [otherwise]


def _is_tensor(value: object) -> bool:
    return isinstance(value, TensorInfo | OutTensor)
