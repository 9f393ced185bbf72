"""A parser put together of lark's parts from tables, and only as far as a text needs it.

lark makes a lexer for each state of the automaton, and what builds the tree for each rule, before it parses anything;
a short text reaches a few of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

from lark import TextSlice, Token, Tree
from lark.common import LexerConf
from lark.grammar import Rule
from lark.lexer import BasicLexer, ContextualLexer, LexerState, LexerThread, TerminalDef
from lark.parse_tree_builder import ParseTreeBuilder
from lark.parsers.lalr_analysis import IntParseTable, Reduce, Shift
from lark.parsers.lalr_parser_state import ParseConf, ParserState

from statex.grammar.postlex import Newlines
from statex.grammar.tables import ALWAYS_ACCEPT, Data, tables


class Automaton:
    """What all parsers of a start rule share; a parse changes nothing in it but to add what it is the first to need."""

    def __init__(self, data: Data, start: str) -> None:
        own = data["starts"][start]
        terminals = [TerminalDef.deserialize(data["terminals"][number], {}) for number in own["terminals"]]
        conf = LexerConf(terminals, re, own["ignored"], skip_validation=True)
        self.lexer = _Lexer(conf, own["states"])
        states = _States(own["states"], data["rules"])
        table = IntParseTable(states, {start: 0}, {start: own["end"]})  # type: ignore[no-untyped-call]
        self.conf = ParseConf(table, _Callbacks(), start)


@cache
def automaton(start: str) -> Automaton:
    """Return the automaton of a start rule."""
    return Automaton(tables(start), start)


def parse(machine: Automaton, text: TextSlice[str], newlines: Newlines) -> Tree[Token]:
    """Parse a text, without the tokens that `newlines` leaves out.

    Raises:
        UnexpectedInput: at the first error, with the `state` of the parser.
    """
    place = LexerState(text)
    state = ParserState(machine.conf, LexerThread(machine.lexer, place))
    token = None
    for token in newlines.process(machine.lexer.lex(place, state)):
        state.feed_token(token)
    end = Token.new_borrow_pos("$END", "", token) if token is not None else Token("$END", "", 0, 1, 1)
    tree: Tree[Token] = state.feed_token(end, is_end=True)
    return tree


class _States(dict[int, Mapping[str, tuple[Any, Any]]]):
    """The states by their numbers: for each symbol, `Shift` and a state, or `Reduce` and a rule."""

    def __init__(self, rows: Sequence[Mapping[str, int]], rules: Sequence[Data]) -> None:
        super().__init__()
        self._rows = rows
        self._rules = rules
        self._made: dict[int, Rule] = {}

    def __missing__(self, state: int) -> Mapping[str, tuple[Any, Any]]:
        row = self._rows[state].items()
        # Threads may come here at once: they make the same, and the last one stays.
        self[state] = made = {
            symbol: (Shift, number) if number >= 0 else (Reduce, self._rule(-1 - number)) for symbol, number in row
        }
        return made

    def _rule(self, number: int) -> Rule:
        if number not in self._made:
            self._made[number] = Rule.deserialize(self._rules[number], {})
        return self._made[number]


class _Callbacks(dict[Any, Callable[[list[Any]], Any]]):
    """What makes the tree of each rule; tokens stay as they are."""

    def __missing__(self, rule: Rule) -> Callable[[list[Any]], Any]:
        make: Any = ParseTreeBuilder
        builder = make([rule], Tree, propagate_positions=True, maybe_placeholders=True)
        self[rule] = found = builder.create_callback()[rule]
        return found  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        # lark leaves the tree out where there are none.
        return True


class _Lexers(dict[int, BasicLexer]):
    """The lexer of each state: it knows the terminals that may follow there."""

    def __init__(self, conf: LexerConf, rows: Sequence[Mapping[str, int]]) -> None:
        super().__init__()
        self._conf = conf
        self._rows = rows
        self._known: dict[frozenset[str], BasicLexer] = {}

    def __missing__(self, state: int) -> BasicLexer:
        names = frozenset(self._rows[state].keys() & self._conf.terminals_by_name.keys())
        if names not in self._known:
            self._known[names] = self._lexer(names.union(self._conf.ignore, ALWAYS_ACCEPT))
        self[state] = found = self._known[names]
        return found

    def _lexer(self, names: frozenset[str]) -> BasicLexer:
        terminals = [one for one in self._conf.terminals if one.name in names]
        return BasicLexer(LexerConf(terminals, re, self._conf.ignore, skip_validation=True))


class _Lexer(ContextualLexer):
    """lark's contextual lexer, with lexers that are made when they are needed."""

    def __init__(self, conf: LexerConf, rows: Sequence[Mapping[str, int]]) -> None:
        self.lexers = _Lexers(conf, rows)  # type: ignore[assignment]
        self._conf = conf

    @cached_property
    def root_lexer(self) -> BasicLexer:  # type: ignore[override]
        """The lexer that knows all terminals: it says what stands where none of a state's fits."""
        return BasicLexer(self._conf)
