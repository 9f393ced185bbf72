"""The code of a target: `module:callable` from Python's search path, or `path/file.py:callable`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import target as codes
from statex.diagnostics.suggest import did_you_mean

_SEARCHED = "modules are looked for in the working directory and where Python finds them"
_SEARCHED_IN_RECIPE = _SEARCHED.replace("in the", "in the recipe's folder, the")
_LIKE, _LIKE_IN_RECIPE = "--like FILE", "target: {like: FILE}"


def imported(spec: str, folders: list[str], *, in_recipe: bool = False) -> Any:
    """Return what `module:callable` or `file.py:callable` names; modules are looked for in `folders` first.

    Messages say what to write on a command line, or `in_recipe` what in a recipe.

    Raises:
        StatexError: SX502.
    """
    name, colon, path = spec.rpartition(":")
    if not colon or not name or not path:
        fail(
            codes.NOT_IMPORTED,
            f"`{spec}` is not of the form `package.module:callable` or `file.py:callable`, and there is no such file",
            help="--target models:Net",
        )
    with _told_if_it_fails(name, in_recipe):
        found: Any = _of_file(name) if _names_file(name) else _of_name(name, folders)
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


def _names_file(name: str) -> bool:
    """Say whether a name is that of a file of Python.

    Raises:
        StatexError: SX502 for another file, and for a path where there is none.
    """
    if name.endswith(".py") and os.path.isfile(name):
        return True
    if os.path.isfile(name):
        fail(codes.NOT_IMPORTED, f"`{name}` is a file, but not one of Python (.py)", help="--target models.py:Net")
    if os.sep in name or "/" in name:
        fail(codes.NOT_IMPORTED, f"there is no file `{name}`", help=_SEARCHED)
    return False


def _of_name(name: str, folders: list[str]) -> ModuleType:
    sys.path[:0] = [folder for folder in folders if folder not in sys.path[: len(folders)]]
    return importlib.import_module(name)


def _of_file(name: str) -> ModuleType:
    """Import a file under a name that no other module has, whatever the file is called.

    Modules beside it are found after all others, so that a `json.py` there is nobody's `json`.
    """
    file = Path(os.path.realpath(name))
    alias = f"statex_target_{sha256(os.fsencode(file)).hexdigest()[:16]}"
    if alias in sys.modules:
        return sys.modules[alias]
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location(alias, file)
    assert spec is not None, "its name ends in .py"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module  # dataclasses, among others, look up the module that they are in
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[alias]
        raise
    return module


@contextmanager
def _told_if_it_fails(name: str, in_recipe: bool) -> Iterator[None]:
    try:
        yield
    except StatexError:
        raise
    except (Exception, SystemExit) as error:  # a script may end itself, and would end this one as if all was well
        absent = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
        what = "file" if name.endswith(".py") else "module"
        fail(
            codes.NOT_IMPORTED,
            f"the {what} `{name}` cannot be imported: {type(error).__name__}: {error}",
            notes=raised_in(error),
            help=(_SEARCHED_IN_RECIPE if in_recipe else _SEARCHED) if absent else _instead(name, error, in_recipe),
        )


def _instead(name: str, error: BaseException, in_recipe: bool) -> str:
    if isinstance(error, ImportError) and "relative import" in str(error):
        return f"a file that is part of a package is named as a module: --target package.{Path(name).stem}:…"
    return f"compare with a checkpoint, which needs no code: `{_LIKE_IN_RECIPE if in_recipe else _LIKE}`"


def raised_in(error: BaseException) -> Iterable[str]:
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
