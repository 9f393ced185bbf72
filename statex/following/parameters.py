"""The parameters of a state in the order of torch's numbers, and their alignment with those of an optimizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace

from statex.core.header import Header, TensorInfo, TensorType
from statex.core.record import record
from statex.diagnostics.codes import following as codes
from statex.dsl.plan.plan import Plan
from statex.following.alignment import Aligned, Alignment, Ambiguous, Misfit, by_keys, by_name, by_shape
from statex.following.beside import may_be_parameter
from statex.following.noted import NamesNote, flat
from statex.following.optimizer import Id, KnownParameter, Optimizer
from statex.following.problems import CannotFollowError

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Names of buffers that modules of torch have."""

WRITES_NAMES = (
    "import json, pathlib; names = {p: n for n, p in model.named_parameters()}; pathlib.Path('names.json').write_text("
    "json.dumps([[names[p] for p in g['params']] for g in optimizer.param_groups]))"
)
"""What writes the file of names, where the optimizer is."""


@record
class Hints:
    """What is known besides the optimizer and the state.

    `ordered` is false where the keys are in no order that means anything, `names` are those of the parameters, group by
    group, `target` those of the model that the result is for, in its order. `equal` says whether tensors hold the same.
    """

    equal: Callable[[Sequence[TensorInfo]], bool]
    ordered: bool = True
    names: Sequence[Sequence[str]] | None = None
    target: Sequence[str] | None = None


def is_buffer_name(key: str) -> bool:
    """Say whether a key is one of a buffer that a module of torch has."""
    return key.rpartition(".")[2] in _BUFFERS


def parameter_shapes(header: Header, buffers: Container[str] = ()) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what may be parameters, in the order of the keys; of tied keys, the first one stands.

    `buffers` are keys that are known to be none.
    """
    infos = [(key, info) for key, info in header.entries.items() if isinstance(info, TensorInfo) and key not in buffers]
    return _shapes((key, info.type, info.is_parameter, info.identity) for key, info in infos)


def result_shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Return the same for the result of a plan, as who reads that will find it."""
    return _shapes((key, one.type, one.is_parameter, one.tie) for key, one in plan.outputs.items())


def _shapes(held: Iterable[tuple[str, TensorType | None, bool, object]]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    every = [*held]
    seen = set()
    told = any(is_parameter for _, _, is_parameter, _ in every)
    for key, kind, is_parameter, identity in every:
        if kind is None or not may_be_parameter(kind) or is_buffer_name(key):
            continue
        if (told and not is_parameter) or (identity is not None and identity in seen):
            continue
        seen.add(identity)
        found[key] = kind.shape
    return found


def reads_as(
    optimizer: Optimizer, shapes: Mapping[str, tuple[int, ...]], keys: Sequence[str], *, ordered: bool
) -> bool:
    """Say whether the keys of the members of an optimizer can be told from shapes alone, and are these."""
    found = by_keys(optimizer, shapes) if ordered else by_shape(optimizer, shapes)
    return isinstance(found, Aligned) and [found.keys[one.id] for one in optimizer.members] == [*keys]


def aligned(optimizer: Optimizer, plan: Plan, hints: Hints) -> Mapping[Id, str]:
    """Return the keys of the state that the members of an optimizer are, by their ids.

    Raises:
        CannotFollowError: SX341 where there are several ways, SX342 where there is none, SX347 for names that do not
            fit.
    """
    header = plan.header
    shapes = parameter_shapes(header, _buffers(plan, hints.target))
    if hints.names is not None:
        return _by_given(optimizer, shapes, hints.names)
    if optimizer.is_named:
        return _told(by_name(optimizer, _all_shapes(header)), shapes)
    if optimizer.note is not None:
        return _by_note(optimizer, optimizer.note, _all_shapes(header))
    return _told(by_keys(optimizer, shapes) if hints.ordered else by_shape(optimizer, shapes), shapes)


def _buffers(plan: Plan, target: Sequence[str] | None) -> frozenset[str]:
    """Return the keys of what only moved, and is no parameter where it is in the model that the result is for."""
    if target is None:
        return frozenset()
    names = frozenset(target)
    moved = [
        (key, output.origin.key) for key, output in plan.outputs.items() if output.origin and not output.origin.input
    ]
    return frozenset(before for _, before in moved) - {before for key, before in moved if key in names}


def _all_shapes(header: Header) -> dict[str, tuple[int, ...]]:
    return {key: info.type.shape for key, info in header.entries.items() if isinstance(info, TensorInfo)}


def _by_given(
    optimizer: Optimizer, shapes: Mapping[str, tuple[int, ...]], names: Sequence[Sequence[str]]
) -> Mapping[Id, str]:
    counts = [sum(one.group == number for one in optimizer.members) for number in range(optimizer.groups)]
    if [len(group) for group in names] != counts:
        given_for, there = json.dumps([len(group) for group in names]), json.dumps(counts)
        raise CannotFollowError(
            codes.PARAM_NAMES,
            f"names are given for {given_for} parameters by group, and it has {there}",
            help=(f"this line writes them where the optimizer is: {WRITES_NAMES}",),
        )
    found = by_name(_with_names(optimizer, names), shapes)
    if isinstance(found, Misfit):
        raise CannotFollowError(codes.PARAM_NAMES, f"the names given for its parameters do not fit: {found.why}")
    return _told(found, shapes)


def _by_note(optimizer: Optimizer, note: NamesNote, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[Id, str]:
    counts = [sum(one.group == number for one in optimizer.members) for number in range(optimizer.groups)]
    fits = [len(group) for group in note.names] == counts
    found = by_name(_with_names(optimizer, note.names), shapes) if fits else Misfit("there are more or fewer of them")
    if isinstance(found, Misfit):
        raise CannotFollowError(
            codes.OTHER_PARAMETERS,
            f"the names that statex noted for its parameters no longer fit: {found.why}",
            help=_HELP,
        )
    return _told(found, shapes)


def _with_names(optimizer: Optimizer, names: Sequence[Sequence[str]]) -> Optimizer:
    members = zip(optimizer.members, flat(names), strict=True)
    return replace(
        optimizer, members=tuple([KnownParameter(one.id, name, one.group, one.entry) for one, name in members])
    )


def _told(found: Alignment, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[Id, str]:
    if isinstance(found, Aligned):
        return found.keys
    if isinstance(found, Misfit):
        raise CannotFollowError(codes.OTHER_PARAMETERS, found.why)
    raise CannotFollowError(codes.AMBIGUOUS_PARAMETERS, _several(found, shapes), help=_HELP)


def _several(found: Ambiguous, shapes: Mapping[str, tuple[int, ...]]) -> str:
    if found.member is None or not found.keys:
        return "its parameters can be put in line with the keys in many ways"
    first = found.keys[0]
    of = f"its parameter {found.member.id}" + (f" of group {found.member.group}" if found.member.group else "")
    if len(found.keys) == 1:
        return f"{of} can only be `{first}`, and so can another one"
    either = f"{of} can be `{first}` or `{found.keys[1]}`"
    if found.member.shape is None:
        return f"{either}, and the optimizer keeps nothing of it whose shape would tell"
    return f"{either}, and the shape {list(shapes[first])} does not tell"


_HELP = (
    "give the names with --param-names names.json, which this line writes where the optimizer is: " + WRITES_NAMES,
)
