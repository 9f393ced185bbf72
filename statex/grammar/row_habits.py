"""Rows and lists of patterns as other tools have them, and how they are written here."""

from __future__ import annotations

import re
from collections.abc import Callable

from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import syntax as codes
from statex.grammar.slip import Slip, closing_of

_ARROWS = frozenset(("_ARROW", "ARROW_OPT"))
_ARROW = re.compile(r"[→⟶⇒⟹➔➜➝➞]|[=~−–—]>|-[ \t]+>|-->|>>")
_RENAME = re.compile(r"[ \t]*rename\??[ \t]+(?:(?:part|prefix|suffix|text)[ \t]+)?")
_TO_END = re.compile(r"[^{}\n#;]*[^{}\n#; \t]")
_DICT_ROW = re.compile(r"('[^'\n]*'|\"[^\"\n]*\"|[\w.]+)[ \t]*:[ \t]*('[^'\n]*'|\"[^\"\n]*\"|[\w.]+)")
_SWALLOWED = re.compile(r"(['\"])([^'\"\n]*?)[ \t]+->[^'\"\n]*\1[ \t]*\Z")
_GLUED_BLOCK = re.compile(r"\{[^{}\n]*->[^\n]*\}")


def _arrow_sign(slip: Slip) -> Diagnostic | None:
    """Recognise another arrow: `a → b`, `a => b`."""
    arrow = slip.match(_ARROW)
    if arrow is None or not slip.expected & _ARROWS:
        return None
    what = f"expected `->`, found `{arrow.group()}`"
    return diagnostic(codes.MISSING_ARROW, what, slip.to(*arrow.span()), help="write `->`")


def _swallowed_arrow(slip: Slip) -> Diagnostic | None:
    """Recognise text whose quote was to be closed before the arrow: `'a -> 'b'`."""
    swallowed = _SWALLOWED.search(slip.line_before)
    if swallowed is None or not slip.expected & _ARROWS:
        return None
    line, quote = slip.at - len(slip.line_before), swallowed.group(1)
    place = slip.to(line + swallowed.start(), line + swallowed.end(2))
    what = "this text is not closed before the arrow"
    return diagnostic(codes.UNCLOSED_TEXT, what, place, help=f"write `{quote}{swallowed.group(2)}{quote}`")


def _row_comma(slip: Slip) -> Diagnostic | None:
    """Recognise rows of a table that end with commas."""
    if slip.found != "," or "RBRACE" not in slip.expected or "COMMA" in slip.expected:
        return None
    opened = slip.opening()
    rest = slip.text[slip.at : max(closing_of(slip.text, opened), slip.at)]
    more = len(re.findall(r",[ \t]*(?:#[^\n]*)?(?=\n|$)|,(?=[^,\n]*->)", rest)) - 1
    at_end = re.match(r",[ \t]*(?:#[^\n]*)?\n", rest) is not None
    return diagnostic(
        codes.UNEXPECTED,
        "rows are not separated by commas",
        slip.span,
        at=f"and {counted(more, 'more comma')} like this one" if more > 0 else "",
        help="remove the commas: a row ends with its line" if at_end else "write `;` between rows of one line",
    )


def _dict_rows(slip: Slip) -> Diagnostic | None:
    """Recognise a table written as a dict: `{ 'a': 'b' }`."""
    opened = slip.opening()
    if slip.found != ":" or not slip.expected & _ARROWS or opened < 0 or slip.text[opened] != "{":
        return None
    closed = closing_of(slip.text, opened)
    block = slip.text[opened + 1 : closed] if closed > 0 else ""
    rows = _DICT_ROW.findall(block)
    if "\n" in block.strip() or not rows or _DICT_ROW.sub("", block).strip(", \n"):
        help = "write `->` instead of `:` in every row, and no commas: a row ends with its line"
        return diagnostic(codes.MISSING_ARROW, "rows have `->` between old and new", slip.span, help=help)
    written = "; ".join(f"{old} -> {new}" for old, new in rows)
    place = slip.to(opened, closed + 1)
    return diagnostic(codes.MISSING_ARROW, "rows have `->` between old and new", place, help=f"write `{{ {written} }}`")


def _glued_block(slip: Slip) -> Diagnostic | None:
    """Recognise a table whose brace reads as that of a capture: `rename {a -> b}`."""
    start = slip.at - len(slip.line_before)
    begin = re.compile(r"[^\n]*?\brename\??[ \t]+(?:(?:part|prefix|suffix|text|first)[ \t]+)?(?=\{\S)").match(
        slip.text, start
    )
    block = _GLUED_BLOCK.match(slip.text, begin.end()) if begin is not None else None
    if block is None or not slip.expected & _ARROWS:
        return None
    rows = "; ".join(row.strip() for row in re.split(r"[,;]", block.group()[1:-1]))
    return diagnostic(
        codes.BAD_CAPTURE,
        "a brace before a letter begins a capture, not a block",
        slip.to(*block.span()),
        help=f"write `{{ {rows} }}`",
    )


def _several_rows(slip: Slip) -> Diagnostic | None:
    """Recognise rows that are listed without braces: `rename a -> b, c -> d`."""
    begin = _RENAME.match(slip.line_before) if slip.found == "," else None
    start = slip.at - len(slip.line_before) + (begin.end() if begin is not None else 0)
    listed = _TO_END.match(slip.text, start) if begin is not None else None
    rows = listed.group().split(",") if listed is not None else []
    if listed is None or any(row.count("->") != 1 for row in rows) or listed.end() <= slip.at:
        return None
    written = "; ".join(row.strip() for row in rows)
    place = slip.to(start, listed.end())
    return diagnostic(codes.UNEXPECTED, "several rows go in braces", place, help=f"write `{{ {written} }}`")


def _listed(slip: Slip) -> Diagnostic | None:
    """Recognise patterns listed in brackets: `drop [a.weight, b.weight]`."""
    closed = closing_of(slip.text, slip.at) if slip.found in ("[", "(") else -1
    if "PATTERN" not in slip.expected or "OPT" not in slip.expected or closed < 0:
        return None
    inside = " ".join(slip.text[slip.at + 1 : closed].split()).rstrip(", ")
    # A group of a regular expression: something follows it, or it has in it what no pattern has.
    goes_on = slip.text[closed + 1 : closed + 2].strip(" \t\r\n,;}#-")
    if goes_on or inside.startswith(".") or "\\" in inside:
        return None
    place = slip.to(slip.at, closed + 1)
    return diagnostic(codes.UNEXPECTED, "patterns are listed without brackets", place, help=f"write `{inside}`")


def _or_pattern(slip: Slip) -> Diagnostic | None:
    """Recognise patterns joined as in a regular expression: `drop a.x|b.x`."""
    if slip.found != "|" or "VBAR" in slip.expected or not slip.expected & {"COMMA", *_ARROWS}:
        return None
    listed = "COMMA" in slip.expected
    return diagnostic(
        codes.UNEXPECTED,
        "`|` separates choices of a capture only",
        slip.span,
        help="write `,`" if listed else "one of several texts is written `{p:q|k|v}`",
    )


RULES: tuple[Callable[[Slip], Diagnostic | None], ...] = (
    _swallowed_arrow, _arrow_sign, _glued_block, _row_comma, _dict_rows, _several_rows, _listed, _or_pattern,
)  # fmt: skip
"""Each says what was written by habit, or nothing; the first that does is shown."""
