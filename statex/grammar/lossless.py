"""The tree of a rule text with everything a tree leaves out: tokens, spaces, comments, the author's parentheses."""

from __future__ import annotations

from statex.core.record import record
from statex.core.source import Source, Span
from statex.diagnostics import Diagnostic
from statex.grammar.comments import Comment, Token, comments
from statex.grammar.holes import with_holes
from statex.grammar.parser import Failed, failures, once, readable
from statex.grammar.postlex import Seen
from statex.grammar.tree import Program


@record
class Lossless:
    """A program with its tokens; where the text has syntax errors, `Bad` statements stand for what they are in."""

    program: Program
    tokens: tuple[Token, ...]
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def comments(self) -> list[Comment]:
        """The comments of the text."""
        return list(comments(self.tokens))


def parse_lossless(source: Source) -> Lossless:
    """Parse a rule text, as `statex.grammar.parse_lossless` says."""
    text = readable(source)
    seen = Seen()
    try:
        return Lossless(once(source, text, seen=seen, groups=True), _tokens(source, seen))
    except Failed:
        found = list(failures(source, text))
        program, seen = with_holes(source, text, found)
        return Lossless(program, _tokens(source, seen), tuple([failed.diagnostic for failed, _ in found]))


def _tokens(source: Source, seen: Seen) -> tuple[Token, ...]:
    found: list[Token] = []
    end = 0
    for token in seen.tokens:
        start = token.start_pos
        assert start is not None
        span = Span(source, start, start + len(token))
        found.append(Token(token.type, span, Span(source, end, start)))
        end = span.end
    last = len(source.text)
    return (*found, Token("$END", Span(source, last, last), Span(source, end, last)))
