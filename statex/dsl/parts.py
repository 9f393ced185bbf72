"""What a program is made of: rule files and single rules in their order, and what they are given from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from statex.dsl.parameters import Given
from statex.grammar import tree
from statex.source import Span


@dataclass(frozen=True)
class Part:
    """A stretch of a program in one text.

    A rule file is a scope of its own; what is `shared` (single rules, blocks of a recipe) is one scope together, in
    which names go on from one to the next. `folder` is what an `include` is relative to. `given` are values for the
    parameters of a file, by `with`; `stem` is the name under which a single file is given a value (`soup.w`).
    """

    program: tree.Program
    folder: str = "."
    stem: str = ""
    given: Mapping[str, Given] = field(default_factory=dict)
    shared: bool = False


@dataclass(frozen=True)
class Outside:
    """What a program is given from outside.

    `given` are values of parameters by name, or by `stem.name` for those of one file. `params` and `inputs` are what
    the shared scope knows without declaring it, as a recipe has them; an input is true where it is a family, and
    `places` are where inputs are declared. `used` are names that something beside the rules uses.
    """

    given: Mapping[str, Given] = field(default_factory=dict)
    params: Mapping[str, Given] = field(default_factory=dict)
    inputs: Mapping[str, bool] = field(default_factory=dict)
    used: frozenset[str] = frozenset()
    places: Mapping[str, Span] = field(default_factory=dict)

    def values_for(self, stem: str, given: Mapping[str, Given]) -> dict[str, Given]:
        """Return the values that a file sees: those meant for it alone, those by `with`, and those of equal names."""
        own = {name.rpartition(".")[2]: value for name, value in self.given.items() if name.rpartition(".")[0] == stem}
        plain = {name: value for name, value in self.given.items() if "." not in name}
        known = {name: value for name, value in self.params.items() if value.value is not None}
        return {**known, **plain, **given, **(own if stem else {})}


def stem_of(name: str) -> str:
    """Return the name that a value for one file begins with: the file's, without folder and ending."""
    return name.replace("\\", "/").rpartition("/")[2].removesuffix(".sx")
