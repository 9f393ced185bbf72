"""Finds the pattern that was probably meant by one that matches no key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import TypeGuard

from statex.core.record import record
from statex.dsl.keys.key_index import KeyIndex, show_element
from statex.dsl.keys.matching import Element, Literal, Many, Mixed, Wild
from statex.dsl.keys.patterns import Pattern
from statex.dsl.keys.quoting import is_plain, show_key
from statex.grammar import tree

_ALIKE = 0.6
"""From this likeness on a segment may stand for another: `attn` for `self_attn`, but not `dataloader` for `layers`."""
_NAMES = 200
"""So many segments are tried in a place."""


@record
class Near:
    """A pattern that matches keys; `before` and `after` are segments at its ends that the other has not."""

    text: str
    before: str = ""
    after: str = ""


def near_pattern(index: KeyIndex, pattern: Pattern, *, named: bool = False) -> Near | None:
    """Return a pattern near one that matches nothing: with a segment replaced, put in or left out, or widened.

    Where keys have the whole of it inside, it has `**` around, and captures instead where they are to be `named`, as
    for a template.
    """
    if len(pattern.variants) != 1:
        return None
    elements = pattern.variants[0]
    for place in range(len(elements)):
        names = index.following(elements[:place], _NAMES)
        if not names:
            break
        for candidate in _candidates(index, elements, place, names, named):
            if _meets(index, candidate):
                return _near(candidate, pattern)
    for deeper in _with_segment_before(index, elements):
        if _meets(index, deeper):
            return _near(deeper, pattern)
    free = [name for name in ("m", "rest", "m2", "rest2") if name not in pattern.captures]
    before, after = (free[0], next(name for name in free if name[0] == "r")) if named else (None, None)
    wide = next((one for one in _widened(elements, before, after) if _meets(index, one)), None)
    return None if wide is None else _near(wide, pattern)


def _near(elements: tuple[Element, ...], pattern: Pattern) -> Near | None:
    text = _shown(elements, pattern)
    known = pattern.captures
    ends = [
        (f"{{{e.name}}}" if e.name else "*") if isinstance(e, Many) and e.name not in known else ""
        for e in (elements[0], elements[-1])
    ]
    first, own = elements[0], pattern.variants[0]
    if isinstance(first, Literal) and len(elements) > len(own) and _is_wild(own[0]) and elements[1:] == own:
        ends[0] = first.text
    return None if text is None else Near(text, *ends)


def _meets(index: KeyIndex, elements: tuple[Element, ...]) -> bool:
    return any(index.reached(elements))


def _candidates(
    index: KeyIndex, elements: tuple[Element, ...], place: int, names: list[str], named: bool
) -> Iterator[tuple[Element, ...]]:
    here, before, after = elements[place], elements[:place], elements[place + 1 :]
    if isinstance(here, Literal):
        for name in get_close_matches(here.text, names, 3, _ALIKE):
            yield (*before, Literal(name), *after)
    if not _is_wild(here):
        fitting = [name for name in names if _meets(index, (*before, Literal(name), here, *after))]
        if len(fitting) == 1:
            yield (*before, Literal(fitting[0]), here, *after)
        elif fitting and before and not named:
            yield (*before, Mixed((Wild(None),)), here, *after)
    # Beside a wildcard a segment is what tells the keys that are meant from others.
    if after and isinstance(after[0], Literal) and not (before and isinstance(before[-1], Many)):
        yield (*before, *after)


def _with_segment_before(index: KeyIndex, elements: tuple[Element, ...]) -> Iterator[tuple[Element, ...]]:
    """Yield a pattern that begins with a wildcard below the one segment that leads to keys: `model.{m}.w`."""
    if _is_wild(elements[0]) and any(isinstance(element, Literal) for element in elements):
        names = index.following((), _NAMES)
        fitting = [name for name in names if _meets(index, (Literal(name), *elements))]
        if len(fitting) == 1:
            yield (Literal(fitting[0]), *elements)


def _is_wild(element: Element) -> TypeGuard[Mixed]:
    """Say whether an element is one wildcard that takes any segment."""
    if not isinstance(element, Mixed) or len(element.atoms) != 1:
        return False
    atom = element.atoms[0]
    return not isinstance(atom, str) and not atom.digits and not atom.choices


def _widened(elements: Sequence[Element], before: str | None, after: str | None) -> Iterator[tuple[Element, ...]]:
    for place, element in reversed([*enumerate(elements)]):
        if _is_wild(element):
            (atom,) = element.atoms
            assert not isinstance(atom, str)
            yield (*elements[:place], Many(atom.name, int(place == len(elements) - 1)), *elements[place + 1 :])
    if len(elements) > 1 and isinstance(elements[-1], Many):
        yield tuple(elements[:-1])
    if any(isinstance(element, Literal) for element in elements):
        yield (*elements, Many(after, 1))
        yield (Many(before), *elements)
        yield (Many(before), *elements, Many(after, 1))


def _shown(elements: Sequence[Element], pattern: Pattern) -> str | None:
    """Write elements as a pattern, between quotes where they need them; `None` where none can be written."""
    text = ".".join(show_element(e, pattern) for e in elements)
    if all(isinstance(e, Literal) for e in elements):
        return show_key(text)
    odd = [e.text for e in elements if isinstance(e, Literal) and not is_plain(e.text)]
    if any(char in text for text in odd for char in '*{}"\\'):
        return None
    return f'"{text}"' if odd else text


def with_templates(near: Near, node: tree.PatternNode, templates: Sequence[tree.PatternNode]) -> str | None:
    """Return a near pattern with all up to its last template, to which the captures at its ends are added.

    Without them, what the pattern has more would be lost. `None` where that cannot be written.
    """
    source, at = node.span.source, node.span.end
    text = near.text
    for template in templates:
        if template.kind not in (tree.PatternKind.BARE, tree.PatternKind.QUOTED) or template.span.start < at:
            return None
        quote = '"' if template.kind is tree.PatternKind.QUOTED else ""
        inside = template.span.text.strip(quote) if quote else template.span.text
        before = f"{near.before}." if near.before else ""
        after = f".{near.after}" if near.after else ""
        text += source.text[at : template.span.start] + f"{quote}{before}{inside}{after}{quote}"
        at = template.span.end
    return " ".join(text.split()) if "'" not in text and '"' not in text else text
