"""Whether a run would do again what the last one did, as its report shows; and which outputs are its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from statex.checkpoint import entry_of, holds_just, other_files
from statex.diagnostics import StatexError
from statex.session.digests import FilePrint
from statex.session.identity import fingerprint, relative
from statex.session.report import LastRun, Listed
from statex.session.request import InputSpec, OutputSpec, Request


def changes(request: Request, last: LastRun, included: Mapping[str, str]) -> str | None:
    """Return what has changed since the last run, in words; `None` where nothing has, so that it need not run again.

    `included` are the digests of the rule files that rules include now.
    """
    if fingerprint(request) != last.fingerprint:
        return "the request"
    if dict(included) != dict(last.included):
        return "an included rule file"
    for (_, _, given), listed in zip(request.all_inputs, last.inputs, strict=False):
        changed = _input_change(request, given, listed)
        if changed is not None:
            return changed
    for name, one in last.further.files.items():
        if not one.is_still(request.base / name, rehash=request.policy.rehash):
            return f"`{name}`"
    for output in request.outputs:
        if copied_now(request, output) != list(last.copied.get(output.label, ())):
            return "the files that are copied along"
        listed_output = last.outputs.get(output.label)
        if listed_output is None or not is_own(request, output, last):
            return f"the output `{output.label}`"
    return None


def _input_change(request: Request, given: InputSpec, listed: Listed) -> str | None:
    assert given.path is not None, "a recipe names files"
    label = f"`{listed.path}`"
    try:
        if relative(entry_of(given.path), request.base) != listed.entry:
            return label
    except StatexError:
        return label
    for name, one in listed.files.items():
        if not one.is_still(request.base / name, rehash=request.policy.rehash):
            return label if name == listed.entry else f"`{name}`"
    return None


def copied_now(request: Request, output: OutputSpec) -> list[str]:
    """Return the names of the files that would be copied along into an output."""
    source = request.state.path
    if not output.copy_files or source is None:
        return []
    folder = source if os.path.isdir(source) else source.parent
    try:
        return [path.name for path in other_files(folder)[0]]
    except StatexError:
        return []


def is_own(request: Request, output: OutputSpec, last: LastRun | None) -> bool:
    """Say whether what is at an output's place is what the last run wrote there."""
    if last is None:
        return False
    listed = last.outputs.get(output.label)
    if listed is None or not listed.files or listed.path != relative(Path(output.path), request.base):
        return False
    files: dict[Path, FilePrint] = {request.base / name: one for name, one in listed.files.items()}
    path = Path(output.path)
    if path.is_dir() and not holds_just(path, {found.name for found in files}):
        return False
    return all(one.is_still(found, rehash=request.policy.rehash, since=last.written) for found, one in files.items())
