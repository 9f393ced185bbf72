"""Further inputs as statements query them: the keys of another checkpoint, or of a family of them."""

from __future__ import annotations

from collections.abc import Sequence

from statex.core.header import Header
from statex.core.source import Span
from statex.diagnostics import fail
from statex.diagnostics.codes import keys as codes
from statex.dsl.compile.state import source_entry
from statex.dsl.keys.key_index import KeyIndex
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.graph import SourceKey


class InputState:
    """A further input (or a family of them): its headers, and an index of its keys."""

    def __init__(self, name: str, headers: Sequence[Header], family: bool, place: Span | None = None) -> None:
        self.name = name
        self.place = place
        """Where a rule text declares it, `None` for the target and for what a recipe has."""
        self.headers = tuple(headers)
        self.family = family
        # A family is all the keys of its members: one that some of them lack is to be noticed, too.
        self.index = KeyIndex(dict.fromkeys(key for header in self.headers for key in header.entries))

    def entries(self, key: str, span: Span, *, partly: bool = False) -> Sequence[Entry]:
        """Return what stands under a key, of a family that of each member.

        Raises:
            StatexError: SX310 where some members lack it, unless it may be there `partly`.
        """
        have = [member for member, header in enumerate(self.headers) if key in header.entries]
        lack = [member for member in range(len(self.headers)) if member not in have]
        if lack and not partly:
            headline = f"`{self.name}[{lack[0]}]` has no `{key}`, and `{self.name}[{have[0]}]` has"
            fail(codes.FAMILY, headline, span, cases=[key])
        return [source_entry(SourceKey(self.name, member, key), self.headers[member].entries[key]) for member in have]
