"""The keys that the steps of a chain make, as far as their rules show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from statex.dsl.resolve import Resolved
from statex.grammar import tree

_AROUND = {
    tree.RenameMode.KEY: "{}",
    tree.RenameMode.PART: r"(?:.*\.)?{}(?:\..*)?",
    tree.RenameMode.PREFIX: "{}.*",
    tree.RenameMode.SUFFIX: ".*{}",
    tree.RenameMode.TEXT: ".*{}.*",
}
"""What of a key the right side of a rename is."""


def made_keys(resolved: Resolved) -> Iterator[re.Pattern[str]]:
    """Yield a pattern for the keys that each template of a program makes, of included files too.

    A template without text of its own (`{m}.weight` has some, `{rest}` has none) says nothing and is left out.
    """
    for part in resolved.parts:
        for text in _of_statements(part.program.statements, part.folder, resolved):
            yield re.compile(text, re.DOTALL)


def _of_statements(statements: Iterable[tree.Statement], folder: str, resolved: Resolved) -> Iterator[str]:
    for node in statements:
        match node:
            case tree.Rename():
                yield from (_AROUND[node.mode].format(text) for row in node.rows for text in _of_template(row.target))
            case tree.Add() | tree.Copy() | tree.Merge():
                yield from _of_template(node.target)
            case tree.Split():
                yield from (text for target in node.targets for text in _of_template(target))
            case tree.Include():
                program = resolved.programs[folder, node.path.value]
                yield from _of_statements(program.statements, program.source.name.rpartition("/")[0] or ".", resolved)
            case tree.If():
                yield from _of_statements((*node.then, *node.otherwise), folder, resolved)
            case tree.Within():
                below = rf"{_text(node.pattern)}\."
                yield from (below + text for text in _of_statements(node.body, folder, resolved))


def _of_template(node: tree.PatternNode) -> Iterator[str]:
    if any(isinstance(piece, tree.Text) and re.search(r"\w", piece.text) for piece in node.pieces):
        yield _text(node)


def _text(node: tree.PatternNode) -> str:
    return "".join(re.escape(piece.text) if isinstance(piece, tree.Text) else ".+" for piece in node.pieces)
