"""Trees to text: any node as in a rule file, and whole programs in the form of `statex fmt`.

What an author wrote in more than one way, such as quotes, numbers and parentheses (`Group`), stays as it was where a
tree has it; a tree that was made has no text, and needs none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from statex.grammar import tree
from statex.grammar.comments import Comment, Comments, is_after_blank
from statex.grammar.printing.expressions import Expressions
from statex.grammar.printing.layout import Doc, Printed, clauses, concat, flat, lay_out
from statex.grammar.printing.statements import Flat, Statements, block_head, rename_head

WIDTH = 100
"""Columns of a line, if it can be broken."""
INDENT = 2
"""Columns by which rows and the statements of a block are indented."""
GAP = 2
"""Columns between what stands on a line and its comment, at least."""


def show(node: Any, *, width: int = WIDTH) -> str:
    """Write a node: a statement, a row, a pattern or an expression, or a whole program, which ends with a newline."""
    if isinstance(node, tree.Program):
        return show_program(node, width=width)
    return "\n".join(line.text for line in Printer(width=width).lines(node))


def show_flat(node: Any) -> str:
    """Write a node on one line; blocks and tables have `;` between what is in them."""
    return Flat(Expressions(Comments())).text(node)


def row_ends(lines: Sequence[str]) -> list[int]:
    """Return the numbers of the lines of a printed table at which its rows end; what goes on is indented more."""
    if len(lines) == 1:
        return [0]
    starts = [at for at, line in enumerate(lines) if line.startswith("  ") and line[2] != " "]
    return [*(at - 1 for at in starts[1:]), len(lines) - 2]


def show_program(program: tree.Program, comments: Sequence[Comment] = (), *, width: int = WIDTH) -> str:
    """Write a program, with the comments of its text."""
    printer = Printer(Comments(comments), width)
    lines: list[Printed] = []
    printer.body(lines, program.statements, 0, len(program.source.text) + 1)
    return "".join(f"{line}\n" for line in _with_comments(lines))


_BLOCKS = (tree.If, tree.Within, tree.Macro)
_NOTHING = r"(?:[\s;]|#[^\n]*)*"
_CLOSING = re.compile(rf"{_NOTHING}(?:\{{{_NOTHING})?\}}")
_EMPTY_LINE = re.compile(r"\n[ \t\f\r]*\n")
_BRACE = re.compile(r"(?:[\s;(),]|#[^\n]*)*\{")
_ELSE = re.compile(rf"{_NOTHING}else{_NOTHING}\{{")


def _closing(text: str, at: int) -> int:
    """Return the end of the brace that closes what ends before it, of braces that are empty too."""
    found = _CLOSING.match(text, at)
    return found.end() if found is not None else at


def _after_else(text: str, at: int) -> int:
    """Return the place of the brace after the next `else`."""
    found = _ELSE.match(text, at)
    return found.end() - 1 if found is not None else at


def _opening(node: tree.Within | tree.Macro) -> int:
    """Return the place of the brace of a block."""
    ends = [node.pattern.span] if isinstance(node, tree.Within) else [one.span for one in (node.name, *node.parameters)]
    text, at = node.span.source.text, ends[-1].end
    found = _BRACE.match(text, at)
    return found.end() - 1 if found is not None else at


def _sections(rows: Sequence[tree.Row]) -> list[list[tree.Row]]:
    """Return the rows of a table in parts, which empty lines divide."""
    parts: list[list[tree.Row]] = []
    for row in rows:
        last = parts[-1][-1].span if parts else None
        between = row.span.source.text[last.end : row.span.start] if last is not None else ""
        if last is None or _EMPTY_LINE.search(between):
            parts.append([])
        parts[-1].append(row)
    return parts


def _add_blank(lines: list[Printed]) -> None:
    if lines[-1] != Printed(""):
        lines.append(Printed(""))


def _with_end(lines: Sequence[Printed], end: str) -> list[Printed]:
    return [*lines[:-1], Printed(lines[-1].text + end, lines[-1].comment)]


def _with_comments(lines: Sequence[Printed]) -> list[str]:
    """Return lines with the comments at their ends, which stand under one another in lines that follow one another."""
    shown: list[str] = []
    run: list[Printed] = []
    for line in [*lines, Printed("")]:
        # An empty line, a comment alone and another indentation each end a run.
        alone = not line.text or line.text.lstrip().startswith("#")
        deeper = bool(run) and bool(run[0].text) and _indentation(run[0]) != _indentation(line)
        if (alone or deeper) and not line.continues:
            shown += _aligned(run)
            run = []
        run.append(line)
    shown += _aligned(run)
    return shown[:-1]


def _indentation(line: Printed) -> int:
    return len(line.text) - len(line.text.lstrip())


def _aligned(run: Sequence[Printed]) -> list[str]:
    column = max((len(line.text) for line in run if line.comment is not None), default=0) + GAP
    return [line.text if line.comment is None else f"{line.text:{column}}{line.comment}" for line in run]


class Printer:
    """Prints the statements of one text; its comments are given out as the places they stand at are reached."""

    def __init__(self, comments: Comments | None = None, width: int = WIDTH) -> None:
        self._comments = comments if comments is not None else Comments()
        self._width = width
        self._expressions = Expressions(self._comments)
        self._statements = Statements(self._expressions)
        self._columns: dict[int, int] = {}
        self._misplaced: list[Comment] = []

    # --- lines -------------------------------------------------------------------------------------------------

    def lines(self, node: Any, margin: int = 0) -> list[Printed]:
        """Return the lines of a node."""
        match node:
            case tree.If():
                return self._if(node, margin)
            case tree.Within() | tree.Macro():
                lines = [Printed(f"{' ' * margin}{block_head(node, self._expressions)} {{")]
                self._hoist(_opening(node))
                return self._braced(lines, node.body, margin, node.span.end)
            case tree.Rename(is_table=True):
                return self._table(node, margin)
            case tree.Row() if id(node) in self._columns:
                return self._aligned_row(node, margin)
        return self._laid(self._statements.doc(node), margin)

    def _laid(self, doc: Doc, margin: int) -> list[Printed]:
        return lay_out(doc, self._width, margin)

    # --- blocks ------------------------------------------------------------------------------------------------

    def body(self, lines: list[Printed], items: Sequence[Any], margin: int, end: int) -> None:
        """Add the lines of statements, or of rows, with the comments among them and before an offset."""
        header = len(lines)
        for item in items:
            self._between(lines, item.span.start, margin, header)
            if len(lines) > header and is_after_blank(item.span.source.text, item.span.start):
                _add_blank(lines)
            outer, self._misplaced = self._misplaced, []
            own = self.lines(item, margin)
            self._hoist(item.span.end)
            lines += [Printed(" " * margin + comment.text) for comment in self._misplaced]
            lines += own
            self._misplaced = outer
        self._between(lines, end, margin, header)

    def _hoist(self, offset: int) -> None:
        """Let comments before an offset stand above the statement, where no line can end at their places."""
        self._misplaced += self._comments.before(offset)

    def _between(self, lines: list[Printed], offset: int, margin: int, header: int) -> None:
        """Add the comments before an offset: to the line before, or below it."""
        column = -1
        for comment in self._comments.before(offset):
            if not comment.own_line and lines and lines[-1].comment is None:
                lines[-1] = Printed(lines[-1].text, comment.text)
                column = comment.column
            elif comment.own_line and comment.column == column and not comment.blank:
                lines.append(Printed("", comment.text, True))
            else:
                if comment.blank and len(lines) > header:
                    _add_blank(lines)
                lines.append(Printed(" " * margin + comment.text))

    def _braced(self, lines: list[Printed], items: Sequence[Any], margin: int, end: int) -> list[Printed]:
        """Return a head that ends in `{` with what is in the braces, and the one that closes them."""
        if not self._comments.are_before(end):
            if not items:
                return _with_end(lines, " }")
            short = self._beside(lines, items)
            if short is not None:
                return [*lines[:-1], short]
        self.body(lines, items, margin + INDENT, end)
        return [*lines, Printed(" " * margin + "}")]

    def _beside(self, lines: Sequence[Printed], items: Sequence[Any]) -> Printed | None:
        """Return the last line of a head with a single statement or row in braces, if it stands so and fits."""
        (item, *more) = items
        before = item.span.source.text[: item.span.start].rstrip(" \t")
        beside = before.endswith("{") or (not before and isinstance(item, tree.Row))
        if more or not beside or isinstance(item, _BLOCKS) or getattr(item, "is_table", False):
            return None
        text = f"{lines[-1].text} {show_flat(item)} }}"
        return Printed(text) if len(text) <= self._width else None

    def _if(self, node: tree.If, margin: int) -> list[Printed]:
        lines = self._laid(concat("if ", self._expressions.shown(node.condition).doc, " {"), margin)
        self._hoist(node.condition.span.end)
        text = node.span.source.text
        closed = _closing(text, max([node.condition.span.end, *(one.span.end for one in node.then)]))
        if not node.otherwise and not self._comments.are_before(node.span.end, start=closed):
            return self._braced(lines, node.then, margin, node.span.end)
        self.body(lines, node.then, margin + INDENT, closed)
        lines.append(Printed(" " * margin + "}"))
        # An `else` in which nothing but a comment stands has no statement.
        first = node.otherwise[0] if node.otherwise else None
        chained = len(node.otherwise) == 1 and isinstance(first, tree.If)
        mark = len(lines)
        following = first.span.start if first is not None and chained else _after_else(text, closed)
        self._between(lines, following, margin, mark)
        commented = len(lines) > mark or lines[-1].comment is not None
        start = f"{' ' * margin if commented else f'{lines.pop().text} '}else "
        if isinstance(first, tree.If) and chained:
            (line, *further) = self._if(first, margin)
            return [*lines, Printed(start + line.text.lstrip(), line.comment), *further]
        lines.append(Printed(start + "{"))
        self.body(lines, node.otherwise, margin + INDENT, node.span.end)
        return [*lines, Printed(" " * margin + "}")]

    # --- tables ------------------------------------------------------------------------------------------------

    def _table(self, node: tree.Rename, margin: int) -> list[Printed]:
        for section in _sections(node.rows):
            self._align(section, margin + INDENT)
        lines = [Printed(f"{' ' * margin}{rename_head(node)} {{")]
        end = _closing(node.span.source.text, node.rows[-1].span.end)
        lines = self._braced(lines, node.rows, margin, end)
        rest = self._statements.where(node)
        if rest is not None:
            (line, *more) = self._laid(clauses(lines[-1].text.lstrip(), (rest,)), margin)
            lines[-1:] = [line, *more]
        return lines

    def _align(self, rows: Sequence[tree.Row], margin: int) -> None:
        """Note the column of the arrows of rows; one that would be too long by that stands apart."""
        pattern = self._expressions.pattern
        sizes = sorted((len(pattern(row.source)), len(pattern(row.target)) + 4 + row.optional, id(row)) for row in rows)
        while sizes and margin + sizes[-1][0] + max(right for _, right, _ in sizes) > self._width:
            sizes.pop()
        self._columns |= {key: sizes[-1][0] for _, _, key in sizes}
        self._columns |= {id(row): 0 for row in rows if id(row) not in self._columns}

    def _aligned_row(self, node: tree.Row, margin: int) -> list[Printed]:
        found = self._statements.doc(node)
        text = flat(found)
        source = self._expressions.pattern(node.source)
        if text is None or margin + len(text) > self._width:
            return self._laid(found, margin)
        return [Printed(" " * margin + source.ljust(self._columns[id(node)]) + text.removeprefix(source))]
