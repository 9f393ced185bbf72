"""What captures are declared to match, and what they have matched."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from statex.core.record import record
from statex.grammar.tree import Choice


class CaptureKind(Enum):
    """What a capture matches: text in a segment, whole segments, digits, one of some texts, or a regex group."""

    SEGMENT = "segment"
    SEGMENTS = "segments"
    INT = "int"
    CHOICE = "choice"
    GROUP = "group"


@record
class CaptureType:
    """The kind of a capture and, for a choice, its alternatives."""

    kind: CaptureKind
    choices: tuple[Choice, ...] = ()

    @property
    def is_int(self) -> bool:
        """True where the captured value is an int: `{i:int}`, and choices that all stand for digits."""
        if self.kind is CaptureKind.CHOICE:
            return all(is_digits(choice.value) for choice in self.choices)
        return self.kind is CaptureKind.INT

    def captured(self, text: str) -> Captured:
        """Return what a match of this text is."""
        rendered = text
        if self.kind is CaptureKind.CHOICE:
            rendered = next((c.value for c in self.choices if c.text == text), text)
        return Captured(text, int(rendered) if self.is_int else rendered, rendered, self.kind is CaptureKind.GROUP)


@record
class Captured:
    """A captured text, the value it stands for in expressions, and what a plain `{name}` puts into a key."""

    text: str
    value: int | str
    rendered: str
    is_group: bool = False
    """Of a regular expression: any text at all, and not segments that take their dot along where there are none."""

    @staticmethod
    def group(text: str | None) -> Captured:
        """Return what a group of a regular expression has matched; one that took no part is empty."""
        return Captured(text or "", text or "", text or "", is_group=True)

    @staticmethod
    def number(value: int) -> Captured:
        """Return a counted number as a capture."""
        return Captured(str(value), value, str(value))


Bindings = Mapping[str, Captured]
"""Captures by name. What has no name in the text is called by what no name begins with: the nth `*` or `**` of a
pattern by `wildcard(n)`, the nth of the prefix of a `within` by `prefix_capture(n)`. The nth regex group is `n`."""

_WILDCARD, _PREFIX = "*", "%"


def wildcard(number: int) -> str:
    """Return what the capture of the nth `*` or `**` of a pattern is called."""
    return f"{_WILDCARD}{number}"


def prefix_capture(number: int) -> str:
    """Return what the nth capture of the prefix of a `within` is called where a pattern stands in the block."""
    return f"{_PREFIX}{number}"


def is_wildcard(name: str) -> bool:
    """True for the capture of a `*` or `**`."""
    return name[0] == _WILDCARD


def is_of_prefix(name: str) -> bool:
    """True for a capture of the prefix of a `within`."""
    return name[0] == _PREFIX


def is_named(name: str) -> bool:
    """True for a capture that templates and expressions can name."""
    return name[0] not in (_WILDCARD, _PREFIX)


def wildcard_number(name: str) -> int:
    """Return which `*` or `**` of its pattern the capture of a wildcard is."""
    return int(name[len(_WILDCARD) :])


MOST_DIGITS = 1000
"""Python reads some thousands of digits at most, and takes the square of the time; keys are a stranger's."""


def is_digits(text: str) -> bool:
    """True for one or more ASCII digits, as many as a number may have."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
