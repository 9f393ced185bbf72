"""Paths in nested checkpoints: sequences of dict keys and list places, and their dotted texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from shlex import quote
from typing import Any

from statex.core.foreign import Foreign
from statex.core.header import KeyPath
from statex.core.quoting import show_text

Address = str | Sequence[str | int]
"""A path as people give it: a dotted text, which is looked up in the checkpoint, or the sequence itself."""

_READINGS = 3
"""So many readings of a text are looked for: two are one too many."""


def is_container(value: object) -> bool:
    """Say whether paths lead through a value: a dict, a list or a tuple."""
    return isinstance(value, Mapping) or type(value) is list or type(value) is tuple


def items(container: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what a container holds, with its keys or places."""
    return iter(container.items()) if isinstance(container, Mapping) else enumerate(container)


def joined(path: KeyPath) -> str:
    """Return the dotted text of a path."""
    return ".".join(map(str, path))


def at(tree: Any, path: KeyPath) -> Any:
    """Return what is at a path.

    Raises:
        KeyError: where there is nothing.
    """
    for part in path:
        if not has(tree, part):
            raise KeyError(path)
        tree = tree[part]
    return tree


def has(container: Any, part: str | int) -> bool:
    """Say whether a value is a container that has a key or place."""
    if isinstance(container, Mapping):
        return part in container
    return is_container(container) and type(part) is int and 0 <= part < len(container)


def is_below(path: KeyPath, other: KeyPath) -> bool:
    """Say whether a path leads through another one to something inside."""
    return len(path) > len(other) and path[: len(other)] == other


def beside(tree: Any, roots: Collection[KeyPath], path: KeyPath = ()) -> dict[KeyPath, Any]:
    """Return what stands beside what is at these paths and on the way there, by its path."""
    found: dict[KeyPath, Any] = {}
    if not is_container(tree) or path in roots:
        return found
    for key, value in items(tree):
        name = (*path, key)
        if any(is_below(root, name) for root in roots) and is_container(value):
            found |= beside(value, roots, name)
        elif name not in roots:
            found[name] = value
    return found


def number(text: str) -> int | None:
    """Return the int that a text writes as Python would, `None` for every other text."""
    return int(text) if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", text) else None


def readings(tree: Any, text: str, inside: Callable[[Any], Any] = lambda value: value) -> list[KeyPath]:
    """Return the paths to something in a tree that a dotted text writes: mostly one, and three where there are more.

    `inside` gives the container that stands for what is none by itself.
    """
    if not text:
        return [()]
    dead: set[tuple[int, int]] = set()

    def read(value: Any, start: int) -> Iterator[KeyPath]:
        here = inside(value)
        if (id(value), start) in dead or not is_container(here):
            return
        found = False
        for part, end in _heads(here, text, start):
            rest: Iterator[KeyPath] = iter([()]) if end == len(text) else read(here[part], end + 1)
            for path in rest:
                found = True
                yield (part, *path)
        if not found:
            dead.add((id(value), start))

    return list(islice(read(tree, 0), _READINGS))


def _heads(container: Any, text: str, start: int) -> Iterator[tuple[str | int, int]]:
    """Yield the keys or places in a container that a dotted text begins with at some point, and where these end."""
    end = start - 1
    while end < len(text):
        dot = text.find(".", end + 1)
        end = dot if dot >= 0 else len(text)
        part = text[start:end]
        as_number = number(part)
        if isinstance(container, Mapping):
            if part in container:
                yield part, end
            if as_number is not None and as_number in container:
                yield as_number, end
        elif as_number is not None and 0 <= as_number < len(container):
            yield as_number, end


def written(tree: Any, path: KeyPath) -> str:
    """Write a path so that it names this and nothing else: as dotted text where it can be, else as a list."""
    text = joined(path)
    if not path:
        return text
    found = [one for one in readings(tree, text) if isinstance(there := at(tree, one), Foreign) or is_container(there)]
    return text if found == [path] and not text.startswith("[") else as_list(path)


def as_list(path: KeyPath) -> str:
    """Write a path as a list, which can be read in one way only."""
    return f"[{', '.join(str(part) if isinstance(part, int) else show_text(part) for part in path)}]"


def in_rules(path: str) -> str:
    """Return a written path as a rule file has it: a dotted text between quotes, a list as it is."""
    return path if path.startswith("[") else show_text(path)


def as_option(path: str) -> str:
    """Return a written path as a shell has it: between double quotes, as paths have single ones, where that will do."""
    if re.fullmatch(r"[\w.@%+:,/-]+", path):
        return path
    return f'"{path}"' if path and not re.search(r'["$`\\!]', path) else quote(path)


_PART = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(-?\d{1,18}))\s*(?:,|$)""")
_ESCAPED = {"n": "\n", "t": "\t"}


def path_from_text(text: str) -> Address:
    """Return a path that is given from outside of the rules: a list where it is written as one, else the dotted text.

    Raises:
        ValueError: for what begins as a list and is none.
    """
    if not text.lstrip().startswith("["):
        return text
    inner = text.strip()
    if not inner.endswith("]"):
        raise ValueError(text)
    inner = inner[1:-1].strip()
    parts: list[str | int] = []
    at = 0
    while at < len(inner):
        part = _PART.match(inner, at)
        if part is None:
            raise ValueError(text)
        single, double, digits = part.groups()
        plain = re.sub(r"\\(.)", lambda found: _ESCAPED.get(found[1], found[1]), single or double or "")
        parts.append(int(digits) if digits is not None else plain)
        at = part.end()
    return tuple(parts)
