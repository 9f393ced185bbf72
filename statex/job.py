"""A program at work on opened checkpoints: headers, plan, target, contents of the output."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex import garbage, nesting
from statex.checkpoint import (
    Options,
    arrange,
    layout,
    open_checkpoint,
)
from statex.checkpoint.input_file import Stored
from statex.diagnostics import StatexError, diagnostic, fail
from statex.diagnostics.codes import files as file_codes
from statex.diagnostics.codes import names as name_codes
from statex.dsl.check import Checked
from statex.dsl.compile import compile_plan
from statex.dsl.graph import SourceKey
from statex.dsl.metadata import copied
from statex.dsl.parameters import Given
from statex.dsl.plan import Plan
from statex.grammar import tree
from statex.header import OpaqueInfo, TensorInfo
from statex.losses import losses
from statex.rulefiles import read_include
from statex.subject import Opened, State, Subject, as_members
from statex.torch_dtypes import torch_dtype

if TYPE_CHECKING:
    from statex.execute.stream import Stream
    from statex.execute.verify import Comparison


class Job:
    """A program, its opened inputs and its plan; a context manager that closes the files."""

    def __init__(self, program: tree.Program, checked: Checked, folder: str, subject: Subject) -> None:
        self.target = subject.target
        self._opened: list[Opened] = []
        self._comparison: Comparison | None = None
        self._streams: dict[str, Stream] = {}
        try:
            with garbage.paused():
                self._find_state(program, subject)
                self._open_inputs(checked, subject.inputs)
                self.plan = self._plan(program, folder, subject.params)
        except BaseException:
            self.close()
            raise

    def _find_state(self, program: tree.Program, subject: Subject) -> None:
        self._main = self._open(subject.state, "the checkpoint")
        stated = _root_statement(program)
        self.root_target = stated.target.value if stated is not None and stated.target is not None else None
        named = stated.path if stated is not None and subject.root is None else None
        wanted = named.value if named is not None else subject.root
        self.tree = self._main.tree
        self.root = nesting.find_root(self.tree, self._main.label) if wanted is None else wanted
        span = named.span if named is not None else None
        self.header = nesting.state_header(self.tree, self.root, self._main.label, span)
        taken = nesting.occupied(self.tree, self.root, self.root_target)
        if taken is not None and stated is not None:
            what = f"`{self._main.label}` has something at `{taken}` already"
            fail(file_codes.ROOT_TAKEN, what, stated.target.span if stated.target is not None else stated.span)

    def _open_inputs(self, checked: Checked, inputs: Mapping[str, State | Sequence[State]]) -> None:
        roots = {s.name.name: s.root for s in checked.inputs}
        self._members = {name: [self._open(one, name) for one in as_members(given)] for name, given in inputs.items()}
        self._headers = {n: tuple(m.header(roots.get(n)) for m in members) for n, members in self._members.items()}

    def _plan(self, program: tree.Program, folder: str, params: Mapping[str, Any]) -> Plan:
        plan = compile_plan(
            program,
            self.header,
            inputs=self._headers,
            target=self.target.header if self.target is not None else None,
            given={n: v if isinstance(v, Given) else Given(v, typed=True) for n, v in params.items()},
            load=read_include,
            folder=folder,
        )
        return replace(plan, left_around=tuple(nesting.dropped_by(self.tree, self.root, self.root_target)))

    def _open(self, state: State, label: str) -> Opened:
        opened = Opened(state, label)
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
        """Say where a key of the result comes from; of a key that is missing, what took the tensor of that name."""
        output = self.plan.outputs.get(key)
        if output is not None:
            return f"from {self._place(output.step)}" if output.step >= 0 else "untouched since the input"
        if key not in self.header.entries:
            return ""
        fate = self.plan.account[SourceKey("", 0, key)]
        taken = fate.kind in ("dropped", "used") and fate.step >= 0
        return f"{fate.kind} by {self._place(fate.step)}" if taken else ""

    def _place(self, step: int) -> str:
        span = self.plan.steps[step].span
        return f"{span.source.name}:{span.line}"

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
        metadata = copied(self.plan.metadata) if self.plan.metadata is not None else None
        return nesting.rebuild(self.tree, self.root, self.root_target, state, metadata, self._main.load)

    def _load_for_real(self, state: Mapping[str, Any]) -> None:
        comparison = self._comparison or self.check_target()
        if self.target is None or comparison is None:
            return
        from statex.execute.verify import load_for_real

        given = OrderedDict(state)
        given._metadata = self.plan.metadata  # type: ignore[attr-defined]
        load_for_real(self.target, given, comparison)

    @property
    def format(self) -> str:
        """The format of the checkpoint's file."""
        return self._main.reader.format if self._main.reader is not None else "torch"

    def contents(self, format: str) -> Any:
        """Return what an output of a format shall hold, for `arrange`, after the target has loaded it.

        Nothing is computed yet; a target loads tensors without data.

        Raises:
            StatexError: SX504.
        """
        if self.target is not None and self.target.module is not None:
            state = self._stream(format).state()
            self._load_for_real({key: self._without_data(leaf) for key, leaf in state.items()})
        return self._rebuilt(format)

    def _rebuilt(self, format: str) -> Any:
        stream = self._stream(format)

        def around(leaf: Any) -> Any:
            return stream.readable(leaf, lambda: self._main.load(leaf)) if isinstance(leaf, TensorInfo) else leaf

        return nesting.rebuild(self.tree, self.root, self.root_target, stream.state(), self.plan.metadata, around)

    def _stream(self, format: str) -> Stream:
        from statex.execute.stream import Stream

        if format not in self._streams:
            self._streams[format] = Stream(self.plan, self.plan.info, self._load_alone, shares=format == "torch")
        return self._streams[format]

    def priced(self, format: str | None = None, output: Any = None) -> Plan:
        """Return the plan with what it takes to write a format, and with warnings of what that has no place for.

        `output` is the arranged tree where that is known, `format` by default that of the input.

        Raises:
            StatexError: SX614 where safetensors is asked for, and cannot hold the result with what stays around it.
        """
        if self._main.reader is None:
            return self.plan
        asked, format = format == "safetensors", format or self.format
        if output is None:
            tree = self._rebuilt(format)
            # What a format that nobody asked for cannot hold is no error yet.
            whole = asked or format == "torch"
            output = arrange(tree, Options(format)) if whole else [_alone(leaf) for leaf in layout.leaves(tree)]
        warnings = (*self.plan.warnings, *losses(self.plan, format, self.notes))
        distributed = "dcp" in (format, *(o.reader.format for o in self._opened if o.reader is not None))
        has_model = self.target is not None and self.target.module is not None
        further_keys = sum(len(header.entries) for headers in self._headers.values() for header in headers)
        cost = self._stream(format).cost(output, torch=has_model, distributed=distributed, further_keys=further_keys)
        return replace(self.plan, cost=cost, warnings=warnings)

    def check_written(self, path: Path, output: Any) -> None:
        """Read what was written again and compare it with the arranged tree.

        Raises:
            StatexError: SX617.
        """
        from statex.checkpoint.written import compare_written

        with open_checkpoint(path) as reader:
            compare_written(reader, output)

    def check_unchanged(self) -> None:
        """Refuse to go on where an input has been written to since it was opened.

        Raises:
            StatexError: SX609.
        """
        for opened in self._opened:
            if opened.reader is not None:
                opened.reader.check_unchanged()

    def check_stored(self) -> None:
        """Compare what inputs hold with the checksums they record, where that has not been done.

        Raises:
            StatexError: SX604.
        """
        for opened in self._opened:
            for leaf in layout.leaves(opened.tree) if opened.reader is not None else ():
                stored = getattr(leaf, "handle", None)
                if isinstance(stored, Stored):
                    stored.check()

    @property
    def notes(self) -> Mapping[str, str]:
        """The texts that the checkpoint's format keeps beside the tensors."""
        return self._main.reader.notes if self._main.reader is not None else {}

    @property
    def index(self) -> Mapping[str, Any]:
        """What the index of the checkpoint, if it is a set, says of it besides."""
        return self._main.reader.index if self._main.reader is not None else {}

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

        dtype = torch_dtype(torch, leaf.type.dtype.name)
        tensor = torch.empty(leaf.type.shape, dtype=dtype, device="meta")
        return torch.nn.Parameter(tensor, requires_grad=leaf.requires_grad) if leaf.is_parameter else tensor


def _alone(leaf: Any) -> Any:
    return layout.alone(leaf) if isinstance(leaf, TensorInfo) else leaf


def _root_statement(program: tree.Program) -> tree.Root | None:
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
    return found[0] if found else None
