"""Optimizers and averaged models that no longer fit after a program changes the parameters they refer to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from statex.core.header import KeyPath
from statex.core.paths import joined
from statex.core.source import Span
from statex.core.surroundings import address_of
from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import lints
from statex.diagnostics.suggest import join_words
from statex.dsl.keys.quoting import show_rules
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.plan import Plan
from statex.grammar import factory as make
from statex.session.beside import BY_NAME, BY_POSITION, Beside, is_parameter, things_beside
from statex.trees.envelope import Tree

_CHANGES: Mapping[str, str] = {
    "which": "which parameters there are",
    "order": "their order",
    "names": "their names",
    "values": "their shapes or values",
}
_KINDS: Mapping[str, Sequence[str]] = {
    "which": ("dropped", "added", "copied", "split", "merged"),
    "order": (),
    "names": ("renamed",),
    "values": ("set",),
}
"""The changes of statements that change parameters so."""


def unfollowed(plan: Plan, tree: Tree, root: str, target: str | None) -> Iterator[Diagnostic]:
    """Yield a warning for each thing that is in the output, and does not know the parameters as they are there.

    `root` is where the state is in the tree, `target` where it will be (`''`: alone).
    """
    if plan.changes_nothing and list(plan.outputs) == list(plan.header.entries):
        return
    within = not root
    things = things_beside(tree, root, plan.header) if within or target != "" else []
    things = [one for one in things if not within or _is_kept(plan, one)]
    if not things:
        return
    changed = _changed(plan, things if within else [])
    for one in things:
        found = [name for name in _CHANGES if name in changed and name in one.minds]
        if found:
            yield _warning(plan, one, found, _without(plan, tree, one, root))


def _is_kept(plan: Plan, thing: Beside) -> bool:
    origins = (output.origin for output in plan.outputs.values() if output.origin is not None)
    return any(not origin.input and thing.holds(origin.key) for origin in origins)


def _changed(plan: Plan, things: Sequence[Beside]) -> set[str]:
    """Return what a program changes about the parameters; what is in `things` is none."""

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
    return found


def _is_new(output: Entry) -> bool:
    kind = output.type
    return output.module_source is None and kind is not None and (kind.dtype.is_floating_point or kind.dtype.is_complex)


def _warning(plan: Plan, thing: Beside, found: Sequence[str], help: str) -> Diagnostic:
    by = " and ".join(how for how, minds in (("position", BY_POSITION), ("name", BY_NAME)) if minds <= thing.minds)
    what = join_words([_CHANGES[name] for name in found], limit=4)
    return diagnostic(
        lints.NOT_FOLLOWED,
        f"the {thing.what} in `{thing.dotted}` stays as it is, and the parameters that it knows do not",
        _place(plan, found),
        notes=[f"it knows them by {by}, and the program changes {what}"],
        help=help,
    )


def _place(plan: Plan, found: Sequence[str]) -> Span | None:
    """Return the first statement that changes parameters so."""
    kinds = {kind for name in found for kind in _KINDS[name]}
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
