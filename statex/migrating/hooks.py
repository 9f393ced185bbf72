"""The hooks by which modules migrate states when they load them, and stamp states when they save them."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from statex.diagnostics import Diagnostic, StatexError, fail
from statex.diagnostics.codes import migrations as codes
from statex.diagnostics.model import worded
from statex.diagnostics.python_words import in_python
from statex.diagnostics.render import render_full
from statex.dsl.compile.embedded import spliced
from statex.dsl.plan.metadata import STAMP, Metadata, below, copied, exchanged
from statex.migrating.migrate import Past
from statex.migrating.noted import Load, end_loads, end_stale_loads, load_at, noted_below


class StatexWarning(UserWarning):
    """What statex has to say of a state that a module loads, or that rules make in memory."""


class _Loading:
    """The pre-hook of `load_state_dict`: it puts the present layout into the dict that torch has copied for hooks."""

    def __init__(self, past: Past) -> None:
        self.past = past

    def __call__(
        self,
        module: Any,
        state: dict[str, Any],
        prefix: str,
        noted: dict[str, Any],
        strict: bool,
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        end_stale_loads(module, missing)
        own = _below(state, prefix)
        if not own:
            return
        metadata = noted_below(module, state, prefix, noted, missing)
        try:
            done = self.past.migrate(module, own, metadata, _apart(module))
        except StatexError as error:
            errors.append(str(error))
            return
        warn(done.warnings)
        if done.state is None:
            return
        renewed = OrderedDict(spliced(state, prefix, done.state.items()))
        state.clear()
        state.update(renewed)
        if done.metadata is not None:
            load = load_at(module, missing) or Load(module, missing)
            load.note(prefix, done.metadata)
            load.cover(module)


class _Loaded:
    """The post-hook of `load_state_dict`: the modules inside are torch's alone again."""

    def __init__(self, past: Past) -> None:
        self.past = past

    def __call__(self, module: Any, incompatible: object) -> None:
        end_loads(module)


class _Saving:
    """The post-hook of `state_dict`: it notes the layout beside torch's version, where the state has `_metadata`."""

    def __init__(self, past: Past) -> None:
        self.past = past

    def __call__(self, module: Any, state: Any, prefix: str, noted: dict[str, Any]) -> None:
        noted[STAMP] = self.past.stamp


_TABLES = {
    "_load_state_dict_pre_hooks": _Loading,
    "_load_state_dict_post_hooks": _Loaded,
    "_state_dict_hooks": _Saving,
}
"""Where a module keeps its hooks, and which of ours stands there."""


def attach(module: Any, past: Past) -> None:
    """Let a module load states of the layouts of a past; a second time changes nothing.

    Raises:
        StatexError: SX810 where it has another past.
    """
    module = unwrapped(module)
    known = past_of(module)
    if known is not None:
        if known != past:
            fail(
                codes.ATTACHED_TWICE,
                f"{type(module).__name__} has the chain `{known.chain.label}`{_with(known)} attached already, "
                f"and this is `{past.chain.label}`{_with(past)}",
                help="statex.detach(module)",
            )
        return
    module.register_load_state_dict_pre_hook(_Loading(past))
    module.register_load_state_dict_post_hook(_Loaded(past))
    module.register_state_dict_post_hook(_Saving(past))


def _with(past: Past) -> str:
    values = [f"{name}={value!r}" for name, value in past.given.items()]
    values += [f"assume={past.assume}"] if past.assume is not None else []
    return f" with {', '.join(values)}" if values else ""


def detach(module: Any) -> None:
    """Take the hooks away again, if there are any."""
    module = unwrapped(module)
    for name, kind in _TABLES.items():
        table = getattr(module, name)
        for number in [number for number, hook in table.items() if isinstance(_hook(hook), kind)]:
            del table[number]


def _hook(registered: Any) -> Any:
    """Return a hook as it was given: torch wraps those that want the module."""
    return getattr(registered, "hook", registered)


def past_of(module: Any) -> Past | None:
    """Return what is attached to a module itself."""
    found = (_hook(one) for one in module._load_state_dict_pre_hooks.values())
    return next((one.past for one in found if isinstance(one, _Loading)), None)


def unwrapped(module: Any) -> Any:
    """Return the module that `torch.compile`, DDP or DataParallel was given: the keys of a chain are those of that one.

    Raises:
        TypeError: for what is not a module.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"a chain is attached to a torch.nn.Module, and this is a {type(module).__name__}")
    parallel = (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)
    while True:
        if type(module).__name__ == "OptimizedModule" and "_orig_mod" in module._modules:
            module = module._modules["_orig_mod"]
        elif isinstance(module, parallel):
            module = module.module
        else:
            return module


def _pasts(module: Any, prefix: str = "") -> Iterator[tuple[str, Any, Past]]:
    """Yield the attached modules with their prefixes, the outer ones first."""
    past = past_of(module)
    if past is not None:
        yield prefix, module, past
    for name, inner in module._modules.items():
        if inner is not None:
            yield from _pasts(inner, f"{prefix}{name}.")


def _apart(module: Any) -> tuple[str, ...]:
    """Return the prefixes of the modules inside a module that have chains of their own."""
    return tuple(prefix for prefix, _, _ in _pasts(module) if prefix)


def migrate_state(module: Any, state: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Return a state in the present layouts of a module and the modules inside it.

    Raises:
        StatexError: SX811 where nothing is attached, SX806 to SX809 for a layout that cannot be told.
    """
    pasts = list(_pasts(module))
    if not pasts:
        fail(
            codes.NOT_ATTACHED,
            f"no chain is attached to {type(module).__name__} or to a module inside it",
            help="statex.attach(module, chain)",
        )
    result: OrderedDict[str, Any] = OrderedDict(state)
    found = getattr(state, "_metadata", None)
    metadata: Metadata | None = copied(found) if found is not None else None
    for prefix, inner, past in pasts:
        own = _below(result, prefix)
        if not own:
            continue
        done = past.migrate(inner, own, below(metadata, prefix) if metadata is not None else None, _apart(inner))
        warn(done.warnings)
        if done.state is None:
            continue
        result = OrderedDict(spliced(result, prefix, done.state.items()))
        if metadata is not None and done.metadata is not None:
            metadata = exchanged(metadata, prefix, done.metadata)
    if metadata is not None:
        result._metadata = metadata  # type: ignore[attr-defined]
    return result


def _below(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def warn(found: Iterable[Diagnostic], up: int = 3) -> None:
    """Let Python show warnings as those of a caller: `up` is how many functions up, this one being the first."""
    for one in found:
        warnings.warn(render_full(worded(one, in_python)), StatexWarning, stacklevel=up)
