"""Help for values that do not belong in a recipe."""

from __future__ import annotations

import re

from statex.core.record import record
from statex.core.yaml_text import Node, Scalar

_MODEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*")
_RULE_FILE = re.compile(r"statex:\S+|[\w./~-]+\.sx")
_LONGEST = 200


@record
class Fix:
    """What to write instead, and what to know."""

    help: str = ""
    note: str = ""


def is_rule(text: str) -> bool:
    """Say whether a text can be a rule: the name of a rule file alone cannot."""
    return not _RULE_FILE.fullmatch(text.strip())


def rule(node: Node) -> Fix:
    """Write the name of a rule file as such."""
    text = _text(node)
    return Fix(f"{{file: {text.strip()}}}" if text and not is_rule(text) else "")


def rules(node: Node) -> Fix:
    """Write one rule, or a block of them, as a list."""
    if isinstance(node, Scalar) and node.style in ("|", ">"):
        return Fix("put the block into a list: `- |` in a line of its own, and the rules indented below it")
    return Fix("rules:\n  - RULE" if _text(node) else "")


def digits(node: Node) -> Fix:
    """Count the digits of a digest."""
    text = _text(node)
    if re.fullmatch("[0-9a-fA-F]+", text):
        return Fix(note=f"it has {len(text)} of them")
    return Fix()


def inputs(node: Node) -> Fix:
    """Write a path alone as the checkpoint that rules change."""
    text = _text(node)
    return Fix(f"inputs: {{main: {text}}}" if text else "")


def target(node: Node) -> Fix:
    """Write a path or a callable alone as a target."""
    text = _text(node)
    if not text:
        return Fix()
    return Fix(f"target: {{model: '{text}'}}" if _MODEL.fullmatch(text) else f"target: {{like: {text}}}")


def _text(node: Node) -> str:
    """Return a text that is short enough to be shown."""
    written = isinstance(node, Scalar) and isinstance(node.value, str) and len(node.value) <= _LONGEST
    return str(node.value) if isinstance(node, Scalar) and written else ""
