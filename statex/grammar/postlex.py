"""Newlines and brackets: which newlines end a statement, and which bracket is open where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lark import Token

from statex.core.source import Source, Span
from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import syntax as codes
from statex.grammar.messages import VERBS, unknown_verb

LIMIT = 100
"""How deep brackets may be nested."""

_OPEN = {"LPAR": ")", "LSQB": "]", "LBRACE": "}"}
_CLOSE = {"RPAR": ")", "RSQB": "]", "RBRACE": "}"}
_GOES_ON = frozenset(
    ("COMMA", "EQUAL", "VBAR", "ARROW_OPT", "_ARROW", "OR", "AND", "NOT", "IN", "NOT_IN", "CMP", "SIGN", "TIMES",
     "POWER", "MATCHES", "_COLON", "COLON")
)  # fmt: skip


class Seen:
    """The tokens of a text but for ends of lines, and where its statements begin."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self._starts: list[int] = []
        self._tables: list[bool] = []
        self._verb = ""
        self._ended = True

    def note(self, token: Token) -> None:
        """Note a token; the rows of a table belong to its statement."""
        assert token.start_pos is not None
        closes = token.type == "RBRACE" and self._tables
        if self._ended and not closes and not self._in_table():
            self._starts.append(token.start_pos)
            self._verb = token.type
        self._ended = token.type in ("LBRACE", "SEMICOLON")
        if token.type == "LBRACE":
            self._tables.append(self._verb == "RENAME")
        elif token.type == "RBRACE" and self._tables:
            self._tables.pop()
        self.tokens.append(token)

    def _in_table(self) -> bool:
        return bool(self._tables) and self._tables[-1]

    def end_statement(self) -> None:
        """Note that a line ends a statement."""
        self._ended = True

    def statement_at(self, offset: int) -> int:
        """Return where the last statement begins that does so at an offset or before it."""
        last = self.tokens[-1].end_pos if self.tokens else 0
        assert last is not None
        if self._ended and not self._in_table() and offset >= last:
            return offset
        return max((start for start in self._starts if start <= offset), default=0)


class Newlines:
    """Leaves newlines out inside `(` and `[` and after a token that needs more, and keeps the stack of brackets."""

    def __init__(self) -> None:
        self.source: Source | None = None
        self.open: list[Token] = []
        self.seen: Seen | None = None
        """Where the tokens of a text are noted, if they are wanted."""

    def process(self, stream: Iterator[Token]) -> Iterator[Any]:
        """Yield the tokens that count."""
        self.open = []
        last = ""
        word: Token | None = None
        for token in stream:
            if word is not None:
                self._check_apart(word, token)
            word = token if token.type == token.upper() and token.isalpha() else None
            if token.type == "_NL":
                inside = self.open and self.open[-1].type != "LBRACE"
                if not inside and last not in _GOES_ON:
                    if self.seen is not None:
                        self.seen.end_statement()
                    yield token
                continue
            if self.seen is not None:
                self.seen.note(token)
            if token.type in _OPEN:
                self._push(token)
            elif token.type in _CLOSE:
                self._pop(token)
            last = token.type
            yield token

    def _check_apart(self, word: Token, token: Token) -> None:
        """Refuse a word of the language with more letters behind it: `dropped` is not `drop ped`."""
        assert token.start_pos is not None
        if word.end_pos != token.start_pos or not re.match(r"\w", token):
            return
        assert self.source is not None
        place = self.span(word)
        rest = re.compile(r"\w*").match(self.source.text, token.start_pos)
        assert rest is not None
        whole = Span(self.source, place.start, rest.end())
        if word in VERBS:
            raise StatexError([unknown_verb(whole)])
        fail(
            codes.UNEXPECTED,
            f"`{whole.text}` does not belong here",
            whole,
            help=f"write `{word} {whole.text[len(word) :]}`, if `{word}` is meant",
        )

    def _push(self, token: Token) -> None:
        if len(self.open) >= LIMIT:
            fail(codes.TOO_DEEP, f"brackets are nested more than {LIMIT} deep", self.span(token))
        self.open.append(token)

    def _pop(self, token: Token) -> None:
        if self.open and _OPEN[self.open[-1].type] == str(token):
            self.open.pop()
            return
        if self.open:
            opened = self.open[-1]
            fail(
                codes.UNOPENED,
                f"`{token}` does not close `{opened}`",
                self.span(token),
                also=[(self.span(opened), "opened here")],
                help=f"write `{_OPEN[opened.type]}{token if self._closes_outer(token) else ''}`",
            )
        fail(codes.UNOPENED, f"`{token}` closes no bracket", self.span(token))

    def _closes_outer(self, token: Token) -> bool:
        """Say whether a bracket closes one further out than the last that is open."""
        return any(_OPEN[opened.type] == str(token) for opened in self.open[:-1])

    def span(self, token: Token) -> Span:
        """Return the place of a token."""
        assert self.source is not None
        assert token.start_pos is not None
        return Span(self.source, token.start_pos, token.start_pos + len(token))


def closing(token: Token) -> str:
    """Return the bracket that closes one."""
    return _OPEN[token.type]
