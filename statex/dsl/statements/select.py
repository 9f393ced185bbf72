"""Statements that choose keys: `drop`, `keep`, `copy` and `order`."""

from __future__ import annotations

import re

from statex.core.source import Span
from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import keys as codes
from statex.dsl.compile.compiler import Compiler
from statex.dsl.compile.match import Clause, Match, everything
from statex.dsl.compile.reports import LONGEST_KEY, long_key
from statex.dsl.compile.state import Made, Outcome
from statex.dsl.expressions.scope import TARGET, Scope
from statex.dsl.keys.captures import is_digits
from statex.dsl.keys.quoting import show_rules
from statex.dsl.plan.graph import SourceKey
from statex.dsl.plan.plan import Change
from statex.grammar import factory as make
from statex.grammar import tree


def drop(compiler: Compiler, node: tree.Drop, scope: Scope) -> Outcome:
    """Return what a `drop` or a `keep` comes to."""
    chosen: dict[str, Match] = {}
    named: tuple[SourceKey, ...] = ()
    clause = Clause(scope, node.where, node.optional, maybe="keep?" if node.keep else "drop?", partly=True)
    for pattern in node.patterns:
        further = pattern.input is not None and pattern.input != TARGET and not node.keep
        found = compiler.matches(pattern, clause, further=further)
        if further:
            named += compiler.named(pattern, found)
        else:
            chosen.update((m.key, m) for m in found)
    if node.keep:
        visible = [m.key for m in compiler.matches(everything(node.span), Clause(scope, optional=True))]
        # A `keep` whose pattern is at fault would drop everything and be followed by errors that mean nothing; `keep?`
        # says that nothing to do is fine, not that nothing shall be kept.
        removed = [key for key in visible if key not in chosen] if chosen else []
    else:
        removed = compiler.state.sort(chosen)
    changes = tuple([Change("dropped", (key,), ()) for key in removed])
    return Outcome("keep" if node.keep else "drop", node.span, changes, removed, named=named)


def copy(compiler: Compiler, node: tree.Copy, scope: Scope) -> Outcome | None:
    """Return what a `copy` comes to: the same tensor under a second key, at the end of the state."""
    clause = Clause(scope, node.where, node.optional, maybe="copy?", templates=(node.target,))
    matches = compiler.matches(node.source, clause, stars=True, further=True)
    try:
        template = compiler.checked_template(node.target, clause)
    except StatexError as error:
        compiler.report(error)
        return None
    added: dict[str, Match] = {}
    for match in matches:
        try:
            constants = compiler.constants(scope, match.visible)
            new = template.render(match.bindings, constants)
            check_new(compiler, new, node.target.span, added[new].key if new in added else None)
            added[new] = match
            if node.source.input is not None:
                _check_single(compiler, node.source)
        except StatexError as error:
            compiler.report(error, match.case)
    changes = tuple([Change("copied", (m.key,), (new,)) for new, m in added.items()])
    produced: dict[str, Made] = {
        new: (m.entry.at_step(compiler.step), None, change.before)
        for (new, m), change in zip(added.items(), changes, strict=True)
    }
    return Outcome("copy", node.span, changes, produced=produced, rules=compiler.rules(node, clause))


def _check_single(compiler: Compiler, source: tree.PatternNode) -> None:
    if source.input is not None and compiler.inputs[source.input].family:
        first = make.subscript(make.tensor("KEY", source.input), make.number(0))
        fail(
            codes.FAMILY,
            f"`{source.input}` is a family of checkpoints: which one should be copied?",
            source.span,
            help=f"`{show_rules(make.add(make.key('KEY'), first))}`, or `cat`, `stack` or `mean` of all",
        )


def check_new(compiler: Compiler, key: str, span: Span, other: str | None, apart: str = "") -> None:
    """Refuse a new key that exists, that another match makes too, or that has an empty segment.

    `apart` is the help where another match makes it too.

    Raises:
        StatexError: SX303, SX302, SX316.
    """
    if other is not None:
        fail(codes.COLLISION, f"two matches make `{key}`: the other one is `{other}`", span, help=apart or ())
    if len(key) > LONGEST_KEY:
        raise StatexError([long_key(key, span)])
    if not all(key.split(".")):
        fail(codes.EMPTY_KEY, f"`{key}` has an empty segment", span)
    if key in compiler.state.entries:
        there = compiler.state.entries[key]
        fail(
            codes.EXISTS,
            f"`{key}` already exists",
            span,
            values=[f"{key}: {there.type}"] if there.type else (),
            help=[
                f"`{show_rules(make.assign(make.key(key), make.gap()))}` gives it a new value",
                f"if it is not needed, drop it first: `{show_rules(make.drop(make.key(key)))}`",
            ],
        )


def order(compiler: Compiler, node: tree.Order, scope: Scope) -> Outcome | None:
    """Return what an `order` comes to: by the numbers in keys, or as another header has them."""
    keys = compiler.state.in_order()
    if node.like is None:
        return Outcome("order", node.span, order=sorted(keys, key=natural))
    pattern = tree.PatternNode(node.like.span, tree.PatternKind.BARE, "**", (), node.like.name)
    try:
        header = compiler.input(pattern).headers[0]
    except StatexError as error:
        compiler.report(error)
        return None
    place = {key: i for i, key in enumerate(header.entries)}
    return Outcome("order", node.span, order=sorted(keys, key=lambda key: place.get(key, len(place))))


def natural(key: str) -> list[tuple[int, int, str]]:
    """Return what sorts `layers.10` after `layers.9`."""
    return [(0, int(part), "") if is_digits(part) else (1, 0, part) for part in re.split(r"(\d+)", key)]
