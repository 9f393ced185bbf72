"""Keys and texts as they are written in a rule file, for help that is pasted."""

from __future__ import annotations


def show_key(key: str) -> str:
    """Write a key as a pattern that matches it and nothing else: bare where it can be, else between single quotes."""
    return key if is_plain(key) else show_text(key)


def show_text(text: str) -> str:
    """Write a text between single quotes."""
    for plain, escaped in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\t", "\\t")):
        text = text.replace(plain, escaped)
    return f"'{text}'"


IN_MEMORY = "the checkpoint"
"""What a checkpoint is called that has no name, as a state in memory."""


def show_label(label: str) -> str:
    """Write what a checkpoint is called: a name between backticks, and words as they are."""
    return f"`{label}`" if label and label != IN_MEMORY else IN_MEMORY


def is_plain(key: str) -> bool:
    """Say whether a key needs no quotes."""
    return all(part and part.isascii() and part.replace("_", "a").isalnum() for part in key.split("."))
