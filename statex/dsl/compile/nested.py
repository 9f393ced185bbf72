"""The places of a result's keys in nested dicts and lists: followed statement by statement as keys change."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

from statex.core.header import Header, KeyPath
from statex.core.paths import joined, number
from statex.core.record import record
from statex.dsl.compile.state import Outcome
from statex.dsl.plan.entry import Entry

_SHOWN = 3
"""So many readings are looked for where one is one too many."""


@record
class Unsettled:
    """A key that can be read as several paths, since a statement; `old` is where it stood before."""

    step: int
    key: str
    readings: tuple[KeyPath, ...]
    old: KeyPath | None


class Nesting:
    """The paths of all keys while a program runs; which containers there are, and which of the input's each was.

    A key that gets another name stays in its dicts as far as that can be told, and is `Unsettled` where it cannot.
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        self.containers: dict[KeyPath, KeyPath | None] = {}
        self._names: dict[KeyPath, set[str]] = {}
        """The names of the containers in a container."""
        self._add({path: path for path in header.containers})
        self.paths: dict[str, KeyPath | Unsettled] = {key: self.original(key) for key in header.entries}

    def original(self, key: str) -> KeyPath:
        """Return where a key of the input stands in it."""
        return self.header.paths.get(key, (key,))

    def kind(self, path: KeyPath) -> str:
        """Return what a container is: that which it goes on from, or a new dict."""
        origin = self.containers.get(path)
        return self.header.containers[origin] if origin is not None else "dict"

    def follow(self, outcome: Outcome, step: int) -> None:
        """Take over what a statement came to; all of it is read in the state before."""
        moves: dict[KeyPath, KeyPath | None] = {}
        found = {
            key: self._path(key, entry, made_of, outcome.verb, step, moves)
            for key, (entry, _, made_of) in outcome.produced.items()
        }
        for key in outcome.consumed:
            del self.paths[key]
        self.paths.update(found)
        self._add(moves)

    def _add(self, containers: Mapping[KeyPath, KeyPath | None]) -> None:
        for path, origin in containers.items():
            self.containers.setdefault(path, origin)
            if path:
                self._names.setdefault(path[:-1], set()).add(str(path[-1]))

    def _path(
        self, key: str, entry: Entry, made_of: Sequence[str], verb: str, step: int,
        moves: dict[KeyPath, KeyPath | None],
    ) -> KeyPath | Unsettled:  # fmt: skip
        """Return where a key stands that a statement gives something; `moves` takes the containers this makes."""
        if entry.module_source == key:
            return self.original(key)
        taken_over = verb == "copy" and entry.origin is not None and bool(entry.origin.input)
        if not made_of or taken_over:
            return _settled(key, None, self._inside(key), step, moves)
        old = self.paths[made_of[0]]
        if made_of[0] == key or isinstance(old, Unsettled):
            return old
        return _settled(key, old, self._readings(key, old), step, moves)

    # --- readings ----------------------------------------------------------------------------------------------

    def _readings(self, key: str, old: KeyPath) -> list[_Reading]:
        """Return how the new name of what stands at a path can be read, in the order in which that is decided.

        One part of the path is another one, or is gone; as many segments as before are the same parts; no more parts
        than before; else it goes into the dict that is there.
        """
        return (
            _distinct(self._read(parts, old, moves=True) for parts in _edits(key, old))
            or _distinct(self._read(parts, old, moves=True) for parts in _alike(key, old))
            or _distinct(self._read(parts, old) for parts in _partitions(key.split("."), len(old)))
            or self._inside(key)
        )

    def _read(self, parts: tuple[str | int, ...], old: KeyPath, *, moves: bool = False) -> _Reading | None:
        """Return parts of a name as a path, `None` where they are none.

        No part goes past a dict that is there: `h.x` is in the dict `h`. With `moves` a container that is not there
        is the one that stood at this part of the old path.
        """
        path: KeyPath = ()
        made: dict[KeyPath, KeyPath | None] = {}
        gone = len(old) - len(parts) if moves else 0
        left = {old[:count] for count in range(1, len(old)) if old[:count] != parts[:count]} if moves else set()
        for place, part in enumerate(parts):
            if path not in self.containers:
                made[path] = self.containers.get(old[: place + gone]) if moves else None
            was = old[place] if place < len(old) and path == old[:place] else None
            if part == "" or (part != was and self._goes_past(path, str(part), str(was), left)):
                return None
            path = (*path, _typed(part, self._kind(path, made)))
        return _Reading(path, made)

    def _kind(self, path: KeyPath, made: Mapping[KeyPath, KeyPath | None]) -> str:
        origin = made[path] if path in made else self.containers[path]
        return self.header.containers[origin] if origin is not None else "dict"

    def _goes_past(self, path: KeyPath, part: str, was: str, left: Collection[KeyPath]) -> bool:
        """Say whether a part of a name begins with a container that is there; unless it did so, or has just left it."""
        names = self._names.get(path)
        return names is not None and any(
            inner in self.containers and inner not in left and not was.startswith(f"{head}.")
            for head, _ in heads(part)
            if head in names
            for inner in _inner(path, head)
        )

    def _inside(self, key: str) -> list[_Reading]:
        """Return the paths of a name in the containers that are there, each as deep as it goes."""
        return list(islice((_Reading(path, {}) for path in self._enter((), key)), _SHOWN))

    def _enter(self, path: KeyPath, name: str) -> Iterator[KeyPath]:
        deeper = False
        names = self._names.get(path, ())
        for head, rest in heads(name) if names else ():
            for inner in _inner(path, head) if head in names else ():
                if inner in self.containers:
                    deeper = True
                    yield from self._enter(inner, rest)
        if not deeper:
            yield (*path, _typed(name, self.kind(path)))


@record
class _Reading:
    """A path that a name may mean, and the containers that there have to be for it."""

    path: KeyPath
    containers: Mapping[KeyPath, KeyPath | None]


def _settled(
    key: str, old: KeyPath | None, readings: Sequence[_Reading], step: int, moves: dict[KeyPath, KeyPath | None]
) -> KeyPath | Unsettled:
    if len(readings) > 1:
        return Unsettled(step, key, tuple(one.path for one in readings), old)
    (only,) = readings
    for path, origin in only.containers.items():
        moves.setdefault(path, origin)
    return only.path


def _distinct(readings: Iterator[_Reading | None]) -> list[_Reading]:
    found: dict[KeyPath, _Reading] = {}
    for one in readings:
        if one is not None:
            found.setdefault(one.path, one)
            if len(found) == _SHOWN:
                break
    return list(found.values())


def _edits(key: str, old: KeyPath) -> Iterator[tuple[str | int, ...]]:
    """Yield the paths with a name that differ from another path in one part, or lack some that follow one another."""
    count = len(old)
    for place in range(count):
        head = "".join(f"{part}." for part in old[:place])
        tail = "".join(f".{part}" for part in old[place + 1 :])
        if key.startswith(head) and key.endswith(tail) and len(key) > len(head) + len(tail):
            yield (*old[:place], key[len(head) : len(key) - len(tail)], *old[place + 1 :])
    for start in range(count) if len(key) < len(joined(old)) else ():
        for end in range(start + 1, count + (start > 0)):
            left = old[:start] + old[end:]
            if joined(left) == key:
                yield left


def _alike(key: str, old: KeyPath) -> Iterator[tuple[str, ...]]:
    """Yield the path whose parts have as many segments as those of another path, if the name has as many in all."""
    segments, counts = key.split("."), [str(part).count(".") + 1 for part in old]
    if len(segments) == sum(counts):
        taken = iter(segments)
        yield tuple(".".join(islice(taken, count)) for count in counts)


def _partitions(segments: Sequence[str], most: int) -> Iterator[tuple[str, ...]]:
    """Yield all paths of at most so many parts that a name can be."""
    yield (".".join(segments),)
    for count in range(1, len(segments)) if most > 1 else ():
        for rest in _partitions(segments[count:], most - 1):
            yield (".".join(segments[:count]), *rest)


def heads(text: str) -> Iterator[tuple[str, str]]:
    """Yield how a text is divided by each of its dots."""
    dot = text.find(".")
    while dot >= 0:
        yield text[:dot], text[dot + 1 :]
        dot = text.find(".", dot + 1)


def _inner(path: KeyPath, head: str) -> list[KeyPath]:
    """Return the paths that a text means in a container: a key, and a place or a key that is an int."""
    as_number = number(head)
    return [(*path, head)] if as_number is None else [(*path, head), (*path, as_number)]


def _typed(part: str | int, kind: str) -> str | int:
    """Return a part of a name as a key or place in a container of this kind."""
    if kind == "dict" or (kind == "mixed" and isinstance(part, str)):
        return str(part)
    as_number = number(str(part))
    return str(part) if as_number is None or (as_number < 0 and kind in ("list", "tuple")) else as_number
