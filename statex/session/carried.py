"""Foreign objects on their way into an output: finds them, decides whether to keep them, and reports them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from statex.checkpoint.formats.torch.harmless import harms
from statex.core.foreign import Foreign
from statex.core.header import Header, KeyPath, OpaqueInfo, TensorInfo
from statex.core.paths import beside
from statex.core.quoting import show_label
from statex.core.surroundings import address_of
from statex.diagnostics import Diagnostic, diagnostic, fail
from statex.diagnostics.codes import files as codes
from statex.diagnostics.codes import lints
from statex.diagnostics.suggest import join_words
from statex.dsl.keys.quoting import show_rules
from statex.dsl.plan.plan import Plan
from statex.grammar import factory as make
from statex.session.opened import Inputs
from statex.trees.rebuilding import edited_around

_FEW = 3
"""So many are named one by one in help."""


@dataclass(frozen=True)
class Carried:
    """A value of an output that is foreign and not harmless, or holds such: where it is and what it is made by.

    `drop` is the statement that leaves it out; it is empty for the attributes of a tensor, which none does.
    """

    path: str
    names: Sequence[str]
    drop: str

    @property
    def what(self) -> str:
        """What it is, for a table."""
        return join_words([f"<{name}>" for name in self.names], limit=3)


def carried(plan: Plan, inputs: Inputs) -> list[Carried]:
    """Return what is foreign in the result of a plan with what is kept around it, harmless objects left out."""
    found = list(_in_state(plan))
    if inputs.root_target != ():
        tree = edited_around(inputs.main.tree, inputs.root, plan.edits)
        for path, part in beside(tree, [inputs.root]).items():
            found += _around(tree, path, part)
    return found


def _in_state(plan: Plan) -> Iterator[Carried]:
    for key, output in plan.outputs.items():
        if output.opaque is not None and (names := harms(output.opaque)):
            yield Carried(key, names, show_rules(make.drop(make.key(key))))
        elif output.attributes is not None and (names := harms(output.attributes)):
            yield Carried(f"the attributes of {key}", names, "")


def _around(tree: Any, path: KeyPath, part: Any) -> Iterator[Carried]:
    if isinstance(part, Mapping) and all(type(key) is str for key in part):
        for key, inner in part.items():
            yield from _around(tree, (*path, key), inner)
    elif isinstance(part, Foreign | OpaqueInfo | TensorInfo) or not isinstance(part, str | int | float | None):
        names = harms(part)
        if names:
            address = address_of(tree, path)
            yield Carried(address, names, show_rules(make.drop_value(make.value_of(address))))


def refuse_foreign(found: Sequence[Carried], label: str, *, in_recipe: bool) -> None:
    """Refuse to write foreign objects, as nobody has said that they are to be kept.

    Raises:
        StatexError: SX640, with both ways out.
    """
    if found:
        shown = [(f"  {one.path}", one.what) for one in found[:8]]
        fail(
            codes.FOREIGN,
            f"{show_label(label)} holds objects that only code of their authors can load",
            rows=[*shown, *([(f"  and {len(found) - 8} more", "")] if len(found) > 8 else [])],
            notes=["statex does not load them; it can leave them out, or write them as they were read"],
            help=_ways(found, in_recipe=in_recipe),
        )


def _ways(found: Sequence[Carried], *, in_recipe: bool) -> list[str]:
    drops = [one.drop for one in found if one.drop]
    ways = ["; ".join(drops)] if len(drops) <= _FEW else [*drops[:_FEW], f"and {len(drops) - _FEW} more such lines"]
    keep = "policy: {keep_foreign: true}" if in_recipe else "--keep-foreign"
    return [*(ways if drops else ["write .safetensors, which has no attributes"]), keep]


def foreign_warnings(found: Sequence[Carried], *, kept: bool) -> Iterator[Diagnostic]:
    """Yield a warning of what is foreign: it is `kept`, or nobody has said yet what is to become of it."""
    if not found:
        return
    named = join_words([f"`{one.path}` ({one.what})" for one in found], limit=3)
    if kept:
        yield diagnostic(
            lints.FOREIGN_KEPT,
            f"{named}: kept as {'it was' if len(found) == 1 else 'they were'} read",
            notes=["it is as dangerous to `torch.load(weights_only=False)` as it was in the input"],
        )
    else:
        yield diagnostic(
            lints.FOREIGN_KEPT,
            f"{named}: this takes its authors' code to load, and `statex apply` stops here unless told what to do",
            help=_ways(found, in_recipe=False),
        )


def module_warnings(headers: Iterable[Header]) -> Iterator[Diagnostic]:
    """Yield a warning for each state that was read out of a whole module and may not be what `state_dict()` gives."""
    for header in headers:
        if header.remarks:
            yield diagnostic(
                lints.MODULE_READ,
                f"the state of {show_label(header.label)} was read out of a whole module, without its classes",
                notes=header.remarks,
                help="compare it with the model: --target module:callable",
            )
