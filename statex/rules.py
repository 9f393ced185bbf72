"""Rules as Python has them: read, joined, checked, planned and applied to states in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex.checkpoint import known_format
from statex.core.paths import Address
from statex.core.source import Source
from statex.diagnostics import StatexError, fail
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import lints
from statex.dsl.compile.given import params
from statex.dsl.expressions.parameters import Given
from statex.dsl.keys.quoting import show_key
from statex.dsl.parts import Outside, ProgramPart, stem_of
from statex.dsl.plan.plan import Plan
from statex.grammar import parse, tree
from statex.grammar.rulefiles import read_rules
from statex.session.format_warnings import texts_in_memory
from statex.session.paramnames import ParamNames
from statex.session.request import InputSpec, PathLike, Request, State, TargetSpec, as_members
from statex.session.session import Session, check

if TYPE_CHECKING:
    from statex.diagnostics import Diagnostic
    from statex.inverse.program import InverseRules


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
        from statex.session.inverting import IN_PYTHON, inverted

        with Session(requested(self, state, inputs, None, None, root, {**(params or {}), **keywords})) as session:
            return inverted(session, partial=partial, remedies=IN_PYTHON)

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
    return Request(
        InputSpec(state, root),
        rules.parts,
        {name: as_members(one) for name, one in (inputs or {}).items()},
        outside(params),
        TargetSpec(target, like) if target is not None or like is not None else None,
        param_names=param_names,
    )


def outside(params: Mapping[str, Any]) -> Outside:
    """Return values of parameters as what a program is given."""
    given = {name: value if isinstance(value, Given) else Given(value, typed=True) for name, value in params.items()}
    return Outside(given)
