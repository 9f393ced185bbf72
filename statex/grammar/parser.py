"""Rule text to tree, with every syntax error of a file found in one run."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from itertools import takewhile
from typing import Any, cast

from lark import TextSlice, Token, UnexpectedEOF, UnexpectedInput, UnexpectedToken
from lark.exceptions import VisitError

from statex.core.source import Source, Span
from statex.diagnostics import Diagnostic, Label, StatexError, diagnostic, fail
from statex.diagnostics.codes import syntax as codes
from statex.grammar import lalr, tree
from statex.grammar.builder import Builder
from statex.grammar.messages import VERBS, explain
from statex.grammar.postlex import Newlines, Seen, closing
from statex.grammar.rulefiles import LARGEST
from statex.grammar.tree import Field, Program

ERRORS = 20
"""So many syntax errors are looked for in one text."""
ATTEMPTS = 60
"""So many times a text is read again after an error, braces that an error left over included."""

_local = threading.local()
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]|\r(?!\n)")
_RESUME = re.compile(r"(?m)^([ \t]*)(" + "|".join(sorted(VERBS)) + r")\b")


class _Parser:
    """A parser for one start rule, and what it needs to know of the text at work."""

    def __init__(self, start: str) -> None:
        self._automaton = lalr.automaton(start)
        self.newlines = Newlines()
        self.builder = Builder(parse_field)

    def parse(self, source: Source, text: TextSlice[str], *, groups: bool = False) -> Any:
        self.newlines.source = source
        parsed = lalr.parse(self._automaton, text, self.newlines)
        self.builder.begin(source, groups=groups)
        try:
            return self.builder.transform(parsed)
        except VisitError as error:
            raise error.orig_exc from None


def _parser(start: str) -> _Parser:
    """Return the parser of a start rule; each thread has its own, as a parse keeps state in it."""
    known = getattr(_local, start, None)
    if known is None:
        known = _Parser(start)
        setattr(_local, start, known)
    return cast(_Parser, known)


def parse_field(span: Span, *, groups: bool = False) -> Field:
    """Parse the inside of `{…}` in a template: an expression with an optional format.

    Raises:
        StatexError: SX109.
    """
    parser = _parser("field")
    try:
        text = TextSlice(span.source.text, span.start, span.end)
        field = cast(Field, parser.parse(span.source, text, groups=groups))
    except UnexpectedInput:
        raise StatexError(
            [
                diagnostic(
                    codes.BAD_CAPTURE,
                    f"`{span.text}` is neither a capture nor an integer expression",
                    span,
                    help="captures are `{i}`, `{i:int}`, `{m:**}`, `{p:q|k|v}`; expressions `{i + 1}`, `{i:02}`",
                )
            ]
        ) from None
    odd = _not_integer(field.value)
    if odd is not None:
        fail(
            codes.BAD_CAPTURE,
            f"`{odd.span.text}` cannot be computed in a key",
            odd.span,
            help="in braces, `+ - * // %` compute with whole numbers, captures and parameters",
        )
    return field


def _not_integer(node: tree.Expr) -> tree.Expr | None:
    """Return the first part of an expression that is not integer arithmetic."""
    match node:
        case tree.Name():
            return None
        case tree.Number(value=int()):
            return None
        case tree.Group():
            return _not_integer(node.value)
        case tree.Unary(operator="+" | "-"):
            return _not_integer(node.operand)
        case tree.Binary(operator="+" | "-" | "*" | "//" | "%"):
            return _not_integer(node.left) or _not_integer(node.right)
        case _:
            return node


def parse(source: Source) -> Program:
    """Parse a rule file, as `statex.grammar.parse` says."""
    text = readable(source)
    try:
        return once(source, text)
    except Failed:
        raise StatexError([failed.diagnostic for failed, _ in failures(source, text)]) from None


def readable(source: Source) -> str:
    """Return the text of a rule file as it is parsed.

    Raises:
        StatexError: SX115, SX113.
    """
    if len(source.text) > LARGEST:
        place = Span(source, LARGEST, LARGEST + 1)
        fail(codes.TOO_LARGE, f"rules have at most {LARGEST:,} characters, and these have {len(source.text):,}", place)
    control = _CONTROL.search(source.text)
    if control is not None:
        span = Span(source, control.start(), control.end())
        raise StatexError([diagnostic(codes.CONTROL, f"a control character {control.group()!r}", span)])
    return source.text.replace("\ufeff", " ", 1) if source.text.startswith("\ufeff") else source.text


def failures(source: Source, text: str) -> Iterator[tuple[Failed, Seen]]:
    """Yield the syntax errors of a text, each with the tokens before it since the last one."""
    count = unclosed = start = 0
    for _ in range(ATTEMPTS):
        seen = Seen()
        try:
            once(source, text, start, seen)
            return
        except Failed as failed:
            stray = unclosed > 0 and _is_stray_brace(text, failed.at)
            if not stray:
                count += 1
                yield failed, seen
            if count >= ERRORS or failed.diagnostic.code is codes.TOO_DEEP:
                # What follows too deep a bracket is as a rule inside it, and would be misread.
                return
            resume = failed.at + 1 if stray else next_statement(text, failed.at, failed.opened)
            unclosed += -1 if stray else _open_braces(text[start:resume])
            start = resume


class Failed(Exception):
    """One syntax error, where it is, and where the bracket was opened that it is about."""

    def __init__(self, found: Diagnostic, at: int, opened: int | None = None) -> None:
        super().__init__(found.headline)
        self.diagnostic = found
        self.at = at
        self.opened = opened


def once(source: Source, text: str, start: int = 0, seen: Seen | None = None, *, groups: bool = False) -> Program:
    """Parse a text from an offset on, up to its first error.

    Where its tokens are wanted they are noted in `seen`; with `groups`, parentheses are nodes.

    Raises:
        Failed: for that error.
    """
    parser = _parser("start")
    parser.newlines.seen = seen
    try:
        parsed = parser.parse(source, TextSlice(text, start, len(text)), groups=groups)
        return cast(Program, parsed)
    except StatexError as error:
        first = error.diagnostics[0]
        raise Failed(first, first.span.start if first.span else 0) from None
    except UnexpectedInput as error:
        at = _position(error, text)
        bracket = _unclosed(parser.newlines, text, at)
        if bracket is not None:
            raise Failed(_unclosed_message(source, parser.newlines, bracket, text, at), at, bracket.start_pos) from None
        found = explain(source, text, at, _expected(error))
        raise Failed(_with_bracket(found, parser.newlines), at) from None


def _with_bracket(found: Diagnostic, newlines: Newlines) -> Diagnostic:
    """Mark the bracket that is open where something does not belong: it is often the one that should be closed."""
    known = any(note.kind == "help" for note in found.notes)
    if known or not newlines.open or newlines.open[-1].type == "LBRACE" or found.code is not codes.UNEXPECTED:
        return found
    return replace(found, labels=(*found.labels, Label(newlines.span(newlines.open[-1]), "inside this bracket")))


def _expected(error: UnexpectedInput) -> frozenset[str]:
    """Return the names of the tokens that would be taken where an error is."""
    if isinstance(error, UnexpectedEOF):
        return frozenset(error.expected or ())
    if error.state is None:
        return frozenset(getattr(error, "allowed", None) or getattr(error, "expected", None) or ())
    return _taken(error.state)


def _taken(state: Any) -> frozenset[str]:
    """Return the tokens after which a parse can go on; the table of its state lists more, as it joins states."""
    quiet = copy(state.parse_conf)
    quiet.callbacks = {}

    def is_taken(name: str) -> bool:
        trial = state.copy(deepcopy_values=False)
        trial.parse_conf = quiet
        try:
            trial.feed_token(Token(name, ""), name == "$END")
        except UnexpectedToken:
            return False
        return True

    listed = quiet.parse_table.states[state.position]
    return frozenset(name for name in listed if name.isupper() and is_taken(name))


def _position(error: UnexpectedInput, text: str) -> int:
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return len(text)
    at = error.pos_in_stream
    return len(text) if at is None or at < 0 else at


def _unclosed(newlines: Newlines, text: str, at: int) -> Any:
    """Return the open bracket an error is about: the text ended, or a new statement began, before it was closed."""
    if not newlines.open:
        return None
    bracket = newlines.open[-1]
    if not text[at:].strip():
        return bracket
    line_start = text.rfind("\n", 0, at) + 1
    new_statement = _RESUME.match(text, line_start)
    later = line_start > (bracket.start_pos or 0)
    return bracket if new_statement and later and bracket.type != "LBRACE" else None


def _unclosed_message(source: Source, newlines: Newlines, bracket: Any, text: str, at: int) -> Diagnostic:
    around = takewhile(lambda opened: opened.type != "LBRACE", reversed(newlines.open))
    closed = "".join(map(closing, around)) or closing(bracket)
    also = [] if at >= len(text) else [(Span(source, at, at + 1), f"`{closing(bracket)}` was expected before this")]
    more = " and what it is in" if len(closed) > 1 else ""
    return diagnostic(
        codes.UNCLOSED,
        f"`{bracket}` is not closed",
        newlines.span(bracket),
        also=also,
        help=f"`{closed}` closes it{more}" + ("; a block ends with `}`" if bracket.type == "LBRACE" else ""),
    )


def next_statement(text: str, at: int, opened: int | None) -> int:
    """Return where the next statement starts after an error: a later line with a verb, not deeper than this one."""
    line_start = text.rfind("\n", 0, at if opened is None else opened) + 1
    own = len(text[line_start:]) - len(text[line_start:].lstrip(" \t"))
    search = at if opened is None else opened
    for found in _RESUME.finditer(text, text.find("\n", search) + 1 or len(text)):
        if len(found.group(1)) <= own:
            return found.start()
    return len(text)


def _open_braces(text: str) -> int:
    """Return how many blocks the text opens and leaves open, judging by lines that end or start with a brace."""
    opened = len(re.findall(r"\{[ \t]*(?:#.*)?$", text, re.MULTILINE))
    closed = len(re.findall(r"^[ \t]*\}", text, re.MULTILINE))
    return max(0, opened - closed)


def _is_stray_brace(text: str, at: int) -> bool:
    return text[at : at + 1] == "}" and not text[text.rfind("\n", 0, at) + 1 : at].strip()
