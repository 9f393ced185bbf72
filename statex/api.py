"""The public functions: load rules, plan them, apply them, convert files, verify results."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex import garbage, nesting
from statex.checkpoint import Options, Reader, check_output, format_for, open_checkpoint, write_checkpoint
from statex.checkpoint.input_file import Stored
from statex.diagnostics import StatexError, diagnostic, fail
from statex.diagnostics.codes import names as name_codes
from statex.diagnostics.codes import target as target_codes
from statex.dsl.check import Checked, check_program
from statex.dsl.compile import compile_plan
from statex.dsl.graph import SourceKey
from statex.dsl.parameters import Given
from statex.dsl.plan import Plan
from statex.grammar import parse, tree
from statex.header import Header, OpaqueInfo, TensorInfo
from statex.rulefiles import read_include, read_rules
from statex.source import Source

if TYPE_CHECKING:
    from statex.execute.target import Target
    from statex.execute.verify import Comparison

PathLike = str | os.PathLike[str]
State = Mapping[str, Any] | PathLike
"""A state_dict (or nested checkpoint) in memory, or the path of a checkpoint."""


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

    def plan(
        self,
        state: State,
        *,
        inputs: Mapping[str, State | Sequence[State]] | None = None,
        target: Any = None,
        like: State | None = None,
        root: str | None = None,
        params: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> Plan:
        """Check the program against a state's header, and against the target where one is given; read no data.

        `inputs` are the further inputs by name, several for a family. `target` is a module, or `"module:callable"`;
        `like` another checkpoint. Parameters are given in `params` or as keyword arguments.

        Raises:
            StatexError: every error of the program on this state, or the mismatch with the target (SX501).
        """
        with Job(self, state, inputs, resolve_target(target, like), root, {**(params or {}), **keywords}) as job:
            job.check_target()
            return job.plan

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
        with Job(self, state, inputs, resolve_target(target, like), root, {**(params or {}), **keywords}) as job:
            job.check_target()
            return job.execute()


@dataclass(frozen=True)
class Conversion:
    """What `convert` did: the plan that was carried out, the comparison with the target, the file written."""

    plan: Plan
    comparison: Comparison | None
    path: Path | None
    """`None` after a dry run."""
    dropped_around: tuple[str, ...] = ()
    """What stood around the state and is not in the output, because of `root … -> …`."""


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
) -> Conversion:
    """Convert a checkpoint file; the output appears whole and verified, or not at all.

    `format` is `torch` or `safetensors`, by default what the name's ending says. `force` replaces an existing output.
    With `dry_run` everything is checked and nothing is computed or written.

    Raises:
        StatexError: as `Rules.apply`, and 6xx for files.
    """
    given = [os.fspath(source), *(os.fspath(p) for p in _paths(inputs or {}))]
    check_output(destination, force, given)
    format = format_for(destination, format)
    with Job(rules, source, inputs, resolve_target(target, like), root, params or {}) as job:
        comparison = job.check_target()
        around = tuple(nesting.dropped_by(job.tree, job.root, job.root_target))
        if dry_run:
            return Conversion(job.plan, comparison, None, around)
        tree = job.contents()
        write_checkpoint(destination, tree, Options(format, force, notes=job.notes), job.check_unchanged)
        return Conversion(job.plan, comparison, Path(destination), around)


def _paths(inputs: Mapping[str, State | Sequence[State]]) -> list[PathLike]:
    found: list[PathLike] = []
    for given in inputs.values():
        found += [one for one in _as_members(given) if isinstance(one, str | os.PathLike)]
    return found


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
    with Job(Rules(tree.Program(Source("<nothing>", ""), ())), state, None, resolved, root, {}) as job:
        found = verify_types(types_of(job.header.entries), resolved)
        if resolved.module is not None:
            load_for_real(resolved, job.state(), found)
        return found


def read_header(path: PathLike, *, root: str | None = None) -> Header:
    """Return the keys, types and storage of a checkpoint's state, and the plain values around it.

    Raises:
        StatexError: 6xx.
    """
    with open_checkpoint(path) as reader:
        found = nesting.find_root(reader.tree, reader.path.name) if root is None else root
        return nesting.state_header(reader.tree, found, reader.path.name)


def resolve_target(target: Any, like: State | None = None, arguments: Mapping[str, Any] | None = None) -> Target | None:
    """Return what a result is verified against.

    `target` is a module, `"module:callable"`, a state_dict or the path of a checkpoint.

    Raises:
        StatexError: SX505 where both are given, SX502 and SX503 where a model cannot be had.
    """
    from statex.execute.target import Target, build_target, module_target

    if target is not None and like is not None:
        fail(target_codes.TARGET_KEYS, "both a target and a checkpoint to compare with are given")
    if like is not None:
        label = Path(like).name if isinstance(like, str | os.PathLike) else "the other state"
        return Target(label, _Opened(like, label).header(None))
    if target is None or isinstance(target, Target):
        return target
    if isinstance(target, str) and ":" in target and not os.path.exists(target):
        return build_target(target, arguments)
    if isinstance(target, str | os.PathLike | Mapping):
        return resolve_target(None, target)
    return module_target(target)


class _Opened:
    """A state given in memory or as a path: its tree, and how its data is had."""

    def __init__(self, state: State, label: str) -> None:
        self.reader: Reader | None = None
        if isinstance(state, str | os.PathLike):
            self.reader = open_checkpoint(state)
            self.tree, self.label = self.reader.tree, self.reader.path.name
        else:
            from statex.execute.live import describe

            self.tree, self.label = describe(state), label

    def header(self, root: str | None) -> Header:
        found = nesting.find_root(self.tree, self.label) if root is None else root
        return nesting.state_header(self.tree, found, self.label)

    def load(self, info: TensorInfo | OpaqueInfo) -> Any:
        return info.handle if self.reader is None else self.reader.load(info)

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()


class Job:
    """A program, its opened inputs and its plan; a context manager that closes the files."""

    def __init__(
        self,
        rules: Rules,
        state: State,
        inputs: Mapping[str, State | Sequence[State]] | None,
        target: Target | None,
        root: str | None,
        params: Mapping[str, Any],
    ) -> None:
        checked = rules._checked()
        self.rules = rules
        self.target = target
        self._opened: list[_Opened] = []
        self._comparison: Comparison | None = None
        try:
            with garbage.paused():
                self._prepare(rules, checked, state, inputs or {}, root, params)
        except BaseException:
            self.close()
            raise

    def _prepare(
        self,
        rules: Rules,
        checked: Checked,
        state: State,
        inputs: Mapping[str, State | Sequence[State]],
        root: str | None,
        params: Mapping[str, Any],
    ) -> None:
        self._main = self._open(state, "the checkpoint")
        stated, self.root_target = _root_statement(rules.program)
        wanted = root if root is not None else stated
        self.tree = self._main.tree
        self.root = nesting.find_root(self.tree, self._main.label) if wanted is None else wanted
        self.header = nesting.state_header(self.tree, self.root, self._main.label)
        roots = {s.name.name: s.root.value for s in checked.inputs if s.root is not None}
        self._members = {name: [self._open(one, name) for one in _as_members(given)] for name, given in inputs.items()}
        headers = {n: tuple(m.header(roots.get(n)) for m in members) for n, members in self._members.items()}
        given = {n: v if isinstance(v, Given) else Given(v, typed=True) for n, v in params.items()}
        self.plan = compile_plan(
            rules.program,
            self.header,
            inputs=headers,
            target=self.target.header if self.target is not None else None,
            given=given,
            load=read_include,
            folder=rules._folder,
        )

    def _open(self, state: State, label: str) -> _Opened:
        opened = _Opened(state, label)
        self._opened.append(opened)
        return opened

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files that were opened."""
        for opened in self._opened:
            opened.close()

    def check_target(self) -> Comparison | None:
        """Compare the plan with the target, if there is one.

        Raises:
            StatexError: SX501.
        """
        if self.target is None:
            return None
        from statex.execute.verify import verify_types

        types = {key: output.type for key, output in self.plan.outputs.items()}
        self._comparison = verify_types(types, self.target, self.plan.is_allowed, self._origin)
        return self._comparison

    def _origin(self, key: str) -> str:
        step = self.plan.outputs[key].step
        if step < 0:
            return "untouched since the input"
        span = self.plan.steps[step].span
        return f"from {span.source.name}:{span.line}"

    def state(self) -> OrderedDict[str, Any]:
        """Return the result as a flat state_dict."""
        from statex.execute.memory import execute

        return execute(self.plan, self._load)

    def execute(self) -> Any:
        """Return the result with what is around the state, after the target has loaded it.

        Raises:
            StatexError: SX504.
        """
        state = self.state()
        self._load_for_real(state)
        return nesting.rebuild(self.tree, self.root, self.root_target, state, self.plan.metadata, self._main.load)

    def _load_for_real(self, state: Mapping[str, Any]) -> None:
        comparison = self._comparison or self.check_target()
        if self.target is None or comparison is None:
            return
        from statex.execute.verify import load_for_real

        given = OrderedDict(state)
        given._metadata = self.plan.metadata  # type: ignore[attr-defined]
        load_for_real(self.target, given, comparison)

    def contents(self) -> Any:
        """Return what the output shall hold, for `write_checkpoint`, after the target has loaded it.

        Nothing is computed yet; a target loads tensors without data.

        Raises:
            StatexError: SX504.
        """
        from statex.execute.stream import Stream

        state = Stream(self.plan, self.plan.info, self._load_alone).state()
        self._load_for_real({k: self._without_data(v) for k, v in state.items()} if self.target is not None else {})
        return nesting.rebuild(self.tree, self.root, self.root_target, state, self.plan.metadata, lambda leaf: leaf)

    def check_unchanged(self) -> None:
        """Refuse to go on where an input has been written to since it was opened.

        Raises:
            StatexError: SX609.
        """
        for opened in self._opened:
            if opened.reader is not None:
                opened.reader.check_unchanged()

    @property
    def notes(self) -> Mapping[str, str]:
        """The texts that the checkpoint's format keeps beside the tensors."""
        return self._main.reader.notes if self._main.reader is not None else {}

    def _load(self, key: SourceKey) -> Any:
        opened = self._members[key.input][key.member] if key.input else self._main
        return opened.load(self.plan.info(key))

    def _load_alone(self, key: SourceKey) -> Any:
        """Return a tensor's data without keeping it, nor more of its storage than it reaches."""
        info = self.plan.info(key)
        if isinstance(info, TensorInfo) and isinstance(info.handle, Stored):
            from statex.checkpoint.materialize import Materializer

            return Materializer(keep=False).tensor(info).detach()
        return self._load(key).detach()

    def _without_data(self, leaf: Any) -> Any:
        if isinstance(leaf, OpaqueInfo):
            return self._main.load(leaf)
        import torch

        dtype = getattr(torch, leaf.type.dtype.name)
        tensor = torch.empty(leaf.type.shape, dtype=dtype, device="meta")
        return torch.nn.Parameter(tensor, requires_grad=leaf.requires_grad) if leaf.is_parameter else tensor


def _as_members(given: State | Sequence[State]) -> list[State]:
    if isinstance(given, str | os.PathLike | Mapping):
        return [given]
    return list(given)


def _root_statement(program: tree.Program) -> tuple[str | None, str | None]:
    found = [s for s in program.statements if isinstance(s, tree.Root)]
    if len(found) > 1:
        first, second, *_ = found
        raise StatexError(
            [
                diagnostic(
                    name_codes.MISPLACED_ROOT,
                    "the root is named twice",
                    second.span,
                    also=[(first.span, "first here")],
                )
            ]
        )
    if not found:
        return None, None
    return found[0].path.value, found[0].target.value if found[0].target is not None else None
