"""Which keys of the result each output holds, by its patterns; and that every key is in some output."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from statex.diagnostics import Diagnostic, StatexError, diagnostic, fail
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import files as codes
from statex.diagnostics.codes import keys as key_codes
from statex.diagnostics.codes import recipes as recipe_codes
from statex.diagnostics.suggest import join_words
from statex.dsl.given import shared_scope
from statex.dsl.index import KeyIndex
from statex.dsl.metadata import follow
from statex.dsl.parts import Outside
from statex.dsl.patterns import compile_pattern
from statex.dsl.plan import Plan
from statex.dsl.written import is_plain
from statex.grammar import parse, tree
from statex.source import Source, Span


def plans_of(plan: Plan, keeps: Sequence[Sequence[Source]], outside: Outside) -> list[Plan]:
    """Return the plan of each output; `keeps` are the patterns of the keys that it holds, none where it holds all.

    Raises:
        StatexError: SX1xx and SX704 for what is not just patterns, SX301 for a pattern that matches no key, SX632 for
            keys that no output holds.
    """
    plans = [_only(plan, _kept(plan, patterns, outside)) if patterns else plan for patterns in keeps]
    _check_all_kept(plan, plans, [text.text for patterns in keeps for text in patterns])
    return plans


def _kept(plan: Plan, patterns: Sequence[Source], outside: Outside) -> Mapping[str, None]:
    index = KeyIndex(dict.fromkeys(plan.outputs))
    splice = shared_scope(outside, ".").splice
    found: dict[str, None] = {}
    problems: list[Diagnostic] = []
    for node in _nodes(patterns, problems):
        try:
            pattern = compile_pattern(node, splice=splice)
        except StatexError as error:
            problems += error.diagnostics
            continue
        matches = index.find(pattern)
        found.update((one.key, None) for one in matches)
        if not matches:
            near = index.near(pattern)
            problems.append(
                diagnostic(
                    key_codes.NO_MATCH,
                    "pattern matches no key of the result",
                    node.span,
                    at=f"0 of {counted(len(plan.outputs), 'key')}",
                    help=f"did you mean `{near}`?" if near else (),
                )
            )
    if problems:
        raise StatexError(problems)
    return found


def _nodes(patterns: Sequence[Source], problems: list[Diagnostic]) -> Iterator[tree.PatternNode]:
    """Yield the patterns of texts, and note what is wrong with these."""
    for text in patterns:
        try:
            yield from _patterns(text)
        except StatexError as error:
            problems += error.diagnostics


def _patterns(text: Source) -> tuple[tree.PatternNode, ...]:
    first, *further = parse(text.after("keep ")).statements
    assert isinstance(first, tree.Drop)
    if further:
        _refuse("`keep` takes patterns alone, and another statement follows", further[0].span)
    if first.where is not None:
        _refuse("`keep` takes patterns alone, without a condition", first.where.span)
    if first.optional:
        _refuse("`keep` takes patterns alone, each of which has to match a key", first.span)
    for pattern in first.patterns:
        if pattern.input is not None:
            said = f"`keep` takes keys of the result, and `{pattern.span.text}` is a pattern over an input"
            _refuse(said, pattern.span)
    return first.patterns


def _refuse(what: str, span: Span) -> NoReturn:
    fail(recipe_codes.WRONG_VALUE, what, span, help="choose what goes on by a rule: keep PATTERN where …")


_FEW = 3
"""So many keys are named one by one in help."""


def _check_all_kept(plan: Plan, plans: Sequence[Plan], patterns: Sequence[str]) -> None:
    if any(one is plan for one in plans):
        return
    held = {key for one in plans for key in one.outputs}
    lost = [key for key in plan.outputs if key not in held]
    if lost:
        named = join_words([f"`{key}`" for key in lost], limit=3)
        few = len(lost) <= _FEW and all(map(is_plain, lost))
        fail(
            codes.KEY_NOWHERE,
            f"no output holds {named}",
            help=f"if {'it is' if len(lost) == 1 else 'they are'} not needed, a last rule: "
            + (f"drop {', '.join(lost)}" if few else f"keep {', '.join(dict.fromkeys(patterns))}"),
        )


def _only(plan: Plan, keys: Mapping[str, object]) -> Plan:
    outputs = OrderedDict((key, output) for key, output in plan.outputs.items() if key in keys)
    born = [(key, output.born) for key, output in outputs.items() if output.born is not None]
    metadata = plan.header.metadata
    kept = None if metadata is None else follow(metadata, plan.header.entries, born)
    return replace(plan, outputs=outputs, metadata=kept)
