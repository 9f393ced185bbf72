"""The target: a model built without data, or another checkpoint's header."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

from statex.core.header import Header, KeyPath, OpaqueInfo
from statex.core.record import record
from statex.diagnostics import fail
from statex.diagnostics.codes import target as codes
from statex.execute.live import tensor_info
from statex.execute.verify.importing import imported, raised_in


@record
class Target:
    """What a result has to fit: a header, and the model on the meta device where there is one.

    `root` is where the state is in a checkpoint that is the target.
    """

    name: str
    header: Header
    module: Any = None
    root: KeyPath | None = None


def module_target(module: Any, name: str | None = None) -> Target:
    """Return the target of a module; the module itself is not changed, and its data is not copied.

    Raises:
        StatexError: SX503 where it is no module, or one that cannot be copied.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        what = f"the class {module.__name__}" if isinstance(module, type) else f"of type {type(module).__name__}"
        fail(codes.NOT_BUILT, f"a target is a module, and this is {what}", help="or a text: package.module:callable")
    # Beside parameters and buffers: what is computed of them and kept, as `torch.nn.utils.weight_norm` does.
    kept = [value for part in module.modules() for value in vars(part).values() if isinstance(value, torch.Tensor)]
    memo = {id(tensor): _on_meta(tensor) for tensor in [*module.parameters(), *module.buffers(), *kept]}
    try:
        copied = copy.deepcopy(module, memo)
    except Exception as error:
        fail(
            codes.NOT_BUILT,
            f"the module {type(module).__name__} cannot be copied without its data: {type(error).__name__}: {error}",
            help="name what builds it, as `package.module:callable`, or give a state_dict to compare with",
        )
    return described(copied, name or type(module).__name__)


def _on_meta(tensor: Any) -> Any:
    import torch
    from torch.nn.parameter import is_lazy

    if is_lazy(tensor):
        lazy: Any = type(tensor)
        return lazy(requires_grad=tensor.requires_grad, device="meta", dtype=tensor.dtype)
    empty = torch.empty_like(tensor, device="meta")
    is_parameter = isinstance(tensor, torch.nn.Parameter)
    return torch.nn.Parameter(empty, requires_grad=tensor.requires_grad) if is_parameter else empty


def build_target(
    spec: str, arguments: Mapping[str, Any] | None = None, folder: str | None = None, *, in_recipe: bool = False
) -> Target:
    """Import `module:callable` or `file.py:callable` and call it on the meta device.

    Modules are looked for in `folder` if one is given, in the working directory, and where Python finds them. Messages
    say what to write on a command line, or `in_recipe` what in a recipe.

    Raises:
        StatexError: SX502 where it cannot be imported, SX503 where it cannot be called or gives no module.
    """
    import torch

    factory = imported(spec, [folder, os.getcwd()] if folder is not None else [os.getcwd()], in_recipe=in_recipe)
    if isinstance(factory, torch.nn.Module):
        return module_target(factory, spec.rpartition(":")[2])
    if not callable(factory):
        fail(
            codes.NOT_BUILT,
            f"`{spec}` is neither a model nor builds one: it is of type `{type(factory).__name__}`",
        )
    try:
        with torch.device("meta"):
            module = factory(**(arguments or {}))
    except (Exception, SystemExit) as error:
        fail(
            codes.NOT_BUILT,
            f"`{spec}` could not be built: {type(error).__name__}: {error}",
            notes=raised_in(error),
            help="give its arguments with `args: {NAME: VALUE}`, or compare with a checkpoint: `target: {like: FILE}`"
            if in_recipe
            else "give its arguments with `--target-arg name=value`, or compare with a checkpoint: `--like FILE`",
        )
    if not isinstance(module, torch.nn.Module):
        fail(codes.NOT_BUILT, f"`{spec}` gives `{type(module).__name__}`, not a torch.nn.Module")
    return described(module, spec.rpartition(":")[2])


def described(module: Any, name: str) -> Target:
    """Return a module as a target, itself and not a copy; its data is not read."""
    state = module.state_dict(keep_vars=True)
    import torch

    entries = {
        key: tensor_info(value) if isinstance(value, torch.Tensor) else OpaqueInfo(type(value).__name__, value)
        for key, value in state.items()
    }
    return Target(name, Header(entries, getattr(state, "_metadata", None), label=name), module)
