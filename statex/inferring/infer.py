"""`infer`: from two checkpoints to a program that makes one of the other, and the proof of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from statex.core.header import Header, TensorInfo
from statex.core.paths import Address
from statex.core.progress import Tell
from statex.core.source import Source
from statex.diagnostics import Diagnostic, StatexError
from statex.dsl.parts import ProgramPart
from statex.execute.verify.verification import compare, different
from statex.grammar import parse, tree
from statex.grammar.formatter import format_text
from statex.grammar.printer import show
from statex.inferring.adapters import configs_beside
from statex.inferring.carrying import carries_over
from statex.inferring.leftovers import what_is_left
from statex.inferring.ordering import ordered
from statex.inferring.proof import Proof, proved
from statex.inferring.search import searched
from statex.inferring.sides import CheckpointSide, ProgramSide, TensorSide
from statex.inferring.sizes import sizes_beside, with_named_sizes
from statex.relating.guessing import guessed
from statex.relating.planning import planned
from statex.relating.program import NotedRule, written
from statex.relating.relations import Relations
from statex.session.request import InputSpec, Request, State, TargetSpec
from statex.session.targets import resolve

NAME = "<inferred>"
_WIDTH = 100


@dataclass(frozen=True)
class Inferred:
    """A program that was found, and what is known of it.

    `rules` is its text. `proof` is what applying it has shown, `None` where that ended with the `errors`. `unexplained`
    are new keys that it does not make, each with the old key that is most like it; `ambiguous` those whose contents
    several old keys have, so that names alone told them apart. `carries_over` is false where the rules for the last
    layer do not follow from the others, `None` where there are no layers to tell by.

    Without data of the new checkpoint there is no proof: `guesses` has for each new key by what it was guessed, and
    `misfit` how the result differs from the model in keys, shapes and dtypes, empty where it fits.
    """

    rules: str
    proof: Proof | None
    unexplained: dict[str, str | None]
    ambiguous: tuple[str, ...] = ()
    carries_over: bool | None = None
    errors: tuple[Diagnostic, ...] = ()
    relations: Relations = field(default_factory=lambda: Relations((), ()), repr=False)
    guesses: Mapping[str, str] = field(default_factory=dict)
    misfit: str | None = None

    @property
    def proved(self) -> bool:
        """True where the program makes the new checkpoint of the old one: the same keys, all equal in bits."""
        return self.proof is not None and self.proof.holds and not self.unexplained

    @property
    def fits(self) -> bool:
        """True where the result is proved or, if it was guessed, has the keys, shapes and dtypes of the model."""
        return self.proved or self.misfit == ""


def infer(
    old: State,
    new: State,
    *,
    root: Address | None = None,
    new_root: Address | None = None,
    inputs: Mapping[str, State] | None = None,
    start: Source | None = None,
    tell: Tell | None = None,
) -> Inferred:
    """Return a program that makes one checkpoint of another, proved by applying it.

    It may take tensors from further `inputs`. With a `start`, it begins with these rules, and what they leave to do is
    added.

    Raises:
        StatexError: 6xx for files, and the errors of the rules that it begins with.
    """
    further = {name: (InputSpec(state),) for name, state in (inputs or {}).items()}
    with ExitStack() as open_sides:
        other = open_sides.enter_context(CheckpointSide(new, "the new checkpoint", new_root))
        sides = {name: open_sides.enter_context(CheckpointSide(one, name)) for name, one in (inputs or {}).items()}
        one: TensorSide
        if start is None:
            one = open_sides.enter_context(CheckpointSide(old, "the old checkpoint", root))
        else:
            begun = Request(InputSpec(old, root), (_beginning(start),), _declared_in(start, further))
            one = open_sides.enter_context(ProgramSide(begun))
        taken = declared_names(start) if start is not None else frozenset()
        configs = configs_beside(inputs or {}, taken)
        found = what_is_left(searched(one, other, tell), one, other, sides, configs)
        relations = found.relations
        rules = written(relations, found.side.kinds)
        text = ""
        errors: Sequence[Diagnostic] = ()
        proof: Proof | None = None
        try:
            named = with_named_sizes(rules, sizes_beside(old), taken)
            noted = [*found.declared(taken), *found.before, *named, *found.after]
            text = _after(start, text_of(noted), one, other, sides)
            proof = proved(_beginning(Source(NAME, text), start), InputSpec(old, root), other, tell,
                           _declared_in(Source(NAME, text), further), one.opened)  # fmt: skip
        except StatexError as error:
            errors = error.diagnostics
        over = carries_over(relations, found.side, rules) if proof is not None and proof.holds else None
    unexplained = dict(relations.unexplained)
    for key in proof.different if proof is not None else ():
        unexplained.setdefault(key, None)
    return Inferred(text, proof, unexplained, relations.ambiguous, over, tuple(errors), relations)


def _beginning(source: Source, start: Source | None = None) -> ProgramPart:
    """Return rules as a program; files that they include are where those of the file that they begin with are."""
    where = start if start is not None else source
    return ProgramPart(parse(source), Path(where.name).parent.as_posix())


def _declared_in(source: Source, inputs: Mapping[str, tuple[InputSpec, ...]]) -> dict[str, tuple[InputSpec, ...]]:
    """Return the inputs that rules declare themselves."""
    names = {one.name.name for one in parse(source).statements if isinstance(one, tree.Input)}
    return {name: spec for name, spec in inputs.items() if name in names}


def declared_names(source: Source) -> frozenset[str]:
    """Return the names that rules declare."""
    kinds = tree.Input | tree.Param | tree.Let | tree.Macro
    return frozenset(one.name.name for one in parse(source).statements if isinstance(one, kinds))


def _after(
    start: Source | None, text: str, one: TensorSide, other: CheckpointSide, inputs: Mapping[str, CheckpointSide]
) -> str:
    """Return a text with what puts keys in order, after the rules that it adds to."""
    names = {
        statement.name.name for statement in parse(Source(NAME, text)).statements if isinstance(statement, tree.Input)
    }
    text = ordered(text, one, other, {name: [inputs[name].header] for name in names if name in inputs})
    if start is None:
        return text
    before = start.text if start.text.endswith("\n") or not start.text else f"{start.text}\n"
    return f"{before}\n{text}" if before and text else before or text


def guess(old: State, target: TargetSpec, *, root: Address | None = None) -> Inferred:
    """Return a program that probably makes the state of a model, from names, shapes and dtypes alone.

    Raises:
        StatexError: 5xx for a model that cannot be had, 6xx for files.
    """
    model = resolve(target)
    assert model is not None
    new = {key: info.type for key, info in model.header.entries.items() if isinstance(info, TensorInfo)}
    with CheckpointSide(old, "the old checkpoint", root) as one:
        found = guessed(one.kinds, new, _ties(model.header))
        rules = [_as_guess(rule) for rule in written(found.relations, one.kinds)]
        errors: Sequence[Diagnostic] = ()
        text = text_of(rules)
        over, misfit = None, None
        try:
            outputs = planned(text, one.header).outputs
            misfit = different(compare({key: output.type for key, output in outputs.items()}, model))
            over = carries_over(found.relations, one, rules)
        except StatexError as error:
            errors = error.diagnostics
    unexplained = dict(found.relations.unexplained)
    return Inferred(text, None, unexplained, (), over, tuple(errors), found.relations, dict(found.reasons), misfit)


def _as_guess(rule: NotedRule) -> NotedRule:
    return replace(rule, notes=tuple([f"guess: {note}" for note in rule.notes]))


def _ties(header: Header) -> list[list[str]]:
    """Return the keys of a header that are one tensor."""
    found: defaultdict[object, list[str]] = defaultdict(list)
    for key, info in header.entries.items():
        if isinstance(info, TensorInfo) and info.identity is not None:
            found[info.identity].append(key)
    return [keys for keys in found.values() if len(keys) > 1]


def part_of(text: str) -> ProgramPart:
    """Return a text as a program."""
    return ProgramPart(parse(Source(NAME, text)))


def text_of(rules: Sequence[NotedRule]) -> str:
    """Return rules as `statex fmt` writes them, each with its note."""
    lines = [line for rule in rules for line in (_lines(rule) if rule.notes else [show(rule.statement)])]
    return format_text(Source(NAME, "".join(f"{line}\n" for line in lines))) if lines else ""


def _lines(rule: NotedRule) -> list[str]:
    lines = show(rule.statement, width=_WIDTH).splitlines()
    is_table = isinstance(rule.statement, tree.Rename) and rule.statement.is_table
    if not is_table:
        return [f"# {rule.notes[0]}", *lines] if len(lines) > 1 else [f"{lines[0]}  # {rule.notes[0]}"]
    # A row that is broken has its note at its end; what goes on is indented more than rows are.
    starts = [at for at, line in enumerate(lines) if line.startswith("  ") and line[2] != " "]
    ends = [*(at - 1 for at in starts[1:]), len(lines) - 2]
    for at, note in zip(ends, rule.notes, strict=True):
        lines[at] += f"  # {note}"
    return lines
