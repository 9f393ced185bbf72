"""Text from files made safe for a terminal."""

from __future__ import annotations


def escape(text: str) -> str:
    r"""Write every character that does not print (as `str.isprintable` has it) as `\x1b`, `\u202e` or `\U000e0041`.

    That covers control characters, line and paragraph separators, bidirectional overrides and other format characters,
    lone surrogates, and blanks other than the plain space. Line ends are escaped too: split a text first where they
    are to be kept.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _written(ord(c)) for c in text)


def _written(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
