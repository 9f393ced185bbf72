"""What a program is made of: rule files and single rules in their order, and what they are given from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

from statex.core.record import node
from statex.core.source import Span
from statex.dsl.expressions.parameters import Given
from statex.grammar import tree


@node
class ProgramPart:
    """A stretch of a program in one text.

    A rule file is a scope of its own; what is `shared` (single rules, blocks of a recipe) is one scope together, in
    which names go on from one to the next. `folder` is what an `include` is relative to. `given` are values for the
    parameters of a file, by `with`; `stem` is its path without the ending, empty for what is not a file (`addresses`).
    """

    program: tree.Program
    folder: str = "."
    stem: str = ""
    given: Mapping[str, Given] = field(default_factory=dict)
    shared: bool = False


@node
class Outside:
    """What a program is given from outside.

    `given` are values of parameters by name, or by `file.name` for those of one file: `soup.w` for `w` of `soup.sx`,
    in whatever folder that is; `a/soup.w` if there are several of that name. `params` and `inputs` are what the
    shared scope knows without declaring it, as a recipe has them; an input is true if it is a family, and `places`
    are where inputs are declared. `used` are names that something beside the rules uses. `documents` are the files of
    parameters, whole, into which `param … from 'path'` reaches.
    """

    given: Mapping[str, Given] = field(default_factory=dict)
    params: Mapping[str, Given] = field(default_factory=dict)
    inputs: Mapping[str, bool] = field(default_factory=dict)
    used: frozenset[str] = frozenset()
    places: Mapping[str, Span] = field(default_factory=dict)
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def is_recipe(self) -> bool:
        """True where a recipe declares the inputs: the main one at least."""
        return bool(self.places)

    def values_for(self, stem: str, given: Mapping[str, Given]) -> dict[str, Given]:
        """Return the values that a file sees: by equal name, over these by `with`, over all those meant for it alone.

        Of two that are meant for it, the one that names more of its folders wins.
        """
        known = {name: value for name, value in self.params.items() if value.value is not None}
        plain = {name: value for name, value in self.given.items() if "." not in name}
        own = [(*split_name(full), value) for full, value in self.given.items() if "." in full]
        own = sorted((one for one in own if addresses(one[0], stem)), key=lambda one: len(one[0]))
        return {**known, **plain, **given, **{name: value for _, name, value in own}}


def split_name(full: str) -> tuple[str, str]:
    """Return the file that the name of a value begins with (empty: none), and the name of the parameter."""
    file, _, name = full.rpartition(".")
    return file, name


def addresses(file: str, stem: str) -> bool:
    """Say whether a value for `file` is meant for that of this stem: `soup`, `a/soup` are both for `rules/a/soup`.

    `./soup` is for `soup` in no folder alone.
    """
    if not file or not stem:
        return False
    return stem == file[2:] if file.startswith("./") else f"/{stem}".endswith(f"/{file}")


def stem_of(name: str) -> str:
    """Return the path of a rule file without its ending."""
    return name.replace("\\", "/").removesuffix(".sx")


def short_names(stems: Iterable[str]) -> dict[str, str]:
    """Return how each stem is named so that it is told from the others: by as few of its last folders as will do."""
    found: dict[str, str] = {}
    distinct = dict.fromkeys(stem for stem in stems if stem)
    for stem in distinct:
        pieces = stem.split("/")
        names = ["/".join(pieces[-count:]) for count in range(1, len(pieces) + 1)]
        alone = (name for name in names if sum(addresses(name, other) for other in distinct) == 1)
        found[stem] = next(alone, f"./{stem}")
    return found
