"""The public functions for modules that load their own past, and for chains of migrations."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from statex.api import compile
from statex.migrating.chain import Chain, chain_of
from statex.migrating.folder import read_chain
from statex.session.request import PathLike

if TYPE_CHECKING:
    from torch.nn import Module

    M = TypeVar("M", bound=Module)


def migrations(folder: PathLike) -> Chain:
    """Read a chain of migrations: the rule files `0001_rename_head.sx`, `0002_fuse_qkv.sx`, … of a folder.

    Step n makes layout n of layout n - 1; layout 0 is what was there before the first step. Other rule files have no
    place in the folder, except in folders below, where steps can include them, and as `0002_fuse_qkv.down.sx`.

    Raises:
        StatexError: SX801 to SX805 for a folder that is not a chain, and every error of the rules.
    """
    return read_chain(folder)


def attach(module: M, rules: Any, *, assume: int | None = None, **params: Any) -> M:
    """Let a module load states of its earlier layouts, and note the layout in those that it saves; return the module.

    `rules` are a chain (`statex.migrations`), or one step: text, a path, `Rules`, or several of these. From then on
    `load_state_dict`, of the module or of one around it, recognises an earlier layout and migrates it. A state that
    carries a version has that layout. Another has the one named by `assume`, or else the one whose steps make the keys,
    shapes (and dtypes, where they decide) of the module of it. A state that fits none is loaded as it is.

    `params` are values of the steps' parameters. Errors are raised by torch with its own, as RuntimeError; warnings are
    `statex.StatexWarning`. The state given and its `_metadata` are not changed. The module is not changed apart from
    its hooks, which copies and pickles of it have too. The module inside is meant where it is wrapped by
    `torch.compile` or DDP.

    Raises:
        StatexError: every error of the rules, SX805 for rules that need more than a state, SX204 to SX206 for
            parameters, SX810 where another chain is attached already, SX812 for a layout that there is not.
        TypeError: for what is not a module.
    """
    from statex.migrating.hooks import attach as attach_past
    from statex.migrating.migrate import Past

    chain = rules if isinstance(rules, Chain) else chain_of(compile(rules).parts)
    past = Past(chain, params, assume)
    past.check()
    attach_past(module, past)
    return module


def detach(module: Module) -> None:
    """Undo `attach`: the module loads and saves as torch has it. A module that has no chain stays as it is.

    Raises:
        TypeError: for what is not a module.
    """
    from statex.migrating.hooks import detach as detach_past

    detach_past(module)


def migrate_state(module: Module, state: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Return a state in the present layout of a module with a chain, or with such modules inside.

    For loaders that run no hooks of torch. Tensors that no step changes are the very same objects, and the state given
    is not changed. `_metadata` follows, and carries the new version; a plain dict has none, and gets none.

    Raises:
        StatexError: SX811 where no chain is attached, SX806 to SX809 where a layout cannot be told or is not the one
            that is said.
    """
    from statex.migrating.hooks import migrate_state as migrate

    return migrate(module, state)
