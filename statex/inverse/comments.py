"""The author's comments, taken along with the statements they stand at."""

from __future__ import annotations

import re
from collections.abc import Sequence

from statex.core.source import Source
from statex.grammar import parse_lossless, tree
from statex.grammar.comments import Comment
from statex.grammar.printer import row_ends, show


class AuthorComments:
    """The comments of the texts that statements are of, each given out once."""

    def __init__(self) -> None:
        self._comments: dict[int, list[Comment]] = {}
        self._sources: list[Source] = []

    def around(self, node: tree.Statement, made: Sequence[tree.Statement], *, is_turned: bool) -> list[str]:
        """Return the lines of what undoes a statement with the comments above, beside and in the statement.

        What stands beside a row stays with it. How many keys a row or a statement took, as `statex infer` notes it, is
        said of nothing else, and not of what was made in place of a statement that could not be turned round.
        """
        text = node.span.source.text
        own = [c for c in self._of(node.span.source) if _belongs(text, c, node)]
        self._comments[id(node.span.source)] = [c for c in self._of(node.span.source) if c not in own]
        own = [c for c in own if is_turned or not _is_count(c)]
        rows = _of_rows(node, own)
        lines = [show(one) for one in made]
        if len(made) == 1 and isinstance(made[0], tree.Rename) and len(made[0].rows) == len(rows):
            lines = _beside_rows(lines[0].split("\n"), rows)
            own = [c for c in own if not any(c in some for some in rows)]
        beside = [c for c in own if not c.own_line and c.start >= node.span.end]
        if len(beside) == 1 and len(lines) == 1 and "\n" not in lines[0]:
            lines, beside = [f"{lines[0]}  {beside[0].text}"], []
            own = [c for c in own if c.own_line or c.start < node.span.end]
        above = [c for c in sorted(own, key=lambda c: c in beside) if c.own_line or not _is_count(c)]
        return [*[c.text for c in above], *lines]

    def _of(self, source: Source) -> list[Comment]:
        if id(source) not in self._comments:
            self._sources.append(source)
            self._comments[id(source)] = parse_lossless(source).comments
        return self._comments[id(source)]


_COUNT = re.compile(r"#\s*[0-9]+ keys?")


def _is_count(comment: Comment) -> bool:
    """Say whether a comment says how many keys something took."""
    return _COUNT.fullmatch(comment.text) is not None


def _of_rows(node: tree.Statement, comments: Sequence[Comment]) -> list[list[Comment]]:
    """Return the comments that stand beside each row of a table."""
    if not isinstance(node, tree.Rename) or not node.is_table:
        return []
    found: list[list[Comment]] = [[] for _ in node.rows]
    for comment in comments:
        before = [number for number, row in enumerate(node.rows) if row.span.end <= comment.start < node.span.end]
        if before and not comment.own_line:
            found[before[-1]].append(comment)
    return found


def _beside_rows(lines: list[str], rows: Sequence[Sequence[Comment]]) -> list[str]:
    for at, comments in zip(row_ends(lines), rows, strict=True):
        lines[at] += "".join(f"  {one.text}" for one in comments)
    return lines


def _belongs(text: str, comment: Comment, node: tree.Statement) -> bool:
    """Say whether a comment is about a statement: it stands in it, at its end, or right above it."""
    at = comment.start
    if node.span.start <= at < node.span.end:
        return True
    if at >= node.span.end:
        return "\n" not in text[node.span.end : at]
    between = text[comment.end : node.span.start].split("\n")
    return (
        comment.own_line
        and all(not line.strip() or line.lstrip().startswith("#") for line in between[:-1])
        and all(line.strip() for line in between[1:-1])
    )
