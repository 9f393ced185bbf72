"""Targets as requests name them: modules, callables of modules, states and checkpoints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex.core.header import KeyPath
from statex.diagnostics import fail, pointing_at
from statex.diagnostics.codes import target as codes
from statex.session.opened import Opened
from statex.session.request import State, TargetSpec
from statex.trees.roots import is_state_at

if TYPE_CHECKING:
    from statex.execute.verify.target import Target


def resolve(target: TargetSpec | Target | None, nested_at: KeyPath | None = None) -> Target | None:
    """Return what a result is verified against; `None` if nothing is named, or what is named may not be imported.

    `nested_at` is where the result is if it is nested: there the state of another checkpoint is, too, if it has one.

    Raises:
        StatexError: SX505 if a model and a checkpoint are both given, SX502 and SX503 if a model cannot be had,
            6xx for a checkpoint.
    """
    if target is None or not isinstance(target, TargetSpec):
        return target
    if target.model is not None and target.like is not None:
        fail(codes.TARGET_KEYS, "both a target and a checkpoint to compare with are given")
    with pointing_at(target.span):
        if target.like is not None:
            return _of_state(target.like, nested_at)
        if target.model is None or target.held_back:
            return None
        return _of_model(target, nested_at)


def _of_state(state: State, nested_at: KeyPath | None) -> Target:
    from statex.execute.verify.target import Target

    label = Path(state).name if isinstance(state, str | os.PathLike) else "the other state"
    with closing(Opened(state, label)) as opened:
        there = nested_at is not None and is_state_at(opened.tree, nested_at)
        root = nested_at if nested_at is not None and there else opened.root(None)
        return Target(label, opened.header(root), root=root)


def _of_model(target: TargetSpec, nested_at: KeyPath | None) -> Target:
    from statex.execute.verify.target import Target, build_target, module_target

    model: Any = target.model
    if isinstance(model, Target):
        return model
    if target.is_code:
        return build_target(model, target.arguments, target.folder, in_recipe=target.span is not None)
    if isinstance(model, str | os.PathLike | Mapping):
        return _of_state(model, nested_at)
    return module_target(model)
