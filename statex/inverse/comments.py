"""The author's comments, taken along with the statements they stand at."""

from __future__ import annotations

from collections.abc import Sequence

from statex.core.source import Source
from statex.grammar import parse_lossless, tree
from statex.grammar.comments import Comment


class AuthorComments:
    """The comments of the texts that statements are of, each given out once."""

    def __init__(self) -> None:
        self._comments: dict[int, list[Comment]] = {}
        self._sources: list[Source] = []

    def around(self, node: tree.Statement, lines: Sequence[str]) -> list[str]:
        """Return the lines of what undoes a statement with the comments above, beside and in the statement."""
        text = node.span.source.text
        own = [c for c in self._of(node.span.source) if _belongs(text, c, node)]
        self._comments[id(node.span.source)] = [c for c in self._of(node.span.source) if c not in own]
        beside = [c for c in own if not c.own_line and c.start >= node.span.end]
        above = [c.text for c in own if c not in beside]
        if len(beside) == 1 and len(lines) == 1 and "\n" not in lines[0]:
            return [*above, f"{lines[0]}  {beside[0].text}"]
        return [*above, *[c.text for c in beside], *lines]

    def _of(self, source: Source) -> list[Comment]:
        if id(source) not in self._comments:
            self._sources.append(source)
            self._comments[id(source)] = parse_lossless(source).comments
        return self._comments[id(source)]


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
