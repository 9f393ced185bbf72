"""The target: a model built without data, or another checkpoint's header."""

from __future__ import annotations

import copy
import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from statex.diagnostics import fail
from statex.diagnostics.codes import target as codes
from statex.diagnostics.suggest import did_you_mean
from statex.execute.live import tensor_info
from statex.header import Header, OpaqueInfo
from statex.record import record

_SEARCHED = "modules are searched in the working directory and where Python finds them"


@record
class Target:
    """What a result has to fit: a header, and the model on the meta device where there is one."""

    name: str
    header: Header
    module: Any = None


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


def build_target(spec: str, arguments: Mapping[str, Any] | None = None, folder: str | None = None) -> Target:
    """Import `module:callable` and call it on the meta device.

    Modules are looked for in `folder` if one is given, in the working directory, and where Python finds them.

    Raises:
        StatexError: SX502 where it cannot be imported, SX503 where it cannot be called or gives no module.
    """
    import torch

    factory = _import(spec, [folder, os.getcwd()] if folder is not None else [os.getcwd()])
    if isinstance(factory, torch.nn.Module):
        return module_target(factory, spec.rpartition(":")[2])
    if not callable(factory):
        fail(codes.NOT_BUILT, f"`{spec}` is no model and no callable that builds one: it is `{type(factory).__name__}`")
    try:
        with torch.device("meta"):
            module = factory(**(arguments or {}))
    except (Exception, SystemExit) as error:
        fail(
            codes.NOT_BUILT,
            f"`{spec}` could not be built: {type(error).__name__}: {error}",
            notes=_raised_in(error),
            help="give its arguments with `--target-arg name=value`, or compare with a checkpoint: `--like FILE`",
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


def _raised_in(error: BaseException) -> Iterable[str]:
    """Yield the last place in code that is not torch's, statex's or Python's own, where there is one."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_theirs(f.filename)]
    if frames:
        last = frames[-1]
        yield f"raised in {os.path.basename(last.filename)}, line {last.lineno}: {last.line}"


def _is_theirs(file: str) -> bool:
    import torch

    ours = (torch.__file__, os.path.dirname(__file__))
    if file.startswith(("<", *(os.path.dirname(one) + os.sep for one in ours))):
        return False
    return "site-packages" in file or not file.startswith(os.path.dirname(os.__file__) + os.sep)


def _import(spec: str, folders: list[str]) -> Any:
    name, colon, path = spec.partition(":")
    if not colon or not name or not path:
        fail(
            codes.NOT_IMPORTED,
            f"`{spec}` is not of the form `package.module:callable`, and there is no such file",
            help="--target models:Net",
        )
    if os.path.isfile(name):
        near = os.path.relpath(name).removesuffix(".py").split(os.sep)
        importable = all(part.isidentifier() for part in near)
        fail(
            codes.NOT_IMPORTED,
            f"`{name}` is a file, and a target names a module",
            help=f"--target {'.'.join(near)}:{path}" if importable else _SEARCHED,
        )
    sys.path[:0] = [folder for folder in folders if folder not in sys.path[: len(folders)]]
    try:
        found: Any = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a script may end itself, and would end this one as if all was well
        absent = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
        fail(
            codes.NOT_IMPORTED,
            f"the module `{name}` cannot be imported: {type(error).__name__}: {error}",
            notes=_raised_in(error),
            help=_SEARCHED if absent else "compare with a checkpoint, which needs no code: `--like FILE`",
        )
    for part in path.split("."):
        if not hasattr(found, part):
            near = did_you_mean(part, [n for n, v in vars(found).items() if callable(v)])
            fail(
                codes.NOT_IMPORTED,
                f"`{name}` has no `{path}`",
                help=f"did you mean `{name}:{near[0]}`?" if near else (),
            )
        found = getattr(found, part)
    return found
