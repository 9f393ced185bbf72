"""The tables of the parser as plain data: made when the package is built, read from it, else computed in memory.

They hold what lark makes of the grammar: its terminals and rules as lark serializes them, and for each start rule the
states of its LALR(1) automaton. A state is a mapping of symbols to numbers: that of the next state, or of the rule to
reduce by, counted from -1 downwards. The first state is where a parse starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pkgutil import get_data
from typing import Any

import lark
from lark.common import ParserConf
from lark.grammar import Rule
from lark.lexer import TerminalDef
from lark.load_grammar import load_grammar
from lark.parsers.lalr_analysis import LALR_Analyzer, ParseTableBase, Shift

from statex.grammar.terminals import grammar_text

STARTS = ("start", "field")
"""The start rules: a rule file, and the inside of `{…}` in a template."""
ALWAYS_ACCEPT = ("_NL",)
"""Terminals that the lexer finds in every state, for `Newlines` to leave out."""
FILE = "tables.json"

_LAYOUT = 1
"""Counted up when the data is arranged in another way."""

Data = dict[str, Any]


def digest() -> str:
    """Return a hash of all that the tables follow from."""
    told = [_LAYOUT, lark.__version__, STARTS, ALWAYS_ACCEPT, grammar_text()]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def packed() -> str:
    """Return the tables of all start rules as the text of the file that a package has."""
    return json.dumps({"digest": digest(), **compute(*STARTS)}, separators=(",", ":"))


def tables(start: str) -> Data:
    """Return tables that hold those of a start rule: the package's, if they were made of this grammar by this lark."""
    return packaged() or compute(start)


@cache
def packaged() -> Data:
    """Return the tables that the package has, read once in a process; none if they are of another grammar or lark."""
    try:
        text = get_data("statex.grammar", FILE)
    except OSError:
        return {}
    found: Data = json.loads(text) if text else {}
    return found if found.get("digest") == digest() else {}


def compute(*starts: str) -> Data:
    """Compute the tables of start rules; they are the same each time."""
    grammar, _ = load_grammar(grammar_text(), "statex.lark", [], False)  # type: ignore[no-untyped-call]
    terminals: dict[tuple[object, ...], tuple[int, TerminalDef]] = {}
    rules: dict[Rule, int] = {}
    automata = {}
    for start in starts:
        own_terminals, own_rules, ignored = grammar.compile([start], set(ALWAYS_ACCEPT))
        analyzer = LALR_Analyzer(ParserConf(own_rules, {}, [start]))
        analyzer.compute_lalr()  # type: ignore[no-untyped-call]
        for rule in own_rules:
            rules.setdefault(rule, len(rules))
        named = [((one.name, one.pattern, one.priority), one) for one in own_terminals]
        automata[start] = {
            "terminals": [terminals.setdefault(key, (len(terminals), one))[0] for key, one in named],
            "ignored": list(ignored),
            **_automaton(analyzer.parse_table, start, rules),
        }
    return {
        "terminals": [_serialized(one) for _, one in terminals.values()],
        "rules": [rule.serialize() for rule in rules],
        "starts": automata,
    }


def _automaton(table: ParseTableBase[Any], start: str, rules: Mapping[Rule, int]) -> Data:
    """Return the states of a table, numbered as they are reached: lark numbers them anew each time."""
    order = {table.start_states[start]: 0}
    states = []
    for state in (reached := list(order)):
        row = {}
        for symbol, (action, argument) in sorted(table.states[state].items()):
            if action is Shift and argument not in order:
                order[argument] = len(order)
                reached.append(argument)
            row[symbol] = order[argument] if action is Shift else -1 - rules[argument]
        states.append(row)
    return {"end": order[table.end_states[start]], "states": states}


def _serialized(terminal: TerminalDef) -> Data:
    assert terminal.pattern.min_width > 0  # lark notes the width of a pattern when it is asked for
    return terminal.serialize()
