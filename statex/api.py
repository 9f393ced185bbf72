"""The public functions: load, plan and apply rules, convert files, verify results."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex.checkpoint import known_format
from statex.core.header import Header
from statex.core.paths import Address
from statex.core.progress import Progress, teller
from statex.core.source import Source
from statex.diagnostics import StatexError, fail
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import lints
from statex.diagnostics.codes import target as target_codes
from statex.dsl.compile.given import params
from statex.dsl.expressions.parameters import Given
from statex.dsl.keys.quoting import show_key
from statex.dsl.parts import Outside, ProgramPart, stem_of
from statex.dsl.plan.plan import Plan
from statex.grammar import parse, tree
from statex.grammar.rulefiles import read_rules
from statex.session.format_warnings import texts_in_memory
from statex.session.lazy import Checkpoint
from statex.session.opened import header_of
from statex.session.paramnames import ParamNames
from statex.session.request import InputSpec, OutputSpec, PathLike, Policy, Request, State, TargetSpec, as_members
from statex.session.session import Session, check

if TYPE_CHECKING:
    from statex.diagnostics import Diagnostic
    from statex.execute.verify.verification import Comparison
    from statex.inferring.infer import Inferred
    from statex.inverse.program import InverseRules
    from statex.session.compared import Compared
    from statex.session.conversion import Conversion


def load(path: PathLike) -> Rules:
    """Read a rule file.

    Raises:
        StatexError: 1xx with every syntax error, SX222 if the file cannot be read.
    """
    source = read_rules(path)
    return Rules([ProgramPart(parse(source), Path(path).parent.as_posix(), stem_of(source.name))])


def compile(rules: Any, *, name: str = "<rules>", folder: PathLike = ".") -> Rules:
    """Return the rules of a text, of a rule file, or of several of these, one after the other.

    A text is a program, unless it is a single word that ends in `.sx`: that is a path, and so is every `Path`. For
    rules given as text, an `include` is relative to `folder`, and messages show `name`.

    Raises:
        StatexError: 1xx with every syntax error, SX222 for a file that cannot be read.
    """
    if isinstance(rules, Rules):
        return rules
    if isinstance(rules, str) and not (rules.endswith(".sx") and len(rules.split()) == 1):
        return Rules([ProgramPart(_parsed(name, rules), os.fspath(folder))])
    if isinstance(rules, str | os.PathLike):
        return load(rules)
    if not isinstance(rules, Sequence):
        raise TypeError(f"rules are text, paths, Rules or a list of these, and this is a {type(rules).__name__}")
    return Rules([part for one in rules for part in compile(one, name=name, folder=folder).parts])


def _parsed(name: str, text: str) -> tree.Program:
    """Parse rules given as text; a single word, which cannot be a rule, was probably meant as a path."""
    try:
        return parse(Source(name, text))
    except StatexError as error:
        word = text.strip()
        if re.fullmatch(r"[\w./\\~-]+", word) is None:
            raise
        help = (
            f"a path is told by its ending .sx, or by its type: Path({word!r})",
            "`convert` takes the source, then the destination, then the rules",
        )
        fail(error.diagnostics[0].code, f"the text `{word}` is not a rule", error.diagnostics[0].span, help=help)


def quote(key: str) -> str:
    """Return a key as a pattern that matches it and nothing else, for programs that write rules.

    `linear.weight` stays as it is, and `odd key*` becomes `'odd key*'`.
    """
    return show_key(key)


class Rules:
    """A parsed program: one text, or several in a row; it is not bound to a checkpoint yet."""

    def __init__(self, parts: Sequence[ProgramPart]) -> None:
        self.parts = tuple(parts)

    def __repr__(self) -> str:
        names = " + ".join(part.program.source.name for part in self.parts)
        return f"<statex.Rules {names}: {counted(len(self.statements), 'statement')}>"

    def __add__(self, other: Rules) -> Rules:
        return Rules((*self.parts, *other.parts)) if isinstance(other, Rules) else NotImplemented

    @property
    def statements(self) -> tuple[tree.Statement, ...]:
        """The statements of all texts, in order."""
        return tuple(statement for part in self.parts for statement in part.program.statements)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters that the texts declare, in order; those in conditions are among them."""
        return tuple(dict.fromkeys(one.name.name for one in params(self.statements)))

    def check(self) -> None:
        """Check everything that does not need a checkpoint: names, captures, operations, in every branch.

        Unused names are not errors: they are among the warnings of a plan (SX925, SX926).

        Raises:
            StatexError: every such error at once.
        """
        check(Request(InputSpec({}), self.parts))

    def plan(
        self,
        state: State,
        *,
        inputs: Mapping[str, State | Sequence[State]] | None = None,
        target: Any = None,
        like: State | None = None,
        root: Address | None = None,
        params: Mapping[str, Any] | None = None,
        param_names: ParamNames | None = None,
        format: str | None = None,
        **keywords: Any,
    ) -> Plan:
        """Check the program against a state's header, and against a target if one is given, without reading data.

        `inputs` are the further inputs by name, a list for a family. `target` is a module, or `"module:callable"`;
        `like` is another checkpoint. Parameters are given in `params` or as keyword arguments. `format` is the format
        that would be written (`torch`, `safetensors`, `dcp` or `npz`), by default the format of the input.
        `param_names` are the names of the parameters of an optimizer beside the state, a list for each of its groups,
        or a file of these: needed where the optimizer itself does not tell.

        Raises:
            StatexError: every error of the program on this state, or the mismatch with the target (SX501).
        """
        given = {**(params or {}), **keywords}
        with Session(requested(self, state, inputs, target, like, root, given, param_names)) as session:
            session.whole.check_target()
            return session.priced(known_format(format) if format is not None else None)

    def apply(
        self,
        state: State,
        *,
        inputs: Mapping[str, State | Sequence[State]] | None = None,
        target: Any = None,
        like: State | None = None,
        root: Address | None = None,
        params: Mapping[str, Any] | None = None,
        param_names: ParamNames | None = None,
        **keywords: Any,
    ) -> Any:
        """Return the result as a new state_dict; the given state is not changed.

        Tensors that no rule changes are the very same objects. For a nested checkpoint, the result is a new one in
        which everything around the state is kept. The arguments and warnings are those of `plan`, and most warnings are
        not shown here. Two are also issued as `statex.StatexWarning`: that the version of a layout, which the result
        carries, may no longer hold (SX921), and that rules write metadata, which the result has no place for (SX905).

        Raises:
            StatexError: as `plan`, and SX504 if the target's `load_state_dict` refuses the result.
        """
        given = {**(params or {}), **keywords}
        with Session(requested(self, state, inputs, target, like, root, given, param_names)) as session:
            session.whole.check_target()
            _warn(one for one in session.plan.warnings if one.code is lints.STAMP_KEPT)
            _warn(texts_in_memory(session.plan))
            return session.whole.execute()

    def inverse(
        self,
        state: State,
        *,
        inputs: Mapping[str, State | Sequence[State]] | None = None,
        root: Address | None = None,
        params: Mapping[str, Any] | None = None,
        partial: bool = False,
        **keywords: Any,
    ) -> InverseRules:
        """Return the rules that make the state of what these make of it; no data is read.

        Its `text` is a rule file; the rest says what comes back besides tensors. It is shown on the header that every
        tensor comes back as it was. With `partial`, tensors that do not are left out.

        Raises:
            StatexError: as `plan`, and SX333 where a tensor does not come back.
        """
        from statex.session.inverting import inverted

        with Session(requested(self, state, inputs, None, None, root, {**(params or {}), **keywords})) as session:
            return inverted(session, partial=partial)

    def stream(
        self,
        items: Iterable[tuple[str, Any]],
        header: State,
        *,
        inputs: Mapping[str, State | Sequence[State]] | None = None,
        params: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> Iterator[tuple[str, Any]]:
        """Yield the keys and tensors of the result while those of the state arrive, each as soon as it can be made.

        `items` are the keys and tensors of the state, each once and in any order, as they come out of a loop that
        synchronises weights. `header` describes the state beforehand: a state on the meta device, a path, or the result
        of `read_header`; the whole program is checked against it before this returns. A tensor is released once no
        further result needs it. Further inputs are given whole.

        Raises:
            StatexError: as `plan`, at once; SX324 while streaming, for tensors that do not match the header.
        """
        session = Session(requested(self, header, inputs, None, None, None, {**(params or {}), **keywords}))
        return _streamed(session, items)


def _warn(found: Iterable[Diagnostic]) -> None:
    from statex.migrating.hooks import warn

    warn(found, up=4)


def _streamed(session: Session, items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    from statex.execute.streamed import stream
    from statex.session.sameness import refuse_same

    with session:
        refuse_same(session.plan)
        yield from stream(session.plan, items, session.inputs.load)


def convert(
    source: State,
    destination: PathLike,
    rules: Any,
    *,
    inputs: Mapping[str, State | Sequence[State]] | None = None,
    target: Any = None,
    like: State | None = None,
    root: Address | None = None,
    params: Mapping[str, Any] | None = None,
    param_names: ParamNames | None = None,
    optimizer: tuple[PathLike, PathLike] | None = None,
    format: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    shard_size: int | None = None,
    copy_files: bool = False,
    update_config: bool = True,
    stem: str | None = None,
    max_memory: int | None = None,
    check_input: bool = False,
    verify_written: bool = False,
    keep_foreign: bool = False,
    reversible: bool = False,
    progress: Callable[[Progress], None] | Callable[[int, int], None] | None = None,
) -> Conversion:
    """Convert a checkpoint; the output appears whole and verified, or not at all.

    A source is a file, an index of shards, a folder that holds either, or a state in memory. `rules` are what `compile`
    takes: text, a path, `Rules`, or several of these. A destination whose name ends in `/` (or has no file ending, if
    the source is a folder or `shard_size` is given) is a folder of shards of at most `shard_size` bytes, 5 × 10⁹ unless
    given; `copy_files` also copies files that are not weights, and with `update_config` a `config.json` among them
    states the new dtype of the tensors. Weight files are named like those of the source
    (`diffusion_pytorch_model.safetensors`), or after a `stem`. `format` is `torch`, `safetensors`, `dcp` or `npz`; by
    default the ending of the name decides. `force` replaces an existing output. With `dry_run` everything is checked,
    but nothing is computed or written. `max_memory` is in bytes. `check_input` compares all input bytes with the
    checksums that a torch file records for them, `verify_written` reads the output again and compares it.
    `optimizer` names a file with the state of an optimizer, and the one that is written of it, to which the same rules
    are applied; `param_names` are the names of its parameters by group, where it does not tell itself.
    `keep_foreign` keeps objects that statex does not load, such as those of your own classes, in torch files as they
    were read; without it they are an error (SX640). A `reversible` conversion also writes the rules that undo it, and
    the tensors that it loses: `out.back.sx` and `out.lost.safetensors` for `out.pth`. `progress` is called with a
    `Progress` in all phases of the run; a function of two arguments is called with the bytes written so far and those
    to be written.

    Raises:
        StatexError: as `Rules.apply`, and 6xx for files.
    """
    from statex.session.conversion import carry_out

    request = to_file(
        requested(compile(rules), source, inputs, target, like, root, params or {}, param_names), destination,
        format=format, force=force, dry_run=dry_run, shard_size=shard_size, copy_files=copy_files,
        max_memory=max_memory, check_input=check_input, verify_written=verify_written, keep_foreign=keep_foreign,
        stem=stem, update_config=update_config,
    )  # fmt: skip
    request = replace(request, policy=replace(request.policy, reversible=reversible))
    if optimizer is not None:
        old, new = optimizer
        beside = OutputSpec(new, "optimizer", optimizer="optimizer")
        request = replace(request, optimizers={"optimizer": InputSpec(old)}, outputs=(*request.outputs, beside))
    return carry_out(request, teller(progress))


def to_file(
    request: Request,
    destination: PathLike,
    *,
    format: str | None,
    force: bool,
    dry_run: bool,
    shard_size: int | None,
    copy_files: bool,
    max_memory: int | None,
    check_input: bool,
    verify_written: bool,
    keep_foreign: bool = False,
    stem: str | None = None,
    update_config: bool = True,
) -> Request:
    """Return a request with one output; the arguments are those of `convert`."""
    policy = Policy(
        replace="always" if force else "never",
        max_memory=max_memory,
        check_input=check_input,
        verify_written=verify_written,
        keep_foreign=keep_foreign,
        dry_run=dry_run,
    )
    output = OutputSpec(
        destination, format=format, shard_size=shard_size, copy_files=copy_files, stem=stem, update_config=update_config
    )
    return replace(request, outputs=(output,), policy=policy)


def requested(
    rules: Rules,
    state: State,
    inputs: Mapping[str, State | Sequence[State]] | None,
    target: Any,
    like: State | None,
    root: Address | None,
    params: Mapping[str, Any],
    param_names: ParamNames | None = None,
) -> Request:
    """Return the request to apply rules to a state, without outputs."""
    given = {name: value if isinstance(value, Given) else Given(value, typed=True) for name, value in params.items()}
    return Request(
        InputSpec(state, root),
        rules.parts,
        {name: as_members(one) for name, one in (inputs or {}).items()},
        Outside(given),
        TargetSpec(target, like) if target is not None or like is not None else None,
        param_names=param_names,
    )


def verify(state: State, target: Any = None, *, like: State | None = None, root: Address | None = None) -> Comparison:
    """Compare a state with a module (or `"module:callable"`) or another checkpoint, and actually load it.

    `target` may also be a state_dict or the path of a checkpoint. A module that is passed is not changed.

    Raises:
        StatexError: SX501 with the keys that are missing, unexpected, or of the wrong shape or dtype; SX504 if torch
            refuses.
    """
    if target is None and like is None:
        fail(target_codes.NO_TARGET, "there is nothing to verify against")
    with Session(Request(InputSpec(state, root), target=TargetSpec(target, like))) as session:
        return session.whole.verify()


def compare(state: State, target: Any = None, *, like: State | None = None, root: Address | None = None) -> Comparison:
    """Compare keys, shapes and dtypes of a state with a module (or `"module:callable"`), or with another checkpoint.

    The result lists the differences: `missing`, `unexpected` and `different` by keys, and `fits`. `verify` raises
    instead.

    Raises:
        StatexError: SX502 and SX503 for a target that cannot be loaded, 6xx for files.
    """
    from statex.execute.verify.verification import compare as compare_types
    from statex.execute.verify.verification import types_of

    if target is None and like is None:
        fail(target_codes.NO_TARGET, "there is nothing to compare with")
    with Session(Request(InputSpec(state, root), target=TargetSpec(target, like))) as session:
        assert session.target is not None
        header = session.inputs.header
        return compare_types(types_of(header.entries), session.target, paths=header.paths)


def diff(
    first: PathLike,
    second: PathLike,
    *,
    rules: Any = (),
    values: bool = True,
    rtol: float = 0.0,
    atol: float = 0.0,
    params: Mapping[str, Any] | None = None,
) -> Compared:
    """Compare two checkpoint files: keys, shapes and dtypes, and the values, in pieces.

    With `rules`, they are applied to the first one. Numbers `a` of the first and `b` of the second agree if
    `|a - b| <= atol + rtol * |b|`, if one of these is given; otherwise only equal bits agree.

    Raises:
        StatexError: as `Rules.plan`, and 6xx for files.
    """
    from statex.session.bare import Bare
    from statex.session.compared import compared

    one = Session(requested(compile(rules), first, None, None, None, None, params or {}))
    with one, Bare(Path(second)) as other:
        return compared(one, other, values=values, rtol=rtol, atol=atol)


def infer(
    old: State,
    new: State | None = None,
    *,
    root: Address | None = None,
    new_root: Address | None = None,
    target: Any = None,
    like: State | None = None,
    inputs: Mapping[str, State] | None = None,
    start: Rules | str | PathLike | None = None,
) -> Inferred:
    """Find the rules that make one checkpoint of another, and prove them by applying them.

    The result has the text of the `rules`, whether they are `proved`, and the `unexplained` keys, each with the old key
    that is most like it. Both are paths or states in memory; `root` and `new_root` say where in them their states are.

    Tensors may also come from further `inputs`. With rules to `start` from, these are where the program begins, and
    only what they leave to do is added.

    In place of `new`, `target` is a model or `"module:callable"`, and `like` a checkpoint whose names, shapes and
    dtypes count alone: then rules are guessed, and nothing is proved.

    Raises:
        StatexError: 5xx for a model that cannot be had, 6xx for files.
        TypeError: if not exactly one of `new`, `target` and `like` is given, or there are `inputs` or a `start` for
            rules that are guessed.
    """
    from statex.inferring.infer import guess
    from statex.inferring.infer import infer as inferred

    if sum(one is not None for one in (new, target, like)) != 1:
        raise TypeError("give one of `new`, `target` and `like`")
    if new is not None:
        return inferred(old, new, root=root, new_root=new_root, inputs=inputs, start=_one_text(start))
    if inputs or start is not None:
        raise TypeError("`inputs` and `start` need `new`: without its data, nothing shows what was made of what")
    return guess(old, TargetSpec(target, like), root=root)


def _one_text(rules: Rules | str | PathLike | None) -> Source | None:
    """Return the text of rules that are one text."""
    if rules is None:
        return None
    parts = compile(rules).parts
    if len(parts) != 1:
        raise TypeError(f"a program starts from one text, and these rules are {len(parts)}")
    return parts[0].program.source


def open(path: PathLike, *, root: Address | None = None) -> Checkpoint:
    """Open a checkpoint as a mapping whose tensors are read on demand; a context manager.

    `with statex.open("model.safetensors") as state: state["linear.weight"]`; `state.header` has all dtypes and shapes.

    Raises:
        StatexError: 6xx.
    """
    return Checkpoint(path, root)


def read_header(path: PathLike, *, root: Address | None = None) -> Header:
    """Return the keys, types and storage of a checkpoint's state, and the plain values around it.

    Raises:
        StatexError: 6xx.
    """
    return header_of(path, root)
