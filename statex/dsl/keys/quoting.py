"""Keys, tensors and statements as they are written in a rule file, for help that is pasted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from statex.core.quoting import is_plain, show_key, show_text

if TYPE_CHECKING:
    from statex.grammar import tree

__all__ = ["is_plain", "show_key", "show_rules", "show_tensor", "show_text"]


def show_rules(*statements: tree.Statement) -> str:
    """Write statements on one line; `statex.grammar.factory` makes them."""
    # What goes well proposes nothing, and should not wait for the printer.
    from statex.grammar.printer import show_flat

    return "; ".join(map(show_flat, statements))


def show_tensor(key: str, input: str | None = None) -> str:
    """Write a key, of the state or of an input, as the tensor it is in an expression."""
    from statex.grammar import factory as make
    from statex.grammar.printer import show_flat

    return show_flat(make.tensor(key, input))
