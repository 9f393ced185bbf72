"""The identity of a run apart from the bytes of files: its request as data, and the versions of the software."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from statex.dsl.expressions.parameters import Given
from statex.dsl.parts import ProgramPart
from statex.session.request import InputSpec, OutputSpec, PathLike, Request, TargetSpec
from statex.version import VERSION


def versions() -> dict[str, str]:
    """Return the versions of statex and torch, without importing torch."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "none"
    return {"statex": VERSION, "torch": torch}


def described(request: Request) -> dict[str, Any]:
    """Return a request as plain data: all that its result depends on but the contents of files.

    Paths are relative to the folder of the recipe, so that it does not matter where it is run from.
    """
    outside, policy = request.outside, request.policy
    return {
        "rules": [_rules(part, request.base) for part in request.parts],
        "parameters": _values(outside.params) | _values(outside.given),
        "documents": [text_digest(json.dumps(one, sort_keys=True, default=repr)) for one in outside.documents.values()],
        "inputs": {
            name: [_input(one, request.base) for one in members]
            for name, members in [("main", (request.state,)), *request.inputs.items()]
        },
        "optimizers": {name: _input(one, request.base) for name, one in request.optimizers.items()},
        "param_names": repr(request.param_names) if request.param_names is not None else None,
        "target": _target(request.target, request.base),
        "outputs": {one.label: _output(one, request.base) for one in request.outputs},
        "policy": {
            "max_memory": policy.max_memory,
            "check_input": policy.check_input,
            "verify_written": policy.verify_written,
            "keep_foreign": policy.keep_foreign,
            "reversible": policy.reversible,
            "warnings": dict(policy.warnings),
        },
    }


def fingerprint(request: Request) -> str:
    """Return the digest of a request and the versions that carry it out."""
    text = json.dumps([described(request), versions()], sort_keys=True, default=repr)
    return text_digest(text)


def text_digest(text: str) -> str:
    """Return the SHA-256 of a text, which may hold half surrogates."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def relative(path: PathLike, base: Path) -> str:
    """Return a path as reports have it: relative to the folder of the recipe.

    Bytes that are not text are written as `\\udc80`, and a backslash twice.
    """
    found = Path(os.path.relpath(path, base)).as_posix().replace("\\", "\\\\")
    return found.encode("utf-8", "backslashreplace").decode("utf-8")


def located(name: str, base: Path) -> Path:
    """Return the path that a report has as `name`."""
    return base / _WRITTEN.sub(lambda found: chr(int(found[1], 16)) if found[1] else "\\", name)


_WRITTEN = re.compile(r"\\(?:u(dc[89a-f][0-9a-f])|\\)")


def _rules(part: ProgramPart, base: Path) -> dict[str, Any]:
    source = part.program.source
    digest = text_digest(source.text)
    if part.shared:
        return {"inline": digest}
    return {"file": relative(source.name, base), "sha256": digest, "with": _values(part.given)}


def _values(given: Mapping[str, Given]) -> dict[str, Any]:
    # Which way a value came matters: `5` of a command line may be a number, the text "5" is not.
    return {name: value.value if value.typed else {"text": value.value} for name, value in given.items()}


def _input(one: InputSpec, base: Path) -> dict[str, Any]:
    path = relative(one.path, base) if one.path is not None else None
    root = one.root if one.root is None or isinstance(one.root, str) else list(one.root)
    return {"path": path, "root": root, "format": one.format, "sha256": one.sha256}


def _target(target: Any, base: Path) -> Any:
    if not isinstance(target, TargetSpec):
        return None if target is None else repr(target)
    if target.like is not None:
        return {
            "like": relative(target.like, base) if isinstance(target.like, str | os.PathLike) else repr(target.like)
        }
    model = target.model if isinstance(target.model, str) else repr(target.model)
    return {"model": model, "args": dict(target.arguments)}


def _output(one: OutputSpec, base: Path) -> dict[str, Any]:
    folder = os.fspath(one.path).endswith(("/", os.sep))
    return {
        "path": relative(one.path, base) + ("/" if folder else ""),
        "format": one.format,
        "shard_size": one.shard_size,
        "copy_files": one.copy_files,
        "stem": one.stem,
        "update_config": one.update_config,
        "optimizer": one.optimizer,
        "keep": [pattern.text for pattern in one.keep],
        "target": _target(one.target, base),
    }
