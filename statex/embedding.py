"""The public functions for chains of migrations, which let modules load old checkpoints and bring files up to date."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from statex.api import to_file
from statex.core.progress import Progress, teller
from statex.migrating.chain import Chain, chain_of
from statex.migrating.folder import read_chain
from statex.rules import Rules, compile, requested
from statex.session.conversion import Conversion
from statex.session.request import PathLike, State

if TYPE_CHECKING:
    from torch.nn import Module

    M = TypeVar("M", bound=Module)


def migrations(folder: PathLike) -> Chain:
    """Read a chain of migrations: the rule files `0001_rename_head.sx`, `0002_fuse_qkv.sx`, … of a folder.

    Step n turns layout n - 1 into layout n; layout 0 is the one before the first step. Other rule files are not allowed
    in the folder, except in subfolders, from which steps can include them, and as `0002_fuse_qkv.down.sx`.

    Raises:
        StatexError: SX801 to SX805 for a folder that is not a chain, and every error of the rules.
    """
    return read_chain(folder)


def attach(module: M, rules: Any, *, assume: int | None = None, **params: Any) -> M:
    """Let a module load states of its earlier layouts, and note the layout in those that it saves; return the module.

    `rules` are a chain (`statex.migrations`, or its folder), or one step: text, a path, `Rules`, or several of these.
    From then on `load_state_dict`, of the module or of one around it, recognises an earlier layout and migrates it. A
    state that carries a version has that layout. Any other state has the one named by `assume`, or otherwise the one
    from which the steps lead to the keys and shapes (and dtypes, if they decide) of the module. A state that fits none
    is loaded as it is.

    `params` are values of the steps' parameters; for the others, the values noted in a state apply. torch raises errors
    together with its own, as RuntimeError; warnings are `statex.StatexWarning`. The given state and its `_metadata` are
    not changed. The module is not changed apart from its hooks, which copies and pickles of it have too. If a module is
    wrapped by `torch.compile` or DDP, the one inside is used.

    Raises:
        StatexError: every error of the rules, SX805 for rules that need more than a state, SX204 to SX206 for
            parameters, SX810 if another chain is already attached, SX812 for a layout that does not exist.
        TypeError: for what is not a module.
    """
    from statex.migrating.hooks import attach as attach_past
    from statex.migrating.migrate import Past

    past = Past(_chain(rules), params, assume)
    past.check()
    attach_past(module, past)
    return module


def detach(module: Module) -> None:
    """Undo `attach`: the module loads and saves as usual in torch. A module without a chain stays as it is.

    Raises:
        TypeError: for what is not a module.
    """
    from statex.migrating.hooks import detach as detach_past

    detach_past(module)


def migrate_state(module: Module, state: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Return a state in the present layout of a module with a chain, or with such modules inside.

    This is for loaders that do not run torch's hooks. Tensors that no step changes are the very same objects, and the
    given state is not changed. `_metadata` follows, and carries the new version; a plain dict has none, and gets none.

    Raises:
        StatexError: SX811 if no chain is attached, SX806 to SX809 if a layout is not known or is not the one that is
            stated.
    """
    from statex.migrating.hooks import migrate_state as migrate

    return migrate(module, state)


def migrate(
    source: State,
    destination: PathLike,
    rules: Any,
    *,
    to: int | None = None,
    assume: int | None = None,
    at: str | None = None,
    target: Any = None,
    like: State | None = None,
    root: str | None = None,
    params: Mapping[str, Any] | None = None,
    format: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    shard_size: int | None = None,
    copy_files: bool = False,
    max_memory: int | None = None,
    check_input: bool = False,
    verify_written: bool = False,
    reversible: bool = False,
    progress: Callable[[Progress], None] | Callable[[int, int], None] | None = None,
) -> Conversion:
    """Take a checkpoint through a chain of migrations, to its last layout or another; the output is as by `convert`.

    `rules` are what `attach` takes: a chain, its folder, or one step. `to` is the wanted layout; one earlier than that
    of the checkpoint is reached by the rules that undo steps (`0002_fuse_qkv.down.sx`). A checkpoint that carries a
    version has that layout. Any other has the one named by `assume`, or otherwise the one recognised by its header,
    with or without a target. `at` is the path, in the state, of the module that the chain is for; by default the place
    where its version is noted, or the whole state. `params` are values of the steps' parameters; those noted with the
    version need not be given again. The other arguments are those of `convert`. The new version is in the `metadata` of
    the result's plan, and in the output; a plain dict that is written as `.pth` has no place for it.

    Raises:
        StatexError: SX806 to SX809 and SX821 if the layout is not known or is not the one that is stated, SX812 for a
            layout that does not exist, SX822 for a step that nothing undoes, SX823 for a parameter that had another
            value in the steps before, SX824 and SX825 for the path, and as `convert`.
    """
    from statex.migrating.files import carry_out, migration

    request = to_file(
        requested(Rules(()), source, None, target, like, root, params or {}), destination, format=format,
        force=force, dry_run=dry_run, shard_size=shard_size, copy_files=copy_files, max_memory=max_memory,
        check_input=check_input, verify_written=verify_written,
    )  # fmt: skip
    request = replace(request, policy=replace(request.policy, reversible=reversible))
    return carry_out(migration(request, _chain(rules), to=to, assume=assume, at=at, option="assume="), teller(progress))


def _chain(rules: Any) -> Chain:
    if isinstance(rules, Chain):
        return rules
    is_folder = isinstance(rules, str | os.PathLike) and os.path.isdir(rules)
    return read_chain(rules) if is_folder else chain_of(compile(rules).parts)
