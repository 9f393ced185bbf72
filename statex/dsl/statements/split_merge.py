"""Statements that change how tensors are grouped: `split` one into several, `merge` several into one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from statex.core.dtypes import DType
from statex.core.header import common_attributes
from statex.core.record import record
from statex.core.source import Span
from statex.diagnostics import StatexError, diagnostic, fail
from statex.diagnostics.codes import keys as codes
from statex.diagnostics.codes import types as type_codes
from statex.diagnostics.suggest import join_words
from statex.dsl.compile.compiler import Compiler
from statex.dsl.compile.match import Clause, Match
from statex.dsl.compile.state import Made, Outcome, computed
from statex.dsl.expressions.calls import expect_tensor
from statex.dsl.expressions.computing import check_own, rounded
from statex.dsl.expressions.evaluate import Context, Evaluator
from statex.dsl.expressions.scope import Scope
from statex.dsl.keys.captures import Captured, CaptureKind, CaptureType, is_digits, is_named, is_wildcard
from statex.dsl.keys.quoting import show_rules
from statex.dsl.keys.templates import Template
from statex.dsl.ops import UNSTACKING
from statex.dsl.plan.plan import Change
from statex.dsl.statements.select import check_new
from statex.dsl.values import TensorValue, Value, describe, is_unknown
from statex.grammar import factory as make
from statex.grammar import tree

_Sources = Iterable[tuple[tree.PatternNode, Sequence[Match]]]
"""The patterns of what a statement consumes, each with what it matches."""


@dataclass(slots=True)
class _Work:
    """What a statement consumes and has made so far; `failed` are the keys it consumes of which an error was found."""

    consumed: Mapping[str, object]
    made: dict[str, Made] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def check_new(self, compiler: Compiler, key: str, span: Span, apart: str = "") -> None:
        """Refuse a new key that others have, as `check_new` does; the keys that are consumed are free."""
        if key in self.consumed and key not in self.made:
            return
        check_new(compiler, key, span, self.made[key][2][0] if key in self.made else None, apart)


def _check_reached(
    compiler: Compiler, verb: str, node: tree.Split | tree.Merge, work: _Work, sources: _Sources
) -> None:
    """Report the consumed keys whose data no result is made of: they would be gone without a word."""
    entries = [entry for entry, _, _ in work.made.values()]
    made_of = {key for entry, _, keys in work.made.values() if entry.value is not None for key in keys} - work.failed
    before = {key: compiler.state.entries[key].value_in(compiler.graph) for key in made_of}
    values = {key: compiler.graph.inner(value.id) for key, value in before.items() if value is not None}
    empty = any(value is not None and not value.numel for value in before.values())
    # A result without elements is made of nothing, unless nothing is all there was.
    results = [e.value for e in entries if e.value is not None and e.type is not None and (e.type.numel or empty)]
    lost = compiler.graph.unreached(values.values(), results)
    for pattern, matches in sources if lost else ():
        found = [match for match in matches if values.get(match.key) in lost]
        if found:
            one = len(found) == 1
            every = len(found) == len(matches) and node.where is None
            dropped = [pattern] if every else [make.key(match.visible) for match in found[:_DROPPED]]
            compiler.found.add(
                diagnostic(
                    codes.LOST_SOURCE,
                    f"`{found[0].visible}` reaches no result of this `{verb}`, and would be lost"
                    if one
                    else f"sources of this `{verb}` reach none of its results, and would be lost",
                    pattern.span,
                    help=f"if {'it is' if one else 'they are'} meant to go, drop {'it' if one else 'them'} first: "
                    f"`{show_rules(make.drop(*dropped))}`",
                    cases=[match.key for match in found],
                )
            )


_DROPPED = 4
"""So many keys are written out in a `drop` that is proposed."""


@record
class _Own:
    """The dtype that a statement computes in, and that of its sources, to which it rounds."""

    compute: DType
    dtype: DType


def _checked_own(
    compiler: Compiler, node: tree.Split | tree.Merge, matches: Sequence[Match], scope: Scope
) -> _Own | None:
    """Return what a statement `in DTYPE` computes in and rounds to; `None` for one without."""
    compute = compiler.compute(node.compute, scope)
    types = [match.entry.type for match in matches]
    if compute is None or node.compute is None or types[0] is None:
        return None
    for match, found in zip(matches, types, strict=True):
        if found is not None:
            check_own(found.dtype, compute, node.compute.span, match.visible)
    other = next((t for t in types if t is not None and t.dtype is not types[0].dtype), None)
    if other is not None:
        fail(
            type_codes.MIXED,
            f"the sources are {types[0].dtype} and {other.dtype}: to which of the two is the result rounded?",
            node.compute.span,
            values=[f"{match.visible}: {match.entry.type}" for match in matches[:3]],
            help=f"cast what is narrower, without `in {compute}`: `cast(…, {compute})`",
        )
    return _Own(compute, types[0].dtype)


# --- split ------------------------------------------------------------------------------------------------------


@record
class _Slot:
    """A template and the captures that make it one piece's key; `{e}` of `over e` is counted while filling."""

    template: Template
    bindings: Mapping[str, Captured]
    span: Span


def split(compiler: Compiler, node: tree.Split, scope: Scope) -> Outcome | None:
    """Return what a `split` comes to: the pieces stand where their source stood."""
    clause = Clause(scope, node.where, node.optional, maybe="split?", templates=node.targets)
    matches = compiler.matches(node.source, clause, tensors=True, stars=True)
    try:
        slots = _slots(compiler, node, clause)
    except StatexError as error:
        compiler.report(error)
        return None
    work = _Work(dict.fromkeys(match.key for match in matches))
    for match in matches:
        try:
            _split_one(compiler, node, match, slots, work, scope)
        except StatexError as error:
            compiler.report(error, match.case)
            work.failed.add(match.key)
    _check_reached(compiler, "split", node, work, [(node.source, matches)])
    pieces: dict[tuple[str, ...], list[str]] = {}
    for key, (_, _, source) in work.made.items():
        pieces.setdefault(source, []).append(key)
    changes = tuple([Change("split", source, tuple(keys)) for source, keys in pieces.items()])
    return Outcome("split", node.span, changes, work.consumed, work.made, rules=compiler.rules(node, clause))


def _slots(compiler: Compiler, node: tree.Split, clause: Clause) -> list[_Slot]:
    if node.over is not None:
        return _counted_slot(compiler, node, node.over, clause)
    slots = []
    for target in node.targets:
        free = _free_choices(target, clause.known)
        template = compiler.checked_template(target, clause, {c.name: _choice_type(c) for c in free})
        slots += [_Slot(template, bindings, target.span) for bindings in _combinations(free)]
    return slots


def _counted_slot(compiler: Compiler, node: tree.Split, over: tree.Name, clause: Clause) -> list[_Slot]:
    if len(node.targets) != 1 or over.name in clause.known:
        target = make.pattern(["experts.", make.capture(over.name), ".weight"])
        fail(
            codes.OVER_CAPTURE,
            f"`over {over.name}` counts the pieces into one template with `{{{over.name}}}`, a new name",
            over.span,
            help=show_rules(make.split(make.gap_pattern(), target, make.name(UNSTACKING.name), over.name)),
        )
    counted = {over.name: CaptureType(CaptureKind.INT)}
    template = compiler.checked_template(node.targets[0], clause, counted)
    if over.name not in template.names:
        fail(
            codes.OVER_CAPTURE,
            f"the template has no `{{{over.name}}}`: all pieces would get one key",
            node.targets[0].span,
            also=[(over.span, "counted here")],
        )
    return [_Slot(template, {}, node.targets[0].span)]


def _free_choices(node: tree.PatternNode, known: Mapping[str, CaptureType]) -> list[tree.Capture]:
    return [p for p in node.pieces if isinstance(p, tree.Capture) and p.choices and p.name not in known]


def _choice_type(capture: tree.Capture) -> CaptureType:
    return CaptureType(CaptureKind.CHOICE, capture.choices)


def _combinations(choices: list[tree.Capture]) -> Iterator[dict[str, Captured]]:
    if not choices:
        yield {}
        return
    first, *rest = choices
    for choice in first.choices:
        for others in _combinations(rest):
            yield {first.name: _choice_type(first).captured(choice.text), **others}


def _split_one(
    compiler: Compiler,
    node: tree.Split,
    match: Match,
    slots: list[_Slot],
    work: _Work,
    scope: Scope,
) -> None:
    own = _checked_own(compiler, node, [match], scope)
    kept = match.entry.type.dtype if match.entry.type is not None else None
    value = compiler.evaluate(match, scope, node.value, own.compute if own is not None else None, kept)
    pieces = _pieces(node, value, len(slots), node.over is not None)
    if pieces is not None and own is not None:
        pieces = [rounded(piece, own.dtype, node.value.span, compiler.graph) for piece in pieces]
    if pieces is None:
        # The keys still come into being, so that later statements are checked against them.
        pieces = [None] * (1 if node.over is not None else len(slots))
    constants = compiler.constants(scope, match.visible)
    for number, piece in enumerate(pieces):
        slot = slots[0] if node.over is not None else slots[number]
        bindings = {**match.bindings, **slot.bindings}
        if node.over is not None:
            bindings[node.over.name] = Captured.number(number)
        key = slot.template.render(bindings, constants)
        work.check_new(compiler, key, slot.span)
        tie = compiler.tie((match.entry.tie, number), piece)
        entry = computed(compiler.graph, match.entry, piece, tie, compiler.step)
        work.made[key] = (entry, (*compiler.state.rank(match.key), number), (match.key,))


def _pieces(node: tree.Split, value: Value, slots: int, counted: bool) -> list[TensorValue | None] | None:
    if is_unknown(value):
        return None
    pieces: list[TensorValue | None] = []
    if isinstance(value, tuple):
        pieces += [piece for piece in value if isinstance(piece, TensorValue)]
    if not isinstance(value, tuple) or not pieces or len(pieces) < len(value):
        fail(
            codes.PIECES,
            f"a `split` needs pieces, and this gives {describe(value)}",
            node.value.span,
            help="`chunk(n, dim=0)`, `sections([a, b], dim=0)` and `unstack(dim=0)` give pieces",
        )
    if not counted and len(value) != slots:
        fail(
            codes.PIECES,
            f"{len(value)} pieces for {slots} {'key' if slots == 1 else 'keys'}",
            node.value.span,
            also=[(node.targets[0].span.to(node.targets[-1].span), f"{slots} to fill")],
            values=[f"{node.value.span.text} = {describe(value)}"],
        )
    return pieces


# --- merge ------------------------------------------------------------------------------------------------------

GroupKey = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Group:
    """The sources that belong together: for each source of the statement its matches, by the capture of `over`."""

    bindings: dict[str, Captured]
    found: list[dict[Hashable, Match]] = field(default_factory=list)

    def matches(self) -> Iterator[Match]:
        for found in self.found:
            yield from found.values()


def merge(compiler: Compiler, node: tree.Merge, scope: Scope) -> Outcome | None:
    """Return what a `merge` comes to: the result stands where the first of its sources stood in the state."""
    clause = Clause(scope, node.where, node.optional, maybe="merge?", templates=None)
    over = node.over.name if node.over is not None else None
    try:
        groups = _gather(compiler, node, clause, over)
        known = {n: t for n, t in clause.known.items() if n != over}
        template = compiler.checked_template(node.target, Clause(scope, known=known))
    except StatexError as error:
        compiler.report(error)
        return None
    work = _Work(dict.fromkeys(m.key for group in groups.values() for m in group.matches()))
    for group in groups.values():
        case = _case(group)
        try:
            _merge_one(compiler, node, group, template, work, scope, case)
        except StatexError as error:
            compiler.report(error, case)
            work.failed.update(m.key for m in group.matches())
    sources = (
        (source.pattern, [m for group in groups.values() for m in group.found[number].values()])
        for number, source in enumerate(node.sources)
    )
    _check_reached(compiler, "merge", node, work, sources)
    changes = tuple([Change("merged", keys, (key,)) for key, (_, _, keys) in work.made.items()])
    return Outcome("merge", node.span, changes, work.consumed, work.made, rules=compiler.rules(node, clause))


def _gather(compiler: Compiler, node: tree.Merge, clause: Clause, over: str | None) -> dict[GroupKey, _Group]:
    groups: dict[GroupKey, _Group] = {}
    names = _shared_captures(compiler, node, clause, over)
    for number, source in enumerate(node.sources):
        for match in compiler.matches(source.pattern, clause, tensors=True, stars=True):
            bindings = {n: c for n, c in match.bindings.items() if n != over}
            identity = tuple((n, bindings[n].rendered) for n in names)
            group = groups.setdefault(identity, _Group(bindings, [{} for _ in node.sources]))
            place: Hashable = match.bindings[over].value if over is not None else None
            if place in group.found[number]:
                other = group.found[number][place].key
                compiler.found.add(
                    diagnostic(
                        codes.TWICE_IN_GROUP,
                        f"`{other}` and `{match.key}` are both this source of one group",
                        source.pattern.span,
                        help="name what tells them apart with a capture",
                        cases=[match.case],
                    )
                )
                continue
            group.found[number][place] = match
    return groups


def _shared_captures(compiler: Compiler, node: tree.Merge, clause: Clause, over: str | None) -> tuple[str, ...]:
    """Return the captures that tell groups apart, after checking that every source has the same ones."""
    first: list[str] | None = None
    for source in node.sources:
        pattern = compiler.pattern(source.pattern, clause.scope, clause.known)
        clause.known.update(pattern.captures)
        if over is not None:
            _check_over(node, source, over, pattern.captures)
        names = sorted(n for n in pattern.captures if n != over)
        if first is None:
            first = names
        elif names != first:
            fail(
                codes.MERGE_CAPTURES,
                f"this source has {_captures(names)}, and the first one has {_captures(first)}",
                source.pattern.span,
                also=[(node.sources[0].pattern.span, "the first source")],
                help="sources with equal captures belong together, so each needs the same ones",
            )
    return tuple(first or ())


def _captures(names: list[str]) -> str:
    if not names:
        return "no captures"
    return "the captures " + join_words([f"`{'*' if is_wildcard(n) else n}`" for n in names], limit=5)


def _check_over(node: tree.Merge, source: tree.MergeSource, over: str, captures: Mapping[str, CaptureType]) -> None:
    kind = captures[over].kind if over in captures else None
    if kind not in (CaptureKind.INT, CaptureKind.CHOICE):
        assert node.over is not None
        fail(
            codes.OVER_CAPTURE,
            f"`over {over}` needs `{{{over}:int}}` in this source" if kind is None else f"`{over}` is not an int here",
            source.pattern.span,
            also=[(node.over.span, "gathered over this")],
            help=f"write `{{{over}:int}}`, or `{{{over}:a|b|c}}` to gather named pieces in that order",
        )


def _case(group: _Group) -> str:
    named = {name: c.text for name, c in group.bindings.items() if is_named(name)}
    first = next(group.matches(), None)
    return ", ".join(f"{n} = {t}" for n, t in named.items()) or (first.key if first else "")


def _merge_one(
    compiler: Compiler,
    node: tree.Merge,
    group: _Group,
    template: Template,
    work: _Work,
    scope: Scope,
    case: str,
) -> None:
    _check_complete(node, group, case)
    gathered = [_in_order(node, group, number) for number in range(len(group.found))]
    matches = [match for found in gathered for match in found]
    first = min(matches, key=lambda m: compiler.state.rank(m.key))
    key = template.render(group.bindings, compiler.constants(scope))
    lost = [name for name in group.bindings if name not in template.names and is_named(name)]
    gather = f"write `over {lost[0]}` before `->` to gather them in one" if lost and node.over is None else ""
    work.check_new(compiler, key, node.target.span, gather)
    context = _merge_context(compiler, node, group, gathered, case, key)
    try:
        own = _checked_own(compiler, node, matches, scope)
        dtypes = {match.entry.type.dtype for match in matches if match.entry.type is not None}
        kept = next(iter(dtypes)) if len(dtypes) == 1 else None
        context = replace(context, compute=own.compute if own is not None else None, own=kept)
        value = expect_tensor(Evaluator(compiler, scope, context).value(node.value), node.value.span)
        value = rounded(value, own.dtype, node.value.span, compiler.graph) if own is not None else value
    except StatexError as error:
        compiler.report(error, case)
        value = None
    whole = replace(
        first.entry,
        is_parameter=all(m.entry.is_parameter for m in matches),
        requires_grad=any(m.entry.requires_grad for m in matches),
        attributes=common_attributes([m.entry.attributes for m in matches]),
    )
    tie = compiler.tie(tuple(m.entry.tie for m in matches), value)
    work.made[key] = (
        computed(compiler.graph, whole, value, tie, compiler.step),
        compiler.state.rank(first.key),
        tuple(m.key for m in matches),
    )


def _merge_context(
    compiler: Compiler, node: tree.Merge, group: _Group, gathered: list[list[Match]], case: str, key: str
) -> Context:
    tuples = [tuple(match.entry.current_in(compiler.graph) for match in found) for found in gathered]
    values: list[Value] = [found if node.over is not None else found[0] for found in tuples]
    named = {s.name.name: v for s, v in zip(node.sources, values, strict=True) if s.name is not None}
    # With one source `it` is what `over` gathers; with several it is one of each.
    it = values[0] if node.over is not None and len(values) == 1 else tuple(values)
    return Context(it, key, group.bindings, named, case=case)


def _check_complete(node: tree.Merge, group: _Group, case: str) -> None:
    for number, found in enumerate(group.found):
        if not found:
            there = next(m.key for m in group.matches())
            fail(
                codes.GROUP,
                f"nothing matches this source where `{there}` is",
                node.sources[number].pattern.span,
                help="filter the complete groups with `where`, or correct the pattern",
                cases=[case],
            )


def _in_order(node: tree.Merge, group: _Group, number: int) -> list[Match]:
    """Return the matches of a source in the order of `over`, which must be complete, and as long as for the others."""
    found = group.found[number]
    if node.over is None:
        return list(found.values())
    source = node.sources[number].pattern
    wanted = _wanted(node, group)
    missing = [place for place in wanted if place not in found]
    if missing:
        fail(
            codes.GAP,
            f"`over {node.over.name}` is missing {join_words([str(m) for m in missing], limit=4)}",
            source.span,
            values=[f"present: {join_words([str(p) for p in _sorted(found)], limit=12)}"],
            help="`renumber` closes gaps in the numbers" if _is_gap(node, group, missing) else (),
        )
    return [found[place] for place in wanted]


def _is_gap(node: tree.Merge, group: _Group, missing: list[Hashable]) -> bool:
    """Say whether numbers are missing that no source has, so that the others may move up."""
    chosen = any(isinstance(p, tree.Capture) and p.choices for s in node.sources for p in s.pattern.pieces)
    return not chosen and not any(place in found for found in group.found for place in missing)


def _sorted(found: dict[Hashable, Match]) -> list[Hashable]:
    return sorted(found, key=lambda place: (not isinstance(place, int), place))


def _wanted(node: tree.Merge, group: _Group) -> list[Hashable]:
    assert node.over is not None
    for source in node.sources:
        for piece in source.pattern.pieces:
            if isinstance(piece, tree.Capture) and piece.name == node.over.name and piece.choices:
                return [int(c.value) if is_digits(c.value) else c.value for c in piece.choices]
    highest = max((place for found in group.found for place in found if isinstance(place, int)), default=-1)
    return list(range(highest + 1))
