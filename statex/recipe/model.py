"""A recipe as values with defaults, and their places.

Paths are texts as written, relative to the recipe's folder. Every value has its place: `at` gives that of a field.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from statex.core.paths import Address
from statex.core.source import Source, Span

Plain = bool | int | float | str | None
ParamValue = Plain | tuple["ParamValue", ...]
"""A value of a parameter; lists are tuples."""
Format = Literal["torch", "safetensors", "dcp", "npz"]
InputFormat = Literal[Format, "gguf"]


@dataclass(frozen=True, kw_only=True)
class Spanned:
    """What stands at a place of a recipe."""

    span: Span = field(repr=False)
    places: Mapping[str, Span] = field(default_factory=dict, repr=False)

    def at(self, name: str) -> Span:
        """Return the place of a field's value, or of the whole if the recipe leaves the field out."""
        return self.places.get(name, self.span)


@dataclass(frozen=True, kw_only=True)
class Value(Spanned):
    """A value written in the recipe."""

    value: ParamValue


@dataclass(frozen=True, kw_only=True)
class Reference(Spanned):
    """`{param: NAME}`: the value of a parameter of the recipe, which has one of this name."""

    name: str


@dataclass(frozen=True, kw_only=True)
class FromFile(Spanned):
    """`{file: PATH, from: KEY}`: the value at a dotted path of a JSON or YAML file."""

    file: str
    key: str


Argument = Value | Reference
Param = Value | FromFile


@dataclass(frozen=True, kw_only=True)
class InputFile(Spanned):
    """A checkpoint to read; `sha256` is its digest in lower case, or those of a folder's files by name."""

    path: str
    root: Address | None = None
    format: InputFormat | None = None
    sha256: str | Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Input(Spanned):
    """An input: one checkpoint, or several if it is a family. `span` is the place of its name."""

    name: str
    files: tuple[InputFile, ...]
    is_family: bool


@dataclass(frozen=True, kw_only=True)
class RuleText(Spanned):
    """Rules written in the recipe; diagnostics about `source` are shown at their place in it."""

    source: Source


@dataclass(frozen=True, kw_only=True)
class RuleFile(Spanned):
    """A rule file and the values of its parameters."""

    path: str
    values: Mapping[str, Argument]


Rule = RuleText | RuleFile


@dataclass(frozen=True, kw_only=True)
class Target(Spanned):
    """What a state must fit: `model`, a callable and its arguments, or `like`, a checkpoint. One of them is given."""

    model: str | None = None
    args: Mapping[str, Argument] = field(default_factory=dict)
    like: str | None = None


@dataclass(frozen=True, kw_only=True)
class Output(Spanned):
    """A checkpoint to write. `keep` are the patterns of the keys it holds, none if it holds all.

    With `optimizer`, it holds what becomes of that file alone. `shard_size` is in bytes. `span` is the place of its
    name, or of `outputs` if there is one without a name.
    """

    name: str
    path: str
    format: Format | None = None
    shard_size: int | None = None
    copy_files: bool = False
    stem: str | None = None
    update_config: bool = True
    keep: tuple[Source, ...] = ()
    target: Target | None = None
    optimizer: str | None = None


@dataclass(frozen=True, kw_only=True)
class Policy(Spanned):
    """What a run keeps to.

    `warnings` is what warnings do, `codes` what those of single codes do instead. `max_memory` is in bytes. `digests`
    is `None` if the recipe does not say: they are made if a report, a skip or an expected digest needs them.
    """

    warnings: Literal["error", "warn"] = "warn"
    codes: Mapping[str, Literal["error", "warn", "ignore"]] = field(default_factory=dict)
    max_memory: int | None = None
    verify_written: bool = False
    check_input: bool = False
    keep_foreign: bool = False
    reversible: bool = False
    unchanged: Literal["run", "skip"] = "run"
    replace: Literal["never", "own", "always"] = "own"
    digests: Literal["none", "sha256"] | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe(Spanned):
    """A recipe whose text is right: inputs by name, `main` among them, rules in order, outputs by name, at least one.

    An output without a name is called `main`.
    """

    source: Source
    inputs: Mapping[str, Input]
    params: Mapping[str, Param]
    rules: tuple[Rule, ...]
    target: Target | None
    outputs: Mapping[str, Output]
    policy: Policy
    report: str | None
    param_names: str | None = None

    @property
    def folder(self) -> str:
        """The folder that the paths of the recipe are relative to."""
        return os.path.dirname(self.source.name) or "."

    def resolve(self, path: str) -> str:
        """Return a path of the recipe as one from the working directory, without `x/..` where `x` is no link."""
        joined = os.path.join(os.path.dirname(self.source.name), path)
        short = os.path.normpath(joined) + ("/" if joined.endswith("/") and joined.strip("/") else "")
        return short if os.path.realpath(short) == os.path.realpath(joined) else joined
