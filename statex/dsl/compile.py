"""From the parts of a program and headers to a plan."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from statex.diagnostics import diagnostic
from statex.diagnostics.codes import lints
from statex.diagnostics.codes import names as name_codes
from statex.diagnostics.suggest import join_words
from statex.dsl.check import Checked
from statex.dsl.compiler import Compiler
from statex.dsl.given import check_outside, check_with, define_outside
from statex.dsl.ledger import unread
from statex.dsl.metadata import follow
from statex.dsl.parts import Outside, Part, short_names
from statex.dsl.plan import Output, Plan
from statex.dsl.scope import Scope
from statex.dsl.state import Entry
from statex.dsl.statements import runner
from statex.dsl.written import is_plain
from statex.header import Header, OpaqueInfo
from statex.source import Source


def compile_plan(
    parts: Sequence[Part],
    checked: Checked,
    header: Header,
    *,
    inputs: Mapping[str, Sequence[Header]],
    target: Header | None,
    outside: Outside,
    load: Callable[[str, str], Source],
) -> Plan:
    """Run the parts of a program over headers, one after the other, and return the plan; no data is read.

    `checked` is what is known of the program without a checkpoint, `load` reads the rule file a path in a folder names.

    Raises:
        StatexError: all errors of the program on this checkpoint at once.
    """
    compiler = Compiler(header, inputs, target, load, runner, outside)
    with compiler.reporting():
        check_outside(checked, outside)
    scope = Scope(folder=next((part.folder for part in parts if part.shared), "."))
    with compiler.reporting():
        define_outside(scope, outside)
    scopes = [(part, scope if part.shared else Scope(folder=part.folder)) for part in parts]
    for part, own in scopes:
        with compiler.reporting():
            check_with(part)
        compiler.run_with(part.program.statements, own, outside.values_for(part.stem, part.given))
    _check_inputs(compiler)
    compiler.found.raise_errors()
    _lint_ties(compiler)
    plan = _plan(compiler, _parameters(scope, scopes))
    for name, keys in unread(plan).items():
        _lint_unread(compiler, name, keys)
    return replace(plan, warnings=compiler.found.warnings)


def _parameters(shared: Scope, scopes: Sequence[tuple[Part, Scope]]) -> dict[str, object]:
    """Return the values of the program's names; one that has another value in a later file is `file.name` there."""
    found: dict[str, object] = {**shared.names()}
    short = short_names(part.stem for part, _ in scopes)
    for part, scope in scopes:
        for name, value in scope.names().items() if not part.shared else ():
            other = name in found and found[name] != value
            found[f"{short.get(part.stem, part.stem)}.{name}" if other else name] = value
    return found


def _check_inputs(compiler: Compiler) -> None:
    for name in compiler.given_inputs:
        if name not in compiler.inputs:
            compiler.found.add(
                diagnostic(
                    name_codes.INPUT_NOT_DECLARED,
                    f"a checkpoint was given for `{name}`, and the program declares no such input",
                    help=f"input {name}",
                )
            )


def _plan(compiler: Compiler, parameters: Mapping[str, object]) -> Plan:
    entries = [(key, compiler.state.entries[key]) for key in compiler.state.in_order()]
    outputs = OrderedDict([(key, _output(entry)) for key, entry in entries])
    header = compiler.header
    born = [(key, entry.born) for key, entry in entries if entry.born is not None]
    metadata = None if header.metadata is None else follow(header.metadata, header.entries, born)
    return Plan(
        outputs=outputs,
        graph=compiler.graph,
        header=header,
        inputs={name: source.headers for name, source in compiler.inputs.items()},
        metadata=metadata,
        steps=tuple(compiler.steps),
        allowed=tuple(compiler.allowed),
        warnings=(),
        parameters=parameters,
    )


def _output(entry: Entry) -> Output:
    # By position, as there may be hundreds of thousands.
    return Output(
        entry.known.id if entry.origin is None and entry.known is not None else None,
        entry.type, entry.tie, entry.origin, entry.opaque, entry.is_parameter, entry.requires_grad, entry.step,
        entry.born, entry.attributes,
    )  # fmt: skip


def _lint_ties(compiler: Compiler) -> None:
    """Say where keys that shared a tensor in the input hold different ones in the result."""
    infos = [info for info in compiler.header.entries.values() if not isinstance(info, OpaqueInfo)]
    storages = [info.storage for info in infos if info.storage is not None]
    if len(set(storages)) == len(storages):
        return
    together: dict[object, list[str]] = {}
    for key, info in compiler.header.entries.items():
        if not isinstance(info, OpaqueInfo) and info.identity is not None:
            together.setdefault(info.identity, []).append(key)
    tied = {keys[0]: keys for keys in together.values() if len(keys) > 1}
    if not tied:
        return
    results: dict[object, dict[object, str]] = {}
    for key in compiler.state.in_order():
        entry = compiler.state.entries[key]
        results.setdefault(entry.roots, {}).setdefault(entry.tie, key)
    for keys in tied.values():
        info = compiler.header.entries[keys[0]]
        ties = results.get(("source", "", 0, getattr(info, "storage", None)), {})
        if len(ties) > 1:
            first, second, *_ = ties.values()
            step = max(compiler.state.entries[first].step, compiler.state.entries[second].step)
            compiler.found.add(
                diagnostic(
                    lints.TIE_ENDS,
                    f"{join_words([f'`{k}`' for k in keys], limit=3)} shared one tensor, and now "
                    f"`{first}` and `{second}` differ",
                    compiler.steps[step].span if step >= 0 else None,
                    help="change both in one statement, or drop one",
                )
            )


def _lint_unread(compiler: Compiler, name: str, keys: Sequence[str]) -> None:
    """Say which tensors of a further input no statement has read."""
    count = len(compiler.inputs[name].index)
    if keys:
        compiler.found.add(
            diagnostic(
                lints.INPUT_UNREAD,
                f"nothing reads {len(keys)} of the {count} tensors of `{name}`: "
                f"{join_words([f'`{k}`' for k in keys], limit=3)}",
                help=f"if this is meant: drop {_meant(name, keys, every=len(keys) == count)}",
            )
        )


def _meant(name: str, keys: Sequence[str], every: bool) -> str:
    """Return patterns over an input that match what is unread; all of them, where that is short."""
    patterns = list(dict.fromkeys(re.sub(r"(?<![^.])\d+(?![^.])", "*", key) for key in keys))
    if every or len(patterns) > _PATTERNS or not all(is_plain(one.replace("*", "_")) for one in patterns):
        patterns = ["**"]
    return ", ".join(f"{name}::{one}" for one in patterns)


_PATTERNS = 4
