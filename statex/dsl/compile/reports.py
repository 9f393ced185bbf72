"""The messages about keys: no match, ambiguous, missing, in the words of the checkpoint at hand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from statex.core.source import Span
from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import keys as codes
from statex.diagnostics.codes import lints
from statex.diagnostics.suggest import join_words
from statex.dsl.keys.captures import Bindings, is_wildcard, wildcard_number
from statex.dsl.keys.key_index import KeyIndex
from statex.dsl.keys.near import near_pattern, with_templates
from statex.dsl.keys.patterns import Pattern
from statex.dsl.keys.quoting import show_key, show_tensor
from statex.dsl.keys.regex_help import inside_help
from statex.dsl.plan.plan import Change
from statex.dsl.suggestions import near_keys, not_a_key
from statex.grammar import tree

if TYPE_CHECKING:
    from statex.dsl.compile.match import Clause, Match


def no_match(
    node: tree.PatternNode,
    index: KeyIndex,
    pattern: Pattern,
    matched: Sequence[Match],
    tensors: Sequence[Match],
    clause: Clause,
    gone: Mapping[str, Change] | None,
    said: Sequence[Diagnostic] = (),
) -> Diagnostic:
    """Return the diagnostic for a pattern with nothing to do, and why: no key, no tensor, or none left by `where`.

    `gone` are keys that earlier statements took; without it, what was probably meant is not looked for. `said` are the
    warnings so far; those of a condition may be why it never holds.
    """
    if matched and not tensors:
        return diagnostic(
            codes.NOT_TENSOR,
            "the pattern matches only entries that are not tensors",
            node.span,
            cases=[m.key for m in matched],
            help="such entries can be renamed, copied, dropped and kept",
        )
    if matched and clause.where is not None:
        return diagnostic(
            codes.WHERE_NONE,
            f"the condition holds for none of the {counted(len(tensors), 'key')} the pattern matches"
            if len(tensors) > 1
            else "the condition does not hold for the key the pattern matches",
            clause.where.span,
            also=[(node.span, f"matches {counted(len(tensors), 'key')}")],
            values=[_seen(m) for m in tensors[:3]],
            help=[text for one in said for text in _of_regex(one, clause.where.span)],
        )
    headline = "pattern matches no key"
    if gone is None:
        return diagnostic(codes.NO_MATCH, headline, node.span)
    around = clause.scope.prefix
    at = f"0 of {counted(len(index), 'key')}"
    return diagnostic(
        codes.NO_MATCH,
        headline,
        node.span,
        at=at,
        notes=_how_far(index, pattern, gone if node.input is None else {}),
        help=_instead(index, pattern, clause, around.text if around is not None and node.input is None else ""),
    )


def _of_regex(said: Diagnostic, where: Span) -> Iterable[str]:
    """Return what helps where a condition asks for a regular expression that matches no whole key."""
    inside = said.span is not None and said.span.source is where.source and where.start <= said.span.start < where.end
    if said.code is lints.REGEX_INSIDE and inside:
        yield from (note.text for note in said.notes if note.kind == "help")


_SEARCHED = 20_000
"""So many keys that are gone are tried."""


def _how_far(index: KeyIndex, pattern: Pattern, gone: Mapping[str, Change]) -> Iterable[str]:
    earlier = next((key for key in islice(gone, _SEARCHED) if pattern.match(key) is not None), None)
    if earlier is not None:
        yield went(earlier, gone[earlier])
        return
    text, count, following = index.longest_prefix(pattern)
    if count and text:
        verb = "matches" if count == 1 else "match"
        segments = "segment there is" if len(following) == 1 else "segments there are"
        then = f"; the next {segments} {_segments(following)}" if following else ", and nothing follows there"
        yield f"{counted(count, 'key')} {verb} up to `{text}`{then}"
    elif len(index):
        whose = "the keys" if pattern.node.input is None else f"the keys of `{pattern.node.input}`"
        yield f"{whose} begin with {_segments(following)}"


def _segments(segments: Iterable[str]) -> str:
    """List segments; an empty one is shown as the text it is."""
    return join_words([segment or "''" for segment in segments], limit=6)


def _seen(match: Match) -> str:
    """Say what a condition sees of a match: its captures and its type."""
    captured = "" if match.case in (match.key, match.visible) else f"   {match.case}"
    return f"{match.visible}: {match.entry.type}{captured}"


def _instead(index: KeyIndex, pattern: Pattern, clause: Clause, prefix: str) -> Iterable[str]:
    if pattern.node.kind is tree.PatternKind.LITERAL and any(mark in pattern.node.text for mark in "*{"):
        yield "in '…' every character stands for itself; a pattern is written bare, or in \"…\""
    yield from inside_help(pattern, index)
    near = _near_text(index, pattern, clause.templates, prefix)
    near = f"{pattern.node.input}::{near}" if near and pattern.node.input is not None else near
    absent = f"if it may be absent: `{clause.maybe}`" if clause.maybe else ""
    if near:
        yield f"did you mean `{near}`?{' ' if absent else ''}{absent}"
    elif absent:
        yield absent


def _near_text(
    index: KeyIndex, pattern: Pattern, templates: Sequence[tree.PatternNode] | None, prefix: str
) -> str | None:
    """Return what to write instead of a pattern, with the templates that it fills where these have to change too."""
    near = near_pattern(index, pattern, named=templates != ())
    if near is None:
        return None
    if prefix:
        # Inside of `within` patterns are written without what is around them.
        shorter = near.text.removeprefix(f"{prefix}.")
        return shorter if shorter != near.text or not near.before else None
    if templates == () or not (near.before or near.after):
        return near.text
    return with_templates(near, pattern.node, templates) if templates is not None else None


def went(key: str, change: Change) -> str:
    """Say where a key went that is no longer there."""
    where = join_words([f"`{k}`" for k in change.after], limit=3)
    return f"`{key}` was {change.kind} by an earlier statement" + (f" and is now {where}" if where else "")


def ambiguous(node: tree.PatternNode, key: str, one: Bindings, other: Bindings) -> Diagnostic:
    """Return the diagnostic for a key that a pattern reads in two ways."""
    differing = [name for name in one if name in other and one[name].text != other[name].text]

    def reading(bindings: Bindings) -> str:
        return ", ".join(f"{_capture(name, node)} = {bindings[name].text!r}" for name in differing)

    return diagnostic(
        codes.AMBIGUOUS,
        f"`{key}` can be read in two ways",
        node.span,
        values=[f"either {reading(one)}   or {reading(other)}"],
        help="narrow a capture (`{i:int}`, `{p:q|k}`) or put literal text between them",
    )


def of_prefix(found: Diagnostic, prefix: tree.PatternNode, node: tree.PatternNode) -> Diagnostic:
    """Return a diagnostic of a template; where it is about a capture of the `within` around, at the template itself."""
    span = found.span
    if span is None or span.source is not prefix.span.source or not prefix.span.start <= span.start < prefix.span.end:
        return found
    return diagnostic(
        found.code,
        f"nothing says which `{span.text}` of the `within` around is meant",
        node.span,
        also=[(span, "captured here")],
        help="the pattern after `for` is not below it: capture it there too, or write this outside of the block",
    )


LONGEST_KEY = 10_000
"""Characters; a key is made of module names."""


def long_key(key: str, span: Span, old: str = "") -> Diagnostic:
    """Return the diagnostic for a key that no module can have."""
    case = (f"{old[:60]}…" if len(old) > 60 else old,) if old else ()
    return diagnostic(codes.LONG_KEY, f"`{key[:40]}…` would have {len(key)} characters", span, cases=case)


def _capture(name: str, node: tree.PatternNode) -> str:
    if not is_wildcard(name):
        return name
    number = wildcard_number(name)
    stars = [piece for piece in node.pieces if isinstance(piece, tree.Star | tree.DoubleStar)]
    several = number <= len(stars) and isinstance(stars[number - 1], tree.DoubleStar)
    return f"wildcard {number}, `{'**' if several else '*'}`,"


def missing_key(
    span: Span,
    key: str,
    keys: Collection[str],
    gone: Mapping[str, Change],
    input: str | None = None,
    *,
    read: bool = True,
) -> Diagnostic:
    """Return the diagnostic for a tensor that is read (or else written) and is not there."""
    where = f"in `{input}`" if input else "in the state at this place of the program"
    notes = [went(key, gone[key])] if key in gone else ()
    meant = not_a_key(span.text, keys) if read else None
    near = [meant] if meant else [show_tensor(k, input) if read else show_key(k) for k in near_keys(key, keys)]
    return diagnostic(
        codes.NO_KEY,
        f"there is no `{key}` {where}",
        span,
        notes=[f"`{span.text}` reads as the key of a tensor"] if meant else notes,
        help=[f"did you mean `{near[0]}`?"] if near else (),
    )
