"""The keys that patterns choose, outside of rules: of an output, of a listing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from statex.diagnostics import Diagnostic, StatexError, diagnostic, fail
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import keys as codes
from statex.diagnostics.codes import syntax
from statex.dsl.given import shared_scope
from statex.dsl.index import KeyIndex
from statex.dsl.parts import Outside
from statex.dsl.patterns import compile_pattern
from statex.grammar import parse, tree
from statex.source import Source


def selected(
    keys: Iterable[str], patterns: Sequence[Source], outside: Outside, whose: str = "of the result"
) -> Mapping[str, None]:
    """Return the keys that patterns match; `whose` says in messages what they are keys of.

    Raises:
        StatexError: SX1xx for what is not a pattern, SX301 for a pattern that matches no key.
    """
    index = KeyIndex(dict.fromkeys(keys))
    splice = shared_scope(outside, ".").splice
    found: dict[str, None] = {}
    problems: list[Diagnostic] = []
    for node in (node for text in patterns for node in _patterns(text)):
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
                    codes.NO_MATCH,
                    f"pattern matches no key {whose}",
                    node.span,
                    at=f"0 of {counted(len(index), 'key')}",
                    help=f"did you mean `{near}`?" if near else (),
                )
            )
    if problems:
        raise StatexError(problems)
    return found


def _patterns(text: Source) -> tuple[tree.PatternNode, ...]:
    program = parse(text.after("keep "))
    first, *more = program.statements
    assert isinstance(first, tree.Drop)
    beyond = more[0].span if more else first.where.span if first.where is not None else None
    if beyond is not None:
        fail(syntax.UNEXPECTED, "expected patterns alone, and this is a statement or a condition", beyond)
    return first.patterns
