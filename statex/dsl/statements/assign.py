"""Statements that give values to keys: `set` and `add`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from statex.core.dtypes import DType, Kind
from statex.core.source import Span
from statex.diagnostics import StatexError, diagnostic, fail
from statex.diagnostics.codes import keys as codes
from statex.diagnostics.codes import lints
from statex.dsl.compile.compiler import Compiler
from statex.dsl.compile.match import Clause, Match, everything
from statex.dsl.compile.state import Made, Outcome, computed
from statex.dsl.expressions.calls import expect_tensor
from statex.dsl.expressions.computing import check_own, rounded
from statex.dsl.expressions.evaluate import Context, Evaluator
from statex.dsl.expressions.scope import Scope
from statex.dsl.keys.captures import CaptureType
from statex.dsl.keys.quoting import show_rules
from statex.dsl.ops import OPERATIONS
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.graph import SourceKey
from statex.dsl.plan.plan import Change
from statex.dsl.statements.select import check_new
from statex.dsl.values import TensorValue
from statex.grammar import factory as make
from statex.grammar import tree
from statex.grammar.walk import nodes


def set_(compiler: Compiler, node: tree.Set, scope: Scope) -> Outcome:
    """Return what a `set` comes to: new values for keys that exist."""
    named: tuple[SourceKey, ...] = ()
    if node.each is None:
        matches = _targets(compiler, node, scope)
    else:
        matches, named = _targets_of_each(compiler, node, node.each, scope)
    state = compiler.state
    produced: dict[str, Made] = {}
    changes = []
    compute = compiler.compute(node.compute, scope)
    for match in matches:
        entry, key = _new_entry(compiler, node, match, scope, compute), (match.key,)
        if entry is not match.entry:
            produced[match.key] = (entry, state.rank(match.key), key)
        changes.append(Change("set", key, key))
    return Outcome("set", node.span, tuple(changes), produced.keys(), produced, named=named)


def _new_entry(compiler: Compiler, node: tree.Set, match: Match, scope: Scope, compute: DType | None) -> Entry:
    try:
        value = _new_value(compiler, node, match, scope, compute)
    except StatexError as error:
        compiler.report(error, match.case)
        value = None
    old = match.entry
    before = old.value_in(compiler.graph)
    if value is not None and before is not None:
        if value.id == before.id:
            return old
        _lint_cast(compiler, node, match, value)
    return computed(compiler.graph, old, value, compiler.tie(old.tie, value), compiler.step)


def _new_value(
    compiler: Compiler, node: tree.Set, match: Match, scope: Scope, compute: DType | None
) -> TensorValue | None:
    span, own = node.value.span, match.entry.type
    if compute is None or own is None:
        dtype = None if own is None else own.dtype
        return expect_tensor(compiler.evaluate(match, scope, node.value, own=dtype), span)
    assert node.compute is not None
    check_own(own.dtype, compute, node.compute.span, match.visible)
    value = expect_tensor(compiler.evaluate(match, scope, node.value, compute), span)
    return rounded(value, own.dtype, span, compiler.graph)


def _lint_cast(compiler: Compiler, node: tree.Set, match: Match, value: TensorValue) -> None:
    assert match.entry.type is not None
    before = match.entry.type.dtype
    if before.kind in (Kind.INT, Kind.BOOL) and value.dtype.is_floating_point:
        compiler.found.add(
            diagnostic(
                lints.CAST_INTEGERS,
                f"this makes {value.dtype} of {before.kind.value} tensors",
                node.span,
                values=[f"{match.visible}: {match.entry.type} -> {value}"],
                help=_instead_of_floats(node, before),
                cases=[match.visible],
            )
        )
    elif before != value.dtype and not _names_dtype(node.value):
        compiler.found.add(
            diagnostic(
                lints.DTYPE_CHANGED,
                f"this changes {before} to {value.dtype} without naming a dtype",
                node.value.span,
                values=[f"{match.visible}: {match.entry.type} -> {value}"],
                help=f"`… | cast({before})` keeps the dtype, `… | cast({value.dtype})` says that the change is meant",
                cases=[match.visible],
            )
        )


def _instead_of_floats(node: tree.Set, before: DType) -> str:
    """Return what leaves integer tensors as they are: a condition, but for a statement about single keys."""
    single = all(isinstance(piece, tree.Text) for pattern in node.targets for piece in pattern.pieces)
    return f"to keep it {before}: `… | cast({before})`" if single else "add `where is_floating_point(it)`"


def _names_dtype(value: tree.Expr) -> bool:
    """Say whether an expression casts, or says the dtype of what it makes."""
    for node in nodes(value):
        if isinstance(node, tree.Name) and _casts(node.name):
            return True
        if isinstance(node, tree.Call) and (_casts(node.function) or any(a.name == "dtype" for a in node.arguments)):
            return True
    return False


def _casts(name: str) -> bool:
    return name in OPERATIONS and OPERATIONS[name].changes_dtype


def _targets(compiler: Compiler, node: tree.Set, scope: Scope) -> Iterable[Match]:
    chosen: dict[str, Match] = {}
    clause = Clause(scope, node.where, node.optional, maybe="set?")
    for pattern in node.targets:
        for match in compiler.matches(pattern, clause, tensors=True):
            chosen.setdefault(match.key, match)
    return chosen.values()


def _targets_of_each(
    compiler: Compiler, node: tree.Set, pattern: tree.PatternNode, scope: Scope
) -> tuple[Iterable[Match], tuple[SourceKey, ...]]:
    """Return the existing keys a `set … for` writes, each with the captures of the match that leads to it.

    With them are the tensors of a further input that the pattern after `for` names.
    """
    clause = Clause(scope, node.where, node.optional, maybe="set?", templates=None)
    each = compiler.matches(pattern, clause, tensors=True, stars=True, further=True)
    chosen: dict[str, Match] = {}
    for target in node.targets:
        try:
            template = compiler.checked_template(target, clause)
        except StatexError as error:
            compiler.report(error)
            continue
        for match in each:
            try:
                key = template.render(match.bindings, compiler.constants(scope, match.visible))
                chosen[key] = _existing(compiler, key, target.span, match, chosen, scope)
            except StatexError as error:
                compiler.report(error, match.case)
    return chosen.values(), compiler.named(pattern, each)


def _existing(compiler: Compiler, key: str, span: Span, match: Match, chosen: dict[str, Match], scope: Scope) -> Match:
    entry = compiler.state.entries.get(key)
    if entry is None:
        raise compiler.no_key(span, key, read=False)
    if key in chosen:
        fail(codes.COLLISION, f"two matches write `{key}`", span, values=[match.case, chosen[key].case])
    if not entry.is_tensor:
        fail(codes.NOT_TENSOR, f"`{key}` is not a tensor", span)
    visible = compiler.visible(key, scope, match.bindings)
    return replace(match, key=key, visible=visible, entry=entry, instead=None, place=match.case)


def add(compiler: Compiler, node: tree.Add, scope: Scope) -> Outcome | None:
    """Return what an `add` comes to: new keys at the end of the state, each with storage of its own."""
    clause = Clause(scope, node.where, node.optional, maybe="add?", templates=None)
    try:
        matches, named = _added_for(compiler, node, clause)
        _check_bound(node, clause.known)
        template = compiler.checked_template(node.target, clause)
    except StatexError as error:
        compiler.report(error)
        return None
    added: dict[str, tuple[Match | None, Entry]] = {}
    for match in matches:
        case = match.case if match is not None else ""
        try:
            bindings = match.bindings if match is not None else {}
            key = template.render(bindings, compiler.constants(scope, match.visible if match is not None else None))
            other = added[key][0] if key in added else None
            check_new(compiler, key, node.target.span, other.case if other is not None else None)
            added[key] = (match, _fresh_entry(compiler, node, match, key, scope))
        except StatexError as error:
            compiler.report(error, case)
    changes = tuple([Change("added", (), (key,)) for key in added])
    produced: dict[str, Made] = {key: (entry, None, ()) for key, (_, entry) in added.items()}
    return Outcome("add", node.span, changes, produced=produced, named=named)


def _check_bound(node: tree.Add, known: dict[str, CaptureType]) -> None:
    unbound = [p.name for p in node.target.pieces if isinstance(p, tree.Capture) and p.choices and p.name not in known]
    if unbound:
        fail(
            codes.UNBOUND,
            f"nothing says what `{{{unbound[0]}}}` is",
            node.target.span,
            help=f"bind it: `{show_rules(make.add(node.target, make.gap(), make.key('PATTERN')))}`",
        )


def _added_for(
    compiler: Compiler, node: tree.Add, clause: Clause
) -> tuple[Sequence[Match | None], tuple[SourceKey, ...]]:
    """Return a match for each new key (`None` without one), and the tensors of a further input these name."""
    scope = clause.scope
    if node.each is not None:
        found = compiler.matches(node.each, clause, tensors=True, stars=True, further=True)
        return found, compiler.named(node.each, found)
    if scope.prefix is not None and any(not isinstance(p, tree.Text) for p in scope.prefix.pieces):
        return list(_places_of_prefix(compiler, node, clause)), ()
    if node.where is not None and not Evaluator(compiler, scope, Context()).condition(node.where, "`where`"):
        return [], ()
    return [None], ()


def _places_of_prefix(compiler: Compiler, node: tree.Add, clause: Clause) -> Iterable[Match]:
    """Return one match for each place the `within` blocks around stand for; none of them is a current tensor."""
    places: dict[str, Match] = {}
    for match in compiler.matches(everything(node.span), clause):
        prefix = compiler.prefix_text(clause.scope, match.bindings)
        places.setdefault(prefix, replace(match, instead=(None,), place=prefix))
    return places.values()


def _fresh_entry(compiler: Compiler, node: tree.Add, match: Match | None, key: str, scope: Scope) -> Entry:
    if match is not None:
        result = compiler.evaluate(match, scope, node.value)
    else:
        result = Evaluator(compiler, scope, Context(case=key)).value(node.value)
    value = expect_tensor(result, node.value.span)
    tie = compiler.fresh_tie()
    return computed(compiler.graph, Entry(tie), value, tie, compiler.step)
