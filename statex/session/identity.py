"""What a run depends on beside the bytes of files: its request as data, and the versions of what carries it out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from statex.dsl.parameters import Given
from statex.session.request import InputSpec, OutputSpec, Request, TargetSpec
from statex.version import VERSION


def versions() -> dict[str, str]:
    """Return the versions of statex and torch, without importing torch."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "none"
    return {"statex": VERSION, "torch": torch}


def described(request: Request) -> dict[str, Any]:
    """Return a request as plain data: all that its result depends on but the contents of files."""
    outside, policy = request.outside, request.policy
    return {
        "rules": [
            {
                "name": part.program.source.name,
                "sha256": hashlib.sha256(part.program.source.text.encode("utf-8", "surrogatepass")).hexdigest(),
                "with": _values(part.given),
                "scope": "shared" if part.shared else "file",
            }
            for part in request.parts
        ],
        "parameters": _values(outside.params) | _values(outside.given),
        "inputs": {name or "main": [] for name, _, _ in request.all_inputs}
        | {
            name: [_input(one) for one in members]
            for name, members in [("main", (request.state,)), *request.inputs.items()]
        },
        "target": _target(request.target),
        "outputs": [_output(one) for one in request.outputs],
        "policy": {
            "replace": policy.replace,
            "max_memory": policy.max_memory,
            "check_input": policy.check_input,
            "verify_written": policy.verify_written,
            "warnings": dict(policy.warnings),
        },
    }


def fingerprint(request: Request) -> str:
    """Return the digest of a request and the versions that carry it out."""
    text = json.dumps([described(request), versions()], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _values(given: Mapping[str, Given]) -> dict[str, Any]:
    # Which way a value came matters: `"5"` of a command line may be a number, the text "5" is none.
    return {name: [value.value, value.typed] for name, value in given.items()}


def _input(one: InputSpec) -> dict[str, Any]:
    path = os.fspath(one.path) if one.path is not None else None
    return {"path": path, "root": one.root, "format": one.format, "sha256": one.sha256}


def _target(target: Any) -> Any:
    if isinstance(target, TargetSpec):
        model = target.model if isinstance(target.model, str | None) else repr(target.model)
        return {"model": model, "like": str(target.like) if _is_path(target.like) else None,
                "args": dict(target.arguments)}  # fmt: skip
    return None if target is None else repr(target)


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike)


def _output(one: OutputSpec) -> dict[str, Any]:
    return {
        "name": one.name,
        "path": os.fspath(one.path),
        "format": one.format,
        "shard_size": one.shard_size,
        "copy_files": one.copy_files,
        "keep": [pattern.text for pattern in one.keep],
        "target": _target(one.target),
    }
