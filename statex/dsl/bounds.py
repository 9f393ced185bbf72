"""Limits of a program: the number of statements, and the nesting of blocks, macros and files.

Every program ends; a few lines of macros, each using the one before it twice, do so after the death of the sun.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from statex.core.source import Span
from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import names as codes

STATEMENTS = 1_000_000
"""So many statements are carried out, those in macros and included files each time."""
DEPTH = 101
"""So deep are blocks, macros and included files nested in one another; what walks a program recurses so far."""


class Bounds:
    """Counts the statements of a program, and how deep they are nested."""

    def __init__(self) -> None:
        self._carried = 0
        self._depth = 0

    def statement(self, span: Span) -> None:
        """Note one more statement.

        Raises:
            StatexError: SX225 for the first one too many, nothing more to report for those after it.
        """
        self._carried += 1
        if self._carried > STATEMENTS + 1:
            raise StatexError(())
        if self._carried > STATEMENTS:
            fail(
                codes.WITHOUT_END,
                f"the program has carried out {STATEMENTS:,} statements and is not done",
                span,
                help="use macros and files that use others twice less often",
            )

    @contextmanager
    def nested(self, span: Span) -> Iterator[None]:
        """Go one deeper for what is inside.

        Raises:
            StatexError: SX225 where that is too deep.
        """
        if self._depth >= DEPTH:
            fail(codes.WITHOUT_END, f"blocks, macros and included files are nested more than {DEPTH - 1} deep", span)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
