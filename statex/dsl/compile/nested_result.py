"""The nesting of a program's result, from the final paths of its keys, and the conflicts that prevent it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from statex.core.header import Header, KeyPath, Nested
from statex.core.paths import as_list, at, is_below, joined
from statex.core.source import Span
from statex.diagnostics import Collector, diagnostic, fail
from statex.diagnostics.codes import keys as codes
from statex.diagnostics.suggest import join_words
from statex.dsl.compile.nested import Nesting, Unsettled, heads
from statex.dsl.keys.quoting import show_rules
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.metadata import Metadata, follow
from statex.dsl.plan.plan import Plan, Step
from statex.grammar import factory as make
from statex.grammar.tree import CaptureForm


def nested_result(
    nesting: Nesting, entries: Mapping[str, Entry], steps: Sequence[Step], root: str, found: Collector
) -> Nested:
    """Return how a result is nested; `root` is its path as rules write it, for help.

    What is wrong goes into `found`: SX326 for keys whose dict cannot be told, SX327 for lists with gaps.
    """
    paths: dict[str, KeyPath] = {}
    for key in entries:
        path = nesting.paths[key]
        if isinstance(path, Unsettled):
            _unsettled(path, steps, root, found)
        else:
            paths[key] = path
    inside = dict.fromkeys(path[:count] for path in paths.values() for count in range(len(path)))
    containers = {path: nesting.containers[path] for path in inside}
    _check_apart(nesting, entries, paths, containers, steps, root, found)
    for path, odd in _odd_lists(nesting.header, paths, containers):
        if odd is None:
            containers[path] = None
        else:
            _odd_list(path, odd, steps, root, found)
    return Nested({key: path for key, path in paths.items() if path != (key,)}, containers)


def _span(step: int, steps: Sequence[Step]) -> Span | None:
    return steps[step].span if step >= 0 else None


def _flat(root: str) -> str:
    """Return the statement that writes the result without containers."""
    return show_rules(make.root(root, flat=True))


def _unsettled(one: Unsettled, steps: Sequence[Step], root: str, found: Collector) -> None:
    found.add(
        diagnostic(
            codes.UNSETTLED,
            f"`{one.key}` can be nested as {join_words([as_list(path) for path in one.readings], last='or')}",
            _span(one.step, steps),
            notes=[f"before, it is {as_list(one.old)}"] if one.old is not None else (),
            help=_flat(root),
            cases=[one.key],
        )
    )


def _check_apart(
    nesting: Nesting, entries: Mapping[str, Entry], paths: Mapping[str, KeyPath],
    containers: Mapping[KeyPath, KeyPath | None], steps: Sequence[Step], root: str, found: Collector,
) -> None:  # fmt: skip
    """Report keys that are where a dict is, and keys beside a dict whose name they begin with: are they in it?"""
    now, then = _by_name(containers), _by_name(nesting.header.containers)
    for key, path in paths.items():
        entry = entries[key]
        if path in containers:
            _in_the_way(key, path, paths, entries, steps, root, found)
        passed = list(_passed(path, now)) if now else []
        original = nesting.original(entry.module_source) if entry.module_source is not None else ()
        before = set(_passed(original, then)) if passed else ()
        for inner in passed:
            if containers[inner] not in before:
                _unsettled(Unsettled(entry.step, key, (path, _in_it(inner, path)), None), steps, root, found)


def _in_the_way(
    key: str, path: KeyPath, paths: Mapping[str, KeyPath], entries: Mapping[str, Entry], steps: Sequence[Step],
    root: str, found: Collector,
) -> None:  # fmt: skip
    inner = next(other for other, one in paths.items() if is_below(one, path))
    step = max(entries[key].step, entries[inner].step)
    found.add(
        diagnostic(
            codes.UNSETTLED,
            f"`{inner}` is in a dict `{key}`, and there is an entry of that name as well",
            _span(step, steps),
            help=_flat(root),
            cases=[key],
        )
    )


def _in_it(inner: KeyPath, path: KeyPath) -> KeyPath:
    """Return a path that goes past a container as one that goes into it."""
    rest = str(path[len(inner) - 1])[len(str(inner[-1])) + 1 :]
    return (*inner, rest, *path[len(inner) :])


def _by_name(containers: Iterable[KeyPath]) -> Mapping[KeyPath, Mapping[str, KeyPath]]:
    """Return for each container the containers in it by their names."""
    found: dict[KeyPath, dict[str, KeyPath]] = {}
    for path in containers:
        if path:
            found.setdefault(path[:-1], {})[str(path[-1])] = path
    return found


def _passed(path: KeyPath, names: Mapping[KeyPath, Mapping[str, KeyPath]]) -> Iterator[KeyPath]:
    """Yield the containers that a path goes past: `h.x` goes past the dict `h`."""
    for place, part in enumerate(path):
        inside = names.get(path[:place])
        if inside is not None:
            yield from (inside[head] for head, _ in heads(str(part)) if head in inside)


# --- `_metadata` -----------------------------------------------------------------------------------------------


def nested_metadata(plan: Plan, old: Any) -> dict[KeyPath, Metadata]:
    """Return the `_metadata` of a result and of the dicts in it, by their places; `old` is the state it was made of.

    What a dict in the state notes of its modules follows them as that of the state does.
    """
    found: dict[KeyPath, Metadata] = {(): plan.metadata} if plan.metadata is not None else {}
    for path, origin in plan.nested.containers.items():
        noted = getattr(at(old, origin), "_metadata", None) if path and origin is not None else None
        if noted is not None and origin is not None:
            found[path] = follow(noted, _below(plan.header, origin).values(), _born(plan, path, origin))
    return found


def _below(header: Header, origin: KeyPath) -> dict[str, str]:
    """Return the keys below a container of the input, with their names in it."""
    count = len(origin)
    return {key: joined(path[count:]) for key, path in header.paths.items() if is_below(path, origin)}


def _born(plan: Plan, path: KeyPath, origin: KeyPath) -> list[tuple[str, str]]:
    """Return the names of keys in a container of the result, with those they had in the one it goes on from."""
    before = _below(plan.header, origin)
    inside = [(key, one) for key, one in plan.nested.paths.items() if is_below(one, path) and key in plan.outputs]
    pairs = [(joined(one[len(path) :]), plan.outputs[key].module_source) for key, one in inside]
    return [
        (name, before[module_source])
        for name, module_source in pairs
        if module_source is not None and module_source in before
    ]


# --- lists ------------------------------------------------------------------------------------------------------


def check_lists(header: Header, nested: Nested, keys: Mapping[str, object]) -> None:
    """Refuse an output of some of the keys of a result, if these are parts of a list.

    Raises:
        StatexError: SX327.
    """
    paths = {key: nested.paths[key] for key in keys if key in nested.paths}
    for path, odd in _odd_lists(header, paths, nested.containers):
        if odd is not None:
            fail(codes.LIST_GAP, _said(path, odd), notes=["the output keeps some of its places"])


def _odd_lists(
    header: Header, paths: Mapping[str, KeyPath], containers: Mapping[KeyPath, KeyPath | None]
) -> list[tuple[KeyPath, str | int | None]]:
    """Return the lists of a result that are none: with the first odd part in them, `None` if no part is a place."""
    lists = {path for path, origin in containers.items() if origin is not None and _is_list(header, origin)}
    parts: dict[KeyPath, dict[str | int, None]] = {}
    for path in paths.values() if lists else ():
        for count, part in enumerate(path):
            if path[:count] in lists:
                parts.setdefault(path[:count], {})[part] = None
    odd: list[tuple[KeyPath, str | int | None]] = []
    for path, found in parts.items():
        names = [part for part in found if isinstance(part, str)]
        gap = next((place for place in range(len(found)) if place not in found), None)
        if names or gap is not None:
            odd.append((path, None if len(names) == len(found) else names[0] if names else gap))
    return odd


def _is_list(header: Header, origin: KeyPath) -> bool:
    return header.containers[origin] in ("list", "tuple")


def _said(path: KeyPath, odd: str | int) -> str:
    name = f"`{joined(path)}`" if path else "the state"
    what = f"`{odd}` is not a place in it" if isinstance(odd, str) else f"its place {odd} is empty"
    return f"{name} is a list, and {what}"


def _odd_list(path: KeyPath, odd: str | int, steps: Sequence[Step], root: str, found: Collector) -> None:
    place = joined((*path, odd))
    taken = [step.span for step in steps for change in step.changes if _touches(change.before, change.after, place)]
    numbered = make.pattern([f"{joined(path)}." if path else "", make.capture("i", CaptureForm.INT)])
    closing = f"close the gap after this: {show_rules(make.renumber(numbered))}"
    found.add(
        diagnostic(
            codes.LIST_GAP,
            _said(path, odd),
            taken[-1] if taken else None,
            help=[*([closing] if isinstance(odd, int) else []), _flat(root)],
            cases=[place],
        )
    )


def _touches(before: Sequence[str], after: Sequence[str], place: str) -> bool:
    return any(key == place or key.startswith(f"{place}.") for key in (*before, *after))
