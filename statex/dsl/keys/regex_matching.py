"""Patterns that can read a key in at most one way: a regular expression reads it, many times faster.

These are the patterns with at most one `**` and with at most one wildcard in each segment, which are nearly all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from statex.core.record import record
from statex.dsl.keys.matching import Element, Literal, Many, Mixed, Texts, Wild, atom_expression


@record
class OneWay:
    """The expression of a pattern; `names` are its captures by group, `fixed` those whose text is known."""

    expression: re.Pattern[str]
    names: tuple[tuple[str, int], ...]
    fixed: Mapping[str, str]

    def read(self, key: str) -> Texts | None:
        """Return the captured texts of a key without empty segments, or `None` where it does not match."""
        match = self.expression.fullmatch(key)
        if match is None:
            return None
        texts = {name: match[group] or "" for name, group in self.names}
        return {**texts, **self.fixed} if self.fixed else texts


def one_way(elements: Sequence[Element]) -> OneWay | None:
    """Return the expression that reads what the elements read, or `None` where a key may have several readings."""
    many = [place for place, element in enumerate(elements) if isinstance(element, Many)]
    if len(many) > 1 or any(isinstance(e, Many) and e.least > 1 for e in elements):
        return None
    parts: list[str] = []
    names: list[str | None] = []
    fixed: dict[str, str] = {}
    for element in elements:
        if isinstance(element, Literal):
            parts.append(re.escape(element.text))
        elif isinstance(element, Many):
            parts.append("(.+)")
            names.append(element.name)
        else:
            wild = [atom for atom in element.atoms if isinstance(atom, Wild)]
            if len(wild) != 1:
                return None
            parts.append(_segment(element))
            names.append(wild[0].name if wild[0].whole is None else None)
            if wild[0].whole is not None and wild[0].name is not None:
                fixed[wild[0].name] = wild[0].whole
    named = [name for name in [*names, *fixed] if name is not None]
    if len(set(named)) != len(named):
        return None
    groups = tuple((name, group) for group, name in enumerate(names, 1) if name is not None)
    return OneWay(re.compile(_joined(parts, elements), re.DOTALL), groups, fixed)


def _segment(element: Mixed) -> str:
    return "".join(f"({atom_expression(a)})" if isinstance(a, Wild) else re.escape(a) for a in element.atoms)


def _joined(parts: Sequence[str], elements: Sequence[Element]) -> str:
    """Put dots between segments; a `**` that may be empty takes its dot along."""
    text = ""
    for place, (part, element) in enumerate(zip(parts, elements, strict=True)):
        maybe = isinstance(element, Many) and element.least == 0 and len(elements) > 1
        if place == 0:
            text += f"(?:{part}\\.)?" if maybe else part
        elif place == 1 and isinstance(elements[0], Many) and elements[0].least == 0:
            text += part
        else:
            text += f"(?:\\.{part})?" if maybe else f"\\.{part}"
    return text
