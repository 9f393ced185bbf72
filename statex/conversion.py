"""Conversion of checkpoint files: from the plan to an output that appears whole and verified, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex.checkpoint import (
    Options,
    arrange,
    check_output,
    check_space,
    format_for,
    format_of_name,
    is_large,
    other_files,
    write_checkpoint,
)
from statex.diagnostics import fail
from statex.diagnostics.amounts import show_bytes
from statex.diagnostics.codes import files as file_codes
from statex.dsl.plan import Plan
from statex.subject import PathLike, State, Subject, as_members, resolve_target

if TYPE_CHECKING:
    from statex.api import Rules
    from statex.execute.verify import Comparison


@dataclass(frozen=True)
class Conversion:
    """What `convert` did: the plan that was carried out, the comparison with the target, the file written."""

    plan: Plan
    comparison: Comparison | None
    path: Path | None
    """`None` after a dry run."""
    left_files: tuple[str, ...] = ()
    """What is not weights in the source's folder, and was not taken along into the output's; folders end in `/`."""


def convert(
    source: PathLike,
    destination: PathLike,
    rules: Rules,
    *,
    inputs: Mapping[str, State | Sequence[State]] | None = None,
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
    progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Convert a checkpoint; the output appears whole and verified, or not at all.

    A source is a file, an index of shards, or a folder that holds either. A destination whose name ends in `/` (or
    has no ending of a file, where the source is a folder or `shard_size` is given) is a folder of shards of at most
    `shard_size` bytes, 5 GB unless given; `copy_files` takes along what is not weights in the source's folder.
    `format` is `torch` or `safetensors`, by default what the name's ending says. `force` replaces an existing output.
    With `dry_run` everything is checked and nothing is computed or written. `max_memory` is in bytes. `check_input`
    compares all input bytes with the checksums a torch file records for them, `verify_written` reads the output again
    and compares it. `progress` is called with the bytes written so far and those to be written.

    Raises:
        StatexError: as `Rules.apply`, and 6xx for files.
    """
    if format == "dcp" and shard_size is not None:
        fail(file_codes.UNKNOWN_FORMAT, "a folder of torch.distributed.checkpoint has no shards of a size of yours")
    folder = _is_folder(source, destination, format, shard_size)
    destination = Path(destination)
    if destination.name in ("", ".."):  # of the current folder, and of the one above it
        destination = Path(os.path.abspath(destination))
    given = [os.fspath(source), *(os.fspath(p) for p in _paths(inputs or {}))]
    others, left = other_files(_folder_of(Path(source))) if folder else ([], [])
    check_output(destination, force, given, folder=folder, taken=[path.name for path in others] if copy_files else ())
    if copy_files and not folder:
        fail(
            file_codes.NO_FOLDER,
            f"files can be taken along into a folder, and `{destination}` is a file",
            help=f"name a folder: {os.path.splitext(destination)[0]}/",
        )
    kind = None if folder and format is None else format_for(destination, format)
    with rules.open(Subject(source, inputs or {}, resolve_target(target, like), root, params or {})) as job:
        comparison = job.check_target()
        left = [*([] if copy_files else [path.name for path in others]), *left] if _is_set(source) else []
        options = Options(
            format=kind or job.format,
            force=force,
            folder=folder,
            shard_size=(shard_size or _SHARD) if folder else None,
            check=check_input,
            keep_crc=verify_written,
            notes=job.notes,
            index=job.index,
            copy=others if copy_files else (),
        )
        output = arrange(job.contents(options.format), options)
        plan = job.priced(options.format, output)
        assert plan.cost is not None
        if max_memory is not None and plan.cost.memory > max_memory:
            fail(
                file_codes.NO_MEMORY,
                f"this would take up to {show_bytes(plan.cost.memory)} of memory, and {show_bytes(max_memory)} "
                "are allowed",
            )
        if dry_run:
            return Conversion(plan, comparison, None, tuple(left))
        check_space(destination, plan.cost.written + sum(path.stat().st_size for path in options.copy))
        options = replace(
            options,
            large=is_large(destination.parent, plan.cost.written),
            progress=_counted(progress, plan.cost.written) if progress is not None else None,
        )

        def verify(written: Path) -> None:
            if check_input:
                job.check_stored()
            job.check_unchanged()
            if verify_written:
                job.check_written(written, output)

        write_checkpoint(destination, output, options, verify)
        return Conversion(plan, comparison, destination, tuple(left))


_SHARD = 5_000_000_000


def _is_folder(source: PathLike, destination: PathLike, format: str | None, shard_size: int | None) -> bool:
    """Say whether the output is a folder."""
    name = os.fspath(destination)
    if name.endswith(("/", os.sep)) or format == "dcp":
        return True
    wanted = shard_size is not None or _is_set(source) or os.path.isdir(destination)
    if format_of_name(name) is not None:
        if shard_size is not None:
            fail(
                file_codes.UNKNOWN_FORMAT,
                f"shards are written into a folder, and `{name}` is named like a file",
                help=f"name a folder: {os.path.splitext(name)[0]}/",
            )
        return False
    return wanted


def _is_set(source: PathLike) -> bool:
    return os.path.isdir(source) or os.fspath(source).endswith(".index.json")


def _folder_of(source: Path) -> Path:
    return source if os.path.isdir(source) else source.parent


def _counted(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    return add


def _paths(inputs: Mapping[str, State | Sequence[State]]) -> list[PathLike]:
    found: list[PathLike] = []
    for given in inputs.values():
        found += [one for one in as_members(given) if isinstance(one, str | os.PathLike)]
    return found
