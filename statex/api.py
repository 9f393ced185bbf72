"""The public functions: load rules, plan them, apply them, verify results."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex.checkpoint import known_format
from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import target as target_codes
from statex.dsl.check import Checked, check_program
from statex.dsl.plan import Plan
from statex.grammar import parse, tree
from statex.header import Header
from statex.job import Job
from statex.rulefiles import read_include, read_rules
from statex.source import Source
from statex.subject import Opened, PathLike, State, Subject, resolve_target

if TYPE_CHECKING:
    from statex.execute.verify import Comparison


def load(path: PathLike) -> Rules:
    """Read a rule file.

    Raises:
        StatexError: 1xx with every syntax error, SX222 where the file cannot be read.
    """
    source = read_rules(path)
    return Rules(parse(source), Path(path).parent.as_posix())


def compile(text: str, *, name: str = "<rules>", folder: PathLike = ".") -> Rules:
    """Parse rules given as text; `folder` is what an `include` is relative to, `name` is shown in messages.

    Raises:
        StatexError: 1xx with every syntax error.
    """
    return Rules(parse(Source(name, text)), os.fspath(folder))


class Rules:
    """A parsed program; it knows no checkpoint yet."""

    def __init__(self, program: tree.Program, folder: str = ".") -> None:
        self.program = program
        self._folder = folder

    def __repr__(self) -> str:
        return f"<statex.Rules {self.program.source.name}: {len(self.program.statements)} statements>"

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters the program declares, in order."""
        return tuple(s.name.name for s in self.program.statements if isinstance(s, tree.Param))

    def check(self) -> None:
        """Check everything that does not need a checkpoint: names, captures, operations, in every branch.

        Raises:
            StatexError: every such error at once.
        """
        self._checked()

    def _checked(self) -> Checked:
        found = check_program(self.program, read_include, self._folder)
        if found.diagnostics:
            raise StatexError(found.diagnostics)
        return found

    def open(self, subject: Subject) -> Job:
        """Open a checkpoint and further inputs, and plan; the job closes the files.

        Raises:
            StatexError: every error of the program on this state, 6xx for files.
        """
        return Job(self.program, self._checked(), self._folder, subject)

    def plan(
        self,
        state: State,
        *,
        inputs: Mapping[str, State | Sequence[State]] | None = None,
        target: Any = None,
        like: State | None = None,
        root: str | None = None,
        params: Mapping[str, Any] | None = None,
        format: str | None = None,
        **keywords: Any,
    ) -> Plan:
        """Check the program against a state's header, and against the target where one is given; read no data.

        `inputs` are the further inputs by name, several for a family. `target` is a module, or `"module:callable"`;
        `like` another checkpoint. Parameters are given in `params` or as keyword arguments. `format` is what would be
        written (`torch`, `safetensors` or `dcp`), by default the format of the input.

        Raises:
            StatexError: every error of the program on this state, or the mismatch with the target (SX501).
        """
        given = {**(params or {}), **keywords}
        with self.open(Subject(state, inputs or {}, resolve_target(target, like), root, given)) as job:
            job.check_target()
            return job.priced(known_format(format) if format is not None else None)

    def apply(
        self,
        state: State,
        *,
        inputs: Mapping[str, State | Sequence[State]] | None = None,
        target: Any = None,
        like: State | None = None,
        root: str | None = None,
        params: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> Any:
        """Return the result as a new state_dict; the state given is not changed.

        Tensors that no rule changes are the very same objects. Of a nested checkpoint, a new one comes back with
        everything around the state kept. The arguments are those of `plan`.

        Raises:
            StatexError: as `plan`, and SX504 where the target's `load_state_dict` refuses the result.
        """
        given = {**(params or {}), **keywords}
        with self.open(Subject(state, inputs or {}, resolve_target(target, like), root, given)) as job:
            job.check_target()
            return job.execute()


def verify(state: State, target: Any = None, *, like: State | None = None, root: str | None = None) -> Comparison:
    """Compare a state with a module (or `"module:callable"`), or with another checkpoint, and load it for real.

    `target` may also be a state_dict or the path of a checkpoint. A module given is not changed.

    Raises:
        StatexError: SX501 with what is missing, unexpected, of wrong shape or dtype; SX504 where torch refuses.
    """
    from statex.execute.verify import load_for_real, types_of, verify_types

    resolved = resolve_target(target, like)
    if resolved is None:
        fail(target_codes.NO_TARGET, "there is nothing to verify against")
    nothing = Rules(tree.Program(Source("<nothing>", ""), ()))
    with nothing.open(Subject(state, target=resolved, root=root)) as job:
        found = verify_types(types_of(job.header.entries), resolved)
        if resolved.module is not None:
            load_for_real(resolved, job.state(), found)
        return found


def read_header(path: PathLike, *, root: str | None = None) -> Header:
    """Return the keys, types and storage of a checkpoint's state, and the plain values around it.

    Raises:
        StatexError: 6xx.
    """
    with closing(Opened(path)) as opened:
        return opened.header(root)
