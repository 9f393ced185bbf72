"""Diagnostics as text for people (full, concise) and as JSON for programs."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from statex.diagnostics.escape import escape
from statex.diagnostics.model import Diagnostic, Label
from statex.source import Source

_COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "bold": "\x1b[1m", "blue": "\x1b[1;34m"}
_TAB = "    "


class _Paint:
    """Colours, or none."""

    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def __call__(self, style: str, text: str) -> str:
        return f"{_COLOURS[style]}{text}\x1b[0m" if self.colour and text else text


def render_full(diagnostic: Diagnostic, *, colour: bool = False, width: int = 100) -> str:
    """Return a diagnostic with its snippets, table, values, notes and help; no line ends with a newline."""
    paint = _Paint(colour)
    severity = diagnostic.severity.value
    head = paint(severity, f"{severity}[{diagnostic.code.id}]") + paint("bold", f": {escape(diagnostic.headline)}")
    gutter = _gutter_width(diagnostic.labels)
    lines = [head]
    lines += ["  " + row for row in _table(diagnostic.rows)]
    lines += _snippets(diagnostic, gutter, paint, severity, width)
    if not diagnostic.labels and diagnostic.cases:
        lines.append(f"{' ' * gutter} {paint('blue', '=')} for {_cases(diagnostic.cases)}")
    for note in diagnostic.notes:
        text = escape(note.text.replace("\n", "\0")).replace("\\x00", "\n" + " " * (gutter + 4 + len(note.kind) + 1))
        lines.append(f"{' ' * gutter} {paint('blue', '=')} {paint('bold', note.kind + ':')} {text}")
    return "\n".join(lines)


def render_concise(diagnostic: Diagnostic) -> str:
    """Return a diagnostic as one line: `file:line:column: error[SX301]: headline`."""
    span = diagnostic.span
    place = f"{escape(span.source.name)}:{span.line}:{span.column}: " if span is not None else ""
    return f"{place}{diagnostic.severity.value}[{diagnostic.code.id}]: {escape(diagnostic.headline)}"


def to_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """Return a diagnostic as plain data; lines and columns count from 1, ends are exclusive."""
    return {
        "code": diagnostic.code.id,
        "title": diagnostic.code.title,
        "severity": diagnostic.severity.value,
        "headline": diagnostic.headline,
        "labels": [_label_json(label) for label in diagnostic.labels],
        "values": [n.text for n in diagnostic.notes if n.kind == "value"],
        "notes": [n.text for n in diagnostic.notes if n.kind == "note"],
        "help": [n.text for n in diagnostic.notes if n.kind == "help"],
        "cases": list(diagnostic.cases),
        "rows": [list(row) for row in diagnostic.rows],
    }


def render_json(diagnostics: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """Return several diagnostics as plain data."""
    return [to_json(one) for one in diagnostics]


def _label_json(label: Label) -> dict[str, Any]:
    span = label.span
    end_line, end_column = span.source.position(span.end)
    return {
        "file": span.source.name,
        "line": span.line,
        "column": span.column,
        "end_line": end_line,
        "end_column": end_column,
        "text": label.text,
    }


def _cases(cases: Sequence[str]) -> str:
    unique = list(dict.fromkeys(cases))
    shown = ", ".join(escape(case) for case in unique[:3])
    return shown + (f" (and {len(unique) - 3} more)" if len(unique) > 3 else "")


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    cells = [[escape(cell) for cell in row] for row in rows]
    columns = max(len(row) for row in cells)
    # A last cell of a short row (`and 29 more`) does not widen its column.
    widths = [max((_width(r[i]) for r in cells if len(r) > i + 1), default=0) for i in range(columns)]
    return [
        "  ".join(cell + " " * max(0, size - _width(cell)) for cell, size in zip(row, widths, strict=False)).rstrip()
        for row in cells
    ]


def _gutter_width(labels: Sequence[Label]) -> int:
    return max((len(str(label.span.line)) for label in labels), default=2)


def _snippets(diagnostic: Diagnostic, gutter: int, paint: _Paint, severity: str, width: int) -> list[str]:
    lines: list[str] = []
    if not diagnostic.labels:
        return lines
    primary = diagnostic.labels[0]
    said = [primary.text, f"for {_cases(diagnostic.cases)}" if diagnostic.cases else ""]
    labels = [Label(primary.span, "; ".join(s for s in said if s)), *diagnostic.labels[1:]]
    bar = paint("blue", "|")
    for source, group in groupby(labels, key=lambda label: label.span.source):
        members = list(group)
        span = members[0].span
        lines.append(f"{' ' * gutter}{paint('blue', '-->')} {escape(source.name)}:{span.line}:{span.column}")
        lines.append(f"{' ' * gutter} {bar}")
        shown: int | None = None
        for label in sorted(members, key=lambda one: one.span.start):
            line = label.span.line
            if line != shown:
                if shown is not None and line > shown + 1:
                    lines.append(f"{' ' * gutter} {paint('blue', '…')}")
                text, start = _line_window(source, label, width)
                lines.append(f"{paint('blue', str(line).rjust(gutter))} {bar} {text}")
                shown, window = line, start
            style, mark = (severity, "^") if label is labels[0] else ("blue", "-")
            offset, length = _marked(source, label, window)
            said_here = f" {escape(label.text)}" if label.text else ""
            lines.append(f"{' ' * gutter} {bar} {' ' * offset}{paint(style, mark * length + said_here)}")
    return lines


def _line_window(source: Source, label: Label, width: int) -> tuple[str, int]:
    """Return what is shown of a line, and the first character shown: a long line is cut around the label."""
    text = source.line_text(label.span.line)
    start = 0
    if len(text) > width:
        start = max(0, min(label.span.column - 1 - width // 3, len(text) - width))
        text = text[start : start + width]
    return _plain(text), start


def _marked(source: Source, label: Label, window: int) -> tuple[int, int]:
    line = source.line_text(label.span.line)
    begin = label.span.column - 1
    end = min(begin + max(1, label.span.end - label.span.start), max(len(line), begin + 1))
    offset = _width(_plain(line[window:begin]))
    return offset, max(1, min(_width(_plain(line[begin:end])), 100))


def _plain(text: str) -> str:
    return escape(text.replace("\t", _TAB))


def _width(text: str) -> int:
    """Return the number of columns a text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


