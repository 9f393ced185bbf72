"""A request for a run: one value, built alike by Python calls, the command line and recipes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex.core.header import Header
from statex.core.paths import Address
from statex.core.record import node
from statex.core.source import Source, Span
from statex.dsl.parts import Outside, ProgramPart
from statex.grammar.rulefiles import Load, read_include

if TYPE_CHECKING:
    from statex.execute.verify.target import Target

PathLike = str | os.PathLike[str]
State = Mapping[str, Any] | Header | PathLike
"""A state_dict (or nested checkpoint) in memory, its header alone, or the path of a checkpoint."""


@node
class InputSpec:
    """A checkpoint that is read.

    `root` is the path of its state if that is said outside of the rules, `format` is the one that its content has to
    have, `sha256` the digest of its file (of a folder, those of its files by name). `span` is where a recipe names it,
    `sha256_span` where it says the digest.
    """

    state: State
    root: Address | None = None
    format: str | None = None
    sha256: str | Mapping[str, str] | None = None
    span: Span | None = None
    sha256_span: Span | None = None

    @property
    def path(self) -> Path | None:
        """The path, if it is not in memory."""
        return Path(self.state) if isinstance(self.state, str | os.PathLike) else None


@node
class TargetSpec:
    """What a result has to fit, as it is named.

    `model` is a module, `"module:callable"` (with `arguments`; `folder` is where modules are looked for first), a
    state or a path; `like` is a state or a path only. `held_back` is true for code that may not be imported, `span` is
    where a recipe names it.
    """

    model: Any = None
    like: State | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    folder: str | None = None
    held_back: bool = False
    span: Span | None = None

    @property
    def is_code(self) -> bool:
        """True if it names a callable of a module."""
        return isinstance(self.model, str) and not os.path.exists(self.model)

    @property
    def like_path(self) -> Path | None:
        """The path of `like`, if that is not in memory."""
        return Path(self.like) if isinstance(self.like, str | os.PathLike) else None


@node
class OutputSpec:
    """A file or folder that is written.

    With `update_config`, a configuration that is copied along says the dtype that tensors have now. `stem` is what the
    files of a folder are named after, `None` for what the input is. `keep` are patterns of the keys
    it holds (none: all), each with a source of its own; `target` is what these have to fit. `span` is where a recipe
    names it.
    """

    path: PathLike
    name: str = ""
    format: str | None = None
    shard_size: int | None = None
    copy_files: bool = False
    keep: Sequence[Source] = ()
    target: TargetSpec | Target | None = None
    span: Span | None = None
    stem: str | None = None
    update_config: bool = True

    @property
    def label(self) -> str:
        """How messages and reports call it."""
        return self.name or "output"


@node
class Policy:
    """How a run goes about its work.

    `replace` says which existing outputs may be replaced: `never` any, those that are this run's `own` (written by the
    last one, as its report shows), or `always`. `warnings` are `error`, `warn` or `ignore` by code, `*` for all.
    `max_memory` is in bytes. `skip` does nothing if nothing has changed since the last report, `rehash` then reads
    all files again. `digests` asks for the SHA-256 of all that is read and written. `make_folders` makes the
    folders that outputs stand in, if they are missing. `keep_foreign` writes objects that statex does not load as they
    were read. A `reversible` run of one output, which holds the whole result, writes the rules
    that undo it beside that.
    """

    replace: str = "never"
    max_memory: int | None = None
    check_input: bool = False
    verify_written: bool = False
    warnings: Mapping[str, str] = field(default_factory=dict)
    digests: bool = False
    skip: bool = False
    rehash: bool = False
    dry_run: bool = False
    make_folders: bool = False
    keep_foreign: bool = False
    reversible: bool = False


@node
class Request:
    """All that a run needs: the state and further inputs, the rules with what they are given, and what becomes of it.

    `inputs` are the further inputs by name, each with its members. `root` is the path of the state if that is said
    outside of the rules. `load` reads the rule files that rules include. `base` is the folder that names in a report
    are relative to, `read` are files of parameters that went into the values given.

    The rules are for the module `at` a path in the state, or for all of it. `stamp` is the version of the layout that
    they give it, to be noted there.
    """

    state: InputSpec
    parts: tuple[ProgramPart, ...] = ()
    inputs: Mapping[str, tuple[InputSpec, ...]] = field(default_factory=dict)
    outside: Outside = field(default_factory=Outside)
    target: TargetSpec | Target | None = None
    outputs: tuple[OutputSpec, ...] = ()
    policy: Policy = field(default_factory=Policy)
    report: Path | None = None
    load: Load = read_include
    base: Path = Path()
    read: tuple[Path, ...] = ()
    recipe: Source | None = None
    at: str = ""
    stamp: Mapping[str, Any] | None = None

    @property
    def all_inputs(self) -> list[tuple[str, int, InputSpec]]:
        """Every checkpoint that is read, with the name of its input (`''` for the state) and its number there."""
        further = [(name, i, one) for name, members in self.inputs.items() for i, one in enumerate(members)]
        return [("", 0, self.state), *further]

    def takes_digest(self, one: InputSpec) -> bool:
        """Say whether the files of an input are read as a whole, for their digests."""
        return self.policy.digests or one.sha256 is not None

    @property
    def named_targets(self) -> list[TargetSpec]:
        """What results have to fit, as far as it is named: for the state after all rules, then for each output."""
        found = (self.target, *(one.target for one in self.outputs))
        return [one for one in found if isinstance(one, TargetSpec)]


def as_members(given: State | Sequence[State]) -> tuple[InputSpec, ...]:
    """Return the checkpoints of an input: one, or those of a family."""
    if isinstance(given, list | tuple):
        return tuple(InputSpec(one) for one in given)
    # A module may be a sequence, too; that it is not a state is said where states are opened.
    return (InputSpec(given),)  # type: ignore[arg-type]
