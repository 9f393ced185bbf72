"""Syntax errors in the words of the language: what was found, and what fits there."""

from __future__ import annotations

import re

from lark import UnexpectedInput

from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import syntax as codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.source import Source, Span

VERBS = (
    "add", "allow", "copy", "drop", "expect", "if", "include", "input", "keep", "let", "macro", "merge", "order",
    "param", "rename", "renumber", "root", "set", "split", "use", "within",
)  # fmt: skip

_OTHER_WORDS = {
    "delete": "drop", "remove": "drop", "del": "drop", "move": "rename", "mv": "rename", "cp": "copy",
    "duplicate": "copy", "replace": "rename text", "assert": "expect", "import": "include", "def": "macro",
    "concat": "merge", "cat": "merge", "chunk": "split", "filter": "keep", "select": "keep", "cast": "set",
    "transpose": "set", "elif": "else if", "for": "add … for", "var": "let", "new": "add",
}  # fmt: skip
"""Words other tools use, and the verb of this one."""

_QUOTES = {"'": "text", '"': "pattern", "/": "regular expression"}
_WORD = re.compile(r"[A-Za-z_]\w*")
_QUOTED = re.compile(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\"""")
_TOKENISH = re.compile(r"[\w.:$*{}]+|->\??|[=!<>]=|&&|\|\||\*\*|//|\S")
_KEYISH = re.compile(r"[^\s,=()\[\]|]*")
_DOTTED = re.compile(r"[\w.{}]*")

_NAMES = {
    "EQUAL": "`=`", "_ARROW": "`->`", "ARROW_OPT": "`->`", "COMMA": "`,`",
    "RPAR": "`)`", "RSQB": "`]`", "RBRACE": "`}`",
    "LBRACE": "`{`", "LPAR": "`(`", "LSQB": "`[`", "WHERE": "`where`", "FOR": "`for`", "OVER": "`over`",
    "AS": "`as`", "NAME": "a name", "PATTERN": "a key or pattern", "KEY": "an expression", "_NL": "the end of the line",
    "WITH": "`with`", "ROOT": "`root`", "MATCHES": "`matches`", "STRING": "quoted text", "_COLON": "`:`",
    "COLON": "`:`", "CMP": "a comparison", "NATURAL": "`natural`", "LIKE": "`like`", "MISSING": "`missing`",
    "UNEXPECTED": "`unexpected`", "FLAT": "`flat`", "VBAR": "`|`",
}  # fmt: skip


def explain(error: UnexpectedInput, source: Source, text: str, at: int, expected: frozenset[str]) -> Diagnostic:
    """Return the diagnostic for a syntax error at an offset, where the tokens `expected` would fit."""
    found = _found(text, at)
    span = Span(source, min(at, len(text)), min(at + max(len(found), 1), max(len(text), at)))
    if at < len(text) and not text[at].isascii() and text[at].isspace():
        return _blank(source, text, at)
    if _at_statement(expected):
        return _verb(text, span, found)
    if not found or text[at : at + 1] in "\r\n;":
        return _early(source, text, at, expected)
    for rule in (_quote, _brace, _optional_mode, _method, _odd, _compared, _foreign_operator, _arrow):
        result = rule(source, text, at, span, found, expected)
        if result is not None:
            return result
    return diagnostic(
        codes.UNEXPECTED, f"`{found}` does not belong here", span, notes=_fitting(expected), help=_hint(found, expected)
    )


def _found(text: str, at: int) -> str:
    match = _TOKENISH.match(text, at)
    return match.group() if match is not None else ""


def _at_statement(expected: frozenset[str]) -> bool:
    return "RENAME" in expected and "SET" in expected


def _verb(text: str, span: Span, found: str) -> Diagnostic:
    word = _WORD.match(found)
    if word is None:
        return diagnostic(
            codes.UNEXPECTED,
            f"`{found}` starts no statement",
            Span(span.source, span.start, span.start + max(len(found), 1)),
            help="a statement starts with a verb: `rename …`",
        )
    return unknown_verb(Span(span.source, span.start, span.start + len(word.group())))


def unknown_verb(span: Span) -> Diagnostic:
    """Return the diagnostic for a word that starts no statement."""
    name = span.text
    near = [_OTHER_WORDS[name.lower()]] if name.lower() in _OTHER_WORDS else did_you_mean(name, VERBS)
    return diagnostic(
        codes.UNKNOWN_VERB,
        f"there is no statement `{name}`",
        span,
        help=f"did you mean `{near[0]}`?" if near else f"the verbs are {', '.join(VERBS)}",
    )


def _early(source: Source, text: str, at: int, expected: frozenset[str]) -> Diagnostic:
    end = len(text[:at].rstrip())
    last = Span(source, max(end - 1, 0), max(end, 1))
    if expected & {"EQUAL", "_ARROW", "ARROW_OPT"}:
        sign = "`=`" if "EQUAL" in expected else "`->`"
        return diagnostic(codes.ENDS_EARLY, f"the statement ends, and needs {sign} here", last, at=f"{sign} is missing")
    return diagnostic(
        codes.ENDS_EARLY, "the statement ends here, and needs more", last, notes=_fitting(expected - {"_NL"})
    )


def _blank(source: Source, text: str, at: int) -> Diagnostic:
    return diagnostic(
        codes.UNEXPECTED,
        f"U+{ord(text[at]):04X} looks like a blank, and is none",
        Span(source, at, at + 1),
        help="write a plain blank or a new line; in a key, quote it",
    )


def _quote(source: Source, text: str, at: int, span: Span, found: str, expected: frozenset[str]) -> Diagnostic | None:
    if found[0] in "“”‘’„«":
        return diagnostic(codes.UNEXPECTED, f"`{found[0]}` is no quote of rules", span.at(0, 1), help="write ' or \"")
    if found[0] in "'\"" or (found[0] == "/" and "REGEX" in expected):
        end = text.find("\n", at)
        line = Span(source, at, end if end >= 0 else len(text))
        closed = _QUOTED.match(text, at)
        if closed is not None:
            return _wrong_quotes(Span(source, at, closed.end()), expected)
        return diagnostic(
            codes.UNCLOSED_TEXT,
            f"this {_QUOTES[found[0]]} is not closed on its line",
            line,
            help=f"close it with {found[0]}",
        )
    return None


def _wrong_quotes(span: Span, expected: frozenset[str]) -> Diagnostic:
    """Return the diagnostic for quoted text where it does not belong: often only the quotes are wrong."""
    plain = span.text[0] == '"' and "STRING" in expected
    return diagnostic(
        codes.UNEXPECTED,
        f"`{span.text}` is a pattern, and plain text is needed here" if plain else f"{span.text} does not belong here",
        span,
        notes=() if plain else _fitting(expected),
        help=f"write '{span.text[1:-1]}'" if plain else (),
    )


def _brace(source: Source, text: str, at: int, span: Span, found: str, expected: frozenset[str]) -> Diagnostic | None:
    """Recognise braces that are no capture: `a.{ i }`, `a.{}`, `a.{i`."""
    brace = text.find("{", at, at + 2)
    if brace < 0 or text[at:brace] not in ("", ".") or not re.match(r"[\w.}*]", text[at - 1 : at]):
        return None
    end = re.compile(r"\{[^{}\n]*\}?").match(text, brace)
    assert end is not None
    inside = end.group().strip("{} ")
    near = f"`{{{inside}}}`" if _WORD.fullmatch(inside) else "`{i}`"
    return diagnostic(
        codes.BAD_CAPTURE,
        f"`{end.group().rstrip()}` is no capture",
        Span(source, brace, brace + len(end.group().rstrip())),
        help=f"a capture is a name in braces, without blanks: {near}",
    )


def _optional_mode(
    source: Source, text: str, at: int, span: Span, found: str, expected: frozenset[str]
) -> Diagnostic | None:
    """Recognise `rename part? …`: what is optional is the `rename`."""
    mode = re.search(r"\brename[ \t]+(part|prefix|suffix|text|first)\Z", text[max(0, at - 80) : at])
    if found[0] != "?" or mode is None:
        return None
    return diagnostic(
        codes.UNEXPECTED, "`?` stands after the verb", span.at(0, 1), help=f"write `rename? {mode.group(1)} …`"
    )


def _method(source: Source, text: str, at: int, span: Span, found: str, expected: frozenset[str]) -> Diagnostic | None:
    """Recognise a call in Python's words: `it.reshape(4, -1)`, `torch.zeros_like(it)`."""
    if found != "(" or "CMP" not in expected:
        return None
    name = Span(source, _run_before(_DOTTED, text, at), at)
    value, dot, method = name.text.rpartition(".")
    if not (value and dot and re.fullmatch(r"\w+", method)):
        return None
    help = f"write `{method}(…)`" if value == "torch" else f"write `{value} | {method}(…)`"
    return diagnostic(codes.UNEXPECTED, f"operations are no methods, and `{name.text}` is a key", name, help=help)


def _odd(source: Source, text: str, at: int, span: Span, found: str, expected: frozenset[str]) -> Diagnostic | None:
    """Recognise a bare key with a character that needs quotes: `my-layer.weight`."""
    before = text[at - 1 : at]
    joined = bool(before) and (before.isalnum() or before in "_.}*") and found[0] not in "=,|()[]{}<>!;?"
    in_key = not expected & {"_COLON", "COLON", "SIGN", "TIMES", "POWER"}
    if not joined or found.startswith("->") or not (in_key or found[0] == "."):
        return None
    end = _KEYISH.match(text, at)
    assert end is not None
    key = Span(source, _run_before(_KEYISH, text, at), end.end())
    if found[0] == ".":
        return _after_dot(source, text, at, span, key)
    quoted = f'"{key.text}"' if re.search(r"[{*]", key.text) else f"'{key.text}'"
    return diagnostic(
        codes.ODD_CHARACTER, f"`{found[0]}` cannot be part of a bare key", span.at(0, 1), help=f"quote it: {quoted}"
    )


def _run_before(characters: re.Pattern[str], text: str, at: int) -> int:
    """Return where the run of characters begins that ends at an offset.

    A search for one that ends there would begin at each character, and take the square of their number.
    """
    run = characters.match(text[:at][::-1])
    assert run is not None
    return at - run.end()


def _after_dot(source: Source, text: str, at: int, span: Span, key: Span) -> Diagnostic:
    """Say what is wrong after a dot that does not go on with a segment: an end, or a character no segment has."""
    after = text[at + 1 : at + 2]
    if after.isalnum() or after == "_":
        return diagnostic(codes.ODD_CHARACTER, "`.` cannot be part of a name", span.at(0, 1))
    if not after.strip() or after in ",=":
        return diagnostic(
            codes.ODD_CHARACTER, "a bare key cannot end in `.`", span.at(0, 1), help=f"quote it: '{key.text}'"
        )
    several = ["one of several texts is written `{p:q|k|v}`"] if after == "[" else []
    place = Span(source, at + 1, at + 2)
    return diagnostic(codes.ODD_CHARACTER, f"`{after}` cannot be part of a bare key", place, help=several)


def _compared(
    source: Source, text: str, at: int, span: Span, found: str, expected: frozenset[str]
) -> Diagnostic | None:
    if found == "==" and "EQUAL" in expected:
        return diagnostic(codes.TEXT_COMPARED, "`==` compares; a value is given by `=`", span, help="write `=`")
    if found == "=" and "CMP" in expected:
        return diagnostic(codes.TEXT_COMPARED, "`=` gives a value; `==` compares", span, help="write `==`")
    return None


def _foreign_operator(
    source: Source, text: str, at: int, span: Span, found: str, expected: frozenset[str]
) -> Diagnostic | None:
    words = {"&&": "and", "||": "or", "!": "not", "&": "and"}
    if found[0] == "|" and text[at - 1 : at] == "|":
        both = Span(source, at - 1, at + 1)
        return diagnostic(codes.UNEXPECTED, "`||` is no operator here", both, help="write `or`")
    if found in words:
        return diagnostic(codes.UNEXPECTED, f"`{found}` is no operator here", span, help=f"write `{words[found]}`")
    return None


def _arrow(source: Source, text: str, at: int, span: Span, found: str, expected: frozenset[str]) -> Diagnostic | None:
    arrows = expected & {"_ARROW", "ARROW_OPT"}
    if arrows and not expected & {"RPAR", "RSQB"}:
        helps = ["write `->` before the new key"]
        if found in ("=>", "=", "to", ":", "-"):
            helps = [f"write `->` instead of `{found}`"]
        return diagnostic(codes.MISSING_ARROW, f"`->` is missing before `{found}`", span, help=helps)
    if "EQUAL" in expected and "CMP" not in expected and found not in ("->",):
        return diagnostic(codes.MISSING_ARROW, f"`=` is missing before `{found}`", span, help="write `= EXPRESSION`")
    if "EQUAL" in expected and found == "->":
        return diagnostic(
            codes.MISSING_ARROW, "`=` is missing: `->` makes keys, `=` gives values", span, help="write `= EXPRESSION`"
        )
    return None


def _fitting(expected: frozenset[str]) -> list[str]:
    names = list(dict.fromkeys(_NAMES[name] for name in sorted(expected) if name in _NAMES))
    return [f"here fits {join_words(names, limit=7, last='or')}"] if names else []


def _hint(found: str, expected: frozenset[str]) -> list[str]:
    if "COMMA" in expected and _WORD.match(found) and "PATTERN" not in expected and found not in VERBS:
        return ["several items are separated by `,`"]
    if found in VERBS:
        return ["a new statement starts on a new line, or after `;`"]
    return []
