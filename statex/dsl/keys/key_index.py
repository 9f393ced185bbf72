"""Keys in a trie over their segments, so that a pattern meets only the keys it can match."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import count, islice

from statex.core.record import record
from statex.dsl.keys.captures import Bindings, is_named
from statex.dsl.keys.matching import Element, Literal, Many, Mixed, segment_test
from statex.dsl.keys.patterns import Pattern
from statex.dsl.keys.regex_matching import OneWay
from statex.grammar.tree import PatternKind


@record
class KeyMatch:
    """A key that a pattern matches, its captures, and a second reading where there is one."""

    key: str
    bindings: Bindings
    other: Bindings | None


class _Node:
    __slots__ = ("children", "key")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.key: str | None = None


def _put(root: _Node, key: str, *, backwards: bool = False) -> None:
    node = root
    segments = key.split(".")
    for segment in reversed(segments) if backwards else segments:
        child = node.children.get(segment)
        if child is None:
            child = node.children[segment] = _Node()
        node = child
    node.key = key


_SCANS = 8
"""After so many patterns that begin with `**`, keys are looked up by their last segments.

So many others read every key by a regular expression, too, before it is worth to put the keys into a trie.
"""


def _below(node: _Node) -> Iterator[str]:
    pending = [node]
    while pending:
        one = pending.pop()
        if one.key is not None:
            yield one.key
        pending += one.children.values()


def _anywhere(elements: Sequence[Element]) -> bool:
    """Say whether a pattern begins with `**`, so that the trie rules out nothing."""
    return bool(elements) and isinstance(elements[0], Many)


class KeyIndex:
    """A set of keys that patterns are matched against; `find` gives keys in the order they were added."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._ranks: dict[str, int] = {key: rank for rank, key in enumerate(keys)}
        self._next = len(self._ranks)
        self._trie: _Node | None = None
        self._ends: _Node | None = None
        self._scans = 0
        self._reads = 0
        self._regular: bool | None = None

    def __contains__(self, key: object) -> bool:
        return key in self._ranks

    def __len__(self) -> int:
        return len(self._ranks)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ranks)

    def add(self, key: str) -> None:
        """Add a key."""
        self._forget_ends()
        if self._trie is not None:
            _put(self._trie, key)
        self._ranks[key] = self._next
        self._next += 1

    def discard(self, key: str) -> None:
        """Remove a key, and the branches that held only it."""
        self._forget_ends()
        del self._ranks[key]
        if self._trie is None:
            return
        path = [self._trie]
        segments = key.split(".")
        for segment in segments:
            path.append(path[-1].children[segment])
        path[-1].key = None
        for parent, segment in zip(reversed(path[:-1]), reversed(segments), strict=True):
            child = parent.children[segment]
            if child.children or child.key is not None:
                break
            del parent.children[segment]

    def change(self, removed: Collection[str], added: Collection[str]) -> None:
        """Remove keys, then add others."""
        self._forget_ends()
        if len(removed) + len(added) > len(self._ranks) // 4:
            # To build the trie anew, when it is needed, costs less than so many changes.
            self._trie, self._reads = None, 0
        if self._trie is None:
            if len(removed) == len(self._ranks):
                self._ranks = {}
            for key in removed if self._ranks else ():
                del self._ranks[key]
            self._ranks.update(zip(added, count(self._next)))
            self._next += len(added)
            return
        for key in removed:
            self.discard(key)
        for key in added:
            self.add(key)

    def _forget_ends(self) -> None:
        self._ends = None
        self._scans = 0
        self._regular = None

    def _ending_as(self, elements: Sequence[Element]) -> Iterable[str]:
        """Return the keys that have the last segments of a pattern, of which many are asked for."""
        self._scans += 1
        if self._scans <= _SCANS or not isinstance(elements[-1], Literal):
            return self._ranks
        if self._ends is None:
            self._ends = _Node()
            for key in self._ranks:
                _put(self._ends, key, backwards=True)
        node = self._ends
        for element in reversed(elements):
            if not isinstance(element, Literal):
                break
            if element.text not in node.children:
                return ()
            node = node.children[element.text]
        return _below(node)

    @property
    def _root(self) -> _Node:
        if self._trie is None:
            self._trie = _Node()
            for key in self._ranks:
                _put(self._trie, key)
        return self._trie

    def find(self, pattern: Pattern, *, ambiguous_stars: bool = False) -> list[KeyMatch]:
        """Return what a pattern matches; `other` is a second reading of a key (in its `*`s too, if asked)."""
        one = self._expression(pattern)
        if one is not None:
            texts = [(key, one.read(key)) for key in self._ranks]
            return [KeyMatch(key, pattern.bound(read), None) for key, read in texts if read is not None]
        found = []
        candidates = self._candidates(pattern)
        # The ranks are a dict in the order of the ranks.
        ordered = candidates if candidates is self._ranks else sorted(candidates, key=self._ranks.__getitem__)
        for key in ordered:
            read = pattern.readings(key, stars=ambiguous_stars)
            if read:
                found.append(KeyMatch(key, read[0], read[1] if len(read) > 1 else None))
        return found

    def _expression(self, pattern: Pattern) -> OneWay | None:
        """Return what reads every key for a pattern, while few were asked for and it can be read in one way only."""
        if self._trie is not None or self._reads >= _SCANS or pattern.is_literal or len(pattern.one_ways) != 1:
            return None
        if self._regular is None:
            # Empty segments are read otherwise.
            self._regular = ".." not in f".{'.'.join(self._ranks)}."
        self._reads += 1
        return pattern.one_ways[0] if self._regular else None

    def _candidates(self, pattern: Pattern) -> Iterable[str]:
        anywhere = [elements for elements in pattern.variants if _anywhere(elements)]
        if pattern.regex is not None or anywhere:
            return self._ending_as(anywhere[0]) if len(pattern.variants) == 1 and anywhere else self._ranks
        literal = pattern.node.text if pattern.node.kind is PatternKind.LITERAL else pattern.literal
        if literal is not None:
            return {literal} & self._ranks.keys()
        found: set[str] = set()
        for elements in pattern.variants:
            found.update(node.key for node in self._walk(elements) if node.key is not None)
        return found

    def _walk(self, elements: tuple[Element, ...]) -> Iterator[_Node]:
        """Yield the nodes where a list of elements can end; each (node, place) is visited once."""
        seen: set[tuple[int, int]] = set()
        pending: list[tuple[_Node, int, bool]] = [(self._root, 0, False)]
        while pending:
            node, place, inside = pending.pop()
            if (id(node), place * 2 + inside) in seen:
                continue
            seen.add((id(node), place * 2 + inside))
            if place == len(elements):
                yield node
                continue
            element = elements[place]
            if isinstance(element, Literal):
                child = node.children.get(element.text)
                if child is not None:
                    pending.append((child, place + 1, False))
            elif isinstance(element, Mixed):
                test = segment_test(element.atoms)
                pending += [(child, place + 1, False) for segment, child in node.children.items() if test(segment)]
            else:
                if inside or element.least == 0:
                    pending.append((node, place + 1, False))
                pending += [(child, place, True) for child in node.children.values()]

    # --- for messages ------------------------------------------------------------------------------------------

    def longest_prefix(self, pattern: Pattern) -> tuple[str, int, list[str]]:
        """Return how far keys match: the pattern's text up to there, how many keys are there, what follows there.

        A `**` at the end of that is left off, as everything follows it.
        """
        best: tuple[int, list[_Node], tuple[Element, ...]] = (0, [self._root], ())
        for elements in pattern.variants:
            for place in range(len(elements), 0, -1):
                nodes = list(self._walk(elements[:place]))
                if nodes and place >= best[0] and not isinstance(elements[place - 1], Many):
                    best = (place, nodes, elements)
                    break
        place, nodes, elements = best
        following = list(dict.fromkeys(segment for node in nodes for segment in node.children))
        text = ".".join(show_element(e, pattern) for e in elements[:place])
        return (text + "." if text and following else text), self._count(nodes), following

    def _count(self, nodes: Iterable[_Node]) -> int:
        # After a `**` some nodes are below others.
        seen: dict[int, _Node] = {}
        pending = list(nodes)
        while pending:
            one = pending.pop()
            if id(one) not in seen:
                seen[id(one)] = one
                pending.extend(one.children.values())
        return sum(one.key is not None for one in seen.values())

    def reached(self, elements: tuple[Element, ...]) -> Iterator[bool]:
        """Yield, for each place where a list of elements can end, whether a key ends there."""
        return (node.key is not None for node in self._walk(elements))

    def following(self, elements: tuple[Element, ...], limit: int) -> list[str]:
        """Return up to `limit` segments that follow in keys where a list of elements can end."""
        nodes = islice(self._walk(elements), limit)
        return list(dict.fromkeys(segment for node in nodes for segment in islice(node.children, limit)))[:limit]


def show_element(element: Element, pattern: Pattern) -> str:
    """Write an element as it would be written in a pattern."""
    if isinstance(element, Literal):
        return element.text
    if isinstance(element, Many):
        return "**" if element.name is None or not is_named(element.name) else f"{{{element.name}:**}}"
    shown = []
    for atom in element.atoms:
        if isinstance(atom, str):
            shown.append(atom)
        elif atom.name is None or not is_named(atom.name):
            shown.append("*" if not atom.choices else f"{{_:{'|'.join(atom.choices)}}}")
        else:
            kind = pattern.captures.get(atom.name)
            choices = "|".join(
                c.text if c.text == c.value else f"{c.text}={c.value}" for c in (kind.choices if kind else ())
            )
            suffix = ":int" if atom.digits else f":{choices}" if choices else ""
            shown.append(f"{{{atom.name}{suffix}}}")
    return "".join(shown)
