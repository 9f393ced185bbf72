"""Regular expressions written bare, and references to groups in the style of other tools: `\\1`, `$1`."""

from __future__ import annotations

import re

from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import syntax as codes
from statex.grammar.slip import Slip

_RUN = re.compile(r"[^\s;#]*")
_MEANT = re.compile(r"\\[dwsDWSb.]|\[[^]\s]*\]|\([^)\s]*\)|\.[*+]|[+$]$|^\^")
"""What no key has in it and regular expressions do."""
_LONGEST = 300
"""Characters; nobody writes a longer one, and looking through it could take long."""
_GROUP = re.compile(r"\\(\d)|\$(\d)|\$\{(\d)\}|\\g<(\w+)>")
_TARGET = re.compile(r"([ \t]*->\??[ \t]*)([^\s;#]+)")
_PLACES = frozenset(("PATTERN", "REGEX", "_ARROW", "ARROW_OPT", "COMMA", "WHERE", "LBRACE", "EQUAL", "_NL", "$END"))


def as_regex(slip: Slip) -> Diagnostic | None:
    """Recognise a bare regular expression where a pattern stands, and a group of one in a template."""
    elsewhere = slip.expected & {"SIGN", "NUMBER", "RENAME"} or not slip.expected & _PLACES
    if elsewhere or not slip.found or slip.found[0] in "'\"/{":
        return None
    end = slip.match(_RUN)
    assert end is not None
    start = slip.start_of(_RUN)
    run = slip.text[start : end.end()]
    if re.search(r"->\??[ \t]*\Z", slip.text[max(0, start - 20) : start]) is not None:
        return _group(slip, start, run)
    return _pattern(slip, start, run.removesuffix(","))


def _group(slip: Slip, start: int, run: str) -> Diagnostic | None:
    if _GROUP.search(run) is None:
        return None
    return diagnostic(
        codes.ODD_CHARACTER,
        "a group of a regular expression is written in braces",
        slip.to(start, start + len(run)),
        help=f"write `{with_groups(run)}`",
    )


def with_groups(text: str) -> str:
    """Return a replacement of a regular expression with its groups as a template has them: `{1}` for `\\\\1`."""
    return _GROUP.sub(lambda found: f"{{{next(name for name in found.groups() if name is not None)}}}", text)


def _pattern(slip: Slip, start: int, run: str) -> Diagnostic | None:
    if len(run) > _LONGEST or _MEANT.search(run) is None or not _compiles(run):
        return None
    mode = re.search(r"\b(text|prefix|suffix|part|matches)[ \t]+(?:\{[ \t]*)?\Z", slip.text[max(0, start - 40) : start])
    if mode is not None and mode.group(1) in ("prefix", "suffix", "part"):
        return None
    written = f"/{(run if mode is not None else _of_whole_keys(run)).replace('/', chr(92) + '/')}/"
    end = start + len(run)
    target = _TARGET.match(slip.text, end)
    if target is not None and _GROUP.search(target.group(2)) is not None:
        written, end = f"{written}{target.group(1)}{with_groups(target.group(2))}", target.end()
    return diagnostic(
        codes.ODD_CHARACTER,
        "a regular expression goes between slashes",
        slip.to(start, end),
        help=f"write `{written}`",
    )


def _of_whole_keys(expression: str) -> str:
    """Return an expression for whole keys that finds what this one finds where one searches with it."""
    if "^" not in expression[:1] and "$" not in expression[-1:]:
        return expression
    before = "" if expression[0] == "^" else ".*"
    after = "" if expression[-1] == "$" and expression[-2:] != "\\$" else ".*"
    return f"{before}{expression.removeprefix('^').removesuffix('$' if not after else '')}{after}"


def _compiles(expression: str) -> bool:
    try:
        re.compile(expression)
    except re.error:
        return False
    return True
