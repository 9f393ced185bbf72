"""Why something cannot follow: said as an error where it was asked for, else as a note of a warning."""

from __future__ import annotations

from statex.diagnostics.codes import Code


class CannotFollowError(Exception):
    """Something beside the state cannot go through the plan: the code, why, and what to do about it.

    `step` is the number of the statement at fault, -1 where there is none.
    """

    def __init__(
        self, code: Code, headline: str, notes: tuple[str, ...] = (), help: tuple[str, ...] = (), step: int = -1
    ) -> None:
        super().__init__(headline)
        self.code = code
        self.headline = headline
        self.notes = notes
        self.help = help
        self.step = step
