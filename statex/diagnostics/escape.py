"""Text from files made safe for a terminal."""

from __future__ import annotations

import re

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def escape(text: str) -> str:
    r"""Write control characters, bidirectional overrides and lone surrogates as `\x1b`, `\u202e`."""
    return _UNSAFE.sub(lambda match: _written(match.group()), text)


def _written(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
