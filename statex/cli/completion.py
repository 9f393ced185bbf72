"""Shell completion: keys of the checkpoint at hand, in patterns and in rules, a segment at a time as in paths.

A shell runs the program at each TAB. No more than the header is read, and whatever goes wrong says nothing: it would
stand in the midst of what somebody types.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

import typer

from statex.cli.arguments import ORDER, CommandArgument

_WORD = re.compile(r"[\w.:]*\Z")


def in_pattern(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return what a pattern of `show` may go on with, after the name of the file."""
    path = ctx.params.get("path")
    return _continued(str(path), incomplete, ctx.params.get("root")) if path is not None else []


def in_rule(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return what the last word of a rule may go on with: keys of the checkpoint that stands among the arguments."""
    found = _WORD.search(incomplete)
    word = found[0] if found is not None else ""
    before = incomplete[: len(incomplete) - len(word)]
    if not before.strip() or before.rstrip()[-1] in ";{":  # a verb stands there
        return []
    name, scope, key = word.rpartition("::")
    if name:
        path, root = _input(ctx.params.get("inputs") or (), name), None
    else:
        path, root = _checkpoint([*_paths(ctx.meta.get(ORDER, ())), *_later()]), ctx.params.get("root")
    return [before + name + scope + one for one in _continued(path, key, root)] if path is not None else []


def _paths(given: Sequence[CommandArgument]) -> Iterator[str]:
    return (one.text for one in given if not (one.is_rule or one.names_rules or one.names_recipe))


def _later() -> list[str]:
    """Return the words behind the one at the cursor, as far as a shell tells: bash does."""
    try:
        words = shlex.split(os.environ.get("COMP_WORDS", ""))
        return words[int(os.environ.get("COMP_CWORD", "0")) + 1 :]
    except ValueError:  # a quote that is open yet
        return []


def _checkpoint(paths: Iterable[str]) -> str | None:
    """Return the first path that something is at: before it there may be values of options."""
    return next((path for path in map(_expanded, paths) if not path.startswith("-") and os.path.exists(path)), None)


def _input(given: Iterable[str], name: str) -> str | None:
    return next((_expanded(text.removeprefix(f"{name}=")) for text in given if text.startswith(f"{name}=")), None)


def _expanded(path: str) -> str:
    """Return a path as the shell will give it."""
    return os.path.expanduser(os.path.expandvars(path))


def _continued(path: str, prefix: str, root: str | None) -> list[str]:
    try:
        return continued(_keys(_expanded(path), root), prefix)
    except Exception:  # damaged, not a checkpoint, not to be read: that is for the command to say
        return []


def _keys(path: str, root: str | None) -> list[str]:
    """Return the keys of a checkpoint that can be written without quotes."""
    from statex.checkpoint import open_checkpoint
    from statex.core.paths import path_from_text
    from statex.dsl.keys.quoting import is_plain
    from statex.trees.envelope import state_header
    from statex.trees.roots import find_roots, root_at

    with open_checkpoint(path) as reader:
        tree = reader.tree
        roots = find_roots(tree, path) if root is None else [root_at(tree, path_from_text(root), path)]
        return [key for one in roots for key in state_header(tree, one, path).entries if is_plain(key)]


def continued(keys: Iterable[str], prefix: str) -> list[str]:
    """Return what keys that begin with a prefix go on with, each up to its next dot.

    Where all go on with the same, they are followed further: a shell would take it for the end of the word.
    """
    keys = [key for key in keys if key.startswith(prefix)]
    at = len(prefix)
    while True:
        found = list(dict.fromkeys(key[: key.find(".", at) + 1] or key for key in keys))
        if len(found) != 1 or found[0] in keys:
            return found
        at = len(found[0])
