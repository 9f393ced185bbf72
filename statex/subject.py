"""What a program is applied to: states given in memory or as paths, and what a result is verified against."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex import nesting
from statex.checkpoint import Reader, open_checkpoint
from statex.diagnostics import fail
from statex.diagnostics.codes import target as target_codes
from statex.grammar import tree
from statex.header import Header, OpaqueInfo, TensorInfo

if TYPE_CHECKING:
    from statex.execute.target import Target

PathLike = str | os.PathLike[str]
State = Mapping[str, Any] | PathLike
"""A state_dict (or nested checkpoint) in memory, or the path of a checkpoint."""


def resolve_target(target: Any, like: State | None = None, arguments: Mapping[str, Any] | None = None) -> Target | None:
    """Return what a result is verified against.

    `target` is a module, `"module:callable"`, a state_dict or the path of a checkpoint.

    Raises:
        StatexError: SX505 where both are given, SX502 and SX503 where a model cannot be had.
    """
    from statex.execute.target import Target, build_target, module_target

    if target is not None and like is not None:
        fail(target_codes.TARGET_KEYS, "both a target and a checkpoint to compare with are given")
    if like is not None:
        label = Path(like).name if isinstance(like, str | os.PathLike) else "the other state"
        with closing(Opened(like, label)) as opened:
            return Target(label, opened.header(None))
    if target is None or isinstance(target, Target):
        return target
    if isinstance(target, str) and not os.path.exists(target):
        return build_target(target, arguments)
    if isinstance(target, str | os.PathLike | Mapping):
        return resolve_target(None, target)
    return module_target(target)


class Opened:
    """A state given in memory or as a path: its tree, and how its data is had."""

    def __init__(self, state: State, label: str = "") -> None:
        self.reader: Reader | None = None
        if isinstance(state, str | os.PathLike):
            self.reader = open_checkpoint(state)
            self.tree, self.label = self.reader.tree, Path(os.path.abspath(state)).name
        else:
            from statex.execute.live import describe

            self.tree, self.label = describe(state), label

    def header(self, root: tree.String | str | None) -> Header:
        """Return the header of the state, at a root (perhaps one that a rule file names) or where it is found."""
        path, span = (root.value, root.span) if isinstance(root, tree.String) else (root, None)
        found = nesting.find_root(self.tree, self.label) if path is None else path
        return nesting.state_header(self.tree, found, self.label, span)

    def load(self, leaf: Any) -> Any:
        """Return the data of an entry, or what else a leaf of the tree stands for."""
        if self.reader is not None:
            return self.reader.load(leaf)
        return leaf.handle if isinstance(leaf, TensorInfo | OpaqueInfo) else leaf

    def close(self) -> None:
        """Close the file, if it is one."""
        if self.reader is not None:
            self.reader.close()


@dataclass(frozen=True)
class Subject:
    """What a program is applied to.

    `inputs` are the further inputs by name, `target` is what the result has to fit, `root` the path of the state where
    that is said outside of the rules, `params` are values of parameters.
    """

    state: State
    inputs: Mapping[str, State | Sequence[State]] = field(default_factory=dict)
    target: Target | None = None
    root: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


def as_members(given: State | Sequence[State]) -> list[State]:
    """Return the checkpoints of an input: one, or those of a family."""
    if isinstance(given, str | os.PathLike | Mapping):
        return [given]
    return list(given)
