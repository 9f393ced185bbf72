"""Keys that are gathered or given out together: a number that runs from 0, a choice of words, or each by itself."""

from __future__ import annotations

from collections.abc import Sequence

from statex.core.record import record
from statex.grammar import factory as make
from statex.grammar import tree
from statex.relating.names.choices import apart
from statex.relating.names.rows import MARK, numbers_of, split_key


@record
class Family:
    """Several keys as one, with a mark where they differ; `capture` is what is written there."""

    key: str
    capture: tree.Capture

    @property
    def counts(self) -> bool:
        """True where the keys are numbered from 0."""
        return self.capture.kind is tree.CaptureForm.INT


def family(keys: Sequence[str], name: str = "e") -> Family | None:
    """Return keys as one, in their order; `None` where they differ in more than one place."""
    if len(keys) < 2:
        return None
    return _numbered(keys, name) or _chosen(keys)


def marked(key: str, one: Family) -> list[str]:
    """Return the ways in which a key may be read as one of a family's kind, with a mark where those differ."""
    segments = key.split(".")
    if one.counts:
        places = [at for at, segment in enumerate(segments) if segment.isdecimal()]
        words = {segments[at]: MARK for at in places}
    else:
        form = next(segment for segment in one.key.split(".") if MARK in segment)
        words = {form.replace(MARK, choice.text): form for choice in one.capture.choices}
        places = [at for at, segment in enumerate(segments) if segment in words]
    return [".".join([*segments[:at], words[segments[at]], *segments[at + 1 :]]) for at in places]


def _numbered(keys: Sequence[str], name: str) -> Family | None:
    splits = [split_key(key, False) for key in keys]
    if len({len(one) for one in splits}) > 1:
        return None
    for at, part in enumerate(splits[0]):
        if isinstance(part[0], int) and [one[at][0] for one in splits] == list(range(len(keys))):
            marked = {".".join([*key.split(".")[:at], MARK, *key.split(".")[at + 1 :]]) for key in keys}
            if len(marked) == 1:
                return Family(marked.pop(), make.capture(name, tree.CaptureForm.INT))
    return None


def _chosen(keys: Sequence[str]) -> Family | None:
    segments = [key.split(".") for key in keys]
    if len({len(one) for one in segments}) > 1 or len(set(keys)) < len(keys):
        return None
    differing = [at for at, column in enumerate(zip(*segments, strict=True)) if len(set(column)) > 1]
    if len(differing) != 1:
        return None
    (at,) = differing
    words = [one[at] for one in segments]
    before, between, after = apart(words)
    if not all(between):
        before, between, after = "", words, ""
    if any(numbers_of(split_key(word, False)) for word in words):
        return None
    choices = tuple(tree.Choice(word, word) for word in between)
    first = segments[0]
    marked = ".".join([*first[:at], f"{before}{MARK}{after}", *first[at + 1 :]])
    return Family(marked, tree.Capture(make.NOWHERE, "p", tree.CaptureForm.CHOICE, choices))


def names_for(keys: Sequence[object]) -> list[str]:
    """Return names for sources that an expression tells apart."""
    return [f"{letter}" for letter in "abcdfghklmnopqrsuvwxyz"[: len(keys)]]
