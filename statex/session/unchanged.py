"""Decides from its report whether a run would repeat the last one, and which outputs are its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from statex.checkpoint import entry_of, holds_just
from statex.core.progress import Add
from statex.diagnostics import StatexError
from statex.session.identity import fingerprint, located, relative
from statex.session.report import LastRun, Listed, outputs_named
from statex.session.request import InputSpec, OutputSpec, Request
from statex.session.sources import copied_along


def changes(request: Request, last: LastRun, included: Mapping[str, str], added: Add) -> str | None:
    """Return what has changed since the last run, in words; `None` if nothing has, so that it need not run again.

    `included` are the digests of the rule files that rules include now. `added` is told of bytes that are read.
    """
    if fingerprint(request) != last.fingerprint:
        return "the request"
    if dict(included) != dict(last.included):
        return "an included rule file"
    try:
        return next(_changed(request, last, added), None)
    except StatexError:
        return "a file that cannot be read any more"


def _changed(request: Request, last: LastRun, added: Add) -> Iterator[str]:
    # The cheapest first: how files are, before what is in them.
    for output in request.outputs:
        if [relative(path, request.base) for path in copied_files(request, output)] != list(
            last.copied.get(output.label, ())
        ):
            yield "the files that are copied along"
    for path in _depended_on(request):
        if relative(path, request.base) not in last.further.files:
            yield f"`{path}`"
    for name, number, given in request.all_inputs:
        members = last.inputs.get(name or "main", ())
        if number >= len(members) or not _is_input(request, given, members[number], added):
            yield f"the input `{name or 'main'}`"
    if not _are_still(request, last.further, added):
        yield "a file that the outputs depend on"
    for output in request.outputs:
        if not is_own(request, output, last, added):
            yield f"the output `{output.label}`"
    for output in _beside(request, last):
        if not is_own(request, output, last, added):
            yield f"`{output.path}`"


def _beside(request: Request, last: LastRun) -> Iterator[OutputSpec]:
    """Yield the files that the last run wrote beside its outputs."""
    labels = {output.label for output in request.outputs}
    for label, listed in last.outputs.items():
        if label not in labels:
            yield OutputSpec(located(listed.path, request.base), label)


def _is_input(request: Request, given: InputSpec, listed: Listed, added: Add) -> bool:
    assert given.path is not None, "a recipe names files"
    entry = relative(entry_of(given.path), request.base)
    # Of a folder of torch.distributed.checkpoint, the entry is the folder.
    return entry == listed.entry and bool(listed.files) and _are_still(request, listed, added)


def _are_still(request: Request, listed: Listed, added: Add) -> bool:
    rehash = request.policy.rehash
    return all(
        one is not None and one.is_still(located(name, request.base), rehash=rehash, added=added)
        for name, one in listed.files.items()
    )


def copied_files(request: Request, output: OutputSpec) -> list[Path]:
    """Return the files that would be copied along into an output."""
    return copied_along(request.state.path) if output.copy_files else []


def _depended_on(request: Request) -> Iterator[Path]:
    """Yield files besides inputs and rules that the last run has to have listed, as far as names tell."""
    yield from request.read
    for output in request.outputs:
        yield from copied_files(request, output)
    for target in request.named_targets:
        if target.like_path is not None:
            entry = entry_of(target.like_path)
            yield from () if os.path.isdir(entry) else (entry,)
        elif target.is_code and not target.held_back:
            found = module_file(str(target.model), target.folder)
            yield from () if found is None else (found,)


def module_file(model: str, folder: str | None) -> Path | None:
    """Return the source file that `module:callable` is imported from; `None` if only the import would tell."""
    name = model.partition(":")[0]
    places = [one for one in (folder, os.getcwd()) if one is not None] + sys.path
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:count]), places)
        if spec is None:
            return None
        if count == len(parts):
            return Path(spec.origin) if spec.has_location and spec.origin is not None else None
        places = list(spec.submodule_search_locations or ())
    return None


def is_own(request: Request, output: OutputSpec, last: LastRun | None, added: Add) -> bool:
    """Say whether what is at an output's place is what the last run wrote there; `added` is told of bytes read."""
    if last is None or request.report is None or not was_there(request, output, last):
        return False
    listed = last.outputs[output.label]
    if not listed.files:
        return False
    files = {located(name, request.base): one for name, one in listed.files.items()}
    if not _is_all_of(Path(output.path), list(files)):
        return False
    since = outputs_named(request.report, last)
    rehash = request.policy.rehash
    return all(
        one is not None and one.is_still(found, rehash=rehash, since=since, added=added) for found, one in files.items()
    )


def _is_all_of(output: Path, files: Sequence[Path]) -> bool:
    """Say whether files are all that an output is made of."""
    real = os.path.realpath(output)
    if not os.path.isdir(real):
        return [os.path.realpath(file) for file in files] == [real]
    inside = all(os.path.realpath(file.parent) == real for file in files)
    return inside and holds_just(output, {file.name for file in files})


def was_there(request: Request, output: OutputSpec, last: LastRun) -> bool:
    """Say whether the last run wrote this output to this place."""
    listed = last.outputs.get(output.label)
    return listed is not None and listed.path == relative(Path(output.path), request.base)
