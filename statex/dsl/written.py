"""Keys as they are written in a rule file, for help that is pasted."""

from __future__ import annotations

from statex.paths import quoted

show_text = quoted


def show_key(key: str) -> str:
    """Write a key as a pattern that matches it and nothing else: bare where it can be, else between single quotes."""
    return key if is_plain(key) else show_text(key)


def show_tensor(key: str, input: str | None = None) -> str:
    """Write a key, of the state or of an input, as the tensor it is in an expression."""
    if input is not None:
        return f"{input}::{show_key(key)}"
    first, *others = key.split(".")
    if others and is_plain(key) and not first.isdigit():
        return key
    return f"::{key}" if not others and key.isidentifier() and key.isascii() else f"::{show_text(key)}"


def is_plain(key: str) -> bool:
    """Say whether a key needs no quotes."""
    return all(part and part.isascii() and part.replace("_", "a").isalnum() for part in key.split("."))
