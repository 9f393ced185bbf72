"""The keys that patterns choose, outside of rules: of an output, of a listing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NoReturn

from statex.core.source import Source, Span
from statex.diagnostics import Diagnostic, StatexError, diagnostic, fail
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import keys as codes
from statex.diagnostics.codes import recipes as recipe_codes
from statex.dsl.compile.given import shared_scope
from statex.dsl.keys.key_index import KeyIndex
from statex.dsl.keys.near import near_pattern
from statex.dsl.keys.patterns import compile_pattern
from statex.dsl.keys.regex_help import inside_help
from statex.dsl.parts import Outside
from statex.grammar import parse, tree


def selected(
    keys: Iterable[str],
    patterns: Sequence[Source],
    outside: Outside,
    whose: str = "of the result",
    taker: str = "`keep`",
) -> Mapping[str, None]:
    """Return the keys that patterns match; `whose` and `taker` say in messages what they are keys of, and for whom.

    Raises:
        StatexError: SX1xx and SX704 for what is not just patterns, SX301 for a pattern that matches no key.
    """
    index = KeyIndex(dict.fromkeys(keys))
    splice = shared_scope(outside, ".").splice
    found: dict[str, None] = {}
    problems: list[Diagnostic] = []
    for node in _nodes(patterns, taker, problems):
        try:
            pattern = compile_pattern(node, splice=splice)
        except StatexError as error:
            problems += error.diagnostics
            continue
        matches = index.find(pattern)
        found.update((one.key, None) for one in matches)
        if not matches:
            near = near_pattern(index, pattern)
            problems.append(
                diagnostic(
                    codes.NO_MATCH,
                    f"pattern matches no key {whose}",
                    node.span,
                    at=f"0 of {counted(len(index), 'key')}",
                    help=[f"did you mean `{near.text}`?"] if near else inside_help(pattern, index),
                )
            )
    if problems:
        raise StatexError(problems)
    return found


def _nodes(patterns: Sequence[Source], taker: str, problems: list[Diagnostic]) -> Iterator[tree.PatternNode]:
    """Yield the patterns of texts, and note what is wrong with these."""
    for text in patterns:
        try:
            yield from _patterns(text, taker)
        except StatexError as error:
            problems += error.diagnostics


def _patterns(text: Source, taker: str) -> tuple[tree.PatternNode, ...]:
    first, *further = parse(text.after("keep ")).statements
    assert isinstance(first, tree.Drop)
    if further:
        _refuse(f"{taker} takes patterns alone, and another statement follows", further[0].span)
    if first.where is not None:
        _refuse(f"{taker} takes patterns alone, without a condition", first.where.span)
    if first.optional:
        _refuse(f"{taker} takes patterns alone, each of which has to match a key", first.span)
    for pattern in first.patterns:
        if pattern.input is not None:
            _refuse(f"{taker} takes keys, and `{pattern.span.text}` is a pattern over an input", pattern.span)
    return first.patterns


def _refuse(what: str, span: Span) -> NoReturn:
    fail(recipe_codes.WRONG_VALUE, what, span, help="choose by a rule: keep PATTERN where …")
