"""Diagnostics as text for people (full, concise) and as JSON for programs.

Everything that comes from a file passes through `escape`: no rendering holds a control character other than the line
ends between its lines and, where colour is asked for, the colours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from statex.core.source import Source
from statex.diagnostics.escape import escape
from statex.diagnostics.model import Diagnostic, Label
from statex.diagnostics.snippet import Snippet, display_width

_COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "bold": "\x1b[1m", "blue": "\x1b[1;34m"}
_RESET = "\x1b[0m"
_EXAMPLES = 3
_LEAST_ROOM = 20
"""Columns of a line that are shown however narrow the terminal is."""


def render_full(diagnostic: Diagnostic, *, colour: bool = False, width: int = 100) -> str:
    """Return a diagnostic with its table, snippets, values, notes and help, without a newline at the end.

    `width` is the number of columns of a snippet's line with its gutter; longer lines are cut around the caret.
    `colour` adds ANSI colours.
    """
    return "\n".join(_Page(diagnostic, colour, width).lines())


def render_concise(diagnostic: Diagnostic) -> str:
    """Return a diagnostic as one line: `file:line:column: error[SX301]: headline`."""
    span = diagnostic.span.shown if diagnostic.span is not None else None
    place = f"{escape(span.source.name)}:{span.line}:{span.column}: " if span is not None else ""
    return f"{place}{diagnostic.severity.value}[{diagnostic.code.id}]: {escape(diagnostic.headline)}"


def to_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """Return a diagnostic as plain data, its texts as they are; lines and columns count from 1, ends are exclusive."""
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


def json_text(value: Any) -> str:
    """Return plain data as JSON in plain ASCII; numbers that JSON does not have are the texts `nan`, `inf` and `-inf`.

    What is no plain data is written as its text.
    """
    # JSON leaves DEL as it is; a terminal does not.
    return json.dumps(_finite(value), indent=2, default=str, allow_nan=False).replace("\x7f", "\\u007f")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _label_json(label: Label) -> dict[str, Any]:
    span = label.span.shown
    line, column = span.source.position(span.start)
    end_line, end_column = span.source.position(span.end)
    return {
        "file": span.source.name,
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
        "text": label.text,
    }


class _Page:
    """A diagnostic laid out in full."""

    def __init__(self, diagnostic: Diagnostic, colour: bool, width: int) -> None:
        self._diagnostic = diagnostic
        self._colour = colour
        self._severity = diagnostic.severity.value
        numbers = [len(str(label.span.line)) for label in diagnostic.labels]
        self._gutter = max(2, *numbers) if numbers else 1
        self._room = max(_LEAST_ROOM, width - self._gutter - len(" | "))

    def lines(self) -> Iterator[str]:
        found = self._diagnostic
        yield self._paint(self._severity, f"{self._severity}[{found.code.id}]") + self._paint(
            "bold", f": {escape(found.headline)}"
        )
        yield from ("  " + row for row in _table(found.rows))
        for source, labels in _by_source(self._labels()):
            yield from self._block(source, labels)
        if found.cases and not found.labels:
            yield from self._note("note", f"for {_cases(found.cases)}")
        for note in found.notes:
            yield from self._note(note.kind, note.text)

    def _labels(self) -> list[tuple[Label, str]]:
        """Return every label, where it is shown, with its mark; the first one says which cases it holds for."""
        labels = [replace(label, span=label.span.shown) for label in self._diagnostic.labels]
        if not labels:
            return []
        cases = f"for {_cases(self._diagnostic.cases)}" if self._diagnostic.cases else ""
        said = "; ".join(text for text in (labels[0].text, cases) if text)
        return [(replace(labels[0], text=said), "^"), *((label, "-") for label in labels[1:])]

    def _block(self, source: Source, labels: Sequence[tuple[Label, str]]) -> Iterator[str]:
        first = labels[0][0].span
        place = f"{escape(source.name)}:{first.line}:{first.column}"
        yield " " * (self._gutter - 1) + self._paint("blue", "-->") + f" {place}"
        yield self._barred("")
        shown: Snippet | None = None
        last = first.line
        for label, mark in sorted(labels, key=lambda pair: pair[0].span.start):
            line = label.span.line
            if shown is None or line != last or not shown.shows(label.span):
                if shown is not None and line > last + 1:
                    yield self._paint("blue", "…".rjust(self._gutter))
                shown = Snippet.around(label.span, self._room)
                yield self._barred(shown.shown, str(line))
            last = line
            column, marks = shown.underline(label.span, mark)
            yield from self._marked(column, marks, escape(label.text), self._severity if mark == "^" else "blue")

    def _marked(self, column: int, marks: str, said: str, style: str) -> Iterator[str]:
        """Yield the line with the marks and what is said there; where that has no room, it stands below them."""
        width = display_width(said)
        if not said or column + len(marks) + 1 + width <= self._room:
            yield self._barred(" " * column + self._paint(style, f"{marks} {said}" if said else marks))
            return
        yield self._barred(" " * column + self._paint(style, marks))
        yield self._barred(" " * max(0, min(column, self._room - width)) + self._paint(style, said))

    def _barred(self, text: str, number: str = "") -> str:
        bar = self._paint("blue", f"{number.rjust(self._gutter)} |")
        return f"{bar} {text}" if text else bar

    def _note(self, kind: str, text: str) -> Iterator[str]:
        margin = " " * (self._gutter + 1)
        first, *further = text.split("\n")
        yield f"{margin}{self._paint('blue', '=')} {self._paint('bold', f'{kind}:')} {escape(first)}".rstrip()
        under = " " * (len(margin) + len(f"= {kind}: "))
        yield from ((under + escape(line)).rstrip() for line in further)

    def _paint(self, style: str, text: str) -> str:
        return f"{_COLOURS[style]}{text}{_RESET}" if self._colour and text else text


def _by_source(labels: Sequence[tuple[Label, str]]) -> list[tuple[Source, list[tuple[Label, str]]]]:
    """Group labels by file, that of the first label first."""
    groups: dict[Source, list[tuple[Label, str]]] = {}
    for label, mark in labels:
        groups.setdefault(label.span.source, []).append((label, mark))
    return list(groups.items())


def _cases(cases: Sequence[str]) -> str:
    unique = list(dict.fromkeys(cases))
    # A case may name several captures, with commas between.
    shown = ("; " if any(", " in case for case in unique) else ", ").join(unique[:_EXAMPLES])
    return shown + (f" (and {len(unique) - _EXAMPLES} more)" if len(unique) > _EXAMPLES else "")


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    cells = [[escape(cell) for cell in row] for row in rows]
    columns = max(map(len, cells), default=0)
    # A cell with nothing after it (`and 29 more`, a remark) does not widen its column.
    widths = [max((display_width(row[i]) for row in cells if any(row[i + 1 :])), default=0) for i in range(columns)]
    return ["".join(map(_padded, row, widths, range(columns))).rstrip() for row in cells]


def _padded(cell: str, width: int, column: int) -> str:
    gap = 3 if column else 2
    return cell + " " * (max(0, width - display_width(cell)) + gap)
