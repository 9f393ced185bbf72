"""Optimizers and averaged models beside the state: those that follow the rules, and those that no longer fit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from statex.checkpoint.blobs.walks import leaves
from statex.core.header import KeyPath, TensorInfo
from statex.core.paths import at, joined, readings
from statex.core.quoting import show_label, show_text
from statex.core.source import Span
from statex.core.surroundings import address_of
from statex.diagnostics import Diagnostic, StatexError, diagnostic, fail
from statex.diagnostics.codes import following as codes
from statex.diagnostics.codes import lints
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.dsl.keys.quoting import show_rules
from statex.dsl.parts import ProgramPart
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.followed import Followed
from statex.dsl.plan.plan import Plan
from statex.following.average import follow_average
from statex.following.beside import BY_NAME, BY_POSITION, Beside, is_parameter, optimizers_in, things_beside
from statex.following.follow import follow_optimizer
from statex.following.module_order import module_order
from statex.following.parameters import Hints
from statex.following.problems import CannotFollowError
from statex.grammar import factory as make
from statex.grammar import tree as nodes
from statex.session.counters import same_numbers
from statex.session.opened import Inputs
from statex.session.paramnames import GivenNames
from statex.trees.envelope import Tree
from statex.trees.rebuilding import edited_around

if TYPE_CHECKING:
    from statex.execute.verify.target import Target

_CHANGES: Mapping[str, str] = {
    "which": "which parameters there are",
    "order": "their order",
    "names": "their names",
    "values": "their shapes or values",
}
_PLACES = "places"
"""A change that only a target tells: its model has the same parameters in another order."""
_KINDS: Mapping[str, Sequence[str]] = {
    "which": ("dropped", "added", "copied", "split", "merged"),
    "order": (),
    "names": ("renamed",),
    "values": ("set",),
}
"""The changes of statements that change parameters so."""


def named_to_follow(parts: Iterable[ProgramPart]) -> list[nodes.PathNode]:
    """Return the paths that `follow` statements name."""
    statements = [one for part in parts for one in part.program.statements]
    return [path for one in statements if isinstance(one, nodes.Follow) for path in one.paths]


def with_following(
    plan: Plan, inputs: Inputs, named: Sequence[nodes.PathNode], target: Target | None, names: GivenNames
) -> tuple[Plan, list[Diagnostic]]:
    """Return the plan with what follows it beside the state, and a warning for each thing that no longer fits.

    Optimizers follow by themselves where they can, and everything that is `named` has to.

    Raises:
        StatexError: SX340 for what is named and is nothing that could follow, SX341 to SX347 for what cannot.
    """
    return _Followers(plan, inputs, target, names).run(named)


def followed_files(plan: Plan, inputs: Inputs, target: Target | None, names: GivenNames) -> list[Followed]:
    """Return the optimizers of files of their own as they are beside the result.

    Raises:
        StatexError: SX340 for a file without an optimizer, SX341 to SX347 for one that cannot follow.
    """
    found: list[Followed] = []
    for name, opened in inputs.optimizers.items():
        things = optimizers_in(opened.tree)
        if not things:
            fail(codes.NOTHING_TO_FOLLOW, f"{show_label(opened.label)} holds no optimizer")
        for one in things:
            hints = Hints(partial(same_numbers, opened), _ordered(inputs), names.of(name), _parameter_names(target))
            try:
                found.append(follow_optimizer(plan, one.path, at(opened.tree, one.path), hints, name))  # type: ignore[arg-type]
            except CannotFollowError as error:
                fail(
                    error.code,
                    f"the optimizer in {show_label(opened.label)} cannot follow: {error.headline}",
                    _at_fault(plan, error),
                    notes=error.notes,
                    help=error.help,
                )
    return found


def _ordered(inputs: Inputs) -> bool:
    """Say whether the order of the keys may be that of the model: those of safetensors are mostly sorted by name.

    What is made of such a file is no longer sorted, and its order means as little.
    """
    return inputs.main.format.holds_objects


class _Followers:
    """`tree` is what stands around the state in the output."""

    def __init__(self, plan: Plan, inputs: Inputs, target: Target | None, names: GivenNames) -> None:
        self._plan = plan
        self._inputs = inputs
        self._tree = edited_around(inputs.main.tree, inputs.root, plan.edits)
        self._root = joined(inputs.root)
        self._target = _parameter_names(target)
        self._given = names
        self._errors: list[Diagnostic] = []

    def run(self, named: Sequence[nodes.PathNode]) -> tuple[Plan, list[Diagnostic]]:
        told = self._target is not None or self._given.any
        things = self._things() if named or told or self._may_change() else []
        if things:
            self._given.check_paths([*[one.dotted for one in things], *self._inputs.optimizers])
        if named and not self._root:
            raise StatexError([self._inside(node, things) for node in named])
        asked = {one.path: node for node in named for one in self._asked(node, things)}
        changed = _changed(self._plan, [] if self._root else things, self._target) if things else set()
        followed, warnings = [], []
        for one in things:
            found = [name for name in (*_CHANGES, _PLACES) if name in changed and name in one.minds]
            if one.path in asked or (self._root and one.what == "optimizer" and (found or self._is_told(one))):
                try:
                    made = self._followed(one)
                    if found or one.path in asked or not made.account.is_same:
                        followed.append(made)
                except CannotFollowError as error:
                    if one.path in asked or error.code is codes.PARAM_NAMES:
                        self._errors.append(self._error(one, error, asked.get(one.path)))
                    elif found:
                        warnings.append(self._warning(one, found, error))
            elif found:
                warnings.append(self._warning(one, found, None))
        if self._errors:
            raise StatexError(self._errors)
        return replace(self._plan, followed=tuple(followed)), warnings

    def _may_change(self) -> bool:
        plan = self._plan
        return not plan.changes_nothing or list(plan.outputs) != list(plan.header.entries)

    def _is_told(self, thing: Beside) -> bool:
        """Say whether more is known of its parameters than the program tells: their order in the result, or names."""
        by_place = self._target is not None and thing.minds >= BY_POSITION
        return by_place or self._given.of(thing.dotted) is not None

    def _things(self) -> list[Beside]:
        if not self._root:
            return [one for one in things_beside(self._tree, "", self._plan.header) if _is_kept(self._plan, one)]
        if self._inputs.root_target == ():
            return []
        return things_beside(self._tree, self._root, self._plan.header)

    def _asked(self, node: nodes.PathNode, things: Sequence[Beside]) -> list[Beside]:
        """Return what a path of `follow` names: a thing, or all of those in what it leads to."""
        found = self._named(node, things)
        if not found:
            self._errors.append(_nothing(node, things, bare=self._inputs.root_target == ()))
        return found

    def _named(self, node: nodes.PathNode, things: Sequence[Beside]) -> list[Beside]:
        given = node.value
        paths = readings(self._tree, given) if isinstance(given, str) else [given]
        return [one for one in things if any(one.path[: len(path)] == path for path in paths)]

    def _inside(self, node: nodes.PathNode, things: Sequence[Beside]) -> Diagnostic:
        """Return what is said of `follow` where the whole file is the state."""
        found = self._named(node, things)
        if not found:
            return _nothing(node, things, bare=False)
        return diagnostic(
            codes.NOTHING_TO_FOLLOW,
            f"the whole file is the state here, and the {found[0].what} `{found[0].dotted}` a part of it: only what "
            "is beside the state can follow",
            node.span,
            help=self._smaller_root(things),
        )

    def _smaller_root(self, things: Sequence[Beside]) -> list[str]:
        """Return how to name the state alone, where the whole file is the state, and one dict of it may be meant."""
        outer = {one.path[0] for one in things}
        found = [
            key
            for key, value in (self._tree.items() if isinstance(self._tree, Mapping) else ())
            if isinstance(key, str) and isinstance(value, Mapping) and key not in outer and _has_tensors(value)
        ]
        if len(found) != 1:
            return []
        rule = show_rules(make.root(address_of(self._tree, (found[0],))))
        return [f"name the state alone, and write its keys without `{found[0]}.`: {rule}"]

    def _followed(self, thing: Beside) -> Followed:
        names = self._given.of(thing.dotted)
        hints = Hints(partial(same_numbers, self._inputs.main), _ordered(self._inputs), names, self._target)
        follow = follow_optimizer if thing.what == "optimizer" else follow_average
        return follow(self._plan, thing.path, at(self._tree, thing.path), hints)  # type: ignore[arg-type]

    def _error(self, thing: Beside, error: CannotFollowError, node: nodes.PathNode | None) -> Diagnostic:
        return diagnostic(
            error.code,
            f"the {thing.what} in `{thing.dotted}` cannot follow: {error.headline}",
            _at_fault(self._plan, error) or (node.span if node is not None else None),
            notes=error.notes,
            help=[*error.help, *self._one_by_one(error), self._without(thing)],
        )

    def _one_by_one(self, error: CannotFollowError) -> list[str]:
        """Return how names are given where several optimizers need them."""
        found = [one.dotted for one in self._things() if one.what == "optimizer"]
        if error.code is not codes.AMBIGUOUS_PARAMETERS or len(found) < 2:
            return []
        form = f"{{{json.dumps(found[0])}: [[…]], …}}"
        return [f"for several optimizers, such a file is a mapping from their paths to lists: {form}"]

    def _without(self, thing: Beside) -> str:
        return _without(self._plan, self._tree, thing, self._root)

    def _warning(self, thing: Beside, found: Sequence[str], error: CannotFollowError | None) -> Diagnostic:
        ways = [self._without(thing)]
        if error is None and thing.what != "optimizer" and self._root:
            path = address_of(self._tree, thing.path)  # type: ignore[arg-type]
            ways.insert(0, f"to take it through the same rules: {show_rules(make.follow(path))}")
        elif not self._root:
            ways = [*self._smaller_root([thing]), *ways]
        if error is not None:
            ways = [*self._one_by_one(error), *ways]
        return _warning(self._plan, thing, found, error, ways)


def _has_tensors(tree: Tree) -> bool:
    return any(isinstance(leaf, TensorInfo) for leaf in leaves(tree))


def _parameter_names(target: Target | None) -> list[str] | None:
    module = target.module if target is not None else None
    return [name for name, _ in module.named_parameters()] if module is not None else None


def _nothing(node: nodes.PathNode, things: Sequence[Beside], *, bare: bool) -> Diagnostic:
    if bare:
        return diagnostic(
            codes.NOTHING_TO_FOLLOW,
            "`root … -> ''` writes the bare state, with nothing beside it that could follow",
            node.span,
        )
    given = node.value if isinstance(node.value, str) else joined(node.value)
    near = did_you_mean(given, [one.dotted for one in things])
    there = join_words([f"the {one.what} `{one.dotted}`" for one in things], limit=4)
    return diagnostic(
        codes.NOTHING_TO_FOLLOW,
        f"there is no optimizer or average at {node.span.text}",
        node.span,
        notes=[f"beside the state: {there}" if things else "nothing beside the state knows its parameters"],
        help=[f"did you mean {show_text(one)}?" for one in near],
    )


def _is_kept(plan: Plan, thing: Beside) -> bool:
    origins = (output.origin for output in plan.outputs.values() if output.origin is not None)
    return any(not origin.input and thing.holds(origin.key) for origin in origins)


def _changed(plan: Plan, things: Sequence[Beside], target: Sequence[str] | None) -> set[str]:
    """Return what a program changes about the parameters, and its target; what is in `things` is none."""

    def counts(key: str) -> bool:
        return not any(thing.holds(key) for thing in things)

    before = {key: None for key, info in plan.header.entries.items() if is_parameter(info) and counts(key)}
    after = [(key, output) for key, output in plan.outputs.items() if output.module_source in before]
    new = [key for key, output in plan.outputs.items() if _is_new(output) and counts(key)]
    module_sources = dict.fromkeys(output.module_source for _, output in after)
    found = set()
    if new or len(after) != len(before) or len(module_sources) != len(before):
        found.add("which")
    renamed = [key for key, output in after if key != output.module_source]
    # Where the names are those of before, the model is, and has its parameters in the order of before.
    permuted = bool(renamed) and {key for key, _ in after} == before.keys()
    if permuted or list(module_sources) != [key for key in before if key in module_sources]:
        found.add("order")
    if renamed:
        found.add("names")
    if any(output.origin is None for _, output in after):
        found.add("values")
    sources = {key: output.module_source for key, output in after}
    in_target = [sources[name] for name in target or () if name in sources]
    if "order" not in found and in_target != [key for key in module_order(before) if key in {*in_target}]:
        found.add(_PLACES)
    return found


def _is_new(output: Entry) -> bool:
    kind = output.type
    return output.module_source is None and kind is not None and (kind.dtype.is_floating_point or kind.dtype.is_complex)


def _warning(
    plan: Plan, thing: Beside, found: Sequence[str], error: CannotFollowError | None, ways: Sequence[str]
) -> Diagnostic:
    by = " and ".join(how for how, minds in (("position", BY_POSITION), ("name", BY_NAME)) if minds <= thing.minds)
    what = join_words([_CHANGES[name] for name in found if name in _CHANGES], limit=4)
    said = [f"the program changes {what}"] * bool(what)
    said += ["the target has them in another order"] * (_PLACES in found)
    cannot = [f"it cannot follow: {error.headline}"] if error is not None else []
    return diagnostic(
        lints.NOT_FOLLOWED,
        f"the {thing.what} in `{thing.dotted}` stays as it is, and the parameters that it knows do not",
        (error is not None and _at_fault(plan, error)) or _place(plan, found),
        notes=[f"it knows them by {by}, and {' and '.join(said)}", *cannot],
        help=[*(error.help if error is not None else ()), *ways],
    )


def _at_fault(plan: Plan, error: CannotFollowError) -> Span | None:
    return plan.steps[error.step].span if error.step >= 0 else None


def _place(plan: Plan, found: Sequence[str]) -> Span | None:
    """Return the first statement that changes parameters so."""
    kinds = {kind for name in found for kind in _KINDS.get(name, ())}
    for step in plan.steps:
        if ("order" in found and step.verb == "order") or any(change.kind in kinds for change in step.changes):
            return step.span
    return None


def _without(plan: Plan, tree: Tree, thing: Beside, root: str) -> str:
    """Return the rule that leaves it out, where it is in a list with all of that: its items are numbered anew."""
    if root:
        path = _before_list(tree, thing.path)
        if path and not f"{root}.".startswith(f"{joined(path)}."):
            return f"to leave it out: {show_rules(make.drop_value(make.value_of(address_of(tree, path))))}"
        return f"to write the state alone: {show_rules(make.root(root, ''))}"
    known = thing.dotted in plan.header.entries
    dropped = make.key(thing.dotted) if known else make.glob(f"{thing.dotted}.**")
    return f"to leave it out: {show_rules(make.drop(dropped))}"


def _before_list(tree: Tree, path: Sequence[object]) -> KeyPath:
    """Return a path as far as it leads through dicts alone, by keys that rules can name."""
    found: list[str | int] = []
    for part in path:
        if not isinstance(tree, Mapping) or not isinstance(part, str | int):
            break
        found.append(part)
        tree = tree[part]
    return tuple(found)
