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

_WORD = re.compile(r"[A-Za-z_]\w*")
_TOKENISH = re.compile(r"[\w.:$*{}]+|->\??|[=!<>]=|&&|\|\||\*\*|//|\S")

_NAMES = {
    "EQUAL": "`=`", "_ARROW": "`->`", "ARROW_OPT": "`->`", "COMMA": "`,`",
    "RPAR": "`)`", "RSQB": "`]`", "RBRACE": "`}`",
    "LBRACE": "`{`", "LPAR": "`(`", "LSQB": "`[`", "WHERE": "`where`", "FOR": "`for`", "OVER": "`over`",
    "AS": "`as`", "NAME": "a name", "PATTERN": "a key or pattern", "KEY": "an expression", "_NL": "the end of the line",
    "WITH": "`with`", "ROOT": "`root`", "MATCHES": "`matches`", "STRING": "quoted text", "_COLON": "`:`",
    "COLON": "`:`", "CMP": "a comparison", "NATURAL": "`natural`", "LIKE": "`like`", "MISSING": "`missing`",
    "UNEXPECTED": "`unexpected`", "VBAR": "`|`",
}  # fmt: skip


def explain(error: UnexpectedInput, source: Source, text: str, at: int, expected: frozenset[str]) -> Diagnostic:
    """Return the diagnostic for a syntax error at an offset, where the tokens `expected` would fit."""
    found = _found(text, at)
    span = Span(source, min(at, len(text)), min(at + max(len(found), 1), max(len(text), at)))
    if _at_statement(expected):
        return _verb(text, span, found)
    if not found or text[at : at + 1] in "\r\n;":
        return _early(source, text, at, expected)
    for rule in (_quote, _odd, _compared, _foreign_operator, _arrow):
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


def _quote(source: Source, text: str, at: int, span: Span, found: str, expected: frozenset[str]) -> Diagnostic | None:
    if found[0] in "'\"":
        end = text.find("\n", at)
        line = Span(source, at, end if end >= 0 else len(text))
        return diagnostic(
            codes.UNCLOSED_TEXT,
            f"this {'text' if found[0] == chr(39) else 'pattern'} is not closed on its line",
            line,
            help=f"close it with {found[0]}",
        )
    return None


def _odd(source: Source, text: str, at: int, span: Span, found: str, expected: frozenset[str]) -> Diagnostic | None:
    """Recognise a bare key with a character that needs quotes: `my-layer.weight`."""
    before = text[at - 1 : at]
    joined = bool(before) and (before.isalnum() or before in "_.}*") and found[0] not in "=,|()[]{}<>!;:?"
    if not joined or found.startswith("->") or expected & {"SIGN", "TIMES", "POWER"}:
        return None
    start = re.search(r"[^\s,=()\[\]|]*\Z", text[:at])
    end = re.compile(r"[^\s,=()\[\]|]*").match(text, at)
    assert start is not None
    assert end is not None
    key = Span(source, start.start(), end.end())
    quoted = f'"{key.text}"' if re.search(r"[{*]", key.text) else f"'{key.text}'"
    return diagnostic(
        codes.ODD_CHARACTER, f"`{found[0]}` cannot be part of a bare key", span.at(0, 1), help=f"quote it: {quoted}"
    )


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
