"""Syntax errors in the words of the language: what was found, and what is expected there."""

from __future__ import annotations

import re

from statex.core.source import Source, Span
from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import syntax as codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.grammar import habits, row_habits
from statex.grammar.regexes import as_regex
from statex.grammar.slip import Slip

VERBS = (
    "add", "allow", "copy", "drop", "expect", "follow", "if", "include", "input", "keep", "let", "macro", "merge",
    "order", "param", "rename", "renumber", "root", "set", "split", "use", "within",
)  # fmt: skip

_OTHER_WORDS = {
    "delete": "drop", "remove": "drop", "del": "drop", "move": "rename", "mv": "rename", "cp": "copy",
    "duplicate": "copy", "replace": "rename text", "assert": "expect", "import": "include", "def": "macro",
    "concat": "merge", "cat": "merge", "chunk": "split", "filter": "keep", "select": "keep", "cast": "set",
    "transpose": "set", "elif": "else if", "var": "let", "const": "let", "new": "add",
}  # fmt: skip
"""Words other tools use, and the verb of this one."""

_NOT_NEEDED = {
    "for": "there are no loops: a pattern such as `layers.{i:int}.**` stands for every key that it matches",
    "while": "there are no loops: a pattern such as `layers.{i:int}.**` stands for every key that it matches",
    "print": "`statex show` prints keys and shapes, `statex plan --keys` shows what becomes of them",
    "return": "a rule file returns nothing: the state is the result",
}
"""Words of programs that rules do without, and what there is instead."""

_QUOTES = {"'": "text", '"': "pattern", "/": "regular expression"}
_WORD = re.compile(r"[A-Za-z_]\w*")
_QUOTED = re.compile(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\"""")
_BRACES = re.compile(r"\{[ \t]*(?P<name>[A-Za-z_]\w*)[ \t]*\}|\{[^{}\n]*\}|\{[ \t]*(?P<open>[A-Za-z_]\w*)?")
_CURLY = re.compile(r"[“”„‘’«]([^“”„‘’«»\n'\"]*)[“”‘’»'\"]")
_KEYISH = re.compile(r"[^\s,=()\[\]|]*")

_NAMES = {
    "EQUAL": "`=`", "_ARROW": "`->`", "ARROW_OPT": "`->`", "COMMA": "`,`",
    "RPAR": "`)`", "RSQB": "`]`", "RBRACE": "`}`",
    "LBRACE": "`{`", "LPAR": "`(`", "LSQB": "`[`", "WHERE": "`where`", "FOR": "`for`", "OVER": "`over`",
    "AS": "`as`", "NAME": "a name", "PATTERN": "a key or pattern", "KEY": "an expression", "_NL": "the end of the line",
    "WITH": "`with`", "ROOT": "`root`", "MATCHES": "`matches`", "STRING": "quoted text", "_COLON": "`:`",
    "COLON": "`:`", "CMP": "a comparison", "NATURAL": "`natural`", "LIKE": "`like`", "MISSING": "`missing`",
    "UNEXPECTED": "`unexpected`", "FLAT": "`flat`", "VBAR": "`|`", "ELSE": "`else`",
}  # fmt: skip


def explain(source: Source, text: str, at: int, expected: frozenset[str]) -> Diagnostic:
    """Return the diagnostic for a syntax error at an offset, where the tokens `expected` would be taken."""
    slip = Slip.of(source, text, at, expected)
    if at < len(text) and not text[at].isascii() and text[at].isspace():
        return _blank(slip)
    for rule in (*habits.RULES, *row_habits.RULES, as_regex) if slip.is_by_hand else ():
        result = rule(slip)
        if result is not None:
            return result
    if "RENAME" in expected and "SET" in expected:
        return _verb(slip)
    if not slip.found or text[at : at + 1] in "\r\n;":
        return _early(slip)
    for rule in (_quote, _brace, _optional_mode, _odd, _compared, _foreign_operator, _arrow):
        result = rule(slip)
        if result is not None:
            return result
    what = f"`{slip.found}` does not belong here"
    return diagnostic(codes.UNEXPECTED, what, slip.span, notes=_fitting(expected), help=_hint(slip))


def _verb(slip: Slip) -> Diagnostic:
    word = _WORD.match(slip.found)
    if word is None:
        return diagnostic(
            codes.UNEXPECTED,
            f"a statement cannot start with `{slip.found}`",
            slip.span,
            help="a statement starts with a verb: `rename …`",
        )
    return unknown_verb(slip.span.at(0, word.end()))


def unknown_verb(span: Span) -> Diagnostic:
    """Return the diagnostic for a word that starts no statement."""
    name = span.text
    if name in _NOT_NEEDED:
        return diagnostic(codes.UNKNOWN_VERB, f"there is no statement `{name}`", span, help=_NOT_NEEDED[name])
    near = [_OTHER_WORDS[name.lower()]] if name.lower() in _OTHER_WORDS else did_you_mean(name, VERBS)
    return diagnostic(
        codes.UNKNOWN_VERB,
        f"there is no statement `{name}`",
        span,
        help=f"did you mean `{near[0]}`?" if near else f"the verbs are {', '.join(VERBS)}",
    )


def _early(slip: Slip) -> Diagnostic:
    end = len(slip.text[: slip.at].rstrip())
    last = slip.to(max(end - 1, 0), max(end, 1))
    if slip.expected & {"EQUAL", "_ARROW", "ARROW_OPT"}:
        sign = "`=`" if "EQUAL" in slip.expected else "`->`"
        return diagnostic(codes.ENDS_EARLY, f"the statement ends, and needs {sign} here", last, at=f"{sign} is missing")
    return diagnostic(
        codes.ENDS_EARLY, "the statement ends here, and needs more", last, notes=_fitting(slip.expected - {"_NL"})
    )


def _blank(slip: Slip) -> Diagnostic:
    return diagnostic(
        codes.UNEXPECTED,
        f"U+{ord(slip.text[slip.at]):04X} looks like a space but is not one",
        slip.to(slip.at, slip.at + 1),
        help="write a plain space or a new line; in a key, quote it",
    )


def _quote(slip: Slip) -> Diagnostic | None:
    first = slip.found[0]
    if first in "“”‘’„«":
        curly = slip.match(_CURLY)
        end = curly.end() if curly is not None else slip.at + 1
        help = f"write `{_in_quotes(curly.group(1))}`" if curly is not None else "write ' or \""
        return diagnostic(codes.UNEXPECTED, f"`{first}` is not a quotation mark here", slip.to(slip.at, end), help=help)
    if first in "'\"" or (first == "/" and "REGEX" in slip.expected):
        closed = slip.match(_QUOTED)
        if closed is None:
            return _unclosed(slip, first)
        return _wrong_quotes(slip.to(slip.at, closed.end()), slip.expected)
    return None


def _unclosed(slip: Slip, quote: str) -> Diagnostic:
    """Return the diagnostic for a quote that is not closed."""
    end = slip.text.find("\n", slip.at)
    place = slip.to(slip.at, end if end >= 0 else len(slip.text))
    what = f"this {_QUOTES[quote]} is not closed on its line"
    return diagnostic(codes.UNCLOSED_TEXT, what, place, help=f"close it with {quote}")


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


def _brace(slip: Slip) -> Diagnostic | None:
    """Recognise braces that are no capture: `a.{ i }`, `a.{}`, `a.{i`."""
    text, at = slip.text, slip.at
    brace = text.find("{", at, at + 2)
    if brace < 0 or text[at:brace] not in ("", ".") or not re.match(r"[\w.}*]", text[at - 1 : at]):
        return None
    end = _BRACES.match(text, brace)
    assert end is not None
    name = end.group("name") or end.group("open")
    help = f"write `{{{name}}}`" if name else "a capture is a name in braces: `{i}`"
    what = f"`{end.group().rstrip()}` is not a capture"
    return diagnostic(codes.BAD_CAPTURE, what, slip.to(brace, end.end()), help=help)


def _optional_mode(slip: Slip) -> Diagnostic | None:
    """Recognise `rename part? …`: what is optional is the `rename`."""
    mode = re.search(r"\brename[ \t]+(part|prefix|suffix|text|first)\Z", slip.text[max(0, slip.at - 80) : slip.at])
    if slip.found[0] != "?" or mode is None:
        return None
    whole = slip.to(slip.at - len(mode.group()), slip.at + 1)
    return diagnostic(codes.UNEXPECTED, "`?` goes after the verb", whole, help=f"write `rename? {mode.group(1)}`")


def _odd(slip: Slip) -> Diagnostic | None:
    """Recognise a bare key with a character that needs quotes: `my-layer.weight`."""
    found, before = slip.found, slip.text[slip.at - 1 : slip.at]
    joined = bool(before) and (before.isalnum() or before in "_.}*") and found[0] not in "=,|()[]{}<>!;?"
    in_key = not slip.expected & {"_COLON", "COLON", "SIGN", "TIMES", "POWER"}
    apart = found[0] == ":" and slip.text[slip.at + 1 : slip.at + 2] in ("", " ", "=")
    if not joined or apart or found.startswith("->") or not (in_key or found[0] == "."):
        return None
    end = slip.match(_KEYISH)
    assert end is not None
    key = slip.to(slip.start_of(_KEYISH), end.end())
    if found[0] == ".":
        return _after_dot(slip, key)
    return diagnostic(
        codes.ODD_CHARACTER,
        f"`{found[0]}` cannot be part of a bare key",
        slip.span.at(0, 1),
        help=f"quote it: {_in_quotes(key.text)}",
    )


def _in_quotes(key: str) -> str:
    return f'"{key}"' if re.search(r"[{*]", key) else f"'{key}'"


def _after_dot(slip: Slip, key: Span) -> Diagnostic:
    """Say what is wrong after a dot that does not go on with a segment: an end, or a character no segment has."""
    after = slip.text[slip.at + 1 : slip.at + 2]
    if after.isalnum() or after == "_":
        return diagnostic(codes.ODD_CHARACTER, "`.` cannot be part of a name", slip.span.at(0, 1))
    if not after.strip() or after in ",=":
        what, place = "a bare key cannot end in `.`", slip.span.at(0, 1)
    else:
        what, place = f"`{after}` cannot be part of a bare key", slip.to(slip.at + 1, slip.at + 2)
        if after == ".":
            what = "a bare key has no empty segments"
    if after == "[":
        return diagnostic(codes.ODD_CHARACTER, what, place, help="one of several texts is written `{p:q|k|v}`")
    return diagnostic(codes.ODD_CHARACTER, what, place, help=f"quote it: {_in_quotes(key.text)}")


def _compared(slip: Slip) -> Diagnostic | None:
    if slip.found == "==" and "EQUAL" in slip.expected:
        return diagnostic(codes.TEXT_COMPARED, "`==` compares; `=` gives a value", slip.span, help="write `=`")
    if slip.found == "=" and "CMP" in slip.expected:
        return diagnostic(codes.TEXT_COMPARED, "`=` gives a value; `==` compares", slip.span, help="write `==`")
    return None


def _foreign_operator(slip: Slip) -> Diagnostic | None:
    words = {"&&": "and", "||": "or", "!": "not", "&": "and"}
    if slip.found[0] == "|" and slip.text[slip.at - 1 : slip.at] == "|":
        both = slip.to(slip.at - 1, slip.at + 1)
        return diagnostic(codes.UNEXPECTED, "`||` is not an operator here", both, help="write `or`")
    if slip.found == "?" and "CMP" in slip.expected:
        what = "`?` is not an operator here"
        return diagnostic(codes.UNEXPECTED, what, slip.span, help="`x if CONDITION else y` chooses")
    if slip.found in words:
        what = f"`{slip.found}` is not an operator here"
        return diagnostic(codes.UNEXPECTED, what, slip.span, help=f"write `{words[slip.found]}`")
    return None


def _arrow(slip: Slip) -> Diagnostic | None:
    found, expected = slip.found, slip.expected
    if expected & {"_ARROW", "ARROW_OPT"} and not expected & {"RPAR", "RSQB"}:
        swapped = found in ("=", "to", "as", ":", "-", ",")
        help = f"write `->` instead of `{found}`" if swapped else "write `->` before the new key"
        return diagnostic(codes.MISSING_ARROW, f"`->` is missing before `{found}`", slip.span, help=help)
    if "EQUAL" in expected and "CMP" not in expected and found not in ("->",):
        help = f"write `=` instead of `{found}`" if found in ("to", ":", "as") else "write `= EXPRESSION`"
        return diagnostic(codes.MISSING_ARROW, f"`=` is missing before `{found}`", slip.span, help=help)
    if "EQUAL" in expected and found == "->":
        what = "`=` is missing: `->` makes keys, `=` gives values"
        return diagnostic(codes.MISSING_ARROW, what, slip.span, help="write `= EXPRESSION`")
    return None


def _fitting(expected: frozenset[str]) -> list[str]:
    names = list(dict.fromkeys(_NAMES[name] for name in sorted(expected) if name in _NAMES))
    return [f"expected {join_words(names, limit=7, last='or')}"] if names else []


def _hint(slip: Slip) -> list[str]:
    if "RBRACE" in slip.expected and "RENAME" not in slip.expected and _WORD.match(slip.found):
        return ["rows of one line are separated by `;`"]
    if (
        "COMMA" in slip.expected
        and _WORD.match(slip.found)
        and "PATTERN" not in slip.expected
        and slip.found not in VERBS
    ):
        return ["several items are separated by `,`"]
    if slip.found in VERBS:
        return ["a new statement starts on a new line, or after `;`"]
    return []
